"""Story: `kill -9` at each event of the ledger, then `assay resume`."""

from __future__ import annotations

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from twin_project import Project, finished_once, lay_out, published_right

from assay.core.events import EventType

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MEASURED_NOW = {"setup"}
"""Gates whose evidence holds free disk space: its digest differs from run to run."""
SAMPLED = 7
"""Every how many events the kill is also tried right before the event."""


def decided(project: Project) -> list[Any]:
    """What the study came to, in a form in which two studies can be compared."""
    return [
        {
            "trial": d.trial,
            "outcome": d.outcome,
            "sentence": d.sentence,
            "artifact": d.facts["artifact"],
            "gates": [
                (g.gate, g.status, g.detail if g.gate not in MEASURED_NOW else "", g.failure_class) for g in d.gates
            ],
            "verdicts": {g.gate: g.verdict for g in d.gates if g.gate not in MEASURED_NOW},
        }
        for d in project.history().decisions
    ]


def artifact_times(project: Project) -> dict[str, int]:
    """Modification times of all artifacts of steps that have finished."""
    found = {}
    for event in project.events():
        if event.type is EventType.STEP_FINISHED and event.data["artifact"]:
            folder = Path(event.data["artifact"]["path"])
            found |= {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}
    return found


def strike(project: Project, when: str, number: int, expected: list[Any]) -> None:
    """One kill, one resume, and everything that must hold afterwards."""
    place = f"{when} event {number}"
    assert project.killed(when, number, "run", "release.yaml", "--no-report") == -signal.SIGKILL, place
    if number % 2:  # the other half is resumed while the guards still clean up
        project.nothing_left()
    opened = project.events()
    times = artifact_times(project)
    command = ("resume", "twin-1") if opened else ("run", "release.yaml")
    again = project.run(*command, "--no-report")
    assert again.returncode == 0, f"{place}: {again.stderr}"
    project.nothing_left()
    assert decided(project) == expected, place
    finished_once(project.events())
    assert {p: t for p, t in artifact_times(project).items() if p in times} == times, place
    published_right(project)
    shutil.rmtree(project.folder)


def story(folder: Path, strikes: list[tuple[str, int]]) -> int:
    """A share of the strikes, all in one folder, so that equal evidence has equal digests."""
    project = lay_out(folder)
    assert project.run("run", "release.yaml", "--no-report").returncode == 0
    expected = decided(project)
    count = len(project.events())
    for when, number in strikes:
        shutil.rmtree(project.folder, ignore_errors=True)
        lay_out(folder)
        if number <= count:
            strike(project, when, number, expected)
    return count


def test_kill_at_each_event_then_resume(tmp_path: Path) -> None:
    """Whatever the moment: the same Decisions, no finished step repeated, no process left, published once."""
    every = [("after", k) for k in range(1, 51)] + [("before", k) for k in range(1, 51, SAMPLED)]
    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(lambda i: story(tmp_path / f"p{i}", every[i::2]), range(2)))
    assert counts == [50, 50], "the twin has another number of events: change the range above"
