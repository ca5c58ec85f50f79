"""Size: computed from the source's headers and the promise, compared with the candidate's headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import Checkpoint, Module
from assay.gates._checkpoint.findings import Finding, bad, good, some
from assay.gates._checkpoint.intent import FLOATS, Intent, matches

EXACT_BITS: Mapping[str, float] = {
    "NVFP4": 4.5, "MXFP4": 4.25, "MXFP8": 8.25,
    "Q4_0": 4.5, "Q4_1": 5.0, "Q5_0": 5.5, "Q5_1": 6.0, "Q8_0": 8.5, "Q8_1": 10.0,
    "Q2_K": 2.625, "Q3_K": 3.4375, "Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625, "Q8_K": 9.125,
    "IQ1_S": 1.5625, "IQ1_M": 1.75, "IQ2_XXS": 2.0625, "IQ2_XS": 2.3125, "IQ2_S": 2.5625,
    "IQ3_XXS": 3.0625, "IQ3_S": 3.4375, "IQ4_NL": 4.5, "IQ4_XS": 4.25,
    "TQ1_0": 1.6875, "TQ2_0": 2.0625, "Q1_0": 1.125,
}  # fmt: skip
"""Bits per weight with scales, of formats whose blocks are fixed (ggml's block tables; each toolkit's own layout)."""
_WEIGHT_BITS: Mapping[str, float] = {
    "FP8": 8, "INT8": 8, "INT7": 7, "INT6": 6, "INT5": 5, "INT4": 4, "INT3": 3, "INT2": 2,
    "NF4": 4, "FP4": 4, "BF16": 16, "F16": 16, "F32": 32, "F64": 64,
}  # fmt: skip
_MODULE_OVERHEAD_BITS = 8 * 256
"""Room for what is stored once per module: global scales, shapes."""
_CODE_BOOK_BITS = 8 * 1280
"""bitsandbytes stores code books (64 bytes, with nested scales 1,024 more) and a quant_state with each module."""


def bits_per_weight(scheme: str, shape: tuple[int, ...], group: int | None) -> tuple[float, float] | None:
    """Smallest and largest honest bits of one weight, scales included; None for an unknown bucket.

    Args:
        scheme: precision bucket.
        shape: logical shape [out, in].
        group: weights per scale; None = one scale per row, block or tensor.
    """
    count = max(1, math.prod(shape))
    room = _MODULE_OVERHEAD_BITS / count
    if scheme in EXACT_BITS:
        least = EXACT_BITS[scheme]
        if scheme == "NVFP4" and group:  # ModelOpt's W4A8_NVFP4_FP8 has one scale for 32 weights
            least = min(least, 4 + 8 / group)
        return least, EXACT_BITS[scheme] + room + _smoothing(shape)
    bits = _WEIGHT_BITS.get(scheme)
    if bits is None:
        return None
    if scheme in FLOATS:
        return bits, bits
    if scheme in {"NF4", "FP4"}:
        per = group or 64
        return bits + 8 / per, bits + 32 / per + _CODE_BOOK_BITS / count
    inputs = shape[-1] if shape else 1
    if group:
        return bits + 8 / group, bits + (32 + bits) / group + room + _smoothing(shape)
    return bits, bits + (32 + 8) / max(1, inputs) + room + _smoothing(shape)


def check(
    intent: Intent,
    source: Checkpoint,
    candidate: Checkpoint,
    aligned: Mapping[str, Module],
    tolerance: float,
    left_out: tuple[str, ...] = (),
) -> list[Finding]:
    """The ratio alone, then the computed size against the real one with the cause of a gap.

    Args:
        intent: the promise.
        source: headers of the source.
        candidate: headers of the candidate.
        aligned: its modules under the source's names.
        tolerance: allowed relative distance from the computed size.
        left_out: patterns of modules that are missing on purpose.
    """
    ratio = candidate.weight_bytes / source.weight_bytes
    quantizes = bool(intent.schemes) or intent.from_declaration
    findings = []
    if quantizes and ratio >= 1.0:
        text = f"the candidate is not smaller than its source: {ratio:.3f} of {source.weight_bytes} bytes"
        findings.append(bad(text, measured=round(ratio, 6), limit=1.0, unit="of source"))
    low, high = expected_bytes(intent, source, aligned, left_out)
    text = (
        f"{candidate.weight_bytes} bytes, {ratio:.3f} of the source; computed from headers and recipe: "
        f"{low / source.weight_bytes:.3f} to {high / source.weight_bytes:.3f}{_explained(source, aligned)}"
    )
    numbers: dict[str, Any] = {"measured": candidate.weight_bytes, "unit": "bytes"}
    if candidate.weight_bytes > high * (1 + tolerance):
        cause = _causes(intent, source, aligned, too_large=True)
        findings.append(bad(f"too large: {text}{cause}", limit=round(high * (1 + tolerance)), **numbers))
    elif candidate.weight_bytes < low * (1 - tolerance):
        cause = _causes(intent, source, aligned, too_large=False)
        findings.append(bad(f"too small: {text}{cause}", limit=round(low * (1 - tolerance)), **numbers))
    else:
        findings.append(good(f"size as computed: {text}", limit=round(high), **numbers))
    return findings


def expected_bytes(
    intent: Intent, source: Checkpoint, aligned: Mapping[str, Module], left_out: tuple[str, ...] = ()
) -> tuple[float, float]:
    """Smallest and largest size that the promise allows.

    Targeted modules count at the bits of their bucket, all others at the bytes that the source has for them, or at
    those of the float type that the candidate was cast to.
    """
    low = high = float(source.weight_bytes)
    for module in source.modules:
        own, count = _bytes(module), math.prod(module.shape)
        found = aligned.get(module.name)
        if found is None and matches(left_out, module):
            low, high = low - own, high - own
            continue
        schemes = _schemes(intent, module, found)
        if schemes:
            group = intent.group_size or (found.group_size if found is not None else None)
            spans = [s for s in (bits_per_weight(x, module.shape, group) for x in schemes) if s]
            if spans:
                low += min(s[0] for s in spans) * count / 8 - own
                high += max(s[1] for s in spans) * count / 8 - own
        elif found is not None and (found.scheme in FLOATS or schemes is None):
            low += _bytes(found) - own
            high += _bytes(found) - own
        elif found is None and _tied_copy(module, source):
            low -= own
            high -= own
    return low, high


def _schemes(intent: Intent, module: Module, found: Module | None) -> tuple[str, ...] | None:
    if not intent.from_declaration:
        return intent.wants(module)
    if found is None:
        return ()
    return (found.declared,) if found.declared else (None if found.scheme in EXACT_BITS else ())


def _explained(source: Checkpoint, aligned: Mapping[str, Module]) -> str:
    """What makes a checkpoint smaller without any quantization."""
    said = []
    once = sum(_bytes(m) for m in source.modules if m.name not in aligned and _tied_copy(m, source))
    if once:
        said.append(f"the tied head stored once saves {once / source.weight_bytes:.3f}")
    cast = 0.0
    for module in source.modules:
        found = aligned.get(module.name)
        if found is not None and {found.scheme, module.scheme} <= FLOATS and found.scheme != module.scheme:
            cast += _bytes(module) - _bytes(found)
    if cast:
        said.append(f"casting unquantized weights saves {cast / source.weight_bytes:.3f}")
    return f" ({'; '.join(said)})" if said else ""


def _causes(intent: Intent, source: Checkpoint, aligned: Mapping[str, Module], *, too_large: bool) -> str:
    causes = []
    pairs = [(m, aligned.get(m.name)) for m in source.modules]
    if too_large:
        unpacked = [f for m, f in pairs if f and f.weight_bits <= 6 and f.stored_bits >= 8]
        if unpacked:
            worst = max(unpacked, key=lambda f: f.stored_bits)
            causes.append(
                f"{len(unpacked)} modules of {worst.weight_bits:g} bits are stored unpacked in "
                f"{worst.stored_bits:.2f} bits each, as large as 8-bit: {some([f.name for f in unpacked])}"
            )
        plain = [m.name for m, f in pairs if f and _schemes(intent, m, f) and f.scheme in FLOATS]
        if plain:
            causes.append(f"{len(plain)} targeted modules are not quantized: {some(plain)}")
        known = {m.name for m in source.modules}
        extra = [n for n in aligned if n not in known]
        if extra:
            causes.append(f"{len(extra)} modules are not in the source: {some(extra)}")
    else:
        lost = [m.name for m, f in pairs if f is None]
        if lost:
            causes.append(f"{len(lost)} modules are missing: {some(lost)}")
        touched = [m.name for m, f in pairs if f and not _schemes(intent, m, f) and f.scheme not in FLOATS]
        if touched:
            causes.append(f"{len(touched)} modules were quantized unasked: {some(touched)}")
    return "; cause: " + "; ".join(causes) if causes else "; no cause found in the headers"


def _bytes(module: Module) -> float:
    return module.stored_bits * math.prod(module.shape) / 8


def _smoothing(shape: tuple[int, ...]) -> float:
    """AWQ and SmoothQuant may store a 32-bit factor per input."""
    return 32 / max(1, shape[-2]) if len(shape) >= 2 else 0.0


def _tied_copy(module: Module, source: Checkpoint) -> bool:
    config = source.metadata.get("config")
    tied = isinstance(config, Mapping) and config.get("tie_word_embeddings") is True
    return tied and module.kind.value == "head"
