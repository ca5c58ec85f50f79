"""Lines are appended whole, numbered and chained; files are replaced whole."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.track import files

FORK = multiprocessing.get_context("spawn")


def chain(folder: Path) -> list[dict[str, object]]:
    """The events, with the chain checked over raw lines."""
    raw = (folder / "events.jsonl").read_bytes()
    assert raw.endswith(b"\n")
    before, found = files.FIRST, []
    for line in raw.split(b"\n")[:-1]:
        record = files.parse(line)
        if record is not None:
            assert record["previous"] == before
            found.append(record)
        before = hashlib.sha256(line).hexdigest()
    assert [r["seq"] for r in found] == list(range(1, len(found) + 1))
    return found


def test_events_are_numbered_and_chained(tmp_path: Path) -> None:
    """Each event carries its number and the digest of the line before."""
    for index in range(3):
        files.append_event(tmp_path, "note", 1, {"text": "ä" * index})
    assert [e["text"] for e in chain(tmp_path)] == ["", "ä", "ää"]


def test_a_half_line_stays_and_the_chain_goes_over_it(tmp_path: Path) -> None:
    """A line that a power loss cut is closed, kept, and chained."""
    files.append_event(tmp_path, "note", 1, {})
    with (tmp_path / "events.jsonl").open("ab") as handle:
        handle.write(b'{"schema": "exp')
    files.append_event(tmp_path, "note", 1, {})
    assert len(chain(tmp_path)) == 2


@given(st.binary(max_size=300))
def test_appending_after_any_bytes_works(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    """Whatever stands in the file, the next event is a line of its own and can be read."""
    folder = tmp_path_factory.mktemp("events")
    (folder / "events.jsonl").write_bytes(garbage)
    written = files.append_event(folder, "note", None, {"text": "x"})
    assert files.read_events(folder)[-1] == written


def test_a_line_longer_than_a_block_is_read_back(tmp_path: Path) -> None:
    """The last line is found however long it is."""
    files.append_event(tmp_path, "note", 1, {"text": "x" * (3 * files.BLOCK_BYTES)})
    files.append_event(tmp_path, "note", 1, {})
    assert len(chain(tmp_path)) == 2


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk took of a line is cut off again."""
    files.append_event(tmp_path, "note", 1, {})
    before = (tmp_path / "events.jsonl").read_bytes()

    def half(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", half)
        with pytest.raises(OSError, match="No space"):
            files.append_event(tmp_path, "note", 1, {})
    assert (tmp_path / "events.jsonl").read_bytes() == before


def _append_many(folder: str) -> None:
    for _ in range(25):
        files.append_event(Path(folder), "note", 1, {"pid": os.getpid()})


@pytest.mark.slow
def test_several_processes_append_to_one_chain(tmp_path: Path) -> None:
    """The tracker, the watcher and commands write at once; no line is lost, the chain holds."""
    workers = [FORK.Process(target=_append_many, args=(str(tmp_path),)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(chain(tmp_path)) == 100


def test_replacing_leaves_nothing_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced file is the old one or the new one, and the temporary file goes."""
    path = tmp_path / "status.json"
    files.write_atomic(path, b"old")

    def full(descriptor: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]
    assert path.read_bytes() == b"old"


def test_a_row_after_a_torn_row_is_a_line_of_its_own(tmp_path: Path) -> None:
    """metrics.jsonl that a killed attempt left half written goes on with a new line."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"event": "st')
    descriptor = files.open_append(path)
    files.append(descriptor, files.encode({"event": "step"}))
    os.close(descriptor)
    assert [files.parse(line) for line in path.read_bytes().split(b"\n")[1:2]] == [{"event": "step"}]
    assert json.loads(path.read_bytes().splitlines()[-1]) == {"event": "step"}
