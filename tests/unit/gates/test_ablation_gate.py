"""What a section of a text earns."""

from __future__ import annotations

from agent_evidence import passes, runs_of

from assay.core.agent import BASELINE, AgentOutcome
from assay.core.vocabulary import Outcome, Status
from assay.gates.ablation import AblationGate, AblationPolicy

SECTIONS = {"without-1": "Checks", "without-2": "Greeting"}


def gate() -> AblationGate:
    """The gate for two sections."""
    return AblationGate(AblationPolicy(sections=SECTIONS))


def test_a_section_that_carries_the_text_is_named() -> None:
    """Where its absence costs passes beyond doubt it earns, and where nothing changes nothing is shown."""
    whole, without = passes([9, 9, 8, 9, 9, 8], 10), passes([1, 2, 1, 0, 1, 2], 10)
    found = gate().judge(
        {"source.runs": runs_of({BASELINE: whole, "without-1": without, "without-2": whole})}
    )
    assert found.status is Status.PASS
    rows = {r["title"]: r for r in found.extra["sections"]}
    assert rows["Checks"]["word"] == "earns"
    assert rows["Checks"]["lower"] > 0.4
    assert rows["Greeting"]["word"] == "nothing shown"


def test_a_harmful_section_is_told() -> None:
    """A text that does better without a part of it is told so, and refused nothing."""
    whole, without = passes([1, 0, 1, 2, 1, 0], 10), passes([9, 9, 9, 9, 9, 9], 10)
    found = gate().judge(
        {"source.runs": runs_of({BASELINE: whole, "without-1": without, "without-2": whole})}
    )
    assert found.status is Status.PASS
    assert {r["title"]: r["word"] for r in found.extra["sections"]}["Checks"] == "harms"


def test_missing_runs_are_no_measurement() -> None:
    """An arm that was not run, or taught nothing, is an error and never a zero."""
    whole = passes([5, 5, 5], 10)
    found = gate().judge({"source.runs": runs_of({BASELINE: whole, "without-1": whole})})
    assert (found.status, found.outcome) == (Status.ERROR, Outcome.ANOMALOUS)
    lost = {t: [AgentOutcome.INFRA_ERROR] * 10 for t in whole}
    found = gate().judge({"source.runs": runs_of({BASELINE: whole, "without-1": lost, "without-2": whole})})
    assert found.status is Status.ERROR
    assert gate().judge({}).status is Status.ERROR
