"""Judging a trial: gates asked in order, failed steps as verdicts, and the Decision that folds them all."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from assay.core.decision import Decision, GateLine, fold
from assay.core.errors import ComponentError, ComponentFailed, UnreadableInput, UsageError
from assay.core.evidence import Evidence
from assay.core.history import INTEGRITY as INTEGRITY_GATE
from assay.core.study import GateRef, Step
from assay.core.triage import TRIAGE
from assay.core.trial import Trial
from assay.core.tuning import Cause
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status, Verb
from assay.engine.components import Components
from assay.engine.journal import Journal
from assay.engine.observer import Observer, Progress

FINAL = "final"
"""Where the gates over the whole trial stand."""
TELLING = frozenset({"ablation", "compare", "deploy", "improvement", "noise", "tuning"})
"""Gates whose sentence is that of the Decision when all passed."""
INTEGRITY = GateRef(gate=INTEGRITY_GATE)
"""Asked of every trial at its end: the bytes that were judged are the bytes that are there."""


class Judging:
    """Asks the gates of one study and takes its Decisions.

    Args:
        journal: the study's pen and memory.
        components: makes gates, and reads artifacts again.
        observer: is told what happens.
    """

    def __init__(self, journal: Journal, components: Components, observer: Observer) -> None:
        self.journal = journal
        self.study = journal.study
        self.components = components
        self.observer = observer

    def judge(self, refs: tuple[GateRef, ...], trial: Trial, step: str) -> GateLine | None:
        """Ask the gates in order; the first that does not pass, if any."""
        for ref in refs:
            if ref.name in self.journal.history.settled:
                continue
            line = trial.gates.get(ref.name)
            if line is not None and self._place(line.step) > self._place(step):
                continue  # a later look has been taken: that one counts
            if line is None or line.step != step:
                line = self._ask(ref, trial, step)
            self._tell(trial, line=line)
            if line.status is not Status.PASS and not ref.shadow and not self.open(line, trial):
                return line
        return None

    def _place(self, step: str) -> int:
        """Where a step stands in the plan; the final gates stand last."""
        names = [s.name for s in self.journal.history.steps]
        return names.index(step) if step in names else len(names)

    def _ask(self, ref: GateRef, trial: Trial, step: str) -> GateLine:
        gate = self.components.gate(ref)
        evidence: dict[str, Evidence] = {}
        held = {r.role: r.evidence for r in trial.steps.values() if r.role and r.evidence}
        for role in gate.reads:
            found = held.get(ref.reads.get(role, role))
            if found is None:
                missing = _cannot_judge(
                    ref.name, f"required evidence is missing: {ref.reads.get(role, role)}"
                )
                return self.journal.record_verdict(trial, step, ref, missing)
            evidence[role] = self.journal.evidence(found)
        return self.journal.record_verdict(trial, step, ref, gate.judge(evidence))

    def open(self, line: GateLine, trial: Trial) -> bool:
        """Whether another look may decide what this one did not."""
        upto = self.journal.history.upto.get(trial.id)
        looks = {s.until for s in self.journal.history.steps}
        if upto is None or line.gate not in looks:
            return line.open
        return line.status is Status.INCONCLUSIVE and self._place(line.step) < self._place(upto)

    def step_failed(self, step: Step, trial: Trial, error: ComponentError | UsageError) -> GateLine:
        """A step that could not be done, as a verdict of its own."""
        failure_class = FailureClass.USER_CONFIG_ERROR
        tail = cause = ""
        if isinstance(error, ComponentFailed):
            failure_class, tail, cause = error.failure_class, error.log_tail, error.cause
            if self.study.models and failure_class is FailureClass.USER_CONFIG_ERROR:
                failure_class = FailureClass.POINT_INFEASIBLE  # settings are what the candidates are made of
            if self.study.models and cause == Cause.INTEGRITY:
                failure_class = FailureClass.SYSTEMIC  # pinned files that are not what they should be
        outcome = TRIAGE[failure_class].outcome
        if outcome is Outcome.INFEASIBLE and step.subject != "candidate":
            outcome = Outcome.ANOMALOUS  # nothing was said about the candidate
        status = {Outcome.INFEASIBLE: Status.FAIL, Outcome.INCONCLUSIVE: Status.INCONCLUSIVE}.get(
            outcome, Status.ERROR
        )
        verdict = Verdict(
            gate=step.name,
            status=status,
            failure_class=failure_class,
            outcome=outcome,
            detail=str(error),
            reasons=(Reason(text=str(error), ok=False, where=error.where),),
            extra={k: v for k, v in (("log_tail", tail), ("cause", cause)) if v},
        )
        line = self.journal.record_verdict(trial, step.name, GateRef(gate=step.name), verdict)
        self._tell(trial, line=line)
        return line

    def integrity(self, trial: Trial) -> None:
        """A candidate that changed after it was judged must not be kept."""
        artifact = trial.artifact(self.study.models)
        if artifact is None or INTEGRITY.name in trial.gates:
            return
        try:
            found = self.components.pin(Path(artifact.path)).digest
        except UnreadableInput as error:
            found = error.what
        ok = found == artifact.digest
        reason = Reason(
            text="the artifact is the one that was built and judged"
            if ok
            else "the artifact changed on disk",
            ok=ok,
            where=artifact.path,
            measured=found,
            limit=artifact.digest,
        )
        verdict = Verdict(
            gate=INTEGRITY.name,
            status=Status.PASS if ok else Status.ERROR,
            failure_class=None if ok else FailureClass.NOT_COMPARABLE,
            outcome=None if ok else Outcome.ANOMALOUS,
            detail=reason.text,
            reasons=(reason,),
        )
        line = self.journal.record_verdict(trial, FINAL, INTEGRITY, verdict)
        self._tell(trial, line=line)

    def decide(self, trial: Trial, *, interrupted: bool = False) -> Decision:
        """Fold the verdicts into the Decision and record it."""
        lines = self._lines(trial)
        blocking = next((g for g in lines if g.status not in (None, Status.PASS) and not g.shadow), None)
        outcome = Outcome.ANOMALOUS if interrupted else fold(lines)
        artifact = trial.artifact(self.study.models)
        cause = self._cause(blocking)
        decision = Decision(
            study=self.study.id,
            trial=trial.id,
            candidate=trial.candidate.name,
            candidate_key=trial.candidate.key,
            outcome=outcome,
            gates=lines,
            sentence=_sentence(lines, blocking, interrupted=interrupted),
            failure_class=blocking.failure_class if blocking else None,
            interrupted=interrupted,
            head=self.journal.head,
            facts={
                "artifact": artifact.to_json() if artifact else None,
                "systemic": self._systemic(blocking),
                **({"cause": cause} if cause else {}),
            },
        )
        self.journal.record_decision(decision)
        self._tell(trial, decision=decision)
        return decision

    def _lines(self, trial: Trial) -> tuple[GateLine, ...]:
        """Every gate of the plan, reached or not, and the steps that failed by themselves."""
        plan = self.journal.history.plan_for(trial.candidate)
        builds = any(step.verb is Verb.BUILD for step in plan)
        gates = self.study.gates_for(trial.candidate.intent.get("phase"))
        planned = [*gates, *([INTEGRITY] if builds else [])]
        lines = [
            trial.gates.get(ref.name) or GateLine(gate=ref.name, required=ref.required, shadow=ref.shadow)
            for ref in planned
        ]
        names = {ref.name for ref in planned}
        return tuple([line for name, line in trial.gates.items() if name not in names] + lines)

    def _systemic(self, blocking: GateLine | None) -> bool:
        """A failure of what all candidates share meets every one of them."""
        if blocking is None:
            return False
        steps = self.journal.history.steps
        return any(s.name == blocking.step and s.subject not in ("candidate", "study") for s in steps)

    def _cause(self, blocking: GateLine | None) -> str:
        """What a failed step died of, where it told."""
        if blocking is None or blocking.gate != blocking.step or not blocking.verdict:
            return ""
        return str(self.journal.store.get(blocking.verdict).get("extra", {}).get("cause", ""))

    def _tell(self, trial: Trial, line: GateLine | None = None, decision: Decision | None = None) -> None:
        kind: Literal["gate", "decision"] = "gate" if line is not None else "decision"
        name = trial.candidate.name
        self.observer.tell(Progress(kind, trial=trial.id, candidate=name, line=line, decision=decision))


def _cannot_judge(gate: str, why: str) -> Verdict:
    return Verdict(
        gate=gate,
        status=Status.ERROR,
        failure_class=FailureClass.UNKNOWN,
        outcome=Outcome.ANOMALOUS,
        detail=why,
        reasons=(Reason(text=why, ok=False),),
    )


def _sentence(lines: tuple[GateLine, ...], blocking: GateLine | None, *, interrupted: bool) -> str:
    if interrupted:
        return "interrupted before all gates were asked; `assay resume` goes on where it stopped"
    if blocking is not None:
        return f"{blocking.gate}: {blocking.detail}"
    telling = next((line for line in lines if line.gate in TELLING and line.detail), None)
    return telling.detail if telling else "every gate passed"
