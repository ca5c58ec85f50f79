"""The benchmark of the estimate, on one real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp")
sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import fit as benchmark

from assay.core.fit import FitVerdict, MachineMemory
from assay.gates.fit import judge_fit
from assay.runtime import listeners, llama_launcher


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


@pytest.mark.slow
def test_cannot_is_what_the_real_server_says_too(tmp_path: Path) -> None:
    """Under one address-space limit `assay fit` says `cannot` and the server dies of it; a smaller one lives."""
    model = benchmark.write_gguf(tmp_path / "m.gguf", benchmark.SHAPES["llama-30m"], "Q8_0")
    # 8,192 B a token (2 x 8 layers x 256 x 2 B) x 8,192 tokens x 24 slots = 1.5 GiB: more than 1.536 GB
    asked = ["--context", "8192", "--concurrency", "24"]
    assert limited([sys.executable, "-m", "assay", "fit", str(model), *asked], tmp_path) == 3
    assert limited([sys.executable, "-m", "assay", "fit", str(model)], tmp_path) != 3
    assert limited(server(model, 8192 * 24, 24), tmp_path) == 1
    assert "failed to allocate" in (tmp_path / "log").read_text()
    assert limited(server(model, 512, 1), tmp_path) is None


def server(model: Path, tokens: int, slots: int) -> list[str]:
    """Assay's launcher of llama.cpp's server."""
    port = listeners.free_port()
    flags = {"-m": model, "--alias": "m", "--port": port, "-c": tokens, "-np": slots, "-t": 1}
    return [sys.executable, llama_launcher.__file__, *(str(w) for pair in flags.items() for w in pair)]


def limited(command: list[str], folder: Path) -> int | None:
    """The exit code of a command that may have 1.5 GB of addresses; None if it runs on and is ended."""
    with (folder / "log").open("w") as log:
        line = ["bash", "-c", 'ulimit -v 1500000; exec "$@"', "-", *command]
        process = subprocess.Popen(line, stdout=log, stderr=log, cwd=folder)
        try:
            return process.wait(timeout=15 if "--port" in command else 120)
        except subprocess.TimeoutExpired:
            assert '"listening"' in (folder / "log").read_text()
            return None
        finally:
            process.terminate()
            process.wait()
