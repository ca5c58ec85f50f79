"""Runs of other trackers, read from small files that the real tools wrote (scrubbed of host and paths)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import UnreadableInput, UsageError
from assay.readers.training import _wire
from assay.readers.training.imported import TOOLS, ImportedRun, Point, read_runs, rows_of

RECORDED = Path(__file__).parents[2] / "recorded" / "trackers"
FILES = {
    "mlflow": RECORDED / "mlflow.db",
    "tensorboard": RECORDED / "tensorboard",
    "trackio": RECORDED / "trackio" / "digits.db",
    "wandb": RECORDED / "run-wide.wandb",
}


def wide(tool: str, path: Path) -> ImportedRun:
    """The run called `wide`."""
    return next(r for r in read_runs(tool, path) if r.name == "wide")


@pytest.mark.parametrize(
    ("tool", "path"),
    [*FILES.items(), ("mlflow", RECORDED / "mlruns"), ("mlflow", RECORDED), ("wandb", RECORDED)],
)
def test_every_tool_gives_the_same_rows(tool: str, path: Path) -> None:
    """Seven steps of a loss that ends in NaN, one accuracy, the configuration: whatever wrote them."""
    run = wide(tool, path)
    by_step = {row["step"]: row for row in run.rows}
    assert [by_step[i]["metrics"]["loss"] for i in (1, 2, 4)] == pytest.approx([1.0, 0.5, 0.25])
    assert by_step[7]["metrics"]["loss"] is None
    assert by_step[7]["nonfinite"] == {"loss": "nan"}
    assert any("val/acc" in row["metrics"] for row in run.rows)
    assert [row["step"] for row in run.rows] == sorted(by_step)
    assert all(row["event"] == "step" and row["attempt"] == 1 for row in run.rows)
    assert run.problems == ()
    if tool != "tensorboard":
        assert run.project == "digits"
        assert str(run.config["lr"]) == "0.1"


def test_mlflow_database_and_folder_agree() -> None:
    """Status, tags, times and infinities of both stores of MLflow; the failed run is there too."""
    for path in (RECORDED / "mlflow.db", RECORDED / "mlruns"):
        run = wide("mlflow", path)
        assert (run.state, run.tags["team"]) == ("FINISHED", "a")
        assert run.config == {"lr": "0.1", "model.width": "64"}
        assert run.rows[0]["nonfinite"]["big"] == "inf"
        assert run.rows[1]["t"] == 2.0  # `big` was logged a second before the first loss
        assert run.started.endswith("Z")
        assert {r.name: r.state for r in read_runs("mlflow", path)} == {"wide": "FINISHED", "dead": "FAILED"}


def test_tensors_of_tensorflow_are_scalars() -> None:
    """What TensorFlow 2 writes as a tensor of one number is that number."""
    values = [
        r["metrics"]["val/acc"]
        for r in wide("tensorboard", FILES["tensorboard"]).rows
        if "val/acc" in r["metrics"]
    ]
    assert values == [0.75]


def test_wandb_keeps_text_and_flags_out() -> None:
    """Only numbers are metrics; the exit code is the state."""
    run = wide("wandb", FILES["wandb"])
    assert run.state == "exit 0"
    assert set(run.rows[-1]["metrics"]) == {"val/acc"}
    assert run.config["model"] == {"width": 64}


@pytest.mark.parametrize("tool", TOOLS)
def test_nothing_there(tool: str, tmp_path: Path) -> None:
    """An empty folder, a missing path and foreign bytes are refused by name."""
    with pytest.raises(UnreadableInput):
        read_runs(tool, tmp_path)
    with pytest.raises(UnreadableInput, match="no such file"):
        read_runs(tool, tmp_path / "missing")
    (tmp_path / "foreign").write_bytes(b"\x00\x01 nothing of the kind" * 20)
    with pytest.raises(UnreadableInput):
        read_runs(tool, tmp_path / "foreign")


def test_unknown_tool(tmp_path: Path) -> None:
    """The known tools are named."""
    with pytest.raises(UsageError, match="mlflow, tensorboard, trackio, wandb"):
        read_runs("excel", tmp_path)


@pytest.mark.parametrize("tool", ["tensorboard", "wandb"])
def test_cut_anywhere(tool: str, tmp_path: Path) -> None:
    """A file that a crash cut at any byte gives what was whole before it, or is refused; never more, never a crash."""
    source = FILES[tool] if FILES[tool].is_file() else next(FILES[tool].rglob("*tfevents*"))
    data = source.read_bytes()
    target = tmp_path / source.name
    for end in range(0, len(data), 7):
        target.write_bytes(data[:end])
        try:
            runs = read_runs(tool, target)
        except UnreadableInput:
            continue
        assert all(len(r.rows) <= 9 for r in runs)


@pytest.mark.parametrize("tool", TOOLS)
def test_flipped_bytes(tool: str, tmp_path: Path) -> None:
    """Damaged bytes give fewer or other rows, a problem, or a refusal: no other exception."""
    source = FILES[tool] if FILES[tool].is_file() else next(FILES[tool].rglob("*tfevents*"))
    data = source.read_bytes()
    target = tmp_path / source.name
    step = max(1, len(data) // 60)
    for at in range(0, len(data), step):
        target.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            read_runs(tool, target)
        except UnreadableInput:
            continue


def test_a_bad_line_of_mlruns_is_named(tmp_path: Path) -> None:
    """A metric file with garbage keeps its good lines and names the bad one."""
    shutil.copytree(RECORDED / "mlruns", tmp_path / "mlruns")
    metric = next(
        p for p in (tmp_path / "mlruns").rglob("metrics/loss") if len(p.read_text().splitlines()) > 1
    )
    metric.write_text(metric.read_text() + "no number here\n")
    run = wide("mlflow", tmp_path / "mlruns")
    assert run.problems == ("metrics/loss:8 is no value",)
    assert len(run.rows) == 7


def test_rows_of_points() -> None:
    """One row a step; the later of two values counts; signals of our own mirror are signals again."""
    rows = rows_of([Point("a", 2, 1.0), Point("a", 1, 3.0), Point("a", 2, 5.0), Point("signals/lr", 2, 0.1)])
    assert [r["step"] for r in rows] == [1, 2]
    assert rows[1]["metrics"] == {"a": 5.0}
    assert rows[1]["signals"] == {"lr": 0.1}


@given(data=st.binary(max_size=60))
def test_wire_reader_is_total(data: bytes) -> None:
    """Any bytes are fields or a ValueError."""
    try:
        for number, kind, value in _wire.fields(data):
            assert number > 0
            assert kind in (0, 1, 2, 5)
            assert isinstance(value, bytes if kind else int)
    except ValueError:
        pass
