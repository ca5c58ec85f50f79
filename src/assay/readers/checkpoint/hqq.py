"""HQQ: packed codes and, as small tensors beside them, what they mean. Those few bytes are read."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import Module, ModuleKind
from assay.readers.checkpoint.declared import (
    TARGETED,
    Make,
    completed,
    module,
    odd_ones,
    plain,
    skipped,
    strings,
    whole,
)
from assay.readers.checkpoint.files import read_range
from assay.readers.checkpoint.layout import Container, Declaration, Layout, Tensor, classify, group
from assay.readers.checkpoint.precision import IGNORED, NOTHING, Claim, Stored

QUANT_METHODS: tuple[str | None, ...] = ("hqq",)
PARTS = (
    "weight", "bias", "W_q", "scale", "zero", "shape", "nbits", "group_size", "axis", "channel_wise", "compute_dtype",
    "encoded_state_dict", "offload_meta", "optimize", "packing", "quant_scale", "quant_zero", "round_zero",
    "stores_quant_config", "unpack_view_dtype", "view_as_float",
)  # fmt: skip
_TORCH = r"torch\.(bfloat16|float16|float32|float64|u?int(8|16|32|64))"
_TEXTS: Mapping[str, str] = {"packing": r"\d+bit_\w+", "compute_dtype": _TORCH, "unpack_view_dtype": _TORCH}
"""Texts, one code point a byte → how they look."""
_DTYPES: Mapping[str, str] = {
    "shape": "I64", "nbits": "I32", "group_size": "I32", "axis": "I32", **dict.fromkeys(_TEXTS, "U8"),
    **dict.fromkeys(
        ("view_as_float", "optimize", "round_zero", "channel_wise", "stores_quant_config", "quant_scale", "quant_zero",
         "offload_meta", "encoded_state_dict"), "U8"
    ),
}  # fmt: skip
"""What HQQ stores beside the codes, and in which dtype; its loader asks for all of them."""
_FORMS: Mapping[str, str] = {"I64": "q", "I32": "i", "U8": "B", "I8": "b"}
_PER_WORD: Mapping[int, float] = {8: 8, 4: 4, 3: 3.2, 2: 2, 1: 1}
"""nbits → stored bits of one code; ten 3-bit codes share a word of 32."""
_MAX_RANK = 8


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules, shape and width from their own small tensors."""
    block = declaration.quantization or {}
    config = block.get("quant_config")
    config = config if isinstance(config, Mapping) else {}
    uniform = _claim(config)
    tagged = {str(tag): _claim({"weight_quant_params": v}) for tag, v in config.items() if tag.count(".")}
    skip = strings(block.get("skip_modules", ["lm_head"]))
    modules: list[Module] = []
    problems: list[str] = [] if uniform.scheme or tagged else ["nbits is not declared"]
    asymmetric = []
    makes: list[Make] = []
    for name, parts in group(container.tensors.values(), PARTS).items():
        stored = _packed(parts) if "W_q" in parts else plain(parts, NOTHING)
        if stored is None:
            problems += [f"quantization tensor without a weight: {t.name}" for t in parts.values()]
            continue
        kind = classify(name, stored.shape)
        claim = uniform if kind in TARGETED else NOTHING
        claim = next((c for tag, c in tagged.items() if name.endswith(tag)), claim)
        if skipped(name, skip) or kind is ModuleKind.HEAD:
            claim = IGNORED
        modules.append(module(name, parts, completed(stored, parts, claim), claim))
        if "W_q" in parts:
            makes.append((stored, parts, [name]))
        if not stored.symmetric:
            asymmetric.append(name)
    problems += odd_ones(makes)
    return Layout(tuple(modules), "hqq", tuple(problems[:10]), asymmetric=tuple(asymmetric))


def _claim(config: Mapping[str, Any]) -> Claim:
    weights = config.get("weight_quant_params")
    weights = weights if isinstance(weights, Mapping) else config
    bits = whole(weights.get("nbits"), 1, 9)
    size = whole(weights.get("group_size"))
    return Claim(scheme=f"INT{bits}" if bits else None, bits=bits, group_size=size, symmetric=False)


def _packed(parts: Mapping[str, Tensor]) -> Stored:
    codes = parts["W_q"]
    shape = _values(parts.get("shape"))
    bits, size = _one(parts.get("nbits")), _one(parts.get("group_size"))
    if not shape or any(not 0 < d < 2**31 for d in shape) or bits is None or bits not in _PER_WORD:
        return Stored("UNKNOWN", 0, codes.shape, None, ("shape or nbits cannot be read",))
    count = math.prod(shape)
    problems: list[str] = []
    words = -(-count * _PER_WORD[bits] // 8)
    if not words <= codes.size_bytes <= words * 1.1 + 64:
        problems.append(f"{codes.size_bytes} bytes cannot hold {list(shape)} at {bits} bits")
    lost = [p for p in ("scale", "zero", *_DTYPES) if p not in parts]
    problems += [f"{', '.join(lost)} missing: the toolkit cannot load it"] if lost else []
    wrong = [p for p, dtype in _DTYPES.items() if p in parts and parts[p].dtype != dtype]
    problems += [f"{p} is {parts[p].dtype}, not {_DTYPES[p]}" for p in wrong]
    problems += [
        f"{p} is no {kind}" for p, kind in _TEXTS.items() if p in parts and not _reads(parts[p], kind)
    ]
    groups = count // size if size and size > 0 else None
    for part in ("scale", "zero"):
        tensor = parts.get(part)
        if tensor is None:
            problems.append(f"{part} is missing")
        elif tensor.dtype not in {"F16", "BF16", "F32"}:
            problems.append(f"{part} is {tensor.dtype}, not a float")
        elif groups and tensor.shape != ((groups, 1) if _one(parts.get("axis")) == 1 else (1, groups)):
            problems.append(f"{part} has shape {list(tensor.shape)}, not one per {size} of {count} weights")
    return Stored(f"INT{bits}", bits, shape, size, tuple(problems), symmetric=False)


def _reads(tensor: Tensor, pattern: str) -> bool:
    data = read_range(tensor.file, tensor.start, min(tensor.size_bytes, 64))
    return re.fullmatch(pattern, data.decode("latin-1")) is not None


def _one(tensor: Tensor | None) -> int | None:
    found = _values(tensor)
    return found[0] if len(found) == 1 else None


def _values(tensor: Tensor | None) -> tuple[int, ...]:
    if tensor is None or tensor.dtype not in _FORMS or not 0 < tensor.elements <= _MAX_RANK:
        return ()
    data = read_range(tensor.file, tensor.start, tensor.size_bytes)
    return (
        struct.unpack(f"<{tensor.elements}{_FORMS[tensor.dtype]}", data)
        if len(data) == tensor.size_bytes
        else ()
    )
