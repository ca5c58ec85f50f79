"""Gate `text` of an evolve study: may what the search found be tried, and did it find anything at all?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from assay.core.artifact_text import Severity, TextArtifact
from assay.core.evidence import Evidence
from assay.core.evolution import Evolution
from assay.core.suite import Suite
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates.suite import copied_from_suite
from assay.gates.text import TextPolicy, judge_text

TEXT = "candidate.text"
"""Role of the record that is judged."""


class TextGate:
    """Judges a candidate text by rules that cost no run.

    Args:
        policy: what it is held to.
    """

    name = "text"
    reads: tuple[str, ...] = (TEXT,)

    def __init__(self, policy: TextPolicy) -> None:
        self.policy = policy

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """FAIL with NO_GAIN where nothing better was found, FAIL with INFEASIBLE for a rule that is broken."""
        found = evidence.get(TEXT)
        if not isinstance(found, Evolution):
            return _broken("there is no record of the candidate text", {})
        reads = {TEXT: found.content_digest}
        try:
            baseline = TextArtifact.model_validate(found.facts.get("baseline"))
            candidate = TextArtifact.model_validate(found.facts.get("candidate"))
            suite = Suite.model_validate(found.facts["suite"]) if found.facts.get("suite") else None
        except ValidationError as error:
            return _broken(f"the record lacks what is judged: {error.errors()[0]['msg']}", reads)
        if found.picked == 0:
            return _nothing(found, reads)
        if candidate.kind is not baseline.kind or candidate.name != baseline.name:
            return _broken("the candidate is no version of the baseline", reads)
        verdict = judge_text(baseline, candidate.text, self.policy).model_copy(update={"reads": reads})
        return _with_copies(verdict, baseline, candidate, suite) if suite is not None else verdict


def _nothing(found: Evolution, reads: Mapping[str, str]) -> Verdict:
    tried = sum(n.state in {"kept", "rejected"} for n in found.nodes)
    detail = f"the search found nothing better: {tried} texts tried in {found.runs} runs"
    return Verdict(
        gate="text",
        status=Status.FAIL,
        outcome=Outcome.NO_GAIN,
        detail=f"{detail}; it ended because {found.ended}" if found.ended else detail,
        reasons=(Reason(text=found.pick_rule or "the baseline was picked", ok=False, measured=float(tried)),),
        reads=reads,
        extra={"tried": tried, "runs": found.runs, "ended": found.ended},
    )


def _with_copies(verdict: Verdict, baseline: TextArtifact, candidate: TextArtifact, suite: Suite) -> Verdict:
    """The same verdict, or FAIL where the text holds answers of the suite."""
    copied = copied_from_suite(baseline.text, candidate.text, suite)
    bad = [f for f in copied if f.severity is Severity.BLOCK]
    reasons = tuple(
        Reason(
            text=f"{f.where}: {f.text}",
            ok=f.severity is not Severity.BLOCK,
            where=f.rule,
            measured=f.measured,
            limit=f.limit,
        )
        for f in copied
    )
    update: dict[str, Any] = {"reasons": (*verdict.reasons, *reasons)}
    if bad and verdict.passed:
        update |= {
            "status": Status.FAIL,
            "failure_class": FailureClass.POINT_INFEASIBLE,
            "outcome": Outcome.INFEASIBLE,
            "detail": f"{bad[0].rule}: {bad[0].where}: {bad[0].text}",
        }
    return verdict.model_copy(update=update)


def _broken(why: str, reads: Mapping[str, str]) -> Verdict:
    return Verdict(
        gate="text",
        status=Status.ERROR,
        failure_class=FailureClass.EVAL_JUDGE_FAILED,
        outcome=Outcome.ANOMALOUS,
        detail=why,
        reasons=(Reason(text=why, ok=False),),
        reads=reads,
    )
