"""Checkpoints that are in order, each with the recipe that it keeps: real ones, and header-true synthetic ones."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from header_true import FORMATS, Model, gguf_tensors, gguf_values, quantized, source, write_gguf

from assay.readers.checkpoint.ggml import BY_NAME, REMOVED

HERE = Path(__file__).parent
ARCHIVE = HERE / "real.tar.xz"
"""Checkpoints of small models, written by `make.py` with the toolkits themselves; 29 MB unpacked. What begins with
`bad-`, and `ao-intx4`, is in `tests/known_bad/checkpoints/bad_cases.py`."""


@dataclass(frozen=True)
class Real:
    """A checkpoint that a toolkit wrote."""

    toolkit: str
    """Package and version."""
    method: str | None
    """quant_method, as the reader must call it."""
    scheme: str
    recipe: str
    asymmetric: bool = False
    source: str = "source"
    """Folder of what it was made from."""
    by_hand: bool = False
    """Real numbers in the layout of a format whose toolkit does not run on CPUs: counted as synthetic."""


REAL: Mapping[str, Real] = {
    "source": Real("transformers 5.14.1", None, "BF16", "none"),
    "ct-W8A8": Real("compressed-tensors 0.18.0", "compressed-tensors", "INT8", "W8A8"),
    "ct-FP8_DYNAMIC": Real("compressed-tensors 0.18.0", "compressed-tensors", "FP8", "fp8_dynamic"),
    "ct-W4A16": Real("compressed-tensors 0.18.0", "compressed-tensors", "INT4", "W4A16"),
    "ct-W4A16_ASYM": Real(
        "compressed-tensors 0.18.0", "compressed-tensors", "INT4", "W4A16_ASYM", asymmetric=True
    ),
    "ct-NVFP4A16": Real("compressed-tensors 0.18.0", "compressed-tensors", "NVFP4", "nvfp4a16"),
    "ct-MXFP4A16": Real("compressed-tensors 0.18.0", "compressed-tensors", "MXFP4", "mxfp4a16"),
    "ct-FP8_BLOCK": Real("compressed-tensors 0.18.0", "compressed-tensors", "FP8", "fp8_block"),
    "ct-MXFP8A16": Real("compressed-tensors 0.18.0", "compressed-tensors", "MXFP8", "mxfp8a16"),
    "llmc-GPTQ-W4A16": Real("llmcompressor 0.13.0", "compressed-tensors", "INT4", "W4A16"),
    "llmc-AWQ-W4A16_ASYM": Real(
        "llmcompressor 0.13.0", "compressed-tensors", "INT4", "W4A16_ASYM", asymmetric=True
    ),
    "llmc-NVFP4": Real("llmcompressor 0.13.0", "compressed-tensors", "NVFP4", "nvfp4"),
    "llmc-FP8-kv": Real("llmcompressor 0.13.0", "compressed-tensors", "FP8", "fp8_dynamic"),
    "mo-FP8": Real("nvidia-modelopt 0.47.0", "modelopt", "FP8", "fp8"),
    "mo-FP8_PER_CHANNEL_PER_TOKEN": Real(
        "nvidia-modelopt 0.47.0", "modelopt", "FP8", "fp8_per_channel_per_token"
    ),
    "mo-NVFP4": Real("nvidia-modelopt 0.47.0", "modelopt", "NVFP4", "nvfp4"),
    "mo-NVFP4_MLP_ONLY": Real("nvidia-modelopt 0.47.0", "modelopt", "NVFP4", "nvfp4_mlp_only"),
    "mo-INT4_AWQ": Real("nvidia-modelopt 0.47.0", "modelopt", "INT4", "int4_awq"),
    "mo-W4A8_AWQ_BETA": Real("nvidia-modelopt 0.47.0", "modelopt", "INT4", "w4a8_awq_beta"),
    "mo-MXFP4": Real("nvidia-modelopt 0.47.0", "modelopt", "MXFP4", "mxfp4"),
    "mo-MXFP8": Real("nvidia-modelopt 0.47.0", "modelopt", "MXFP8", "mxfp8"),
    "mo-INT8_SMOOTHQUANT": Real("nvidia-modelopt 0.47.0", "modelopt", "INT8", "int8_smoothquant"),
    "mo-INT8_WEIGHT_ONLY": Real("nvidia-modelopt 0.47.0", "modelopt", "INT8", "int8_weight_only"),
    "mo-FP8_2D_BLOCKWISE_WEIGHT_ONLY": Real(
        "nvidia-modelopt 0.47.0", "modelopt", "FP8", "fp8_2d_blockwise_weight_only"
    ),
    "mo-W4A8_NVFP4_FP8": Real("nvidia-modelopt 0.47.0", "modelopt", "NVFP4", "w4a8_nvfp4_fp8"),
    "mo-W4A8_MXFP4_FP8": Real("nvidia-modelopt 0.47.0", "modelopt", "MXFP4", "w4a8_mxfp4_fp8"),
    "mo-W4A16_NVFP4": Real("nvidia-modelopt 0.47.0", "modelopt", "NVFP4", "w4a16_nvfp4"),
    "moe-mo-FP8": Real("nvidia-modelopt 0.47.0, Qwen3-MoE", "modelopt", "FP8", "fp8", source="source-moe"),
    "moe-mo-NVFP4": Real(
        "nvidia-modelopt 0.47.0, Qwen3-MoE", "modelopt", "NVFP4", "nvfp4", source="source-moe"
    ),
    "moe-llmc-FP8": Real(
        "llmcompressor 0.13.0, Qwen3-MoE", "compressed-tensors", "FP8", "fp8_dynamic", source="source-moe"
    ),
    "vlm-mo-FP8": Real("nvidia-modelopt 0.47.0, LLaVA", "modelopt", "FP8", "fp8", source="source-vlm"),
    "vlm-mo-NVFP4": Real("nvidia-modelopt 0.47.0, LLaVA", "modelopt", "NVFP4", "nvfp4", source="source-vlm"),
    "ar-awq": Real("auto-round 0.14.2, auto_awq", "awq", "INT4", "awq", asymmetric=True),
    "ar-gptq": Real("auto-round 0.14.2, auto_gptq", "gptq", "INT4", "gptq"),
    "ar-round": Real("auto-round 0.14.2", "auto-round", "INT4", "autoround"),
    "gm-3": Real("gptqmodel 7.7.0", "gptq", "INT3", "gptq_int3"),
    "gm-4": Real("gptqmodel 7.7.0", "gptq", "INT4", "gptq"),
    "gm-8": Real("gptqmodel 7.7.0", "gptq", "INT8", "gptq_int8"),
    "gm-v2-act": Real("gptqmodel 7.7.0, gptq_v2 with activation order", "gptq", "INT4", "gptq"),
    "gm-dynamic": Real("gptqmodel 7.7.0, bits by module", "gptq", "INT4 and INT8", "from-declaration"),
    "gm-awq": Real("gptqmodel 7.7.0, AWQ", "awq", "INT4", "awq"),
    "bnb-fp4": Real("bitsandbytes 0.50.2", "bitsandbytes", "FP4", "bnb_fp4"),
    "bnb-int8": Real("bitsandbytes 0.50.2", "bitsandbytes", "INT8", "bnb_int8"),
    "bnb-nf4": Real("bitsandbytes 0.50.2", "bitsandbytes", "NF4", "bnb_nf4"),
    "bnb-nf4dq": Real("bitsandbytes 0.50.2, nested", "bitsandbytes", "NF4", "bnb_nf4"),
    "ao-int8wo": Real("torchao 0.18.0", "torchao", "INT8", "int8_weight_only", asymmetric=True),
    "ao-int8da": Real("torchao 0.18.0, dynamic activations", "torchao", "INT8", "int8", asymmetric=True),
    "ao-fp8wo": Real("torchao 0.18.0", "torchao", "FP8", "fp8"),
    "ao-mxfp8": Real("torchao 0.18.0, scales in the order of cuBLAS", "torchao", "MXFP8", "mxfp8"),
    "ao-nvfp4": Real("torchao 0.18.0, scales in the order of cuBLAS", "torchao", "NVFP4", "nvfp4"),
    "quanto-int8": Real("optimum-quanto 0.2.7", "quanto", "INT8", "quanto_int8"),
    "quanto-int4": Real("optimum-quanto 0.2.7", "quanto", "INT4", "quanto_int4", asymmetric=True),
    "quanto-fp8": Real("optimum-quanto 0.2.7", "quanto", "FP8", "quanto_fp8"),
    "hqq-2": Real("hqq 0.2.8.post1", "hqq", "INT2", "hqq_2bit", asymmetric=True),
    "hqq-3": Real("hqq 0.2.8.post1", "hqq", "INT3", "hqq_3bit", asymmetric=True),
    "hqq-4": Real("hqq 0.2.8.post1", "hqq", "INT4", "hqq_4bit", asymmetric=True),
    "hqq-8": Real("hqq 0.2.8.post1", "hqq", "INT8", "hqq_8bit", asymmetric=True),
    "mlx-affine": Real("mlx-lm 0.32.2", "mlx", "INT4", "mlx_4bit", asymmetric=True),
    "mlx-affine8": Real("mlx-lm 0.32.2", "mlx", "INT8", "mlx_8bit", asymmetric=True),
    "mlx-mxfp8": Real("mlx-lm 0.32.2", "mlx", "MXFP8", "mlx_mxfp8"),
    "mlx-nvfp4": Real("mlx-lm 0.32.2", "mlx", "NVFP4", "mlx_nvfp4"),
    "mlx-mxfp4": Real("mlx-lm 0.32.2", "mlx", "MXFP4", "mlx_mxfp4"),
    "hub-fp8": Real(
        "torch 2.13.0, by hand in the layout of model hubs", "fp8", "FP8", "deepseek_fp8", by_hand=True
    ),
    "source-wide": Real("transformers 5.14.1", None, "BF16", "none", source="source-wide"),
    "source-moe": Real("transformers 5.14.1, Qwen3-MoE", None, "BF16", "none", source="source-moe"),
    "source-vlm": Real("transformers 5.14.1, LLaVA", None, "BF16", "none", source="source-vlm"),
    **{
        f"gguf-{preset}": Real(
            "llama.cpp (xllamacpp 2026.10.11549)",
            "gguf",
            schemes,
            preset,
            asymmetric=any(k in schemes for k in ("Q2_K", "Q4_K", "Q5_K")),
            source="source-wide",
        )
        for preset, schemes in {
            "Q2_K": "Q2_K and Q3_K and Q4_K",
            "Q3_K_M": "Q3_K and Q4_K and Q5_K",
            "Q4_K_M": "Q4_K and Q6_K",
            "Q5_K_M": "Q5_K and Q6_K",
            "IQ3_S": "IQ3_S",
            "IQ4_NL": "IQ4_NL",
            "IQ4_XS": "IQ4_XS and Q5_K",
        }.items()
    },
    "gguf-Q4_K_M-fallback": Real(
        "llama.cpp (xllamacpp 2026.10.11549), rows of 128", "gguf", "Q5_0 and Q6_K and Q8_0", "Q4_K_M"
    ),
    "gguf-Q8_0": Real("gguf 0.19.0", "gguf", "Q8_0", "Q8_0"),
    "gguf-Q4_0": Real("gguf 0.19.0", "gguf", "Q4_0", "Q4_0"),
}
"""Folder in the archive → what it is. `ao-intx4` is in it too and is a known bad one."""


def unpack(folder: Path) -> Path:
    """The real checkpoints, unpacked."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@dataclass(frozen=True)
class Good:
    """A synthetic pair that must pass."""

    source: Callable[[], Model]
    candidate: Callable[[Path], Path]
    """Writes into a folder; gives the checkpoint's path."""
    policy: Mapping[str, Any]
    why: str
    scheme: str = ""
    method: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


def _formats() -> dict[str, Good]:
    cases = {}
    for name, made in FORMATS.items():
        arch = "gpt-oss" if made.experts_only else "dense"
        cases[f"{name}"] = Good(
            lambda arch=arch: source(arch),
            lambda folder, arch=arch, name=name: quantized(arch, name).write(folder),
            {"recipe": made.recipe},
            "what the toolkit writes for its own recipe",
            made.scheme,
            name,
        )
    return cases


def _gguf() -> dict[str, Good]:
    """All ggml types; the presets of llama.cpp mix several, a single type is the plain case."""
    sizes = {"hidden": 1024, "inter": 2048, "layers": 1}

    def write(folder: Path, kind: str) -> Path:
        return write_gguf(
            folder / "model.gguf", gguf_tensors("dense", kind, **sizes), gguf_values(source("dense", **sizes))
        )

    return {
        f"gguf-{kind}": Good(
            lambda: source("dense", **sizes),
            lambda folder, kind=kind: write(folder, kind),
            {"intent": {"schemes": [kind]}, "metadata": "block"},
            "every ggml type is read by tensor, not by general.file_type",
            kind,
            "gguf",
        )
        for kind in BY_NAME
        if kind not in REMOVED
        and kind not in {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64", "Q8_1", "Q8_K"}
    }


def _renamed(
    change: Callable[[str], str], arch: str = "dense", form: str = "modelopt-fp8"
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        model = quantized(arch, form).rename(change)
        block = model.config["quantization_config"]
        block["ignore"] = [change(n) for n in block["ignore"]]
        model.files["hf_quant_config.json"]["quantization"]["exclude_modules"] = block["ignore"]
        return model.write(folder)

    return write


def _wrapped(name: str) -> str:
    """Transformers 4 → 5 names of a model with a vision tower."""
    return (
        name
        if name.startswith(("model.visual", "lm_head"))
        else name.replace("model.", "model.language_model.", 1)
    )


def _fused_experts(folder: Path) -> Path:
    """Llama 4: fused BF16 experts become fused NVFP4 ones, with the toolkit's underscore names."""
    model = quantized("moe", "modelopt-nvfp4")
    model.tensors = {n: t for n, t in model.tensors.items() if ".experts." not in n}
    for layer in range(2):
        for part, shape in (("gate_up_proj", (4, 2048, 512)), ("down_proj", (4, 512, 1024))):
            base = f"model.layers.{layer}.mlp.experts.{part}"
            model.tensors |= {
                base: ("U8", (*shape[:-1], shape[-1] // 2)),
                f"{base}_weight_scale": ("F8_E4M3", (*shape[:-1], shape[-1] // 16)),
                f"{base}_weight_scale_2": ("F32", ()),
                f"{base}_input_scale": ("F32", ()),
            }
    return model.write(folder)


def _fused_qkv(folder: Path) -> Path:
    model = quantized("dense", "modelopt-fp8")
    for layer in range(2):
        head = f"model.layers.{layer}."
        model.drop(
            *[f"{head}self_attn.{p}_proj" for p in "qkv"], f"{head}mlp.gate_proj", f"{head}mlp.up_proj"
        )
        for name, out in (("self_attn.qkv_proj", 1024), ("mlp.gate_up_proj", 2048)):
            model.tensors |= {
                f"{head}{name}.weight": ("F8_E4M3", (out, 512)),
                f"{head}{name}.weight_scale": ("F32", ()),
                f"{head}{name}.input_scale": ("F32", ()),
            }
    return model.write(folder)


def _tied(form: str | None) -> Model:
    model = source("qwen3-0.6b") if form is None else quantized("qwen3-0.6b", form).drop("lm_head")
    model.config["tie_word_embeddings"] = True
    return model


def _rewritten(folder: Path) -> Path:
    model = quantized("dense", "ct-int-quantized")
    model.files["tokenizer_config.json"] = {
        **model.files["tokenizer_config.json"],
        "tokenizer_class": "TokenizersBackend",
    }
    template = model.files.pop("chat_template.jinja")
    model.files["tokenizer_config.json"]["chat_template"] = template
    model.config["rope_theta"] = model.config.pop("rope_parameters")["rope_theta"]
    return model.write(folder)


def _mixed(folder: Path) -> Path:
    """MIXED_PRECISION: FP8 attention, NVFP4 feed-forward, by a table."""
    model, nv = quantized("dense", "modelopt-fp8"), quantized("dense", "modelopt-nvfp4")
    model.tensors = {n: t for n, t in model.tensors.items() if ".mlp." not in n}
    model.tensors |= {n: t for n, t in nv.tensors.items() if ".mlp." in n}
    names = {n.rpartition(".")[0] for n in model.tensors if n.endswith("_proj.weight")}
    table = {
        n: {"quant_algo": "NVFP4", "group_size": 16} if ".mlp." in n else {"quant_algo": "FP8"} for n in names
    }
    block = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": table}
    model.config["quantization_config"] = block
    del model.files["hf_quant_config.json"]
    return model.write(folder)


def _dynamic(folder: Path) -> Path:
    """GPTQModel: `dynamic` takes modules out and gives others more bits."""
    model, eight = quantized("dense", "gptq-4"), quantized("dense", "gptq-8")
    down = {n: t for n, t in eight.tensors.items() if "down_proj" in n}
    model.tensors = {
        n: t
        for n, t in model.tensors.items()
        if "down_proj" not in n and "layers.0.self_attn.q_proj" not in n
    }
    model.tensors |= down | {"model.layers.0.self_attn.q_proj.weight": ("BF16", (512, 512))}
    rules = {"-:.*layers\\.0\\.self_attn\\.q_proj": {}, "+:.*down_proj": {"bits": 8}}
    model.config["quantization_config"]["dynamic"] = rules
    return model.write(folder)


def _k_mixture(folder: Path) -> Path:
    sizes = {"hidden": 1024, "inter": 2048}
    tensors = gguf_tensors("dense", "Q4_K", **sizes)
    tensors = {
        n: ("Q6_K", t[1]) if "attn_v" in n or "ffn_down" in n or n == "output.weight" else t
        for n, t in tensors.items()
    }
    return write_gguf(folder / "model.gguf", tensors, gguf_values(source("dense", **sizes)))


def _moe_gguf(folder: Path) -> Path:
    sizes = {"hidden": 512, "inter": 1024}
    return write_gguf(
        folder / "model.gguf", gguf_tensors("moe", "Q8_0", **sizes), gguf_values(source("moe", **sizes))
    )


def _nested(folder: Path) -> Path:
    quantized("dense", "ct-int-quantized").write(folder / "W8A8")
    return folder


def _sharded(folder: Path) -> Path:
    model = quantized("dense", "modelopt-nvfp4")
    model.shards = 3
    return model.write(folder)


SHAPED: Mapping[str, Good] = {
    "prefix-language-model": Good(
        lambda: source("vlm"), _renamed(_wrapped, "vlm"), {"recipe": "fp8"}, "transformers 5 wraps the text model once more"
    ),
    "vision-tower-kept": Good(
        lambda: source("vlm"), lambda f: quantized("vlm", "modelopt-nvfp4").write(f), {"recipe": "nvfp4"}, "towers stay as they are"
    ),
    "experts-split-both": Good(
        lambda: source("moe"), lambda f: quantized("moe", "modelopt-nvfp4").write(f), {"recipe": "nvfp4"}, "routers stay as they are"
    ),
    "experts-only-on-moe": Good(
        lambda: source("moe"),
        lambda f: _experts_only().write(f),
        {"recipe": "nvfp4_experts_only"},
        "the recipe that does nothing on a dense model",
    ),
    "experts-split-on-export": Good(
        lambda: source("moe-fused"), lambda f: quantized("moe", "modelopt-nvfp4").write(f), {"recipe": "nvfp4"},
        "fused in the source, one by one in the export",
    ),
    "experts-fused-on-export": Good(
        lambda: source("moe"), _fused_experts, {"recipe": "nvfp4"}, "one by one in the source, fused in the export"
    ),
    "qkv-and-gate-up-fused": Good(
        lambda: source("dense"), _fused_qkv, {"recipe": "fp8"}, "engines' own exports fuse projections"
    ),
    "tied-head-stored-once": Good(
        lambda: _tied(None), lambda f: _tied("modelopt-fp8").write(f), {"recipe": "fp8"}, "Qwen3-0.6B: the source stores the copy"
    ),
    "mtp-kept": Good(
        lambda: source("mtp"), lambda f: quantized("mtp", "modelopt-fp8").write(f), {"recipe": "fp8"}, "MTP layers are in the release"
    ),
    "metadata-of-transformers-5": Good(
        lambda: source("dense"), _rewritten, {"recipe": "W8A8"}, "expected differences of facts/release.md §3.5"
    ),
    "mixed-by-table": Good(
        lambda: source("dense"), _mixed, {"recipe": "from-declaration"}, "quantized_layers says what is in which precision"
    ),
    "gptq-dynamic": Good(
        lambda: source("dense"), _dynamic, {"recipe": "from-declaration"}, "per-module bits, as `dynamic` says"
    ),
    "gguf-q4-k-m": Good(
        lambda: source("dense", hidden=1024, inter=2048), _k_mixture, {"recipe": "Q4_K_M"}, "a mixture by design"
    ),
    "gguf-moe": Good(lambda: source("moe"), _moe_gguf, {"recipe": "Q8_0"}, "GGUF stores the experts of a layer as one"),
    "nested-folder": Good(
        lambda: source("dense"), _nested, {"recipe": "W8A8"}, "auto-round writes into a folder of the folder"
    ),
    "sharded": Good(lambda: source("dense"), _sharded, {"recipe": "nvfp4"}, "three shards and their index"),
    "mtp-left-out-on-purpose": Good(
        lambda: source("mtp"),
        lambda f: quantized("mtp", "modelopt-fp8").drop("layers.2.").write(f),
        {"recipe": "fp8", "may_lose": ["model.layers.2.*"]},
        "the policy says so",
    ),
    "own-recipe": Good(
        lambda: source("dense"),
        lambda f: quantized("dense", "modelopt-fp8").write(f),
        {"recipe": "ours", "recipes": {"ours": {"recipe": "fp8", "ignore": ["lm_head"]}}},
        "recipes can be added",
    ),
    "unquantized-copy": Good(lambda: source("dense"), lambda f: source("dense").write(f), {"recipe": "none"}, "a copy"),
}  # fmt: skip


def _experts_only() -> Model:
    model, plain = quantized("moe", "modelopt-nvfp4"), source("moe")
    model.tensors = {n: t for n, t in model.tensors.items() if ".self_attn." not in n}
    model.tensors |= {n: t for n, t in plain.tensors.items() if ".self_attn." in n}
    block = model.config["quantization_config"]
    block["ignore"].append("model.layers.*.self_attn*")
    return model


SYNTHETIC: Mapping[str, Good] = {**_formats(), **_gguf(), **SHAPED}
