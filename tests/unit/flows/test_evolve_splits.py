"""Which tasks are learned from, which choose, which decide."""

from __future__ import annotations

import pytest

from assay.core.errors import SpecError
from assay.core.suite import Suite, Task, Verifier
from assay.flows.evolve import Splits, divided


def suite(count: int, splits: dict[int, str] | None = None, canaries: int = 1) -> Suite:
    """A suite of so many tasks and canaries."""
    verifier = Verifier(command=("true",))
    tasks = [
        Task.model_validate(
            {"task_id": f"t{i}", "prompt": "do", "verifier": verifier, "split": (splits or {}).get(i)}
        )
        for i in range(count)
    ]
    tasks += [Task(task_id=f"c{i}", prompt="do", verifier=verifier, canary=True) for i in range(canaries)]
    return Suite(name="s", path="s", format="folder", source_digest="sha256:x", tasks=tuple(tasks))


def drawn(count: int, seed: int = 0, splits: dict[int, str] | None = None, *, search: bool = True) -> Splits:
    """The division of such a suite."""
    return divided(suite(count, splits), 0.36, 0.24, seed, 15, search=search)


def test_parts_are_disjoint_and_whole() -> None:
    """No task teaches and decides, and none is lost; canaries are in no part."""
    found = drawn(40)
    parts = [*found.train, *found.select, *found.confirm]
    assert sorted(parts) == sorted(f"t{i}" for i in range(40))
    assert (len(found.train), len(found.select)) == (14, 10)
    assert found.canaries == ("c0",)


def test_the_lot_depends_on_the_seed_alone() -> None:
    """The same seed draws the same parts, another one others."""
    assert drawn(40, 1) == drawn(40, 1)
    assert drawn(40, 1).confirm != drawn(40, 2).confirm


def test_a_small_suite_is_shared() -> None:
    """With too few tasks all three parts are all tasks, and that is told."""
    found = drawn(8)
    assert not found.divided
    assert found.train == found.select == found.confirm


def test_declared_splits_are_kept() -> None:
    """What the suite says is not drawn again."""
    said = {i: ("train", "select", "confirm")[i % 3] for i in range(9)}
    assert drawn(9, splits=said).confirm == ("t2", "t5", "t8")


@pytest.mark.parametrize("said", [{0: "train", 1: "confirm"}, dict.fromkeys(range(9), "train")])
def test_half_declared_splits_are_refused(said: dict[int, str]) -> None:
    """A suite that declares some splits and leaves a needed one empty is no plan."""
    with pytest.raises(SpecError, match="split"):
        drawn(9, splits=said)


def test_given_texts_are_judged_on_all_tasks() -> None:
    """Where nothing is searched, nothing has to be kept apart."""
    found = drawn(8, search=False)
    assert len(found.confirm) == 8
    assert found.divided


def test_a_suite_of_canaries_decides_nothing() -> None:
    """Canaries prove delivery and never a difference."""
    with pytest.raises(SpecError, match="canaries only"):
        divided(suite(0), 0.36, 0.24, 0, 15, search=True)
