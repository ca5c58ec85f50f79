"""What the container readers hand to the format readers, and what those hand back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.core.checkpoint import Module, ModuleKind

FLOATS: Mapping[str, str] = {"BF16": "BF16", "F16": "F16", "F32": "F32", "F64": "F64"}
"""dtypes of unquantized weights → the scheme they are called by."""


@dataclass(frozen=True)
class Tensor:
    """One stored tensor, from a header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """As stored, outermost dimension first."""
    size_bytes: int
    file: str
    start: int
    """Offset of the first byte in `file`."""

    @property
    def count(self) -> int:
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


@dataclass(frozen=True)
class Declaration:
    """What the checkpoint says about itself, apart from its tensors."""

    config: Mapping[str, Any] = field(default_factory=dict)
    quantization: Mapping[str, Any] | None = None
    """`quantization_config` of config.json."""
    sidecar: Mapping[str, Any] | None = None
    """`hf_quant_config.json`."""

    @property
    def method(self) -> str | None:
        """The declared quant_method, as written."""
        for block in (self.quantization, self.sidecar):
            if block is not None and isinstance(block.get("quant_method"), str):
                return str(block["quant_method"])
        return "modelopt" if self.sidecar is not None else None


@dataclass(frozen=True)
class Layout:
    """The modules of a checkpoint as one format reader sees them."""

    modules: tuple[Module, ...]
    producer: str = ""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What is odd and not wrong: a tied head that is excluded and not stored."""


_HEADS = ("lm_head", "embed_out", "output_layer", "proj_out", "score", "classifier")
_EMBEDDINGS = ("embed", "wte", "wpe", "word_embeddings", "position_embeddings")
_NORMS = ("norm", "ln_", "layer_norm", "layernorm")


def classify(name: str, shape: tuple[int, ...]) -> ModuleKind:
    """What a weight is for, by the names that model families share and by its logical shape."""
    parts = name.split(".")
    last = parts[-1].lower()
    if len(shape) < 2:
        normal = any(word in last for word in _NORMS) or (len(parts) > 1 and "norm" in parts[-2].lower())
        return ModuleKind.NORM if normal else ModuleKind.OTHER
    if last in _HEADS:
        return ModuleKind.HEAD
    if any(last.startswith(word) or last == word for word in _EMBEDDINGS) or "embed_tokens" in name:
        return ModuleKind.EMBEDDING
    if len(shape) > 3 or "conv" in last:
        return ModuleKind.OTHER
    return ModuleKind.LINEAR


def group(tensors: Iterable[Tensor], parts: tuple[str, ...]) -> dict[str, dict[str, Tensor]]:
    """Tensors by module: `m.weight_scale` and fused `m_weight_scale` belong to `m`; other names stand alone.

    Args:
        tensors: all tensors of the container.
        parts: known last components, such as `weight` and `weight_scale`.
    """
    known = sorted(parts, key=len, reverse=True)
    listed = {t.name: t for t in tensors}
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in listed.items():
        for part in known:
            if name.endswith("." + part) and len(name) > len(part) + 1:
                modules.setdefault(name[: -len(part) - 1], {})[part] = tensor
                break
            if name.endswith("_" + part) and name[: -len(part) - 1] in listed:
                modules.setdefault(name[: -len(part) - 1], {})[part] = tensor
                break
        else:
            modules.setdefault(name, {})["weight"] = tensor
    return modules


def stored_bits(parts: Mapping[str, Tensor], weights: int) -> float:
    """Bits on disk per weight: everything of the module but its bias."""
    size = sum(t.size_bytes for part, t in parts.items() if part != "bias")
    return round(8 * size / weights, 6) if weights else 0.0


FLOAT_BITS: Mapping[str, float] = {"BF16": 16, "F16": 16, "F32": 32, "F64": 64}


def unquantized(name: str, tensor: Tensor, tensors: tuple[str, ...], **more: Any) -> Module:
    """A module whose weight is a plain float (or a plain integer buffer, called by its dtype)."""
    return Module(
        name=name,
        kind=classify(name, tensor.shape),
        scheme=tensor.dtype,
        weight_bits=FLOAT_BITS.get(tensor.dtype, 8 * tensor.size_bytes / max(1, tensor.count)),
        stored_bits=round(8 * tensor.size_bytes / max(1, tensor.count), 6),
        shape=tensor.shape,
        tensors=tensors,
        **more,
    )
