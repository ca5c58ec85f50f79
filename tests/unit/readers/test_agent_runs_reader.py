"""Recorded runs of any harness as evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.agent import AgentOutcome
from assay.core.errors import UnreadableInput
from assay.core.suite import Fixture, Suite, Task, Verifier
from assay.core.vocabulary import Provenance
from assay.readers.agent_runs import read_agent_runs


def written(folder: Path, text: str | bytes, name: str = "runs.jsonl") -> Path:
    """A file with that content."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_rows_without_a_repeat_are_counted(tmp_path: Path) -> None:
    """The same task and arm again is the next repeat."""
    rows = [{"task": "a", "arm": arm, "passed": arm == "candidate"} for arm in ("baseline", "candidate")] * 2
    found = read_agent_runs(written(tmp_path, "\n".join(json.dumps(r) for r in rows)))
    assert [(r.arm, r.rep, r.passed) for r in found.runs] == [
        ("baseline", 1, False),
        ("candidate", 1, True),
        ("baseline", 2, False),
        ("candidate", 2, True),
    ]
    assert found.repeats == {"baseline": 2, "candidate": 2}
    assert found.provenance is Provenance.SELF_REPORTED


def test_csv(tmp_path: Path) -> None:
    """A table is read as lines are; an infra error has no score, and an empty cost is unknown, not 0."""
    text = "task,arm,rep,outcome,cost\na,baseline,1,pass,0.5\na,candidate,1,infra_error,\n"
    found = read_agent_runs(written(tmp_path, text, "runs.csv"))
    assert [(r.outcome, r.score, r.cost) for r in found.runs] == [
        (AgentOutcome.PASS, 1.0, 0.5),
        (AgentOutcome.INFRA_ERROR, None, None),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"task": "a", "arm": "baseline"}',
        '{"task": "a", "arm": "baseline", "passed": "perhaps"}',
        '{"task": "a", "arm": "baseline", "outcome": "great"}',
        '{"task": "a", "arm": "baseline", "score": 1.5}',
        '{"task": "a", "arm": "baseline", "score": NaN}',
        '{"task": "a", "arm": "baseline", "passed": true, "rep": 0}',
        '{"task": "a", "arm": "baseline", "passed": true, "rep": true}',
    ],
)
def test_a_line_that_is_no_run_is_named(tmp_path: Path, line: str) -> None:
    """The file and the line stand in the error; nothing is guessed."""
    good = '{"task": "a", "arm": "baseline", "passed": true}'
    with pytest.raises(UnreadableInput, match=r"runs\.jsonl:2"):
        read_agent_runs(written(tmp_path, f"{good}\n{line}\n"))


@given(data=st.binary(max_size=200))
def test_any_bytes(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever lies there is runs or a clear error."""
    folder = tmp_path_factory.mktemp("any")
    for name in ("runs.jsonl", "runs.csv"):
        try:
            assert read_agent_runs(written(folder, data, name)).runs
        except UnreadableInput:
            continue


def test_nothing_there(tmp_path: Path) -> None:
    """No file and an empty file are told."""
    with pytest.raises(UnreadableInput):
        read_agent_runs(tmp_path / "none.jsonl")
    with pytest.raises(UnreadableInput, match="no run"):
        read_agent_runs(written(tmp_path, ""))


def suite_with_a_canary() -> Suite:
    """Two tasks and a canary."""
    wanted = Verifier(equals=(Fixture(path="o", content="x"),))
    tasks = tuple(
        Task(task_id=t, prompt="do", verifier=wanted, canary=t == "canary") for t in ("a", "b", "canary")
    )
    return Suite(name="s", path="s", format="jsonl", source_digest="sha256:0", tasks=tasks)


def test_a_task_that_the_suite_has_not_is_named(tmp_path: Path) -> None:
    """Runs of another suite are no runs of this one; the line and the tasks that there are stand in the error."""
    path = written(tmp_path, "task,arm,rep,outcome\na,baseline,1,pass\nz,baseline,1,pass\n", "runs.csv")
    with pytest.raises(UnreadableInput, match="no task 'z'") as found:
        read_agent_runs(path, suite_with_a_canary())
    assert found.value.where == f"{path}:3"
    assert found.value.allowed == "a, b, canary"


def test_canaries_may_be_run_less_often(tmp_path: Path) -> None:
    """As our own journal has it: two runs of a canary beside three of each task."""
    rows = [f"{t},baseline,{n},pass" for t in ("a", "b") for n in (1, 2, 3)]
    rows += ["canary,baseline,1,pass", "canary,baseline,2,pass", "canary,empty,1,task_fail"]
    found = read_agent_runs(
        written(tmp_path, "\n".join(["task,arm,rep,outcome", *rows]), "runs.csv"), suite_with_a_canary()
    )
    assert found.repeats == {"baseline": 3, "empty": 0}
    assert found.planned("baseline", "canary") == 2
    assert found.planned("empty", "canary") == 1
