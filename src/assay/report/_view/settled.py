"""The history that the page is made of: replayed from its events, and of the shape that the page relies on.

A ledger is written by the engine alone, but a bundle may come from anybody: what has a wrong shape becomes empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from assay.core.history import StudyHistory, replay
from assay.core.trial import StepRecord


def settled(history: StudyHistory) -> StudyHistory:
    """The history as its events tell it; the engine's own copy also holds borrowed steps."""
    try:
        found = replay(history.events).get(history.study.id) or history
    except (KeyError, ValueError):  # hand-made events without their opening
        found = history
    trials = {
        name: replace(trial, steps={step: _record(r) for step, r in trial.steps.items()})
        for name, trial in found.trials.items()
    }
    return replace(
        found,
        trials=trials,
        shared={key: _record(r) for key, r in found.shared.items()},
        applied=_tokens(found.applied),
        apply_pending=_tokens(found.apply_pending),
        undo_pending=_tokens(found.undo_pending),
        closed=found.closed if isinstance(found.closed, Mapping) else None,
    )


def finite(value: Any) -> float | None:
    """A finite number; None in place of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object; an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def _record(record: StepRecord) -> StepRecord:
    return replace(
        record,
        wall_s=finite(record.wall_s) or 0.0,
        role=record.role if isinstance(record.role, str) else None,
        evidence=record.evidence if isinstance(record.evidence, str) else None,
        facts=mapping(record.facts),
    )


def _tokens(tokens: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(trial): mapping(token) for trial, token in tokens.items()}
