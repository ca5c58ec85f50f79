"""The preflight gate by hand: bands, what makes runs unusable, what the suite differs by from itself."""

from __future__ import annotations

from typing import Any

import pytest
from agent_evidence import CANARY, passes, run, runs_of

from assay.core.agent import AGAIN, BASELINE, EMPTY, KNOWN_GOOD, AgentOutcome, AgentRuns
from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates.preflight import Band, PreflightGate, PreflightPolicy, saturation_row


def source(counts: list[int], repeats: int = 2, **arms: list[int]) -> AgentRuns:
    """Runs of the text as it stands, its canaries with and without it, and other arms."""
    found = runs_of({BASELINE: passes(counts, repeats), **{a: passes(c, repeats) for a, c in arms.items()}})
    if EMPTY in arms:
        return found
    without = run(CANARY, EMPTY, 1, AgentOutcome.TASK_FAIL)
    return found.model_copy(update={"repeats": {**found.repeats, EMPTY: 1}, "runs": (*found.runs, without)})


def preflight(runs: AgentRuns, **policy: Any) -> Verdict:
    """What the gate says."""
    return PreflightGate(PreflightPolicy(**policy)).judge({"source.runs": runs})


@pytest.mark.parametrize(
    ("runs", "band", "status", "outcome"),
    [
        (source([1, 0, 1, 2, 1]), Band.HEALTHY, Status.PASS, Outcome.ACCEPT),
        (source([2] * 20), Band.NO_HEADROOM, Status.FAIL, Outcome.INFEASIBLE),
        (source([2] * 5), Band.NOT_ENOUGH_DATA, Status.INCONCLUSIVE, Outcome.INCONCLUSIVE),
        (source([0] * 12), Band.UNIFORM_FAILURE, Status.INCONCLUSIVE, Outcome.INCONCLUSIVE),
        (source([0] * 3), Band.NOT_ENOUGH_DATA, Status.INCONCLUSIVE, Outcome.INCONCLUSIVE),
        (source([0] * 12, known_good=[2] * 12), Band.HEALTHY, Status.PASS, Outcome.ACCEPT),
        (source([2, 2, 2, 1, 2, 2]), Band.WEAK_SIGNAL, Status.INCONCLUSIVE, Outcome.INCONCLUSIVE),
        (source([1, 1]), Band.NOT_ENOUGH_DATA, Status.INCONCLUSIVE, Outcome.INCONCLUSIVE),
    ],
)
def test_bands(runs: AgentRuns, band: Band, status: Status, outcome: Outcome) -> None:
    """Each band has its word."""
    found = preflight(runs)
    assert found.extra["band"] == band.value
    assert (found.status, found.outcome) == (status, outcome)
    assert found.detail.startswith(f"{band.value}: ")


def test_not_enough_data_says_how_much_is() -> None:
    """Runs in all, were the rate as seen."""
    found = preflight(source([2] * 5))
    assert found.needed == 15
    assert preflight(source([3] * 5, 3)).extra["band"] == Band.NO_HEADROOM.value


def test_force_overrules_a_band_and_nothing_else() -> None:
    """A canary that passes without the text is no matter of opinion."""
    found = preflight(source([2] * 20), force=True)
    assert found.status is Status.PASS
    assert found.extra["forced"]
    assert found.extra["band"] == Band.NO_HEADROOM.value
    assert preflight(loud(), force=True).outcome is Outcome.ANOMALOUS


def loud() -> AgentRuns:
    """A canary that passes without the text."""
    runs = source([1, 0, 1, 2, 1])
    return runs.model_copy(update={"runs": (*runs.runs[:-1], run(CANARY, EMPTY, 1, AgentOutcome.PASS))})


def test_controls() -> None:
    """The text must reach the agent, and the canary must show it."""
    assert "pass without the text" in preflight(loud()).detail
    runs = source([1, 0, 1, 2, 1])
    deaf = tuple(
        r.model_copy(update={"outcome": AgentOutcome.TASK_FAIL, "score": 0.0}) if r.task == CANARY else r
        for r in runs.runs
    )
    found = preflight(runs.model_copy(update={"runs": deaf}))
    assert "does not reach the agent" in found.detail
    assert found.failure_class is FailureClass.SYSTEMIC
    without = runs_of({BASELINE: passes([1, 0, 1, 2, 1], 2)})
    assert "without the text" in preflight(without).detail
    assert preflight(without, require_empty=False).status is Status.PASS
    none = runs_of({BASELINE: passes([1, 0, 1, 2, 1], 2)}, canary=False)
    assert preflight(none).outcome is Outcome.ANOMALOUS
    assert preflight(none, require_canary=False).status is Status.PASS


def test_an_agent_that_breaks_down_is_told_first_and_how() -> None:
    """Its canaries fail too, which is no word about the text."""
    runs = source([1, 0, 1, 2, 1])
    broken = {"outcome": AgentOutcome.AGENT_ERROR, "score": 0.0, "reason": "boom: no config"}
    found = preflight(runs.model_copy(update={"runs": tuple(r.model_copy(update=broken) for r in runs.runs)}))
    assert found.outcome is Outcome.ANOMALOUS
    assert found.detail.startswith(
        "the agent breaks down or runs out of time in 10 of 10 runs: boom: no config"
    )
    assert any("does not reach the agent" in r.text and "boom" in r.text for r in found.reasons)


def test_a_text_that_earns_nothing_is_told() -> None:
    """Against no text at all."""
    found = preflight(source([1, 0, 1, 2, 1], empty=[1, 1, 1, 2, 2]))
    assert found.status is Status.PASS
    note = next(r for r in found.reasons if "over no text" in r.text)
    assert not note.ok
    good = preflight(source([4, 5, 4, 3, 4], 5, empty=[0, 1, 1, 0, 1]))
    assert next(r for r in good.reasons if "over no text" in r.text).ok
    assert good.extra["empty"]["text_earns"] == pytest.approx(0.68)


def test_a_text_that_differs_from_itself_is_no_baseline() -> None:
    """A/A beyond chance; within it, the noise is told."""
    bad = preflight(source([9, 9, 9, 2, 1], 9, again=[0, 0, 0, 2, 2]))
    assert "differs from itself" in bad.detail
    good = preflight(source([5, 4, 6, 2, 1], 9, again=[4, 5, 5, 3, 2]))
    assert good.status is Status.PASS
    assert good.extra["noise"]["source"] == "again"


def test_noise_is_what_repeats_differ_by() -> None:
    """Unbiased from two repeats: a task that passes once of twice flips always, as seen; none from one."""
    noise = preflight(source([1, 0, 1, 2, 1])).extra["noise"]
    assert noise["per_task_flip"] == {"t0": 1.0, "t1": 0.0, "t2": 1.0, "t3": 0.0, "t4": 1.0}
    assert noise["spurious_strict_win_rate"] == pytest.approx(0.34, abs=0.01)
    assert preflight(source([1, 0, 1, 1, 0], 1)).extra["noise"]["source"] == "none"


def test_broken_books_are_no_band() -> None:
    """Missing runs, too many infra errors, an agent that breaks down."""
    runs = source([1, 0, 1, 2, 1])
    assert preflight(runs.model_copy(update={"runs": runs.runs[1:]})).outcome is Outcome.ANOMALOUS
    for ended in (AgentOutcome.INFRA_ERROR, AgentOutcome.AGENT_TIMEOUT):
        cells: dict[str, Any] = {f"t{i}": [ended, ended] for i in range(3)} | {"t3": [1.0, 0.0]}
        found = runs_of({BASELINE: cells})
        assert preflight(found, require_empty=False).outcome is Outcome.ANOMALOUS
    assert PreflightGate().judge({}).outcome is Outcome.ANOMALOUS


def test_the_sources_band_stands_beside_and_decides_where_asked() -> None:
    """It needs a judge's scores, except for uniform failure."""
    runs = source([1, 0, 1, 2, 1])
    beside = preflight(runs).extra["seed"]
    assert beside["band"] is None
    assert beside["if_the_judge_were_saturated"] == Band.WEAK_SIGNAL.value
    assert preflight(runs, rules="seed").outcome is Outcome.ANOMALOUS
    judged = runs.model_copy(update={"facts": {"judge_scores": {"baseline": [0.96, 0.97]}}})
    found = preflight(judged, rules="seed")
    assert (found.extra["band"], found.status) == (Band.WEAK_SIGNAL.value, Status.INCONCLUSIVE)
    assert found.extra["sound_band"] == Band.HEALTHY.value
    low = preflight(source([0] * 5), rules="seed")
    assert low.extra["band"] == Band.UNIFORM_FAILURE.value


def test_the_source_counts_abstained_tasks_as_failures() -> None:
    """Its flaw, kept: a timeout lowers the mean that decides the band."""
    cells: dict[str, Any] = {**passes([1] * 6, 1), "t0": [AgentOutcome.AGENT_TIMEOUT]}
    found = preflight(runs_of({BASELINE: cells}), require_empty=False)
    assert found.extra["seed"]["closed_loop"] == pytest.approx(5 / 6)


def test_a_row_for_the_ledger() -> None:
    """Also of a preflight that ended the study."""
    row = saturation_row(preflight(source([2] * 20)), study="s")
    assert row["study"] == "s"
    assert (row["band"], row["status"], row["rate"], row["tasks"]) == ("no_headroom", "FAIL", 1.0, 20)
    assert saturation_row(PreflightGate().judge({}))["band"] is None


def test_known_good_must_pass_its_canaries() -> None:
    """The positive control controls the harness too."""
    runs = source([1, 0, 1, 2, 1], known_good=[2, 2, 2, 2, 2])
    assert KNOWN_GOOD in runs.repeats
    assert preflight(runs).extra["known_good"] == 1.0
    deaf = tuple(
        r.model_copy(update={"outcome": AgentOutcome.TASK_FAIL, "score": 0.0})
        if r.task == CANARY and r.arm == KNOWN_GOOD
        else r
        for r in runs.runs
    )
    assert preflight(runs.model_copy(update={"runs": deaf})).outcome is Outcome.ANOMALOUS
    assert AGAIN not in runs.repeats


def test_canaries_may_have_repeats_of_their_own() -> None:
    """An arm that was run for canaries only: no run without the text of what decides."""
    runs = source([1, 0, 1, 2, 1])
    own = runs.model_copy(update={"repeats": {BASELINE: 2}, "canary_repeats": {BASELINE: 2, EMPTY: 1}})
    assert preflight(own).status is Status.PASS
    short = own.model_copy(update={"canary_repeats": {BASELINE: 3, EMPTY: 1}})
    assert preflight(short).outcome is Outcome.ANOMALOUS
    unplanned = own.model_copy(update={"canary_repeats": {BASELINE: 2}})
    assert "nobody planned" in preflight(unplanned).detail
