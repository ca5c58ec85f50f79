"""External gate over a draw of the items: its sampling error is allowed on top of the tolerance, and no more."""

from __future__ import annotations

import math

import pytest
from compare_evidence import task
from pydantic import ValidationError

from assay.core.results import Results
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome, Status
from assay.gates.external import ExternalGate, ExternalPolicy


def judge(right: int, n: int, published: float, size: int | None) -> Verdict:
    """A baseline with `right` of n rows right, of a task of that size."""
    one = task("t", [1.0] * right + [0.0] * (n - right))
    policy = ExternalPolicy.model_validate(
        {"published": {"t": {"score": published}}, "sizes": {} if size is None else {"t": size}}
    )
    results = Results(subject="source", harness="h", tasks=(one,))
    return ExternalGate(policy).judge({"baseline.results": results})


def test_a_draw_is_allowed_its_sampling_error() -> None:
    """100 of 1,000 items at a published 70 may lie 99 % of 4.6 points further off, with the finite correction."""
    verdict = judge(60, 100, 70.0, 1000)
    assert verdict.status is Status.PASS
    limit = 5.0 + 100 * 2.5758 * math.sqrt(0.7 * 0.3 / 100 * 0.9)
    assert verdict.reasons[0].limit == pytest.approx(limit)
    assert judge(60, 100, 70.0, None).status is Status.FAIL


def test_far_off_still_fails() -> None:
    """40 of 100 at a published 70 is no sampling error, either way round."""
    for right, published in ((40, 70.0), (90, 60.0)):
        verdict = judge(right, 100, published, 1000)
        assert (verdict.status, verdict.outcome) == (Status.FAIL, Outcome.ANOMALOUS)


@pytest.mark.parametrize("size", [100, 50])
def test_the_whole_task_has_no_sampling_error(size: int) -> None:
    """All items, or more rows than the plan knows: the tolerance is the tolerance."""
    assert judge(76, 100, 70.0, size).status is Status.FAIL
    assert judge(75, 100, 70.0, size).status is Status.PASS


def test_a_published_score_at_the_end_of_the_range_has_some_error() -> None:
    """A published 100 of 100 does not make ten rows exact."""
    limit = judge(10, 10, 100.0, 1000).reasons[0].limit
    assert isinstance(limit, float)
    assert limit > 5.0 + 100 * 2.5758 * 0.09


@pytest.mark.parametrize("size", [0, -1, True, 10.5])
def test_sizes_are_counts(size: object) -> None:
    """A size is a whole number above zero."""
    with pytest.raises(ValidationError):
        ExternalPolicy.model_validate({"sizes": {"t": size}})
