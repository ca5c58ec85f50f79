"""Runs of MLflow: its SQLite database, or the older folder `mlruns` of plain files."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from assay.core.errors import UnreadableInput
from assay.readers.training.imported import RUNS_LIMIT, ImportedRun, Point, iso, open_database, real, rows_of

_STATUS = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}


def read_runs(path: Path) -> list[ImportedRun]:
    """All runs that were not deleted.

    Raises:
        UnreadableInput: if the path holds neither a database of MLflow nor a `mlruns` folder.
    """
    if path.is_file():
        return _database(path)
    for name in ("mlflow.db", "mlruns.db"):
        if (path / name).is_file():
            return _database(path / name)
    root = path / "mlruns" if (path / "mlruns").is_dir() else path
    runs = [_folder_run(meta.parent) for meta in sorted(root.glob("*/*/meta.yaml"))[:RUNS_LIMIT]]
    found = [run for run in runs if run is not None]
    if not found:
        raise UnreadableInput(
            "no run of MLflow is here",
            where=str(path),
            allowed="mlflow.db, or a folder mlruns with EXPERIMENT/RUN/meta.yaml",
        )
    return found


def _database(path: Path) -> list[ImportedRun]:
    try:
        with closing(open_database(path)) as base:
            names = dict(base.execute("SELECT experiment_id, name FROM experiments"))
            runs = base.execute(
                "SELECT run_uuid, name, experiment_id, status, start_time, end_time FROM runs "
                "WHERE lifecycle_stage = 'active' ORDER BY start_time LIMIT ?",
                (RUNS_LIMIT,),
            ).fetchall()
            return [_database_run(base, row, names, path) for row in runs]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise UnreadableInput(f"not a database of MLflow: {error}", where=str(path)) from error


def _database_run(
    base: sqlite3.Connection, row: tuple[Any, ...], names: Mapping[Any, str], path: Path
) -> ImportedRun:
    run, name, experiment, status, started, ended = row
    points = []
    for key, value, at, step, is_nan in base.execute(
        "SELECT key, value, timestamp, step, is_nan FROM metrics WHERE run_uuid = ? ORDER BY timestamp",
        (run,),
    ):
        number = math.nan if is_nan else real(value)
        if number is None:
            continue
        # The database cannot hold an infinity: MLflow stores the largest double in its place.
        if abs(number) >= 1.7976931348623157e308:
            number = math.copysign(math.inf, number)
        points.append(Point(str(key), _whole(step), number, _milliseconds(at)))
    return ImportedRun(
        tool="mlflow",
        id=str(run),
        name=str(name or run),
        project=str(names.get(experiment, experiment)),
        config=dict(base.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run,))),
        rows=rows_of(points),
        started=iso(_milliseconds(started)),
        ended=iso(_milliseconds(ended)),
        state=str(status or ""),
        tags=dict(base.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run,))),
        source=str(path),
    )


def _folder_run(folder: Path) -> ImportedRun | None:
    meta = _flat_yaml(folder / "meta.yaml")
    if not {"run_id", "run_uuid"} & set(meta) or meta.get("lifecycle_stage") == "deleted":
        return None
    points: list[Point] = []
    problems: list[str] = []
    for name, text in _texts(folder / "metrics"):
        for number, line in enumerate(text.splitlines(), 1):
            parts = line.split()
            try:
                step = int(parts[2]) if len(parts) > 2 else 0
                points.append(Point(name, step, float(parts[1]), int(parts[0]) / 1000))
            except (ValueError, IndexError):
                problems.append(f"metrics/{name}:{number} is no value")
    run = str(meta.get("run_id") or meta.get("run_uuid") or folder.name)
    return ImportedRun(
        tool="mlflow",
        id=run,
        name=str(meta.get("run_name") or run),
        project=_flat_yaml(folder.parent / "meta.yaml").get("name", folder.parent.name),
        config=dict(_texts(folder / "params")),
        rows=rows_of(points),
        started=iso(_milliseconds(meta.get("start_time"))),
        ended=iso(_milliseconds(meta.get("end_time"))),
        state=_STATUS.get(str(meta.get("status", "")), str(meta.get("status", ""))),
        tags=dict(_texts(folder / "tags")),
        source=str(folder),
        problems=tuple(problems[:20]),
    )


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and content of each file below a folder; a name may hold slashes."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8", errors="replace")


def _flat_yaml(path: Path) -> dict[str, str]:
    """Lines `key: value`: all that MLflow writes into its meta.yaml."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line and not line.startswith((" ", "#")))
    found = {key.strip(): value.strip().strip("'\"") for key, value in pairs}
    return {key: value for key, value in found.items() if value not in ("", "null")}


def _milliseconds(value: Any) -> float | None:
    try:
        return int(value) / 1000 if value else None
    except (ValueError, TypeError):
        return None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
