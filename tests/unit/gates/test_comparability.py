"""Comparability gate: which differences forbid a comparison."""

from __future__ import annotations

from typing import Any

import pytest

from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.verdict import Verdict
from assay.core.vocabulary import Direction, FailureClass, Outcome, Provenance, Status
from assay.gates.comparability import ComparabilityGate, ComparabilityPolicy

PROTOCOL = {
    "lm_eval_version": "0.4.13",
    "limit": None,
    "random_seed": 0,
    "model_name": "base",
    "engine": "llama_cpp",
}


def rows(n: int = 60, tag: str = "", **changes: Any) -> Samples:
    """Rows of a task; `tag` marks the outputs."""
    values: dict[str, Any] = {
        "id": tuple(f"s{i}" for i in range(n)),
        "repeat": (0,) * n,
        "prompt": tuple(f"p{i}" for i in range(n)),
        "score": (1.0,) * n,
        "state": (SampleState.SCORED,) * n,
        "output": tuple(f"o{i}{tag}" for i in range(n)),
    }
    return Samples(**{**values, **changes})


def results(samples: Samples | None = None, protocol: dict[str, Any] | None = None, **more: Any) -> Results:
    """An evaluation with one task."""
    fields = {"task": "arc", "metric": "acc", "score": 1.0, "samples": rows() if samples is None else samples}
    fields |= {k: more.pop(k) for k in list(more) if k in TaskResult.model_fields}
    tasks = more.pop("tasks", (TaskResult(**fields),))
    return Results(
        subject="x", harness="lm_eval", tasks=tasks, protocol={**PROTOCOL, **(protocol or {})}, **more
    )


def judge(candidate: Results, baseline: Results | None = None, **policy: Any) -> Verdict:
    """The verdict on a candidate beside the ordinary baseline."""
    evidence = {"baseline.results": baseline or results(), "candidate.results": candidate}
    return ComparabilityGate(ComparabilityPolicy(**policy)).judge(evidence)


def refused(verdict: Verdict) -> bool:
    """Whether it is the one way in which this gate fails."""
    return (verdict.status, verdict.failure_class, verdict.outcome) == (
        Status.FAIL,
        FailureClass.NOT_COMPARABLE,
        Outcome.ANOMALOUS,
    )


def test_equal_protocols_pass() -> None:
    """Same tasks, prompts and settings; the answers differ."""
    verdict = judge(results(rows(tag="x")))
    assert verdict.status is Status.PASS
    assert set(verdict.reads) == {"baseline.results", "candidate.results"}
    assert verdict.extra["warnings"] == []


@pytest.mark.parametrize(
    "key", ["lm_eval_version", "limit", "random_seed", "engine", "chat_template_sha", "new_key"]
)
def test_an_unexplained_difference_is_fatal(key: str) -> None:
    """Known, unknown and one-sided keys alike: what differs and is not declared forbids the comparison."""
    verdict = judge(results(rows(tag="x"), {key: "other"}))
    assert refused(verdict)
    assert verdict.reasons[0].where == key


def test_a_missing_key_is_a_difference() -> None:
    """A key that only one side has differs, also when its value is null."""
    baseline = results(protocol={"system_instruction_sha": None})
    assert refused(judge(results(rows(tag="x")), baseline))


def test_what_names_the_candidate_may_differ() -> None:
    """Model names, paths and speed settings are told and do no harm."""
    changed = {"model_name": "w4", "model_args.model": "w4", "model_args.num_concurrent": 4, "serve.port": 1}
    verdict = judge(results(rows(tag="x"), changed), results(protocol={"serve.port": 2}))
    assert verdict.status is Status.PASS
    assert len(verdict.extra["warnings"]) == 4


def test_declared_differences_may_differ() -> None:
    """What the change is about is declared by key or pattern, and only that."""
    candidate = results(rows(tag="x"), {"engine": "vllm", "serve.dtype": "fp8"})
    assert judge(candidate, declared=("engine", "serve.*")).status is Status.PASS
    assert refused(judge(candidate, declared=("engine",)))


def test_true_is_not_one() -> None:
    """JSON has booleans and numbers; 1.0 and 1 are one number."""
    assert refused(judge(results(rows(tag="x"), {"flag": True}), results(protocol={"flag": 1})))
    assert judge(results(rows(tag="x"), {"flag": 1.0}), results(protocol={"flag": 1})).status is Status.PASS


def test_another_prompt_under_the_same_id_is_not_comparable() -> None:
    """A changed template or reference shows in the digest of prompt and reference."""
    changed = rows(tag="x", prompt=("q", *(f"p{i}" for i in range(1, 60))))
    verdict = judge(results(changed))
    assert refused(verdict)
    assert "1 samples have another prompt" in verdict.detail


def test_samples_of_one_side_alone_are_not_comparable() -> None:
    """A sample that only one side has is counted and named by side."""
    assert refused(judge(results(rows(59, tag="x"))))
    assert refused(judge(results(rows(61, tag="x"))))
    assert refused(judge(results(rows(tag="x", repeat=(1,) * 60))))


def test_tasks_metrics_and_directions_must_agree() -> None:
    """Another metric, direction, range or task set is another measurement."""
    for change in (
        {"metric": "acc_norm"},
        {"direction": Direction.LOWER},
        {"high": 100.0},
        {"task": "gsm8k"},
    ):
        assert refused(judge(results(rows(tag="x"), **change)))
    assert refused(judge(results(tasks=())))


def test_without_samples_nothing_is_shown() -> None:
    """Bare scores fail unless the policy lets them through; one side alone always fails."""
    bare = results(Samples(), provenance=Provenance.SELF_REPORTED)
    assert refused(judge(bare, bare))
    verdict = judge(bare, bare, require_samples=False)
    assert (verdict.status, verdict.provenance) == (Status.PASS, Provenance.SELF_REPORTED)
    assert refused(judge(bare, require_samples=False))


def test_identical_outputs_are_told() -> None:
    """An honest candidate may change no answer: it is a warning."""
    verdict = judge(results())
    assert verdict.status is Status.PASS
    assert "same outputs: all 60" in verdict.extra["warnings"][0]
    assert judge(results(rows(49)), results(rows(49))).extra["warnings"] == []


def test_identical_outputs_fail_where_flips_are_expected() -> None:
    """Only when the policy expects flips and their absence is improbable at the planning rate."""
    assert judge(results(), expect_flips=True).status is Status.PASS
    big = results(rows(112))
    assert refused(judge(big, big, expect_flips=True))
    assert judge(big, big, expect_flips=True, planning_flip_rate=0.01).status is Status.PASS


def test_one_checkpoint_on_both_sides_fails() -> None:
    """The same digest on both sides is no comparison."""
    one = results(rows(tag="x"), facts={"checkpoint_digest": "sha256:1"})
    assert refused(judge(one, results(facts={"checkpoint_digest": "sha256:1"})))
    assert judge(one, results(facts={"checkpoint_digest": "sha256:2"})).status is Status.PASS


def test_no_evidence_is_an_error() -> None:
    """Without both sides there is nothing to hold against each other."""
    verdict = ComparabilityGate().judge({"baseline.results": results()})
    assert (verdict.status, verdict.outcome) == (Status.ERROR, Outcome.ANOMALOUS)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("harness_version", "the harness"),
        ("task.arc.version", "the task's version"),
        ("task.arc.dataset", "the data set"),
        ("task.arc.samples", "the data set"),
        ("task.arc.config", "the task's definition"),
        ("prompts", "the prompt"),
        ("chat_template_sha", "the chat template"),
        ("system_instruction_sha", "the system prompt"),
        ("sampling.temperature", "the sampling"),
        ("gen_kwargs", "the sampling"),
        ("sampling.max_tokens", "the token limit"),
        ("task.gpqa.sampling.max_new_tokens", "the token limit"),
        ("sampling.reasoning_effort", "the handling of reasoning"),
        ("endpoint.adapter_config.use_reasoning", "the handling of reasoning"),
        ("judge.grader.model", "the judge"),
        ("task.hle.judge.model_id", "the judge"),
        ("engine", "the engine"),
        ("engine_version", "a version"),
        ("serve.kv_dtype", "the type of the KV cache"),
        ("serve.dtype", "the engine's settings"),
        ("task.arc.repeats", "the number of repeats"),
        ("limit", "the limit of samples"),
        ("something", "it"),
    ],
)
def test_every_topic_is_fatal_unless_declared(key: str, words: str) -> None:
    """The verdict calls the difference by its name, lists it, and lets it through when it is the change."""
    sides = results(rows(tag="x"), {key: 2}), results(protocol={key: 1})
    verdict = judge(*sides)
    assert refused(verdict)
    assert f"{words} differs: 1 for the baseline, 2 for the candidate" in verdict.detail
    assert verdict.extra["differences"] == [{"key": key, "rule": "fatal", "baseline": "1", "candidate": "2"}]
    declared = judge(*sides, declared=(key,))
    assert declared.passed
    assert declared.extra["differences"][0]["rule"] == "declared"


def test_a_harmless_difference_says_why() -> None:
    """The served model's name is what is compared."""
    verdict = judge(results(rows(tag="x"), {"model_name": "w4"}))
    assert verdict.passed
    assert verdict.extra["differences"][0]["rule"] == "harmless"
    assert "names or describes what is compared" in verdict.extra["warnings"][0]


def test_the_worst_on_both_sides_is_no_equality() -> None:
    """A harness that is broken twice agrees with itself; a task that nobody solves can be named."""
    zero = {"score": (0.0,) * 60}
    sides = results(rows(tag="x", **zero), score=0.0), results(rows(**zero), score=0.0)
    verdict = judge(*sides)
    assert refused(verdict)
    assert "broken on both sides" in verdict.detail
    assert judge(*sides, floor_allowed=("arc",)).passed
    assert judge(sides[0]).passed, "one side at zero is a result"
    bare = results(Samples(), score=0.0, provenance=Provenance.SELF_REPORTED)
    assert refused(judge(bare, bare, require_samples=False))


def test_another_context_shows_in_the_answers_that_did_not_fit() -> None:
    """One side was served with less; answers that were only cut off are told."""
    ends = ("context_window_exceeded",) * 6 + ("stop",) * 54
    baseline = results(rows(finish_reason=("stop",) * 60))
    verdict = judge(results(rows(tag="x", finish_reason=ends)), baseline)
    assert refused(verdict)
    assert "served with less" in verdict.detail
    assert judge(results(rows(tag="x", finish_reason=ends)), baseline, context_gap_max_frac=0.1).passed
    cut = judge(results(rows(tag="x", finish_reason=("length",) * 6 + ("stop",) * 54)), baseline)
    assert cut.passed
    assert "cut off" in cut.extra["warnings"][0]


def test_inferred_ranges_of_rows_must_agree() -> None:
    """A range that is inferred from the scores of each side is one scale only if both infer the same."""
    inferred = {"scale_source": "inferred"}
    verdict = judge(results(rows(tag="x"), high=100.0, **inferred), results(**inferred))
    assert refused(verdict)
    assert "declare it" in verdict.detail
