"""Several tasks at once: multiplicity correction and the macro drop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._special import normal_cdf, normal_quantile
from ._validate import FloatArray, NumericArray, count, margin_fraction, open_fraction, vector
from .errors import StatsError
from .results import Interval, MarginTest


@dataclass(frozen=True, slots=True)
class MacroDrop:
    """Weighted mean of the drops of independent tasks."""

    mean: float
    """Weighted mean drop, a fraction."""

    se: float
    """Standard error of the mean."""

    weights: tuple[float, ...]
    """Weights in the order of the tasks; they sum to 1."""

    def test(self, margin: float) -> MarginTest:
        """Test the macro drop against a margin in [0, 1) by the normal distribution.

        Raises:
            StatsError: If the margin is unusable.
        """
        z = (self.mean - margin_fraction("margin", margin)) / self.se
        return MarginTest(float(normal_cdf(z)), float(normal_cdf(-z)), z)

    def interval(self, level: float) -> Interval:
        """Return the two-sided normal interval for the macro drop.

        Raises:
            StatsError: If the level is unusable.
        """
        level = open_fraction("level", level)
        reach = normal_quantile((1.0 + level) / 2.0) * self.se
        return Interval(self.mean - reach, self.mean + reach, level)


def macro_drop(drops: NumericArray, ses: NumericArray, weights: NumericArray | None = None) -> MacroDrop:
    """Combine the drops of independent tasks: mean = sum of w * drop, SE^2 = sum of w^2 * SE^2.

    The suite of tasks is fixed (fixed effect): nothing is shrunk and the spread between tasks adds
    nothing. A task of right/wrong answers enters with sqrt(paired_variance(b, c, n) / n), which is
    never 0.

    Args:
        drops: Drop per task, shape (T,).
        ses: Standard error per task, shape (T,), not negative and not all zero.
        weights: Weight per task, shape (T,), positive, of any sum; None weighs all alike.

    Raises:
        StatsError: If an argument is unusable or the lengths differ.
    """
    means, errors = vector("drops", drops), vector("ses", ses)
    shares = np.ones_like(means) if weights is None else vector("weights", weights)
    for name, array in (("ses", errors), ("weights", shares)):
        if array.size != means.size:
            raise StatsError(name, f"of length {means.size} as drops", f"length {array.size}")
    if (errors < 0.0).any() or not errors.any():
        raise StatsError("ses", "not negative and not all zero", ses)
    if (shares <= 0.0).any():
        raise StatsError("weights", "positive", weights)
    shares = shares / shares.sum()
    se = math.sqrt(float((shares * shares) @ (errors * errors)))
    return MacroDrop(float(shares @ means), se, tuple(shares.tolist()))


def holm(p: NumericArray) -> FloatArray:
    """Return p-values adjusted for their number; at most alpha there means rejected at alpha.

    Source: Holm 1979, Scand. J. Stat. 6:65.

    Args:
        p: p-values in [0, 1], shape (M,).

    Returns:
        Adjusted p-values in the order of `p`, shape (M,).

    Raises:
        StatsError: If `p` is no vector of probabilities.
    """
    return _holm(_probabilities("p", p))


def gatekeeping(families: Sequence[NumericArray]) -> tuple[FloatArray, ...]:
    """Return adjusted p-values of families that are tested in order, each only if all before are rejected.

    Within a family Holm; across families the largest adjusted p-value so far. Rejecting what is at
    most alpha errs anywhere with at most alpha. So the macro drop may come first, then the tasks.
    Source: Maurer, Hothorn & Lehmacher 1995; Dmitrienko & Tamhane 2007, Pharm. Stat. 6:171 (serial).

    Args:
        families: p-values of each family, in testing order.

    Returns:
        Adjusted p-values, one array per family.

    Raises:
        StatsError: If there is no family, or one is no vector of probabilities.
    """
    if isinstance(families, str | bytes) or not isinstance(families, Sequence) or len(families) == 0:
        raise StatsError("families", "at least one sequence of p-values", families)
    gate, adjusted = 0.0, []
    for family in families:
        inside = np.maximum(_holm(_probabilities("families", family)), gate)
        gate = float(inside.max())
        adjusted.append(inside)
    return tuple(adjusted)


def hierarchical_gatekeeping(p: NumericArray, parents: Sequence[int | None]) -> FloatArray:
    """Return adjusted p-values over a tree of slices: a slice is tested only if its parent is rejected.

    Each p-value is multiplied by leaves of the whole tree / leaves below it, then raised to its
    parent's. Rejecting what is at most alpha errs anywhere with at most alpha, whatever the slices'
    dependence: among the true hypotheses without a true ancestor no two share a leaf.
    Source: Meinshausen 2008, Biometrika 95:265.

    Args:
        p: p-values in [0, 1], shape (M,).
        parents: For each the position of its parent in `p`, or None for a root; parents come first.

    Returns:
        Adjusted p-values in the order of `p`, shape (M,).

    Raises:
        StatsError: If `p` is no vector of probabilities, or a parent does not come before its child.
    """
    values = _probabilities("p", p)
    if isinstance(parents, str | bytes) or not isinstance(parents, Sequence) or len(parents) != values.size:
        raise StatsError("parents", f"of length {values.size} as p", parents)
    above = [None if parent is None else count("parents", parent) for parent in parents]
    if any(parent is not None and parent >= at for at, parent in enumerate(above)):
        raise StatsError("parents", "the position of an earlier hypothesis, or None", list(parents))
    leaves = np.zeros(values.size)
    for at in range(values.size - 1, -1, -1):
        leaves[at] = max(leaves[at], 1.0)
        if (parent := above[at]) is not None:
            leaves[parent] += leaves[at]
    total = sum(leaves[at] for at, parent in enumerate(above) if parent is None)
    adjusted: FloatArray = np.minimum(values * total / leaves, 1.0)
    for at, parent in enumerate(above):
        if parent is not None:
            adjusted[at] = max(adjusted[at], adjusted[parent])
    return adjusted


def _probabilities(argument: str, p: object) -> FloatArray:
    values = vector(argument, p)
    if (values < 0.0).any() or (values > 1.0).any():
        raise StatsError(argument, "in [0, 1]", p)
    return values


def _holm(values: FloatArray) -> FloatArray:
    order = np.argsort(values, kind="stable")
    stepwise = values[order] * np.arange(values.size, 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepwise), 1.0)
    return adjusted
