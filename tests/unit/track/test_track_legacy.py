"""The callback of the older layout: its names, its files, its cadence; and our record beside them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from assay.track import ZOTrainingCallback, files, should_checkpoint


@dataclass
class OldLine:
    """A line as an older reader takes it: an unknown key makes it skip the line."""

    timestamp: str
    event: str
    experiment_id: str
    experiment_name: str
    epoch: int | None = None
    total_epochs: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    learning_rate: float | None = None
    checkpoint_path: str | None = None
    wall_time_seconds: float | None = None
    gpu_memory_mb: float | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass
class OldStatus:
    """A snapshot as an older reader takes it: an unknown key makes it none."""

    experiment_id: str
    experiment_name: str
    epoch: int
    total_epochs: int
    metrics: dict[str, float]
    best_metrics: dict[str, float]
    learning_rate: float | None
    wall_time_seconds: float
    gpu_memory_mb: float | None
    is_training: bool
    checkpoints: list[dict[str, Any]]
    metrics_history: list[dict[str, float]]
    config: dict[str, Any]


def old_lines(folder: Path) -> list[OldLine]:
    """What an older reader makes of metrics.jsonl."""
    return [OldLine(**json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def old_status(folder: Path) -> OldStatus:
    """What an older reader makes of training_status.json."""
    return OldStatus(**json.loads((folder / "training_status.json").read_text()))


def test_an_older_reader_understands_every_moment(tmp_path: Path) -> None:
    """After each call the two files hold what the older callback would have written, with its defects mended."""
    callback = ZOTrainingCallback.for_experiment(tmp_path, "exp-003", "ResNet")
    folder = tmp_path / "exp-003"
    callback.on_training_start(total_epochs=12, config={"lr": 0.1})
    assert (old_status(folder).is_training, old_status(folder).epoch) == (True, 0)
    assert old_status(folder).config == {"lr": 0.1}
    for epoch in range(12):
        metrics = {"train_loss": 1.0 / (epoch + 1), "val_mae": 5.0 - epoch / 10}
        callback.on_epoch_end(epoch, 12, metrics, learning_rate=0.1, gpu_memory_mb=100.0)
        assert old_status(folder).epoch == epoch
        assert len(old_status(folder).metrics_history) == epoch + 1
    callback.on_checkpoint_saved(str(tmp_path / "none.pt"), 11, {"val_mae": 3.9})
    assert old_status(folder).checkpoints[-1]["epoch"] == 11, "shown at once, not at the next epoch"
    callback.on_training_end({"val_mae": 3.9})
    shown = old_status(folder)
    assert (shown.is_training, shown.total_epochs, shown.learning_rate) == (False, 12, 0.1)
    assert shown.best_metrics["val_mae"] == pytest.approx(3.9), "MAE goes down"
    lines = old_lines(folder)
    kinds = ["training_start", *["epoch_end"] * 12, "checkpoint_saved", "training_end"]
    assert [line.event for line in lines] == kinds
    assert lines[0].config == {"lr": 0.1}
    assert lines[1].total_epochs == 12
    assert lines[-2].checkpoint_path == str(tmp_path / "none.pt")


def test_the_new_record_stands_beside(tmp_path: Path) -> None:
    """events.jsonl tells attempt, evaluation, the checkpoint that does not exist, and the end; no registry appears."""
    callback = ZOTrainingCallback(tmp_path / "exp-001", "exp-001")
    callback.on_training_start(1)
    callback.on_epoch_end(0, 1, {"val_loss": 0.5})
    callback.on_checkpoint_saved(str(tmp_path / "none.pt"), 0)
    callback.on_training_end()
    kinds = [e["event"] for e in files.read_events(tmp_path / "exp-001")]
    wanted = [
        "created",
        "attempt_started",
        "training_started",
        "evaluated",
        "checkpoint_reported",
        "training_ended",
    ]
    assert kinds == wanted
    assert files.read_events(tmp_path / "exp-001")[4]["exists"] is False
    assert sorted(p.name for p in tmp_path.iterdir()) == ["exp-001"]


def test_nan_is_neither_best_nor_a_bare_token(tmp_path: Path) -> None:
    """The status holds finite values only; the line holds null and names it."""
    callback = ZOTrainingCallback(tmp_path, "exp-001")
    callback.on_training_start(3)
    callback.on_epoch_end(0, 3, {"loss": math.nan})
    assert old_status(tmp_path).metrics == {}
    callback.on_epoch_end(1, 3, {"loss": 0.5})
    callback.on_epoch_end(2, 3, {"loss": math.inf})
    assert old_status(tmp_path).best_metrics == {"loss": 0.5}
    callback.on_training_end()
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1], parse_constant=pytest.fail)
    assert (line["metrics"], line["nonfinite"]) == ({"loss": None}, {"loss": "nan"})


def test_a_resume_goes_on(tmp_path: Path) -> None:
    """Best, history and checkpoints of the first attempt are kept."""
    first = ZOTrainingCallback(tmp_path, "exp-001")
    first.on_training_start(2)
    first.on_epoch_end(0, 2, {"acc": 0.9})
    first.on_checkpoint_saved("a.pt", 0)
    first.on_training_end()
    second = ZOTrainingCallback(tmp_path, "exp-001")
    second.on_training_start(2)
    second.on_epoch_end(1, 2, {"acc": 0.8})
    second.on_training_end()
    shown = old_status(tmp_path)
    assert shown.best_metrics == {"acc": 0.9}
    assert [h["epoch"] for h in shown.metrics_history] == [0, 1]
    assert [c["path"] for c in shown.checkpoints] == ["a.pt"]
    assert second.run.attempt == 2


def test_switched_off_it_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call is a no-op."""
    monkeypatch.setenv("ASSAY_TRACK", "off")
    callback = ZOTrainingCallback(tmp_path / "x", "exp-001")
    callback.on_training_start(1)
    callback.on_epoch_end(0, 1, {"loss": 1.0})
    callback.on_checkpoint_saved("a.pt", 0)
    callback.on_training_end()
    assert not (tmp_path / "x").exists()
    assert not callback.should_stop


@pytest.mark.parametrize(
    ("epoch", "total", "how", "expected"),
    [
        (0, 100, {}, False), (9, 100, {}, True), (19, 100, {}, True), (10, 100, {}, False), (99, 100, {}, True),
        (3, 4, {}, True), (2, 4, {}, False), (0, 0, {}, False), (0, -1, {}, False), (-1, 10, {}, False),
        (-1, 10, {"is_best": True}, True), (0, 0, {"is_best": True}, True), (0, 10, {"every": 1}, True),
        (0, 10, {"every": 0}, True), (4, 10, {"every": -3}, True), (10, 10, {}, False), (19, 10, {}, True),
    ],
)  # fmt: skip
def test_the_cadence(epoch: int, total: int, how: dict[str, Any], expected: bool) -> None:
    """Always the best and the last, else every so many, counted from 0."""
    assert should_checkpoint(epoch, total, **how) is expected
