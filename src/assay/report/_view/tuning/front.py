"""The picture of throughput against latency, with the front of what nothing else beats in both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.core.tuning_record import Cell, CellState, TuningRecord
from assay.report._view.axis import Axis, Dot, Tick
from assay.report._view.text import one_line
from assay.report._view.tuning.competing import at_target
from assay.report._view.tuning.plane import LARGEST, Whisker, polyline, value_axis
from assay.report.recommendation import figure, milliseconds


@dataclass(frozen=True)
class Front:
    """Throughput against latency."""

    dots: tuple[Dot, ...]
    whiskers: tuple[Whisker, ...]
    line: str
    """The front as a polyline in the box."""
    names: tuple[tuple[float, float, str], ...]
    limit: float | None
    """Percent from the left: the limit of TTFT."""
    limit_text: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    label: str
    text: str


def front(record: TuningRecord, names: Mapping[str, str]) -> Front | None:
    """Speed against latency; None if fewer than two cells have both."""
    known = [
        (c, tps, ttft)
        for c in at_target(record)
        if (tps := record.tps(c)) is not None and (ttft := record.ttft_p95_ms(c)) is not None and ttft > 0
    ]
    if len(known) < 2:
        return None
    limit = record.recommendation.inputs.gate_ttft_ms
    values = [ttft for _, _, ttft in known] + ([limit] if limit else [])
    x = _log_axis(min(values), max(values))
    y = value_axis(0.0, 1.1 * max(max(tps, c.tps_high or 0.0) for c, tps, _ in known), 5)
    able = [k for k in known if k[0].state is CellState.FEASIBLE]
    best = _undominated(able)
    chosen = {c.name for c, _, _ in best}
    dots = [
        Dot(
            x.at(math.log10(ttft)),
            y.from_top(tps),
            _style(c, on_front=c.name in chosen),
            f"{names[c.name]}: {figure(tps)} tok/s, TTFT p95 {milliseconds(ttft)}"
            + (f". {one_line(c.reason)}" if c.reason else ""),
        )
        for c, tps, ttft in sorted(known, key=lambda k: (k[0].name in chosen, k[0].kept))
    ]
    whiskers = [
        Whisker(y.from_top(c.tps_low), y.from_top(c.tps_high), x.at(math.log10(ttft)))
        for c, _, ttft in known
        if c.tps_low is not None and c.tps_high is not None
    ]
    points = [(x.at(math.log10(ttft)), y.from_top(tps)) for _, tps, ttft in best]
    labelled = _labels(best, points, names)
    return Front(
        dots=tuple(dots),
        whiskers=tuple(whiskers),
        line=polyline(points),
        names=labelled,
        limit=x.at(math.log10(limit)) if limit else None,
        limit_text=f"limit {milliseconds(limit)}" if limit else "",
        x_ticks=x.ticks,
        y_ticks=y.upright_ticks,
        label=f"{len(known)} cells by throughput and p95 TTFT; {len(best)} of them are on the front.",
        text=f"{len(best)} of {len(able)} feasible cells are on the front: none is both faster and quicker to begin.",
    )


def _style(cell: Cell, *, on_front: bool) -> str:
    if cell.kept:
        return "kept"
    if cell.state is not CellState.FEASIBLE:
        return "late"
    return "front" if on_front else "ok"


def _undominated(able: Sequence[tuple[Cell, float, float]]) -> list[tuple[Cell, float, float]]:
    """Cells that no other beats in both, by their latency."""
    found: list[tuple[Cell, float, float]] = []
    for item in sorted(able, key=lambda k: (k[2], -k[1])):
        if not found or item[1] > found[-1][1]:
            found.append(item)
    return found


def _labels(
    best: Sequence[tuple[Cell, float, float]], points: Sequence[tuple[float, float]], names: Mapping[str, str]
) -> tuple[tuple[float, float, str], ...]:
    """Names of the first, the last and the kept one, where they do not meet."""
    if not best:
        return ()
    wanted = {0, len(best) - 1, *(i for i, (c, _, _) in enumerate(best) if c.kept)}
    placed: list[tuple[float, float, str]] = []
    for i in sorted(wanted, key=lambda i: not best[i][0].kept):
        at, up = points[i]
        if all(abs(at - a) > 30 or abs(up - u) > 9 for a, u, _ in placed):
            placed.append((at, up, names[best[i][0].name]))
    return tuple(placed)


def _log_axis(low: float, high: float) -> Axis:
    """An axis of powers of ten, with ticks at 1, 2 and 5."""
    a, b = math.log10(max(low, 1 / LARGEST)), math.log10(min(max(high, 1 / LARGEST), LARGEST))
    room = max(0.06 * (b - a), 0.05)
    bare = Axis(a - room, b + room)
    ticks = []
    for power in range(math.floor(bare.low), math.ceil(bare.high) + 1):
        for step in (1, 2, 5):
            value = step * 10.0**power
            if bare.holds(math.log10(value)):
                ticks.append(Tick(bare.at(math.log10(value)), _tick(value)))
    return Axis(bare.low, bare.high, tuple(ticks))


def _tick(value: float) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"
