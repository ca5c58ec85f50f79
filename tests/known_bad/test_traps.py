"""The silent defects of facts/lab.md §6, made for real: each is refused with words that name it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Status
from assay.gates.checkpoint import CheckpointGate, CheckpointPolicy
from assay.readers.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "examples" / "release" / "model"
TRAPS = ROOT / "examples" / "traps"
WORKER = ROOT / "src" / "assay" / "workers" / "quantize_compressed_tensors.py"


def judge(path: Path, **policy: Any) -> Verdict:
    """The verdict on a folder with the demo model as its source."""
    source = read_checkpoint(SOURCE, "source")
    candidate = read_checkpoint(path, source=SOURCE)
    gate = CheckpointGate(CheckpointPolicy(**policy))
    return gate.judge({"source.checkpoint": source, "candidate.checkpoint": candidate})


def trap(name: str) -> Path:
    """The checkpoint of a trap; skips while it has not been made."""
    path = TRAPS / name / "checkpoint"
    if not path.is_dir():
        pytest.skip(f"examples/traps/{name}/checkpoint has not been made: run its make.py")
    return path


@pytest.mark.parametrize(
    ("name", "policy", "failure", "words"),
    [
        (
            "modelopt-without-scales",
            {"recipe": "fp8", "engine": "transformers"},
            FailureClass.MODEL_UNSUPPORTED,
            "transformers skips quant_method 'modelopt' with a warning and uses FP8 codes without scales",
        ),
        (
            "nf4-after-forward",
            {"recipe": "nf4"},
            FailureClass.QUANT_COVERAGE_FAILURE,
            "saved after a forward pass",
        ),
        (
            "nf4-after-forward",
            {"recipe": "nf4"},
            FailureClass.QUANT_COVERAGE_FAILURE,
            "codes no longer reproduce the source",
        ),
        (
            "tokenizer-leak",
            {"recipe": "from-declaration"},
            FailureClass.QUANT_COVERAGE_FAILURE,
            "calibration leaked into tokenizer.json: truncation.max_length=64",
        ),
        (
            "four-bit-in-name-only",
            {"recipe": "W4A8"},
            FailureClass.QUANT_COVERAGE_FAILURE,
            "4 bits are stored unpacked",
        ),
        (
            "four-bit-in-name-only",
            {"recipe": "from-declaration"},
            FailureClass.QUANT_COVERAGE_FAILURE,
            "as large as 8-bit",
        ),
        (
            "head-quantized",
            {"recipe": "W4A16"},
            FailureClass.QUANT_COVERAGE_FAILURE,
            "the output head lm_head is INT4: quantized unasked",
        ),
    ],
)
def test_a_trap_is_refused_and_named(
    name: str, policy: dict[str, Any], failure: FailureClass, words: str
) -> None:
    """What toolkits wrote without an error is refused, and the reason says what happened."""
    verdict = judge(trap(name), **policy)
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, failure)
    assert any(words in r.text for r in verdict.reasons if not r.ok), [r.text for r in verdict.reasons]


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("modelopt-without-scales", {"recipe": "fp8", "engine": "vllm"}),
        ("tokenizer-leak", {"recipe": "from-declaration", "metadata": "warn"}),
        ("head-quantized", {"intent": {"recipe": "W4A16", "ignore": []}}),
    ],
)
def test_a_trap_is_refused_for_its_defect_alone(name: str, policy: dict[str, Any]) -> None:
    """Without the defect's check, or with an engine that reads it, the same files are in order."""
    verdict = judge(trap(name), **policy)
    assert verdict.passed, [r.text for r in verdict.reasons if not r.ok]


# -- real good ones, so that the gate does not refuse everything -------------------------------------------


@pytest.fixture(scope="session")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, Any]], Path]:
    """Quantizes the demo model with compressed-tensors, once per option set."""
    pytest.importorskip("compressed_tensors")
    home = tmp_path_factory.mktemp("quantized")

    def make(name: str, options: dict[str, Any]) -> Path:
        out = home / name
        if not out.exists():
            job = {
                "source": str(SOURCE),
                "out": str(out),
                "result": str(home / f"{name}.result"),
                "options": options,
            }
            path = home / f"{name}.job"
            path.write_text(json.dumps(job))
            done = subprocess.run(
                [sys.executable, str(WORKER), str(path)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr[-2000:]
        return out

    return make


REAL = {
    "W8A8": ({"scheme": "W8A8"}, "W8A8"),
    "FP8_DYNAMIC": ({"scheme": "FP8_DYNAMIC"}, "fp8"),
    "W4A16": ({"scheme": "W4A16"}, "W4A16"),
    "W4A16_ASYM": ({"scheme": "W4A16_ASYM"}, "W4A16_ASYM"),
    "NVFP4A16": ({"scheme": "NVFP4A16"}, "nvfp4"),
    "MXFP4A16": ({"scheme": "MXFP4A16"}, "mxfp4"),
    "W3-g32": ({"num_bits": 3, "group_size": 32}, "W3A16"),
    "W2-g32": ({"num_bits": 2, "group_size": 32}, "W2A16"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_real_quantized_checkpoint_passes(quantized: Callable[..., Path], name: str) -> None:
    """What compressed-tensors writes by a recipe passes under it, its weights compared, for transformers."""
    options, recipe = REAL[name]
    verdict = judge(quantized(name, options), recipe=recipe, engine="transformers", require_fidelity=True)
    assert verdict.passed, [r.text for r in verdict.reasons if not r.ok]
    assert any("sampled modules reproduce" in r.text for r in verdict.reasons)


def zero_scales(folder: Path) -> None:
    """Set every weight_scale to zero, header untouched."""
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name.endswith("weight_scale"):
            begin, end = entry["data_offsets"]
            data[8 + length + begin : 8 + length + end] = bytes(end - begin)
    path.write_bytes(bytes(data))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda p: (p / "chat_template.jinja").write_text("{{ other }}"), "chat template changed"),
        (lambda p: (p / "generation_config.json").unlink(), "generation_config.json is missing"),
        (
            lambda p: (p / "model.safetensors").write_bytes((p / "model.safetensors").read_bytes()[:-100]),
            "truncated",
        ),
        (zero_scales, "codes no longer reproduce"),
    ],
)
def test_a_real_checkpoint_with_one_defect_is_refused(
    quantized: Callable[..., Path], tmp_path: Path, damage: Callable[[Path], Any], word: str
) -> None:
    """One defect in real files is found and named."""
    copy = tmp_path / "damaged"
    shutil.copytree(quantized("W4A16", {"scheme": "W4A16"}), copy)
    damage(copy)
    verdict = judge(copy, recipe="W4A16")
    assert verdict.status is Status.FAIL
    assert any(word in r.text for r in verdict.reasons if not r.ok), [r.text for r in verdict.reasons]
