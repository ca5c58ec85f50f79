"""Chance: draws that depend on a name alone, so that a search can be gone through again on any machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """A stream of draws, known by its name; no library's generator is behind it.

    Args:
        name: what it is drawn for, seed included. The same name gives the same draws.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._count = 0

    def of(self, name: object) -> Chance:
        """Another stream, for a part of the work; what this one has drawn does not matter to it."""
        return Chance(f"{self.name}/{name}")

    def unit(self) -> float:
        """A number from 0 up to, and without, 1."""
        self._count += 1
        drawn = hashlib.sha256(f"{self.name}#{self._count}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(drawn[:6], "big") / (1 << 48)

    def below(self, count: int) -> int:
        """A whole number from 0 up to, and without, `count`."""
        return min(count - 1, int(self.unit() * count))

    def pick(self, items: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One of the items, which must not be empty; likelier by its weight."""
        if weights is None:
            return items[self.below(len(items))]
        left = self.unit() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            left -= weight
            if left < 0:
                return item
        return max(zip(weights, range(len(items)), items, strict=True))[2]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in a drawn order."""
        rest = list(items)
        for last in range(len(rest) - 1, 0, -1):
            other = self.below(last + 1)
            rest[last], rest[other] = rest[other], rest[last]
        return rest
