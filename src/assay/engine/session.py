"""The session that the engine lends an adapter for one attempt of one step."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from assay.core.ports import Execute, Session
from assay.core.run import Run, Work
from assay.engine.observer import Observer, Progress

T = TypeVar("T")
Keep: TypeAlias = Callable[[str, Callable[[Session], AbstractContextManager[Any]]], Any]


class RecordedExecute:
    """The `execute` port, with every finished run reported once."""

    def __init__(self, inner: Execute, record: Callable[[Run], None]) -> None:
        self._inner = inner
        self._record = record
        self._open: dict[str, float] = {}

    def submit(self, work: Work) -> str:
        """Start the work; see `core.ports.Execute`."""
        handle = self._inner.submit(work)
        self._open.setdefault(handle, time.monotonic())
        return handle

    def poll(self, handle: str, timeout_s: float = 0.0) -> Run:
        """How the run stands; see `core.ports.Execute`."""
        return self._seen(handle, self._inner.poll(handle, timeout_s))

    def cancel(self, handle: str) -> Run:
        """End the run; see `core.ports.Execute`."""
        return self._seen(handle, self._inner.cancel(handle))

    def cancel_all(self) -> None:
        """End whatever the adapter left running."""
        for handle in sorted(self._open):
            self.cancel(handle)

    def _seen(self, handle: str, run: Run) -> Run:
        if run.exit_code is None:
            return run
        started = self._open.pop(handle, None)
        if (
            run.wall_s is None
        ):  # its own record was lost, on a full disk for one; whoever waits must hear of the end
            elapsed = 0.0 if started is None else time.monotonic() - started
            run = run.model_copy(update={"wall_s": round(elapsed, 3)})
        if started is not None:
            self._record(run)
        return run


class StepSession:
    """See `core.ports.Session`."""

    def __init__(
        self,
        *,
        workdir: Path,
        seed: int,
        execute: RecordedExecute,
        observer: Observer,
        context: Progress,
        deadline: float | None,
        keep: Keep,
    ) -> None:
        self.workdir = workdir
        self.seed = seed
        self.execute: Execute = execute
        self._observer = observer
        self._context = context
        self._deadline = deadline
        self._keep = keep

    def note(self, message: str, done: float | None = None) -> None:
        """Tell the person watching what goes on."""
        c = self._context
        self._observer.tell(
            Progress("note", trial=c.trial, candidate=c.candidate, step=c.step, message=message, done=done)
        )

    def remaining_s(self) -> float | None:
        """Seconds of wall-time budget left; None without a limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def keep(self, key: str, start: Callable[[Session], AbstractContextManager[T]]) -> T:
        """Something that later steps of the trial may use again; see `core.ports.Session`."""
        kept: T = self._keep(key, start)
        return kept
