"""The benchmark of a log call: a worker's figures, a tracker that is missing, the twins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import log_call as benchmark


@pytest.mark.parametrize("name", ["assay", "jsonl", "jsonl fsync"])
def test_a_worker_measures_every_figure(name: str, tmp_path: Path) -> None:
    """Ours and the plain files: times in order, bytes of the rows on disk."""
    found = benchmark.work(name, tmp_path, 50, 0.0)
    assert 0 < found["p50"] <= found["p99"] <= found["max"]
    assert 50 < found["bytes"] < 2_000
    assert found["finish_s"] >= 0


def test_a_tracker_that_is_missing_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row says why; no figure is made up."""
    monkeypatch.setattr(benchmark, "worker", lambda *_: {"error": "No module named 'trackio'"})
    (row,) = benchmark.theirs("trackio", 10, 1.0)
    assert (row.value, row.ok, row.peer) == (None, None, "No module named 'trackio'")


def test_twins_take_the_same_steps() -> None:
    """What is compared differs in nothing but the recording."""
    (one, _, _), (other, _, _) = benchmark.twin(torch, 4), benchmark.twin(torch, 4)
    assert [one() for _ in range(3)] == [other() for _ in range(3)]
