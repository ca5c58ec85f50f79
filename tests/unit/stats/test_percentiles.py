"""Percentiles of latencies and the samples they need."""

from __future__ import annotations

import numpy as np
import pytest

from assay.stats.errors import StatsError
from assay.stats.percentiles import (
    clustered_percentile_claim,
    limit_test,
    percentile_claim,
    samples_needed,
)


@pytest.mark.parametrize(
    ("q", "level", "counts"),
    [
        (0.90, 0.95, (29, 46, 61)),
        (0.95, 0.95, (59, 93, 124)),
        (0.99, 0.95, (299, 473, 628)),
        (0.90, 0.99, (44, 64, 81)),
        (0.95, 0.99, (90, 130, 165)),
        (0.99, 0.99, (459, 662, 838)),
    ],
)
def test_samples_needed_are_those_of_early_stopping(
    q: float, level: float, counts: tuple[int, int, int]
) -> None:
    """The published counts for 0, 1 and 2 violations."""
    assert tuple(samples_needed(q, level, v) for v in (0, 1, 2)) == counts


def test_limit_with_a_hundred_requests() -> None:
    """p95 on 100 requests: at most 1 late accepts, 10 or more reject, between them neither."""
    verdicts = [limit_test(v, 100, 0.95) for v in range(13)]
    assert [v.met for v in verdicts] == [True, True] + [False] * 11
    assert [v.missed for v in verdicts] == [False] * 10 + [True] * 3


def test_p99_of_a_hundred_is_never_decided_as_met() -> None:
    """A hundred requests cannot show a p99, however good they are."""
    assert not limit_test(0, 100, 0.99).met
    assert limit_test(0, 100, 0.99).needed == 299


def test_a_percentile_without_enough_samples_has_no_value() -> None:
    """58 values say nothing about p95 from above, 59 do."""
    few, enough = percentile_claim(np.arange(58.0), 0.95), percentile_claim(np.arange(59.0), 0.95)
    assert (few.estimate, few.upper, few.needed) == (None, None, 59)
    assert enough.upper == 58.0
    assert enough.estimate == pytest.approx(55.1)


def test_bounds_hold_as_often_as_they_say() -> None:
    """Over 2,000 samples the upper bound of p90 misses the true p90 in at most about 5 %, and not in 0 %."""
    rng = np.random.default_rng(7)
    truth = float(-np.log(0.1))
    claims = [percentile_claim(rng.exponential(size=80), 0.9) for _ in range(2000)]
    above = sum(c.upper is not None and c.upper < truth for c in claims)
    below = sum(c.lower is not None and c.lower > truth for c in claims)
    assert 20 < above < 125
    assert 20 < below < 125


def test_values_of_one_cluster_count_as_one() -> None:
    """Equal values inside each cluster say no more than one value a cluster."""
    values = np.repeat(np.random.default_rng(1).normal(size=40), 50)
    clusters = np.repeat(np.arange(40.0), 50)
    claim = clustered_percentile_claim(values, clusters, 0.95)
    assert claim.n < 60
    assert claim.estimate is None or claim.n >= 59


def test_independent_values_in_clusters_count_fully() -> None:
    """Without any likeness inside clusters nearly every value counts."""
    values = np.random.default_rng(2).normal(size=4000)
    claim = clustered_percentile_claim(values, np.repeat(np.arange(40.0), 100), 0.9)
    assert claim.n > 2000
    assert claim.estimate == pytest.approx(1.28, abs=0.1)


def test_clustered_bounds_hold_where_plain_ones_do_not() -> None:
    """With strong clusters the plain upper bound of p90 fails far too often, the clustered one hardly."""
    rng = np.random.default_rng(3)
    truth = 1.2816 * np.sqrt(2.0)
    owners = np.repeat(np.arange(60.0), 40)
    plain = clustered = 0
    for _ in range(300):
        values = np.repeat(rng.normal(size=60), 40) + rng.normal(size=2400)
        naive, careful = (
            percentile_claim(values, 0.9).upper,
            clustered_percentile_claim(values, owners, 0.9).upper,
        )
        plain += naive is not None and naive < truth
        clustered += careful is not None and careful < truth
    assert plain > 60
    assert clustered < 45


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: samples_needed(1.0), "q"),
        (lambda: samples_needed(0.99999999), "q"),
        (lambda: samples_needed(0.9, violations=-1), "violations"),
        (lambda: percentile_claim([], 0.5), "values"),
        (lambda: percentile_claim([float("nan")], 0.5), "values"),
        (lambda: percentile_claim([1.0], 0.5, level=1.0), "level"),
        (lambda: limit_test(3, 2, 0.9), "violations"),
        (lambda: clustered_percentile_claim([1.0, 2.0], [1.0], 0.5), "clusters"),
    ],
)
def test_unusable_arguments_are_named(call: object, argument: str) -> None:
    """The error says which argument."""
    with pytest.raises(StatsError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.argument == argument
