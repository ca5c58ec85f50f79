"""What the tests and intervals of this package return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._validate import FloatArray


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided confidence interval for one quantity."""

    lower: float
    """Lower bound, in the unit of the quantity (a fraction for proportions and drops)."""

    upper: float
    """Upper bound, same unit."""

    level: float
    """Two-sided confidence level, in (0, 1); a level of 1 - 2*alpha matches one-sided tests at alpha."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Two-sided confidence intervals for an array of quantities."""

    lower: FloatArray
    """Lower bounds."""

    upper: FloatArray
    """Upper bounds, same shape."""

    level: float
    """Two-sided confidence level of each interval."""


@dataclass(frozen=True, slots=True)
class MarginTest:
    """Both one-sided tests of a drop against a margin."""

    p_accept: float
    """p-value of H0: drop >= margin; small means the candidate is shown to be no worse than allowed."""

    p_regress: float
    """p-value of H0: drop <= margin; small means the candidate is shown to be worse than allowed."""

    z: float
    """Standardised distance of the observed drop from the margin; negative speaks for the candidate."""


@dataclass(frozen=True, slots=True)
class MarginTests:
    """Both one-sided tests for an array of drops; all fields have the same shape."""

    p_accept: FloatArray
    """p-values of H0: drop >= margin."""

    p_regress: FloatArray
    """p-values of H0: drop <= margin."""

    z: FloatArray
    """Standardised distances; negative speaks for the candidate."""
