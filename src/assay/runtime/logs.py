"""Logs of child processes: text out of any bytes, short enough to keep, without secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path

TAIL_LINES = 60
TAIL_BYTES = 8_000
_SECRET_NAME = re.compile(r"(_KEY|_TOKEN|_SECRET|PASSWORD)$")
_SECRET_MIN_CHARS = 8


def log_tail(path: Path, offset: int = 0, lines: int = TAIL_LINES, limit_bytes: int = TAIL_BYTES) -> str:
    """The end of a log from `offset` on, in text that any bytes can be turned into, secrets blanked out."""
    try:
        with path.open("rb") as handle:
            end = handle.seek(0, os.SEEK_END)
            handle.seek(max(offset, end - limit_bytes))
            data = handle.read(limit_bytes)
    except OSError:
        return ""
    # A progress bar rewrites its line: only the last state of it says something.
    text = _redacted(data).replace("\r\n", "\n").strip("\n")
    kept = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return "\n".join(kept[-lines:])


def log_text(path: Path, offset: int = 0, limit_bytes: int = 2_000_000) -> str:
    """A log from `offset` on, for the signatures: its beginning and its end if it is over the limit."""
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END) - offset
            handle.seek(offset)
            if size <= limit_bytes:
                return _redacted(handle.read(limit_bytes))
            head = handle.read(limit_bytes // 2)
            handle.seek(-limit_bytes // 2, os.SEEK_END)
            return _redacted(head) + "\n" + _redacted(handle.read(limit_bytes // 2))
    except OSError:
        return ""


def _redacted(data: bytes) -> str:
    text = data.decode("utf-8", "replace").replace("\0", "")
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name.upper()) and len(value) >= _SECRET_MIN_CHARS:
            text = text.replace(value, f"<{name}>")
    return text
