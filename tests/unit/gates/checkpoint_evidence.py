"""Checkpoint evidence for the tests of the gate, made without files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.evidence import Measurement

LAYERS = 3
SHAPES = {
    "self_attn.q_proj": (512, 512),
    "self_attn.k_proj": (256, 512),
    "self_attn.v_proj": (256, 512),
    "self_attn.o_proj": (512, 512),
    "mlp.gate_proj": (1024, 512),
    "mlp.up_proj": (1024, 512),
    "mlp.down_proj": (512, 1024),
}
METADATA: Mapping[str, Any] = {
    "config": {"vocab_size": 1000, "hidden_size": 512, "tie_word_embeddings": False, "eos_token_id": 1},
    "generation_config": {"eos_token_id": [1, 2], "temperature": 0.6, "top_k": 20},
    "tokenizer": {"digest": "sha256:t", "truncation": None, "padding": None, "added_tokens": 3},
    "tokenizer_config": {"eos_token": "<e>", "tokenizer_class": "PreTrainedTokenizerFast"},
    "chat_template": {"digest": "sha256:c", "where": "chat_template.jinja"},
    "files": {"tokenizer.model": "sha256:m"},
}
BITS = {
    "BF16": (16, 16), "F32": (32, 32), "F16": (16, 16), "INT8": (8, 8 + 16 / 512), "FP8": (8, 8 + 16 / 512),
    "INT4": (4, 4.125), "NVFP4": (4, 4.5), "NF4": (4, 4.5), "Q4_0": (4, 4.5), "Q8_0": (8, 8.5),
}  # fmt: skip


def module(name: str, kind: ModuleKind, shape: tuple[int, ...], scheme: str = "BF16", **more: Any) -> Module:
    """One module, stored as its scheme stores it."""
    bits, stored = BITS[scheme]
    values = {"weight_bits": bits, "stored_bits": stored, "tensors": (f"{name}.weight",), **more}
    return Module(name=name, kind=kind, scheme=scheme, shape=shape, **values)


def modules(
    scheme: str = "BF16", change: Callable[[Module], Module | None] | None = None
) -> tuple[Module, ...]:
    """A dense model whose layers' linears are stored in one scheme."""
    quantized = scheme not in {"BF16", "F32", "F16"}
    declared = {"declared": scheme, "group_size": 128 if scheme == "INT4" else None} if quantized else {}
    ignored = {"ignored": True} if quantized else {}
    plain = scheme if scheme in {"F32", "F16"} else "BF16"
    made = [
        module("model.embed_tokens", ModuleKind.EMBEDDING, (1000, 512), plain),
        module("lm_head", ModuleKind.HEAD, (1000, 512), plain, **ignored),
        module("model.norm", ModuleKind.NORM, (512,), plain),
    ]
    for i in range(LAYERS):
        for name, shape in SHAPES.items():
            made.append(module(f"model.layers.{i}.{name}", ModuleKind.LINEAR, shape, scheme, **declared))
    changed = [change(m) for m in made] if change is not None else made
    return tuple(m for m in changed if m is not None)


def checkpoint(
    scheme: str = "BF16",
    change: Callable[[Module], Module | None] | None = None,
    *,
    subject: str = "candidate",
    **more: Any,
) -> Checkpoint:
    """Evidence of such a model."""
    made = more.pop("modules", None) or modules(scheme, change)
    size = round(sum(m.stored_bits * math.prod(m.shape) / 8 for m in made))
    quantized = scheme not in {"BF16", "F32", "F16"}
    values: dict[str, Any] = {
        "format": "safetensors",
        "quant_method": "compressed-tensors" if quantized else None,
        "weight_bytes": size,
        "parameters": sum(math.prod(m.shape) for m in made),
        "metadata": METADATA,
        **more,
    }
    return Checkpoint(subject=subject, modules=made, **values)


def error_of(name: str, value: float | None) -> Measurement:
    """A weight error as the reader measures it."""
    return Measurement.of("weight_error", value, unit="relative RMS", detail=name)
