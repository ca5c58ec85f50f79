"""Runs what decides a task: a command in a judging folder, without secrets, ended with everything it started."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.core.errors import ComponentFailed, ComponentMissing
from assay.core.run import Work
from assay.core.suite import FIXTURE_DIR, PYTHON, SolutionRuns, Task
from assay.core.vocabulary import FailureClass
from assay.runtime import process
from assay.runtime.workspace import Workspace, workspace

INHERITED = ("PATH", "LANG", "LANGUAGE", "LC_*", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH")
"""All that a verifier inherits from our environment."""
GRACE = process.Grace(normal_s=1.0)
SLACK_S = 10.0
"""How long we wait for the guard beyond the time limit that it enforces itself."""


@dataclass(frozen=True)
class Judged:
    """How the command of a verifier ended. Anything but exit code 0 is a failure of the task."""

    passed: bool
    exit_code: int | None
    timed_out: bool
    missing: bool
    """The program does not exist: a failure too, as the source system counts it, and worth telling."""
    wall_s: float | None
    log_tail: str


def run_verifier(space: Workspace, env: Mapping[str, str] | None = None) -> Judged:
    """Judge what lies in a workspace by its task's command.

    Args:
        space: where an agent worked or a solution was laid.
        env: more variables for the verifier.

    Raises:
        ComponentFailed, UsageError: if folder or log cannot be written.
    """
    given = {"HOME": str(space.home), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
    with space.judging() as folder:
        command = tuple(
            sys.executable if part == PYTHON else part.replace(FIXTURE_DIR, str(folder))
            for part in space.task.verifier.command
        )
        logs = space.root / "logs"
        work = Work(
            label=f"verify {space.task.task_id}",
            command=without_secrets(command, (*INHERITED, *given)),
            env=given,
            cwd=str(folder),
            log=str(logs / "verifier.log"),
            timeout_s=space.task.verifier.timeout_s,
        )
        return _ran(work, logs / "verifier.json")


def check_solution(task: Task, *, reference: bool, base: Path | None = None) -> Judged:
    """Judge a task with its reference solution, or with the fixtures untouched.

    Raises:
        ComponentFailed, UsageError: if the workspace cannot be written.
    """
    with workspace(task, base) as space:
        if reference:
            space.lay(task.reference)
        return run_verifier(space)


def try_solutions(task: Task, runs: int = 3, base: Path | None = None) -> tuple[SolutionRuns, ...]:
    """Judge nothing done, and the reference where there is one, several times each in fresh workspaces.

    Raises:
        ComponentFailed, UsageError: if a workspace cannot be written.
    """
    found = []
    for solution in ("empty", "reference") if task.reference else ("empty",):
        done = [check_solution(task, reference=solution == "reference", base=base) for _ in range(runs)]
        found.append(
            SolutionRuns(
                task_id=task.task_id,
                solution=solution,
                passed=tuple(d.passed for d in done),
                timed_out=sum(d.timed_out for d in done),
                missing=any(d.missing for d in done),
                told=next((d.log_tail for d in reversed(done) if not d.passed), ""),
            )
        )
    return tuple(found)


def without_secrets(command: tuple[str, ...], allowed: tuple[str, ...] = INHERITED) -> tuple[str, ...]:
    """A command that runs without the variables of our environment that are not allowed.

    The mark that finds leftovers of a run is kept, which `env -i` would lose.

    Args:
        command: program and arguments.
        allowed: names that are inherited; `LC_*` stands for all that begin so.
    """
    keep = re.compile("|".join(re.escape(a).replace(r"\*", ".*") for a in (*allowed, process.MARK)))
    dropped = [name for name in sorted(os.environ) if not keep.fullmatch(name) and "=" not in name]
    return ("/usr/bin/env", *(x for name in dropped for x in ("-u", name)), *command)


def _ran(work: Work, status: Path) -> Judged:
    try:
        guarded = process.start(work, status, GRACE)
    except ComponentMissing as error:
        return Judged(False, None, timed_out=False, missing=True, wall_s=None, log_tail=str(error))
    try:
        ended = process.wait(guarded, (work.timeout_s or 0) + GRACE.normal_s + SLACK_S)
    finally:
        if guarded.guard.poll() is None:
            process.stop_guard(guarded.guard, GRACE)
    record = process.read_status(status)
    if record is None:
        raise ComponentFailed(
            "the guard of the verifier left no record",
            failure_class=FailureClass.INFRA_TRANSIENT,
            where=work.label,
        )
    lost = record["ended"] is None
    if lost:
        process.sweep(str(record["run_id"]))
    run = process.run_of(record, lost=lost)
    missing = run.exit_code == 127
    return Judged(
        passed=ended and run.exit_code == 0 and not run.timed_out and not run.cancelled,
        exit_code=run.exit_code,
        timed_out=run.timed_out,
        missing=missing,
        wall_s=run.wall_s,
        log_tail=run.log_tail,
    )
