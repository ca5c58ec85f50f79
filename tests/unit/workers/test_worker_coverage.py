"""What the torch workers quantize and what they must not pass over, on tiny models with random weights."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from assay.workers import _hf, _job, _tensors, quantize_compressed_tensors, quantize_modelopt

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("compressed_tensors")

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": 64,
    "max_position_embeddings": 64,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FUSED = ({"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"})

Quantize = Callable[..., Mapping[str, Any]]


@pytest.fixture
def quantize(tmp_path: Path) -> Quantize:
    """A function (model type, options) → the result file of the compressed-tensors worker."""

    def call(kind: str, **options: Any) -> Mapping[str, Any]:
        source = tmp_path / kind
        config = transformers.AutoConfig.for_model(kind, **SIZES, **(EXPERTS if kind != "llama" else {}))
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(source)
        job = {
            "source": str(source),
            "out": str(tmp_path / "out"),
            "result": str(tmp_path / "result.json"),
            "options": options,
        }
        (tmp_path / "job.json").write_text(json.dumps(job))
        _job.main(quantize_compressed_tensors.WORKER, [str(tmp_path / "job.json")])
        found: Mapping[str, Any] = json.loads((tmp_path / "result.json").read_text())
        return found

    return call


def test_fused_modules_share_a_global_scale(quantize: Quantize, tmp_path: Path) -> None:
    """A loader joins q/k/v, and gate/up, into one tensor: NVFP4 scales of the whole must be one."""
    result = quantize("llama", scheme="NVFP4A16")
    assert result["ok"], result
    checkpoint = _tensors.Checkpoint(tmp_path / "out")
    scales: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for name in checkpoint.names():
        if name.endswith(".weight_global_scale"):
            parent, _, module = name.removesuffix(".weight_global_scale").rpartition(".")
            for number, group in enumerate(FUSED):
                if module in group:
                    scales[parent, number][module] = float(checkpoint.get(name).raw.reshape(-1)[0])
    assert len(scales) == 4
    for (parent, number), found in scales.items():
        assert set(found) == FUSED[number]
        assert len(set(found.values())) == 1, (parent, found)


def test_a_shared_global_scale_loses_nothing(quantize: Quantize, tmp_path: Path) -> None:
    """Each weight is still as near to its source as FP4 with groups of 16 allows."""
    assert quantize("llama", scheme="NVFP4A16")["ok"]
    declared = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    readers = _tensors.CompressedTensors(_tensors.Checkpoint(tmp_path / "out"), declared).readers()
    source = _tensors.Checkpoint(tmp_path / "llama")
    for module in ("self_attn.k_proj", "mlp.up_proj"):
        name = f"model.layers.0.{module}.weight"
        before, after = source.get(name).float32(), readers[name]()
        largest = abs(before.reshape(before.shape[0], -1, 16)).max(-1).repeat(16, 1)
        # half of the widest step of FP4 (4 to 6), and 1/16 for the rounding of the scale to FP8
        assert (abs(after - before) <= largest * (1 / 6 + 1 / 16)).all()


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_stacked_experts_are_never_passed_over(quantize: Quantize, tmp_path: Path, kind: str) -> None:
    """Experts in one 3-D parameter are no Linear: a checkpoint without them quantized is not what was asked for."""
    result = quantize(kind, num_bits=8)
    assert (result["ok"], result["failure_class"]) == (False, "QUANT_COVERAGE_FAILURE")
    assert "model.layers.0.mlp.experts." in result["error"]
    assert "ignore" in result["error"]
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "options",
    [{"ignore": ["lm_head", r"re:.*\.experts\b.*"]}, {"targets": [r"re:.*self_attn\..*_proj"]}],
    ids=["ignored", "not-targeted"],
)
def test_experts_that_stay_on_purpose(quantize: Quantize, options: Mapping[str, Any]) -> None:
    """Whoever names them in `ignore`, or targets something else, gets the checkpoint."""
    result = quantize("qwen3_moe", num_bits=8, **options)
    assert result["ok"], result
    assert result["quantized_modules"] >= 8


class Quantizer(torch.nn.Module):  # type: ignore[misc, name-defined]
    """What of ModelOpt's TensorQuantizer the worker asks for."""

    def __init__(self, *, enabled: bool) -> None:
        super().__init__()
        self.is_enabled = enabled


class Experts(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Fused experts as ModelOpt leaves them in memory: 3-D weights, quantizers beside them, a list of them or one."""

    def __init__(self, *, enabled: bool, each: bool) -> None:
        super().__init__()
        for name in ("gate_up_proj", "down_proj"):
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(4, 32, 32)))
            one = Quantizer(enabled=enabled)
            listed = torch.nn.ModuleList(Quantizer(enabled=enabled) for _ in range(4))
            self.add_module(f"{name}_weight_quantizer{'s' if each else ''}", listed if each else one)
            self.add_module(f"{name}_input_quantizer", Quantizer(enabled=True))


def mixture(*, attention: bool, experts: bool, each: bool = True) -> Any:
    """A layer with attention and experts, after `mtq.quantize`."""
    model = torch.nn.Module()
    model.q_proj = torch.nn.Linear(4, 4)
    model.q_proj.weight_quantizer = Quantizer(enabled=attention)
    model.experts = Experts(enabled=experts, each=each)
    return model


EXPERTS_ONLY = [
    {"quantizer_name": "*", "enable": False},
    {"quantizer_name": "*.experts.*weight_quantizer*", "cfg": {"num_bits": (2, 1)}},
    {"quantizer_name": "experts.*weight_quantizer*", "cfg": {"num_bits": (2, 1)}},
]
EVERYTHING = [
    {"quantizer_name": "*", "enable": False},
    {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": (4, 3)}},
    {"quantizer_name": "*lm_head*", "enable": False},
    {"parent_class": "nn.BatchNorm1d", "quantizer_name": "*", "enable": False},
]


def job(**options: Any) -> _job.Job:
    """A job of the ModelOpt worker."""
    given = _job.validate_options(quantize_modelopt.WORKER, options)
    return _job.Job(Path("a"), Path("b"), given, seed=0, threads=1, emit=lambda *_: None)


@pytest.mark.parametrize("each", [True, False])
def test_experts_only_counts_the_experts(each: bool) -> None:
    """A recipe that takes stacked experts and nothing else took something."""
    asked = job(config="NVFP4_EXPERTS_ONLY")
    quantize_modelopt.check_coverage(
        asked, mixture(attention=False, experts=True, each=each), {"quant_cfg": EXPERTS_ONLY}
    )
    assert asked.extra["quantized_modules"] == 1
    assert "q_proj" in asked.notes[-1]


def test_experts_only_on_a_dense_model_took_nothing() -> None:
    """A model without experts: the recipe does nothing, and that is no checkpoint to judge."""
    model = torch.nn.Module()
    model.q_proj = torch.nn.Linear(4, 4)
    model.q_proj.weight_quantizer = Quantizer(enabled=False)
    with pytest.raises(_job.JobError, match="took none of 1 Linear") as caught:
        quantize_modelopt.check_coverage(job(config="NVFP4"), model, {"quant_cfg": EXPERTS_ONLY})
    assert caught.value.failure_class == "MODEL_UNSUPPORTED"


def test_modelopt_must_not_pass_over_experts_either() -> None:
    """A recipe for all weights whose experts have no quantizer that is on: an error, unless they are ignored."""
    model = mixture(attention=True, experts=False)
    with pytest.raises(_job.JobError, match=r"experts\.gate_up_proj") as caught:
        quantize_modelopt.check_coverage(job(config="FP8"), model, {"quant_cfg": EVERYTHING})
    assert caught.value.failure_class == "QUANT_COVERAGE_FAILURE"
    left = [*EVERYTHING, {"quantizer_name": "*experts*", "enable": False}]
    quantize_modelopt.check_coverage(job(config="FP8", ignore=["experts"]), model, {"quant_cfg": left})


def test_what_looks_stacked() -> None:
    """A matrix for each expert counts; convolutions, biases and tables of positions do not."""
    model = torch.nn.Module()
    model.experts = Experts(enabled=True, each=True)
    model.conv = torch.nn.Conv1d(32, 32, 16)
    model.position = torch.nn.Parameter(torch.zeros(1, 64, 32))
    model.bias = torch.nn.Parameter(torch.zeros(4, 1, 32))
    assert list(_hf.stacked_weights(model)) == ["experts.gate_up_proj", "experts.down_proj"]
