"""Formats: recorded headers of real toolkits give the precision that was stored; damaged ones say what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.core.checkpoint import Checkpoint, Module
from assay.readers.checkpoint import read_checkpoint

Recorded = Callable[..., Path]
UP = "model.layers.0.mlp.up_proj"


def linears(found: Checkpoint) -> list[Module]:
    """The linears without the head."""
    return [m for m in found.modules if m.kind == "linear"]


def up(found: Checkpoint) -> Module:
    """The up projection."""
    return next(m for m in found.modules if m.name == UP)


@pytest.mark.parametrize(
    ("name", "scheme", "bits", "shape", "group", "activation"),
    [
        ("llmcompressor-W8A8", "INT8", 8, (384, 128), None, "int8-token-dynamic"),
        ("llmcompressor-W4A16", "INT4", 4, (384, 128), 128, None),
        ("llmcompressor-NVFP4", "NVFP4", 4, (384, 128), 16, "float4-tensor_group-local"),
        ("llmcompressor-FP8-kv8", "FP8", 8, (384, 128), None, "float8-token-dynamic"),
        ("modelopt-FP8", "FP8", 8, (384, 128), None, "declared by FP8"),
        ("modelopt-NVFP4", "NVFP4", 4, (384, 128), 16, "declared by NVFP4"),
        ("modelopt-INT4_AWQ", "INT4", 4, (384, 128), 128, None),
        ("torchao-int8wo", "INT8", 8, (384, 128), None, None),
    ],
)
def test_recorded_headers_give_the_stored_precision(
    recorded: Recorded, name: str, scheme: str, bits: int, shape: tuple[int, ...], group: int, activation: str
) -> None:
    """Scheme, logical shape, group and activation of what llm-compressor, ModelOpt and torchao really wrote."""
    found = read_checkpoint(recorded(name))
    module = up(found)
    assert {m.scheme for m in linears(found)} == {scheme}
    assert {m.declared for m in linears(found)} == {scheme}
    assert (module.weight_bits, module.shape, module.group_size) == (bits, shape, group)
    assert module.activation == activation
    assert [p for m in found.modules for p in m.problems] == []
    assert found.problems == ()
    head = next(m for m in found.modules if m.kind == "head")
    assert (head.scheme, head.ignored, head.declared) == ("BF16", True, None)


def test_u8_is_told_apart_by_the_halved_dimension(recorded: Recorded) -> None:
    """NVFP4 halves the inputs and INT4 the outputs: the scale's rows decide, not the declaration."""

    def lie(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        config["quantization_config"]["quant_algo"] = "NVFP4"

    found = read_checkpoint(recorded("modelopt-INT4_AWQ", lie))
    assert up(found).scheme == "INT4"
    assert up(found).declared == "NVFP4"
    assert any("hf_quant_config.json" in p for p in found.problems)


def test_stored_bits_count_scales(recorded: Recorded) -> None:
    """4-bit weights with a 16-bit scale for 128 of them and a shape cost 4.13 bits."""
    module = up(read_checkpoint(recorded("llmcompressor-W4A16")))
    assert module.stored_bits == pytest.approx(4 + 16 / 128 + 128 / (384 * 128), abs=1e-5)


def drop(part: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Take one tensor of the up projection away."""

    def change(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        del tensors[f"{UP}.{part}"]

    return change


def put(part: str, dtype: str, shape: list[int]) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Replace one tensor of the up projection."""

    def change(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        tensors[f"{UP}.{part}"] = [dtype, shape]

    return change


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("llmcompressor-W8A8", drop("weight_scale"), "weight_scale is missing"),
        ("llmcompressor-W4A16", drop("weight_scale"), "weight_scale is missing"),
        ("llmcompressor-W4A16", drop("weight_shape"), "weight_shape is missing"),
        ("llmcompressor-W4A16", put("weight_scale", "BF16", [384, 2]), "has shape"),
        ("llmcompressor-W8A8", put("weight_scale", "BF16", [192, 1]), "has shape"),
        ("llmcompressor-W8A8", put("weight_scale", "BF16", [385, 1]), "has shape"),
        ("llmcompressor-W8A8", put("weight_scale", "I64", [384, 1]), "not a float"),
        ("llmcompressor-W8A8", put("weight", "BF16", [384, 128]), "fake quantization"),
        ("llmcompressor-NVFP4", drop("weight_global_scale"), "second-level scale"),
        ("modelopt-FP8", drop("weight_scale"), "weight_scale is missing"),
        ("modelopt-NVFP4", drop("weight_scale_2"), "second-level scale"),
        ("modelopt-NVFP4", put("weight_scale", "F8_E4M3", [384, 4]), "has shape"),
        ("modelopt-NVFP4", put("weight_scale", "F32", [384, 8]), "not a scale of 4-bit floats"),
        ("torchao-int8wo", drop("_weight_scale"), "scale is missing"),
    ],
)
def test_a_damaged_module_says_what_is_wrong(
    recorded: Recorded, name: str, change: Callable[..., None], word: str | None
) -> None:
    """A missing or misshapen scale is a problem of its module and of no other."""
    found = read_checkpoint(recorded(name, change))
    assert [m.name for m in found.modules if m.problems] == ([UP] if word else [])
    if word:
        assert word in up(found).problems[0]


def test_orphans_and_leaks_are_problems_of_the_checkpoint(recorded: Recorded) -> None:
    """Scales without a weight and calibration state do not belong in a release."""

    def change(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        del tensors[f"{UP}.weight"]
        tensors[f"{UP}.weight_quantizer._amax"] = ["F32", []]

    problems = read_checkpoint(recorded("modelopt-FP8", change)).problems
    assert any("without a weight" in p for p in problems)
    assert any("leaked" in p for p in problems)


def test_an_unpacked_width_is_seen(recorded: Recorded) -> None:
    """4-bit codes that lie in bytes keep their scheme and show 8 bits on disk."""

    def change(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] = 4

    module = up(read_checkpoint(recorded("llmcompressor-W8A8", change)))
    assert (module.scheme, module.weight_bits) == ("INT4", 4)
    assert module.stored_bits > 8


def test_torchao_intx_is_four_bits_in_eight(recorded: Recorded) -> None:
    """IntxUnpackedToInt8Tensor says its width in `__metadata__` only."""
    import json  # noqa: PLC0415

    folder = recorded("torchao-int8wo")
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    kind = {"_type": "IntxUnpackedToInt8Tensor", "_data": {"target_dtype": "torch.int4"}}
    for name, text in header["__metadata__"].items():
        if "Int8Tensor" in text:
            header["__metadata__"][name] = json.dumps({**json.loads(text), **kind})
    new = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(new).to_bytes(8, "little") + new + data[8 + length :])
    module = up(read_checkpoint(folder))
    assert (module.scheme, module.weight_bits) == ("INT4", 4)
    assert module.stored_bits > 8


def test_a_repacked_nf4_is_seen_in_the_header(recorded: Recorded) -> None:
    """The recorded NF4 checkpoint was saved after a forward: its absmax is no flat list."""

    def flatten(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        for name in [n for n in tensors if "quant_state" in n]:
            tensors[name] = ["U8", [len(STATE.format("384, 128"))]]

    folder = recorded("bitsandbytes-nf4", flatten)
    fill_states(folder)
    found = read_checkpoint(folder)
    assert up(found).scheme == "NF4"
    assert up(found).shape == (384, 128)
    assert "after a forward pass" in up(found).problems[0]


def test_nf4_without_a_readable_state_is_a_problem(recorded: Recorded) -> None:
    """Zeros are no quant_state."""
    assert up(read_checkpoint(recorded("bitsandbytes-nf4"))).problems == ("quant_state cannot be read",)


STATE = '{{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [{}]}}'


def fill_states(folder: Path) -> None:
    """Write a quant_state of [384, 128] into every state tensor."""
    import json  # noqa: PLC0415

    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if "quant_state" in name:
            begin, end = entry["data_offsets"]
            data[8 + length + begin : 8 + length + end] = STATE.format("384, 128").encode()
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("pattern", ["re:(a+)+$", "re:(", "re:" + "a" * 600])
def test_a_pattern_that_cannot_be_used_is_a_problem(recorded: Recorded, pattern: str) -> None:
    """A declaration cannot make the reader hang."""

    def change(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        config["quantization_config"]["ignore"] = ["lm_head", pattern]

    assert any(
        "cannot be used" in p for p in read_checkpoint(recorded("llmcompressor-W8A8", change)).problems
    )


def test_patterns_are_obeyed(recorded: Recorded) -> None:
    """`re:` patterns and class names resolve as compressed-tensors resolves them."""

    def change(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        config["quantization_config"]["ignore"] = ["lm_head", r"re:.*down_proj"]

    found = read_checkpoint(recorded("llmcompressor-W8A8", change))
    assert {m.name for m in found.modules if m.ignored} == {"lm_head", "model.layers.0.mlp.down_proj"}


@pytest.mark.parametrize(
    "groups",
    [
        None,
        [],
        {"g": None},
        {"g": {"weights": {"num_bits": "x"}}},
        {"g": {"weights": {"num_bits": True, "type": "int"}}},
    ],
)
def test_a_broken_declaration_is_a_problem(recorded: Recorded, groups: Any) -> None:
    """A config_groups that cannot be read is never taken for an unquantized model."""

    def change(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        config["quantization_config"]["config_groups"] = groups

    assert any("config_groups" in p for p in read_checkpoint(recorded("llmcompressor-W8A8", change)).problems)


def test_quantized_weights_that_nothing_declares_are_a_problem(recorded: Recorded) -> None:
    """FP8 codes without a declaration are read without scales."""

    def change(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        del config["quantization_config"]

    folder = recorded("llmcompressor-FP8-kv8", change)
    found = read_checkpoint(folder)
    assert up(found).scheme == "FP8"
    assert "without a declaration" in up(found).problems[0]
