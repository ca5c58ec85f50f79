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
from typing import Any

COARSE_S = 0.002
"""Waits from here on are left to the system's own millisecond timer until shortly before their end."""
FINEST_SPAN_NS = 50_000
"""Busy spans below this are counted in sum only."""


class StampedSelector(selectors.DefaultSelector):
    """The system's selector, with a stamp and a record of busy spans."""

    def __init__(self) -> None:
        super().__init__()
        self.stamp_ns = time.perf_counter_ns()
        """When the events now being handled were reported. Each has arrived by then."""
        self._spans = array("q")
        self._busy_ns = 0
        self._since_ns = self.stamp_ns
        self._epoll = self.fileno() if hasattr(self, "fileno") and hasattr(select, "epoll") else -1

    def select(self, timeout: float | None = None) -> list[Any]:
        """Wait for events; everything since the last wait was our own work."""
        span = time.perf_counter_ns() - self.stamp_ns
        self._busy_ns += span
        if span >= FINEST_SPAN_NS:
            self._spans.append(span)
        if timeout is not None and timeout > 0 and 0 <= self._epoll < 1024:
            if timeout < COARSE_S:
                select.select([self._epoll], [], [], timeout)
                timeout = 0
            else:
                timeout -= COARSE_S / 2  # wake early: the loop asks again for the rest
        events = super().select(timeout)
        self.stamp_ns = time.perf_counter_ns()
        return events

    def watch(self) -> None:
        """Begin a new record."""
        self._spans, self._busy_ns = array("q"), 0
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
