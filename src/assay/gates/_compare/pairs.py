"""The pairs of two evaluations: the same item, the same repeat, the same prompt, on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.vocabulary import FailureClass
from assay.gates._compare.policy import ComparePolicy
from assay.gates._compare.scales import Problem, Scale, resolve


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


class TaskPairs(NamedTuple):
    """All pairs of a task, in the order of their ids."""

    task: str
    scale: Scale
    pairs: tuple[Pair, ...]

    @property
    def scored(self) -> tuple[tuple[float, float], ...]:
        """Goodness of the pairs that have both."""
        return tuple(
            (p.baseline, p.candidate)
            for p in self.pairs
            if p.baseline is not None and p.candidate is not None
        )

    @property
    def missing(self) -> tuple[int, int]:
        """Pairs that lack the baseline's score alone, and that lack the candidate's alone."""
        return (
            sum(p.baseline is None and p.candidate is not None for p in self.pairs),
            sum(p.candidate is None and p.baseline is not None for p in self.pairs),
        )

    @property
    def single(self) -> bool:
        """One right-or-wrong answer per item: the case of the exact and the score test."""
        one_each = len({p.id for p in self.pairs}) == len(self.pairs)
        return one_each and all(g in (0.0, 1.0) for pair in self.scored for g in pair)


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
    wrong = _wrong(before, after)
    if wrong is not None:
        return wrong
    rows = [_rows(t.samples) for t in (before, after)]
    values = [r.score for side in rows for r in side.values() if r.score is not None]
    scale = resolve(name, policy, (before, after), values)
    if isinstance(scale, Problem):
        return Anomaly(FailureClass.USER_CONFIG_ERROR, scale.text)
    outside = [v for v in values if not scale.holds(v)]
    if outside:
        text = f"score {outside[0]:g} lies outside {scale.low:g}..{scale.high:g}"
        return Anomaly(FailureClass.USER_CONFIG_ERROR, text)
    keys = sorted({*rows[0], *rows[1]})
    goodness = [[_goodness(side.get(k), scale) for k in keys] for side in rows]
    pairs = tuple(Pair(k[0], b, c) for k, b, c in zip(keys, *goodness, strict=True))
    if not any(p.baseline is not None and p.candidate is not None for p in pairs):
        return Anomaly(FailureClass.SAMPLE_ACCOUNTING_FAILED, "no sample has a score on both sides")
    return TaskPairs(name, scale, pairs)


def _wrong(before: TaskResult, after: TaskResult) -> Anomaly | None:
    """What forbids to pair the rows of a task."""
    for side, task in (("baseline", before), ("candidate", after)):
        keys = list(zip(task.samples.id, task.samples.repeat, strict=True))
        if not keys:
            text = f"the {side} has no samples; `policy: point` compares bare scores"
            return Anomaly(FailureClass.SAMPLE_ACCOUNTING_FAILED, text)
        if len(set(keys)) < len(keys):
            return Anomaly(FailureClass.SAMPLE_ACCOUNTING_FAILED, f"the {side} has samples twice")
    if before.metric != after.metric:
        text = f"the metric is {before.metric!r} on one side and {after.metric!r} on the other"
        return Anomaly(FailureClass.NOT_COMPARABLE, text)
    rows = [_rows(t.samples) for t in (before, after)]
    asked = [k for k in rows[0] if k in rows[1] and rows[0][k].prompt != rows[1][k].prompt]
    if asked:
        text = f"{len(asked)} samples have another prompt or reference on the other side"
        return Anomaly(FailureClass.NOT_COMPARABLE, text)
    return None


class _Row(NamedTuple):
    prompt: str
    score: float | None
    state: SampleState


def _rows(samples: Samples) -> dict[tuple[str, int], _Row]:
    return {
        (id_, repeat): _Row(prompt, score, state)
        for id_, repeat, prompt, score, state in zip(
            samples.id, samples.repeat, samples.prompt, samples.score, samples.state, strict=True
        )
    }


def _goodness(row: _Row | None, scale: Scale) -> float | None:
    """Goodness of a row; a model's own failure is wrong, any other way to end without a score is missing."""
    if row is None or row.state in (
        SampleState.MISSING,
        SampleState.JUDGE_FAILURE,
        SampleState.INFRA_FAILURE,
    ):
        return None
    if row.score is None:
        return 0.0 if row.state is SampleState.MODEL_FAILURE else None
    return scale.goodness(row.score)
