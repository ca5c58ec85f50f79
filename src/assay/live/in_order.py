"""Events and rows are two files; a judge must hear them in the order in which they happened."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assay.live.watch import moment_s

HOLD_S = 0.6
"""An event waits so long for the rows before it: the tracker writes events at once, and rows within 0.25 s."""


class InOrder:
    """Merges the two by their times. Live and read again later, the order is the same."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self._events: deque[tuple[float, Mapping[str, Any]]] = deque()
        self._latest = 0.0

    def merge(
        self,
        events: Sequence[Mapping[str, Any]],
        rows: Sequence[Mapping[str, Any]],
        *,
        now_s: float,
        more_rows: bool = False,
        all_of_it: bool = False,
    ) -> Iterator[Mapping[str, Any]]:
        """The lines that can be heard now.

        Args:
            events: new lines of events.jsonl, in their order.
            rows: new lines of metrics.jsonl, in their order.
            now_s: unix seconds.
            more_rows: the file of rows holds more than these: later events wait for them.
            all_of_it: nobody writes any more.
        """
        for line in events:
            self._latest = moment_s(line.get("time")) or self._latest
            self._events.append((self._latest, line))
        for row in rows:
            at = moment_s(row.get("timestamp"))
            while at is not None and self._events and self._events[0][0] <= at:
                yield self._events.popleft()[1]
            yield row
        until = float("inf") if all_of_it else now_s - self._hold_s
        while self._events and not more_rows and self._events[0][0] <= until:
            yield self._events.popleft()[1]
