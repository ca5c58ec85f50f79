"""Results gate: no summary crashes it, nothing but whole numbers and scores passes, order never matters."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from assay.core.results import RunStatus
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates.results import judge_run_summary, run_status

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from([*RunStatus, "success", "done", "error"]) | json_values,
        "expected_samples": st.integers(-2, 20) | json_values,
        "scored_samples": st.integers(-2, 20) | json_values,
        "score": st.floats(0, 100) | json_values,
        "errors": st.lists(st.sampled_from(["judge died", "author", "OOM", "x"]), max_size=2) | json_values,
    },
)
summaries = st.dictionaries(st.text(max_size=6), entries | json_values, max_size=4)


@given(json_values | st.builds(lambda t: {"tasks": t}, summaries))
def test_any_json_gets_a_verdict(obj: Any) -> None:
    """The verdict can be digested, its status and class agree, and only a pass has no class."""
    verdict = judge_run_summary(obj)
    assert verdict.content_digest
    assert verdict.passed == (verdict.failure_class is None)
    assert (verdict.outcome is Outcome.ANOMALOUS) == (verdict.status is Status.FAIL)


@given(summaries)
def test_only_complete_tasks_pass(tasks: dict[str, Any]) -> None:
    """Every task of a passing run has success, equal positive whole counts, a finite score and no error."""
    if not judge_run_summary({"tasks": tasks}).passed:
        return
    assert tasks
    for entry in tasks.values():
        assert run_status(entry["status"]) is RunStatus.SUCCESS
        counts = entry["expected_samples"], entry["scored_samples"]
        assert counts[0] == counts[1] > 0
        assert not any(isinstance(c, bool) for c in counts)
        assert all(float(c).is_integer() for c in counts)
        assert not isinstance(entry["score"], bool)
        assert math.isfinite(entry["score"])
        assert not any(entry.get("errors") or [])


@given(summaries, st.randoms(use_true_random=False))
def test_order_never_matters(tasks: dict[str, Any], rng: Any) -> None:
    """Shuffled tasks give the same status and class."""
    names = list(tasks)
    rng.shuffle(names)
    one, other = (judge_run_summary({"tasks": t}) for t in (tasks, {n: tasks[n] for n in names}))
    assert (one.status, one.failure_class) == (other.status, other.failure_class)


@given(summaries, entries | json_values)
def test_another_task_never_helps(tasks: dict[str, Any], entry: Any) -> None:
    """Adding a task to a failing run never makes it pass or only "not yet"."""
    before = judge_run_summary({"tasks": tasks})
    after = judge_run_summary({"tasks": {**tasks, "another one": entry}})
    if tasks and before.status is Status.FAIL:
        assert after.status is Status.FAIL
    if before.status is Status.INCONCLUSIVE:
        assert after.status is not Status.PASS
    if before.failure_class is FailureClass.EVAL_JUDGE_FAILED:
        assert after.failure_class is FailureClass.EVAL_JUDGE_FAILED
