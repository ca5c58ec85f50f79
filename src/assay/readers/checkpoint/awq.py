"""AutoAWQ: 4-bit integers packed along the outputs (gemm) or the inputs (gemv), with zero points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import ModuleKind
from assay.readers.checkpoint.declared import TARGETED, Parts, read_modules, strings, unpacked, whole
from assay.readers.checkpoint.layout import Container, Declaration, Layout, Tensor
from assay.readers.checkpoint.precision import IGNORED, NOTHING, Claim, Stored

QUANT_METHODS: tuple[str | None, ...] = ("awq", "awq-marlin")
PARTS = ("weight", "bias", "qweight", "qzeros", "scales")
_GEMM = frozenset({"gemm", "exllama", "ipex"})


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules. The width follows from the shapes alone; the declaration is only compared with it."""
    block = declaration.quantization or {}
    bits = whole(block.get("bits", block.get("w_bit")), 1, 17)
    group = whole(block.get("group_size", block.get("q_group_size")))
    zero_point = block.get("zero_point")
    claim = Claim(
        scheme=f"INT{bits}" if bits else None,
        bits=bits,
        group_size=group,
        symmetric=not zero_point if isinstance(zero_point, bool) else None,
    )
    skip = strings(block.get("modules_to_not_convert"))
    gemm = str(block.get("version", "gemm")).lower() in _GEMM

    def claim_for(name: str, kind: ModuleKind) -> Claim:
        # AutoAWQ looks for the words anywhere in the name, and never converts the head.
        if kind is ModuleKind.HEAD or any(word in name for word in skip):
            return IGNORED
        return claim if kind in TARGETED else NOTHING

    found = read_modules(
        container, claim_for, parts=PARTS, judge=lambda parts, said: _judge(parts, said, gemm=gemm)
    )
    problems = () if bits else ("bits is not declared",)
    return Layout(found.modules, "autoawq", (*problems, *found.problems), asymmetric=found.asymmetric)


def _judge(parts: Parts, claim: Claim, *, gemm: bool) -> Stored | None:
    packed, scales = parts.get("qweight"), parts.get("scales")
    if packed is None:
        return unpacked(parts, claim, ("qzeros", "scales"))
    if packed.dtype != "I32" or len(packed.shape) != 2:
        return Stored("UNKNOWN", 0, packed.shape, None, (f"qweight is {packed.dtype} {list(packed.shape)}",))
    if scales is None or len(scales.shape) != 2 or 0 in scales.shape:
        what = "scales is missing" if scales is None else f"scales has shape {list(scales.shape)}"
        return Stored("UNKNOWN", claim.bits or 0, packed.shape, None, (what,))
    return _gemm(packed, scales, parts, claim) if gemm else _gemv(packed, scales, parts, claim)


def _gemm(packed: Tensor, scales: Tensor, parts: Parts, claim: Claim) -> Stored:
    inputs, out = packed.shape[0], scales.shape[1]
    bits, rest = divmod(packed.shape[1] * 32, out)
    groups = scales.shape[0]
    problems = (
        []
        if rest == 0 and bits
        else [f"qweight {list(packed.shape)} does not fit scales {list(scales.shape)}"]
    )
    problems += _scale_problems(scales, groups, inputs, claim)
    problems += _zeros(parts, (groups, -(-out * bits // 32)))
    return _stored(bits, (out, inputs), groups, tuple(problems), claim)


def _gemv(packed: Tensor, scales: Tensor, parts: Parts, claim: Claim) -> Stored:
    """Scales and zero points are padded to whole words of a zero-point word each."""
    out = packed.shape[0]
    bits = claim.bits or 4
    inputs = packed.shape[1] * 32 // bits
    group = claim.group_size or inputs
    groups = -(-inputs // group)
    problems = []
    if scales.shape[0] != out or scales.shape[1] < groups:
        problems.append(
            f"scales has shape {list(scales.shape)}, not one per {group} inputs of {[out, inputs]}"
        )
    if scales.dtype not in {"F16", "BF16", "F32"}:
        problems.append(f"scales is {scales.dtype}, not a float")
    if "qzeros" not in parts:
        problems.append("qzeros is missing")
    return _stored(bits, (out, inputs), groups, tuple(problems), claim)


def _scale_problems(scales: Tensor, groups: int, inputs: int, claim: Claim) -> list[str]:
    problems = []
    if scales.dtype not in {"F16", "BF16", "F32"}:
        problems.append(f"scales is {scales.dtype}, not a float")
    wanted = -(-inputs // claim.group_size) if claim.group_size else groups
    if groups != wanted or inputs % groups:
        problems.append(
            f"scales has shape {list(scales.shape)}, not one per {claim.group_size} of {inputs} inputs"
        )
    return problems


def _zeros(parts: Mapping[str, Tensor], wanted: tuple[int, int]) -> list[str]:
    zeros = parts.get("qzeros")
    if zeros is None:
        return ["qzeros is missing"]
    if zeros.dtype != "I32" or zeros.shape != wanted:
        return [f"qzeros is {zeros.dtype} {list(zeros.shape)}, not I32 {list(wanted)}"]
    return []


def _stored(
    bits: int, shape: tuple[int, int], groups: int, problems: tuple[str, ...], claim: Claim
) -> Stored:
    group = shape[1] // groups if groups > 1 else None
    known = 1 <= bits <= 8
    more: Any = () if known else (f"{bits} bits a weight are in no format",)
    scheme = f"INT{bits}" if known else "UNKNOWN"
    return Stored(scheme, bits if known else 0, shape, group, (*problems, *more), claim.symmetric is True)
