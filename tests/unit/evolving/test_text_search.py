"""The search: what is tried, kept, picked, and never tried again."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import POOL, SELECT, TRAIN, FakeWorld, course, has_line

from assay.evolving.archive import Archive, Entry, frontier, knee_point, parent
from assay.evolving.chance import Chance
from assay.evolving.limits import Limits
from assay.evolving.proposers.spec import ProposerSpec
from assay.evolving.rules import Rules
from assay.evolving.search import evolve
from assay.evolving.world import Answer

LETTERS = (*TRAIN, *SELECT)


def select_by_train(text: str, task: str) -> float:
    """Selecting tasks are passed by what their train twins need."""
    return has_line(text, {"e": "a", "f": "b", "g": "c"}.get(task, task))


def entry(number: int, chars: int, *scores: float) -> Entry:
    """A kept text of that length with those scores on the selecting tasks."""
    made = Entry(number=number, text="x" * chars, state="kept" if number else "baseline")
    made.select = {f"t{i}": [s] for i, s in enumerate(scores)}
    return made


def test_a_search_finds_the_lines_that_the_tasks_need() -> None:
    """From nothing to a text that passes every selecting task, in a few hundred runs."""
    world = FakeWorld(select_by_train)
    made = course(world, rules=Rules(fresh=False, pick="best"))
    pick, ended = evolve(made, Chance("s"))
    text = made.archive.entries[pick.number].text
    assert {"do a", "do b", "do c"} <= set(text.split("\n"))
    assert "nothing is left to gain" in ended
    assert world.runs < 400


def test_no_text_is_tried_twice_and_no_run_done_twice() -> None:
    """Every text of the record is another, and every run has its own number."""
    world = FakeWorld(lambda text, task: 0.5, max_runs=300)
    made = course(world, rules=Rules())
    evolve(made, Chance("s"))
    digests = [e.digest for e in made.archive.entries]
    assert len(set(digests)) == len(digests) > 5
    assert max(Counter(w for w, _ in world.wanted).values()) == 1
    assert world.runs <= 300


def test_the_draws_that_let_a_text_in_do_not_choose_it() -> None:
    """A task that both trains and selects is drawn again for the choice."""
    world = FakeWorld(lambda text, task: 0.5, max_runs=200)
    made = course(world, select=TRAIN, rules=Rules())
    evolve(made, Chance("s"))
    by_purpose: dict[str, set[Any]] = {"select": set(), "minibatch": set()}
    for wanted, purpose in world.wanted:
        by_purpose.setdefault(purpose, set()).add(wanted)
    assert by_purpose["select"]
    assert by_purpose["minibatch"]
    assert not by_purpose["select"] & by_purpose["minibatch"]


def test_parent_and_child_are_tried_on_the_same_tasks_with_fresh_draws() -> None:
    """Each minibatch holds both texts with the same tasks, and a parent's earlier runs are not used again."""
    seen: list[list[Any]] = []

    class Watching(FakeWorld):
        def measure(self, wanted, texts, purpose):
            seen.append([w for w in wanted if purpose == "minibatch"])
            return super().measure(wanted, texts, purpose)

    made = course(Watching(lambda text, task: 0.5, max_runs=120), rules=Rules())
    evolve(made, Chance("s"))
    batches = [b for b in seen if b]
    assert batches
    for batch in batches:
        tasks = {text: sorted(w.task for w in batch if w.text == text) for text in {w.text for w in batch}}
        assert len(tasks) == 2
        assert len(set(map(tuple, tasks.values()))) == 1


def test_the_same_change_is_not_proposed_again_after_it_was_thrown_away() -> None:
    """A line that did not help behind its neighbour is not put there again in a grown text."""
    made = course(FakeWorld(select_by_train))
    first = made.archive.add("a rule\nbreak a", (0,), "add-line")
    made.archive.reject(first, "worse")
    grown = made.archive.add("a rule\ndo b", (0,), "add-line")
    assert made.archive.rejected_before("a rule", "a rule\nbreak a")
    assert made.archive.rejected_before(grown.text, "a rule\nbreak a\ndo b")
    assert not made.archive.rejected_before(grown.text, "a rule\ndo b\nbreak a")


def test_a_search_that_finds_nothing_says_so() -> None:
    """Where no change helps, the baseline is picked, with the reason and the end."""
    world = FakeWorld(lambda text, task: 0.0, max_runs=30)
    made = course(world)
    pick, ended = evolve(made, Chance("s"))
    assert pick.number == 0
    assert "better than the baseline" in pick.rule
    assert "runs are used up" in ended
    assert all(n.state in {"baseline", "rejected"} for n in made.archive.nodes())


def test_a_baseline_without_faults_ends_at_once() -> None:
    """Nothing can be gained, so no change is paid for."""
    world = FakeWorld(lambda text, task: 1.0)
    pick, ended = evolve(course(world), Chance("s"))
    assert pick.number == 0
    assert "nothing is left to gain" in ended
    assert world.runs == len(LETTERS)


def test_patience_ends_it() -> None:
    """So many runs without a better text are enough."""
    world = FakeWorld(lambda text, task: 0.3 if task == "a" else 0.0)
    _, ended = evolve(course(world, rules=Rules(patience=40)), Chance("s"))
    assert "without a better text" in ended
    assert world.runs < 120


def test_proposers_that_have_nothing_new_end_it() -> None:
    """A pool of one line is used up after one try."""
    made = course(
        FakeWorld(lambda text, task: 0.0), pool=POOL[:1], proposers=(ProposerSpec(kind="add-line"),)
    )
    _, ended = evolve(made, Chance("s"))
    assert ended == "the proposers have nothing new to say"


def test_a_try_that_cannot_be_finished_is_not_begun() -> None:
    """The end of the runs never leaves a kept text without its selection."""
    for cap in range(8, 60):
        made = course(FakeWorld(select_by_train, max_runs=cap), rules=Rules())
        evolve(made, Chance("s"))
        for e in made.archive.kept:
            assert not e.select or set(e.select) == set(SELECT)
            assert e.number == 0 or e.select


def test_the_same_chance_goes_the_same_way() -> None:
    """Two searches with one name are equal; another name goes elsewhere."""
    found = []
    for name in ("s", "s", "t"):
        made = course(FakeWorld(lambda text, task: 0.4, max_runs=150), rules=Rules())
        evolve(made, Chance(name))
        found.append([n.to_json() for n in made.archive.nodes()])
    assert found[0] == found[1] != found[2]


def test_proposers_see_nothing_of_selecting_tasks() -> None:
    """What a program is told names train tasks alone, and their feedback alone."""
    world = FakeWorld(lambda text, task: 0.0, answers=[Answer(text=f"text {i}") for i in range(5)])
    made = course(world, train=("train-1", "train-2"), select=("select-1",), rules=Rules())
    made.proposers = (ProposerSpec(kind="command", options={"command": ["x"]}),)
    evolve(made, Chance("s"))
    assert len(world.requests) == 6
    told = json.dumps(world.requests)
    assert "train-1" in told
    assert "select-1" not in told


def test_what_a_program_proposes_twice_or_against_the_limits_is_on_record() -> None:
    """Each proposal that was paid for is a node, with why it was not tried."""
    answers = [
        Answer(text="x" * 500),
        Answer(text="a rule"),
        Answer(failed="no answer"),
        Answer(text="do a\ndo b"),
    ]
    world = FakeWorld(select_by_train, answers=answers)
    made = course(world, limits=Limits(max_chars=100))
    made.proposers = (ProposerSpec(kind="command", options={"command": ["x"]}),)
    pick, ended = evolve(made, Chance("s"))
    states = [(n.state, n.why) for n in made.archive.nodes()]
    assert [s for s, _ in states] == ["baseline", "refused", "repeated", "kept"]
    assert "500 characters" in states[1][1]
    assert pick.number == 3
    assert "nothing left" in ended


def test_the_frontier_leaves_out_what_adds_nothing() -> None:
    """A text whose best tasks are all another's too is dominated; one that alone is best somewhere stays."""
    scores = {
        0: {"a": 0.0, "b": 0.0, "c": 0.0},
        1: {"a": 1.0, "b": 0.0, "c": 0.0},
        2: {"a": 1.0, "b": 1.0, "c": 0.0},
        3: {"a": 0.0, "b": 0.0, "c": 0.5},
    }
    assert set(frontier(scores)) == {2, 3}
    kept = [entry(0, 5, 0, 0), entry(1, 9, 1, 0), entry(2, 9, 0, 1)]
    drawn = {parent(kept, "pareto", 0.1, Chance(str(i))).number for i in range(40)}
    assert drawn == {1, 2}
    assert parent(kept, "best", 0.1, Chance("x")).number == 1
    greedy = Counter(parent(kept, "epsilon-greedy", 0.3, Chance(str(i))).number for i in range(200))
    assert greedy[1] > 120
    assert greedy[0]
    assert greedy[2]


def test_the_knee_point_takes_the_smallest_that_is_near_enough() -> None:
    """Within one task's weight of the best, length decides; never at or below the baseline."""
    kept = [
        entry(0, 10, 0, 0, 0, 0),
        entry(1, 50, 1, 1, 1, 0),
        entry(2, 30, 1, 1, 0, 0),
        entry(3, 5, 1, 0, 0, 0),
    ]
    assert knee_point(kept, None, "smallest").number == 2
    assert knee_point(kept, 0.0, "smallest").number == 1
    assert knee_point(kept, None, "best").number == 1
    assert knee_point(kept, 1.0, "smallest").number == 3
    assert knee_point([entry(0, 10, 1, 1), entry(1, 5, 1, 1)], None, "smallest").number == 0
    assert knee_point([entry(0, 10, 1, 1), entry(1, 5, 1, 1)], None, "smallest", shorter=True).number == 1


def test_a_text_that_lacks_a_selecting_task_is_not_picked() -> None:
    """Where the machine failed on a task, a text's mean is not compared with that of others."""
    lucky = entry(1, 5, 1.0)
    assert knee_point([entry(0, 9, 0.5, 0.5), lucky], None, "best").number == 0


@given(
    st.lists(
        st.tuples(st.integers(1, 99), st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=3, max_size=3)),
        max_size=8,
    ),
    st.sampled_from([None, 0.0, 0.2, 1.0]),
    st.sampled_from(["smallest", "best"]),
)
def test_what_is_picked_is_better_than_the_baseline_and_near_the_best(
    found: list[tuple[int, list[float]]], epsilon: float | None, first: Any
) -> None:
    """Whatever was kept: the pick beats the baseline's mean, lies in the band, and no shorter one of the band is left."""
    kept = [entry(0, 50, 0.0, 0.5, 0.5), *(entry(i, c, *s) for i, (c, s) in enumerate(found, 1))]
    means = {e.number: sum(e.select_means.values()) / 3 for e in kept}
    pick = knee_point(kept, epsilon, first)
    if pick.number == 0:
        assert all(m <= means[0] for m in means.values())
        return
    margin = 1 / 3 if epsilon is None else epsilon
    best = max(means.values())
    assert means[pick.number] > means[0]
    assert means[pick.number] >= best - margin - 1e-9
    if first == "smallest":
        near = [
            len(e.text)
            for e in kept
            if means[e.number] > means[0] and means[e.number] >= best - margin - 1e-12
        ]
        assert len(kept[pick.number].text) == min(near)


@given(st.lists(st.sampled_from(["x", "y", "z", ""]), max_size=8), st.text("ab\n", max_size=12))
def test_the_archive_knows_every_text_it_was_given(texts: list[str], more: str) -> None:
    """A text is known as soon as it was added, and its second time is `repeated`."""
    archive = Archive("base")
    for text in [*texts, more, *texts]:
        before = archive.known(text)
        made = archive.add(text, (0,), "test")
        assert archive.known(text) is not None
        assert (made.state == "repeated") == (before is not None)


@pytest.mark.parametrize("accept", ["better", "not_worse", "better_or_shorter"])
def test_what_is_kept_after_a_minibatch_follows_the_rule(accept: Any) -> None:
    """A change that does nothing is kept only where equals are."""
    world = FakeWorld(lambda text, task: 0.0, max_runs=60)
    made = course(world, text="one\ntwo\nthree", rules=Rules(fresh=False, accept=accept))
    evolve(made, Chance("s"))
    kept = [e for e in made.archive.entries[1:] if e.state == "kept"]
    if accept == "better":
        assert not kept
    elif accept == "better_or_shorter":
        assert kept
        assert all(len(e.text) < len(made.archive.entries[e.parents[0]].text) for e in kept)
    else:
        assert any(len(e.text) > 13 for e in kept)
