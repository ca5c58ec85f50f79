"""Modules of a container, and what is claimed for each. What all format readers share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from assay.core.checkpoint import Module, ModuleKind
from assay.readers.checkpoint.files import visible
from assay.readers.checkpoint.layout import FLOATS, Container, Tensor, classify, group, stored_bits
from assay.readers.checkpoint.precision import NOTHING, PARTS, Claim, Stored, infer

Parts = Mapping[str, Tensor]
TARGETED = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD})
_MAX_PATTERN_CHARS = 500
_NESTED_REPEAT = re.compile(r"\([^()]*[*+}][^()]*\)\s*[*+{]")
_LEAKED = re.compile(r"(_quantizer|_amax|_double_scale|_observer|\.observer|fake_quant)(\.|$)", re.MULTILINE)
_KV_PARTS = ("k_scale", "v_scale", "q_scale", "k_zero_point", "v_zero_point", "kv_scale", "prob_scale",
             "k_proj.output_scale", "v_proj.output_scale")  # fmt: skip


@dataclass(frozen=True)
class Found:
    """The modules of a container and what does not belong to any."""

    modules: tuple[Module, ...]
    problems: tuple[str, ...] = ()
    asymmetric: tuple[str, ...] = ()


def read_modules(
    container: Container,
    claim_for: Callable[[str, ModuleKind], Claim],
    *,
    parts: Iterable[str] = PARTS,
    judge: Callable[[Parts, Claim], Stored | None] = infer,
) -> Found:
    """All modules of a container, each with what the declaration claims for it.

    Args:
        container: the tensors.
        claim_for: called with the module's name and kind.
        parts: last components of the names of tensors that make up a module.
        judge: what the tensors of a module say. It sees dtypes and shapes only: experts of equal make are judged
            once.
    """
    modules: list[Module] = []
    asymmetric: list[str] = []
    lonely: list[str] = []
    leaked: list[str] = []
    known: dict[Any, tuple[Claim, Stored | None, float]] = {}
    suspect = _LEAKED.search("\n".join(container.tensors)) is not None
    for name, found in group(container.tensors.values(), parts).items():
        if suspect and _LEAKED.search(name):
            leaked.append(name)
            continue
        if name.endswith(_KV_PARTS):
            continue
        shape = _largest(found).shape
        kind, rank = classify(name, shape), len(shape)
        claim = claim_for(name, kind)
        key = (id(claim), *[(part, t.dtype, t.shape) for part, t in found.items()])
        if key not in known:
            stored = judge(found, claim)
            # The claim is kept too: its address must not be given to another one.
            known[key] = (claim, stored, stored_bits(found, math.prod(stored.shape)) if stored else 0.0)
        _, made, bits = known[key]
        if made is not None:
            modules.append(
                module(name, found, made, claim, bits=bits, kind=kind if rank == len(made.shape) else None)
            )
            if not made.symmetric:
                asymmetric.append(name)
        elif found.keys() - {"bias"}:
            lonely += [t.name for t in found.values()]
    return Found(tuple(modules), _strays(lonely, leaked), tuple(asymmetric))


def module(
    name: str,
    parts: Parts,
    stored: Stored,
    claim: Claim,
    *,
    bits: float | None = None,
    kind: ModuleKind | None = None,
) -> Module:
    """One module from its bytes and its claim."""
    return Module(
        name=name,
        kind=kind or classify(name, stored.shape),
        scheme=stored.scheme,
        weight_bits=stored.bits,
        stored_bits=stored_bits(parts, math.prod(stored.shape)) if bits is None else bits,
        shape=stored.shape,
        group_size=stored.group_size or (claim.group_size if stored.bits < 16 else None),
        activation=claim.activation,
        ignored=claim.ignored,
        declared=claim.scheme,
        tensors=tuple(sorted([t.name for t in parts.values()])),
        problems=stored.problems,
    )


def plain(parts: Parts, claim: Claim) -> Stored | None:
    """A weight beside which no scales of the format lie."""
    weight = parts.get("weight")
    if weight is None:
        return None
    found = infer({"weight": weight}, NOTHING if weight.dtype in FLOATS else claim)
    return found or Stored("UNKNOWN", 0, weight.shape)


def skipped(name: str, patterns: Iterable[str]) -> bool:
    """Whether a list like `modules_to_not_convert` names a module: itself, a parent of it, or its last parts."""
    dotted = f".{name}."
    return any(p and (f".{p}." in dotted or name.startswith(p + ".")) for p in patterns)


def whole(value: Any, low: int = 1, high: int = 2**31) -> int | None:
    """A whole number of a declaration, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and low <= value < high else None


def strings(value: Any) -> list[str]:
    """The texts of a list, flattened; anything else is dropped."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple):
        return []
    flat = [v for item in value for v in (item if isinstance(item, list | tuple) else [item])]
    return [v for v in flat if isinstance(v, str)]


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str] | None:
    """A pattern of a declaration, or None if it is no regular expression or could take for ever."""
    if len(pattern) > _MAX_PATTERN_CHARS or _NESTED_REPEAT.search(pattern):
        return None
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return None


def _largest(parts: Parts) -> Tensor:
    for part in ("weight", "weight_packed", "qweight", "blocks", "W_q", "weight._data"):
        if part in parts:
            return parts[part]
    return max(parts.values(), key=lambda t: t.size_bytes)


def _strays(lonely: list[str], leaked: list[str]) -> tuple[str, ...]:
    """Scales without a weight, and calibration tensors that leaked into the release."""
    return tuple(
        f"{len(names)} {what}: {', '.join(visible(n) for n in sorted(names)[:3])}"
        for names, what in (
            (lonely, "quantization tensors without a weight"),
            (leaked, "calibration tensors leaked"),
        )
        if names
    )
