"""Files of an experiment: a line is appended whole or not at all, a replaced file is the old one or the new one.

Several processes write events.jsonl (the tracker, the watcher, commands): each appends under a lock on the file itself
and chains its line to the digest of the line before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # a system without flock: one writer at a time is then up to the user
    fcntl = None

EVENT_SCHEMA = "experiment-event/1"
FIRST = "0" * 64
"""`previous` of the first line."""
BLOCK_BYTES = 1 << 16
LINE_LIMIT_BYTES = 16 << 20
"""A line longer than this is not looked at for its sequence number."""

_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def encode(record: Mapping[str, Any]) -> bytes:
    """One line of strict JSON in ASCII, with its newline.

    Raises:
        ValueError, TypeError: if the record holds what `values.plain` has not been asked to clean.
    """
    return (_ENCODER.encode(record) + "\n").encode("ascii")


def digest_of_line(record: Mapping[str, Any]) -> str:
    """SHA-256 in hex of a line without its newline: what the next event calls `previous`."""
    return hashlib.sha256(encode(record)[:-1]).hexdigest()


def utc(seconds: float | None = None) -> str:
    """ISO 8601 in UTC with microseconds and `Z`, of now or of unix seconds."""
    now = time.time() if seconds is None else seconds
    whole = int(now // 1)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((now - whole) * 1e6):06d}Z"


@contextlib.contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Hold the exclusive lock of an open file; the kernel releases it if we die."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextlib.contextmanager
def folder_lock(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Hold the lock file of a folder.

    Raises:
        OSError: if it cannot be opened.
    """
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with locked(descriptor):
            yield
    finally:
        os.close(descriptor)


def claim(path: Path) -> int | None:
    """Take a lock file for as long as this process lives; None if another holds it.

    Raises:
        OSError: if it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if fcntl is None:
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        # A file system without locks (some network mounts): tracking goes on, unguarded.
        return descriptor
    return descriptor


def write_atomic(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write aside, flush, rename; `sync=False` for what is derived and may be lost with the power.

    Raises:
        OSError: if the disk is full or the folder not writable; nothing is left aside.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            write_all(descriptor, data)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte.

    Raises:
        OSError: if the disk does not take them.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def append(descriptor: int, data: bytes) -> None:
    """Append to an open file; what a full disk took of it is cut off again.

    Raises:
        OSError: if the disk does not take it.
    """
    end = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        write_all(descriptor, data)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, end)
        raise


def open_append(path: Path) -> int:
    """Open a file of lines for appending; a half line that a killed writer left is closed by a newline.

    Raises:
        OSError: if it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    end = os.lseek(descriptor, 0, os.SEEK_END)
    if end and os.pread(descriptor, 1, end - 1) != b"\n":
        write_all(descriptor, b"\n")
    return descriptor


def append_event(
    folder: Path, event: str, attempt: int | None = None, fields: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Append one event to events.jsonl: numbered, chained, on disk when this returns.

    Args:
        folder: of the experiment.
        event: its kind, as in docs/decisions/0011.
        attempt: counted from 1, or None if it belongs to none.
        fields: of the kind; must be JSON without NaN.

    Returns:
        The line as written.

    Raises:
        OSError: if the disk does not take it; the file is then as before.
        ValueError, TypeError: if `fields` is no strict JSON.
    """
    path = folder / "events.jsonl"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        with locked(descriptor):
            last, sequence, sealed = _last(descriptor)
            record = {
                "schema": EVENT_SCHEMA,
                "seq": sequence + 1,
                "time": utc(),
                "event": event,
                "attempt": attempt,
                "previous": FIRST if last is None else hashlib.sha256(last).hexdigest(),
                **(fields or {}),
            }
            append(descriptor, (b"" if sealed else b"\n") + encode(record))
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if last is None:
        sync_folder(folder)
    return record


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Every readable event of an experiment; bad lines are left out, a missing file has none."""
    try:
        data = (folder / "events.jsonl").read_bytes()
    except OSError:
        return []
    found = []
    for line in data.split(b"\n"):
        record = parse(line)
        if record is not None and isinstance(record.get("event"), str):
            found.append(record)
    return found


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def parse(line: bytes) -> dict[str, Any] | None:
    """A line as an object; None if it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def read_object(path: Path) -> dict[str, Any] | None:
    """A file as one JSON object; None if it is missing or none."""
    try:
        return parse(path.read_bytes())
    except OSError:
        return None


def _last(descriptor: int) -> tuple[bytes | None, int, bool]:
    """Last line without newline (None: no line), the sequence number before ours, whether a newline ends the file.

    A half line that a crash left stays a line: the chain runs over it, and its number is taken from before it.
    """
    end = os.lseek(descriptor, 0, os.SEEK_END)
    if end == 0:
        return None, 0, True
    sealed = os.pread(descriptor, 1, end - 1) == b"\n"
    last: bytes | None = None
    for line in _lines_backwards(descriptor, end):
        if last is None:
            last = line
        record = parse(line)
        number = record.get("seq") if record else None
        if isinstance(number, int) and not isinstance(number, bool):
            return last, number, sealed
    return last, 0, sealed


def _lines_backwards(descriptor: int, end: int) -> Iterator[bytes]:
    """Lines from the last to the first, without newlines; the empty piece after the last newline is no line."""
    rest = b""
    first = True
    while end > 0:
        start = max(0, end - BLOCK_BYTES)
        rest = os.pread(descriptor, end - start, start) + rest
        end = start
        pieces = rest.split(b"\n")
        rest = pieces[0]
        for piece in reversed(pieces[1:]):
            if first and not piece:
                first = False
                continue
            first = False
            yield piece
        if len(rest) > LINE_LIMIT_BYTES:
            return
    yield rest
