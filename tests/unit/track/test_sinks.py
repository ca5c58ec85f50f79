"""Mirrors to other trackers: with the real libraries where they are installed, and without them in any case."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assay.readers.training.imported import ImportedRun, read_runs
from assay.track import sinks
from assay.track.sinks import KINDS, Origin, flat, open_sink, step_of, values

PACKAGES = {"mlflow": "mlflow", "tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}


def origin(tmp_path: Path, attempt: int = 1) -> Origin:
    """An experiment's folder."""
    folder = tmp_path / ".assay" / "experiments" / "exp-001"
    folder.mkdir(parents=True, exist_ok=True)
    return Origin("exp-001", folder, attempt, "wide", {"lr": 0.1, "model": {"width": 64}})


def feed(kind: str, where: Origin, **options: Any) -> None:
    """A short training, a NaN in it."""
    mirror = open_sink(kind, where, **options)
    mirror.row({"event": "training_start", "total_epochs": 1})
    for step in range(1, 31):
        row: dict[str, Any] = {
            "event": "step",
            "attempt": 1,
            "step": step,
            "metrics": {"loss": 1 / step},
            "signals": {"lr": 0.1},
        }
        if step == 20:
            row |= {"metrics": {"loss": None}, "nonfinite": {"loss": "nan"}}
        mirror.row(row)
        if step % 10 == 0:
            mirror.row({"event": "evaluation", "attempt": 1, "step": step, "metrics": {"val_acc": step / 40}})
    mirror.event({"event": "training_ended", "reason": "completed"})
    mirror.close()


def mirrored(kind: str, tmp_path: Path) -> ImportedRun:
    """What the tool kept."""
    places = {"mlflow": tmp_path / ".assay/experiments/mlflow.db", "trackio": tmp_path / "trackio"}
    (run,) = read_runs(kind, places.get(kind, tmp_path / ".assay"))
    return run


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")  # theirs, not ours
def test_real_library_keeps_every_row(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows, evaluations, NaN and signals come back from the tool's own files; nothing is printed on stdout."""
    if importlib.util.find_spec(PACKAGES[kind]) is None:
        pytest.skip(f"{PACKAGES[kind]} is not installed")
    if kind == "mlflow" and importlib.util.find_spec("sqlalchemy") is None:
        pytest.skip("mlflow has no database here: sqlalchemy is not installed")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    feed(kind, origin(tmp_path))
    run = mirrored(kind, tmp_path)
    by_step = {row["step"]: row for row in run.rows}
    assert sorted(by_step) == list(range(1, 31))
    assert by_step[4]["metrics"]["loss"] == pytest.approx(0.25)
    assert by_step[20]["nonfinite"] == {"loss": "nan"}
    assert by_step[30]["metrics"]["val_acc"] == pytest.approx(0.75)
    assert by_step[30]["signals"]["lr"] == pytest.approx(0.1)
    assert kind == "trackio" or "exp-001" in f"{run.name} {run.source}"


@pytest.mark.parametrize("kind", KINDS)
def test_missing_library_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error says which one to install."""

    def refuse(module: str) -> Any:
        if module.startswith("assay."):
            return real(module)
        raise ImportError(f"No module named {module!r}")

    real = sinks.importlib.import_module
    monkeypatch.setattr(sinks.importlib, "import_module", refuse)
    with pytest.raises(ImportError, match=f"pip install {PACKAGES[kind]}"):
        open_sink(kind, origin(tmp_path))


def test_unknown_sink(tmp_path: Path) -> None:
    """The known ones are named."""
    with pytest.raises(ValueError, match="mlflow, tensorboard, trackio, wandb"):
        open_sink("excel", origin(tmp_path))


def test_values_of_a_row() -> None:
    """Numbers, decoded non-finite values and prefixed signals; nothing else."""
    row: Mapping[str, Any] = {
        "metrics": {"a": 1, "b": None, "c": None, "flag": True, "text": "x"},
        "signals": {"lr": 0.5},
        "nonfinite": {"b": "-inf"},
    }
    assert values(row) == {"a": 1.0, "b": -math.inf, "signals/lr": 0.5}
    assert values({}) == {}


def test_step_and_names() -> None:
    """A row without a step lies at its epoch or beside the one before; nested settings get dotted names."""
    assert [step_of({"step": 7}, 1), step_of({"epoch": 2, "step": None}, 1), step_of({}, 5)] == [7, 2, 5]
    assert flat({"a": {"b": {"c": 1}}, "d": {}}) == {"a.b.c": 1, "d": {}}


def test_titles(tmp_path: Path) -> None:
    """A resumed attempt is another run there, and says so."""
    assert origin(tmp_path).title == "exp-001 wide"
    assert origin(tmp_path, 2).title == "exp-001 wide attempt 2"


def test_attach_never_stops_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What opens is added with the frozen configuration; what does not is told; a disabled run is left alone."""

    class Run:
        id, name, attempt, disabled = "exp-001", "wide", 1, False

        def __init__(self) -> None:
            self.folder = origin(tmp_path).folder
            self.added: list[Any] = []

        def add_sink(self, sink: Any) -> None:
            self.added.append(sink)

    run = Run()
    (run.folder / "config.yaml").write_text('{"lr": 0.1}')
    monkeypatch.setattr(
        sinks, "open_sink", lambda kind, where: (kind, where.config) if kind == "trackio" else 1 / 0
    )
    assert sinks.attach(run, ["trackio", "wandb"]) == ["sink wandb: division by zero"]
    assert run.added == [("trackio", {"lr": 0.1})]
    run.disabled = True
    assert sinks.attach(run, ["wandb"]) == []
