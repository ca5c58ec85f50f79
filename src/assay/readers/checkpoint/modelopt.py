"""ModelOpt: `hf_quant_config.json`, `quantization_config`, excludes as wildcards, a table for mixes."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from assay.core.checkpoint import ModuleKind
from assay.readers.checkpoint.declared import orphans, read_modules
from assay.readers.checkpoint.layout import Container, Declaration, Layout
from assay.readers.checkpoint.precision import Claim

QUANT_METHODS: tuple[str | None, ...] = ("modelopt", "modelopt-fp4", "modelopt-mixed")
ALGORITHMS: Mapping[str, tuple[str, int, int | None]] = {
    "FP8": ("FP8", 8, None),
    "FP8_PER_CHANNEL_PER_TOKEN": ("FP8", 8, None),
    "FP8_PB_WO": ("FP8", 8, None),
    "FP8_PB_REAL": ("FP8", 8, None),
    "NVFP4": ("NVFP4", 4, 16),
    "NVFP4_AWQ": ("NVFP4", 4, 16),
    "NVFP4_SVD": ("NVFP4", 4, 16),
    "W4A16_NVFP4": ("NVFP4", 4, 16),
    "W4A8_NVFP4_FP8": ("NVFP4", 4, None),
    "W4A16_AWQ": ("INT4", 4, 128),
    "W4A8_AWQ": ("INT4", 4, 128),
    "W8A16": ("INT8", 8, None),
    "W8A8_SQ_PER_CHANNEL": ("INT8", 8, None),
    "MXFP8": ("MXFP8", 8, 32),
    "MXFP4": ("MXFP4", 4, 32),
    "W4A8_MXFP4_FP8": ("MXFP4", 4, 32),
}
"""quant_algo → bucket, bits, group size."""
_WEIGHT_ONLY = frozenset({"FP8_PB_WO", "W4A16_NVFP4", "W4A16_AWQ", "W8A16"})
_TARGETED = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD})


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules, and where the two declarations disagree."""
    block = declaration.quantization or {}
    sidecar = (declaration.sidecar or {}).get("quantization")
    sidecar = sidecar if isinstance(sidecar, Mapping) else {}
    problems = _disagreements(block, sidecar)
    algorithm = block.get("quant_algo", sidecar.get("quant_algo"))
    layers = block.get("quantized_layers") or sidecar.get("quantized_layers")
    listed = block.get("ignore") or sidecar.get("exclude_modules") or block.get("exclude_modules")
    excludes = [p for p in listed if isinstance(p, str)] if isinstance(listed, list) else []
    table = layers if isinstance(layers, Mapping) else {}
    mixed = isinstance(algorithm, str) and algorithm.upper() == "MIXED_PRECISION"
    group = sidecar.get("group_size", block.get("group_size"))
    uniform = None if mixed else _claim(algorithm, group)
    if algorithm is not None and not mixed and uniform is None:
        problems.append(f"quant_algo {str(algorithm)[:40]!r} is not known")

    def claim_for(name: str, kind: ModuleKind) -> Claim:
        if name in table:
            return _layer_claim(table[name]) or Claim()
        if any(_excluded(p, name) for p in excludes):
            return Claim(ignored=True)
        return uniform if uniform is not None and kind in _TARGETED else Claim()

    modules = read_modules(container, claim_for)
    names = {m.name for m in modules}
    lost = sorted(str(n) for n in table if n not in names)
    if lost:
        problems.append(f"{len(lost)} quantized_layers are not in the checkpoint: {', '.join(lost[:3])}")
    return Layout(modules, _producer(block, declaration.sidecar), (*problems, *orphans(container)))


def _claim(algorithm: Any, group: Any) -> Claim | None:
    found = ALGORITHMS.get(algorithm.upper()) if isinstance(algorithm, str) else None
    if found is None:
        return None
    size = group if isinstance(group, int) and group is not True and 0 < group < 2**31 else found[2]
    activation = None if algorithm.upper() in _WEIGHT_ONLY else f"declared by {algorithm}"
    # Only integers and micro-scaled floats come in groups; some exports write a group size for FP8 as well.
    return Claim(scheme=found[0], bits=found[1], group_size=size if found[2] else None, activation=activation)


def _layer_claim(entry: Any) -> Claim | None:
    return _claim(entry.get("quant_algo"), entry.get("group_size")) if isinstance(entry, Mapping) else None


def _excluded(pattern: str, name: str) -> bool:
    # `prefix.*` is written for the module itself and for what is below it.
    return fnmatchcase(name, pattern) or (pattern.endswith(".*") and name == pattern[:-2])


def _disagreements(block: Mapping[str, Any], sidecar: Mapping[str, Any]) -> list[str]:
    if not block or not sidecar:
        return []
    ours, theirs = block.get("quant_algo"), sidecar.get("quant_algo")
    if ours is not None and ours != theirs:
        return [f"config.json says quant_algo {ours!r}, hf_quant_config.json {theirs!r}"]
    return []


def _producer(block: Mapping[str, Any], sidecar: Mapping[str, Any] | None) -> str:
    found = block.get("producer") or (sidecar or {}).get("producer")
    if not isinstance(found, Mapping):
        return "modelopt"
    return f"{found.get('name', 'modelopt')} {found.get('version', '')}".strip()[:80]
