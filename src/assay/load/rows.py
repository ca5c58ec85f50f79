"""The file of requests: JSON lines, one a request, with a first line that says what they are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from assay.core.errors import UnreadableInput
from assay.core.load import LoadPoint, RequestRecord
from assay.load.client import NAME, Measured
from assay.runtime.files import write_atomic

SCHEMA = "load-requests/1"
MOST_BYTES = 4 << 30


def write_rows(path: Path, points: Iterable[Measured]) -> None:
    """Write every request of every point; each row names its point by number, from 0.

    Raises:
        AssayError: if the file cannot be written.
    """
    lines = [json.dumps({"schema": SCHEMA, "client": NAME})]
    for number, (_, records) in enumerate(points):
        lines += [json.dumps({"point": number, **_short(r)}) for r in records]
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def _short(record: RequestRecord) -> dict[str, Any]:
    """A record without its empty fields."""
    value = record.to_json()
    value["gaps_ms"] = [round(g, 4) for g in record.gaps_ms]
    return {k: v for k, v in value.items() if v is not None and v is not False and v not in ("", [])}


def read_rows(path: Path) -> list[tuple[int, RequestRecord]]:
    """Read a file of requests back: number of the point, and record.

    Raises:
        UnreadableInput: if it is no such file.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UnreadableInput("larger than 4 GiB", where=str(path))
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        rows = _records(head, lines)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # pydantic's ValidationError and UnicodeDecodeError are ValueErrors
        raise UnreadableInput(f"no file of requests: {str(error)[:200]}", where=str(path)) from error
    return rows


def _records(head: str, lines: list[str]) -> list[tuple[int, RequestRecord]]:
    if json.loads(head)["schema"] != SCHEMA:
        raise ValueError(f"the first line does not say {SCHEMA}")
    values = [dict(json.loads(line)) for line in lines]
    return [(int(v.pop("point")), RequestRecord.from_json(v)) for v in values]


def describe(point: LoadPoint) -> str:
    """One line that says how a point went, for people who watch."""
    speed = "" if point.output_tps is None else f", {point.output_tps:,.1f} tok/s"
    why = f": {point.reasons[0]}" if point.reasons else ""
    return f"{point.plan.arrivals.text}: {point.completed}/{point.sent} requests{speed}, {point.state.value}{why}"
