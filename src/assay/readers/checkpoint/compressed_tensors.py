"""compressed-tensors: config_groups with targets, an ignore list, packed or naive weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import ModuleKind
from assay.readers.checkpoint.declared import compiled, orphans, read_modules
from assay.readers.checkpoint.layout import Container, Declaration, Layout
from assay.readers.checkpoint.precision import Claim

QUANT_METHODS: tuple[str | None, ...] = ("compressed-tensors", "compressed_tensors")
_CLASSES: Mapping[ModuleKind, str] = {
    ModuleKind.LINEAR: "Linear",
    ModuleKind.HEAD: "Linear",
    ModuleKind.EMBEDDING: "Embedding",
}


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules, and what is wrong with the declaration itself."""
    block = declaration.quantization or {}
    groups, problems = _groups(block.get("config_groups"))
    ignore = _strings(block.get("ignore"))
    problems += [f"ignore pattern {p[:80]!r} cannot be used" for p in ignore if not _usable(p)]
    modules = read_modules(container, lambda name, kind: _claim(name, kind, groups, ignore))
    names = [m.name for m in modules]
    notes = [
        f"ignore names {p[:80]!r}, which is not stored"
        for p in ignore
        if _usable(p) and not any(_matches(p, n) for n in names)
    ]
    problems += _status_problems(block)
    version = block.get("version")
    producer = f"compressed-tensors {version}" if isinstance(version, str) else ""
    return Layout(modules, producer, (*problems, *orphans(container)), tuple(notes[:10]))


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


def _groups(found: Any) -> tuple[list[tuple[list[str], Claim]], list[str]]:
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
        size = weights.get("group_size")
        claim = Claim(
            scheme=named[0],
            bits=named[1],
            group_size=size if isinstance(size, int) and 0 < size < 2**31 and size is not True else None,
            activation=activation_name(entry.get("input_activations")),
        )
        groups.append((_strings(entry.get("targets")), claim))
    return groups, problems


def _claim(name: str, kind: ModuleKind, groups: list[tuple[list[str], Claim]], ignore: list[str]) -> Claim:
    if any(_matches(p, name) or p == _CLASSES.get(kind) for p in ignore):
        return Claim(ignored=True)
    for targets, claim in groups:
        if any(_matches(p, name) for p in targets):
            return claim
    for targets, claim in groups:
        if kind in _CLASSES and _CLASSES[kind] in targets:
            return claim
    return Claim()


def _usable(pattern: str) -> bool:
    return not pattern.startswith("re:") or compiled(pattern[3:]) is not None


def _matches(pattern: str, name: str) -> bool:
    if not pattern.startswith("re:"):
        return pattern == name
    expression = compiled(pattern[3:])
    return expression is not None and expression.match(name) is not None


def _status_problems(block: Mapping[str, Any]) -> list[str]:
    status, form = block.get("quantization_status"), block.get("format")
    if status == "frozen" or form == "dense":
        return [f"status {status!r}, format {form!r}: weights are not compressed (fake quantization)"]
    return []


def _strings(value: Any) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
