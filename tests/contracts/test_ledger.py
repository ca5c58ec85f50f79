"""The contract of a ledger and of a store, asked of every implementation."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import LedgerBroken, LedgerBusy, LedgerError
from assay.core.events import GENESIS, EventType, link_digest
from assay.core.ports import Ledger, Store
from assay.ledger.home import FileStore, Home, find_home
from assay.ledger.memory import MemoryLedger, MemoryStore
from assay.ledger.sqlite import SqliteLedger
from assay.ledger.verify import verify_chain


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each ledger that there is."""
    if request.param == "memory":
        yield MemoryLedger()
        return
    made = SqliteLedger(tmp_path / "ledger.db")
    yield made
    made.close()


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each store that there is."""
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "evidence")


def fill(ledger: Ledger, count: int = 5) -> None:
    """A few events."""
    for n in range(count):
        ledger.append(EventType.STEP_STARTED, "s-1", {"n": n, "text": "ä\u2028", "x": 0.1})


def test_events_come_back_in_order(ledger: Ledger) -> None:
    """What was appended is read, numbered from one without gaps."""
    fill(ledger)
    events = list(ledger.read())
    assert [e.seq for e in events] == [1, 2, 3, 4, 5]
    assert [e.data["n"] for e in events] == [0, 1, 2, 3, 4]
    assert events[0].data["text"] == "ä\u2028"
    assert [e.seq for e in ledger.read(after=3)] == [4, 5]


def test_each_event_names_the_one_before(ledger: Ledger) -> None:
    """The digests form a chain that begins at GENESIS."""
    fill(ledger)
    events = list(ledger.read())
    assert events[0].previous == GENESIS
    assert all(b.previous == link_digest(a) for a, b in pairwise(events))
    assert all(check.ok for check in verify_chain(events))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60, {1, 2}, b"x"])
def test_what_cannot_be_hashed_is_refused(ledger: Ledger, value: Any) -> None:
    """NaN, infinities, too large integers and other types are refused, and nothing is kept."""
    with pytest.raises(ValueError, match=r"JSON|JCS|int|float"):
        ledger.append(EventType.STEP_STARTED, "s-1", {"x": value})
    fill(ledger, 1)
    assert [e.seq for e in ledger.read()] == [1]


def test_documents_come_back(store: Store) -> None:
    """A document is found by its digest; the same document has one digest."""
    key = store.put({"b": [1, 2.5, None], "a": "é"})
    assert store.put({"a": "é", "b": [1, 2.5, None]}) == key
    assert store.get(key) == {"a": "é", "b": [1, 2.5, None]}


@pytest.mark.parametrize("key", ["sha256:" + "0" * 64, "x", "sha256:../../etc/passwd"])
def test_absent_document_is_named(store: Store, key: str) -> None:
    """Asking for what is not there, or for nonsense, is a broken link, not a crash."""
    with pytest.raises(LedgerBroken):
        store.get(key)


def test_sqlite_refuses_update_and_delete(tmp_path: Path) -> None:
    """The triggers hold for anyone who opens the file."""
    fill(SqliteLedger(tmp_path / "ledger.db"))
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        for statement in ("UPDATE event SET at = 'x'", "DELETE FROM event WHERE seq = 2"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE event SET data = replace(data, '\"n\":2', '\"n\":7') WHERE seq = 3",
        "DELETE FROM event WHERE seq = 3",
        "UPDATE event SET at = '2020-01-01T00:00:00.000000Z' WHERE seq = 3",
        "UPDATE event SET study = 'other' WHERE seq = 3",
    ],
)
def test_a_change_behind_the_triggers_is_found(tmp_path: Path, change: str) -> None:
    """Whoever drops the triggers and edits an event breaks the chain at it."""
    ledger = SqliteLedger(tmp_path / "ledger.db")
    fill(ledger)
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("DROP TRIGGER event_is_final")
        db.execute("DROP TRIGGER event_stays")
        assert db.execute(change).rowcount == 1
    db.close()
    broken = [c for c in verify_chain(ledger.read()) if not c.ok]
    assert len(broken) == 1
    assert broken[0].where in {"event 3", "event 4"}


@pytest.mark.parametrize("junk", [b"", b"not a database", b"SQLite format 3\x00" + b"\xff" * 4000])
def test_any_bytes_give_a_ledger_error(tmp_path: Path, junk: bytes) -> None:
    """A file that is no ledger is an error that names it."""
    path = tmp_path / "ledger.db"
    path.write_bytes(junk)
    with pytest.raises(LedgerError, match=r"ledger\.db"):
        list(SqliteLedger(path, create=False).read())


def test_changed_document_is_found(tmp_path: Path) -> None:
    """A stored document whose bytes changed is a broken link."""
    store = FileStore(tmp_path)
    key = store.put({"score": 0.9})
    store.path(key).write_text('{"score":1.0}')
    with pytest.raises(LedgerBroken, match="was changed"):
        store.get(key)


def test_second_writer_is_refused(tmp_path: Path) -> None:
    """Two runs at once: the second is told which process holds the ledger."""
    home = Home(tmp_path / ".assay", create=True)
    again = Home(tmp_path / ".assay", create=True)
    with home.writing(), pytest.raises(LedgerBusy, match="another assay is running"), again.writing():
        pytest.fail("two writers")
    with again.writing():
        pass


def test_home_is_found_upward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like `.git`: the nearest `.assay` upward; `ASSAY_HOME` wins."""
    (tmp_path / ".assay").mkdir()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_home(deep) == tmp_path / ".assay"
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "elsewhere"))
    assert find_home(deep) == tmp_path / "elsewhere"


def test_full_disk_is_an_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes no more bytes: where, and what to do; no half document is left."""

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LedgerError, match=r"No space left on device.*free space"):
        FileStore(tmp_path).put({"a": 1})
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_make_home_error_is_clear(tmp_path: Path) -> None:
    """A file where the folder must be."""
    (tmp_path / ".assay").write_text("")
    with pytest.raises(LedgerError, match="cannot write"):
        Home(tmp_path / ".assay", create=True)
