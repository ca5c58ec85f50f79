"""The fold: events of an experiment → its state. Any sequence of events has one, and what does not fit is named."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from assay.core.evidence import Measurement
from assay.core.experiment import (
    FINAL,
    LIVE,
    Attempt,
    CheckpointRecord,
    Evaluation,
    ExperimentEvent,
    ExperimentState,
    PlanOfExperiment,
    PrimaryMetric,
    Problem,
    Thresholds,
)
from assay.core.vocabulary import Direction, State

EVENTS_FILE = "events.jsonl"
TEXT_LIMIT = 4000
_THRESHOLD = re.compile(r"(?:[<>]=?|[≤≥])?\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%)?")
_NONFINITE_WORDS = frozenset({"nan", "inf", "-inf", "+inf", "infinity", "-infinity"})
_DIRECTIONS = {
    "min": Direction.LOWER,
    "max": Direction.HIGHER,
    "lower": Direction.LOWER,
    "higher": Direction.HIGHER,
}
_AFTER_THE_END = frozenset({"attempt_started", "training_started", "evaluated", "result", "completed"})
"""Events that have no place after a final one. What a stopping process still writes has."""


class Fold:
    """The state of an experiment after some of its events.

    Feed every event in order with `add`, then read the attributes.
    """

    def __init__(self) -> None:
        self.state = ExperimentState.PLANNED
        self.ended_by = ""
        self.created: ExperimentEvent | None = None
        self.plan = PlanOfExperiment()
        self.said: Any = None
        """The plan as it was written."""
        self.attempts: dict[int, Attempt] = {}
        self.evaluations: list[Evaluation] = []
        self.checkpoints: dict[str, CheckpointRecord] = {}
        self.hypotheses: list[tuple[int, str, str]] = []
        """seq, digest and first paragraph of each version of hypothesis.md that was seen."""
        self.result: Mapping[str, Any] = {}
        self.notes: list[str] = []
        self.unmet: tuple[str, ...] = ()
        self.problems: list[Problem] = []

    def add(self, event: ExperimentEvent) -> None:
        """Take one event into account; an unknown one changes nothing."""
        if self.state in FINAL and event.event in _AFTER_THE_END:
            self.wrong(event, f"event {event.event!r} after the experiment ended as {self.state}")
            return
        handler = _HANDLERS.get(event.event)
        if handler is not None:
            handler(self, event)

    def conclude_lost(self, gone: Collection[int]) -> None:
        """Conclude from outside that processes of attempts are gone: a live experiment is then lost."""
        last = max(self.attempts, default=None)
        if self.state in LIVE and last is not None and last in gone:
            self.state = ExperimentState.LOST

    def wrong(self, event: ExperimentEvent, text: str) -> None:
        """Note that an event does not fit what was recorded before it."""
        self.problems.append(Problem(file=EVENTS_FILE, line=event.line, text=text))

    def attempt_of(self, event: ExperimentEvent) -> Attempt | None:
        """The attempt that the event belongs to."""
        found = self.attempts.get(event.attempt) if event.attempt is not None else None
        if found is None:
            self.wrong(event, f"event {event.event!r} of attempt {event.attempt}, which never started")
        elif found.outcome and event.event != "attempt_ended":
            self.wrong(event, f"event {event.event!r} of attempt {event.attempt} after its process ended")
        return found

    def change(self, attempt: Attempt, **fields: Any) -> None:
        """Replace fields of an attempt."""
        self.attempts[attempt.number] = attempt.model_copy(update=fields)

    def end(self, event: ExperimentEvent, state: ExperimentState) -> None:
        """End the experiment for good, unless it has ended before."""
        if self.state in FINAL:
            if state is not self.state:
                self.wrong(event, f"event {event.event!r} after the experiment ended as {self.state}")
            return
        self.state, self.ended_by = state, text_of(event.fields.get("reason"))


def fold(events: Iterable[ExperimentEvent], gone: Collection[int] = ()) -> Fold:
    """Fold all events.

    Args:
        events: in the order of the file.
        gone: numbers of attempts whose process is known to be dead although no event says so.
    """
    state = Fold()
    for event in events:
        state.add(event)
    state.conclude_lost(gone)
    return state


def _created(state: Fold, event: ExperimentEvent) -> None:
    if state.created is not None:
        state.wrong(event, "the experiment was created twice")
        return
    state.created = event
    state.said = event.fields.get("plan")
    state.plan = plan_of(state.said)


def _planned(state: Fold, event: ExperimentEvent) -> None:
    """What a script adds when it joins. What was promised first counts, and nothing is promised after a result."""
    added = event.fields.get("plan")
    if state.evaluations or state.state not in {*LIVE, ExperimentState.PLANNED}:
        state.wrong(event, "a plan was added after the first evaluation")
    elif isinstance(added, Mapping):
        held = state.said if isinstance(state.said, Mapping) else {}
        state.said = {**added, **held}
        state.plan = plan_of(state.said)


def _resumed(state: Fold, event: ExperimentEvent) -> None:
    attempt = state.attempt_of(event)
    if attempt is not None:
        name, step = text_of(event.fields.get("name")), count_of(event.fields.get("step"))
        state.change(attempt, resumed_from=name, resumed_step=step)


def _hypothesis(state: Fold, event: ExperimentEvent) -> None:
    state.hypotheses.append(
        (event.seq, hex_of(event.fields.get("digest")), text_of(event.fields.get("text")))
    )


def _attempt_started(state: Fold, event: ExperimentEvent) -> None:
    number = event.attempt
    if number is None or number < 1 or number in state.attempts or number < max(state.attempts, default=0):
        state.wrong(event, f"attempt {number} cannot start here")
        return
    get = event.fields.get
    command = get("command")
    state.attempts[number] = Attempt(
        number=number,
        started=event.time,
        command=tuple(text_of(c) for c in command) if isinstance(command, list) else (),
        pid=count_of(get("pid")),
        host=text_of(get("host")),
        boot_id=text_of(get("boot_id")),
        process_started=number_of(get("process_started")),
        config_digest=hex_of(get("config_digest")),
        hypothesis_digest=hex_of(get("hypothesis_digest")),
        started_seq=event.seq,
        resumed_from=text_of(get("resumed_from")),
        resumed_step=count_of(get("resumed_step")),
    )
    state.state = ExperimentState.RUNNING


def _stop_requested(state: Fold, event: ExperimentEvent) -> None:
    number = event.attempt if event.attempt is not None else max(state.attempts, default=None)
    attempt = state.attempts.get(number) if number is not None else None
    if attempt is not None:
        by, reason = text_of(event.fields.get("by")), text_of(event.fields.get("reason"))
        state.change(attempt, stop_requested_by=by or "unknown", stop_reason=reason)
    if state.state is ExperimentState.RUNNING:
        state.state = ExperimentState.STOPPING


def _evaluated(state: Fold, event: ExperimentEvent) -> None:
    if state.attempt_of(event) is None:
        return
    state.evaluations.append(
        Evaluation(
            seq=event.seq,
            attempt=event.attempt,
            step=count_of(event.fields.get("step")),
            epoch=count_of(event.fields.get("epoch")),
            metrics=measurements(event.fields.get("metrics"), event.fields.get("nonfinite")),
        )
    )


def _checkpoint_committed(state: Fold, event: ExperimentEvent) -> None:
    name = text_of(event.fields.get("name"))
    if state.attempt_of(event) is None or not name:
        return
    get = event.fields.get
    state.checkpoints.pop(name, None)  # a resumed attempt may write the same name again: the newest counts
    state.checkpoints[name] = CheckpointRecord(
        name=name,
        path=text_of(get("path")),
        attempt=event.attempt,
        step=count_of(get("step")),
        epoch=count_of(get("epoch")),
        reason=text_of(get("reason")),
        metrics=measurements(get("metrics"), get("nonfinite")),
        manifest_digest=hex_of(get("manifest_digest")),
        committed_seq=event.seq,
    )


def _checkpoint_verified(state: Fold, event: ExperimentEvent) -> None:
    found = state.checkpoints.get(text_of(event.fields.get("name")))
    if found is None:
        state.wrong(event, "verifies a checkpoint that was never committed")
        return
    level = text_of(event.fields.get("level")) or "digest"
    verified = tuple(sorted({*found.verified, level}))
    state.checkpoints[found.name] = found.model_copy(update={"verified": verified, "failed": ""})


def _checkpoint_failed(state: Fold, event: ExperimentEvent) -> None:
    found = state.checkpoints.get(text_of(event.fields.get("name")))
    if found is not None:
        why = text_of(event.fields.get("detail")) or "verification failed"
        state.checkpoints[found.name] = found.model_copy(update={"verified": (), "failed": why})


def _training_ended(state: Fold, event: ExperimentEvent) -> None:
    attempt = state.attempt_of(event)
    if attempt is None:
        return
    get = event.fields.get
    reason = text_of(get("reason")) or "unknown"
    state.change(
        attempt,
        training_reason=reason,
        training_ended=event.time,
        last_step=count_of(get("step")),
        exception=_exception(get("exception")),
        final_metrics=measurements(get("final_metrics"), get("nonfinite")),
    )
    if state.state in LIVE:
        ended_well = reason in {"completed", "stopped"}
        state.state = ExperimentState.TRAINED if ended_well else ExperimentState.CRASHED


def _exception(value: Any) -> str:
    if not isinstance(value, Mapping):
        return text_of(value)
    said = text_of(value.get("text") or value.get("message"))
    return f"{text_of(value.get('type'))}: {said}".removeprefix(": ").removesuffix(": ")


def _attempt_ended(state: Fold, event: ExperimentEvent) -> None:
    attempt = state.attempt_of(event)
    if attempt is None:
        return
    get = event.fields.get
    outcome, resources = text_of(get("outcome")) or "unknown", get("resources")
    code = get("exit_code")
    code = code if isinstance(code, int) and not isinstance(code, bool) else None
    state.change(
        attempt,
        outcome=outcome,
        ended=event.time,
        exit_code=code,
        signal=text_of(get("signal")),
        resources=resources if isinstance(resources, Mapping) else {},
        log_tail=text_of(get("log_tail")),
    )
    if attempt.number != max(state.attempts):
        return
    trained = state.state in {ExperimentState.TRAINED, ExperimentState.EVALUATED}
    if state.state not in LIVE and not trained:
        return
    if outcome == "lost":
        state.state = state.state if trained else ExperimentState.LOST
    elif outcome == "stopped":
        state.state = state.state if trained else ExperimentState.CRASHED
    elif outcome != "exited" or code not in {0, None}:
        state.state = ExperimentState.CRASHED
    elif not trained:
        state.state = ExperimentState.TRAINED


def _result(state: Fold, event: ExperimentEvent) -> None:
    state.result = event.fields
    if state.state is ExperimentState.TRAINED:
        state.state = ExperimentState.EVALUATED


def _overridden(state: Fold, event: ExperimentEvent) -> None:
    unmet = event.fields.get("unmet")
    state.end(event, ExperimentState.OVERRIDDEN)
    if state.state is ExperimentState.OVERRIDDEN and not state.unmet:
        state.unmet = tuple(text_of(u) for u in unmet) if isinstance(unmet, list) else ()


def _note(state: Fold, event: ExperimentEvent) -> None:
    state.notes.append(text_of(event.fields.get("text")))


def _ends(word: ExperimentState) -> Callable[[Fold, ExperimentEvent], None]:
    return lambda state, event: state.end(event, word)


_HANDLERS: Mapping[str, Callable[[Fold, ExperimentEvent], None]] = {
    "created": _created,
    "planned": _planned,
    "resumed": _resumed,
    "hypothesis": _hypothesis,
    "attempt_started": _attempt_started,
    "stop_requested": _stop_requested,
    "evaluated": _evaluated,
    "checkpoint_committed": _checkpoint_committed,
    "checkpoint_verified": _checkpoint_verified,
    "checkpoint_failed": _checkpoint_failed,
    "training_ended": _training_ended,
    "attempt_ended": _attempt_ended,
    "result": _result,
    "overridden": _overridden,
    "aborted": _ends(ExperimentState.ABORTED),
    "completed": _ends(ExperimentState.COMPLETE),
    "failed": _ends(ExperimentState.FAILED),
    "note": _note,
}


def plan_of(value: Any) -> PlanOfExperiment:
    """A plan from any JSON value; what cannot be understood is named and left out."""
    if not isinstance(value, Mapping):
        wrong = () if value is None else ("the plan is no object",)
        return PlanOfExperiment(problems=wrong)
    problems: list[str] = []
    directions = _directions(value.get("metrics"), problems)
    rules, stop = value.get("rules"), value.get("stop")
    return PlanOfExperiment(
        primary=_primary(value.get("primary_metric"), directions, problems),
        directions=directions,
        total_steps=count_of(value.get("total_steps")),
        total_epochs=count_of(value.get("total_epochs")),
        seed=count_of(value.get("seed")),
        rules=rules if isinstance(rules, Mapping) else {},
        stop=stop if isinstance(stop, Mapping) else {},
        problems=tuple(problems),
    )


def _directions(value: Any, problems: list[str]) -> dict[str, Direction]:
    found: dict[str, Direction] = {}
    for name, word in value.items() if isinstance(value, Mapping) else ():
        direction = direction_of(word)
        if direction is None:
            problems.append(f"direction of {text_of(name)!r} is neither min nor max: {text_of(word)!r}")
        else:
            found[text_of(name)] = direction
    return found


def _primary(value: Any, directions: Mapping[str, Direction], problems: list[str]) -> PrimaryMetric | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = {"name": value}
    name = value.get("name") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(name, str) or not name:
        problems.append("the primary metric has no name")
        return None
    direction = direction_of(value.get("direction")) or directions.get(name)
    if value.get("direction") is not None and direction_of(value["direction"]) is None:
        problems.append(f"direction of {name!r} is neither min nor max: {text_of(value['direction'])!r}")
        direction = None
    return PrimaryMetric(
        name=name, direction=direction, thresholds=_thresholds(value.get("thresholds"), problems)
    )


def _thresholds(value: Any, problems: list[str]) -> Thresholds:
    if value is None:
        return Thresholds()
    if not isinstance(value, Mapping):
        problems.append("the thresholds are no object of floor, goal, stretch")
        return Thresholds()
    numbers: dict[str, float] = {}
    for key, raw in value.items():
        number = threshold_of(raw)
        if key not in Thresholds.model_fields:
            problems.append(f"unknown threshold {text_of(key)!r} (allowed: floor, goal, stretch)")
        elif raw is not None and number is None:
            problems.append(f"threshold {key} holds no finite number: {text_of(raw)!r}")
        elif number is not None:
            numbers[key] = number
    return Thresholds(**numbers)


def threshold_of(value: Any) -> float | None:
    """A threshold from a finite number or from text such as `> 0.9` and `90 %`; None for anything else."""
    match = _THRESHOLD.fullmatch(value.strip()) if isinstance(value, str) and len(value) < 64 else None
    if match is None:
        return number_of(value)
    number = number_of(float(match[1]))
    return number if number is None or not match[2] else number / 100.0


def direction_of(word: Any) -> Direction | None:
    """`min`, `max`, `lower` or `higher` as a direction; None for anything else."""
    return _DIRECTIONS.get(word) if isinstance(word, str) else None


def measurements(metrics: Any, nonfinite: Any = None) -> tuple[Measurement, ...]:
    """An object of metrics as measurements: null is non-finite where `nonfinite` names it, else missing."""
    found: dict[str, Measurement] = {}
    named = nonfinite if isinstance(nonfinite, Mapping) else {}
    for key, raw in metrics.items() if isinstance(metrics, Mapping) else ():
        name = text_of(key)
        bad = named.get(key) if raw is None else raw
        if raw is None and key in named:
            found[name] = Measurement(name=name, state=State.NONFINITE, detail=text_of(bad))
        elif isinstance(raw, str) and raw.strip().lower() in _NONFINITE_WORDS:
            found[name] = Measurement(name=name, state=State.NONFINITE, detail=text_of(raw))
        elif isinstance(raw, int) and not isinstance(raw, bool) and number_of(raw) is None:
            found[name] = Measurement(name=name, state=State.NONFINITE, detail="too large")
        else:
            found[name] = Measurement.of(name, raw)
    return tuple(found.values())


def number_of(value: Any) -> float | None:
    """A finite number; None for everything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def count_of(value: Any) -> int | None:
    """A whole number that canonical JSON can hold; None for everything else, booleans included."""
    number = number_of(value)
    return int(number) if number is not None and number.is_integer() and abs(number) < 2**53 else None


def text_of(value: Any) -> str:
    """Text as it is, cut to `TEXT_LIMIT`; other values as short text, None as nothing."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else repr(value)[:200]
    return text[:TEXT_LIMIT].encode("utf-8", "replace").decode()


def hex_of(value: Any) -> str:
    """A SHA-256 as bare hex, with or without its prefix; empty for anything else."""
    text = value.removeprefix("sha256:").lower() if isinstance(value, str) else ""
    return text if len(text) == 64 and set(text) <= set("0123456789abcdef") else ""
