"""Looks: their levels never cost more than the error rate, order never matters, worse never looks better."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from assay import stats
from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome, Status
from assay.gates._compare import looks
from assay.gates._compare.looks import Levels
from assay.gates.compare import CompareGate, ComparePolicy, LookPlan, look_plan

RANK = {Outcome.ACCEPT: 3, Outcome.INCONCLUSIVE: 2, Outcome.REGRESSION: 1, Outcome.ANOMALOUS: 0}

plans = st.builds(
    lambda rule, ends, topup: LookPlan(
        rule=rule, ends=tuple(sorted(ends)), sizes={"t": 4000}, topup_frac=topup
    ),
    st.sampled_from(["group", "anytime"]),
    st.sets(st.integers(1, 3000), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.2, 0.5]),
)
counts = st.tuples(st.integers(30, 90), st.integers(0, 15), st.integers(0, 15))
"""Pairs, and those that only the baseline or only the candidate got right."""
suites = st.dictionaries(st.sampled_from("tu"), counts, min_size=1, max_size=2)


def levels(policy: ComparePolicy, n: int, tasks: int) -> Levels:
    """The levels at n items."""
    found = looks.at(policy, tasks, n)
    assert isinstance(found, Levels)
    return found


def crossed(ends: tuple[int, ...], nominal: list[float]) -> float:
    """Chance that a standard normal walk ever lies beyond the boundaries of these levels, by numeric integration."""
    grid = np.linspace(-7.0, 7.0, 601)
    step = grid[1] - grid[0]
    density, total, before = np.zeros_like(grid), 0.0, 0
    for end, level in zip(ends, nominal, strict=True):
        time, passed = end / ends[-1], (end - before) / ends[-1]
        if before:
            kernel = np.exp(-((grid[:, None] - grid[None, :]) ** 2) / (2 * passed)) / math.sqrt(
                2 * math.pi * passed
            )
            density = kernel @ density * step
        else:
            density = np.exp(-(grid**2) / (2 * passed)) / math.sqrt(2 * math.pi * passed)
        bound = _z(level) * math.sqrt(time)
        beyond = np.clip(
            (grid - bound) / step + 0.5, 0.0, 1.0
        )  # a cell that the boundary cuts counts in part
        total += float((density * beyond).sum()) * step
        density = density * (1.0 - beyond)
        before = end
    return total


def _z(level: float) -> float:
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * math.erfc(middle / math.sqrt(2)) > level else (low, middle)
    return low


@given(plans, st.floats(0.001, 0.2), st.floats(0.001, 0.2), st.integers(1, 9), st.integers(1, 20))
def test_no_look_has_more_than_the_error_rate(
    plan: LookPlan, alpha: float, regress: float, candidates: int, tasks: int
) -> None:
    """Every planned look tests at most at what the contract has for it; bets after the plan at the kept part."""
    policy = ComparePolicy(alpha_accept=alpha, alpha_regress=regress, comparisons=candidates, looks=plan)
    found = [levels(policy, end, tasks) for end in plan.ends]
    for level in found:
        assert 0.0 < level.accept <= alpha / candidates * (1 + 1e-9)
        assert 0.0 < level.regress_task <= level.regress <= regress * (1 + 1e-9)
        assert level.betting == (plan.rule == "anytime")
    assert [x.look for x in found] == list(range(1, len(found) + 1))
    if plan.rule == "group" and plan.topup_frac:
        beyond = levels(policy, plan.ends[-1] + 1, tasks)
        assert beyond.betting
        assert math.isclose(beyond.accept, alpha / candidates * plan.topup_frac)


@given(st.sets(st.integers(1, 20), min_size=2, max_size=6), st.sampled_from([0.01, 0.025, 0.05, 0.1]))
def test_all_looks_together_spend_the_error_rate(steps: set[int], alpha: float) -> None:
    """The chance that any of the planned looks errs, integrated anew, is alpha: not more, and nearly not less."""
    ends = tuple(50 * s for s in sorted(steps))
    plan = LookPlan(rule="group", ends=ends, sizes={"t": 4000})
    policy = ComparePolicy(alpha_accept=alpha, looks=plan)
    spent = crossed(ends, [levels(policy, end, 1).accept for end in ends])
    assert spent <= alpha * 1.02
    assert spent >= alpha * 0.96


@given(st.sets(st.integers(1, 20), min_size=2, max_size=6))
def test_a_further_look_is_paid_for_by_the_last(steps: set[int]) -> None:
    """One more look on the way leaves the last one less, never more."""
    ends = tuple(100 * s for s in sorted(steps))
    policy = ComparePolicy(looks=LookPlan(rule="group", ends=(*ends, 2100), sizes={"t": 4000}))
    last = levels(policy, 2100, 1).accept
    fewer = ComparePolicy(looks=LookPlan(rule="group", ends=(*ends[:-1], 2100), sizes={"t": 4000}))
    assert last <= levels(fewer, 2100, 1).accept * (1 + 1e-6)


# --- the gate at a look -------------------------------------------------------------------------------------


def evaluation(suite: dict[str, tuple[int, int, int]], side: int) -> Results:
    """One side of a suite; the pairs that did not change are right."""
    tasks = []
    for name, (n, lost, won) in suite.items():
        scores = ([1.0] * lost + [0.0] * won, [0.0] * lost + [1.0] * won)[side] + [1.0] * (n - lost - won)
        tasks.append(_task(name, scores, list(range(n))))
    return Results(subject="x", harness="h", tasks=tuple(tasks))


def _task(name: str, scores: list[float], order: list[int]) -> TaskResult:
    n = len(scores)
    rows = Samples(
        id=tuple(str(i) for i in order),
        repeat=(0,) * n,
        prompt=("p",) * n,
        score=tuple(scores[i] for i in order),
        state=(SampleState.SCORED,) * n,
        output=("o",) * n,
    )
    return TaskResult(task=name, metric="acc", score=sum(scores) / n, samples=rows)


def judge(baseline: Results, candidate: Results, policy: ComparePolicy) -> Verdict:
    """The verdict of the gate."""
    return CompareGate(policy).judge({"baseline.results": baseline, "candidate.results": candidate})


def contract(suite: dict[str, tuple[int, int, int]], rule: str, looks_: int) -> ComparePolicy:
    """A plan of which the suite is the first of some looks."""
    total = sum(n for n, _, _ in suite.values())
    ends = tuple(total * k for k in range(1, looks_ + 1))
    sizes = {t: n * looks_ for t, (n, _, _) in suite.items()}
    plan = LookPlan(rule=rule, ends=ends, sizes=sizes)
    return ComparePolicy(margin=0.1, guard=0.3, implausible_gain=None, looks=plan)


rules = st.sampled_from(["group", "anytime"])


@given(suites, rules, st.integers(1, 4), st.randoms(use_true_random=False))
def test_order_of_rows_never_matters(
    suite: dict[str, tuple[int, int, int]], rule: str, looks_: int, rng: Any
) -> None:
    """Whatever order the batches came in, the look says the same."""
    policy = contract(suite, rule, looks_)
    baseline, candidate = evaluation(suite, 0), evaluation(suite, 1)
    shuffled = []
    for task in candidate.tasks:
        order = list(range(len(task.samples)))
        rng.shuffle(order)
        shuffled.append(_task(task.task, [s or 0.0 for s in task.samples.score], order))
    rng.shuffle(shuffled)
    one = judge(baseline, candidate, policy)
    other = judge(baseline, candidate.model_copy(update={"tasks": tuple(shuffled)}), policy)
    assert (one.outcome, one.detail, one.open, one.needed) == (
        other.outcome,
        other.detail,
        other.open,
        other.needed,
    )


@given(suites, rules, st.integers(1, 4), st.data())
def test_worse_answers_never_look_better(
    suite: dict[str, tuple[int, int, int]], rule: str, looks_: int, data: st.DataObject
) -> None:
    """Right answers of the candidate turned wrong leave the word of a look or lower it."""
    name = data.draw(st.sampled_from(sorted(suite)))
    n, lost, won = suite[name]
    assume(n > lost + won)
    turned = data.draw(st.integers(1, n - lost - won))
    policy = contract(suite, rule, looks_)
    before = judge(evaluation(suite, 0), evaluation(suite, 1), policy)
    worse = suite | {name: (n, lost + turned, won)}
    after = judge(evaluation(worse, 0), evaluation(worse, 1), policy)
    assert before.outcome is not None
    assert after.outcome is not None
    assume(before.outcome is not Outcome.ANOMALOUS)
    assert RANK[after.outcome] <= RANK[before.outcome]


@given(suites, rules, st.integers(2, 6))
def test_an_early_look_is_never_bolder_than_one_test(
    suite: dict[str, tuple[int, int, int]], rule: str, looks_: int
) -> None:
    """What a look accepts or refuses, a single test with the whole error rate does too; bets never beat the test."""
    early = judge(evaluation(suite, 0), evaluation(suite, 1), contract(suite, rule, looks_))
    once = judge(
        evaluation(suite, 0),
        evaluation(suite, 1),
        ComparePolicy(margin=0.1, guard=0.3, implausible_gain=None),
    )
    if rule == "group":
        if early.outcome is Outcome.ACCEPT:
            assert once.outcome is Outcome.ACCEPT
        if early.estimates and early.estimates[0].status is Status.FAIL:
            assert once.outcome is Outcome.REGRESSION
    open_ = early.open
    assert not open_ or early.status is Status.INCONCLUSIVE


@given(counts, st.integers(1, 30), st.floats(0.01, 0.5))
def test_bets_do_not_depend_on_how_pairs_came(flips: tuple[int, int, int], size: int, margin: float) -> None:
    """In batches of any size, or by the counts alone, the evidence is the same."""
    n, lost, won = flips
    d = [1.0] * lost + [-1.0] * won + [0.0] * (n - lost - won)
    process = stats.BettingProcess(margin)
    for start in range(0, n, size):
        process.update(d[start : start + size])
    counted = stats.betting_evidence(lost, won, n, margin)
    assert math.isclose(process.evidence.log_e_accept, counted.log_e_accept, rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(process.evidence.log_e_regress, counted.log_e_regress, rel_tol=1e-9, abs_tol=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(0.05, 0.95), st.floats(0.01, 0.5))
def test_a_power_below_one_dampens_the_bet(d: list[float], power: float, margin: float) -> None:
    """A task that weighs less moves the evidence less, towards nothing on both sides."""
    whole, part = stats.BettingProcess(margin), stats.BettingProcess(margin)
    whole.update(d)
    part.update(d, power)
    for one, other in (
        (whole.evidence.log_e_accept, part.evidence.log_e_accept),
        (whole.evidence.log_e_regress, part.evidence.log_e_regress),
    ):
        # E[c^p] <= E[c]^p over the shares (Jensen): never more evidence than the power of the whole
        assert other <= power * one + 1e-9


@given(
    st.dictionaries(st.text("ab", min_size=1, max_size=3), st.integers(1, 3000), min_size=1, max_size=6),
    st.sampled_from(["auto", "group", "anytime"]),
    st.integers(1, 30),
    st.integers(1, 500),
    st.integers(6, 5000) | st.none(),
)
def test_a_look_plan_rises_to_its_limit(
    sizes: dict[str, int], rule: str, looks_: int, first: int, n_max: int | None
) -> None:
    """It can be made of any tasks; the last look is the limit, and no look lacks a task."""
    plan = look_plan(ComparePolicy(), sizes, rule=rule, looks=looks_, first=first, n_max=n_max)
    whole = sum(sizes.values())
    assert plan.ends[-1] == min(whole, n_max or whole)
    assert plan.ends[0] >= min(first, plan.ends[-1])
    assert plan.ends[0] >= len(sizes)
    assert len(plan.ends) <= looks_
