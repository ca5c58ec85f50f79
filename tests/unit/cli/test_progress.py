"""What a run tells while it goes on, as plain lines and in its summary."""

from __future__ import annotations

from typing import Any

import pytest

from assay.cli.progress import PlainLines
from assay.cli.show import _echo_event
from assay.core.decision import Decision, GateLine
from assay.core.tuning import ReadingState
from assay.core.vocabulary import Outcome, Status
from assay.engine.observer import Progress
from assay.report.decision import print_summary
from assay.tuning.readings import judged
from tuning_world import plan, point


def launch(value: float | None) -> Decision:
    """The Decision on a launch, in the words of the gate that took its reading."""
    state, detail = judged([point(value)], plan())
    assert state is (ReadingState.INVALID if value is None else ReadingState.MEASURED)
    line = GateLine(
        gate="reading-512", status=Status.INCONCLUSIVE, outcome=Outcome.INCONCLUSIVE, detail=detail
    )
    return decision(line)


def decision(line: GateLine, **more: Any) -> Decision:
    """The Decision that one gate leads to."""
    return Decision.model_validate(
        {
            "study": "tuned-1",
            "trial": "tuned-1-1",
            "candidate": "big slots=2 fit",
            "candidate_key": "sha256:" + "0" * 64,
            "outcome": line.outcome or Outcome.ACCEPT,
            "gates": (line,),
            "sentence": f"{line.gate}: {line.detail}",
            **more,
        }
    )


def told(found: Decision, capsys: pytest.CaptureFixture[str]) -> str:
    """What plain lines say of a trial's gates and Decision."""
    lines = PlainLines()
    for line in found.gates:
        lines.tell(Progress("gate", line=line))
    lines.tell(Progress("decision", decision=found))
    return capsys.readouterr().err


def summarized(found: Decision, capsys: pytest.CaptureFixture[str]) -> str:
    """What the summary of its study says of a trial."""
    trial = {
        "candidate": found.candidate,
        "outcome": found.outcome.value,
        "interrupted": found.interrupted,
        "sentence": found.sentence,
        "artifact": {"size_bytes": 473_600},
        "gates": [line.to_json() for line in found.gates],
    }
    print_summary(
        {"id": "tuned-1", "question": "?", "outcome": "ACCEPT", "why": None, "applied": {}, "trials": [trial]}
    )
    return capsys.readouterr().out


def test_a_launch_is_told_by_its_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, `measured` with the throughput: that it decides nothing by itself is no news."""
    found = launch(40.0)
    (line,) = told(found, capsys).splitlines()
    assert line.split()[:5] == ["measured", "big", "slots=2", "fit:", "40.0"]
    shown = summarized(found, capsys)
    assert "measured" in shown
    assert "INCONCLUSIVE" not in shown
    assert found.outcome is Outcome.INCONCLUSIVE


def test_a_launch_that_was_not_measured_rightly_is_not_called_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`invalid`, with the reason."""
    for said in (told(launch(None), capsys), summarized(launch(None), capsys)):
        assert "invalid" in said
        assert "not a valid measurement: 4 in flight" in said


@pytest.mark.parametrize("gate", ["compare", "reading-512"])
def test_other_decisions_keep_their_word(gate: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of another job INCONCLUSIVE is the answer, and a launch that cannot serve is INFEASIBLE."""
    other = Outcome.INCONCLUSIVE if gate == "compare" else Outcome.INFEASIBLE
    status = Status.INCONCLUSIVE if gate == "compare" else Status.FAIL
    line = GateLine(gate=gate, status=status, outcome=other, detail="why")
    for said in (told(decision(line), capsys), summarized(decision(line), capsys)):
        assert other.value in said
        assert f"{gate}: why" in said


def test_an_interrupted_launch_is_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    """It may have a reading, and is not over."""
    cut = launch(40.0).model_copy(update={"interrupted": True, "outcome": Outcome.ANOMALOUS})
    for said in (told(cut, capsys), summarized(cut, capsys)):
        assert "interrupted" in said
        assert "measured" not in said


def test_a_size_is_told_as_in_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    """The page of the study says `474 kB with all files` too."""
    assert "474 kB with all files" in summarized(launch(40.0), capsys)


def test_watch_tells_a_launch_by_its_figure_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Out of the ledger, where the word stays: the verdict and the Decision of a launch."""
    found = launch(40.0)
    for kind, data in (
        ("verdict.recorded", {"line": found.gates[0].to_json()}),
        ("decision.recorded", {"decision": found.to_json()}),
    ):
        _echo_event({"seq": 1, "at": "2026-01-01T00:00:00.000000Z", "type": kind, "data": data})
        said = capsys.readouterr().out
        assert "measured" in said
        assert "40.0" in said
        assert "INCONCLUSIVE" not in said
