"""What the pictures of a tuning study are drawn with: whiskers, lines, and an axis that bears any value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.report._view.axis import Axis, with_ticks

BOX = 1000.0
LARGEST = 1e12
"""What is larger is drawn at the edge."""


@dataclass(frozen=True)
class Whisker:
    """An interval: its two ends and where it lies on the other axis, in percent."""

    low: float
    high: float
    at: float


def value_axis(low: float, high: float, wanted: int) -> Axis:
    """An axis with some room, whatever the values: none, all zero, all equal, or beyond all reason."""
    high = min(high, LARGEST)
    low = min(low, high)
    least = max(1e-6, 1e-6 * abs(high))
    return with_ticks(low, high if high - low > least else low + max(1.0, least), wanted)


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """Points in percent as a polyline in the box."""
    return " ".join(f"{x * BOX / 100:.1f},{y * BOX / 100:.1f}" for x, y in points)
