"""The suite of broken programs: each is broken, each can be repaired, and neither is a matter of chance."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

import pytest

from assay.core.suite import Suite, Task
from assay.gates.suite import check_suite, copied_from_suite
from assay.readers.suites import read_suite
from assay.runtime.verifier import run_verifier, try_solutions
from assay.runtime.workspace import workspace

SUITE = Path(__file__).parents[3] / "examples" / "evolve-skill" / "suite"
TASKS = sorted(p.name for p in (SUITE / "tasks").iterdir())


@pytest.fixture(scope="module", name="suite")
def _suite() -> Suite:
    return read_suite(SUITE)


def program(task: Task, *, reference: bool) -> str:
    """The broken or the repaired program."""
    files = task.reference if reference else task.fixtures
    return next(f.text for f in files if f.path == "program.py")


def test_the_suite_is_clean_and_large_enough(suite: Suite) -> None:
    """At least thirty programs beside the canary, with nothing to be said against any."""
    assert check_suite(suite) == ()
    assert len(suite.tasks) - len(suite.canaries) >= 30
    assert len(suite.canaries) == 1
    assert all(task.tags for task in suite.tasks)


def test_the_agent_sees_no_hidden_test(suite: Suite) -> None:
    """What decides and what solves is nowhere in the agent's folder."""
    for task in suite.tasks:
        given = {f.path for f in task.fixtures}
        assert given == {"program.py", "run_tests.py", "test_visible.py"}
        assert {f.path for f in task.verifier.files} == {"judge.py", "test_hidden.py"}
        assert task.verifier.collect == ("program.py",)


def test_repairs_are_small(suite: Suite) -> None:
    """A repair touches at most four lines, so that an agent with a few edits can find it."""
    for task in suite.tasks:
        before, after = (program(task, reference=r).splitlines() for r in (False, True))
        ops = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        size = sum(max(j - i, m - k) for op, i, j, k, m in ops if op != "equal")
        assert 1 <= size <= 4, task.task_id


def test_copying_hidden_values_into_a_skill_is_found(suite: Suite) -> None:
    """A skill that carries a hidden expectation is refused; general advice is not."""
    good = (
        "Compare boundaries with >=. Round money instead of cutting it. Copy lists before removing from them."
    )
    assert copied_from_suite("", good, suite) == ()
    bad = "If a test asks for the headings, answer 53.13010235415598."
    assert {f.where for f in copied_from_suite("", bad, suite)} == {"compass"}


@pytest.mark.slow
@pytest.mark.parametrize("task_id", TASKS)
def test_broken_fails_and_reference_passes_three_times(suite: Suite, task_id: str, tmp_path: Path) -> None:
    """The hidden tests refuse the broken program and accept the reference, each time."""
    (task,) = (t for t in suite.tasks if t.task_id == task_id)
    empty, reference = try_solutions(task, 3, tmp_path)
    assert empty.passed == (False, False, False), empty.told
    assert reference.passed == (True, True, True), reference.told
    assert (empty.timed_out, reference.timed_out) == (0, 0)


@pytest.mark.slow
def test_visible_tests_show_each_defect(suite: Suite, tmp_path: Path) -> None:
    """The agent's own tests fail for each broken program and pass for each reference."""
    for task in suite.tasks:
        codes = []
        for reference in (False, True):
            with workspace(task, tmp_path) as space:
                if reference and not task.canary:
                    space.lay(task.reference)
                command = [sys.executable, "-B", "run_tests.py"]
                done = subprocess.run(command, cwd=space.work, capture_output=True, timeout=30, check=False)
                codes.append(done.returncode)
        assert codes == ([1, 1] if task.canary else [1, 0]), task.task_id


CHEATS = {
    "ends the process": "import os\nos._exit(0)\n",
    "exits": "import sys\nsys.exit(0)\n",
    "prints": "print('ok')\n",
    "raises": "raise SystemExit(0)\n",
    "hangs": "while True:\n    pass\n",
    "removes the tests": "import pathlib, sys\nfor p in pathlib.Path(sys.path[0]).glob('test_*'):\n    p.unlink()\n",
    "is empty": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("cheat", CHEATS)
def test_cheats_do_not_pass(suite: Suite, cheat: str, tmp_path: Path) -> None:
    """A program that avoids being tested has not passed, and neither has a test of its own beside it."""
    (task,) = (t for t in suite.tasks if t.task_id == "sum-of-squares")
    with workspace(task, tmp_path) as space:
        (space.work / "program.py").write_text(CHEATS[cheat])
        (space.work / "test_hidden.py").write_text("def test_fine():\n    pass\n")
        (space.work / "judge.py").write_text("")
        assert not run_verifier(space).passed
        assert set(space.changes().tampered) == {"judge.py", "test_hidden.py"}
