"""MLX: words of 32 bits along the inputs, scales and biases per group; a module is quantized iff it has scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import ModuleKind
from assay.readers.checkpoint.declared import Parts, plain, read_modules, whole
from assay.readers.checkpoint.layout import Container, Declaration, Layout, Tensor
from assay.readers.checkpoint.precision import IGNORED, NOTHING, Claim, Stored

QUANT_METHODS: tuple[str | None, ...] = ("mlx",)
PARTS = ("weight", "bias", "scales", "biases")
MODES: Mapping[str, tuple[str, int, int]] = {
    "mxfp4": ("MXFP4", 4, 32),
    "nvfp4": ("NVFP4", 4, 16),
    "mxfp8": ("MXFP8", 8, 32),
}
"""mode → bucket, bits, group size; `affine` has those that the declaration says."""
_CONVERTED = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.EMBEDDING})


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules. Inputs that the group does not divide are left alone by MLX without a word: nothing is claimed."""
    block = declaration.quantization or {}
    uniform = _claim(block)
    own = {name: _claim(entry, block) for name, entry in block.items() if isinstance(entry, Mapping)}
    off = {name for name, entry in block.items() if entry is False}
    odd: list[str] = []

    def judge(parts: Parts, claim: Claim) -> Stored | None:
        return _judge(parts, claim)

    def claim_for(name: str, kind: ModuleKind) -> Claim:
        if name in off:
            return IGNORED
        weight = container.tensors.get(f"{name}.weight")
        claim = own.get(name, uniform)
        if kind not in _CONVERTED or weight is None or weight.shape[-1:] == ():
            return NOTHING
        if f"{name}.scales" not in container.tensors and weight.shape[-1] % (claim.group_size or 64):
            odd.append(name)
            return NOTHING
        return claim

    found = read_modules(container, claim_for, parts=PARTS, judge=judge)
    notes = [f"{name} was skipped: its inputs do not divide into groups" for name in odd[:10]]
    problems = () if uniform.scheme else ("quantization names no bits and group_size",)
    return Layout(found.modules, "mlx", (*problems, *found.problems), tuple(notes), found.asymmetric)


def _claim(entry: Mapping[str, Any], outer: Mapping[str, Any] | None = None) -> Claim:
    both = {**{k: v for k, v in (outer or {}).items() if k in {"mode", "bits", "group_size"}}, **entry}
    mode = str(both.get("mode", "affine"))
    if mode in MODES:
        scheme, bits, group = MODES[mode]
        return Claim(scheme=scheme, bits=bits, group_size=group)
    width, size = whole(both.get("bits"), 1, 9), whole(both.get("group_size"))
    known = width is not None and size is not None
    return Claim(
        scheme=f"INT{width}" if known else None,
        bits=width,
        group_size=size,
        symmetric=False if known else None,
    )


def _judge(parts: Parts, claim: Claim) -> Stored | None:
    weight, scales = parts.get("weight"), parts.get("scales")
    if weight is None:
        return None
    if weight.dtype != "U32":
        stored = plain({"weight": weight}, NOTHING)
        if stored is None or scales is None:
            return stored
        return Stored(
            stored.scheme, stored.bits, stored.shape, None, ("weight beside scales: fake quantization",)
        )
    if scales is None or len(scales.shape) != len(weight.shape) or not scales.shape or not scales.shape[-1]:
        what = "scales is missing" if scales is None else f"scales has shape {list(scales.shape)}"
        return Stored("UNKNOWN", claim.bits or 0, weight.shape, None, (what,))
    group = claim.group_size or 64
    inputs = scales.shape[-1] * group
    bits, rest = divmod(weight.shape[-1] * 32, inputs)
    shape = (*weight.shape[:-1], inputs)
    problems = [] if scales.shape[:-1] == weight.shape[:-1] else [f"scales has shape {list(scales.shape)}"]
    if rest or bits not in {2, 3, 4, 5, 6, 8}:
        what = f"{weight.shape[-1]} words for {scales.shape[-1]} groups of {group}: no whole width"
        return Stored("UNKNOWN", claim.bits or 0, shape, group, (*problems, what))
    return _scheme(bits, shape, group, scales, parts, problems)


def _scheme(
    bits: int, shape: tuple[int, ...], group: int, scales: Tensor, parts: Parts, problems: list[str]
) -> Stored:
    if scales.dtype in {"U8", "F8_E8M0", "F8_E4M3"}:
        scheme = "MXFP8" if bits == 8 else "MXFP4" if group == 32 else "NVFP4"
        return Stored(scheme, bits, shape, group, tuple(problems))
    biases = parts.get("biases")
    if scales.dtype not in {"F16", "BF16", "F32"}:
        problems = [*problems, f"scales is {scales.dtype}, not a float"]
    if biases is not None and biases.dtype != scales.dtype:
        problems = [*problems, f"biases is {biases.dtype}, scales {scales.dtype}"]
    if biases is None or biases.shape != scales.shape:
        what = "biases is missing" if biases is None else f"biases has shape {list(biases.shape)}"
        problems = [*problems, what]
    return Stored(f"INT{bits}", bits, shape, group, tuple(problems), symmetric=False)
