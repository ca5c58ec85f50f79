"""The gates of tuning: a launch proves nothing by itself, and a recommendation must follow from the launches."""

from __future__ import annotations

import pytest

from assay.adapters.propose.race import Adapter, Options
from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.evidence import Evidence
from assay.core.load import (
    Arrivals,
    LevelResult,
    Load,
    LoadPoint,
    PointPlan,
    PointState,
    RequestError,
    ServiceLevel,
    Workload,
)
from assay.core.trials import TrialRow, Trials
from assay.core.tuning import LOAD, TRIALS, ReadingState, TuningPlan
from assay.core.tuning_record import Tuning, TuningRecord
from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates.tuning import RECORD, ReadingGate, TuningGate
from tuning_world import plan

LEVEL = ServiceLevel(metric="ttft", q=0.95, limit_ms=1000.0)
SPEEDS = {"c0": 100.0, "c1": 150.0, "c2": 90.0, "c3": 140.0}


def load(tps: float, **more: object) -> Load:
    """A load test of one point at four in flight; eight requests, none late."""
    values: dict[str, object] = {
        "plan": PointPlan(arrivals=Arrivals(concurrency=4), requests=8),
        "state": PointState.VALID,
        "stopped_by": "requests",
        "started": "2026-01-01T00:00:00+00:00",
        "wall_s": 1.0,
        "window_s": 1.0,
        "window": "steady",
        "sent": 8,
        "completed": 8,
        "failed": 0,
        "warmup": 4,
        "output_tps": tps,
        "levels": (LevelResult(level=LEVEL, verdict="undecided", late=0, n=8, needed=59),),
    }
    point = LoadPoint.model_validate({**values, **more})
    return Load(subject="x", client="test", workload=Workload(), points=(point,))


def judged(**more: object) -> Verdict:
    """The reading gate's verdict on one launch."""
    return ReadingGate(plan()).judge({LOAD: load(100.0, **more)})


def test_a_good_launch_is_inconclusive() -> None:
    """It serves, and that is no proof of anything."""
    verdict = judged()
    assert (verdict.status, verdict.outcome) == (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert verdict.failure_class is None
    assert verdict.extra["state"] == ReadingState.MEASURED


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"failed": 1, "completed": 7, "errors": {RequestError.RESET: 1}},
            "1 of 8 requests failed (1 reset)",
        ),
        ({"short_outputs": 1}, "cut short"),
        (
            {"levels": (LevelResult(level=LEVEL, verdict="missed", late=4, n=8, needed=59),)},
            "ttft p95 <= 1000 ms: 4 of 8 late",
        ),
        ({"state": PointState.FAILED, "reasons": ("no request came to a good end",)}, "no request"),
    ],
)
def test_what_makes_a_setting_infeasible(more: dict[str, object], told: str) -> None:
    """Any error, an answer cut short, or a missed service level: strict, and the reason is told."""
    verdict = judged(**more)
    assert (verdict.status, verdict.outcome) == (Status.FAIL, Outcome.INFEASIBLE)
    assert verdict.failure_class is FailureClass.POINT_INFEASIBLE
    assert told in verdict.detail


@pytest.mark.parametrize(
    "state", [PointState.CLIENT_LIMITED, PointState.CACHED, PointState.PARTIAL, PointState.SATURATED]
)
def test_a_launch_that_was_not_measured_rightly_says_nothing_about_the_setting(state: PointState) -> None:
    """A client that was too slow, or a warm cache: invalid, neither good nor bad."""
    verdict = judged(state=state, reasons=("why",))
    assert (verdict.status, verdict.outcome) == (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert verdict.extra["state"] == ReadingState.INVALID


def study(made: TuningPlan) -> tuple[list[TrialRow], Candidate]:
    """A whole study, driven by the proposer: every launch answers with its true speed and two percent of noise."""
    proposer = Adapter(Options(plan=made))
    decisions: list[Decision] = []
    rows: list[TrialRow] = []
    while True:
        candidate = proposer.propose(decisions)
        assert candidate is not None
        if candidate.intent["phase"] == "answer":
            return rows, candidate
        number = len(rows) + 1
        setting = str(candidate.intent["launch"]["cell"]).split()[1]
        found = load(SPEEDS[setting] * (1 + 0.02 * ((number * 7919) % 11 - 5) / 5))
        rows.append(
            TrialRow(
                trial=f"s-{number}",
                number=number,
                candidate=candidate,
                outcome=Outcome.INCONCLUSIVE,
                spent_s=float(number),
                digests={LOAD: found.content_digest},
                evidence={LOAD: found.to_json()},
            )
        )
        decisions.append(
            Decision(
                study="s-1",
                trial=f"s-{number}",
                candidate=candidate.name,
                candidate_key=candidate.key,
                outcome=Outcome.INCONCLUSIVE,
                sentence="",
                facts={"row": rows[-1].to_json(), "session": 0},
            )
        )


def evidence(rows: list[TrialRow], candidate: Candidate) -> dict[str, Evidence]:
    """What the gate of the recommendation reads."""
    record = TuningRecord.from_json(candidate.build.options["record"])
    trials = Trials(subject="study", candidate=candidate, rows=tuple(rows))
    return {TRIALS: trials, RECORD: Tuning(subject=candidate.name, record=record)}


def test_a_recommendation_that_follows_from_the_launches_passes() -> None:
    """The setting half again as fast, proven in fresh pairs, with the source's answer beside it."""
    made = plan()
    rows, candidate = study(made)
    verdict = TuningGate(made).judge(evidence(rows, candidate))
    assert verdict.status is Status.PASS, verdict.detail
    assert verdict.extra["answer"]["recommended"] == "m c1"
    assert verdict.extra["sequential_band"] == "m c1"
    record = TuningRecord.from_json(candidate.build.options["record"])
    assert record.recommendation.run_id == "s-1"
    assert record.recommendation.recommendation is not None
    assert record.recommendation.recommendation.gain_low is not None
    assert [c.kept for c in record.cells].count(True) == 1
    assert len(record.readings) == len(rows)
    assert TuningGate(made).judge(evidence(rows, candidate)) == verdict


def test_a_forged_recommendation_is_an_error() -> None:
    """A record that names another setting than the launches do is not judged, whatever it claims."""
    made = plan()
    rows, candidate = study(made)
    held = evidence(rows, candidate)
    told = held[RECORD]
    assert isinstance(told, Tuning)
    claim = told.record.recommendation
    assert claim.recommendation is not None
    forged = claim.model_copy(
        update={"recommendation": claim.recommendation.model_copy(update={"name": "m c3"})}
    )
    held[RECORD] = told.model_copy(
        update={"record": told.record.model_copy(update={"recommendation": forged})}
    )
    verdict = TuningGate(made).judge(held)
    assert (verdict.status, verdict.outcome) == (Status.ERROR, Outcome.ANOMALOUS)
    assert "m c3" in verdict.detail


def test_half_the_launches_do_not_prove_it() -> None:
    """Launches that are left out change the answer: the record no longer follows from them."""
    made = plan()
    rows, candidate = study(made)
    verdict = TuningGate(made).judge(evidence(rows[:5], candidate))
    assert verdict.status is not Status.PASS


def test_no_launch_at_all_never_passes() -> None:
    """Nothing was measured: nothing serves, as far as anybody knows."""
    made = plan()
    rows, candidate = study(made)
    assert TuningGate(made).judge(evidence([], candidate)).status is not Status.PASS
    assert rows
