"""Q6 to Q8 of statistics.md section 5: group-sequential and anytime plans at a flip rate of 5 %."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from assay.stats import BettingProcess, betting_evidence, sequential_plan, tango_test

MARGIN = 0.01


def studied(
    rng: Any, draws: int, n_max: int, looks: int, rate: float, drop: float, futility: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Verdict (1 ACCEPT, -1 REGRESSION, 0 neither) and pairs used of Pocock-type looks on the score z."""
    plan = sequential_plan([k / looks for k in range(1, looks + 1)])
    step = n_max // looks
    chances = [(rate + drop) / 2, (rate - drop) / 2, 1 - rate]
    flips = rng.multinomial(step, chances, size=(draws, looks)).cumsum(axis=1)
    pairs = step * np.arange(1, looks + 1)
    z = tango_test(flips[..., 0], flips[..., 1], np.broadcast_to(pairs, (draws, looks)), MARGIN).z
    few = flips[..., 0] + flips[..., 1] < 20
    accept, regress = (z <= -np.array(plan.accept_z)) & ~few, (z >= np.array(plan.regress_z)) & ~few
    stop = accept | regress
    if futility:
        grid = np.linspace(-6, 6, 241)
        for look in range(1, looks):
            chance = [plan.resolution_probability(look, float(at)) for at in grid]
            stop[:, look - 1] |= np.interp(z[:, look - 1], grid, chance) < futility
    stop[:, -1] = True
    first = stop.argmax(axis=1)
    row = np.arange(draws)
    verdict = accept[row, first].astype(int) - regress[row, first].astype(int)
    return verdict, pairs[first], z


@pytest.mark.parametrize(("n_max", "target"), [(5000, 0.87), (10_000, 0.99)])
def test_q6_group_sequential_power(book: Any, n_max: int, target: float) -> None:
    """Q6, group: no drop, 10 looks: ACCEPT at least 87 % within 5,000 pairs, 99 % within 10,000."""
    verdict, used, _ = studied(np.random.default_rng(6), 60_000, n_max, 10, 0.05, 0.0)
    book.note(f"mean pairs {used.mean():,.0f}")
    book.at_least(f"Q6 group n_max {n_max}", (verdict == 1).sum(), len(verdict), target)


@pytest.mark.parametrize(("drop", "target", "source"), [(0.0, 3600, 10_000), (0.03, 1400, 10_000)])
@pytest.mark.parametrize("looks", [20, pytest.param(10, marks=pytest.mark.slow)])
def test_q7_mean_pairs(book: Any, drop: float, target: float, source: int, looks: int) -> None:
    """Q7: of 10,000 pairs on average at most 3,600 are used at no drop, 1,400 at 3 points."""
    verdict, used, _ = studied(np.random.default_rng(7), 40_000, 10_000, looks, 0.05, drop)
    upper = used.mean() + 3.3 * used.std() / math.sqrt(used.size)
    book.note(
        f"Q7 {looks} looks, drop {drop}: {used.mean():,.0f} pairs (< {upper:,.0f}); the source {source:,}"
    )
    assert upper <= target
    assert (verdict == (1 if drop == 0.0 else -1)).mean() > 0.98


@pytest.mark.parametrize("rate", [0.05, *(pytest.param(r, marks=pytest.mark.slow) for r in (0.03, 0.10))])
def test_group_sequential_size(book: Any, rate: float) -> None:
    """At a drop of the margin 20 looks err in at most 5.6 % each way; naive peeking in 19 % and more."""
    verdict, _, z = studied(np.random.default_rng(8), 60_000, 10_000, 20, rate, MARGIN)
    book.note(f"peeking at 1.645 accepts {(z <= -1.645).any(axis=1).mean():.1%}")
    book.at_most(f"false ACCEPT, flip rate {rate}", (verdict == 1).sum(), len(verdict), 0.056)
    book.at_most(f"false REGRESSION, flip rate {rate}", (verdict == -1).sum(), len(verdict), 0.056)
    assert (z <= -1.645).any(axis=1).mean() > 0.19


@pytest.mark.slow
def test_futility_saves_at_the_margin(book: Any) -> None:
    """Stopping below a 10 % chance of a verdict saves 40 % at the margin, at 1.5 points of power."""
    hopeless = studied(np.random.default_rng(9), 20_000, 10_000, 10, 0.05, MARGIN, 0.1)
    perfect = studied(np.random.default_rng(9), 20_000, 10_000, 10, 0.05, 0.0, 0.1)
    without = studied(np.random.default_rng(9), 20_000, 10_000, 10, 0.05, 0.0)
    lost = (without[0] == 1).mean() - (perfect[0] == 1).mean()
    book.note(f"mean pairs at the margin {hopeless[1].mean():,.0f}; power lost {lost:.2%}")
    assert hopeless[1].mean() <= 6000
    assert lost <= 0.015


def test_q8_anytime_error(book: Any) -> None:
    """Q8: looked at every 20 pairs up to 20,000, a wrong boundary is ever crossed in at most 5 %."""
    rng, draws, looks = np.random.default_rng(8), 1200, 1000
    crossed = np.zeros(2, dtype=int)
    needed = math.log(20)
    pairs = 20 * np.arange(1, looks + 1)
    for _ in range(draws // 100):
        flips = rng.multinomial(20, [0.03, 0.02, 0.95], size=(100, looks)).cumsum(axis=1)
        evidence = betting_evidence(flips[..., 0], flips[..., 1], pairs, MARGIN)
        crossed += [
            (evidence.log_e_accept.max(axis=1) >= needed).sum(),
            (evidence.log_e_regress.max(axis=1) >= needed).sum(),
        ]
    book.at_most("Q8 ever ACCEPT at the margin", crossed[0], draws, 0.05)
    book.at_most("Q8 ever REGRESSION at the margin", crossed[1], draws, 0.05)


def test_anytime_power_and_pairs(book: Any) -> None:
    """statistics.md 2.2: no drop, 20,000 pairs: ACCEPT 99.9 % with some 4,070 pairs on average."""
    rng, draws, looks = np.random.default_rng(10), 500, 400
    pairs = 50 * np.arange(1, looks + 1)
    flips = rng.multinomial(50, [0.025, 0.025, 0.95], size=(draws, looks)).cumsum(axis=1)
    crossed = betting_evidence(flips[..., 0], flips[..., 1], pairs, MARGIN).log_e_accept >= math.log(20)
    used = np.where(crossed.any(axis=1), pairs[crossed.argmax(axis=1)], pairs[-1])
    book.note(f"anytime: mean pairs {used.mean():,.0f}")
    book.at_least("anytime ACCEPT within 20,000", crossed.any(axis=1).sum(), draws, 0.98)
    assert used.mean() <= 4400


@pytest.mark.parametrize(
    "drop", [0.0, 0.03, *(pytest.param(d, marks=pytest.mark.slow) for d in (0.008, 0.012))]
)
def test_benchmark_verdict_from_a_part_of_it(book: Any, drop: float) -> None:
    """Drawn without replacement from 5,000 pairs, the verdict is that of all but at most 5 %, for less."""
    rng, size, draws = np.random.default_rng(11), 5000, 250
    flips = round(size * 0.05)
    worse = round((flips + size * drop) / 2)
    benchmark = np.zeros(size)
    benchmark[:worse], benchmark[worse:flips] = 1.0, -1.0
    truth = "accept" if benchmark.mean() < MARGIN else "regress"
    wrong, used = 0, []
    for _ in range(draws):
        order = rng.permutation(benchmark)
        process = BettingProcess(MARGIN, population=size)
        for start in range(0, size, 100):
            if process.update(order[start : start + 100]):
                break
        wrong += process.verdict != truth
        used.append(process.n / size)
    book.note(f"drop {drop}: {np.mean(used):.0%} of the benchmark, {wrong} of {draws} wrong")
    book.at_most("wrong verdicts", wrong, draws, 0.06)
    if drop in (0.0, 0.03):
        assert np.mean(used) <= {0.0: 0.45, 0.03: 0.2}[drop]
