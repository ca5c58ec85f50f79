"""The picture of the default through time: what moves although nothing was changed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from assay.core.tuning_record import TuningRecord
from assay.report._view.axis import Dot, Tick
from assay.report._view.text import percent
from assay.report._view.tuning.plane import value_axis
from assay.report.recommendation import figure

ABSURD_TPS = 1e12
"""No engine of this world; a record of any bytes may still say so."""


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
    y = value_axis(max(0.0, low - room), high + room, 6)
    x = value_axis(0.0, float(max(r.number for r in record.readings) + 1), 8)
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
                y.from_top(r.tps or 0.0),
                "ok",
                f"reading {r.number}: {figure(r.tps or 0.0)} tok/s",
            )
            for r in read
        ),
        band=(y.from_top(mean + sd), y.from_top(mean - sd)),
        x_ticks=x.ticks,
        y_ticks=y.upright_ticks,
        name=names[default.name],
        text="; ".join(p for p in parts if p) + ".",
        label=f"The default through the study: {len(read)} readings.",
    )
