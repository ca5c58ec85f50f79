"""torchao: one JSON per tensor in `__metadata__` names the tensor subclass and its parts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import Module, ModuleKind
from assay.readers.checkpoint.declared import Make, module, odd_ones, whole
from assay.readers.checkpoint.files import visible
from assay.readers.checkpoint.layout import Container, Declaration, Layout, Tensor, classify
from assay.readers.checkpoint.precision import Claim, Stored, infer

QUANT_METHODS: tuple[str | None, ...] = ("torchao",)
_INT_BITS = {f"torch.{sign}int{bits}": bits for sign in ("", "u") for bits in range(1, 9)}
_SIMPLE: Mapping[str, tuple[str, int]] = {
    "Float8Tensor": ("FP8", 8),
    "Int8Tensor": ("INT8", 8),
    "Int4Tensor": ("INT4", 4),
    "Int4PreshuffledTensor": ("INT4", 4),
    "Int4PlainInt32Tensor": ("INT4", 4),
    "Int4TilePackedTo4dTensor": ("INT4", 4),
    "NVFP4Tensor": ("NVFP4", 4),
}
_CODES: Mapping[str, frozenset[str]] = {
    "Int8Tensor": frozenset({"I8"}),
    "IntxUnpackedToInt8Tensor": frozenset({"I8"}),
    "Float8Tensor": frozenset({"F8_E4M3"}),
    "Int4Tensor": frozenset({"U8", "I8"}),
    "NVFP4Tensor": frozenset({"U8", "F4"}),
}
"""Tensor subclass → dtypes of its codes."""
_CONFIGS: tuple[tuple[str, str], ...] = (
    ("Int8", "INT8"),
    ("Int4", "INT4"),
    ("Float8", "FP8"),
    ("NVFP4", "NVFP4"),
    ("MX", "MX"),
    ("IntxWeightOnly", "INTX"),
)


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules: subclass and parts by `__metadata__`, widths by the stored dtypes."""
    block = declaration.quantization or {}
    skipped = block.get("modules_to_not_convert")
    skipped = [s for s in skipped if isinstance(s, str)] if isinstance(skipped, list) else ["lm_head"]
    default = _declared_scheme(block)
    modules: list[Module] = []
    makes: list[Make] = []
    problems: list[str] = []
    used: set[str] = set()
    described = _described(container, problems)
    for full, entry in described.items():
        name, _, leaf = full.rpartition(".")
        parts = _parts(container, name, leaf, entry)
        if not parts or "bias" in leaf:
            problems += [] if parts else [f"{full} is described and not stored"]
            continue
        used |= {t.name for t in parts.values()}
        stored = _stored(entry, parts, "F8_E5M2" if "e5m2" in json.dumps(block, default=str) else "")
        ignored = any(name == s or name.endswith("." + s) for s in skipped)
        quantizable = classify(name, stored.shape) in {ModuleKind.LINEAR, ModuleKind.HEAD}
        claim = Claim(
            scheme=default if quantizable and not ignored else None,
            ignored=ignored,
            group_size=stored.group_size,
        )
        modules.append(module(name, parts, stored, claim))
        if "qdata" in parts:
            makes.append((stored, parts, [name]))
    left = [t for t in container.tensors.values() if t.name not in used]
    strays = [t.name for t in left if not t.name.endswith((".weight", ".bias")) and t.name not in described]
    if strays:
        problems.append(f"{len(strays)} tensors are not described: {visible(strays[0])}")
    for tensor in left:
        if tensor.name.endswith(".weight"):
            plain = infer({"weight": tensor}, Claim())
            if plain is not None:
                modules.append(
                    module(tensor.name.removesuffix(".weight"), {"weight": tensor}, plain, Claim())
                )
    problems += odd_ones(makes)
    points = tuple(m.name for m in modules if any(t.endswith("_zero_point") for t in m.tensors))
    return Layout(tuple(modules), "torchao", tuple(problems[:10]), asymmetric=points)


def _described(container: Container, problems: list[str]) -> dict[str, dict[str, Any]]:
    names = _json(container.metadata.get("tensor_names"))
    if not isinstance(names, list):
        problems.append("__metadata__ names no tensors: not written by torchao's safetensors support")
        return {}
    found = {}
    for name in names:
        entry = _json(container.metadata.get(name)) if isinstance(name, str) else None
        if isinstance(entry, dict) and isinstance(entry.get("_type"), str):
            found[name] = entry
        else:
            problems.append(f"__metadata__ does not describe {str(name)[:80]}")
    return found


def _json(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None


def _parts(container: Container, name: str, leaf: str, entry: Mapping[str, Any]) -> dict[str, Tensor]:
    if entry["_type"] == "Tensor":
        tensor = container.tensors.get(f"{name}.{leaf}" if name else leaf)
        return {"weight": tensor} if tensor is not None else {}
    listed = entry.get("_tensor_data_names")
    prefix = f"{name}._{leaf}_" if name else f"_{leaf}_"
    return {
        part: container.tensors[prefix + part]
        for part in (listed if isinstance(listed, list) else [])
        if isinstance(part, str) and prefix + part in container.tensors
    }


def _stored(entry: Mapping[str, Any], parts: Mapping[str, Tensor], other: str = "") -> Stored:
    if "weight" in parts:
        return infer({"weight": parts["weight"]}, Claim()) or Stored("UNKNOWN", 0, parts["weight"].shape)
    codes, scale = parts.get("qdata"), parts.get("scale")
    if codes is None:
        return Stored("UNKNOWN", 0, (), None, ("qdata is missing",))
    kind = entry["_type"]
    scheme, bits = _scheme(kind, entry.get("_data"))
    listed = entry.get("_tensor_data_names")
    lost = [p for p in (listed if isinstance(listed, list) else []) if isinstance(p, str) and p not in parts]
    problems = tuple(f"{visible(p, 40)} is missing" for p in lost)
    if scale is None and "scale" not in lost:
        problems += ("scale is missing",)
    if scheme == "UNKNOWN":
        problems += (f"torchao {kind[:60]} is not known",)
    shape = _logical(entry) or codes.shape
    if (
        shape is codes.shape
        and bits == 4
        and codes.dtype in {"U8", "F4"}
        and kind != "IntxUnpackedToInt8Tensor"
    ):
        shape = (*shape[:-1], shape[-1] * (2 if codes.dtype == "U8" else 1))
    problems += _scale_problems(scale, entry, shape)
    wanted = _CODES.get(kind)
    if wanted is not None and codes.dtype not in wanted and codes.dtype != other:
        problems += (f"qdata of a {kind} is {codes.dtype}",)
    points = parts.get("zero_point")
    if points is not None and points.dtype not in {"I8", "U8", "I32", "I64", "BF16", "F16", "F32"}:
        problems += (f"zero_point is {points.dtype}",)
    if points is not None and codes.dtype == "I8" and points.dtype == "U8":
        problems += ("zero_point is U8, qdata I8",)
    if points is not None and scale is not None and points.shape != scale.shape:
        problems += (f"zero_point has shape {list(points.shape)}, scale {list(scale.shape)}",)
    group = _block_size(entry)
    if group is None and scale is not None and len(scale.shape) == len(shape) == 2:
        group = shape[1] // scale.shape[1] if 1 < scale.shape[1] <= shape[1] else None
    return Stored(scheme, bits, shape, group, problems)


def _logical(entry: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Tiled codes keep the shape of the weight among their attributes."""
    data = entry.get("_data")
    found = data.get("shape") if isinstance(data, Mapping) else None
    sides = [whole(v) for v in found] if isinstance(found, list) and 0 < len(found) <= 4 else []
    return tuple(v for v in sides if v) if sides and all(sides) else None


def _block_size(entry: Mapping[str, Any]) -> int | None:
    """Weights per scale of a micro-scaled tensor; other tensors tell a size for each dimension."""
    data = entry.get("_data")
    return whole(data.get("block_size")) if isinstance(data, Mapping) else None


def swizzled(rows: int, columns: int) -> tuple[int, int]:
    """The shape of scales in the order of cuBLAS: tiles of 128 x 4, each stored as 32 x 16.

    Source: torchao 0.18 prototype/mx_formats/utils.py, `to_blocked`.
    """
    return 32 * -(-rows // 128), 16 * -(-columns // 4)


def _scale_problems(
    scale: Tensor | None, entry: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[str, ...]:
    """One scale for each block, where the block is said."""
    data = entry.get("_data")
    found = data.get("block_size") if isinstance(data, Mapping) else None
    size = _block_size(entry)
    block = [1] * (len(shape) - 1) + [size] if size else found if isinstance(found, list) else []
    block = [whole(v) for v in block]
    if scale is None or len(block) != len(shape) or not all(block):
        return ()
    if scale.dtype not in {"F16", "BF16", "F32", "F8_E4M3", "F8_E8M0", "U8"}:
        return (f"scale is {scale.dtype}, not a float",)
    wanted = tuple(-(-side // (step or 1)) for side, step in zip(shape, block, strict=True))
    flat = wanted[:-1] if wanted[-1:] == (1,) else wanted
    if size and isinstance(data, Mapping) and data.get("is_swizzled_scales") is True and len(wanted) == 2:
        wanted = flat = swizzled(*wanted)
    fits = scale.shape in {wanted, flat} or scale.elements == math.prod(wanted) == 1
    return () if fits else (f"scale has shape {list(scale.shape)}, not {list(wanted)}",)


def _scheme(kind: str, data: Any) -> tuple[str, int]:
    if kind == "IntxUnpackedToInt8Tensor":
        target = data.get("target_dtype") if isinstance(data, Mapping) else None
        word = target.get("_data") if isinstance(target, Mapping) else target
        text = str(word)
        bits = _INT_BITS.get(text if text.startswith("torch.") else f"torch.{text}")
        return (f"INT{bits}", bits) if bits else ("UNKNOWN", 8)
    if kind == "MXTensor":
        text = json.dumps(data.get("weight_dtype", data)) if isinstance(data, Mapping) else ""
        return ("MXFP4", 4) if "float4" in text or "fp4" in text else ("MXFP8", 8)
    return _SIMPLE.get(kind, ("UNKNOWN", 8))


def _declared_scheme(block: Mapping[str, Any]) -> str | None:
    kind = block.get("quant_type")
    default = kind.get("default") if isinstance(kind, Mapping) else kind
    name = default.get("_type") if isinstance(default, Mapping) else default
    if not isinstance(name, str):
        return None
    for word, scheme in _CONFIGS:
        if word.lower() in name.lower():
            data = default.get("_data") if isinstance(default, Mapping) else None
            data = data if isinstance(data, Mapping) else {}
            if scheme == "INTX":
                return _scheme("IntxUnpackedToInt8Tensor", {"target_dtype": data.get("weight_dtype")})[0]
            if scheme == "MX":
                return _scheme("MXTensor", data)[0] if data else None
            return scheme
    return None
