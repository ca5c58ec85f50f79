"""Runs of TensorBoard: event files of scalars, as TensorFlow, PyTorch, Keras and our own mirror write them."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

from assay.core.errors import UnreadableInput
from assay.readers.training import _wire
from assay.readers.training.imported import RUNS_LIMIT, ImportedRun, Point, iso, rows_of

RECORD_LIMIT_BYTES = 64 << 20
_FLOAT, _DOUBLE = 1, 2
"""`DataType` of a TensorFlow tensor."""


def read_runs(path: Path) -> list[ImportedRun]:
    """One run for each folder that holds event files.

    Raises:
        UnreadableInput: if there is none.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*tfevents*"))
    folders: dict[Path, list[Path]] = {}
    for file in files:
        if file.is_file():
            folders.setdefault(file.parent, []).append(file)
    if not folders:
        raise UnreadableInput("no event file of TensorBoard is here", where=str(path), allowed="*tfevents*")
    root = path if path.is_dir() else path.parent
    runs = [_run(folder, held, root) for folder, held in list(folders.items())[:RUNS_LIMIT]]
    if all(run.problems and not run.rows for run in runs):
        raise UnreadableInput(f"not an event file of TensorBoard: {runs[0].problems[0]}", where=str(path))
    return runs


def _run(folder: Path, files: list[Path], root: Path) -> ImportedRun:
    points: list[Point] = []
    problems: list[str] = []
    for file in files:
        try:
            for record in _records(file):
                points += _scalars(record)
        except (ValueError, struct.error, OSError) as error:
            problems.append(f"{file.name}: {error}")
    name = folder.relative_to(root).as_posix()
    times = [p.at_s for p in points if p.at_s is not None]
    return ImportedRun(
        tool="tensorboard",
        id=name if name != "." else folder.name,
        name=name if name != "." else folder.name,
        rows=rows_of(points),
        started=iso(min(times)) if times else "",
        ended=iso(max(times)) if times else "",
        source=str(folder),
        problems=tuple(problems),
    )


def _records(file: Path) -> Iterator[bytes]:
    """Records of a TFRecord file: length, its checksum, data, its checksum. A half one at the end is left out.

    Raises:
        ValueError: if a length cannot be one.
    """
    with file.open("rb") as handle:
        while len(head := handle.read(12)) == 12:
            (length,) = struct.unpack("<Q", head[:8])
            if length > RECORD_LIMIT_BYTES:
                raise ValueError(f"a record of {length} bytes")
            data = handle.read(length)
            if len(data) < length or len(handle.read(4)) < 4:
                return
            yield data


def _scalars(record: bytes) -> Iterator[Point]:
    """Event: 1 wall_time, 2 step, 5 summary; summary: 1 value; value: 1 tag, 2 simple_value, 8 tensor."""
    at_s, step, summaries = None, 0, []
    for number, kind, value in _wire.fields(record):
        if number == 1 and kind == 1:
            at_s = _wire.double(value)
        elif number == 2 and kind == 0:
            step = _wire.signed(value)
        elif number == 5:
            summaries.append(_wire.message(value))
    for summary in summaries:
        for number, _, value in _wire.fields(summary):
            found = _value(_wire.message(value)) if number == 1 else None
            if found is not None:
                known = at_s if at_s is not None and math.isfinite(at_s) else None
                yield Point(found[0], max(0, step), found[1], known)


def _value(data: bytes) -> tuple[str, float] | None:
    tag, number = "", None
    for field, kind, value in _wire.fields(data):
        if field == 1 and kind == 2:
            tag = _wire.text(value)
        elif field == 2 and kind == 5:
            number = _wire.double(value)
        elif field == 8 and kind == 2:
            number = _tensor(_wire.message(value))
    return (tag, number) if tag and number is not None else None


def _tensor(data: bytes) -> float | None:
    """A tensor of one number. 1 dtype, 2 shape, 4 tensor_content, 5 float_val, 6 double_val."""
    dtype, content, number = 0, b"", None
    for field, kind, value in _wire.fields(data):
        if field == 1 and kind == 0:
            dtype = _wire.signed(value)
        elif field == 2 and any(_wire.fields(_wire.message(value))):
            sizes = [d for n, _, d in _wire.fields(_wire.message(value)) if n == 2]
            if any(_size(_wire.message(d)) != 1 for d in sizes):
                return None
        elif field == 4:
            content = _wire.message(value)
        elif field in (5, 6):
            packed = _wire.message(value)
            number = _wire.double(packed) if len(packed) in (4, 8) else None
    if content and (dtype, len(content)) in ((_FLOAT, 4), (_DOUBLE, 8)):
        return _wire.double(content)
    return number if dtype in (_FLOAT, _DOUBLE) else None


def _size(dimension: bytes) -> int:
    return next((_wire.signed(v) for n, k, v in _wire.fields(dimension) if n == 1 and k == 0), 0)
