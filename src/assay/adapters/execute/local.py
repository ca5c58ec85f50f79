"""Kind `local`: work runs as a child process of Assay, under a guard that ends it when Assay is gone."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from assay.core.base import Noun
from assay.core.canon import digest, short
from assay.core.errors import UsageError
from assay.core.ports import Component
from assay.core.run import Run, Work
from assay.core.vocabulary import Verb
from assay.runtime import process

RUNS = ".runs"
"""Folder beside a run's log that holds its status file."""


EXIT_LIMIT_S = 5.0
"""A guard that has written the end of its run leaves at once; more than this is never waited for."""


class Options(Noun):
    """How local processes are ended."""

    grace_s: float = Field(default=5.0, gt=0, le=600)
    """Seconds between SIGTERM and SIGKILL."""
    orphan_grace_s: float = Field(default=1.5, gt=0, le=60)
    """The same when Assay itself was killed."""


class Adapter:
    """The `execute` port on this machine. A handle is the path of the run's status file."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self._grace = process.Grace(self.options.grace_s, self.options.orphan_grace_s)
        self._running: dict[str, process.Guarded] = {}
        self._lock = threading.RLock()

    def check(self) -> Component:
        """It always can: it needs nothing but the operating system."""
        return Component(verb=Verb.EXECUTE, kind="local", state="ready", detail=f"{os.cpu_count()} CPUs")

    def submit(self, work: Work) -> str:
        """Start the work, or return the handle of the same work while it still runs.

        A label names one piece of work per folder of logs. What an Assay that is gone left running is ended
        first: there is never a second copy.

        Raises:
            ComponentMissing: if the program does not exist.
            UsageError: if another Assay runs this very work, or the same label still runs another command.
        """
        status = _status_path(work)
        handle = str(status)
        with self._lock:
            running = self._running.get(handle)
            if running is not None and not process.wait(running, 0.0):
                if running.work != work:
                    raise UsageError(f"{work.label!r} still runs another command", where=handle)
                return handle
            self._end_leftovers(status)
            self._running[handle] = process.start(work, status, self._grace)
        return handle

    def poll(self, handle: str, timeout_s: float = 0.0) -> Run:
        """How the run stands, after waiting at most `timeout_s` for its end.

        Raises:
            UsageError: if there was never such a run.
        """
        running = self._running.get(handle)
        if running is not None:
            ended = process.wait(running, timeout_s)
            run = self._record(handle, ended)
            if run.wall_s is not None and not ended:
                process.wait(running, EXIT_LIMIT_S)  # the end is written; the guard itself is still leaving
            return run
        deadline = time.monotonic() + timeout_s
        while self._guard_lives(Path(handle)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return self._record(handle, not self._guard_lives(Path(handle)))

    def cancel(self, handle: str) -> Run:
        """SIGTERM to the whole group, grace, SIGKILL. Returns when nothing of it is left.

        Raises:
            UsageError: if there was never such a run.
        """
        running = self._running.get(handle)
        if running is None:
            self._end_leftovers(Path(handle))
        else:
            process.stop_guard(running.guard, self._grace)
        return self._record(handle, ended=True)

    def _record(self, handle: str, ended: bool) -> Run:
        status = _known(handle)
        lost = ended and status["ended"] is None
        if lost:
            # The guard was killed: what it guarded may have outlived it.
            process.sweep(str(status["run_id"]))
        return process.run_of(status, lost=lost)

    def _guard_lives(self, status_path: Path) -> bool:
        status = process.read_status(status_path)
        return (
            status is not None
            and status["ended"] is None
            and process.alive(status["guard_pid"], status["guard_ticks"])
        )

    def _end_leftovers(self, status_path: Path) -> None:
        """Make sure that nothing of an earlier run of this label lives. Normally its guard has seen to it."""
        status = process.read_status(status_path)
        if status is None or status["ended"] is not None:
            return
        owner = status["owner_pid"]
        if owner != os.getpid() and process.alive(owner, status["owner_ticks"]):
            raise UsageError(
                f"{status['label']!r} is being run by another Assay, pid {owner}",
                where=str(status_path),
                next=f"wait for it, or end it with `kill {owner}`",
            )
        deadline = time.monotonic() + self.options.orphan_grace_s + 1.0
        while self._guard_lives(status_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._guard_lives(status_path):
            with contextlib.suppress(OSError):
                os.kill(int(status["guard_pid"]), 15)
            deadline = time.monotonic() + self.options.grace_s + 1.0
            while self._guard_lives(status_path) and time.monotonic() < deadline:
                time.sleep(0.05)
        process.sweep(str(status["run_id"]))


def _status_path(work: Work) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", work.label).strip("-.")[:60]
    return Path(work.log).absolute().parent / RUNS / f"{name}-{short(digest(work.label), 8)}.json"


def _known(handle: str) -> Mapping[str, Any]:
    status = process.read_status(Path(handle))
    if status is None:
        raise UsageError("no such run", where=handle)
    return status
