"""When a loop of candidates has seen enough, and whether its best one may advance."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.evidence import Measurement
from assay.core.experiment import PrimaryMetric, Thresholds, Tier
from assay.core.proposal import Past
from assay.core.study import AdapterRef, Budget, StopRules
from assay.core.vocabulary import Direction, FailureClass, Outcome
from assay.engine.stopping import MayAdvance, advance, dead_end, differing, enough, seed_noise, similar

HIGHER = PrimaryMetric(
    name="score", direction=Direction.HIGHER, thresholds=Thresholds(floor=0.5, goal=0.9, stretch=0.99)
)
RULES = StopRules(metric=HIGHER, plateau_trials=3, dead_end_trials=2)


def made(name: str, text: str = "", config: dict[str, Any] | None = None) -> Candidate:
    """A candidate with a hypothesis and a configuration."""
    options = {"config": config if config is not None else {"name": name}}
    intent = {"hypothesis": text or f"hypothesis of {name}"}
    return Candidate(name=name, parent="p", build=AdapterRef(kind="train", options=options), intent=intent)


def past(
    number: int,
    value: float | None,
    outcome: Outcome = Outcome.ACCEPT,
    sd: float | None = None,
    failure: FailureClass | None = None,
) -> Past:
    """A decided trial."""
    candidate = made(f"c{number}")
    decision = Decision(
        study="s",
        trial=f"s-{number}",
        candidate=candidate.name,
        candidate_key=candidate.key,
        outcome=outcome,
        sentence="",
        failure_class=failure,
    )
    measured = {
        "score": Measurement.of("score", value, n=5),
        "seed_sd": Measurement.of("seed_sd", sd, n=5),
    }
    return Past(decision, candidate, measured, ())


def stopped(*tried: Past, rules: StopRules = RULES, spent_s: float = 0.0, **budget: Any) -> str:
    """Why it stops; empty if it goes on."""
    return enough(rules, Budget(**budget), tried, spent_s) or ""


def test_a_kept_candidate_at_the_goal_ends_it() -> None:
    """The goal counts for what was kept, whichever trial came last."""
    assert stopped(past(1, 0.95)).startswith("goal: c1 reached tier goal")
    assert stopped(past(1, 0.95), past(2, 0.1, Outcome.NO_GAIN)).startswith("goal")
    assert stopped(past(1, 0.6), past(2, 0.95, Outcome.INCONCLUSIVE)) == ""
    assert stopped(past(1, 1.0), rules=RULES.model_copy(update={"stop_tier": None})) == ""
    only_floor = HIGHER.model_copy(update={"thresholds": Thresholds(floor=0.5)})
    assert stopped(past(1, 0.6), rules=RULES.model_copy(update={"metric": only_floor})) == ""


def test_failures_count_against_a_budget() -> None:
    """Infeasible and anomalous trials are counted together; what merely brings nothing is no failure."""
    failed = [past(2, None, Outcome.INFEASIBLE), past(3, None, Outcome.ANOMALOUS)]
    assert stopped(past(1, 0.6), *failed, failures=2) == "the budget of 2 failed trials is used up"
    assert stopped(past(1, 0.6), failed[0], past(3, 0.5, Outcome.NO_GAIN), failures=2) == ""


def test_hours_and_cost_are_budgets() -> None:
    """Seconds of all processes together count, and so does their price."""
    assert "wall-time budget of 60 s" in stopped(past(1, 0.6), spent_s=61.0, wall_time_s=60.0)
    assert "cost budget of 2 is used up: 2.5" in stopped(
        past(1, 0.6), spent_s=3600.0, cost=2.0, cost_per_hour=2.5
    )
    assert stopped(past(1, 0.6), spent_s=2000.0, cost=2.0, cost_per_hour=2.5) == ""


def test_a_plateau_is_measured_in_seed_noise() -> None:
    """Kept gains below one SD of the seeds are no progress; larger ones are, whatever their absolute size."""
    small = [past(n, 0.60 + 0.005 * n, sd=0.05) for n in range(1, 5)]
    assert "plateau: 3 trials in a row" in stopped(*small)
    assert "1 SD of the seeds is 0.05" in stopped(*small)
    precise = [past(n, 0.60 + 0.005 * n, sd=0.001) for n in range(1, 5)]
    assert stopped(*precise) == ""


def test_slow_steady_progress_is_no_plateau() -> None:
    """Each step is below the noise, and together they are beyond it: it goes on."""
    steady = [past(n, 0.60 + 0.02 * n, sd=0.03) for n in range(1, 8)]
    assert stopped(*steady) == ""


def test_a_plateau_knows_which_way_is_better() -> None:
    """Getting worse by a lot is no progress; for an error in the thousands a fall by hundreds is."""
    worse = [past(1, 0.8, sd=0.01), *(past(n, 0.8 - 0.2 * n, Outcome.REGRESSION) for n in (2, 3, 4))]
    assert "plateau" in stopped(*worse)
    error = PrimaryMetric(name="score", direction=Direction.LOWER)
    rules = RULES.model_copy(update={"metric": error})
    falling = [past(n, 5000.0 - 300 * n, sd=100.0) for n in range(1, 6)]
    assert stopped(*falling, rules=rules) == ""
    still = [past(n, 5000.0 - 3 * n, sd=100.0) for n in range(1, 6)]
    assert "plateau" in stopped(*still, rules=rules)


def test_failed_trials_are_no_progress_and_void_ones_do_not_count() -> None:
    """What crashed brought nothing; what ended for the study's sake says nothing."""
    crashed = [past(n, None, Outcome.INFEASIBLE) for n in (2, 3, 4)]
    assert "plateau" in stopped(past(1, 0.6), *crashed)
    void = [past(n, None, Outcome.INCONCLUSIVE, failure=FailureClass.BUDGET_EXHAUSTED) for n in (2, 3, 4)]
    assert stopped(past(1, 0.6), *void) == ""


def test_noise_is_pooled_over_trials() -> None:
    """Each trial counts by its degrees of freedom; none measured = not known."""
    assert seed_noise([past(1, 0.5, sd=0.3), past(2, 0.5, sd=0.4)]) == pytest.approx(0.35355, abs=1e-4)
    assert seed_noise([past(1, 0.5)]) is None
    assert "not measured" in stopped(past(1, 0.6), *(past(n, 0.5, Outcome.NO_GAIN) for n in (2, 3, 4)))


def test_the_same_idea_and_the_same_settings_are_a_dead_end() -> None:
    """Two proposals in a row that repeat earlier ones in text and configuration end it; either alone does not."""
    config = {"lr": 0.1, "net": {"width": 8}}
    first = past(1, 0.6)
    tried = [
        Past(first.decision, made("a", "a wider net is better", config), {}, ()),
        Past(first.decision, made("b", "a wider net is better!", {**config, "lr": 0.102}), {}, ()),
    ]
    same = made("c", "A wider net is better", {**config, "lr": 0.099})
    assert "'c' that of 'a'" in (dead_end(RULES, tried, same) or "")
    assert dead_end(RULES, tried, made("d", "a wider net is better", {**config, "lr": 0.3})) is None
    assert dead_end(RULES, tried, made("e", "less weight decay generalises", config)) is None
    assert dead_end(RULES.model_copy(update={"dead_end_trials": None}), tried, same) is None
    assert dead_end(RULES, tried[:1], same) is None


def test_texts_and_settings_are_compared_by_content() -> None:
    """Words whatever their case and order; numbers by a share of their size; a bool is no number."""
    assert similar("More width, less depth", "less depth more WIDTH") == 1.0
    assert similar("", "") == 1.0
    assert similar("a", "") == 0.0
    assert differing({"a": 1.0, "b": {"c": 0}}, {"a": 1.04, "b": {"c": 0}}, 0.05) == []
    assert differing({"a": True, "b": None}, {"a": 1}, 0.05) == ["a", "b"]
    assert differing({"a": 0.0}, {"a": 1e-9}, 0.05) == ["a"]


def test_stopping_and_advancing_are_different_answers() -> None:
    """A study at a plateau below its floor asks for a person; one above it may advance, wherever it stopped."""
    below = [past(1, 0.4), *(past(n, 0.3, Outcome.NO_GAIN) for n in (2, 3, 4))]
    assert "plateau" in stopped(*below)
    word = advance(RULES, below)
    assert word.word is MayAdvance.NEEDS_HUMAN
    assert "below the floor of 0.5" in word.reason
    good = advance(RULES, [past(1, 0.6), past(2, 0.7), past(3, 0.99, Outcome.INCONCLUSIVE)])
    assert (good.word, good.trial, good.tier) == (MayAdvance.ADVANCE, "s-2", "floor")


@pytest.mark.parametrize(
    ("tried", "rules", "said"),
    [
        ([], RULES, "no candidate was sound enough"),
        ([past(1, None)], RULES, "no candidate was sound enough"),
        ([past(1, 0.99, Outcome.NO_GAIN)], RULES, "no candidate was sound enough"),
        ([past(1, 0.6)], RULES.model_copy(update={"advance_tier": Tier.GOAL}), "below the goal of 0.9"),
        (
            [past(1, 0.6)],
            StopRules(metric=PrimaryMetric(name="score", direction=Direction.HIGHER)),
            "nobody said",
        ),
        (
            [past(1, 0.6)],
            StopRules(
                metric=HIGHER.model_copy(update={"thresholds": Thresholds(floor=0.5)}),
                advance_tier=Tier.GOAL,
            ),
            "no goal was declared",
        ),
    ],
)
def test_what_is_not_known_to_be_good_needs_a_person(tried: list[Past], rules: StopRules, said: str) -> None:
    """Without a kept candidate, a value, a threshold or a high enough tier nothing advances."""
    found = advance(rules, tried)
    assert found.word is MayAdvance.NEEDS_HUMAN
    assert said in found.reason


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.sampled_from(list(Outcome))), max_size=8))
def test_only_a_kept_value_at_the_floor_advances(tried: list[tuple[float, Outcome]]) -> None:
    """Whatever the history: ADVANCE stands on a kept trial whose value reaches the floor."""
    history = [past(n, value, outcome) for n, (value, outcome) in enumerate(tried, start=1)]
    found = advance(RULES, history)
    if found.word is MayAdvance.ADVANCE:
        assert found.value is not None
        assert found.value >= 0.5
        assert any(p.decision.trial == found.trial and p.decision.keeps for p in history)
