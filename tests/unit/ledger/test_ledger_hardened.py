"""Crashes, odd disks and forged rows: the ledger stays usable, and what does not hold is named."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import sqlite3
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.core.canon import canonical
from assay.core.errors import LedgerBroken, LedgerBusy, LedgerError
from assay.core.events import Event, EventType, chain, link_digest
from assay.core.history import replay
from assay.ledger.bundle import Bundle, write_bundle
from assay.ledger.home import FileStore, Home
from assay.ledger.sqlite import _DDL, SqliteLedger
from assay.ledger.verify import Check, verify_chain, verify_study
from assay.testing.fakes import FakeComponents, Script


def fill(ledger: SqliteLedger, count: int = 3) -> None:
    """A few events."""
    for n in range(count):
        ledger.append(EventType.STEP_STARTED, "s-1", {"n": n})


def tampered(path: Path, statement: str, *values: Any) -> None:
    """Change rows behind the triggers."""
    with sqlite3.connect(path) as db:
        db.execute("DROP TRIGGER IF EXISTS event_is_final")
        db.execute("DROP TRIGGER IF EXISTS event_stays")
        db.execute(statement, values)
    db.close()


# --- creating ------------------------------------------------------------------------------------------------


def test_killed_while_it_was_created(tmp_path: Path) -> None:
    """Tables without the word for their schema: the next run finishes them."""
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as db:
        db.executescript(_DDL)
    db.close()
    fill(SqliteLedger(path))
    assert len(list(SqliteLedger(path, create=False).read())) == 3


def _open_home(folder: str) -> int:
    Home(Path(folder), create=True).ledger.append(EventType.STEP_STARTED, "s-1", {})
    return 1


@pytest.mark.slow
def test_many_may_create_it_at_once(tmp_path: Path) -> None:
    """Whoever comes first makes the tables, all others find them whole."""
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        with multiprocessing.get_context("spawn").Pool(6) as pool:
            assert sum(pool.map(_open_home, [str(folder)] * 6)) == 6
        assert all(c.ok for c in verify_chain(Home(folder).ledger.read()))


def test_a_resumed_study_writes_as_safely_as_a_new_one(tmp_path: Path) -> None:
    """Each commit reaches the disk, also where the ledger was only opened."""
    SqliteLedger(tmp_path / "ledger.db").close()
    again = SqliteLedger(tmp_path / "ledger.db", create=False)
    assert again._db.execute("PRAGMA synchronous").fetchone() == (2,)


# --- documents -----------------------------------------------------------------------------------------------


def test_a_document_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    """Power was lost before its bytes were on disk: whoever stores it again gets it whole."""
    store = FileStore(tmp_path)
    key = store.put({"a": 1})
    store.path(key).write_bytes(b"")
    assert store.put({"a": 1}) == key
    assert store.get(key) == {"a": 1}


def test_the_name_of_a_document_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is flushed as the file is: an event must never name a document that a power cut takes away."""
    flushed: list[bool] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        flushed.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", seen)
    FileStore(tmp_path).put({"a": 1})
    assert flushed[0] is False
    assert flushed.count(True) >= 2, "the folder of the file, and the one that holds that folder"


# --- the lock ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_no_other_assay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Some network disks cannot lock: that is said, and nobody is sent to wait for a process that is not there."""
    home = Home(tmp_path / ".assay", create=True)

    def refused(_file: Any, _how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(LedgerError, match="cannot lock") as caught, home.writing():
        pytest.fail("written without a lock")
    assert not isinstance(caught.value, LedgerBusy)
    assert "ASSAY_HOME" in str(caught.value)


def test_a_lock_file_that_was_removed_locks_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed between open and lock: the lock is taken on the file that is there, not on one that nobody can find."""
    home = Home(tmp_path / ".assay", create=True)
    path = tmp_path / ".assay" / "writer.lock"
    path.touch()
    flock = fcntl.flock
    removed: list[bool] = []

    def racing(file: Any, how: int) -> None:
        if not removed:
            removed.append(True)
            path.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", racing)
    again = Home(tmp_path / ".assay", create=True)
    with home.writing():
        assert path.read_text() == str(os.getpid())
        with pytest.raises(LedgerBusy), again.writing():
            pytest.fail("two writers")


# --- forged rows ---------------------------------------------------------------------------------------------

FORGED = {
    "nan": '{"n": NaN}',
    "huge": '{"n": 123456789012345678901234567890}',
    "surrogate": '{"n": "\\ud800"}',
    "deep": '{"n": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "list": "[1]",
    "cut": '{"n": 1',
    "empty": "",
}


@pytest.mark.parametrize("data", FORGED.values(), ids=list(FORGED))
def test_data_that_cannot_be_hashed_is_a_broken_link(tmp_path: Path, data: str) -> None:
    """Whatever stands in a row, it is named and nothing crashes, in the middle and at the end."""
    for seq in (2, 3):
        path = tmp_path / str(seq) / "ledger.db"
        path.parent.mkdir()
        fill(SqliteLedger(path))
        tampered(path, "UPDATE event SET data = ? WHERE seq = ?", data, seq)
        with pytest.raises(LedgerBroken):
            _require_whole(verify_chain(SqliteLedger(path).read()))
        if seq == 3:
            with pytest.raises(LedgerBroken, match="event 3"):
                fill(SqliteLedger(path), 1)


def _require_whole(checks: Any) -> None:
    for check in checks:
        if not check.ok:
            raise LedgerBroken(check.detail)


@pytest.mark.parametrize(
    ("column", "value"), [("type", "nonsense"), ("study", b"\xff"), ("at", ""), ("previous", "x")]
)
def test_columns_of_nonsense_are_a_broken_link(tmp_path: Path, column: str, value: Any) -> None:
    """No column can be given any value without notice."""
    path = tmp_path / "ledger.db"
    fill(SqliteLedger(path))
    cast = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
    tampered(path, f"UPDATE event SET {column} = {cast} WHERE seq = 2", value)
    with pytest.raises(LedgerError):
        _require_whole(verify_chain(SqliteLedger(path).read()))


# --- forged studies ------------------------------------------------------------------------------------------


def checks(home: Home, events: list[Event]) -> list[Check]:
    """All checks of these events."""
    components = FakeComponents(Script())
    history = replay(events)["fake-1"]
    found = list(verify_chain(events))
    return [*found, *verify_study(history, home.store, components.gate, components.pin)]


def relinked(events: list[Event], drop: int) -> list[Event]:
    """The chain without one event, with all digests made anew."""
    kept: list[Event] = []
    for event in events:
        if event.seq != drop:
            previous = link_digest(kept[-1]) if kept else event.previous
            kept.append(chain(len(kept) + 1, event.type, event.study, event.at, event.data, previous))
    return kept


def test_a_chain_that_was_linked_anew_shows(home: Home) -> None:
    """Whoever drops an event and mends the digests after it leaves Decisions that name another head."""
    events = list(home.ledger.read())
    assert not [c for c in checks(home, events) if c.ok is False]
    for event in events:
        if event.type in (EventType.STEP_STARTED, EventType.RUN_FINISHED):
            found = [c for c in checks(home, relinked(events, event.seq)) if c.ok is False]
            assert any(c.what == "decision" and "head" in c.detail for c in found), event.seq


# --- bundles -------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(home: Home, tmp_path: Path) -> Path:
    """A bundle of that study."""
    path = tmp_path / "out.zip"
    write_bundle(path, "fake-1", home.ledger.read(), home.store, b"<html>ACCEPT</html>")
    return path


def rewritten(path: Path, member: str, change: Callable[[bytes], bytes]) -> Path:
    """The bundle with one member changed."""
    made = path.with_name("forged.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name == member else data)
    return made


def whole(path: Path) -> list[Check]:
    """What a bundle says about itself."""
    found = Bundle(path)
    return [*verify_chain(found.links()), *found.sealed()]


def test_a_bundle_holds(bundle: Path) -> None:
    """Chain, head and report are looked at."""
    assert [c.what for c in whole(bundle) if c.ok] == ["chain", "chain", "report"]


def test_a_bundle_without_its_last_events_shows(bundle: Path) -> None:
    """A tail that was cut off breaks no link: the head that the bundle names tells."""
    forged = rewritten(bundle, "events.jsonl", lambda data: b"\n".join(data.splitlines()[:-2]) + b"\n")
    assert any(c.ok is False and "head" in c.detail for c in whole(forged))


def test_a_bundle_with_another_report_shows(bundle: Path) -> None:
    """The page that people read is part of what is promised."""
    forged = rewritten(bundle, "report.html", lambda data: data.replace(b"ACCEPT", b"REGRESSION"))
    assert any(c.ok is False and c.what == "report" for c in whole(forged))


def test_a_bundle_of_an_older_assay_still_holds(bundle: Path) -> None:
    """Without a digest of its report that cannot be looked at, and nothing is broken."""

    def without(data: bytes) -> bytes:
        about = json.loads(data)
        del about["report"]
        return canonical(about)

    old = whole(rewritten(bundle, "bundle.json", without))
    assert [c.ok for c in old if c.what == "report"] == [None]
    assert not [c for c in old if c.ok is False]


# --- what a forger who links the whole chain anew leaves behind ------------------------------------------------


def forged(home: Home, change: Callable[[Event, dict[str, Any]], None]) -> list[Check]:
    """What fails after every event was passed through `change`, with all digests and heads made right again."""
    made: list[Event] = []
    for event in home.ledger.read():
        data = json.loads(canonical(dict(event.data)))
        change(event, data)
        previous = link_digest(made[-1]) if made else event.previous
        if event.type is EventType.DECISION_RECORDED:
            data["decision"]["head"] = previous
        made.append(chain(event.seq, event.type, event.study, event.at, data, previous))
    return [c for c in checks(home, made) if c.ok is False]


def lines_of(data: dict[str, Any], gate: str) -> list[dict[str, Any]]:
    """The lines of a gate in an event."""
    found = [data["line"]] if "line" in data else data.get("decision", {}).get("gates", [])
    return [line for line in found if line["gate"] == gate]


def first_trial(data: dict[str, Any]) -> bool:
    """Whether an event is about the refused candidate."""
    return str(data.get("trial", data.get("decision", {}).get("trial"))) == "fake-1-1"


def decided(data: dict[str, Any], word: str) -> None:
    """Put another word into a Decision."""
    if "decision" in data:
        data["decision"]["outcome"] = word


def test_a_chain_linked_anew_without_a_change_holds(home: Home) -> None:
    """The helper itself breaks nothing."""
    assert forged(home, lambda _event, _data: None) == []


@pytest.mark.parametrize(("key", "value"), [("shadow", True), ("required", False)])
def test_a_gate_that_was_made_not_to_count_shows(home: Home, key: str, value: bool) -> None:
    """The plan says which gates count; a failing one that a line calls a shadow would be folded away."""

    def change(_event: Event, data: dict[str, Any]) -> None:
        if first_trial(data):
            for line in lines_of(data, "score"):
                line[key] = value

    assert any("score" in c.where and "plan" in c.detail for c in forged(home, change))


@pytest.mark.parametrize("step", ["somewhere", "build", "final"])
def test_a_verdict_that_was_moved_to_another_step_shows(home: Home, step: str) -> None:
    """A step that does not ask a gate gives no verdict of it, so that none escapes being derived again."""

    def change(_event: Event, data: dict[str, Any]) -> None:
        for line in lines_of(data, "score"):
            line["step"] = step

    assert any("score" in c.where for c in forged(home, change))


def test_a_verdict_about_the_evidence_of_another_trial_shows(home: Home) -> None:
    """The stored verdict of the good candidate, shown for the bad one, can be derived again: from other evidence."""
    history = replay(home.ledger.read())["fake-1"]
    good = history.trials["fake-1-2"].gates["score"].to_json()

    def change(_event: Event, data: dict[str, Any]) -> None:
        if first_trial(data):
            for line in lines_of(data, "score"):
                line.update(good)
            decided(data, "ACCEPT")

    assert any("fake-1-1 score" in c.where and "evidence" in c.detail for c in forged(home, change))


def test_a_passing_verdict_without_evidence_shows(home: Home) -> None:
    """Only a verdict that could not be given may name no evidence."""
    history = replay(home.ledger.read())["fake-1"]
    good = home.store.get(history.trials["fake-1-2"].gates["score"].verdict)
    key = home.store.put({**good, "reads": {}})

    def change(_event: Event, data: dict[str, Any]) -> None:
        for line in lines_of(data, "score"):
            if not first_trial(data):
                line["verdict"] = key

    assert any("fake-1-2 score" in c.where and "evidence" in c.detail for c in forged(home, change))


def test_other_words_for_a_verdict_show(home: Home) -> None:
    """What a line tells people is what the stored verdict says."""

    def change(_event: Event, data: dict[str, Any]) -> None:
        for line in lines_of(data, "score"):
            line["detail"] = "much better"

    assert any("score" in c.where and "line" in c.detail for c in forged(home, change))


def test_a_decision_about_another_artifact_shows(home: Home) -> None:
    """What would be applied is what the trial built."""

    def change(_event: Event, data: dict[str, Any]) -> None:
        if "decision" in data and data["decision"]["facts"].get("artifact"):
            data["decision"]["facts"]["artifact"]["digest"] = "sha256:" + "1" * 64

    assert any(c.what == "decision" and "artifact" in c.detail for c in forged(home, change))


def test_a_decision_about_another_candidate_shows(home: Home) -> None:
    """The name and key in a Decision are those of its trial."""

    def change(_event: Event, data: dict[str, Any]) -> None:
        if "decision" in data:
            data["decision"]["candidate_key"] = "sha256:" + "1" * 64

    assert any(c.what == "decision" and "candidate" in c.detail for c in forged(home, change))


def test_a_study_closed_with_another_word_shows(home: Home) -> None:
    """The word of the study is the fold of its Decisions."""

    def change(event: Event, data: dict[str, Any]) -> None:
        if event.type is EventType.STUDY_CLOSED:
            data["outcome"] = "REGRESSION"

    assert [(c.what, c.where) for c in forged(home, change)] == [("decision", "fake-1 closed")]


# --- a tail that was cut off -----------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_ledger_without_its_last_events_shows(tmp_path: Path, left: int) -> None:
    """No link breaks where the end is cut off: the ledger counts what was appended."""
    path = tmp_path / "ledger.db"
    fill(SqliteLedger(path))
    assert SqliteLedger(path).appended() == 3
    tampered(path, "DELETE FROM event WHERE seq > ?", left)
    ledger = SqliteLedger(path, create=False)
    found = list(verify_chain(ledger.read(), ledger.appended()))
    assert [c.ok for c in found] == [False]
    assert f"{3 - left} of 3" in found[0].detail


def test_a_ledger_of_an_older_assay_is_counted_from_now_on(tmp_path: Path) -> None:
    """One without a count holds; once a new Assay writes to it, it has one."""
    path = tmp_path / "ledger.db"
    fill(SqliteLedger(path))
    tampered(path, "DELETE FROM meta WHERE key = 'appended'")
    tampered(path, "DROP TRIGGER event_counts")
    old = SqliteLedger(path, create=False)
    assert old.appended() is None
    assert all(c.ok for c in verify_chain(old.read(), old.appended()))
    fill(SqliteLedger(path), 1)
    assert SqliteLedger(path).appended() == 4


def test_a_full_disk_leaves_no_half_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file appears whole or not at all, so that the next command finds none, or one that it can read."""
    monkeypatch.setattr("assay.ledger.sqlite._DDL", "CREATE TABLE half (x); SELECT nonsense;")
    with pytest.raises(LedgerError):
        SqliteLedger(tmp_path / "ledger.db")
    assert list(tmp_path.iterdir()) == []
