"""Which range and direction a task's scores have: declared, from the metric table, or inferred and marked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from assay.core.results import TaskResult
from assay.core.vocabulary import Direction
from assay.gates._compare.policy import ComparePolicy


class Scale(NamedTuple):
    """Range and direction of one task on both sides."""

    low: float
    high: float
    direction: Direction
    source: Literal["policy", "declared", "table", "inferred"]

    @property
    def width(self) -> float:
        """From the worst to the best score."""
        return self.high - self.low

    def holds(self, score: float) -> bool:
        """Whether the score can be one of this task."""
        return self.low <= score <= self.high

    def goodness(self, score: float) -> float:
        """The score as 0..1, 1 being best."""
        share = (score - self.low) / self.width
        return share if self.direction is Direction.HIGHER else 1.0 - share


class Problem(NamedTuple):
    """Why no scale can be used."""

    text: str


def resolve(
    task: str, policy: ComparePolicy, sides: Sequence[TaskResult], values: Iterable[float]
) -> Scale | Problem:
    """The scale of a task.

    The policy's word wins; else what both sides declare, which must agree; else the source's inference:
    0..1 if all scores of both sides lie there, 0..100 otherwise.

    Args:
        task: name.
        policy: may declare range, scale and direction.
        sides: the task on both sides; empty for bare score files.
        values: every finite score of both sides.
    """
    direction = policy.directions.get(task) or _agreed([s.direction for s in sides], Direction.HIGHER)
    if direction is None:
        return Problem("one side says that higher is better, the other that lower is")
    if task in policy.ranges:
        return Scale(*policy.ranges[task], direction, "policy")
    if task in policy.scales:
        return Scale(0.0, policy.scales[task], direction, "policy")
    known = [s for s in sides if s.scale_source != "inferred"]
    return _declared(known, direction) if known else _inferred(values, direction)


def _declared(known: Sequence[TaskResult], direction: Direction) -> Scale | Problem:
    if len({(s.low, s.high) for s in known}) > 1:
        ranges = " and ".join(f"{s.low:g}..{s.high:g}" for s in known)
        return Problem(f"the two sides declare different ranges: {ranges}")
    first = known[0]
    if not first.high > first.low:
        return Problem(f"the metric {first.metric!r} has no finite range: declare one in `ranges`")
    source: Any = first.scale_source
    return Scale(first.low, first.high, direction, source)


def _inferred(values: Iterable[float], direction: Direction) -> Scale:
    unit = all(0.0 <= v <= 1.0 for v in values)
    return Scale(0.0, 1.0 if unit else 100.0, direction, "inferred")


def _agreed(words: Sequence[Direction], default: Direction) -> Direction | None:
    if not words:
        return default
    return words[0] if len(set(words)) == 1 else None


def finite(value: Any) -> bool:
    """A finite real number; a boolean is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
