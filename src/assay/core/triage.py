"""Triage is data: what the engine does about each class of failure, and how often it tries again."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from assay.core.base import Noun
from assay.core.vocabulary import Action, FailureClass, Outcome


class Rule(Noun):
    """One row of the triage table."""

    action: Action
    """Taken once the retries are used up (or at once where there are none)."""
    outcome: Outcome
    """The word the trial ends with when the failure stays."""
    retries: int = 0
    """How often the failed step is repeated before `action`."""
    backoff_s: float = 0.0
    """Seconds waited before a retry; doubled each time."""
    advice: str
    """What a person should do next, in one sentence."""


def _rule(action: Action, outcome: Outcome, advice: str, retries: int = 0, backoff_s: float = 0.0) -> Rule:
    return Rule(action=action, outcome=outcome, retries=retries, backoff_s=backoff_s, advice=advice)


TRIAGE: Mapping[FailureClass, Rule] = MappingProxyType(
    {
        FailureClass.INFRA_TRANSIENT: _rule(
            Action.ABORT_STUDY,
            Outcome.ANOMALOUS,
            "The machine or network failed twice: mend it, then `assay resume`.",
            1,
            1.0,
        ),
        FailureClass.SYSTEMIC: _rule(
            Action.ABORT_STUDY,
            Outcome.ANOMALOUS,
            "Every candidate would fail the same way: mend the cause, then `assay resume`.",
        ),
        FailureClass.MODEL_UNSUPPORTED: _rule(
            Action.PATCH,
            Outcome.INFEASIBLE,
            "The recipe does not fit this model: the next recipe of the ladder is tried.",
        ),
        FailureClass.POINT_INFEASIBLE: _rule(
            Action.PATCH,
            Outcome.INFEASIBLE,
            "This point cannot be built or served: the next recipe of the ladder is tried.",
        ),
        FailureClass.QUANT_COVERAGE_FAILURE: _rule(
            Action.PATCH,
            Outcome.INFEASIBLE,
            "The recipe's patterns missed layers: change them, or let the next recipe try.",
        ),
        FailureClass.DEPLOYMENT_HEALTH_FAILED: _rule(
            Action.PATCH,
            Outcome.INFEASIBLE,
            "Serve the checkpoint alone with the recorded command and read the log.",
            1,
            1.0,
        ),
        FailureClass.EVAL_JUDGE_FAILED: _rule(
            Action.INVESTIGATE,
            Outcome.ANOMALOUS,
            "The judge did not answer: check its key and quota, then `assay resume`.",
            1,
            2.0,
        ),
        FailureClass.SAMPLE_ACCOUNTING_FAILED: _rule(
            Action.INVESTIGATE,
            Outcome.ANOMALOUS,
            "Samples are missing or counted wrongly: no score is trusted until explained.",
        ),
        FailureClass.EXTERNAL_BASELINE_MISMATCH: _rule(
            Action.ABORT_STUDY,
            Outcome.ANOMALOUS,
            "The baseline is not what was published: find the cause before any comparison.",
        ),
        FailureClass.NOT_COMPARABLE: _rule(
            Action.INVESTIGATE,
            Outcome.ANOMALOUS,
            "The two sides were not measured the same way: make them equal, run again.",
        ),
        FailureClass.BUDGET_EXHAUSTED: _rule(
            Action.ABORT_STUDY, Outcome.INCONCLUSIVE, "Raise the budget in the spec's copy and run again."
        ),
        FailureClass.USER_CONFIG_ERROR: _rule(
            Action.ABORT_STUDY, Outcome.ANOMALOUS, "Correct the spec; no candidate can be judged with it."
        ),
        FailureClass.UNKNOWN: _rule(
            Action.INVESTIGATE,
            Outcome.ANOMALOUS,
            "Read the log tail in `assay show`; report it if it is Assay's.",
        ),
    }
)
