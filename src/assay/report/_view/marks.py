"""Words with a tone and a sign, so that no meaning hangs on colour alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from assay.core.decision import Decision
from assay.core.history import StudyHistory
from assay.core.vocabulary import Outcome, Status

Tone = Literal["good", "bad", "open", "odd", "idle"]
Sign = Literal["check", "cross", "question", "bang", "dash"]


@dataclass(frozen=True)
class Mark:
    """A word of the vocabulary as it is drawn."""

    word: str
    tone: Tone
    sign: Sign


_OUTCOMES: dict[Outcome, tuple[Tone, Sign]] = {
    Outcome.ACCEPT: ("good", "check"),
    Outcome.REGRESSION: ("bad", "cross"),
    Outcome.NO_GAIN: ("bad", "cross"),
    Outcome.INFEASIBLE: ("bad", "cross"),
    Outcome.INCONCLUSIVE: ("open", "question"),
    Outcome.ANOMALOUS: ("odd", "bang"),
}
_STATUS: dict[Status, tuple[Tone, Sign]] = {
    Status.PASS: ("good", "check"),
    Status.FAIL: ("bad", "cross"),
    Status.INCONCLUSIVE: ("open", "question"),
    Status.ERROR: ("odd", "bang"),
}
INTERRUPTED = Mark("INTERRUPTED", "idle", "dash")
UNFINISHED = Mark("UNFINISHED", "idle", "dash")
NOT_TRIED = Mark("NOT TRIED", "idle", "dash")
NOT_REACHED = Mark("NOT REACHED", "idle", "dash")


def outcome_mark(outcome: str) -> Mark:
    """The mark of a Decision's word; a word that is none of ours is shown as it is."""
    try:
        word = Outcome(outcome)
    except ValueError:
        return Mark(outcome, "odd", "bang")
    return Mark(word.value.replace("_", " "), *_OUTCOMES[word])


def status_mark(status: Status | None) -> Mark:
    """The mark of a verdict."""
    return NOT_REACHED if status is None else Mark(status.value, *_STATUS[status])


def decision_mark(decision: Decision | None) -> Mark:
    """The mark of a trial."""
    if decision is None:
        return UNFINISHED
    return INTERRUPTED if decision.interrupted else outcome_mark(decision.outcome)


def study_mark(history: StudyHistory) -> Mark:
    """The mark of a study: the word that it was closed with."""
    word = history.closed.get("outcome") if history.closed else None
    if word:
        return outcome_mark(str(word))
    return INTERRUPTED if history.interrupted else UNFINISHED
