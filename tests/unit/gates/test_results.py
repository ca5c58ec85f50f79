"""Results gate: every rule of the seed, every hole that was found in it."""

from __future__ import annotations

from typing import Any

import pytest

from assay.core.evidence import Evidence, Measurement
from assay.core.results import Results, RunStatus, Samples, SampleState, TaskResult
from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status
from assay.gates.results import (
    ResultsGate,
    ResultsPolicy,
    classify_error,
    judge_run_summary,
    run_status,
)

GOOD = {"status": "SUCCESS", "expected_samples": 10, "scored_samples": 10, "score": 57.0, "errors": []}
JUDGE, INFRA = FailureClass.EVAL_JUDGE_FAILED, FailureClass.INFRA_TRANSIENT
HEALTH, ACCOUNTING = FailureClass.DEPLOYMENT_HEALTH_FAILED, FailureClass.SAMPLE_ACCOUNTING_FAILED
UNKNOWN, CONFIG = FailureClass.UNKNOWN, FailureClass.USER_CONFIG_ERROR


def summary(**changes: Any) -> Verdict:
    """The verdict on a good task with some fields changed."""
    return judge_run_summary({"tasks": {"arc": {**GOOD, **changes}}})


def samples(n: int = 10, wrong: int = 3) -> Samples:
    """Rows of a task, the first `wrong` of them wrong."""
    return Samples(
        id=tuple(f"s{i}" for i in range(n)),
        repeat=(0,) * n,
        prompt=("p",) * n,
        score=tuple(0.0 if i < wrong else 1.0 for i in range(n)),
        state=(SampleState.SCORED,) * n,
        output=tuple(f"o{i}" for i in range(n)),
    )


def task(**changes: Any) -> TaskResult:
    """A complete task of ten samples."""
    values = {
        "task": "arc",
        "metric": "acc",
        "score": 0.7,
        "expected": 10,
        "scored": 10,
        "samples": samples(),
    }
    return TaskResult(**{**values, **changes})


def judge(*tasks: TaskResult, policy: ResultsPolicy | None = None, **more: Any) -> Verdict:
    """The gate's verdict on these tasks."""
    results = Results(subject="x", harness="lm_eval", tasks=tasks, **more)
    return ResultsGate(policy).judge({"results": results})


def test_a_good_summary_passes_as_self_reported() -> None:
    """Nothing is wrong, and nobody measured it."""
    verdict = summary()
    assert (verdict.status, verdict.failure_class, verdict.outcome) == (Status.PASS, None, None)
    assert verdict.provenance is Provenance.SELF_REPORTED
    assert verdict.extra["per_task"] == {"arc": {"ok": True, "reasons": []}}


@pytest.mark.parametrize("field", ["expected_samples", "scored_samples"])
@pytest.mark.parametrize(
    "value", [None, 0, -1, True, False, 2.5, "10", float("nan"), float("inf"), [10], 10**400]
)
def test_counts_that_are_none_fail(field: str, value: Any) -> None:
    """Missing, null, zero, negative, boolean, fractional and textual counts never pass."""
    verdict = summary(**{field: value})
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, ACCOUNTING)
    assert verdict.outcome is Outcome.ANOMALOUS


def test_both_counts_boolean_or_zero_fail() -> None:
    """Equal nonsense on both sides is still nonsense."""
    for value in (True, 0, -5, None):
        assert summary(expected_samples=value, scored_samples=value).failure_class is ACCOUNTING


@pytest.mark.parametrize("score", [None, True, "57", float("nan"), float("inf"), [57], {}])
def test_scores_that_are_no_finite_number_fail(score: Any) -> None:
    """A score is a finite number or the task failed."""
    assert summary(score=score).failure_class is ACCOUNTING


def test_a_score_of_zero_is_a_score() -> None:
    """0.0 is a number like others in a summary that has no rows."""
    assert summary(score=0.0).status is Status.PASS


@pytest.mark.parametrize("word", ["success", "Succeeded", "COMPLETED", " done ", "Success"])
def test_spellings_of_success(word: str) -> None:
    """Launchers write it in many ways."""
    assert summary(status=word).status is Status.PASS


@pytest.mark.parametrize(
    "word", ["TIMEOUT", "RESUMING", "RUNNING", "PENDING", "running", "timed out", "queued"]
)
def test_not_yet_is_neither_pass_nor_fail(word: str) -> None:
    """A run that goes on is INCONCLUSIVE and says "not yet", whatever its counts are so far."""
    verdict = summary(status=word, scored_samples=3, score=None)
    assert (verdict.status, verdict.failure_class, verdict.outcome) == (Status.INCONCLUSIVE, INFRA, None)
    assert verdict.detail.startswith("not yet")


@pytest.mark.parametrize("word", ["KILLED", "killed", "cancelled", "Canceled", "OUT_OF_MEMORY", "NODE_FAIL"])
def test_killed_runs_are_infrastructure(word: str) -> None:
    """Somebody or something outside ended it."""
    verdict = summary(status=word)
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, INFRA)


@pytest.mark.parametrize("word", ["FAILED", "error", "ERROR", "not found", "", None, 7, "schweb"])
def test_other_endings_fail_as_unknown(word: Any) -> None:
    """No known success, no pass."""
    verdict = summary(status=word)
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, UNKNOWN)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("LLM judge returned nothing", JUDGE),
        ("judge_model: HTTP 401", JUDGE),
        ("rate limit exceeded", JUDGE),
        ("RateLimitError", JUDGE),
        ("Unauthorized", JUDGE),
        ("authentication failed", JUDGE),
        ("invalid api key", JUDGE),
        ("auth error", JUDGE),
        ("status 429", JUDGE),
        ("server health check failed", HEALTH),
        ("endpoint is unavailable", HEALTH),
        ("vLLM EngineDeadError", HEALTH),
        ("connection refused", INFRA),
        ("Read timed out.", INFRA),
        ("CUDA out of memory", INFRA),
        ("OOM", INFRA),
        ("oom-killed", INFRA),
        ("HTTP 503", INFRA),
        ("the author is missing", UNKNOWN),
        ("author", UNKNOWN),
        ("authority file", UNKNOWN),
        ("adjudged", UNKNOWN),
        ("only 401 samples came back", UNKNOWN),
        ("took 429 s", UNKNOWN),
        ("room temperature", UNKNOWN),
        ("zoom", UNKNOWN),
        ("parse failure", UNKNOWN),
    ],
)
def test_error_words_are_whole_words(message: str, expected: FailureClass) -> None:
    """An author is no auth, a room has no OOM, and 401 samples are no HTTP status."""
    assert classify_error(message) is expected
    assert summary(errors=[message]).failure_class is expected


def test_precedence_is_that_of_the_source() -> None:
    """Judge before not-yet before accounting before the rest, over all tasks."""
    tasks = {
        "other": {**GOOD, "errors": ["parse failure"]},
        "counts": {**GOOD, "scored_samples": 9},
        "running": {**GOOD, "status": "RUNNING"},
        "judge": {**GOOD, "errors": ["judge died"], "scored_samples": 2},
    }
    for expected in (JUDGE, INFRA, ACCOUNTING, UNKNOWN):
        verdict = judge_run_summary({"tasks": tasks})
        assert (verdict.failure_class, verdict.status) == (expected, Status.FAIL)
        tasks.popitem()


def test_accounting_does_not_steal_the_judges_words() -> None:
    """A judge's failure explains the missing samples."""
    assert summary(errors=["judge: 429"], scored_samples=1, score=None).failure_class is JUDGE
    assert summary(status="RUNNING", errors=["judge: 429"]).failure_class is JUDGE


def test_a_dead_server_explains_missing_samples() -> None:
    """A FAILED run with a health error is a deployment failure; a run that claims success is an accounting one."""
    lost = {
        "scored_samples": 0,
        "score": None,
        "errors": ["server health check failed", "connection refused"],
    }
    assert summary(status="FAILED", **lost).failure_class is HEALTH
    assert summary(status="SUCCESS", **lost).failure_class is ACCOUNTING


@pytest.mark.parametrize("obj", [None, [], 3, "x", {}, {"tasks": None}, {"tasks": {}}, {"tasks": [GOOD]}])
def test_no_tasks_is_a_configuration_error(obj: Any) -> None:
    """Without tasks there is nothing to pass."""
    verdict = judge_run_summary(obj)
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, CONFIG)


@pytest.mark.parametrize("entry", [None, [], 3, "SUCCESS"])
def test_a_null_task_fails_and_does_not_crash(entry: Any) -> None:
    """One bad task fails the run, and the good one is told as good."""
    verdict = judge_run_summary({"tasks": {"a": entry, "b": GOOD}})
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, ACCOUNTING)
    assert verdict.extra["per_task"]["b"] == {"ok": True, "reasons": []}
    assert not verdict.extra["per_task"]["a"]["ok"]


@pytest.mark.parametrize("errors", ["judge died", {"judge": 1}, [None, "judge"], ["", "judge"]])
def test_errors_of_any_shape_are_read(errors: Any) -> None:
    """Errors that are no list of text count all the same."""
    assert summary(errors=errors).failure_class is JUDGE


def test_measured_results_pass_and_are_named_by_digest() -> None:
    """A complete evaluation passes; the verdict names what it read."""
    results = Results(subject="x", harness="lm_eval", tasks=(task(),))
    verdict = ResultsGate().judge({"results": results})
    assert verdict.status is Status.PASS
    assert verdict.reads == {"results": results.content_digest}
    assert verdict.provenance is Provenance.MEASURED


def test_rows_are_counted_and_not_believed() -> None:
    """Fewer rows than were reported as scored fail, though the reported counts agree."""
    assert judge(task(samples=samples(9, 2))).failure_class is ACCOUNTING


def test_a_task_twice_and_samples_twice_fail() -> None:
    """Duplicates are no samples."""
    assert judge(task(), task()).failure_class is ACCOUNTING
    doubled = samples().model_copy(update={"id": ("s0",) * 10})
    verdict = judge(task(samples=doubled))
    assert verdict.failure_class is ACCOUNTING
    assert "twice" in verdict.reasons[0].text


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (SampleState.JUDGE_FAILURE, JUDGE),
        (SampleState.INFRA_FAILURE, ACCOUNTING),
        (SampleState.MISSING, ACCOUNTING),
    ],
)
def test_rows_without_a_score_fail_by_their_state(state: SampleState, expected: FailureClass) -> None:
    """What is not the model's fault is never a wrong answer."""
    rows = samples()
    rows = rows.model_copy(update={"score": (None, *rows.score[1:]), "state": (state, *rows.state[1:])})
    verdict = judge(task(samples=rows, score=7 / 9))
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, expected)


def test_a_models_own_failure_is_a_score() -> None:
    """An empty answer counts as wrong and does not fail the run."""
    rows = samples()
    rows = rows.model_copy(update={"state": (SampleState.MODEL_FAILURE, *rows.state[1:])})
    assert judge(task(samples=rows)).status is Status.PASS


def test_a_score_that_is_not_the_mean_of_its_rows_fails() -> None:
    """The headline must follow from the samples, for metrics that are means."""
    verdict = judge(task(score=0.8))
    assert verdict.failure_class is ACCOUNTING
    assert "mean of its samples" in verdict.reasons[0].text
    assert judge(task(score=0.8, metric="f1")).status is Status.PASS


def test_a_limit_left_on_fails_unless_declared() -> None:
    """`--limit` makes a smoke test, not an evaluation."""
    assert judge(task(), protocol={"limit": 4.0}).failure_class is ACCOUNTING
    assert judge(task(), protocol={"limit": None}).status is Status.PASS
    assert (
        judge(task(), protocol={"limit": 4.0}, policy=ResultsPolicy(limit_declared=True)).status
        is Status.PASS
    )


def test_declared_counts_win() -> None:
    """What the spec asked for counts, and a task that never ran is missed."""
    assert judge(task(), policy=ResultsPolicy(expected={"arc": 11})).failure_class is ACCOUNTING
    verdict = judge(task(), policy=ResultsPolicy(expected={"arc": 10, "gsm8k": 5}))
    assert verdict.failure_class is ACCOUNTING
    assert verdict.reasons[0].where == "gsm8k"


def test_zero_on_every_sample_of_every_task_is_a_broken_harness() -> None:
    """A model that is always wrong everywhere is one that was not asked properly."""
    zero = task(samples=samples(10, 10), score=0.0)
    assert judge(zero).status is Status.FAIL
    assert judge(zero, task(task="b")).status is Status.PASS


def test_status_words_of_a_summary_are_judged_here() -> None:
    """The reader keeps the word, the gate knows what it means."""
    one = task(status=RunStatus.UNKNOWN)
    assert judge(one, facts={"status_words": {"arc": "succeeded"}}).status is Status.PASS
    assert judge(one, facts={"status_words": {"arc": "in progress"}}).status is Status.INCONCLUSIVE
    assert judge(one).status is Status.FAIL
    assert run_status("NOT FOUND") is RunStatus.UNKNOWN


def test_no_evidence_is_no_pass() -> None:
    """A gate without its evidence, or with another kind, fails."""
    for evidence in ({}, {"results": Evidence(kind="other", subject="x")}):
        assert ResultsGate().judge(evidence).status is Status.FAIL


def test_self_reported_evidence_makes_a_self_reported_verdict() -> None:
    """Who said it is never lost."""
    assert judge(task(), provenance=Provenance.SELF_REPORTED).provenance is Provenance.SELF_REPORTED


def long(scores: list[float], **columns: Any) -> TaskResult:
    """A task with these scores, one row each."""
    n = len(scores)
    rows = Samples(
        id=tuple(f"s{i}" for i in range(n)),
        repeat=(0,) * n,
        prompt=("p",) * n,
        score=tuple(scores),
        state=columns.pop("state", (SampleState.SCORED,) * n),
        output=("o",) * n,
        **columns,
    )
    return task(samples=rows, score=sum(scores) / n, expected=n, scored=n)


HALF = [0.0, 1.0] * 20


@pytest.mark.parametrize(
    ("word", "share", "expected"),
    [
        ("length", 0.5, ACCOUNTING),
        ("max_tokens", 0.1, ACCOUNTING),
        ("limit:token", 0.1, ACCOUNTING),
        ("length", 0.05, None),
        ("context_window_exceeded", 0.1, CONFIG),
        ("stop", 1.0, None),
        ("tool_calls", 1.0, None),
    ],
)
def test_answers_that_were_cut_off(word: str, share: float, expected: FailureClass | None) -> None:
    """Up to the declared share it is told, beyond it the run does not count."""
    cut = int(share * 40)
    verdict = judge(long(HALF, finish_reason=(word,) * cut + ("stop",) * (40 - cut)))
    assert verdict.failure_class is expected
    if expected is None and word == "length":
        assert "cut off" in verdict.extra["warnings"][0]
    assert judge(long(HALF, finish_reason=("",) * 40)).status is Status.PASS


def test_truncation_of_aggregates_is_read_from_the_measurement() -> None:
    """Where there are no rows the harness's own count of finish reasons serves."""
    share = Measurement.of("arc/truncated_frac", 0.3)
    verdict = judge(task(samples=Samples()), measurements=(share,))
    assert verdict.failure_class is ACCOUNTING
    assert judge(
        task(samples=Samples()), measurements=(share,), policy=ResultsPolicy(truncated_max_frac=0.3)
    ).passed


def test_a_constant_score_is_a_harness_that_does_not_look() -> None:
    """All of one value, unless it is the best there is, few rows, or a task of which it is believed."""
    flat = judge(long([0.5] * 20))
    assert (flat.failure_class, "all 20 samples score exactly 0.5" in flat.detail) == (UNKNOWN, True)
    assert judge(long([0.0] * 20), task(task="b")).failure_class is UNKNOWN
    assert judge(long([0.5] * 19)).passed
    assert judge(long([0.0] * 20), policy=ResultsPolicy(constant_allowed=("arc",))).passed
    best = judge(long([1.0] * 20))
    assert best.passed
    assert "score exactly 1" in best.extra["warnings"][0]


def test_mostly_empty_answers_are_suspicious() -> None:
    """A parser or template that eats the answers leaves failures of the model and nothing else."""
    states = (SampleState.MODEL_FAILURE,) * 30 + (SampleState.SCORED,) * 10
    assert judge(long([0.0] * 30 + [1.0] * 10, state=states)).failure_class is UNKNOWN


def test_items_without_all_their_repeats_are_missed() -> None:
    """Nobody needs to say how many rows there should be to see that one item has fewer."""
    rows = samples(4, 1).model_copy(update={"id": ("a", "a", "b", "c"), "repeat": (0, 1, 0, 0)})
    verdict = judge(task(samples=rows, score=0.75, expected=4, scored=4))
    assert verdict.failure_class is ACCOUNTING
    assert "2 items have fewer than 2 repeats" in verdict.detail


def test_scores_outside_their_range_are_refused() -> None:
    """A percentage in the place of a share, on the row or in the headline; an inferred range proves nothing."""
    assert "outside 0..1" in judge(long([0.0, 57.0])).reasons[0].text
    bare = task(samples=Samples(), score=57.0)
    assert judge(bare).failure_class is ACCOUNTING
    assert judge(bare.model_copy(update={"scale_source": "inferred"})).passed


def test_a_measured_zero_without_rows_is_suspicious() -> None:
    """A summary's 0.0 is taken as it was written; a harness's needs a row."""
    zero = task(samples=Samples(), score=0.0)
    assert judge(zero).failure_class is UNKNOWN
    assert judge(zero, provenance=Provenance.SELF_REPORTED).passed


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ({"200": 100}, None),
        ({"200": 100, "429": 1}, None),
        ({"200": 90, "500": 10}, INFRA),
        ({"404": 10}, HEALTH),
        ({"401": 10}, CONFIG),
        ({"200": True, "404": "x"}, None),
    ],
)
def test_status_codes_of_the_endpoint(codes: dict[str, Any], expected: FailureClass | None) -> None:
    """A served model of another name, a key that is not set, a server that falls over."""
    verdict = judge(task(), facts={"http_status": {"arc": codes}})
    assert verdict.failure_class is expected


def test_logs_weigh_against_rows() -> None:
    """Complete rows outweigh a line about a crash; nothing outweighs a judge that failed."""
    crash = {"text": "ERROR out of memory", "file": "a.log", "count": 3}
    refused = {"text": "ERROR judge: 401 Unauthorized", "file": "a.log", "count": 1}
    assert judge(task(), facts={"log_failures": [crash]}).passed
    assert judge(task(samples=Samples()), facts={"log_failures": [crash]}).failure_class is INFRA
    assert judge(task(), facts={"log_failures": [refused]}).failure_class is JUDGE
    assert judge(task(), facts={"log_failures": [None, 3, {}]}).passed


def test_a_limit_of_one_task_is_a_limit() -> None:
    """Per task or for all; the number that the spec expects of it is a declaration."""
    limited = {"task.arc.limit": 10}
    assert judge(task(), protocol=limited).failure_class is ACCOUNTING
    assert judge(task(), protocol={"task.other.limit": 10}).passed
    assert judge(task(), protocol=limited, policy=ResultsPolicy(expected={"arc": 10})).passed
    assert judge(task(), protocol={"limit": 10}, policy=ResultsPolicy(expected={"arc": 10})).passed
    assert not judge(task(), protocol={"limit": 10}, policy=ResultsPolicy(expected={"arc": 250})).passed


def test_two_models_in_one_run_are_no_run() -> None:
    """The server was exchanged, or a router sits before it."""
    assert judge(task(), facts={"answered_by": ["a", "b"]}).failure_class is HEALTH
    assert judge(task(), facts={"answered_by": ["a"]}).passed


def test_what_is_told_is_no_failure() -> None:
    """Caches, older runs and judges without rows are reasons that stand beside a pass."""
    verdict = judge(
        task(samples=Samples()), facts={"judged": ["arc"], "cached_answers": 2, "older_runs": ["x.eval"]}
    )
    assert verdict.passed
    assert len(verdict.extra["warnings"]) == 3
    assert all(r.ok for r in verdict.reasons)
    assert verdict.extra["per_task"]["arc"] == {"ok": True, "reasons": []}


def test_rounded_headlines_are_the_mean() -> None:
    """A percentage of two decimals is the mean of its rows; one answer more or less is not."""
    rows = long([0.0, 100.0, 100.0])
    assert judge(rows.model_copy(update={"score": 66.67, "high": 100.0})).passed
    assert judge(rows.model_copy(update={"score": 66.7, "high": 100.0})).failure_class is ACCOUNTING


@pytest.mark.parametrize("names", [("", "\r"), ("\r", "")])
def test_tasks_whose_names_look_alike_are_both_judged(names: tuple[str, str]) -> None:
    """One does not stand in for the other: the run fails whichever comes first."""
    entries: dict[str, Any] = {"": {}, "\r": {"status": "RUNNING"}}
    verdict = judge_run_summary({"tasks": {n: entries[n] for n in names}})
    assert verdict.status is Status.FAIL
    assert any("cannot be told apart" in r.text for r in verdict.reasons)
