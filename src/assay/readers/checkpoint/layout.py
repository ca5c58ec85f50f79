"""What the container readers hand to the format readers, and what those hand back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from assay.core.checkpoint import Module, ModuleKind

FLOATS: Mapping[str, str] = {"BF16": "BF16", "F16": "F16", "F32": "F32", "F64": "F64"}
"""dtypes of unquantized weights → the scheme they are called by."""


class Tensor(NamedTuple):
    """One stored tensor, from a header. A tuple: a checkpoint may hold hundreds of thousands."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """As stored, outermost dimension first."""
    size_bytes: int
    file: str
    start: int
    """Offset of the first byte in `file`."""

    @property
    def elements(self) -> int:
        """Number of stored elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Container:
    """All tensors of a checkpoint, whatever the number of files."""

    format: str
    """safetensors or gguf."""
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """`__metadata__` of safetensors, the key-values of GGUF."""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What is odd and not wrong."""


@dataclass(frozen=True)
class Declaration:
    """What the checkpoint says about itself, apart from its tensors."""

    config: Mapping[str, Any] = field(default_factory=dict)
    quantization: Mapping[str, Any] | None = None
    """`quantization_config` of config.json."""
    sidecar: Mapping[str, Any] | None = None
    """The toolkit's own file beside it: `hf_quant_config.json`, `quantize_config.json`, `quanto_qmap.json`."""
    method: str | None = None
    """The declared quant_method, as written; None = nothing is declared."""


@dataclass(frozen=True)
class Layout:
    """The modules of a checkpoint as one format reader sees them."""

    modules: tuple[Module, ...]
    producer: str = ""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What is odd and not wrong: a tied head that is excluded and not stored."""
    asymmetric: tuple[str, ...] = ()
    """Quantized modules that store zero points or biases beside their scales."""


_HEADS = ("lm_head", "embed_out", "output_layer", "proj_out", "score", "classifier")
_EMBEDDINGS = ("embed", "wte", "wpe", "word_embeddings", "position_embeddings")
_TABLES = frozenset(
    {"relative_attention_bias", "pos_embed", "position_embedding", "sinks", "a_log", "dt_bias"}
)
"""Matrices that no matrix product multiplies."""
_NORMS = ("norm", "ln_", "layer_norm", "layernorm")


def classify(name: str, shape: tuple[int, ...]) -> ModuleKind:
    """What a weight is for, by the names that model families share and by its logical shape."""
    before, _, last = name.rpartition(".")
    return _classify(last, before.rpartition(".")[2], "embed_tokens" in name, len(shape))


@lru_cache(maxsize=4096)
def _classify(last: str, before: str, embeds: bool, rank: int) -> ModuleKind:
    last = last.lower()
    if rank < 2:
        normal = any(word in last for word in _NORMS) or "norm" in before.lower()
        return ModuleKind.NORM if normal else ModuleKind.OTHER
    if last in _HEADS or (last == "head" and before == "shared_head"):
        return ModuleKind.HEAD
    if any(last.startswith(word) for word in _EMBEDDINGS) or embeds:
        return ModuleKind.EMBEDDING
    if rank > 3 or "conv" in last or last in _TABLES:
        return ModuleKind.OTHER
    return ModuleKind.LINEAR


def group(tensors: Iterable[Tensor], parts: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Tensors by module: `m.weight_scale` and fused `m_weight_scale` belong to `m`; other names stand alone.

    Args:
        tensors: all tensors of the container.
        parts: known last components, such as `weight` and `weight_scale`; some are made of several.
    """
    known = frozenset(parts)
    deepest = max((p.count(".") for p in known), default=0)
    modules: dict[str, dict[str, Tensor]] = {}
    left: list[Tensor] = []
    for tensor in tensors:
        name = tensor.name
        cut = name.rfind(".")
        at = 0
        for _ in range(deepest + 1):
            if cut <= 0:
                break
            if name[cut + 1 :] in known:
                at = cut
            cut = name.rfind(".", 0, cut)
        if at:
            modules.setdefault(name[:at], {})[name[at + 1 :]] = tensor
        else:
            left.append(tensor)
    names = {t.name for t in left}
    longest_first = sorted(known, key=len, reverse=True)
    fused: dict[str, dict[str, Tensor]] = {}
    for tensor in left:
        name = tensor.name
        part = next((p for p in longest_first if name.endswith("_" + p)), None)
        if part:
            fused.setdefault(name[: -len(part) - 1], {})[part] = tensor
        else:
            modules.setdefault(name, {})["weight"] = tensor
    for base, found in fused.items():
        # `experts.gate_up_proj_blocks` and `_scales` belong together; a lone `e_score_correction_bias` does not.
        if len(found) > 1 or "blocks" in found or base in names or base in modules:
            modules.setdefault(base, {}).update(found)
        else:
            modules.update({t.name: {"weight": t} for t in found.values()})
    return modules


def stored_bits(parts: Mapping[str, Tensor], weights: int) -> float:
    """Bits on disk per weight: everything of the module but its bias."""
    size = sum(t.size_bytes for part, t in parts.items() if part != "bias")
    return round(8 * size / weights, 6) if weights else 0.0
