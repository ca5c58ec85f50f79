"""No quantization declared: weights are plain floats, or quantized without saying so."""

from __future__ import annotations

from assay.core.checkpoint import Module
from assay.readers.checkpoint.layout import Container, Declaration, Layout, classify, group, stored_bits
from assay.readers.checkpoint.precision import PARTS, Claim, infer

QUANT_METHODS: tuple[str | None, ...] = (None,)


def read(container: Container, declaration: Declaration) -> Layout:  # noqa: ARG001
    """The modules as the bytes show them; a quantized weight that nothing declares is a problem."""
    modules = []
    for name, parts in group(container.tensors.values(), PARTS).items():
        stored = infer(parts, Claim())
        if stored is None:
            continue
        problems = stored.problems
        if stored.bits < 16 and len(stored.shape) >= 2:
            problems += (f"{stored.scheme} codes without a declaration: a loader reads them without scales",)
        count = 1
        for dimension in stored.shape:
            count *= dimension
        modules.append(
            Module(
                name=name,
                kind=classify(name, stored.shape),
                scheme=stored.scheme,
                weight_bits=stored.bits,
                stored_bits=stored_bits(parts, count),
                shape=stored.shape,
                group_size=stored.group_size,
                tensors=tuple(sorted(t.name for t in parts.values())),
                problems=problems,
            )
        )
    return Layout(tuple(modules))
