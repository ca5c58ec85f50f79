"""Gate `noise`: one checkpoint evaluated twice. What differs is the noise of the evaluation itself (A/A).

A difference between the two that chance does not explain means that the setup cannot be used to compare anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, Strict

from assay.core.evidence import Evidence
from assay.core.gate import Policy
from assay.core.results import Results
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates._compare.pairs import Anomaly, TaskPairs, pair_results
from assay.gates._compare.policy import ComparePolicy

ROLES = ("baseline.results", "again.results")


class NoisePolicy(Policy):
    """When two runs of one checkpoint count as the same."""

    alpha: Annotated[float, Strict(), Field(gt=0, lt=0.5)] = 0.01
    """Chance to call a setup broken that is not; shared among the tasks (Holm)."""
    scales: ComparePolicy = ComparePolicy()
    """The contract whose scales, ranges and directions the scores are read by."""


class NoiseGate:
    """Judges two evaluations of one checkpoint.

    Args:
        policy: the error rate, and how scores are read.
    """

    name = "noise"
    reads: tuple[str, ...] = ROLES

    def __init__(self, policy: NoisePolicy | None = None) -> None:
        self.policy = policy or NoisePolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """PASS with the noise per task in `extra["tasks"]`, or ERROR where the two runs do not agree."""
        first, again = (evidence.get(role) for role in ROLES)
        if not isinstance(first, Results) or not isinstance(again, Results):
            return _broken("there are no two evaluations to hold against each other", {})
        reads = {ROLES[0]: first.content_digest, ROLES[1]: again.content_digest}
        tasks, found = pair_results(first, again, self.policy.scales)
        if found:
            return _broken(_told(found[0]), reads)
        return self._verdict(tasks, reads)

    def _verdict(self, tasks: Sequence[TaskPairs], reads: Mapping[str, str]) -> Verdict:
        from assay import stats  # noqa: PLC0415 - scipy, only for whoever calibrates

        noise = {task.task: _noise(task) for task in tasks}
        p_values = [
            float(stats.mcnemar_exact(int(n["lost"]), int(n["won"]))) if n["lost"] + n["won"] else 1.0
            for n in noise.values()
        ]
        adjusted = stats.holm(p_values)
        reasons = [
            Reason(
                text=f"{n['lost']} answers better in the first run, {n['won']} in the second, of {n['pairs']:,}",
                ok=bool(p > self.policy.alpha),
                where=name,
                measured=float(p),
                limit=self.policy.alpha,
                unit="p",
            )
            for (name, n), p in zip(noise.items(), adjusted, strict=True)
        ]
        bad = next((r for r in reasons if not r.ok), None)
        if bad is not None:
            text = f"{bad.where}: the checkpoint differs from itself: {bad.text}"
            return _broken(text, reads, tuple(reasons))
        changed = sum(n["lost"] + n["won"] for n in noise.values())
        pairs = sum(n["pairs"] for n in noise.values())
        share = f"{changed:,} answers ({changed / pairs:.2%})"
        return Verdict(
            gate=self.name,
            status=Status.PASS,
            detail=f"{pairs:,} pairs: {share} differ between two runs of one checkpoint",
            reasons=tuple(reasons),
            reads=reads,
            extra={"tasks": noise, "flip_rate": changed / pairs, "pairs": pairs},
        )


def _noise(task: TaskPairs) -> dict[str, Any]:
    """Flips, and the variance of one answer (within) and of the items' means (between)."""
    scored = task.scored
    n = len(scored)
    within = math.fsum((a - b) ** 2 for a, b in scored) / (2 * n)
    means = [(a + b) / 2 for a, b in scored]
    centre = math.fsum(means) / n
    spread = math.fsum((m - centre) ** 2 for m in means) / (n - 1) if n > 1 else 0.0
    return {
        "pairs": n,
        "lost": sum(b < a for a, b in scored),
        "won": sum(b > a for a, b in scored),
        "flip_rate": sum(a != b for a, b in scored) / n,
        "variance_within": within,
        "variance_between": max(0.0, spread - within / 2),
        "mean": centre,
    }


def _told(anomaly: Anomaly) -> str:
    return f"{anomaly.task}: {anomaly.text}" if anomaly.task else anomaly.text


def _broken(text: str, reads: Mapping[str, str], reasons: tuple[Reason, ...] = ()) -> Verdict:
    return Verdict(
        gate="noise",
        status=Status.ERROR,
        failure_class=FailureClass.NOT_COMPARABLE,
        outcome=Outcome.ANOMALOUS,
        detail=text,
        reasons=reasons or (Reason(text=text, ok=False),),
        reads=reads,
    )
