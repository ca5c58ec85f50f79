"""Gate `contract`: was the rule fixed before the first sample? A study that knows its data cannot accept."""

from __future__ import annotations

from collections.abc import Mapping

from assay.core.evidence import Evidence
from assay.core.gate import Policy
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status

MACHINE = "machine"
EXPLORATORY = "exploratory"
"""Fact of the machine evidence: what was changed after results of these samples were seen."""


class ContractPolicy(Policy):
    """Nothing can be set: a contract is kept or it is not."""


class ContractGate:
    """Judges whether the study's contract came before its data.

    Args:
        policy: none.
    """

    name = "contract"
    reads: tuple[str, ...] = (MACHINE,)

    def __init__(self, policy: ContractPolicy | None = None) -> None:
        self.policy = policy or ContractPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """PASS, or INCONCLUSIVE for an exploratory study: what it found must be shown on samples of its own."""
        machine = evidence.get(MACHINE)
        if machine is None:
            text = "no evidence of how the study was opened"
            return Verdict(
                gate=self.name,
                status=Status.ERROR,
                failure_class=FailureClass.UNKNOWN,
                outcome=Outcome.ANOMALOUS,
                detail=text,
                reasons=(Reason(text=text, ok=False),),
            )
        changed = str(machine.facts.get(EXPLORATORY) or "")
        text = f"exploratory: {changed}; confirm it on samples that were not seen" if changed else "kept"
        return Verdict(
            gate=self.name,
            status=Status.INCONCLUSIVE if changed else Status.PASS,
            outcome=Outcome.INCONCLUSIVE if changed else None,
            detail=text,
            reasons=(Reason(text=text, ok=not changed),),
            reads={MACHINE: machine.content_digest},
        )
