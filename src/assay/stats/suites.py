"""Suites of a few tasks, each run k times per arm: exact tests, generalisation over tasks, pass^k.

Drop = baseline rate minus candidate rate. The mean drop over these very tasks is tested by
stratified_noninferiority; a sequential version feeds whole rounds (each task once per arm) to
BettingProcess.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from ._special import log_choose
from ._validate import (
    FloatArray,
    NumericArray,
    alternative_name,
    count,
    count_array,
    count_vector,
    same_length,
    signed_margin,
    vector,
)
from .errors import StatsError
from .multiple import holm
from .planning import z_alpha_plus_power
from .rank_tests import sign_flip
from .two_sample import boschloo_test, task_counts


def stratified_exact_test(
    baseline_successes: NumericArray,
    candidate_successes: NumericArray,
    runs_per_task: float | NumericArray,
    alternative: Literal["two-sided", "worse", "better"] = "two-sided",
    *,
    mid_p: bool = False,
) -> float:
    """Return the exact p-value of "no task is changed", permuting runs between the arms within tasks.

    Given the successes of both arms together, those of the candidate are hypergeometric in each task;
    their sum over the tasks is the statistic. The claim is about these tasks only, not about tasks
    like these (see task_sign_flip_test). Two-sided is twice the smaller tail.
    Source: Mantel & Haenszel 1959, J. Natl. Cancer Inst. 22:719, in its exact form (Gart 1970,
    Biometrika 57:471).

    Args:
        baseline_successes: Successes of the baseline per task, shape (T,).
        candidate_successes: Successes of the candidate per task, shape (T,).
        runs_per_task: Runs per arm of each task, a number or shape (T,).
        alternative: "worse" or "better" of the candidate, or "two-sided".
        mid_p: Count only half the probability of the observed sum.

    Raises:
        StatsError: If an argument is unusable, lengths differ, or successes exceed runs.
    """
    alternative_name(alternative)
    x1, x2, n = task_counts(baseline_successes, candidate_successes, runs_per_task)
    mass, offset = np.ones(1), 0
    for both, runs in zip((x1 + x2).astype(int), n.astype(int), strict=True):
        part, least = _hypergeometric(int(both), int(runs))
        mass, offset = np.convolve(mass, part), offset + least
    at = int(x2.sum()) - offset
    observed = float(mass[at])
    share = 0.5 * observed if mid_p else 0.0
    worse, better = float(mass[: at + 1].sum()) - share, float(mass[at:].sum()) - share
    if alternative == "two-sided":
        return min(1.0, 2.0 * min(worse, better))
    return min(1.0, worse if alternative == "worse" else better)


def task_sign_flip_test(
    baseline_rates: NumericArray,
    candidate_rates: NumericArray,
    alternative: Literal["two-sided", "worse", "better"] = "two-sided",
    seed: int = 0,
) -> float:
    """Return the p-value of "no drop on tasks like these": signs of the drops per task are flipped.

    The task is the unit: with T tasks that all move one way the one-sided p-value is 2^-T, so four can
    never reach 0.05 whatever the number of runs.
    Source: Fisher 1935, The Design of Experiments, section 21.

    Args:
        baseline_rates: Mean success of the baseline per task, shape (T,).
        candidate_rates: Mean success of the candidate per task, shape (T,).
        alternative: "worse" or "better" of the candidate, or "two-sided".
        seed: Seed of the draws that replace the enumeration beyond 20 moved tasks.

    Raises:
        StatsError: If an argument is unusable, or the lengths differ.
    """
    return sign_flip(task_drops(baseline_rates, candidate_rates), alternative, seed=seed)


def task_regressions(
    baseline_successes: NumericArray, candidate_successes: NumericArray, runs_per_task: float | NumericArray
) -> FloatArray:
    """Return Holm-adjusted p-values, one per task, of "the candidate is no worse here" (Boschloo).

    Args:
        baseline_successes: Successes of the baseline per task, shape (T,).
        candidate_successes: Successes of the candidate per task, shape (T,).
        runs_per_task: Runs per arm of each task, a number or shape (T,).

    Returns:
        Adjusted p-values, shape (T,); at most alpha means a regression of that task at alpha.

    Raises:
        StatsError: If an argument is unusable, lengths differ, or successes exceed runs.
    """
    x1, x2, n = task_counts(baseline_successes, candidate_successes, runs_per_task)
    rows = zip(x1.astype(int), x2.astype(int), n.astype(int), strict=True)
    return holm([boschloo_test(int(a), int(runs), int(b), int(runs), "worse") for a, b, runs in rows])


def pass_hat_k(successes: NumericArray, runs: float | NumericArray, k: int) -> float:
    """Return pass^k: the chance that k fresh runs of a task all succeed, averaged over the tasks.

    Unbiased: the mean over tasks of C(x, k) / C(n, k). Source: Yao et al. 2024, arXiv 2406.12045.

    Args:
        successes: Successes per task, shape (T,).
        runs: Runs of each task, a number or shape (T,), at least k.
        k: Runs that must all succeed, at least 1.

    Raises:
        StatsError: If an argument is unusable, or a task has fewer than k runs.
    """
    x, n = count_vector("successes", successes), count_array("runs", runs, minimum=1)
    if n.ndim:
        same_length("runs", n, "successes", x)
    if (x > n).any():
        raise StatsError("successes", "at most the runs", successes)
    wanted = count("k", k, minimum=1)
    if (n < wanted).any():
        raise StatsError("k", f"at most the runs per task ({int(n.min())})", k)
    steps = np.arange(wanted)[:, np.newaxis]
    shares = np.prod(np.maximum(x - steps, 0.0) / (n - steps), axis=0)
    return float(shares.mean())


def runs_needed(
    rates: NumericArray, margin: float, drop: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return the runs per arm and task that give stratified_noninferiority the wanted power.

    k = ((z_alpha + z_power) / (margin - drop))^2 * sum of (p1 * (1 - p1) + p2 * (1 - p2)) / T^2, with
    p2 = p1 - drop in each task. Normal approximation; below 10 runs simulate.

    Args:
        rates: Success rate of the baseline per task, shape (T,), in [0, 1].
        margin: Largest mean drop that is allowed, a fraction in (-1, 1).
        drop: True drop to plan for, a fraction.
        alpha: One-sided error rate of ACCEPT.
        power: Wanted probability of ACCEPT.

    Returns:
        A whole number as float, at least 3; infinite if drop >= margin.

    Raises:
        StatsError: If an argument is unusable.
    """
    first, shift = vector("rates", rates), signed_margin("drop", drop)
    if (first < 0.0).any() or (first > 1.0).any():
        raise StatsError("rates", "in [0, 1]", rates)
    distance = signed_margin("margin", margin) - shift
    quantiles = z_alpha_plus_power(alpha, power)
    if distance <= 0.0:
        return math.inf
    second = np.clip(first - shift, 0.0, 1.0)
    variance = float((first * (1.0 - first) + second * (1.0 - second)).sum()) / first.size**2
    return max(3.0, float(math.ceil(variance * (max(quantiles, 0.0) / distance) ** 2 * (1.0 - 1e-12))))


def task_drops(baseline_rates: NumericArray, candidate_rates: NumericArray) -> FloatArray:
    """Return the drop per task, baseline minus candidate.

    Args:
        baseline_rates: Mean success of the baseline per task, shape (T,).
        candidate_rates: Mean success of the candidate per task, shape (T,).

    Raises:
        StatsError: If an argument is unusable, or the lengths differ.
    """
    first, second = vector("baseline_rates", baseline_rates), vector("candidate_rates", candidate_rates)
    if first.size != second.size:
        raise StatsError("candidate_rates", f"of length {first.size} as baseline_rates", second.size)
    return first - second


def _hypergeometric(both: int, runs: int) -> tuple[FloatArray, int]:
    """Probabilities of the candidate's successes given those of both arms, and the least of them."""
    least, most = max(0, both - runs), min(runs, both)
    x = np.arange(least, most + 1, dtype=np.float64)
    logs = log_choose(runs, x) + log_choose(runs, both - x)
    mass = np.exp(logs - logs.max())
    return mass / mass.sum(), least
