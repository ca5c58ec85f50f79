"""What a confirmation can show, before it is paid for; and passes of one text that show nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest
from agent_evidence import counted, judged

from assay.core.vocabulary import Outcome, Status
from assay.gates._deploy.plan import (
    PLANNING_RATES,
    deploy_plan,
    deploy_power,
    judge_probes,
    minimum_detectable_gain,
    planning_rates,
    runs_needed,
    simulate,
)
from assay.gates.deploy import DeployPolicy

WORDS = {1: Outcome.ACCEPT, 0: Outcome.NO_GAIN, -1: Outcome.REGRESSION, -2: Outcome.INCONCLUSIVE}


def test_three_passes_of_one_text_are_inconclusive_and_say_how_many_runs_are_needed() -> None:
    """4/5, 1/5 and 3/5 are one rate; a comparison would need far more."""
    found = judge_probes([(4, 5), (1, 5), (3, 5)])
    assert (found.status, found.outcome) == (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert found.needed == 140
    assert "needs 125 more runs" in found.detail
    assert found.extra["p"] == pytest.approx(0.30, abs=0.005)
    assert found.extra["interval"] == pytest.approx([0.30, 0.75], abs=0.01)
    assert found.extra["seed_deploys_unchanged"] == pytest.approx(0.37, abs=0.01)


def test_passes_that_differ_by_more_than_chance_are_not_one_text() -> None:
    """Then something else changed."""
    assert judge_probes([(20, 20), (2, 20)]).outcome is Outcome.ANOMALOUS


@pytest.mark.parametrize("probes", [[], [(1, 5)], [(1, 5), (2, 6)], [(6, 5), (1, 5)], [(0, 0), (0, 0)]])
def test_what_are_no_probes_is_an_error(probes: list[tuple[int, int]]) -> None:
    """Never an exception."""
    assert judge_probes(probes).status is Status.ERROR


def test_a_plan_with_power_is_accepted_and_says_what_it_finds() -> None:
    """Twenty tasks in three looks find a gain of .2, and useless candidates cost half."""
    began = time.monotonic()
    found = deploy_plan(DeployPolicy(looks=(3, 6, 9)), 20)
    assert time.monotonic() - began < 5.0
    assert not found.refused
    assert found.at_gain is not None and found.at_gain.power > 0.9  # noqa: PT018 - one claim
    assert found.at_no_gain is not None and found.at_no_gain.power < 0.05  # noqa: PT018
    assert found.at_no_gain.mean_runs < 0.65 * found.at_no_gain.max_runs
    assert found.minimum_detectable_gain is not None
    assert 0.1 < found.minimum_detectable_gain < 0.2
    assert found == deploy_plan(DeployPolicy(looks=(3, 6, 9)), 20)


def test_a_plan_without_power_is_refused_with_the_runs_it_lacks() -> None:
    """Five tasks once."""
    found = deploy_plan(DeployPolicy(), 5, repeats=1)
    assert "with a chance of 0% only" in found.refused
    assert found.runs_needed is not None
    assert found.runs_needed > 50
    assert found.minimum_detectable_gain is None


def test_a_claim_about_other_tasks_needs_enough_of_them() -> None:
    """Five tasks in three looks can never show it: 2^-5 is above the level of every look."""
    found = deploy_plan(DeployPolicy(looks=(3, 6, 9), estimand="population"), 5)
    assert "6 are needed" in found.refused
    assert deploy_plan(DeployPolicy(), 0).refused


def test_measured_rates_are_pulled_to_their_mean() -> None:
    """Two repeats that both fail do not make a rate of 0."""
    assert planning_rates([0.0, 1.0], 3) == [0.25, 0.75, 0.25]
    assert planning_rates([], 2) == list(PLANNING_RATES[:2])


def test_power_grows_with_gain_and_falls_with_candidates() -> None:
    """And at no gain it is the error rate."""
    rates = [0.3, 0.5, 0.4, 0.6, 0.2, 0.5]
    policy = DeployPolicy(looks=(3, 6, 9))
    powers = [
        deploy_power(policy, rates, policy.looks, gain).power for gain in (-0.2, 0.0, 0.1, 0.2, 0.3, 0.5)
    ]
    assert powers == sorted(powers)
    assert powers[1] < 0.05
    shared = deploy_power(policy.model_copy(update={"candidates": 5}), rates, policy.looks, 0.3).power
    assert shared < powers[4]


def test_the_smallest_gain_shrinks_with_runs() -> None:
    """More repeats find less."""
    rates = [0.4] * 8
    small = minimum_detectable_gain(DeployPolicy(), rates, (20,))
    large = minimum_detectable_gain(DeployPolicy(), rates, (5,))
    assert small is not None
    assert large is not None
    assert small < large


def test_the_runs_that_are_said_to_be_needed_are_enough() -> None:
    """About as many give about the power that was asked for."""
    policy, rates = DeployPolicy(), [0.3, 0.4, 0.5, 0.6, 0.5, 0.4]
    needed = runs_needed(policy, rates, 0.2)
    assert needed is not None
    repeats = needed // (2 * len(rates))
    assert 0.7 < deploy_power(policy, rates, (repeats,), 0.2, 4000).power < 0.9
    tasks = runs_needed(DeployPolicy(estimand="population"), rates, 0.2, repeats=5)
    assert tasks is not None
    many = [rates[i % 6] for i in range(tasks // 10)]
    assert 0.7 < deploy_power(DeployPolicy(estimand="population"), many, (5,), 0.2, 4000).power < 0.92


@pytest.mark.parametrize(
    ("policy", "looks", "tasks", "gain"),
    [
        (DeployPolicy(looks=(2, 4)), (2, 4), 5, 0.4),
        (DeployPolicy(looks=(3, 6)), (3, 6), 6, 0.0),
        (DeployPolicy(looks=(2, 4), estimand="population"), (2, 4), 8, 0.4),
        (DeployPolicy(looks=(3, 6), candidates=2), (3, 6), 6, 0.5),
        (DeployPolicy(futility_p=None, looks=(2, 3)), (2, 3), 5, -0.3),
        (DeployPolicy(), (4,), 7, 0.3),
    ],
)
def test_simulated_words_are_the_gates(
    policy: DeployPolicy, looks: tuple[int, ...], tasks: int, gain: float
) -> None:
    """The same draws through the vectorised path and through the gate itself, look by look."""
    draws = 25
    before = np.linspace(0.05, 0.6, tasks)
    after = np.clip(before + gain, 0.0, 1.0)
    # both draw the same numbers as long as nobody stops: one study at a time keeps them in step
    for seed in range(draws):
        words, used = simulate(policy, before, after, looks, 1, np.random.default_rng(seed))
        generator = np.random.default_rng(seed)
        x1, x2, done = np.zeros(tasks, int), np.zeros(tasks, int), 0
        for repeats in looks:
            x1 += generator.binomial(repeats - done, before)
            x2 += generator.binomial(repeats - done, after)
            done = repeats
            found = judged(counted(x1.tolist(), x2.tolist(), repeats), **policy.to_json())
            if not found.open:
                break
        assert found.outcome is WORDS[int(words[0])]
        assert used[0] == 2 * tasks * done
