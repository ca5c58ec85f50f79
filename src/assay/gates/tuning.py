"""Gates of tuning: is a launch a valid reading of a setting that serves, and is the recommendation what was proven?

A launch by itself proves nothing, so its verdict is INCONCLUSIVE at best. The recommendation is derived again from
all launches; it passes when it is settled: the default stays unless a challenger beat it in fresh mirrored pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from assay.core.evidence import Evidence
from assay.core.load import Load
from assay.core.trials import Trials
from assay.core.tuning import LOAD, TRIALS, ReadingState, Standing, TuningPlan
from assay.core.tuning_record import Tuning
from assay.core.verdict import Estimate, Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.tuning.answer import Answer, answer
from assay.tuning.readings import UNITS, judged, point_reading, readings
from assay.tuning.search import Search

RECORD = "candidate.tuning"
"""Role of the record that is judged."""
TuningPolicy = TuningPlan
"""The policy of both gates is the whole plan: what was asked, and by which rule it is decided."""


class ReadingGate:
    """Judges one launch: errors, service levels, a client that was too slow.

    Args:
        policy: what is asked of a setting.
    """

    name = "reading"
    reads: tuple[str, ...] = (LOAD,)

    def __init__(self, policy: TuningPlan) -> None:
        self.policy = policy

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """FAIL with INFEASIBLE, or INCONCLUSIVE: measured, or not validly; ERROR without a readable load test."""
        load = evidence.get(LOAD)
        if not isinstance(load, Load):
            return _broken(self.name, "there is no load test", {})
        points = [point_reading(p, self.policy) for p in load.points]
        state, detail = judged(points, self.policy)
        bad = state is ReadingState.INFEASIBLE
        return Verdict(
            gate=self.name,
            status=Status.FAIL if bad else Status.INCONCLUSIVE,
            failure_class=FailureClass.POINT_INFEASIBLE if bad else None,
            outcome=Outcome.INFEASIBLE if bad else Outcome.INCONCLUSIVE,
            detail=detail,
            reasons=tuple(
                Reason(
                    text=f"{p.name}: {'; '.join(p.reasons) or 'serves'}",
                    ok=not p.reasons,
                    where=p.name,
                    measured=p.value,
                    unit=UNITS[self.policy.metric],
                    evidence=load.content_digest,
                )
                for p in points
            ),
            reads={LOAD: load.content_digest},
            extra={"state": state.value},
        )


class TuningGate:
    """Judges the recommendation, derived again from every launch.

    Args:
        policy: the plan of the search.
    """

    name = "tuning"
    reads: tuple[str, ...] = (TRIALS, RECORD)

    def __init__(self, policy: TuningPlan) -> None:
        self.policy = policy

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """PASS where it is settled, INCONCLUSIVE where it is not, FAIL where nothing serves, ERROR if it is another."""
        trials, told = evidence.get(TRIALS), evidence.get(RECORD)
        reads = {role: found.content_digest for role, found in evidence.items()}
        if not isinstance(trials, Trials) or not isinstance(told, Tuning):
            return _broken(self.name, "the launches or the record are missing", reads)
        try:
            found = derived(trials, self.policy)
        except (ValidationError, ValueError, ArithmeticError) as error:
            return _broken(self.name, f"the launches cannot be read: {error}"[:300], reads)
        claimed = told.record.recommendation
        chosen = claimed.recommendation.name if claimed.recommendation else None
        if (chosen, claimed.standing) != (found.recommended, found.standing):
            text = (
                f"the record recommends {chosen} ({claimed.standing}), "
                f"the launches {found.recommended} ({found.standing})"
            )
            return _broken(self.name, text, reads)
        return _verdict(self.name, found, reads)


def derived(trials: Trials, plan: TuningPlan) -> Answer:
    """The answer that follows from the launches of a study."""
    launches = readings(trials.rows, plan)
    session = max((row.session for row in trials.rows), default=0)
    spent = max((row.spent_s for row in trials.rows), default=0.0)
    return answer(Search(plan, launches, session, spent))


def _verdict(gate: str, found: Answer, reads: Mapping[str, str]) -> Verdict:
    status, outcome, failure = Status.PASS, Outcome.ACCEPT, None
    if found.recommended is None and not found.partial and not found.unmeasured:
        status, outcome, failure = Status.FAIL, Outcome.INFEASIBLE, FailureClass.POINT_INFEASIBLE
    elif not found.settled:
        status, outcome = Status.INCONCLUSIVE, Outcome.INCONCLUSIVE
        failure = FailureClass.BUDGET_EXHAUSTED if found.partial else None
    return Verdict(
        gate=gate,
        status=status,
        outcome=None if status is Status.PASS else outcome,
        failure_class=failure,
        detail=found.sentence,
        reasons=tuple(_reasons(found)),
        estimates=tuple(_estimates(found)),
        reads=reads,
        extra=_extra(found),
    )


def _reasons(found: Answer) -> list[Reason]:
    told = [
        Reason(
            text=f"{p.cell}: {p.gain:+.1%} over the default in {p.pairs} fresh pairs, at least {p.low:+.1%}",
            ok=p.proven,
            where=p.cell,
            measured=p.low,
            limit=0.0,
        )
        for p in found.proofs
    ]
    told += [Reason(text=f"may still be better: {cell}", ok=False, where=cell) for cell in found.open]
    told += [Reason(text=why, ok=False, where=cell) for cell, why in found.infeasible.items()]
    return told + [Reason(text=text, ok=True) for text in found.remarks]


def _estimates(found: Answer) -> list[Estimate]:
    """Each proof as the estimate of a drop: positive = slower than the default."""
    base = found.estimate(found.default)
    rows = []
    for p in found.proofs:
        mine = found.estimate(p.cell)
        if base and mine and base.value and mine.value:
            rows.append(
                Estimate(
                    task=p.cell,
                    baseline=base.value,
                    candidate=mine.value,
                    drop=-p.gain,
                    upper=-p.low,
                    n=p.pairs,
                    role="primary" if p.proven else "advisory",
                )
            )
    return rows


def _extra(found: Answer) -> dict[str, Any]:
    return {
        "answer": found.to_json(),
        "noise_frac": found.noise_frac,
        "sequential_band": found.sequential_band,
        "point_rule_agrees": found.sequential_band == found.recommended,
    }


def _broken(gate: str, text: str, reads: Mapping[str, str]) -> Verdict:
    return Verdict(
        gate=gate,
        status=Status.ERROR,
        failure_class=FailureClass.NOT_COMPARABLE if reads else FailureClass.UNKNOWN,
        outcome=Outcome.ANOMALOUS,
        detail=text,
        reasons=(Reason(text=text, ok=False),),
        reads=reads,
    )


__all__ = ["RECORD", "ReadingGate", "Standing", "TuningGate", "TuningPolicy", "derived"]
