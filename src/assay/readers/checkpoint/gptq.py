"""GPTQ and GPTQModel, and AutoRound's exports in their layout: integers packed along the inputs, per-module widths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import ModuleKind
from assay.readers.checkpoint.awq import read as read_awq
from assay.readers.checkpoint.declared import (
    TARGETED,
    Parts,
    compiled,
    read_modules,
    strings,
    unpacked,
    whole,
)
from assay.readers.checkpoint.files import visible
from assay.readers.checkpoint.layout import Container, Declaration, Layout, Tensor
from assay.readers.checkpoint.precision import IGNORED, NOTHING, Claim, Stored

QUANT_METHODS: tuple[str | None, ...] = ("gptq", "gptqmodel", "auto-round", "intel/auto-round")
PARTS = ("weight", "bias", "qweight", "qzeros", "scales", "g_idx")
_COMPARED = ("bits", "group_size", "desc_act", "sym", "lm_head", "dynamic")


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules. Widths follow from the shapes; `dynamic` patterns say which were meant to differ."""
    block = declaration.quantization or {}
    sidecar = declaration.sidecar or {}
    if "awq" in str(block.get("packing_format", "")).lower():
        return read_awq(container, declaration)
    merged = {**sidecar, **block}
    uniform = _claim(merged, {})
    dynamic, problems = _dynamic(merged)
    problems += _disagreements(block, sidecar)
    if uniform.bits is None:
        problems.append("bits is not declared")
    only = strings(merged.get("modules_in_block_to_quantize"))
    skip = strings(merged.get("modules_to_not_convert"))
    head = merged.get("lm_head") is True

    def claim_for(name: str, kind: ModuleKind) -> Claim:
        for expression, claim in dynamic:
            if expression.match(name):
                return claim
        if (kind is ModuleKind.HEAD and not head) or any(s in name for s in skip):
            return IGNORED
        if only and not any(name.endswith("." + o) for o in only):
            return IGNORED if kind in TARGETED else NOTHING
        return uniform if kind in TARGETED else NOTHING

    found = read_modules(container, claim_for, parts=PARTS, judge=_judge)
    producer = _producer(merged)
    return Layout(found.modules, producer, (*problems, *found.problems), asymmetric=found.asymmetric)


def _claim(block: Mapping[str, Any], override: Mapping[str, Any]) -> Claim:
    both = {**block, **override}
    bits = whole(both.get("bits"), 1, 17)
    sym = both.get("sym")
    return Claim(
        scheme=f"INT{bits}" if bits else None,
        bits=bits,
        group_size=whole(both.get("group_size")),
        symmetric=sym if isinstance(sym, bool) else None,
    )


def _dynamic(block: Mapping[str, Any]) -> tuple[list[tuple[Any, Claim]], list[str]]:
    """`-:` patterns take modules out, `+:` patterns (the default) give them other settings; the first match counts."""
    found = block.get("dynamic") or block.get("extra_config")
    if not isinstance(found, Mapping):
        return [], []
    rules, problems = [], []
    for pattern, override in found.items():
        text = str(pattern)
        expression = compiled(text.removeprefix("-:").removeprefix("+:"))
        if expression is None:
            problems.append(f"dynamic pattern {visible(text, 80)!r} cannot be used")
            continue
        settings = override if isinstance(override, Mapping) else {}
        out = text.startswith("-:") or whole(settings.get("bits"), 16) is not None
        rules.append((expression, IGNORED if out else _claim(block, settings)))
    return rules, problems


def _judge(parts: Parts, claim: Claim) -> Stored | None:
    packed, scales, zeros = parts.get("qweight"), parts.get("scales"), parts.get("qzeros")
    if packed is None:
        return unpacked(parts, claim, ("qzeros", "scales", "g_idx"))
    if packed.dtype != "I32" or len(packed.shape) != 2:
        return Stored("UNKNOWN", 0, packed.shape, None, (f"qweight is {packed.dtype} {list(packed.shape)}",))
    rows, out = packed.shape
    bits, problems = _bits(packed, scales, zeros, parts.get("g_idx"), claim)
    if not 1 <= bits <= 8:
        return Stored("UNKNOWN", 0, packed.shape, None, (*problems, "the width follows from no tensor"))
    index = parts.get("g_idx")
    inputs = index.shape[0] if index is not None and len(index.shape) == 1 else rows * 32 // bits
    groups = scales.shape[0] if scales is not None and len(scales.shape) == 2 else 0
    problems += _scales(scales, out, inputs, claim)
    if zeros is None:
        problems.append("qzeros is missing")
    elif zeros.dtype != "I32" or zeros.shape != (groups, -(-out * bits // 32)):
        problems.append(
            f"qzeros is {zeros.dtype} {list(zeros.shape)}, not I32 {[groups, -(-out * bits // 32)]}"
        )
    if index is not None and index.dtype not in {"I32", "I64"}:
        problems.append(f"g_idx is {index.dtype}")
    group = inputs // groups if groups > 1 else None
    symmetric = claim.symmetric is not False
    return Stored(f"INT{bits}", bits, (out, inputs), group, tuple(problems), symmetric)


def _bits(
    packed: Tensor, scales: Tensor | None, zeros: Tensor | None, index: Tensor | None, claim: Claim
) -> tuple[int, list[str]]:
    """Two tensors know the width: `g_idx` the inputs that `qweight` packs, `qzeros` the outputs."""
    rows, out = packed.shape
    known = []
    if index is not None and len(index.shape) == 1 and index.shape[0]:
        known.append((rows * 32 / index.shape[0], "g_idx"))
    if zeros is not None and len(zeros.shape) == 2 and out:
        known.append((zeros.shape[1] * 32 / out, "qzeros"))
    if scales is not None and len(scales.shape) == 2 and scales.shape[0] and claim.group_size and not known:
        known.append((rows * 32 / (scales.shape[0] * claim.group_size), "scales"))
    if not known:
        return claim.bits or 0, []
    bits = round(known[0][0])
    # Outputs that fill no whole word leave a remainder in `qzeros`.
    off = [
        f"{part} says {width:g} bits, {known[0][1]} {known[0][0]:g}"
        for width, part in known
        if abs(width - bits) > 0.5
    ]
    return bits, off


def _scales(scales: Tensor | None, out: int, inputs: int, claim: Claim) -> list[str]:
    if scales is None:
        return ["scales is missing"]
    problems = [] if scales.dtype in {"F16", "BF16", "F32"} else [f"scales is {scales.dtype}, not a float"]
    groups = -(-inputs // claim.group_size) if claim.group_size else 1
    if claim.bits is not None and scales.shape != (groups, out):
        problems.append(f"scales has shape {list(scales.shape)}, not {[groups, out]}")
    return problems


def _disagreements(block: Mapping[str, Any], sidecar: Mapping[str, Any]) -> list[str]:
    return [
        f"config.json says {key} {visible(str(block[key]), 40)}, quantize_config.json {visible(str(sidecar[key]), 40)}"
        for key in _COMPARED
        if key in block and key in sidecar and block[key] != sidecar[key]
    ]


def _producer(block: Mapping[str, Any]) -> str:
    meta = block.get("meta")
    quantizer = meta.get("quantizer") if isinstance(meta, Mapping) else None
    named = (
        quantizer[0]
        if isinstance(quantizer, list) and quantizer
        else quantizer or block.get("autoround_version")
    )
    if block.get("autoround_version") and not quantizer:
        return visible(f"auto-round {named}", 80)
    return visible(str(named), 80) if isinstance(named, str) else "gptq"
