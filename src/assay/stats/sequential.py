"""Group-sequential plans: alpha spending, what a plan does at a given drift, predictive futility.

Looks happen at information fractions t_1 < ... < t_K of the planned maximum. At look k the score
statistic z_k times sqrt(t_k) moves like Brownian motion with the drift `theta`, the expected z at full
information. All probabilities come from one recursion over the looks (Armitage, McPherson & Rowe 1969),
integrated by Gauss-Legendre quadrature. Positive z speaks against the candidate, as in tango_test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np

from ._special import normal_cdf, normal_quantile
from ._validate import FloatArray, NumericArray, alpha_fraction, count, number, vector
from .errors import StatsError

Spending: TypeAlias = Literal["pocock", "obrien_fleming"] | tuple[Literal["hwang_shih_decani"], float]
"""Name of a spending function; that of Hwang, Shih & DeCani comes with its gamma."""

_FAR = 8.5
_PANEL_NODES, _LEAST_PANELS, _MOST_PANELS = 16, 3, 256
_PANEL_WIDTH = 6.0
_NO_MASS = 1e-18
_HALVINGS = 48
_LARGEST_Z = 38.0


@dataclass(frozen=True, slots=True)
class Operation:
    """What a sequential plan does at one true drift."""

    accept: float
    """Probability of ACCEPT."""

    regress: float
    """Probability of REGRESSION."""

    mean_fraction: float
    """Expected share of the planned maximum that is used."""


@dataclass(frozen=True, slots=True)
class SequentialPlan:
    """Looks with a boundary on both sides: ACCEPT at z <= -accept_z, REGRESSION at z >= regress_z."""

    fractions: tuple[float, ...]
    """Information fraction of each look; the last is 1 unless the plan stops short."""

    accept_z: tuple[float, ...]
    """Boundary of ACCEPT at each look, positive; z at or below its negative stops."""

    regress_z: tuple[float, ...]
    """Boundary of REGRESSION at each look; z at or above it stops."""

    def decide(self, look: int, z: float) -> Literal["accept", "regress"] | None:
        """Return the verdict at a look, counted from 1; None to go on (after the last: INCONCLUSIVE).

        Raises:
            StatsError: If the look is none of the plan's, or z is no number.
        """
        at, score = self._at(look), number("z", z)
        if score <= -self.accept_z[at]:
            return "accept"
        return "regress" if score >= self.regress_z[at] else None

    def resolution_probability(self, look: int, z: float) -> float:
        """Return the chance that a later look decides either way, given the score at this one.

        The drift is not assumed but integrated over its posterior under a flat prior. Below 0.10 it is
        futile to go on; stopping then is not binding and costs no error rate.
        Source: Spiegelhalter, Freedman & Blackburn 1986, Control. Clin. Trials 7:8.

        Args:
            look: The look just taken, counted from 1.
            z: Its score statistic.

        Raises:
            StatsError: If the look is none of the plan's, or z is no number.
        """
        at, score = self._at(look), number("z", z)
        if at + 1 == len(self.fractions):
            return 0.0
        # the estimate of the drift, z / sqrt(t), is a martingale with variance 1/s - 1/t from s to t
        now, later = self.fractions[at], np.array(self.fractions[at + 1 :])
        steps = -np.diff(1.0 / np.concatenate([[now], later]))
        low = -np.array(self.accept_z[at + 1 :]) / np.sqrt(later)
        high = np.array(self.regress_z[at + 1 :]) / np.sqrt(later)
        below, above = _exits(score / math.sqrt(now), steps, np.zeros_like(steps), low, high)
        return float(min(1.0, below.sum() + above.sum()))

    def operation(self, drift: float) -> Operation:
        """Return the probabilities of both verdicts and the expected use of the budget.

        Args:
            drift: Expected z at full information: (drop - margin) / sqrt(variance per pair / n_max).

        Raises:
            StatsError: If the drift is no number.
        """
        theta, times = number("drift", drift), np.array(self.fractions)
        steps = np.diff(np.concatenate([[0.0], times]))
        roots = np.sqrt(times)
        low, high = -np.array(self.accept_z) * roots, np.array(self.regress_z) * roots
        below, above = _exits(0.0, steps, theta * steps, low, high)
        stopped = below + above
        share = float(stopped @ times) + (1.0 - float(stopped.sum())) * float(times[-1])
        return Operation(float(below.sum()), float(above.sum()), share)

    def _at(self, look: object) -> int:
        at = count("look", look, minimum=1)
        if at > len(self.fractions):
            raise StatsError("look", f"at most {len(self.fractions)}, the looks of the plan", look)
        return at - 1


def spending_boundaries(fractions: NumericArray, alpha: float, kind: Spending) -> FloatArray:
    """Return the one-sided boundary z of each look that spends alpha over the looks.

    Spent by t: "pocock" alpha * ln(1 + (e - 1) t); "obrien_fleming" 2 - 2 Phi(z_{alpha/2} / sqrt(t));
    ("hwang_shih_decani", gamma) alpha * (1 - e^(-gamma t)) / (1 - e^(-gamma)), linear at gamma 0.
    Source: Lan & DeMets 1983, Biometrika 70:659; Hwang, Shih & DeCani 1990, Stat. Med. 9:1439.

    Args:
        fractions: Information fraction of each look, shape (K,), rising in (0, 1].
        alpha: One-sided error rate spent at fraction 1, in (0, 0.5).
        kind: The spending function.

    Returns:
        Boundaries, shape (K,); infinite where what may be spent is below what a float holds.

    Raises:
        StatsError: If an argument is unusable.
    """
    times = _rising(fractions)
    spent = _spent(times, alpha_fraction("alpha", alpha), kind)
    bounds = np.empty_like(times)
    density = _Density.at(0.0)
    steps, spends = np.diff(times, prepend=0.0).tolist(), np.diff(spent, prepend=0.0).tolist()
    for k, root in enumerate(np.sqrt(times).tolist()):
        bounds[k] = density.level_above(steps[k], spends[k], root)
        if k + 1 < times.size:
            density = density.after(steps[k], 0.0, -math.inf, bounds[k] * root, steps[k + 1])
    return bounds


def sequential_plan(
    fractions: NumericArray,
    alpha_accept: float = 0.05,
    alpha_regress: float = 0.05,
    kind: Spending = "pocock",
) -> SequentialPlan:
    """Return a plan with a boundary of its own error rate on each side.

    Each side is computed as if the other were not there, so each keeps its rate on its own, also where
    a futility stop is ignored. Should looks fall elsewhere than planned, make the plan anew with the
    fractions that were: the boundaries of past looks stay the same.

    Args:
        fractions: Information fraction of each look, shape (K,), rising in (0, 1].
        alpha_accept: P(ACCEPT) at most, at a drop of the margin.
        alpha_regress: P(REGRESSION) at most, at a drop of the margin.
        kind: The spending function of both sides.

    Raises:
        StatsError: If an argument is unusable.
    """
    times = _rising(fractions)
    accept = spending_boundaries(times, alpha_fraction("alpha_accept", alpha_accept), kind)
    regress = spending_boundaries(times, alpha_fraction("alpha_regress", alpha_regress), kind)
    return SequentialPlan(tuple(times.tolist()), tuple(accept.tolist()), tuple(regress.tolist()))


def look_schedule(n_max: int, looks: int = 10, first: int = 200) -> tuple[int, ...]:
    """Return the numbers of pairs at which to look: equal steps up to n_max, none before `first`.

    Args:
        n_max: Planned largest number of pairs.
        looks: Steps, at least 1; fewer looks come back where steps fall below `first`.
        first: Fewest pairs before a first look.

    Raises:
        StatsError: If an argument is unusable.
    """
    largest, steps = count("n_max", n_max, minimum=1), count("looks", looks, minimum=1)
    least = min(largest, count("first", first, minimum=1))
    planned = {max(least, math.ceil(largest * step / steps)) for step in range(1, steps + 1)}
    return tuple(sorted(planned))


@dataclass(frozen=True, slots=True)
class _Density:
    """Density of the walk on the part of the line where it has not stopped, as weighted points."""

    points: FloatArray
    mass: FloatArray
    """Density times quadrature weight."""

    @classmethod
    def at(cls, start: float) -> _Density:
        """Return the walk before its first step."""
        return cls(np.array([start]), np.ones(1))

    def after(self, step: float, shift: float, low: float, high: float, following: float) -> _Density:
        """Return the density one step of variance `step` and mean `shift` on, between `low` and `high`.

        The points lie close enough for the next step's variance `following` too.
        """
        deviation = math.sqrt(step)
        # what lies beyond _FAR standard deviations of any point with mass has none
        reached = self.points[self.mass > _NO_MASS]
        if reached.size == 0:
            return _Density(np.array([0.0]), np.zeros(1))
        left = max(low, float(reached[0]) + shift - _FAR * deviation)
        right = min(high, float(reached[-1]) + shift + _FAR * deviation)
        if not left < right:
            return _Density(np.array([0.0]), np.zeros(1))
        finest = _PANEL_WIDTH * math.sqrt(min(step, following))
        panels = min(max(_LEAST_PANELS, math.ceil((right - left) / finest)), _MOST_PANELS)
        nodes, weights = _rule(panels)
        points = left + (right - left) * nodes
        scaled = (points[:, np.newaxis] - self.points - shift) / deviation
        density = np.exp(-0.5 * scaled * scaled) @ self.mass / (deviation * math.sqrt(2.0 * math.pi))
        return _Density(points, density * weights * (right - left))

    def above(self, step: float, shift: float, level: float) -> float:
        """Probability of being above a level one step on."""
        return float(self.mass @ normal_cdf((self.points + shift - level) / math.sqrt(step)))

    def below(self, step: float, shift: float, level: float) -> float:
        """Probability of being below a level one step on."""
        return float(self.mass @ normal_cdf((level - self.points - shift) / math.sqrt(step)))

    def level_above(self, step: float, probability: float, scale: float) -> float:
        """Return the z, in units of `scale`, above which the next step has the given probability."""
        if probability < 1e-300:
            return math.inf
        low, high = -_LARGEST_Z, _LARGEST_Z
        for _ in range(_HALVINGS):
            middle = (low + high) / 2.0
            more = self.above(step, 0.0, middle * scale) > probability
            low, high = (middle, high) if more else (low, middle)
        return (low + high) / 2.0


def _exits(
    start: float, steps: FloatArray, shifts: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Probabilities that a Gaussian walk first leaves (low_k, high_k) below, and above, at each step."""
    below, above = np.zeros_like(steps), np.zeros_like(steps)
    density = _Density.at(start)
    variances, means = steps.tolist(), shifts.tolist()
    for k, (floor, ceiling) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        below[k] = density.below(variances[k], means[k], floor)
        above[k] = density.above(variances[k], means[k], ceiling)
        if k + 1 < len(variances):
            density = density.after(variances[k], means[k], floor, ceiling, variances[k + 1])
    return below, above


@lru_cache(maxsize=256)
def _rule(panels: int) -> tuple[FloatArray, FloatArray]:
    """Points and weights on [0, 1]: Gauss-Legendre of 16 points in each of equal panels."""
    points, weights = np.polynomial.legendre.leggauss(_PANEL_NODES)
    within = (points + 1.0) / 2.0
    nodes = (np.arange(panels)[:, np.newaxis] + within) / panels
    return nodes.ravel(), np.tile(weights / 2.0 / panels, panels)


def _rising(fractions: object) -> FloatArray:
    times = vector("fractions", fractions)
    if (times <= 0.0).any() or (times > 1.0).any() or (np.diff(times) <= 0.0).any():
        raise StatsError("fractions", "rising in (0, 1]", fractions)
    return times


def _spent(times: FloatArray, alpha: float, kind: Spending) -> FloatArray:
    if kind == "pocock":
        return alpha * np.log1p((math.e - 1.0) * times)
    if kind == "obrien_fleming":
        return 2.0 * normal_cdf(normal_quantile(alpha / 2.0) / np.sqrt(times))
    if isinstance(kind, tuple) and len(kind) == 2 and kind[0] == "hwang_shih_decani":
        gamma = number("kind", kind[1])
        if abs(gamma) > 40.0:
            raise StatsError("kind", "of a gamma in [-40, 40]", gamma)
        if abs(gamma) < 1e-9:
            return alpha * times
        return alpha * np.expm1(-gamma * times) / math.expm1(-gamma)
    raise StatsError("kind", "'pocock', 'obrien_fleming' or ('hwang_shih_decani', gamma)", kind)
