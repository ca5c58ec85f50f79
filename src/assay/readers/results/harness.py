"""What every harness reader shares: a bounded look at files, and plain JSON out of whatever they hold."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from assay.core.canon import PREFIX
from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact, Measurement
from assay.core.results import Results, TaskResult
from assay.readers.results.metrics import SHIPPED, MetricTable

MAX_DOCUMENT_BYTES = 256 * 2**20
"""Largest file that is read as one document. Files of rows are streamed and may be of any size."""

MAX_VALUES = 8_000_000
"""Most values (by commas and brackets) of one document: a parsed one costs up to 150 bytes each."""

MAX_LINE_BYTES = 64 * 2**20
MAX_FILES = 20_000
MAX_DEPTH = 6
HEAD_BYTES = 64 * 1024
CHUNK_BYTES = 4 * 2**20
EXACT_INTEGER = 2**53
"""Beyond this an integer is no number of canonical JSON."""


class Asked(NamedTuple):
    """What the caller wants to be read."""

    subject: str
    metrics: Mapping[str, str]
    """Task → the metric to judge by, where the harness computed several."""
    table: MetricTable = SHIPPED
    """Ranges, directions and planned sample counts."""


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

    @property
    def folder(self) -> Path:
        """The folder itself, or the one that the file lies in."""
        return self.path if self.is_dir else self.path.parent

    @cached_property
    def document(self) -> Any:
        """The file as JSON.

        Raises:
            UnreadableInput: if it is no JSON document.
        """
        return load_json(self.path)

    @cached_property
    def head(self) -> bytes:
        """The first 64 KiB of the file; empty for a folder or an unreadable file."""
        if self.is_dir:
            return b""
        try:
            with self.path.open("rb") as file:
                return file.read(HEAD_BYTES)
        except OSError:
            return b""

    def holds_document(self) -> bool:
        """Whether the path is a file with one JSON document in it."""
        if self.is_dir or self.head.lstrip()[:1] not in (b"{", b"["):
            return False
        try:
            return self.document is not None
        except UnreadableInput:
            return False

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All files of the folder, sorted, at most six levels deep; links out of it are not followed.

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

    def named(self, *names: str) -> list[Path]:
        """Files of the folder with one of these names; of a path to a file, that file if it has it."""
        return [f for f in (self.files if self.is_dir else (self.path,)) if f.name in names]


def load_json(path: Path) -> Any:
    """A JSON document; bare `NaN` and infinities are kept as floats for the reader to mark.

    Raises:
        UnreadableInput: if the file cannot be read, is too large, or holds no JSON.
    """
    return parse_json(read_bytes(path), str(path))


def parse_json(data: bytes, where: str) -> Any:
    """The value of a JSON document.

    Raises:
        UnreadableInput: if it is no JSON, or of so many values that it would fill the memory.
    """
    if len(data) > MAX_VALUES and sum(data.count(c) for c in (b",", b"[", b"{")) > MAX_VALUES:
        raise UnreadableInput(f"a document of more than {MAX_VALUES:,} values", where=where)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # ValueError: syntax, encoding, integers of too many digits
        raise UnreadableInput(f"no JSON document: {clip(error)}", where=where) from error


def quiet_json(path: Path) -> Any:
    """The document, or None where there is none."""
    try:
        return load_json(path)
    except UnreadableInput:
        return None


def read_bytes(path: Path, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The bytes of a file that is read whole.

    Raises:
        UnreadableInput: if it cannot be read or is larger than `limit`.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > limit:
                raise UnreadableInput(f"larger than {limit:,} bytes", where=str(path))
            data = file.read(limit + 1)
    except OSError as error:
        raise UnreadableInput(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    if len(data) > limit:  # a device or a file that grows
        raise UnreadableInput(f"larger than {limit:,} bytes", where=str(path))
    return data


class Damaged(NamedTuple):
    """A line that holds no JSON."""

    why: str


class Lines:
    """The non-blank lines of a file, streamed; afterwards `artifact` is the pin of the bytes that were read.

    The bytes are hashed by a second thread while the first one parses: OpenSSL lets go of the interpreter.

    Args:
        path: a file of any size.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hash = hashlib.sha256()
        self._size = 0

    def __iter__(self) -> Iterator[tuple[int, bytes | Damaged]]:
        """Line number and bytes; a line that is too long comes as `Damaged`.

        Raises:
            UnreadableInput: if the file cannot be read.
        """
        number = 0
        rest: list[bytes] = []
        rest_bytes = 0
        hashed: Future[None] | None = None
        try:
            with self.path.open("rb") as file, ThreadPoolExecutor(1) as beside:
                while chunk := file.read(CHUNK_BYTES):
                    if hashed is not None:
                        hashed.result()
                    hashed = beside.submit(self._hash.update, chunk)
                    self._size += len(chunk)
                    *whole, last = chunk.split(b"\n")
                    if whole:
                        first = self._joined(rest, rest_bytes, whole[0])
                        whole[0] = b""
                        number += 1
                        if isinstance(first, Damaged) or first.strip():
                            yield number, first
                        rest, rest_bytes = [], 0
                        for line in whole[1:]:
                            number += 1
                            if line and not line.isspace():
                                yield number, line
                    rest_bytes += len(last)
                    if rest_bytes <= MAX_LINE_BYTES:
                        rest.append(last)
        except OSError as error:
            raise UnreadableInput(
                f"cannot be read: {error.strerror or error}", where=str(self.path)
            ) from error
        line_ = self._joined(rest, rest_bytes, b"")
        if isinstance(line_, Damaged) or line_.strip():
            yield number + 1, line_

    @staticmethod
    def _joined(rest: list[bytes], rest_bytes: int, end: bytes) -> bytes | Damaged:
        if rest_bytes + len(end) > MAX_LINE_BYTES:
            return Damaged(f"longer than {MAX_LINE_BYTES} bytes")
        return b"".join([*rest, end]) if rest else end

    @property
    def artifact(self) -> Artifact:
        """The pin; complete once the lines were gone through."""
        return Artifact(path=text(self.path), digest=PREFIX + self._hash.hexdigest(), size_bytes=self._size)


def json_lines(lines: Lines) -> Iterator[tuple[int, Any]]:
    """Line number and value of each non-blank line; a damaged line comes as a `Damaged`."""
    for number_, line in lines:
        yield number_, line if isinstance(line, Damaged) else parse_line(line)


def parse_line(line: bytes) -> Any:
    """The JSON value of a line, or a `Damaged`."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return Damaged(clip(error))


def pin(path: Path) -> Artifact:
    """The pin of a file that is not read as lines.

    Raises:
        UnreadableInput: if it cannot be read.
    """
    sha256 = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                sha256.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise UnreadableInput(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    return Artifact(path=text(path), digest=PREFIX + sha256.hexdigest(), size_bytes=size)


def artifact(path: Path, data: bytes) -> Artifact:
    """The pin of a file that was read."""
    return Artifact(path=text(path), digest=PREFIX + hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def measured(tasks: Iterable[TaskResult]) -> tuple[Measurement, ...]:
    """The score of each task as a measurement `task/metric`, with its range and direction."""
    return tuple(
        Measurement.of(f"{t.task}/{t.metric}", t.score, low=t.low, high=t.high, direction=t.direction)
        for t in tasks
    )


def text(value: Any, limit: int = 4000) -> str:
    """Any value as text that canonical JSON can hold: lone surrogates replaced, cut to `limit` characters."""
    if type(value) is str and len(value) <= limit and value.isascii():
        return value
    try:
        return str(value)[:limit].encode("utf-8", "replace").decode()
    except (ValueError, RecursionError):  # an integer of too many digits; a list nested too deeply
        return f"a {type(value).__name__} too large to show"


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


def score_of(value: Any) -> float | None:
    """The score of one row: a finite number, or a boolean as 0 or 1; None for everything else."""
    return float(value) if isinstance(value, bool) else number(value)


def count(value: Any) -> int | None:
    """A whole number, 350.0 included as JSON knows one kind of number; None for everything else."""
    exact = number(value)
    return int(exact) if exact is not None and exact.is_integer() and abs(exact) < EXACT_INTEGER else None


def times(one: int | None, other: int | None) -> int | None:
    """The product of two counts; None where one is missing or it is beyond an exact integer."""
    return None if one is None or other is None else count(one * other)


def mapping(value: Any, *keys: str) -> Mapping[str, Any]:
    """The object under a path of keys; an empty one where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def listed(value: Any, *keys: str) -> list[Any]:
    """The list under a path of keys; an empty one where there is none."""
    found = mapping(value, *keys[:-1]).get(keys[-1]) if keys else value
    return found if isinstance(found, list) else []


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
    return text(value) if isinstance(value, str) else text(_ordered(value))


_ordered = json.JSONEncoder(sort_keys=True, ensure_ascii=True, default=str).encode


def row_digest(value: Any) -> str:
    """The first 128 bits of the SHA-256 of a JSON value, as hex: enough to tell rows apart."""
    return hashlib.sha256((_simple(value) or _ordered(value)).encode()).hexdigest()[:32]


def _simple(value: Any) -> str:
    """What the encoder would write of a list of plain texts, in a third of its time; empty for anything else."""
    if type(value) is not list or not value:
        return ""
    try:
        inside: str = '", "'.join(value)
    except TypeError:
        return ""
    plain_text = inside.isascii() and inside.isprintable() and "\\" not in inside
    return f'["{inside}"]' if plain_text and inside.count('"') == 2 * (len(value) - 1) else ""


def some(errors: list[str], most: int = 20) -> tuple[str, ...]:
    """The first errors, and how many more there are."""
    more = len(errors) - most
    return tuple(errors[:most]) + ((f"and {more} more like these",) if more > 0 else ())
