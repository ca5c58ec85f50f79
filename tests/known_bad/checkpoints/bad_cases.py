"""Checkpoints that must not pass, each with the verdict it must get and the failure in the field that it stands for.

`release` is facts/release.md; MO is NVIDIA Model-Optimizer's tracker. A case changes one thing in a checkpoint of
`tests/known_good`, so that it can only be refused for that.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "known_good" / "checkpoints"))

from header_true import (
    Model,
    gguf_tensors,
    gguf_values,
    quantized,
    source,
    write_gguf,
    write_safetensors,
)

from assay.core.vocabulary import FailureClass

COVERAGE = FailureClass.QUANT_COVERAGE_FAILURE
UNSUPPORTED = FailureClass.MODEL_UNSUPPORTED
Write = Callable[[Path], Path]
UP = "model.layers.0.mlp.up_proj"


@dataclass(frozen=True)
class Bad:
    """One defect."""

    source: Callable[[], Model]
    candidate: Write
    recipe: str
    failure: FailureClass
    words: str
    """What a reason must say."""
    why: str
    """Where it happened."""
    policy: Mapping[str, Any] = field(default_factory=dict)


def case(
    form: str,
    change: Callable[[Model], Any],
    recipe: str,
    words: str,
    why: str,
    *,
    arch: str = "dense",
    failure: FailureClass = COVERAGE,
    base: Callable[[], Model] | None = None,
    **policy: Any,
) -> Bad:
    """A checkpoint in order, with one change."""

    def write(folder: Path) -> Path:
        model = quantized(arch, form)
        return (change(model) or model).write(folder)

    return Bad(base or (lambda: source(arch)), write, recipe, failure, words, why, policy)


def set_tensor(name: str, dtype: str, shape: tuple[int, ...]) -> Callable[[Model], None]:
    """Replace or add one tensor."""

    def change(model: Model) -> None:
        model.tensors[name] = (dtype, shape)

    return change


def drop(*words: str) -> Callable[[Model], Model]:
    """Without the tensors whose names hold a word."""
    return lambda model: model.drop(*words)


def unquantize(*words: str) -> Callable[[Model], None]:
    """Store linears as BF16 after all, in shape and place of the source."""

    def change(model: Model) -> None:
        stems = {n.rpartition(".")[0] for n in model.tensors if any(w in n for w in words)}
        for stem in stems:
            shape = _logical(model, stem)
            model.tensors = {n: t for n, t in model.tensors.items() if n.rpartition(".")[0] != stem}
            model.tensors[f"{stem}.weight"] = ("BF16", shape)

    return change


def _logical(model: Model, stem: str) -> tuple[int, ...]:
    dtype, shape = model.tensors[f"{stem}.weight"]
    return (shape[0], shape[1] * 2) if dtype == "U8" else shape


def edit(**fields: Any) -> Callable[[Model], None]:
    """Set fields of config.json; None removes one."""

    def change(model: Model) -> None:
        model.config |= fields
        model.config = {k: v for k, v in model.config.items() if v is not None}

    return change


def declare(**fields: Any) -> Callable[[Model], None]:
    """Set fields of the declaration."""

    def change(model: Model) -> None:
        model.config["quantization_config"] |= fields
        model.files.pop("hf_quant_config.json", None)

    return change


def file(name: str, value: Any) -> Callable[[Model], None]:
    """Replace one file; None leaves it out."""

    def change(model: Model) -> None:
        model.files[name] = value

    return change


def shards(index: Callable[[dict[str, str]], dict[str, str]]) -> Callable[[Model], Any]:
    """Three shards with an index that is changed."""

    def change(model: Model) -> None:
        model.shards = 3
        names = sorted(model.tensors)
        true = {n: f"model-{1 + 3 * i // len(names):05d}-of-00003.safetensors" for i, n in enumerate(names)}
        model.index = index(true)

    return change


def then(form: str, after: Callable[[Path], Any], *, parts: int = 1, arch: str = "dense") -> Write:
    """Write a checkpoint in order, then damage its files."""

    def write(folder: Path) -> Path:
        model = quantized(arch, form)
        model.shards = parts
        model.write(folder)
        after(folder)
        return folder

    return write


def values(form: str, name: str, data: Callable[[int], bytes]) -> Callable[[Model], None]:
    """Give one tensor other data."""

    def change(model: Model) -> None:
        _, shape = model.tensors[name]
        model.values[name] = data(math.prod(shape))

    return change


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size - 1000)


def _kv_only(model: Model) -> Model:
    plain = source("dense")
    block = model.config["quantization_config"] | {"quant_algo": None, "kv_cache_scheme": {"num_bits": 8}}
    plain.config["quantization_config"] = block
    for layer in range(2):
        for name in "kv":
            plain.tensors[f"model.layers.{layer}.self_attn.{name}_proj.{name}_scale"] = ("F32", ())
    return plain


def _fused_skipped(model: Model) -> Model:
    """Attention is quantized, the fused experts are not: most of the weights."""
    fused = source("moe-fused")
    model.tensors = {n: t for n, t in model.tensors.items() if ".experts." not in n}
    model.tensors |= {n: t for n, t in fused.tensors.items() if ".experts." in n}
    return model


def _vision(form: str) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        good = {n: t for n, t in model.tensors.items() if "visual" in n and len(t[1]) == 2}
        for name, (_, shape) in good.items():
            stem = name.removesuffix(".weight")
            model.tensors[name] = ("F8_E4M3", shape)
            model.tensors |= {f"{stem}.weight_scale": ("F32", ()), f"{stem}.input_scale": ("F32", ())}
        block = model.config["quantization_config"]
        block["ignore"] = [n for n in block["ignore"] if "visual" not in n]
        model.files["hf_quant_config.json"]["quantization"]["exclude_modules"] = block["ignore"]

    return change


def _router(model: Model) -> None:
    for layer in range(2):
        stem = f"model.layers.{layer}.mlp.gate"
        _, shape = model.tensors[f"{stem}.weight"]
        model.tensors[f"{stem}.weight"] = ("F8_E4M3", shape)
        model.tensors |= {f"{stem}.weight_scale": ("F32", ()), f"{stem}.input_scale": ("F32", ())}
    block = model.config["quantization_config"]
    block["ignore"] = [n for n in block["ignore"] if "mlp.gate" not in n]
    model.files["hf_quant_config.json"]["quantization"]["exclude_modules"] = block["ignore"]


def _mixed_group(model: Model) -> None:
    """Q in FP8, k and v as they were, and declared so."""
    unquantize("0.self_attn.k_proj", "0.self_attn.v_proj")(model)
    block = model.config["quantization_config"]
    block["ignore"] += ["model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.v_proj"]
    model.files["hf_quant_config.json"]["quantization"]["exclude_modules"] = block["ignore"]


def _head_quantized(model: Model) -> None:
    _, shape = model.tensors["lm_head.weight"]
    model.tensors |= {
        "lm_head.weight": ("F8_E4M3", shape),
        "lm_head.weight_scale": ("F32", ()),
        "lm_head.input_scale": ("F32", ()),
    }


def _wrong_prefix(model: Model) -> None:
    """MO #2076: the table names modules as the wrapper class does."""
    names = sorted({n.rpartition(".")[0] for n in model.tensors if n.endswith("_proj.weight")})
    table = {n.replace("model.", "model.language_model.", 1): {"quant_algo": "FP8"} for n in names}
    model.config["quantization_config"] = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": table,
    }
    del model.files["hf_quant_config.json"]


def _sparse_table(model: Model) -> None:
    """The table of layers leaves out one that is quantized."""
    _wrong_prefix(model)
    table = model.config["quantization_config"]["quantized_layers"]
    model.config["quantization_config"]["quantized_layers"] = {
        n.replace("model.language_model.", "model."): v for n, v in table.items() if "1.mlp.up_proj" not in n
    }


def _second_scales_differ(model: Model) -> None:
    """What no calibration token reached falls back on its own largest weight: gate and up get a scale each."""
    stem = "model.layers.1.mlp.experts.3"
    model.values[f"{stem}.gate_proj.weight_scale_2"] = struct.pack("<f", 1e-4)
    model.values[f"{stem}.up_proj.weight_scale_2"] = struct.pack("<f", 3e-4)


def _infinite_input(model: Model) -> None:
    model.values["model.layers.1.mlp.experts.3.down_proj.input_scale"] = struct.pack("<f", math.inf)


def _nemotron(model: Model) -> None:
    unquantize("mixer.up_proj")(model)


def _one_expert(model: Model) -> None:
    unquantize("layers.1.mlp.experts.3.up_proj")(model)


def _bias(model: Model) -> Model:
    return model


def _with_bias() -> Model:
    model = source("dense")
    model.tensors[f"{UP}.bias"] = ("BF16", (1024,))
    return model


def _gguf(change: Callable[[dict[str, Any]], None], **more: Any) -> Write:
    def write(folder: Path) -> Path:
        tensors = gguf_tensors("dense", "Q4_0")
        change(tensors)
        return write_gguf(folder / "model.gguf", tensors, {**gguf_values(source("dense")), **more})

    return write


def _q8_attention(tensors: dict[str, Any]) -> None:
    for name in [n for n in tensors if "attn_q" in n or "ffn_up" in n]:
        tensors[name] = ("F16", tensors[name][1])


def _removed(tensors: dict[str, Any]) -> None:
    tensors["blk.0.ffn_up.weight"] = ("Q4_0_4_4", tensors["blk.0.ffn_up.weight"][1])


def _tied_plain() -> Model:
    model = source("qwen3-0.6b")
    model.config["tie_word_embeddings"] = True
    return model


def _tied_only(folder: Path) -> Path:
    """MO: Qwen3-0.6B shrinks to .793 although nothing is quantized: the tied head is stored once."""
    return _tied_plain().drop("lm_head").write(folder)


def _cast(folder: Path) -> Path:
    return source("dense").write(folder)


def _native(folder: Path) -> Path:
    """Half of an FP8-native source came back as BF16."""
    model = quantized("dense", "fp8-hub")
    for stem in [
        n.removesuffix(".weight") for n in model.tensors if ".mlp." in n and n.endswith("proj.weight")
    ]:
        model.tensors[f"{stem}.weight"] = ("BF16", model.tensors[f"{stem}.weight"][1])
        del model.tensors[f"{stem}.weight_scale_inv"]
    return model.write(folder)


def _frozen(model: Model) -> None:
    for name, (dtype, shape) in list(model.tensors.items()):
        if dtype == "I8":
            model.tensors[name] = ("BF16", shape)
    model.config["quantization_config"] |= {"format": "dense", "quantization_status": "frozen"}


def _eight_bits(model: Model) -> None:
    """The declaration says four bits, the codes are eight."""
    eight = quantized("dense", "gptq-8")
    model.tensors = eight.tensors


def _zeros(count: int) -> bytes:
    return bytes(4 * count)


def _nan(count: int) -> bytes:
    return struct.pack("<f", math.nan) * count


def _inf_half(count: int) -> bytes:
    return b"\x80\x7f" * count


BAD: Mapping[str, Bad] = {
    # -- coverage -------------------------------------------------------------------------------------
    "196-silently-unquantized": Bad(
        lambda: source("qwen3-0.6b"), lambda f: source("qwen3-0.6b").write(f), "nvfp4", UNSUPPORTED, "0 of 196 modules are",
        "release §1.6: exported without an error, quant_algo null, 196 layers BF16",
    ),
    "experts-only-on-dense": Bad(
        lambda: source("qwen3-0.6b"), lambda f: source("qwen3-0.6b").write(f), "nvfp4_experts_only", UNSUPPORTED, "the model has no such module",
        "MO #1596: the recipe matches nothing on a dense model",
    ),
    "declared-but-unquantized": case(
        "modelopt-fp8", unquantize("_proj"), "fp8", "declared FP8, stored as BF16", "release §3.4.1: the declaration says FP8, the bytes say BF16", failure=UNSUPPORTED
    ),
    "kv-cache-only": case("modelopt-fp8", _kv_only, "fp8", "left unquantized", "MO #1711: only the KV cache was quantized", failure=UNSUPPORTED),
    "fused-experts-skipped": case(
        "modelopt-nvfp4", _fused_skipped, "nvfp4", "4 targeted modules are BF16, left unquantized", "MO #1219, #1711: Gemma 4, MiniMax-M3",
        arch="moe", base=lambda: source("moe-fused"),
    ),
    "mixer-up-missed": case("modelopt-fp8", _nemotron, "fp8", "mixer.up_proj", "MO 0.46 notes: NemotronH mixer.up_proj missed", arch="mixer"),
    "one-expert-missed": case("modelopt-nvfp4", _one_expert, "nvfp4", "experts.3.up_proj", "release §3.4.7: counts differ between experts", arch="moe"),
    "one-layer-missed": case("ct-int-quantized", unquantize("layers.1.mlp.down_proj"), "W8A8", "layers.1.mlp.down_proj", "release §3.4.7: layer 1 differs from layer 0"),
    "router-quantized": case("modelopt-fp8", _router, "fp8", "2 routers are FP8, quantized unasked", "MO #1858: routers not in the exclude list", arch="moe"),
    "vision-tower-quantized": case("modelopt-fp8", _vision("fp8"), "fp8", "vision or audio tower are FP8, quantized unasked", "MO #1632: MMMU-Pro 63.7 -> 0", arch="vlm"),
    "vision-tower-quantized-by-declaration": case(
        "modelopt-fp8", _vision("fp8"), "from-declaration", "vision or audio tower", "MO #1826: Llama 4's tower, judged without a recipe", arch="vlm"
    ),
    "head-quantized-though-excluded": case("modelopt-fp8", _head_quantized, "fp8", "output head lm_head is FP8", "vllm #45132: lm_head has scales though excluded"),
    "head-with-leftover-scale": case("modelopt-fp8", set_tensor("lm_head.weight_scale", "F32", ()), "fp8", "fake quantization", "vllm #45132"),
    "mtp-plain-but-not-excluded": case(
        "modelopt-fp8", unquantize("layers.2."), "from-declaration", "declared FP8, stored as BF16", "vllm #49187, #49539, #46757", arch="mtp"
    ),
    "fused-group-mixed": case(
        "modelopt-fp8", _mixed_group, "from-declaration", "fused groups mix precisions", "release §3.4.6: q, k, v in different formats", failure=UNSUPPORTED, engine="vllm"
    ),
    "excluded-and-nothing-left": case(
        "modelopt-fp8",
        lambda m: (unquantize("mlp.")(m), m.config["quantization_config"]["ignore"].append("*mlp*"), m.files["hf_quant_config.json"]["quantization"].update(exclude_modules=m.config["quantization_config"]["ignore"])) and None,
        "fp8", "6 targeted modules are BF16", "release §3: a declared exclusion is no free pass",
    ),
    "native-fp8-fell-back": Bad(
        lambda: quantized("dense", "fp8-hub"), _native, "none", COVERAGE, "from FP8 to BF16", "release §3.3: an FP8-native source falls back to BF16 and grows"
    ),
    "expert-uncalibrated": case(
        "modelopt-nvfp4", drop("layers.1.mlp.experts.3.down_proj.input_scale"), "nvfp4", "input_scale is missing",
        "release §6: an expert that no calibration token reached (MO #1063, #1354)", arch="moe",
    ),
    "expert-uncalibrated-infinite": case(
        "modelopt-nvfp4", _infinite_input, "nvfp4", "not finite", "release §6: uncalibrated experts", arch="moe"
    ),
    "expert-uncalibrated-scales-differ": case(
        "modelopt-nvfp4", _second_scales_differ, "nvfp4", "different second-level scales",
        "MO #1411, vllm #54974: gate and up of an expert are computed with one of two scales", arch="moe", engine="vllm",
    ),
    # -- declaration ------------------------------------------------------------------------------------
    "table-names-other-modules": case("modelopt-fp8", _wrong_prefix, "fp8", "quantized_layers are not in the checkpoint", "MO #2076, vllm #54547: prefixes changed"),
    "table-is-sparse": case(
        "modelopt-fp8", _sparse_table, "from-declaration", "stored as FP8 without being declared", "vllm #47318: the list names only some of the layers"
    ),
    "two-declarations-disagree": case(
        "modelopt-fp8", lambda m: m.config["quantization_config"].update(quant_algo="NVFP4"), "fp8", "hf_quant_config.json", "release §3.1: both files are written"
    ),
    "gptq-width-differs": case("gptq-4", _eight_bits, "gptq", "declared INT4, stored as INT8", "release §3.2: per-module bits differ", failure=UNSUPPORTED),
    "gptq-dynamic-not-obeyed": case(
        "gptq-4", declare(dynamic={"+:.*down_proj": {"bits": 8}}), "from-declaration", "declared INT8, stored as INT4", "release §3.2: dynamic patterns"
    ),
    "fake-quantization": case("ct-int-quantized", _frozen, "W8A8", "fake quantization", "release §3.2: status frozen, BF16 weights with scales", failure=UNSUPPORTED),
    "declaration-lost": case(
        "fp8-hub", edit(quantization_config=None), "fp8", "without a declaration", "a config.json copied over from the source"
    ),
    "modelopt-for-transformers": case(
        "modelopt-fp8", lambda m: None, "fp8", "uses FP8 codes without scales", "facts/lab.md §6.1", failure=UNSUPPORTED, engine="transformers"
    ),
    # -- tensors ----------------------------------------------------------------------------------------
    "half-size-scales": case("modelopt-nvfp4", set_tensor(f"{UP}.weight_scale", "F8_E4M3", (1024, 16)), "nvfp4", "weight_scale has shape", "MO #2038"),
    "half-size-row-scales": case("ct-int-quantized", set_tensor(f"{UP}.weight_scale", "BF16", (512, 1)), "W8A8", "weight_scale has shape", "MO #2038, per channel"),
    "scale-of-wrong-dtype": case("modelopt-nvfp4", set_tensor(f"{UP}.weight_scale", "F32", (1024, 32)), "nvfp4", "not a scale of 4-bit floats", "release §3.4.4", failure=COVERAGE),
    "scale-missing": case("ct-float-quantized", drop(f"{UP}.weight_scale"), "fp8", "weight_scale is missing", "vllm #57108: loads without an error"),
    "second-scale-missing": case("modelopt-nvfp4", drop(f"{UP}.weight_scale_2"), "nvfp4", "second-level scale is missing", "release §3.1"),
    "zero-points-missing": case("ct-pack-asym", drop(f"{UP}.weight_zero_point"), "W4A16_ASYM", "weight_zero_point is missing", "release §3.2"),
    "block-scales-of-64": case("fp8-hub", set_tensor(f"{UP}.weight_scale_inv", "F32", (16, 8)), "fp8", "weight_scale has shape [16, 8], not [8, 4]", "release §3.1: blocks of 128"),
    "awq-scales-transposed": case("awq-gemm", set_tensor(f"{UP}.scales", "F16", (1024, 4)), "awq", "scales", "release §3.2: packed along the outputs"),
    "gptq-zeros-missing": case("gptq-3", drop(f"{UP}.qzeros"), "gptq_int3", "qzeros is missing", "release §3.2"),
    "mxfp4-scales-missing": case("mxfp4-hub", drop("layers.0.mlp.experts.down_proj_scales"), "mxfp4_hub", "scales is missing", "release §3.2", arch="gpt-oss"),
    "mlx-biases-missing": case("mlx-4bit", drop(f"{UP}.biases"), "mlx_4bit", "biases is missing", "release §3.2"),
    "mlx-layer-skipped": case(
        "mlx-4bit", lambda m: (m.drop(f"{UP}."), m.tensors.update({f"{UP}.weight": ("BF16", (1024, 512))})) and None, "mlx_4bit", "1 targeted modules are BF16", "release §3.2: no trace in the config"
    ),
    "quanto-shift-missing": case("quanto-int4", drop(f"{UP}.weight._shift"), "quanto_int4", "_shift is missing", "release §3.2"),
    "leaked-calibration": case("modelopt-fp8", set_tensor(f"{UP}.weight_quantizer._amax", "F32", ()), "fp8", "calibration tensors leaked", "MO #2038: leaked internals"),
    "leaked-double-scale": case("modelopt-nvfp4", set_tensor(f"{UP}.weight_quantizer._double_scale", "F32", ()), "nvfp4", "calibration tensors leaked", "release §3.4.10"),
    "scale-is-nan": case("modelopt-fp8", values("", f"{UP}.weight_scale", _nan), "fp8", "not finite", "issue 3: non-finite scales"),
    "scale-is-infinite": case("ct-int-quantized", values("", f"{UP}.weight_scale", _inf_half), "W8A8", "not finite", "issue 3: non-finite scales"),
    "scale-is-zero": case("modelopt-fp8", values("", f"{UP}.weight_scale", _zeros), "fp8", "all of 1 values are zero", "issue 3: zero scales"),
    "codes-in-four-bits-stored-in-eight": case(
        "ct-int-quantized",
        lambda m: m.config["quantization_config"]["config_groups"]["group_0"]["weights"].update(num_bits=4), "W4A8", "stored unpacked", "facts/lab.md §6.4",
    ),
    # -- modules ----------------------------------------------------------------------------------------
    "mtp-lost": case("modelopt-fp8", drop("layers.2."), "fp8", "multi-token prediction", "MO #1532: MTP tensors lost", arch="mtp"),
    "untied-head-lost": case("modelopt-fp8", drop("lm_head"), "fp8", "missing (the output head)", "MO 0.47 notes: tied-weight cleaning of MiniMax-M2.7"),
    "vision-tower-lost": case("modelopt-fp8", drop("visual"), "fp8", "missing (the vision or audio tower)", "release §3.3: dropped vision weights shrink and pass", arch="vlm"),
    "expert-lost": case("modelopt-nvfp4", drop("layers.1.mlp.experts.3."), "nvfp4", "missing (experts)", "release §3.4.9", arch="moe"),
    "bias-lost": case("modelopt-fp8", _bias, "fp8", "lost their bias", "a toolkit that knows no biases", base=_with_bias),
    "module-invented": case("ct-int-quantized", set_tensor("model.layers.0.mlp.extra_proj.weight", "BF16", (64, 64)), "W8A8", "not in the source", "release §3: three comparisons"),
    "weight-of-other-shape": case("modelopt-fp8", set_tensor(f"{UP}.weight", "F8_E4M3", (512, 512)), "fp8", "has shape [512, 512]", "another model's shard"),
    # -- files ------------------------------------------------------------------------------------------
    "index-names-a-ghost": case("ct-int-quantized", shards(lambda m: {**m, "ghost.weight": next(iter(m.values()))}), "W8A8", "in the index, in no shard", "huggingface_hub #4725"),
    "tensor-not-in-the-index": case("ct-int-quantized", shards(lambda m: {k: v for k, v in m.items() if k != f"{UP}.weight"}), "W8A8", "not in the index", "huggingface_hub #4725"),
    "tensor-in-another-shard": case(
        "ct-int-quantized", shards(lambda m: {**m, "lm_head.weight": "model-00003-of-00003.safetensors"}), "W8A8", "in another shard than the index says", "release §3.4.8"
    ),
    "shard-missing": Bad(
        lambda: source("dense"), then("ct-int-quantized", lambda f: (f / "model-00002-of-00003.safetensors").unlink(), parts=3), "W8A8", COVERAGE, "which is missing", "vllm #34930: a missing shard loads"
    ),
    "shard-missing-without-index": Bad(
        lambda: source("dense"),
        then("ct-int-quantized", lambda f: ((f / "model-00002-of-00003.safetensors").unlink(), (f / "model.safetensors.index.json").unlink()), parts=3),
        "W8A8", COVERAGE, "1 of 3 shards are missing", "vllm #34930",
    ),
    "tensor-twice": Bad(
        lambda: source("dense"),
        then("ct-int-quantized", lambda f: ((f / "model.safetensors.index.json").unlink(), write_safetensors(f / "zz.safetensors", {"lm_head.weight": ("BF16", (2048, 512))})), parts=2),
        "W8A8", COVERAGE, "stored twice", "release §3.4.8",
    ),
    "truncated": Bad(lambda: source("dense"), then("ct-int-quantized", _cut), "W8A8", COVERAGE, "is truncated", "a download that broke off"),
    # -- size -------------------------------------------------------------------------------------------
    "smaller-only-by-the-tied-head": Bad(_tied_plain, _tied_only, "fp8", UNSUPPORTED, "the tied head stored once saves", "release §3.3: .793 and nothing quantized"),
    "smaller-only-by-a-cast": Bad(lambda: source("dense", "F32"), _cast, "fp8", UNSUPPORTED, "casting unquantized weights saves 0.5", "release §3.3: FP32 to BF16 halves it"),
    # -- metadata ---------------------------------------------------------------------------------------
    "layer-types-truncated": case("ct-int-quantized", edit(layer_types=["full_attention"]), "W8A8", "layer_types has 1 entries for 2 layers", "auto-round #1984: GSM8K 0"),
    "eos-list-lost": case("ct-int-quantized", file("generation_config.json", {"eos_token_id": 1, "temperature": 0.6, "top_k": 20}), "W8A8", "the list was lost", "mlx-lm #1296"),
    "eos-list-lost-in-config": case("ct-int-quantized", edit(eos_token_id=1), "W8A8", "config.json: eos_token_id is 1, the source has [1, 2]", "mlx-lm #1296"),
    "generation-config-lost": case("ct-int-quantized", file("generation_config.json", None), "W8A8", "generation_config.json is missing", "release §3.5"),
    "chat-template-lost": case("ct-int-quantized", file("chat_template.jinja", None), "W8A8", "the chat template is missing", "release §3.5"),
    "chat-template-changed": case("ct-int-quantized", file("chat_template.jinja", "{{ other }}"), "W8A8", "the chat template changed", "release §3.5"),
    "tokenizer-lost": case("ct-int-quantized", file("tokenizer.json", None), "W8A8", "tokenizer.json is missing", "release §3.5"),
    "tokenizer-truncates": case(
        "ct-int-quantized", lambda m: m.files["tokenizer.json"].update(truncation={"max_length": 64}), "W8A8", "calibration leaked into tokenizer.json", "facts/lab.md §6.3"
    ),
    "processor-lost": case("modelopt-fp8", file("preprocessor_config.json", None), "fp8", "preprocessor_config.json is missing", "release §3.5", arch="vlm"),
    "rope-changed": case("ct-int-quantized", edit(rope_parameters={"rope_theta": 1e6, "rope_type": "default"}), "W8A8", "config.json: rope", "release §3.5"),
    "context-cut": case("ct-int-quantized", edit(max_position_embeddings=2048), "W8A8", "max_position_embeddings is 2048", "release §3.5"),
    "layers-promised-and-not-stored": case("ct-int-quantized", edit(num_hidden_layers=3), "W8A8", "num_hidden_layers", "release §3.5"),
    "mtp-count-lost": case("modelopt-fp8", edit(num_nextn_predict_layers=None), "fp8", "num_nextn_predict_layers is absent", "release §3.5", arch="mtp"),
    # -- GGUF -------------------------------------------------------------------------------------------
    "gguf-mostly": Bad(
        lambda: source("dense"), _gguf(_q8_attention, **{"general.file_type": 2}), "Q4_0", COVERAGE, "targeted modules are F16, left unquantized", 'release §3.2: file_type is only "mostly"'
    ),
    "gguf-removed-type": Bad(lambda: source("dense"), _gguf(_removed), "Q4_0", COVERAGE, "was removed from ggml", "files of 2024 that llama.cpp no longer reads"),
    "gguf-split-missing": Bad(lambda: source("dense"), _gguf(lambda t: None, **{"split.count": 2, "split.no": 0}), "Q4_0", COVERAGE, "1 of 2 splits is present", "release §3.2"),
    "gguf-tensor-lost": Bad(lambda: source("dense"), _gguf(lambda t: t.pop("blk.1.ffn_up.weight")), "Q4_0", COVERAGE, "are missing", "release §3.4.9"),
    "gguf-template-changed": Bad(
        lambda: source("dense"), _gguf(lambda t: None, **{"tokenizer.chat_template": "{{ other }}"}), "Q4_0", COVERAGE, "the chat template changed", "release §3.5"
    ),
}  # fmt: skip
"""Name → what must be refused, and why."""


@dataclass(frozen=True)
class RealBad:
    """What a toolkit wrote without an error, in the archive of `tests/known_good/checkpoints`."""

    source: str
    recipe: str
    failure: FailureClass
    words: str
    why: str


REAL_BAD: Mapping[str, RealBad] = {
    "bad-experts-only-on-dense": RealBad(
        "source", "nvfp4_experts_only", UNSUPPORTED, "the model has no such module",
        "nvidia-modelopt 0.47.0, its own check switched off: MO #1596",
    ),
    "bad-experts-skipped": RealBad(
        "source-moe", "fp8", COVERAGE, "24 targeted modules are BF16",
        "compressed-tensors 0.18.0 takes `Linear` modules; transformers 5 holds the experts as one parameter: MO #1219",
    ),
    "bad-experts-skipped-nf4": RealBad(
        "source-moe", "nf4", COVERAGE, "24 targeted modules are BF16", "bitsandbytes 0.50.2, for the same reason"
    ),
    "bad-tower-quantized": RealBad(
        "source-vlm", "nf4", COVERAGE, "vision or audio tower are NF4",
        "bitsandbytes 0.50.2 through transformers 5.23.0, as it comes: MO #1632",
    ),
    "bad-mtp-lost": RealBad(
        "source-mtp", "fp8", COVERAGE, "multi-token prediction",
        "transformers 5.14.1 drops what its class does not know: MO #1532",
    ),
    "bad-head-dropped": RealBad(
        "source-same", "fp8", COVERAGE, "missing (the output head)",
        "llmcompressor 0.13.0 ties a head that equals the embedding, the config does not: MO 0.47 notes, MiniMax-M2.7",
    ),
    "ao-intx4": RealBad(
        "source", "int4", COVERAGE, "stored unpacked", "torchao 0.18.0: four bits in eight, facts/lab.md §6.4"
    ),
}  # fmt: skip
"""Folder → what must be refused, and why."""


def _hostile(data: bytes) -> Write:
    def write(folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(data)
        return folder

    return write


def header(value: Any, *, length: int | None = None, body: int = 64) -> bytes:
    """A safetensors file with any header."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(body)


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _pickle(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "torchao"}}))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00idq\x00.")
    return folder


def _link_out(folder: Path) -> Path:
    quantized("dense", "ct-int-quantized").write(folder)
    outside = folder.parent / "outside.json"
    outside.write_text("{}")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to(outside)
    return folder


def _unknown(folder: Path) -> Path:
    model = quantized("dense", "ct-int-quantized")
    model.config["quantization_config"] = {"quant_method": "quark"}
    return model.write(folder)


UNREADABLE: Mapping[str, tuple[Write, str, str]] = {
    "pickle": (_pickle, "never loaded", "release §3.2: old torchao .bin; the message says how to convert"),
    "unknown-method": (_unknown, "cannot be judged", "release §8.4: an unsupported layout is CANNOT JUDGE"),
    "link-out-of-the-folder": (_link_out, "leads out", "issue 3: symlinks"),
    "header-length-lies": (_hostile(header({}, length=2**40)), "at most", "issue 3: header length"),
    "header-longer-than-file": (
        _hostile(header({}, length=10_000)),
        "in a file of",
        "issue 3: header length",
    ),
    "header-of-200-mb": (
        _hostile(struct.pack("<Q", 200_000_000) + b"{" * 64),
        "at most",
        "issue 3: large headers",
    ),
    "deep-json": (_hostile(header(b"[" * 100_000 + b"]" * 100_000)), "not valid JSON", "issue 3: deep JSON"),
    "nan-as-offset": (
        _hostile(header(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, NaN]}}')),
        "whole numbers",
        "issue 3: NaN in JSON",
    ),
    "duplicate-keys": (
        _hostile(
            header(
                b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
            )
        ),
        "stands twice",
        "issue 3: duplicate keys",
    ),
    "overlapping": (
        _hostile(header({"a": entry([4], 0, 16), "b": entry([4], 8, 24)})),
        "overlaps",
        "issue 3: overlapping offsets",
    ),
    "gap": (
        _hostile(header({"a": entry([4], 0, 16), "b": entry([4], 32, 48)})),
        "unexplained bytes",
        "issue 3: wrong offsets",
    ),
    "overflow": (
        _hostile(header({"a": entry([2**40, 2**40], 0, 16)})),
        "overflows",
        "issue 3: integer overflow in shapes",
    ),
    "negative": (_hostile(header({"a": entry([-1], 0, 4)})), "whole numbers", "issue 3: shapes"),
    "bool-as-size": (_hostile(header({"a": entry([True], 0, 4)})), "whole numbers", "issue 3: shapes"),
    "unknown-dtype": (_hostile(header({"a": entry([1], 0, 4, "F99")})), "unknown dtype", "issue 3"),
}
"""Name → writer, what the error says, where it was asked for: one line and exit 2, never a traceback."""
