"""Gate `checkpoint`: promises kept and broken, on evidence made for the purpose."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from checkpoint_evidence import METADATA, checkpoint, error_of, module

from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.evidence import Evidence
from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status
from assay.gates._checkpoint.intent import RECIPES, by_name, resolve
from assay.gates._checkpoint.size import EXACT_BITS, bits_per_weight
from assay.gates.checkpoint import CheckpointGate, CheckpointPolicy, judge_summary

Change = Callable[[Module], Module | None]
SOURCE = checkpoint(subject="source")
UNSUPPORTED = FailureClass.MODEL_UNSUPPORTED
COVERAGE = FailureClass.QUANT_COVERAGE_FAILURE
CONFIG = FailureClass.USER_CONFIG_ERROR


def judge(candidate: Evidence, source: Evidence = SOURCE, **policy: Any) -> Verdict:
    """The verdict under a policy."""
    gate = CheckpointGate(CheckpointPolicy(**policy))
    return gate.judge({"source.checkpoint": source, "candidate.checkpoint": candidate})


def only(name: str, **update: Any) -> Change:
    """Change the modules whose name ends so."""

    def change(m: Module) -> Module | None:
        return m.model_copy(update=update) if m.name.endswith(name) else m

    return change


@pytest.mark.parametrize(
    ("scheme", "recipe"),
    [
        ("INT8", "W8A8"),
        ("INT8", "w8a16"),
        ("FP8", "FP8_DYNAMIC"),
        ("FP8", "fp8"),
        ("INT4", "W4A16"),
        ("INT4", "int4_awq"),
        ("NVFP4", "NVFP4"),
        ("NVFP4", "NVFP4_DEFAULT_CFG"),
        ("NF4", "nf4"),
        ("INT8", "from-declaration"),
        ("BF16", "none"),
        ("BF16", "identity"),
    ],
)
def test_what_keeps_its_promise_passes(scheme: str, recipe: str) -> None:
    """Every bucket under a recipe that aims at it."""
    verdict = judge(checkpoint(scheme), recipe=recipe)
    assert (verdict.status, verdict.failure_class, verdict.outcome) == (Status.PASS, None, None)
    assert set(verdict.reads) == {"source.checkpoint", "candidate.checkpoint"}
    assert verdict.provenance is Provenance.MEASURED


@pytest.mark.parametrize(
    ("candidate", "recipe", "failure", "word"),
    [
        (checkpoint("INT8"), "nvfp4", UNSUPPORTED, "0 of 21 modules"),
        (checkpoint("BF16"), "W8A8", UNSUPPORTED, "left unquantized"),
        (checkpoint("NVFP4"), "nvfp4_experts_only", UNSUPPORTED, "no such module"),
        (checkpoint("BF16"), "from-declaration", UNSUPPORTED, "nothing is quantized"),
        (checkpoint("INT8"), "none", COVERAGE, "quantized unasked"),
        (
            checkpoint("INT8", only("lm_head", scheme="INT8", weight_bits=8, stored_bits=8.1)),
            "W8A8",
            COVERAGE,
            "output head",
        ),
        (
            checkpoint("INT8", only("embed_tokens", scheme="INT8", weight_bits=8)),
            "W8A8",
            COVERAGE,
            "quantized unasked",
        ),
        (
            checkpoint("INT8", only("1.mlp.up_proj", scheme="BF16", stored_bits=16.0)),
            "W8A8",
            COVERAGE,
            "1 targeted modules are BF16",
        ),
        (checkpoint("INT8", only("1.mlp.up_proj", scheme="FP8")), "W8A8", COVERAGE, "another precision"),
        (checkpoint("INT4", only("_proj", stored_bits=8.125)), "W4A8", COVERAGE, "stored unpacked"),
        (
            checkpoint("INT8", only("up_proj", problems=("weight_scale is missing",))),
            "W8A8",
            COVERAGE,
            "weight_scale is missing",
        ),
        (
            checkpoint("INT8", only("up_proj", declared="INT4")),
            "W8A8",
            COVERAGE,
            "declared INT4, stored as INT8",
        ),
        (checkpoint("INT8", only("up_proj", declared=None)), "W8A8", COVERAGE, "without being declared"),
        (
            checkpoint("INT8", only("up_proj", ignored=True, declared=None)),
            "W8A8",
            COVERAGE,
            "declared as not quantized",
        ),
        (checkpoint("INT8", problems=("1 calibration tensors leaked: x",)), "W8A8", COVERAGE, "leaked"),
        (
            checkpoint("INT8", lambda m: None if m.name.endswith("2.mlp.up_proj") else m),
            "W8A8",
            COVERAGE,
            "missing",
        ),
        (checkpoint("INT8", only("1.mlp.up_proj", shape=(512, 512))), "W8A8", COVERAGE, "has shape"),
        (checkpoint("F16"), "none", COVERAGE, "cast from BF16 to F16"),
    ],
)
def test_a_broken_promise_is_named(
    candidate: Checkpoint, recipe: str, failure: FailureClass, word: str
) -> None:
    """Each defect is refused as infeasible, with its class and with words that name it."""
    verdict = judge(candidate, recipe=recipe)
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, failure)
    assert verdict.outcome is Outcome.INFEASIBLE
    assert any(word in r.text for r in verdict.reasons if not r.ok), [r.text for r in verdict.reasons]


def test_invented_modules_are_named() -> None:
    """What the source lacks does not belong in its quantized version."""
    extra = module("model.layers.9.mlp.up_proj", ModuleKind.LINEAR, (1024, 512), "INT8", declared="INT8")
    candidate = checkpoint("INT8", modules=(*checkpoint("INT8").modules, extra))
    verdict = judge(candidate, recipe="W8A8")
    assert verdict.failure_class is COVERAGE
    assert any("not in the source: model.layers.9" in r.text for r in verdict.reasons)


def test_the_first_few_modules_and_their_count_are_named() -> None:
    """Twenty-one names in one sentence help nobody."""
    verdict = judge(checkpoint("BF16"), recipe="W8A8")
    assert "and 18 more" in next(r.text for r in verdict.reasons if "left unquantized" in r.text)


def test_class_precedence_is_the_source_systems() -> None:
    """MODEL_UNSUPPORTED before QUANT_COVERAGE_FAILURE, whatever else is wrong."""
    candidate = checkpoint("INT8", metadata={}, problems=("x",))
    assert judge(candidate, recipe="nvfp4").failure_class is UNSUPPORTED


def test_a_tied_head_may_be_stored_once() -> None:
    """Dropping the copy of a tied head shrinks the file and is no loss."""
    metadata = {**METADATA, "config": {**METADATA["config"], "tie_word_embeddings": True}}
    source = checkpoint(subject="source", metadata=metadata)
    candidate = checkpoint("FP8", lambda m: None if m.name == "lm_head" else m, metadata=metadata)
    assert judge(candidate, source, recipe="fp8").passed
    assert not judge(checkpoint("FP8", lambda m: None if m.name == "lm_head" else m), recipe="fp8").passed


def test_a_tied_head_alone_is_not_taken_for_quantization() -> None:
    """Facts §3.3: nothing quantized gives a ratio of .79 when the tied head is stored once."""
    metadata = {**METADATA, "config": {**METADATA["config"], "tie_word_embeddings": True}}
    source = checkpoint(subject="source", metadata=metadata)
    candidate = checkpoint("BF16", lambda m: None if m.name == "lm_head" else m, metadata=metadata)
    assert candidate.weight_bytes < source.weight_bytes
    assert judge(candidate, source, recipe="fp8").failure_class is UNSUPPORTED


def test_a_float32_source_cast_to_bfloat16_is_not_taken_for_quantization() -> None:
    """A ratio of one half without a quantized module."""
    source = checkpoint("F32", subject="source")
    candidate = checkpoint("BF16")
    assert candidate.weight_bytes * 2 == source.weight_bytes
    assert judge(candidate, source, recipe="fp8").failure_class is UNSUPPORTED
    assert judge(candidate, source, recipe="none").failure_class is COVERAGE
    assert judge(checkpoint("FP8"), source, recipe="fp8").passed


def test_prefixes_of_multimodal_exports_are_understood() -> None:
    """`model.language_model.` in the export and `model.` in the source are one name."""

    def renamed(m: Module) -> Module:
        return m.model_copy(update={"name": m.name.replace("model.", "model.language_model.", 1)})

    verdict = judge(checkpoint("INT8", renamed), recipe="W8A8")
    assert verdict.passed, verdict.detail


def test_routers_may_stay_as_they_are() -> None:
    """Every toolkit leaves routers alone, so a recipe for all linears does not ask for them."""

    def with_router(scheme: str, **more: Any) -> Checkpoint:
        router = module("model.layers.0.mlp.gate", ModuleKind.LINEAR, (64, 512))
        return checkpoint(scheme, modules=(*checkpoint(scheme).modules, router), **more)

    assert judge(with_router("INT8"), with_router("BF16", subject="source"), recipe="W8A8").passed


def test_mlp_only_leaves_attention_alone() -> None:
    """A partial recipe is judged module by module."""

    def plain(m: Module) -> Module:
        update = {"scheme": "BF16", "weight_bits": 16, "stored_bits": 16.0, "declared": None, "ignored": True}
        return m.model_copy(update=update) if "self_attn" in m.name else m

    assert judge(checkpoint("NVFP4", plain), recipe="nvfp4_mlp_only").passed
    assert judge(checkpoint("NVFP4"), recipe="nvfp4_mlp_only").failure_class is COVERAGE
    assert judge(checkpoint("NVFP4", plain), recipe="nvfp4").failure_class is COVERAGE


def test_intent_of_the_candidate_is_used_and_the_policy_wins() -> None:
    """The candidate's own promise judges it unless the policy names another."""
    candidate = checkpoint(
        "INT8", facts={"intent": {"recipe": "W8A8", "ignore": ["lm_head"], "num_bits": None}}
    )
    assert judge(candidate).passed
    assert judge(candidate, recipe="nvfp4").failure_class is UNSUPPORTED
    assert judge(candidate, intent={"num_bits": 8, "targets": ["re:.*mlp.*"]}).failure_class is COVERAGE
    assert judge(candidate, intent={"scheme": "int8"}).passed


def test_a_head_that_was_asked_for_passes() -> None:
    """`ignore: []` asks for the head."""
    candidate = checkpoint(
        "INT8",
        only(
            "lm_head", scheme="INT8", weight_bits=8, stored_bits=8 + 16 / 512, declared="INT8", ignored=False
        ),
    )
    assert judge(candidate, intent={"recipe": "W8A8", "ignore": []}).passed
    assert not judge(candidate, intent={"recipe": "W8A8", "ignore": ["lm_head"]}).passed


@pytest.mark.parametrize(
    "policy",
    [
        {"recipe": "mystery"},
        {"intent": {"recpie": "fp8"}},
        {"intent": {"ignore": []}},
        {"intent": {"recipe": "fp8", "targets": 7}},
    ],
)
def test_a_promise_that_is_not_understood_cannot_be_judged(policy: dict[str, Any]) -> None:
    """An unknown recipe is an error with the known names, never a pass."""
    verdict = judge(checkpoint("INT8"), **policy)
    assert (verdict.status, verdict.failure_class, verdict.outcome) == (
        Status.ERROR,
        CONFIG,
        Outcome.ANOMALOUS,
    )


@pytest.mark.parametrize("role", ["source.checkpoint", "candidate.checkpoint"])
def test_missing_evidence_cannot_be_judged(role: str) -> None:
    """Neither a missing nor a foreign kind of evidence is a pass."""
    both: dict[str, Evidence] = {"source.checkpoint": SOURCE, "candidate.checkpoint": checkpoint("INT8")}
    assert CheckpointGate().judge({k: v for k, v in both.items() if k != role}).status is Status.ERROR
    foreign = Evidence(kind="machine", subject="x")
    assert CheckpointGate().judge({**both, role: foreign}).status is Status.ERROR


def test_an_empty_source_cannot_be_judged() -> None:
    """A ratio to nothing is no ratio."""
    empty = Checkpoint(subject="source", format="safetensors", weight_bytes=0)
    assert judge(checkpoint("INT8"), empty, recipe="W8A8").status is Status.ERROR


# -- loaders ------------------------------------------------------------------------------------------


def test_transformers_does_not_read_modelopt() -> None:
    """The silent trap is refused by name; an engine that reads it passes."""
    candidate = checkpoint("FP8", quant_method="modelopt")
    verdict = judge(candidate, recipe="fp8", engine="transformers")
    assert verdict.failure_class is UNSUPPORTED
    assert "transformers skips quant_method 'modelopt'" in verdict.detail
    assert "FP8 codes without scales" in verdict.detail
    assert judge(candidate, recipe="fp8", engine="vllm").passed
    assert judge(candidate, recipe="fp8").passed
    assert judge(candidate, recipe="fp8", engine="transformers", also_loads=("modelopt",)).passed


def test_the_engine_may_stand_in_the_promise() -> None:
    """A candidate that is served by its own engine is judged for that one."""
    candidate = checkpoint(
        "FP8", quant_method="modelopt", facts={"intent": {"recipe": "fp8", "engine": "transformers"}}
    )
    assert judge(candidate).failure_class is UNSUPPORTED


def test_an_engine_that_nobody_knows_is_noted() -> None:
    """A command of the user's own may load anything."""
    verdict = judge(checkpoint("FP8"), recipe="fp8", engine="command")
    assert verdict.passed
    assert any("not known" in r.text for r in verdict.reasons)


@pytest.mark.parametrize(
    ("engine", "method"), [("llama_cpp", "bitsandbytes"), ("transformers", "gguf"), ("vllm", "mlx")]
)
def test_what_an_engine_does_not_load_is_unsupported(engine: str, method: str) -> None:
    """The message lists what it does load."""
    verdict = judge(checkpoint("FP8", quant_method=method), recipe="fp8", engine=engine)
    assert verdict.failure_class is UNSUPPORTED
    assert "it loads:" in verdict.detail


# -- fidelity -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "passes"), [(0.09, True), (0.22, False), (1.4, False), (math.nan, False), (math.inf, False)]
)
def test_codes_must_reproduce_the_source(value: float, passes: bool) -> None:
    """NF4 errs by .09; saved after a forward by .22 and more; NaN is no weight."""
    name = "model.layers.0.mlp.up_proj"
    candidate = checkpoint("NF4", quant_method="bitsandbytes", measurements=(error_of(name, value),))
    verdict = judge(candidate, recipe="nf4")
    assert verdict.passed is passes
    if not passes and math.isfinite(value):
        assert "codes no longer reproduce the source" in verdict.detail
        assert "save before any forward" in verdict.detail


def test_the_limit_can_be_set_by_scheme_or_bits() -> None:
    """A policy's limit wins over the default."""
    candidate = checkpoint("NF4", measurements=(error_of("model.layers.0.mlp.up_proj", 0.3),))
    assert judge(candidate, recipe="nf4", max_weight_error={"NF4": 0.5}).passed
    assert not judge(candidate, recipe="nf4", max_weight_error={"4": 0.5}).passed


def test_unmeasured_fidelity_is_noted_or_refused() -> None:
    """What was not compared is said; a policy can insist."""
    assert any("were not compared" in r.text for r in judge(checkpoint("INT8"), recipe="W8A8").reasons)
    assert judge(checkpoint("INT8"), recipe="W8A8", require_fidelity=True).status is Status.ERROR
    missing = checkpoint("INT8", measurements=(error_of("model.layers.0.mlp.up_proj", None),))
    assert judge(missing, recipe="W8A8", require_fidelity=True).status is Status.ERROR


# -- metadata -----------------------------------------------------------------------------------------


def changed(key: str, **update: Any) -> dict[str, Any]:
    """The metadata with some fields of one block changed; None removes."""
    block = {**METADATA[key], **update}
    return {**METADATA, key: {k: v for k, v in block.items() if v is not ...}}


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        (
            changed("tokenizer", truncation={"max_length": 64, "strategy": "LongestFirst"}),
            "calibration leaked into tokenizer.json: truncation.max_length=64",
        ),
        (
            changed("tokenizer", padding={"strategy": "BatchLongest"}),
            "calibration leaked into tokenizer.json: padding.strategy",
        ),
        (changed("tokenizer", digest="sha256:other"), "vocabulary, merges or special tokens changed"),
        (changed("config", vocab_size=999), "vocab_size is 999, the source has 1000"),
        (changed("config", eos_token_id=...), "eos_token_id is absent"),
        (changed("generation_config", eos_token_id=1), "eos_token_id is 1, the source has [1, 2]"),
        (changed("generation_config", temperature=...), "temperature is absent"),
        (changed("tokenizer_config", eos_token="<x>"), "eos_token"),
        (changed("chat_template", digest="sha256:x"), "chat template changed"),
        ({k: v for k, v in METADATA.items() if k != "chat_template"}, "chat template is missing"),
        ({k: v for k, v in METADATA.items() if k != "tokenizer"}, "tokenizer.json is missing"),
        (
            {k: v for k, v in METADATA.items() if k != "generation_config"},
            "generation_config.json is missing",
        ),
        ({**METADATA, "files": {}}, "tokenizer.model is missing"),
        (
            {**METADATA, "files": {**METADATA["files"], "modeling.py": "sha256:p"}},
            "code that the source does not have",
        ),
    ],
)
def test_lost_metadata_blocks(metadata: dict[str, Any], word: str) -> None:
    """A changed tokenizer, template or setting makes another model; `metadata: warn` only notes it."""
    candidate = checkpoint("INT8", metadata=metadata)
    verdict = judge(candidate, recipe="W8A8")
    assert verdict.failure_class is COVERAGE
    assert any(word in r.text for r in verdict.reasons if not r.ok), [r.text for r in verdict.reasons]
    relaxed = judge(candidate, recipe="W8A8", metadata="warn")
    assert relaxed.passed
    assert any(word in r.text for r in relaxed.reasons)


@pytest.mark.parametrize(
    "metadata",
    [
        changed("config", use_cache=False, torch_dtype="bfloat16"),
        changed("config", head_dim=None),
        changed("generation_config", do_sample=True),
        changed("tokenizer_config", tokenizer_class="TokenizersBackend", extra_special_tokens=["<a>"]),
        changed("tokenizer_config", padding_side="left"),
        changed("chat_template", where="tokenizer_config.json"),
    ],
)
def test_expected_differences_are_harmless(metadata: dict[str, Any]) -> None:
    """What transformers rewrites on every save is no loss (facts/release.md §3.5)."""
    assert judge(checkpoint("INT8", metadata=metadata), recipe="W8A8").passed


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ({"rope_theta": 1e4}, {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}, True),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0}},
            {"rope_scaling": {"rope_type": "yarn", "factor": 4}},
            True,
        ),
        ({"rope_theta": 1e6}, {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}, False),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, {}, False),
        ({"torch_dtype": "bfloat16"}, {"dtype": "bfloat16"}, True),
        ({"layer_types": ["a"] * 4}, {"layer_types": ["a"] * 3}, False),
    ],
)
def test_spellings_of_transformers_4_and_5_are_one(
    old: dict[str, Any], new: dict[str, Any], same: bool
) -> None:
    """Values are compared, not the names of their keys."""
    source = checkpoint(subject="source", metadata=changed("config", **old))
    assert judge(checkpoint("INT8", metadata=changed("config", **new)), source, recipe="W8A8").passed is same


# -- size ---------------------------------------------------------------------------------------------


def test_a_size_that_headers_cannot_explain_is_refused() -> None:
    """Ballast of five per cent is outside the tolerance of two."""
    good = checkpoint("INT8")
    heavy = good.model_copy(update={"weight_bytes": round(good.weight_bytes * 1.05)})
    light = good.model_copy(update={"weight_bytes": round(good.weight_bytes * 0.95)})
    assert any("too large" in r.text for r in judge(heavy, recipe="W8A8").reasons)
    assert any("too small" in r.text for r in judge(light, recipe="W8A8").reasons)
    assert judge(heavy, recipe="W8A8", size_tolerance_frac=0.1).passed


@pytest.mark.parametrize(
    ("source_bytes", "linears", "rest", "scheme", "ratio"),
    [
        # facts/release.md §3.3: Llama-3.1-8B and Qwen3-8B, billions of weights in linears and in the rest.
        (16.06e9, 6.979e9, 1.051e9, "FP8", 0.565),
        (16.06e9, 6.979e9, 1.051e9, "NVFP4", 0.375),
        (16.38e9, 6.946e9, 1.245e9, "FP8", 0.576),
        (16.38e9, 6.946e9, 1.245e9, "NVFP4", 0.390),
    ],
)
def test_bits_per_weight_give_the_known_ratios(
    source_bytes: float, linears: float, rest: float, scheme: str, ratio: float
) -> None:
    """The table of sizes of real models comes out of the bits per weight."""
    low, _ = bits_per_weight(scheme, (4096, 4096), None) or (0.0, 0.0)
    assert (linears * low / 8 + rest * 2) / source_bytes == pytest.approx(ratio, abs=0.002)


def test_every_bucket_of_a_recipe_has_a_size() -> None:
    """No recipe can aim at a bucket whose size cannot be computed."""
    buckets = {s for i in RECIPES.values() for s in i.schemes}
    assert [b for b in buckets if bits_per_weight(b, (256, 256), None) is None] == []
    assert all(bits > 0 for bits in EXACT_BITS.values())


@pytest.mark.parametrize(
    "name",
    [
        "nvfp4",
        "NVFP4_MLP_ONLY",
        "nvfp4_experts_only",
        "nvfp4_omlp_only",
        "FP8",
        "int4_awq",
        "Q4_K_M",
        "w4a16-asym",
        "NF4",
    ],
)
def test_recipes_are_found_case_blind(name: str) -> None:
    """The names of facts/release.md §1.2 and §3.1, however they are written."""
    assert by_name(name) is not None
    assert resolve({"recipe": name}).schemes


# -- the summary format -------------------------------------------------------------------------------


def summary(**change: Any) -> dict[str, Any]:
    """A summary that passes."""
    counts = {"NVFP4": 224, "BF16_or_excluded": 3, "unexpected_unquantized": 0, "declaration_mismatch": 0}
    counts |= change.pop("counts", {})
    base = {
        "source_bytes": 16_000_000_000,
        "output_bytes": 8_000_000_000,
        "recipe": "nvfp4",
        "layer_precision_counts": counts,
        "metadata_diffs": [],
    }
    return {**base, **change}


def test_a_good_summary_passes_as_self_reported() -> None:
    """It passes, and the verdict says that nobody looked at the checkpoint."""
    verdict = judge_summary(summary())
    assert verdict.passed
    assert verdict.provenance is Provenance.SELF_REPORTED
    assert judge_summary(summary(recipe="FP8", counts={"FP8": 196, "NVFP4": 0})).passed
    assert judge_summary(summary(recipe="fp8"), "NVFP4").passed


@pytest.mark.parametrize(
    ("value", "failure"),
    [
        (summary(output_bytes=16_000_000_000), COVERAGE),
        (summary(counts={"NVFP4": 0}), UNSUPPORTED),
        (summary(layer_precision_counts={}), UNSUPPORTED),
        (summary(counts={"unexpected_unquantized": 24}), COVERAGE),
        (summary(counts={"declaration_mismatch": 1}), COVERAGE),
        (summary(metadata_diffs=["chat_template changed"]), COVERAGE),
        (summary(recipe="mystery"), CONFIG),
        (summary(recipe=None), CONFIG),
        ({}, CONFIG),
        (summary(recipe="mystery", output_bytes=16_000_000_000), COVERAGE),
        (summary(counts={"NVFP4": 0}, output_bytes=None), UNSUPPORTED),
    ],
)
def test_seed_cases_keep_their_classes(value: Any, failure: FailureClass) -> None:
    """The classes and the precedence of facts/release.md §1.2."""
    verdict = judge_summary(value)
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, failure)


@pytest.mark.parametrize(
    ("value", "failure"),
    [
        (summary(output_bytes=0), CONFIG),
        (summary(output_bytes=-1), CONFIG),
        (summary(output_bytes=False), CONFIG),
        (summary(source_bytes=math.nan), CONFIG),
        (summary(source_bytes=math.inf), CONFIG),
        (summary(source_bytes=10**400), CONFIG),
        (summary(source_bytes="16"), CONFIG),
        (summary(output_bytes=15_840_000_000), COVERAGE),
        (summary(output_bytes=1_000_000), COVERAGE),
        (summary(counts={"NVFP4": 1, "BF16_or_excluded": 226}), COVERAGE),
        (summary(counts={"NVFP4": 1, "FP8": 226}), COVERAGE),
        (summary(counts={"NVFP4": "224"}), CONFIG),
        (summary(counts={"NVFP4": True}), CONFIG),
        (summary(counts={"NVFP4": -3}), CONFIG),
        (summary(counts={"NVFP4": 1.5}), CONFIG),
        (summary(counts={"unexpected_unquantized": "0"}), CONFIG),
        (summary(counts={"declaration_mismatch": None}), CONFIG),
        (summary(layer_precision_counts=[224]), CONFIG),
        (summary(metadata_diffs=None), CONFIG),
        (summary(metadata_diffs="none"), CONFIG),
        (summary(recipe=["nvfp4"]), CONFIG),
        ([summary()], CONFIG),
        ("nvfp4", CONFIG),
        (None, CONFIG),
        (0, CONFIG),
        (False, CONFIG),
    ],
)
def test_the_holes_of_the_released_gate_are_closed(value: Any, failure: FailureClass) -> None:
    """What facts/release.md §1.8 saw pass or crash is refused with a verdict."""
    verdict = judge_summary(value)
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, failure)


@pytest.mark.parametrize("key", ["unexpected_unquantized", "declaration_mismatch"])
def test_a_count_that_is_not_reported_is_not_zero(key: str) -> None:
    """A summary without the count has not shown it."""
    value = summary()
    del value["layer_precision_counts"][key]
    assert judge_summary(value).failure_class is CONFIG
