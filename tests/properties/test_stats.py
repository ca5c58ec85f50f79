"""Properties of the statistics that hold for every input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from assay.stats import (
    StatsError,
    clopper_pearson_interval,
    clustered_mean,
    exact_paired_test,
    holm,
    macro_drop,
    mcnemar_exact,
    missing_bounds,
    paired_test,
    pairs_needed,
    posterior_lean,
    power,
    tango_interval,
    tango_test,
    wilson_interval,
)

MARGINS = st.floats(0.0, 0.9)
ALPHAS = st.floats(0.005, 0.3)


@st.composite
def tables(draw: st.DrawFn, largest: int = 5000) -> tuple[int, int, int]:
    """Draw b, c and n with b + c <= n."""
    n = draw(st.integers(1, largest))
    b = draw(st.integers(0, n))
    return b, draw(st.integers(0, n - b)), n


@settings(deadline=None)
@given(tables(), MARGINS)
def test_score_test_worse_evidence_never_helps(table: tuple[int, int, int], margin: float) -> None:
    """One more flip against the candidate, or one less for it, never lowers p_accept."""
    b, c, n = table
    here = tango_test(b, c, n, margin)
    if b + c < n:
        worse = tango_test(b + 1, c, n, margin)
        assert worse.p_accept >= here.p_accept - 1e-12
        assert worse.p_regress <= here.p_regress + 1e-12
    if c:
        worse = tango_test(b, c - 1, n, margin)
        assert worse.p_accept >= here.p_accept - 1e-12
        assert worse.p_regress <= here.p_regress + 1e-12


@settings(max_examples=60, deadline=None)
@given(tables(largest=400), st.floats(0.0, 0.3))
def test_exact_test_worse_evidence_never_helps(table: tuple[int, int, int], margin: float) -> None:
    """The same holds for the exact test."""
    b, c, n = table
    b, c = min(b, 9), min(c, 9)
    here = exact_paired_test(b, c, n, margin)
    if b + c < n:
        assert exact_paired_test(b + 1, c, n, margin).p_accept >= here.p_accept - 1e-9
    if c:
        assert exact_paired_test(b, c - 1, n, margin).p_accept >= here.p_accept - 1e-9


@settings(deadline=None)
@given(tables(), ALPHAS, MARGINS)
def test_score_interval_and_test_agree(table: tuple[int, int, int], alpha: float, margin: float) -> None:
    """ACCEPT by the test is the same as an upper bound below the margin; REGRESSION, a lower above."""
    interval = tango_interval(*table, 1.0 - 2.0 * alpha)
    assume(min(abs(interval.upper - margin), abs(interval.lower - margin)) > 1e-9)
    result = tango_test(*table, margin)
    assert (result.p_accept < alpha) == (interval.upper < margin)
    assert (result.p_regress < alpha) == (interval.lower > margin)


@settings(deadline=None)
@given(tables(), ALPHAS)
def test_score_interval_mirrors(table: tuple[int, int, int], alpha: float) -> None:
    """Exchanging the two models mirrors the interval, which holds the observed drop and stays in [-1, 1]."""
    b, c, n = table
    one, other = tango_interval(b, c, n, 1.0 - alpha), tango_interval(c, b, n, 1.0 - alpha)
    assert (one.lower, one.upper) == (-other.upper, -other.lower)
    assert -1.0 <= one.lower <= (b - c) / n + 1e-12
    assert (b - c) / n - 1e-12 <= one.upper <= 1.0


@settings(deadline=None)
@given(tables())
def test_zero_margin_mirrors(table: tuple[int, int, int]) -> None:
    """At margin 0 exchanging the two models exchanges the two p-values."""
    b, c, n = table
    one, other = tango_test(b, c, n, 0.0), tango_test(c, b, n, 0.0)
    assert one.p_accept == pytest.approx(other.p_regress)
    assert one.z == pytest.approx(-other.z)
    assert mcnemar_exact(b, c, "worse") == mcnemar_exact(c, b, "better")


@settings(deadline=None)
@given(tables(), ALPHAS, ALPHAS)
def test_higher_level_is_wider(table: tuple[int, int, int], first: float, second: float) -> None:
    """An interval of a higher level holds that of a lower one."""
    wide = tango_interval(*table, 1.0 - min(first, second))
    narrow = tango_interval(*table, 1.0 - max(first, second))
    assert wide.lower <= narrow.lower + 1e-12
    assert narrow.upper <= wide.upper + 1e-12


@settings(max_examples=50, deadline=None)
@given(tables(largest=3000), st.floats(0.0, 0.3))
def test_p_values_are_probabilities(table: tuple[int, int, int], margin: float) -> None:
    """All p-values and the lean lie in [0, 1]; the exact ones sum to at least 1."""
    b, c, n = table
    for result in (tango_test(b, c, n, margin), paired_test(b, c, n, margin)):
        assert 0.0 <= result.p_accept <= 1.0
        assert 0.0 <= result.p_regress <= 1.0
    exact = exact_paired_test(min(b, 5), min(c, 5), n, margin)
    assert exact.p_accept + exact.p_regress >= 1.0 - 1e-9
    assert 0.0 <= posterior_lean(b, c, n, margin) <= 1.0


@settings(deadline=None)
@given(tables(), MARGINS, MARGINS)
def test_larger_margin_never_hurts(table: tuple[int, int, int], first: float, second: float) -> None:
    """A larger margin never raises p_accept nor lowers p_regress."""
    strict, loose = tango_test(*table, min(first, second)), tango_test(*table, max(first, second))
    assert loose.p_accept <= strict.p_accept + 1e-12
    assert loose.p_regress >= strict.p_regress - 1e-12


@settings(deadline=None)
@given(tables(largest=500), st.integers(0, 50), MARGINS)
def test_missing_pairs_bracket(table: tuple[int, int, int], missing: int, margin: float) -> None:
    """The worst case is never easier to accept than the best case."""
    bounds = missing_bounds(*table, missing)
    worst = tango_test(bounds.worst.b, bounds.worst.c, bounds.worst.n, margin)
    best = tango_test(bounds.best.b, bounds.best.c, bounds.best.n, margin)
    assert worst.p_accept >= best.p_accept - 1e-12
    assert worst.p_regress <= best.p_regress + 1e-12


@settings(deadline=None)
@given(tables(), ALPHAS)
def test_single_proportion_intervals(table: tuple[int, int, int], alpha: float) -> None:
    """Both intervals hold the observed share, stay in [0, 1] and mirror."""
    x, _, n = table
    for function in (wilson_interval, clopper_pearson_interval):
        interval, mirrored = function(x, n, 1.0 - alpha), function(n - x, n, 1.0 - alpha)
        assert 0.0 <= interval.lower <= x / n + 1e-12
        assert x / n - 1e-12 <= interval.upper <= 1.0
        assert interval.lower == pytest.approx(1.0 - mirrored.upper, abs=1e-9)


DIFFERENCES = st.lists(
    st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.0, 0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=60
)


@settings(deadline=None)
@given(DIFFERENCES, st.floats(0.0, 0.5), st.randoms(use_true_random=False))
def test_order_never_matters(d: list[float], margin: float, random: object) -> None:
    """Shuffling units together with their clusters changes nothing."""
    clusters = [i % max(2, len(d) // 2) for i in range(len(d))]
    order = list(range(len(d)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one = clustered_mean(d, clusters)
    other = clustered_mean([d[i] for i in order], [clusters[i] for i in order])
    assert (one.mean, one.se, one.df, one.changed) == pytest.approx(
        (other.mean, other.se, other.df, other.changed), abs=1e-12
    )
    first, second = one.test(margin), other.test(margin)
    assert (first.p_accept, first.p_regress) == pytest.approx((second.p_accept, second.p_regress), abs=1e-9)


@settings(deadline=None)
@given(DIFFERENCES, ALPHAS, st.floats(0.0, 0.95))
def test_mean_interval_and_test_agree(d: list[float], alpha: float, margin: float) -> None:
    """For clustered means, too, the test accepts exactly when the upper bound is below the margin."""
    result = clustered_mean(d)
    interval = result.interval(1.0 - 2.0 * alpha)
    assume(min(abs(interval.upper - margin), abs(interval.lower - margin)) > 1e-9)
    test = result.test(margin)
    # with few clusters p takes few values, and may be alpha itself
    assume(min(abs(test.p_accept - alpha), abs(test.p_regress - alpha)) > 1e-9)
    assert (test.p_accept < alpha) == (interval.upper < margin)
    assert (test.p_regress < alpha) == (interval.lower > margin)


@settings(deadline=None)
@given(
    st.integers(30, 400), st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=18), st.floats(0.005, 0.2)
)
def test_sparse_worse_units_never_help(n: int, changes: list[float], margin: float) -> None:
    """While few units changed, making an unchanged one worse never gives ACCEPT at 5 %."""
    d = np.zeros(n)
    d[: len(changes)] = changes
    before = clustered_mean(d).test(margin).p_accept
    d[-1] = 0.25
    after = clustered_mean(d).test(margin).p_accept
    assert after > 0.05 or before <= 0.05


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_holm_lies_between_raw_and_bonferroni(p: list[float]) -> None:
    """Adjusted p-values are at least the raw ones, at most Bonferroni's, and keep their order."""
    adjusted = holm(p)
    raw = np.array(p)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1.0, raw * raw.size) + 1e-15).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0.0).all()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-0.5, 0.5), st.floats(1e-4, 0.2), st.floats(0.1, 10.0)), min_size=1, max_size=8
    )
)
def test_macro_lies_among_its_tasks(tasks: list[tuple[float, float, float]]) -> None:
    """The macro drop lies between the tasks' extremes, its error is at most the largest, weights sum to 1."""
    drops, ses, weights = (list(column) for column in zip(*tasks, strict=True))
    macro = macro_drop(drops, ses, weights)
    assert min(drops) - 1e-12 <= macro.mean <= max(drops) + 1e-12
    assert 0.0 < macro.se <= max(ses) + 1e-12
    assert math.fsum(macro.weights) == pytest.approx(1.0)


@settings(deadline=None)
@given(st.floats(0.005, 0.3), st.floats(0.01, 1.0), st.floats(0.05, 0.99))
def test_planned_number_reaches_power(margin: float, flip_rate: float, wanted: float) -> None:
    """The planned number of pairs reaches the wanted power."""
    n = pairs_needed(margin, flip_rate, power=wanted)
    assert power(int(n), margin, flip_rate) >= wanted - 1e-9


@settings(deadline=None)
@given(st.one_of(st.text(), st.booleans(), st.none(), st.just(math.nan), st.just(math.inf), st.binary()))
def test_rubbish_is_always_a_typed_error(rubbish: object) -> None:
    """Missing, NaN, bool and text are refused in every place with the argument's name."""
    for position, name in enumerate(("b", "c", "n", "margin")):
        arguments: list[object] = [1, 1, 10, 0.1]
        arguments[position] = rubbish
        for function in (tango_test, exact_paired_test, paired_test, posterior_lean):
            with pytest.raises(StatsError) as caught:
                function(*arguments)  # type: ignore[operator]
            assert caught.value.argument == name
