"""From an idea to a candidate: the configuration of the best one so far, changed by a patch. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError

from assay.core.base import Noun
from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.evidence import Measurement
from assay.core.experiment import PrimaryMetric
from assay.core.study import AdapterRef
from assay.core.triage import TRIAGE
from assay.core.vocabulary import Action, Outcome

CONFIG = "config"
"""Option of a build kind that holds what a patch changes."""


class Idea(Noun):
    """A change to try, and why."""

    name: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")
    """What people call it; empty = it gets a number."""
    patch: Mapping[str, Any] = Field(default_factory=dict)
    """What of the configuration changes: keys (`a.b` leads into a mapping) and their new values; null removes one."""
    hypothesis: str = Field(min_length=1)
    """What should get better, by how much, and why. It stands before the first step."""
    rationale: str = ""
    """On which numbers of earlier experiments it rests."""


class Template(Noun):
    """What all candidates of a study have in common. The flow fills it in."""

    source: str
    """Digest of what the study pins: the first candidate is a change of that."""
    build: AdapterRef
    """How a candidate is made; its option `config` is the configuration that the study begins with."""
    baseline: Idea
    """The first candidate: the configuration as it stands."""
    metric: PrimaryMetric
    """What counts."""


@dataclass(frozen=True)
class Past:
    """A decided trial, as the engine tells proposers of it."""

    decision: Decision
    candidate: Candidate
    measured: Mapping[str, Measurement]
    made: tuple[Mapping[str, Any], ...]
    """What its build steps told, such as the experiment and its folder."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Its whole configuration."""
        found = self.candidate.build.options.get(CONFIG)
        return found if isinstance(found, Mapping) else {}

    @property
    def void(self) -> bool:
        """It ended for the study's sake: nothing is known about its candidate."""
        failure = self.decision.failure_class
        aborted = failure is not None and TRIAGE[failure].action is Action.ABORT_STUDY
        return bool(self.decision.facts.get("systemic")) or aborted

    @property
    def failed(self) -> bool:
        """It came to no result that can be compared."""
        return self.decision.outcome in {Outcome.INFEASIBLE, Outcome.ANOMALOUS}

    def value(self, metric: str) -> float | None:
        """Its value of a metric, the mean over its seeds."""
        found = self.measured.get(metric)
        return found.value if found is not None else None


def told(
    decision: Decision,
    candidate: Candidate,
    measured: Sequence[Measurement],
    made: Sequence[Mapping[str, Any]],
) -> Decision:
    """A Decision with what a proposer needs to know beside it. This copy is told, never recorded."""
    facts = {
        **decision.facts,
        "candidate": candidate.to_json(),
        "measured": [m.to_json() for m in measured],
        "made": [dict(m) for m in made],
    }
    return decision.model_copy(update={"facts": facts})


def pasts(history: Sequence[Decision]) -> list[Past]:
    """What is told of each decided trial, in order; a Decision without it is left out."""
    found = []
    for decision in history:
        try:
            candidate = Candidate.from_json(decision.facts["candidate"])
            measured = [Measurement.from_json(m) for m in decision.facts.get("measured", ())]
        except (KeyError, TypeError, ValidationError):
            continue
        made = tuple(m for m in decision.facts.get("made", ()) if isinstance(m, Mapping))
        found.append(Past(decision, candidate, {m.name: m for m in measured}, made))
    return found


def best(known: Sequence[Past]) -> Past | None:
    """The best so far: the last that was kept, as each kept one was better than the one before."""
    return next((p for p in reversed(known) if p.decision.keeps), None)


def baseline(template: Template, known: Sequence[Past]) -> Candidate | None:
    """The configuration as it stands, unless it was tried."""
    made = candidate(template, (), template.baseline)
    return None if any(p.candidate.key == made.key and not p.void for p in known) else made


def candidate(template: Template, known: Sequence[Past], idea: Idea) -> Candidate:
    """The candidate that an idea makes of the best one so far, or of the study's own configuration."""
    parent = best(known)
    before = template.build.options.get(CONFIG) or {} if parent is None else parent.config
    build = template.build.model_copy(
        update={"options": {**template.build.options, CONFIG: patched(before, idea.patch)}}
    )
    intent: dict[str, Any] = {
        "idea": idea.content_digest,
        "hypothesis": idea.hypothesis,
        "rationale": idea.rationale,
        "patch": dict(idea.patch),
    }
    if parent is not None:
        intent["parent_trial"] = parent.decision.trial
        intent["parent_experiments"] = {
            str(m["seed"]): m["experiment"] for m in parent.made if {"seed", "experiment"} <= set(m)
        }
    return Candidate(
        name=idea.name or f"try-{len(known) + 1}",
        parent=template.source if parent is None else parent.candidate.key,
        build=build,
        intent=intent,
    )


def patched(config: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with a patch: mappings are merged (RFC 7396), null removes, `a.b` leads into a mapping."""
    made: dict[str, Any] = {k: _plain(v) for k, v in config.items()}
    for written, value in patch.items():
        head, dot, rest = str(written).partition(".")
        leads = bool(dot) and str(written) not in made
        key, change = (head, {rest: value}) if leads else (str(written), value)
        if isinstance(change, Mapping):
            inside = made.get(key)
            made[key] = patched(inside if isinstance(inside, Mapping) else {}, change)
        elif change is None:
            made.pop(key, None)
        else:
            made[key] = _plain(change)
    return made


def leaves(config: Any, place: str = "") -> dict[str, Any]:
    """Every setting of a configuration by its path, such as `optimizer.lr`."""
    if not isinstance(config, Mapping):
        return {place: config}
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= leaves(value, f"{place}.{key}" if place else str(key))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
