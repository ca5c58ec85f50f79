"""Runs of Weights & Biases that were recorded offline: `run-*.wandb`, a log of records."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.core.errors import UnreadableInput
from assay.readers.training import _wire
from assay.readers.training.imported import RUNS_LIMIT, ImportedRun, Point, iso, real, rows_of

MAGIC = b":W&B"
HEADER_BYTES = 7
BLOCK_BYTES = 32_768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _CONFIG, _RUN, _EXIT = 2, 5, 17, 18
"""Fields of a W&B record."""
_OWN = ("_step", "_runtime", "_timestamp", "_wandb")


def read_runs(path: Path) -> list[ImportedRun]:
    """All runs below a folder, or the one of a `.wandb` file.

    Raises:
        UnreadableInput: if there is none.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.wandb"))
    files = [f for f in files if f.is_file()]
    if not files:
        raise UnreadableInput("no run of W&B is here", where=str(path), allowed="run-*.wandb")
    return [_run(file) for file in files[:RUNS_LIMIT]]


def _run(file: Path) -> ImportedRun:
    data = file.read_bytes()
    if data[:4] != MAGIC:
        raise UnreadableInput("not a run of W&B: it does not begin with :W&B", where=str(file))
    about: dict[str, Any] = {"id": file.stem.removeprefix("run-"), "name": "", "project": "", "started": None}
    config: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    problems: list[str] = []
    state = ""
    try:
        for record in _records(data):
            for number, _, value in _wire.fields(record):
                if number == _HISTORY:
                    history.append(_items(_wire.message(value), 1))
                elif number == _CONFIG:
                    config.update(_items(_wire.message(value), 1))
                elif number == _RUN:
                    _about(_wire.message(value), about, config)
                elif number == _EXIT:
                    codes = [v for n, k, v in _wire.fields(_wire.message(value)) if n == 1 and k == 0]
                    state = f"exit {_wire.signed(codes[0]) if codes else 0}"
    except (ValueError, struct.error) as error:
        problems.append(f"{file.name}: {error}")
    points = [p for i, line in enumerate(history) for p in _points(line, i)]
    times = [p.at_s for p in points if p.at_s is not None]
    return ImportedRun(
        tool="wandb",
        id=str(about["id"]),
        name=str(about["name"] or about["id"]),
        project=str(about["project"]),
        config={k: v for k, v in config.items() if not k.startswith("_wandb")},
        rows=rows_of(points),
        started=iso(about["started"] if about["started"] is not None else min(times, default=None)),
        ended=iso(max(times, default=None)) if state else "",
        state=state,
        source=str(file),
        problems=tuple(problems),
    )


def _records(data: bytes) -> Iterator[bytes]:
    """The log format of LevelDB: blocks of 32 KiB, chunks of crc (4), length (2), type (1) and data."""
    at, parts = HEADER_BYTES, b""
    while at + 7 <= len(data):
        room = BLOCK_BYTES - at % BLOCK_BYTES
        if room < 7:
            at += room
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        chunk = data[at + 7 : at + 7 + length]
        if kind == 0 and length == 0:
            at += room
            continue
        if len(chunk) < length:
            return
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            raise ValueError(f"chunk of type {kind} at byte {at}")
        at += 7 + length
        parts = chunk if kind in (_FULL, _FIRST) else parts + chunk
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""


def _items(data: bytes, wanted: int) -> dict[str, Any]:
    """Key and value of each item. Item: 1 key, 2 nested_key; the value is one of 3 to 8, or JSON in 16."""
    found: dict[str, Any] = {}
    for number, kind, value in _wire.fields(data):
        if number != wanted or kind != 2:
            continue
        keys: list[str] = []
        held: Any = None
        for n, _, v in _wire.fields(_wire.message(value)):
            if n in (1, 2):
                keys.append(_wire.text(v))
            elif n in _TYPED:
                held = _TYPED[n](v)
        found[".".join(k for k in keys if k)] = held
    return found


def _json(value: bytes | int) -> Any:
    try:
        return json.loads(_wire.text(value))
    except (ValueError, RecursionError):
        return None


_TYPED = {5: _wire.signed, 6: _wire.double, 7: _wire.text, 8: _json, 16: _json}
"""integer, number, text, json, value_json; a boolean (4) and none (3) are no metrics."""


def _about(data: bytes, about: dict[str, Any], config: dict[str, Any]) -> None:
    """Run: 1 run_id, 3 project, 4 config, 8 display_name, 17 start_time."""
    for number, kind, value in _wire.fields(data):
        if kind != 2:
            continue
        if number == 1:
            about["id"] = _wire.text(value)
        elif number == 3:
            about["project"] = _wire.text(value)
        elif number == 4:
            config.update(_items(_wire.message(value), 1))
        elif number == 8:
            about["name"] = _wire.text(value)
        elif number == 17:
            seconds = [v for n, k, v in _wire.fields(_wire.message(value)) if n == 1 and k == 0]
            about["started"] = float(_wire.signed(seconds[0])) if seconds else None


def _points(line: dict[str, Any], index: int) -> Iterator[Point]:
    """A line of history; our own mirror tells the step as a metric of that name."""
    step = real(line.get("step", line.get("_step")))
    at = int(step) if step is not None and step == step and abs(step) < 2**53 else index  # noqa: PLR0124 - NaN
    at_s = real(line.get("_timestamp"))
    for name, value in line.items():
        if name not in (*_OWN, "step") and (number := real(value)) is not None:
            yield Point(name, max(0, at), number, at_s)
