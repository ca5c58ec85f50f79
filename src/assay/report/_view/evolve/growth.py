"""The picture of growth against gain: what each text of a search earned for its length."""

from __future__ import annotations

from dataclasses import dataclass

from assay.core.evolution import Evolution, TextNode
from assay.report._view.axis import Axis, Dot, Tick, axis_over
from assay.report._view.evolve.gain import Gain, change, points_label
from assay.report._view.evolve.nodes import by_number, grown, node_title, point_of


@dataclass(frozen=True)
class Scatter:
    """Growth against gain of the texts that were tried."""

    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zero: tuple[float, float]
    """Where no growth and no gain are."""
    needed: str
    """What growth must earn, as a polyline in a box of 1000; empty if nothing."""
    confirmed: tuple[float, float, float | None, float | None] | None
    """The candidate on fresh draws: x, y, and the ends of its interval."""
    drop: tuple[float, float, float] | None
    """From what the search saw to what fresh draws saw: x, y of the one, y of the other."""
    by: str
    """The tasks that the gain was measured on."""
    label: str


def scatter(
    found: Evolution, confirmed: Gain | None, free: float | None, slope: float | None
) -> Scatter | None:
    """Growth against gain; None where fewer than two texts have a score on common tasks."""
    nodes = by_number(found.nodes)
    base = nodes.get(0)
    if base is None:
        return None
    by = "select" if base.select and any(n.select for n in nodes.values() if n.number) else "train"
    points = {n.number: p for n in nodes.values() if (p := point_of(n, base, by)) is not None}
    if len(points) < 2:
        return None
    picked = nodes.get(found.picked)
    xs, ys = [p[0] for p in points.values()], [p[1] for p in points.values()]
    extra = (
        [v for v in (confirmed.value, confirmed.low, confirmed.high) if v is not None] if confirmed else []
    )
    x = axis_over([0.0, *(min(v, 20.0) for v in xs)], padding=0.09)
    y = axis_over([0.0, *ys, *(max(-1.0, min(1.0, v)) for v in extra)], wanted=5, padding=0.1)
    drawn = [
        Dot(
            x.at(a),
            y.from_top(b),
            _style(nodes[n], found.picked),
            f"{node_title(nodes[n], base)}; gain {change(b)} points",
        )
        for n, (a, b) in points.items()
    ]
    drawn.sort(key=lambda d: d.style in {"picked", "baseline"})
    spot = drop = None
    if confirmed is not None and picked is not None and picked.number:
        at = x.at(grown(picked, base))
        spot = (
            at,
            y.from_top(confirmed.value),
            None if confirmed.low is None else y.from_top(confirmed.low),
            None if confirmed.high is None else y.from_top(confirmed.high),
        )
        if picked.number in points:
            drop = (at, y.from_top(points[picked.number][1]), spot[1])
    return Scatter(
        dots=tuple(drawn),
        x_ticks=tuple(Tick(t.at, f"{points_label(t.label)} %") for t in x.ticks),
        y_ticks=tuple(Tick(t.at, points_label(t.label)) for t in y.upright_ticks),
        zero=(x.at(0.0), y.from_top(0.0)),
        needed=_needed(x, y, free, slope),
        confirmed=spot,
        drop=drop,
        by="the tasks that choose" if by == "select" else "the tasks that were learned from",
        label=f"Growth against gain of {len(points)} texts.",
    )


def _style(node: TextNode, picked: int) -> str:
    if node.number == 0:
        return "baseline"
    return "picked" if node.number == picked else "kept" if node.state == "kept" else "dropped"


def _needed(x: Axis, y: Axis, free: float | None, slope: float | None) -> str:
    """What a longer text must earn, inside the picture."""
    if free is None or not slope or free >= x.high:
        return ""
    ends = [(max(x.low, 0.0), 0.0), (free, 0.0), (x.high, slope * (x.high - free))]
    if ends[-1][1] > y.high:
        ends[-1] = (free + y.high / slope, y.high)
    return " ".join(f"{10 * x.at(a):.1f},{10 * y.from_top(b):.1f}" for a, b in ends)
