"""Rank gate: how a candidate does on the items that are for choosing. It chooses; it can accept nothing.

The best of several candidates looks better than it is. So the winner is judged on items that nobody was ranked by, and
this gate says INCONCLUSIVE whatever it sees, with the drop in `extra["drop"]`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from assay.core.evidence import Evidence
from assay.core.results import Results
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates._compare.pairs import pair_results
from assay.gates._compare.policy import ComparePolicy

__all__ = ["ComparePolicy", "RankGate"]

ROLES = ("baseline.results", "candidate.results")


class RankGate:
    """Ranks the results of a candidate against those of its baseline.

    Args:
        policy: the contract whose scales, directions and weights the scores are read by.
    """

    name = "rank"
    reads: tuple[str, ...] = ROLES

    def __init__(self, policy: ComparePolicy | None = None) -> None:
        self.policy = policy or ComparePolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """INCONCLUSIVE with the mean drop over tasks, or ERROR where the two cannot be paired."""
        baseline, candidate = (evidence.get(role) for role in ROLES)
        if not isinstance(baseline, Results) or not isinstance(candidate, Results):
            return _error("there are no two results to rank by")
        tasks, found = pair_results(baseline, candidate, self.policy)
        if found:
            return _error(f"{found[0].task}: {found[0].text}" if found[0].task else found[0].text)
        weights = [self.policy.weights.get(t.task, 1.0) for t in tasks]
        drops = [math.fsum(b - c for b, c in t.scored) / len(t.scored) for t in tasks]
        drop = math.fsum(w * d for w, d in zip(weights, drops, strict=True)) / math.fsum(weights)
        pairs = sum(len(t.scored) for t in tasks)
        text = f"drops by {100 * drop:.2f} points on the {pairs:,} pairs that are for choosing; it was not judged"
        return Verdict(
            gate=self.name,
            status=Status.INCONCLUSIVE,
            outcome=Outcome.INCONCLUSIVE,
            detail=text,
            reasons=(Reason(text=text, ok=True, measured=drop, unit="goodness"),),
            reads={ROLES[0]: baseline.content_digest, ROLES[1]: candidate.content_digest},
            extra={"drop": drop, "pairs": pairs},
        )


def _error(text: str) -> Verdict:
    return Verdict(
        gate="rank",
        status=Status.ERROR,
        failure_class=FailureClass.NOT_COMPARABLE,
        outcome=Outcome.ANOMALOUS,
        detail=text,
        reasons=(Reason(text=text, ok=False),),
    )
