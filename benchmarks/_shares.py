"""Shares of a Monte-Carlo and their rows: a target is met only if the share's exact bound meets it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from _figures import Row
from numpy.typing import NDArray

from assay import stats

BOUND = 0.99
"""One-sided confidence of the bound beside each share."""


class Share(NamedTuple):
    """How often something happened."""

    hits: int
    draws: int

    @classmethod
    def of(cls, happened: NDArray[np.bool_]) -> Share:
        """Count it."""
        return cls(int(np.count_nonzero(happened)), happened.size)

    @property
    def percent(self) -> float:
        """Observed share in percent."""
        return 100.0 * self.hits / self.draws

    @property
    def bounds(self) -> tuple[float, float]:
        """Exact bounds in percent (Clopper-Pearson), one-sided 99 % each."""
        found = stats.clopper_pearson_interval(self.hits, self.draws, 2 * BOUND - 1)
        return 100.0 * found.lower, 100.0 * found.upper


def at_most(name: str, share: Share, limit: float, beside: object = "") -> Row:
    """A share whose upper bound must not exceed a limit in percent; `beside` tells what other rules do."""
    upper = share.bounds[1]
    return Row(name, share.percent, "%", f"<= {limit:g}", upper <= limit, _told(upper, beside))


def at_least(name: str, share: Share, limit: float, beside: object = "") -> Row:
    """A share whose lower bound must reach a limit in percent; `beside` tells what other rules do."""
    lower = share.bounds[0]
    return Row(name, share.percent, "%", f">= {limit:g}", lower >= limit, _told(lower, beside))


def worst(shares: Sequence[Share]) -> Share:
    """The share with the highest upper bound."""
    return max(shares, key=lambda s: s.bounds[1])


def seeded(parts: Sequence[Callable[[np.random.Generator], list[Row]]], first: int) -> list[Row]:
    """The rows of all parts, each with a seed of its own: the first one's number, and so on."""
    rows: list[Row] = []
    for number, part in enumerate(parts, first):
        rows += part(np.random.default_rng([2026, number]))
    return rows


def _told(bound: float, beside: object) -> str:
    return f"bound {bound:.2f}; {beside}".rstrip("; ")
