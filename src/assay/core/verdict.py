"""Verdict: what one gate says about the evidence. Never a bool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from assay.core.base import Noun
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status


class Reason(Noun):
    """One finding, with the numbers it rests on."""

    text: str
    """One sentence for a person."""
    ok: bool
    where: str = ""
    """Module, task, sample or file."""
    measured: float | str | None = None
    limit: float | str | None = None
    unit: str = ""
    evidence: str = ""
    """Digest of the evidence it was read from."""


class Estimate(Noun):
    """A measured difference between baseline and candidate, in goodness (0..1); positive = worse."""

    task: str
    """Task name, or `macro`."""
    baseline: float
    candidate: float
    drop: float
    lower: float | None = None
    upper: float | None = None
    level: float | None = None
    """Two-sided confidence level of [lower, upper]."""
    margin: float | None = None
    """Largest tolerated drop; None for an advisory task."""
    n: int | None = None
    """Pairs behind it."""
    lost: int | None = None
    """Pairs that only the baseline got right."""
    won: int | None = None
    """Pairs that only the candidate got right."""
    p_accept: float | None = None
    p_regress: float | None = None
    status: Status | None = None
    role: str = ""
    """primary, guard or advisory."""


class Verdict(Noun):
    """The judgement of one gate."""

    gate: str
    status: Status
    failure_class: FailureClass | None = None
    outcome: Outcome | None = None
    """The word that this verdict argues for in the Decision."""
    detail: str
    """The verdict in one sentence."""
    reasons: tuple[Reason, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    needed: int | None = None
    """After INCONCLUSIVE: how many pairs in all would settle it."""
    open: bool = False
    """INCONCLUSIVE so far, and the plan has another look that may decide."""
    provenance: Provenance = Provenance.MEASURED
    reads: Mapping[str, str] = Field(default_factory=dict)
    """Role → digest of the evidence that was judged."""
    extra: Mapping[str, Any] = Field(default_factory=dict)
    """Figures for the report, such as the point rule's verdict; nothing depends on it."""

    @property
    def passed(self) -> bool:
        """True for PASS alone."""
        return self.status is Status.PASS
