"""The thread that writes: it takes what the training thread queued, and touches the disk so that training does not."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from assay.track import files, values

FLUSH_S = 0.25
"""Longest time that a row waits in memory."""
SYNC_S = 1.0
"""Longest time that a written row waits for the disk."""
YIELD_ROWS = 8
"""Rows between two moments at which the training thread may take the interpreter."""
BATCH_ROWS = 4_096
WAITING_LIMIT = 100_000
"""Rows in memory from which the training thread waits for the writer; beyond twice as many the oldest are dropped."""
WAIT_LIMIT_S = 1.0
SETTLED_S = 0.2
"""Without progress for so long the disk does not take rows: training does not wait for it."""


class Sink(Protocol):
    """A mirror of what is written; called in the writer thread, never in the training loop. It may raise."""

    def row(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl, as written."""

    def event(self, event: Mapping[str, Any]) -> None:
        """A line of events.jsonl, as written."""

    def close(self) -> None:
        """The run has ended; called once, in the thread that ends it."""


MIRROR_CLOSE_S = 60.0
"""MLflow on SQLite takes 15 s to end a run."""
StepItem = tuple[float, int, int | None, dict[str, Any], dict[str, Any] | None]
"""Monotonic time, step, epoch, metrics and signals as `values.settle` left them."""


class Mirrors:
    """The sinks of a run and their own thread: a foreign tracker that hangs delays nothing of ours."""

    def __init__(self, problem: Callable[[str, BaseException], None]) -> None:
        self._problem = problem
        self._sinks: list[Sink] = []
        self._queue: deque[tuple[str, Mapping[str, Any]]] = deque(maxlen=WAITING_LIMIT)
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def add(self, sink: Sink) -> None:
        """Mirror everything from now on."""
        self._sinks.append(sink)
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="assay-sinks", daemon=True)
            self._thread.start()

    def take(self, kind: str, record: Mapping[str, Any]) -> None:
        """Queue a `row` or an `event`; nothing where there is no sink."""
        if self._sinks:
            self._queue.append((kind, record))
            self._wake.set()

    def close(self, timeout_s: float = MIRROR_CLOSE_S) -> None:
        """Hand over what is left and close the sinks; one that does not return is left behind."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                self._problem("sinks", TimeoutError(f"a sink did not close within {timeout_s:g} s"))

    def _loop(self) -> None:
        while not self._closing:
            self._wake.wait()
            self._wake.clear()
            self._feed()
        self._feed()
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:  # noqa: BLE001 - a foreign tracker may raise anything
                self._problem(f"sink {type(sink).__name__}", error)

    def _feed(self) -> None:
        while self._queue:
            kind, record = self._queue.popleft()
            for sink in list(self._sinks):
                try:
                    (sink.row if kind == "row" else sink.event)(record)
                except Exception as error:  # noqa: BLE001 - a foreign tracker may raise anything; it is dropped
                    self._problem(f"sink {type(sink).__name__}", error)
                    self._sinks.remove(sink)


class Writer:
    """Queue, thread and file of the rows of one run.

    Args:
        path: metrics.jsonl.
        rows: makes the row of a queued step, and what must stand before it.
        written: called with each row after it was handed to the system.
        tick: called about every `FLUSH_S`, whether or not there were rows.
        problem: told of what failed; must not raise.
    """

    def __init__(
        self,
        path: Path,
        *,
        rows: Callable[[StepItem], Iterable[dict[str, Any]]],
        written: Callable[[Mapping[str, Any]], None],
        tick: Callable[[], None],
        problem: Callable[[str, BaseException], None],
    ) -> None:
        self.queue: deque[StepItem | dict[str, Any]] = deque()
        self.dropped = 0
        """Rows that were given up because the disk took none for too long."""
        self.settled_bytes: int | None = None
        """Length of the file after the last row that it took: every row up to there was told of by `written`."""
        self.mirrors = Mirrors(problem)
        self._path = path
        self._rows_of = rows
        self._written = written
        self._tick = tick
        self._problem = problem
        self._wake = threading.Event()
        self._closing = False
        self._one_at_a_time = threading.RLock()
        self._descriptor: int | None = None
        self._unwritten: list[bytes] = []
        self._unsynced = False
        self._synced_at = time.monotonic()
        self._progress_at = time.monotonic()
        self._thread = threading.Thread(target=self._loop, name="assay-track", daemon=True)

    def start(self) -> None:
        """Start the thread.

        Raises:
            OSError: if the file cannot be opened.
        """
        self._descriptor = files.open_append(self._path)
        self.settled_bytes = os.fstat(self._descriptor).st_size
        self._thread.start()

    def wake(self) -> None:
        """Write now, not at the next tick."""
        self._wake.set()

    def relieve(self) -> None:
        """The queue is long: wait for the writer, or give rows up if it makes no progress."""
        self._wake.set()
        limit = time.monotonic() + WAIT_LIMIT_S
        while len(self.queue) > WAITING_LIMIT // 2 and time.monotonic() < limit:
            if time.monotonic() - self._progress_at > SETTLED_S and len(self._unwritten) > BATCH_ROWS:
                break
            time.sleep(0.001)
        while len(self.queue) > 2 * WAITING_LIMIT:
            with contextlib.suppress(IndexError):
                self.queue.popleft()
                self.dropped += 1

    def flush(self, timeout_s: float, *, sync: bool = True) -> bool:
        """Write everything that is queued, in this thread; False if the writer is stuck."""
        if not self._one_at_a_time.acquire(timeout=timeout_s):
            return False
        try:
            self._cycle(sync=sync)
            return not self.queue and not self._unwritten
        finally:
            self._one_at_a_time.release()

    def close(self, timeout_s: float) -> bool:
        """Write what is left, end the thread and the sinks; False if something could not be written."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        done = self.flush(timeout_s)
        self.mirrors.close()
        if done and self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        return done

    def abandon(self) -> None:
        """In a forked copy: no thread runs here and the locks may be held for ever; let go of everything."""
        self.queue = deque()
        self.mirrors = Mirrors(self._problem)
        self._closing = True
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _loop(self) -> None:
        while not self._closing:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            with self._one_at_a_time:
                if self._closing:
                    return
                self._guard("writer", self._cycle)

    def _cycle(self, *, sync: bool = False) -> None:
        while self.queue:
            batch = self._take()
            for at, row in enumerate(self._rows(batch)):
                try:
                    self._unwritten.append(files.encode(row))
                    self._written(row)
                except Exception as error:  # noqa: BLE001 - one bad row must not take the others with it
                    self._problem("row", error)
                self.mirrors.take("row", row)
                if at % YIELD_ROWS == YIELD_ROWS - 1:
                    time.sleep(0)
            self._put()
        self._put()
        now = time.monotonic()
        if self._unsynced and self._descriptor is not None and (sync or now - self._synced_at >= SYNC_S):
            self._guard("fsync", lambda: os.fsync(self._descriptor))  # type: ignore[arg-type]
            self._unsynced = False
            self._synced_at = now
        self._guard("tick", self._tick)

    def _take(self) -> list[StepItem | dict[str, Any]]:
        batch: list[StepItem | dict[str, Any]] = []
        with contextlib.suppress(IndexError):
            while len(batch) < BATCH_ROWS:
                batch.append(self.queue.popleft())
        return batch

    def _rows(self, batch: list[StepItem | dict[str, Any]]) -> Iterator[dict[str, Any]]:
        held = [
            value
            for item in batch
            if isinstance(item, tuple)
            for place in (item[3], item[4] or {})
            for value in place.values()
            if type(value) is values.Kept
        ]
        known = values.fetch(held) if held else {}
        for item in batch:
            if isinstance(item, dict):
                yield item
                continue
            for place in (item[3], item[4] or {}) if held else ():
                for name, value in place.items():
                    if type(value) is values.Kept:
                        place[name] = known.get(id(value))
            try:
                yield from self._rows_of(item)
            except Exception as error:  # noqa: BLE001 - one bad row must not take the others with it
                self._problem("row", error)

    def _put(self) -> None:
        """Hand the encoded rows to the system; what it does not take stays for the next time."""
        if not self._unwritten or self._descriptor is None:
            self._progress_at = time.monotonic()
            return
        try:
            files.append(self._descriptor, b"".join(self._unwritten))
        except OSError as error:
            self._problem("metrics.jsonl", error)
            surplus = len(self._unwritten) - WAITING_LIMIT
            if surplus > 0:
                del self._unwritten[:surplus]
                self.dropped += surplus
            return
        self._unwritten.clear()
        self.settled_bytes = os.fstat(self._descriptor).st_size
        self._unsynced = True
        self._progress_at = time.monotonic()

    def _guard(self, where: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - the thread must outlive whatever fails in it
            self._problem(where, error)
