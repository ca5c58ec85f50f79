"""Events: the only thing a ledger holds. Each carries the digest of the one before it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from assay.core.base import Noun
from assay.core.canon import digest

GENESIS = "sha256:" + "0" * 64
"""What the first event names as its predecessor."""


class EventType(StrEnum):
    """Everything that can happen to a study."""

    STUDY_OPENED = "study.opened"
    STUDY_RESUMED = "study.resumed"
    STUDY_INTERRUPTED = "study.interrupted"
    STUDY_TOPPED_UP = "study.topped_up"
    STUDY_CLOSED = "study.closed"
    TRIAL_STARTED = "trial.started"
    STEP_STARTED = "step.started"
    STEP_RETRIED = "step.retried"
    STEP_FINISHED = "step.finished"
    STEP_REUSED = "step.reused"
    RUN_FINISHED = "run.finished"
    VERDICT_RECORDED = "verdict.recorded"
    DECISION_RECORDED = "decision.recorded"
    APPLY_INTENDED = "apply.intended"
    APPLY_DONE = "apply.done"
    UNDO_INTENDED = "undo.intended"
    UNDO_DONE = "undo.done"


class Event(Noun):
    """One fact, in order. `digest` covers everything else, so that a change anywhere breaks the chain."""

    seq: int = Field(ge=1)
    type: EventType
    study: str
    at: str
    """UTC, ISO 8601 with microseconds."""
    data: Mapping[str, Any]
    previous: str


def chain(seq: int, type_: EventType, study: str, at: str, data: Mapping[str, Any], previous: str) -> Event:
    """The next event of a chain."""
    return Event(seq=seq, type=type_, study=study, at=at, data=data, previous=previous)


def link_digest(event: Event) -> str:
    """What the following event must name as `previous`."""
    return digest(event.to_json())
