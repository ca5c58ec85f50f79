"""Delta debugging: the shortest list of parts that still does what the whole did (Zeller's ddmin)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")


def ddmin(items: Sequence[T], equivalent: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """A part of the items that is equivalent and of which no single item can be left out.

    No subset is asked about twice, and never the whole, which is equivalent to itself, nor nothing at all.

    Args:
        items: parts in order; the order is kept.
        equivalent: whether a subset still does what all items did.
    """
    known: dict[tuple[int, ...], bool] = {}

    def holds(places: tuple[int, ...]) -> bool:
        if not places or len(places) == len(items):
            return bool(places)
        if places not in known:
            known[places] = equivalent(tuple(items[i] for i in places))
        return known[places]

    left = tuple(range(len(items)))
    chunks = 2
    while len(left) >= 2:
        parts = _parts(left, chunks)
        found = next((p for p in parts if len(parts) > 1 and holds(p)), None)
        if found is not None:
            left, chunks = found, 2
            continue
        rests = (tuple(i for i in left if i not in set(p)) for p in parts)
        found = next((r for r in rests if holds(r)), None)
        if found is not None:
            left, chunks = found, max(chunks - 1, 2)
        elif chunks >= len(left):
            break
        else:
            chunks = min(len(left), 2 * chunks)
    return tuple(items[i] for i in left)


def _parts(places: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """The places in `count` runs of nearly the same length."""
    count = min(count, len(places))
    edges = [len(places) * k // count for k in range(count + 1)]
    return [places[a:b] for a, b in pairwise(edges)]
