"""Draw: which items of each task are asked in one batch. Both sides get the same; anyone can draw it again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Self

from pydantic import model_validator

from assay.core.base import Noun


class Draw(Noun):
    """A part of a seeded random order of the items of each task.

    The order of a task sorts its indices by SHA-256 of `seed:task:index`, so it depends on no library's generator.
    """

    seed: int = 0
    sizes: Mapping[str, int]
    """Task → number of its items."""
    parts: Mapping[str, tuple[int, int]]
    """Task → first place in the random order, and the one after the last."""

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for task, (start, stop) in self.parts.items():
            if not 0 <= start <= stop <= self.sizes.get(task, 0):
                raise ValueError(
                    f"places {start}..{stop} of {task!r}, which has {self.sizes.get(task, 0)} items"
                )
        return self

    @property
    def total(self) -> int:
        """Items of this batch over all tasks."""
        return sum(stop - start for start, stop in self.parts.values())

    def indices(self) -> dict[str, list[int]]:
        """Task → indices of its items, rising; tasks without any are left out."""
        return {
            task: sorted(_order(self.seed, task, self.sizes[task])[start:stop])
            for task, (start, stop) in self.parts.items()
            if stop > start
        }


def stops(sizes: Mapping[str, int], totals: Sequence[int]) -> list[dict[str, int]]:
    """Place up to which each task is drawn at each total: in proportion to its size, each task at least once.

    The places add up to the total and never fall from one total to a larger one (the divisor method of Adams).

    Args:
        sizes: task → items that it has.
        totals: items over all tasks; more than there are = all of them.
    """
    return [_shared_out(sizes, total) for total in totals]


def _shared_out(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    whole = sum(sizes.values())
    if total >= whole:
        return dict(sizes)
    # an item comes in the order of (items of its task before it) / size: take all that lie below total / whole
    places = {task: -(-n * total // whole) for task, n in sizes.items()}

    def last(task: str) -> tuple[Fraction, str]:
        return Fraction(max(0, places[task] - 1), max(1, sizes[task])), task

    for _ in range(sum(places.values()) - total):
        places[max((t for t in places if places[t]), key=last)] -= 1
    return places


def _order(seed: int, task: str, size: int) -> list[int]:
    def place(index: int) -> bytes:
        return hashlib.sha256(f"{seed}:{task}:{index}".encode()).digest()

    return sorted(range(size), key=place)
