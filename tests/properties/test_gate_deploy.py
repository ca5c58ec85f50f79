"""The deploy gate on any runs: worse never looks better, order never matters, what is missing never deploys."""

from __future__ import annotations

import math
import random
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from assay.core.agent import BASELINE, CANDIDATE, AgentOutcome, AgentRun, AgentRuns
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome, Status
from assay.gates.deploy import DeployGate, DeployPolicy
from assay.gates.preflight import PreflightGate, PreflightPolicy

RANK = {
    Outcome.ACCEPT: 4,
    Outcome.INCONCLUSIVE: 3,
    Outcome.NO_GAIN: 2,
    Outcome.REGRESSION: 1,
    Outcome.ANOMALOUS: 0,
}
PASS, FAIL = AgentOutcome.PASS, AgentOutcome.TASK_FAIL
CANARY = "canary"

policies = st.builds(
    DeployPolicy,
    looks=st.sampled_from([(), (3,), (3, 6), (2, 3, 9)]),
    estimand=st.sampled_from(["fixed_suite", "population"]),
    candidates=st.sampled_from([1, 3]),
    growth=st.sampled_from(["default", "strict", "off"]),
    min_gain=st.sampled_from([0.0, 0.1]),
    equivalent_margin=st.sampled_from([None, 0.2]),
    futility_p=st.sampled_from([None, 0.5]),
    task_guard=st.booleans(),
)
low, high = st.sampled_from([False, False, False, True]), st.sampled_from([True, True, True, False])
"""Whether a run passes: seldom with the baseline, mostly with the candidate, so that all words are met."""
rows = st.lists(st.lists(low, min_size=3, max_size=3), min_size=5, max_size=8)
good_rows = st.lists(st.lists(high, min_size=3, max_size=3), min_size=5, max_size=8)
chars = st.sampled_from([(1000, 1000), (1000, 1500), (1000, 600)])


def one(task: str, arm: str, rep: int, outcome: AgentOutcome, score: float | None = None) -> AgentRun:
    """One run; its score follows from its outcome unless it is given."""
    if score is None and outcome is not AgentOutcome.INFRA_ERROR:
        score = float(outcome is PASS)
    return AgentRun(task=task, arm=arm, rep=rep, block=rep, outcome=outcome, score=score)


def evidence(
    before: list[list[Any]], after: list[list[Any]], lengths: tuple[int, int] = (1000, 1000)
) -> AgentRuns:
    """Both arms by the outcomes of each task, or by whether it passed."""
    runs = []
    for arm, cells in ((BASELINE, before), (CANDIDATE, after)):
        for t, cell in enumerate(cells):
            for rep, ended in enumerate(cell, 1):
                outcome = ended if isinstance(ended, AgentOutcome) else PASS if ended else FAIL
                runs.append(one(f"t{t}", arm, rep, outcome))
        runs += [one(CANARY, arm, rep, PASS) for rep in range(1, len(before[0]) + 1)]
    return AgentRuns(
        subject="candidate",
        suite="s",
        runner="r",
        texts={BASELINE: "a", CANDIDATE: "b"},
        text_chars=dict(zip((BASELINE, CANDIDATE), lengths, strict=True)),
        tasks=(*(f"t{t}" for t in range(len(before))), CANARY),
        canaries=(CANARY,),
        repeats={BASELINE: len(before[0]), CANDIDATE: len(before[0])},
        runs=tuple(runs),
    )


def judge(policy: DeployPolicy, runs: AgentRuns) -> Verdict:
    """What the gate says."""
    return DeployGate(policy).judge({"candidate.runs": runs})


def word(policy: DeployPolicy, runs: AgentRuns) -> Outcome:
    """Its word."""
    found = judge(policy, runs).outcome
    assert found is not None
    return found


@given(policies, rows, st.data(), chars)
def test_worse_evidence_never_gives_a_better_word(
    policy: DeployPolicy, before: list[list[bool]], data: st.DataObject, lengths: tuple[int, int]
) -> None:
    """A pass of the candidate turned into a failure; agents that look deterministic have a test of their own."""
    after = data.draw(
        st.lists(st.lists(high, min_size=3, max_size=3), min_size=len(before), max_size=len(before))
    )
    passing = [(t, r) for t, cell in enumerate(after) for r, p in enumerate(cell) if p]
    assume(passing)
    t, r = data.draw(st.sampled_from(passing))
    worse = [list(cell) for cell in after]
    worse[t][r] = False
    first = judge(policy, evidence(before, after, lengths))
    second = judge(policy, evidence(before, worse, lengths))
    assume(first.extra.get("deterministic") == second.extra.get("deterministic"))
    assert first.outcome is not None
    assert second.outcome is not None
    assert RANK[second.outcome] <= RANK[first.outcome]


@given(policies, rows, good_rows, st.randoms(use_true_random=False))
def test_the_order_of_runs_and_tasks_never_matters(
    policy: DeployPolicy, before: list[list[bool]], after: list[list[bool]], shuffler: random.Random
) -> None:
    """Runs shuffled, tasks listed in another order: the same verdict but for the digest of what was read."""
    n = min(len(before), len(after))
    runs = evidence(before[:n], after[:n])
    mixed, tasks = list(runs.runs), list(runs.tasks)
    shuffler.shuffle(mixed)
    shuffler.shuffle(tasks)
    first = judge(policy, runs)
    second = judge(policy, runs.model_copy(update={"runs": tuple(mixed), "tasks": tuple(tasks)}))
    assert (first.status, first.outcome, first.detail, first.needed, first.open) == (
        second.status,
        second.outcome,
        second.detail,
        second.needed,
        second.open,
    )
    for name in ("p_better", "p_worse", "gain", "lower", "upper"):
        assert first.extra.get(name) == second.extra.get(name)


@given(policies, rows, good_rows, st.data())
def test_what_is_missing_or_doubled_never_deploys(
    policy: DeployPolicy, before: list[list[bool]], after: list[list[bool]], data: st.DataObject
) -> None:
    """Any run that decides, taken away or counted again."""
    n = min(len(before), len(after))
    runs = evidence(before[:n], after[:n])
    at = data.draw(st.sampled_from([i for i, r in enumerate(runs.runs) if r.task != CANARY]))
    without = runs.model_copy(update={"runs": runs.runs[:at] + runs.runs[at + 1 :]})
    twice = runs.model_copy(update={"runs": (*runs.runs, runs.runs[at])})
    assert word(policy, without) is Outcome.ANOMALOUS
    assert word(policy, twice) is Outcome.ANOMALOUS


@given(policies, rows, good_rows, st.data())
def test_a_run_that_vanishes_never_helps_the_candidate(
    policy: DeployPolicy, before: list[list[bool]], after: list[list[bool]], data: st.DataObject
) -> None:
    """An infra error in place of any run of the candidate never makes what was not deployed deployed."""
    n = min(len(before), len(after))
    whole = evidence(before[:n], after[:n])
    t, r = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, 2))
    lost: list[list[Any]] = [list(cell) for cell in after[:n]]
    lost[t][r] = AgentOutcome.INFRA_ERROR
    first, second = judge(policy, whole), judge(policy, evidence(before[:n], lost))
    assume(first.extra.get("deterministic") == second.extra.get("deterministic"))
    if first.status is not Status.PASS:
        assert second.status is not Status.PASS


@given(policies, rows)
def test_an_unchanged_outcome_is_never_better(policy: DeployPolicy, cells: list[list[bool]]) -> None:
    """The same outcomes on both sides."""
    policy = policy.model_copy(update={"equivalent_margin": None})
    assert word(policy, evidence(cells, cells)) is not Outcome.ACCEPT


@given(
    policies,
    st.lists(
        st.builds(
            AgentRun,
            task=st.sampled_from(["t0", "t1", CANARY, "odd", ""]),
            arm=st.sampled_from([BASELINE, CANDIDATE, "empty", "again", "odd"]),
            rep=st.integers(1, 3),
            block=st.integers(1, 3),
            place=st.integers(0, 9),
            outcome=st.sampled_from(AgentOutcome),
            score=st.none() | st.floats(0, 1),
            tampered=st.sampled_from([(), ("x",)]),
        ),
        max_size=14,
    ),
    st.dictionaries(st.sampled_from([BASELINE, CANDIDATE, "empty", "again"]), st.integers(0, 3)),
    st.booleans(),
)
def test_any_runs_get_a_verdict(
    policy: DeployPolicy, runs: list[AgentRun], repeats: dict[str, int], canary: bool
) -> None:
    """Neither gate ever raises, and what it says can be stored and read back."""
    found = AgentRuns(
        subject="candidate",
        suite="s",
        runner="r",
        tasks=("t0", "t1", CANARY),
        canaries=(CANARY,) if canary else (),
        repeats=repeats,
        runs=tuple(runs),
        text_chars={BASELINE: 5, CANDIDATE: 7},
    )
    loose = policy.model_copy(
        update={"require_canary": False, "max_infra_frac": 1.0, "require_interleaved": False}
    )
    for verdict in (
        judge(policy, found),
        judge(loose, found),
        judge(policy.model_copy(update={"rules": "seed"}), found),
        PreflightGate().judge({"source.runs": found}),
        PreflightGate(PreflightPolicy(require_canary=False, require_empty=False, max_infra_frac=1.0)).judge(
            {"source.runs": found}
        ),
    ):
        assert Verdict.from_json(verdict.to_json()).outcome is verdict.outcome
        assert all(e.drop == e.drop and math.isfinite(e.drop) for e in verdict.estimates)
