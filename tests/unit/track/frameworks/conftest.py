"""A real experiment folder for every test, and what was written there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.track import current, experiment

os.environ.setdefault("KERAS_BACKEND", "torch")  # before anything imports keras


class Record:
    """The lines of an experiment, by kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = _lines(folder / "metrics.jsonl")
        self.events = _lines(folder / "events.jsonl")

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Step rows."""
        return [row for row in self.rows if row["event"] == "step"]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """Evaluation rows."""
        return [row for row in self.rows if row["event"] == "evaluation"]

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """Ends of epochs."""
        return [row for row in self.rows if row["event"] == "epoch_end"]

    def numbers_of_steps(self, attempt: int = 1) -> list[int]:
        """Steps that an attempt has rows of."""
        return sorted({row["step"] for row in self.steps if row.get("attempt", 1) == attempt})

    def named(self, kind: str) -> list[dict[str, Any]]:
        """Events of a kind."""
        return [event for event in self.events if event["event"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        """The only event of a kind."""
        (event,) = self.named(kind)
        return event

    @property
    def losses(self) -> list[float]:
        """The losses of the step rows."""
        return [row["metrics"]["loss"] for row in self.steps if "loss" in row["metrics"]]

    def assert_healthy(self) -> None:
        """No line was lost, no hook failed, every checkpoint held."""
        assert self.named("tracker_problem") == []
        assert self.named("checkpoint_failed") == []
        assert [event["seq"] for event in self.events] == list(range(1, len(self.events) + 1))


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where experiments lie; hosts write beside it, not into the checkout."""
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / ".assay"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".assay" / "experiments"


@pytest.fixture
def opened(root: Path) -> Callable[..., Any]:
    """Open an experiment there; `resume="exp-001"` goes on with one."""

    def make(**options: Any) -> Any:
        return experiment("test", **options)

    return make


@pytest.fixture
def record(root: Path) -> Callable[..., Record]:
    """What an experiment holds, the first one by default."""

    def read(number: int = 1) -> Record:
        return Record(root / f"exp-{number:03d}")

    return read


@pytest.fixture(autouse=True)
def no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A hook that failed inside says so in the log of `assay.track`: then the test has found something."""
    yield
    told = [entry.getMessage() for entry in caplog.get_records("call") if entry.name == "assay.track"]
    assert told == []


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, int], None]:
    """Ask a run to stop as soon as it has logged this step, as a checker beside it would."""

    def plan(run: Any, step: int) -> None:
        log = run.log

        def logging(metrics: Any, at: int | None = None, **more: Any) -> None:
            log(metrics, at, **more)
            if run.step >= step and not run.should_stop:
                run.request_stop("test", f"step {step}")

        monkeypatch.setattr(run, "log", logging)

    return plan


@pytest.fixture(autouse=True)
def no_open_run() -> Iterator[None]:
    """A run that a test leaves open would be taken by an adapter of the next one."""
    yield
    while (run := current()) is not None:
        run.finish()
