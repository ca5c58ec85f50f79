"""Modules of a container, and what is claimed for each. What all format readers share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

from assay.core.checkpoint import Module, ModuleKind
from assay.readers.checkpoint.files import visible
from assay.readers.checkpoint.layout import FLOATS, Container, Tensor, classify, group, stored_bits
from assay.readers.checkpoint.precision import NOTHING, PARTS, Claim, Stored, infer

Parts = Mapping[str, Tensor]
TARGETED = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD})
_MAX_PATTERN_CHARS = 500
_PLAIN_BITS = 16
_OUTLIER = 4
"""So many times rarer than the usual dtype is no design but damage."""
_NESTED_REPEAT = re.compile(r"\([^()]*[*+}][^()]*\)\s*[*+{]")
_LEAKED = re.compile(r"(_quantizer|_amax|_double_scale|_observer|\.observer|fake_quant)(\.|$)", re.MULTILINE)
_IN_LAYER = re.compile(r"^.*?\.\d+\.|(?<=\.)\d+\.")
_KV_PARTS = ("k_scale", "v_scale", "q_scale", "k_zero_point", "v_zero_point", "kv_scale", "prob_scale",
             "k_proj.output_scale", "v_proj.output_scale")  # fmt: skip

_FLOAT = frozenset({"BF16", "F16", "F32"})
_WHOLE = frozenset({"I8", "U8", "I16", "I32", "I64"})
DTYPES: Mapping[str, frozenset[str]] = {
    "bias": _FLOAT, "input_scale": _FLOAT, "output_scale": _FLOAT, "input_global_scale": _FLOAT,
    "weight_global_scale": _FLOAT, "weight_scale_2": _FLOAT, "pre_quant_scale": _FLOAT, "activation_scale": _FLOAT,
    "weight_zero_point": _WHOLE, "weight_g_idx": _WHOLE, "weight_shape": frozenset({"I64", "I32"}),
    "weight._shift": _FLOAT, "biases": _FLOAT,
}  # fmt: skip
"""Companion → the dtypes in which it is stored."""

Make: TypeAlias = tuple[Stored, Parts, list[str]]
"""What modules of equal make say, the tensors of one of them, and the names of all."""


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
    cached: list[str] = []
    known: dict[Any, tuple[Claim, Stored | None, float]] = {}
    makes: dict[Any, Make] = {}
    suspect = _LEAKED.search("\n".join(container.tensors)) is not None
    for name, found in group(container.tensors.values(), parts).items():
        if suspect and _LEAKED.search(name):
            leaked.append(name)
            continue
        if name.endswith(_KV_PARTS):
            cached.append(name)
            continue
        shape = _largest(found).shape
        kind, rank = classify(name, shape), len(shape)
        claim = claim_for(name, kind)
        key = (id(claim), *[(part, t.dtype, t.shape) for part, t in found.items()])
        if key not in known:
            judged = judge(found, claim)
            stored = None if judged is None else completed(judged, found, claim)
            # The claim is kept too: its address must not be given to another one.
            known[key] = (claim, stored, stored_bits(found, math.prod(stored.shape)) if stored else 0.0)
        _, made, bits = known[key]
        if made is not None:
            if made.bits < _PLAIN_BITS:
                makes.setdefault(key, (made, found, []))[2].append(name)
            modules.append(
                module(name, found, made, claim, bits=bits, kind=kind if rank == len(made.shape) else None)
            )
            if not made.symmetric:
                asymmetric.append(name)
        elif found.keys() - {"bias"}:
            lonely += [t.name for t in found.values()]
    if cached:
        homes = {m.name for m in modules} | {m.name.rpartition(".")[0] for m in modules}
        lonely += [name for name in cached if name.rpartition(".")[0] not in homes]
    problems = (*_strays(lonely, leaked), *odd_ones(makes.values()))
    return Found(tuple(modules), problems, tuple(asymmetric))


def completed(stored: Stored, parts: Parts, claim: Claim) -> Stored:
    """With what the declaration asks for beside the weight, and dtypes that no toolkit gives to such a tensor."""
    wrong = [f"{p} is {t.dtype}" for p, t in parts.items() if p in DTYPES and t.dtype not in DTYPES[p]]
    if claim.scheme == stored.scheme:
        wrong += [f"{part} is missing" for part in claim.needs if part not in parts]
        declared, group_size = claim.group_size, stored.group_size
        if declared and group_size and declared != group_size:
            wrong.append(f"stored in groups of {group_size}, declared in groups of {declared}")
    return replace(stored, problems=(*stored.problems, *wrong)) if wrong else stored


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


def unpacked(parts: Parts, claim: Claim, companions: Iterable[str]) -> Stored | None:
    """A module without packed codes; companions that lie beside a plain weight all the same are a problem."""
    leftover = sorted(p for p in companions if p in parts)
    stored = plain(parts, claim)
    if stored is None or not leftover:
        return stored
    return Stored(stored.scheme, stored.bits, stored.shape, None, (f"weight beside {', '.join(leftover)}",))


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


def odd_ones(makes: Iterable[Make]) -> tuple[str, ...]:
    """The few modules that are not made like all others of their precision."""
    listed = list(makes)
    return (*_outliers(listed), *_lacking(listed))


def _outliers(makes: list[Make]) -> tuple[str, ...]:
    """A few modules whose companions have another dtype than those of all others of the same precision."""
    counts: dict[tuple[str, str], dict[str, tuple[int, str]]] = {}
    for stored, parts, names in makes:
        for part, tensor in parts.items():
            seen = counts.setdefault((stored.scheme, part), {})
            seen[tensor.dtype] = (seen.get(tensor.dtype, (0, ""))[0] + len(names), names[0])
    problems = []
    for (scheme, part), seen in sorted(counts.items()):
        usual = max(seen, key=lambda dtype: seen[dtype][0])
        for dtype, (times, name) in sorted(seen.items()):
            if dtype != usual and times * _OUTLIER <= seen[usual][0]:
                problems.append(
                    f"{part} is {dtype} in {times} of the {scheme} modules, {usual} in all others: {visible(name)}"
                )
    return tuple(problems)


def _lacking(makes: list[Make]) -> tuple[str, ...]:
    """A few modules without a companion that all others of their name and precision have, in whatever layer."""
    if len({(stored.scheme, frozenset(parts)) for stored, parts, _ in makes}) == len(
        {m[0].scheme for m in makes}
    ):
        return ()  # all of a precision have the same companions
    groups: dict[tuple[str, str], list[tuple[Parts, str]]] = {}
    for stored, parts, names in makes:
        for name in names:
            groups.setdefault((stored.scheme, _IN_LAYER.sub("", name)), []).append((parts, name))
    problems = []
    for found in groups.values():
        for part in sorted({p for parts, _ in found for p in parts}):
            without = [name for parts, name in found if part not in parts]
            if without and len(without) * _OUTLIER <= len(found):
                problems.append(f"{part} is missing in {len(without)} of {len(found)}: {visible(without[0])}")
    return tuple(problems)


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
