"""optimum-quanto: `quanto_qmap.json` names the modules, inner tensors hold codes, scales and shifts."""

from __future__ import annotations

import math
from collections.abc import Mapping

from assay.core.checkpoint import ModuleKind
from assay.readers.checkpoint.declared import Parts, plain, read_modules
from assay.readers.checkpoint.files import visible
from assay.readers.checkpoint.layout import Container, Declaration, Layout, Tensor
from assay.readers.checkpoint.precision import FP8_DTYPES, NOTHING, Claim, Stored

QUANT_METHODS: tuple[str | None, ...] = ("quanto",)
PARTS = (
    "weight", "bias", "input_scale", "output_scale", "weight._data", "weight._data._data", "weight._scale",
    "weight._shift", "bias_quantizer", "weight_qtype", "activation_qtype",
)  # fmt: skip
SCHEMES: Mapping[str, tuple[str, int]] = {
    "qint8": ("INT8", 8), "qint4": ("INT4", 4), "qint2": ("INT2", 2),
    "qfloat8": ("FP8", 8), "qfloat8_e4m3fn": ("FP8", 8), "qfloat8_e5m2": ("FP8", 8),
    "int8": ("INT8", 8), "int4": ("INT4", 4), "int2": ("INT2", 2), "float8": ("FP8", 8),
}  # fmt: skip


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules. The logical shape of codes below 8 bits is stored nowhere: theirs is [groups, group]."""
    table = declaration.sidecar or {}
    claims: dict[str, Claim] = {}
    problems = []
    for name, entry in table.items():
        weights = entry.get("weights") if isinstance(entry, Mapping) else None
        named = SCHEMES.get(str(weights))
        if named is not None:
            acts = entry.get("activations")
            if acts not in {"none", *SCHEMES}:
                problems.append(f"quanto_qmap.json: {visible(str(acts), 40)!r} is no type of quanto")
            activation = acts if isinstance(acts, str) and acts != "none" else None
            needs = ("input_scale", "output_scale")
            claims[name] = Claim(scheme=named[0], bits=named[1], activation=activation, needs=needs)
        elif weights != "none":
            problems.append(f"quanto_qmap.json: {visible(str(weights), 40)!r} is no type of quanto")
    uniform = SCHEMES.get(str((declaration.quantization or {}).get("weights")))
    default = Claim(scheme=uniform[0], bits=uniform[1]) if uniform and not table else NOTHING

    def claim_for(name: str, kind: ModuleKind) -> Claim:
        return claims.get(name, default if kind is ModuleKind.LINEAR else NOTHING)

    found = read_modules(container, claim_for, parts=PARTS, judge=_judge)
    stored = {m.name for m in found.modules}
    lost = sorted(set(claims) - stored)
    if lost:
        problems.append(f"{len(lost)} modules of quanto_qmap.json are not stored: {visible(lost[0])}")
    return Layout(found.modules, "quanto", (*problems, *found.problems), asymmetric=found.asymmetric)


def _judge(parts: Parts, claim: Claim) -> Stored | None:
    packed, codes = parts.get("weight._data._data"), parts.get("weight._data")
    scale = parts.get("weight._scale")
    if packed is not None:
        return _low_bits(packed, scale, parts.get("weight._shift"), claim)
    if codes is None:
        leftover = [p for p in ("weight._scale", "weight._shift") if p in parts]
        stored = plain(parts, NOTHING)
        if stored is None or not leftover:
            return stored
        return Stored(
            stored.scheme, stored.bits, stored.shape, None, (f"weight beside {', '.join(leftover)}",)
        )
    scheme = "INT8" if codes.dtype == "I8" else "FP8" if codes.dtype in FP8_DTYPES else "UNKNOWN"
    return Stored(scheme, 8, codes.shape, None, _scale_problems(scale, codes.shape[:1]))


def _low_bits(packed: Tensor, scale: Tensor | None, shift: Tensor | None, claim: Claim) -> Stored:
    bits = claim.bits or 0
    if scale is not None and len(packed.shape) == 2 and scale.elements:
        # Codes are packed along the rows, one row a scale.
        bits, rest = divmod(8 * packed.shape[0], scale.elements)
        bits = 0 if rest else bits
    if bits not in {2, 4} or not packed.shape:
        return Stored("UNKNOWN", 0, packed.shape, None, ("scales do not fit the packed codes",))
    shape = (packed.shape[0] * 8 // bits, *packed.shape[1:])
    problems = _scale_problems(scale, shape[:1])
    if shift is None:
        problems += ("_shift is missing",)
    elif scale is not None and shift.shape != scale.shape:
        problems += (f"_shift has shape {list(shift.shape)}, _scale {list(scale.shape)}",)
    return Stored(f"INT{bits}", bits, shape, math.prod(shape[1:]) or None, problems, symmetric=False)


def _scale_problems(scale: Tensor | None, rows: tuple[int, ...]) -> tuple[str, ...]:
    if scale is None:
        return ("_scale is missing",)
    if scale.dtype not in {"F16", "BF16", "F32"}:
        return (f"_scale is {scale.dtype}, not a float",)
    fits = scale.elements == 1 or scale.shape[:1] == rows
    return () if fits else (f"_scale has shape {list(scale.shape)}, not one per row of {list(rows)}",)
