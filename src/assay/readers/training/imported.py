"""Runs that another tracker recorded, in the rows of our metrics.jsonl. What they say is self-reported.

`imported_mlflow`, `imported_tensorboard`, `imported_wandb` and `imported_trackio` each have `read_runs(path)`; none of
them needs the tool's own library. `read_runs(tool, path)` here chooses.
"""

from __future__ import annotations

import importlib
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assay.core.errors import UnreadableInput, UsageError

TOOLS = ("mlflow", "tensorboard", "trackio", "wandb")
RUNS_LIMIT = 10_000


@dataclass(frozen=True)
class ImportedRun:
    """One run of another tool."""

    tool: str
    id: str
    """As the tool calls it."""
    name: str
    project: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()
    """Rows of metrics.jsonl (`step`, `evaluation`), sorted by step; `t` is seconds since the first of them."""
    started: str = ""
    """ISO 8601, UTC; empty if the tool does not tell."""
    ended: str = ""
    state: str = ""
    """The tool's own word: FINISHED, FAILED, KILLED, RUNNING, exit 0, ...; empty if it does not tell."""
    tags: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    """File or folder that it was read from."""
    problems: tuple[str, ...] = ()
    """What could not be read of it."""


def read_runs(tool: str, path: Path) -> list[ImportedRun]:
    """All runs that a tool left at a path.

    Args:
        tool: one of `TOOLS`.
        path: MLflow: its SQLite file, or a `mlruns` folder. TensorBoard: a log directory or an event file. W&B: a
            `wandb` folder, a run's folder or a `.wandb` file. Trackio: its folder or a project's SQLite file.

    Raises:
        UsageError: if there is no such tool.
        UnreadableInput: if nothing of that tool is there, or the bytes are not what they must be.
    """
    if tool not in TOOLS:
        raise UsageError(f"runs of {tool!r} cannot be imported", allowed=", ".join(TOOLS))
    if not path.exists():
        raise UnreadableInput("no such file or folder", where=str(path))
    module = importlib.import_module(f"assay.readers.training.imported_{tool}")
    found: list[ImportedRun] = module.read_runs(path)
    return found


@dataclass(frozen=True)
class Point:
    """One value of one metric."""

    name: str
    step: int
    value: float
    at_s: float | None = None
    """Unix seconds."""


def rows_of(points: Sequence[Point]) -> tuple[Mapping[str, Any], ...]:
    """Points as step rows: one row a step, sorted; of two values of one metric and step the later one counts."""
    by_step: dict[int, dict[str, Point]] = {}
    for point in points:
        by_step.setdefault(point.step, {})[point.name] = point
    times = [p.at_s for p in points if p.at_s is not None]
    origin = min(times) if times else None
    return tuple(_row(step, by_step[step], origin) for step in sorted(by_step))


def _row(step: int, points: Mapping[str, Point], origin: float | None) -> Mapping[str, Any]:
    row: dict[str, Any] = {"event": "step", "attempt": 1, "step": step, "epoch": None}
    times = [p.at_s for p in points.values() if p.at_s is not None]
    row["t"] = round(max(times) - origin, 3) if times and origin is not None else None
    row["timestamp"] = iso(max(times)) if times else ""
    groups: dict[str, dict[str, float | None]] = {"metrics": {}, "signals": {}}
    words: dict[str, str] = {}
    for name, point in sorted(points.items()):
        # Our own mirrors wrote signals under this prefix.
        group, short = ("signals", name[8:]) if name.startswith("signals/") else ("metrics", name)
        finite = math.isfinite(point.value)
        groups[group][short] = point.value if finite else None
        if not finite:
            words[short] = "nan" if math.isnan(point.value) else "inf" if point.value > 0 else "-inf"
    row.update(groups)
    if words:
        row["nonfinite"] = words
    return row


def open_database(path: Path) -> sqlite3.Connection:
    """A SQLite file for reading; damaged text is shown and not refused.

    Raises:
        sqlite3.Error: if it cannot be opened.
    """
    base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    base.text_factory = lambda data: data.decode("utf-8", "replace")
    return base


def iso(seconds: float | None) -> str:
    """Unix seconds as ISO 8601 in UTC; empty for a time that is none."""
    try:
        return (
            "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
        )
    except (OverflowError, OSError, ValueError):
        return ""


def real(value: Any) -> float | None:
    """A number as the tools write it: NaN and infinities also as text; None for everything else."""
    if isinstance(value, str) and value not in {"NaN", "Infinity", "-Infinity", "nan", "inf", "-inf"}:
        return None
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (OverflowError, ValueError):
        return None
