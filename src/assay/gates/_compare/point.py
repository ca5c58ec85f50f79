"""The source's rule: the drop of each task, by its two numbers, against a threshold. Decimal at the boundary.

It has no error control: it is kept because people compare with it, and it is
shown beside the paired rule's verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from assay.core.results import Results, TaskResult
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import Direction, FailureClass, Outcome, Status
from assay.gates._compare.policy import ComparePolicy
from assay.gates._compare.scales import Problem, Scale, finite, resolve
from assay.gates._line import one_line, quoted

STATUS = {
    Outcome.ACCEPT: Status.PASS,
    Outcome.REGRESSION: Status.FAIL,
    Outcome.INCONCLUSIVE: Status.INCONCLUSIVE,
    Outcome.ANOMALOUS: Status.ERROR,
}


class _Anomaly(NamedTuple):
    failure_class: FailureClass
    text: str


class _Task(NamedTuple):
    """One task after the arithmetic."""

    drop: Decimal
    """In the score's own unit; positive = worse."""
    share: Decimal
    """Of the range, or of the baseline's score where the threshold is relative."""
    scale: Scale
    within: bool | None


def judge_point(baseline: Any, candidate: Any, policy: ComparePolicy) -> Verdict:
    """Judge two `{task: score}` values of any JSON shape."""
    for side, value in (("baseline", baseline), ("candidate", candidate)):
        if not isinstance(value, Mapping):
            return _cannot(f"the {side} is no object of scores", FailureClass.USER_CONFIG_ERROR)
    return _judge(baseline, candidate, policy, {})


def judge_point_results(baseline: Results, candidate: Results, policy: ComparePolicy) -> Verdict:
    """Judge the reported scores of two evaluations."""
    sides: dict[str, list[TaskResult]] = {}
    for task in (*baseline.tasks, *candidate.tasks):
        sides.setdefault(task.task, []).append(task)
    scores = [{t.task: t.score for t in r.tasks} for r in (baseline, candidate)]
    return _judge(scores[0], scores[1], policy, sides)


def _judge(
    baseline: Mapping[str, Any],
    candidate: Mapping[str, Any],
    policy: ComparePolicy,
    sides: Mapping[str, list[TaskResult]],
) -> Verdict:
    if not baseline and not candidate:
        return _cannot("there is nothing to compare", FailureClass.USER_CONFIG_ERROR)
    names = {one_line(k, 4000): k for k in (*baseline, *candidate)}
    if len(names) < len({*baseline, *candidate}):
        return _cannot("two task names cannot be told apart", FailureClass.USER_CONFIG_ERROR)
    only = [n for n, k in names.items() if (k in baseline) != (k in candidate)]
    per_task: dict[str, dict[str, Any]] = {}
    anomalies: list[tuple[str, _Anomaly]] = []
    regressed: list[tuple[str, _Task]] = []
    inferred: list[str] = []
    for name, key in sorted(names.items()):
        pair = baseline.get(key), candidate.get(key)
        judged = _task(name, pair, policy, sides.get(name, []))
        per_task[name] = _row(pair, judged)
        if name in only:
            continue
        if isinstance(judged, _Anomaly):
            anomalies.append((name, judged))
            continue
        if judged.scale.source == "inferred":
            inferred.append(name)
        strange = _strange(pair, judged, policy)
        if strange is not None:
            anomalies.append((name, strange))
        elif judged.within is False:
            regressed.append((name, judged))
    if only:
        shown = ", ".join(only[:5]) + (", ..." if len(only) > 5 else "")
        text = f"the two sides have different tasks: {shown}"
        anomalies.insert(0, ("", _Anomaly(FailureClass.SAMPLE_ACCOUNTING_FAILED, text)))
    return _verdict(policy, per_task, anomalies, regressed, inferred)


def _task(
    name: str, pair: tuple[Any, Any], policy: ComparePolicy, sides: list[TaskResult]
) -> _Task | _Anomaly:
    for side, value in zip(("baseline", "candidate"), pair, strict=True):
        if not finite(value):
            said = "missing" if value is None else f"{quoted(value)}, not a finite number"
            return _Anomaly(FailureClass.UNKNOWN, f"the {side}'s score is {said}")
    scale = resolve(name, policy, sides, [float(v) for v in pair])
    if isinstance(scale, Problem):
        return _Anomaly(FailureClass.USER_CONFIG_ERROR, scale.text)
    for side, value in zip(("baseline", "candidate"), pair, strict=True):
        if not scale.holds(value):
            text = f"the {side}'s score {value:g} lies outside {scale.low:g}..{scale.high:g}"
            return _Anomaly(FailureClass.UNKNOWN, text)
    before, after = (Decimal(repr(v)) for v in pair)
    drop = before - after if scale.direction is Direction.HIGHER else after - before
    whole = before if policy.relative else Decimal(repr(scale.high)) - Decimal(repr(scale.low))
    if whole <= 0:
        if drop:
            return _Anomaly(FailureClass.UNKNOWN, f"there is no share of a baseline score of {before}")
        whole = Decimal(1)
    share = drop / whole
    within = None if policy.threshold is None else share <= Decimal(repr(policy.threshold))
    return _Task(drop, share, scale, within)


def _strange(pair: tuple[Any, Any], task: _Task, policy: ComparePolicy) -> _Anomaly | None:
    scale = task.scale
    if scale.goodness(pair[0]) == scale.goodness(pair[1]) == 0.0:
        text = f"both sides score {pair[0]:g}, the worst there is: suspect the harness"
        return _Anomaly(FailureClass.UNKNOWN, text)
    limit = policy.implausible_gain_point
    width = Decimal(repr(scale.high)) - Decimal(repr(scale.low))
    if limit is not None and -task.drop / width > Decimal(repr(limit)):
        gain = float(-task.drop / width)
        text = f"it gains {gain:.1%} of its range, more than {limit:.0%}: suspect the baseline"
        return _Anomaly(FailureClass.UNKNOWN, text)
    return None


def _verdict(
    policy: ComparePolicy,
    per_task: Mapping[str, Mapping[str, Any]],
    anomalies: list[tuple[str, _Anomaly]],
    regressed: list[tuple[str, _Task]],
    inferred: list[str],
) -> Verdict:
    limit = policy.threshold
    reasons = [Reason(text=a.text, ok=False, where=name) for name, a in anomalies]
    reasons += [_worse(name, task, policy) for name, task in regressed]
    outcome, failure_class = _word(policy, anomalies, regressed)
    if outcome is Outcome.ACCEPT:
        tasks = "1 task is" if len(per_task) == 1 else f"{len(per_task)} tasks are"
        detail = f"{tasks} within the threshold of {limit:g}"
        reasons.append(Reason(text=f"no task drops by more than {limit:g}", ok=True, limit=limit))
    elif outcome is Outcome.INCONCLUSIVE:
        detail = "no threshold given: nothing is decided"
        reasons.append(Reason(text=detail, ok=False))
    else:
        first = reasons[0]
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        detail = f"{first.where}: {first.text}{more}" if first.where else f"{first.text}{more}"
    if inferred:
        text = (
            f"no scale was declared, 0..1 or 0..100 was inferred from the scores: {', '.join(inferred[:5])}"
        )
        reasons.append(Reason(text=text, ok=True))
    return Verdict(
        gate="compare",
        status=STATUS[outcome],
        failure_class=failure_class,
        outcome=outcome,
        detail=detail,
        reasons=tuple(reasons),
        extra={"policy": "point", "per_task": per_task, "inferred_scales": inferred},
    )


def _word(
    policy: ComparePolicy, anomalies: list[tuple[str, _Anomaly]], regressed: list[tuple[str, _Task]]
) -> tuple[Outcome, FailureClass | None]:
    if anomalies:
        return Outcome.ANOMALOUS, anomalies[0][1].failure_class
    if policy.threshold is None:
        return Outcome.INCONCLUSIVE, None
    return (Outcome.REGRESSION if regressed else Outcome.ACCEPT), None


def _worse(name: str, task: _Task, policy: ComparePolicy) -> Reason:
    of = "the baseline's score" if policy.relative else "the range"
    return Reason(
        text=f"drops by {float(task.share):.4g} of {of}; {policy.threshold:g} is allowed",
        ok=False,
        where=name,
        measured=float(task.share),
        limit=policy.threshold,
    )


def _row(pair: tuple[Any, Any], judged: _Task | _Anomaly) -> dict[str, Any]:
    row: dict[str, Any] = {"baseline": _plain(pair[0]), "candidate": _plain(pair[1])}
    if isinstance(judged, _Anomaly):
        empty = dict.fromkeys(("drop", "drop_fraction", "scale", "within_threshold"))
        return row | empty | {"problem": judged.text}
    return row | {
        "drop": float(judged.drop),
        "drop_fraction": float(judged.share),
        "scale": judged.scale.width,
        "within_threshold": judged.within,
    }


def _cannot(text: str, failure_class: FailureClass) -> Verdict:
    return Verdict(
        gate="compare",
        status=Status.ERROR,
        failure_class=failure_class,
        outcome=Outcome.ANOMALOUS,
        detail=text,
        reasons=(Reason(text=text, ok=False),),
        extra={"policy": "point", "per_task": {}, "inferred_scales": []},
    )


def _plain(value: Any) -> float | str | None:
    return value if value is None or (finite(value) and abs(value) < 2**53) else quoted(value)
