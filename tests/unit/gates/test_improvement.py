"""The improvement gate: seeds as units, a first look that accepts nothing, and claims that say what they are about."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.evidence import Evidence, Measurement
from assay.core.experiment import PrimaryMetric
from assay.core.training_runs import ABSENT, TrainedRun, TrainingRuns
from assay.core.verdict import Verdict
from assay.core.vocabulary import Direction, FailureClass, Outcome, Status
from assay.gates.improvement import CANDIDATE, PARENT, ImprovementGate, ImprovementPolicy

ABSENT_PARENT = Evidence(kind=ABSENT, subject="parent")


def runs(values: dict[int, Any], direction: Direction | None = Direction.HIGHER, **more: Any) -> TrainingRuns:
    """A recipe with a value for each seed."""
    made = tuple(
        TrainedRun(
            seed=seed,
            experiment=f"exp-{seed}",
            state="trained",
            value=Measurement.of("score", value),
            recipe="r",
        )
        for seed, value in values.items()
    )
    return TrainingRuns(
        subject="x",
        **{"metric": PrimaryMetric(name="score", direction=direction), "runs": made, **more},
    )


def judged(candidate: Any, parent: Any, **policy: Any) -> Verdict:
    """The verdict on these values, or on this evidence."""
    sides = {CANDIDATE: candidate, PARENT: parent}
    evidence = {k: runs(v) if isinstance(v, dict) else v for k, v in sides.items()}
    return ImprovementGate(ImprovementPolicy(**policy)).judge(evidence)


def seeded(*values: float) -> dict[int, float]:
    """Values of seeds 0, 1, ..."""
    return dict(enumerate(values))


BEFORE = seeded(0.50, 0.52, 0.49, 0.51, 0.50)


def test_a_clear_gain_on_five_seeds_is_a_better_recipe() -> None:
    """Five paired gains far beyond their spread are kept, as a claim about the recipe."""
    verdict = judged(seeded(0.70, 0.73, 0.68, 0.72, 0.71), BEFORE)
    assert (verdict.status, verdict.outcome) == (Status.PASS, Outcome.ACCEPT)
    assert verdict.extra["claim"] == "recipe"
    assert verdict.extra["lower"] == pytest.approx(0.204 - 2.1318 * 0.00894 / math.sqrt(5), abs=1e-3)


def test_noise_is_inconclusive_and_names_the_seeds_that_would_do() -> None:
    """A gain within the spread of the pairs is not kept; the verdict says how many seeds would show it."""
    verdict = judged(seeded(0.56, 0.47, 0.55, 0.50, 0.56), BEFORE)
    assert (verdict.status, verdict.outcome) == (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert not verdict.open
    assert verdict.needed is not None
    assert verdict.needed > 5
    assert f"{verdict.needed - 5} more seeds" in verdict.detail


def test_no_better_on_average_is_no_gain_and_clearly_worse_is_a_regression() -> None:
    """The word tells a recipe that is worse from one that merely brings nothing."""
    assert judged(seeded(0.49, 0.53, 0.48, 0.50, 0.50), BEFORE).outcome is Outcome.NO_GAIN
    assert judged(seeded(0.30, 0.33, 0.28, 0.31, 0.31), BEFORE).outcome is Outcome.REGRESSION


def test_lower_may_be_better() -> None:
    """A loss that falls is a gain, and one that rises is none."""
    low = runs(seeded(0.30, 0.33, 0.28, 0.31, 0.31), Direction.LOWER)
    high = runs(BEFORE, Direction.LOWER)
    assert judged(low, high).status is Status.PASS
    assert judged(high, low).outcome is Outcome.REGRESSION


@pytest.mark.parametrize("count", [1, 2, 4])
def test_fewer_than_five_seeds_speak_of_the_checkpoint_only(count: int) -> None:
    """A large gain on few seeds is kept, and said to be about this checkpoint alone."""
    before = {s: v for s, v in BEFORE.items() if s < count}
    verdict = judged({s: v + 0.2 for s, v in before.items()}, before, seeds=count)
    assert verdict.status is Status.PASS
    assert verdict.extra["claim"] == "checkpoint"
    assert "this checkpoint only" in verdict.detail
    assert judged(before, before, seeds=count).outcome is Outcome.NO_GAIN


def test_a_seed_that_changes_nothing_is_no_unit() -> None:
    """Five equal runs are one run: no claim about the recipe, and the verdict asks whether the seed is used."""
    verdict = judged(dict.fromkeys(range(5), 0.7), dict.fromkeys(range(5), 0.5))
    assert verdict.extra["claim"] == "checkpoint"
    assert "is it passed to the script?" in verdict.detail


def test_rounding_is_no_noise() -> None:
    """Differences that are equal but for the last bit are not tested as if they had a spread."""
    parent = seeded(0.1, 0.2, 0.3, 0.4, 0.5)
    verdict = judged({s: v + 0.1 for s, v in parent.items()}, parent)
    assert verdict.extra["sd"] is None
    assert verdict.extra["claim"] == "checkpoint"


def test_the_first_look_ends_what_is_no_better_and_accepts_nothing() -> None:
    """One seed of five: no gain ends the trial, a gain leaves it open until the others confirm it."""
    worse, better = judged({0: 0.50}, BEFORE), judged({0: 0.99}, BEFORE)
    assert (worse.status, worse.outcome) == (Status.FAIL, Outcome.NO_GAIN)
    assert (better.status, better.open, better.needed) == (Status.INCONCLUSIVE, True, 5)
    assert "4 more seeds confirm it" in better.detail


def test_the_first_of_its_line_waits_for_its_seeds() -> None:
    """Where nothing stands before it, it is the baseline once all of its seeds are measured."""
    first = judged({0: 0.5}, ABSENT_PARENT)
    assert (first.status, first.open) == (Status.INCONCLUSIVE, True)
    whole = judged(BEFORE, ABSENT_PARENT)
    assert whole.status is Status.PASS
    assert whole.extra["seed_sd"] == pytest.approx(0.0114, abs=1e-4)


def test_more_comparisons_ask_for_more() -> None:
    """The error rate is shared: what passes alone need not pass as one of twenty."""
    candidate = seeded(0.53, 0.53, 0.51, 0.52, 0.53)
    assert judged(candidate, BEFORE).status is Status.PASS
    assert judged(candidate, BEFORE, comparisons=20).status is Status.INCONCLUSIVE


def test_a_gain_must_be_larger_than_asked_for() -> None:
    """A sure gain below `min_gain` is none."""
    candidate = seeded(0.53, 0.545, 0.52, 0.535, 0.53)
    assert judged(candidate, BEFORE).status is Status.PASS
    assert judged(candidate, BEFORE, min_gain=0.1).outcome is Outcome.NO_GAIN


@pytest.mark.parametrize(
    ("candidate", "parent", "failure"),
    [
        (None, runs(BEFORE), FailureClass.SAMPLE_ACCOUNTING_FAILED),
        (runs(BEFORE), None, FailureClass.SAMPLE_ACCOUNTING_FAILED),
        (runs({}), runs(BEFORE), FailureClass.SAMPLE_ACCOUNTING_FAILED),
        (runs({0: math.nan}), runs(BEFORE), FailureClass.SAMPLE_ACCOUNTING_FAILED),
        (runs({0: None}), ABSENT_PARENT, FailureClass.SAMPLE_ACCOUNTING_FAILED),
        (runs({9: 0.9}), runs(BEFORE), FailureClass.NOT_COMPARABLE),
        (runs(BEFORE, None), runs(BEFORE, None), FailureClass.USER_CONFIG_ERROR),
        (runs(BEFORE, Direction.LOWER), runs(BEFORE), FailureClass.NOT_COMPARABLE),
        (runs(BEFORE, protocol={"command": "a"}), runs(BEFORE), FailureClass.NOT_COMPARABLE),
        (Evidence(kind="other", subject="x"), runs(BEFORE), FailureClass.SAMPLE_ACCOUNTING_FAILED),
    ],
)
def test_what_cannot_be_compared_is_an_error(candidate: Any, parent: Any, failure: FailureClass) -> None:
    """Missing, non-finite, unpaired or differently measured runs are never a gain and never none."""
    evidence = {k: v for k, v in ((CANDIDATE, candidate), (PARENT, parent)) if v is not None}
    verdict = ImprovementGate().judge(evidence)
    assert (verdict.status, verdict.outcome, verdict.failure_class) == (
        Status.ERROR,
        Outcome.ANOMALOUS,
        failure,
    )


def test_runs_of_two_recipes_or_a_seed_twice_are_an_error() -> None:
    """What counts as repeats must be repeats."""
    good = runs(BEFORE)
    twice = good.model_copy(update={"runs": (*good.runs, good.runs[0])})
    other = good.runs[0].model_copy(update={"recipe": "other"})
    mixed = good.model_copy(update={"runs": (other, *good.runs[1:])})
    assert judged(twice, good).status is Status.ERROR
    assert judged(mixed, good).status is Status.ERROR


VALUES = st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=5)


@given(VALUES, VALUES, st.floats(0, 1e6))
def test_worse_runs_never_give_a_better_word(before: list[float], after: list[float], loss: float) -> None:
    """Taking the same amount from every run of the candidate turns no refusal into an acceptance."""
    parent = seeded(*before)
    worse = judged(seeded(*(v - loss for v in after)), parent)
    if worse.status is Status.PASS and worse.extra["claim"] == "recipe":
        assert judged(seeded(*after), parent).status is Status.PASS


@given(VALUES, VALUES, st.permutations(range(5)))
def test_order_does_not_matter(before: list[float], after: list[float], order: list[int]) -> None:
    """The same runs in another order give the same word and the same bounds."""
    candidate, parent = seeded(*after), seeded(*before)
    one, other = judged(candidate, parent), judged({s: candidate[s] for s in order}, parent)
    if one.extra.get("claim") == "recipe" or other.extra.get("claim") == "recipe":
        assert one.status is other.status
        assert one.extra["gain"] == pytest.approx(other.extra["gain"], rel=1e-9, abs=1e-6)


def test_false_keeps_stay_below_alpha() -> None:
    """Of 2,000 equal recipes no more than alpha are kept, the first look included (exact binomial bound, 1e-6)."""
    generator = random.Random(5)
    kept = 0
    for _ in range(2000):
        parent, candidate = (seeded(*(generator.gauss(0.5, 0.05) for _ in range(5))) for _ in range(2))
        if judged({0: candidate[0]}, parent).status is not Status.FAIL:
            kept += judged(candidate, parent).status is Status.PASS
    assert kept <= 2000 * 0.05 + 4.9 * math.sqrt(2000 * 0.05 * 0.95)
