"""A ledger that dies at one event, as kill -9 would."""

from __future__ import annotations

from typing import Any

from assay.core.events import EventType
from assay.ledger.memory import MemoryLedger


class Killed(BaseException):
    """Plays kill -9: nothing of ours may catch it."""


class DyingLedger(MemoryLedger):
    """Dies right before or right after an event is written."""

    def __init__(self, living: MemoryLedger, at: int, *, after: bool) -> None:
        self._events = living._events
        self.at = at
        self.after = after

    def append(self, type: EventType, study: str, data: Any) -> Any:
        """Append, or die."""
        if len(self._events) + 1 == self.at and not self.after:
            raise Killed
        event = super().append(type, study, data)
        if event.seq == self.at and self.after:
            raise Killed
        return event
