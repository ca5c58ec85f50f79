"""Plans beyond simple pairs: repeats, clusters, strata, noisy judges, and the chance to be resolved.

All formulas are normal ones, z_alpha + z_power standard errors apart. Drops and margins are fractions.
"""

from __future__ import annotations

import math

import numpy as np

from ._special import normal_cdf, normal_quantile
from ._validate import (
    FloatArray,
    NumericArray,
    alpha_fraction,
    count,
    margin_fraction,
    number,
    open_fraction,
    pair_counts,
    same_length,
    vector,
)
from .errors import StatsError
from .intervals import wilson_interval
from .planning import paired_variance, z_alpha_plus_power


def minimum_detectable_effect(
    n: int, flip_rate: float, margin: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return the smallest true drop that n pairs show to be beyond the margin with the wanted power.

    Solves (drop - margin)^2 * n = (z_alpha + z_power)^2 * (flip_rate - drop^2).

    Args:
        n: Pairs.
        flip_rate: Share of pairs on which the two models differ in being right, in (0, 1].
        margin: Drop beyond which REGRESSION is wanted, a fraction in [0, 1).
        alpha: One-sided error rate of REGRESSION.
        power: Wanted probability of REGRESSION.

    Returns:
        A fraction, or infinity where even a drop of the whole flip rate would not be shown.

    Raises:
        StatsError: If an argument is unusable.
    """
    pairs, allowed = count("n", n, minimum=1), margin_fraction("margin", margin)
    rate, ratio = _rate(flip_rate), max(z_alpha_plus_power(alpha, power), 0.0) ** 2
    ratio /= pairs
    inside = ratio * (rate - allowed**2 + ratio * rate)
    if inside < 0.0:
        return math.inf
    drop = (allowed + math.sqrt(inside)) / (1.0 + ratio)
    return drop if drop <= rate else math.inf


def items_needed(
    margin: float,
    between: float,
    within: float,
    repeats: int = 1,
    drop: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> float:
    """Return the items that give ACCEPT the wanted power: (between + within / repeats) * deff * (z / distance)^2.

    Args:
        margin: Largest drop that is allowed, a fraction in (0, 1).
        between: Variance of an item's true difference (VarianceComponents.between), not negative.
        within: Variance of the difference of one repeat (VarianceComponents.within), not negative.
        repeats: Repeats per item and side.
        drop: True drop to plan for, a fraction.
        alpha: One-sided error rate of ACCEPT.
        power: Wanted probability of ACCEPT.
        design_effect: Factor of the variance through clusters, at least 1 (see design_effect).

    Returns:
        A whole number as float, infinite if drop >= margin.

    Raises:
        StatsError: If an argument is unusable.
    """
    variance = _not_negative("between", between) + _not_negative("within", within) / count(
        "repeats", repeats, minimum=1
    )
    factor = number("design_effect", design_effect)
    if factor < 1.0:
        raise StatsError("design_effect", "at least 1", design_effect)
    distance = open_fraction("margin", margin) - number("drop", drop)
    return _units(variance * factor, distance, z_alpha_plus_power(alpha, power))


def repeats_needed(
    n: int,
    margin: float,
    between: float,
    within: float,
    drop: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Return the repeats per item that give ACCEPT the wanted power on a benchmark of n items.

    Args:
        n: Items of the benchmark.
        margin: Largest drop that is allowed, a fraction in (0, 1).
        between: Variance of an item's true difference, not negative.
        within: Variance of the difference of one repeat, not negative.
        drop: True drop to plan for, a fraction.
        alpha: One-sided error rate of ACCEPT.
        power: Wanted probability of ACCEPT.

    Returns:
        A whole number as float; infinite where no number of repeats will do, as between / n alone is
        too much (the benchmark is the limit: more tasks, a larger margin, or the fixed benchmark).

    Raises:
        StatsError: If an argument is unusable.
    """
    items = count("n", n, minimum=1)
    distance = open_fraction("margin", margin) - number("drop", drop)
    spread, noise = _not_negative("between", between), _not_negative("within", within)
    quantiles = max(z_alpha_plus_power(alpha, power), 0.0)
    if distance <= 0.0:
        return math.inf
    spare = items * (distance / quantiles) ** 2 - spread if quantiles > 0.0 else math.inf
    if spare <= 0.0:
        return math.inf
    return max(1.0, float(math.ceil(noise / spare * (1.0 - 1e-12))))


def optimal_repeats(between: float, within: float, cost_item: float, cost_repeat: float) -> float:
    """Return the repeats per item that give the least variance for the cost: sqrt(within / between * costs).

    Source: Cochran 1977, Sampling Techniques, section 10.6.

    Args:
        between: Variance of an item's true difference, positive.
        within: Variance of the difference of one repeat, not negative.
        cost_item: Cost of one more item besides its repeats, positive, in any unit.
        cost_repeat: Cost of one repeat of both sides, positive, in the same unit.

    Returns:
        A number of at least 1, not rounded.

    Raises:
        StatsError: If an argument is unusable.
    """
    costs = _positive("cost_item", cost_item) / _positive("cost_repeat", cost_repeat)
    return max(1.0, math.sqrt(_not_negative("within", within) / _positive("between", between) * costs))


def design_effect(cluster_sizes: NumericArray, correlation: float) -> float:
    """Return the factor by which clusters raise the variance: 1 + (sum of m^2 / sum of m - 1) * correlation.

    Source: Kish 1965, Survey Sampling, section 8.2; for unequal sizes Kish 1987.

    Args:
        cluster_sizes: Units of each cluster, shape (G,), positive.
        correlation: Correlation of two units of one cluster, in [0, 1].

    Raises:
        StatsError: If an argument is unusable.
    """
    sizes, shared = vector("cluster_sizes", cluster_sizes), number("correlation", correlation)
    if (sizes <= 0.0).any():
        raise StatsError("cluster_sizes", "positive", cluster_sizes)
    if not 0.0 <= shared <= 1.0:
        raise StatsError("correlation", "in [0, 1]", correlation)
    return 1.0 + (float(sizes @ sizes) / float(sizes.sum()) - 1.0) * shared


def neyman_allocation(shares: NumericArray, flip_rates: NumericArray, n: int) -> FloatArray:
    """Return how many pairs to draw from each stratum (of baseline confidence) for the least variance.

    In proportion to share * sqrt(flip_rate), at least one each, whole numbers that sum to n. The drop
    is then macro_drop(drops, ses, weights=shares), the drop and standard error of each stratum.
    Source: Neyman 1934, J. R. Stat. Soc. 97:558; Cochran 1977, section 5.5.

    Args:
        shares: Share of the benchmark in each stratum, shape (H,), positive, of any sum.
        flip_rates: Planned flip rate of each stratum, shape (H,), in [0, 1], not all 0.
        n: Pairs in all, at least one per stratum.

    Returns:
        Pairs per stratum, shape (H,).

    Raises:
        StatsError: If an argument is unusable, or the lengths differ.
    """
    weights, rates = _strata(shares, flip_rates)
    pairs = count("n", n, minimum=weights.size)
    demand = weights * np.sqrt(rates)
    spare = pairs - weights.size
    ideal = np.maximum(demand / demand.sum() * pairs - 1.0, 0.0)
    ideal *= spare / ideal.sum() if ideal.sum() > 0.0 else 0.0
    whole = np.floor(ideal)
    # the largest remainders get what rounding left over
    late = np.argsort(whole - ideal, kind="stable")[: int(spare - whole.sum())]
    whole[late] += 1.0
    return np.asarray(whole + 1.0)


def stratified_variance(shares: NumericArray, flip_rates: NumericArray, pairs: NumericArray) -> float:
    """Return the variance of the drop at zero drop: sum of share^2 * flip_rate / pairs, shares summing to 1.

    Args:
        shares: Share of the benchmark in each stratum, shape (H,), positive, of any sum.
        flip_rates: Planned flip rate of each stratum, shape (H,), in [0, 1], not all 0.
        pairs: Pairs drawn from each stratum, shape (H,), positive.

    Raises:
        StatsError: If an argument is unusable, or the lengths differ.
    """
    weights, rates = _strata(shares, flip_rates)
    drawn = vector("pairs", pairs)
    same_length("pairs", drawn, "shares", weights)
    if (drawn <= 0.0).any():
        raise StatsError("pairs", "positive", pairs)
    return float((weights**2 * rates / drawn).sum())


def judge_noise_inflation(flip_rate: float, error: float) -> float:
    """Return the factor on the pairs needed when a judge grades each answer wrongly with a chance `error`.

    Independent, symmetric errors add flips and shrink the drop by 1 - 2 * error:
    (flip_rate * (1 - 2 q) + q) / (flip_rate * (1 - 2 * error)^2) with q = 2 * error * (1 - error).
    Reusing the grade of identical outputs, or a majority of gradings, lowers `error`.

    Args:
        flip_rate: Share of pairs on which the two models truly differ in being right, in (0, 1].
        error: Chance that one grading is wrong, in [0, 0.5).

    Raises:
        StatsError: If an argument is unusable.
    """
    rate, wrong = _rate(flip_rate), number("error", error)
    if not 0.0 <= wrong < 0.5:
        raise StatsError("error", "in [0, 0.5)", error)
    disagree = 2.0 * wrong * (1.0 - wrong)
    return (rate * (1.0 - 2.0 * disagree) + disagree) / (rate * (1.0 - 2.0 * wrong) ** 2)


def judged_margin(
    margin: float,
    right_kept: int,
    right: int,
    wrong_caught: int,
    wrong: int,
    level: float = 0.9,
) -> float:
    """Return the margin on the judge's scale: margin * (sensitivity + specificity - 1), at its lower bound.

    A judge that errs shrinks every drop by that factor, so the margin must shrink with it. The lower
    bound joins the Wilson bounds of both rates (square-and-add). 0 where the judge may know nothing.
    Source: Rogan & Gladen 1978, Am. J. Epidemiol. 107:71; Newcombe 1998, Stat. Med. 17:873, method 10.

    Args:
        margin: Largest true drop that is allowed, a fraction in [0, 1).
        right_kept: Right answers of the gold set that the judge calls right.
        right: Right answers of the gold set, at least 1.
        wrong_caught: Wrong answers of the gold set that the judge calls wrong.
        wrong: Wrong answers of the gold set, at least 1.
        level: Two-sided confidence level whose lower bound is taken.

    Raises:
        StatsError: If an argument is unusable.
    """
    allowed, level = margin_fraction("margin", margin), open_fraction("level", level)
    below = 0.0
    rates = 0.0
    for name, hits, of_name, of in (
        ("right_kept", right_kept, "right", right),
        ("wrong_caught", wrong_caught, "wrong", wrong),
    ):
        all_of = count(of_name, of, minimum=1)
        if count(name, hits) > all_of:
            raise StatsError(name, f"at most {of_name} = {all_of}", hits)
        rate = hits / all_of
        rates += rate
        below += (rate - wilson_interval(hits, all_of, level).lower) ** 2
    return allowed * max(0.0, rates - 1.0 - math.sqrt(below))


def resolution_probability(b: int, c: int, n: int, n_max: int, margin: float, alpha: float = 0.05) -> float:
    """Return the chance that n_max pairs settle the matter either way, given the n so far.

    The final drop is predicted from the observed one under a flat prior, with the variance at hand:
    mean (b - c) / n and variance v * (1 / n - 1 / n_max). For a plan with looks use
    SequentialPlan.resolution_probability.
    Source: Spiegelhalter, Freedman & Blackburn 1986, Control. Clin. Trials 7:8.

    Args:
        b: Pairs with baseline right and candidate wrong.
        c: Pairs with baseline wrong and candidate right.
        n: Pairs so far.
        n_max: Pairs in all once the budget is used up, at least n.
        margin: Largest drop that is allowed, a fraction in [0, 1).
        alpha: One-sided error rate of each verdict, in (0, 0.5).

    Raises:
        StatsError: If an argument is unusable, or b + c > n.
    """
    flips_b, flips_c, pairs = pair_counts(b, c, n)
    largest, allowed = count("n_max", n_max, minimum=pairs), margin_fraction("margin", margin)
    variance, drop = paired_variance(flips_b, flips_c, pairs), (flips_b - flips_c) / pairs
    reach = -normal_quantile(alpha_fraction("alpha", alpha)) * math.sqrt(variance / largest)
    ahead = math.sqrt(variance * (1.0 / pairs - 1.0 / largest))
    below, above = allowed - reach - drop, drop - allowed - reach
    if ahead == 0.0:
        return float(below >= 0.0 or above >= 0.0)
    return float(normal_cdf(below / ahead) + normal_cdf(above / ahead))


def _strata(shares: object, flip_rates: object) -> tuple[FloatArray, FloatArray]:
    weights, rates = vector("shares", shares), vector("flip_rates", flip_rates)
    same_length("flip_rates", rates, "shares", weights)
    if (weights <= 0.0).any():
        raise StatsError("shares", "positive", shares)
    if (rates < 0.0).any() or (rates > 1.0).any() or not rates.any():
        raise StatsError("flip_rates", "in [0, 1] and not all 0", flip_rates)
    return weights / weights.sum(), rates


def _units(variance: float, distance: float, quantiles: float) -> float:
    if distance <= 0.0:
        return math.inf
    return max(1.0, float(math.ceil(variance * (max(quantiles, 0.0) / distance) ** 2 * (1.0 - 1e-12))))


def _rate(flip_rate: object) -> float:
    rate = number("flip_rate", flip_rate)
    if not 0.0 < rate <= 1.0:
        raise StatsError("flip_rate", "in (0, 1]", flip_rate)
    return rate


def _positive(argument: str, value: object) -> float:
    if (given := number(argument, value)) <= 0.0:
        raise StatsError(argument, "positive", value)
    return given


def _not_negative(argument: str, value: object) -> float:
    if (given := number(argument, value)) < 0.0:
        raise StatsError(argument, "not negative", value)
    return given
