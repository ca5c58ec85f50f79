"""The estimate of memory and the word that follows: by hand, and for whatever hypothesis thinks of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assay.core.evidence import Evidence
from assay.core.fit import (
    Device,
    FitVerdict,
    Keeps,
    LayerGroup,
    MachineMemory,
    MemoryEstimate,
    ModelShape,
    Part,
    Serving,
    WeightBytes,
)
from assay.core.vocabulary import Outcome, Status
from assay.gates._fit.engines import ENGINES
from assay.gates.fit import ROLE, FitGate, FitPolicy, estimate_memory, evidence_of, judge_fit

GIB = 2**30


def shape(*layers: LayerGroup, total: int = 0, **more: Any) -> ModelShape:
    """A model in BF16 with these layers."""
    weights = WeightBytes(total=total, by_scheme={"BF16": total}, elements=total // 2)
    values = {
        "hidden": 4096, "feed_forward": 14336, "heads": 32, "head_elements": 4096, "vocabulary": 128_256,
        "merges": 280_147, "dtype": "bfloat16", "format": "safetensors", "weights": weights,
    }  # fmt: skip
    return ModelShape(source="m", architecture="llama", layers=layers, **{**values, **more})


FULL = LayerGroup(keeps=Keeps.FULL, count=32, key_elements=1024, value_elements=1024)
LLAMA_8B = shape(FULL, total=16_060_522_496)
"""Llama-3.1-8B: 131,072 bytes a token in 16 bits."""


def kv(model: ModelShape, **more: Any) -> tuple[int, int]:
    """Lower bound and estimate of the KV cache."""
    part = estimate_memory(model, Serving(**more)).part(Part.KV_CACHE)
    assert part is not None
    return part.lower, part.estimate


def test_llama_31_8b_at_its_longest_context_keeps_16_gib() -> None:
    """131,072 bytes a token x 131,072 tokens (facts/tune.md 4.5)."""
    assert kv(LLAMA_8B, context_tokens=131_072) == (16 * GIB, 16 * GIB)


@pytest.mark.parametrize(
    ("kv_type", "a_token"),
    [("f32", 262_144), ("f16", 131_072), ("bf16", 131_072), ("q8_0", 69_632), ("q5_1", 49_152), ("q4_0", 36_864)],
)  # fmt: skip
def test_quantized_caches_count_their_scales(kv_type: str, a_token: int) -> None:
    """q8_0 is 34 bytes for 32 elements, q4_0 is 18: 0.53 and 0.28 of f16."""
    assert kv(LLAMA_8B, context_tokens=4096, kv_type=kv_type) == (4096 * a_token, 4096 * a_token)


def test_slots_are_rounded_up_and_the_bound_is_not() -> None:
    """llama.cpp gives each slot a multiple of 256 tokens; a bound may not rely on that."""
    assert kv(LLAMA_8B, context_tokens=1000, concurrency=3) == (3 * 1000 * 131_072, 3 * 1024 * 131_072)


def test_a_pooled_engine_must_hold_one_request() -> None:
    """With vLLM requests wait, so that four of them need at least what one needs."""
    assert kv(LLAMA_8B, engine="vllm", context_tokens=4096, concurrency=4) == (GIB // 2, 2 * GIB)


def test_windows_stop_growing() -> None:
    """gpt-oss-20b: 12 full layers of 2,048 bytes a token and 12 of 128 tokens, plus two copies in llama.cpp."""
    group = {"key_elements": 512, "value_elements": 512}
    model = shape(
        LayerGroup(keeps=Keeps.FULL, count=12, **group),
        LayerGroup(keeps=Keeps.WINDOW, count=12, window_tokens=128, **group),
    )
    window = 3 * 2**20  # 12 layers x 2,048 bytes x 128 tokens
    cells = 768  # 128 of the window and 512 of a batch, rounded up to 256
    assert kv(model, context_tokens=8192) == (
        8192 * 24_576 + window,
        8192 * 24_576 + 12 * 2048 * cells + 2 * window,
    )


def test_latent_vectors_are_expanded_by_transformers_alone() -> None:
    """DeepSeek-V3: 70,272 bytes a token where the vector is kept, 128 x (192 + 128) elements a layer where not."""
    group = LayerGroup(
        keeps=Keeps.LATENT, count=61, latent_elements=576, key_elements=128 * 192, value_elements=128 * 128
    )
    model = shape(group)
    assert kv(model, engine="vllm", context_tokens=1024) == (1024 * 70_272, 1024 * 70_272)
    assert kv(model, engine="transformers", context_tokens=1024)[1] == 1024 * 61 * 2 * 128 * 320


def test_states_are_held_once_a_request() -> None:
    """Mamba-2.8b: 64 x 97,280 elements in F32 a slot, two copies of it, whatever the context."""
    model = shape(
        LayerGroup(keeps=Keeps.STATE, count=64, state_elements=97_280), feed_forward=None, head_elements=None
    )
    assert kv(model, context_tokens=256, concurrency=2)[1] == 2 * 3 * 64 * 97_280 * 4
    assert (
        kv(model, context_tokens=65_536, concurrency=2)[1] == kv(model, context_tokens=256, concurrency=2)[1]
    )


def test_a_folder_is_written_as_f16_for_llama_cpp() -> None:
    """Matrices take two bytes and vectors four, whatever the folder stores."""
    weights = WeightBytes(total=4000, by_scheme={"F32": 4000}, elements=1000, vectors=100)
    part = estimate_memory(shape(FULL, weights=weights), Serving()).part(Part.WEIGHTS)
    assert part is not None
    assert (part.lower, part.estimate) == (2 * 900 + 4 * 100, 2 * 900 + 4 * 100)


def test_parts_that_an_engine_may_leave_out_are_not_in_the_bound() -> None:
    """A vision tower and draft layers count towards the estimate, not towards `cannot`."""
    weights = WeightBytes(
        total=1000, aside={"vision": 200, "draft": 100}, by_scheme={"BF16": 1000}, elements=500
    )
    part = estimate_memory(shape(FULL, weights=weights), Serving(engine="vllm")).part(Part.WEIGHTS)
    assert part is not None
    assert (part.lower, part.estimate) == (700, 1000)


def test_f32_on_disk_may_be_served_in_16_bits() -> None:
    """Engines load F32 as BF16 by themselves: the bound counts two bytes unless the dtype is asked for."""
    weights = WeightBytes(total=4000, by_scheme={"F32": 4000}, elements=1000)
    model = shape(FULL, weights=weights, dtype="float32")
    by_itself = estimate_memory(model, Serving(engine="transformers", context_tokens=128))
    asked = estimate_memory(model, Serving(engine="transformers", context_tokens=128, dtype="float32"))
    assert by_itself.lower_bytes == 2000 + 128 * 131_072
    assert asked.lower_bytes == 4000 + 128 * 262_144
    assert by_itself.estimate_bytes == asked.estimate_bytes


def test_converted_weights_have_the_file_beside_them() -> None:
    """BF16 loaded as F32: the peak is the load, twice the file and the file, where cache and batch are smaller."""
    model = shape(FULL, total=16_060_522_496)
    found = estimate_memory(model, Serving(engine="transformers", dtype="float32", context_tokens=128))
    assert found.estimate_bytes is not None
    engine = found.part(Part.ENGINE)
    assert engine is not None
    assert found.estimate_bytes - engine.estimate == 3 * 16_060_522_496
    part = found.part(Part.WEIGHTS)
    assert part is not None
    assert part.lower == 2 * 16_060_522_496


def test_only_the_lower_bound_prunes() -> None:
    """One byte less than the bound is `cannot`; the bound itself is `uncertain`; the range with its margin `fits`."""
    estimate = estimate_memory(LLAMA_8B, Serving(context_tokens=8192))
    assert estimate.lower_bytes == 16_060_522_496 + 8192 * 131_072
    assert estimate.upper_bytes is not None

    def word(size: int) -> FitVerdict:
        return judge_fit(estimate, MachineMemory(total_bytes=size, available_bytes=size)).verdict

    assert word(estimate.lower_bytes - 1) is FitVerdict.CANNOT
    assert word(estimate.lower_bytes) is FitVerdict.UNCERTAIN
    assert word(estimate.upper_bytes) is FitVerdict.UNCERTAIN
    assert word(int(estimate.upper_bytes / 0.95) + 1) is FitVerdict.FITS


def test_what_is_unknown_may_still_be_too_much() -> None:
    """The weights alone exceed the machine: `cannot`, although nothing is known of the layers."""
    model = shape(total=100 * GIB, unknown=("model_type 'new' is not known",))
    estimate = estimate_memory(model, Serving(engine="vllm"))
    assert estimate.estimate_bytes is None
    small = MachineMemory(total_bytes=64 * GIB, available_bytes=64 * GIB)
    large = MachineMemory(total_bytes=256 * GIB, available_bytes=256 * GIB)
    assert judge_fit(estimate, small).verdict is FitVerdict.CANNOT
    assert judge_fit(estimate, large).verdict is FitVerdict.UNKNOWN


@pytest.mark.parametrize(
    "serving",
    [
        Serving(engine="abacus"),
        Serving(kv_type="q9"),
        Serving(kv_type="fp8"),
        Serving(engine="transformers", kv_type="q8_0"),
        Serving(dtype="float7"),
    ],
)
def test_settings_that_do_not_exist_are_unknown(serving: Serving) -> None:
    """An engine or cache type that is not in the table has no estimate."""
    assert estimate_memory(LLAMA_8B, serving).estimate_bytes is None


def test_other_programs_make_it_uncertain_not_impossible() -> None:
    """`cannot` is held against all there is, `fits` against what is free now."""
    estimate = estimate_memory(LLAMA_8B, Serving())
    busy = MachineMemory(total_bytes=64 * GIB, available_bytes=GIB)
    assert judge_fit(estimate, busy).verdict is FitVerdict.UNCERTAIN


def test_the_tightest_limit_binds() -> None:
    """A container's limit, less what is used of it, and swap only where the policy counts it."""
    estimate = estimate_memory(LLAMA_8B, Serving())
    machine = MachineMemory(
        total_bytes=64 * GIB, available_bytes=60 * GIB, limit_bytes=12 * GIB, limit_used_bytes=0,
        limit_source="control group /x", swap_bytes=32 * GIB,
    )  # fmt: skip
    line = judge_fit(estimate, machine)
    assert (line.verdict, line.place) == (FitVerdict.CANNOT, "control group /x")
    assert judge_fit(estimate, machine, FitPolicy(count_swap=True)).verdict is FitVerdict.UNCERTAIN
    loose = machine.model_copy(update={"limit_bytes": 30 * GIB, "limit_used_bytes": 28 * GIB})
    assert judge_fit(estimate, loose).verdict is FitVerdict.UNCERTAIN


def test_accelerators() -> None:
    """One with room: fits. Two halves: only a launch can tell. None: unknown. Unified: the machine's memory."""
    estimate = estimate_memory(LLAMA_8B, Serving(engine="vllm", device="gpu"))
    card = Device(name="H", index=0, total_bytes=80 * GIB, free_bytes=79 * GIB)
    small = Device(name="S", index=0, total_bytes=12 * GIB, free_bytes=12 * GIB)

    def word(*devices: Device) -> FitVerdict:
        machine = MachineMemory(total_bytes=512 * GIB, available_bytes=512 * GIB, devices=devices)
        return judge_fit(estimate, machine, device="gpu").verdict

    assert word(card) is FitVerdict.FITS
    assert word(small, small) is FitVerdict.UNCERTAIN
    assert word(small) is FitVerdict.CANNOT
    assert word() is FitVerdict.UNKNOWN
    unified = small.model_copy(update={"unified": True, "free_bytes": 48 * GIB})
    assert word(unified) is FitVerdict.FITS


def test_a_machine_that_does_not_tell_is_unknown() -> None:
    """Without figures there is no word."""
    assert judge_fit(estimate_memory(LLAMA_8B, Serving()), MachineMemory()).verdict is FitVerdict.UNKNOWN


def test_the_gate_prunes_on_cannot_alone() -> None:
    """FAIL with INFEASIBLE for `cannot`; PASS for the other three; ERROR without readable evidence."""
    estimate = estimate_memory(LLAMA_8B, Serving())
    words = {
        size: FitGate().judge(
            {ROLE: evidence_of(estimate, MachineMemory(total_bytes=size, available_bytes=size))}
        )
        for size in (GIB, 16 * GIB, 64 * GIB)
    }
    assert [v.extra["fit"] for v in words.values()] == ["cannot", "uncertain", "fits"]
    assert [v.status for v in words.values()] == [Status.FAIL, Status.PASS, Status.PASS]
    assert words[GIB].outcome is Outcome.INFEASIBLE
    assert FitGate().judge({}).status is Status.ERROR
    assert (
        FitGate().judge({ROLE: Evidence(kind="fit", subject="m", facts={"estimate": 7})}).status
        is Status.ERROR
    )


_LAYER = st.builds(
    LayerGroup,
    keeps=st.sampled_from(Keeps),
    count=st.integers(1, 100),
    key_elements=st.integers(0, 8192),
    value_elements=st.integers(0, 8192),
    window_tokens=st.integers(1, 20_000),
    latent_elements=st.integers(0, 1024),
    state_elements=st.integers(0, 10**6),
)
_SERVING = st.builds(
    Serving,
    engine=st.sampled_from(sorted(ENGINES)),
    context_tokens=st.integers(1, 200_000),
    concurrency=st.integers(1, 64),
    batch_tokens=st.integers(1, 4096),
    device=st.sampled_from(["cpu", "gpu"]),
    flash_attention=st.booleans(),
    pool_tokens=st.none() | st.integers(1, 10**6),
)


@given(st.lists(_LAYER, min_size=1, max_size=4), _SERVING, st.integers(0, 100_000), st.integers(0, 64))
@example(
    [LayerGroup(keeps=Keeps.LATENT, count=1, latent_elements=1)],
    Serving(context_tokens=1, concurrency=1),
    0,
    0,
)
def test_more_never_needs_less(
    layers: list[LayerGroup], serving: Serving, tokens: int, requests: int
) -> None:
    """More context or more requests: bound, estimate and upper end do not fall, and each lies below the next."""
    model = shape(*layers, total=10**9)
    more = serving.model_copy(
        update={
            "context_tokens": serving.context_tokens + tokens,
            "concurrency": serving.concurrency + requests,
        }
    )
    a, b = estimate_memory(model, serving), estimate_memory(model, more)
    assert a.estimate_bytes is not None
    assert a.upper_bytes is not None
    assert b.estimate_bytes is not None
    assert b.upper_bytes is not None
    assert a.lower_bytes <= b.lower_bytes
    assert a.estimate_bytes <= b.estimate_bytes
    assert a.upper_bytes <= b.upper_bytes
    assert a.lower_bytes <= a.estimate_bytes <= a.upper_bytes
    for part in a.parts:
        assert part.lower <= part.estimate <= part.upper
    assert MemoryEstimate.from_json(a.to_json()) == a


@given(st.lists(_LAYER, min_size=1, max_size=4), _SERVING, st.integers(0, 2**45), st.integers(0, 2**45))
def test_more_memory_never_reads_worse(
    layers: list[LayerGroup], serving: Serving, size: int, extra: int
) -> None:
    """The words go cannot, uncertain, fits along growing memory."""
    estimate = estimate_memory(shape(*layers, total=10**9), serving)
    order = [FitVerdict.CANNOT, FitVerdict.UNCERTAIN, FitVerdict.FITS]

    def rank(total: int) -> int:
        return order.index(
            judge_fit(estimate, MachineMemory(total_bytes=total, available_bytes=total)).verdict
        )

    assert rank(size) <= rank(size + extra)


def test_an_absurd_shape_stays_judgeable() -> None:
    """Dimensions beyond any machine give `cannot`, and evidence that can be digested."""
    group = LayerGroup(keeps=Keeps.FULL, count=10_000, key_elements=2**40, value_elements=2**40)
    estimate = estimate_memory(shape(group, total=10**9), Serving(context_tokens=10**6))
    machine = MachineMemory(total_bytes=2**45, available_bytes=2**45)
    assert FitGate().judge({ROLE: evidence_of(estimate, machine)}).status is Status.FAIL
