"""The corpus of real and header-true checkpoints: each has an answer, and none crashes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

CORPUS = Path(__file__).parents[3] / "known_good" / "checkpoints"
sys.path.insert(0, str(CORPUS))
from good_cases import REAL, SYNTHETIC, unpack  # noqa: E402

from assay.core.fit import FitVerdict, MachineMemory, Serving  # noqa: E402
from assay.gates.fit import estimate_memory, judge_fit  # noqa: E402
from assay.readers.model import read_shape  # noqa: E402

ROOMY = MachineMemory(total_bytes=2**50, available_bytes=2**50)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What toolkits wrote."""
    return unpack(tmp_path_factory.mktemp("real"))


@pytest.mark.parametrize("engine", ["llama_cpp", "transformers", "vllm"])
@pytest.mark.parametrize("name", REAL)
def test_what_toolkits_wrote_has_an_answer(real: Path, name: str, engine: str) -> None:
    """Layers are known for every real checkpoint; a quantized folder for llama.cpp alone stays unknown."""
    shape = read_shape(real / name)
    assert shape.known, shape.unknown
    assert shape.weights is not None
    line = judge_fit(estimate_memory(shape, Serving(engine=engine)), ROOMY)
    folder_for_gguf = engine == "llama_cpp" and shape.format != "gguf" and shape.weights.quantized
    assert line.verdict is (FitVerdict.UNKNOWN if folder_for_gguf else FitVerdict.FITS), line.detail


@pytest.mark.parametrize("name", SYNTHETIC)
def test_header_true_checkpoints_have_an_answer(tmp_path: Path, name: str) -> None:
    """A shape with the weights' bytes, known or with what is missing by name."""
    shape = read_shape(SYNTHETIC[name].candidate(tmp_path / "candidate"))
    assert shape.known or shape.unknown
    assert shape.weights is not None
    assert shape.weights.total > 0
