"""The deploy gate by hand: every word, every rule that forbids one, and the source's rule beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agent_evidence import CANARY, counted, drawn, judged, passes, run, runs_of
from pydantic import ValidationError

from assay.core.agent import AGAIN, BASELINE, CANDIDATE, EMPTY, KNOWN_GOOD, AgentOutcome, AgentRuns
from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates.deploy import DeployGate, DeployPolicy

LOW, HIGH = [1, 2, 1, 0, 2, 1], [4, 5, 4, 3, 5, 4]
PASS, FAIL = AgentOutcome.PASS, AgentOutcome.TASK_FAIL


def replaced(runs: AgentRuns, whose: str, which: str, **more: Any) -> AgentRuns:
    """The first run of a task and arm, changed."""
    changed, done = [], False
    for r in runs.runs:
        hit = not done and r.arm == whose and r.task == which
        changed.append(r.model_copy(update=more) if hit else r)
        done = done or hit
    return runs.model_copy(update={"runs": tuple(changed)})


def word(verdict: Verdict) -> tuple[Status, Outcome | None]:
    """Status and word."""
    return verdict.status, verdict.outcome


def test_better_is_deployed() -> None:
    """A large gain over six tasks, five times each."""
    found = judged(counted(LOW, HIGH, 5))
    assert word(found) == (Status.PASS, Outcome.ACCEPT)
    assert found.detail.startswith("6 tasks x 5: better on these tasks; 0.23 to 0.83, gain +0.60")
    macro = found.estimates[0]
    assert (macro.task, macro.role) == ("macro", "primary")
    assert macro.drop == pytest.approx(-0.6)
    assert macro.upper is not None
    assert macro.upper < 0 < -macro.drop
    assert found.extra["tasks"]["t0"]["baseline"]["interval"] == pytest.approx([0.046, 0.565], abs=0.001)


def test_worse_is_a_regression() -> None:
    """The same the other way round."""
    assert word(judged(counted(HIGH, LOW, 5))) == (Status.FAIL, Outcome.REGRESSION)


def test_a_few_runs_are_inconclusive_and_say_what_would_settle_it() -> None:
    """One pass over five tasks shows nothing, even where one task more passes."""
    found = judged(counted([1, 0, 0, 1, 0], [1, 1, 0, 1, 0], 1))
    assert word(found) == (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert found.needed is not None
    assert found.needed > 10
    assert not found.open
    assert found.extra["seed"]["decision"] == "deploy"


def test_a_planned_look_leaves_the_question_open() -> None:
    """Before the last look it is open; at the last it is not."""
    first = judged(counted([3, 2, 3, 1, 2], [4, 3, 3, 2, 3], 5), looks=(5, 10))
    assert (first.outcome, first.open) == (Outcome.INCONCLUSIVE, True)
    last = judged(counted([6, 4, 6, 2, 4], [7, 6, 6, 3, 5], 10), looks=(5, 10))
    assert (last.outcome, last.open) == (Outcome.INCONCLUSIVE, False)
    assert last.needed is not None
    assert last.needed > 100


def test_levels_are_spent_over_the_looks() -> None:
    """What one look at 5 % deploys, the first of three does not."""
    runs = counted([1, 1, 2, 1, 2], [3, 2, 3, 2, 3], 3)
    assert judged(runs).outcome is Outcome.ACCEPT
    early = judged(runs, looks=(3, 6, 9))
    assert early.outcome is not Outcome.ACCEPT or early.extra["p_better"] <= early.extra["alpha_better"]
    assert early.extra["alpha_better"] == pytest.approx(0.0096, abs=1e-4)
    exact = judged(runs, looks=(3, 6, 9), alpha_spent=(0.01, 0.015, 0.025))
    assert exact.extra["alpha_better"] == 0.01


def test_candidates_share_the_level() -> None:
    """Five candidates: each is tested at a fifth."""
    runs = counted([1, 1, 2, 1, 2], [3, 2, 3, 2, 3], 3)
    assert judged(runs, candidates=1).outcome is Outcome.ACCEPT
    found = judged(runs, candidates=50)
    assert found.extra["alpha_better"] == pytest.approx(0.001)
    assert found.outcome is Outcome.INCONCLUSIVE


def test_a_useless_candidate_ends_early() -> None:
    """No gain to be seen at a planned look is NO_GAIN; without a plan it is not."""
    runs = counted([3, 2, 3, 1, 2], [3, 2, 3, 1, 1], 5)
    assert word(judged(runs, looks=(5, 10))) == (Status.FAIL, Outcome.NO_GAIN)
    assert judged(runs, looks=(5, 10), futility_p=None).outcome is Outcome.INCONCLUSIVE
    assert judged(runs).outcome is Outcome.INCONCLUSIVE


def test_growth_must_be_earned_by_the_lower_bound() -> None:
    """The default preset asks .3 of the growth beyond 20 %."""
    assert judged(counted(LOW, HIGH, 5, chars=(1000, 2000))).outcome is Outcome.ACCEPT
    held = judged(counted(LOW, HIGH, 5, chars=(1000, 3000)))
    assert held.extra["bar"] == pytest.approx(0.54)
    assert held.outcome is Outcome.INCONCLUSIVE
    assert "growth costs" in held.detail
    long = judged(counted(LOW, HIGH, 5, chars=(1000, 4000)))
    assert word(long) == (Status.FAIL, Outcome.NO_GAIN)
    assert judged(counted(LOW, HIGH, 5, chars=(1000, 4000)), growth="off").outcome is Outcome.ACCEPT
    assert judged(counted(LOW, HIGH, 5, chars=(1000, 4000)), growth_slope=0.1).outcome is Outcome.ACCEPT


def test_an_unknown_length_is_no_length() -> None:
    """What growth costs is not known then, unless it costs nothing."""
    runs = counted(LOW, HIGH, 5).model_copy(update={"text_chars": {BASELINE: 1000}})
    assert judged(runs).outcome is Outcome.ANOMALOUS
    assert judged(runs, growth="off").outcome is Outcome.ACCEPT


def test_equivalent_and_shorter_is_deployed_only_where_declared() -> None:
    """The margin must be declared, met by the bound, and the text shorter."""
    same = [19] * 10
    shorter = counted(same, same, 20, chars=(1000, 700))
    assert judged(shorter, equivalent_margin=0.1).outcome is Outcome.ACCEPT
    assert judged(shorter).outcome is Outcome.INCONCLUSIVE
    assert judged(shorter, equivalent_margin=0.02).outcome is Outcome.INCONCLUSIVE
    assert judged(counted(same, same, 20), equivalent_margin=0.1).outcome is Outcome.INCONCLUSIVE
    population = judged(shorter, equivalent_margin=0.1, estimand="population")
    assert population.outcome is Outcome.INCONCLUSIVE


def test_few_tasks_never_speak_for_others() -> None:
    """Four tasks, however often: no claim about tasks like these, and the number that could make one."""
    runs = drawn(np.random.default_rng(1), [0.1] * 4, [0.9] * 4, 20)
    assert judged(runs).outcome is Outcome.ACCEPT
    found = judged(runs, estimand="population")
    assert word(found) == (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert found.needed == 2 * 5 * 20
    assert "5 are needed" in found.detail
    looks = judged(runs, estimand="population", looks=(20, 40, 60))
    assert "6 are needed" in looks.detail


def test_a_population_claim_needs_tasks_that_agree() -> None:
    """Twelve tasks of which most gain."""
    before, after = [1, 2, 1, 2, 0, 1, 2, 1, 1, 0, 2, 1], [4, 4, 3, 5, 2, 4, 3, 4, 1, 3, 4, 3]
    found = judged(counted(before, after, 5), estimand="population")
    assert found.outcome is Outcome.ACCEPT
    assert "on tasks like these" in found.detail
    assert found.extra["method"] == "sign_flip"


def test_tasks_that_all_gain_alike_prove_no_certain_gain() -> None:
    """Six of six from 0 to 1 is better, and "at least +1.00" is not shown: some may lose all, and not be drawn."""
    found = judged(counted([0] * 6, [1] * 6, 1), estimand="population")
    assert found.outcome is Outcome.ACCEPT
    assert found.extra["lower"] == pytest.approx(2 * 0.05 ** (1 / 6) - 1)
    assert "gain +1.00 (at least +0.21 and at most +1.00, 95 % sure each)" in found.detail
    little = judged(counted([4] * 6, [5] * 6, 10), estimand="population")
    assert little.outcome is Outcome.ACCEPT
    assert little.extra["lower"] < 0 < little.extra["upper"]
    assert "better on tasks like these, though not by how much;" in little.detail


def test_growth_is_earned_by_what_the_tasks_can_show() -> None:
    """The bar is held against that bound, and the runs that are said to settle it do, where all tasks gain alike."""
    six = judged(counted([0] * 6, [1] * 6, 1, chars=(1000, 2400)), estimand="population")
    assert six.extra["lower"] < six.extra["bar"] == pytest.approx(0.36)
    assert six.outcome is Outcome.INCONCLUSIVE
    assert six.needed is not None
    for tasks, outcome in ((7, Outcome.INCONCLUSIVE), (8, Outcome.ACCEPT)):
        runs = counted([0] * tasks, [1] * tasks, 1, chars=(1000, 2400))
        found = judged(runs, estimand="population", planning_gain=0.99)
        assert found.outcome is outcome
        assert found.needed == (None if outcome is Outcome.ACCEPT else 2 * 8)


def test_a_deterministic_agent_is_seen_and_its_repeats_count_once() -> None:
    """Every repeat alike: only tasks count, at the full level, and no look is left to wait for."""
    found = judged(counted([0] * 5, [3] * 5, 3), looks=(3, 6, 9))
    assert found.outcome is Outcome.ACCEPT
    assert found.extra["deterministic"]
    assert found.extra["p_better"] == pytest.approx(1 / 32)
    few = judged(counted([0] * 4, [3] * 4, 3), looks=(3, 6, 9))
    assert (few.outcome, few.open) == (Outcome.INCONCLUSIVE, False)
    assert any("repeats are worthless" in r.text for r in few.reasons)
    mixed = judged(counted([0, 0, 3, 3, 0, 3], [3, 3, 0, 3, 3, 3], 3), looks=(3, 6, 9))
    assert mixed.outcome is Outcome.INCONCLUSIVE


def test_partial_scores_are_permuted() -> None:
    """Scores between 0 and 1 are tested as they are, in any order of runs."""
    before = {f"t{i}": [0.1, 0.3, 0.2, 0.25] for i in range(6)}
    after = {f"t{i}": [0.7, 0.5, 0.8, 0.6] for i in range(6)}
    found = judged(runs_of({BASELINE: before, CANDIDATE: after}))
    assert found.outcome is Outcome.ACCEPT
    assert found.extra["method"] == "score_permutation"
    assert found.extra["gain"] == pytest.approx(0.4375)
    assert judged(runs_of({BASELINE: after, CANDIDATE: before})).outcome is Outcome.REGRESSION


def test_agent_errors_and_timeouts_are_failures() -> None:
    """An agent that breaks down with the candidate has failed."""
    cells = {f"t{i}": [PASS, AgentOutcome.AGENT_ERROR, AgentOutcome.AGENT_TIMEOUT] for i in range(6)}
    found = judged(runs_of({BASELINE: passes([2] * 6, 3), CANDIDATE: cells}))
    assert found.estimates[0].candidate == pytest.approx(1 / 3)
    assert found.extra["broken_down"] == {BASELINE: 0, CANDIDATE: 12}


def test_an_agent_that_mostly_breaks_down_proves_nothing() -> None:
    """More than half of the baseline's runs: it is the agent."""
    cells = {f"t{i}": [PASS, AgentOutcome.AGENT_ERROR, AgentOutcome.AGENT_ERROR] for i in range(6)}
    found = judged(runs_of({BASELINE: cells, CANDIDATE: passes([3] * 6, 3)}))
    assert word(found) == (Status.ERROR, Outcome.ANOMALOUS)
    assert found.failure_class is FailureClass.SYSTEMIC


def test_infra_errors_are_told_limited_and_never_help_the_candidate() -> None:
    """A few are told; for "better" they count as failed; too many, or more on one side, forbid a verdict."""
    lost = AgentOutcome.INFRA_ERROR
    cells: dict[str, Any] = passes(HIGH, 5)
    cells["t3"] = [1.0, 1.0, 1.0, 0.0, lost]
    found = judged(runs_of({BASELINE: passes(LOW, 5), CANDIDATE: cells}))
    assert found.outcome is Outcome.ACCEPT
    assert found.extra["infra"][CANDIDATE] == [1, 30]
    assert found.estimates[4].candidate == pytest.approx(0.75)
    assert any("count as failed" in r.text for r in found.reasons)
    many = {t: [lost, lost, *v[2:]] for t, v in passes(HIGH, 5).items()}
    assert judged(runs_of({BASELINE: passes(LOW, 5), CANDIDATE: many})).outcome is Outcome.ANOMALOUS
    both = judged(runs_of({BASELINE: passes(LOW, 5), CANDIDATE: many}), max_infra_frac=0.5)
    assert "different rates" in both.detail
    gone = {**passes(HIGH, 5), "t0": [lost] * 5}
    whole = judged(
        runs_of({BASELINE: passes(LOW, 5), CANDIDATE: gone}), max_infra_frac=1.0, infra_differs_p=0.0
    )
    assert whole.detail == "t0: no run of candidate taught anything"


def test_meddling_is_a_failure_and_forbids_a_verdict_where_the_candidate_does_it_more() -> None:
    """One run that touched deciding files, on either side."""
    runs = counted(LOW, HIGH, 5)
    mine = judged(replaced(runs, CANDIDATE, "t0", tampered=("tests/test.py",)))
    assert mine.outcome is Outcome.ANOMALOUS
    assert "touched deciding files" in mine.detail
    theirs = judged(replaced(runs, BASELINE, "t0", tampered=("tests/test.py",)))
    assert theirs.outcome is Outcome.ACCEPT
    assert theirs.extra["tasks"]["t0"]["baseline"]["passes"] == 0


@pytest.mark.parametrize(
    ("arm", "said", "failure"),
    [
        (BASELINE, "does not reach the agent", FailureClass.SYSTEMIC),
        (CANDIDATE, "it broke what they ask for", FailureClass.NOT_COMPARABLE),
    ],
)
def test_a_text_that_does_not_arrive_is_not_judged(arm: str, said: str, failure: FailureClass) -> None:
    """Canaries of both texts must pass; a candidate that alone fails them says nothing about other candidates."""
    runs = counted(LOW, HIGH, 5)
    changed = tuple(
        r.model_copy(update={"outcome": FAIL, "score": 0.0}) if r.task == CANARY and r.arm == arm else r
        for r in runs.runs
    )
    found = judged(runs.model_copy(update={"runs": changed}))
    assert word(found) == (Status.ERROR, Outcome.ANOMALOUS)
    assert said in found.detail
    assert found.failure_class is failure


def test_one_canary_run_a_look_is_enough() -> None:
    """Canaries prove delivery: they need not be repeated as often as what decides."""
    runs = counted(LOW, HIGH, 5)
    fewer = runs.model_copy(update={"runs": tuple(r for r in runs.runs if r.task != CANARY or r.rep == 1)})
    assert judged(fewer).outcome is Outcome.ACCEPT
    none = runs.model_copy(update={"runs": tuple(r for r in runs.runs if r.task != CANARY)})
    assert judged(none).outcome is Outcome.ANOMALOUS


def test_no_canary_no_verdict() -> None:
    """Unless the contract says so."""
    runs = counted(LOW, HIGH, 5, canary=False)
    assert judged(runs).outcome is Outcome.ANOMALOUS
    assert judged(runs, require_canary=False).outcome is Outcome.ACCEPT


def test_controls_are_judged_where_they_were_run() -> None:
    """The empty text must fail canaries, the known good one pass them, the baseline agree with itself."""
    arms: dict[str, Any] = {BASELINE: passes(LOW, 5), CANDIDATE: passes(HIGH, 5)}
    assert judged(runs_of({**arms, EMPTY: passes([0] * 6, 5)})).outcome is Outcome.ACCEPT
    loud = runs_of({**arms, EMPTY: passes([0] * 6, 5)})
    loud = loud.model_copy(
        update={
            "runs": tuple(
                r.model_copy(update={"outcome": PASS, "score": 1.0}) if r.task == CANARY else r
                for r in loud.runs
            )
        }
    )
    assert "pass without the text" in judged(loud).detail
    assert judged(runs_of({**arms, KNOWN_GOOD: passes([5] * 6, 5)})).outcome is Outcome.ACCEPT
    assert judged(runs_of({**arms, AGAIN: passes([2, 1, 1, 1, 2, 1], 5)})).outcome is Outcome.ACCEPT
    assert "differs from itself" in judged(runs_of({**arms, AGAIN: passes([5, 4, 5, 4, 5, 4], 5)})).detail


BROKEN: dict[str, Any] = {
    "missing": lambda r: r.model_copy(update={"runs": r.runs[1:]}),
    "twice": lambda r: r.model_copy(update={"runs": (*r.runs, r.runs[0])}),
    "too many": lambda r: r.model_copy(update={"runs": (*r.runs, r.runs[0].model_copy(update={"rep": 9}))}),
    "foreign task": lambda r: replaced(r, BASELINE, "t0", task="other"),
    "foreign arm": lambda r: replaced(r, BASELINE, "t0", arm="other"),
    "another text": lambda r: replaced(r, CANDIDATE, "t0", text="sha256:other"),
    "pass without score": lambda r: replaced(r, CANDIDATE, "t0", outcome=PASS, score=None),
    "pass of score 0": lambda r: replaced(r, CANDIDATE, "t0", outcome=PASS, score=0.0),
    "failure of score 1": lambda r: replaced(r, CANDIDATE, "t0", outcome=FAIL, score=1.0),
    "infra error with score": lambda r: replaced(
        r, CANDIDATE, "t0", outcome=AgentOutcome.INFRA_ERROR, score=1.0
    ),
    "no candidate": lambda r: r.model_copy(update={"repeats": {BASELINE: 5}}),
    "only canaries": lambda r: r.model_copy(update={"canaries": r.tasks}),
    "strange canary": lambda r: r.model_copy(update={"canaries": ("nobody",)}),
    "task twice": lambda r: r.model_copy(update={"tasks": (*r.tasks, r.tasks[0])}),
    "another block": lambda r: replaced(r, CANDIDATE, "t0", block=7),
    "one arm after the other": lambda r: r.model_copy(
        update={"runs": tuple(x.model_copy(update={"place": i, "block": 1}) for i, x in enumerate(r.runs))}
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_books_are_no_verdict(name: str) -> None:
    """Whatever does not add up is anomalous, and says where."""
    found = judged(BROKEN[name](counted(LOW, HIGH, 5)))
    assert word(found) == (Status.ERROR, Outcome.ANOMALOUS)
    assert found.failure_class is not None


def test_a_number_of_repeats_that_was_not_planned_is_no_look() -> None:
    """Looking between the planned looks spends what nobody set aside."""
    found = judged(counted(LOW, HIGH, 5), looks=(3, 6))
    assert "none of the planned looks" in found.detail


def test_no_evidence_is_an_error() -> None:
    """Never an exception."""
    found = DeployGate().judge({})
    assert word(found) == (Status.ERROR, Outcome.ANOMALOUS)


def test_a_guarded_task_refuses_where_declared() -> None:
    """Better on the whole, and one task surely worse."""
    runs = counted([2] * 8 + [15], [14] * 8 + [1], 15)
    found = judged(runs)
    assert found.outcome is Outcome.ACCEPT
    assert list(found.extra["worse_tasks"]) == ["t8"]
    assert judged(runs, task_guard=True).outcome is Outcome.REGRESSION


def test_both_rules_are_always_shown() -> None:
    """Under each, the other's verdict stands beside."""
    runs = counted([3, 2, 3, 1, 2], [3, 2, 3, 1, 3], 5)
    sound = judged(runs)
    assert sound.extra["seed"]["outcome"] in {"ACCEPT", "NO_GAIN", "REGRESSION"}
    assert sound.extra["seed"]["document"]["schema_version"] == 5
    seed = judged(runs, rules="seed")
    assert seed.outcome == sound.extra["seed"]["outcome"]
    assert seed.extra["sound"]["outcome"] == sound.outcome


def test_the_sources_rule_decides_by_the_first_pass() -> None:
    """One task more in the first repeat deploys, whatever the others say."""
    before = {f"t{i}": [0.0, 1.0, 1.0] for i in range(5)}
    after = {**{f"t{i}": [0.0, 0.0, 0.0] for i in range(4)}, "t4": [1.0, 0.0, 0.0]}
    runs = runs_of({BASELINE: before, CANDIDATE: after})
    assert judged(runs, rules="seed").outcome is Outcome.ACCEPT
    assert judged(runs).outcome is Outcome.REGRESSION


def test_the_source_calls_a_timeout_an_abstention() -> None:
    """One of them ends its evaluation; ours counts it as a failure."""
    cells: dict[str, Any] = {**passes([3] * 6, 3), "t0": [AgentOutcome.AGENT_TIMEOUT, PASS, PASS]}
    runs = runs_of({BASELINE: passes([1, 0, 1, 0, 1, 0], 3), CANDIDATE: cells})
    found = judged(runs, rules="seed")
    assert found.extra["seed"]["reason"] == "cl_eval_incomplete"
    assert found.outcome is Outcome.ANOMALOUS
    assert judged(runs).outcome is Outcome.ACCEPT


def test_the_source_measures_growth_on_the_whole_file() -> None:
    """A frontmatter counts for its growth and ceiling; ours asks for the text alone, and lies in facts change nothing."""
    whole = {"file_chars": {BASELINE: 1_000, CANDIDATE: 1_900}}
    runs = counted(LOW, HIGH, 5, chars=(100, 1_000))
    alone, found = judged(runs), judged(runs.model_copy(update={"facts": whole}))
    assert alone.extra["growth_frac"] == found.extra["growth_frac"] == pytest.approx(9.0)
    assert alone.extra["seed"]["required"] == 9
    assert found.extra["seed"]["required"] == 1
    assert found.extra["seed"]["document"]["growth_pct"] == pytest.approx(0.9)
    for lie in ({BASELINE: 1_000}, {BASELINE: True, CANDIDATE: -1}, "x", None):
        assert judged(runs.model_copy(update={"facts": {"file_chars": lie}})).extra["seed"]["required"] == 9


def test_an_attempt_that_told_no_cost_leaves_the_cost_unknown() -> None:
    """Neither the figures nor the source's document take what other attempts told for the whole."""
    runs = counted([0] * 5, [1] * 5, 1)
    paid = runs.model_copy(update={"runs": tuple(r.model_copy(update={"cost": 0.1}) for r in runs.runs)})
    whole = judged(paid).extra
    assert whole["runs_without_cost"] == 0
    assert whole["seed"]["document"]["evolved_cl_eval_cost_usd"] == pytest.approx(0.5)
    part = judged(replaced(paid, CANDIDATE, "t0", untold=1)).extra
    assert part["runs_without_cost"] == 1
    assert part["seed"]["document"]["evolved_cl_eval_cost_usd"] is None


def test_judge_scores_make_the_band_decide_for_the_source() -> None:
    """In a healthy band its tasks are not asked."""
    facts = {"judge_scores": {"baseline": [0.5, 0.6], "candidate": [0.6, 0.6]}}
    found = judged(counted(HIGH, LOW, 5, facts=facts), rules="seed")
    assert found.extra["seed"]["signal"] == "synthetic"
    assert found.outcome is Outcome.ACCEPT
    weak = judged(counted(HIGH, LOW, 5, facts={**facts, "band": "weak_signal"}), rules="seed")
    assert weak.outcome is Outcome.REGRESSION


@pytest.mark.parametrize(
    "fields",
    [
        {"looks": (3, 3)},
        {"looks": (6, 3)},
        {"looks": (0,)},
        {"looks": (3, 6), "alpha_spent": (0.05,)},
        {"looks": (3, 6), "alpha_spent": (0.03, 0.03)},
        {"alpha": 0.5},
        {"candidates": 0},
        {"growth": "wild"},
        {"unknown": 1},
    ],
)
def test_a_contract_that_does_not_hold_together_is_refused(fields: dict[str, Any]) -> None:
    """When it is written, not when it is applied."""
    with pytest.raises(ValidationError):
        DeployPolicy(**fields)


def test_levels_laid_over_other_looks_are_an_error_and_no_crash() -> None:
    """A study may lay its looks over a policy without them."""
    policy = DeployPolicy(alpha_spent=(0.05,)).model_copy(update={"looks": (5, 10)})
    found = DeployGate(policy).judge({"candidate.runs": counted(LOW, HIGH, 5)})
    assert word(found) == (Status.ERROR, Outcome.ANOMALOUS)


def test_first_runs_and_later_ones_are_judged_together() -> None:
    """Evidence that was extended counts all of its repeats."""
    first, whole = counted([1] * 6, [2] * 6, 3), counted([5] * 6, [5] * 6, 5)
    later = whole.model_copy(
        update={
            "runs": tuple(
                run(r.task, r.arm, r.rep + 3, r.outcome).model_copy(update={"score": r.score})
                for r in whole.runs
            )
        }
    )
    found = judged(first.extended(later), looks=(3, 8))
    assert found.extra["look"] == 2
