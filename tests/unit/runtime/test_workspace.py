"""Workspaces and verifiers: fresh, closed, put back, cleaned up, and judged without secrets."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from assay.core.errors import ComponentFailed, UsageError
from assay.core.suite import Fixture, Task, Verifier
from assay.runtime import workspace as module
from assay.runtime.verifier import check_solution, run_verifier, try_solutions, without_secrets
from assay.runtime.workspace import workspace, write_fixtures

TEST = Fixture(path="tests/check.sh", content="grep -q right answer.txt\n")
TASK = Task(
    task_id="t",
    prompt="p",
    fixtures=(
        Fixture(path="answer.txt", content="wrong\n"),
        Fixture(path="lib/keep.txt", content="keep\n"),
        Fixture(path="run.sh", content="#!/bin/sh\n", executable=True),
    ),
    verifier=Verifier(command=("sh", "tests/check.sh"), files=(TEST,), timeout_s=5),
    reference=(Fixture(path="answer.txt", content="right\n"),),
    protected=("lib/*",),
)


def with_command(*command: str, timeout_s: float = 5) -> Task:
    """The task with another verifier."""
    return TASK.model_copy(update={"verifier": Verifier(command=command, timeout_s=timeout_s)})


def names(folder: Path) -> set[str]:
    """Files below a folder."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_each_workspace_is_fresh_and_gone_afterwards(tmp_path: Path) -> None:
    """Fixtures lie there with their rights, the deciding test does not; nothing is left, even after an error."""
    with workspace(TASK, tmp_path) as first:
        assert names(first.work) == {"answer.txt", "lib/keep.txt", "run.sh"}
        assert os.access(first.work / "run.sh", os.X_OK)
        assert not os.access(first.work / "answer.txt", os.X_OK)
        assert list(first.home.iterdir()) == []
        (first.work / "answer.txt").write_text("mine")
        with workspace(TASK, tmp_path) as second:
            assert (second.work / "answer.txt").read_text() == "wrong\n"
            assert second.root != first.root
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError), workspace(TASK, tmp_path):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_folders_that_the_agent_locked_are_removed(tmp_path: Path) -> None:
    """Rights that the agent took away keep neither judging nor cleaning up."""
    with workspace(TASK, tmp_path) as space:
        (space.work / "lib" / "keep.txt").chmod(0)
        (space.work / "lib").chmod(0)
        with space.judging() as folder:
            assert (folder / "lib" / "keep.txt").read_text() == "keep\n"
        (space.work / "lib").chmod(0)
    assert list(tmp_path.iterdir()) == []


def test_changes_are_told(tmp_path: Path) -> None:
    """Added, changed and removed files, links, and what was tampered with."""
    with workspace(TASK, tmp_path) as space:
        assert not space.changes().any
        (space.work / "answer.txt").write_text("right\n")
        (space.work / "lib" / "keep.txt").unlink()
        (space.work / "tests").mkdir()
        (space.work / "tests" / "check.sh").write_text("true\n")
        (space.work / "out").symlink_to("/etc")
        found = space.changes()
    assert found.added == ("tests/check.sh",)
    assert found.modified == ("answer.txt",)
    assert found.removed == ("lib/keep.txt",)
    assert found.special == ("out",)
    assert found.tampered == ("lib/keep.txt", "tests/check.sh")


def test_tests_are_put_back_before_judging(tmp_path: Path) -> None:
    """Whatever the agent made of deciding and protected files, the judge sees the suite's."""
    with workspace(TASK, tmp_path) as space:
        (space.work / "lib" / "keep.txt").write_text("changed")
        (space.work / "tests").mkdir()
        (space.work / "tests" / "check.sh").write_text("true\n")
        with space.judging() as folder:
            assert (folder / "tests" / "check.sh").read_text() == TEST.content
            assert (folder / "lib" / "keep.txt").read_text() == "keep\n"
            assert not folder.is_relative_to(space.work)
        assert not folder.exists()
        assert (space.work / "tests" / "check.sh").read_text() == "true\n"


@pytest.mark.parametrize("trap", ["link to a file", "link to a folder", "folder", "pipe"])
def test_traps_in_the_place_of_a_test(tmp_path: Path, trap: str) -> None:
    """A link, folder or pipe where the deciding test goes neither leads the test out nor keeps it away."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "check.sh").write_text("precious")
    with workspace(TASK, tmp_path / "base") as space:
        place = space.work / "tests"
        if trap == "link to a folder":
            place.symlink_to(outside)
        else:
            place.mkdir()
            target = place / "check.sh"
            if trap == "link to a file":
                target.symlink_to(outside / "check.sh")
            elif trap == "folder":
                (target / "x").mkdir(parents=True)
                (target / "x" / "y").write_text("y")
            else:
                os.mkfifo(target)
        with space.judging() as folder:
            assert (folder / "tests" / "check.sh").read_text() == TEST.content
            assert not (folder / "tests" / "check.sh").is_symlink()
    assert (outside / "check.sh").read_text() == "precious"


def test_laying_files_over_a_trap(tmp_path: Path) -> None:
    """Writing fixtures never follows a link that the agent laid."""
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    work = tmp_path / "work"
    (work / "d").mkdir(parents=True)
    (work / "a").symlink_to(outside)
    (work / "f").write_text("a file where a folder is needed")
    write_fixtures(
        work,
        [Fixture(path="a", content="x"), Fixture(path="d", content="y"), Fixture(path="f/g", content="z")],
    )
    assert outside.read_text() == "precious"
    assert [(work / n).read_text() for n in ("a", "d", "f/g")] == ["x", "y", "z"]


def test_unsafe_paths_are_refused_here_as_well(tmp_path: Path) -> None:
    """A record that was made without validation cannot write outside either."""
    bad = Fixture.model_construct(path="../x", content="", encoding="utf-8", executable=False)
    with pytest.raises(UsageError, match="not allowed"):
        write_fixtures(tmp_path / "w", [bad])
    assert not (tmp_path / "x").exists()


def test_only_what_counts_is_judged(tmp_path: Path) -> None:
    """With `collect`, files beside it never reach the judge: no conftest.py, no module that shadows another."""
    verifier = Verifier(command=("true",), collect=("answer.txt", "src/*"), files=(TEST,))
    task = TASK.model_copy(update={"verifier": verifier, "protected": ()})
    with workspace(task, tmp_path) as space:
        (space.work / "conftest.py").write_text("x")
        (space.work / "src").mkdir()
        (space.work / "src" / "a.py").write_text("x")
        with space.judging() as folder:
            assert names(folder) == {"answer.txt", "src/a.py", "tests/check.sh"}


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that fills the disk is not copied."""
    monkeypatch.setattr(module, "COLLECT_LIMIT_BYTES", 10)
    with (
        workspace(TASK, tmp_path) as space,
        pytest.raises(ComponentFailed, match="to be judged"),
        space.judging(),
    ):
        pass


def test_reference_passes_and_nothing_done_fails(tmp_path: Path) -> None:
    """The verifier tells the two apart, each time."""
    empty, reference = try_solutions(TASK, 2, tmp_path)
    assert (empty.solution, empty.passed) == ("empty", (False, False))
    assert (reference.solution, reference.passed) == ("reference", (True, True))
    assert list(tmp_path.iterdir()) == []


def test_deleting_the_test_does_not_win(tmp_path: Path) -> None:
    """An agent that weakens or removes the deciding test fails as if it had not."""
    with workspace(TASK, tmp_path) as space:
        (space.work / "tests").mkdir()
        (space.work / "tests" / "check.sh").write_text("exit 0\n")
        assert not run_verifier(space).passed


def test_secrets_and_home_do_not_reach_the_verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of our environment are dropped but for the list; HOME is an empty one that the agent never saw."""
    monkeypatch.setenv("MY_API_KEY", "secret")
    monkeypatch.setenv("LC_TIME", "C")
    with workspace(with_command("/usr/bin/env"), tmp_path) as space:
        done = run_verifier(space, {"MORE": "1"})
        home = str(space.root / "judge-1-home")
        assert home != str(space.home)
    seen = dict(line.partition("=")[::2] for line in done.log_tail.splitlines())
    assert done.passed
    assert "MY_API_KEY" not in seen
    assert (seen["HOME"], seen["MORE"], seen["LC_TIME"]) == (home, "1", "C")
    assert "PATH" in seen
    assert "secret" not in " ".join(without_secrets(("x",)))


def test_a_time_limit_ends_all_processes(tmp_path: Path) -> None:
    """A verifier that hangs is a failed task, and what it started is gone."""
    mark = tmp_path / "alive"
    script = f"(while true; do date > {mark}; sleep 0.05; done) & sleep 60"
    began = time.monotonic()
    with workspace(with_command("sh", "-c", script, timeout_s=0.6), tmp_path / "base") as space:
        done = run_verifier(space)
    assert (done.passed, done.timed_out) == (False, True)
    assert time.monotonic() - began < 30
    mark.unlink()
    time.sleep(0.3)
    assert not mark.exists()


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """A missing program fails the task, and is told as what it is."""
    done = check_solution(with_command("no-such-program-here"), reference=False, base=tmp_path)
    assert (done.passed, done.missing) == (False, True)
    assert "no-such-program-here" in done.log_tail
