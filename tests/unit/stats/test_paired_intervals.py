"""Wald, Bonett-Price and Newcombe intervals of the paired drop, against print."""

from __future__ import annotations

import numpy as np
import pytest

from assay.stats import (
    StatsError,
    bonett_price_interval,
    newcombe_paired_interval,
    tango_interval,
    wald_paired_interval,
)

# Newcombe 1998, Stat. Med. 17:2635, Table III, method 10 at 95 %: both right, b, c, both wrong, lower, upper
NEWCOMBE_TABLE_III = [
    (36, 12, 2, 0, 0.0569, 0.3404),
    (20, 12, 2, 16, 0.0562, 0.3292),
    (18, 12, 2, 18, 0.0562, 0.3290),
    (36, 14, 0, 0, 0.1528, 0.4167),
    (35, 14, 0, 1, 0.1461, 0.4175),
    (18, 14, 0, 18, 0.1441, 0.3963),
    (2, 97, 1, 0, 0.8721, 0.9854),
    (1, 97, 1, 1, 0.8736, 0.9850),
    (0, 29, 1, 0, 0.6666, 0.9882),
    (2, 98, 0, 0, 0.9178, 0.9945),
    (1, 98, 0, 1, 0.9171, 0.9916),
    (0, 30, 0, 0, 0.8395, 1.0),
    (54, 0, 0, 0, -0.0664, 0.0664),
    (53, 0, 0, 1, -0.0729, 0.0729),
    (30, 0, 0, 24, -0.0358, 0.0358),
    (29, 0, 0, 25, -0.0354, 0.0354),
    (28, 0, 0, 26, -0.0352, 0.0352),
    (27, 0, 0, 27, -0.0351, 0.0351),
]


@pytest.mark.parametrize(("right", "b", "c", "wrong", "lower", "upper"), NEWCOMBE_TABLE_III)
def test_newcombe_agrees_with_print(
    right: int, b: int, c: int, wrong: int, lower: float, upper: float
) -> None:
    """All 18 rows of Newcombe's Table III come out as printed (one of them is cut, not rounded)."""
    interval = newcombe_paired_interval(b, c, right + b + c + wrong, 0.95, right)
    assert (interval.lower, interval.upper) == pytest.approx((lower, upper), abs=1e-4)


def test_cavo_data_agree_with_print() -> None:
    """Cavo et al. 2012 in Fagerland et al. 2017, table 8.9: Newcombe -0.1186 to -0.0046."""
    newcombe = newcombe_paired_interval(6, 16, 161, 0.95, 59)
    assert (newcombe.lower, newcombe.upper) == pytest.approx((-0.1186, -0.0046), abs=5.1e-5)


def test_airway_data_agree_with_print() -> None:
    """Bentur et al. 2009 in Fagerland, Lydersen & Laake 2014: the three intervals as printed there."""
    wald, bonett = wald_paired_interval(1, 7, 21, 0.95), bonett_price_interval(1, 7, 21, 0.95)
    newcombe = newcombe_paired_interval(1, 7, 21, 0.95, 1)
    assert (wald.lower, wald.upper) == pytest.approx((-0.520, -0.052), abs=5.1e-4)
    assert (bonett.lower, bonett.upper) == pytest.approx((-0.508, -0.013), abs=5.1e-4)
    assert (newcombe.lower, newcombe.upper) == pytest.approx((-0.507, -0.026), abs=1.1e-3)


def test_wald_has_no_width_without_flips() -> None:
    """The textbook interval of no flips is a point, which is why it decides nothing."""
    assert wald_paired_interval(0, 0, 50, 0.95).upper == 0.0
    assert bonett_price_interval(0, 0, 50, 0.95).upper > 0.0


def test_unknown_concordant_split_gives_the_hull() -> None:
    """Without the pairs both got right, the interval holds that of every possible number of them."""
    hull = newcombe_paired_interval(12, 4, 60, 0.9)
    each = [newcombe_paired_interval(12, 4, 60, 0.9, right) for right in range(45)]
    assert hull.lower == min(i.lower for i in each)
    assert hull.upper == max(i.upper for i in each)
    with pytest.raises(StatsError, match=r"^both_right: must be given"):
        newcombe_paired_interval([1], [2], 30, 0.9)  # type: ignore[call-overload]


def test_all_agree_in_large_samples() -> None:
    """With 200,000 pairs the four methods differ by less than a hundredth of their width."""
    b, c, n = 5200, 4700, 200_000
    tango = tango_interval(b, c, n, 0.9)
    for other in (
        wald_paired_interval(b, c, n, 0.9),
        bonett_price_interval(b, c, n, 0.9),
        newcombe_paired_interval(b, c, n, 0.9, 120_000),
    ):
        assert (other.lower, other.upper) == pytest.approx(
            (tango.lower, tango.upper), abs=0.01 * (tango.upper - tango.lower)
        )


def test_arrays_agree_with_scalars() -> None:
    """A vectorised call gives in each place what the plain call gives."""
    b, c, n, right = np.array([9, 0, 16]), np.array([3, 0, 8]), np.array([32, 44, 86]), np.array([4, 40, 53])
    many = (wald_paired_interval(b, c, n, 0.9), bonett_price_interval(b, c, n, 0.9))
    newcombe = newcombe_paired_interval(b, c, n, 0.9, right)
    for i in range(3):
        counts = int(b[i]), int(c[i]), int(n[i])
        for array, one in zip(many, (wald_paired_interval, bonett_price_interval), strict=True):
            single = one(*counts, 0.9)
            assert (array.lower[i], array.upper[i]) == (single.lower, single.upper)
        single = newcombe_paired_interval(*counts, 0.9, int(right[i]))
        assert (newcombe.lower[i], newcombe.upper[i]) == (single.lower, single.upper)
