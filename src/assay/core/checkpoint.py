"""Evidence of a checkpoint: which module is stored in which precision, by its bytes and not by its declaration."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from assay.core.base import Noun
from assay.core.evidence import Evidence


class ModuleKind(StrEnum):
    """What a weight is for. Recipes aim at LINEAR; the rest stays as it is unless a recipe says otherwise."""

    LINEAR = "linear"
    HEAD = "head"
    EMBEDDING = "embedding"
    NORM = "norm"
    OTHER = "other"


class Module(Noun):
    """One weight of the model, as it lies on disk."""

    name: str
    """Module path without the `.weight` suffix, as the source names it."""
    kind: ModuleKind
    scheme: str
    """Precision bucket: BF16, F16, F32, FP8, INT8, INT4, INT3, INT2, NVFP4, MXFP4, NF4, Q4_0, ..."""
    weight_bits: float
    """Bits of one weight in the scheme, without scales."""
    stored_bits: float
    """Bits on disk per weight, scales and padding included."""
    shape: tuple[int, ...] = ()
    """Logical shape [out, in]."""
    group_size: int | None = None
    activation: str | None = None
    """Declared activation scheme of the module, such as `int8-token-dynamic`."""
    ignored: bool = False
    """The declaration excludes this module from quantization."""
    declared: str | None = None
    """Scheme that the declaration claims for the module; None where it claims nothing."""
    tensors: tuple[str, ...] = ()
    """Names of the stored tensors."""
    problems: tuple[str, ...] = ()
    """What is wrong with the stored tensors themselves: a missing scale, a wrong shape."""


class Checkpoint(Evidence):
    """What lies in a checkpoint folder or file."""

    kind: Literal["checkpoint"] = "checkpoint"
    format: str
    """Container: safetensors or gguf."""
    quant_method: str | None = None
    """The declaration's own word: compressed-tensors, modelopt, bitsandbytes, ..."""
    producer: str = ""
    weight_bytes: int = Field(ge=0)
    """Sum of the tensors' bytes by the headers; shards are counted once."""
    parameters: int = Field(default=0, ge=0)
    """Logical number of weights."""
    modules: tuple[Module, ...] = ()
    problems: tuple[str, ...] = ()
    """Container findings: index against shards, truncated files, leaked calibration tensors."""
    metadata: Mapping[str, Any] = Field(default_factory=dict)
    """What must survive: config fields, generation_config, chat template digest, tokenizer digests, limits."""
