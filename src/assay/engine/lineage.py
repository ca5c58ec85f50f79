"""Trials that grow out of each other: what is kept is the next parent, what is not is reverted.

Everything is derived from the ledger, so that a killed study goes on as if nothing had happened.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.errors import ComponentFailed
from assay.core.evidence import Evidence, Measurement
from assay.core.ports import Propose
from assay.core.proposal import Past, pasts, told
from assay.core.training_runs import ABSENT
from assay.core.triage import TRIAGE
from assay.core.trial import StepRecord, Trial
from assay.engine import stopping
from assay.engine.journal import Journal
from assay.engine.observer import Observer, Progress
from assay.engine.telling import Telling

INHERITED = "inherited"
"""Prefix of the records by which a trial takes over evidence of the best one before it."""
STOP_FILE = "STOP"


class Lineage:
    """What a study needs beyond one trial at a time. In a study without rules for stopping it only tells.

    Args:
        journal: the study's pen and memory.
        folder: the study's folder, where a person may leave a file `STOP`.
        observer: is told what happens.
    """

    def __init__(self, journal: Journal, folder: Path, observer: Observer) -> None:
        self.journal = journal
        self.study = journal.study
        self.folder = folder
        self.observer = observer
        self.telling = Telling(journal)

    def proposed(self, proposer: Propose) -> Candidate | None:
        """The next candidate; a proposer that fails for a passing cause is asked again, as triage says.

        Raises:
            ComponentFailed: if it goes on failing.
        """
        used = 0
        while True:
            try:
                return proposer.propose(self._told())
            except ComponentFailed as error:
                rule = TRIAGE[error.failure_class]
                if used >= rule.retries:
                    raise
                delay = rule.backoff_s * 2**used
                message = f"{error.failure_class}: asking again in {delay:g} s"
                self.observer.tell(Progress("retry", step="propose", message=message))
                time.sleep(delay)
                used += 1

    def repeats(self, candidate: Candidate) -> str | None:
        """Why it is of no use to try this proposal, or None."""
        rules = self.study.stopping
        return None if rules is None else stopping.dead_end(rules, self.pasts(), candidate)

    def enough(self) -> str | None:
        """Why no further trial is begun, or None; a person's word comes first."""
        rules = self.study.stopping
        if rules is None:
            return None
        file = Path(rules.stop_file) if rules.stop_file else self.folder / STOP_FILE
        if file.exists():
            return f"a person asked for it: {file}"
        spent = stopping.spent_s(self.journal.history.events)
        return stopping.enough(rules, self.study.budget, self.pasts(), spent)

    def inherit(self, trial: Trial) -> None:
        """Give a trial the evidence that it is measured against: that of the best kept one before it."""
        for role, theirs in self.study.inherits.items():
            name = f"{INHERITED} {role}"
            if name in trial.steps:
                continue
            parent = self._parent(trial)
            held = [r.evidence for r in parent.steps.values() if r.role == theirs] if parent else []
            found = held[-1] if held else None
            if found is None:
                why = "nothing was kept before it" if parent is None else f"{parent.id} holds no {theirs}"
                found = self.journal.put(Evidence(kind=ABSENT, subject="parent", facts={"why": why}))
            facts = {"trial": parent.id if parent else ""}
            record = StepRecord(name, name, 0.0, role=role, evidence=found, facts=facts)
            self.journal.finish_step(trial, record, shared=False)

    def counted(self) -> list[Decision]:
        """Decisions that answer the question; that of the baseline does only where nothing else was tried."""
        history = self.journal.history
        if self.study.answers:
            phases = {t.id: t.candidate.intent.get("phase") for t in history.trials.values()}
            answers = [d for d in history.decisions if phases[d.trial] == self.study.answers]
            return answers or history.decisions
        if self.study.stopping is None:
            return history.decisions
        source = self.study.source.digest
        changes = [d for d in history.decisions if history.trials[d.trial].candidate.parent != source]
        return changes or history.decisions

    def closing(self) -> dict[str, Any]:
        """What the end of the study says beside its word: whether the best candidate may advance."""
        rules = self.study.stopping
        return {} if rules is None else {"advance": stopping.advance(rules, self.pasts()).to_json()}

    def applicable(self, trial: Trial) -> bool:
        """Whether a kept candidate is the one to apply: the best one, and only if it may advance."""
        rules = self.study.stopping
        if rules is None:
            return True
        best = stopping.advance(rules, self.pasts())
        return best.word is stopping.MayAdvance.ADVANCE and best.trial == trial.id

    def pasts(self) -> list[Past]:
        """The decided trials, in order."""
        return pasts(self._told())

    def _told(self) -> list[Decision]:
        """The decisions, each with its candidate, what it measured and what it made."""
        history = self.journal.history
        return [self._telling(history.trials[d.trial], d) for d in history.decisions]

    def _telling(self, trial: Trial, decision: Decision) -> Decision:
        made = [r.facts for r in trial.steps.values() if r.artifact is not None]
        found = told(decision, trial.candidate, self._measured(trial), made)
        if not self.study.tells:
            return found
        more = {"row": self.telling.row(decision).to_json(), "session": self.telling.session}
        return found.model_copy(update={"facts": {**found.facts, **more}})

    def _measured(self, trial: Trial) -> tuple[Measurement, ...]:
        rules = self.study.stopping
        held = [r.evidence for r in trial.steps.values() if rules and r.role == rules.reads and r.evidence]
        return self.journal.evidence(held[-1]).measurements if held else ()

    def _parent(self, trial: Trial) -> Trial | None:
        earlier = [t for t in self.journal.history.trials.values() if t.number < trial.number]
        return next((t for t in reversed(earlier) if t.finished and t.decision and t.decision.keeps), None)
