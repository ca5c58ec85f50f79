"""Which tasks are learned from, which choose, which decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from assay.core.canon import digest
from assay.core.errors import SpecError
from assay.core.suite import Suite, Task


class Splits(NamedTuple):
    """Ids of tasks; canaries are in none of the three."""

    train: tuple[str, ...]
    select: tuple[str, ...]
    confirm: tuple[str, ...]
    canaries: tuple[str, ...]
    divided: bool


def divided(
    suite: Suite, train_frac: float, select_frac: float, seed: int, fewest: int, *, search: bool
) -> Splits:
    """Divide a suite: as its tasks say, else by lot.

    Args:
        suite: the tasks.
        train_frac: share of the undeclared tasks to learn from.
        select_frac: share of them that chooses.
        seed: of the lot.
        fewest: with fewer tasks, all three use all of them.
        search: False where texts are only judged: every task confirms.

    Raises:
        SpecError: if the suite declares some splits and leaves one that is needed empty.
    """
    canaries = tuple(t.task_id for t in suite.canaries)
    tasks = [t for t in suite.tasks if not t.canary]
    if not tasks:
        raise SpecError("the suite holds canaries only: no task decides", where="suite")
    ids = tuple(t.task_id for t in tasks)
    if not search:
        return Splits((), (), tuple(_declared(tasks, "confirm")) or ids, canaries, divided=True)
    if any(t.split for t in tasks):
        train, select, confirm = (tuple(_declared(tasks, s)) for s in ("train", "select", "confirm"))
        named = Splits(train, select, confirm, canaries, divided=True)
        lacking = [s for s in ("train", "select", "confirm") if not getattr(named, s)]
        if lacking or any(t.split is None for t in tasks):
            what = (
                f"no task has split {lacking[0]!r}" if lacking else "some tasks have a split and others none"
            )
            raise SpecError(what, where="suite", next="name `split` for all tasks, or for none")
        return named
    if len(tasks) < fewest:
        return Splits(ids, ids, ids, canaries, divided=False)
    drawn = sorted(ids, key=lambda task: digest(["split", seed, task]))  # by lot, and the same lot everywhere
    first = max(3, round(train_frac * len(drawn)))
    second = first + max(3, round(select_frac * len(drawn)))
    order = {task: i for i, task in enumerate(ids)}
    parts = (drawn[:first], drawn[first:second], drawn[second:])
    train, select, confirm = (tuple(sorted(p, key=order.__getitem__)) for p in parts)
    return Splits(train, select, confirm, canaries, divided=True)


def _declared(tasks: Sequence[Task], split: str) -> list[str]:
    return [t.task_id for t in tasks if t.split == split]
