"""The ledger in SQLite: WAL, one transaction an event, UPDATE and DELETE refused by triggers, digests chained."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assay.core.canon import canonical
from assay.core.errors import LedgerBroken, LedgerError
from assay.core.events import GENESIS, Event, EventType, link_digest
from assay.ledger.clock import utc_now

SCHEMA = "ledger/1"

_DDL = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    study TEXT NOT NULL,
    at TEXT NOT NULL,
    data TEXT NOT NULL,
    previous TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS event_study ON event (study, seq);
CREATE TRIGGER IF NOT EXISTS event_is_final BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no event is changed'); END;
CREATE TRIGGER IF NOT EXISTS event_stays BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no event is removed'); END;
"""


class SqliteLedger:
    """A ledger file. Any number of readers, one writer at a time.

    Args:
        path: the database file.
        create: make file and tables if they are not there.

    Raises:
        LedgerError: if the file cannot be opened, is no ledger, or is of a newer schema.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        if not create and not path.exists():
            raise LedgerError(
                "no ledger here",
                where=str(path),
                next="`assay run SPEC` starts a study; its ledger lies beside SPEC",
            )
        try:
            self._db = sqlite3.connect(_address(path), uri=True, isolation_level=None, timeout=10.0)
            if create:
                self._create()
            self._check_schema()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def append(self, type: EventType, study: str, data: Mapping[str, Any]) -> Event:
        """Add one event and make it durable.

        Raises:
            LedgerError: if it cannot be written (read-only, disk full, locked).
            ValueError: if the data is no canonical JSON.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                event = self._next(type, study, data)
                self._insert(event)
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._error(error) from error
        return event

    def read(self, after: int = 0) -> Iterator[Event]:
        """All events with a larger sequence number, in order.

        Raises:
            LedgerBroken: if a row is no event.
        """
        for row in self.rows(after):
            try:
                yield Event.from_json(row)
            except ValueError as error:
                first = str(error).splitlines()[0]
                raise LedgerBroken(
                    f"event {row['seq']} is unreadable: {first}", where=str(self.path)
                ) from error

    def rows(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """The events as plain JSON, for projections that must start fast."""
        query = "SELECT seq, type, study, at, data, previous FROM event WHERE seq > ? ORDER BY seq"
        try:
            for seq, type_, study, at, data, previous in self._db.execute(query, (after,)):
                try:
                    value = json.loads(data)
                except ValueError as error:
                    raise LedgerBroken(f"event {seq} is no JSON", where=str(self.path)) from error
                yield {
                    "seq": seq,
                    "type": type_,
                    "study": study,
                    "at": at,
                    "data": value,
                    "previous": previous,
                }
        except sqlite3.Error as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def _create(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if self._db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'event'").fetchone()[0] == 0:
            self._db.executescript(_DDL)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (SCHEMA,))

    def _check_schema(self) -> None:
        row = self._db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        if row is None or row[0] != SCHEMA:
            raise LedgerError(
                f"ledger schema is {row[0] if row else 'unknown'}, this Assay reads {SCHEMA}",
                where=str(self.path),
                next="use the version of Assay that wrote it",
            )

    def _next(self, type_: EventType, study: str, data: Mapping[str, Any]) -> Event:
        query = "SELECT seq, type, study, at, data, previous FROM event ORDER BY seq DESC LIMIT 1"
        row = self._db.execute(query).fetchone()
        seq, previous = 1, GENESIS
        if row is not None:
            last = dict(zip(("seq", "type", "study", "at", "data", "previous"), row, strict=True))
            last["data"] = json.loads(last["data"])
            seq, previous = last["seq"] + 1, link_digest(Event.from_json(last))
        return Event(seq=seq, type=type_, study=study, at=utc_now(), data=dict(data), previous=previous)

    def _insert(self, event: Event) -> None:
        data = canonical(dict(event.data)).decode()
        row = (event.seq, event.type.value, event.study, event.at, data, event.previous)
        self._db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", row)

    def _error(self, error: sqlite3.Error) -> LedgerError:
        text = str(error)
        advice = {
            "readonly": "make the folder writable, or set ASSAY_HOME to one that is",
            "unable to open": "make the folder writable, or set ASSAY_HOME to one that is",
            "disk is full": "free space on that disk, then `assay resume`",
            "locked": "wait for the other process, or look with `assay ls`",
            "not a database": "the file is damaged: restore it from a backup or an exported bundle",
            "malformed": "the file is damaged: restore it from a backup or an exported bundle",
        }
        remedy = next((a for key, a in advice.items() if key in text), "")
        return LedgerError(f"cannot use the ledger: {text}", where=str(self.path), next=remedy)


def _address(path: Path) -> str:
    """SQLite makes files beside a WAL database even to read it; where it cannot, the file alone is read."""
    final = path.exists() and not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    return path.absolute().as_uri() + ("?immutable=1" if final else "")
