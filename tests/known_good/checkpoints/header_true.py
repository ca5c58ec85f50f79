"""Synthetic checkpoints with true headers: the tensors that a toolkit writes for a model, their data left empty.

Names, dtypes, shapes and declarations are those of the real files in `checkpoints.tar.xz` and of
facts/release.md §3; only scales hold values, so that nothing here is larger than some kilobytes on disk.
"""

from __future__ import annotations

import copy
import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.readers.checkpoint.ggml import BY_NAME, TYPES
from assay.readers.checkpoint.safetensors import DTYPE_BITS

Shape = tuple[int, ...]
FILL = b"\x3c"
"""A byte that makes a finite number, not zero, in every dtype."""
_VALUED = 2**16
TOKENIZER: Mapping[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": 0, "content": "<pad>"}],
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]},
}


@dataclass
class Model:
    """A checkpoint in memory: what will be written."""

    tensors: dict[str, tuple[str, Shape]]
    config: dict[str, Any]
    files: dict[str, Any] = field(default_factory=dict)
    """JSON values or texts by file name."""
    metadata: dict[str, str] = field(default_factory=lambda: {"format": "pt"})
    values: dict[str, bytes] = field(default_factory=dict)
    """Data of tensors that must hold something in particular."""
    shards: int = 1
    index: dict[str, str] | None = None
    """Instead of the true weight_map."""

    def copy(self) -> Model:
        """One that can be changed."""
        return copy.deepcopy(self)

    def rename(self, change: Callable[[str], str]) -> Model:
        """The same tensors under other names."""
        self.tensors = {change(n): t for n, t in self.tensors.items()}
        return self

    def drop(self, *words: str) -> Model:
        """Without the tensors whose names hold one of the words."""
        self.tensors = {n: t for n, t in self.tensors.items() if not any(w in n for w in words)}
        return self

    def write(self, folder: Path) -> Path:
        """The folder, as a toolkit would leave it."""
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(self.tensors)
        weight_map = {}
        for i in range(self.shards):
            part = names[len(names) * i // self.shards : len(names) * (i + 1) // self.shards]
            name = (
                "model.safetensors"
                if self.shards == 1
                else f"model-{i + 1:05d}-of-{self.shards:05d}.safetensors"
            )
            write_safetensors(folder / name, {n: self.tensors[n] for n in part}, self.metadata, self.values)
            weight_map |= dict.fromkeys(part, name)
        if self.shards > 1 or self.index is not None:
            index = {"metadata": {}, "weight_map": weight_map if self.index is None else self.index}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        for name, value in {"config.json": self.config, **self.files}.items():
            if value is not None:
                (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
        return folder


def write_safetensors(
    path: Path,
    tensors: Mapping[str, tuple[str, Shape]],
    metadata: Mapping[str, str] | None = None,
    values: Mapping[str, bytes] | None = None,
) -> Path:
    """One file; small tensors hold `FILL`, large ones a hole."""
    header: dict[str, Any] = {"__metadata__": dict(metadata or {"format": "pt"})}
    at, written = 0, []
    for name, (dtype, shape) in tensors.items():
        size = (math.prod(shape) * DTYPE_BITS[dtype] + 7) // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        own = (values or {}).get(name)
        if own is not None or size <= _VALUED or "scale" in name or "zeros" in name:
            written.append((at, own if own is not None else FILL * min(size, 2**22)))
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start, data in written:
            file.seek(8 + len(text) + start)
            file.write(data)
        file.truncate(8 + len(text) + at)
    return path


# -- models -------------------------------------------------------------------------------------------


def _layer(prefix: str, hidden: int, inter: int, *, heads: int = 4, kv: int = 2) -> dict[str, Shape]:
    size = hidden // heads
    return {
        f"{prefix}self_attn.q_proj": (hidden, hidden),
        f"{prefix}self_attn.k_proj": (kv * size, hidden),
        f"{prefix}self_attn.v_proj": (kv * size, hidden),
        f"{prefix}self_attn.o_proj": (hidden, hidden),
        f"{prefix}mlp.gate_proj": (inter, hidden),
        f"{prefix}mlp.up_proj": (inter, hidden),
        f"{prefix}mlp.down_proj": (hidden, inter),
        f"{prefix}input_layernorm": (hidden,),
        f"{prefix}post_attention_layernorm": (hidden,),
    }


def shapes(
    arch: str, *, layers: int = 2, hidden: int = 512, inter: int = 1024, vocab: int = 2048, experts: int = 4
) -> dict[str, Shape]:
    """Weights of a model: name without `.weight` → shape.

    Args:
        arch: dense, qwen3-0.6b (196 linears), moe, moe-fused, gpt-oss, vlm, mtp or mixer.
        layers: decoder layers.
        hidden: width.
        inter: width of the feed-forward part.
        vocab: rows of embedding and head.
        experts: of each layer.
    """
    if arch == "qwen3-0.6b":
        layers, hidden, inter, vocab = 28, 1024, 3072, 4096
    found: dict[str, Shape] = {
        "model.embed_tokens": (vocab, hidden),
        "model.norm": (hidden,),
        "lm_head": (vocab, hidden),
    }
    for i in range(layers):
        layer = _layer(f"model.layers.{i}.", hidden, inter)
        if arch.startswith(("moe", "gpt-oss")):
            layer = {n: s for n, s in layer.items() if ".mlp." not in n}
            layer |= _experts(f"model.layers.{i}.mlp.", arch, hidden, inter, experts)
        if arch == "mixer":
            layer = {n.replace("mlp.", "mixer."): s for n, s in layer.items() if "gate_proj" not in n}
        found |= layer
    if arch == "vlm":
        for i in range(2):
            block = f"model.visual.blocks.{i}."
            found |= {
                f"{block}attn.qkv": (3 * 256, 256),
                f"{block}attn.proj": (256, 256),
                f"{block}mlp.linear_fc1": (512, 256),
            }
            found |= {f"{block}mlp.linear_fc2": (256, 512), f"{block}norm1": (256,)}
        found["model.visual.merger.linear_fc1"] = (hidden, 256)
    if arch == "mtp":
        found |= _layer(f"model.layers.{layers}.", hidden, inter)
        found |= {
            f"model.layers.{layers}.eh_proj": (hidden, 2 * hidden),
            f"model.layers.{layers}.enorm": (hidden,),
        }
    return found


def _experts(prefix: str, arch: str, hidden: int, inter: int, count: int) -> dict[str, Shape]:
    router = {f"{prefix}{'router' if arch == 'gpt-oss' else 'gate'}": (count, hidden)}
    if arch == "moe-fused":
        return router | {
            f"{prefix}experts.gate_up_proj": (count, hidden, 2 * inter),
            f"{prefix}experts.down_proj": (count, inter, hidden),
        }
    if arch == "gpt-oss":
        return router | {
            f"{prefix}experts.gate_up_proj": (count, 2 * inter, hidden),
            f"{prefix}experts.down_proj": (count, hidden, inter),
        }
    return router | {
        f"{prefix}experts.{e}.{part}": (hidden, inter) if part == "down_proj" else (inter, hidden)
        for e in range(count)
        for part in ("gate_proj", "up_proj", "down_proj")
    }


def config_of(arch: str, found: Mapping[str, Shape]) -> dict[str, Any]:
    """The config.json that goes with the weights."""
    layers = {int(n.split(".")[2]) for n in found if n.startswith("model.layers.")}
    depth = len(layers) - (arch == "mtp")
    config: dict[str, Any] = {
        "architectures": ["TestForCausalLM"],
        "model_type": "test",
        "vocab_size": found["model.embed_tokens"][0],
        "hidden_size": found["model.embed_tokens"][1],
        "num_hidden_layers": depth,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "layer_types": ["full_attention"] * depth,
        "tie_word_embeddings": False,
        "eos_token_id": [1, 2],
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "max_position_embeddings": 4096,
        "dtype": "bfloat16",
    }
    return {**config, "num_nextn_predict_layers": 1} if arch == "mtp" else config


def source(arch: str = "dense", dtype: str = "BF16", **sizes: int) -> Model:
    """The unquantized model."""
    found = shapes(arch, **sizes)
    plain = arch in {"moe-fused", "gpt-oss"}
    tensors = {n if plain and ".experts." in n else f"{n}.weight": (dtype, s) for n, s in found.items()}
    files = {
        "generation_config.json": {"eos_token_id": [1, 2], "temperature": 0.6, "top_k": 20},
        "tokenizer_config.json": {"eos_token": "<e>", "tokenizer_class": "PreTrainedTokenizerFast"},
        "tokenizer.json": copy.deepcopy(dict(TOKENIZER)),
        "chat_template.jinja": "{{ messages }}",
    }
    if arch == "vlm":
        files["preprocessor_config.json"] = {"image_mean": [0.5], "size": {"longest_edge": 1024}}
    return Model(tensors, config_of(arch, found), files)


# -- formats ------------------------------------------------------------------------------------------

Parts = dict[str, tuple[str, Shape]]
"""Suffix → dtype and shape; a suffix beginning with `_` is joined without a dot."""


def up(size: int, by: int) -> int:
    """How many pieces of `by` cover `size`."""
    return -(-size // by)


def _packed_int(bits: int, group: int, *, asym: bool = False) -> Callable[[Shape], Parts]:
    def parts(shape: Shape) -> Parts:
        out, inputs = shape
        found: Parts = {
            ".weight_packed": ("I32", (out, up(inputs * bits, 32))),
            ".weight_scale": ("BF16", (out, up(inputs, group))),
            ".weight_shape": ("I64", (2,)),
        }
        return (
            {**found, ".weight_zero_point": ("I32", (up(out * bits, 32), up(inputs, group)))}
            if asym
            else found
        )

    return parts


def _gptq(bits: int, group: int = 128, *, index: bool = True) -> Callable[[Shape], Parts]:
    def parts(shape: Shape) -> Parts:
        out, inputs = shape
        groups = up(inputs, group)
        found: Parts = {
            ".qweight": ("I32", (inputs * bits // 32, out)),
            ".qzeros": ("I32", (groups, up(out * bits, 32))),
            ".scales": ("F16", (groups, out)),
        }
        return {**found, ".g_idx": ("I32", (inputs,))} if index else found

    return parts


def _mlx(bits: int, group: int, scale: str = "BF16") -> Callable[[Shape], Parts]:
    def parts(shape: Shape) -> Parts:
        *outer, inputs = shape
        scales = (scale, (*outer, inputs // group))
        found: Parts = {".weight": ("U32", (*outer, inputs * bits // 32)), ".scales": scales}
        return {**found, ".biases": scales} if scale == "BF16" else found

    return parts


_WEIGHTS: Mapping[str, Callable[[Shape], Parts]] = {
    "int8": lambda s: {".weight": ("I8", s), ".weight_scale": ("BF16", (s[0], 1))},
    "int8-sq": lambda s: {
        ".weight": ("I8", s),
        ".weight_scale": ("F32", s[:1]),
        ".input_scale": ("F32", ()),
        ".pre_quant_scale": ("BF16", s[1:]),
    },
    "fp8-channel": lambda s: {".weight": ("F8_E4M3", s), ".weight_scale": ("BF16", (s[0], 1))},
    "fp8-block": lambda s: {
        ".weight": ("F8_E4M3", s),
        ".weight_scale": ("BF16", (up(s[0], 128), up(s[1], 128))),
    },
    "fp8-hub": lambda s: {
        ".weight": ("F8_E4M3", s),
        ".weight_scale_inv": ("F32", (up(s[0], 128), up(s[1], 128))),
    },
    "fp8-tensor": lambda s: {
        ".weight": ("F8_E4M3", s),
        ".weight_scale": ("F32", ()),
        ".input_scale": ("F32", ()),
    },
    "fp8-rows": lambda s: {".weight": ("F8_E4M3", s), ".weight_scale": ("F32", s[:1])},
    "int4": _packed_int(4, 128),
    "int4-asym": _packed_int(4, 128, asym=True),
    "int3": _packed_int(3, 128),
    "nvfp4-ct": lambda s: {
        ".weight_packed": ("U8", (s[0], s[1] // 2)),
        ".weight_scale": ("F8_E4M3", (s[0], s[1] // 16)),
        ".weight_global_scale": ("F32", (1,)),
        ".input_global_scale": ("F32", (1,)),
    },
    "mxfp4-ct": lambda s: {
        ".weight_packed": ("U8", (s[0], s[1] // 2)),
        ".weight_scale": ("U8", (s[0], s[1] // 32)),
    },
    "mxfp8": lambda s: {".weight": ("F8_E4M3", s), ".weight_scale": ("U8", (s[0], s[1] // 32))},
    "sparse24": lambda s: {
        ".compressed": ("BF16", (s[0], s[1] // 2)),
        ".bitmask": ("U8", (s[0], s[1] // 8)),
        ".shape": ("I64", (2,)),
    },
    "nvfp4": lambda s: {
        ".weight": ("U8", (*s[:-1], s[-1] // 2)),
        ".weight_scale": ("F8_E4M3", (*s[:-1], s[-1] // 16)),
        ".weight_scale_2": ("F32", ()),
        ".input_scale": ("F32", ()),
    },
    "nvfp4-fused": lambda s: {
        "": ("U8", (*s[:-1], s[-1] // 2)),
        "_weight_scale": ("F8_E4M3", (*s[:-1], s[-1] // 16)),
        "_weight_scale_2": ("F32", ()),
        "_input_scale": ("F32", ()),
    },
    "int4-awq": lambda s: {
        ".weight": ("U8", (s[0] // 2, s[1])),
        ".weight_scale": ("F32", (s[0], up(s[1], 128))),
        ".pre_quant_scale": ("BF16", s[1:]),
    },
    "mxfp4": lambda s: {".weight": ("U8", (s[0], s[1] // 2)), ".weight_scale": ("U8", (s[0], s[1] // 32))},
    "mxfp4-hub": lambda s: {
        "_blocks": ("U8", (*s[:-1], s[-1] // 32, 16)),
        "_scales": ("U8", (*s[:-1], s[-1] // 32)),
    },
    "awq": lambda s: {
        ".qweight": ("I32", (s[1], s[0] * 4 // 32)),
        ".qzeros": ("I32", (up(s[1], 128), s[0] * 4 // 32)),
        ".scales": ("F16", (up(s[1], 128), s[0])),
    },
    "awq-gemv": lambda s: {
        ".qweight": ("I32", (s[0], s[1] * 4 // 32)),
        ".qzeros": ("I32", (s[0], up(up(s[1], 128), 8))),
        ".scales": ("F16", (s[0], up(up(s[1], 128), 8) * 8)),
    },
    "gptq4": _gptq(4),
    "gptq3": _gptq(3),
    "gptq8": _gptq(8),
    "gptq4-no-index": _gptq(4, index=False),
    "mlx4": _mlx(4, 64),
    "mlx8": _mlx(8, 64),
    "mlx-mxfp4": _mlx(4, 32, "U8"),
    "mlx-nvfp4": _mlx(4, 16, "U8"),
    "mlx-mxfp8": _mlx(8, 32, "U8"),
    "quanto8": lambda s: {
        ".weight._data": ("I8", s),
        ".weight._scale": ("BF16", (s[0], 1)),
        ".input_scale": ("BF16", ()),
        ".output_scale": ("BF16", ()),
    },
    "quanto4": lambda s: {
        ".weight._data._data": ("U8", (s[0] * (s[1] // 128) // 2, 128)),
        ".weight._scale": ("BF16", (s[0] * (s[1] // 128), 1)),
        ".weight._shift": ("BF16", (s[0] * (s[1] // 128), 1)),
        ".input_scale": ("BF16", ()),
        ".output_scale": ("BF16", ()),
    },
}
"""Layout of one linear → its tensors."""


def _ct(form: str, bits: int, kind: str, strategy: str, **more: Any) -> dict[str, Any]:
    weights = {
        "num_bits": bits,
        "type": kind,
        "strategy": strategy,
        "symmetric": True,
        "dynamic": False,
        **more,
    }
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "format": form}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "quantization_status": "compressed",
        "version": "0.18.0",
    }


def _mo(algorithm: str | None, **more: Any) -> dict[str, Any]:
    producer = {"name": "modelopt", "version": "0.47.0"}
    return {
        "quant_method": "modelopt",
        "quant_algo": algorithm,
        "ignore": ["lm_head", "model.embed_tokens"],
        "producer": producer,
        **more,
    }


@dataclass(frozen=True)
class Format:
    """How a toolkit stores a model."""

    layout: str
    """A key of the table of layouts."""
    declaration: Mapping[str, Any] | None
    recipe: str
    """The recipe that it keeps."""
    scheme: str
    """What the reader must call it."""
    sidecar: str = ""
    """File that holds the declaration instead of config.json."""
    experts_only: bool = False
    everything: bool = False
    """Embedding and head too."""


FORMATS: Mapping[str, Format] = {
    "ct-int-quantized": Format("int8", _ct("int-quantized", 8, "int", "channel"), "W8A8", "INT8"),
    "ct-naive-quantized": Format("int8", _ct("naive-quantized", 8, "int", "channel"), "W8A16", "INT8"),
    "ct-float-quantized": Format("fp8-channel", _ct("float-quantized", 8, "float", "channel"), "fp8_dynamic", "FP8"),
    "ct-float-block": Format("fp8-block", _ct("float-quantized", 8, "float", "block", block_structure=[128, 128]), "fp8_block", "FP8"),
    "ct-pack-quantized": Format("int4", _ct("pack-quantized", 4, "int", "group", group_size=128), "W4A16", "INT4"),
    "ct-pack-asym": Format("int4-asym", _ct("pack-quantized", 4, "int", "group", group_size=128) | {}, "W4A16_ASYM", "INT4"),
    "ct-pack-3bit": Format("int3", _ct("pack-quantized", 3, "int", "group", group_size=128), "W3A16", "INT3"),
    "ct-nvfp4": Format("nvfp4-ct", _ct("nvfp4-pack-quantized", 4, "float", "tensor_group", group_size=16), "nvfp4", "NVFP4"),
    "ct-mxfp4": Format("mxfp4-ct", _ct("mxfp4-pack-quantized", 4, "float", "group", group_size=32, scale_dtype="torch.uint8"), "mxfp4", "MXFP4"),
    "ct-mxfp8": Format("mxfp8", _ct("mxfp8-quantized", 8, "float", "group", group_size=32, scale_dtype="torch.uint8"), "mxfp8", "MXFP8"),
    "modelopt-fp8": Format("fp8-tensor", _mo("FP8"), "fp8", "FP8"),
    "modelopt-fp8-rows": Format("fp8-rows", _mo("FP8_PER_CHANNEL_PER_TOKEN"), "fp8_per_channel_per_token", "FP8"),
    "modelopt-nvfp4": Format("nvfp4", _mo("NVFP4"), "nvfp4", "NVFP4"),
    "modelopt-int4-awq": Format("int4-awq", _mo("W4A16_AWQ"), "int4_awq", "INT4"),
    "modelopt-mxfp4": Format("mxfp4", _mo("mxfp4"), "mxfp4", "MXFP4"),
    "modelopt-mxfp8": Format("mxfp8", _mo("MXFP8"), "mxfp8", "MXFP8"),
    "modelopt-int8": Format("int8-sq", _mo("W8A8_SQ_PER_CHANNEL"), "int8_smoothquant", "INT8"),
    "awq-gemm": Format("awq", {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}, "awq", "INT4"),
    "awq-gemv": Format("awq-gemv", {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemv"}, "awq", "INT4"),
    "gptq-4": Format("gptq4", {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": True}, "gptq", "INT4"),
    "gptq-3": Format("gptq3", {"quant_method": "gptq", "bits": 3, "group_size": 128, "sym": False}, "gptq_int3", "INT3"),
    "gptq-8": Format("gptq8", {"quant_method": "gptq", "bits": 8, "group_size": 128, "sym": True}, "gptq_int8", "INT8"),
    "gptq-sidecar": Format("gptq4-no-index", {"bits": 4, "group_size": 128, "sym": True}, "gptq", "INT4", "quantize_config.json"),
    "fp8-hub": Format("fp8-hub", {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}, "deepseek_fp8", "FP8"),
    "fbgemm-fp8": Format("fp8-channel", {"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, "fbgemm_fp8", "FP8"),
    "mlx-4bit": Format("mlx4", {"group_size": 64, "bits": 4, "mode": "affine"}, "mlx_4bit", "INT4", "mlx", everything=True),
    "mlx-8bit": Format("mlx8", {"group_size": 64, "bits": 8}, "mlx_8bit", "INT8", "mlx", everything=True),
    "mlx-mxfp4": Format("mlx-mxfp4", {"group_size": 32, "bits": 4, "mode": "mxfp4"}, "mlx_mxfp4", "MXFP4", "mlx", everything=True),
    "mlx-nvfp4": Format("mlx-nvfp4", {"group_size": 16, "bits": 4, "mode": "nvfp4"}, "mlx_nvfp4", "NVFP4", "mlx", everything=True),
    "mlx-mxfp8": Format("mlx-mxfp8", {"group_size": 32, "bits": 8, "mode": "mxfp8"}, "mlx_mxfp8", "MXFP8", "mlx", everything=True),
    "quanto-int8": Format("quanto8", {"weights": "qint8"}, "quanto_int8", "INT8", "quanto_qmap.json"),
    "quanto-int4": Format("quanto4", {"weights": "qint4"}, "quanto_int4", "INT4", "quanto_qmap.json"),
    "mxfp4-hub": Format(
        "mxfp4-hub",
        {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]},
        "mxfp4_hub", "MXFP4", experts_only=True,
    ),
}  # fmt: skip
_KEPT = ("norm", "embed", "lm_head", "visual", ".gate.", "router", "eh_proj")


def is_linear(name: str, shape: Shape) -> bool:
    """Whether recipes for all linears take the weight."""
    return len(shape) >= 2 and not any(w in f"{name}." for w in _KEPT)


def quantized(arch: str, form: str, **sizes: int) -> Model:
    """A model as a toolkit stores it, in order in every respect."""
    made = FORMATS[form]
    model = source(arch, **sizes)
    found = shapes(arch, **sizes)
    model.tensors = {}
    layout = _WEIGHTS[made.layout]
    for name, shape in found.items():
        taken = is_linear(name, shape) and (".experts." in name or not made.experts_only)
        if taken or (made.everything and len(shape) == 2 and "visual" not in name):
            model.tensors |= {name + suffix: entry for suffix, entry in layout(shape).items()}
        else:
            plain = arch in {"moe-fused", "gpt-oss"} and ".experts." in name
            model.tensors[name if plain else f"{name}.weight"] = ("BF16", shape)
    _declare(model, made, found, arch)
    return model


def _declare(model: Model, made: Format, found: Mapping[str, Shape], arch: str) -> None:
    block = copy.deepcopy(dict(made.declaration or {}))
    kept = sorted(n for n, s in found.items() if len(s) >= 2 and not is_linear(n, s))
    if block.get("quant_method") == "compressed-tensors":
        block["ignore"] = [n for n in kept if "embed_tokens" not in n]
        if made.layout == "int4-asym":
            block["config_groups"]["group_0"]["weights"]["symmetric"] = False
    elif block.get("quant_method") == "modelopt":
        block["ignore"] = ["lm_head", *(n for n in kept if n != "lm_head")]
        model.files["hf_quant_config.json"] = {
            "producer": block["producer"],
            "quantization": {"quant_algo": block["quant_algo"], "exclude_modules": block["ignore"]},
        }
    elif block.get("quant_method") in {"awq", "gptq", "fp8", "fbgemm_fp8"}:
        block["modules_to_not_convert"] = [n for n in kept if "embed_tokens" not in n] or None
    if made.sidecar == "mlx":
        block |= {n: False for n in kept if "visual" in n}
        model.config["quantization"] = block
        model.config["quantization_config"] = block
    elif made.sidecar == "quanto_qmap.json":
        table = {
            n: {"weights": block["weights"], "activations": "none"}
            for n, s in found.items()
            if is_linear(n, s)
        }
        model.files[made.sidecar] = table
    elif made.sidecar:
        model.files[made.sidecar] = block
    elif block:
        model.config["quantization_config"] = block


# -- GGUF ---------------------------------------------------------------------------------------------

_NUMBER = {name: number for number, (name, *_rest) in TYPES.items()}
_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "mlp.gate": "ffn_gate_inp",
}  # fmt: skip
_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_tensors(arch: str, kind: str, **sizes: int) -> dict[str, tuple[str, Shape]]:
    """The tensor table of a GGUF: name → ggml type and shape, outermost first."""
    found: dict[str, tuple[str, Shape]] = {}
    experts: dict[str, list[Shape]] = {}
    for name, shape in shapes(arch, **sizes).items():
        if ".experts." in name:
            head, part = name[: name.index(".experts.")], name.rpartition(".")[2]
            experts.setdefault(f"blk.{head.split('.')[2]}.ffn_{part.removesuffix('_proj')}_exps", []).append(
                shape
            )
            continue
        if name in _TOP:
            stem = _TOP[name]
        else:
            _, _, layer, part = name.split(".", 3)
            stem = f"blk.{layer}.{_GGUF_NAMES[part]}"
        taken = is_linear(name, shape)
        found[f"{stem}.weight"] = (
            kind if taken else "F32" if len(shape) < 2 or "gate_inp" in stem else "F16",
            shape,
        )
    found |= {f"{n}.weight": (kind, (len(s), *s[0])) for n, s in experts.items()}
    return found


def gguf_text(value: str) -> bytes:
    """A length and UTF-8."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def write_gguf(
    path: Path, tensors: Mapping[str, tuple[str, Shape]], values: Mapping[str, Any] | None = None
) -> Path:
    """A GGUF file of version 3 with holes as data."""
    values = {"general.architecture": "llama", **(values or {})}
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    for key, value in values.items():
        out += gguf_text(key)
        out += (
            struct.pack("<I", 8) + gguf_text(value)
            if isinstance(value, str)
            else struct.pack("<II", 4, value)
        )
    at = 0
    for name, (kind, shape) in tensors.items():
        block, width, _ = BY_NAME[kind]
        out += gguf_text(name) + struct.pack("<I", len(shape))
        out += b"".join(struct.pack("<Q", d) for d in reversed(shape)) + struct.pack("<IQ", _NUMBER[kind], at)
        at += -(-(math.prod(shape) // block * width) // 32) * 32
    out += bytes(-len(out) % 32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(out)
        file.truncate(len(out) + at)
    return path


def gguf_values(model: Model) -> dict[str, Any]:
    """The key-values that say what the source's config says."""
    config = model.config
    return {
        "llama.block_count": config["num_hidden_layers"],
        "llama.embedding_length": config["hidden_size"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.feed_forward_length": 1024,
        "tokenizer.chat_template": model.files["chat_template.jinja"],
    }
