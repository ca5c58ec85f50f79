"""Which runs are done, and in what order. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Draw:
    """One run that is to be done."""

    task: str
    arm: str
    rep: int
    block: int
    seed: int = 0
    """What the agent is to draw its randomness from."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What the run is known by, as `AgentRun.key`."""
        return self.task, self.arm, self.rep


def rounds(tasks: Sequence[str], arms: Sequence[str], first: int, last: int, seed: int) -> list[Draw]:
    """Blocks of runs: each block is every task once with every arm, in an order drawn from the seed.

    A drift of the machine or of a hosted model so meets all arms alike. The order of a block does not depend on which
    other blocks there are, and leaving out a task or an arm does not change the order of the others.

    Args:
        tasks: ids of tasks.
        arms: names of arms.
        first: number of the first block and repeat, from 1.
        last: number of the last one.
        seed: of the order.
    """
    return [
        draw
        for block in range(first, last + 1)
        for draw in in_order([drawn(t, a, block, block, seed) for t in tasks for a in arms], seed)
    ]


def in_order(draws: Iterable[Draw], seed: int) -> list[Draw]:
    """Draws by block, and in each block in the order that the seed gives."""
    return sorted(
        draws, key=lambda d: (d.block, _hash(f"{seed}\0{d.block}\0{d.task}\0{d.arm}"), d.task, d.arm, d.rep)
    )


def drawn(task: str, arm: str, rep: int, block: int, seed: int) -> Draw:
    """A draw with a seed of its own, 0 to 2**31 - 1: another one for every run, also for the same text."""
    own = int.from_bytes(_hash(f"{seed}\0{task}\0{arm}\0{rep}")[:4], "big") >> 1
    return Draw(task, arm, rep, block, own)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
