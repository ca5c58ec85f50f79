"""Compare gate: the point rule exactly, the paired rule against hand-computed and published figures."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import ValidationError

from assay import stats
from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.verdict import Verdict
from assay.core.vocabulary import Direction, FailureClass, Outcome, Provenance, Status
from assay.gates.compare import CompareGate, ComparePolicy, judge_scores

UNKNOWN, CONFIG = FailureClass.UNKNOWN, FailureClass.USER_CONFIG_ERROR
ACCOUNTING = FailureClass.SAMPLE_ACCOUNTING_FAILED


def point(baseline: Any, candidate: Any, **policy: Any) -> Verdict:
    """The point rule on two score files."""
    return judge_scores(baseline, candidate, policy)


def single(before: Any, after: Any, **policy: Any) -> Verdict:
    """The point rule on one task."""
    return point({"t": before}, {"t": after}, **policy)


# --- point -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"), [(90, 89), (0.90, 0.89), (57.0, 56.0), (0.57, 0.56), (50, 51), (50, 55)]
)
def test_point_accepts_up_to_the_threshold(before: float, after: float) -> None:
    """Inclusive, in decimal arithmetic: 0.90 to 0.89 is one point as 90 to 89 is; a gain of 5 points is allowed."""
    verdict = single(before, after)
    assert (verdict.status, verdict.outcome, verdict.failure_class) == (Status.PASS, Outcome.ACCEPT, None)
    assert verdict.provenance is Provenance.SELF_REPORTED


@pytest.mark.parametrize(("before", "after"), [(90, 88.99), (0.90, 0.8899), (57, 54), (1.0, 0.0)])
def test_point_calls_a_larger_drop_a_regression(before: float, after: float) -> None:
    """A regression has no failure class: nothing went wrong but the candidate."""
    verdict = single(before, after)
    assert (verdict.status, verdict.outcome, verdict.failure_class) == (Status.FAIL, Outcome.REGRESSION, None)


@pytest.mark.parametrize(("before", "after"), [(50, 55.01), (0.5, 0.5501), (0.90, 0.951)])
def test_point_calls_a_large_gain_anomalous(before: float, after: float) -> None:
    """Strictly more than five points: suspect the baseline."""
    verdict = single(before, after)
    assert (verdict.status, verdict.outcome, verdict.failure_class) == (
        Status.ERROR,
        Outcome.ANOMALOUS,
        UNKNOWN,
    )
    assert single(before, after, implausible_gain_point=None).outcome is Outcome.ACCEPT


@pytest.mark.parametrize(
    "bad", [None, True, False, "57", float("nan"), float("inf"), -1, 100.5, [57], {}, 10**400]
)
def test_point_does_no_arithmetic_on_what_is_no_score(bad: Any) -> None:
    """Not a finite number in range: ANOMALOUS on either side."""
    for verdict in (single(bad, 57), single(57, bad), single(bad, bad)):
        assert (verdict.status, verdict.outcome, verdict.failure_class) == (
            Status.ERROR,
            Outcome.ANOMALOUS,
            UNKNOWN,
        )
        assert verdict.content_digest


def test_point_anomalies_outrank_regressions() -> None:
    """One unusable task makes the whole comparison unusable."""
    verdict = point({"a": 90, "b": 50}, {"a": 50, "b": None})
    assert verdict.outcome is Outcome.ANOMALOUS
    assert verdict.extra["per_task"]["a"]["within_threshold"] is False


def test_point_needs_the_same_tasks() -> None:
    """A task that one side lacks is an accounting failure."""
    for pair in (({"a": 1}, {"b": 1}), ({"a": 90, "b": 90}, {"a": 90}), ({}, {"a": 90})):
        verdict = point(*pair)
        assert (verdict.outcome, verdict.failure_class) == (Outcome.ANOMALOUS, ACCOUNTING)


@pytest.mark.parametrize(("before", "after"), [({}, {}), ([], {}), (None, None), ({"a": 1}, 3), ("x", "y")])
def test_point_with_nothing_to_compare(before: Any, after: Any) -> None:
    """Empty or of another shape: a configuration error, never an accept."""
    verdict = point(before, after)
    assert (verdict.status, verdict.outcome, verdict.failure_class) == (
        Status.ERROR,
        Outcome.ANOMALOUS,
        CONFIG,
    )


@pytest.mark.parametrize(
    "policy",
    [
        {"scales": {"t": 0}},
        {"scales": {"t": -1}},
        {"scales": {"t": True}},
        {"scales": {"t": "1"}},
        {"scales": {"t": float("nan")}},
        {"scales": [1]},
        {"ranges": {"t": [1, 0]}},
        {"ranges": {"t": 5}},
        {"directions": {"t": "sideways"}},
        {"threshold": -0.1},
        {"threshold": True},
        {"threshold": "0.01"},
        {"bogus": 1},
    ],
)
def test_point_with_a_bad_policy(policy: dict[str, Any]) -> None:
    """Bad scales, ranges, directions and thresholds are told as a verdict."""
    verdict = judge_scores({"t": 50}, {"t": 50}, policy)
    assert (verdict.status, verdict.outcome, verdict.failure_class) == (
        Status.ERROR,
        Outcome.ANOMALOUS,
        CONFIG,
    )
    assert judge_scores({"t": 50}, {"t": 50}, 3).failure_class is CONFIG  # type: ignore[arg-type]


def test_point_scale_is_inferred_from_both_sides_and_marked() -> None:
    """0..1 only if both scores lie there; a declared scale is taken instead."""
    assert single(1.0, 0.0).extra["per_task"]["t"]["scale"] == 1
    assert single(1.5, 0.9).extra["per_task"]["t"]["scale"] == 100
    assert single(1.5, 0.9).extra["inferred_scales"] == ["t"]
    declared = single(0.9, 0.5, scales={"t": 100})
    assert (declared.outcome, declared.extra["inferred_scales"]) == (Outcome.ACCEPT, [])
    assert declared.extra["per_task"]["t"]["drop_fraction"] == pytest.approx(0.004)


def test_point_scores_outside_a_declared_range_are_anomalous() -> None:
    """57 on a scale of 1 is no score of that task."""
    assert single(57, 56, scales={"t": 1}).failure_class is UNKNOWN
    assert single(57, 56, ranges={"t": [0, 50]}).outcome is Outcome.ANOMALOUS


def test_point_negative_scores_need_a_declared_range() -> None:
    """An index of -100..100 has a width of 200."""
    assert single(-5, -6).outcome is Outcome.ANOMALOUS
    verdict = single(-5, -7, ranges={"t": [-100, 100]})
    assert verdict.outcome is Outcome.ACCEPT
    assert verdict.extra["per_task"]["t"]["drop_fraction"] == 0.01
    assert single(-5, -7.1, ranges={"t": [-100, 100]}).outcome is Outcome.REGRESSION


def test_point_lower_may_be_better() -> None:
    """A rising hallucination rate is a drop."""
    lower = {"directions": {"t": "lower"}}
    assert single(10, 15, **lower).outcome is Outcome.REGRESSION
    assert single(15, 12, **lower).outcome is Outcome.ACCEPT
    assert single(15, 5, **lower).outcome is Outcome.ANOMALOUS


def test_point_zero_on_both_sides_is_a_broken_harness() -> None:
    """The worst score on both sides proves nothing, in either direction and on any range."""
    assert (single(0.0, 0.0).outcome, single(0, 0).failure_class) == (Outcome.ANOMALOUS, UNKNOWN)
    assert single(100, 100, directions={"t": "lower"}).outcome is Outcome.ANOMALOUS
    assert single(0, 0, ranges={"t": [-100, 100]}).outcome is Outcome.ACCEPT


def test_point_without_a_threshold_decides_nothing() -> None:
    """`null` means that none was given; an anomaly is still one."""
    verdict = single(90, 10, threshold=None)
    assert (verdict.status, verdict.outcome) == (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert "no threshold given" in verdict.detail
    assert verdict.extra["per_task"]["t"]["within_threshold"] is None
    assert single(90, None, threshold=None).outcome is Outcome.ANOMALOUS


def test_point_relative_is_a_share_of_the_baseline() -> None:
    """One percent of 50 is half a point; of 0 there is no share."""
    assert single(50, 49.5, relative=True).outcome is Outcome.ACCEPT
    assert single(50, 49.4, relative=True).outcome is Outcome.REGRESSION
    assert single(0, 3, relative=True).outcome is Outcome.ANOMALOUS


def test_point_per_task_shows_the_arithmetic() -> None:
    """Drop, its share, the scale and whether it is within, as the source's gate shows them."""
    row = single(90, 88).extra["per_task"]["t"]
    assert row == {
        "baseline": 90,
        "candidate": 88,
        "drop": 2,
        "drop_fraction": 0.02,
        "scale": 100,
        "within_threshold": False,
    }


# --- paired ------------------------------------------------------------------------------------------------


def task(name: str, scores: list[Any], **more: Any) -> TaskResult:
    """A task with these row scores; None is a missing one."""
    n = len(scores)
    given = [s for s in scores if s is not None]
    values: dict[str, Any] = {
        "samples": Samples(
            id=tuple(f"{name}-{i}" for i in range(n)),
            repeat=(0,) * n,
            prompt=("p",) * n,
            score=tuple(scores),
            state=tuple(SampleState.MISSING if s is None else SampleState.SCORED for s in scores),
            output=("o",) * n,
        ),
        "score": sum(given) / len(given) if given else None,
        "expected": n,
        "scored": len(given),
        "metric": "acc",
    }
    return TaskResult(task=name, **{**values, **more})


def results(*tasks: TaskResult, **more: Any) -> Results:
    """An evaluation."""
    return Results(subject="x", harness="lm_eval", tasks=tasks, **more)


def pair(n: int, lost: int, won: int, right: int | None = None) -> tuple[list[float], list[float]]:
    """Row scores of both sides: `lost` only the baseline got right, `won` only the candidate."""
    both = (n * 3 // 4 if right is None else right) - lost
    before = [1.0] * (both + lost) + [0.0] * (n - both - lost)
    after = [1.0] * both + [0.0] * lost + [1.0] * won + [0.0] * (n - both - lost - won)
    return before, after


def judge(pairs: dict[str, tuple[list[Any], list[Any]]], **policy: Any) -> Verdict:
    """The paired rule on tasks of row scores."""
    sides = [results(*(task(name, p[side]) for name, p in pairs.items())) for side in (0, 1)]
    evidence = {"baseline.results": sides[0], "candidate.results": sides[1]}
    return CompareGate(ComparePolicy(**policy)).judge(evidence)


def test_paired_accepts_what_is_shown_to_be_no_worse() -> None:
    """5,000 pairs with a few flips either way certify one point; the sentence says how sure."""
    verdict = judge({"t": pair(5000, 20, 20)})
    assert (verdict.status, verdict.outcome, verdict.needed) == (Status.PASS, Outcome.ACCEPT, None)
    assert verdict.detail.startswith("5,000 pairs: the candidate is at most 0.2")
    assert "95 % sure; your margin is 1.0" in verdict.detail
    macro = verdict.estimates[0]
    assert (macro.task, macro.role, macro.n, macro.lost, macro.won) == ("macro", "primary", 5000, 20, 20)


def test_paired_calls_a_proven_drop_a_regression() -> None:
    """A lower bound above the margin."""
    verdict = judge({"t": pair(2000, 110, 20)})
    assert (verdict.status, verdict.outcome, verdict.failure_class) == (Status.FAIL, Outcome.REGRESSION, None)
    assert "drops by 4.5 points" in verdict.detail


def test_paired_says_when_the_data_do_not_decide() -> None:
    """The seed's own 3-point drop on 300 pairs (facts/statistics.md §6) is INCONCLUSIVE, about 1,550 pairs settle it."""
    verdict = judge({"t": pair(300, 20, 11)})
    assert (verdict.status, verdict.outcome) == (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert "leans to REGRESSION" in verdict.detail
    assert verdict.needed is not None
    assert verdict.needed == pytest.approx(1_590, abs=50)
    macro = verdict.estimates[0]
    assert macro.upper == pytest.approx(0.060, abs=0.003)
    assert verdict.extra["point"]["decision"] == "REGRESSION"


def test_paired_interval_is_that_of_tango() -> None:
    """The drop of one task is given with the score interval of stats."""
    macro = judge({"t": pair(1000, 30, 20)}).estimates[0]
    expected = stats.tango_interval(30, 20, 1000, 0.9)
    assert (macro.lower, macro.upper, macro.level) == (expected.lower, expected.upper, pytest.approx(0.9))


def test_paired_shares_alpha_among_the_ladder() -> None:
    """With more candidates each has less chance to be accepted by luck."""
    one, many = (judge({"t": pair(3000, 62, 50)}, comparisons=m) for m in (1, 8))
    assert one.status is Status.PASS
    assert many.status is Status.INCONCLUSIVE
    assert many.extra["alpha_accept"] == pytest.approx(0.05 / 8)


def test_paired_guard_stops_one_bad_task() -> None:
    """A mean within the margin does not hide a hole in one task."""
    pairs = {f"t{i}": pair(1000, 10, 10) for i in range(7)}
    verdict = judge({**pairs, "bad": pair(1000, 45, 15)})
    assert verdict.estimates[0].status is Status.PASS
    assert verdict.status is not Status.PASS
    worse = judge({**pairs, "bad": pair(1000, 80, 10)})
    assert worse.status is Status.FAIL
    assert "worse on bad" in worse.detail


def test_paired_guards_come_from_the_plan_and_not_from_the_results() -> None:
    """Rungs by the number of pairs: 2,000 prove 2 points, 350 prove 5, 50 prove none."""
    for n, rung in ((4000, 0.02), (1000, 0.03), (350, 0.05), (50, None)):
        for lost in (0, n // 10):
            guard = judge({"t": pair(n, lost, 0)}).estimates[1]
            assert guard.margin == rung
            assert guard.role == ("advisory" if rung is None else "guard")
    fixed = judge({"t": pair(350, 1, 1)}, guard=0.08, guards={"t": None})
    assert fixed.estimates[1].role == "advisory"
    assert judge({"t": pair(350, 1, 1)}, guard=0.08).estimates[1].margin == 0.08


def test_paired_says_how_many_pairs_settle_it() -> None:
    """At the stated number, with the same shares of flips, the verdict is ACCEPT."""
    verdict = judge({"t": pair(500, 10, 10)})
    assert verdict.status is Status.INCONCLUSIVE
    needed = verdict.needed
    assert needed is not None
    assert needed > 500
    flips = round(needed * 0.02)
    assert judge({"t": pair(needed, flips, flips)}).status is Status.PASS


def test_paired_missing_pairs_count_against_acceptance() -> None:
    """What would be accepted stays open when the unscored pairs could hide a drop."""
    before, after = pair(5000, 20, 20)
    lacking: list[Any] = [None] * 40 + after[40:]
    verdict = judge({"t": ([None] * 40 + before[40:], lacking)})
    assert verdict.status is Status.INCONCLUSIVE
    assert any("40 pairs have no score" in r.text for r in verdict.reasons)


def test_paired_samples_lost_by_one_side_alone_are_anomalous() -> None:
    """McNemar on missingness: the candidate lost samples that the baseline has."""
    before, after = pair(1000, 5, 5)
    verdict = judge({"t": (before, [None] * 30 + after[30:])})
    assert (verdict.status, verdict.failure_class) == (Status.ERROR, ACCOUNTING)


def test_paired_implausible_gain_is_anomalous() -> None:
    """A proven gain of more than two points is no quantization; training may switch the rule off."""
    pairs = {"t": pair(1000, 5, 60)}
    verdict = judge(pairs)
    assert (verdict.status, verdict.outcome, verdict.failure_class) == (
        Status.ERROR,
        Outcome.ANOMALOUS,
        UNKNOWN,
    )
    assert judge(pairs, implausible_gain=None).status is Status.PASS
    assert judge({"t": pair(1000, 5, 25)}).status is Status.PASS


def test_paired_all_wrong_on_both_sides_is_anomalous() -> None:
    """A broken harness on both sides shows no difference."""
    verdict = judge({"t": ([0.0] * 5000, [0.0] * 5000), "u": pair(5000, 1, 1)})
    assert (verdict.status, verdict.outcome) == (Status.ERROR, Outcome.ANOMALOUS)


def test_paired_repeats_are_averaged_per_item() -> None:
    """The item is the unit: ten repeats of 30 items are 30 units, not 300."""
    rng = random.Random(1)
    keys = [(f"i{i}", k) for i in range(30) for k in range(10)]
    rows = [
        Samples(
            id=tuple(i for i, _ in keys),
            repeat=tuple(k for _, k in keys),
            prompt=("p",) * 300,
            score=tuple(float(rng.random() < 0.7) for _ in keys),
            state=(SampleState.SCORED,) * 300,
            output=("o",) * 300,
        )
        for _ in range(2)
    ]
    sides = [results(TaskResult(task="t", metric="acc", score=0.7, samples=r)) for r in rows]
    verdict = CompareGate().judge({"baseline.results": sides[0], "candidate.results": sides[1]})
    macro = verdict.estimates[0]
    assert (macro.n, macro.lost) == (30, None)
    assert verdict.status is Status.INCONCLUSIVE


def test_paired_graded_scores_use_the_mean() -> None:
    """Scores between 0 and 1 are tested by their mean difference."""
    rng = random.Random(2)
    before = [rng.random() for _ in range(2000)]
    same = [min(1.0, max(0.0, b + rng.gauss(0, 0.01))) for b in before]
    worse = [max(0.0, b - 0.05) for b in before]
    assert judge({"t": (before, same)}).status is Status.PASS
    assert judge({"t": (before, worse)}).status is Status.FAIL


def test_paired_relative_margin_is_a_share_of_the_baseline() -> None:
    """At a baseline of 0.3 one percent is 0.3 points, which 0.8 points exceed and one absolute point allows."""
    before, after = pair(5000, 60, 20, right=1500)
    assert judge({"t": (before, after)}).estimates[0].p_accept == pytest.approx(0.13, abs=0.1)
    relative = judge({"t": (before, after)}, relative=True)
    assert relative.status is Status.FAIL
    assert relative.estimates[0].margin == pytest.approx(0.003)
    assert judge({"t": pair(5000, 0, 0, right=4000)}, relative=True).status is Status.PASS


def test_paired_weights_move_the_mean() -> None:
    """A task with more weight counts more in the mean over tasks."""
    pairs = {"a": pair(2000, 30, 0), "b": pair(2000, 0, 0)}
    drops = [judge(pairs, weights={"a": w}).estimates[0].drop for w in (0.1, 1.0, 9.0)]
    assert drops == pytest.approx([0.015 * 0.1 / 1.1, 0.0075, 0.0135])


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (task("u", [1.0] * 100), ACCOUNTING),
        (task("t", [1.0] * 100, samples=Samples()), ACCOUNTING),
        (task("t", [1.0] * 100, low=-1.0), CONFIG),
        (task("t", [1.0] * 100, direction=Direction.LOWER), CONFIG),
        (task("t", [1.5] * 100), CONFIG),
        (task("t", [None] * 100), ACCOUNTING),
        (task("t", [1.0] * 100, metric="f1"), FailureClass.NOT_COMPARABLE),
    ],
)
def test_paired_contradictions_are_anomalous(after: TaskResult, expected: FailureClass) -> None:
    """Other tasks, no rows, another range or direction, values out of range: nothing is computed."""
    evidence = {"baseline.results": results(task("t", [1.0] * 100)), "candidate.results": results(after)}
    verdict = CompareGate().judge(evidence)
    assert (verdict.status, verdict.outcome, verdict.failure_class) == (
        Status.ERROR,
        Outcome.ANOMALOUS,
        expected,
    )


def test_paired_prompts_and_duplicates_are_looked_at_again() -> None:
    """Another prompt under one id, or an id twice, is caught here too."""
    good = task("t", [1.0] * 100)
    asked = good.model_copy(update={"samples": good.samples.model_copy(update={"prompt": ("q",) * 100})})
    twice = good.model_copy(update={"samples": good.samples.model_copy(update={"id": ("t-0",) * 100})})
    for bad, expected in ((asked, FailureClass.NOT_COMPARABLE), (twice, ACCOUNTING)):
        verdict = CompareGate().judge({"baseline.results": results(good), "candidate.results": results(bad)})
        assert (verdict.status, verdict.failure_class) == (Status.ERROR, expected)


def test_paired_reads_goodness_by_scale_and_direction() -> None:
    """0/100 rows under lower-is-better are right-or-wrong answers too."""
    before, after = pair(2000, 110, 20)
    turned = [[100.0 * (1.0 - s) for s in side] for side in (before, after)]
    sides = [results(task("t", s, high=100.0, direction=Direction.LOWER)) for s in turned]
    verdict = CompareGate().judge({"baseline.results": sides[0], "candidate.results": sides[1]})
    assert verdict.status is Status.FAIL
    assert (verdict.estimates[0].lost, verdict.estimates[0].won) == (110, 20)


def test_a_verdict_names_its_evidence_and_who_measured_it() -> None:
    """Both digests; one self-reported side makes the verdict self-reported; the point rule stands beside."""
    sides = [
        results(task("t", [1.0] * 600)),
        results(task("t", [1.0] * 600), provenance=Provenance.SELF_REPORTED),
    ]
    for policy in ("paired", "point"):
        gate = CompareGate(ComparePolicy(policy=policy))
        verdict = gate.judge({"baseline.results": sides[0], "candidate.results": sides[1]})
        assert verdict.reads == {
            "baseline.results": sides[0].content_digest,
            "candidate.results": sides[1].content_digest,
        }
        assert verdict.provenance is Provenance.SELF_REPORTED
        assert verdict.extra["point"]["decision"] == "ACCEPT"
        assert verdict.status is Status.PASS


def test_no_evidence_is_an_error() -> None:
    """A side that is missing or of another kind is never an accept."""
    good = results(task("t", [1.0] * 100))
    for evidence in ({}, {"baseline.results": good}, {"candidate.results": good}):
        verdict = CompareGate().judge(evidence)
        assert (verdict.status, verdict.outcome) == (Status.ERROR, Outcome.ANOMALOUS)


def test_the_policy_refuses_what_is_no_number() -> None:
    """Margins are fractions; booleans and text are not numbers; the policy survives its own JSON."""
    for bad in (
        {"margin": 0},
        {"margin": 1},
        {"margin": True},
        {"margin": "0.01"},
        {"weights": {"t": 0}},
        {"guard": 2},
    ):
        with pytest.raises(ValidationError):
            ComparePolicy(**bad)
    policy = ComparePolicy(ranges={"t": (-100, 100)}, guards={"t": None}, directions={"t": "lower"})
    assert ComparePolicy.from_json(policy.to_json()) == policy
