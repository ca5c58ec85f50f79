"""No quantization declared: weights are plain floats, or quantized without saying so."""

from __future__ import annotations

from dataclasses import replace

from assay.readers.checkpoint.declared import Parts, read_modules
from assay.readers.checkpoint.layout import Container, Declaration, Layout
from assay.readers.checkpoint.precision import NOTHING, PARTS, Claim, Stored, infer

QUANT_METHODS: tuple[str | None, ...] = (None,)
_FOREIGN = (
    "qweight",
    "qzeros",
    "scales",
    "g_idx",
    "blocks",
    "W_q",
    "zero",
    "SCB",
    "weight.absmax",
    "weight._data",
)
"""Parts of other formats: they mean that a declaration was lost."""


def read(container: Container, declaration: Declaration) -> Layout:  # noqa: ARG001
    """The modules as the bytes show them; a quantized weight that nothing declares is a problem."""
    found = read_modules(
        container, lambda _name, _kind: NOTHING, parts=(*PARTS, *_FOREIGN), judge=_undeclared
    )
    return Layout(found.modules, problems=found.problems)


def _undeclared(parts: Parts, claim: Claim) -> Stored | None:
    foreign = next((p for p in _FOREIGN if p in parts), None)
    stored = infer({p: t for p, t in parts.items() if p not in _FOREIGN}, claim)
    if stored is None and foreign is not None:
        tensor = parts[foreign]
        what = f"{foreign} without a declaration: quantized by a toolkit that is not named"
        return Stored("UNKNOWN", 0, tensor.shape, None, (what,))
    if stored is not None and stored.bits < 16 and len(stored.shape) >= 2:
        what = f"{stored.scheme} codes without a declaration: a loader reads them without scales"
        return replace(stored, problems=(*stored.problems, what))
    return stored
