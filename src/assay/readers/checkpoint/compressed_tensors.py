"""compressed-tensors: config_groups with targets, an ignore list, packed or naive weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import ModuleKind
from assay.readers.checkpoint.declared import Parts, compiled, read_modules, strings, whole
from assay.readers.checkpoint.files import visible
from assay.readers.checkpoint.layout import Container, Declaration, Layout
from assay.readers.checkpoint.precision import IGNORED, NOTHING, PARTS, Claim, Stored, infer

QUANT_METHODS: tuple[str | None, ...] = ("compressed-tensors", "compressed_tensors")
_CLASSES: Mapping[ModuleKind, str] = {
    ModuleKind.LINEAR: "Linear",
    ModuleKind.HEAD: "Linear",
    ModuleKind.EMBEDDING: "Embedding",
}
_SPARSE = ("compressed", "bitmask", "row_offsets", "shape")
_SCALED = ("INT", "FP8")


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules, and what is wrong with the declaration itself."""
    block = declaration.quantization or {}
    groups, problems = _groups(block.get("config_groups"))
    ignore = _Patterns(strings(block.get("ignore")))
    cache = block.get("kv_cache_scheme")
    if isinstance(cache, Mapping) and cache.get("num_bits") not in {4, 8}:
        problems.append(f"kv_cache_scheme of {visible(str(cache.get('num_bits')), 20)} bits")
    problems += [f"ignore pattern {visible(p, 80)!r} cannot be used" for p in ignore.unusable]

    def claim_for(name: str, kind: ModuleKind) -> Claim:
        if ignore.matches(name, kind):
            return IGNORED
        named = next((claim for targets, claim in groups if targets.names(name)), None)
        return named or next((claim for targets, claim in groups if targets.covers(kind)), NOTHING)

    found = read_modules(container, claim_for, parts=(*PARTS, *_SPARSE), judge=_judge)
    names = [m.name for m in found.modules]
    notes = [
        f"ignore names {visible(p, 80)!r}, which is not stored"
        for p in ignore.listed
        if not ignore.hits(p, names)
    ]
    if block.get("format") == "marlin-24" or any(n.endswith("scale_packed") for n in container.tensors):
        problems.append("marlin-24 cannot be judged: its codes are permuted; save it as pack-quantized")
    version = block.get("version")
    return Layout(
        found.modules,
        f"compressed-tensors {visible(version, 40)}" if isinstance(version, str) else "",
        (*problems, *_status_problems(block), *found.problems),
        tuple(notes[:10]),
        found.asymmetric,
    )


def _judge(parts: Parts, claim: Claim) -> Stored | None:
    """Sparse weights are stored as their non-zero values and a bit mask of where they stand."""
    values, mask = parts.get("compressed"), parts.get("bitmask")
    if values is None:
        return infer(parts, claim)
    if mask is None or len(mask.shape) != 2 or mask.dtype != "U8":
        return Stored("UNKNOWN", 0, values.shape, None, ("sparse weight without its bit mask",))
    shape = (mask.shape[0], mask.shape[1] * 8)
    rest = {p: t for p, t in parts.items() if p not in _SPARSE}
    weight = values._replace(shape=shape)
    return infer({**rest, "weight": weight}, claim)


class _Patterns:
    """A list of exact names, class names and `re:` patterns, sorted once so that many modules can be asked."""

    def __init__(self, listed: list[str]) -> None:
        self.listed = listed
        self.exact = frozenset(p for p in listed if not p.startswith("re:"))
        found = [(p, compiled(p[3:])) for p in listed if p.startswith("re:")]
        self.unusable = [p for p, expression in found if expression is None]
        self.expressions = [expression for _, expression in found if expression is not None]

    def names(self, name: str) -> bool:
        """Whether the module itself is listed."""
        return name in self.exact or any(e.match(name) for e in self.expressions)

    def covers(self, kind: ModuleKind) -> bool:
        """Whether the module's class is listed."""
        return _CLASSES.get(kind) in self.exact

    def matches(self, name: str, kind: ModuleKind) -> bool:
        """Either of them."""
        return self.names(name) or self.covers(kind)

    def hits(self, pattern: str, names: list[str]) -> bool:
        """Whether a pattern names anything that is stored; one that cannot be used is told elsewhere."""
        if not pattern.startswith("re:"):
            return pattern in _CLASSES.values() or pattern in names
        expression = compiled(pattern[3:])
        return expression is None or any(expression.match(n) for n in names)


def scheme_name(weights: Mapping[str, Any]) -> tuple[str, int] | None:
    """Bucket and width of a `weights` block; None if it is not one."""
    bits, kind = weights.get("num_bits"), weights.get("type")
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16:
        return None
    if kind == "int":
        return f"INT{bits}", bits
    if kind != "float" or bits not in {4, 8}:
        return None
    group = weights.get("group_size")
    micro = group == 32 and weights.get("strategy", "group") == "group"
    if bits == 4:
        return ("MXFP4" if micro else "NVFP4"), 4
    return ("MXFP8" if micro and "uint8" in str(weights.get("scale_dtype")) else "FP8"), 8


def activation_name(block: Any) -> str | None:
    """`int8-token-dynamic` from an `input_activations` block."""
    if not isinstance(block, Mapping) or "num_bits" not in block:
        return None
    dynamic = block.get("dynamic")
    word = "dynamic" if dynamic is True else "local" if dynamic == "local" else "static"
    return f"{block.get('type', 'int')}{block['num_bits']}-{block.get('strategy') or 'tensor'}-{word}"


def _groups(found: Any) -> tuple[list[tuple[_Patterns, Claim]], list[str]]:
    if not isinstance(found, Mapping) or not found:
        return [], ["config_groups is missing"]
    groups, problems = [], []
    for name, entry in found.items():
        weights = entry.get("weights") if isinstance(entry, Mapping) else None
        named = scheme_name(weights) if isinstance(weights, Mapping) else None
        if not isinstance(entry, Mapping) or (weights is not None and named is None):
            problems.append(f"config_groups.{str(name)[:40]} is not understood")
            continue
        if named is None or not isinstance(weights, Mapping):
            continue
        acts = entry.get("input_activations")
        if isinstance(acts, Mapping) and acts.get("num_bits") not in {4, 6, 8, 16}:
            problems.append(
                f"config_groups.{str(name)[:40]}: activations of {str(acts.get('num_bits'))[:20]} bits"
            )
        targets = _Patterns(strings(entry.get("targets")))
        if not targets.listed:
            problems.append(f"config_groups.{str(name)[:40]} has no targets")
        problems += [f"target {visible(p, 80)!r} cannot be used" for p in targets.unusable]
        groups.append((targets, _claim_of(named, weights, entry.get("input_activations"))))
    return groups, problems


def _claim_of(named: tuple[str, int], weights: Mapping[str, Any], activations: Any) -> Claim:
    scheme, bits = named
    strategy = weights.get("strategy")
    structure = weights.get("block_structure")
    sides = [whole(v) for v in structure] if isinstance(structure, list) and len(structure) == 2 else []
    block = (sides[0], sides[1]) if len(sides) == 2 and sides[0] and sides[1] else None
    symmetric = weights.get("symmetric")
    return Claim(
        scheme=scheme,
        bits=bits,
        group_size=whole(weights.get("group_size")),
        activation=activation_name(activations),
        granularity=strategy
        if strategy in {"tensor", "channel", "group"} and scheme.startswith(_SCALED)
        else None,
        block=block if strategy == "block" else None,
        symmetric=symmetric if isinstance(symmetric, bool) and scheme.startswith("INT") else None,
        needs=_needs(scheme, activations),
    )


def _needs(scheme: str, activations: Any) -> tuple[str, ...]:
    """The stored scale of statically quantized activations; NVFP4 has one for all groups of a tensor."""
    if not isinstance(activations, Mapping) or "num_bits" not in activations:
        return ()
    if scheme == "NVFP4":
        return ("input_global_scale",)
    return ("input_scale",) if activations.get("dynamic") is False else ()


def _status_problems(block: Mapping[str, Any]) -> list[str]:
    status, form = block.get("quantization_status"), block.get("format")
    if status == "frozen" or form == "dense":
        return [f"status {status!r}, format {form!r}: weights are not compressed (fake quantization)"]
    return []
