"""Whatever a declaration says about whatever tensors: read or refused, storable, and judged without an exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import header_of, write_file
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import UnreadableInput
from assay.core.vocabulary import Status
from assay.gates.checkpoint import CheckpointGate, CheckpointPolicy
from assay.readers.checkpoint import read_checkpoint
from assay.readers.checkpoint.safetensors import DTYPE_BITS

RECORDED = Path(__file__).parent / "recorded"
WORDS = st.sampled_from(
    [
        "quant_method", "config_groups", "group_0", "weights", "targets", "ignore", "num_bits", "type", "strategy",
        "group_size", "format", "quant_algo", "quantized_layers", "exclude_modules", "quantization", "producer",
        "bits", "dynamic", "sym", "zero_point", "version", "weight_block_size", "quant_config", "weight_quant_params",
        "nbits", "modules_in_block_to_quantize", "mode", "bnb_4bit_quant_storage",
        "load_in_4bit", "llm_int8_skip_modules", "quant_type", "default", "_type", "_data", "modules_to_not_convert",
        "rope_scaling", "vocab_size", "truncation", "padding", "model", "merges", "added_tokens", "chat_template",
    ]
) | st.text(max_size=4)  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["int", "float", "Linear", "re:.*", "re:(", "lm_head", "FP8", "NVFP4", "group", "channel", "*"]
    )
    | st.text(max_size=5)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)
SUFFIXES = st.sampled_from(
    [
        "weight", "weight_packed", "weight_scale", "weight_scale_2", "weight_scale_inv", "weight_zero_point",
        "weight_shape", "weight_global_scale", "input_scale", "pre_quant_scale", "bias", "weight.absmax",
        "weight.quant_map", "weight.quant_state.bitsandbytes__nf4", "weight.nested_absmax", "SCB",
        "_weight_qdata", "_weight_scale", "k_scale", "qweight", "qzeros", "scales", "g_idx", "biases", "blocks",
        "weight._data", "weight._data._data", "weight._scale", "weight._shift", "W_q", "scale", "zero", "shape", "nbits",
        "group_size", "compressed", "bitmask",
    ]
)  # fmt: skip
TENSORS = st.dictionaries(
    st.tuples(
        st.sampled_from(["lm_head", "model.a", "model.layers.0.mlp.up_proj", "model.norm"]), SUFFIXES
    ).map(".".join),
    st.tuples(
        st.sampled_from(sorted(DTYPE_BITS)), st.lists(st.integers(0, 4).map(lambda n: 2 * n), max_size=3)
    ),
    max_size=8,
)
METHODS = st.sampled_from(
    [
        "compressed-tensors", "modelopt", "bitsandbytes", "torchao", "awq", "gptq", "auto-round", "fp8", "fbgemm_fp8",
        "mxfp4", "quanto", "hqq", "mlx", None,
    ]
)  # fmt: skip
SIDECARS = st.sampled_from(
    ["hf_quant_config.json", "quantize_config.json", "quant_config.json", "quanto_qmap.json"]
)


def edited(value: Any, draw: st.DrawFn) -> Any:
    """A recorded value with one random place replaced by random JSON."""
    if not isinstance(value, dict) or not value or draw(st.booleans()):
        return draw(JSON)
    key = draw(st.sampled_from(sorted(value)))
    return {**value, key: edited(value[key], draw)}


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], dict[str, str], Any]:
    """Tensors, config, `__metadata__` and sidecar: recorded ones with damage, or made up."""
    if draw(st.booleans()):
        path = draw(st.sampled_from(sorted(RECORDED.glob("*.json"))))
        found = json.loads(path.read_text())
        tensors = {n: tuple(v) for n, v in found["tensors"].items()}
        for name in draw(st.lists(st.sampled_from(sorted(tensors)), max_size=3)):
            tensors[name] = draw(
                st.tuples(
                    st.sampled_from(sorted(DTYPE_BITS)),
                    st.lists(st.integers(0, 4).map(lambda n: 2 * n), max_size=3),
                )
            )
        block = edited(found["config"]["quantization_config"], draw)
        sidecar = edited(found["hf_quant_config"], draw) if "hf_quant_config" in found else None
        return tensors, {**found["config"], "quantization_config": block}, found["metadata"], sidecar
    block = draw(st.dictionaries(WORDS, JSON, max_size=5))
    block["quant_method"] = draw(METHODS)
    config = {**draw(st.dictionaries(WORDS, JSON, max_size=3)), "quantization_config": block}
    metadata = draw(
        st.dictionaries(st.sampled_from(["tensor_names", "lm_head.weight", "format"]), st.text(max_size=8))
    )
    return draw(TENSORS), config, metadata, draw(st.none() | JSON)


@given(cases(), JSON, JSON, SIDECARS)
def test_any_declaration_over_any_tensors(
    tmp_path_factory: pytest.TempPathFactory, case: Any, tokenizer: Any, settings: Any, beside: str
) -> None:
    """Nothing but UnreadableInput is raised; evidence can be stored; the gate answers."""
    tensors, config, metadata, sidecar = case
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    write_file(folder / "model.safetensors", header_of(tensors, metadata))
    for name, value in (
        ("config.json", config),
        ("tokenizer.json", tokenizer),
        ("generation_config.json", settings),
        ("tokenizer_config.json", settings),
        (beside, sidecar),
    ):
        if value is not None:
            (folder / name).write_text(json.dumps(value))
    try:
        found = read_checkpoint(folder, source=folder)
    except UnreadableInput:
        return
    assert found.content_digest
    for policy in (CheckpointPolicy(), CheckpointPolicy(recipe="W4A16", engine="transformers")):
        verdict = CheckpointGate(policy).judge({"source.checkpoint": found, "candidate.checkpoint": found})
        assert verdict.content_digest
        assert verdict.status in {Status.FAIL, Status.ERROR, Status.PASS}
