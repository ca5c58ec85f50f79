"""Fidelity: stored codes must reproduce the source's weights. Well-formed files can hold wrong numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import Checkpoint, Module
from assay.core.evidence import Measurement
from assay.core.vocabulary import State
from assay.gates._checkpoint.findings import Finding, bad, good

NAME = "weight_error"
DEFAULT_LIMITS: Mapping[str, float] = {
    "INT8": 0.05,
    "FP8": 0.05,
    "MXFP8": 0.05,
    "INT4": 0.40,
    "INT3": 0.70,
    "INT2": 1.20,
    "NF4": 0.15,
    "FP4": 0.20,
    "NVFP4": 0.16,
    "MXFP4": 0.20,
    "BF16": 0.02,
    "F16": 0.02,
    "F32": 0.02,
    "8": 0.05,
    "7": 0.10,
    "6": 0.12,
    "5": 0.20,
    "4": 0.25,
    "3": 0.40,
    "2": 0.60,
    "1": 1.00,
}
"""Relative RMS by scheme, else by whole bits.

Source: theory and this repository's own quantizers on examples/release/model, about twice the largest seen.
Round to nearest of a normal weight with b bits and n weights per scale errs by 2 E[max of n] / (2^b - 1) / sqrt(12):
.006 (8 bits), .11 (4), .21 (3), .47 (2, four levels) at n = 128; E4M3 by .026 at any scale. Measured, RTN: INT8
.007-.008, FP8 .026, INT4 .10-.12, NVFP4 .095, MXFP4 .11-.12, NF4 .091-.095, FP4 .12-.13, INT3 .21-.22, INT2 .47-.49;
Q8_0 .005, Q5_1 .04, Q4_0 .09. GPTQ trades weight error for output error: INT4 .18-.21, INT3 .38-.45, INT2 .70-.89.
Broken codes: NF4 saved after a forward .22-.34; codes in another order 1.4, the distance of unrelated weights."""
_HINTS: Mapping[str, str] = {
    "NF4": " (bitsandbytes repacks 4-bit weights at the first forward: save before any forward pass)",
    "FP4": " (bitsandbytes repacks 4-bit weights at the first forward: save before any forward pass)",
}


def limit_for(scheme: str, bits: float, limits: Mapping[str, float]) -> float | None:
    """The limit of a scheme: by its name, else by its whole bits."""
    if scheme in limits:
        return limits[scheme]
    return limits.get(str(max(1, round(bits))))


def check(candidate: Checkpoint, limits: Mapping[str, float]) -> list[Finding]:
    """Judge each sampled module; what was not measured is said."""
    modules = {m.name: m for m in candidate.modules}
    found = [m for m in candidate.measurements if m.name == NAME]
    if not found:
        return [good("note: stored weights were not compared with the source's")]
    findings = [_one(m, modules.get(m.detail), limits) for m in found]
    fine = [f for f in findings if f.failure_class is None and f.reason.measured is not None]
    if len(fine) == len(findings):
        worst = max(fine, key=lambda f: float(f.reason.measured or 0))
        text = f"{len(fine)} sampled modules reproduce the source's weights; {worst.reason.text}"
        return [
            good(text, where=worst.reason.where, measured=worst.reason.measured, limit=worst.reason.limit)
        ]
    return findings


def _one(measurement: Measurement, module: Module | None, limits: Mapping[str, float]) -> Finding:
    name = re.sub(r"\s", " ", measurement.detail)[:200]
    if measurement.state in {State.ERRORED, State.NONFINITE}:
        return bad(f"{name}: the stored weights are {measurement.state}, not numbers", where=name)
    if measurement.value is None or module is None:
        return good(f"note: {name}: stored weights were not compared with the source's", where=name)
    limit = limit_for(module.scheme, module.weight_bits, limits)
    value = round(measurement.value, 6)
    if limit is None:
        return good(f"note: {name}: no limit for {module.scheme}; relative RMS {value:g}", where=name)
    numbers: dict[str, Any] = {"where": name, "measured": value, "limit": limit, "unit": "relative RMS"}
    if value <= limit:
        return good(f"{name}: relative RMS {value:.3g} of {limit:g} allowed for {module.scheme}", **numbers)
    text = (
        f"{name}: the stored {module.scheme} codes no longer reproduce the source: relative RMS {value:.3g}, "
        f"{module.scheme} allows {limit:g}{_HINTS.get(module.scheme, '')}"
    )
    return bad(text, **numbers)
