"""Draw: the same seeded items for both sides, batch after batch, no item twice and none left out."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from assay.core.draw import Draw, stops

sizes_of = st.dictionaries(
    st.text("abc", min_size=1, max_size=3), st.integers(1, 400), min_size=1, max_size=6
)
totals_of = st.lists(st.integers(0, 2500), min_size=1, max_size=6, unique=True).map(sorted)


def test_the_order_is_that_of_sha256() -> None:
    """Anyone can draw the items again with nothing but SHA-256."""
    draw = Draw(seed=7, sizes={"t": 50}, parts={"t": (0, 10)})
    order = sorted(range(50), key=lambda i: hashlib.sha256(f"7:t:{i}".encode()).digest())
    assert draw.indices() == {"t": sorted(order[:10])}
    assert draw.total == 10


def test_seed_and_task_change_the_order() -> None:
    """Another seed, or another task of the same size, is another draw."""
    parts = {"t": (0, 20), "u": (0, 20)}
    drawn = Draw(seed=0, sizes={"t": 1000, "u": 1000}, parts=parts).indices()
    assert drawn["t"] != drawn["u"]
    assert drawn != Draw(seed=1, sizes={"t": 1000, "u": 1000}, parts=parts).indices()


def test_a_task_without_items_in_a_batch_is_left_out() -> None:
    """No harness is asked for an empty list, which some would take for all items."""
    draw = Draw(sizes={"t": 9, "u": 5}, parts={"t": (3, 9), "u": (2, 2)})
    assert set(draw.indices()) == {"t"}
    assert draw.total == 6


@pytest.mark.parametrize("parts", [{"t": (0, 6)}, {"t": (-1, 2)}, {"t": (3, 2)}, {"other": (0, 1)}])
def test_places_beyond_the_task_are_refused(parts: dict[str, tuple[int, int]]) -> None:
    """A part must lie inside its task."""
    with pytest.raises(ValidationError, match="places"):
        Draw(sizes={"t": 5}, parts=parts)


@given(st.integers(0, 2**40), sizes_of, totals_of)
def test_batches_make_up_the_whole(seed: int, sizes: dict[str, int], totals: list[int]) -> None:
    """Batch after batch, then the rest: every item comes exactly once."""
    places = [dict.fromkeys(sizes, 0), *stops(sizes, totals), dict(sizes)]
    seen: dict[str, list[int]] = {task: [] for task in sizes}
    for before, upto in pairwise(places):
        draw = Draw(seed=seed, sizes=sizes, parts={t: (before[t], upto[t]) for t in sizes})
        assert draw.total == sum(upto.values()) - sum(before.values())
        for task, asked in draw.indices().items():
            seen[task] += asked
    assert {task: sorted(asked) for task, asked in seen.items()} == {
        t: list(range(n)) for t, n in sizes.items()
    }


@given(sizes_of, totals_of)
def test_stops_add_up_and_never_fall(sizes: dict[str, int], totals: list[int]) -> None:
    """The places of a total add up to it, so that a planned look is met exactly, and later ones hold earlier ones."""
    whole = sum(sizes.values())
    places = stops(sizes, totals)
    assert [sum(p.values()) for p in places] == [min(t, whole) for t in totals]
    assert stops(sizes, [sum(p.values()) for p in places]) == places
    for before, upto in pairwise(places):
        assert all(before[t] <= upto[t] <= sizes[t] for t in sizes)


@given(sizes_of, st.integers(1, 2500))
def test_every_task_is_asked_in_proportion(sizes: dict[str, int], total: int) -> None:
    """No task is left out of a look that has room for it, and none gets a whole item more than its share."""
    whole = sum(sizes.values())
    assume(len(sizes) <= total <= whole)
    for task, n in stops(sizes, [total])[0].items():
        assert 1 <= n < sizes[task] * total / whole + 1
        assert n > sizes[task] * total / whole - len(sizes)
