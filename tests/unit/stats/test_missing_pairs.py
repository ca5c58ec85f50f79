"""Worst and best case of missing pairs."""

from __future__ import annotations

import pytest

from assay.stats import PairedCounts, StatsError, missing_bounds, tango_test


def test_bounds_move_all_missing_pairs_one_way() -> None:
    """Worst case: all missing count as b; best case: all as c; both add to the pairs."""
    bounds = missing_bounds(5, 4, 990, 10)
    assert bounds.worst == PairedCounts(15, 4, 1000)
    assert bounds.best == PairedCounts(5, 14, 1000)
    assert missing_bounds(5, 4, 990, 0).worst == missing_bounds(5, 4, 990, 0).best == PairedCounts(5, 4, 990)


def test_one_percent_missing_exhausts_one_point() -> None:
    """statistics.md 3.7: at 1 pt, 1 % unexplained missing alone keeps a perfect candidate from ACCEPT."""
    worst = missing_bounds(50, 50, 9900, 100).worst
    assert tango_test(50, 50, 9900, 0.01).p_accept < 1e-6
    assert tango_test(worst.b, worst.c, worst.n, 0.01).p_accept == pytest.approx(0.5, abs=0.01)


def test_unusable_arguments_are_named() -> None:
    """An unusable argument raises StatsError with its name."""
    for arguments, name in (((1, 1, 10, -1), "missing"), ((1, 1, 10, True), "missing"), ((6, 6, 10, 0), "n")):
        with pytest.raises(StatsError, match=f"^{name}: must be"):
            missing_bounds(*arguments)
