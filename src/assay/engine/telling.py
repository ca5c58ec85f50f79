"""What the trials of a study came to, with the evidence that the study tells: for proposers, and for its own answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from assay.core.decision import Decision
from assay.core.events import Event, EventType
from assay.core.evidence import Evidence
from assay.core.history import StudyHistory
from assay.core.trial import Trial
from assay.core.trials import TrialRow, Trials


class Remembers(Protocol):
    """What is asked of the study's memory."""

    @property
    def history(self) -> StudyHistory:
        """All that happened."""
        ...

    def evidence(self, digest: str) -> Evidence:
        """Stored evidence, as its own class."""
        ...


class Telling:
    """Rows of decided trials; each is made once.

    Args:
        journal: the study's memory.
    """

    def __init__(self, journal: Remembers) -> None:
        self.journal = journal
        self._made: dict[str, TrialRow] = {}

    @property
    def session(self) -> int:
        """How often the study was resumed."""
        return sum(e.type is EventType.STUDY_RESUMED for e in self.journal.history.events)

    def row(self, decision: Decision) -> TrialRow:
        """What a trial came to."""
        if decision.trial not in self._made:
            self._made |= {r.trial: r for r in self._rows()}
        return self._made[decision.trial]

    def trials(self, trial: Trial) -> Trials:
        """All decided trials, as evidence of the one that asks."""
        rows = tuple(self.row(d) for d in self.journal.history.decisions if d.trial != trial.id)
        measured = self.journal.history.study.id
        return Trials(subject="study", candidate=trial.candidate, rows=rows, facts={"study": measured})

    def _rows(self) -> Iterator[TrialRow]:
        """The rows that are not made yet, with the sessions and seconds up to each."""
        session, spent, before = 0, 0.0, None
        for event in self.journal.history.events:
            if event.type is EventType.STUDY_RESUMED:
                session += 1
            elif before is not None:
                spent += _between(before, event)
            before = event
            if event.type is not EventType.DECISION_RECORDED:
                continue
            decision = Decision.from_json(event.data["decision"])
            if not decision.interrupted and decision.trial not in self._made:
                yield self._row(decision, session, spent)

    def _row(self, decision: Decision, session: int, spent: float) -> TrialRow:
        trial = self.journal.history.trials[decision.trial]
        roles = self.journal.history.study.tells
        held = {r.role: r.evidence for r in trial.steps.values() if r.role in roles and r.evidence}
        return TrialRow(
            trial=trial.id,
            number=trial.number,
            candidate=trial.candidate,
            started=trial.started,
            outcome=decision.outcome,
            failure_class=decision.failure_class,
            cause=str(decision.facts.get("cause", "")),
            sentence=decision.sentence,
            session=session,
            spent_s=round(spent, 3),
            command=self._command(trial.id),
            digests={str(role): digest for role, digest in held.items()},
            evidence={str(role): self.journal.evidence(digest).to_json() for role, digest in held.items()},
        )

    def _command(self, trial: str) -> tuple[str, ...]:
        """The last command line that ran for a trial."""
        runs = [
            e.data["run"]["command"]
            for e in self.journal.history.events
            if e.type is EventType.RUN_FINISHED and e.data["trial"] == trial
        ]
        return tuple(runs[-1]) if runs else ()


def _between(before: Event, after: Event) -> float:
    """Seconds between two events."""
    gap = datetime.fromisoformat(after.at) - datetime.fromisoformat(before.at)
    return max(0.0, gap.total_seconds())
