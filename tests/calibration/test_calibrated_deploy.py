"""Known truth: how often a text that is no better is deployed, and how often an interval misses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from assay.core.agent import BASELINE, CANDIDATE, AgentOutcome, AgentRun, AgentRuns
from assay.core.vocabulary import Outcome
from assay.gates._deploy.plan import simulate
from assay.gates.deploy import DeployGate, DeployPolicy
from assay.stats import agent_suites
from assay.stats.two_sample import stratified_score

if TYPE_CHECKING:
    from conftest import Book

pytestmark = pytest.mark.slow

ALPHA, LOOKS = 0.05, (3, 6, 9)
DRAWS = 30_000
BASE_RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@pytest.mark.parametrize("estimand", ["fixed_suite", "population"])
@pytest.mark.parametrize("tasks", [5, 12])
def test_an_unchanged_text_is_deployed_at_most_alpha(book: Book, estimand: str, tasks: int) -> None:
    """At every base rate, over the whole plan of looks; and a harmless one is called worse as seldom."""
    policy = DeployPolicy(looks=LOOKS, estimand=estimand)  # type: ignore[arg-type]
    for rate in BASE_RATES:
        rates = np.full(tasks, rate)
        words, _ = simulate(
            policy, rates, rates, LOOKS, DRAWS, np.random.default_rng([tasks, int(100 * rate)])
        )
        book.at_most(f"{estimand} {tasks} tasks at {rate}: deployed", (words == 1).sum(), DRAWS, ALPHA)
        book.at_most(f"{estimand} {tasks} tasks at {rate}: worse", (words == -1).sum(), DRAWS, ALPHA)


def test_harm_is_never_deployed(book: Book) -> None:
    """A loss of .15 or .2, also where it sits in one task."""
    policy = DeployPolicy(looks=LOOKS)
    for harm in (0.15, 0.2):
        before = np.linspace(0.3, 0.8, 8)
        one = before.copy()
        one[-1] = max(0.0, one[-1] - 8 * harm) if 8 * harm < one[-1] else 0.0
        for name, after in (("everywhere", before - harm), ("in one task", one)):
            words, _ = simulate(policy, before, after, LOOKS, DRAWS, np.random.default_rng(5))
            book.at_most(f"harm {harm} {name}: deployed", (words == 1).sum(), DRAWS, ALPHA)


def test_effects_that_differ_between_tasks_are_no_gain_on_tasks_like_these(book: Book) -> None:
    """Mean 0, sd .3: the population claim keeps its level, the fixed-suite claim would not."""
    rng = np.random.default_rng(8)
    before = np.full((DRAWS, 12), 0.5)
    after = np.clip(before + rng.normal(0, 0.3, before.shape), 0, 1)
    for estimand in ("population", "fixed_suite"):
        policy = DeployPolicy(looks=LOOKS, estimand=estimand)  # type: ignore[arg-type]
        words, _ = simulate(policy, before, after, LOOKS, DRAWS, rng)
        if estimand == "population":
            book.at_most("population", (words == 1).sum(), DRAWS, ALPHA)
        else:
            book.at_least("fixed suite, claimed of the population", (words == 1).sum(), DRAWS, ALPHA)


def test_looking_early_costs_no_more_than_its_share(book: Book) -> None:
    """Each look spends its own level, and all of them at most alpha."""
    levels = agent_suites.spend(3, ALPHA)
    rates = np.full(8, 0.5)
    for look, level in enumerate(levels):
        policy = DeployPolicy(looks=(LOOKS[look],), alpha_spent=(level,), futility_p=None)
        words, _ = simulate(policy, rates, rates, (LOOKS[look],), DRAWS, np.random.default_rng(look))
        book.at_most(f"look {look + 1}", (words == 1).sum(), DRAWS, level)


@pytest.mark.parametrize("repeats", [3, 5, 9])
def test_the_lower_bound_is_seldom_above_the_true_gain(book: Book, repeats: int) -> None:
    """The bar on growth rests on it: score interval over fixed tasks, one-sided 5 % (the score test is no exact one)."""
    rng = np.random.default_rng(repeats)
    before, after = np.linspace(0.2, 0.7, 8), np.linspace(0.5, 0.95, 8)
    true, shape = float((after - before).mean()), (DRAWS, 8)
    x1, x2 = (rng.binomial(repeats, rates, shape).astype(float) for rates in (before, after))
    runs = np.full(shape, float(repeats))
    # the bound lies above the true gain exactly where the score at the true gain is beyond the quantile
    score = stratified_score(x2, runs, x1, runs, np.full(DRAWS, true))
    wrong = score > 1.6448536
    for at in range(40):
        mine = agent_suites.fixed_gain_interval(x1[at], runs[at], x2[at], runs[at], 1 - 2 * ALPHA)
        assert (mine.lower > true) is bool(wrong[at])
    book.at_most(f"lower bound above the gain, 8 x {repeats}", wrong.sum(), DRAWS, 0.06)


def test_bounds_over_tasks_hold_for_skewed_effects(book: Book) -> None:
    """Typical values of the tasks' gains: most tasks gain a little, some much."""
    rng = np.random.default_rng(21)
    draws, tasks = 4000, 12
    gains = np.where(rng.random((draws, tasks)) < 0.25, 0.6, 0.05) + rng.normal(0, 0.15, (draws, tasks))
    true = 0.25 * 0.6 + 0.75 * 0.05
    lows = sum(agent_suites.subset_mean_bounds(g, 0.9).lower > true for g in gains)
    book.at_most("lower bound of typical values above the mean", lows, draws, ALPHA)


def test_partial_scores_keep_the_level(book: Book) -> None:
    """Permuted scores of unequal numbers of runs."""
    rng, draws, hits, misses = np.random.default_rng(31), 3000, 0, 0
    for _ in range(draws):
        shape = rng.uniform(0.5, 3, 6)
        before = [rng.beta(a, 1.5, 4) for a in shape]
        after = [rng.beta(a, 1.5, 5) for a in shape]
        found = agent_suites.score_permutation(before, after, 0.9, draws=499, seed=int(rng.integers(1e6)))
        hits += found.p_better <= ALPHA
        misses += not found.interval.lower <= 0.0 <= found.interval.upper
    book.at_most("unchanged scores called better", hits, draws, 0.07)
    book.at_most("the interval misses no gain", misses, draws, 0.13)


def test_runs_that_vanish_at_random_keep_the_level_through_the_gate(book: Book) -> None:
    """Infra errors on both sides, the gate itself: they cost power and no error."""
    rng, draws, deployed = np.random.default_rng(41), 500, 0
    gate = DeployGate(DeployPolicy(require_canary=False))
    for _ in range(draws):
        runs = []
        for arm in (BASELINE, CANDIDATE):
            for task in range(8):
                for rep in range(1, 5):
                    outcome = AgentOutcome.PASS if rng.random() < 0.5 else AgentOutcome.TASK_FAIL
                    if rng.random() < 0.04:
                        outcome = AgentOutcome.INFRA_ERROR
                    score = (
                        None if outcome is AgentOutcome.INFRA_ERROR else float(outcome is AgentOutcome.PASS)
                    )
                    runs.append(
                        AgentRun(task=f"t{task}", arm=arm, rep=rep, block=rep, outcome=outcome, score=score)
                    )
        evidence = AgentRuns(
            subject="candidate",
            suite="s",
            runner="r",
            text_chars={BASELINE: 10, CANDIDATE: 10},
            tasks=tuple(f"t{t}" for t in range(8)),
            repeats={BASELINE: 4, CANDIDATE: 4},
            runs=tuple(runs),
        )
        deployed += gate.judge({"candidate.runs": evidence}).outcome is Outcome.ACCEPT
    book.at_most("unchanged text with lost runs", deployed, draws, ALPHA + 0.01)
