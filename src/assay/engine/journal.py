"""Journal: the engine's pen. Whatever it writes is in the ledger first and in the history after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay import __version__
from assay.core.candidate import Candidate
from assay.core.decision import Decision, GateLine
from assay.core.events import GENESIS, EventType, link_digest
from assay.core.evidence import Evidence
from assay.core.history import StudyHistory, replay
from assay.core.kinds import evidence_from_json
from assay.core.ports import Ledger, Store
from assay.core.run import Run
from assay.core.study import GateRef, Study
from assay.core.trial import StepRecord, Trial
from assay.core.verdict import Verdict
from assay.runtime.interrupts import held


class Journal:
    """Writes the events of one study and keeps its history up to date.

    Args:
        ledger: where events go.
        store: where evidence and verdicts go.
        study: the study; opened if the ledger does not know it, resumed if it does.
    """

    def __init__(self, ledger: Ledger, store: Store, study: Study) -> None:
        self._ledger = ledger
        self.store = store
        self._head = GENESIS
        self._evidence: dict[str, Evidence] = {}
        events = []
        for event in ledger.read():
            self._head = link_digest(event)
            events.append(event)
        known = replay(events, study.id).get(study.id)
        self.study = study
        if known is None:
            self.history = StudyHistory(study=study, opened="")
            self.write(EventType.STUDY_OPENED, {"study": study.to_json(), "assay": __version__})
            self.history.opened = self.history.events[0].at
        else:
            self.history = known
            self.write(EventType.STUDY_RESUMED, {"assay": __version__})

    @property
    def head(self) -> str:
        """Digest of the last event."""
        return self._head

    def write(self, type_: EventType, data: Mapping[str, Any]) -> None:
        """Append an event and take it into the history; no interruption comes between the two."""
        with held():
            event = self._ledger.append(type_, self.study.id, data)
            self._head = link_digest(event)
            self.history.apply_event(event)

    def start_trial(self, candidate: Candidate) -> Trial:
        """Open the next trial."""
        number = len(self.history.trials) + 1
        trial = f"{self.study.id}-{number}"
        data = {"trial": trial, "number": number, "candidate": candidate.to_json()}
        self.write(EventType.TRIAL_STARTED, data)
        return self.history.trials[trial]

    def finish_step(self, trial: Trial, record: StepRecord, *, shared: bool) -> None:
        """Record a finished step."""
        artifact = record.artifact.to_json() if record.artifact else None
        data = {
            "trial": trial.id,
            "step": record.step,
            "key": record.key,
            "wall_s": round(record.wall_s, 6),
            "role": record.role,
            "evidence": record.evidence,
            "artifact": artifact,
            "facts": dict(record.facts),
            "shared": shared,
        }
        self.write(EventType.STEP_FINISHED, data)

    def record_run(self, trial: Trial, step: str, run: Run) -> None:
        """Record what a child process did."""
        self.write(EventType.RUN_FINISHED, {"trial": trial.id, "step": step, "run": run.to_json()})

    def record_verdict(self, trial: Trial, step: str, ref: GateRef, verdict: Verdict) -> GateLine:
        """Store a verdict and its line."""
        line = GateLine(
            gate=ref.name,
            step=step,
            required=ref.required,
            shadow=ref.shadow,
            status=verdict.status,
            outcome=verdict.outcome,
            failure_class=verdict.failure_class,
            detail=verdict.detail,
            open=verdict.open,
            verdict=self.store.put(verdict.to_json()),
        )
        self.write(EventType.VERDICT_RECORDED, {"trial": trial.id, "line": line.to_json()})
        return line

    def record_decision(self, decision: Decision) -> None:
        """Record how a trial ended."""
        self.write(EventType.DECISION_RECORDED, {"decision": decision.to_json()})

    def put(self, evidence: Evidence) -> str:
        """Store evidence; returns its digest."""
        return self.store.put(evidence.to_json())

    def evidence(self, digest: str) -> Evidence:
        """Stored evidence, as its own class; read and checked once."""
        if digest not in self._evidence:
            self._evidence[digest] = evidence_from_json(self.store.get(digest))
        return self._evidence[digest]
