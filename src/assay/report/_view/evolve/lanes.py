"""The strokes of a graph of texts, as `git log --graph` draws it: one lane to each open branch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay.core.evolution import TextNode

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


class Lanes:
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


def _parents(node: TextNode, nodes: Mapping[int, TextNode]) -> list[int]:
    return [p for p in dict.fromkeys(node.parents) if p in nodes and p < node.number]


def across(lane: int) -> float:
    """Pixels from the left of a lane."""
    return LANE_PX * (min(lane, LANES_LIMIT - 1) + 0.5)


def _through(lane: int) -> str:
    return f"M{across(lane):g} 0V{ROW_PX}"


def _half(lane: int) -> str:
    return f"M{across(lane):g} {ROW_PX / 2:g}V{ROW_PX}"


def _slide(start: int, end: int) -> str:
    a, b = across(start), across(end)
    return f"M{a:g} 0C{a:g} {ROW_PX / 2:g} {b:g} {ROW_PX / 2:g} {b:g} {ROW_PX}"


def _curve(start: int, end: int) -> str:
    if start == end:
        return f"M{across(end):g} 0V{ROW_PX / 2:g}"
    a, b, middle = across(start), across(end), ROW_PX / 2
    return f"M{a:g} 0C{a:g} {middle * 0.9:g} {b:g} {middle * 0.1:g} {b:g} {middle:g}"
