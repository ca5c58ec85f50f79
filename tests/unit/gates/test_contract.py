"""Contract gate: a rule that was changed after its data were seen accepts nothing."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from assay.core.evidence import Evidence
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome, Status
from assay.gates.contract import ContractGate, ContractPolicy


def judge(**facts: object) -> Verdict:
    """The verdict on how a study was opened."""
    return ContractGate().judge({"machine": Evidence(kind="machine", subject="machine", facts=facts)})


def test_a_contract_that_came_first_is_kept() -> None:
    """Nothing is held against a study that opened with its rule."""
    verdict = judge(disk_free_bytes=1)
    assert (verdict.status, verdict.outcome, verdict.detail) == (Status.PASS, None, "kept")
    assert verdict.reads


def test_an_exploratory_study_is_inconclusive_and_says_why() -> None:
    """What was changed, and what to do: INCONCLUSIVE keeps the fold from ACCEPT."""
    verdict = judge(exploratory="changed: margin 0.01 → 0.03")
    assert (verdict.status, verdict.outcome) == (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert "margin 0.01 → 0.03" in verdict.detail
    assert "samples that were not seen" in verdict.detail


def test_no_evidence_is_an_error() -> None:
    """Not knowing how a study was opened is no contract kept."""
    verdict = ContractGate().judge({})
    assert (verdict.status, verdict.outcome) == (Status.ERROR, Outcome.ANOMALOUS)


def test_nothing_can_be_set() -> None:
    """There is no policy that makes an exploratory study accept."""
    with pytest.raises(ValidationError):
        ContractPolicy.model_validate({"allow": True})
