"""A text of a search in words and numbers: how much longer it is than the baseline, and what it gained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from assay.core.evolution import Evolution, TextNode
from assay.report._view.evolve.gain import change
from assay.report._view.text import one_line, percent


def by_number(nodes: Sequence[TextNode]) -> dict[int, TextNode]:
    """By number, in their order; a parent that comes later or nowhere is none."""
    return {n.number: n for n in sorted(nodes, key=lambda n: n.number)}


def node_title(node: TextNode, base: TextNode | None) -> str:
    """A node in one line."""
    parts = [f"#{node.number} {one_line(node.proposer, 60)}".strip(), node.state]
    parts += [
        f"{what} {text}"
        for what, text in (("tried", mean_text(node.train)), ("selected by", mean_text(node.select)))
        if text
    ]
    growth = growth_text(node, base)
    return ", ".join([*parts, *([growth] if growth else [])])


def mean_of(scores: Mapping[str, float]) -> float | None:
    """Mean over tasks; None without one."""
    known = [v for v in scores.values() if math.isfinite(v)]
    return math.fsum(known) / len(known) if known else None


def mean_text(scores: Mapping[str, float]) -> str:
    """Their mean in percent; empty without one."""
    value = mean_of(scores)
    return "" if value is None else f"{percent(value, 0)}"


def gain_text(node: TextNode, base: TextNode | None, by: str) -> str:
    """The gain on the tasks that baseline and text were both tried on; of the baseline its own mean."""
    if node.number == 0 or base is None:
        return mean_text(getattr(node, by))
    point = point_of(node, base, by)
    return "" if point is None else change(point[1])


def growth_text(node: TextNode, base: TextNode | None) -> str:
    """How much longer it is than the baseline; of the baseline its length."""
    if base is None or node.number == 0:
        return f"{node.chars:,} chars"
    return f"{change(grown(node, base))} %" if base.chars else f"{node.chars:,} chars"


def grown(node: TextNode, base: TextNode) -> float:
    """Growth as a share of the baseline's length."""
    return (node.chars - base.chars) / max(1, base.chars)


def point_of(node: TextNode, base: TextNode, by: str) -> tuple[float, float] | None:
    """Growth and gain over the baseline, on the tasks that both were tried on."""
    own: Mapping[str, float] = getattr(node, by)
    theirs: Mapping[str, float] = getattr(base, by)
    common = [t for t in own if t in theirs and math.isfinite(own[t]) and math.isfinite(theirs[t])]
    if not common:
        return None
    return grown(node, base), math.fsum(own[t] - theirs[t] for t in common) / len(common)


def promised(found: Evolution) -> float | None:
    """The gain of the picked text on the tasks that chose it; None where there is none."""
    nodes = by_number(found.nodes)
    base, picked = nodes.get(0), nodes.get(found.picked)
    if base is None or picked is None or not found.picked:
        return None
    point = point_of(picked, base, "select") or point_of(picked, base, "train")
    return point[1] if point else None
