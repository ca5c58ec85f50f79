"""MXFP4 as gpt-oss publishes it: blocks of 32 weights in 16 bytes, one power of two for each block."""

from __future__ import annotations

from assay.core.checkpoint import ModuleKind
from assay.readers.checkpoint.declared import Parts, plain, read_modules, skipped, strings
from assay.readers.checkpoint.layout import Container, Declaration, Layout
from assay.readers.checkpoint.precision import IGNORED, NOTHING, Claim, Stored

QUANT_METHODS: tuple[str | None, ...] = ("mxfp4",)
PARTS = ("weight", "bias", "blocks", "scales")
_CLAIM = Claim(scheme="MXFP4", bits=4, group_size=32)
_BLOCK_BYTES = 16


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules. Only experts are ever stored so; the rest of the list is what was left alone."""
    block = declaration.quantization or {}
    skip = strings(block.get("modules_to_not_convert"))

    def claim_for(name: str, kind: ModuleKind) -> Claim:
        if skipped(name, skip) or (kind is ModuleKind.HEAD):
            return IGNORED
        # Blocks have a dimension more than the weight they stand for.
        return _CLAIM if kind in {ModuleKind.LINEAR, ModuleKind.OTHER} and ".experts." in name else NOTHING

    found = read_modules(container, claim_for, parts=PARTS, judge=_judge)
    return Layout(found.modules, "", found.problems)


def _judge(parts: Parts, claim: Claim) -> Stored | None:
    blocks, scales = parts.get("blocks"), parts.get("scales")
    if blocks is None:
        stored = plain(parts, claim)
        if stored is None or scales is None:
            return stored
        return Stored(
            stored.scheme, stored.bits, stored.shape, None, ("weight beside scales: fake quantization",)
        )
    if blocks.dtype != "U8" or len(blocks.shape) < 3:
        return Stored("UNKNOWN", 4, blocks.shape, None, (f"blocks is {blocks.dtype} {list(blocks.shape)}",))
    shape = (*blocks.shape[:-2], blocks.shape[-2] * blocks.shape[-1] * 2)
    problems = []
    if blocks.shape[-1] != _BLOCK_BYTES:
        problems.append(f"blocks of {blocks.shape[-1]} bytes, not {_BLOCK_BYTES}")
    if scales is None:
        problems.append("scales is missing")
    elif scales.dtype not in {"U8", "F8_E8M0"} or scales.shape != blocks.shape[:-1]:
        problems.append(f"scales is {scales.dtype} {list(scales.shape)}, not U8 {list(blocks.shape[:-1])}")
    return Stored("MXFP4", 4, shape, 32, tuple(problems))
