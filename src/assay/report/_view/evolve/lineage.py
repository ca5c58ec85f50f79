"""The picture of who came from whom in a search for a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.core.evolution import Evolution, TextNode
from assay.report._view.evolve.lanes import LANE_PX, LANES_LIMIT, ROW_PX, Lanes, Stroke, across
from assay.report._view.evolve.nodes import by_number, gain_text, growth_text, node_title
from assay.report._view.text import one_line, plural

NODES_LIMIT = 150
"""Rows of the lineage."""


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
    nodes = by_number(found.nodes)
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


def _rows(nodes: Mapping[int, TextNode], picked: int, base: TextNode | None) -> tuple[list[NodeRow], int]:
    """The graph as `git log --graph` draws it, oldest first; the way to the candidate has the first lane."""
    shown = {n for n, node in nodes.items() if node.state in {"baseline", "kept"} or n in {0, picked}}
    graph = Lanes(nodes, shown, picked)
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


def _node_row(
    node: TextNode, strokes: Sequence[Stroke], lane: int, picked: int, base: TextNode | None
) -> NodeRow:
    style = "baseline" if node.number == 0 else "picked" if node.number == picked else "kept"
    edits = plural(len(node.edits), "edit") if node.edits else ""
    note = node.reason or node.why
    return NodeRow(
        number=f"#{node.number}",
        x=across(lane),
        style=style,
        strokes=tuple(strokes),
        made_by="the baseline" if node.number == 0 else one_line(node.proposer or "unknown", 60),
        parents=", ".join(f"#{p}" for p in node.parents[:4]) if node.number else "",
        train=gain_text(node, base, "train"),
        select=gain_text(node, base, "select"),
        growth=growth_text(node, base),
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
