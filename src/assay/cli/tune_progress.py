"""What a tuning study knows before its end: after an interruption, a crash, or while it runs in another process."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping

from assay.core.decision import Decision
from assay.core.events import EventType
from assay.core.evidence import Evidence
from assay.core.history import StudyHistory
from assay.core.kinds import evidence_from_json
from assay.core.ports import Store
from assay.core.recommendation import ExitReason, Standing
from assay.core.tuning import Cause, TuningPlan
from assay.core.tuning_record import TuningRecord
from assay.core.vocabulary import FailureClass
from assay.engine.telling import Telling
from assay.ledger.home import Home
from assay.ledger.tuning_records import JOB, of_study
from assay.tuning.answer import Answer, answer
from assay.tuning.readings import readings
from assay.tuning.record import record
from assay.tuning.search import Search

CONFLICT = "a server in the way"
"""What interrupted a study that found no room to begin."""
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
    going_on = not _answers(history)
    told = found.model_copy(
        update={
            "exit_reason": exit_reason(history, alive=alive),
            "partial": found.partial or going_on,
            # what has not been launched yet may still be better
            "standing": Standing.UNRESOLVED if going_on and found.standing else found.standing,
        }
    )
    made = record(search, told, rows, study=history.study.id, inputs=given.get("inputs"))
    begun = made.recommendation.model_copy(update={"started_at": history.opened})
    return made.model_copy(update={"recommendation": begun}), told


def record_of(home: Home, history: StudyHistory, *, alive: bool = False) -> TuningRecord | None:
    """The record of a tuning study: that of its answer, or what is known until now. None for a study of another job.

    Raises:
        LedgerBroken: if evidence is gone or changed.
    """
    if history.study.job != JOB:
        return None
    found = of_study(history, home.store)
    return found if found is not None else so_far(history, home.store, alive=alive)[0]


def at_work(home: Home, known: Mapping[str, StudyHistory]) -> str:
    """The study that a process works on now; empty if none does."""
    try:
        with (home.folder / "writer.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return max(known, key=lambda name: known[name].events[-1].at, default="")
    except OSError:
        return ""
    return ""


def exit_reason(history: StudyHistory, *, alive: bool = False) -> ExitReason:
    """How a tuning study ended, in the source's closed words; `running` and `crashed` where it has no end."""
    answers = _answers(history)
    if history.closed is None or (answers == [] and not history.decisions):
        if alive:
            return ExitReason.RUNNING
        final = history.events[-1]
        if final.type is EventType.STUDY_INTERRUPTED and final.data.get("signal") == CONFLICT:
            return ExitReason.PROVIDER_CONFLICT
        return ExitReason.INTERRUPTED if history.interrupted else ExitReason.CRASHED
    if answers:
        word = answers[-1].failure_class
        if word is FailureClass.POINT_INFEASIBLE:
            return ExitReason.NO_FEASIBLE
        none = answers[-1].candidate == NOTHING
        if word is not FailureClass.BUDGET_EXHAUSTED:
            return ExitReason.INTERNAL_ERROR if none else ExitReason.OK
        return ExitReason.BUDGET_NO_MODEL if none else ExitReason.BUDGET_PARTIAL
    last = history.decisions[-1]
    if last.failure_class is FailureClass.USER_CONFIG_ERROR:
        return ExitReason.CONFIG_ERROR
    if last.facts.get("cause") == Cause.PORT:
        return ExitReason.PROVIDER_CONFLICT
    if last.facts.get("cause") == Cause.INTEGRITY:
        return ExitReason.PRE_WARM_INTEGRITY
    return ExitReason.INTERNAL_ERROR


def _answers(history: StudyHistory) -> list[Decision]:
    """The decisions on the recommendation; until there is one, nothing is settled."""
    return [
        d
        for d in history.decisions
        if history.trials[d.trial].candidate.intent.get("phase") == history.study.answers
    ]


def best_so_far(history: StudyHistory, store: Store) -> str:
    """One sentence for somebody who has just interrupted a study; empty if nothing was launched."""
    if not any(e.type is EventType.DECISION_RECORDED for e in history.events):
        return ""
    _, found = so_far(history, store)
    return "" if found.recommended is None else f"best so far, partial: {found.sentence}"
