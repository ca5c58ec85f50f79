"""Properties of the sequential, two-sample and rank statistics that hold for every input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from assay.stats import (
    BettingProcess,
    betting_evidence,
    bonett_price_interval,
    boschloo_test,
    clustered_mean,
    farrington_manning_test,
    gatekeeping,
    hierarchical_gatekeeping,
    hodges_lehmann,
    miettinen_nurminen_interval,
    newcombe_paired_interval,
    neyman_allocation,
    sequential_plan,
    sign_flip,
    signed_rank,
    spending_boundaries,
    stratified_exact_test,
    stratified_noninferiority,
    wald_paired_interval,
    wild_cluster_bootstrap,
)

LEVELS = st.floats(0.5, 0.999)
KINDS = st.one_of(
    st.sampled_from(["pocock", "obrien_fleming"]), st.tuples(st.just("hwang_shih_decani"), st.floats(-8, 8))
)
FRACTIONS = st.lists(st.integers(1, 40), min_size=1, max_size=8, unique=True).map(
    lambda looks: [k / 40 for k in sorted(looks)]
)


@st.composite
def tables(draw: st.DrawFn, largest: int = 400) -> tuple[int, int, int, int]:
    """Draw x1, n1, x2, n2."""
    n1, n2 = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    return draw(st.integers(0, n1)), n1, draw(st.integers(0, n2)), n2


@st.composite
def suites(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """Draw successes of both arms per task, and the runs."""
    runs, size = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    arm = st.lists(st.integers(0, runs), min_size=size, max_size=size)
    return draw(arm), draw(arm), runs


@given(tables(), LEVELS)
def test_miettinen_nurminen_holds_the_difference_and_mirrors(
    table: tuple[int, int, int, int], level: float
) -> None:
    """The interval holds the observed difference, stays in [-1, 1], and mirrors with the samples."""
    x1, n1, x2, n2 = table
    one = miettinen_nurminen_interval(x1, n1, x2, n2, level)
    other = miettinen_nurminen_interval(x2, n2, x1, n1, level)
    assert -1.0 <= one.lower <= x1 / n1 - x2 / n2 + 1e-9
    assert x1 / n1 - x2 / n2 - 1e-9 <= one.upper <= 1.0
    assert (one.lower, one.upper) == pytest.approx((-other.upper, -other.lower), abs=1e-12)


@given(tables(), st.floats(-0.95, 0.95))
def test_more_successes_of_the_candidate_never_hurt(table: tuple[int, int, int, int], margin: float) -> None:
    """One more success of the candidate never raises p_accept, nor lowers p_regress."""
    x1, n1, x2, n2 = table
    assume(x2 < n2)
    here, better = (farrington_manning_test(x1, n1, x, n2, margin) for x in (x2, x2 + 1))
    assert better.p_accept <= here.p_accept + 1e-9
    assert better.p_regress >= here.p_regress - 1e-9


@settings(max_examples=60)
@given(tables(largest=25))
def test_boschloo_is_a_p_value_and_mirrors(table: tuple[int, int, int, int]) -> None:
    """It lies in (0, 1], and exchanging the samples exchanges worse and better."""
    x1, n1, x2, n2 = table
    worse, better = boschloo_test(x1, n1, x2, n2, "worse"), boschloo_test(x1, n1, x2, n2, "better")
    assert 0.0 < min(worse, better) <= max(worse, better) <= 1.0
    assert boschloo_test(x2, n2, x1, n1, "better") == pytest.approx(worse, rel=1e-3)


@given(suites(), st.floats(-0.9, 0.9), LEVELS)
def test_stratified_interval_and_test_agree(
    suite: tuple[list[int], list[int], int], margin: float, level: float
) -> None:
    """The test accepts exactly when the upper bound lies below the margin."""
    result = stratified_noninferiority(*suite, margin, level)
    tail = (1.0 - level) / 2.0
    assume(min(abs(result.interval.upper - margin), abs(result.interval.lower - margin)) > 1e-6)
    assert (result.p_accept < tail) == (result.interval.upper < margin)
    assert (result.p_regress < tail) == (result.interval.lower > margin)


@given(suites())
def test_exact_suite_tails_cover_all(suite: tuple[list[int], list[int], int]) -> None:
    """The two one-sided p-values exceed 1 by the observed table, and tasks may be reordered."""
    before, after, runs = suite
    worse = stratified_exact_test(before, after, runs, "worse")
    assert 1.0 - 1e-9 <= worse + stratified_exact_test(before, after, runs, "better") <= 2.0
    assert stratified_exact_test(before[::-1], after[::-1], runs, "worse") == pytest.approx(worse)


@given(st.integers(1, 300), st.data())
def test_paired_intervals_hold_the_drop(n: int, data: st.DataObject) -> None:
    """Wald, Bonett-Price and Newcombe stay in [-1, 1]; Wald and Newcombe hold the observed drop."""
    b = data.draw(st.integers(0, n))
    c = data.draw(st.integers(0, n - b))
    right, level = data.draw(st.integers(0, n - b - c)), data.draw(LEVELS)
    newcombe = newcombe_paired_interval(b, c, n, level, right)
    for interval in (wald_paired_interval(b, c, n, level), newcombe):
        assert -1.0 <= interval.lower <= (b - c) / n + 1e-12
        assert (b - c) / n - 1e-12 <= interval.upper <= 1.0
    bonett = bonett_price_interval(b, c, n, level)
    assert -1.0 <= bonett.lower <= bonett.upper <= 1.0
    other = newcombe_paired_interval(c, b, n, level, right)
    assert (newcombe.lower, newcombe.upper) == pytest.approx((-other.upper, -other.lower), abs=1e-9)


@given(FRACTIONS, st.floats(0.001, 0.2), KINDS)
def test_boundaries_spend_no_more_than_alpha(fractions: list[float], alpha: float, kind: object) -> None:
    """A plan of one side crosses under no drift with what its function spends by the last look."""
    bounds = spending_boundaries(fractions, alpha, kind)  # type: ignore[arg-type]
    crossed = sequential_plan(fractions, 1e-12, alpha, kind).operation(0.0).regress  # type: ignore[arg-type]
    assert (bounds > 0.0).all()
    assert crossed <= alpha + 1e-9
    if fractions[-1] == 1.0:
        assert crossed == pytest.approx(alpha, abs=1e-8)


@given(FRACTIONS, st.floats(-5, 5))
def test_operation_mirrors(fractions: list[float], drift: float) -> None:
    """With equal error rates a mirrored drift exchanges the verdicts, and probabilities add to at most 1."""
    plan = sequential_plan(fractions)
    one, other = plan.operation(drift), plan.operation(-drift)
    assert (one.accept, one.regress) == pytest.approx((other.regress, other.accept), abs=1e-9)
    assert one.accept + one.regress <= 1.0 + 1e-9
    assert fractions[0] - 1e-9 <= one.mean_fraction <= fractions[-1] + 1e-9


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.0, 0.0, 0.5, 1.0]), min_size=1, max_size=80), st.floats(-0.5, 0.5)
)
def test_betting_only_gains_on_one_side(d: list[float], margin: float) -> None:
    """Evidence on both sides at once cannot decide, and one more loss never helps the candidate."""
    process = BettingProcess(margin)
    process.update(d)
    evidence = process.evidence
    assert not (evidence.log_e_accept > math.log(20) and evidence.log_e_regress > math.log(20))
    worse = BettingProcess(margin)
    worse.update([*d[:-1], 1.0])
    assert worse.evidence.log_e_accept <= evidence.log_e_accept + 1e-9
    assert worse.evidence.log_e_regress >= evidence.log_e_regress - 1e-9
    interval = process.interval(0.9)
    assert -1.0 <= interval.lower <= process.mean + 1e-9
    assert process.mean - 1e-9 <= interval.upper <= 1.0


@given(
    st.integers(0, 300), st.integers(0, 300), st.integers(0, 3000), st.floats(-0.5, 0.9), st.floats(0.0, 0.05)
)
def test_evidence_rises_with_the_margin(b: int, c: int, same: int, margin: float, more: float) -> None:
    """A larger margin never lowers the evidence for ACCEPT, nor raises that for REGRESSION."""
    n = max(1, b + c + same)
    one, other = betting_evidence(b, c, n, margin), betting_evidence(b, c, n, margin + more)
    assert other.log_e_accept >= one.log_e_accept - 1e-9
    assert other.log_e_regress <= one.log_e_regress + 1e-9


DIFFERENCES = st.lists(st.integers(-8, 8).map(lambda k: k / 8), min_size=2, max_size=14)


@given(DIFFERENCES)
def test_rank_and_sign_tests_mirror(d: list[float]) -> None:
    """Turning all signs exchanges worse and better; p-values lie in (0, 1]."""
    for test in (signed_rank, sign_flip):
        worse = test(d, "worse")
        assert 0.0 < worse <= 1.0
        assert test([-x for x in d], "better") == pytest.approx(worse)
        assert test(d) == pytest.approx(min(1.0, 2 * min(worse, test(d, "better"))))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40, unique=True), st.floats(0.5, 0.99))
def test_shift_interval_is_what_the_ranks_do_not_reject(d: list[float], level: float) -> None:
    """A centre inside the Hodges-Lehmann interval is not rejected two-sided, one well outside is."""
    shift = hodges_lehmann(d, level)
    assert shift.interval.lower <= shift.estimate <= shift.interval.upper
    if math.isfinite(shift.interval.upper) and len(set(np.round(np.add.outer(d, d), 9).ravel())) > len(d):
        assert signed_rank(d, "two-sided", shift.interval.upper + 2.1) <= 1.0 - level + 1e-9


@given(DIFFERENCES, st.floats(0.0, 0.9))
def test_few_clusters_are_never_more_certain_than_signs_allow(d: list[float], margin: float) -> None:
    """Below 20 clusters no p-value is under 2^-G, whatever the t statistic says."""
    assume(len({round(x, 9) for x in d}) > 1)
    test = clustered_mean(d).test(margin)
    floor = 2.0 ** -len(d)
    assert min(test.p_accept, test.p_regress) >= (floor if len(d) <= 12 else 1 / 5000) - 1e-12
    alone = wild_cluster_bootstrap(d, margin)
    assert alone.p_accept <= test.p_accept + 1e-12


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=4))
def test_gatekeeping_never_lowers_a_p_value(families: list[list[float]]) -> None:
    """Adjusted p-values are at least the given ones and never fall from family to family."""
    adjusted = gatekeeping(families)
    highest = 0.0
    for plain, changed in zip(families, adjusted, strict=True):
        assert (changed >= np.array(plain)).all()
        assert changed.min() >= highest
        highest = max(highest, float(changed.max()))
    flat = [p for family in families for p in family]
    assert (hierarchical_gatekeeping(flat, [None] * len(flat)) >= np.array(flat)).all()


@given(
    st.lists(st.tuples(st.floats(0.01, 5), st.floats(0.0, 1.0)), min_size=1, max_size=8), st.integers(8, 5000)
)
def test_allocation_uses_every_pair(strata: list[tuple[float, float]], n: int) -> None:
    """Whole pairs, at least one per stratum, that sum to what was given."""
    shares, rates = zip(*strata, strict=True)
    assume(any(rates))
    pairs = neyman_allocation(shares, rates, n)
    assert pairs.sum() == n
    assert (pairs >= 1).all()
    assert (pairs == np.floor(pairs)).all()
