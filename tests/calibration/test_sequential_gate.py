"""The compare gate itself over whole plans of looks: how often a candidate that is worse by the margin gets a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from assay.core.draw import stops
from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.vocabulary import Outcome, Status
from assay.gates.compare import CompareGate, ComparePolicy, LookPlan
from assay.stats import clopper_pearson_interval

pytestmark = pytest.mark.slow

ALPHA, MARGIN, FLIPS = 0.05, 0.1, 0.14
ENDS = (40, 80, 120, 160, 200)
BEYOND = (260,)
"""Pairs after a top-up."""

Truth = Mapping[str, tuple[int, float]]
"""Task → its items, and its true drop."""
Counts = tuple[tuple[str, int, int, int], ...]
"""Task, pairs, and of them those that only the baseline or only the candidate got right."""


def evaluation(counts: Counts, side: int) -> Results:
    """The baseline (0) or the candidate (1) with such counts."""
    tasks = []
    for name, n, lost, won in counts:
        rest = n - lost - won
        scores = ([1.0] * lost + [0.0] * won, [0.0] * lost + [1.0] * won)[side]
        scores += [1.0] * (rest // 2) + [0.0] * (rest - rest // 2)
        rows = Samples(
            id=tuple(map(str, range(n))),
            repeat=(0,) * n,
            prompt=("p",) * n,
            score=tuple(scores),
            state=(SampleState.SCORED,) * n,
            output=("o",) * n,
        )
        tasks.append(TaskResult(task=name, metric="acc", score=sum(scores) / n, samples=rows))
    return Results(subject="x", harness="h", tasks=tuple(tasks))


class Judge:
    """The gate; the order of the rows never matters (a property test), so equal counts are judged once."""

    def __init__(self, truth: Truth, rule: str, **plan: Any) -> None:
        sizes = {name: n for name, (n, _) in truth.items()}
        looks = LookPlan.model_validate(
            {"rule": rule, "ends": ENDS, "sizes": sizes, "futile_below": 0.0, **plan}
        )
        self.gate = CompareGate(ComparePolicy(margin=MARGIN, guard=None, implausible_gain=None, looks=looks))
        self.known: dict[Counts, Outcome] = {}

    def word(self, counts: Counts) -> Outcome:
        """What the gate says of these counts."""
        if counts not in self.known:
            baseline, candidate = evaluation(counts, 0), evaluation(counts, 1)
            verdict = self.gate.judge({"baseline.results": baseline, "candidate.results": candidate})
            assert verdict.status is not Status.ERROR, verdict.detail
            assert verdict.outcome is not None
            self.known[counts] = verdict.outcome
        return self.known[counts]


def words(truth: Truth, judge: Judge, ends: tuple[int, ...], draws: int) -> list[Outcome]:
    """The last word in each drawn world: at the first look that decides, or after all of them."""
    rng = np.random.default_rng(2026)
    places = stops({name: n for name, (n, _) in truth.items()}, ends)
    flips = {}
    for name, (_, drop) in truth.items():
        batches = np.diff([0, *(upto[name] for upto in places)])
        chances = [(FLIPS + drop) / 2, (FLIPS - drop) / 2, 1 - FLIPS]
        flips[name] = rng.multinomial(batches, chances, size=(draws, len(places))).cumsum(axis=1).tolist()
    found = []
    for world in range(draws):
        word = Outcome.INCONCLUSIVE
        for look, upto in enumerate(places):
            counts = tuple((name, upto[name], *flips[name][world][look][:2]) for name in truth)
            if (word := judge.word(counts)) is not Outcome.INCONCLUSIVE:
                break
        found.append(word)
    return found


def within(book: Any, name: str, found: list[Outcome], word: Outcome) -> None:
    """The rate of a wrong word is not shown to be above the promise, and surely not far above."""
    hits = found.count(word)
    book.at_most(f"{name}: {word}", hits, len(found), 1.25 * ALPHA)
    assert clopper_pearson_interval(hits, len(found), 0.98).lower <= ALPHA


@pytest.mark.parametrize(
    ("name", "rule", "plan", "beyond"),
    [
        ("group", "group", {}, ()),
        ("group, topped up", "group", {"topup_frac": 0.2}, BEYOND),
        ("anytime, topped up", "anytime", {}, BEYOND),
    ],
    ids=["group", "group-topped-up", "anytime-topped-up"],
)
def test_at_the_margin_all_looks_together_keep_the_error_rates(
    book: Any, name: str, rule: str, plan: dict[str, Any], beyond: tuple[int, ...]
) -> None:
    """Worse by exactly the margin: ACCEPT at any look at most 5 times in 100, and so REGRESSION."""
    ends = (*ENDS, *beyond)
    truth = {"t": (ends[-1], MARGIN)}
    found = words(truth, Judge(truth, rule, **plan), ends, 5000)
    within(book, name, found, Outcome.ACCEPT)
    within(book, name, found, Outcome.REGRESSION)


def test_unequal_tasks_keep_the_error_rate_of_their_mean(book: Any) -> None:
    """Three quarters of the items in a task that loses less: the mean over both tasks lies on the margin."""
    truth = {"large": (150, 0.6 * MARGIN), "small": (50, 1.4 * MARGIN)}
    found = words(truth, Judge(truth, "anytime"), ENDS, 50)
    hits = found.count(Outcome.ACCEPT)
    book.note(f"two tasks: ACCEPT {hits} of {len(found)}")
    assert clopper_pearson_interval(hits, len(found), 0.98).lower <= ALPHA


def test_peeking_would_break_them(book: Any) -> None:
    """The same looks, each taken as the only one, accept far more: the plan is what keeps the promise."""
    truth = {"t": (ENDS[-1], MARGIN)}
    peeks = [Judge(truth, "group", ends=(end,)) for end in ENDS]

    class Peeking(Judge):
        """Every look by a gate that believes that it is the only one."""

        def word(self, counts: Counts) -> Outcome:
            return peeks[ENDS.index(counts[0][1])].word(counts)

    found = words(truth, Peeking(truth, "group"), ENDS, 2000)
    hits = found.count(Outcome.ACCEPT)
    book.at_least("peeking at five looks: ACCEPT", hits, len(found), 1.5 * ALPHA)
