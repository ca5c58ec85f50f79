"""What every harness reader shares: a bounded look at files, and plain JSON out of whatever they hold."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from assay.core.canon import digest_bytes
from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact
from assay.core.results import Results

MAX_DOCUMENT_BYTES = 2**30
"""Largest file that is read."""

MAX_LINE_BYTES = 64 * 2**20
MAX_FILES = 20_000
MAX_DEPTH = 4
EXACT_INTEGER = 2**53
"""Beyond this an integer is no number of canonical JSON."""


class Asked(NamedTuple):
    """What the caller wants to be read."""

    subject: str
    metrics: Mapping[str, str]
    """Task → the metric to judge by, where the harness computed several."""


class Harness(Protocol):
    """One results format. A new harness is one file with one such object, named in `READERS`."""

    name: str

    def claims(self, source: Source) -> bool:
        """Whether the content is of this harness. Never raises for bad bytes."""
        ...

    def read(self, source: Source, asked: Asked) -> Results:
        """Read it.

        Raises:
            UnreadableInput: if nothing can be made of it; a damaged row is an entry in `errors` instead.
        """
        ...


class Source:
    """A file or folder that holds results.

    Args:
        path: what the user named; it must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_dir = path.is_dir()

    @cached_property
    def document(self) -> Any:
        """The file as JSON.

        Raises:
            UnreadableInput: if it is no JSON document.
        """
        return load_json(self.path)

    def holds_document(self) -> bool:
        """Whether the path is a file with a JSON document in it."""
        try:
            return not self.is_dir and self.document is not None
        except UnreadableInput:
            return False

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All files of the folder, sorted, at most four levels deep.

        Raises:
            UnreadableInput: if it holds more files than a results folder does.
        """
        found: list[Path] = []
        for folder, names, files in os.walk(self.path):
            depth = len(Path(folder).relative_to(self.path).parts)
            names[:] = sorted(names) if depth < MAX_DEPTH else []
            found += [Path(folder) / name for name in files]
            if len(found) > MAX_FILES:
                raise UnreadableInput(
                    f"more than {MAX_FILES} files: this is no results folder",
                    where=str(self.path),
                    next="name the folder of one evaluation",
                )
        return tuple(sorted(found))


def load_json(path: Path) -> Any:
    """A JSON document; bare `NaN` and infinities are kept as floats for the reader to mark.

    Raises:
        UnreadableInput: if the file cannot be read, is too large, or holds no JSON.
    """
    data = read_bytes(path)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # ValueError: syntax, encoding, integers of too many digits
        raise UnreadableInput(f"no JSON document: {clip(error)}", where=str(path)) from error


def read_bytes(path: Path) -> bytes:
    """The bytes of a file of at most 1 GiB.

    Raises:
        UnreadableInput: if it cannot be read or is larger.
    """
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise UnreadableInput(f"larger than {MAX_DOCUMENT_BYTES} bytes", where=str(path))
        return path.read_bytes()
    except OSError as error:
        raise UnreadableInput(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def json_lines(data: bytes) -> Iterator[tuple[int, Any]]:
    """Line number and value of each non-blank line; a damaged line comes as a `Damaged`."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE_BYTES:
            yield number, Damaged(f"longer than {MAX_LINE_BYTES} bytes")
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, Damaged(clip(error))


class Damaged(NamedTuple):
    """A line that holds no JSON."""

    why: str


def artifact(path: Path, data: bytes) -> Artifact:
    """The pin of a file that was read."""
    return Artifact(path=text(path), digest=digest_bytes(data), size_bytes=len(data))


def text(value: Any, limit: int = 4000) -> str:
    """Any value as text that canonical JSON can hold: lone surrogates replaced, cut to `limit` characters."""
    return str(value).encode("utf-8", "replace").decode()[:limit]


def clip(value: Any) -> str:
    """A value in at most 200 characters, for a message of one line."""
    return " ".join(text(value, 200).split())


def number(value: Any) -> float | None:
    """A finite number as float; None for everything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def count(value: Any) -> int | None:
    """A whole number, 350.0 included as JSON knows one kind of number; None for everything else."""
    exact = number(value)
    return int(exact) if exact is not None and exact.is_integer() and abs(exact) < EXACT_INTEGER else None


def flat(prefix: str, value: Any) -> dict[str, Any]:
    """A nested JSON value as dotted keys over plain values; lists are kept as one text."""
    if isinstance(value, Mapping):
        return {k: v for name, part in value.items() for k, v in flat(f"{prefix}.{text(name)}", part).items()}
    return {prefix: plain(value)}


def plain(value: Any) -> Any:
    """A JSON scalar that can be hashed; anything else as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < EXACT_INTEGER else text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else text(value)
    return text(value) if isinstance(value, str) else text(json.dumps(value, sort_keys=True, default=str))


def row_digest(value: Any) -> str:
    """The first 128 bits of the SHA-256 of a JSON value, as hex: enough to tell rows apart."""
    data = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str).encode()
    return digest_bytes(data).removeprefix("sha256:")[:32]
