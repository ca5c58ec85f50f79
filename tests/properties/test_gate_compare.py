"""Compare gate: worse evidence never gives a better word, order never matters, what is no score never accepts."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome, Status
from assay.gates.compare import CompareGate, ComparePolicy, judge_scores

RANK = {Outcome.ACCEPT: 3, Outcome.INCONCLUSIVE: 2, Outcome.REGRESSION: 1, Outcome.ANOMALOUS: 0}
POLICY = ComparePolicy(margin=0.1, guard=0.3, implausible_gain=None, implausible_gain_point=None)

Rows = dict[str, list[tuple[bool, bool]]]
answers = st.tuples(st.booleans(), st.booleans())
suites: st.SearchStrategy[Rows] = st.dictionaries(
    st.sampled_from("tu"),
    st.builds(
        lambda both, wrong, rest: [(True, True)] * both + [(False, False)] * wrong + rest,
        st.integers(0, 80),
        st.integers(0, 20),
        st.lists(answers, min_size=1, max_size=20),
    ),
    min_size=1,
    max_size=2,
)


def evaluation(rows: Rows, side: int) -> Results:
    """One side of a suite."""
    return Results(
        subject="x",
        harness="h",
        tasks=tuple(task(name, [float(r[side]) for r in rs]) for name, rs in rows.items()),
    )


def task(name: str, scores: list[float | None]) -> TaskResult:
    """A task with these row scores."""
    n = len(scores)
    given_ = [s for s in scores if s is not None]
    return TaskResult(
        task=name,
        metric="acc",
        score=sum(given_) / len(given_) if given_ else None,
        samples=Samples(
            id=tuple(f"{i}" for i in range(n)),
            repeat=(0,) * n,
            prompt=("p",) * n,
            score=tuple(scores),
            state=tuple(SampleState.MISSING if s is None else SampleState.SCORED for s in scores),
            output=("o",) * n,
        ),
    )


def judge(baseline: Results, candidate: Results, policy: ComparePolicy = POLICY) -> Verdict:
    """The verdict of the gate."""
    return CompareGate(policy).judge({"baseline.results": baseline, "candidate.results": candidate})


def word(verdict: Verdict) -> Outcome:
    """The word that it argues for."""
    assert verdict.outcome is not None
    return verdict.outcome


@given(suites, st.data())
def test_worse_answers_never_give_a_better_word(rows: Rows, data: st.DataObject) -> None:
    """Turning right answers of the candidate wrong leaves the word or lowers it."""
    name = data.draw(st.sampled_from(sorted(rows)))
    right = [i for i, (_, after) in enumerate(rows[name]) if after]
    assume(right)
    turned = set(data.draw(st.lists(st.sampled_from(right), min_size=1, max_size=8)))
    worse = {**rows, name: [(b, a and i not in turned) for i, (b, a) in enumerate(rows[name])]}
    for policy in (POLICY, POLICY.model_copy(update={"policy": "point"})):
        before = judge(evaluation(rows, 0), evaluation(rows, 1), policy)
        after = judge(evaluation(worse, 0), evaluation(worse, 1), policy)
        assume(word(before) is not Outcome.ANOMALOUS)
        assert RANK[word(after)] <= RANK[word(before)]


@given(suites, st.data())
def test_a_lost_sample_never_gives_a_better_word(rows: Rows, data: st.DataObject) -> None:
    """A score that goes missing on the candidate's side never turns into an accept."""
    name = data.draw(st.sampled_from(sorted(rows)))
    index = data.draw(st.integers(0, len(rows[name]) - 1))
    baseline, candidate = evaluation(rows, 0), evaluation(rows, 1)
    before = judge(baseline, candidate)
    tasks = tuple(
        task(t.task, [None if i == index else s for i, s in enumerate(t.samples.score)])
        if t.task == name
        else t
        for t in candidate.tasks
    )
    after = judge(baseline, candidate.model_copy(update={"tasks": tasks}))
    if word(before) is not Outcome.ACCEPT:
        assert word(after) is not Outcome.ACCEPT


@given(suites, st.randoms(use_true_random=False))
def test_order_never_matters(rows: Rows, rng: Any) -> None:
    """Rows and tasks in another order give the same word and the same figures."""
    shuffled = []
    for one in evaluation(rows, 1).tasks:
        order = list(range(len(one.samples)))
        rng.shuffle(order)
        rows_of = {f: getattr(one.samples, f) for f in Samples.model_fields}
        columns = {f: tuple(column[i] for i in order) if column else () for f, column in rows_of.items()}
        shuffled.append(one.model_copy(update={"samples": Samples(**columns)}))
    rng.shuffle(shuffled)
    candidate = evaluation(rows, 1)
    one = judge(evaluation(rows, 0), candidate)
    other = judge(evaluation(rows, 0), candidate.model_copy(update={"tasks": tuple(shuffled)}))
    assert (one.outcome, one.detail, one.needed) == (other.outcome, other.detail, other.needed)


@given(suites)
def test_a_verdict_is_whole(rows: Rows) -> None:
    """It can be digested, its status fits its word, and only INCONCLUSIVE says how many pairs it takes."""
    verdict = judge(evaluation(rows, 0), evaluation(rows, 1))
    fits = {
        Status.PASS: Outcome.ACCEPT,
        Status.FAIL: Outcome.REGRESSION,
        Status.INCONCLUSIVE: Outcome.INCONCLUSIVE,
        Status.ERROR: Outcome.ANOMALOUS,
    }
    assert verdict.content_digest
    assert fits[verdict.status] is word(verdict)
    assert (verdict.needed is not None) == (verdict.status is Status.INCONCLUSIVE)
    if verdict.needed is not None:
        assert verdict.needed > sum(len(r) for r in rows.values())


scores = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.lists(st.integers(), max_size=2)
)
files = st.dictionaries(st.sampled_from("ab") | st.text(max_size=4), scores, max_size=3) | scores


@given(files, files, st.sampled_from([0.01, 0.0, 1.0, None]), st.booleans())
def test_any_two_score_files_get_a_verdict(
    before: Any, after: Any, threshold: float | None, relative: bool
) -> None:
    """Any JSON on either side; what is accepted is finite numbers on both sides and nothing else."""
    verdict = judge_scores(before, after, {"threshold": threshold, "relative": relative})
    assert verdict.content_digest
    if verdict.outcome is not Outcome.ACCEPT:
        return
    assert threshold is not None
    assert set(before) == set(after) != set()
    for score in (*before.values(), *after.values()):
        assert isinstance(score, int | float)
        assert not isinstance(score, bool)
        assert 0 <= score <= 100


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_the_point_rule_is_decimal(before: int, after: int, threshold: int) -> None:
    """On 0..100 and on 0..1 the same numbers give the same word, exactly at the boundary too."""
    assume(after - before <= 50)
    assume(before or after)
    expected = Outcome.ACCEPT if before - after <= threshold else Outcome.REGRESSION
    of_hundred = judge_scores(
        {"t": before / 10}, {"t": after / 10}, {"threshold": threshold / 1000, "scales": {"t": 100}}
    )
    of_one = judge_scores(
        {"t": before / 1000}, {"t": after / 1000}, {"threshold": threshold / 1000, "scales": {"t": 1}}
    )
    assert of_hundred.outcome is of_one.outcome is expected


@given(st.dictionaries(st.text(max_size=12), scores, max_size=4))
def test_any_policy_gets_a_verdict(policy: dict[str, Any]) -> None:
    """Unknown and wrong fields of a policy are told, never raised."""
    assert judge_scores({"t": 50}, {"t": 50}, policy).content_digest
