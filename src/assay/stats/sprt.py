"""Wald's sequential probability ratio test for two simple hypotheses about a rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ._validate import alpha_fraction, count, number, open_fraction
from .errors import StatsError


@dataclass(frozen=True, slots=True)
class SPRT:
    """Sequential probability ratio test of a rate, H0: `p0` against H1: `p1`.

    Both must be simple and fixed beforehand; for a margin with an unknown flip rate use BettingProcess.
    Source: Wald 1947, Sequential Analysis, chapters 3 and 5.
    """

    p0: float
    """Rate under H0, in (0, 1)."""

    p1: float
    """Rate under H1, in (0, 1), different from `p0`."""

    alpha: float = 0.05
    """P(H1 is chosen) at most about this under H0, in (0, 0.5)."""

    beta: float = 0.2
    """P(H0 is chosen) at most about this under H1, in (0, 0.5)."""

    def __post_init__(self) -> None:
        open_fraction("p0", self.p0)
        if open_fraction("p1", self.p1) == self.p0:
            raise StatsError("p1", "different from p0", self.p1)
        alpha_fraction("alpha", self.alpha)
        alpha_fraction("beta", self.beta)

    @classmethod
    def paired(cls, margin: float, flip_rate: float, alpha: float = 0.05, beta: float = 0.2) -> SPRT:
        """Return the test of "drop = margin" against "drop = 0" on the flips of a planned flip rate.

        Given a flip, it is one against the candidate with the rate (1 + drop / flip_rate) / 2; so feed
        x = b and n = b + c. Choosing H1 is ACCEPT.

        Raises:
            StatsError: If an argument is unusable, or the margin is not below the flip rate.
        """
        allowed, flips = open_fraction("margin", margin), number("flip_rate", flip_rate)
        if not allowed < flips <= 1.0:
            raise StatsError("flip_rate", f"above the margin {allowed} and at most 1", flip_rate)
        return cls((1.0 + allowed / flips) / 2.0, 0.5, alpha, beta)

    @property
    def bounds(self) -> tuple[float, float]:
        """Log likelihood ratios at which H0, and H1, is chosen: ln(beta / (1 - alpha)), ln((1 - beta) / alpha)."""
        return math.log(self.beta / (1.0 - self.alpha)), math.log((1.0 - self.beta) / self.alpha)

    def log_ratio(self, x: int, n: int) -> float:
        """Return the log likelihood ratio of H1 to H0 after x successes in n trials.

        Raises:
            StatsError: If a count is unusable, or x > n.
        """
        successes, trials = count("x", x), count("n", n)
        if successes > trials:
            raise StatsError("x", f"at most n = {trials}", x)
        up, down = self._steps()
        return successes * up + (trials - successes) * down

    def decide(self, x: int, n: int) -> Literal["h0", "h1"] | None:
        """Return the hypothesis that is chosen after x successes in n trials, None to go on.

        Raises:
            StatsError: If a count is unusable, or x > n.
        """
        low, high = self.bounds
        ratio = self.log_ratio(x, n)
        if ratio <= low:
            return "h0"
        return "h1" if ratio >= high else None

    def chance_of_h1(self, rate: float) -> float:
        """Return about how likely H1 is chosen at a true rate (Wald's operating characteristic).

        Raises:
            StatsError: If the rate is not in (0, 1).
        """
        low, high = self.bounds
        exponent = self._exponent(open_fraction("rate", rate))
        if abs(exponent) < 1e-9:
            return -low / (high - low)
        return math.expm1(exponent * low) / (math.expm1(exponent * low) - math.expm1(exponent * high))

    def expected_n(self, rate: float) -> float:
        """Return about how many trials are expected at a true rate (Wald's approximation).

        Raises:
            StatsError: If the rate is not in (0, 1).
        """
        low, high = self.bounds
        up, down = self._steps()
        drift = rate * up + (1.0 - rate) * down
        chance = self.chance_of_h1(rate)
        if abs(drift) < 1e-9:
            return -low * high / (rate * up**2 + (1.0 - rate) * down**2)
        return (chance * high + (1.0 - chance) * low) / drift

    def _steps(self) -> tuple[float, float]:
        return math.log(self.p1 / self.p0), math.log((1.0 - self.p1) / (1.0 - self.p0))

    def _exponent(self, rate: float) -> float:
        """The h other than 0 with E[exp(h * step)] = 1; 1 at p0, -1 at p1, 0 where the drift is 0."""
        up, down = self._steps()
        drift = rate * up + (1.0 - rate) * down
        if abs(drift) < 1e-12:
            return 0.0
        # the root lies against the drift, and the function is convex with zeros at 0 and h
        sign = -1.0 if drift > 0.0 else 1.0

        def excess(h: float) -> float:
            return rate * math.exp(sign * h * up) + (1.0 - rate) * math.exp(sign * h * down) - 1.0

        high = 1.0
        while excess(high) < 0.0:
            high *= 2.0
        low = 0.0
        for _ in range(200):
            middle = (low + high) / 2.0
            low, high = (middle, high) if excess(middle) < 0.0 else (low, middle)
        return sign * high
