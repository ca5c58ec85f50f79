"""Child processes of Assay: each one under a guard, so that nothing outlives us, and each one on record.

A status file beside the log is the handle: it says who runs where, and after a crash it tells the next Assay
how the work ended. `runtime.guard` does the ending.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import psutil

from assay.core.canon import digest, short
from assay.core.errors import AssayError, ComponentFailed, ComponentMissing, UnreadableInput
from assay.core.run import Run, Work
from assay.core.vocabulary import FailureClass
from assay.runtime import files, guard
from assay.runtime.logs import log_tail

GUARD = Path(guard.__file__)
MARK = "ASSAY_RUN_ID"
"""Environment variable that every process of a run inherits: how leftovers are known for ours."""
START_LIMIT_S = 30.0
"""A guard that has not spoken after this long never will."""


@dataclass(frozen=True)
class Grace:
    """How long processes get between SIGTERM and SIGKILL."""

    normal_s: float = 5.0
    """When we end them."""
    orphan_s: float = 1.5
    """When Assay itself is gone."""


@dataclass
class Guarded:
    """A command that this Assay started and still watches."""

    guard: subprocess.Popen[bytes]
    work: Work
    status: Path


@dataclass(frozen=True)
class Sandboxed:
    """A command that the guard itself puts into namespaces: see `agents.sandbox`."""

    command: tuple[str, ...]
    spec: Mapping[str, Any]
    """What `sandbox.main` is told."""


def start(
    work: Work,
    status: Path,
    grace: Grace,
    *,
    sandbox: Mapping[str, Any] | None = None,
    inherited: Mapping[str, str] | None = None,
) -> Guarded:
    """Start a command under a guard; returns once it was executed.

    Args:
        work: the command.
        status: where the guard keeps its record.
        grace: between SIGTERM and SIGKILL.
        sandbox: namespaces to run it in (`Sandboxed.spec`); a program that is not there then ends with exit code 127.
        inherited: what of our environment guard and command get; None = all of it. With `sandbox`, what the command
            may not know must not be in it.

    Raises:
        ComponentMissing: if the program or the working directory does not exist.
        UsageError, ComponentFailed: if log or status cannot be written, or the guard does not start.
    """
    env = {**(os.environ if inherited is None else inherited), **work.env}
    program = _found(work, env) if sandbox is None else work.command[0]
    run_id = f"{short(digest(str(status)))}-{os.getpid()}-{time.time_ns()}"
    config = {
        "command": [program, *work.command[1:]],
        "cwd": work.cwd,
        "log": work.log,
        "status": str(status),
        "timeout_s": work.timeout_s,
        "grace_s": grace.normal_s,
        "orphan_grace_s": grace.orphan_s,
        "sandbox": sandbox,
        "info": {
            "label": work.label,
            "command": list(work.command),
            "cwd": work.cwd,
            "log": work.log,
            "run_id": run_id,
            "owner_pid": os.getpid(),
            "owner_ticks": guard.start_ticks(os.getpid()),
        },
    }
    for path in (status, Path(work.log)):
        with files.explaining(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", guard.STARTER, str(GUARD), json.dumps(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**env, MARK: run_id},
        start_new_session=True,
    )
    try:
        _heard(child, work)
    except BaseException:
        stop_guard(child, grace)
        raise
    return Guarded(child, work, status)


def read_status(status: Path) -> Mapping[str, Any] | None:
    """What a guard wrote; None if it wrote nothing that can be read."""
    try:
        value = files.read_json(status)
    except UnreadableInput:
        return None
    return value if isinstance(value, dict) and value.get("schema") == guard.SCHEMA else None


def run_of(status: Mapping[str, Any], *, lost: bool = False) -> Run:
    """The record of a run from what its guard wrote.

    Args:
        status: the content of a status file.
        lost: the guard is gone without having written the end.
    """
    log = Path(str(status["log"]))
    ending = status["ending"]
    return Run(
        label=status["label"],
        command=tuple(status["command"]),
        cwd=status["cwd"],
        log=str(log),
        pid=status["pid"],
        started=status["started"],
        wall_s=_since(status["started"]) if lost else status["wall_s"],
        exit_code=-int(signal.SIGKILL) if lost else status["exit_code"],
        timed_out=ending == "timed_out",
        cancelled=lost or ending in ("cancelled", "orphaned"),
        log_tail=log_tail(log, int(status["log_offset"])),
    )


def _since(started: str) -> float:
    """Seconds from a moment that a guard wrote until now: the most that a lost run can have taken."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds())


def wait(guarded: Guarded, timeout_s: float) -> bool:
    """Wait for the end of a command and of everything below it; False if it still runs."""
    try:
        guarded.guard.wait(max(0.0, timeout_s))
    except subprocess.TimeoutExpired:
        return False
    if guarded.guard.stdin:
        guarded.guard.stdin.close()
    return True


def stop_guard(child: subprocess.Popen[bytes], grace: Grace) -> None:
    """Let a guard end what it guards; returns when it is done. A guard that hangs is killed."""
    child.terminate()
    try:
        child.wait(grace.normal_s + 10.0)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for stream in (child.stdin, child.stdout):
        if stream:
            stream.close()


def sweep(run_id: str, limit_s: float = 5.0) -> int:
    """Kill what is left of a run whose guard is gone; returns how many processes that were.

    Only processes that carry the run's own mark in their environment are touched.

    Raises:
        ComponentFailed: if one of them cannot be ended.
    """
    deadline = time.monotonic() + limit_s
    ended = 0
    while left := list(_marked(run_id)):
        if time.monotonic() > deadline:
            raise ComponentFailed(
                f"processes {sorted(p.pid for p in left)} of an earlier run cannot be ended",
                failure_class=FailureClass.INFRA_TRANSIENT,
                where=f"{MARK}={run_id}",
            )
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
                ended += 1
        psutil.wait_procs(left, timeout=0.2)
    return ended


def alive(pid: Any, ticks: Any) -> bool:
    """Whether exactly that process still lives: with its start time, a reused pid is another one."""
    if not isinstance(pid, int) or not isinstance(ticks, int) or not psutil.pid_exists(pid):
        return False
    return guard.start_ticks(pid) == ticks and runs(pid)


def runs(pid: int) -> bool:
    """Whether a process of that pid lives and is more than a zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _found(work: Work, env: Mapping[str, str]) -> str:
    name = work.command[0]
    if not Path(work.cwd).is_dir():
        raise ComponentMissing("the working directory does not exist", where=work.cwd)
    if os.sep in name:
        candidate = Path(work.cwd, name)
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    elif found := shutil.which(name, path=env.get("PATH")):
        return str(Path(found).absolute())
    raise ComponentMissing(
        f"the program {name!r} does not exist or cannot be executed",
        where=work.label,
        next="install it, or name it by its full path",
    )


def _heard(child: subprocess.Popen[bytes], work: Work) -> None:
    """Wait for the guard's one line."""
    assert child.stdout is not None
    message = _line(child.stdout)
    child.stdout.close()
    if isinstance(message.get("pid"), int):
        return
    if message.get("errno") in (errno.ENOENT, errno.ENOTDIR, errno.ENOEXEC):
        raise ComponentMissing(f"cannot execute {work.command[0]}: {message.get('error')}", where=work.label)
    if isinstance(code := message.get("errno"), int):
        raise _refused(code, work)
    raise ComponentFailed(
        "the guard process ended without a word",
        failure_class=FailureClass.INFRA_TRANSIENT,
        where=work.label,
    )


def _refused(code: int, work: Work) -> AssayError:
    return files.explained(OSError(code, os.strerror(code)), Path(work.log))


def _line(stream: IO[bytes]) -> Mapping[str, Any]:
    import select  # noqa: PLC0415 - used nowhere else

    readable, _, _ = select.select([stream], [], [], START_LIMIT_S)
    try:
        message = json.loads(stream.readline()) if readable else {}
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _marked(run_id: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == run_id:
                yield process
