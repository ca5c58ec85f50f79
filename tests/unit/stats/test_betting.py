"""Betting: its definition, its intervals, draws without replacement, and its error rate by brute force."""

from __future__ import annotations

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest

from assay.stats import BettingProcess, Interval, StatsError, betting_evidence
from assay.stats.betting import SHARES


def test_evidence_by_hand() -> None:
    """Three pairs multiplied out as stated: the mean over shares of products of (1 - s) + s (1 - d) / (1 - m)."""
    d, margin = (1.0, -1.0, 0.0), 0.1
    accept = np.mean([math.prod(1 - s + s * (1 - x) / (1 - margin) for x in d) for s in SHARES])
    regress = np.mean([math.prod(1 - s + s * (1 + x) / (1 + margin) for x in d) for s in SHARES])
    process = BettingProcess(margin)
    process.update(d)
    for evidence in (process.evidence, betting_evidence(1, 1, 3, margin)):
        assert evidence.log_e_accept == pytest.approx(math.log(accept))
        assert evidence.log_e_regress == pytest.approx(math.log(regress))


def test_capital_is_fair_at_the_margin() -> None:
    """Exactly, over all 3^4 outcomes of four pairs at a drop of the margin, mean capital is 1."""
    margin = Fraction(1, 10)
    chance = {1: Fraction(1, 4) + margin / 2, -1: Fraction(1, 4) - margin / 2, 0: Fraction(1, 2)}
    total = 0.0
    for path in itertools.product((1, -1, 0), repeat=4):
        weight = math.prod(chance[x] for x in path)
        total += float(weight) * math.exp(
            betting_evidence(path.count(1), path.count(-1), 4, 0.1).log_e_accept
        )
    assert total == pytest.approx(1.0)


def test_capital_is_fair_without_replacement() -> None:
    """Over all orders of a benchmark whose drop is the margin, mean capital is 1 after every pair."""
    benchmark = (1.0, 0.0, 0.0, -1.0, 0.5, 0.1)
    margin = sum(benchmark) / 6
    totals = np.zeros(5)
    for path in itertools.permutations(benchmark):
        process = BettingProcess(margin, population=6)
        for k in range(5):
            process.update([path[k]])
            totals[k] += math.exp(process.evidence.log_e_accept)
    assert totals / math.factorial(6) == pytest.approx(np.ones(5))


def test_batches_do_not_matter() -> None:
    """Pair by pair or all at once, with and without replacement, the evidence is the same."""
    d = np.random.default_rng(3).choice([-1.0, 0.0, 0.0, 0.25, 1.0], size=60)
    for population in (None, 100):
        whole, single = (
            BettingProcess(0.05, population=population),
            BettingProcess(0.05, population=population),
        )
        whole.update(d)
        for value in d:
            single.update([float(value)])
        assert single.evidence.log_e_accept == pytest.approx(whole.evidence.log_e_accept)
        assert single.evidence.log_e_regress == pytest.approx(whole.evidence.log_e_regress)
        assert (single.n, single.mean) == (60, pytest.approx(whole.mean))


def test_interval_holds_what_is_not_rejected() -> None:
    """At each end of the interval the evidence against that drop is exactly 1 / tail."""
    d = np.random.default_rng(4).choice([-1.0, 0.0, 1.0], p=[0.04, 0.9, 0.06], size=2000)
    process = BettingProcess(0.01)
    process.update(d)
    interval = process.interval(0.9)
    b, c = int((d == 1).sum()), int((d == -1).sum())
    assert betting_evidence(b, c, 2000, interval.upper).log_e_accept == pytest.approx(math.log(20), abs=1e-5)
    assert betting_evidence(b, c, 2000, interval.lower).log_e_regress == pytest.approx(math.log(20), abs=1e-5)
    assert interval.lower < process.mean < interval.upper
    assert BettingProcess(0.0).interval(0.9) == Interval(-1.0, 1.0, 0.9)


def test_interval_mirrors() -> None:
    """Exchanging the models mirrors the interval, with and without replacement."""
    d = np.random.default_rng(5).uniform(-0.4, 0.6, size=300)
    for population in (None, 900):
        one, other = BettingProcess(0.0, population=population), BettingProcess(0.0, population=population)
        one.update(d)
        other.update(-d)
        first, second = one.interval(0.95), other.interval(0.95)
        assert (first.lower, first.upper) == pytest.approx((-second.upper, -second.lower), abs=1e-8)


def test_whole_benchmark_is_exact() -> None:
    """Once all pairs are in, the verdict is that of the point drop, and a tie is none."""
    base = [1.0] * 3 + [0.0] * 97
    for margin, verdict in ((0.04, "accept"), (0.02, "regress"), (0.03, None)):
        process = BettingProcess(margin, population=100)
        process.update(base)
        assert process.verdict == verdict
        interval = process.interval(0.9)
        assert (interval.lower, interval.upper) == pytest.approx((0.03, 0.03))
    with pytest.raises(StatsError, match=r"^d: must be at most 0 more"):
        process.update([0.0])


def test_what_cannot_be_reached_any_more_is_certain() -> None:
    """When even a rest of losses cannot reach the margin, the evidence is infinite."""
    process = BettingProcess(0.5, alpha_accept=0.001, population=100)
    process.update([0.0] * 60)
    assert process.evidence.log_e_accept == math.inf
    assert process.verdict == "accept"


def test_the_first_verdict_stays() -> None:
    """More data after a crossing may move the evidence, but not the verdict."""
    process = BettingProcess(0.05)
    assert process.update([0.0] * 400) == "accept"
    process.update([1.0] * 100)
    assert process.evidence.log_e_accept < 0.0
    assert process.verdict == "accept"


def test_rounds_of_tasks_are_valid_for_the_mean() -> None:
    """Two tasks of drops 0.3 and -0.1 against a margin of their mean: mean capital is at most 1."""
    tasks, total = ((0.3, 0.4), (-0.1, 0.5)), 0.0
    outcomes = [{1: (rate + drop) / 2, -1: (rate - drop) / 2, 0: 1 - rate} for drop, rate in tasks]
    for path in itertools.product((1, -1, 0), repeat=4):
        weight = math.prod(outcomes[k % 2][x] for k, x in enumerate(path))
        total += weight * math.exp(betting_evidence(path.count(1), path.count(-1), 4, 0.1).log_e_accept)
    assert total <= 1.0


def test_twenty_thousand_pairs_in_time() -> None:
    """An interval of 20,000 distinct differences takes less than 200 ms (best of three)."""
    process = BettingProcess(0.01)
    process.update(np.random.default_rng(6).normal(0.0, 0.1, size=20_000).clip(-1, 1))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        process.interval(0.9)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.2


def test_arrays_agree_with_scalars() -> None:
    """Vectorised counts give in each place what plain counts give."""
    many = betting_evidence([3, 0, 9], [1, 5, 9], [50, 80, 400], 0.02)
    for i, counts in enumerate([(3, 1, 50), (0, 5, 80), (9, 9, 400)]):
        one = betting_evidence(*counts, 0.02)
        assert (many.log_e_accept[i], many.log_e_regress[i]) == pytest.approx(
            (one.log_e_accept, one.log_e_regress)
        )


@pytest.mark.parametrize("bad", [[1.5], [float("nan")], [], [True], "1", [[0.1]]])
def test_unusable_differences_are_named(bad: object) -> None:
    """A difference outside [-1, 1], or no number at all, is refused and changes nothing."""
    process = BettingProcess(0.01)
    with pytest.raises(StatsError, match=r"^d: must be"):
        process.update(bad)  # type: ignore[arg-type]
    assert process.n == 0
