"""Intervals for one proportion, against Newcombe 1998 and scipy."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from assay.stats import StatsError, clopper_pearson_interval, wilson_interval

# Newcombe 1998, Stat. Med. 17:857, Table I: x, n, Wilson, Clopper-Pearson at 95 %
NEWCOMBE = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("x", "n", "wilson", "exact"), NEWCOMBE)
def test_agree_with_newcombe(x: int, n: int, wilson: tuple[float, float], exact: tuple[float, float]) -> None:
    """Both intervals have the bounds that Newcombe prints for his four examples."""
    score, clopper = wilson_interval(x, n, 0.95), clopper_pearson_interval(x, n, 0.95)
    assert (score.lower, score.upper) == pytest.approx(wilson, abs=5.1e-5)
    assert (clopper.lower, clopper.upper) == pytest.approx(exact, abs=5.1e-5)


@pytest.mark.parametrize(("x", "n"), [(0, 7), (7, 7), (3, 10), (350, 1000), (1, 1), (0, 1)])
@pytest.mark.parametrize("level", [0.8, 0.9, 0.99])
def test_agree_with_scipy(x: int, n: int, level: float) -> None:
    """Both intervals are those of scipy.stats.binomtest."""
    oracle = stats.binomtest(x, n)
    for function, method in ((wilson_interval, "wilson"), (clopper_pearson_interval, "exact")):
        mine, theirs = function(x, n, level), oracle.proportion_ci(level, method)
        assert (mine.lower, mine.upper, mine.level) == pytest.approx(
            (theirs.low, theirs.high, level), abs=1e-12
        )


def test_passes_prove_little() -> None:
    """statistics.md 3.10: 3 of 3, 10 of 10 and 29 of 29 passes prove 37, 74 and 90 % (one-sided 95 %)."""
    proved = [clopper_pearson_interval(n, n, 0.9).lower for n in (3, 10, 29)]
    assert proved == pytest.approx([0.37, 0.74, 0.90], abs=0.005)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((-1, 10, 0.9), "x"),
        ((11, 10, 0.9), "x"),
        ((True, 10, 0.9), "x"),
        (("3", 10, 0.9), "x"),
        ((float("nan"), 10, 0.9), "x"),
        ((0, 0, 0.9), "n"),
        ((1, float("inf"), 0.9), "n"),
        ((1, 10, 1.0), "level"),
        ((1, 10, 0.0), "level"),
        ((1, 10, None), "level"),
    ],
)
def test_unusable_arguments_are_named(arguments: tuple[Any, ...], name: str) -> None:
    """An unusable argument raises StatsError with its name."""
    for function in (wilson_interval, clopper_pearson_interval):
        with pytest.raises(StatsError, match=f"^{name}: must be") as caught:
            function(*arguments)
        assert caught.value.argument == name
