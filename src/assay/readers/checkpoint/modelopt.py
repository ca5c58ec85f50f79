"""ModelOpt: `hf_quant_config.json`, `quantization_config`, excludes as wildcards, a table for mixes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from fnmatch import translate
from typing import Any

from assay.core.checkpoint import Module, ModuleKind
from assay.readers.checkpoint.declared import TARGETED, read_modules, strings
from assay.readers.checkpoint.files import visible
from assay.readers.checkpoint.layout import Container, Declaration, Layout
from assay.readers.checkpoint.precision import IGNORED, NOTHING, Claim

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
    "W4A8_NVFP4_FP8": ("NVFP4", 4, 32),
    "W4A16_AWQ": ("INT4", 4, 128),
    "W4A8_AWQ": ("INT4", 4, 128),
    "W8A16": ("INT8", 8, None),
    "W8A8_SQ_PER_CHANNEL": ("INT8", 8, None),
    "MXFP8": ("MXFP8", 8, 32),
    "MXFP4": ("MXFP4", 4, 32),
    "W4A8_MXFP4_FP8": ("MXFP4", 4, 32),
}
"""quant_algo → bucket, bits, group size."""
_STATIC = frozenset(
    {"FP8", "NVFP4", "NVFP4_AWQ", "NVFP4_SVD", "W4A8_AWQ", "W4A8_NVFP4_FP8", "W8A8_SQ_PER_CHANNEL"}
)
"""Algorithms that quantize activations by a scale that is stored."""
_BLOCKS = {"FP8_PB_WO": (128, 128), "FP8_PB_REAL": (128, 128), "W4A8_NVFP4_FP8": (1, 32)}
"""Algorithms whose blocks are not those of their bucket."""
_WILD = frozenset("*?[")
_MAX_PATTERN_CHARS = 500
_MAX_PATTERNS = 5_000
_WEIGHT_ONLY = frozenset({"FP8_PB_WO", "W4A16_NVFP4", "W4A16_AWQ", "W8A16"})


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules, and where the two declarations disagree."""
    block = declaration.quantization or {}
    sidecar = (declaration.sidecar or {}).get("quantization")
    sidecar = sidecar if isinstance(sidecar, Mapping) else {}
    problems = _disagreements(block, sidecar)
    algorithm = block.get("quant_algo", sidecar.get("quant_algo"))
    layers = block.get("quantized_layers") or sidecar.get("quantized_layers")
    listed = block.get("ignore") or sidecar.get("exclude_modules") or block.get("exclude_modules")
    excludes = Wildcards(strings(listed))
    table = layers if isinstance(layers, Mapping) else {}
    mixed = isinstance(algorithm, str) and algorithm.upper() == "MIXED_PRECISION"
    group = sidecar.get("group_size", block.get("group_size"))
    uniform = None if mixed else _claim(algorithm, group)
    if algorithm is not None and not mixed and uniform is None:
        problems.append(f"quant_algo {str(algorithm)[:40]!r} is not known")

    claims = {name: _layer_claim(entry) or NOTHING for name, entry in table.items()}

    def claim_for(name: str, kind: ModuleKind) -> Claim:
        if name in claims:
            return claims[name]
        if excludes.match(name):
            return IGNORED
        return uniform if uniform is not None and kind in TARGETED else NOTHING

    found = read_modules(container, claim_for)
    names = {m.name for m in found.modules}
    lost = sorted(str(n) for n in table if n not in names)
    if lost:
        shown = ", ".join(visible(n) for n in lost[:3])
        problems.append(f"{len(lost)} quantized_layers are not in the checkpoint: {shown}")
    cached = block.get("kv_cache_scheme") or sidecar.get("kv_cache_quant_algo")
    notes = ["only the KV cache is declared as quantized"] if cached and algorithm is None else []
    notes += [f"excludes {visible(p, 80)!r}, which is not stored" for p in excludes.unused(names)]
    problems += _factors(found.modules, container)
    problems += _groups(block.get("config_groups"), uniform)
    producer = _producer(block, declaration.sidecar)
    return Layout(found.modules, producer, (*problems, *found.problems), tuple(notes[:10]), found.asymmetric)


def _claim(algorithm: Any, group: Any) -> Claim | None:
    found = ALGORITHMS.get(algorithm.upper()) if isinstance(algorithm, str) else None
    if found is None:
        return None
    size = group if isinstance(group, int) and group is not True and 0 < group < 2**31 else found[2]
    activation = None if algorithm.upper() in _WEIGHT_ONLY else f"declared by {algorithm}"
    needs: tuple[str, ...] = ("input_scale",) if algorithm.upper() in _STATIC else ()
    needs += ("weight_scale_2",) if algorithm.upper() == "W4A8_AWQ" else ()
    # Only integers and micro-scaled floats come in groups; some exports write a group size for FP8 as well.
    group_size = size if found[2] else None
    return Claim(
        scheme=found[0],
        bits=found[1],
        group_size=group_size,
        activation=activation,
        block=_BLOCKS.get(algorithm.upper()),
        needs=needs,
    )


def _layer_claim(entry: Any) -> Claim | None:
    return _claim(entry.get("quant_algo"), entry.get("group_size")) if isinstance(entry, Mapping) else None


class Wildcards:
    """Shell patterns as ModelOpt writes them: `*` crosses dots, `prefix.*` also names the module `prefix` itself."""

    def __init__(self, listed: list[str]) -> None:
        self.listed = [p for p in listed if len(p) <= _MAX_PATTERN_CHARS][:_MAX_PATTERNS]
        self._exact = {p for p in self.listed if not _WILD & set(p)}
        self._exact |= {p[:-2] for p in self.listed if p.endswith(".*")}
        wild = [translate(p) for p in self.listed if _WILD & set(p)]
        # One expression for all: there may be a pattern a layer, and a hundred thousand modules.
        self._any = re.compile("|".join(wild)) if wild else None

    def match(self, name: str) -> bool:
        """Whether any pattern names the module."""
        return name in self._exact or (self._any is not None and self._any.match(name) is not None)

    def unused(self, names: set[str]) -> list[str]:
        """Patterns that name nothing."""
        return [p for p in self.listed if p not in names and not Wildcards._hits(p, names)]

    @staticmethod
    def _hits(pattern: str, names: set[str]) -> bool:
        one = Wildcards([pattern])
        return any(one.match(n) for n in names) if _WILD & set(pattern) else pattern in names


def _groups(found: Any, claim: Claim | None) -> list[str]:
    """`config_groups` say the same once more, for loaders that know compressed-tensors."""
    problems = []
    for entry in found.values() if isinstance(found, Mapping) and claim is not None else ():
        weights = entry.get("weights") if isinstance(entry, Mapping) else None
        if not isinstance(weights, Mapping) or claim is None:
            problems.append("config_groups hold a group without weights")
            continue
        for key, ours in (("num_bits", claim.bits), ("group_size", claim.group_size)):
            theirs = weights.get(key)
            if ours is not None and theirs is not None and theirs != ours:
                problems.append(
                    f"config_groups say {key} {visible(str(theirs), 20)}, quant_algo means {ours}"
                )
    return problems


def _factors(modules: tuple[Module, ...], container: Container) -> list[str]:
    """`pre_quant_scale` has the float type of the model: another one means that its bytes are read wrongly."""
    plain = Counter(m.scheme for m in modules if m.scheme in {"BF16", "F16"})
    usual = plain.most_common(1)[0][0] if len(plain) else None
    odd = [
        t
        for m in modules
        for t in m.tensors
        if t.endswith("pre_quant_scale") and container.tensors[t].dtype in {"BF16", "F16"} - {usual}
    ]
    return (
        [f"{visible(odd[0])} is {container.tensors[odd[0]].dtype}, the model {usual}"]
        if odd and usual
        else []
    )


def _disagreements(block: Mapping[str, Any], sidecar: Mapping[str, Any]) -> list[str]:
    if not block or not sidecar:
        return []
    problems = []
    ours, theirs = block.get("quant_algo"), sidecar.get("quant_algo")
    if ours != theirs:
        problems.append(f"config.json says quant_algo {ours!r}, hf_quant_config.json {theirs!r}")
    kept, excluded = strings(block.get("ignore")), strings(sidecar.get("exclude_modules"))
    mixed = str(theirs).upper() == "MIXED_PRECISION"
    if kept and not mixed and set(kept) != set(excluded):
        differs = sorted(set(kept) ^ set(excluded))
        problems.append(
            f"config.json and hf_quant_config.json exclude different modules: {visible(differs[0])}"
        )
    return problems


def _producer(block: Mapping[str, Any], sidecar: Mapping[str, Any] | None) -> str:
    found = block.get("producer") or (sidecar or {}).get("producer")
    if not isinstance(found, Mapping):
        return "modelopt"
    return f"{found.get('name', 'modelopt')} {found.get('version', '')}".strip()[:80]
