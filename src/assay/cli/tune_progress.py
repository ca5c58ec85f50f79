"""What a tuning study knows before its end: after an interruption, a crash, or while it runs in another process."""

from __future__ import annotations

from assay.core.events import EventType
from assay.core.evidence import Evidence
from assay.core.history import StudyHistory
from assay.core.kinds import evidence_from_json
from assay.core.ports import Store
from assay.core.recommendation import ExitReason
from assay.core.tuning import TuningPlan
from assay.core.tuning_record import TuningRecord
from assay.core.vocabulary import FailureClass
from assay.engine.telling import Telling
from assay.tuning.answer import Answer, answer
from assay.tuning.readings import readings
from assay.tuning.record import record
from assay.tuning.search import Search

NOTHING = "no recommendation"
"""Name of the candidate that stands for having none."""


class Memory:
    """A study as the ledger holds it, to be read alone."""

    def __init__(self, history: StudyHistory, store: Store) -> None:
        self.history = history
        self._store = store

    def evidence(self, digest: str) -> Evidence:
        """Stored evidence, as its own class."""
        return evidence_from_json(self._store.get(digest))


def so_far(history: StudyHistory, store: Store, *, alive: bool = False) -> tuple[TuningRecord, Answer]:
    """The record of what was launched until now, marked partial, and how the study stands.

    Args:
        history: of a tuning study.
        store: its evidence.
        alive: a process is at work on it.

    Raises:
        LedgerBroken: if evidence is gone or changed.
    """
    given = history.study.proposer.options
    plan = TuningPlan.from_json(given["plan"])
    telling = Telling(Memory(history, store))
    rows = [telling.row(d) for d in history.decisions]
    spent = max((row.spent_s for row in rows), default=0.0)
    search = Search(plan, readings(rows, plan), telling.session, spent)
    found = answer(search)
    done = search.next_launch() is None and not search.partial
    told = found.model_copy(
        update={"exit_reason": exit_reason(history, alive=alive), "partial": found.partial or not done}
    )
    return record(search, told, rows, study=history.study.id, inputs=given.get("inputs")), told


def exit_reason(history: StudyHistory, *, alive: bool = False) -> ExitReason:
    """How a tuning study ended, in the source's closed words; `running` and `crashed` where it has no end."""
    answers = [
        d
        for d in history.decisions
        if history.trials[d.trial].candidate.intent.get("phase") == history.study.answers
    ]
    if history.closed is None or (answers == [] and not history.decisions):
        if alive:
            return ExitReason.RUNNING
        return ExitReason.INTERRUPTED if history.interrupted else ExitReason.CRASHED
    if answers:
        word = answers[-1].failure_class
        if word is FailureClass.POINT_INFEASIBLE:
            return ExitReason.NO_FEASIBLE
        if word is not FailureClass.BUDGET_EXHAUSTED:
            return ExitReason.OK
        none = answers[-1].candidate == NOTHING
        return ExitReason.BUDGET_NO_MODEL if none else ExitReason.BUDGET_PARTIAL
    last = history.decisions[-1]
    if last.failure_class is FailureClass.USER_CONFIG_ERROR:
        return ExitReason.CONFIG_ERROR
    if last.facts.get("cause") == "port":
        return ExitReason.PROVIDER_CONFLICT
    return ExitReason.INTERNAL_ERROR


def best_so_far(history: StudyHistory, store: Store) -> str:
    """One sentence for somebody who has just interrupted a study; empty if nothing was launched."""
    if not any(e.type is EventType.DECISION_RECORDED for e in history.events):
        return ""
    _, found = so_far(history, store)
    return "" if found.recommended is None else f"best so far, partial: {found.sentence}"
