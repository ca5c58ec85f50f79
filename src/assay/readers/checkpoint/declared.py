"""Modules of the formats that store weights by the parts of `precision`, and what is claimed for each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from assay.core.checkpoint import Module, ModuleKind
from assay.readers.checkpoint.layout import Container, Tensor, classify, group, stored_bits
from assay.readers.checkpoint.precision import PARTS, Claim, Stored, infer

_MAX_PATTERN_CHARS = 500
_NESTED_REPEAT = re.compile(r"\([^()]*[*+}][^()]*\)\s*[*+{]")
_LEAKED = re.compile(r"(_quantizer|_amax|_double_scale|_observer)(\.|$)")
_KV_PARTS = ("k_scale", "v_scale", "q_scale", "k_zero_point", "v_zero_point", "kv_scale")


def read_modules(container: Container, claim_for: Callable[[str, ModuleKind], Claim]) -> tuple[Module, ...]:
    """All modules of a container, each with what the declaration claims for it.

    Args:
        container: the tensors.
        claim_for: called with the module's name and kind.
    """
    modules = []
    for name, parts in group(container.tensors.values(), PARTS).items():
        kind = classify(name, _rank_shape(parts))
        claim = claim_for(name, kind)
        stored = infer(parts, claim)
        if stored is not None and not name.endswith(_KV_PARTS):
            modules.append(module(name, parts, stored, claim))
    return tuple(modules)


def module(name: str, parts: Mapping[str, Tensor], stored: Stored, claim: Claim) -> Module:
    """One module from its bytes and its claim."""
    kind = classify(name, stored.shape)
    return Module(
        name=name,
        kind=kind,
        scheme=stored.scheme,
        weight_bits=stored.bits,
        stored_bits=stored_bits(parts, math.prod(stored.shape)),
        shape=stored.shape,
        group_size=stored.group_size or (claim.group_size if stored.bits < 16 else None),
        activation=claim.activation,
        ignored=claim.ignored,
        declared=claim.scheme,
        tensors=tuple(sorted(t.name for t in parts.values())),
        problems=stored.problems,
    )


def orphans(container: Container) -> tuple[str, ...]:
    """Scales without a weight, and calibration tensors that leaked into the release."""
    lonely, leaked = [], []
    for name, parts in group(container.tensors.values(), PARTS).items():
        if _LEAKED.search(name):
            leaked.append(name)
        elif not ({"weight", "weight_packed"} & set(parts)) and set(parts) != {"bias"}:
            lonely += [t.name for t in parts.values()]
    problems = []
    if lonely:
        problems.append(
            f"{len(lonely)} quantization tensors without a weight: {', '.join(sorted(lonely)[:3])}"
        )
    if leaked:
        problems.append(f"{len(leaked)} calibration tensors leaked: {', '.join(sorted(leaked)[:3])}")
    return tuple(problems)


def _rank_shape(parts: Mapping[str, Tensor]) -> tuple[int, ...]:
    tensor = parts.get("weight_packed") or parts.get("weight")
    return tensor.shape if tensor is not None else ()


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str] | None:
    """A pattern of a declaration, or None if it is no regular expression or could take for ever."""
    if len(pattern) > _MAX_PATTERN_CHARS or _NESTED_REPEAT.search(pattern):
        return None
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return None
