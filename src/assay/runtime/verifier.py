"""Runs what decides a task: a command in a judging folder, without secrets, ended with everything it started.

Exit code 0 of the command is a pass, `COULD_NOT_JUDGE` (75, EX_TEMPFAIL) says that nothing was found out, as when a model
that judges does not answer, and anything else is a failure of the task. Expected files are compared without a process.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TypeAlias

from assay.core.errors import ComponentFailed, ComponentMissing
from assay.core.run import Work
from assay.core.suite import FIXTURE_DIR, PYTHON, Fixture, SolutionRuns, Task, same_content
from assay.core.vocabulary import FailureClass
from assay.runtime import process
from assay.runtime.ended import wait_for_end
from assay.runtime.files import explaining
from assay.runtime.workspace import Workspace, workspace

INHERITED = ("PATH", "LANG", "LANGUAGE", "LC_*", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH")
"""All that a verifier inherits from our environment."""
COULD_NOT_JUDGE = 75
"""Exit code of a verifier that could not find out: an error of the machine, never a failure of the task."""
Wrap: TypeAlias = Callable[[tuple[str, ...], Path], tuple[str, ...] | process.Sandboxed]
"""Command and the folder that it runs in and may write to → the command to be run."""
GRACE = process.Grace(normal_s=1.0)
SHOWN_CHARS = 200
"""Most of a line that is told."""
WATCH_S = 0.5
"""How often a running verifier's output is looked at."""
FLOOD_BYTES = 64 << 20
"""A verifier that prints more is ended: it runs what an agent wrote."""
SLACK_S = 10.0
"""How long we wait for the guard beyond the time limit that it enforces itself."""


@dataclass(frozen=True)
class Judged:
    """How a verifier ended. Anything but exit code 0 is a failure of the task, unless it could not judge."""

    passed: bool
    exit_code: int | None
    timed_out: bool
    missing: bool
    """The program does not exist: a failure too, as the source system counts it, and worth telling."""
    wall_s: float | None
    log_tail: str
    flooded: bool = False
    """It printed without end and was stopped."""

    @property
    def undecided(self) -> bool:
        """Whether the verifier itself says that it could not judge."""
        return self.exit_code == COULD_NOT_JUDGE and not self.timed_out


def run_verifier(
    space: Workspace,
    env: Mapping[str, str] | None = None,
    allowed: Iterable[str] = (),
    wrap: Wrap | None = None,
) -> Judged:
    """Judge what lies in a workspace by its task's expected files and command. Called tools are not asked here.

    Args:
        space: where an agent worked or a solution was laid.
        env: more variables for the verifier.
        allowed: names of variables of our environment that it may see.
        wrap: puts an isolation around the command, because it runs what an agent wrote; None = none.

    Raises:
        ComponentFailed, UsageError: if folder or log cannot be written.
    """
    verifier = space.task.verifier
    with space.judging() as folder:
        differs = "\n".join(d for file in verifier.equals if (d := _difference(folder, file)))
        if differs or not verifier.command:
            return Judged(not differs, None, timed_out=False, missing=False, wall_s=0.0, log_tail=differs)
        return _run_command(space, folder, env or {}, tuple(allowed), wrap or _unwrapped)


def home_of(folder: Path) -> Path:
    """The empty home folder of the verifier that judges in a folder."""
    return folder.with_name(f"{folder.name}-home")


def _unwrapped(command: tuple[str, ...], _folder: Path) -> tuple[str, ...] | process.Sandboxed:
    return command


def _run_command(
    space: Workspace, folder: Path, env: Mapping[str, str], allowed: tuple[str, ...], wrap: Wrap
) -> Judged:
    home = home_of(
        folder
    )  # what the agent left in its own home, modules of Python for one, must not be loaded
    with explaining(home):
        home.mkdir()
    given = {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", **env}
    command = tuple(
        sys.executable if part == PYTHON else part.replace(FIXTURE_DIR, str(folder))
        for part in space.task.verifier.command
    )
    logs = space.root / "logs"
    wrapped, names = wrap(command, folder), (*INHERITED, *given, *allowed)
    if isinstance(wrapped, process.Sandboxed):
        command, inside = wrapped.command, wrapped
    else:
        command, inside = without_secrets(wrapped, names), None
    work = Work(
        label=f"verify {space.task.task_id}",
        command=command,
        env=given,
        cwd=str(folder),
        log=str(logs / "verifier.log"),
        timeout_s=space.task.verifier.timeout_s,
    )
    return _ran(work, logs / "verifier.json", inside, inherited(names))


def _difference(folder: Path, wanted: Fixture) -> str:
    """In what a file differs from the expected one; empty where it does not."""
    try:
        data = (folder / wanted.path).read_bytes()
    except OSError:
        return f"{wanted.path}: not there"
    if same_content(data, wanted.data):
        return ""
    pairs = zip_longest(*(_lines(d) for d in (data, wanted.data)), fillvalue="")
    number, (got, expected) = next((n, p) for n, p in enumerate(pairs, 1) if p[0] != p[1])
    return f"{wanted.path}: line {number} is {got[:SHOWN_CHARS]!r} instead of {expected[:SHOWN_CHARS]!r}"


def _lines(data: bytes) -> list[str]:
    # one character a byte, so that different bytes never look the same
    return [line.rstrip().decode("utf-8", "surrogateescape") for line in data.rstrip().split(b"\n")]


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
    """Judge nothing done, and a known solution where there is one, several times each in fresh workspaces.

    The known solution is the reference; without one, the expected files are laid where nothing else decides.

    Raises:
        ComponentFailed, UsageError: if a workspace cannot be written.
    """
    found = []
    if not task.reference and task.verifier.equals and not task.verifier.command:
        task = task.model_copy(update={"reference": task.verifier.equals})
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
    kept = inherited((*allowed, process.MARK))
    dropped = [name for name in sorted(os.environ) if name not in kept and "=" not in name]
    return ("/usr/bin/env", *(x for name in dropped for x in ("-u", name)), *command)


def inherited(allowed: Iterable[str]) -> dict[str, str]:
    """The variables of our environment that are allowed; `LC_*` stands for all that begin so."""
    keep = re.compile("|".join(re.escape(a).replace(r"\*", ".*") for a in allowed))
    return {name: value for name, value in os.environ.items() if keep.fullmatch(name)}


def _ran(work: Work, status: Path, inside: process.Sandboxed | None, allowed: Mapping[str, str]) -> Judged:
    try:
        if inside is None:
            guarded = process.start(work, status, GRACE)
        else:
            guarded = process.start(work, status, GRACE, sandbox=inside.spec, inherited=allowed)
    except ComponentMissing as error:
        return Judged(False, None, timed_out=False, missing=True, wall_s=None, log_tail=str(error))
    deadline = time.monotonic() + (work.timeout_s or 0) + GRACE.normal_s + SLACK_S
    ended = flooded = False
    try:
        while not (ended or flooded) and (left := deadline - time.monotonic()) > 0:
            ended = wait_for_end(guarded, min(WATCH_S, left))
            flooded = not ended and Path(work.log).stat().st_size > FLOOD_BYTES
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
        flooded=flooded,
    )
