"""One study: ask for a candidate, try it, tell what came of it; stop when the question is answered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.core.decision import Decision, fold_study
from assay.core.errors import Interrupted, UsageError
from assay.core.events import EventType
from assay.core.ports import Ledger, Store
from assay.core.study import Step, Study
from assay.core.triage import TRIAGE
from assay.core.trial import Trial
from assay.core.vocabulary import Action, FailureClass, Outcome
from assay.engine.components import Components
from assay.engine.journal import Journal
from assay.engine.judging import Judging
from assay.engine.lineage import Lineage
from assay.engine.observer import Observer, Progress, Silent
from assay.engine.selection import RANK, best_ranked
from assay.engine.steps import Steps
from assay.engine.trial import TrialLoop


class StudyLoop:
    """Runs a study from where the ledger says it stands.

    Args:
        study: the question; a study that the ledger knows is resumed.
        ledger: the event log.
        store: evidence and verdicts.
        components: makes adapters and gates.
        folder: where artifacts, logs and step files of this study go.
        observer: is told what happens.
    """

    def __init__(
        self,
        study: Study,
        *,
        ledger: Ledger,
        store: Store,
        components: Components,
        folder: Path,
        observer: Observer | None = None,
    ) -> None:
        self.study = study
        self.components = components
        self.observer = observer or Silent()
        self.journal = Journal(ledger, store, study)
        self._reopen()
        limit = study.budget.wall_time_s
        used = self.journal.history.active_s
        deadline = None if limit is None else time.monotonic() + max(0.0, limit - used)
        self._last: Decision | None = None
        """The Decision that this process took last."""
        steps = Steps(self.journal, components, folder, self.observer, deadline)
        self.trials = TrialLoop(steps, Judging(self.journal, components, self.observer))
        self.lineage = Lineage(self.journal, folder, self.observer)

    def _reopen(self) -> None:
        """A trial that broke off in a step that can go on does so: what was learned there was paid for."""
        trial = next(reversed(self.journal.history.trials.values()), None)
        step = None if trial is None else _broke_off(trial, self.journal.history.plan_for(trial.candidate))
        if trial is None or step is None:
            return
        failed = trial.gates[step.name]
        self.top_up((), {trial.id: ""})
        data = {"trial": trial.id, "step": step.name, "after": failed.to_json()}
        self.journal.write(EventType.STEP_RETRIED, data)

    def top_up(
        self,
        steps: Sequence[Step],
        trials: Mapping[str, str],
        *,
        settled: Sequence[str] = (),
    ) -> None:
        """Open trials again, and let the plan go on with further steps.

        Args:
            steps: what is added to the plan.
            trials: the trials that go on, each with the step that it goes to, and no further, whatever a look says
                before; empty = as far as its gates say.
            settled: gates that have done their work.
        """
        data = {
            "steps": [s.to_json() for s in steps],
            "trials": list(trials),
            "settled": list(settled),
            "upto": {trial: step for trial, step in trials.items() if step},
        }
        self.journal.write(EventType.STUDY_TOPPED_UP, data)

    def run(self) -> Outcome:
        """Every trial that the study asks for; returns the word of the study.

        Raises:
            Interrupted: after it was recorded.
        """
        self.observer.tell(Progress("study", study=self.study))
        proposer = self.components.propose(self.study.proposer)
        why = "the proposer has no further candidate"
        try:
            while (ended := self._ended()) is None:
                trial = self.journal.history.open_trial
                if trial is None:
                    candidate = self.lineage.proposed(proposer)
                    if candidate is None:
                        if not self._confirms():
                            break
                        continue
                    if (ended := self.lineage.repeats(candidate)) is not None:
                        break
                    trial = self.journal.start_trial(candidate)
                self._try(trial)
            why = ended or why
            self._let_stand()
            self._apply_pending()
        except Interrupted as signal:
            self.journal.write(EventType.STUDY_INTERRUPTED, {"signal": signal.what})
            what = f"interrupted by {signal.what}; what is finished is kept"
            raise Interrupted(what, where=self.study.id, next=f"`assay resume {self.study.id}`") from signal
        outcome = fold_study([d.outcome for d in self.lineage.counted()])
        closing = {"outcome": outcome.value, "why": why, **self.lineage.closing()}
        self.journal.write(EventType.STUDY_CLOSED, closing)
        return outcome

    def _confirms(self) -> bool:
        """When all are ranked, the best goes on alone; whether there is one."""
        best = best_ranked(self.journal.history, self.journal.store)
        if best is not None:
            self.top_up(self.study.confirm, {best: ""}, settled=[RANK])
        return best is not None

    def _try(self, trial: Trial) -> None:
        self.lineage.inherit(trial)
        decision = self.trials.run(trial)
        self._last = decision
        if decision.keeps and self.study.apply_on_accept and self.study.stopping is None:
            self._apply(trial, decision)

    def _ended(self) -> str | None:
        """Why no further trial is begun, or None."""
        history = self.journal.history
        decisions = history.decisions
        trial = history.open_trial
        if trial is not None and not trial.superseded:
            return None
        if self.study.stop == "first_accept" and any(d.keeps for d in decisions):
            return "a candidate was accepted"
        if trial is not None:
            return None
        # only what was decided just now: a resumed study may mend what made it abort
        if self._last is not None and (reason := _abort_reason(self._last, decisions)):
            return reason
        limit = self.study.budget.trials
        if limit is not None and len(decisions) >= limit:
            return f"the budget of {limit} trials is used up"
        return self.lineage.enough()

    def _let_stand(self) -> None:
        """Trials that were opened again, and are not needed any more, end as they stood."""
        while (trial := self.journal.history.open_trial) is not None:
            self.trials.let_stand(trial)

    def _apply(self, trial: Trial, decision: Decision) -> None:
        history = self.journal.history
        taken_back = any(e.type is EventType.UNDO_DONE for e in history.events)
        if history.applied or taken_back or decision.facts.get("artifact") is None:
            return  # one target takes one candidate, the first; another, or the same again, is `assay apply`
        artifact = Path(decision.facts["artifact"]["path"])
        adapter = self.components.apply(self.study.apply)
        token = history.apply_pending.get(trial.id)
        try:
            if token is None:
                token = adapter.plan(artifact, decision)
                self.journal.write(EventType.APPLY_INTENDED, {"trial": trial.id, "token": dict(token)})
            adapter.apply(artifact, decision, token)
        except UsageError as error:
            what = f"{trial.id} is {decision.outcome}, but cannot be applied: {error.what}"
            help_ = f"make room there, then `assay resume {self.study.id}`"
            raise UsageError(what, where=error.where, next=help_) from error
        self.journal.write(EventType.APPLY_DONE, {"trial": trial.id})
        self.observer.tell(Progress("apply", trial=trial.id, candidate=decision.candidate))

    def _apply_pending(self) -> None:
        """What was accepted and not yet applied: a crash between the Decision and the application.

        Where candidates grow out of each other, the best one is applied at the end, if it may advance.
        """
        for trial in self.journal.history.trials.values():
            kept = trial.finished and trial.decision and trial.decision.keeps and self.study.apply_on_accept
            if kept and trial.decision and self.lineage.applicable(trial):
                self._apply(trial, trial.decision)


_MENDABLE = frozenset(
    {FailureClass.INFRA_TRANSIENT, FailureClass.BUDGET_EXHAUSTED, FailureClass.USER_CONFIG_ERROR}
)
"""What a person mends, or grants, before a study is resumed."""


def _broke_off(trial: Trial, plan: Sequence[Step]) -> Step | None:
    """The step in which a trial ended for a cause that may be gone, if its adapter goes on with what it left."""
    if trial.decision is None or trial.decision.failure_class not in _MENDABLE:
        return None
    return next((s for s in plan if s.resumes and s.name in trial.gates and s.name not in trial.steps), None)


def _abort_reason(last: Decision, decisions: list[Decision]) -> str | None:
    if last.keeps:
        return None
    if last.facts.get("systemic"):
        return "what all candidates share failed: none can be judged"
    if last.failure_class is None:
        return None
    if TRIAGE[last.failure_class].action is Action.ABORT_STUDY:
        return f"{last.failure_class}: {TRIAGE[last.failure_class].advice}"
    place = [d.trial for d in decisions].index(last.trial)
    before = decisions[place - 1] if place else None
    anomalous = last.outcome is Outcome.ANOMALOUS
    if before and anomalous and (before.outcome, before.failure_class) == (last.outcome, last.failure_class):
        return f"two candidates in a row ended {last.failure_class}: taken as systemic"
    return None
