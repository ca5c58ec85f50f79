"""A linear axis: values to percent of the plot's width, and round ticks; and the points of a picture with two."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from assay.report._view.text import signed


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    """Percent of the width."""
    label: str


@dataclass(frozen=True)
class Dot:
    """A point of a picture with two axes."""

    x: float
    y: float
    """Percent from the left, and from the top."""
    style: str
    title: str


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, drawn over 0 to 100 percent."""

    low: float
    high: float
    ticks: tuple[Tick, ...] = ()

    def at(self, value: float) -> float:
        """Percent of the width; what lies outside is drawn at the edge."""
        share = (value - self.low) / (self.high - self.low)
        return round(100.0 * min(1.0, max(0.0, share)), 3)

    def from_top(self, value: float) -> float:
        """Percent of the height, where the axis stands upright."""
        return round(100.0 - self.at(value), 3)

    @property
    def upright_ticks(self) -> tuple[Tick, ...]:
        """The ticks of an axis that stands upright: percent from the top."""
        return tuple(Tick(round(100.0 - t.at, 3), t.label) for t in self.ticks)

    def holds(self, value: float) -> bool:
        """Whether the value lies on the axis."""
        return self.low <= value <= self.high


def axis_over(values: Iterable[float], *, wanted: int = 6, padding: float = 0.06) -> Axis:
    """An axis that shows all finite values, with about `wanted` round ticks."""
    known = [v for v in values if math.isfinite(v)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    room = padding * (high - low)
    return with_ticks(low - room, high + room, wanted)


def with_ticks(low: float, high: float, wanted: int) -> Axis:
    """The axis from `low` to `high` with its ticks."""
    bare = Axis(low, high)
    step = _step((high - low) / max(1, wanted))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step), math.floor(high / step)
    ticks = tuple(Tick(bare.at(k * step), signed(k * step, digits)) for k in range(first, last + 1))
    return Axis(low, high, ticks)


def _step(raw: float) -> float:
    """The smallest of 1, 2, 5, 10 times a power of ten that is not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
