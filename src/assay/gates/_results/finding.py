"""What the results gate finds, and what an error text speaks of."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from assay.core.vocabulary import FailureClass


class Finding(NamedTuple):
    """One thing about a run."""

    failure_class: FailureClass
    text: str
    measured: float | str | None = None
    limit: float | str | None = None
    not_yet: bool = False
    told: bool = False
    """Worth telling, and no failure."""


PRECEDENCE = (
    FailureClass.EVAL_JUDGE_FAILED,
    FailureClass.DEPLOYMENT_HEALTH_FAILED,
    FailureClass.INFRA_TRANSIENT,
    FailureClass.SAMPLE_ACCOUNTING_FAILED,
    FailureClass.USER_CONFIG_ERROR,
    FailureClass.UNKNOWN,
)
"""Which class names the verdict where several were found; "not yet" stands right behind the judge."""

_COUNTED = r"(?!\d|\.\d|\s*(?:samples?|rows?|items?|questions?|tokens?|tasks?|m?s\b|%))"
_JUDGE = re.compile(
    r"(?<![a-z])judg(?:e|es|ed|ing|e?ment)(?![a-z])|rate[ _-]?limit|(?<![a-z])auth(?![a-z])|authenticat"
    r"|authori[sz]ation|unauthori[sz]ed|forbidden|api[ _-]?key|insufficient[ _]quota"
    rf"|(?<![\d.])(?:401|403|429){_COUNTED}",
    re.IGNORECASE,
)
_HEALTH = re.compile(
    r"health[ _-]?check|/health\b|unhealthy|not healthy|server health|EngineDeadError"
    r"|(?:server|endpoint|deployment|engine) (?:is |was |has )?(?:down|dead|died|crashed|exited|unavailable"
    r"|not ready|never became ready|did not start|failed to start)"
    r"|failed to (?:deploy|serve|start the server)"
    r"|model .{0,80}(?:does not exist|not found)|no such model|no kernel image",
    re.IGNORECASE,
)
_INFRA = re.compile(
    r"connection (?:refused|reset|aborted|error|closed|timed out)|connect(?:ion)? ?error|broken pipe"
    r"|server disconnected|time[d]?[ -]?out|out of memory|(?<![a-z])oom(?![a-z])|oom[ _-]?kill"
    r"|no space left|node[ _]fail|preempt|temporary failure|network (?:is )?unreachable|econn[a-z]+"
    rf"|(?<![\d.])(?:502|503|504){_COUNTED}",
    re.IGNORECASE,
)
_CONFIG = re.compile(
    r"maximum context length|context[ _]length[ _]exceeded|exceeds? the context", re.IGNORECASE
)
ERROR_WORDS = (
    (_JUDGE, FailureClass.EVAL_JUDGE_FAILED),
    (_HEALTH, FailureClass.DEPLOYMENT_HEALTH_FAILED),
    (_INFRA, FailureClass.INFRA_TRANSIENT),
    (_CONFIG, FailureClass.USER_CONFIG_ERROR),
)
"""What an error text speaks of; first match wins, whole words only: an author is no auth."""


def classify_error(message: str) -> FailureClass:
    """What an error text speaks of; UNKNOWN where no word is known."""
    return next((c for pattern, c in ERROR_WORDS if pattern.search(message)), FailureClass.UNKNOWN)


def accounting(text: str, measured: Any = None, limit: float | str | None = None) -> Finding:
    """A finding about counts."""
    plain = measured if isinstance(measured, int | float | str) else None
    return Finding(FailureClass.SAMPLE_ACCOUNTING_FAILED, text, plain, limit)
