"""Precision by bytes: dtype, shape and companions decide; a declaration only resolves what they leave open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay.readers.checkpoint.layout import FLOATS, Tensor

FP8_DTYPES = frozenset({"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})
SCALES = ("weight_scale", "weight_scale_inv")
QUANT_PARTS = (
    *SCALES,
    "weight_packed",
    "weight_zero_point",
    "weight_g_idx",
    "weight_shape",
    "weight_global_scale",
    "weight_scale_2",
    "input_scale",
    "input_global_scale",
    "input_zero_point",
    "output_scale",
    "pre_quant_scale",
    "svdquant_lora_a",
    "svdquant_lora_b",
)
PARTS = ("weight", "bias", *QUANT_PARTS)


@dataclass(frozen=True)
class Claim:
    """What a declaration says about one module."""

    scheme: str | None = None
    bits: int | None = None
    group_size: int | None = None
    activation: str | None = None
    ignored: bool = False


@dataclass(frozen=True)
class Stored:
    """What the bytes say."""

    scheme: str
    bits: float
    shape: tuple[int, ...]
    group_size: int | None = None
    problems: tuple[str, ...] = ()


def infer(parts: Mapping[str, Tensor], claim: Claim) -> Stored | None:
    """The precision of one module; None if it holds no weight.

    Args:
        parts: the module's tensors by last component.
        claim: used for the width of packed integers and for codes stored wider than declared.
    """
    scale = next((parts[p] for p in SCALES if p in parts), None)
    packed, weight = parts.get("weight_packed"), parts.get("weight")
    if packed is not None:
        stored = _packed(packed, scale, parts, claim)
        return _with(stored, "both weight and weight_packed are stored") if weight is not None else stored
    if weight is None:
        return None
    if weight.dtype in FLOATS:
        leftover = sorted(p for p in parts if p in QUANT_PARTS and p != "pre_quant_scale")
        fake = (f"{weight.dtype} weight beside {', '.join(leftover)}: fake quantization",) if leftover else ()
        return Stored(
            FLOATS[weight.dtype], {"F32": 32.0, "F64": 64.0}.get(weight.dtype, 16.0), weight.shape, None, fake
        )
    if weight.dtype in FP8_DTYPES:
        return _fp8(weight, scale)
    if weight.dtype == "I8":
        return _int8(weight, scale, claim)
    if weight.dtype == "U8" and (scale is not None or claim.scheme is not None):
        return _halved(weight, scale, parts, claim)
    return Stored(weight.dtype, 8 * weight.size_bytes / max(1, weight.count), weight.shape)


def _with(stored: Stored, problem: str) -> Stored:
    return Stored(stored.scheme, stored.bits, stored.shape, stored.group_size, (*stored.problems, problem))


def _packed(packed: Tensor, scale: Tensor | None, parts: Mapping[str, Tensor], claim: Claim) -> Stored:
    if packed.dtype == "U8" and packed.shape:
        return _fp4((*packed.shape[:-1], 2 * packed.shape[-1]), scale, parts)
    if packed.dtype != "I32" or len(packed.shape) < 2:
        return Stored("UNKNOWN", 0, packed.shape, None, (f"weight_packed is {packed.dtype} {packed.shape}",))
    if claim.bits is None:
        return Stored("UNKNOWN", 0, packed.shape, None, ("packed integers of undeclared width",))
    bits = claim.bits
    inputs = packed.shape[-1] * 32 // bits
    if scale is not None and claim.group_size and len(scale.shape) >= 2:
        grouped = scale.shape[-1] * claim.group_size
        # The last word may be padding: the scales know the exact number of inputs.
        if -(-grouped * bits // 32) == packed.shape[-1]:
            inputs = grouped
    shape = (*packed.shape[:-1], inputs)
    problems = _scale_problems(scale, shape, claim.group_size, parts)
    if "weight_shape" not in parts:
        problems += ("weight_shape is missing",)
    return Stored(f"INT{bits}", bits, shape, _group(scale, shape), problems)


def _fp4(shape: tuple[int, ...], scale: Tensor | None, parts: Mapping[str, Tensor]) -> Stored:
    if scale is None:
        return Stored("FP4", 4, shape, None, ("weight_scale is missing",))
    if scale.dtype in {"U8", "F8_E8M0"}:
        return Stored("MXFP4", 4, shape, 32, _grouped(scale, shape, 32))
    if scale.dtype in FP8_DTYPES:
        wrong = _grouped(scale, shape, 16)
        if "weight_global_scale" not in parts and "weight_scale_2" not in parts:
            wrong += ("second-level scale is missing",)
        return Stored("NVFP4", 4, shape, 16, wrong)
    return Stored("FP4", 4, shape, None, (f"weight_scale is {scale.dtype}, not a scale of 4-bit floats",))


def _fp8(weight: Tensor, scale: Tensor | None) -> Stored:
    if scale is not None and scale.dtype in {"U8", "F8_E8M0"}:
        return Stored("MXFP8", 8, weight.shape, 32, _grouped(scale, weight.shape, 32))
    problems = _scale_problems(scale, weight.shape, None, {})
    return Stored("FP8", 8, weight.shape, _group(scale, weight.shape), problems)


def _int8(weight: Tensor, scale: Tensor | None, claim: Claim) -> Stored:
    bits = claim.bits if claim.bits is not None and claim.bits < 8 and claim.scheme else 8
    problems = _scale_problems(scale, weight.shape, claim.group_size, {})
    return Stored(f"INT{bits}", bits, weight.shape, _group(scale, weight.shape), problems)


def _halved(weight: Tensor, scale: Tensor | None, parts: Mapping[str, Tensor], claim: Claim) -> Stored:
    """ModelOpt's U8: 4-bit floats halve the inputs, 4-bit integers halve the outputs; the scales tell which."""
    if len(weight.shape) < 2:
        return Stored("U8", 8, weight.shape, None, ("packed weight with one dimension",))
    *outer, out, inputs = weight.shape
    by_outputs = scale is not None and scale.shape[-2:-1] == (2 * out,)
    if by_outputs or (scale is None and claim.scheme == "INT4"):
        shape = (*outer, 2 * out, inputs)
        problems = _scale_problems(scale, shape, claim.group_size, parts)
        return Stored("INT4", 4, shape, _group(scale, shape), problems)
    return _fp4((*outer, out, 2 * inputs), scale, parts)


def _group(scale: Tensor | None, shape: tuple[int, ...]) -> int | None:
    """Weights per scale along the input; None for one per row, tensor or block of rows."""
    if scale is None or len(scale.shape) < 2 or len(shape) < 2 or scale.shape[-2] != shape[-2]:
        return None
    count = scale.shape[-1]
    return shape[-1] // count if 1 < count <= shape[-1] and shape[-1] % count == 0 else None


def _grouped(scale: Tensor, shape: tuple[int, ...], group: int) -> tuple[str, ...]:
    wanted = (*shape[:-1], -(-shape[-1] // group)) if shape else ()
    return () if scale.shape == wanted else (_shape_problem(scale, shape, group),)


def _scale_problems(
    scale: Tensor | None, shape: tuple[int, ...], group: int | None, parts: Mapping[str, Tensor]
) -> tuple[str, ...]:
    if scale is None:
        return ("weight_scale is missing",)
    if scale.dtype not in {"BF16", "F16", "F32", "F8_E4M3"}:
        return (f"weight_scale is {scale.dtype}, not a float",)
    if len(shape) < 2:
        return ()
    out, inputs = shape[-2:]
    one_per_block = (
        len(scale.shape) >= 2 and _divides(scale.shape[-2], out) and _divides(scale.shape[-1], inputs)
    )
    fits = scale.count == 1 or scale.shape in {(out,), (out, 1)} or one_per_block
    if not fits:
        return (_shape_problem(scale, shape, group),)
    columns = scale.shape[-1] if scale.shape else 1
    if group and columns != -(-inputs // group) and "weight_g_idx" not in parts:
        return (_shape_problem(scale, shape, group),)
    return ()


def _divides(blocks: int, size: int) -> bool:
    """Whether `size` can be cut in that many equal blocks, the last of which may be short."""
    if blocks < 1 or blocks > size:
        return False
    block = -(-size // blocks)
    return -(-size // block) == blocks


def _shape_problem(scale: Tensor, shape: tuple[int, ...], group: int | None) -> str:
    wanted = f"one per {group} inputs of {list(shape)}" if group else f"fitting {list(shape)}"
    return f"weight_scale has shape {list(scale.shape)}, not {wanted}"
