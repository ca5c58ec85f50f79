"""Story: `kill -9` at each event of the ledger, then `assay resume`."""

from __future__ import annotations

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from twin_project import Project, finished_once, lay_out, published_right

from assay.core.events import EventType

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MEASURED_NOW = {"setup"}
"""Gates whose evidence holds free disk space: its digest differs from run to run."""
EVENTS = 49
"""The twin has at least so many."""
BEFORE = range(2, EVENTS, 8)
"""Where the kill is also tried right before the event."""


def decided(project: Project) -> list[Any]:
    """What the study came to, in a form in which two studies can be compared."""
    return [
        {
            "trial": d.trial,
            "outcome": d.outcome,
            "sentence": d.sentence,
            "artifact": d.facts["artifact"],
            "gates": [
                (
                    g.gate,
                    g.status,
                    g.failure_class,
                    *((g.detail, g.verdict) if g.gate not in MEASURED_NOW else ()),
                )
                for g in d.gates
            ],
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


def strike(folder: Path, when: str, number: int, expected: list[Any]) -> bool:
    """One kill, one resume, and everything that must hold afterwards; False if the study ended before."""
    shutil.rmtree(folder)
    project = lay_out(folder)
    place = f"{when} event {number}"
    code = project.killed(when, number, "run", "release.yaml", "--no-report")
    if code == 0:
        return False
    assert code == -signal.SIGKILL, place
    if number % 2:  # the other half is resumed at once, while the guards still clean up
        project.nothing_left()
    times = artifact_times(project)
    command = ("resume", "twin-1") if project.events() else ("run", "release.yaml")
    again = project.run(*command, "--no-report")
    assert again.returncode == 0, f"{place}: {again.stderr}"
    project.nothing_left()
    assert decided(project) == expected, place
    finished_once(project.events())
    assert {p: t for p, t in artifact_times(project).items() if p in times} == times, place
    published_right(project)
    return True


def lane(folder: Path, first: int) -> int:
    """Every second kill, all in one folder, so that equal evidence has equal digests; returns how many hit."""
    project = lay_out(folder)
    assert project.run("run", "release.yaml", "--no-report").returncode == 0
    expected = decided(project)
    assert [d["outcome"].value for d in expected] == ["REGRESSION", "ACCEPT"]
    before = sum(strike(folder, "before", k, expected) for k in BEFORE[first - 1 :: 2])
    after = next(k for k in count(first, 2) if not strike(folder, "after", k, expected))
    return before + (after - first) // 2


def test_kill_at_each_event_then_resume(tmp_path: Path) -> None:
    """Whatever the moment: the same Decisions, no finished step repeated, no process left, published once."""
    with ThreadPoolExecutor(2) as pool:
        struck = sum(pool.map(lambda first: lane(tmp_path / f"lane-{first}", first), (1, 2)))
    assert struck >= EVENTS + len(BEFORE)
