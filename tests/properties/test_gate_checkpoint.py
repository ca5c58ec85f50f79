"""Properties of the checkpoint gate: order never matters, damage never helps, any summary gives a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.evidence import Measurement
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome, Provenance, Status
from assay.gates.checkpoint import CheckpointGate, CheckpointPolicy, judge_summary

SCHEMES: Mapping[str, tuple[float, float]] = {
    "BF16": (16, 16), "F32": (32, 32), "FP8": (8, 8.03), "INT8": (8, 8.03), "INT4": (4, 4.125), "NVFP4": (4, 4.5),
    "Q4_0": (4, 4.5), "UNKNOWN": (0, 8),
}  # fmt: skip
NAMES = [
    f"model.layers.{i}.{part}" for i in range(2) for part in ("mlp.up_proj", "self_attn.q_proj", "mlp.gate")
]
RECIPES = ("fp8", "W8A8", "int4_awq", "nvfp4", "nvfp4_mlp_only", "Q4_0", "none", "from-declaration", None)
METADATA: Mapping[str, Any] = {"config": {"vocab_size": 8}, "tokenizer": {"digest": "t", "truncation": None}}


def made(name: str, scheme: str, **more: Any) -> Module:
    """One module as its scheme stores it."""
    kind = ModuleKind.HEAD if name == "lm_head" else ModuleKind.LINEAR
    bits, stored = SCHEMES[scheme]
    values: dict[str, Any] = {"shape": (512, 512), "weight_bits": bits, "stored_bits": stored, **more}
    return Module(name=name, kind=kind, scheme=scheme, **values)


def evidence(modules: tuple[Module, ...], **more: Any) -> Checkpoint:
    """A checkpoint of these modules."""
    size = round(sum(m.stored_bits * math.prod(m.shape) / 8 for m in modules))
    values: dict[str, Any] = {"format": "safetensors", "weight_bytes": size, "metadata": METADATA, **more}
    return Checkpoint(subject="candidate", modules=modules, **values)


SOURCE = evidence(tuple(made(n, "BF16") for n in [*NAMES, "lm_head"]))
PROBLEM = st.lists(st.sampled_from(["weight_scale is missing", "fake quantization"]), max_size=1).map(tuple)


@st.composite
def candidates(draw: st.DrawFn) -> Checkpoint:
    """Mostly well-formed candidates of any precision, some with modules lost, added or damaged."""
    base = draw(st.sampled_from(sorted(SCHEMES)))
    modules = []
    for name in [*NAMES, "lm_head"]:
        if draw(st.integers(0, 19)) == 0:
            continue
        plain = name.endswith(("lm_head", "gate"))
        scheme = (
            draw(st.sampled_from(sorted(SCHEMES)))
            if draw(st.integers(0, 9)) == 0
            else "BF16"
            if plain
            else base
        )
        declared = scheme if scheme not in {"BF16", "F32"} else None
        problems = draw(PROBLEM) if draw(st.integers(0, 9)) == 0 else ()
        modules.append(made(name, scheme, declared=declared, ignored=declared is None, problems=problems))
    if draw(st.integers(0, 9)) == 0:
        modules.append(made("model.extra", base))
    return evidence(
        tuple(modules),
        problems=tuple(draw(st.lists(st.sampled_from(["truncated", "leaked"]), max_size=1))),
        quant_method=draw(st.sampled_from([None, "compressed-tensors", "modelopt", "gguf"])),
    )


POLICIES = st.builds(
    CheckpointPolicy,
    recipe=st.sampled_from(RECIPES),
    engine=st.sampled_from([None, "transformers", "vllm", "llama_cpp", "command"]),
    metadata=st.sampled_from(["block", "warn"]),
)


def judge(candidate: Checkpoint, policy: CheckpointPolicy, source: Checkpoint = SOURCE) -> Verdict:
    """The verdict on a candidate."""
    return CheckpointGate(policy).judge({"source.checkpoint": source, "candidate.checkpoint": candidate})


def said(verdict: Verdict) -> Any:
    """What a verdict says, apart from the digests of what it read."""
    return (
        verdict.status,
        verdict.failure_class,
        verdict.outcome,
        {(r.text, r.ok, r.where, r.measured, r.limit) for r in verdict.reasons},
    )


@given(candidates(), POLICIES, st.randoms(use_true_random=False))
def test_order_of_modules_does_not_matter(
    candidate: Checkpoint, policy: CheckpointPolicy, random: Any
) -> None:
    """The same modules in another order, on either side, get the same verdict for the same reasons."""
    ours, theirs = list(SOURCE.modules), list(candidate.modules)
    random.shuffle(ours)
    random.shuffle(theirs)
    shuffled = candidate.model_copy(update={"modules": tuple(theirs)})
    source = SOURCE.model_copy(update={"modules": tuple(ours)})
    assert said(judge(shuffled, policy, source)) == said(judge(candidate, policy))


@given(candidates(), POLICIES)
def test_judging_twice_says_the_same(candidate: Checkpoint, policy: CheckpointPolicy) -> None:
    """The gate is pure, and its evidence survives a round trip through JSON."""
    again = Checkpoint.from_json(candidate.to_json())
    assert judge(again, policy) == judge(candidate, policy)


@given(candidates(), POLICIES, st.data())
def test_damage_never_turns_fail_into_pass(
    candidate: Checkpoint, policy: CheckpointPolicy, data: st.DataObject
) -> None:
    """A lost scale, an invented module, a leak or wrong codes: what did not pass still does not."""
    damage = data.draw(st.sampled_from(["scale", "extra", "leak", "codes", "bias"]))
    modules, update = list(candidate.modules), {}
    if damage == "scale" and modules:
        at = data.draw(st.integers(0, len(modules) - 1))
        modules[at] = modules[at].model_copy(update={"problems": ("weight_scale is missing",)})
        update = {"modules": tuple(modules)}
    elif damage == "extra":
        added = made("model.layers.7.mlp.up_proj", "BF16")
        update = {"modules": (*modules, added), "weight_bytes": candidate.weight_bytes + 2 * 512 * 512}
    elif damage == "leak":
        update = {"problems": (*candidate.problems, "1 calibration tensors leaked: x")}
    elif damage == "codes":
        error = Measurement.of("weight_error", 1.41, detail=NAMES[0])
        update = {"measurements": (error,)}
    before, after = judge(candidate, policy), judge(candidate.model_copy(update=update), policy)
    assert before.passed or not after.passed


@given(candidates(), POLICIES)
def test_a_verdict_is_consistent(candidate: Checkpoint, policy: CheckpointPolicy) -> None:
    """A pass has no failing reason, a fail has one, a class and the word INFEASIBLE."""
    verdict = judge(candidate, policy)
    failing = [r for r in verdict.reasons if not r.ok]
    if verdict.passed:
        assert not failing
        assert verdict.failure_class is None
    else:
        assert failing
        assert verdict.failure_class is not None
        assert verdict.outcome is (Outcome.INFEASIBLE if verdict.status is Status.FAIL else Outcome.ANOMALOUS)


@given(candidates(), st.sampled_from(["fp8", "W8A8", "int4_awq", "nvfp4"]))
def test_a_pass_means_that_every_target_was_met(candidate: Checkpoint, recipe: str) -> None:
    """Nothing passes with a module missing, misquantized, damaged or the head touched."""
    if not judge(candidate, CheckpointPolicy(recipe=recipe)).passed:
        return
    wanted = {"fp8": "FP8", "W8A8": "INT8", "int4_awq": "INT4", "nvfp4": "NVFP4"}[recipe]
    found = {m.name: m for m in candidate.modules}
    assert set(found) == {*NAMES, "lm_head"}
    assert all(found[n].scheme == wanted for n in NAMES if not n.endswith("gate"))
    assert found["lm_head"].scheme in {"BF16", "F32"}
    assert not any(m.problems for m in candidate.modules)
    assert not candidate.problems


# -- the summary format -------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-5, 300),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=4),
    st.sampled_from([8_000_000_000, 16_000_000_000, 15_840_000_000]),
)
JSON = st.recursive(
    NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)
COUNTS = st.dictionaries(
    st.sampled_from(
        ["NVFP4", "FP8", "INT4", "BF16_or_excluded", "unexpected_unquantized", "declaration_mismatch", "x"]
    ),
    st.sampled_from([0, 0, 0, 1, 224]) | NUMBERS,
)
SUMMARIES = st.fixed_dictionaries(
    {},
    optional={
        "source_bytes": st.just(16_000_000_000) | NUMBERS,
        "output_bytes": st.just(8_000_000_000) | NUMBERS,
        "recipe": st.sampled_from(["nvfp4", "FP8", "int4_awq", "nvfp4_mlp_only", "mystery"]) | NUMBERS,
        "layer_precision_counts": COUNTS | JSON,
        "metadata_diffs": st.just([]) | JSON,
        "more": JSON,
    },
)
GOOD = st.fixed_dictionaries(
    {
        "source_bytes": st.sampled_from([16_000_000_000, 16_000_000_000.0]) | NUMBERS,
        "output_bytes": st.sampled_from([8_000_000_000, 5_000_000_000.5]) | NUMBERS,
        "recipe": st.sampled_from(["nvfp4", "FP8"]),
        "layer_precision_counts": st.fixed_dictionaries(
            {
                "NVFP4": st.sampled_from([224, 1]) | NUMBERS,
                "FP8": st.sampled_from([0, 196]) | NUMBERS,
                "BF16_or_excluded": st.sampled_from([0, 3, 226]) | NUMBERS,
                "unexpected_unquantized": st.just(0) | NUMBERS,
                "declaration_mismatch": st.just(0) | NUMBERS,
            }
        ),
        "metadata_diffs": st.just([]) | JSON,
    }
)


def whole(value: Any) -> bool:
    """A whole number from 0 on, and no boolean."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@given(SUMMARIES | GOOD | JSON, st.none() | st.sampled_from(["nvfp4", "fp8", "", "zzz"]))
def test_any_summary_gives_a_verdict_and_only_good_ones_pass(summary: Any, recipe: str | None) -> None:
    """No JSON raises; a pass has every size, count and list as it must be."""
    verdict = judge_summary(summary, recipe)
    assert verdict.provenance is Provenance.SELF_REPORTED
    if not verdict.passed:
        assert verdict.failure_class is not None
        return
    counts = summary["layer_precision_counts"]
    bucket = {"n": "NVFP4", "f": "FP8", "i": "INT4"}[str(recipe or summary["recipe"]).lower()[0]]
    source, output = summary["source_bytes"], summary["output_bytes"]
    assert not isinstance(source, bool) and not isinstance(output, bool)  # noqa: PT018
    assert 0 < output < 0.96 * source < math.inf
    assert whole(counts[bucket])
    assert counts[bucket] > 0
    assert counts["unexpected_unquantized"] == counts["declaration_mismatch"] == 0
    assert all(whole(counts.get(k, 0)) for k in ("NVFP4", "FP8", "INT4", "BF16_or_excluded"))
    assert summary["metadata_diffs"] == []
