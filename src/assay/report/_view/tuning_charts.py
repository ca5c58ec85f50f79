"""Pictures of a tuning study: progression, speed against latency, replicates with intervals, and the noise floor."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.core.tuning_record import Cell, CellState, Reading, TuningRecord
from assay.report._view.axis import Axis, Tick, with_ticks
from assay.report._view.text import one_line, percent
from assay.report.recommendation import figure, milliseconds

STRIPS_LIMIT = 24
BOX = 1000.0
LARGEST = 1e12
"""What is larger is drawn at the edge."""


@dataclass(frozen=True)
class Dot:
    """A reading or a cell in a picture."""

    x: float
    y: float
    """Percent from the left, and from the top."""
    style: str
    title: str


@dataclass(frozen=True)
class Whisker:
    """An interval: its two ends and where it lies on the other axis, in percent."""

    low: float
    high: float
    at: float


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


@dataclass(frozen=True)
class Noise:
    """The default through time: what moves although nothing was changed."""

    dots: tuple[Dot, ...]
    band: tuple[float, float] | None
    """One standard deviation around the mean: percent from the top, upper and lower edge."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    name: str
    text: str
    label: str


def progression(record: TuningRecord, names: Mapping[str, str]) -> Progression | None:
    """The order of the search; None without a reading."""
    read = [r for r in record.readings if r.tps is not None]
    if len(read) < 2:
        return None
    states = {c.name: c.state for c in record.cells}
    rivals = {c.name for c in _rivals(record)}
    x = _axis(0.0, float(max(r.number for r in record.readings) + 1), 8)
    y = _axis(0.0, 1.08 * max(r.tps or 0.0 for r in read), 5)
    dots = [_dot(r, x, y, states, names, rival=r.cell in rivals) for r in record.readings]
    best = 0.0
    records: list[Dot] = []
    points: list[tuple[float, float]] = []
    medians: dict[str, list[float]] = {}
    for r in sorted(read, key=lambda r: r.number):
        if r.valid and r.cell in rivals and r.tps is not None:
            medians.setdefault(r.cell, []).append(r.tps)
            now = max(statistics.median(v) for v in medians.values())
            here = statistics.median(medians[r.cell])
            if now > best and here == now and len(medians[r.cell]) == 1:
                records.append(
                    Dot(x.at(r.number), _up(y, r.tps), "record", f"new best: {names.get(r.cell, r.cell)}")
                )
            if points:
                points.append((x.at(r.number), _up(y, best)))
            best = now
            points.append((x.at(r.number), _up(y, best)))
    if points:
        points.append((100.0, points[-1][1]))
    last = names.get(_leader(medians), "") if medians else ""
    return Progression(
        dots=tuple(dots),
        best=_line(points),
        records=tuple(records),
        x_ticks=x.ticks,
        y_ticks=_down(y),
        phases=_phases(record.readings, x),
        label=f"Throughput of {len(read)} readings in their order; the best median so far ends at {figure(best)} tok/s.",
        text=f"The best median so far ends at {figure(best)} tok/s: {last}." if last else "",
    )


def front(record: TuningRecord, names: Mapping[str, str]) -> Front | None:
    """Speed against latency; None if fewer than two cells have both."""
    known = [
        (c, tps, ttft)
        for c in _at_target(record)
        if (tps := record.tps(c)) is not None and (ttft := record.ttft_p95_ms(c)) is not None and ttft > 0
    ]
    if len(known) < 2:
        return None
    limit = record.recommendation.inputs.gate_ttft_ms
    values = [ttft for _, _, ttft in known] + ([limit] if limit else [])
    x = _log_axis(min(values), max(values))
    y = _axis(0.0, 1.1 * max(max(tps, c.tps_high or 0.0) for c, tps, _ in known), 5)
    able = [k for k in known if k[0].state is CellState.FEASIBLE]
    best = _undominated(able)
    chosen = {c.name for c, _, _ in best}
    dots = [
        Dot(
            x.at(math.log10(ttft)),
            _up(y, tps),
            _style(c, on_front=c.name in chosen),
            f"{names[c.name]}: {figure(tps)} tok/s, TTFT p95 {milliseconds(ttft)}"
            + (f". {one_line(c.reason)}" if c.reason else ""),
        )
        for c, tps, ttft in sorted(known, key=lambda k: (k[0].name in chosen, k[0].kept))
    ]
    whiskers = [
        Whisker(_up(y, c.tps_low), _up(y, c.tps_high), x.at(math.log10(ttft)))
        for c, _, ttft in known
        if c.tps_low is not None and c.tps_high is not None
    ]
    points = [(x.at(math.log10(ttft)), _up(y, tps)) for _, tps, ttft in best]
    labelled = _labels(best, points, names)
    return Front(
        dots=tuple(dots),
        whiskers=tuple(whiskers),
        line=_line(points),
        names=labelled,
        limit=x.at(math.log10(limit)) if limit else None,
        limit_text=f"limit {milliseconds(limit)}" if limit else "",
        x_ticks=x.ticks,
        y_ticks=_down(y),
        label=f"{len(known)} cells by throughput and p95 TTFT; {len(best)} of them are on the front.",
        text=f"{len(best)} of {len(able)} feasible cells are on the front: none is both faster and quicker to begin.",
    )


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
    axis = _axis(max(0.0, low - room), high + room, 6)
    rows = [_strip(record, c, read, axis, names) for c, read in shown]
    more = f"and {len(held) - STRIPS_LIMIT} more" if len(held) > STRIPS_LIMIT else ""
    return Strips(tuple(rows), axis.ticks, more)


ABSURD_TPS = 1e12
"""No engine of this world; a record of any bytes may still say so."""


def noise(record: TuningRecord, names: Mapping[str, str]) -> Noise | None:
    """The readings of the default; None if there are fewer than two."""
    default = next((c for c in record.cells if c.default and len(record.of(c)) > 1), None)
    if default is None:
        return None
    read = [r for r in record.of(default) if r.tps is not None and r.tps < ABSURD_TPS]
    if len(read) < 2:
        return None
    values = [r.tps or 0.0 for r in read]
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    low, high = min(*values, mean - sd), max(*values, mean + sd)
    room = 0.25 * (high - low) or 0.5
    y = _axis(max(0.0, low - room), high + room, 6)
    x = _axis(0.0, float(max(r.number for r in record.readings) + 1), 8)
    first, last = values[0], values[-1]
    floor = record.recommendation.noise_frac
    parts = [f"{len(read)} readings of the default, {figure(mean)} tok/s on average"]
    parts.append(f"{percent(sd / mean)} standard deviation" if mean else "")
    if floor is not None:
        parts.append(f"noise floor of the study {percent(floor)}")
    if first:
        parts.append(f"from the first to the last {100 * (last / first - 1):+.1f} %")
    return Noise(
        dots=tuple(
            Dot(
                x.at(r.number),
                _up(y, r.tps or 0.0),
                "ok",
                f"reading {r.number}: {figure(r.tps or 0.0)} tok/s",
            )
            for r in read
        ),
        band=(_up(y, mean + sd), _up(y, mean - sd)),
        x_ticks=x.ticks,
        y_ticks=_down(y),
        name=names[default.name],
        text="; ".join(p for p in parts if p) + ".",
        label=f"The default through the study: {len(read)} readings.",
    )


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


def _dot(
    r: Reading, x: Axis, y: Axis, states: Mapping[str, CellState], names: Mapping[str, str], *, rival: bool
) -> Dot:
    name = names.get(r.cell, one_line(r.cell, 60))
    if r.tps is None or not r.valid:
        return Dot(
            x.at(r.number),
            100.0 if r.tps is None else _up(y, r.tps),
            "void",
            f"reading {r.number}, {name}: {one_line(r.reason or 'does not count')}",
        )
    style = "late" if states.get(r.cell) is not CellState.FEASIBLE else "ok" if rival else "aside"
    ttft = "" if r.ttft_p95_ms is None else f", TTFT p95 {milliseconds(r.ttft_p95_ms)}"
    return Dot(
        x.at(r.number), _up(y, r.tps), style, f"reading {r.number}, {name}: {figure(r.tps)} tok/s{ttft}"
    )


def _at_target(record: TuningRecord) -> Sequence[Cell]:
    """The cells that compete: those at the context that was asked for, where there are several."""
    target = record.recommendation.inputs.target_context
    found = [c for c in record.cells if c.context_tokens == target and c.stage > 1]
    return found if len(found) > 1 else record.cells


def _rivals(record: TuningRecord) -> list[Cell]:
    return [c for c in _at_target(record) if c.state is CellState.FEASIBLE]


def _phases(readings: Sequence[Reading], x: Axis) -> tuple[tuple[float, str], ...]:
    words = {"fit": "fit", "search": "search", "confirm": "confirmation", "sentinel": "sentinel"}
    found, before = [], ""
    for r in readings:
        if r.role not in (before, "sentinel"):
            found.append((x.at(r.number - 0.5), words[r.role]))
            before = r.role
    return tuple(found)


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


def _leader(medians: Mapping[str, Sequence[float]]) -> str:
    return max(medians, key=lambda name: statistics.median(medians[name]))


def _axis(low: float, high: float, wanted: int) -> Axis:
    """An axis with some room, whatever the values: none, all zero, all equal, or beyond all reason."""
    high = min(high, LARGEST)
    low = min(low, high)
    least = max(1e-6, 1e-6 * abs(high))
    return with_ticks(low, high if high - low > least else low + max(1.0, least), wanted)


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


def _up(axis: Axis, value: float) -> float:
    return round(100.0 - axis.at(value), 3)


def _down(axis: Axis) -> tuple[Tick, ...]:
    return tuple(Tick(round(100.0 - t.at, 3), t.label) for t in axis.ticks)


def _line(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x * BOX / 100:.1f},{y * BOX / 100:.1f}" for x, y in points)
