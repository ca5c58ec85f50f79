"""Decision: the fold of the verdicts of one trial. Total, independent of order, failing closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from assay.core.base import Noun
from assay.core.vocabulary import FailureClass, Outcome, Status

SEVERITY = (Outcome.INFEASIBLE, Outcome.REGRESSION, Outcome.NO_GAIN)
"""Words of failing gates, worst first."""


class GateLine(Noun):
    """How one gate stands in a Decision."""

    gate: str
    step: str = ""
    required: bool = True
    shadow: bool = False
    status: Status | None = None
    """None = not reached."""
    outcome: Outcome | None = None
    failure_class: FailureClass | None = None
    detail: str = ""
    verdict: str = ""
    """Digest of the stored verdict."""
    open: bool = False
    """INCONCLUSIVE so far, and the plan has another look that may decide."""


class Decision(Noun):
    """What became of a trial, and why."""

    study: str
    trial: str
    candidate: str
    """Name of the candidate; `candidate_key` identifies it."""
    candidate_key: str
    outcome: Outcome
    gates: tuple[GateLine, ...] = ()
    sentence: str
    """The reason in words."""
    failure_class: FailureClass | None = None
    interrupted: bool = False
    """The trial was cut short; `assay resume` goes on with it."""
    head: str = ""
    """Ledger head when it was taken: everything it rests on lies before that."""
    facts: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def keeps(self) -> bool:
        """Only ACCEPT keeps."""
        return self.outcome is Outcome.ACCEPT


def fold(lines: Iterable[GateLine]) -> Outcome:
    """Fold gate lines into one word.

    Any ERROR, or a verdict that argues ANOMALOUS → ANOMALOUS; else the worst word of the failing gates
    (INFEASIBLE > REGRESSION > NO_GAIN); else any INCONCLUSIVE → INCONCLUSIVE; else a required gate that was not
    reached → ANOMALOUS; else ACCEPT. Shadow gates do not count; no required gate at all is ANOMALOUS.
    """
    counted = [line for line in lines if not line.shadow]
    if any(
        g.status is Status.ERROR or (g.outcome is Outcome.ANOMALOUS and g.status not in (None, Status.PASS))
        for g in counted
    ):
        return Outcome.ANOMALOUS
    failing = {g.outcome or Outcome.INFEASIBLE for g in counted if g.status is Status.FAIL}
    for word in SEVERITY:
        if word in failing:
            return word
    if failing:  # a failing gate that argues for a word of no severity is a defect of that gate
        return Outcome.ANOMALOUS
    if any(g.status is Status.INCONCLUSIVE for g in counted):
        return Outcome.INCONCLUSIVE
    required = [g for g in counted if g.required]
    if not required or any(g.status is None for g in required):
        return Outcome.ANOMALOUS
    return Outcome.ACCEPT


def fold_study(outcomes: Sequence[Outcome]) -> Outcome:
    """The word of a whole study: ACCEPT if any candidate was kept, else what most deserves a second look."""
    for word in (
        Outcome.ACCEPT,
        Outcome.ANOMALOUS,
        Outcome.INCONCLUSIVE,
        Outcome.REGRESSION,
        Outcome.NO_GAIN,
    ):
        if word in outcomes:
            return word
    return Outcome.INFEASIBLE if outcomes else Outcome.ANOMALOUS


EXIT_CODES: Mapping[Outcome, int] = {
    Outcome.ACCEPT: 0,
    Outcome.REGRESSION: 1,
    Outcome.NO_GAIN: 1,
    Outcome.INFEASIBLE: 3,
    Outcome.INCONCLUSIVE: 4,
    Outcome.ANOMALOUS: 5,
}
