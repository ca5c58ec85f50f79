"""Story: an evolve study is killed with SIGKILL in its search, its confirmation and its application, then gone on with.

`ASSAY_KILL_EVERY=1` kills at every line of every journal and at every event of the ledger; by default at a sample.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from evolve_project import BETTER, GIVEN, HERE, KNOWN, PARALLEL, RUN, Evolve, came_to, decided, lay_out, rules

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

EVERY = int(os.environ.get("ASSAY_KILL_EVERY", "0"))
"""Read here: the tests themselves see no setting of ours."""
LINES = (11, 22, 29, 36, 44, 57, 76)
"""Of the journals, all steps together: the search writes those from about 20 to 60, the two looks those after it."""
EVENTS = (9, 12, 19)
"""In the search, and at what follows a build and a look."""


def struck_at(project: Evolve, when: str, number: int, *arguments: str) -> int:
    """Run Assay until it kills itself at an event, a line or the exchange of a file; returns the exit code."""
    if when.startswith("event"):
        return project.killed(when.removeprefix("event-"), number, *arguments)
    child = project.start(*arguments, via=(sys.executable, str(HERE / "killed.py"), when, str(number)))
    child.communicate(timeout=120)
    return child.returncode


def unbroken(project: Evolve) -> dict[str, Any]:
    """Run the study to its end; what it came to, and how often the agent was invoked for each run."""
    done = project.run(*RUN)
    assert done.returncode == 0, done.stderr[-2000:]
    return {**came_to(project), "invoked": project.invoked()}


def whole(project: Evolve, expected: dict[str, Any], place: str) -> None:
    """No run is missing, none is there twice, and the agent was invoked again only for what was under way."""
    assert came_to(project) == {k: v for k, v in expected.items() if k != "invoked"}, place
    for name, lines in project.journals().items():
        keys = [(x["task"], x["arm"], x["rep"]) for x in lines]
        assert len(keys) == len(set(keys)), f"{place}: {name}"
    invoked = project.invoked()
    assert set(invoked) == set(expected["invoked"]), place
    again = invoked - expected["invoked"]
    assert again.total() <= PARALLEL, f"{place}: invoked again: {again}"


def strike(folder: Path, when: str, number: int, expected: dict[str, Any]) -> bool:
    """One kill, one resume, and everything that must hold afterwards; False if the study ended before."""
    shutil.rmtree(folder, ignore_errors=True)
    project = lay_out(folder)
    place = f"{when} {number}"
    code = struck_at(project, when, number, *RUN)
    if code == 0:
        return False
    assert code == -signal.SIGKILL, place
    if number % 2:  # the other half is resumed at once, while the guards still clean up
        project.nothing_left()
    again = project.run(*(("resume", "tiny-1", "--no-report") if project.events() else RUN))
    assert again.returncode == 0, f"{place}: {again.stderr[-2000:]}"
    project.nothing_left()
    whole(project, expected, place)
    return True


def moments(project: Evolve) -> list[tuple[str, int]]:
    """When a study like this unbroken one is killed."""
    lines = sum(len(p.read_text().splitlines()) for p in project.home.glob("studies/*/trial-*/*/*.jsonl"))
    events = len(project.events())
    at_lines, at_events = (range(1, lines, EVERY), range(1, events, EVERY)) if EVERY else (LINES, EVENTS)
    return [
        *((("before", "torn", "after")[i % 3], k) for i, k in enumerate(at_lines)),
        *((("event-before", "event-after")[i % 2], k) for i, k in enumerate(at_events)),
    ]


def lane(folder: Path, which: list[tuple[str, int]], expected: dict[str, Any]) -> list[bool]:
    """Kills one after the other, all in one folder."""
    return [strike(folder, when, number, expected) for when, number in which]


def test_kill_in_search_and_confirmation(tmp_path: Path) -> None:
    """Whatever the moment: the same Decision, the same text, the same runs, none of them counted twice."""
    project = lay_out(tmp_path / "unbroken")
    expected = unbroken(project)
    assert [d[1] for d in expected["decisions"]] == ["ACCEPT"]
    assert set(expected["invoked"].values()) == {1}, "an unbroken study runs nothing twice"
    which = moments(project)
    with ThreadPoolExecutor(2) as pool:
        struck = pool.map(lambda i: lane(tmp_path / f"lane-{i}", which[i::2], expected), (0, 1))
        assert all(hit for hits in struck for hit in hits)


MOMENTS = (("event-after", 1), ("put-before", 1), ("put-after", 1), ("event-before", 2))
"""After the intent is on record; around the exchange of the file; before its end is on record."""


def test_kill_in_apply_and_undo(tmp_path: Path) -> None:
    """Whatever the moment the file is the old or the new one, whole; a second call ends what the first began."""
    project = decided(lay_out(tmp_path / "project"))
    old, new = rules(KNOWN), BETTER
    for when, number in MOMENTS:
        put = (when, number) in MOMENTS[2:]
        for command, before, after in (
            (("apply", "tiny-1", "--yes"), old, new),
            (("undo", "tiny-1"), new, old),
        ):
            place = f"{command[0]}, {when} {number}"
            assert project.text.read_text() == before, place
            assert struck_at(project, when, number, *command) == -signal.SIGKILL, place
            assert project.text.read_text() == (after if put else before), place
            again = project.run(*command)
            assert again.returncode == 0, f"{place}: {again.stderr}"
            assert project.text.read_text() == after, place
            assert not list(project.folder.glob(".*assay-part*")), f"{place}: nothing half-written is left"
    kinds = [e.type.value for e in project.events() if e.type.value.startswith(("apply", "undo"))]
    assert kinds == ["apply.intended", "apply.done", "undo.intended", "undo.done"] * len(MOMENTS)


def test_a_text_that_was_changed_after_the_kill(tmp_path: Path) -> None:
    """Somebody else's change is neither written over by the second apply nor by undo."""
    project = decided(lay_out(tmp_path / "project"))
    assert struck_at(project, "put-before", 1, "apply", "tiny-1", "--yes") == -signal.SIGKILL
    project.text.write_text("mine\n", encoding="utf-8")
    for command in (("apply", "tiny-1", "--yes"), ("undo", "tiny-1")):
        refused = project.run(*command)
        assert refused.returncode == 2, refused.stderr
        assert (
            "changed by somebody else" in refused.stderr or "not the text that was judged" in refused.stderr
        )
        assert project.text.read_text() == "mine\n"


def outage(project: Evolve) -> Any:
    """Start the study; in the middle of its first look the agent's service goes down."""
    child = project.start(*RUN, *GIVEN, "--set", "agent.retries=0")
    journal = project.home / "studies" / "tiny-1" / "trial-1" / "confirm-1" / "runs.jsonl"
    project.until(
        "runs of the first look", lambda: journal.exists() and journal.read_bytes().count(b"\n") > 2
    )
    project.down.touch()
    return child


def test_an_outage_repeats_no_finished_run(tmp_path: Path) -> None:
    """A step that is tried again, and a study that is resumed after it gave up, do only what had not been learned yet."""
    expected = came_to(decided(lay_out(tmp_path / "unbroken")))
    for resumed in (False, True):
        project = lay_out(tmp_path / f"resumed-{resumed}", sleep_s=0.4)
        child = outage(project)
        if not resumed:
            told = iter(child.stderr)
            assert any("trying again" in line for line in told)
            project.down.unlink()
        code = child.wait(timeout=120)
        said = child.communicate()
        if resumed:
            assert code == 5, said
            project.down.unlink()
            again = project.run("resume", "tiny-1", "--no-report")
            code, said = again.returncode, (again.stdout, again.stderr)
        assert code == 0, said
        found = came_to(project)
        assert all(found[k] == expected[k] for k in ("decisions", "picked", "runs"))
        assert max(project.invoked().values()) == 1, "what was learned was run once; an outage left no line"
        assert project.run("verify", "tiny-1").returncode == 0
        project.nothing_left()


def test_the_money_runs_out(tmp_path: Path) -> None:
    """A look that the rest of the money does not reach for is not begun; a resumed study says so and pays nothing."""
    project = lay_out(tmp_path / "project")
    money = ("--set", "budget.cost=0.4", "--set", "agent.price_per_run=0.005", "--set", "preflight_repeats=1")
    ended = project.run(*RUN, *GIVEN, *money)
    invoked = project.invoked()
    assert [len(project.journals()[step]) for step in ("preflight", "confirm-1")] == [10, 18]
    assert not project.journals()["confirm-2"]
    for done in (ended, project.run("resume", "tiny-1", "--no-report")):
        said = " ".join(done.stdout.split())
        assert done.returncode == 4, done.stderr
        assert "the money of this study is used up: 0.28 of 0.4, and 18 more runs may cost 0.18" in said
        assert "raise it in the spec and start a new study" in said
    assert "warning: 50% of the money of this study is used: 0.2 of 0.4" in " ".join(ended.stderr.split())
    assert project.invoked() == invoked
    assert project.run("verify", "tiny-1").returncode == 0
    assert project.run("apply", "tiny-1", "--yes").returncode == 2


def test_an_agent_that_changes_between_two_looks(tmp_path: Path) -> None:
    """Runs of another agent do not count with those before, and the study says which part is not the same."""
    project = lay_out(tmp_path / "project")
    tiny = project.folder / "tiny.yaml"
    tiny.write_text(tiny.read_text().replace("[echo, tiny 1]", f"[cat, {project.folder}/version]"))
    (project.folder / "version").write_text("tiny 1")
    code = project.killed("after", 16, *RUN, *GIVEN, "--set", "preflight_repeats=1")
    assert code == -signal.SIGKILL
    assert {"preflight", "confirm-1"} == set(project.journals()), "killed after the first look"
    (project.folder / "version").write_text("tiny 2")
    done = project.run("resume", "tiny-1", "--no-report")
    assert done.returncode == 5, done.stderr
    assert "the runner differ" in " ".join(done.stdout.split())
