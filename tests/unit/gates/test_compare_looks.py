"""Compare gate with looks: the level of each look, futility, bets, and what may not be looked at."""

from __future__ import annotations

import math
from typing import Any

import pytest
from compare_evidence import Flips, compared
from pydantic import ValidationError

from assay import stats
from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates._compare import looks
from assay.gates._compare.looks import Levels
from assay.gates._compare.pairs import Anomaly
from assay.gates.compare import ComparePolicy, LookPlan, look_plan

ENDS = (200, 400, 600, 800, 1000)


def policy(rule: str = "group", ends: tuple[int, ...] = ENDS, **more: Any) -> ComparePolicy:
    """A contract of one task with looks."""
    plan = {k: more.pop(k) for k in ("topup_frac", "futile_below") if k in more}
    sizes = more.pop("sizes", {"t": 2000})
    values: dict[str, Any] = {"margin": 0.05, "planning_flip_rate": 0.05, "implausible_gain": None, **more}
    return ComparePolicy(looks=LookPlan(rule=rule, ends=ends, sizes=sizes, **plan), **values)


def judge(flips: Flips, contract: ComparePolicy) -> Verdict:
    """The verdict on one task."""
    return compared(contract, {"t": flips})


def levels(contract: ComparePolicy, n: int, tasks: int = 1) -> Levels:
    """The levels at n items."""
    found = looks.at(contract, tasks, n)
    assert isinstance(found, Levels)
    return found


def test_group_levels_are_the_spending_boundaries() -> None:
    """Each look is tested at the Lan-DeMets boundary of Pocock type; five of them cost 5 % in all."""
    found = [levels(policy(), n).accept for n in ENDS]
    z = stats.spending_boundaries([0.2, 0.4, 0.6, 0.8, 1.0], 0.05, "pocock")
    assert found == pytest.approx([0.5 * math.erfc(float(b) / math.sqrt(2)) for b in z])
    assert max(found) < 0.05 < sum(found)


def test_group_of_one_look_is_the_fixed_test() -> None:
    """One planned look has the whole error rate."""
    assert levels(policy(ends=(1000,)), 1000).accept == 0.05


def test_tasks_share_the_regression_rate() -> None:
    """Half for the mean, half for the tasks in equal parts; a guard is tested at the level of the mean's ACCEPT."""
    single, three = levels(policy("anytime"), 400), levels(policy("anytime"), 400, tasks=3)
    assert (single.regress, single.regress_task) == (0.05, 0.05)
    assert three.regress == 0.025
    assert three.regress_task == pytest.approx(0.025 / 3)
    assert three.accept == 0.05


def test_candidates_share_the_acceptance_rate_at_each_look() -> None:
    """A ladder of four spends 1.25 % over the looks of each."""
    whole = levels(policy("anytime", comparisons=4), 400)
    assert whole.accept == pytest.approx(0.0125)
    assert levels(policy(comparisons=4), 400).accept < 0.0125


@pytest.mark.parametrize("n", [199, 201, 999])
def test_group_looks_only_where_it_was_planned(n: int) -> None:
    """Another number of pairs is no look: some were lost, or somebody peeks."""
    found = looks.at(policy(), 1, n)
    assert isinstance(found, Anomaly)
    assert found.failure_class is FailureClass.SAMPLE_ACCOUNTING_FAILED
    verdict = judge((n, 0, 0), policy())
    assert (verdict.status, verdict.outcome) == (Status.ERROR, Outcome.ANOMALOUS)
    assert f"{n} pairs are none of the planned looks" in verdict.detail


def test_group_without_a_reserve_ends_with_its_plan() -> None:
    """More pairs after the last look cannot accept whatever they say: the rate is spent."""
    verdict = judge((1200, 0, 0), policy())
    assert (verdict.outcome, verdict.failure_class) == (Outcome.ANOMALOUS, FailureClass.USER_CONFIG_ERROR)


def test_group_with_a_reserve_goes_on_by_betting() -> None:
    """The planned looks have 80 % of the rates, the bets after them 20 %."""
    contract = policy(topup_frac=0.2)
    assert levels(contract, 1000).accept < levels(policy(), 1000).accept
    beyond = levels(contract, 1200)
    assert (beyond.betting, beyond.look) == (True, 0)
    assert beyond.accept == pytest.approx(0.01)
    assert judge((1200, 5, 5), contract).status is Status.PASS


def test_anytime_bets_at_whatever_number() -> None:
    """Between looks and beyond them the level is the same."""
    contract = policy("anytime")
    found = [levels(contract, n) for n in (150, 200, 777, 1000, 1500)]
    assert {(x.accept, x.betting) for x in found} == {(0.05, True)}
    assert [x.look for x in found] == [0, 1, 0, 5, 0]


def test_bets_of_one_task_are_those_of_stats() -> None:
    """The p value is one over the evidence, never above 1."""
    macro = judge((600, 12, 9), policy("anytime")).estimates[0]
    evidence = stats.betting_evidence(12, 9, 600, 0.05)
    assert macro.p_accept == pytest.approx(math.exp(-max(0.0, evidence.log_e_accept)))
    assert macro.p_regress == 1.0


@pytest.mark.parametrize("rule", ["group", "anytime"])
def test_it_stops_when_it_knows(rule: str) -> None:
    """Few flips: ACCEPT; a large drop: REGRESSION; in between it stays open and says what is left."""
    contract = policy(rule, ends=(400, 800, 1200))
    good, bad, unsure = (judge(f, contract) for f in ((400, 0, 0), (400, 70, 3), (400, 26, 12)))
    assert (good.status, good.open) == (Status.PASS, False)
    assert (bad.status, bad.open) == (Status.FAIL, False)
    assert (unsure.status, unsure.open) == (Status.INCONCLUSIVE, True)
    assert good.detail.startswith("look 1 of 3, 400 of 1,200 pairs: ")
    assert 0.1 <= unsure.extra["resolution"] <= 1.0
    assert (unsure.extra["rule"], unsure.extra["look"], unsure.extra["looks"]) == (rule, 1, 3)
    assert unsure.needed is not None
    assert unsure.needed > 400


def test_a_look_is_stricter_than_one_test() -> None:
    """What a single test would accept with these pairs, the same pairs as one of five looks may not."""
    flips = (600, 27, 10)
    assert judge(flips, ComparePolicy(margin=0.05, looks=None)).status is Status.PASS
    assert judge(flips, policy()).status is Status.INCONCLUSIVE


def test_futility_gives_up_and_says_the_chance() -> None:
    """On the margin near the end little can still come; `futile_below: 0` never gives up."""
    flips = (800, 50, 10)
    verdict = judge(flips, policy(ends=(200, 800, 1000)))
    assert (verdict.status, verdict.open, verdict.extra["futile"]) == (Status.INCONCLUSIVE, False, True)
    assert "with a chance of" in verdict.detail
    patient = judge(flips, policy(ends=(200, 800, 1000), futile_below=0.0))
    assert (patient.status, patient.open) == (Status.INCONCLUSIVE, True)


def test_the_last_look_is_not_open() -> None:
    """There is nothing left to wait for."""
    for rule in ("group", "anytime"):
        verdict = judge((1000, 60, 12), policy(rule))
        assert (verdict.status, verdict.open, verdict.extra["resolution"]) == (
            Status.INCONCLUSIVE,
            False,
            None,
        )


def test_without_looks_nothing_is_said_of_them() -> None:
    """A contract that looks once has verdicts as before."""
    verdict = judge((400, 40, 20), ComparePolicy(margin=0.05))
    assert not verdict.open
    assert not {"rule", "look", "futile"} & set(verdict.extra)


@pytest.mark.parametrize(("rule", "worth"), [("group", 800), ("anytime", 500)])
def test_a_guard_does_not_follow_the_look(rule: str, worth: int) -> None:
    """The rung is the smallest that the planned looks can prove, whatever is in; a top-up does not lower it."""
    contract = policy(rule, margin=0.01, sizes={"t": 1000}, topup_frac=0.2)
    rungs = {judge((n, 0, 0), contract).estimates[1].margin for n in (200, 1000, 1200)}
    assert rungs == {stats.guard_margin(worth, 0.05)}
    short = policy(rule, margin=0.01, sizes={"t": 12_000})
    assert judge((200, 0, 0), short).estimates[1].margin == stats.guard_margin(worth, 0.05)


def test_bets_weigh_tasks_by_the_plan() -> None:
    """A small task counts as much in the mean as a large one, also by betting: a hole in it stops ACCEPT."""
    contract = policy("anytime", ends=(550, 1100), sizes={"big": 1000, "small": 100}, guard=None, margin=0.2)
    fine = compared(contract, {"big": (500, 2, 2), "small": (50, 0, 0)})
    hole = compared(contract, {"big": (500, 2, 2), "small": (50, 10, 0)})
    assert fine.status is Status.PASS
    assert hole.status is not Status.PASS
    assert hole.estimates[0].p_accept > 10 * fine.estimates[0].p_accept  # type: ignore[operator]


@pytest.mark.parametrize(
    "bad",
    [
        {"ends": ()},
        {"ends": (200, 200)},
        {"ends": (400, 200)},
        {"ends": (0, 200)},
        {"ends": (200.0, 400.0)},
        {"rule": "peek"},
        {"sizes": {"t": 0}},
        {"topup_frac": 0.6},
        {"futile_below": 1.0},
        {"looks": 3},
    ],
)
def test_a_wrong_plan_is_refused(bad: dict[str, Any]) -> None:
    """Looks rise and are whole numbers; nothing unknown is taken."""
    with pytest.raises(ValidationError):
        LookPlan.model_validate({"rule": "group", "ends": [200, 400], "sizes": {"t": 500}} | bad)


def test_look_plan_takes_steps_up_to_the_limit() -> None:
    """Equal steps, none before the first; `n_max` is the last."""
    plan = look_plan(ComparePolicy(), {"t": 1500, "u": 500}, rule="group", looks=4, first=100)
    assert plan.ends == (500, 1000, 1500, 2000)
    assert look_plan(ComparePolicy(), {"t": 2000}, rule="group", looks=10, first=900, n_max=1000).ends == (
        900,
        1000,
    )


def test_look_plan_asks_every_task_at_the_first_look() -> None:
    """A first look smaller than the number of tasks would compare without some of them."""
    sizes = {f"t{i}": 50 for i in range(30)}
    assert look_plan(ComparePolicy(), sizes, looks=100, first=1).ends[0] == 30


def test_auto_takes_group_unless_there_are_plenty() -> None:
    """Up to 2.5 times what one look needs is `group`, beyond is `anytime`."""
    contract = ComparePolicy(planning_flip_rate=0.05)
    once = stats.pairs_needed(0.01, 0.05)
    rules = [look_plan(contract, {"t": int(f * once)}).rule for f in (1.0, 2.4, 2.6)]
    assert rules == ["group", "group", "anytime"]


def test_planned_items_have_the_price_of_looking() -> None:
    """A plan with looks is worth fewer items of a single test; bets are worth half."""
    sizes = {"t": 1000, "u": 1000}
    once = ComparePolicy()
    group = policy(ends=(500, 1000, 2000), sizes=sizes)
    anytime = policy("anytime", ends=(500, 1000, 2000), sizes=sizes)
    half = policy(ends=(500, 1000), sizes=sizes)
    found = [looks.planned_items(p, "t", 1000) for p in (once, group, anytime, half)]
    assert found == [1000, 800, 500, 400]
