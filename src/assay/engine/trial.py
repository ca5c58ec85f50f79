"""THE loop: one candidate through the plan, gated as it goes. All endings leave a complete record.

`engine/steps.py` does a step, `engine/judging.py` asks the gates and decides.
"""

from __future__ import annotations

import time

from assay.core.decision import Decision, GateLine
from assay.core.errors import ComponentError, Interrupted, UsageError
from assay.core.events import EventType
from assay.core.study import Step
from assay.core.triage import TRIAGE
from assay.core.trial import Trial
from assay.core.vocabulary import FailureClass, Outcome
from assay.engine.judging import FINAL, Judging
from assay.engine.observer import Progress
from assay.engine.steps import Steps


class TrialLoop:
    """Puts candidates of one study through its plan.

    Args:
        steps: does its steps.
        judging: asks its gates and decides.
    """

    def __init__(self, steps: Steps, judging: Judging) -> None:
        self.steps = steps
        self.judging = judging
        self.journal = steps.journal
        self.study = steps.study
        self.observer = steps.observer

    def run(self, trial: Trial) -> Decision:
        """One trial from where the ledger says it stands to its Decision.

        Raises:
            Interrupted: after an interrupted Decision was recorded.
        """
        self._tell("trial", trial)
        try:
            with self.steps.kept.of_a_trial():
                blocked = any(
                    self._blocked(step, trial) for step in self.journal.history.plan_for(trial.candidate)
                )
            if not blocked and self.judging.judge(self.study.final_gates, trial, FINAL) is None:
                self.judging.integrity(trial)
        except Interrupted:
            self.judging.decide(trial, interrupted=True)
            raise
        return self.judging.decide(trial)

    def let_stand(self, trial: Trial) -> Decision:
        """End a trial that was opened again and has nothing more to do: by the verdicts that it has."""
        self.judging.integrity(trial)
        return self.judging.decide(trial)

    def _blocked(self, step: Step, trial: Trial) -> bool:
        """Do a step, judge it, try again as triage says; True if the trial ends here."""
        if step.name not in trial.steps and self._settled(step, trial):
            return False
        while True:
            failure = self._attempt(step, trial) or self.judging.judge(step.gates, trial, step.name)
            if failure is None:
                return False
            if not self._retry(step, trial, failure):
                return True

    def _attempt(self, step: Step, trial: Trial) -> GateLine | None:
        """Have the step done; its failure as a verdict, or None."""
        try:
            if self._reused(step, trial):
                return None
            if (failed := trial.gates.get(step.name)) is not None:
                self._tell("gate", trial, line=failed)
                return failed  # recorded before a crash: it is dealt with now, not repeated
            self._perform(step, trial)
        except (ComponentError, UsageError) as error:
            return self.judging.step_failed(step, trial, error)
        return None

    def _settled(self, step: Step, trial: Trial) -> bool:
        """Whether the gate that the step was to give more to has said its last word."""
        line = trial.gates.get(step.until)
        return line is not None and not self.judging.open(line, trial)

    def _reused(self, step: Step, trial: Trial) -> bool:
        """Whether the step is finished: in this trial, or in another for all."""
        if step.name in trial.steps:
            self._tell("reused", trial, step, message="done before")
            return True
        earlier = self.journal.history.shared.get(self.steps.key(step, trial)) if step.shared else None
        if earlier is None:
            return False
        self.journal.write(EventType.STEP_REUSED, {"trial": trial.id, "step": step.name, "key": earlier.key})
        self._tell("reused", trial, step, message="shared: the same protocol was measured in this study")
        return True

    def _perform(self, step: Step, trial: Trial) -> None:
        self.steps.require_budget(step)
        key = self.steps.key(step, trial)
        attempt = trial.retries.get(step.name, 0) + 1
        self.journal.write(
            EventType.STEP_STARTED, {"trial": trial.id, "step": step.name, "attempt": attempt, "key": key}
        )
        self._tell("step", trial, step)
        record = self.steps.do(step, trial, key, attempt)
        self.journal.finish_step(trial, record, shared=step.shared)
        self._tell("step_done", trial, step, wall_s=record.wall_s)

    def _retry(self, step: Step, trial: Trial, failure: GateLine) -> bool:
        """Whether triage grants another attempt; waits the backoff if so."""
        rule = TRIAGE[failure.failure_class or FailureClass.UNKNOWN]
        used = trial.retries.get(step.name, 0)
        if failure.failure_class is None or used >= rule.retries or failure.outcome is Outcome.REGRESSION:
            return False
        delay = rule.backoff_s * 2**used
        self._tell("retry", trial, step, message=f"{failure.failure_class}: trying again in {delay:g} s")
        time.sleep(delay)
        data = {"trial": trial.id, "step": step.name, "after": failure.to_json()}
        self.journal.write(EventType.STEP_RETRIED, data)
        return True

    def _tell(self, kind: str, trial: Trial, step: Step | None = None, **more: object) -> None:
        values = {"trial": trial.id, "candidate": trial.candidate.name, "step": step.name if step else ""}
        self.observer.tell(Progress(kind, **values, **more))  # type: ignore[arg-type]
