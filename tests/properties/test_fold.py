"""Properties of the fold: total, order-free, failing closed, monotone."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from assay.core.decision import GateLine, fold, fold_study
from assay.core.vocabulary import Outcome, Status

WORST = [
    Outcome.ACCEPT,
    Outcome.INCONCLUSIVE,
    Outcome.NO_GAIN,
    Outcome.REGRESSION,
    Outcome.INFEASIBLE,
    Outcome.ANOMALOUS,
]
"""From the best word to the worst."""

LINES = st.lists(
    st.builds(
        GateLine,
        gate=st.sampled_from("abcdef"),
        required=st.booleans(),
        shadow=st.booleans(),
        status=st.none() | st.sampled_from(Status),
        outcome=st.none() | st.sampled_from(Outcome),
    ),
    max_size=8,
)
RANK = {None: 0, Status.PASS: 0, Status.INCONCLUSIVE: 1, Status.FAIL: 2, Status.ERROR: 3}


def rank(lines: Sequence[GateLine]) -> int:
    """How bad the word of these lines is."""
    return WORST.index(fold(lines))


@given(LINES, st.randoms(use_true_random=False))
def test_order_never_matters(lines: list[GateLine], random: object) -> None:
    """The verdicts may arrive in any order."""
    shuffled = list(lines)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold(shuffled) is fold(lines)


@given(LINES)
def test_accept_needs_every_required_gate_to_pass(lines: list[GateLine]) -> None:
    """ACCEPT exactly when there is a required gate and every counted gate passes or was optional and not asked."""
    counted = [g for g in lines if not g.shadow]
    required = [g for g in counted if g.required]
    expected = bool(required) and all(
        g.status is Status.PASS or (g.status is None and not g.required) for g in counted
    )
    assert (fold(lines) is Outcome.ACCEPT) == expected


@given(LINES, LINES)
def test_shadow_gates_do_not_count(lines: list[GateLine], shadows: list[GateLine]) -> None:
    """What is only measured changes nothing."""
    hidden = [g.model_copy(update={"shadow": True}) for g in shadows]
    assert fold([*lines, *hidden]) is fold(lines)


@given(LINES, st.integers(min_value=0, max_value=7), st.sampled_from([Status.INCONCLUSIVE, Status.ERROR]))
def test_a_worse_verdict_never_gives_a_better_word(lines: list[GateLine], index: int, worse: Status) -> None:
    """Replacing one verdict by a worse one never improves the Decision."""
    if index >= len(lines) or RANK[lines[index].status] >= RANK[worse]:
        return
    changed = list(lines)
    changed[index] = lines[index].model_copy(update={"status": worse})
    assert (
        rank(changed) >= min(rank(lines), WORST.index(Outcome.INCONCLUSIVE))
        or fold(lines) is Outcome.ANOMALOUS
    )


@given(LINES)
def test_an_added_failure_never_helps(lines: list[GateLine]) -> None:
    """One more failing gate makes the word no better, unless it was ANOMALOUS for want of an answer."""
    failing = GateLine(gate="z", status=Status.FAIL, outcome=Outcome.REGRESSION)
    assert fold([*lines, failing]) not in {Outcome.ACCEPT, Outcome.INCONCLUSIVE, Outcome.NO_GAIN}


@given(LINES)
def test_an_error_is_always_anomalous(lines: list[GateLine]) -> None:
    """What could not be judged outranks everything."""
    assert fold([*lines, GateLine(gate="z", status=Status.ERROR)]) is Outcome.ANOMALOUS


@given(st.lists(st.sampled_from(Outcome), max_size=6))
def test_a_study_accepts_only_what_a_trial_accepted(outcomes: list[Outcome]) -> None:
    """The study's word is one of its trials', and ANOMALOUS if there is none."""
    word = fold_study(outcomes)
    assert word in outcomes or (not outcomes and word is Outcome.ANOMALOUS)
    assert (word is Outcome.ACCEPT) == (Outcome.ACCEPT in outcomes)
