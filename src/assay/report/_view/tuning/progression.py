"""The picture of a search for settings: readings in their order, with the best so far."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.core.tuning_record import CellState, Reading, TuningRecord
from assay.report._view.axis import Axis, Dot, Tick
from assay.report._view.text import one_line
from assay.report._view.tuning.competing import rivals
from assay.report._view.tuning.plane import polyline, value_axis
from assay.report.recommendation import figure, milliseconds


@dataclass(frozen=True)
class Progression:
    """Readings in their order, with the best so far."""

    dots: tuple[Dot, ...]
    best: str
    """A polyline in the box."""
    records: tuple[Dot, ...]
    """Where a new best came."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    phases: tuple[tuple[float, str], ...]
    """Where a phase begins."""
    label: str
    text: str


def progression(record: TuningRecord, names: Mapping[str, str]) -> Progression | None:
    """The order of the search; None without a reading."""
    read = [r for r in record.readings if r.tps is not None]
    if len(read) < 2:
        return None
    states = {c.name: c.state for c in record.cells}
    able = {c.name for c in rivals(record)}
    x = value_axis(0.0, float(max(r.number for r in record.readings) + 1), 8)
    y = value_axis(0.0, 1.08 * max(r.tps or 0.0 for r in read), 5)
    dots = [_dot(r, x, y, states, names, rival=r.cell in able) for r in record.readings]
    best = 0.0
    records: list[Dot] = []
    points: list[tuple[float, float]] = []
    medians: dict[str, list[float]] = {}
    for r in sorted(read, key=lambda r: r.number):
        if r.valid and r.cell in able and r.tps is not None:
            medians.setdefault(r.cell, []).append(r.tps)
            now = max(statistics.median(v) for v in medians.values())
            here = statistics.median(medians[r.cell])
            if now > best and here == now and len(medians[r.cell]) == 1:
                records.append(
                    Dot(x.at(r.number), y.from_top(r.tps), "record", f"new best: {names.get(r.cell, r.cell)}")
                )
            if points:
                points.append((x.at(r.number), y.from_top(best)))
            best = now
            points.append((x.at(r.number), y.from_top(best)))
    if points:
        points.append((100.0, points[-1][1]))
    last = names.get(_leader(medians), "") if medians else ""
    return Progression(
        dots=tuple(dots),
        best=polyline(points),
        records=tuple(records),
        x_ticks=x.ticks,
        y_ticks=y.upright_ticks,
        phases=_phases(record.readings, x),
        label=f"Throughput of {len(read)} readings in their order; the best median so far ends at {figure(best)} tok/s.",
        text=f"The best median so far ends at {figure(best)} tok/s: {last}." if last else "",
    )


def _dot(
    r: Reading, x: Axis, y: Axis, states: Mapping[str, CellState], names: Mapping[str, str], *, rival: bool
) -> Dot:
    name = names.get(r.cell, one_line(r.cell, 60))
    if r.tps is None or not r.valid:
        return Dot(
            x.at(r.number),
            100.0 if r.tps is None else y.from_top(r.tps),
            "void",
            f"reading {r.number}, {name}: {one_line(r.reason or 'does not count')}",
        )
    style = "late" if states.get(r.cell) is not CellState.FEASIBLE else "ok" if rival else "aside"
    ttft = "" if r.ttft_p95_ms is None else f", TTFT p95 {milliseconds(r.ttft_p95_ms)}"
    return Dot(
        x.at(r.number), y.from_top(r.tps), style, f"reading {r.number}, {name}: {figure(r.tps)} tok/s{ttft}"
    )


def _phases(readings: Sequence[Reading], x: Axis) -> tuple[tuple[float, str], ...]:
    words = {"fit": "fit", "search": "search", "confirm": "confirmation", "sentinel": "sentinel"}
    found, before = [], ""
    for r in readings:
        if r.role not in (before, "sentinel"):
            found.append((x.at(r.number - 0.5), words[r.role]))
            before = r.role
    return tuple(found)


def _leader(medians: Mapping[str, Sequence[float]]) -> str:
    return max(medians, key=lambda name: statistics.median(medians[name]))
