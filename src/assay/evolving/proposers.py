"""Proposers: small changes of a text, made without a language model. Each one draws from the chance that it is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal, NamedTuple, Self, TypeAlias

from pydantic import Field, ValidationError, model_validator

from assay.core.base import Noun
from assay.evolving.archive import Entry
from assay.evolving.chance import Chance
from assay.evolving.learning import learned_patterns, token_changes
from assay.evolving.sections import By, Section, frozen, in_code, joined, sections

Kind: TypeAlias = Literal[
    "add-line",
    "delete-line",
    "replace-line",
    "move-line",
    "reorder",
    "number",
    "merge",
    "compress",
    "from-failure",
    "command",
]


class PoolLine(Noun):
    """A line, or a few lines, that may be put into the text."""

    text: str = Field(min_length=1)
    type: str = ""
    """A line replaces only lines of its own type; the pool's lines are how types are known."""
    under: str = ""
    """Only put into the section with this heading; empty = anywhere."""


class LineOptions(Noun):
    """Options of `add-line`, `delete-line`, `replace-line` and `move-line`."""

    only: str = ""
    """Regular expression of the lines that may be deleted, replaced or moved; empty = all that are not blank."""
    at: Literal["anywhere", "end"] = "anywhere"
    """Where `add-line` puts a line: `end` = behind the last line of its section."""


class ReorderOptions(Noun):
    """Options of `reorder`."""

    by: By = "lines"
    """What changes places with each other."""


class NumberOptions(Noun):
    """Options of `number`."""

    only: str = ""
    """Regular expression of the lines whose numbers may change; empty = all."""
    factors: tuple[float, ...] = (0.5, 0.8, 1.25, 2.0)
    """A number becomes itself times one of these; a whole number stays whole and changes by at least 1."""


class MergeOptions(Noun):
    """Options of `merge` and `compress`."""

    by: By | None = None
    """What a section is; null = the coarsest that gives at least two."""


class FailureOptions(Noun):
    """Options of `from-failure`: a rule is learned from what verifiers printed about train tasks.

    Either examples of what should match and what should not (`positive`, `negative`), which give the least general
    regular expression; or pairs of what there was and what there should be (`pair`), which give the tokens to change.
    """

    positive: str = ""
    """Regular expression over the feedback; its group `text` is an example that a rule should match. A group `label`
    divides the examples: only those of one label share a rule, which matches no example of another."""
    negative: str = ""
    """The same for what no rule may match."""
    pair: str = ""
    """Regular expression with groups `before` and `after`."""
    line: str = "{pattern}"
    """What is added to the text: `{pattern}`, `{label}`, `{before}` and `{after}` are put in."""
    under: str = ""
    """Heading of the section that it is added to; empty = the end of the text."""
    support: int = Field(default=2, ge=1)
    """Fewest examples behind a pattern: what a single one teaches is a copy of it."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.positive) == bool(self.pair):
            raise ValueError("needs either `positive` or `pair`")
        for name, groups in (("positive", {"text"}), ("negative", {"text"}), ("pair", {"before", "after"})):
            pattern = getattr(self, name)
            try:
                made = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name}: no regular expression: {error}") from error
            if pattern and not groups <= set(made.groupindex):
                raise ValueError(f"{name}: needs the groups {', '.join(sorted(groups))}")
        return self


class CommandOptions(Noun):
    """Options of `command`: a program, such as an agent or a script that asks a language model."""

    command: tuple[str, ...] = Field(min_length=1)
    """Without a shell; the request is its standard input. `{python}`, `{request}` and `{reply}` are put in."""
    output: Literal["json", "text"] = "json"
    """`json`: an object with `text` or `edits` (and `reason`, `cost`, `stop`) in `{reply}` or printed last; `text`: all
    that it prints is the candidate."""
    env: tuple[str, ...] = ()
    """Names of environment variables that it may see, beside the harmless ones. Values are never stored."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Then the whole process group is ended."""
    failures: int = Field(default=3, ge=1)
    """So many failures in a row are an error of the search."""
    price: float | None = Field(default=None, ge=0)
    """Assumed cost of a call that tells none. Unknown is not 0."""
    context: Mapping[str, Any] = Field(default_factory=dict)
    """Anything that it should know; stands in the request as it is."""


_OPTIONS: Mapping[str, type[Noun]] = {
    "add-line": LineOptions,
    "delete-line": LineOptions,
    "replace-line": LineOptions,
    "move-line": LineOptions,
    "reorder": ReorderOptions,
    "number": NumberOptions,
    "merge": MergeOptions,
    "compress": MergeOptions,
    "from-failure": FailureOptions,
    "command": CommandOptions,
}


class ProposerSpec(Noun):
    """One way to propose."""

    kind: Kind
    weight: float = Field(default=1.0, gt=0)
    """How often it is asked, against the others."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Of the kind."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        try:
            _OPTIONS[self.kind].model_validate(dict(self.options))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(p) for p in first["loc"])
            raise ValueError(f"options of {self.kind}: {where}: {first['msg']}") from error
        return self

    @property
    def typed(self) -> Noun:
        """The options as their own class."""
        return _OPTIONS[self.kind].model_validate(dict(self.options))


@dataclass(frozen=True)
class Scene:
    """What a proposer may know: nothing of the tasks that select or confirm."""

    parent: Entry
    mates: Sequence[Entry] = ()
    """Other texts that were kept."""
    pool: tuple[PoolLine, ...] = ()
    anchors: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """Of the parent."""
        return self.parent.text.split("\n")

    @property
    def feedback(self) -> dict[str, str]:
        """What verifiers printed about the parent's failed train tasks, in the order of the tasks."""
        last = self.parent.last
        return {t: last[t].feedback for t in sorted(last) if (last[t].score or 0.0) < 1 and last[t].feedback}


@dataclass(frozen=True)
class Proposal:
    """A text that may be worth a try."""

    text: str
    reason: str = ""
    parents: tuple[int, ...] = field(default=())
    """Beside the parent."""
    tasks: tuple[str, ...] = ()
    """Train tasks that it was made for."""


def propose(spec: ProposerSpec, scene: Scene, chance: Chance) -> Proposal | None:
    """One proposal; None where this kind has nothing for this text.

    Args:
        spec: any kind but `command`, which is asked outside.
        scene: what may be known.
        chance: what is drawn from.
    """
    return _MADE[spec.kind](scene, spec.typed, chance)


def _add(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    assert isinstance(options, LineOptions)
    lines = scene.lines
    free = [p for p in scene.pool if p.text not in scene.parent.text and _place(scene, p.under)]
    if not free:
        return None
    line = chance.pick(free)
    section = _place(scene, line.under)
    assert section is not None
    places = _gaps(scene, section)
    if not places:
        return None
    at = places[-1] if options.at == "end" else chance.pick(places)
    return Proposal(_inserted(lines, at, line.text), f"added {_short(line.text)}")


def _delete(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    places = _free(scene, options)
    if len(places) < 2:
        return None
    at = chance.pick(places)
    lines = scene.lines
    return Proposal("\n".join([*lines[:at], *lines[at + 1 :]]), f"deleted {_short(lines[at])}")


def _replace(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    types = {line: p.type for p in scene.pool for line in p.text.split("\n")}
    lines = scene.lines
    pairs = [
        (at, p)
        for at in _free(scene, options)
        for p in scene.pool
        if p.text not in scene.parent.text and (not p.type or types.get(lines[at]) == p.type)
    ]
    if not pairs:
        return None
    at, new = chance.pick(pairs)
    told = f"replaced {_short(lines[at])} by {_short(new.text)}"
    return Proposal("\n".join([*lines[:at], new.text, *lines[at + 1 :]]), told)


def _move(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    places = _free(scene, options)
    if len(places) < 2:
        return None
    at = chance.pick(places)
    lines = scene.lines
    line = lines.pop(at)
    held = frozen("\n".join(lines), scene.anchors)
    gaps = [g for g in range(len(lines) + 1) if g != at and not (g in held and g - 1 in held)]
    if not gaps:
        return None
    to = chance.pick(gaps)
    return Proposal("\n".join([*lines[:to], line, *lines[to:]]), f"moved {_short(line)}")


def _reorder(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    assert isinstance(options, ReorderOptions)
    parts = list(sections(scene.parent.text, options.by))
    held = frozen(scene.parent.text, scene.anchors)
    free = [i for i, p in enumerate(parts) if not p.blank and not _touches(p, held)]
    if len(free) < 2:
        return None
    one, other = sorted(chance.shuffled(free)[:2])
    told = f"{_short(parts[one].title)} and {_short(parts[other].title)} changed places"
    parts[one], parts[other] = parts[other], parts[one]
    return Proposal(joined(parts), told)


_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)")


def _number(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    assert isinstance(options, NumberOptions)
    lines, held = scene.lines, frozen(scene.parent.text, scene.anchors)
    wanted = re.compile(options.only)
    found = [
        (i, m)
        for i, line in enumerate(lines)
        if i not in held and wanted.search(line)
        for m in _NUMBER.finditer(line)
    ]
    if not found:
        return None
    at, match = chance.pick(found)
    new = _scaled(match[0], chance.pick(options.factors))
    line = lines[at]
    lines[at] = line[: match.start()] + new + line[match.end() :]
    return Proposal("\n".join(lines), f"{match[0]} became {new} in {_short(line)}")


def _scaled(number: str, factor: float) -> str:
    if "." in number:
        return f"{float(number) * factor:.6g}"
    value, made = int(number), round(int(number) * factor)
    if made == value:
        made = value + (1 if factor > 1 else -1)
    return str(max(0, made))


def _merge(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    """Sections of two parents: by heading where both have it, and what only the other one has at the end."""
    assert isinstance(options, MergeOptions)
    mates = [m for m in scene.mates if m.number != scene.parent.number]
    if not mates:
        return None
    mate = chance.pick(mates)
    own, other = (list(sections(t, options.by)) for t in (scene.parent.text, mate.text))
    held = frozen(scene.parent.text, scene.anchors)
    theirs = {s.title: s for s in other}
    taken = {s.title for s in own}
    made = [
        theirs[s.title] if s.title in theirs and not _touches(s, held) and chance.unit() < 0.5 else s
        for s in own
    ]
    mine = {s.text for s in made}
    made += [
        s
        for s in other
        if s.title not in taken and s.text not in mine and not s.blank and chance.unit() < 0.75
    ]
    text = joined(made)
    if text in {scene.parent.text, mate.text}:
        return None
    return Proposal(text, f"sections of {scene.parent.number} and {mate.number}", (mate.number,))


def _compress(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    """One section less, a line that stands there twice, or blank lines that say nothing."""
    assert isinstance(options, MergeOptions)
    text, held = scene.parent.text, frozen(scene.parent.text, scene.anchors)
    lines, code = scene.lines, in_code(scene.lines)
    ways: list[tuple[str, str]] = []
    again = [
        i
        for i, line in enumerate(lines)
        if line.strip() and line in lines[:i] and i not in held and not code[i]
    ]
    if again:
        at = chance.pick(again)
        ways.append(("\n".join([*lines[:at], *lines[at + 1 :]]), f"{_short(lines[at])} stood there twice"))
    blank = [
        i for i in range(1, len(lines)) if not lines[i].strip() and not lines[i - 1].strip() and not code[i]
    ]
    if blank := [i for i in blank if i not in held]:
        ways.append(("\n".join(x for i, x in enumerate(lines) if i not in blank), "fewer blank lines"))
    parts = sections(text, options.by)
    free = [i for i, p in enumerate(parts) if not p.blank and not _touches(p, held)]
    if len(free) > 1:
        at = chance.pick(free)
        ways.append((joined(p for i, p in enumerate(parts) if i != at), f"without {_short(parts[at].title)}"))
    return Proposal(*chance.pick(ways)) if ways else None


def _from_failure(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    assert isinstance(options, FailureOptions)
    rules = _patterns(scene, options) if options.positive else _changes(scene, options)
    new = [r for r in rules if r.line not in scene.parent.text]
    section = _place(scene, options.under)
    if not new or section is None:
        return None
    rule = chance.pick(new[:8])
    gaps = _gaps(scene, section)
    if not gaps:
        return None
    return Proposal(_inserted(scene.lines, gaps[-1], rule.line), rule.reason, tasks=rule.tasks)


class _Rule(NamedTuple):
    line: str
    reason: str
    tasks: tuple[str, ...]


def _inserted(lines: list[str], at: int, new: str) -> str:
    """The text with a line more; an empty text becomes that line."""
    return "\n".join([*lines[:at], new, *lines[at:]]) if any(lines) else new


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


def _free(scene: Scene, options: Noun) -> list[int]:
    """Lines that may be deleted, replaced or moved."""
    assert isinstance(options, LineOptions)
    wanted = re.compile(options.only)
    held = frozen(scene.parent.text, scene.anchors)
    return [i for i, x in enumerate(scene.lines) if x.strip() and i not in held and wanted.search(x)]


def _place(scene: Scene, under: str) -> Section | None:
    """The section of that heading; the whole text where none is named."""
    if not under:
        return Section(title="", first=0, lines=tuple(scene.lines))
    return next((s for s in sections(scene.parent.text, "headings") if s.title == under), None)


def _gaps(scene: Scene, section: Section) -> list[int]:
    """Places between lines of a section where a line may be put: not into code, nor into what must stay."""
    held, code = frozen(scene.parent.text, scene.anchors), in_code(scene.lines)
    first = section.first + (1 if section.title and section.lines[0].lstrip().startswith("#") else 0)
    last = section.first + len(section.lines)
    while last > first and not scene.lines[last - 1].strip():
        last -= 1
    shut = [i for i in range(len(scene.lines)) if i in held or code[i]]
    return [g for g in range(first, last + 1) if not (g in shut and g - 1 in shut)]


def _touches(section: Section, held: frozenset[int]) -> bool:
    return any(i in held for i in range(section.first, section.first + len(section.lines)))


def _short(text: str) -> str:
    one = " ".join(text.split())
    return repr(one if len(one) <= 60 else f"{one[:57]}...")


_MADE: Mapping[str, Callable[[Scene, Noun, Chance], Proposal | None]] = {
    "add-line": _add,
    "delete-line": _delete,
    "replace-line": _replace,
    "move-line": _move,
    "reorder": _reorder,
    "number": _number,
    "merge": _merge,
    "compress": _compress,
    "from-failure": _from_failure,
}
