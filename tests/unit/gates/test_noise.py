"""Noise gate: one checkpoint evaluated twice."""

from __future__ import annotations

import random

import pytest
from compare_evidence import Flips, sides, task
from pydantic import ValidationError

from assay.core.evidence import Evidence
from assay.core.results import Results
from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates.noise import NoiseGate, NoisePolicy


def judge(tasks: dict[str, Flips], **policy: float) -> Verdict:
    """The verdict on two runs."""
    first, again = sides(tasks)
    return NoiseGate(NoisePolicy(**policy)).judge({"baseline.results": first, "again.results": again})


def test_equal_runs_have_no_noise() -> None:
    """A deterministic server differs from itself in nothing."""
    verdict = judge({"t": (300, 0, 0)})
    assert (verdict.status, verdict.extra["flip_rate"], verdict.extra["pairs"]) == (Status.PASS, 0.0, 300)
    assert "0 answers (0.00%) differ" in verdict.detail


def test_flips_are_counted_for_each_task() -> None:
    """Noise that goes both ways passes, with its rate for later plans."""
    verdict = judge({"t": (300, 4, 6), "u": (100, 0, 1)})
    assert verdict.status is Status.PASS
    assert verdict.extra["flip_rate"] == pytest.approx(11 / 400)
    assert {t: (n["lost"], n["won"]) for t, n in verdict.extra["tasks"].items()} == {"t": (4, 6), "u": (0, 1)}
    assert set(verdict.reads) == {"baseline.results", "again.results"}


@pytest.mark.parametrize("flips", [(300, 12, 0), (300, 0, 12)])
def test_a_checkpoint_that_differs_from_itself_is_anomalous(flips: Flips) -> None:
    """Twelve flips one way and none the other: the setup is not the same twice, whichever run is better."""
    verdict = judge({"t": (300, 3, 3), "u": flips})
    assert (verdict.status, verdict.outcome) == (Status.ERROR, Outcome.ANOMALOUS)
    assert verdict.failure_class is FailureClass.NOT_COMPARABLE
    assert verdict.detail.startswith("u: the checkpoint differs from itself")


def test_many_tasks_share_the_error_rate() -> None:
    """Eight flips one way are p = 0.008: one task alone shows it, one of ten does not."""
    assert judge({"t": (300, 8, 0)}).status is Status.ERROR
    many = {f"t{i}": (300, 0, 0) for i in range(9)}
    assert judge({"bad": (300, 8, 0), **many}).status is Status.PASS
    assert judge({"t": (300, 8, 0)}, alpha=0.005).status is Status.PASS


def test_within_and_between_are_told_apart() -> None:
    """Items right with chance 0.9 or 0.1, half of each: within 0.09, between 0.16, by the formulas of Miller 2024."""
    rng = random.Random(3)
    chances = [0.9 if i % 2 else 0.1 for i in range(6000)]
    runs = [
        Results(subject="source", harness="h", tasks=(task("t", [float(rng.random() < p) for p in chances]),))
        for _ in range(2)
    ]
    noise = NoiseGate().judge({"baseline.results": runs[0], "again.results": runs[1]}).extra["tasks"]["t"]
    assert noise["variance_within"] == pytest.approx(0.09, abs=0.01)
    assert noise["variance_between"] == pytest.approx(0.16, abs=0.01)
    assert noise["mean"] == pytest.approx(0.5, abs=0.02)
    assert noise["flip_rate"] == pytest.approx(2 * noise["variance_within"])


def test_one_item_has_no_variance_between() -> None:
    """Never negative, never a division by zero."""
    noise = judge({"t": (1, 1, 0)}).extra["tasks"]["t"]
    assert (noise["variance_within"], noise["variance_between"]) == (0.5, 0.0)


def test_runs_that_cannot_be_paired_are_anomalous() -> None:
    """Other items, no rows, or no second run at all."""
    first, again = sides({"t": (20, 0, 0)})
    other = again.model_copy(update={"tasks": (task("u", [1.0]),)})
    empty = again.model_copy(update={"tasks": ()})
    lost = again.model_copy(update={"tasks": (task("t", [None] * 20),)})
    for second in (other, empty, lost, Evidence(kind="machine", subject="x")):
        verdict = NoiseGate().judge({"baseline.results": first, "again.results": second})
        assert (verdict.status, verdict.outcome) == (Status.ERROR, Outcome.ANOMALOUS)
    assert NoiseGate().judge({"baseline.results": first}).status is Status.ERROR


@pytest.mark.parametrize("alpha", [0, 0.5, True, "0.01", float("nan")])
def test_the_error_rate_is_a_fraction(alpha: object) -> None:
    """Nothing that Python would turn into a number."""
    with pytest.raises(ValidationError):
        NoisePolicy.model_validate({"alpha": alpha})
