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
    "8": 0.05,
    "FP8": 0.05,
    "MXFP8": 0.05,
    "7": 0.06,
    "6": 0.08,
    "5": 0.14,
    "4": 0.25,
    "NF4": 0.15,
    "NVFP4": 0.16,
    "MXFP4": 0.20,
    "3": 0.50,
    "2": 0.95,
    "1": 1.0,
}
"""Relative RMS by scheme, else by whole bits."""
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
