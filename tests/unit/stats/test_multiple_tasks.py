"""Holm's correction and the macro drop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from assay.stats import StatsError, holm, macro_drop, paired_variance


def test_holm_agrees_with_r() -> None:
    """R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") is 0.03, 0.06, 0.06, 0.02."""
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([0.2]).tolist() == [0.2]


@pytest.mark.slow
def test_holm_agrees_with_statsmodels() -> None:
    """The adjusted p-values are those of statsmodels, ties and order included."""
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(8)
    for size in (1, 2, 7, 30):
        p = np.round(rng.uniform(size=size) ** 3, 2)
        assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])


def test_macro_by_hand() -> None:
    """Two tasks by hand: equal weights, then 3 to 1."""
    equal = macro_drop([0.02, -0.01], [0.03, 0.04])
    assert (equal.mean, equal.se, equal.weights) == (pytest.approx(0.005), pytest.approx(0.025), (0.5, 0.5))
    weighted = macro_drop([0.02, -0.01], [0.03, 0.04], [3, 1])
    assert weighted.mean == pytest.approx(0.0125)
    assert weighted.se == pytest.approx(math.hypot(0.75 * 0.03, 0.25 * 0.04))
    test = equal.test(0.01)
    assert test.z == pytest.approx(-0.2)
    assert (test.p_accept, test.p_regress) == pytest.approx((stats.norm.cdf(-0.2), stats.norm.cdf(0.2)))
    interval = equal.interval(0.9)
    low, high = stats.norm.interval(0.9, 0.005, 0.025)
    assert (interval.lower, interval.upper, interval.level) == pytest.approx((low, high, 0.9))


def test_macro_rates_agree_with_the_simulations() -> None:
    """statistics.md 2.3, 8 x 1000, flip rate 6 %: ACCEPT 98 % at zero drop and 5.3 % at the margin."""
    rng = np.random.default_rng(9)
    draws, tasks, n = 1500, 8, 1000
    for drop, expected in ((0.0, 0.98), (0.01, 0.053)):
        cells = [(0.06 + drop) / 2, (0.06 - drop) / 2, 0.94]
        accepted = 0
        for flips in rng.multinomial(n, cells, size=(draws, tasks)):
            ses = [math.sqrt(paired_variance(int(b), int(c), n) / n) for b, c, _ in flips]
            accepted += macro_drop((flips[:, 0] - flips[:, 1]) / n, ses).test(0.01).p_accept <= 0.05
        low, high = stats.binom.interval(0.9999, draws, expected)
        assert low - 0.005 * draws <= accepted <= high + 0.005 * draws


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([], []), "drops"),
        (([0.1, float("nan")], [0.1, 0.1]), "drops"),
        (([0.1, True], [0.1, 0.1]), "drops"),
        (([0.1, 0.2], [0.1]), "ses"),
        (([0.1, 0.2], [0.1, -0.1]), "ses"),
        (([0.1, 0.2], [0.0, 0.0]), "ses"),
        (([0.1, 0.2], ["a", "b"]), "ses"),
        (([0.1, 0.2], [0.1, 0.1], [1.0]), "weights"),
        (([0.1, 0.2], [0.1, 0.1], [1.0, 0.0]), "weights"),
        (([0.1, 0.2], [0.1, 0.1], [1.0, float("inf")]), "weights"),
    ],
)
def test_unusable_arguments_are_named(arguments: tuple[Any, ...], name: str) -> None:
    """An unusable argument of the macro drop raises StatsError with its name."""
    with pytest.raises(StatsError, match=f"^{name}: must be"):
        macro_drop(*arguments)


@pytest.mark.parametrize("bad", [[], [0.1, 1.1], [-0.1], [float("nan")], [True, 0.1], "0.1", None, [[0.1]]])
def test_unusable_p_is_named(bad: Any) -> None:
    """What is no vector of probabilities raises StatsError."""
    with pytest.raises(StatsError, match=r"^p: must be"):
        holm(bad)


def test_unusable_margin_and_level_are_named() -> None:
    """Margin and level are checked by the methods."""
    result = macro_drop([0.01], [0.01])
    with pytest.raises(StatsError, match=r"^margin: "):
        result.test(1.5)
    with pytest.raises(StatsError, match=r"^level: "):
        result.interval(95)
