"""The iterator around a loader: how long the loop waited for data, and how many batches it took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
LOOKED_AT = 10
"""One batch in so many is looked at."""
LOOKED_AT_START = 10
"""And so many of the first ones, one by one."""


class Clock:
    """Times of the loop between two step rows. Written and read by the training thread alone."""

    __slots__ = ("_cpu", "_data", "_paused", "_row_at", "batches", "depth", "inside")

    def __init__(self) -> None:
        self._data = 0.0
        self._paused = 0.0
        self._row_at: float | None = None
        self._cpu = 0.0
        self.batches = 0
        """Batches that the training loop took since the run began, those of earlier attempts included."""
        self.inside = False
        """Whether the training loop runs over a tracked loader now."""
        self.depth = 0
        """Open phases that are no training."""

    def waited(self, seconds: float) -> None:
        """The loop waited for a batch."""
        self._data += seconds

    @contextlib.contextmanager
    def phase(self, *, training: bool) -> Iterator[None]:
        """The time of the block belongs to no step, unless it is training."""
        begun, cpu, inside = time.monotonic(), time.process_time(), self.inside
        self.depth += not training
        self.inside = False
        try:
            yield
        finally:
            self.depth -= not training
            self.inside = inside
            if not training and self.depth == 0:
                self._paused += time.monotonic() - begun
                self._cpu += time.process_time() - cpu

    def restart(self) -> None:
        """What comes next is a new stretch: the time since the last row says nothing about a step."""
        self._row_at = None

    def row(self, now: float, steps: int) -> dict[str, float]:
        """Signals of the row that is written now, per step; empty for the first row of a stretch."""
        cpu = time.process_time()
        since, self._row_at = self._row_at, now
        before, self._cpu = self._cpu, cpu
        data, self._data = self._data, 0.0
        paused, self._paused = self._paused, 0.0
        if since is None:
            return {}
        steps = steps if steps > 0 else 1
        found = {
            "step_s": max(0.0, now - since - paused) / steps,
            "step_cpu_s": max(0.0, cpu - before) / steps,
        }
        if self.inside:
            found["data_wait_s"] = data / steps
        return found


class Tracked(Generic[T]):
    """A loader whose iteration is timed; everything else is the loader's own."""

    def __init__(self, loader: Iterable[T], clock: Clock, check: Any, look: Any = None) -> None:
        self._look = look
        self._loader = loader
        self._clock = clock
        self._check = check

    def __len__(self) -> int:
        return len(self._loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process the loader stands alone."""
        return _same, (self._loader,)

    def __iter__(self) -> Iterator[T]:
        clock = self._clock
        training = clock.depth == 0
        if not training:
            yield from self._loader
            return
        outer = clock.inside
        try:
            begun = time.monotonic()
            source = iter(self._loader)
            while True:
                self._check()
                try:
                    batch = next(source)
                except StopIteration:
                    return
                clock.waited(time.monotonic() - begun)
                clock.batches += 1
                clock.inside = True
                if self._look is not None and (
                    clock.batches % LOOKED_AT == 0 or clock.batches <= LOOKED_AT_START
                ):
                    self._look(batch)
                yield batch
                begun = time.monotonic()
        finally:
            clock.inside = outer
            if not outer:
                clock.restart()


def _same(loader: Any) -> Any:
    return loader
