"""Propose kind `ladder`: a fixed list of recipes, tried in order. It is the loop that triage calls PATCH."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from assay.core.base import Noun
from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.ports import Component
from assay.core.triage import TRIAGE
from assay.core.vocabulary import Action


class Options(Noun):
    """Options of `propose: {kind: ladder}`."""

    candidates: tuple[Candidate, ...] = Field(min_length=1)
    """In the order in which they are tried."""


class Adapter:
    """Proposes each candidate once; one whose trial was aborted for the study's sake may be tried again."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Always there."""
        return Component(verb="propose", kind="ladder", state="ready")

    def propose(self, history: Sequence[Decision]) -> Candidate | None:
        """The first candidate that no Decision stands for."""
        judged = {d.candidate_key for d in history if not _aborted(d)}
        return next((c for c in self.options.candidates if c.key not in judged), None)


def _aborted(decision: Decision) -> bool:
    """The trial ended because of the study's surroundings: nothing is known about its candidate."""
    if decision.facts.get("systemic"):
        return True
    failure = decision.failure_class
    return failure is not None and TRIAGE[failure].action is Action.ABORT_STUDY
