"""The ledger in SQLite: WAL, one transaction an event, UPDATE and DELETE refused by triggers, digests chained."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from assay.core.canon import canonical
from assay.core.errors import LedgerBroken, LedgerError
from assay.core.events import GENESIS, Event, EventType, link_digest
from assay.ledger.clock import utc_now

SCHEMA = "ledger/1"
LOCK_LIMIT_S = 10.0
"""How long one who writes waits for another."""

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
CREATE TRIGGER IF NOT EXISTS event_counts AFTER INSERT ON event
    BEGIN INSERT OR REPLACE INTO meta VALUES ('appended', CAST(NEW.seq AS TEXT)); END;
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
                next="`assay run SPEC` starts a study; its ledger lies in the folder it is started in",
            )
        try:
            if create and not path.exists():
                _make(path)
            self._db = _connect(path)
            if create and self._lacking():
                _lay(self._db)
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
                except (ValueError, TypeError, RecursionError) as error:
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

    def appended(self) -> int | None:
        """How many events were ever appended; None where an older Assay did not count."""
        try:
            row = self._db.execute("SELECT value FROM meta WHERE key = 'appended'").fetchone()
            return None if row is None else int(row[0])
        except sqlite3.Error as error:
            raise self._error(error) from error
        except ValueError as error:
            raise LedgerBroken("its count of events is no number", where=str(self.path)) from error

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def _lacking(self) -> bool:
        """An older Assay made the tables, or died while it made them."""
        made = "SELECT count(*) FROM sqlite_master WHERE name IN ('event', 'meta', 'event_counts')"
        known = "SELECT count(*) FROM meta WHERE key = 'schema'"
        return bool(self._db.execute(made).fetchone()[0] < 3 or self._db.execute(known).fetchone()[0] == 0)

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
            seq = row[0] + 1
            last = dict(zip(("seq", "type", "study", "at", "data", "previous"), row, strict=True))
            try:
                previous = link_digest(Event.from_json({**last, "data": json.loads(row[4])}))
            except (ValueError, TypeError, RecursionError) as error:
                what = f"event {row[0]} is damaged: nothing can follow it"
                raise LedgerBroken(what, where=str(self.path), next="`assay verify STUDY`") from error
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
            "disk I/O": "see that the disk is well and has free space, then `assay resume`",
            "no such table": "it was never finished: remove it, and start again",
            "not a database": "the file is damaged: restore it from a backup or an exported bundle",
            "malformed": "the file is damaged: restore it from a backup or an exported bundle",
        }
        remedy = next((a for key, a in advice.items() if key in text), "")
        return LedgerError(f"cannot use the ledger: {text}", where=str(self.path), next=remedy)


def _make(path: Path) -> None:
    """The file appears whole or not at all; where another process was faster, its file stays."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        db = _connect(aside)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            _lay(db)
        finally:
            db.close()
        with suppress(FileExistsError):
            os.link(aside, path)
    except OSError:
        pass  # a disk without links: it is made in its place
    finally:
        for left in path.parent.glob(f"{aside.name}*"):
            left.unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(_address(path), uri=True, isolation_level=None, timeout=LOCK_LIMIT_S)
    db.execute("PRAGMA synchronous = FULL")
    return db


def _lay(db: sqlite3.Connection) -> None:
    """All tables at once."""
    db.executescript(f"BEGIN IMMEDIATE;{_DDL}")
    db.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (SCHEMA,))
    db.execute("COMMIT")


def _address(path: Path) -> str:
    """SQLite makes files beside a WAL database even to read it; where it cannot, the file alone is read."""
    final = path.exists() and not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    return path.absolute().as_uri() + ("?immutable=1" if final else "")
