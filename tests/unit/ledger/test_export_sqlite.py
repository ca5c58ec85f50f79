"""The source's two tables: exactly its columns, its users' queries, and back again."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.cli import main
from assay.core.errors import AssayError, UnreadableInput, UsageError
from assay.core.recommendation import ExitReason
from assay.core.tuning_record import CellState, TuningRecord
from assay.ledger.export_sqlite import export_runs, import_runs, trial_rows
from assay.ledger.tuning_records import imported, keep_imported

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
import tuning_example as example

RUN_COLUMNS = (
    "run_id started_at_utc ended_at_utc spec_version binary_version machine_ram_gb machine_chip machine_os_version "
    "target_context candidate_models_json stage1_replicates stage2_replicates gate_ttft_ms tps_tie_epsilon "
    "recommendation_json recipe_hash applied exit_reason"
)
TRIAL_COLUMNS = (
    "id ts_utc run_id stage model target_context measured_prompt_tokens max_tokens agg_throughput_tps ttft_p95_ms "
    "fits n_err kept notes kv_bits max_context_cap max_batch replicates_n"
)


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """What a user's own query gives."""
    with sqlite3.connect(path) as db:
        return list(db.execute(query))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The example, exported."""
    path = tmp_path / "tune.db"
    assert export_runs(path, [example.record()]) == 1
    return path


def test_exactly_the_sources_columns_in_its_order(file: Path) -> None:
    """No column more, none less, none renamed; run and time are indexed."""
    for table, columns in (("tune_runs", RUN_COLUMNS), ("tune_trials", TRIAL_COLUMNS)):
        assert [r[1] for r in rows(file, f"PRAGMA table_info({table})")] == columns.split()
    indexes = [row[1] for row in rows(file, "PRAGMA index_list(tune_trials)")]
    indexed = {row[2] for name in indexes for row in rows(file, f"PRAGMA index_info({name})")}
    assert {"run_id", "ts_utc"} <= indexed


def test_a_users_query_gives_what_the_study_found(file: Path) -> None:
    """The queries that the source's users ask: the winner, the best per context, why not."""
    winner = rows(
        file,
        "SELECT t.model, t.max_batch, t.kv_bits, r.exit_reason FROM tune_trials t JOIN tune_runs r USING (run_id) "
        "WHERE t.kept = 1",
    )
    assert winner == [("skills-s120m-Q8_0.gguf", 8, None, "ok")]
    best = rows(
        file,
        "SELECT target_context, max(agg_throughput_tps) FROM tune_trials WHERE fits AND stage = 2 "
        "GROUP BY target_context ORDER BY 1",
    )
    assert [context for context, _ in best] == [512, 1024, 2048, 4096]
    assert all(isinstance(tps, float) and tps > 0 for _, tps in best)
    why = rows(file, "SELECT notes FROM tune_trials WHERE NOT fits AND notes LIKE '%memory%' ORDER BY id")
    assert why[1][0] == "pruned (ctx4096-n4-f16): out of memory: failed to allocate buffer for kv cache"
    stages = rows(file, "SELECT stage, count(*) FROM tune_trials GROUP BY stage")
    assert stages == [(1, 2), (2, 32)]
    chosen = json.loads(str(rows(file, "SELECT recommendation_json FROM tune_runs")[0][0]))
    assert chosen["knobs"] == {"kv_bits": None, "max_concurrency_override": 8, "max_context_override": 1024}


def test_what_was_not_measured_is_null_and_never_zero(file: Path) -> None:
    """A cell that ran out of memory has no throughput, and no replicate that counts."""
    found = rows(
        file, "SELECT agg_throughput_tps, ttft_p95_ms, replicates_n FROM tune_trials WHERE notes LIKE 'out%'"
    )
    assert found == [(None, None, 0)]
    assert rows(file, "SELECT count(*) FROM tune_trials WHERE agg_throughput_tps = 0") == [(0,)]


def test_export_again_replaces_the_run_and_keeps_the_others(file: Path) -> None:
    """A user's own file: what is in it from elsewhere stays."""
    export_runs(file, [example.source_run()])
    export_runs(file, [example.record()])
    assert rows(file, "SELECT run_id FROM tune_runs ORDER BY run_id") == [("run-1",), ("tune-20261120-ab12",)]
    assert rows(file, "SELECT count(*) FROM tune_trials") == [(34,)]


def test_retention_keeps_the_newest_over_both_tables(tmp_path: Path) -> None:
    """Older runs go with their trials; nothing goes unless it is asked for."""
    path = tmp_path / "tune.db"
    runs = [
        example.record(recommendation={"run_id": f"run-{n}", "started_at": f"2026-11-{n:02d}T00:00:00Z"})
        for n in (3, 1, 2)
    ]
    export_runs(path, runs)
    assert len(rows(path, "SELECT 1 FROM tune_runs")) == 3
    export_runs(path, [], keep=2)
    assert rows(path, "SELECT run_id FROM tune_runs ORDER BY 1") == [("run-2",), ("run-3",)]
    assert {r[0] for r in rows(path, "SELECT run_id FROM tune_trials")} == {"run-2", "run-3"}
    with pytest.raises(UsageError, match="1 or more"):
        export_runs(path, [], keep=0)


def test_an_older_file_is_brought_up_to_date(tmp_path: Path) -> None:
    """Tables from before `stage` and the knobs: legacy rows are stage 1 and stay readable, twice."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE tune_runs (run_id TEXT PRIMARY KEY, started_at_utc TEXT NOT NULL, exit_reason TEXT NOT NULL);"
            "CREATE TABLE tune_trials (id INTEGER PRIMARY KEY, ts_utc TEXT, run_id TEXT, model TEXT,"
            " target_context INTEGER, agg_throughput_tps REAL, ttft_p95_ms REAL, fits INTEGER, notes TEXT);"
            "INSERT INTO tune_runs VALUES ('old', '2026-01-01T00:00:00Z', 'ok');"
            "INSERT INTO tune_trials VALUES (1, '2026-01-01T00:01:00Z', 'old', '1B', 2000, 9.7, 2380, 1, NULL);"
            "INSERT INTO tune_trials VALUES (2, '2026-01-01T00:02:00Z', 'old', '3B', 8000, 0.4, 94604, 0, 'slow');"
        )
    (legacy,) = import_runs(path)
    assert [c.state for c in legacy.cells] == [CellState.FEASIBLE, CellState.INFEASIBLE]
    assert legacy.recommendation.inputs.candidate_models == ("1B", "3B")
    for _ in range(2):
        export_runs(path, [example.record()])
        assert rows(path, "SELECT stage, fits, notes FROM tune_trials WHERE run_id = 'old' ORDER BY id") == [
            (1, 1, None),
            (1, 0, "slow"),
        ]


def test_import_gives_the_same_rows_again(file: Path, tmp_path: Path) -> None:
    """Out, in, out: both tables hold the same, so nothing of the contract is lost on the way."""
    second = tmp_path / "second.db"
    export_runs(second, import_runs(file))
    for table in ("tune_runs", "tune_trials"):
        assert rows(second, f"SELECT * FROM {table}") == rows(file, f"SELECT * FROM {table}")


def test_imported_runs_are_nobodys_measurement(file: Path, tmp_path: Path) -> None:
    """They are marked as the other tool's word, wherever they go."""
    (found,) = import_runs(file)
    assert found.provenance.value == "self_reported"
    keep_imported(tmp_path, example.record())
    keep_imported(tmp_path, found)
    (kept,) = imported(tmp_path)
    assert kept == found


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE tune_runs SET exit_reason = 'whatever'", "damaged"),
        ("UPDATE tune_runs SET candidate_models_json = '[broken'", "damaged"),
        ("UPDATE tune_runs SET recommendation_json = '{\"model\": 1}'", "damaged"),
        ("UPDATE tune_trials SET agg_throughput_tps = 9e999", "damaged"),
        ("UPDATE tune_trials SET kv_bits = 5", "damaged"),
        ("DROP TABLE tune_trials", "no tables"),
    ],
)
def test_damaged_tables_are_refused_by_name(file: Path, statement: str, told: str) -> None:
    """A value that the contract does not know is no silent default."""
    with sqlite3.connect(file) as db:
        db.execute(statement)
    with pytest.raises(UnreadableInput, match=told):
        import_runs(file)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """A file that is no database ends in an error of ours, reading and writing."""
    path = tmp_path_factory.mktemp("db") / "x.db"
    path.write_bytes(data)
    with pytest.raises(UnreadableInput):
        import_runs(path)
    try:
        export_runs(path, [example.source_run()])
    except AssayError:
        assert path.read_bytes() == data


def test_a_run_without_an_end_says_so(tmp_path: Path) -> None:
    """A run that crashed has no end and its own word; the source's NOT NULL holds."""
    path = tmp_path / "tune.db"
    export_runs(path, [example.record(recommendation={"ended_at": None, "exit_reason": ExitReason.CRASHED})])
    assert rows(path, "SELECT ended_at_utc, exit_reason FROM tune_runs") == [(None, "crashed")]


def test_rows_stand_in_the_order_of_the_readings() -> None:
    """The first reading decides the place; cells without any come last."""
    found: TuningRecord = example.record()
    models = [(r["stage"], r["replicates_n"] > 0) for r in trial_rows(found)]
    assert models[0] == (1, True)
    assert models[-1] == (2, False)


def test_the_commands_import_and_export(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user takes over a file, and writes it out again from the project."""
    monkeypatch.chdir(tmp_path)

    def assay(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        return int(ended.value.code or 0), capsys.readouterr().out

    code, out = assay("import", "--sqlite", str(file))
    assert (code, out) == (0, "tune-20261120-ab12  34 trials  skills-s120m-Q8_0.gguf\n")
    code, out = assay("export", "--sqlite", "mine.db", "--json")
    assert code == 0
    assert json.loads(out)["runs"] == ["tune-20261120-ab12"]
    assert rows(tmp_path / "mine.db", "SELECT * FROM tune_trials") == rows(file, "SELECT * FROM tune_trials")
    assert assay("export", "--sqlite", "mine.db", "no-such-run")[0] == 2
    assert assay("export", "--sqlite", "mine.db", "--keep", "0")[0] == 2
    assert assay("import", "--sqlite", "absent.db")[0] == 2
