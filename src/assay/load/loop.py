"""An event loop that knows when its events arrived, keeps its timers, and measures its own lateness.

Three things that a plain asyncio loop lacks when it is used as a measuring instrument:

1. A stamp taken when the kernel reported events, before any of them is handled: an event that waits behind 300
   others in the same batch is not late on our clock.
2. Timers finer than a millisecond: `epoll_wait` rounds up to whole ones, `select` on the epoll descriptor does not.
3. The time during which it was busy: how long an event waits that arrives at a random moment follows from that.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import time
from array import array
from collections.abc import Callable
from typing import Any

COARSE_S = 0.002
"""Waits from here on are left to the system's own millisecond timer until shortly before their end."""
FEWEST_SELECTABLE = 1024
"""`select` cannot wait for descriptors from here on."""
FINEST_SPAN_NS = 50_000
"""Busy spans below this are counted in sum only."""


class StampedSelector(selectors.DefaultSelector):
    """The system's selector, with a stamp, a record of busy spans, and sockets that it reads itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stamp_ns = time.perf_counter_ns()
        """When the events now being handled were reported. Each has arrived by then."""
        self._spans = array("q")
        self._since_ns = self.stamp_ns
        self._readers: dict[int, Callable[[], bool | None]] = {}
        epoll = getattr(self, "_selector", None) if hasattr(select, "epoll") else None
        self._poll = epoll.poll if epoll is not None and epoll.fileno() < FEWEST_SELECTABLE else None
        self._fd = self.fileno() if self._poll is not None else -1

    @property
    def reads_itself(self) -> bool:
        """Whether `read_with` has an effect; only on epoll."""
        return self._poll is not None

    def read_with(self, fd: int, reader: Callable[[], bool | None]) -> None:
        """Call a reader when a descriptor, registered otherwise, has bytes and nothing else.

        The way through the loop's queue costs more than reading a token. The reader returns True if the loop has
        something to do now, False if not, and None if it leaves the event to the loop.
        """
        if self._poll is not None:
            self._readers[fd] = reader

    def forget(self, fd: int) -> None:
        """The descriptor is no longer read here."""
        self._readers.pop(fd, None)

    def select(self, timeout: float | None = None) -> list[Any]:
        """Wait for events; everything since the last wait was our own work."""
        if self._poll is None:
            self._account()
            events = super().select(timeout)
            self.stamp_ns = time.perf_counter_ns()
            return events
        end = None if timeout is None else time.perf_counter() + timeout
        while True:
            self._account()
            found = self._wait(end)
            self.stamp_ns = time.perf_counter_ns()
            events, wanted = self._dispatch(found)
            if events or wanted or (end is not None and time.perf_counter() >= end):
                return events

    def _account(self) -> None:
        span = time.perf_counter_ns() - self.stamp_ns
        if span >= FINEST_SPAN_NS:
            self._spans.append(span)

    def _wait(self, end: float | None) -> list[tuple[int, int]]:
        """Events by descriptor, waiting until a moment at the longest."""
        assert self._poll is not None
        most = max(1, len(self.get_map()))
        if end is None:
            return list(self._poll(-1, most))
        left = end - time.perf_counter()
        if left >= COARSE_S:
            return list(self._poll(left - COARSE_S / 2, most))  # early: the rest is waited for below
        if left > 0:
            select.select([self._fd], [], [], left)
        return list(self._poll(0, most))

    def _dispatch(self, found: list[tuple[int, int]]) -> tuple[list[Any], bool]:
        """Read what is ours; the rest in the form that the loop takes, and whether it is wanted at once."""
        events: list[Any] = []
        wanted = False
        readers, keys = self._readers, self.get_map()
        for fd, mask in found:
            reader = readers.get(fd) if mask == select.EPOLLIN else None
            answer = reader() if reader is not None else None
            if answer is None:
                key = keys.get(fd)
                if key is not None:
                    writes = selectors.EVENT_WRITE if mask & ~select.EPOLLIN else 0
                    reads = selectors.EVENT_READ if mask & ~select.EPOLLOUT else 0
                    events.append((key, (writes | reads) & key.events))
            else:
                wanted = wanted or answer
        return events, wanted

    def watch(self) -> None:
        """Begin a new record."""
        self._spans = array("q")
        self._since_ns = self.stamp_ns = time.perf_counter_ns()

    def lag_ms(self, q: float) -> float:
        """What share `q` of events that arrive at random moments wait for us at most, in ms.

        An event that arrives within a busy span waits for the rest of it, so P(wait > x) is the sum of
        (span - x) over the longer spans, divided by the time watched.
        """
        watched = max(1, time.perf_counter_ns() - self._since_ns)
        allowed = (1.0 - q) * watched
        spans = sorted(self._spans, reverse=True)
        if not spans or sum(spans) <= allowed:
            return 0.0
        total = 0
        for n, span in enumerate(spans, 1):
            total += span
            following = spans[n] if n < len(spans) else 0
            # With x between the n-th span and the next, the waits sum to total - n * x.
            x = (total - allowed) / n
            if x >= following:
                return max(0.0, x) / 1e6
        return 0.0

    def longest_ms(self) -> float:
        """The longest busy span."""
        return max(self._spans, default=0) / 1e6


class MeasuringLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on a stamped selector."""

    def __init__(self) -> None:
        self.stamps = StampedSelector()
        super().__init__(self.stamps)

    def time(self) -> float:
        """The clock of everything that is measured, also for timers."""
        return time.perf_counter()
