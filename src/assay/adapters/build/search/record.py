"""What a search did, a line each: who goes through it again gets the same answers, and is told where it differs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.errors import ComponentFailed, UsageError
from assay.core.vocabulary import FailureClass
from assay.runtime.files import explaining, sync_dir

SCHEMA = "search/1"
LINE_LIMIT_BYTES = 8 << 20


class Record:
    """`search.jsonl`: a header, then what was asked of proposers and what became of each text.

    Args:
        path: the file; what a killed attempt left in it is gone through first. A torn last line is dropped.
        header: what the search depends on.

    Raises:
        UsageError: if the file belongs to another search, or is broken before its end.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self._at = 0
        self._lines = self._read()
        first = {"schema": SCHEMA, **_plain(header)}
        if not self._lines:
            self._append(first)
        elif self._lines[0] != first:
            changed = sorted(k for k in {*first, *self._lines[0]} if first.get(k) != self._lines[0].get(k))
            raise UsageError(
                f"the search that was begun here is another one: {', '.join(changed)} changed",
                where=str(path),
                next="start a new study; what was found for other inputs does not count here",
            )
        self._at = 1

    @property
    def again(self) -> bool:
        """Whether what comes next was done by an earlier attempt."""
        return self._at < len(self._lines)

    @property
    def lines(self) -> int:
        """Lines there are, the header included."""
        return len(self._lines)

    def next(self, kind: str) -> Mapping[str, Any] | None:
        """The next line of an earlier attempt; None where it ended.

        Raises:
            ComponentFailed: SYSTEMIC, if it is of another kind.
        """
        if not self.again:
            return None
        line = self._lines[self._at]
        if line.get("line") != kind:
            raise self._astray(f"a line {line.get('line')!r} stands where {kind!r} is due")
        self._at += 1
        return line

    def write(self, kind: str, value: Mapping[str, Any]) -> None:
        """Add a line, durably; where an earlier attempt wrote one, it must be the same.

        Raises:
            ComponentFailed: SYSTEMIC, if it is not; INFRA_TRANSIENT, if the disk is full.
        """
        line = {"line": kind, **_plain(value)}
        before = self.next(kind)
        if before is None:
            self._append(line)
            self._at = len(self._lines)
        elif before != line:
            keys = sorted(k for k in {*line, *before} if line.get(k) != before.get(k))
            raise self._astray(f"{', '.join(keys)} of a line {kind!r} differ")

    def _astray(self, why: str) -> ComponentFailed:
        return ComponentFailed(
            f"the search does not go the way that it went: {why}",
            failure_class=FailureClass.SYSTEMIC,
            where=f"{self.path}, line {self._at + 1}",
            next="another version of Assay began it: start a new study",
        )

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, sort_keys=True, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        with explaining(self.path):
            new = not self.path.exists()
            with self.path.open("ab") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            if new:
                sync_dir(self.path.parent)
        self._lines.append(line)

    def _read(self) -> list[dict[str, Any]]:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UsageError(f"cannot read: {error.strerror or error}", where=str(self.path)) from error
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            with explaining(self.path):
                os.truncate(self.path, len(whole))
        found = []
        for number, raw in enumerate(whole.splitlines(), 1):
            try:
                line = json.loads(raw)
            except (ValueError, RecursionError):
                line = None
            if not isinstance(line, dict):
                raise UsageError(
                    "a broken line", where=f"{self.path}, line {number}", next="start a new study"
                )
            found.append(line)
        return found


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it will be read back."""
    made: dict[str, Any] = json.loads(json.dumps(value))
    return made
