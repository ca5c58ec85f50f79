"""Verification: every kind of tampering is found and named; an untouched study holds."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from assay.core.errors import LedgerBroken, UnreadableInput
from assay.core.events import Event, EventType
from assay.core.history import replay
from assay.ledger.bundle import Bundle, write_bundle
from assay.ledger.home import Home
from assay.ledger.verify import Check, verify_chain, verify_study
from assay.testing.fakes import FakeComponents, Script


def checks(home: Home) -> list[Check]:
    """All checks of the study."""
    components = FakeComponents(Script())
    history = replay(home.ledger.read())["fake-1"]
    return list(verify_study(history, home.store, components.gate, components.pin))


def broken(home: Home) -> list[str]:
    """What does not hold."""
    return [f"{c.what} {c.where} {c.detail}" for c in checks(home) if c.ok is False]


def test_untouched_study_holds(home: Home) -> None:
    """Nothing is broken, and verdicts, Decisions and files were really looked at."""
    found = checks(home)
    assert [c for c in found if c.ok is False] == []
    assert {c.what for c in found if c.ok} == {"artifact", "document", "verdict", "decision"}


def test_changed_artifact_is_named(home: Home) -> None:
    """A weight file that changed after the Decision."""
    next(home.study("fake-1").glob("trial-2/build-1/artifact/weights")).write_text("other")
    assert any("fake-1-2 build" in text and "was changed" in text for text in broken(home))


def test_removed_artifact_is_named(home: Home) -> None:
    """A weight file that is gone."""
    next(home.study("fake-1").glob("trial-2/build-1/artifact/weights")).unlink()
    assert any("fake-1-2 build" in text for text in broken(home))


def test_changed_evidence_is_named(home: Home) -> None:
    """An evidence file that somebody improved."""
    for path in (home.folder / "evidence").rglob("*.json"):
        document = json.loads(path.read_text())
        if document.get("subject") == "a":
            document["measurements"][0]["value"] = 1.0
            path.write_text(json.dumps(document))
    assert any(text.startswith("document fake-1-1 evaluate") for text in broken(home))


def test_forged_verdict_is_named(home: Home) -> None:
    """A verdict that the gate would not give for that evidence, stored under its right digest."""
    rows = list(home.ledger.read())
    history = replay(rows)["fake-1"]
    line = history.trials["fake-1-1"].gates["score"]
    forged = {**home.store.get(line.verdict), "status": "PASS", "outcome": "ACCEPT"}
    key = home.store.put(forged)
    changes = {"verdict": key, "status": "PASS", "outcome": "ACCEPT"}
    history.trials["fake-1-1"].gates["score"] = type(line).from_json({**line.to_json(), **changes})
    found = verify_study(history, home.store, FakeComponents(Script()).gate, FakeComponents(Script()).pin)
    assert any(c.ok is False and "derived again it is FAIL" in c.detail for c in found)


def test_bundle_is_verified_without_the_ledger(home: Home, tmp_path: Path) -> None:
    """The exported bundle carries all that the verdicts rest on."""
    path = tmp_path / "out.zip"
    write_bundle(path, "fake-1", home.ledger.read(), home.store, b"<html>")
    bundle = Bundle(path)
    assert all(c.ok for c in verify_chain(bundle.links()))
    found = list(verify_study(bundle.history(), bundle, FakeComponents(Script()).gate, None))
    assert [c for c in found if c.ok is False] == []
    assert sum(c.what == "verdict" and c.ok is True for c in found) == 2


def test_bundle_hides_other_studies(home: Home, tmp_path: Path) -> None:
    """Of other studies a bundle holds digests alone, and the chain still holds."""
    home.ledger.append(EventType.STEP_STARTED, "secret-1", {"secret": "yes"})
    path = tmp_path / "out.zip"
    write_bundle(path, "fake-1", home.ledger.read(), home.store, b"")
    with zipfile.ZipFile(path) as bundle:
        assert b"secret" not in bundle.read("events.jsonl")
    assert all(c.ok for c in verify_chain(Bundle(path).links()))


def test_tampered_bundle_is_found(home: Home, tmp_path: Path) -> None:
    """An event edited inside the zip breaks the chain."""
    path, forged = tmp_path / "out.zip", tmp_path / "forged.zip"
    write_bundle(path, "fake-1", home.ledger.read(), home.store, b"")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(forged, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"REGRESSION", b"ACCEPT"))
    assert any(not c.ok for c in verify_chain(Bundle(forged).links()))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x00" * 100])
def test_any_bytes_are_no_bundle(tmp_path: Path, data: bytes) -> None:
    """A file that is no bundle is refused in one line."""
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    with pytest.raises(UnreadableInput, match="no Decision bundle"):
        Bundle(path)


def test_zip_without_events_is_broken(tmp_path: Path) -> None:
    """A zip that has the right first page and nothing else."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("bundle.json", '{"schema": "bundle/1", "study": "s", "head": ""}')
    with pytest.raises(LedgerBroken):
        Bundle(path).history()


def test_missing_event_is_named(home: Home) -> None:
    """A gap in the numbers is the first broken link."""
    events: list[Event] = list(home.ledger.read())
    del events[3]
    assert [c.where for c in verify_chain(events) if not c.ok] == ["event 4"]
