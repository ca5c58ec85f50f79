"""Trial: one candidate put through a study's plan, as far as the ledger knows."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from assay.core.base import Noun
from assay.core.candidate import Candidate
from assay.core.decision import Decision


class Trial(Noun):
    """A candidate's way through the plan. A finished trial has a Decision that is not interrupted."""

    id: str
    number: int
    candidate: Candidate
    evidence: Mapping[str, str] = Field(default_factory=dict)
    """Role → digest of the stored evidence."""
    steps_done: tuple[str, ...] = ()
    decision: Decision | None = None
