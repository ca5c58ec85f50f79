"""One attempt as a process: started under a keeper, known by its status file, ended from the top, recorded once.

The keeper (`runtime.keeper`) is the parent of the command. It outlives us, so that an attempt whose watcher was
killed still ends with its true exit; `found` takes such an attempt up again.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from assay.core.errors import ComponentFailed, ComponentMissing
from assay.core.vocabulary import FailureClass
from assay.runtime import files, guard, keeper, process
from assay.runtime.logs import log_tail
from assay.track import system
from assay.track.files import append_event

FREE_SPACE = "free space there, then the same `assay train` again: it goes on from the newest checkpoint"
"""What to do about a full disk under a training."""
KEEPER = Path(keeper.__file__)
START_LIMIT_S = 30.0
LOG_LIMIT_BYTES = 64 << 20
"""Of the recorded output of one attempt; beyond it the middle is cut out."""
DELIBERATE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU})
"""Signals that somebody sends; the others are the command's own fault."""


@dataclass(frozen=True)
class Start:
    """What is started."""

    folder: Path
    """Of the experiment."""
    attempt: int
    command: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    """Added to our own environment."""
    grace_s: float = 10.0
    """Between SIGTERM and SIGKILL."""
    limit_s: float | None = None
    """After this the keeper ends the command, whether watched or not."""


def log_path(folder: Path, attempt: int) -> Path:
    """Where stdout and stderr of an attempt go."""
    return folder / "log" / f"attempt-{attempt}.log"


def status_path(folder: Path, attempt: int) -> Path:
    """Where the keeper says who runs and how it ended."""
    return folder / "log" / f"attempt-{attempt}.json"


class Process:
    """The command of an attempt: one that we started, or one whose watcher is gone.

    Args:
        folder: of the experiment.
        attempt: its number.
        child: the keeper, if we are its parent.
    """

    def __init__(self, folder: Path, attempt: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.folder, self.attempt = folder, attempt
        self._child = child
        self._status = status_path(folder, attempt)

    @property
    def status(self) -> Mapping[str, Any]:
        """What the keeper wrote; empty if it wrote nothing that can be read."""
        return process.read_status(self._status) or {}

    @property
    def pid(self) -> int | None:
        """Of the command itself."""
        found = self.status.get("pid")
        return found if isinstance(found, int) and found > 0 else None

    def running(self) -> bool:
        """Whether the keeper is still there (it leaves last), or the command is that has lost its keeper."""
        return self.kept() or self._command_alive()

    def kept(self) -> bool:
        """Whether the keeper lives: it ends all that is left, and tells how it went."""
        if self._child is not None:
            return self._child.poll() is None
        status = self.status
        return process.alive(status.get("guard_pid"), status.get("guard_ticks"))

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; False if it still runs."""
        deadline = time.monotonic() + timeout_s
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(max(0.0, timeout_s))
        while (alive := self.running()) and time.monotonic() < deadline:
            time.sleep(min(0.05, timeout_s))
        return not alive

    def terminate(self) -> None:
        """SIGTERM from the top, grace, SIGKILL to what is left: the keeper does it."""
        self._tell(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all of it now."""
        self._tell(signal.SIGINT)

    def let_go(self) -> None:
        """Close our end; the keeper, if it lives, goes on alone."""
        if self._child is not None:
            for stream in (self._child.stdin, self._child.stdout):
                if stream:
                    stream.close()

    def _tell(self, number: int) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)
            return
        with contextlib.suppress(OSError):
            if self.kept():
                os.kill(int(self.status["guard_pid"]), number)
            elif self._command_alive():
                # The keeper was killed: the command leads a group of its own, and nobody else is in it.
                os.killpg(int(self.status["pid"]), signal.SIGKILL if number == signal.SIGINT else number)

    def _command_alive(self) -> bool:
        """Whether the command lives although nobody keeps it; what has ended properly has said so."""
        status = self.status
        return status.get("ended") is None and process.alive(status.get("pid"), status.get("pid_ticks"))


def launch(start: Start, fields: Mapping[str, Any]) -> Process:
    """Record `attempt_started` and let the command run; it executes nothing before that line is on disk.

    Args:
        start: what.
        fields: of the event, beside those that are known here (command, pid, host, ...).

    Raises:
        ComponentMissing: if the program or the folder does not exist or cannot be executed; nothing is recorded then.
        ComponentFailed: if the keeper does not start, or the system refuses to execute the program. The latter stands
            in the record: the attempt has ended with exit 127.
        UsageError: if the experiment's folder is not writable.
    """
    program = find_program(start)
    log, status = log_path(start.folder, start.attempt), status_path(start.folder, start.attempt)
    with files.explaining(log, then=FREE_SPACE):
        log.parent.mkdir(parents=True, exist_ok=True)
    child = _keeper(start, program, log, status)
    taken = Process(start.folder, start.attempt, child)
    try:
        pid = _heard(child, log)
        append_event(
            start.folder,
            "attempt_started",
            start.attempt,
            {
                "command": list(start.command),
                "cwd": str(start.cwd),
                "pid": pid,
                "host": system.host(),
                "boot_id": system.boot_id(),
                "process_started": system.process_started(pid),
                "watcher_pid": os.getpid(),
                **fields,
            },
        )
    except BaseException as error:
        taken.let_go()
        child.wait(10)
        if isinstance(error, OSError):
            raise files.explained(error, start.folder) from error
        raise
    _release(child, start, taken)
    return taken


def find_program(start: Start) -> str:
    """The path of the command's program.

    Raises:
        ComponentMissing: if it or the working directory does not exist, or it cannot be executed.
    """
    name = start.command[0]
    if not start.cwd.is_dir():
        raise ComponentMissing("the working directory does not exist", where=str(start.cwd))
    path = Path(start.cwd, name)
    if os.sep not in name:
        found = shutil.which(name, path=start.env.get("PATH", os.environ.get("PATH")))
        if found:
            return str(Path(found).absolute())
        if path.is_file():
            raise ComponentMissing(
                f"{name!r} is a file here and no program", next=f"`python {name}` or `./{name}` after `--`"
            )
    elif path.is_file():
        if os.access(path, os.X_OK):
            return str(path)
        raise ComponentMissing(
            f"the file {name!r} may not be executed",
            where=str(path),
            next=f"`chmod +x {name}`, or call its interpreter",
        )
    raise ComponentMissing(
        f"the program {name!r} does not exist", next="install it, or name it by its full path, after `--`"
    )


def found(folder: Path, attempt: int) -> Process:
    """An attempt that another watcher started."""
    return Process(folder, attempt)


def conclude(taken: Process, *, stopped: bool) -> dict[str, Any]:
    """Write `attempt_ended` from what the keeper left, or `lost` if it left nothing; returns the line's fields.

    Args:
        taken: a process that runs no more.
        stopped: somebody asked for the end.

    Raises:
        UsageError, ComponentFailed: if the line cannot be written.
    """
    fields = ending_of(taken.status, stopped=stopped)
    fields["log_tail"] = log_tail(
        log_path(taken.folder, taken.attempt), int(taken.status.get("log_offset") or 0)
    )
    with files.explaining(taken.folder / "events.jsonl", then=FREE_SPACE):
        append_event(taken.folder, "attempt_ended", taken.attempt, fields)
    return fields


def ending_of(status: Mapping[str, Any], *, stopped: bool) -> dict[str, Any]:
    """Outcome, exit code, signal and resources out of a keeper's status."""
    code = status.get("exit_code")
    if not isinstance(code, int):
        return {"outcome": "lost", "exit_code": None, "signal": None, "resources": {}}
    number = -code if code < 0 else code - 128 if code > 128 else 0
    try:
        sent = signal.Signals(number) if number else None
    except ValueError:
        sent = None
    if code > 0 and sent not in DELIBERATE:
        sent = None  # 139 may be a program's own exit code
    if stopped or status.get("ending") in ("cancelled", "timed_out"):
        outcome = "stopped"
    elif sent in DELIBERATE:
        outcome = "killed"
    else:
        outcome = "exited" if code == 0 else "crashed"
    return {
        "outcome": outcome,
        "exit_code": code if code >= 0 else None,
        "signal": sent.name if sent else None,
        "resources": dict(status.get("resources") or {}),
    }


def _keeper(start: Start, program: str, log: Path, status: Path) -> subprocess.Popen[bytes]:
    config = {
        "command": [program, *start.command[1:]],
        "cwd": str(start.cwd),
        "log": str(log),
        "log_limit_bytes": LOG_LIMIT_BYTES,
        "status": str(status),
        "timeout_s": start.limit_s,
        "grace_s": start.grace_s,
        "unwatched": (
            f"the watcher (process {os.getpid()}) is gone; the training goes on. "
            f"`assay train --attach {start.folder.name}` watches it again"
        ),
        "info": {
            "label": f"{start.folder.name} attempt {start.attempt}",
            "command": list(start.command),
            "cwd": str(start.cwd),
            "log": str(log),
            "owner_pid": os.getpid(),
            "owner_ticks": guard.start_ticks(os.getpid()),
        },
    }
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(KEEPER), json.dumps(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **start.env},
        start_new_session=True,
    )


def _heard(child: subprocess.Popen[bytes], log: Path) -> int:
    """The keeper's first line: the pid of the command that waits."""
    assert child.stdout is not None
    message = _line(child.stdout)
    if isinstance(pid := message.get("pid"), int):
        return pid
    if isinstance(code := message.get("errno"), int):
        raise OSError(code, os.strerror(code), str(log))
    raise ComponentFailed(
        "the keeper of the attempt did not start", failure_class=FailureClass.INFRA_TRANSIENT
    )


def _release(child: subprocess.Popen[bytes], start: Start, taken: Process) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"g")
    child.stdin.flush()
    message = _line(child.stdout)
    if message.get("executed") is True:
        return
    taken.wait(10)
    taken.let_go()
    conclude(taken, stopped=False)
    raise ComponentFailed(
        f"{start.command[0]} cannot be executed: {message.get('error', 'the keeper ended without a word')}",
        failure_class=FailureClass.USER_CONFIG_ERROR,
        where=start.folder.name,
        next="name a program that this machine can run after `--`",
    )


def _line(stream: IO[bytes]) -> Mapping[str, Any]:
    readable, _, _ = select.select([stream], [], [], START_LIMIT_S)
    try:
        message = json.loads(stream.readline()) if readable else {}
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def python_of(command: Sequence[str]) -> bool:
    """Whether a command looks like Python: its output is then asked to be unbuffered."""
    return Path(command[0]).name.startswith(("python", "torchrun", "accelerate"))
