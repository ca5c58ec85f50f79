"""`assay export`: what cannot be read does not hold back the rest."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from assay.core.recommendation import Inputs, Machine, Recommendation
from assay.core.tuning_record import TuningRecord
from assay.ledger.home import Home
from assay.ledger.tuning_records import keep_imported
from cli_call import Call


def imported(home: Home, name: str) -> Path:
    """A run of another tool."""
    record = TuningRecord(
        recommendation=Recommendation(
            run_id=name,
            started_at="2026-01-01T00:00:00Z",
            machine=Machine(ram_gb=8, chip="M1"),
            inputs=Inputs(target_context=2000, candidate_models=("m",)),
        )
    )
    return keep_imported(home.folder, record)


def exported(file: Path) -> list[str]:
    """The runs in a file."""
    with contextlib.closing(sqlite3.connect(file)) as db:
        return [row[0] for row in db.execute("SELECT run_id FROM tune_runs ORDER BY run_id")]


@pytest.fixture
def damaged(tmp_path: Path) -> str:
    """Two runs that are whole and one that is not; the name of its file."""
    home = Home(tmp_path / ".assay", create=True)
    for name in ("run-1", "run-2"):
        imported(home, name)
    path = imported(home, "run-3")
    path.write_text("{")
    return path.name


def test_the_rest_is_exported_and_the_broken_one_is_named(assay: Call, damaged: str, tmp_path: Path) -> None:
    """Two runs are in the file; the third is named and makes the exit code 7."""
    said = assay("export", "--sqlite", "runs.db")
    assert said.code == 7
    assert f"left out what cannot be read: {damaged}" in said.err
    assert exported(tmp_path / "runs.db") == ["run-1", "run-2"]
    said = assay("export", "--sqlite", "runs.db", "--json")
    assert said.code == 7
    assert (sorted(said.json["runs"]), said.json["left_out"]) == (["run-1", "run-2"], [damaged])


def test_a_named_run_is_exported_alone(assay: Call, damaged: str, tmp_path: Path) -> None:
    """It is whole, and nothing is said of the others."""
    said = assay("export", "run-2", "--sqlite", "runs.db")
    assert (said.code, said.err) == (0, "")
    assert exported(tmp_path / "runs.db") == ["run-2"]


def test_an_unknown_name_may_be_the_damaged_one(assay: Call, damaged: str, tmp_path: Path) -> None:
    """It is refused with what could not be read; no file is made."""
    said = assay("export", "run-3", "--sqlite", "runs.db")
    assert said.code == 2
    assert damaged in said.err
    assert not (tmp_path / "runs.db").exists()
