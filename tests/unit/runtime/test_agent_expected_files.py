"""Expected files: read by both readers, judged without a process, known to the checks of a suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assay.core.artifact_text import Severity
from assay.core.errors import UnreadableInput
from assay.core.suite import Fixture, Suite, Task, Verifier, same_content
from assay.gates.suite import check_solutions, check_suite, copied_from_suite
from assay.readers.suites import read_suite
from assay.runtime import verifier as module
from assay.runtime.verifier import check_solution, run_verifier, try_solutions
from assay.runtime.workspace import workspace


def wanting(content: str = "right", path: str = "answer.txt", **more: object) -> Task:
    """A task that wants a file."""
    verifier = Verifier(equals=(Fixture(path=path, content=content),))
    return Task(**{"task_id": "t", "prompt": "p", "verifier": verifier, **more})


def judged(task: Task, left: dict[str, bytes]) -> module.Judged:
    """What the verifier says about files that an agent left."""
    with workspace(task) as space:
        for name, data in left.items():
            (space.work / name).write_bytes(data)
        return run_verifier(space)


@pytest.mark.parametrize(
    ("left", "passed"),
    [
        (b"right", True),
        (b"right  \r\n\n\n", True),
        (b" right", False),
        (b"Right", False),
        (b"right\nx", False),
        (b"right\xff", False),
        (b"", False),
    ],
)
def test_whitespace_at_ends_is_ignored(left: bytes, passed: bool) -> None:
    """Nothing else is."""
    found = judged(wanting(), {"answer.txt": left})
    assert found.passed == passed
    assert bool(found.log_tail) != passed


def test_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no command is named, comparing is all."""
    monkeypatch.setattr(module.process, "start", lambda *a: pytest.fail("a process was started"))
    assert judged(wanting(), {"answer.txt": b"right"}).passed
    assert judged(wanting(), {}).log_tail == "answer.txt: not there"


def test_files_and_command_must_both_hold() -> None:
    """The command is not even run where a file differs."""
    both = Verifier(equals=(Fixture(path="a", content="1"),), command=("sh", "-c", "echo ran; exit 3"))
    task = Task(task_id="t", prompt="p", verifier=both)
    assert judged(task, {"a": b"1"}).exit_code == 3
    assert "ran" not in judged(task, {"a": b"2"}).log_tail


def test_links_are_no_answer(tmp_path: Path) -> None:
    """An agent that links the file to somewhere has not made it."""
    (tmp_path / "x").write_text("right")
    with workspace(wanting()) as space:
        (space.work / "answer.txt").symlink_to(tmp_path / "x")
        assert not run_verifier(space).passed


@given(data=st.binary(max_size=40), ends=st.lists(st.sampled_from([b" ", b"\t", b"\r", b"\n"]), max_size=4))
def test_same_content(data: bytes, ends: list[bytes]) -> None:
    """Whitespace may follow a file, and nothing else may."""
    assert same_content(data, data + b"".join(ends))
    assert not same_content(data, data.rstrip() + b"\nx")


def test_both_readers(tmp_path: Path) -> None:
    """A folder `expected/`, a field `expected_files`: the same verifier."""
    folder = tmp_path / "suite"
    (folder / "tasks" / "t" / "expected" / "out").mkdir(parents=True)
    (folder / "suite.yaml").write_text("schema: assay.suite/1\n")
    (folder / "tasks" / "t" / "task.yaml").write_text("prompt: p\n")
    (folder / "tasks" / "t" / "expected" / "out" / "a.bin").write_bytes(b"\xff\x00")
    (folder / "tasks" / "t" / "expected" / "b.txt").write_text("b")
    found = read_suite(folder).tasks[0].verifier
    assert {f.path: f.data for f in found.equals} == {"out/a.bin": b"\xff\x00", "b.txt": b"b"}
    assert found.decides
    lines = tmp_path / "suite.jsonl"
    lines.write_text(json.dumps({"task_id": "t", "user_message": "p", "expected_files": {"b.txt": "b"}}))
    assert read_suite(lines).tasks[0].verifier.equals == (Fixture(path="b.txt", content="b"),)
    lines.write_text(json.dumps({"task_id": "t", "user_message": "p", "expected_files": {"../b": "b"}}))
    with pytest.raises(UnreadableInput, match="not allowed"):
        read_suite(lines)


def test_clashing_paths_are_refused() -> None:
    """Two files that some systems cannot hold beside each other."""
    files = (Fixture(path="A.txt", content=""), Fixture(path="a.txt", content=""))
    with pytest.raises(ValidationError, match="one file"):
        Task(task_id="t", prompt="p", verifier=Verifier(equals=files))


def rules_of(task: Task) -> dict[str, Severity]:
    """Findings of a suite of that task, without those of its size."""
    suite = Suite(name="s", path="s", format="jsonl", source_digest="sha256:0", tasks=(task,))
    return {f.rule: f.severity for f in check_suite(suite) if f.where == "t"}


@pytest.mark.parametrize(
    ("task", "rule"),
    [
        (wanting(fixtures=(Fixture(path="answer.txt", content="right \n"),)), "already-solved"),
        (wanting(fixtures=(Fixture(path="key.txt", content="right\n"),)), "leak-reference"),
        (wanting("long enough", prompt="write: long enough"), "leak-prompt"),
        (wanting(fixtures=(Fixture(path="answer.txt", content="x"),), protected=("*.txt",)), "unfillable"),
        (wanting(reference=(Fixture(path="answer.txt", content="left"),)), "unfillable"),
        (
            wanting().model_copy(
                update={"verifier": Verifier(equals=(Fixture(path="a", content="b"),), collect=("src/*",))}
            ),
            "unfillable",
        ),
    ],
)
def test_lint_knows_them(task: Task, rule: str) -> None:
    """What cannot be failed, cannot be passed or is given away is found."""
    assert rule in rules_of(task)


def test_lint_is_content_with_a_good_task() -> None:
    """Nothing to say about a task with an expected file alone."""
    assert rules_of(wanting()) == {}


def test_expected_files_are_their_own_reference(tmp_path: Path) -> None:
    """Without a reference they are laid to prove that the task can be done."""
    runs = try_solutions(wanting(), runs=2, base=tmp_path)
    assert [(r.solution, r.passed) for r in runs] == [("empty", (False, False)), ("reference", (True, True))]
    assert check_solutions(runs) == ()
    assert check_solution(
        wanting(reference=(Fixture(path="answer.txt", content="right"),)), reference=True
    ).passed


def test_copied_answers_are_found() -> None:
    """An expected content of one task in a candidate is an answer; a label that several expect is a word."""
    tasks = (
        wanting("2024-05-17T09:12", task_id="a"),
        wanting("database", task_id="b"),
        wanting("database", task_id="c"),
    )
    suite = Suite(name="s", path="s", format="jsonl", source_digest="sha256:0", tasks=tasks)
    found = copied_from_suite("", "write database or 2024-05-17T09:12", suite)
    assert [(f.rule, f.where) for f in found] == [("copied-value", "a")]
