"""The benchmark of the estimate, on one real server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp")
sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import fit as benchmark

from assay.core.fit import FitVerdict, MachineMemory
from assay.gates.fit import judge_fit


def test_there_are_enough_configurations() -> None:
    """At least twelve, of both engines, without a repetition."""
    names = [run.name for run in benchmark.configurations()]
    assert len(names) == len(set(names)) >= 12
    assert {run.engine for run in benchmark.configurations()} == {"llama_cpp", "transformers"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2])
def test_what_was_predicted_is_what_the_server_takes(tmp_path: Path, number: int) -> None:
    """Within a tenth, inside the range, and never `cannot` on a machine of exactly that size."""
    estimate, peak = benchmark._measured(benchmark.QUICK[number], tmp_path)
    assert estimate.estimate_bytes is not None
    assert estimate.upper_bytes is not None
    assert abs(estimate.estimate_bytes / peak - 1) < 0.1
    assert estimate.lower_bytes <= peak <= estimate.upper_bytes
    exact = MachineMemory(total_bytes=peak, available_bytes=peak)
    assert judge_fit(estimate, exact).verdict is not FitVerdict.CANNOT
