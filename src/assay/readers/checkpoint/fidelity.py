"""A bounded sample of the stored weights, dequantized and compared with the source's.

Headers cannot see codes that no longer mean what they meant: bitsandbytes NF4 saved after a forward pass is well
formed and wrong. At most `MAX_MODULES` linears are sampled, and of each at most `MAX_SOURCE_BYTES` of whole rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.evidence import Measurement
from assay.core.vocabulary import Direction, State
from assay.readers.checkpoint.dequantize import (
    NOT_MEASURABLE,
    Array,
    Unsupported,
    load,
    parts_of,
    whole_tensor,
)
from assay.readers.checkpoint.layout import FLOATS, Container

MAX_MODULES = 4
MAX_CASTS = 16
MAX_SOURCE_BYTES = 2**20
"""Per module, of the source's weight."""


def measure(
    candidate: Checkpoint, container: Container, source: Checkpoint, source_container: Container
) -> tuple[tuple[Measurement, ...], dict[str, Any]]:
    """`weight_error`, the relative RMS between stored and source weight, for each sampled module.

    Where a method moved scale from activations into weights (AWQ, SmoothQuant), which shows in changed norms or a
    stored factor per input, rows and columns are first rescaled to the best fit: only then the codes can be judged.

    Returns:
        One measurement per sampled module, its name in `detail`; and facts: what was sampled and how.
    """
    ours = {m.name: m for m in source.modules}
    smoothed = _norms_moved(candidate, container, ours, source_container)
    measurements, facts = [], {}
    cast = [] if smoothed else casts(candidate, ours)
    for module in [*sample(candidate, ours), *cast]:
        rows = _rows(module)
        try:
            with np.errstate(all="ignore"):
                reference = load(source_container, ours[module.name], rows)
                stored = load(container, module, rows)
                error, fitted = _error(stored, reference, smoothed=smoothed)
            measurement = _measurement(module, error, reference.size)
            facts[module.name] = {
                "rows": rows,
                "of": module.shape[0],
                "rescaled": fitted,
                "scheme": module.scheme,
            }
        except NOT_MEASURABLE as problem:
            why = " ".join(str(problem).split())[:200] or type(problem).__name__
            measurement = Measurement(
                name="weight_error", state=State.MISSING, unit="relative RMS", detail=module.name
            )
            facts[module.name] = {"not_measured": why}
        measurements.append(measurement)
    return tuple(measurements), facts


def sample(candidate: Checkpoint, source: Mapping[str, Module]) -> list[Module]:
    """Quantized linears spread evenly over the model: first, last and between."""
    found = [
        m
        for m in candidate.modules
        if m.kind is ModuleKind.LINEAR and m.weight_bits <= 8 and len(m.shape) == 2 and m.name in source
        and source[m.name].shape == m.shape
        # llama.cpp permutes the rows of q and k; the others are stored as they are.
        and not (candidate.format == "gguf" and m.name.endswith(("q_proj", "k_proj")))
    ]  # fmt: skip
    if len(found) <= MAX_MODULES:
        return found
    step = (len(found) - 1) / (MAX_MODULES - 1)
    return [found[round(i * step)] for i in range(MAX_MODULES)]


def casts(candidate: Checkpoint, source: Mapping[str, Module]) -> list[Module]:
    """Unquantized modules that have another float type than in the source: their values must be the same."""
    found = [
        m
        for m in candidate.modules
        if m.scheme in FLOATS and m.name in source and source[m.name].shape == m.shape and m.shape
        and source[m.name].scheme in FLOATS and source[m.name].scheme != m.scheme
    ]  # fmt: skip
    return [] if candidate.format == "gguf" else found[:: -(-len(found) // MAX_CASTS) or 1]


def _error(stored: Array, reference: Array, *, smoothed: bool) -> tuple[float, bool]:
    if reference.size == 0 or stored.shape != reference.shape:
        raise Unsupported(f"shapes {stored.shape} and {reference.shape} cannot be compared")
    power = float(np.sqrt(np.mean(np.square(reference, dtype=np.float64))))
    if power == 0:
        raise Unsupported("the source's rows are all zero")
    raw = float(np.sqrt(np.mean(np.square(stored - reference, dtype=np.float64)))) / power
    if not smoothed or not math.isfinite(raw):
        return raw, False
    # The quantizer rounded the rescaled weight, so its error is that of the stored one.
    target, fit = stored.astype(np.float64), reference.astype(np.float64)
    for axis in (0, 1, 0, 1):
        energy = np.sum(fit * fit, axis, keepdims=True)
        match = np.sum(fit * target, axis, keepdims=True)
        fit = fit * np.divide(match, energy, out=np.zeros_like(energy), where=energy > 0)
    scale = float(np.sqrt(np.mean(np.square(target))))
    fitted = float(np.sqrt(np.mean(np.square(fit - target)))) / scale if scale > 0 else math.inf
    return (fitted, True) if fitted < raw else (raw, False)


def _rows(module: Module) -> int:
    width = math.prod(module.shape[1:])
    return max(1, min(module.shape[0], MAX_SOURCE_BYTES // (2 * max(1, width))) // 2 * 2)


def _norms_moved(
    candidate: Checkpoint, container: Container, ours: Mapping[str, Module], source: Container
) -> bool:
    if any(t.endswith("pre_quant_scale") for m in candidate.modules for t in m.tensors):
        return True
    norms = [
        m
        for m in candidate.modules
        if m.kind is ModuleKind.NORM and m.name in ours and ours[m.name].scheme == m.scheme
    ][:MAX_MODULES]
    for module in norms:
        try:
            new = whole_tensor(next(iter(parts_of(container, module).values())))
            old = whole_tensor(next(iter(parts_of(source, ours[module.name]).values())))
        except (*NOT_MEASURABLE, StopIteration):
            continue
        if new.shape == old.shape and not np.allclose(new, old, rtol=0.01, atol=1e-3):
            return True
    return False


def _measurement(module: Module, error: float, count: int) -> Measurement:
    return Measurement.of(
        "weight_error",
        error,
        unit="relative RMS",
        low=0.0,
        direction=Direction.LOWER,
        n=count,
        detail=module.name,
    )
