"""Delta debugging, sections, and the minimiser of texts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import FakeWorld, course, has_line

from assay.evolving.limits import Limits
from assay.evolving.minimize import ddmin
from assay.evolving.rules import Rules
from assay.evolving.sections import frozen, joined, sections
from assay.evolving.shorten import minimized

SETS = st.lists(st.frozensets(st.integers(0, 11), max_size=4), min_size=1, max_size=4)


def holds_any(ways: list[frozenset[int]]) -> Callable[[tuple[int, ...]], bool]:
    """Equivalent is what holds one of some sets: not monotone in its parts, as real texts are not."""
    return lambda chosen: any(way <= set(chosen) for way in ways)


@given(st.integers(1, 12), SETS)
def test_what_is_left_is_equivalent_and_no_item_of_it_can_go(count: int, ways: list[frozenset[int]]) -> None:
    """1-minimal, in order, for any oracle that accepts the whole."""
    items = list(range(count))
    inside = [w for w in ways if w <= set(items)] or [frozenset(items)]
    asked: list[tuple[int, ...]] = []

    def equivalent(chosen: tuple[int, ...]) -> bool:
        asked.append(chosen)
        return holds_any(inside)(chosen)

    left = ddmin(items, equivalent)
    assert holds_any(inside)(left)
    assert list(left) == sorted(left)
    if len(left) > 1:
        assert not any(holds_any(inside)(tuple(x for x in left if x != gone)) for gone in left)
    assert len(set(asked)) == len(asked)
    assert () not in asked
    assert tuple(items) not in asked


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_an_oracle_that_answers_by_chance_ends_too(answers: list[bool]) -> None:
    """Noise never makes it go on without end, and what is left was accepted, or is the whole."""
    given_ = list(answers)
    accepted: list[tuple[int, ...]] = [tuple(range(9))]

    def noisy(chosen: tuple[int, ...]) -> bool:
        found = given_.pop() if given_ else False
        if found:
            accepted.append(chosen)
        return found

    assert ddmin(range(9), noisy) in accepted


@given(st.text("#ab \n`-", max_size=80))
def test_sections_together_are_the_text(text: str) -> None:
    """However a text is divided, nothing is lost and nothing added."""
    for by in ("headings", "paragraphs", "lines", None):
        parts = sections(text, by)
        assert joined(parts) == text
        assert [p.first for p in parts] == sorted({p.first for p in parts})


def test_headings_in_code_divide_nothing() -> None:
    """A `#` inside a fenced block is no heading, and a blank line there ends no paragraph."""
    text = "intro\n\n# One\n```\n# not one\n\nx\n```\n# Two\nend"
    assert [s.title for s in sections(text, "headings")] == ["intro", "One", "Two"]
    assert [s.title for s in sections(text, "paragraphs")] == ["intro", "One"]
    assert [s.title for s in sections(text)] == ["intro", "One", "Two"]


def test_protected_lines_are_known() -> None:
    """What stands between the marks, the marks, and lines with an anchor."""
    text = "a\n<!-- protect:x start -->\nb\n<!-- protect:x end -->\nc\nkeep me\nnow"
    assert frozen(text, ("keep me\nnow",)) == {1, 2, 3, 5, 6}


BLOATED = """# Needed
do a
chatter

# Chatter
nothing here

nothing there

# More
do b
more chatter"""


def passes(text: str, task: str) -> float:
    """`a` and `b` need their lines, `z` is failed by every text."""
    return 0.0 if task == "z" else has_line(text, task)


def test_a_bloated_text_becomes_the_lines_that_do_something() -> None:
    """Everything that no task needs is gone, and what failed before may fail."""
    made = course(FakeWorld(passes), text=BLOATED, train=("a", "z"), select=("b",))
    pick, ended = minimized(made)
    assert made.archive.entries[pick.number].text.split() == ["do", "a", "do", "b"]
    assert ended == "no part can be left out any more"
    assert "no loss on 3 tasks" in pick.rule


def test_what_is_protected_stays() -> None:
    """Anchors and protected regions are never left out, whatever the tasks say."""
    text = BLOATED + "\n<!-- protect:p start -->\nkeep\n<!-- protect:p end -->"
    made = course(
        FakeWorld(passes), text=text, train=("a",), select=("b",), limits=Limits(anchors=("more chatter",))
    )
    pick, _ = minimized(made)
    found = made.archive.entries[pick.number].text
    assert "more chatter" in found
    assert "protect:p start -->\nkeep\n" in found
    assert "nothing" not in found


def test_a_text_that_is_minimal_already_is_the_answer() -> None:
    """Nothing shorter is picked where everything is needed."""
    made = course(FakeWorld(has_line), text="do a\ndo b", train=("a",), select=("b",))
    pick, _ = minimized(made)
    assert pick.number == 0
    assert {e.state for e in made.archive.entries[1:]} <= {"rejected"}


def test_the_end_of_the_runs_leaves_the_shortest_that_was_proven() -> None:
    """A half tried text is never the answer."""
    for cap in range(3, 60):
        made = course(FakeWorld(passes, max_runs=cap), text=BLOATED, train=("a",), select=("b",))
        pick, _ = minimized(made)
        found = made.archive.entries[pick.number]
        assert passes(found.text, "a")
        assert passes(found.text, "b")
        assert found.state in {"baseline", "kept"}


@pytest.mark.parametrize(("tolerance", "left"), [(0.0, {"do a", "do b"}), (0.5, {"do a"})])
def test_a_declared_loss_is_allowed_and_no_more(tolerance: float, left: set[str]) -> None:
    """Half a task of two may be lost where that was declared; a gain elsewhere never makes up for a loss."""
    made = course(
        FakeWorld(passes),
        text="do a\ndo b\nchatter",
        train=("a",),
        select=("b",),
        rules=Rules(tolerance=tolerance),
    )
    pick, _ = minimized(made)
    lines = set(made.archive.entries[pick.number].text.split("\n"))
    assert lines == left or (tolerance and lines == {"do b"})
