"""The two tables of the source, `tune_runs` and `tune_trials`, as projections of tuning records, and back.

The columns are exactly the source's, so that its users' queries work. A file that holds the tables already, of this
or an older make, is brought up to date and keeps its other runs.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assay.core.errors import LedgerError, UnreadableInput, UsageError
from assay.core.recommendation import (
    Choice,
    ExitReason,
    Infeasible,
    Inputs,
    Knobs,
    Machine,
    Recommendation,
    source_knobs,
)
from assay.core.tuning_record import Cell, CellState, Reading, TuningRecord
from assay.core.vocabulary import Provenance

RUNS: Mapping[str, str] = {
    "run_id": "TEXT PRIMARY KEY",
    "started_at_utc": "TEXT NOT NULL",
    "ended_at_utc": "TEXT",
    "spec_version": "TEXT NOT NULL DEFAULT ''",
    "binary_version": "TEXT NOT NULL DEFAULT ''",
    "machine_ram_gb": "INTEGER",
    "machine_chip": "TEXT",
    "machine_os_version": "TEXT",
    "target_context": "INTEGER",
    "candidate_models_json": "TEXT NOT NULL DEFAULT '[]'",
    "stage1_replicates": "INTEGER",
    "stage2_replicates": "INTEGER",
    "gate_ttft_ms": "REAL",
    "tps_tie_epsilon": "REAL",
    "recommendation_json": "TEXT",
    "recipe_hash": "TEXT",
    "applied": "INTEGER NOT NULL DEFAULT 0",
    "exit_reason": "TEXT NOT NULL DEFAULT 'running'",
}
"""Columns of `tune_runs`."""
TRIALS: Mapping[str, str] = {
    "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "ts_utc": "TEXT NOT NULL",
    "run_id": "TEXT NOT NULL",
    "stage": "INTEGER NOT NULL DEFAULT 1",
    "model": "TEXT NOT NULL",
    "target_context": "INTEGER",
    "measured_prompt_tokens": "INTEGER",
    "max_tokens": "INTEGER",
    "agg_throughput_tps": "REAL",
    "ttft_p95_ms": "REAL",
    "fits": "INTEGER NOT NULL DEFAULT 0",
    "n_err": "INTEGER NOT NULL DEFAULT 0",
    "kept": "INTEGER NOT NULL DEFAULT 0",
    "notes": "TEXT",
    "kv_bits": "INTEGER",
    "max_context_cap": "INTEGER",
    "max_batch": "INTEGER",
    "replicates_n": "INTEGER NOT NULL DEFAULT 1",
}
"""Columns of `tune_trials`."""
NOTES_CHARS = 480
_PRUNED = re.compile(r"pruned \((.*?)\): (.*)", re.DOTALL)
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS tune_trials_run ON tune_trials (run_id)",
    "CREATE INDEX IF NOT EXISTS tune_trials_ts ON tune_trials (ts_utc)",
)


def export_runs(path: Path, records: Iterable[TuningRecord], *, keep: int | None = None) -> int:
    """Write runs into a file, in one transaction; a run that is there already is replaced.

    Args:
        path: the SQLite file; made if it is not there.
        records: the runs.
        keep: how many of the newest runs stay, over all that the file holds; None = all.

    Returns:
        How many runs were written.

    Raises:
        UsageError: if `keep` is below 1.
        LedgerError: if the file cannot be written or is no SQLite database.
    """
    if keep is not None and keep < 1:
        raise UsageError(f"{keep} runs cannot be kept", where="--keep", allowed="1 or more")
    count = 0
    with _database(path) as db:
        db.execute("BEGIN IMMEDIATE")
        _prepare(db)
        for record in records:
            _write(db, record)
            count += 1
        if keep is not None:
            _retain(db, keep)
        db.execute("COMMIT")
    return count


def import_runs(path: Path) -> list[TuningRecord]:
    """The runs of a file, oldest first. They are what another tool said of itself.

    Raises:
        UnreadableInput: if the file is no such database, or a row does not hold what its columns say.
    """
    if not path.is_file():
        raise UnreadableInput("no such file", where=str(path))
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        db.row_factory = sqlite3.Row
        with contextlib.closing(db):
            if not {"tune_runs", "tune_trials"} <= _tables(db):
                raise UnreadableInput("it has no tables tune_runs and tune_trials", where=str(path))
            trials = [_filled(row, TRIALS) for row in db.execute("SELECT * FROM tune_trials ORDER BY id")]
            runs = [_filled(r, RUNS) for r in db.execute("SELECT * FROM tune_runs ORDER BY started_at_utc")]
    except sqlite3.Error as error:
        raise UnreadableInput(f"no SQLite database that can be read: {error}", where=str(path)) from error
    made = []
    for run in runs:
        try:
            made.append(_record(run, [t for t in trials if t["run_id"] == run["run_id"]]))
        except (ValidationError, ValueError, TypeError, KeyError) as error:
            raise UnreadableInput(
                f"run {run['run_id']!r} is damaged: {str(error).splitlines()[0]}", where=str(path)
            ) from error
    return made


def run_row(record: TuningRecord) -> dict[str, Any]:
    """A run as a row of `tune_runs`."""
    found = record.recommendation
    machine, inputs = found.machine, found.inputs
    chosen = found.recommendation
    return {
        "run_id": found.run_id,
        "started_at_utc": found.started_at,
        "ended_at_utc": found.ended_at,
        "spec_version": found.spec_version,
        "binary_version": machine.binary_version,
        "machine_ram_gb": machine.ram_gb,
        "machine_chip": machine.chip,
        "machine_os_version": machine.os_version,
        "target_context": inputs.target_context,
        "candidate_models_json": json.dumps(list(inputs.candidate_models), ensure_ascii=False),
        "stage1_replicates": inputs.stage1_replicates,
        "stage2_replicates": inputs.stage2_replicates,
        "gate_ttft_ms": inputs.gate_ttft_ms,
        "tps_tie_epsilon": inputs.tps_tie_epsilon,
        "recommendation_json": None if chosen is None else json.dumps(chosen.to_json(), sort_keys=True),
        "recipe_hash": found.recipe_hash,
        "applied": int(record.applied),
        "exit_reason": found.exit_reason.value,
    }


def trial_rows(record: TuningRecord) -> list[dict[str, Any]]:
    """The cells of a run as rows of `tune_trials`, in the order in which they were first read.

    A cell whose turn did not come has no row; one that was pruned has no readings.
    """
    first = {r.cell: r.number for r in reversed(record.readings)}
    shown = [c for c in record.cells if c.state is not CellState.UNTRIED]
    shown.sort(key=lambda c: first.get(c.name, len(record.readings) + 1))
    return [_trial_row(record, cell) for cell in shown]


def _trial_row(record: TuningRecord, cell: Cell) -> dict[str, Any]:
    counted, taken = record.of(cell), record.of(cell, valid=False)
    knobs = source_knobs(cell.settings)
    pruned = f"pruned ({cell.implied_by}): " if cell.state is CellState.PRUNED else ""
    notes = pruned + (cell.reason or "; ".join(dict.fromkeys(r.reason for r in taken if r.reason)))
    return {
        "ts_utc": next((r.at for r in taken if r.at), record.recommendation.started_at),
        "run_id": record.recommendation.run_id,
        "stage": cell.stage,
        "model": cell.model,
        "target_context": cell.context_tokens,
        "measured_prompt_tokens": next((r.prompt_tokens for r in taken if r.prompt_tokens is not None), None),
        "max_tokens": next((r.max_tokens for r in taken if r.max_tokens is not None), None),
        "agg_throughput_tps": record.tps(cell),
        "ttft_p95_ms": record.ttft_p95_ms(cell),
        "fits": int(cell.state is CellState.FEASIBLE),
        "n_err": sum(r.n_err for r in taken),
        "kept": int(cell.kept),
        "notes": notes[:NOTES_CHARS],
        "kv_bits": knobs.kv_bits,
        "max_context_cap": knobs.max_context_override,
        "max_batch": knobs.max_concurrency_override,
        "replicates_n": len(counted) if cell.replicates is None else cell.replicates,
    }


def _write(db: sqlite3.Connection, record: TuningRecord) -> None:
    run = run_row(record)
    db.execute("DELETE FROM tune_trials WHERE run_id = ?", (run["run_id"],))
    db.execute("DELETE FROM tune_runs WHERE run_id = ?", (run["run_id"],))
    _insert(db, "tune_runs", run)
    for row in trial_rows(record):
        _insert(db, "tune_trials", row)


def _insert(db: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> None:
    # names of tables and columns are ours, values are bound
    marks = ", ".join("?" for _ in row)
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))  # noqa: S608


def _prepare(db: sqlite3.Connection) -> None:
    """Make the tables, or add the columns that older ones lack."""
    for table, columns in (("tune_runs", RUNS), ("tune_trials", TRIALS)):
        body = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({body})")
        there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
        for name, kind in columns.items():
            if name not in there:
                db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
    for statement in _INDEXES:
        db.execute(statement)


def _retain(db: sqlite3.Connection, keep: int) -> None:
    db.execute(
        "DELETE FROM tune_runs WHERE run_id NOT IN "
        "(SELECT run_id FROM tune_runs ORDER BY started_at_utc DESC, run_id DESC LIMIT ?)",
        (keep,),
    )
    db.execute("DELETE FROM tune_trials WHERE run_id NOT IN (SELECT run_id FROM tune_runs)")


@contextlib.contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        with contextlib.closing(db):
            try:
                yield db
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
    except sqlite3.Error as error:
        remedy = "name another file" if "not a database" in str(error) else "make its folder writable"
        raise LedgerError(f"cannot write: {error}", where=str(path), next=remedy) from error


def _tables(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _filled(row: sqlite3.Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """A row with every column; one that an older file lacks has its default."""
    there = set(row.keys())
    return {name: row[name] if name in there else _default(kind) for name, kind in columns.items()}


def _default(kind: str) -> Any:
    _, _, text = kind.partition("DEFAULT ")
    return None if not text else int(text) if text.isdigit() else text.strip("'")


def _record(run: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> TuningRecord:
    models = tuple(str(m) for m in json.loads(run["candidate_models_json"] or "[]"))
    models = models or tuple(dict.fromkeys(str(t["model"]) for t in trials))
    cells, readings = [], []
    for number, trial in enumerate(trials, 1):
        cells.append(_cell(trial, models, number))
        if cells[-1].state is not CellState.PRUNED:
            readings.append(_reading(trial, number))
    chosen = _choice(run)
    return TuningRecord(
        provenance=Provenance.SELF_REPORTED,
        applied=bool(run["applied"]),
        cells=tuple(cells),
        readings=tuple(readings),
        recommendation=Recommendation(
            run_id=run["run_id"],
            started_at=run["started_at_utc"],
            ended_at=run["ended_at_utc"],
            spec_version=run["spec_version"] or "",
            exit_reason=ExitReason(run["exit_reason"]),
            machine=Machine(
                ram_gb=run["machine_ram_gb"] or 0,
                chip=run["machine_chip"] or "",
                os_version=run["machine_os_version"] or "",
                binary_version=run["binary_version"] or "",
            ),
            inputs=_inputs(run, models),
            recommendation=chosen,
            infeasible=tuple(
                Infeasible(model=c.model, rank=c.rank, reason=c.reason or "no reason was recorded")
                for c in cells
                if c.stage == 1 and c.state is CellState.INFEASIBLE
            ),
            recipe_hash=run["recipe_hash"],
        ),
    )


def _inputs(run: Mapping[str, Any], models: tuple[str, ...]) -> Inputs:
    given = {
        name: run[name]
        for name in ("stage1_replicates", "stage2_replicates", "gate_ttft_ms", "tps_tie_epsilon")
        if run[name] is not None
    }
    return Inputs(target_context=run["target_context"] or 1, candidate_models=models, **given)


def _choice(run: Mapping[str, Any]) -> Choice | None:
    text = run["recommendation_json"]
    found = json.loads(text) if text else None
    if not isinstance(found, dict):
        return None
    # the source wraps nothing and adds fields of its own now and then
    return Choice.from_json({k: v for k, v in found.items() if k in Choice.model_fields})


def _cell(trial: Mapping[str, Any], models: tuple[str, ...], number: int) -> Cell:
    model = str(trial["model"])
    knobs = Knobs(
        kv_bits=trial["kv_bits"],
        max_concurrency_override=trial["max_batch"],
        max_context_override=trial["max_context_cap"],
    )
    settings = {
        "slots": knobs.max_concurrency_override,
        "context_tokens": knobs.max_context_override,
        "kv_type": {None: None, 4: "q4_0", 8: "q8_0"}[knobs.kv_bits],
    }
    fits, notes = bool(trial["fits"]), trial["notes"] or ""
    pruned = None if fits else _PRUNED.fullmatch(notes)
    state = CellState.FEASIBLE if fits else CellState.PRUNED if pruned else CellState.INFEASIBLE
    return Cell(
        name=f"trial-{trial['id'] or number}",
        model=model,
        rank=models.index(model) + 1 if model in models else 1,
        stage=trial["stage"],
        context_tokens=trial["target_context"] or 1,
        settings={k: v for k, v in settings.items() if v is not None},
        state=state,
        reason="" if fits else pruned[2] if pruned else notes or "no reason was recorded",
        implied_by=pruned[1] if pruned else "",
        kept=bool(trial["kept"]),
        tps=trial["agg_throughput_tps"],
        ttft_p95_ms=trial["ttft_p95_ms"],
        replicates=trial["replicates_n"],
    )


def _reading(trial: Mapping[str, Any], number: int) -> Reading:
    return Reading(
        number=number,
        cell=f"trial-{trial['id'] or number}",
        at=trial["ts_utc"],
        stage=trial["stage"],
        role="fit" if trial["stage"] == 1 else "search",
        tps=trial["agg_throughput_tps"],
        ttft_p95_ms=trial["ttft_p95_ms"],
        prompt_tokens=trial["measured_prompt_tokens"],
        max_tokens=trial["max_tokens"],
        n_err=trial["n_err"] or 0,
        valid=trial["replicates_n"] != 0,
        reason=trial["notes"] or "",
    )
