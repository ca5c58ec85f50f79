"""Selection among settings: who is measured next, what is claimed, and the source's rule beside it."""

from __future__ import annotations

import itertools
import math

import pytest

from assay.stats.errors import StatsError
from assay.stats.selection import (
    CONFIRM,
    SCREEN,
    Look,
    RaceRule,
    next_block,
    pair_noise,
    provable_gain,
    reading_limit,
    sequential_band,
    standings,
)

ARMS = ("a", "b", "c", "d", "e", "f")


def raced(values: dict[str, float], rule: RaceRule | None = None, noise: float = 0.01) -> list[Look]:
    """All readings of a race among arms of those log values, with noise that repeats."""
    looks: list[Look] = []
    arms = tuple(values)
    while (block := next_block(arms, arms[0], looks, rule)) is not None:
        for position, arm in enumerate(block.arms):
            n = len(looks)
            value = values[arm] + noise * (((n * 7919) % 13) - 6) / 6
            looks.append(Look(arm, value, block.kind, block.number, position))
    return looks


def test_the_first_block_holds_every_arm_once_in_an_order_of_the_seed() -> None:
    """The order is drawn by the seed and by nothing else; another seed, another order."""
    first = next_block(ARMS, "a", [], seed=1)
    assert first is not None
    assert sorted(first.arms) == list(ARMS)
    assert next_block(ARMS, "a", [], seed=1) == first
    orders = {next_block(ARMS, "a", [], seed=s).arms for s in range(20)}  # type: ignore[union-attr]
    assert len(orders) > 10


def test_screening_halves_and_mirrors() -> None:
    """Five challengers, then three, then two: the default in each block, the order backwards each time."""
    looks = raced({a: 0.2 * k for k, a in enumerate(ARMS)})
    blocks: dict[int, list[str]] = {}
    for x in looks:
        if x.kind == SCREEN:
            blocks.setdefault(x.block, []).append(x.arm)
    sizes = [len(b) for b in blocks.values()]
    assert sizes == [6, 4, 3]
    assert all("a" in b for b in blocks.values())
    first, second = blocks[1], blocks[2]
    assert second == [a for a in reversed(first) if a in second]
    assert set(blocks[3]) == {"a", "e", "f"}


def test_a_gain_is_claimed_from_fresh_pairs_alone() -> None:
    """A large lead in screening is worth nothing without confirmation."""
    screen = [Look(a, v, SCREEN, 1, k) for k, (a, v) in enumerate({"a": 0.0, "b": 1.0, "c": 0.1}.items())]
    assert standings(("a", "b", "c"), "a", screen).reference == "a"
    found = standings(("a", "b", "c"), "a", raced({"a": 0.0, "b": 1.0, "c": 0.1}))
    assert found.reference == "b"
    gain = next(g for g in found.gains if g.arm == "b")
    assert 1.0 < gain.low < gain.ratio
    assert gain.ratio == pytest.approx(math.e, rel=0.02)


def test_drift_does_not_carry_a_late_arm() -> None:
    """Equal arms on a machine that loses a third of its speed: the default stays, and the drift is told."""
    looks: list[Look] = []
    while (block := next_block(ARMS, "a", looks)) is not None:
        for position, arm in enumerate(block.arms):
            n = len(looks)
            looks.append(Look(arm, -0.01 * n + 0.002 * (n % 3), block.kind, block.number, position))
    found = standings(ARMS, "a", looks)
    assert found.reference == "a"
    assert found.drift == pytest.approx(math.expm1(-0.01 * (len(looks) - 1)), abs=0.05)


def test_a_session_that_is_slower_is_no_drift_of_the_arms() -> None:
    """Readings after a pause on a machine at half its speed still compare within their blocks."""
    looks: list[Look] = []
    values = {"a": 0.0, "b": 0.3, "c": 0.1}
    while (block := next_block(tuple(values), "a", looks)) is not None:
        session = int(block.number > 1)
        for position, arm in enumerate(block.arms):
            wobble = 0.01 * ((len(looks) * 7) % 5 - 2)
            looks.append(
                Look(arm, values[arm] - 0.7 * session + wobble, block.kind, block.number, position, session)
            )
    assert standings(tuple(values), "a", looks).reference == "b"


def test_half_a_mirror_is_no_pair() -> None:
    """A block in which a launch gave no value would carry the drift: its pairs are left out."""
    looks = [
        Look("a", 0.0, SCREEN, 1, 0),
        Look("b", 0.5, SCREEN, 1, 1),
        Look("a", 0.0, CONFIRM, 2, 0),
        Look("b", 0.5, CONFIRM, 2, 1),
        Look("b", None, CONFIRM, 2, 2),
        Look("a", 0.0, CONFIRM, 2, 3),
    ]
    assert standings(("a", "b"), "a", looks).gains == ()


def test_readings_end() -> None:
    """However noisy, never more than the limit; without one, four of each arm and at least 32."""
    assert reading_limit(4, RaceRule()) == 32
    assert reading_limit(20, RaceRule()) == 80
    looks = raced(dict.fromkeys(ARMS, 0.0), RaceRule(readings=20), noise=0.5)
    assert len(looks) <= 20


def test_a_single_arm_needs_no_race() -> None:
    """Nothing to choose, nothing to measure."""
    assert next_block(("a",), "a", []) is None
    assert standings(("a",), "a", []).reference == "a"


def test_an_arm_that_is_gone_is_left_out() -> None:
    """Looks of an arm that turned out infeasible are not used, and it is not measured again."""
    looks = raced({a: 0.2 * k for k, a in enumerate(ARMS)})[:6]
    block = next_block(tuple(a for a in ARMS if a != "f"), "a", looks)
    assert block is not None
    assert "f" not in block.arms


@pytest.mark.parametrize("arms", [("b", "c"), ("a", "a")])
def test_the_default_must_be_an_arm(arms: tuple[str, ...]) -> None:
    """A race without its default, or with an arm twice, is refused."""
    with pytest.raises(StatsError):
        next_block(arms, "a", [])


def test_the_sources_band_depends_on_the_order() -> None:
    """Four cells 1.5 % apart: the order alone decides, and over all orders the worst wins too."""
    cells = {"A": (10.0, 4000.0), "B": (9.85, 3500.0), "C": (9.7, 3000.0), "D": (9.55, 2500.0)}
    wins = [
        sequential_band([(c, *cells[c]) for c in order], replicates=1)
        for order in itertools.permutations(cells)
    ]
    assert sequential_band([(c, *cells[c]) for c in "ABCD"], replicates=1) == "D"
    assert sequential_band([(c, *cells[c]) for c in "DCBA"], replicates=1) == "B"
    assert {c: wins.count(c) for c in cells} == {"A": 6, "B": 10, "C": 6, "D": 2}


def test_the_sources_ties_by_latency() -> None:
    """Acceptance criteria of the source: the median of three, one error rules out, a tie goes to the lower TTFT."""
    three = [("x", v, 1.0) for v in (2.0, 2.1, 2.05)]
    assert sequential_band([*three, ("y", None, None)]) == "x"
    assert sequential_band([("A", 10.0, 4000.0), ("B", 10.05, 3000.0)]) == "B"
    assert sequential_band([("A", 10.0, 4000.0), ("B", 10.05, 4500.0)]) == "A"
    assert sequential_band([("A", None, None)]) is None


def test_noise_of_pairs_that_cannot_differ() -> None:
    """Two readings that differ by a factor of e: each scatters by 1 / sqrt(2)."""
    assert pair_noise([(1.0, math.e)]) == pytest.approx(math.sqrt(0.5))
    with pytest.raises(StatsError):
        pair_noise([])


def test_more_blocks_prove_less() -> None:
    """The gain that can be proven falls with blocks and rises with noise."""
    assert provable_gain(8, 0.05, 0.1) < provable_gain(4, 0.05, 0.1) < provable_gain(4, 0.05, 0.2)
