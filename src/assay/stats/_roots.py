"""Bisection over arrays, for bounds that have no closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._validate import FloatArray

_STEPS = 46


def crossing(
    above: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray, steps: int = _STEPS
) -> FloatArray:
    """Return where a falling function passes zero, in each place of [low, high].

    Args:
        above: The function; it may be called with any values between `low` and `high`.
        low: Where it is not below zero.
        high: Where it is not above zero, or the end of the range.
        steps: Halvings of the range.
    """
    low, high = np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)
    for _ in range(steps):
        middle = (low + high) / 2.0
        beyond = above(middle) > 0.0
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    return np.asarray((low + high) / 2.0)
