"""The picture of a confirmation: the difference of the means, look by look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.ledger.evolve_records import Look
from assay.report._view.axis import Axis, Tick, axis_over
from assay.report._view.evolve.gain import Gain, change, gain_of, points_label
from assay.report._view.marks import Mark, status_mark
from assay.report._view.text import one_line


@dataclass(frozen=True)
class LookRow:
    """The difference at one look."""

    name: str
    mark: Mark
    at: float
    low: float
    high: float
    beyond: tuple[bool, bool]
    """Whether the interval is open to the left and right."""
    value: str
    interval: str
    detail: str
    label: str


@dataclass(frozen=True)
class Looks:
    """The difference of the means, look by look."""

    rows: tuple[LookRow, ...]
    zero: float
    bar: float | None
    """Percent from the left; None where any gain is enough."""
    bar_text: str
    ticks: tuple[Tick, ...]


def looks(given: Sequence[Look]) -> Looks | None:
    """All looks with an estimate; None if there is none."""
    held = [(look, found) for look in given if (found := gain_of(look.verdict)) is not None]
    if not held:
        return None
    bar = held[-1][1].bar
    values = [0.0, bar, *(v for _, g in held for v in (g.value, g.low, g.high) if v is not None)]
    axis = axis_over([max(-1.0, min(1.0, v)) for v in values], padding=0.1)
    ticks = tuple(Tick(t.at, points_label(t.label)) for t in axis.ticks)
    rows = [_look_row(look, found, axis, i) for i, (look, found) in enumerate(held, 1)]
    return Looks(
        tuple(rows),
        axis.at(0.0),
        axis.at(bar) if bar > 0 else None,
        f"needed: {change(bar, 1)} points",
        ticks,
    )


def _look_row(look: Look, found: Gain, axis: Axis, number: int) -> LookRow:
    mark = status_mark(look.verdict.status)
    if look.verdict.open:
        mark = Mark("GOES ON", "open", "question")
    return LookRow(
        name=f"look {number}",
        mark=mark,
        at=axis.at(found.value),
        low=axis.at(axis.low if found.low is None else found.low),
        high=axis.at(axis.high if found.high is None else found.high),
        beyond=(found.low is None, found.high is None),
        value=f"{change(found.value, 1)} points",
        interval=found.told,
        detail=one_line(look.verdict.detail),
        label=f"look {number}: {change(found.value, 1)} points, {found.told}; {mark.word}",
    )
