"""Files of lines and JSON, of any bytes: nothing here raises for what a file holds, and nothing waits for a pipe."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.errors import UnreadableInput

LINE_LIMIT_BYTES = 4 << 20
"""A longer line is a bad line."""
FILE_LIMIT_BYTES = 16 << 20
"""Largest file that is read whole."""
DEPTH_LIMIT = 40
NODES_LIMIT = 100_000
"""Values of one document; YAML aliases can stand for more than memory holds."""
EXACT_INTEGER = 2**53
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class Line(NamedTuple):
    """One line of a file."""

    number: int
    """From 1."""
    data: bytes
    """Without the newline; empty if it is too long."""
    sealed: bool
    """A newline ends it. The last line of a file that is being written may have none."""
    too_long: bool = False


def mode_of(path: Path) -> int:
    """`st_mode` of what lies there; 0 if nothing does.

    Raises:
        UnreadableInput: if the operating system refuses to tell: that is not the same as nothing.
    """
    try:
        return path.stat().st_mode
    except ValueError:
        return 0
    except OSError as error:
        if error.errno in _NOT_THERE:
            return 0
        raise refused(error, path) from error


def refused(error: OSError, path: Path) -> UnreadableInput:
    """The error to raise where the operating system does not let us read."""
    return UnreadableInput(f"cannot read: {error.strerror or error}", where=str(path))


def regular(path: Path) -> bool:
    """Whether this is a file with bytes in it, and no pipe, device or folder.

    Raises:
        UnreadableInput: if the operating system refuses to tell.
    """
    return stat.S_ISREG(mode_of(path))


def require_readable(path: Path) -> None:
    """Refuse a file that is there and may not be opened; one that is not there may come yet.

    Raises:
        UnreadableInput: if the operating system refuses.
    """
    if regular(path) and not os.access(path, os.R_OK):
        raise refused(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), path)


def require_folder(path: Path) -> None:
    """Refuse what is no folder of an experiment.

    Raises:
        UnreadableInput: if it is none, or the operating system refuses to tell.
    """
    if not stat.S_ISDIR(mode_of(path)):
        raise UnreadableInput("no such folder", where=str(path), next="`assay experiment list`")


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file; a file that is not there has none.

    Raises:
        UnreadableInput: if the operating system refuses to read it.
    """
    if not regular(path):
        return
    try:
        with path.open("rb") as file:
            number = 0
            while data := file.readline(LINE_LIMIT_BYTES):
                number += 1
                sealed = data.endswith(b"\n")
                if sealed or len(data) < LINE_LIMIT_BYTES:
                    yield Line(number, data[:-1] if sealed else data, sealed)
                    continue
                while (more := file.readline(LINE_LIMIT_BYTES)) and not more.endswith(b"\n"):
                    pass
                yield Line(number, b"", bool(more), too_long=True)
    except OSError as error:
        raise refused(error, path) from error


def read_bytes(path: Path, limit: int = FILE_LIMIT_BYTES) -> bytes | None:
    """All bytes of a file; None if it is not there or no regular file.

    Raises:
        UnreadableInput: if it is larger than the limit or cannot be read.
    """
    if not regular(path):
        return None
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise refused(error, path) from error
    if len(data) > limit:
        raise UnreadableInput(f"larger than {limit >> 20} MiB", where=str(path))
    return data


def parse_object(data: bytes) -> dict[str, Any] | None:
    """A JSON object; bare NaN and Infinity come through as floats. None if it is no object."""
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def plain(value: Any) -> Any:
    """Any parsed value as JSON that has one canonical form: non-finite numbers and huge integers become text."""
    return _plain(value, 0, [NODES_LIMIT])


def plain_object(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same for an object."""
    found: dict[str, Any] = plain(value)
    return found


def _plain(value: Any, depth: int, budget: list[int]) -> Any:
    budget[0] -= 1
    if budget[0] < 0 or depth > DEPTH_LIMIT:
        return "..."
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int):
        return value if abs(value) < EXACT_INTEGER else _digits(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {clean(_key(k)): _plain(v, depth + 1, budget) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v, depth + 1, budget) for v in value]
    return clean(str(value))


def clean(text: str) -> str:
    """Text without lone surrogates, which no UTF-8 holds."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(plain(key))


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than Python converts
        return "a huge integer"
