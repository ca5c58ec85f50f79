"""The picture of cells that were read more than once, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.core.tuning_record import Cell, CellState, Reading, TuningRecord
from assay.report._view.axis import Axis, Dot, Tick
from assay.report._view.tuning.plane import Whisker, value_axis
from assay.report.recommendation import figure

STRIPS_LIMIT = 24


@dataclass(frozen=True)
class Strip:
    """The readings of one cell on a line."""

    name: str
    tone: str
    dots: tuple[Dot, ...]
    whisker: Whisker | None
    center: float | None
    value: str
    detail: str
    kept: bool


@dataclass(frozen=True)
class Strips:
    """Cells that were read more than once, the fastest first."""

    rows: tuple[Strip, ...]
    ticks: tuple[Tick, ...]
    more: str


def strips(record: TuningRecord, names: Mapping[str, str]) -> Strips | None:
    """The cells with more than one reading; None if there is none."""
    held = [(c, [r for r in record.of(c) if r.tps is not None]) for c in record.cells]
    held = [(c, read) for c, read in held if len(read) > 1]
    if not held:
        return None
    held.sort(key=lambda item: -(record.tps(item[0]) or 0.0))
    shown = held[:STRIPS_LIMIT]
    values = [r.tps or 0.0 for _, read in shown for r in read]
    values += [v for c, _ in shown for v in (c.tps_low, c.tps_high) if v is not None]
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.5
    axis = value_axis(max(0.0, low - room), high + room, 6)
    rows = [_strip(record, c, read, axis, names) for c, read in shown]
    more = f"and {len(held) - STRIPS_LIMIT} more" if len(held) > STRIPS_LIMIT else ""
    return Strips(tuple(rows), axis.ticks, more)


def _strip(
    record: TuningRecord, cell: Cell, read: Sequence[Reading], axis: Axis, names: Mapping[str, str]
) -> Strip:
    tps = record.tps(cell)
    whisker = None
    value = "" if tps is None else f"{figure(tps)} tok/s"
    if cell.tps_low is not None and cell.tps_high is not None:
        whisker = Whisker(axis.at(cell.tps_low), axis.at(cell.tps_high), 50.0)
        value += f" ({figure(cell.tps_low)} to {figure(cell.tps_high)})"
    launches = len({r.launch for r in read if r.launch is not None})
    return Strip(
        name=names[cell.name] + (" (default)" if cell.default else ""),
        tone="good" if cell.state is CellState.FEASIBLE else "bad",
        dots=tuple(
            Dot(
                axis.at(r.tps or 0.0),
                50.0,
                r.role,
                f"reading {r.number}, {r.role}: {figure(r.tps or 0.0)} tok/s",
            )
            for r in read
        ),
        whisker=whisker,
        center=None if tps is None else axis.at(tps),
        value=value,
        detail=f"{len(read)} readings" + (f", {launches} launches" if launches else ""),
        kept=cell.kept,
    )
