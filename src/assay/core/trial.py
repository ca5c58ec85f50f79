"""Trial: one candidate put through a study's plan, as far as the ledger knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.core.candidate import Candidate
from assay.core.decision import Decision, GateLine
from assay.core.evidence import Artifact


@dataclass(frozen=True)
class StepRecord:
    """A finished step: what it yielded. It is never done again."""

    step: str
    key: str
    """Digest of the protocol of a shared step; the trial's id otherwise."""
    wall_s: float
    role: str | None = None
    evidence: str | None = None
    artifact: Artifact | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Trial:
    """A candidate's way through the plan. It is finished when it has a Decision that is not interrupted."""

    id: str
    number: int
    candidate: Candidate
    started: str
    steps: dict[str, StepRecord] = field(default_factory=dict)
    gates: dict[str, GateLine] = field(default_factory=dict)
    """Gate → how it stands: its last verdict."""
    looks: list[GateLine] = field(default_factory=list)
    """Earlier verdicts of gates that looked again when more items were in."""
    superseded: list[Decision] = field(default_factory=list)
    """Decisions before the study was topped up."""
    retries: dict[str, int] = field(default_factory=dict)
    decision: Decision | None = None

    @property
    def finished(self) -> bool:
        """It has a Decision that stands."""
        return self.decision is not None and not self.decision.interrupted

    def artifact(self, models: Sequence[Artifact] = ()) -> Artifact | None:
        """What was built, or the model that the candidate takes as it is."""
        built = next((r.artifact for r in self.steps.values() if r.artifact), None)
        return built or next((m for m in models if m.digest == self.candidate.parent), None)
