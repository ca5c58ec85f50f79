"""When what was done: the steps of every trial on one axis of active seconds, and the commands that were run."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from assay.core.events import Event, EventType
from assay.core.history import StudyHistory
from assay.core.trial import Trial
from assay.report._view.axis import Axis, Tick, with_ticks
from assay.report._view.marks import Mark, decision_mark
from assay.report._view.settled import finite, mapping
from assay.report._view.text import duration, instant, one_line, percent, plain


@dataclass(frozen=True)
class Bar:
    """One attempt at a step."""

    x: float
    width: float
    style: str
    """done, shared, failed or cut."""
    title: str


@dataclass(frozen=True)
class Lane:
    """One step of one trial."""

    step: str
    bars: tuple[Bar, ...]
    text: str
    """Seconds, or why there are none."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TrialLanes:
    """The steps of one trial."""

    candidate: str
    mark: Mark
    lanes: tuple[Lane, ...]


@dataclass(frozen=True)
class Timeline:
    """The whole study in time."""

    active_s: float
    """Seconds from opening to the last work, pauses before a resumption left out."""
    total: str
    trials: tuple[TrialLanes, ...]
    ticks: tuple[Tick, ...]
    cuts: tuple[Tick, ...]
    """Where the study was resumed: the time in between is left out."""
    shares: tuple[tuple[str, str, str], ...]
    """Step, seconds, share of the whole."""
    outside: str


@dataclass(frozen=True)
class RunView:
    """One execution of a command."""

    trial: str
    label: str
    step: str
    command: str
    folder: str
    log: str
    mark: Mark
    seconds: str
    tail: str


@dataclass
class _Span:
    trial: str
    step: str
    attempt: int
    start: float
    end: float
    style: str = "cut"
    wall_s: float | None = None
    why: str = ""


@dataclass
class _Clock:
    """Active seconds since the study opened; the pause before each resumption is cut out."""

    last: float | None = None
    now: float = 0.0
    cuts: list[tuple[float, float | None]] = field(default_factory=list)

    def take(self, event: Event) -> float:
        found = instant(event.at)
        at = self.last if found is None else found.timestamp()
        pause = None if at is None or self.last is None else max(0.0, at - self.last)
        if event.type is EventType.STUDY_RESUMED:
            self.cuts.append((self.now, pause))
        elif event.type not in _NOT_WORK and pause is not None:
            self.now += pause
        self.last = at
        return self.now


_NOT_WORK = frozenset(
    {
        EventType.APPLY_INTENDED,  # these may come days later, by hand
        EventType.APPLY_DONE,
        EventType.UNDO_INTENDED,
        EventType.UNDO_DONE,
    }
)


def timeline(history: StudyHistory) -> Timeline:
    """The steps of a study in time."""
    clock = _Clock()
    spans = _spans(history.events, clock)
    axis = with_ticks(0.0, max(clock.now, 1e-3), 8)
    busy: dict[str, float] = defaultdict(float)
    for span in spans:
        busy[span.step] += span.wall_s if span.wall_s is not None else span.end - span.start
    whole = max(clock.now, sum(busy.values()), 1e-9)
    ordered = sorted(busy.items(), key=lambda item: -item[1])
    return Timeline(
        active_s=clock.now,
        total=duration(clock.now),
        trials=tuple(
            _trial(t, history, [s for s in spans if s.trial == t.id], axis) for t in history.trials.values()
        ),
        ticks=tuple(replace(t, label=f"{t.label} s") for t in axis.ticks),
        cuts=tuple(
            Tick(axis.at(at), "resumed" if pause is None else f"resumed after {duration(pause)}")
            for at, pause in clock.cuts
        ),
        shares=tuple((step, duration(s), percent(s / whole, 0)) for step, s in ordered),
        outside=f"{duration(whole - sum(busy.values()))} ({percent(1 - sum(busy.values()) / whole)})",
    )


def runs(history: StudyHistory) -> tuple[RunView, ...]:
    """Every recorded execution, in order."""
    found = []
    for event in history.events:
        run = event.data.get("run")
        if event.type is EventType.RUN_FINISHED and isinstance(run, Mapping):
            found.append(_run(run, str(event.data.get("step", "")), str(event.data.get("trial", ""))))
    return tuple(found)


def _run(run: Mapping[str, Any], step: str, trial: str) -> RunView:
    command = run.get("command")
    wall = finite(run.get("wall_s"))
    return RunView(
        trial=trial,
        label=one_line(run.get("label", ""), 120),
        step=step,
        command=shlex.join(plain(str(c)) for c in command) if isinstance(command, list | tuple) else "",
        folder=one_line(run.get("cwd", "")),
        log=one_line(run.get("log", "")),
        mark=_ending(run),
        seconds="" if wall is None else duration(wall),
        tail=plain(str(run.get("log_tail") or "")),
    )


def _ending(run: Mapping[str, Any]) -> Mark:
    code = run.get("exit_code")
    if run.get("timed_out"):
        return Mark("timed out", "bad", "cross")
    if run.get("cancelled"):
        return Mark("ended by Assay", "idle", "check")
    if not isinstance(code, int):
        return Mark("end unknown", "odd", "bang")
    if code == 0:
        return Mark("exit 0", "good", "check")
    return Mark(f"signal {-code}" if code < 0 else f"exit {code}", "bad", "cross")


def _spans(events: Sequence[Event], clock: _Clock) -> list[_Span]:
    """Every attempt at a step; what has no end was cut short at the last that is known."""
    spans: list[_Span] = []
    open_: dict[tuple[str, str], _Span] = {}
    for event in events:
        now = clock.take(event)
        data = event.data
        for span in open_.values():
            span.end = now
        if event.type is EventType.STUDY_RESUMED:
            open_.clear()  # what ran before did not survive
            continue
        key = str(data.get("trial", "")), str(data.get("step", ""))
        if event.type is EventType.STEP_STARTED:
            attempt = data.get("attempt", 1)
            span = _Span(*key, attempt if isinstance(attempt, int) else 1, now, now)
            spans.append(span)
            open_[key] = span
        elif event.type is EventType.STEP_FINISHED and key in open_:
            span = open_.pop(key)
            span.style = "shared" if data.get("shared") else "done"
            span.wall_s = finite(data.get("wall_s"))
        elif event.type is EventType.STEP_RETRIED:
            _failed(spans, key, data)
            open_.pop(key, None)
        elif event.type is EventType.VERDICT_RECORDED:
            line = mapping(data.get("line"))
            failed = open_.pop((key[0], str(line.get("gate", ""))), None)  # the step itself could not be done
            if failed is not None:
                failed.style, failed.why = "failed", one_line(line.get("detail", ""))
        elif event.type is EventType.DECISION_RECORDED:
            trial = str(mapping(data.get("decision")).get("trial", ""))
            for k in [k for k in open_ if k[0] == trial]:
                open_.pop(k)
    return spans


def _failed(spans: Sequence[_Span], key: tuple[str, str], data: Mapping[str, Any]) -> None:
    after = mapping(data.get("after"))
    last = next((s for s in reversed(spans) if (s.trial, s.step) == key), None)
    if last is not None:
        last.style = "failed"
        last.why = one_line(f"{after.get('failure_class') or ''} {after.get('detail') or ''}")


def _trial(trial: Trial, history: StudyHistory, spans: Sequence[_Span], axis: Axis) -> TrialLanes:
    planned = [s.name for s in history.study.steps]
    others = [s.step for s in spans if s.step not in planned]
    lanes = []
    reached = max((planned.index(s.step) for s in spans if s.step in planned), default=-1)
    for place, step in enumerate([*planned, *dict.fromkeys(others)]):
        own = [s for s in spans if s.step == step]
        shared = place < len(planned) and history.study.steps[place].shared
        if own:
            lanes.append(_lane(step, own, axis))
        elif shared and (place < reached or any(g.step == step for g in trial.gates.values())):
            lanes.append(Lane(step, (), "shared", ()))
        else:
            lanes.append(Lane(step, (), "not reached", ()))
    return TrialLanes(trial.candidate.name, decision_mark(trial.decision), tuple(lanes))


def _lane(step: str, spans: Sequence[_Span], axis: Axis) -> Lane:
    bars, notes = [], []
    for span in spans:
        wall = span.wall_s if span.wall_s is not None else span.end - span.start
        left = axis.at(span.start)
        tries = f", attempt {span.attempt}" if span.attempt > 1 or len(spans) > 1 else ""
        bars.append(
            Bar(
                x=left,
                width=round(axis.at(max(span.end, span.start)) - left, 3),
                style=span.style,
                title=f"{step}{tries}: {duration(wall)}, {_WORDS[span.style]}",
            )
        )
        if span.style == "failed":
            notes.append(f"attempt {span.attempt} failed: {span.why}")
        elif span.style == "cut":
            notes.append(f"attempt {span.attempt} was cut short")
    last = spans[-1]
    wall = last.wall_s if last.wall_s is not None else last.end - last.start
    return Lane(step, tuple(bars), duration(wall), tuple(notes))


_WORDS = {"done": "done", "shared": "done, shared by the candidates", "failed": "failed", "cut": "cut short"}
