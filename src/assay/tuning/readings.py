"""From a decided trial to a reading: what one launch showed, and whether that is feasible."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from assay.core.load import LevelResult, Load, LoadPoint, Metric, PointState
from assay.core.triage import TRIAGE
from assay.core.trials import TrialRow
from assay.core.tuning import (
    ANSWER,
    LOAD,
    Cause,
    Launch,
    LevelCount,
    PointReading,
    Reading,
    ReadingState,
    TuningPlan,
)
from assay.core.vocabulary import Action, FailureClass, Outcome

LAUNCH = "launch"
"""Key of a candidate's intent under which its launch stands."""
PHASE = "phase"
LIMIT = "limit_s"
"""Key of a candidate's intent: seconds that its load test may take."""
UNITS: Mapping[str, str] = {"output_tps": "tok/s", "goodput_rps": "good requests/s"}
HANDLED = "were sent again on a new one"
"""End of a load point's remark on what the client mended: nothing that a reader of the answer must know."""
GIVEN_UP = "infeasible"
"""Why a load point stopped that was lost already."""


def readings(rows: Iterable[TrialRow], plan: TuningPlan) -> tuple[Reading, ...]:
    """The launches among the trials, in order."""
    found = (reading(row, plan) for row in rows)
    return tuple(r for r in found if r is not None)


def answered(rows: Iterable[TrialRow]) -> bool:
    """Whether the study has its answer."""
    return any(row.candidate.intent.get(PHASE) == ANSWER for row in rows)


def reading(row: TrialRow, plan: TuningPlan) -> Reading | None:
    """What a trial showed; None if it was no launch, or ended for the study's sake."""
    try:
        launch = Launch.from_json(row.candidate.intent.get(LAUNCH))
    except ValidationError:
        return None
    if plan.cell(launch.cell) is None or _void(row):
        return None
    load = _load(row.evidence.get(LOAD))
    points = tuple(point_reading(p, plan) for p in load.points) if load is not None else ()
    state, detail = judged(points, plan) if load is not None else _unmeasured(row)
    return Reading(
        trial=row.trial,
        number=row.number,
        launch=launch,
        session=row.session,
        state=state,
        points=points,
        failure_class=row.failure_class,
        cause=Cause(row.cause) if row.cause in set(Cause) else None,
        detail=detail,
        spent_s=row.spent_s,
        others_frac=_others(load),
        evidence=row.digests.get(LOAD, ""),
    )


def point_reading(point: LoadPoint, plan: TuningPlan) -> PointReading:
    """One load point, held against what the plan asks for."""
    ended = point.completed + point.failed
    value = getattr(point, plan.metric) if point.valid else None
    ttft, tpot = point.latency(Metric.TTFT), point.latency(Metric.TPOT)
    too_many = point.failed > plan.failed_frac * ended
    too_short = point.short_outputs > plan.short_frac * max(1, point.completed)
    given_up = point.stopped_by == GIVEN_UP and point.state is PointState.PARTIAL
    reasons = [] if given_up else list(point.reasons)
    if too_many:
        kinds = ", ".join(f"{n} {kind.value}" for kind, n in point.errors.items())
        reasons.append(f"{point.failed} of {ended} requests failed ({kinds})")
    if too_short:
        each = _each(point.prompt_tokens, point)
        held = f" beside prompts of {each:.0f} tokens" if each is not None else ""
        reasons.append(
            f"{point.short_outputs} answers were cut short: the context is too small for them{held}"
        )
    reasons += [
        f"{level.level.text}: {level.late} of {level.n} late"
        for level in point.levels
        if not _count(level).keeps
    ]
    reasons += point.reasons if given_up else ()
    return PointReading(
        name=point.plan.arrivals.text,
        state=point.state,
        value=value if value is not None and value > 0 and math.isfinite(value) else None,
        ttft_p95_ms=_p95(ttft),
        ttft_worst_ms=ttft.max_ms if ttft else None,
        tpot_p95_ms=_p95(tpot),
        levels=tuple(_count(level) for level in point.levels),
        completed=point.completed,
        failed=point.failed,
        prompt_tokens=_each(point.prompt_tokens, point),
        output_tokens=_each(point.output_tokens, point),
        reasons=tuple(reasons),
        remarks=tuple(text for text in point.remarks if not text.endswith(HANDLED)),
        strict=not (too_many or too_short or given_up) and point.state is not PointState.FAILED,
    )


def judged(points: Sequence[PointReading], plan: TuningPlan) -> tuple[ReadingState, str]:
    """What a launch that was measured is worth, and why in one sentence."""
    good = [p for p in points if p.value is not None and p.strict and all(c.keeps for c in p.levels)]
    if good:
        best = max(good, key=lambda p: p.value or 0.0)
        late = f", TTFT p95 {best.ttft_p95_ms:.0f} ms" if best.ttft_p95_ms is not None else ""
        return ReadingState.MEASURED, f"{best.value:,.1f} {UNITS[plan.metric]} at {best.name}{late}"
    invalid = [p for p in points if p.strict and p.value is None]
    told = [f"{p.name}: {p.reasons[0]}" for p in points if p.reasons]
    why = "; ".join(told[:2]) or "no load point was measured"
    if invalid and len(invalid) == len(points):
        return ReadingState.INVALID, f"not a valid measurement: {why}"
    return ReadingState.INFEASIBLE, why


def _unmeasured(row: TrialRow) -> tuple[ReadingState, str]:
    if row.outcome is Outcome.INFEASIBLE:
        return ReadingState.INFEASIBLE, row.sentence
    return ReadingState.FAILED, row.sentence


def _void(row: TrialRow) -> bool:
    """It ended because of the study's surroundings: nothing is known about its setting."""
    failure = row.failure_class
    aborts = failure is not None and TRIAGE[failure].action is Action.ABORT_STUDY
    return aborts or failure is FailureClass.SYSTEMIC


def _load(document: Mapping[str, Any] | None) -> Load | None:
    if document is None:
        return None
    try:
        return Load.from_json(document)
    except ValidationError:
        return None


def _count(level: LevelResult) -> LevelCount:
    return LevelCount(level=level.level, late=level.late, n=level.n)


def _each(tokens: int, point: LoadPoint) -> float | None:
    """Of one request that ended well."""
    return tokens / point.completed if tokens and point.completed else None


def _others(load: Load | None) -> float | None:
    """What the load test noted of other processes."""
    noted = load.facts.get("machine") if load is not None else None
    share = noted.get("others_frac") if isinstance(noted, Mapping) else None
    return float(share) if isinstance(share, float | int) and 0 <= share <= 1 else None


def _p95(latency: Any) -> float | None:
    claim = latency.percentile(0.95) if latency is not None else None
    return claim.value_ms if claim is not None else None
