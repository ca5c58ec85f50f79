"""Compare gate: is the candidate no worse than the baseline by the margin or more?

ACCEPT must reject "worse by the margin or more", REGRESSION must reject "not worse by the margin"; between
them lies INCONCLUSIVE, which says how many pairs settle it. Anomalies outrank every verdict. The point rule's
verdict stands beside ours in `extra["point"]`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from assay.core.evidence import Evidence
from assay.core.results import Results
from assay.core.verdict import Estimate, Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status
from assay.gates._compare.pairs import Anomaly, TaskPairs, pair_results
from assay.gates._compare.point import judge_point, judge_point_results
from assay.gates._compare.policy import ComparePolicy, LookPlan
from assay.gates._line import one_line

if TYPE_CHECKING:
    from assay.gates._compare.looks import Levels
    from assay.gates._compare.paired import Outcome as Tested
    from assay.gates._compare.paired import Sides

__all__ = ["CompareGate", "ComparePolicy", "LookPlan", "judge_scores", "look_plan"]

ROLES = ("baseline.results", "candidate.results")
_WORDS = {
    Status.PASS: Outcome.ACCEPT,
    Status.FAIL: Outcome.REGRESSION,
    Status.INCONCLUSIVE: Outcome.INCONCLUSIVE,
}


class CompareGate:
    """Judges the results of a candidate against those of its baseline.

    Args:
        policy: the contract of the comparison.
    """

    name = "compare"
    reads: tuple[str, ...] = ROLES

    def __init__(self, policy: ComparePolicy | None = None) -> None:
        self.policy = policy or ComparePolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """See `Gate.judge`."""
        sides = [evidence.get(role) for role in ROLES]
        baseline, candidate = sides
        if not isinstance(baseline, Results) or not isinstance(candidate, Results):
            lacking = ", ".join(r for r, s in zip(ROLES, sides, strict=True) if not isinstance(s, Results))
            wrong = [Anomaly(FailureClass.USER_CONFIG_ERROR, f"there is no evidence {lacking}")]
            return _anomalous(wrong)
        point = judge_point_results(baseline, candidate, self.policy)
        verdict = point if self.policy.policy == "point" else self._paired(baseline, candidate)
        told = Provenance.SELF_REPORTED
        return verdict.model_copy(
            update={
                "provenance": told
                if told in (baseline.provenance, candidate.provenance)
                else Provenance.MEASURED,
                "reads": {ROLES[0]: baseline.content_digest, ROLES[1]: candidate.content_digest},
                "extra": {**verdict.extra, "point": _beside(point)},
            }
        )

    def _paired(self, baseline: Results, candidate: Results) -> Verdict:
        # scipy takes half a second to import: only a study that compares pays for it
        from assay.gates._compare import looks, paired  # noqa: PLC0415

        tasks, found = pair_results(baseline, candidate, self.policy)
        if found:
            return _anomalous(found)
        sides = [paired.units(task, self.policy) for task in tasks]
        n = sum(side.worst.n for side in sides)
        levels = looks.at(self.policy, len(sides), n)
        if isinstance(levels, Anomaly):
            return _anomalous([levels])
        found = paired.anomalies(sides, self.policy)
        tested = paired.decide(sides, self.policy, levels)
        if found:
            return _anomalous(found, (tested.macro, *tested.tasks))
        chance = looks.resolution(self.policy, levels, n, paired.score(sides, self.policy))
        return _verdict(sides, tested, self.policy, chance)


def look_plan(
    policy: ComparePolicy,
    sizes: Mapping[str, int],
    *,
    rule: str = "auto",
    looks: int = 10,
    first: int = 200,
    n_max: int | None = None,
) -> LookPlan:
    """When to look at the pairs of tasks of these sizes.

    Args:
        policy: the contract: margin, error rates, planning flip rate.
        sizes: task → items.
        rule: `group`, `anytime`, or `auto`: `group` up to 2.5 times the pairs that one look would need.
        looks: looks up to `n_max`, at most.
        first: pairs before the first look; at least one of each task, whatever is said.
        n_max: pairs at most; None = all items.
    """
    from assay.stats import look_schedule, pairs_needed  # noqa: PLC0415 - scipy, only for a study that looks

    whole = sum(sizes.values())
    limit = min(whole, n_max or whole)
    ends = look_schedule(limit, looks, max(first, len(sizes)))
    if rule == "auto":
        alpha = policy.alpha_accept / policy.comparisons
        once = pairs_needed(policy.margin, policy.planning_flip_rate, alpha=alpha, power=policy.min_power)
        rule = "group" if limit <= 2.5 * once else "anytime"
    return LookPlan.model_validate({"rule": rule, "ends": ends, "sizes": dict(sizes)})


def judge_scores(baseline: Any, candidate: Any, policy: ComparePolicy | Mapping[str, Any]) -> Verdict:
    """Judge two `{task: score}` values of any JSON shape by the point rule. Never raises.

    Args:
        baseline: scores of the baseline.
        candidate: scores of the candidate.
        policy: the policy, or its fields as they were given; a bad field is a verdict and no exception.
    """
    if not isinstance(policy, ComparePolicy):
        try:
            policy = ComparePolicy.model_validate({**policy, "policy": "point"})
        except (ValidationError, TypeError) as error:
            return _anomalous([Anomaly(FailureClass.USER_CONFIG_ERROR, _first(error))])
    verdict = judge_point(baseline, candidate, policy)
    return verdict.model_copy(update={"provenance": Provenance.SELF_REPORTED})


def _first(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return f"the policy is no object: {one_line(error)}"
    first = error.errors(include_url=False)[0]
    place = ".".join(one_line(part) for part in first["loc"])
    return f"{place}: {one_line(first['msg'])}, not {one_line(repr(first['input']))}"


def _verdict(
    sides: Sequence[Sides], tested: Tested, policy: ComparePolicy, resolution: float | None
) -> Verdict:
    macro, tasks = tested.macro, tested.tasks
    status = _fold(macro, tasks)
    plan = policy.looks
    futile = plan is not None and resolution is not None and resolution < plan.futile_below
    open_ = status is Status.INCONCLUSIVE and resolution is not None and not futile
    return Verdict(
        gate="compare",
        status=status,
        outcome=_WORDS[status],
        detail=_sentence(status, tested, policy, resolution if futile else None),
        reasons=tuple(_reasons(sides, tested, policy)),
        estimates=(macro, *tasks),
        needed=tested.needed if status is Status.INCONCLUSIVE else None,
        open=open_,
        extra={**_extra(sides, tested, policy), **_look(tested.levels, policy, resolution, futile=futile)},
    )


def _look(levels: Levels, policy: ComparePolicy, resolution: float | None, *, futile: bool) -> dict[str, Any]:
    """Where in its plan a comparison stands; empty where it looks once."""
    if policy.looks is None:
        return {}
    return {
        "rule": policy.looks.rule,
        "look": levels.look,
        "looks": levels.looks,
        "n_max": levels.n_max,
        "resolution": resolution,
        "futile": futile,
    }


def _regress_rate(tested: Tested, policy: ComparePolicy) -> float:
    return policy.alpha_regress / (1 if len(tested.tasks) == 1 else 2)


def _fold(macro: Estimate, tasks: Sequence[Estimate]) -> Status:
    """REGRESSION of the mean or of a task wins; ACCEPT takes the mean and every guard."""
    every = [macro.status, *(t.status for t in tasks)]
    if Status.FAIL in every:
        return Status.FAIL
    return Status.PASS if all(s is Status.PASS for s in every) else Status.INCONCLUSIVE


def _sentence(status: Status, tested: Tested, policy: ComparePolicy, futile: float | None) -> str:
    macro, levels = tested.macro, tested.levels
    pairs = f"{macro.n:,} pairs"
    if levels.look and levels.n_max is not None:
        pairs = f"look {levels.look} of {levels.looks}, {macro.n:,} of {levels.n_max:,} pairs"
    margin = f"your margin is {_points(macro.margin or 0.0)}"
    if status is Status.PASS:
        sure = f"{_percent(1.0 - policy.alpha_accept / policy.comparisons)} sure"
        return f"{pairs}: {_at_most(macro.upper or 0.0)}, {sure}; {margin}"
    if status is Status.FAIL:
        bad = next(e for e in (macro, *tested.tasks) if e.status is Status.FAIL)
        where = "" if bad is macro else f" on {bad.task}"
        sure = f"{_percent(1.0 - _regress_rate(tested, policy))} sure"
        return (
            f"{pairs}: the candidate is worse{where} by more than the margin, {sure}: it drops by "
            f"{_points(bad.drop)} points; {margin}"
        )
    if macro.status is Status.PASS:
        held_up = next(t for t in tested.tasks if t.status is Status.INCONCLUSIVE)
        why = (
            f"the mean is within the margin, but {held_up.task} could be {_ceil(held_up.upper or 0.0)} "
            f"points worse and its guard is {_points(held_up.margin or 0.0)}"
        )
    else:
        leans = "ACCEPT" if tested.lean >= 0.5 else "REGRESSION"
        why = (
            f"the drop lies between {_floor(macro.lower or 0.0)} and {_ceil(macro.upper or 0.0)} points, "
            f"{margin}; it leans to {leans}"
        )
    more = f"; about {tested.needed:,} pairs in all settle it"
    if futile is not None:
        more = f"; the rest of the plan would settle it with a chance of {futile:.0%} only{more}"
    return f"{pairs}: {why}{more}"


def _reasons(sides: Sequence[Sides], tested: Tested, policy: ComparePolicy) -> list[Reason]:
    margin = tested.macro.margin or policy.margin
    reasons = [_reason(e, margin, is_macro=e is tested.macro) for e in (tested.macro, *tested.tasks)]
    for side in sides:
        lacking = len(side.pairs.pairs) - len(side.pairs.scored)
        if lacking:
            text = f"{lacking} pairs have no score on a side; each counts as lost for ACCEPT"
            reasons.append(Reason(text=text, ok=False, where=side.pairs.task, measured=lacking, limit=0))
    inferred = [s.pairs.task for s in sides if s.pairs.scale.source == "inferred"]
    if inferred:
        text = f"no scale is declared or known, it was inferred from the scores: {', '.join(inferred[:5])}"
        reasons.append(Reason(text=text, ok=True))
    flips = _flip_rate(sides)
    if flips is not None and flips > 3 * policy.planning_flip_rate and abs(tested.macro.drop) < policy.margin:
        text = (
            f"{flips:.0%} of the answers changed between right and wrong, and the mean did not: "
            "look for another template, tokenizer or stop string"
        )
        reasons.append(Reason(text=text, ok=True, measured=flips, limit=3 * policy.planning_flip_rate))
    return reasons


def _reason(estimate: Estimate, margin: float, *, is_macro: bool) -> Reason:
    limit = margin if estimate.status is Status.FAIL else estimate.margin
    kind = "margin" if is_macro or estimate.status is Status.FAIL else "guard"
    if estimate.status is Status.FAIL:
        text = f"worse by more than the margin: drops by {_points(estimate.drop)} points"
    elif estimate.role == "advisory":
        text = f"advisory, it has no guard: drops by {_points(estimate.drop)} points"
    elif estimate.status is Status.PASS:
        text = f"at most {_ceil(estimate.upper or 0.0)} points worse"
    else:
        text = f"could be {_ceil(estimate.upper or 0.0)} points worse"
    return Reason(
        text=text if limit is None else f"{text}; the {kind} is {_points(limit)}",
        ok=estimate.status is Status.PASS,
        where=estimate.task,
        measured=estimate.upper,
        limit=limit,
        unit="goodness",
    )


def _extra(sides: Sequence[Sides], tested: Tested, policy: ComparePolicy) -> dict[str, Any]:
    return {
        "policy": "paired",
        "smallest_certified_margin": max(0.0, tested.macro.upper or 0.0),
        "needed_without_drop": tested.needed_without_drop,
        "lean": tested.lean,
        "flip_rate": _flip_rate(sides),
        "alpha_accept": tested.levels.accept,
        "alpha_regress": tested.levels.regress,
        "inferred_scales": [s.pairs.task for s in sides if s.pairs.scale.source == "inferred"],
        "flips": {s.pairs.task: _flips(s.pairs) for s in sides},
        "margin": policy.margin,
    }


def _flips(task: TaskPairs) -> dict[str, int]:
    """How many items changed, whatever the kind of score."""
    return {
        "pairs": len(task.scored),
        "worse": sum(c < b for b, c in task.scored),
        "better": sum(c > b for b, c in task.scored),
    }


def _flip_rate(sides: Sequence[Sides]) -> float | None:
    if not all(s.pairs.single for s in sides):
        return None
    return sum(s.seen.lost + s.seen.won for s in sides) / sum(s.seen.n for s in sides)


def _anomalous(found: Sequence[Anomaly], estimates: tuple[Estimate, ...] = ()) -> Verdict:
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = f"{first.task}: " if first.task else ""
    return Verdict(
        gate="compare",
        status=Status.ERROR,
        failure_class=first.failure_class,
        outcome=Outcome.ANOMALOUS,
        detail=f"{where}{first.text}{more}",
        reasons=tuple(Reason(text=a.text, ok=False, where=a.task) for a in found),
        estimates=estimates,
    )


def _beside(point: Verdict) -> dict[str, Any]:
    """The point rule's verdict as the report shows it."""
    return {
        "decision": point.outcome.value if point.outcome else None,
        "detail": point.detail,
        "per_task": point.extra["per_task"],
    }


def _points(share: float) -> str:
    return f"{100.0 * share:.1f}"


def _floor(share: float) -> str:
    """Points, rounded down, for a lower bound."""
    return f"{math.floor(share * 10_000 + 1e-9) / 100:.2f}"


def _ceil(share: float) -> str:
    """Points, rounded up: a bound may not be told smaller than it is."""
    return f"{math.ceil(share * 10_000 - 1e-9) / 100:.2f}"


def _at_most(upper: float) -> str:
    if upper <= 0.0:
        return f"the candidate is at least {math.floor(-upper * 10_000) / 100:.2f} points better"
    return f"the candidate is at most {_ceil(upper)} points worse"


def _percent(share: float) -> str:
    return f"{100.0 * share:.4g} %"
