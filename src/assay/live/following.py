"""Files that others append to, read as they grow: whole lines only, in bounded pieces, over any bytes."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
from pathlib import Path
from typing import Any

READ_BYTES = 4 << 20
"""Most that one call reads: a watcher that starts late catches up over several calls."""
LINE_BYTES = 4 << 20
"""A longer line is skipped and counted."""


class Follow:
    """A file of JSON lines; also one that is not there yet, is cut, or is replaced.

    Args:
        path: the file.
        end: begin at its present end instead of its beginning.
    """

    def __init__(self, path: Path, *, end: bool = False) -> None:
        self.path = path
        self.bad = 0
        """Lines that were no JSON object."""
        self.more = False
        """Whether the last call left something unread."""
        self._held = b""
        self._skipping = False
        self._inode = 0
        self.offset = 0
        if end:
            with contextlib.suppress(OSError):
                found = path.stat()
                self.offset, self._inode = found.st_size, found.st_ino

    def new(self) -> list[dict[str, Any]]:
        """What was appended since the last call, as objects; a half last line waits for its rest."""
        found = []
        for line in self._lines():
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                found.append(value)
            else:
                self.bad += 1
        return found

    def _lines(self) -> list[bytes]:
        data = self._read()
        if not data:
            return []
        *lines, rest = (self._held + data).split(b"\n")
        if self._skipping and lines:
            lines, self._skipping = lines[1:], False
            self.bad += 1
        self._held = b"" if self._skipping else rest
        if len(self._held) > LINE_BYTES:
            self._held, self._skipping = b"", True
        return lines

    def _read(self) -> bytes:
        self.more = False
        try:
            # Without O_NONBLOCK a pipe in the file's place would stop us for ever.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return b""
        try:
            found = os.fstat(descriptor)
            if found.st_ino != self._inode or found.st_size < self.offset:
                self._inode, self.offset, self._held = found.st_ino, 0, b""
            data = os.pread(descriptor, READ_BYTES, self.offset)
        except OSError:
            return b""
        finally:
            os.close(descriptor)
        self.offset += len(data)
        self.more = len(data) == READ_BYTES
        return data


class FollowText:
    """A log as it grows, as text: of a burst larger than `limit` only the end is shown, and it is said.

    Args:
        path: the file.
        offset: where to begin.
        limit: bytes that one call hands on at most.
    """

    def __init__(self, path: Path, offset: int = 0, limit: int = 256 << 10) -> None:
        self.path = path
        self.offset = offset
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def new(self) -> str:
        """What was appended since the last call."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size <= self.offset:
                    self.offset = size  # its middle was cut out: what comes next is appended
                    return ""
                skipped = max(0, size - self.offset - self._limit)
                file.seek(self.offset + skipped)
                data = file.read(self._limit)
        except OSError:
            return ""
        self.offset += skipped + len(data)
        text = self._decoder.decode(data)
        return f"[{skipped} bytes of output are only in the log]\n{text}" if skipped else text
