"""Pictures of a search for a text: who came from whom, and growth against gain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.core.evolution import Evolution, TextNode
from assay.report._view.axis import Axis, Tick, axis_over
from assay.report._view.evolve_charts import Gain, change, points_label
from assay.report._view.text import one_line, percent, plural

NODES_LIMIT = 150
"""Rows of the lineage."""
LANES_LIMIT = 8
"""Branches beside each other; further ones are drawn on the last."""
LANE_PX = 18
ROW_PX = 34


@dataclass(frozen=True)
class Stroke:
    """A line of the graph inside one row."""

    path: str
    main: bool
    """On the way to the candidate."""


@dataclass(frozen=True)
class NodeRow:
    """One text that was kept, or several in a row that were not."""

    number: str
    x: float
    """Pixels from the left."""
    style: str
    """picked, baseline, kept or dropped."""
    strokes: tuple[Stroke, ...]
    made_by: str
    parents: str
    train: str
    select: str
    growth: str
    note: str
    title: str
    crosses: tuple[tuple[str, str], ...] = ()
    """Style and title of texts that were not kept."""


@dataclass(frozen=True)
class Lineage:
    """Who came from whom, in the order in which they were found."""

    rows: tuple[NodeRow, ...]
    width: int
    height: int
    summary: str
    more: str


def lineage(found: Evolution) -> Lineage | None:
    """The texts of a search; None where nothing was searched."""
    nodes = _unique(found.nodes)
    if len(nodes) < 2:
        return None
    base = nodes.get(0)
    rows, lanes = _rows(nodes, found.picked, base)
    kept = sum(n.state == "kept" for n in nodes.values())
    states = {s: sum(n.state == s for n in nodes.values()) for s in ("rejected", "refused", "repeated")}
    parts = [f"{plural(kept, 'text')} kept"]
    words = {
        "rejected": "no better where tried",
        "refused": "refused by a static check",
        "repeated": "known already",
    }
    parts += [f"{count} {words[s]}" for s, count in states.items() if count]
    summary = f"{plural(len(nodes) - 1, 'text')} proposed: {', '.join(parts)}."
    more = f"and {len(rows) - NODES_LIMIT} more rows" if len(rows) > NODES_LIMIT else ""
    return Lineage(
        tuple(rows[:NODES_LIMIT]), LANE_PX * max(1, min(lanes, LANES_LIMIT)), ROW_PX, summary, more
    )


def _unique(nodes: Sequence[TextNode]) -> dict[int, TextNode]:
    """By number, in their order; a parent that comes later or nowhere is none."""
    return {n.number: n for n in sorted(nodes, key=lambda n: n.number)}


def _parents(node: TextNode, nodes: Mapping[int, TextNode]) -> list[int]:
    return [p for p in dict.fromkeys(node.parents) if p in nodes and p < node.number]


def _rows(nodes: Mapping[int, TextNode], picked: int, base: TextNode | None) -> tuple[list[NodeRow], int]:
    """The graph as `git log --graph` draws it, oldest first; the way to the candidate has the first lane."""
    shown = {n for n, node in nodes.items() if node.state in {"baseline", "kept"} or n in {0, picked}}
    graph = _Graph(nodes, shown, picked)
    made: list[NodeRow] = []
    dropped: list[TextNode] = []
    for number, node in nodes.items():
        if number not in shown:
            dropped.append(node)
            continue
        if dropped:
            made.append(_dropped(dropped, graph.passing()))
            dropped = []
        lane, strokes = graph.place(number)
        made.append(_node_row(node, strokes, lane, picked, base))
    if dropped:
        made.append(_dropped(dropped, graph.passing()))
    return made, graph.widest


class _Graph:
    """Lanes of the open branches: each text that still has children to come holds exactly one."""

    def __init__(self, nodes: Mapping[int, TextNode], shown: set[int], picked: int) -> None:
        self.parents = {n: [p for p in _parents(nodes[n], nodes) if p in shown] for n in sorted(shown)}
        self.children: dict[int, list[int]] = {n: [] for n in self.parents}
        for number, parents in self.parents.items():
            for parent in parents:
                self.children[parent].append(number)
        self.spine = self._spine(picked if picked in shown else 0)
        self.picked = picked
        self.lanes: dict[int, int] = {}
        """Lane → who holds it."""
        self.widest = 1

    def _spine(self, picked: int) -> set[int]:
        """The candidate, its first parent, its first parent, ..."""
        found = set()
        number: int | None = picked
        while number is not None and number in self.parents:
            found.add(number)
            number = next(iter(self.parents[number]), None)
        return found

    def place(self, number: int) -> tuple[int, list[Stroke]]:
        """Give a text its lane; the strokes of its row."""
        own = self._lane(number)
        strokes: list[Stroke] = []
        for lane, held in sorted(self.lanes.items()):
            if held in self.parents[number]:
                strokes.append(Stroke(_curve(lane, own), lane == own == 0 and self._main(held)))
            if not self._pending(held, number):
                del self.lanes[lane]
            elif lane == own:  # it makes way for the text on the way to the candidate
                aside = self._free()
                self.lanes[aside] = self.lanes.pop(lane)
                strokes.append(Stroke(_slide(lane, aside), main=False))
            else:
                strokes.append(Stroke(_through(lane), self._main(held)))
        if self.children[number]:
            self.lanes[own] = number
            strokes.append(Stroke(_half(own), self._main(number)))
        self.widest = max(self.widest, own + 1, *(lane + 1 for lane in self.lanes), 1)
        return own, strokes

    def passing(self) -> tuple[Stroke, ...]:
        """The open branches, past a row that holds no text of theirs."""
        return tuple(Stroke(_through(lane), self._main(held)) for lane, held in sorted(self.lanes.items()))

    def _lane(self, number: int) -> int:
        if number in self.spine:
            return 0
        for lane, held in sorted(self.lanes.items()):
            if lane and held in self.parents[number] and not self._pending(held, number):
                return lane
        return self._free()

    def _free(self) -> int:
        return next(lane for lane in range(1, len(self.lanes) + 2) if lane not in self.lanes)

    def _pending(self, held: int, after: int) -> bool:
        return any(c > after for c in self.children[held])

    def _main(self, held: int) -> bool:
        return held in self.spine and held != self.picked and self.lanes.get(0) == held


def _x(lane: int) -> float:
    return LANE_PX * (min(lane, LANES_LIMIT - 1) + 0.5)


def _through(lane: int) -> str:
    return f"M{_x(lane):g} 0V{ROW_PX}"


def _half(lane: int) -> str:
    return f"M{_x(lane):g} {ROW_PX / 2:g}V{ROW_PX}"


def _slide(start: int, end: int) -> str:
    a, b = _x(start), _x(end)
    return f"M{a:g} 0C{a:g} {ROW_PX / 2:g} {b:g} {ROW_PX / 2:g} {b:g} {ROW_PX}"


def _curve(start: int, end: int) -> str:
    if start == end:
        return f"M{_x(end):g} 0V{ROW_PX / 2:g}"
    a, b, middle = _x(start), _x(end), ROW_PX / 2
    return f"M{a:g} 0C{a:g} {middle * 0.9:g} {b:g} {middle * 0.1:g} {b:g} {middle:g}"


def _node_row(
    node: TextNode, strokes: Sequence[Stroke], lane: int, picked: int, base: TextNode | None
) -> NodeRow:
    style = "baseline" if node.number == 0 else "picked" if node.number == picked else "kept"
    edits = plural(len(node.edits), "edit") if node.edits else ""
    note = node.reason or node.why
    return NodeRow(
        number=f"#{node.number}",
        x=_x(lane),
        style=style,
        strokes=tuple(strokes),
        made_by="the baseline" if node.number == 0 else one_line(node.proposer or "unknown", 60),
        parents=", ".join(f"#{p}" for p in node.parents[:4]) if node.number else "",
        train=_gain_text(node, base, "train"),
        select=_gain_text(node, base, "select"),
        growth=_growth_text(node, base),
        note=one_line(note, 160) or edits,
        title=node_title(node, base),
    )


def _dropped(nodes: Sequence[TextNode], strokes: tuple[Stroke, ...]) -> NodeRow:
    counts = {s: sum(n.state == s for n in nodes) for s in ("rejected", "refused", "repeated")}
    return NodeRow(
        number="",
        x=0.0,
        style="dropped",
        strokes=strokes,
        made_by=", ".join(f"{count} {state}" for state, count in counts.items() if count),
        parents="",
        train="",
        select="",
        growth="",
        note="",
        title="",
        crosses=tuple((n.state, f"{node_title(n, None)}: {one_line(n.why, 120)}") for n in nodes[:60]),
    )


def node_title(node: TextNode, base: TextNode | None) -> str:
    """A node in one line."""
    parts = [f"#{node.number} {one_line(node.proposer, 60)}".strip(), node.state]
    parts += [
        f"{what} {text}"
        for what, text in (("tried", _mean_text(node.train)), ("selected by", _mean_text(node.select)))
        if text
    ]
    growth = _growth_text(node, base)
    return ", ".join([*parts, *([growth] if growth else [])])


def mean_of(scores: Mapping[str, float]) -> float | None:
    """Mean over tasks; None without one."""
    known = [v for v in scores.values() if math.isfinite(v)]
    return math.fsum(known) / len(known) if known else None


def _mean_text(scores: Mapping[str, float]) -> str:
    value = mean_of(scores)
    return "" if value is None else f"{percent(value, 0)}"


def _gain_text(node: TextNode, base: TextNode | None, by: str) -> str:
    """The gain on the tasks that baseline and text were both tried on; of the baseline its own mean."""
    if node.number == 0 or base is None:
        return _mean_text(getattr(node, by))
    point = _point(node, base, by)
    return "" if point is None else change(point[1])


def _growth_text(node: TextNode, base: TextNode | None) -> str:
    if base is None or node.number == 0:
        return f"{node.chars:,} chars"
    return f"{change(grown(node, base))} %" if base.chars else f"{node.chars:,} chars"


def grown(node: TextNode, base: TextNode) -> float:
    """Growth as a share of the baseline's length."""
    return (node.chars - base.chars) / max(1, base.chars)


# -- growth against gain ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dot:
    """A text in the picture: percent from the left and from the top."""

    x: float
    y: float
    style: str
    title: str


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
    nodes = _unique(found.nodes)
    base = nodes.get(0)
    if base is None:
        return None
    by = "select" if base.select and any(n.select for n in nodes.values() if n.number) else "train"
    points = {n.number: p for n in nodes.values() if (p := _point(n, base, by)) is not None}
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
            _up(y, b),
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
            _up(y, confirmed.value),
            None if confirmed.low is None else _up(y, confirmed.low),
            None if confirmed.high is None else _up(y, confirmed.high),
        )
        if picked.number in points:
            drop = (at, _up(y, points[picked.number][1]), spot[1])
    return Scatter(
        dots=tuple(drawn),
        x_ticks=tuple(Tick(t.at, f"{points_label(t.label)} %") for t in x.ticks),
        y_ticks=tuple(Tick(round(100.0 - t.at, 3), points_label(t.label)) for t in y.ticks),
        zero=(x.at(0.0), _up(y, 0.0)),
        needed=_needed(x, y, free, slope),
        confirmed=spot,
        drop=drop,
        by="the tasks that choose" if by == "select" else "the tasks that were learned from",
        label=f"Growth against gain of {len(points)} texts.",
    )


def _point(node: TextNode, base: TextNode, by: str) -> tuple[float, float] | None:
    """Growth and gain over the baseline, on the tasks that both were tried on."""
    own: Mapping[str, float] = getattr(node, by)
    theirs: Mapping[str, float] = getattr(base, by)
    common = [t for t in own if t in theirs and math.isfinite(own[t]) and math.isfinite(theirs[t])]
    if not common:
        return None
    return grown(node, base), math.fsum(own[t] - theirs[t] for t in common) / len(common)


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
    return " ".join(f"{10 * x.at(a):.1f},{10 * _up(y, b):.1f}" for a, b in ends)


def _up(axis: Axis, value: float) -> float:
    return round(100.0 - axis.at(value), 3)


def promised(found: Evolution) -> float | None:
    """The gain of the picked text on the tasks that chose it; None where there is none."""
    nodes = _unique(found.nodes)
    base, picked = nodes.get(0), nodes.get(found.picked)
    if base is None or picked is None or not found.picked:
        return None
    point = _point(picked, base, "select") or _point(picked, base, "train")
    return point[1] if point else None
