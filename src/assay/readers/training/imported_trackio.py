"""Runs of Trackio: a SQLite file for each project."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assay.core.errors import UnreadableInput
from assay.readers.training.imported import RUNS_LIMIT, ImportedRun, Point, open_database, real, rows_of


def read_runs(path: Path) -> list[ImportedRun]:
    """All runs of a project's file, or of all files in a folder.

    Raises:
        UnreadableInput: if there is none, or a file is no database of Trackio.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.db"))
    if not files:
        raise UnreadableInput("no project of Trackio is here", where=str(path), allowed="PROJECT.db")
    return [run for file in files for run in _project(file)][:RUNS_LIMIT]


def _project(file: Path) -> list[ImportedRun]:
    try:
        with closing(open_database(file)) as base:
            columns = {row[1] for row in base.execute("PRAGMA table_info(metrics)")}
            # Files of older versions know runs by name only.
            key = "run_id" if "run_id" in columns else "run_name"
            rows = base.execute(
                f"SELECT {key}, run_name, timestamp, step, metrics FROM metrics ORDER BY id"  # noqa: S608 - ours
            ).fetchall()
            configs = {r[0]: r[1] for r in base.execute(f"SELECT {key}, config FROM configs")}  # noqa: S608
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise UnreadableInput(f"not a database of Trackio: {error}", where=str(file)) from error
    runs: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        runs.setdefault(str(row[0]), []).append(row)
    return [_run(file, run, held, configs.get(run)) for run, held in runs.items()]


def _run(file: Path, run: str, rows: list[tuple[Any, ...]], config: Any) -> ImportedRun:
    points: list[Point] = []
    problems: list[str] = []
    for _, _, timestamp, step, metrics in rows:
        values = _object(metrics)
        if values is None:
            problems.append(f"step {step}: no JSON object")
            continue
        for name, value in values.items():
            if (number := real(value)) is not None:
                points.append(
                    Point(
                        name, step if isinstance(step, int) and step >= 0 else 0, number, _seconds(timestamp)
                    )
                )
    settings = _object(config) or {}
    return ImportedRun(
        tool="trackio",
        id=run,
        name=str(rows[0][1]),
        project=file.stem,
        config={k: v for k, v in settings.items() if not k.startswith("_")},
        rows=rows_of(points),
        started=str(rows[0][2]).replace("+00:00", "Z"),
        ended=str(rows[-1][2]).replace("+00:00", "Z"),
        source=str(file),
        problems=tuple(problems[:20]),
    )


def _object(value: Any) -> dict[str, Any] | None:
    try:
        found = json.loads(value) if isinstance(value, str | bytes) else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _seconds(value: Any) -> float | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
