"""The pairs of two evaluations: the same item, the same repeat, the same prompt, on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.vocabulary import FailureClass
from assay.gates._compare.policy import ComparePolicy
from assay.gates._compare.scales import Problem, Scale, resolve

_UNSCORED = frozenset({SampleState.MISSING, SampleState.JUDGE_FAILURE, SampleState.INFRA_FAILURE})
"""Not the model's fault: such a sample is missing, and not wrong."""


class Anomaly(NamedTuple):
    """Why the two sides cannot be compared."""

    failure_class: FailureClass
    text: str
    task: str = ""


class Pair(NamedTuple):
    """One sample on both sides, in goodness; None where a side has no score."""

    id: str
    baseline: float | None
    candidate: float | None


@dataclass(frozen=True)
class TaskPairs:
    """All pairs of a task, in the order of their ids, by column: there may be a million."""

    task: str
    scale: Scale
    ids: Sequence[str]
    baseline: Sequence[float | None]
    """Goodness of the baseline; None where it has no score."""
    candidate: Sequence[float | None]

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The same, row by row."""
        return tuple(map(Pair, self.ids, self.baseline, self.candidate))

    @cached_property
    def scored(self) -> tuple[tuple[float, float], ...]:
        """Goodness of the pairs that have both."""
        both = zip(self.baseline, self.candidate, strict=True)
        return tuple((b, c) for b, c in both if b is not None and c is not None)

    @cached_property
    def missing(self) -> tuple[int, int]:
        """Pairs that lack the baseline's score alone, and that lack the candidate's alone."""
        both = [(b is None, c is None) for b, c in zip(self.baseline, self.candidate, strict=True)]
        return both.count((True, False)), both.count((False, True))

    @cached_property
    def single(self) -> bool:
        """One right-or-wrong answer per item: the case of the exact and the score test."""
        one_each = len(set(self.ids)) == len(self.ids)
        return one_each and {g for pair in set(self.scored) for g in pair} <= {0.0, 1.0}


def pair_results(
    baseline: Results, candidate: Results, policy: ComparePolicy
) -> tuple[list[TaskPairs], list[Anomaly]]:
    """Pair two evaluations; whatever forbids it comes as anomalies."""
    sides = [_by_name(r) for r in (baseline, candidate)]
    found = [
        Anomaly(FailureClass.SAMPLE_ACCOUNTING_FAILED, f"the {name} reports a task twice")
        for name, results, side in (("baseline", baseline, sides[0]), ("candidate", candidate, sides[1]))
        if len(side) < len(results.tasks)
    ]
    if not sides[0] and not sides[1]:
        found.append(Anomaly(FailureClass.USER_CONFIG_ERROR, "there is nothing to compare"))
    only = sorted(set(sides[0]) ^ set(sides[1]))
    if only:
        text = f"the two sides have different tasks: {', '.join(only[:5])}"
        found.append(Anomaly(FailureClass.SAMPLE_ACCOUNTING_FAILED, text))
    paired = []
    for name in sorted(set(sides[0]) & set(sides[1])):
        task = _pair(name, sides[0][name], sides[1][name], policy)
        if isinstance(task, Anomaly):
            found.append(task._replace(task=name))
        else:
            paired.append(task)
    return paired, found


def _by_name(results: Results) -> Mapping[str, TaskResult]:
    return {t.task: t for t in results.tasks}


def _pair(name: str, before: TaskResult, after: TaskResult, policy: ComparePolicy) -> TaskPairs | Anomaly:
    keys = [_keys(t.samples) for t in (before, after)]
    wrong = _repeated(keys) or _other_metric(before, after)
    if wrong is not None:
        return wrong
    order, places = _matched(*keys)
    asked = _asked_otherwise(before.samples.prompt, after.samples.prompt, places)
    if asked:
        text = f"{asked} samples have another prompt or reference on the other side"
        return Anomaly(FailureClass.NOT_COMPARABLE, text)
    values = [s for task in (before, after) for s in task.samples.score if s is not None]
    scale = resolve(name, policy, (before, after), values)
    if isinstance(scale, Problem):
        return Anomaly(FailureClass.USER_CONFIG_ERROR, scale.text)
    if not all(scale.holds(v) for v in set(values)):
        outside = next(v for v in values if not scale.holds(v))
        text = f"score {outside:g} lies outside {scale.low:g}..{scale.high:g}"
        return Anomaly(FailureClass.USER_CONFIG_ERROR, text)
    columns = [
        _at(_goodness(t.samples, scale), side) for t, side in zip((before, after), places, strict=True)
    ]
    paired = TaskPairs(name, scale, [key[0] for key in order], *columns)
    if not paired.scored:
        return Anomaly(FailureClass.SAMPLE_ACCOUNTING_FAILED, "no sample has a score on both sides")
    return paired


Key = tuple[str, int]
Places = Sequence[int | None]


def _keys(samples: Samples) -> list[Key]:
    return list(zip(samples.id, samples.repeat, strict=True))


def _repeated(keys: Sequence[list[Key]]) -> Anomaly | None:
    for side, found in zip(("baseline", "candidate"), keys, strict=True):
        if not found:
            text = f"the {side} has no samples; `policy: point` compares bare scores"
            return Anomaly(FailureClass.SAMPLE_ACCOUNTING_FAILED, text)
        if len(set(found)) < len(found):
            return Anomaly(FailureClass.SAMPLE_ACCOUNTING_FAILED, f"the {side} has samples twice")
    return None


def _other_metric(before: TaskResult, after: TaskResult) -> Anomaly | None:
    if before.metric == after.metric:
        return None
    text = f"the metric is {before.metric!r} on one side and {after.metric!r} on the other"
    return Anomaly(FailureClass.NOT_COMPARABLE, text)


def _matched(ours: list[Key], theirs: list[Key]) -> tuple[list[Key], tuple[Places, Places]]:
    """All keys in order, and where each stands on either side; None = it is not there."""
    if ours == theirs:  # the same items in the same order: no need to look each of them up
        places = sorted(range(len(ours)), key=ours.__getitem__)
        return [ours[i] for i in places], (places, places)
    indexes = [{key: i for i, key in enumerate(side)} for side in (ours, theirs)]
    order = sorted({**indexes[0], **indexes[1]})
    found = [[index.get(key) for key in order] for index in indexes]
    return order, (found[0], found[1])


def _asked_otherwise(ours: Sequence[str], theirs: Sequence[str], places: tuple[Places, Places]) -> int:
    """Items that are on both sides and had another prompt or reference on the other."""
    if places[0] is places[1] and ours == theirs:
        return 0
    both = zip(*places, strict=True)
    return sum(i is not None and j is not None and ours[i] != theirs[j] for i, j in both)


def _at(column: Sequence[float | None], places: Places) -> list[float | None]:
    return [None if i is None else column[i] for i in places]


def _goodness(samples: Samples, scale: Scale) -> list[float | None]:
    """Goodness of each row; a model's own failure is wrong, any other way to end without a score is missing."""
    known: dict[float, float] = {}
    column: list[float | None] = []
    for score, state in zip(samples.score, samples.state, strict=True):
        if state in _UNSCORED:
            column.append(None)
        elif score is None:
            column.append(0.0 if state is SampleState.MODEL_FAILURE else None)
        else:
            if score not in known:
                known[score] = scale.goodness(score)
            column.append(known[score])
    return column
