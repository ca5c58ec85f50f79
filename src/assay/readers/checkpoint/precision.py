"""Precision by bytes: dtype, shape and companions decide; a declaration only resolves what they leave open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from assay.readers.checkpoint.layout import FLOATS, Tensor

FP8_DTYPES = frozenset({"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})
SCALES = ("weight_scale", "weight_scale_inv", "scale_inv")
"""`scale_inv` is fused: `experts.gate_up_proj_scale_inv`."""
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
    "input_scale_ub",
    "activation_scale",
    "activation_scale_inv",
    "output_scale",
    "pre_quant_scale",
    "svdquant_lora_a",
    "svdquant_lora_b",
)
PARTS = ("weight", "bias", *QUANT_PARTS)
_LEAST_BLOCK_ROWS = 8


@dataclass(frozen=True)
class Claim:
    """What a declaration says about one module."""

    scheme: str | None = None
    bits: int | None = None
    group_size: int | None = None
    activation: str | None = None
    ignored: bool = False
    granularity: str | None = None
    """Weights that share a scale: tensor, channel, group or block; None = not said."""
    block: tuple[int, int] | None = None
    """Rows and columns of a block."""
    symmetric: bool | None = None
    needs: tuple[str, ...] = ()
    """Tensors that a module so declared must have besides its weight and scale, such as a static `input_scale`."""


@dataclass(frozen=True)
class Stored:
    """What the bytes say."""

    scheme: str
    bits: float
    shape: tuple[int, ...]
    group_size: int | None = None
    problems: tuple[str, ...] = ()
    symmetric: bool = True
    """Zero stands for zero: no zero points are stored."""


NOTHING = Claim()
"""Nothing is said about the module."""
IGNORED = Claim(ignored=True)


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
        return _float(weight, parts)
    if weight.dtype in FP8_DTYPES:
        return _fp8(weight, scale, claim)
    if weight.dtype == "I8":
        return _int8(weight, scale, parts, claim)
    if weight.dtype in {"U8", "F4"} and (scale is not None or claim.scheme is not None):
        return _halved(weight, scale, parts, claim)
    return Stored(weight.dtype, 8 * weight.size_bytes / max(1, weight.elements), weight.shape)


def _float(weight: Tensor, parts: Mapping[str, Tensor]) -> Stored:
    leftover = sorted(p for p in parts if p in QUANT_PARTS and p != "pre_quant_scale")
    fake = (f"{weight.dtype} weight beside {', '.join(leftover)}: fake quantization",) if leftover else ()
    bits = {"F32": 32.0, "F64": 64.0}.get(weight.dtype, 16.0)
    return Stored(FLOATS[weight.dtype], bits, weight.shape, None, fake)


def _with(stored: Stored, problem: str) -> Stored:
    return replace(stored, problems=(*stored.problems, problem))


def _packed(packed: Tensor, scale: Tensor | None, parts: Mapping[str, Tensor], claim: Claim) -> Stored:
    if packed.dtype == "U8" and packed.shape:
        return _fp4((*packed.shape[:-1], 2 * packed.shape[-1]), scale, parts, claim)
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
    problems = _scale_problems(scale, shape, claim, parts)
    shaped = parts.get("weight_shape")
    if shaped is None:
        problems += ("weight_shape is missing",)
    elif shaped.shape != (len(shape),):
        problems += (f"weight_shape has shape {list(shaped.shape)}",)
    points = parts.get("weight_zero_point")
    if points is not None and scale is not None and len(scale.shape) == 2 and points.dtype == "I32":
        wanted = (-(-scale.shape[0] * bits // 32), *scale.shape[1:])
        if points.shape != wanted:
            problems += (f"weight_zero_point has shape {list(points.shape)}, not {list(wanted)}",)
    if points is None and claim.symmetric is False:
        problems += ("weight_zero_point is missing",)
    return Stored(f"INT{bits}", bits, shape, _group(scale, shape), problems, points is None)


def _fp4(shape: tuple[int, ...], scale: Tensor | None, parts: Mapping[str, Tensor], claim: Claim) -> Stored:
    if scale is None:
        return Stored("FP4", 4, shape, None, ("weight_scale is missing",))
    if scale.dtype in {"U8", "F8_E8M0"}:
        return Stored("MXFP4", 4, shape, 32, _grouped(scale, shape, 32))
    if scale.dtype in FP8_DTYPES:
        group = 16 if claim.block is None else claim.block[1]
        wrong = _grouped(scale, shape, group)
        second = next((parts[p] for p in ("weight_global_scale", "weight_scale_2") if p in parts), None)
        if second is None:
            wrong += ("second-level scale is missing",)
        elif second.dtype != "F32":
            wrong += (f"second-level scale is {second.dtype}, not F32",)
        return Stored("NVFP4", 4, shape, group, wrong)
    return Stored("FP4", 4, shape, None, (f"weight_scale is {scale.dtype}, not a scale of 4-bit floats",))


def _fp8(weight: Tensor, scale: Tensor | None, claim: Claim) -> Stored:
    if scale is not None and scale.dtype in {"U8", "F8_E8M0"} and claim.block is None:
        return Stored("MXFP8", 8, weight.shape, 32, _grouped(scale, weight.shape, 32))
    problems = _scale_problems(scale, weight.shape, claim, {})
    return Stored("FP8", 8, weight.shape, _group(scale, weight.shape), problems)


def _int8(weight: Tensor, scale: Tensor | None, parts: Mapping[str, Tensor], claim: Claim) -> Stored:
    bits = claim.bits if claim.bits is not None and claim.bits < 8 and claim.scheme else 8
    problems = _scale_problems(scale, weight.shape, claim, {})
    points = parts.get("weight_zero_point")
    if points is not None and scale is not None and points.elements != scale.elements:
        problems += (f"weight_zero_point holds {points.elements} values, weight_scale {scale.elements}",)
    if points is None and claim.symmetric is False:
        problems += ("weight_zero_point is missing",)
    return Stored(f"INT{bits}", bits, weight.shape, _group(scale, weight.shape), problems, points is None)


def _halved(weight: Tensor, scale: Tensor | None, parts: Mapping[str, Tensor], claim: Claim) -> Stored:
    """ModelOpt's U8: 4-bit floats halve the inputs, 4-bit integers halve the outputs; the scales tell which."""
    if len(weight.shape) < 2:
        return Stored(weight.dtype, 8, weight.shape, None, ("packed weight with one dimension",))
    if weight.dtype == "F4":
        return _fp4(weight.shape, scale, parts, claim)
    *outer, out, inputs = weight.shape
    by_outputs = scale is not None and scale.shape[-2:-1] == (2 * out,)
    if by_outputs or (scale is None and claim.scheme == "INT4"):
        shape = (*outer, 2 * out, inputs)
        problems = _scale_problems(scale, shape, claim, parts)
        return Stored("INT4", 4, shape, _group(scale, shape), problems)
    return _fp4((*outer, out, 2 * inputs), scale, parts, claim)


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
    scale: Tensor | None, shape: tuple[int, ...], claim: Claim, parts: Mapping[str, Tensor]
) -> tuple[str, ...]:
    if scale is None:
        return ("weight_scale is missing",)
    if scale.dtype not in {"BF16", "F16", "F32", "F8_E4M3"} and not (
        claim.block and scale.dtype in {"U8", "F8_E8M0"}
    ):
        return (f"weight_scale is {scale.dtype}, not a float",)
    if len(shape) < 2:
        return ()
    group = claim.group_size if claim.granularity in {None, "group"} else None
    if claim.block is not None:
        wanted = blocks(shape, claim.block)
        return () if _in_blocks(scale, wanted) else (_shape_problem(scale, shape, wanted=wanted),)
    if not _fits(scale, shape, claim.granularity):
        return (_shape_problem(scale, shape, group),)
    columns = scale.shape[-1] if scale.shape else 1
    if group and columns != -(-shape[-1] // group) and "weight_g_idx" not in parts:
        return (_shape_problem(scale, shape, group),)
    return ()


def _fits(scale: Tensor, shape: tuple[int, ...], granularity: str | None) -> bool:
    *outer, out, inputs = shape
    of_row = {(*outer, out), (*outer, out, 1)}
    of_tensor = {tuple(outer), (*outer, 1), (*outer, 1, 1)}
    if granularity == "tensor":
        return scale.elements == 1 or scale.shape in of_tensor
    if granularity == "channel":
        return scale.shape in of_row
    if granularity == "group" and scale.shape in of_row:
        return True  # one group is the whole row; its length is compared by the caller
    if scale.elements == 1 or scale.shape in of_row or scale.shape in of_tensor:
        return granularity is None
    if len(scale.shape) < 2 or scale.shape[:-2] != tuple(outer):
        return False
    tall, wide = scale.shape[-2:]
    if not (_divides(tall, out) and _divides(wide, inputs)):
        return False
    # Blocks of fewer than 8 rows are in no format: rather is the scale half as long as it must be.
    return tall == out or -(-out // tall) >= _LEAST_BLOCK_ROWS


def _in_blocks(scale: Tensor, wanted: tuple[int, ...]) -> bool:
    """ModelOpt writes one block without axes and several with those inside a block: [rows, 1, columns, 1]."""
    *outer, tall, wide = wanted
    alone = scale.shape == () and math.prod(wanted) == 1
    return alone or scale.shape in {wanted, (*outer, tall, 1, wide, 1)}


def blocks(shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, ...]:
    """The shape of one scale per block."""
    return (*shape[:-2], -(-shape[-2] // block[0]), -(-shape[-1] // block[1]))


def _divides(blocks_: int, size: int) -> bool:
    """Whether `size` can be cut in that many equal blocks, the last of which may be short."""
    if blocks_ < 1 or blocks_ > size:
        return False
    block = -(-size // blocks_)
    return -(-size // block) == blocks_


def _shape_problem(
    scale: Tensor, shape: tuple[int, ...], group: int | None = None, *, wanted: tuple[int, ...] | None = None
) -> str:
    fit = f"one per {group} inputs of {list(shape)}" if group else f"fitting {list(shape)}"
    return f"weight_scale has shape {list(scale.shape)}, not {fit if wanted is None else list(wanted)}"
