"""The in-memory twin of the ledger and the store, for tests and dry runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from assay.core.canon import canonical, digest
from assay.core.errors import LedgerBroken
from assay.core.events import GENESIS, Event, EventType, link_digest
from assay.ledger.clock import utc_now


class MemoryLedger:
    """Events in a list."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def append(self, type: EventType, study: str, data: Mapping[str, Any]) -> Event:
        """Add one event."""
        previous = link_digest(self._events[-1]) if self._events else GENESIS
        event = Event(
            seq=len(self._events) + 1,
            type=type,
            study=study,
            at=utc_now(),
            data=dict(data),
            previous=previous,
        )
        canonical(dict(data))  # what cannot be hashed must not be kept
        self._events.append(event)
        return event

    def read(self, after: int = 0) -> Iterator[Event]:
        """All events with a larger sequence number, in order."""
        yield from self._events[after:]


class MemoryStore:
    """Documents in a dictionary, by digest."""

    def __init__(self) -> None:
        self._documents: dict[str, Mapping[str, Any]] = {}

    def put(self, document: Mapping[str, Any]) -> str:
        """Keep a document; returns its digest."""
        key = digest(document)
        self._documents[key] = document
        return key

    def get(self, digest: str) -> Mapping[str, Any]:
        """The document with that digest.

        Raises:
            LedgerBroken: if it is absent.
        """
        try:
            return self._documents[digest]
        except KeyError:
            raise LedgerBroken(f"no stored document {digest}", where="store") from None
