"""A measured rate with its exact bounds, which the calibration tests hold against their targets."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from assay.stats import Interval, clopper_pearson_interval

LEVEL = 0.998


@dataclass(frozen=True)
class Rate:
    """Share of draws in which something happened."""

    hits: int
    draws: int

    @property
    def share(self) -> float:
        """Observed share."""
        return self.hits / self.draws

    @property
    def bounds(self) -> Interval:
        """Exact bounds, one-sided error 0.001 each."""
        return clopper_pearson_interval(self.hits, self.draws, LEVEL)

    def __str__(self) -> str:
        return f"{self.share:.2%} ({self.bounds.lower:.2%} to {self.bounds.upper:.2%} of {self.draws:,})"


class Book:
    """Takes measurements down, prints them (`pytest -rP`), and asserts their targets."""

    def at_most(self, name: str, hits: int, draws: int, target: float) -> None:
        """The exact upper bound of the rate is at most the target."""
        rate = Rate(int(hits), draws)
        print(f"{name}: {rate}, target <= {target:.2%}")
        assert rate.bounds.upper <= target, f"{name}: {rate} is not below {target:.2%}"

    def at_least(self, name: str, hits: int, draws: int, target: float) -> None:
        """The exact lower bound of the rate is at least the target."""
        rate = Rate(int(hits), draws)
        print(f"{name}: {rate}, target >= {target:.2%}")
        assert rate.bounds.lower >= target, f"{name}: {rate} is not above {target:.2%}"

    def note(self, text: str) -> None:
        """A figure without a target of its own."""
        print(text)


@pytest.fixture
def book() -> Book:
    """A book for this test's measurements."""
    return Book()
