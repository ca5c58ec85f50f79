"""Trials: what the trials of a study came to, as evidence for a gate that answers the study's own question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from assay.core.base import Noun
from assay.core.candidate import Candidate
from assay.core.evidence import Evidence
from assay.core.vocabulary import FailureClass, Outcome


class TrialRow(Noun):
    """One decided trial."""

    trial: str
    number: int
    candidate: Candidate
    started: str = ""
    """UTC, ISO 8601."""
    outcome: Outcome
    failure_class: FailureClass | None = None
    cause: str = ""
    """What a failed step died of, where its log told; a word of `core.tuning.Cause`."""
    sentence: str = ""
    session: int = Field(default=0, ge=0)
    """How often the study had been resumed when it was decided."""
    spent_s: float = Field(default=0.0, ge=0)
    """Seconds that the study had run by then, pauses left out."""
    command: tuple[str, ...] = ()
    """The last command line that ran for it."""
    digests: Mapping[str, str] = Field(default_factory=dict)
    """Role → digest of the evidence."""
    evidence: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Role → the evidence itself, of the roles that the study tells."""


class Trials(Evidence):
    """All decided trials of a study, in order."""

    kind: Literal["trials"] = "trials"
    candidate: Candidate
    """The candidate whose trial asks."""
    rows: tuple[TrialRow, ...] = ()
