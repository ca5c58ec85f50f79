"""The fold of an experiment's events: each word of 0011 is reached, and what does not fit is named."""

from __future__ import annotations

from typing import Any

import pytest

from assay.core.experiment import ExperimentEvent, ExperimentState
from assay.core.experiment_state import Fold, fold, plan_of, threshold_of
from assay.core.vocabulary import Direction

Step = tuple[str, int | None, dict[str, Any]]
CREATED: Step = ("created", None, {"experiment": "exp-001"})
STARTED: Step = ("attempt_started", 1, {})
ENDED: Step = ("training_ended", 1, {"reason": "completed"})


def told(*steps: Step, gone: tuple[int, ...] = ()) -> Fold:
    """The state after these events."""
    events = [
        ExperimentEvent(seq=n, time=f"t{n}", event=event, attempt=attempt, line=n, fields=fields)
        for n, (event, attempt, fields) in enumerate(steps, 1)
    ]
    return fold(events, gone)


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ((CREATED,), "planned"),
        ((CREATED, STARTED), "running"),
        ((CREATED, STARTED, ("stop_requested", 1, {"by": "person"})), "stopping"),
        ((CREATED, STARTED, ENDED), "trained"),
        ((CREATED, STARTED, ("training_ended", 1, {"reason": "stopped"})), "trained"),
        ((CREATED, STARTED, ("training_ended", 1, {"reason": "exception"})), "crashed"),
        ((CREATED, STARTED, ("attempt_ended", 1, {"outcome": "exited", "exit_code": 0})), "trained"),
        ((CREATED, STARTED, ("attempt_ended", 1, {"outcome": "exited", "exit_code": 3})), "crashed"),
        ((CREATED, STARTED, ("attempt_ended", 1, {"outcome": "killed", "signal": "SIGKILL"})), "crashed"),
        ((CREATED, STARTED, ("attempt_ended", 1, {"outcome": "lost"})), "lost"),
        ((CREATED, STARTED, ENDED, ("attempt_ended", 1, {"outcome": "crashed", "exit_code": 1})), "crashed"),
        ((CREATED, STARTED, ENDED, ("attempt_ended", 1, {"outcome": "stopped"})), "trained"),
        ((CREATED, STARTED, ENDED, ("result", None, {})), "evaluated"),
        ((CREATED, STARTED, ENDED, ("result", None, {}), ("completed", None, {})), "complete"),
        ((CREATED, STARTED, ENDED, ("overridden", None, {"reason": "r", "unmet": ["a"]})), "overridden"),
        ((CREATED, ("failed", None, {})), "failed"),
        ((CREATED, STARTED, ("aborted", None, {"reason": "r"}), ENDED), "aborted"),
        (
            (CREATED, STARTED, ("training_ended", 1, {"reason": "exception"}), ("attempt_started", 2, {})),
            "running",
        ),
    ],
)
def test_each_state_is_reached(steps: tuple[Step, ...], state: str) -> None:
    """By the events that say so."""
    found = told(*steps)
    assert found.state is ExperimentState(state)
    assert found.problems == []


def test_lost_is_concluded_of_the_last_attempt_only() -> None:
    """An earlier process that is gone says nothing; a training that ended is not lost."""
    again = (CREATED, STARTED, ("attempt_started", 2, {}))
    assert told(*again, gone=(1,)).state is ExperimentState.RUNNING
    assert told(*again, gone=(2,)).state is ExperimentState.LOST
    assert told(CREATED, STARTED, ENDED, gone=(1,)).state is ExperimentState.TRAINED


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ((CREATED, ("evaluated", 1, {"metrics": {}})), "which never started"),
        (
            (CREATED, STARTED, ("attempt_ended", 1, {"outcome": "exited"}), ("evaluated", 1, {})),
            "after its process ended",
        ),
        ((CREATED, STARTED, STARTED), "cannot start here"),
        ((CREATED, CREATED), "created twice"),
        ((CREATED, ("completed", None, {}), STARTED), "after the experiment ended as complete"),
        ((CREATED, ("completed", None, {}), ("aborted", None, {})), "after the experiment ended as complete"),
        ((CREATED, ("checkpoint_verified", None, {"name": "x"})), "never committed"),
        (
            (CREATED, STARTED, ("evaluated", 1, {}), ("planned", 1, {"plan": {}})),
            "after the first evaluation",
        ),
    ],
)
def test_what_does_not_fit_is_named(steps: tuple[Step, ...], word: str) -> None:
    """With the line it stands at."""
    found = told(*steps)
    assert [p.line for p in found.problems] == [len(steps)]
    assert word in found.problems[0].text


def test_what_was_promised_first_counts() -> None:
    """A script that joins may add to the plan, not change it."""
    first = {"plan": {"primary_metric": {"name": "a", "direction": "max"}, "total_steps": 10}}
    found = told(("created", None, first), STARTED, ("planned", 1, {"plan": {"total_steps": 99, "seed": 3}}))
    assert (found.plan.total_steps, found.plan.seed) == (10, 3)
    assert found.plan.direction("a") is Direction.HIGHER


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("> 0.9", 0.9),
        (">=0.9", 0.9),
        ("90 %", 0.9),
        ("1e-3", 1e-3),
        (2, 2.0),
        (True, None),
        ("nan", None),
        ("0.9 or so", None),
    ],
)
def test_a_threshold_may_be_text(text: Any, value: float | None) -> None:
    """As people write it in a plan; anything else is named as a problem, never a default."""
    assert threshold_of(text) == value
    plan = plan_of({"primary_metric": {"name": "a", "direction": "max", "thresholds": {"floor": text}}})
    assert bool(plan.problems) == (value is None)
