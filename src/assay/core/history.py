"""History: the state of a study as a replay of its events. The engine resumes from it, the projections show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from assay.core.candidate import Candidate
from assay.core.decision import Decision, GateLine
from assay.core.events import Event, EventType
from assay.core.evidence import Artifact
from assay.core.study import Step, Study
from assay.core.trial import StepRecord, Trial

INTEGRITY = "integrity"
"""Gate of every trial, asked when it ends."""


@dataclass
class StudyHistory:
    """What is known about one study."""

    study: Study
    opened: str
    trials: dict[str, Trial] = field(default_factory=dict)
    shared: dict[str, StepRecord] = field(default_factory=dict)
    """Finished shared steps by key."""
    applied: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Trial → undo token of what is in force."""
    apply_pending: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Trial → undo token of an application that was announced and not finished."""
    undo_pending: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    topped_up: list[Step] = field(default_factory=list)
    """Steps that were added to the plan after its end, to ask more items under the same contract."""
    settled: set[str] = field(default_factory=set)
    """Gates that have done their work and are asked no more: candidates are ranked."""
    upto: dict[str, str] = field(default_factory=dict)
    """Topped-up trial → the step that it goes to, and no further, whatever a look says before."""
    events: list[Event] = field(default_factory=list)
    interrupted: bool = False
    closed: Mapping[str, Any] | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The plan as it stands now."""
        return (*self.study.steps, *self.topped_up)

    def plan_for(self, candidate: Candidate) -> list[Step]:
        """The steps that are for a candidate."""
        phase = candidate.intent.get("phase")
        return [s for s in self.steps if not s.phase or s.phase == phase]

    @property
    def decisions(self) -> list[Decision]:
        """The standing Decisions, in the order of the trials."""
        return [t.decision for t in self.trials.values() if t.decision and not t.decision.interrupted]

    @property
    def open_trial(self) -> Trial | None:
        """The trial that was begun and has no standing Decision."""
        return next((t for t in self.trials.values() if not t.finished), None)

    @property
    def active_s(self) -> float:
        """Seconds in which the study was at work, over all times that it was run; up to its last event."""
        idle = {EventType.STUDY_RESUMED, *_BY_HAND}
        times = [(datetime.fromisoformat(e.at), e.type) for e in self.events]
        gaps = [(b - a).total_seconds() for (a, _), (b, what) in pairwise(times) if what not in idle]
        return sum(max(0.0, gap) for gap in gaps)  # a clock that was set back gives no time back

    def apply_event(self, event: Event) -> None:
        """Take one event into account."""
        self.events.append(event)
        handler = _HANDLERS.get(event.type)
        if handler is not None:
            handler(self, event)


_BY_HAND = (EventType.APPLY_INTENDED, EventType.APPLY_DONE, EventType.UNDO_INTENDED, EventType.UNDO_DONE)
"""What may happen long after the work is done."""


def _trial_started(history: StudyHistory, event: Event) -> None:
    data = event.data
    trial = Trial(
        id=data["trial"],
        number=data["number"],
        candidate=Candidate.from_json(data["candidate"]),
        started=event.at,
    )
    history.trials[trial.id] = trial


def _step_retried(history: StudyHistory, event: Event) -> None:
    trial = history.trials[event.data["trial"]]
    step = event.data["step"]
    trial.retries[step] = trial.retries.get(step, 0) + 1
    dropped = [name for name, line in trial.gates.items() if line.step == step]
    for name in dropped:
        del trial.gates[name]
        before = next((line for line in reversed(trial.looks) if line.gate == name), None)
        if before is not None:  # an earlier look stands as long as the later one is not taken
            trial.looks.remove(before)
            trial.gates[name] = before
    record = trial.steps.pop(step, None)
    if record is not None:
        history.shared.pop(record.key, None)


def _step_finished(history: StudyHistory, event: Event) -> None:
    data = event.data
    artifact = Artifact.from_json(data["artifact"]) if data.get("artifact") else None
    record = StepRecord(
        step=data["step"],
        key=data["key"],
        wall_s=data["wall_s"],
        role=data.get("role"),
        evidence=data.get("evidence"),
        artifact=artifact,
        facts=data.get("facts", {}),
    )
    history.trials[data["trial"]].steps[record.step] = record
    if data["shared"]:
        history.shared[record.key] = record


def _step_reused(history: StudyHistory, event: Event) -> None:
    record = history.shared[event.data["key"]]
    history.trials[event.data["trial"]].steps[record.step] = record


def _verdict_recorded(history: StudyHistory, event: Event) -> None:
    line = GateLine.from_json(event.data["line"])
    trial = history.trials[event.data["trial"]]
    before = trial.gates.get(line.gate)
    if before is not None and before.step != line.step:
        trial.looks.append(before)
    trial.gates[line.gate] = line


def _decision_recorded(history: StudyHistory, event: Event) -> None:
    decision = Decision.from_json(event.data["decision"])
    history.trials[decision.trial].decision = decision


def _interrupted(history: StudyHistory, _event: Event) -> None:
    history.interrupted = True


def _resumed(history: StudyHistory, _event: Event) -> None:
    history.interrupted = False
    history.closed = None


def _topped_up(history: StudyHistory, event: Event) -> None:
    """The plan goes on; trials that it may settle are open again, and their Decisions stay on record."""
    data = event.data
    history.topped_up += [Step.from_json(s) for s in data["steps"]]
    history.settled |= set(data["settled"])
    if data.get("insists"):  # as it was written before a place was named
        history.upto |= dict.fromkeys(data["trials"], history.steps[-1].name)
    history.upto |= data.get("upto", {})
    for name in data["trials"]:
        trial = history.trials[name]
        # what is judged further must still be what was built: that is asked again
        past = history.settled | {INTEGRITY}
        trial.looks += [line for line in trial.gates.values() if line.gate in past]
        trial.gates = {gate: line for gate, line in trial.gates.items() if gate not in past}
        if trial.decision is not None:
            trial.superseded.append(trial.decision)
            trial.decision = None
    history.closed = None


def _closed(history: StudyHistory, event: Event) -> None:
    history.closed = event.data


def _apply_intended(history: StudyHistory, event: Event) -> None:
    history.apply_pending[event.data["trial"]] = event.data["token"]


def _apply_done(history: StudyHistory, event: Event) -> None:
    trial = event.data["trial"]
    history.applied[trial] = history.apply_pending.pop(trial)


def _undo_intended(history: StudyHistory, event: Event) -> None:
    history.undo_pending[event.data["trial"]] = event.data["token"]


def _undo_done(history: StudyHistory, event: Event) -> None:
    history.undo_pending.pop(event.data["trial"], None)
    history.applied.pop(event.data["trial"], None)
    history.apply_pending.pop(event.data["trial"], None)


_HANDLERS = {
    EventType.TRIAL_STARTED: _trial_started,
    EventType.STEP_RETRIED: _step_retried,
    EventType.STEP_FINISHED: _step_finished,
    EventType.STEP_REUSED: _step_reused,
    EventType.VERDICT_RECORDED: _verdict_recorded,
    EventType.DECISION_RECORDED: _decision_recorded,
    EventType.STUDY_INTERRUPTED: _interrupted,
    EventType.STUDY_RESUMED: _resumed,
    EventType.STUDY_TOPPED_UP: _topped_up,
    EventType.STUDY_CLOSED: _closed,
    EventType.APPLY_INTENDED: _apply_intended,
    EventType.APPLY_DONE: _apply_done,
    EventType.UNDO_INTENDED: _undo_intended,
    EventType.UNDO_DONE: _undo_done,
}


def replay(events: Iterable[Event], study: str | None = None) -> dict[str, StudyHistory]:
    """The histories of all studies (or of one), by id, from the events of a ledger in order."""
    histories: dict[str, StudyHistory] = {}
    for event in events:
        if study is not None and event.study != study:
            continue
        if event.type is EventType.STUDY_OPENED:
            histories[event.study] = StudyHistory(study=Study.from_json(event.data["study"]), opened=event.at)
        histories[event.study].apply_event(event)
    return histories
