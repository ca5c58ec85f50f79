"""External gate: the baseline against what was published of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from assay.core.results import Results, TaskResult
from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status
from assay.gates.external import ExternalGate, ExternalPolicy, Published


def judge(score: float | None, published: dict[str, Any], **task: Any) -> Verdict:
    """The verdict on a baseline with one task `gsm8k`."""
    one = TaskResult(task="gsm8k", metric="exact_match", score=score, **task)
    results = Results(subject="source", harness="lm_eval", tasks=(one,), provenance=Provenance.SELF_REPORTED)
    return ExternalGate(ExternalPolicy(published=published)).judge({"baseline.results": results})


@pytest.mark.parametrize("theirs", [70.0, 75.0, 65.0])
def test_within_five_points_is_verified(theirs: float) -> None:
    """0.70 of 1 is 70 of 100; the boundary of 5 points belongs to it."""
    verdict = judge(0.70, {"gsm8k": {"score": theirs}})
    assert verdict.status is Status.PASS
    assert verdict.extra["per_task"] == {"gsm8k": "verified"}
    assert verdict.provenance is Provenance.SELF_REPORTED


@pytest.mark.parametrize("theirs", [75.1, 64.9, 7.0])
def test_further_off_either_way_fails(theirs: float) -> None:
    """A baseline that is too good is as suspicious as one that is too bad."""
    verdict = judge(0.70, {"gsm8k": {"score": theirs}})
    assert verdict.status is Status.FAIL
    assert verdict.failure_class is FailureClass.EXTERNAL_BASELINE_MISMATCH
    assert verdict.outcome is Outcome.ANOMALOUS


def test_nothing_published_is_no_failure() -> None:
    """Externally unverified is told and passes."""
    verdict = judge(0.70, {})
    assert verdict.status is Status.PASS
    assert "externally unverified" in verdict.detail
    assert verdict.extra["per_task"] == {"gsm8k": "unverified"}


def test_both_sides_have_their_own_range() -> None:
    """A published 0.71 of 1 and a measured 12 of -100..100 are brought to 0..100."""
    assert judge(70.0, {"gsm8k": {"score": 0.71, "high": 1}}, high=100).status is Status.PASS
    both = {"score": 14.0, "low": -100, "high": 100}
    assert judge(12.0, {"gsm8k": both}, low=-100, high=100).status is Status.PASS


@pytest.mark.parametrize("score", [None, 70.0, -0.1])
def test_a_baseline_that_is_no_score_cannot_be_checked(score: float | None) -> None:
    """Missing or out of its own range: ERROR, never a pass."""
    verdict = judge(score, {"gsm8k": {"score": 70.0}})
    assert (verdict.status, verdict.outcome) == (Status.ERROR, Outcome.ANOMALOUS)


def test_a_published_task_that_was_not_run_is_an_error() -> None:
    """A misspelt task must not pass as unverified."""
    assert judge(0.7, {"gsm9k": {"score": 70.0}}).status is Status.ERROR
    assert ExternalGate().judge({}).status is Status.ERROR


def test_published_scores_are_numbers_in_range() -> None:
    """A boolean, text or a score beyond its range is refused when the spec is read."""
    for bad in ({"score": True}, {"score": "70"}, {"score": 101}, {"score": 5, "low": 5, "high": 5}):
        with pytest.raises(ValidationError):
            Published.model_validate(bad)
