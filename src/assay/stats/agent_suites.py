"""Suites of agent runs with any number of runs per task and arm, and thousands of studies at once.

Gain = candidate rate minus baseline rate: here positive is better. `fixed` functions speak of these very tasks and
permute runs within tasks; `population` ones speak of tasks like these and flip the signs of whole tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._roots import crossing
from ._special import log_choose, normal_quantile
from ._validate import (
    FloatArray,
    NumericArray,
    alpha_fraction,
    count,
    count_array,
    count_vector,
    open_fraction,
    same_length,
    seeded,
    vector,
)
from .errors import StatsError
from .results import Interval
from .two_sample import stratified_score

SUBSETS_UP_TO = 14
"""Most tasks whose subsets `subset_mean_bounds` enumerates."""
_SUBSET_DRAWS = 19_999


@dataclass(frozen=True, slots=True)
class GainTest:
    """Both one-sided tests of "nothing is changed"."""

    p_better: float
    """p-value against "the candidate is better"."""
    p_worse: float
    """p-value against "the candidate is worse"."""


@dataclass(frozen=True, slots=True)
class GainTests:
    """The same for many studies, one element each."""

    p_better: FloatArray
    p_worse: FloatArray


@dataclass(frozen=True, slots=True)
class ScorePermutation:
    """Runs permuted between the arms within tasks: tests, and what they say about a constant gain."""

    p_better: float
    p_worse: float
    gain: float
    """Mean over tasks of the difference of means."""
    interval: Interval
    """Gains that neither one-sided test rejects at (1 - level) / 2."""


def fixed_gain_test(
    baseline_successes: NumericArray,
    baseline_runs: NumericArray,
    candidate_successes: NumericArray,
    candidate_runs: NumericArray,
) -> GainTest:
    """Test "no task is changed" exactly, given the successes of both arms of each task together.

    As stratified_exact_test, for arms with unequal numbers of runs. Source: Gart 1970, Biometrika 57:471.

    Args:
        baseline_successes: Per task, shape (T,).
        baseline_runs: Per task, at least 1.
        candidate_successes: Per task.
        candidate_runs: Per task, at least 1.

    Raises:
        StatsError: If an argument is unusable, lengths differ, or successes exceed runs.
    """
    x1, n1, x2, n2 = _strata(baseline_successes, baseline_runs, candidate_successes, candidate_runs)
    mass, offset = np.ones(1), 0
    for a, m, b, n in zip(*(v.astype(int) for v in (x1, n1, x2, n2)), strict=True):
        part, least = _hypergeometric(int(a + b), int(m), int(n))
        mass, offset = np.convolve(mass, part), offset + least
    at = int(x2.sum()) - offset
    return GainTest(min(1.0, float(mass[at:].sum())), min(1.0, float(mass[: at + 1].sum())))


def fixed_gain_tests(
    baseline_successes: NumericArray, candidate_successes: NumericArray, runs_per_task: int
) -> GainTests:
    """Test many studies at once; each row gives what fixed_gain_test gives, within 1e-12.

    The distribution of a sum is the product of the characteristic functions of its parts.

    Args:
        baseline_successes: Shape (studies, tasks).
        candidate_successes: The same shape.
        runs_per_task: Runs of each task and arm, at least 1.

    Raises:
        StatsError: If an argument is unusable, shapes differ, or successes exceed runs.
    """
    x1, x2, runs = _studies(baseline_successes, candidate_successes, runs_per_task)
    size = x1.shape[1] * runs + 1
    table = np.zeros((2 * runs + 1, size))
    for both in range(2 * runs + 1):
        part, least = _hypergeometric(both, runs, runs)
        table[both, least : least + part.size] = part
    return _tails(np.fft.rfft(table, axis=1), (x1 + x2).astype(int), x2.sum(axis=1).astype(int), size)


def population_gain_tests(
    baseline_successes: NumericArray, candidate_successes: NumericArray, runs_per_task: int
) -> GainTests:
    """Flip the signs of the tasks' gains, exactly, for many studies with equal runs per task and arm.

    Each row gives what task_sign_flip_test gives where that enumerates. Source: Fisher 1935, section 21.

    Args:
        baseline_successes: Shape (studies, tasks).
        candidate_successes: The same shape.
        runs_per_task: Runs of each task and arm, at least 1.

    Raises:
        StatsError: If an argument is unusable, shapes differ, or successes exceed runs.
    """
    x1, x2, runs = _studies(baseline_successes, candidate_successes, runs_per_task)
    moved = (x2 - x1).astype(int)
    size = 2 * x1.shape[1] * runs + 1
    # a gain of d is +|d| or -|d|; shifted by |d| it is 0 or 2|d|
    table = np.zeros((runs + 1, size))
    for d in range(runs + 1):
        table[d, 0] += 0.5
        table[d, 2 * d] += 0.5
    at = (moved + np.abs(moved)).sum(axis=1)
    return _tails(np.fft.rfft(table, axis=1), np.abs(moved), at, size)


def fixed_gain_interval(
    baseline_successes: NumericArray,
    baseline_runs: NumericArray,
    candidate_successes: NumericArray,
    candidate_runs: NumericArray,
    level: float,
) -> Interval:
    """Return the score interval of the mean gain over these tasks, each weighing the same.

    As in stratified_noninferiority, for arms with unequal numbers of runs; it holds its level from 3 runs per arm
    and task on. Source: Miettinen & Nurminen 1985, Stat. Med. 4:213, section 6; with equal weights.

    Args:
        baseline_successes: Per task, shape (T,).
        baseline_runs: Per task, at least 1.
        candidate_successes: Per task.
        candidate_runs: Per task, at least 1.
        level: Two-sided confidence level.

    Raises:
        StatsError: If an argument is unusable, lengths differ, or successes exceed runs.
    """
    x1, n1, x2, n2 = _strata(baseline_successes, baseline_runs, candidate_successes, candidate_runs)
    z = normal_quantile((1.0 + open_fraction("level", level)) / 2.0)
    # the upper bound of a drop from candidate to baseline is the upper bound of the gain
    return Interval(-_upper_drop(x1, n1, x2, n2, z), _upper_drop(x2, n2, x1, n1, z), level)


def subset_mean_bounds(gains: NumericArray, level: float, seed: int = 0) -> Interval:
    """Return the gains that the sign-flip test over tasks does not reject: quantiles of the means of subsets.

    A sign vector is at least as extreme at a gain of c exactly if the mean of the gains that it flips is at most c, so
    the test inverts in closed form. Up to 14 tasks all subsets count; beyond, drawn ones.
    Source: Hartigan 1969, J. Am. Stat. Assoc. 64:1303 (typical values).

    Args:
        gains: Candidate minus baseline per task, shape (T,).
        level: Two-sided confidence level; each end has the error (1 - level) / 2.
        seed: Seed of the drawn subsets.

    Returns:
        The interval; infinite ends where there are too few tasks for the level.

    Raises:
        StatsError: If an argument is unusable.
    """
    values, tail = vector("gains", gains), (1.0 - open_fraction("level", level)) / 2.0
    generator = seeded(seed)
    if values.size <= SUBSETS_UP_TO:
        codes = np.arange(1, 1 << values.size)
        picked = (codes[:, np.newaxis] >> np.arange(values.size)) & 1
    else:
        picked = generator.integers(0, 2, size=(_SUBSET_DRAWS, values.size), dtype=np.int8)
        picked = picked[picked.any(axis=1)]
    means = np.sort((picked @ values) / picked.sum(axis=1))
    lower, upper = _typical(means, tail)
    return Interval(lower, upper, level)


def population_gain_interval(gains: NumericArray, level: float, seed: int = 0) -> Interval:
    """Return the interval of the mean gain over tasks like these: that of the sign flips, never without doubt.

    The sign flips measure by how much tasks differ, so tasks that all gain alike would leave no doubt. A share of
    `unseen_share` of all tasks may do otherwise, lose or gain all, and was just not drawn. For gains that are symmetric
    about their mean the interval holds its level, and where all gain alike but for tasks of at most that share.
    Very skewed gains do not: with 40 % of 8 tasks at a loss of 1, its lower end is too high in .11 where .05 is meant.
    Source: subset_mean_bounds; Clopper & Pearson 1934, Biometrika 26:404, with no exception seen.

    Args:
        gains: Candidate minus baseline per task, shape (T,), in [-1, 1].
        level: Two-sided confidence level; each end has the error (1 - level) / 2.
        seed: Seed of the drawn subsets.

    Returns:
        The interval within [-1, 1].

    Raises:
        StatsError: If an argument is unusable.
    """
    values, flips = vector("gains", gains), subset_mean_bounds(gains, level, seed)
    if (np.abs(values) > 1.0).any():
        raise StatsError("gains", "in [-1, 1]", gains)
    unseen, mean = unseen_share(values.size, (1.0 - level) / 2.0), math.fsum(values) / values.size
    lower = min(flips.lower, mean - unseen * (1.0 + mean))
    upper = max(flips.upper, mean + unseen * (1.0 - mean))
    return Interval(max(-1.0, lower), min(1.0, upper), level)


def unseen_share(drawn: int, alpha: float) -> float:
    """Return the largest share of a population of which nothing is drawn with a chance of alpha: 1 - alpha^(1/drawn).

    Args:
        drawn: Draws, at least 1.
        alpha: The chance.

    Raises:
        StatsError: If an argument is unusable.
    """
    return float(1.0 - open_fraction("alpha", alpha) ** (1.0 / count("drawn", drawn, minimum=1)))


def score_permutation(
    baseline: Sequence[NumericArray],
    candidate: Sequence[NumericArray],
    level: float,
    draws: int = 9_999,
    seed: int = 0,
) -> ScorePermutation:
    """Permute the scores of runs between the arms within tasks; for scores that are not only 0 and 1.

    The statistic is the mean over tasks of the difference of means. The interval inverts the test for a constant gain:
    a drawn permutation is as extreme at a gain of c exactly if c is beyond (D - D*) / (1 - E*), where E* is the share of
    the gain that the permutation keeps. Source: Phipson & Smyth 2010 for p = (1 + extreme) / (1 + draws).

    Args:
        baseline: Scores of each task's runs.
        candidate: The same for the candidate.
        level: Two-sided confidence level of the interval.
        draws: Permutations, at least 99.
        seed: Their seed.

    Raises:
        StatsError: If an argument is unusable or a task has no run on a side.
    """
    if len(baseline) != len(candidate) or not baseline:
        raise StatsError(
            "candidate", f"as many tasks as baseline ({len(baseline)}), at least 1", len(candidate)
        )
    tail = (1.0 - open_fraction("level", level)) / 2.0
    repetitions, generator = count("draws", draws, minimum=99), seeded(seed)
    drawn, kept, observed = np.zeros(repetitions), np.zeros(repetitions), 0.0
    for first, second in zip(baseline, candidate, strict=True):
        # sorted: the order of runs must not matter, not even by the draws
        a, b = np.sort(vector("baseline", first)), np.sort(vector("candidate", second))
        observed += float(b.mean() - a.mean())
        pooled = np.concatenate([a, b])
        mine = np.concatenate([np.zeros(a.size), np.ones(b.size)])
        order = generator.permuted(np.tile(np.arange(pooled.size), (repetitions, 1)), axis=1)
        drawn += _differences(pooled[order], a.size)
        kept += _differences(mine[order], a.size)
    tasks, tie = len(baseline), 1e-12 * len(baseline)
    loss = 1.0 - kept / tasks
    same = loss < 1e-12  # the identity is as extreme at any gain, on both sides
    ratio = np.sort(((observed - drawn) / tasks)[~same] / loss[~same])
    more = int(same.sum())
    lower, upper = _typical(ratio, tail, always=1 + more)
    return ScorePermutation(
        p_better=(1.0 + float((drawn >= observed - tie).sum())) / (1.0 + repetitions),
        p_worse=(1.0 + float((drawn <= observed + tie).sum())) / (1.0 + repetitions),
        gain=observed / tasks,
        interval=Interval(lower, upper, level),
    )


def spend(looks: int, alpha: float, power: float = 1.5) -> tuple[float, ...]:
    """Share an error rate among equally spaced looks, more of it to later ones; the parts sum to alpha.

    By time t are spent alpha * t^power. Source: Kim & DeMets 1987, Biometrika 74:149. As levels of exact tests the
    parts hold the rate by Bonferroni's inequality, whatever the looks have in common.

    Args:
        looks: Number of looks, at least 1.
        alpha: Error rate of all of them.
        power: Exponent; the larger, the less is spent early.

    Raises:
        StatsError: If an argument is unusable.
    """
    steps, rate = count("looks", looks, minimum=1), alpha_fraction("alpha", alpha)
    spent = [rate * (step / steps) ** power for step in range(steps + 1)]
    return tuple(spent[step + 1] - spent[step] for step in range(steps))


def unchanged_gain_chance(rates: NumericArray, gain: int = 1) -> float:
    """Return the chance that one more pass over the same tasks passes at least `gain` more of them.

    Args:
        rates: True pass rate per task, shape (T,), in [0, 1].
        gain: Tasks more, at least 1.

    Raises:
        StatsError: If an argument is unusable.
    """
    values, more = vector("rates", rates), count("gain", gain, minimum=1)
    if (values < 0.0).any() or (values > 1.0).any():
        raise StatsError("rates", "in [0, 1]", rates)
    mass = np.ones(1)
    for rate in values.tolist():
        flip = rate * (1.0 - rate)
        mass = np.convolve(mass, [flip, 1.0 - 2.0 * flip, flip])
    return float(mass[values.size + more :].sum())


def equal_rates_test(successes: NumericArray, runs: NumericArray) -> float:
    """Return the exact p-value of "all groups have one rate", given their successes together.

    Source: Freeman & Halton 1951, Biometrika 38:141; tables no likelier than the observed one count.

    Args:
        successes: Per group, at least two groups.
        runs: Per group, at least 1.

    Raises:
        StatsError: If an argument is unusable, lengths differ, or there are too many tables.
    """
    x, n = count_vector("successes", successes), count_vector("runs", runs, minimum=1)
    same_length("runs", n, "successes", x)
    if (x > n).any() or x.size < 2:
        raise StatsError("successes", "at most the runs, of two groups or more", successes)
    if np.prod(n + 1.0) > 2e6:
        raise StatsError("runs", "of at most 2,000,000 tables together", runs)
    total, logs, sums = int(x.sum()), np.zeros(1), np.zeros(1, dtype=int)
    for size in n.astype(int).tolist():
        mine = np.arange(size + 1)
        logs = np.add.outer(logs, log_choose(size, mine.astype(float))).ravel()
        sums = np.add.outer(sums, mine).ravel()
    observed = float(sum(log_choose(int(m), np.array([a]))[0] for a, m in zip(x, n, strict=True)))
    tables = logs[sums == total]
    weights = np.exp(tables - tables.max())
    return min(1.0, float(weights[tables <= observed + 1e-9].sum() / weights.sum()))


def _differences(scores: FloatArray, baseline_runs: int) -> FloatArray:
    """Mean of the later columns minus mean of the first ones."""
    return np.asarray(scores[:, baseline_runs:].mean(axis=1) - scores[:, :baseline_runs].mean(axis=1))


def percentile_bootstrap(d: NumericArray, level: float, draws: int = 2000, seed: int = 0) -> Interval:
    """Return the percentile interval of a mean. Kept to show what others report, not to decide by.

    With no difference at all its lower end lies above 0 with probability .105 at 5 units, .073 at 10 and .059 at 20,
    where .05 is meant: use bootstrap_t. Source: Efron & Tibshirani 1993, section 13.3.

    Args:
        d: Differences, shape (N,).
        level: Two-sided confidence level.
        draws: Bootstrap samples, at least 99.
        seed: Their seed.

    Raises:
        StatsError: If an argument is unusable.
    """
    values, tail = vector("d", d), (1.0 - open_fraction("level", level)) / 2.0
    repetitions, generator = count("draws", draws, minimum=99), seeded(seed)
    means = np.sort(values[generator.integers(values.size, size=(repetitions, values.size))].mean(axis=1))
    last = repetitions - 1
    low, high = min(last, int(tail * repetitions)), min(last, int((1.0 - tail) * repetitions))
    return Interval(float(means[low]), float(means[high]), level)


def _typical(means: FloatArray, tail: float, always: int = 1) -> tuple[float, float]:
    """Bounds from sorted typical values: the identity (`always`) counts as extreme whatever the gain."""
    within = math.floor(tail * (means.size + always) * (1.0 + 1e-12)) - always
    if within < 0 or within >= means.size:
        return -math.inf, math.inf
    return float(means[within]), float(means[means.size - 1 - within])


def _tails(table: np.ndarray, parts: np.ndarray, at: np.ndarray, size: int) -> GainTests:
    product = np.ones((parts.shape[0], table.shape[1]), dtype=complex)
    for task in range(parts.shape[1]):
        product *= table[parts[:, task]]
    mass = np.clip(np.fft.irfft(product, n=size, axis=1), 0.0, None)
    below = np.cumsum(mass, axis=1)
    rows = np.arange(parts.shape[0])
    own, upto = mass[rows, at], below[rows, at]
    return GainTests(np.clip(below[:, -1] - upto + own, 0.0, 1.0), np.clip(upto, 0.0, 1.0))


def _hypergeometric(both: int, baseline_runs: int, candidate_runs: int) -> tuple[FloatArray, int]:
    """Probabilities of the candidate's successes given those of both arms, and the least of them."""
    least, most = max(0, both - baseline_runs), min(candidate_runs, both)
    x = np.arange(least, most + 1, dtype=np.float64)
    logs = log_choose(candidate_runs, x) + log_choose(baseline_runs, both - x)
    mass = np.exp(logs - logs.max())
    return mass / mass.sum(), least


def _upper_drop(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, z: float) -> float:
    drop = np.asarray((x1 / n1 - x2 / n2).mean())
    if float(drop) >= 1.0:
        return 1.0
    return float(crossing(lambda at: stratified_score(x1, n1, x2, n2, at) + z, drop, np.ones_like(drop)))


def _strata(x1: object, n1: object, x2: object, n2: object) -> tuple[FloatArray, ...]:
    first, second = count_vector("baseline_successes", x1), count_vector("candidate_successes", x2)
    runs_1, runs_2 = count_vector("baseline_runs", n1, 1), count_vector("candidate_runs", n2, 1)
    for name, values in (
        ("candidate_successes", second),
        ("baseline_runs", runs_1),
        ("candidate_runs", runs_2),
    ):
        same_length(name, values, "baseline_successes", first)
    for name, values, runs in (
        ("baseline_successes", first, runs_1),
        ("candidate_successes", second, runs_2),
    ):
        if (values > runs).any():
            raise StatsError(name, "at most the runs", values.tolist())
    return first, runs_1, second, runs_2


def _studies(x1: object, x2: object, runs: object) -> tuple[FloatArray, FloatArray, int]:
    first, second = count_array("baseline_successes", x1), count_array("candidate_successes", x2)
    most = count("runs_per_task", runs, minimum=1)
    if first.ndim != 2:
        raise StatsError("baseline_successes", "of shape (studies, tasks)", first.shape)
    same_length("candidate_successes", second, "baseline_successes", first)
    for name, values in (("baseline_successes", first), ("candidate_successes", second)):
        if (values > most).any():
            raise StatsError(name, "at most the runs per task", most)
    return first, second, most
