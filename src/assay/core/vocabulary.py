"""The closed vocabularies of Assay: every ending, state and cause has one word, and no other word is accepted."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The word of a Decision."""

    ACCEPT = "ACCEPT"
    NO_GAIN = "NO_GAIN"
    REGRESSION = "REGRESSION"
    INFEASIBLE = "INFEASIBLE"
    ANOMALOUS = "ANOMALOUS"
    INCONCLUSIVE = "INCONCLUSIVE"


class Status(StrEnum):
    """The word of a Verdict. ERROR means "could not judge", which is not "bad"."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"


class State(StrEnum):
    """What became of one measurement. Only MEASURED carries a value."""

    MEASURED = "measured"
    MISSING = "missing"
    ERRORED = "errored"
    NONFINITE = "nonfinite"
    ABSTAINED = "abstained"


class Direction(StrEnum):
    """Which way a measurement gets better."""

    HIGHER = "higher"
    LOWER = "lower"


class Provenance(StrEnum):
    """Whether Assay measured it from the bytes, or somebody told us."""

    MEASURED = "measured"
    SELF_REPORTED = "self_reported"


class Verb(StrEnum):
    """The six things an adapter can do."""

    BUILD = "build"
    SERVE = "serve"
    EVALUATE = "evaluate"
    PROPOSE = "propose"
    EXECUTE = "execute"
    APPLY = "apply"


class FailureClass(StrEnum):
    """Why something failed. Closed for the whole system: `core.triage` has one row for each."""

    INFRA_TRANSIENT = "INFRA_TRANSIENT"
    SYSTEMIC = "SYSTEMIC"
    MODEL_UNSUPPORTED = "MODEL_UNSUPPORTED"
    POINT_INFEASIBLE = "POINT_INFEASIBLE"
    QUANT_COVERAGE_FAILURE = "QUANT_COVERAGE_FAILURE"
    DEPLOYMENT_HEALTH_FAILED = "DEPLOYMENT_HEALTH_FAILED"
    EVAL_JUDGE_FAILED = "EVAL_JUDGE_FAILED"
    SAMPLE_ACCOUNTING_FAILED = "SAMPLE_ACCOUNTING_FAILED"
    EXTERNAL_BASELINE_MISMATCH = "EXTERNAL_BASELINE_MISMATCH"
    NOT_COMPARABLE = "NOT_COMPARABLE"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    USER_CONFIG_ERROR = "USER_CONFIG_ERROR"
    UNKNOWN = "UNKNOWN"


class Action(StrEnum):
    """What the engine does about a failure."""

    RETRY = "RETRY"
    PATCH = "PATCH"
    INVESTIGATE = "INVESTIGATE"
    STOP_TRIAL = "STOP_TRIAL"
    ABORT_STUDY = "ABORT_STUDY"
