"""Reading files that are still being written: whole lines only, whatever the bytes are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20
LINE_LIMIT_BYTES = 8 << 20
"""A longer line is no line of ours: it is dropped and counted."""


class Tail:
    """Follows one file of JSON lines. A half-written last line waits for its rest; bad lines are counted.

    A file that was replaced or cut is read again from its start, and `restarts` counts it.

    Args:
        path: need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bad_lines = 0
        self.restarts = 0
        self.grown = False
        """Whether the last `read` found new bytes."""
        self._offset = 0
        self._rest = b""
        self._inode: int | None = None
        self._skipping = False

    def read(self) -> list[dict[str, Any]]:
        """The objects of all lines completed since the last call; empty if the file is absent or unreadable."""
        return list(self._objects())

    def finish(self) -> list[dict[str, Any]]:
        """What is left when nobody writes any more: a last line without its newline counts if it is whole."""
        found = self.read()
        rest, self._rest = self._rest, b""
        last = self._object(rest) if rest.strip() else None
        return [*found, last] if last is not None else found

    def _objects(self) -> Iterator[dict[str, Any]]:
        self.grown = False
        for chunk in self._chunks():
            self.grown = True
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            if self._skipping and lines:
                lines, self._skipping = lines[1:], False
            if len(self._rest) > LINE_LIMIT_BYTES:
                if not self._skipping:
                    self.bad_lines += 1
                self._rest, self._skipping = b"", True
            for line in lines:
                found = self._object(line) if line.strip() else None
                if found is not None:
                    yield found

    def _chunks(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                told = os.fstat(file.fileno())
                if (self._inode is not None and told.st_ino != self._inode) or told.st_size < self._offset:
                    self.restarts += 1
                    self._offset, self._rest, self._skipping = 0, b"", False
                self._inode = told.st_ino
                file.seek(self._offset)
                while chunk := file.read(CHUNK_BYTES):
                    self._offset += len(chunk)
                    yield chunk
        except OSError:
            # Not there yet, or a share that is away for a moment: the next read tries again.
            return

    def _object(self, line: bytes) -> dict[str, Any] | None:
        try:
            found = json.loads(line, parse_int=_integer)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, Mapping):
            self.bad_lines += 1
            return None
        return dict(found)


def _integer(text: str) -> int | float:
    """Python refuses to read integers of thousands of digits; nothing of ours is that long."""
    return int(text) if len(text) < 300 else float("inf")
