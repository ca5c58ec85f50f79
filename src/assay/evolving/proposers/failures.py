"""The proposer that learns a rule from what verifiers printed about failed train tasks."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import NamedTuple

from assay.core.base import Noun
from assay.evolving.chance import Chance
from assay.evolving.learning import learned_patterns, token_changes
from assay.evolving.proposers.scene import Proposal, Scene, gaps_of, inserted, place
from assay.evolving.proposers.spec import FailureOptions


def from_failure(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    """A line with what failed train tasks have in common."""
    assert isinstance(options, FailureOptions)
    rules = _patterns(scene, options) if options.positive else _changes(scene, options)
    new = [r for r in rules if r.line not in scene.parent.text]
    section = place(scene, options.under)
    if not new or section is None:
        return None
    rule = chance.pick(new[:8])
    gaps = gaps_of(scene, section)
    if not gaps:
        return None
    return Proposal(inserted(scene.lines, gaps[-1], rule.line), rule.reason, tasks=rule.tasks)


class _Rule(NamedTuple):
    line: str
    reason: str
    tasks: tuple[str, ...]


def _patterns(scene: Scene, options: FailureOptions) -> list[_Rule]:
    """Patterns of each label in turn, so that no label hides another."""
    positive = re.compile(options.positive)
    against = (
        [m["text"] for f in scene.feedback.values() for m in re.finditer(options.negative, f)]
        if options.negative
        else []
    )
    examples: dict[str, dict[str, list[str]]] = {}
    for task, feedback in scene.feedback.items():
        for m in positive.finditer(feedback):
            examples.setdefault(m.groupdict().get("label") or "", {}).setdefault(m["text"], []).append(task)
    ladders: list[list[_Rule]] = []
    for label, texts in sorted(examples.items()):
        wrong = [*against, *(t for other, ts in examples.items() if other != label for t in ts)]
        found = []
        for pattern, count in learned_patterns(list(texts), wrong, options.support):
            line = _put(options.line, pattern=pattern, label=label)
            tasks = sorted({t for text, ts in texts.items() if re.fullmatch(pattern, text) for t in ts})
            found.append(_Rule(line, f"learned from {count} examples that failed", tuple(tasks)))
        ladders.append(found)
    return [r for turn in zip_longest(*ladders) for r in turn if r is not None]


def _changes(scene: Scene, options: FailureOptions) -> list[_Rule]:
    made: dict[str, list[str]] = {}
    for task, feedback in scene.feedback.items():
        for m in re.finditer(options.pair, feedback):
            for before, after in token_changes(m["before"], m["after"]):
                made.setdefault(_put(options.line, before=before, after=after), []).append(task)
    fit = [(line, tasks) for line, tasks in made.items() if len(tasks) >= options.support]
    return [
        _Rule(line, f"learned from {len(tasks)} differences", tuple(sorted(set(tasks))))
        for line, tasks in sorted(fit, key=lambda x: (-len(x[1]), x[0]))
    ]


def _put(template: str, **values: str) -> str:
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template
