"""What `assay watch` and the report show of an experiment: lines of its files in, one frame of plain data out.

Nothing that can stand in the files stops it: text where a number should be, NaN, unknown keys, half lines. What
cannot be used is counted. Memory is bounded: curves keep their extremes and lose only what no picture shows.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from assay.core.experiment import LIVE, ExperimentEvent, ExperimentState
from assay.core.experiment_state import Fold
from assay.track import directions

Direction = Literal["min", "max", ""]

CURVE_POINTS = 480
"""A curve is thinned to this many points when it reaches twice as many."""
METRICS_LIMIT = 200
"""More names than this are counted and not followed."""
NONFINITE_KEPT = 50
RECENT_CHECKPOINTS = 5
_CALL = re.compile(r"[A-Za-z_.]+\(\s*([^,()\s]+)[^()]*\)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_VALIDATION = re.compile(r"(?i)(^|[/_.-])(val|valid|validation|eval|test|dev|holdout)([/_.-]|$)")
_GOING_ON = frozenset({ExperimentState.PLANNED, *LIVE})


def number(value: Any) -> float | None:
    """A number out of what a file holds where a number should be; NaN and infinities pass, text is tried."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        called = _CALL.fullmatch(value.strip())
        value = called[1] if called else value.strip()[:64]
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def threshold(value: Any) -> float | None:
    """A target out of a plan: a number, or the number in a text such as `> 0.9` or `90 %`."""
    known = number(value)
    if known is not None:
        return known if math.isfinite(known) else None
    if not isinstance(value, str) or (found := _NUMBER.search(value)) is None:
        return None
    return float(found[0]) / (100.0 if value[found.end() :].lstrip().startswith("%") else 1.0)


def moment_s(value: Any) -> float | None:
    """Unix seconds of a recorded time; None if it is none."""
    try:
        found = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping with text keys, or an empty one."""
    return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else {}


def whole(value: Any) -> int | None:
    """A whole number that is not negative; None for everything else."""
    known = number(value)
    return int(known) if known is not None and math.isfinite(known) and 0 <= known < 2**53 else None


@dataclass
class Curve:
    """One metric over steps: current, best, and a thinned course."""

    name: str
    direction: Direction = ""
    assumed: bool = False
    """The direction comes from the name, not from the plan."""
    attempt: int = 0
    current: float | None = None
    current_text: str = ""
    """What stands in the file where `current` is no finite number."""
    current_step: float = 0.0
    best: float | None = None
    best_step: float = 0.0
    points: list[tuple[float, float]] = field(default_factory=list)
    nonfinite: list[tuple[float, str]] = field(default_factory=list)
    count: int = 0

    def add(self, attempt: int, step: float, value: Any, word: str = "", *, ranks: bool = True) -> None:
        """Take one value; a later attempt overwrites what an earlier one said of the same steps.

        Args:
            attempt: that measured it.
            step: where on the axis.
            value: anything.
            word: `nan`, `inf` or `-inf` where the file holds null.
            ranks: whether it may be the best: the least of noisy training losses says nothing.
        """
        if attempt < self.attempt:
            return
        if attempt > self.attempt:
            self._resume(attempt, step)
        self.count += 1
        self.current_step = step
        known = number(value)
        if known is None or not math.isfinite(known):
            self.current, self.current_text = None, word or _word(value)
            if len(self.nonfinite) < NONFINITE_KEPT:
                self.nonfinite.append((step, self.current_text))
            return
        self.current, self.current_text = known, ""
        if ranks and self.direction and (self.best is None or _better(known, self.best, self.direction)):
            self.best, self.best_step = known, step
        self.points.append((step, known))
        if len(self.points) >= 2 * CURVE_POINTS:
            self.points = thinned(self.points, CURVE_POINTS)

    def _resume(self, attempt: int, step: float) -> None:
        self.attempt = attempt
        if self.points and self.points[-1][0] >= step:
            self.points = [p for p in self.points if p[0] < step]
            self.nonfinite = [p for p in self.nonfinite if p[0] < step]
            if self.best is not None and self.best_step >= step:
                self.best = None
                for at, value in self.points:
                    if self.best is None or _better(value, self.best, self.direction):
                        self.best, self.best_step = value, at


def thinned(points: list[tuple[float, float]], wanted: int) -> list[tuple[float, float]]:
    """At most about `wanted` points; of each run of neighbours the lowest and the highest stay, in order."""
    size = max(2, math.ceil(2 * len(points) / wanted))
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        low = min(range(len(part)), key=lambda i: part[i][1])
        high = max(range(len(part)), key=lambda i: part[i][1])
        kept += [part[i] for i in sorted({low, high})]
    return kept


def _better(value: float, than: float, direction: Direction) -> bool:
    return value < than if direction == "min" else value > than


def _word(value: Any) -> str:
    known = number(value)
    if known is not None:
        return "nan" if math.isnan(known) else "inf" if known > 0 else "-inf"
    return "none" if value is None else str(value)[:24]


@dataclass(frozen=True)
class Progress:
    """How far the attempt is."""

    done: int
    total: int | None
    unit: Literal["step", "epoch"]
    share: float | None
    """0 to 1; None without a plan."""
    per_s: float | None
    """Steps (or epochs) in a second, over this attempt."""
    eta_s: float | None


@dataclass(frozen=True)
class Alert:
    """The newest state of one alert."""

    id: str
    name: str
    severity: str
    state: str
    text: str
    step: float | None
    first_step: float | None
    count: int
    joined: tuple[str, ...]
    action: str
    number: int | None
    """Its fault class."""


@dataclass
class Checkpoint:
    """One committed checkpoint and what is known of it."""

    name: str
    step: float | None
    epoch: float | None
    reason: str
    at_s: float | None
    path: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    verified: str = ""
    """`digest` or `restore` once it was verified."""
    failed: str = ""
    """Why its verification failed."""
    best: bool = False


@dataclass
class Attempt:
    """One attempt as its events tell it."""

    number: int
    started_s: float | None = None
    ended_s: float | None = None
    command: str = ""
    host: str = ""
    boot_id: str = ""
    pid: int | None = None
    process_started: float | None = None
    resumed_from: str = ""
    resumed_step: float | None = None
    outcome: str = ""
    exit_code: int | None = None
    signal: str = ""
    log_tail: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)
    git: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A line of the table of metrics."""

    name: str
    current: float | None
    current_text: str
    best: float | None
    best_step: float | None
    direction: Direction
    assumed: bool
    target: float | None
    target_text: str
    met: bool | None
    course: tuple[float, ...]
    primary: bool


@dataclass(frozen=True)
class Frame:
    """Everything that one picture shows."""

    experiment: str
    name: str
    parent: str
    hypothesis: str
    state: str
    detail: str
    ended: bool
    attempt: int
    attempts: int
    progress: Progress
    epoch: float | None
    epochs: int | None
    elapsed_s: float | None
    quiet_s: float | None
    """Since the last sign of life, while it runs."""
    metrics: tuple[Metric, ...]
    signals: Mapping[str, float]
    loss: tuple[float, ...]
    loss_name: str
    checkpoints: tuple[Checkpoint, ...]
    alerts: tuple[Alert, ...]
    problems: tuple[str, ...]


class Story:
    """The fold of all lines of one experiment; every method takes any mapping."""

    def __init__(self, experiment: str) -> None:
        self.experiment = experiment
        self.name = self.parent = self.hypothesis = self.phase = ""
        self.detail = ""
        self._fold = Fold()
        self._lines = 0
        self._told: ExperimentState | None = None
        """State by the snapshot alone, where there are no events (the older layout)."""
        self.plan: Mapping[str, Any] = {}
        self.config: Mapping[str, Any] = {}
        self.attempts: dict[int, Attempt] = {}
        self.curves: dict[str, Curve] = {}
        self.signals: dict[str, float] = {}
        self.signal_curves: dict[str, Curve] = {}
        self.alerts: dict[str, Alert] = {}
        self.alert_log: list[Mapping[str, Any]] = []
        self.checkpoints: dict[str, Checkpoint] = {}
        self.notes: list[tuple[float | None, str]] = []
        self.troubles: list[str] = []
        self.result: Mapping[str, Any] = {}
        self.judged: Mapping[str, Any] = {}
        self.epoch: float | None = None
        self.total_steps: int | None = None
        self.total_epochs: int | None = None
        self.epochs_done = 0
        self.step: float | None = None
        self.from_zero = False
        """The script counts its steps from 0."""
        self.rows = 0
        self.skipped = 0
        self.unusable = 0
        self.heard_s: float | None = None
        self._first: tuple[int, float, float] | None = None
        self._last_t: float | None = None

    @property
    def state(self) -> ExperimentState:
        """Where it stands by its events, without a look at its process."""
        return self._told or self._fold.state

    @property
    def attempt(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[max(self.attempts)] if self.attempts else None

    def event(self, line: Mapping[str, Any]) -> None:
        """One line of events.jsonl."""
        kind = line.get("event")
        at = moment_s(line.get("time"))
        self._heard(at)
        self._lines += 1
        self._folded(line)
        handler = (
            getattr(self, f"_on_{kind}", None) if isinstance(kind, str) and kind.isidentifier() else None
        )
        if handler is not None:
            handler(line, at)

    def row(self, line: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl."""
        kind = line.get("event")
        attempt = whole(line.get("attempt")) or max(self.attempts, default=1)
        self.rows += 1
        self._heard(moment_s(line.get("timestamp")))
        if (epoch := number(line.get("epoch"))) is not None and math.isfinite(epoch):
            self.epoch = epoch
        if kind == "training_start":
            self._plan_of(line)
            return
        if kind not in ("step", "evaluation", "epoch_end", "training_end"):
            return
        step = number(line.get("step"))
        if kind == "step" and step is not None and math.isfinite(step):
            self._step(attempt, step, number(line.get("t")))
        if kind == "epoch_end":
            self._epoch_end(line)
        at = step if step is not None and math.isfinite(step) else self._axis(line)
        words = mapping(line.get("nonfinite"))
        for name, value in mapping(line.get("metrics")).items():
            curve = self._curve(name)
            if curve is not None:
                ranks = kind != "step" or not curve.assumed or _VALIDATION.search(name) is not None
                curve.add(attempt, at, value, str(words.get(name, ""))[:12], ranks=ranks)
        self._signals(attempt, at, mapping(line.get("signals")), words)

    def alert(self, line: Mapping[str, Any]) -> None:
        """One line of alerts.jsonl: the newest line of an id counts."""
        name = str(line.get("id", ""))[:40] or f"?{len(self.alerts)}"
        joined = line.get("joined")
        self.alerts[name] = Alert(
            id=name,
            name=str(line.get("name", "?"))[:60],
            severity=str(line.get("severity", "warning"))[:20],
            state=str(line.get("state", "open"))[:20],
            text=str(line.get("text", ""))[:400],
            step=_finite(line.get("step")),
            first_step=_finite(line.get("first_seen_step")),
            count=whole(line.get("count")) or 1,
            joined=tuple(str(j)[:60] for j in joined) if isinstance(joined, list) else (),
            action=str(line.get("action", ""))[:400],
            number=whole(line.get("class")),
        )
        if len(self.alert_log) < 1000:
            self.alert_log.append(line)

    def status(self, snapshot: Any) -> None:
        """The snapshot: only what the other files did not tell."""
        line = mapping(snapshot)
        self.name = self.name or str(line.get("experiment_name") or "")[:120]
        self.total_epochs = self.total_epochs or whole(line.get("total_epochs")) or None
        self.total_steps = self.total_steps or whole(line.get("total_steps")) or None
        self.config = self.config or mapping(line.get("config"))
        if not self._lines and line:
            trains = line.get("is_training") is True
            self._told = ExperimentState.RUNNING if trains else ExperimentState.TRAINED

    def frame(self, now_s: float, alive: bool | None = None) -> Frame:
        """The picture of this moment.

        Args:
            now_s: unix seconds.
            alive: whether the process of the newest attempt lives; None if that cannot be known from here.
        """
        attempt = self.attempt
        state, detail = self.state, self.detail
        running = state in LIVE
        if running and alive is False:
            state, detail, running = ExperimentState.LOST, "the process is gone without a word", False
        first, name = self._loss()
        return Frame(
            experiment=self.experiment,
            name=self.name,
            parent=self.parent,
            hypothesis=self.hypothesis,
            state=state.value,
            detail=detail,
            ended=state not in _GOING_ON,
            attempt=attempt.number if attempt else 0,
            attempts=len(self.attempts),
            progress=self._progress(running),
            epoch=self.epoch,
            epochs=self.total_epochs,
            elapsed_s=_elapsed(attempt, now_s, running, self.heard_s),
            quiet_s=max(0.0, now_s - self.heard_s) if running and self.heard_s is not None else None,
            metrics=self.metrics(),
            signals=dict(self.signals),
            loss=tuple(v for _, v in first.points) if first else (),
            loss_name=name,
            checkpoints=tuple(list(self.checkpoints.values())[-RECENT_CHECKPOINTS:]),
            alerts=tuple(sorted(self.alerts.values(), key=_urgency)),
            problems=self._problems(),
        )

    def metrics(self) -> tuple[Metric, ...]:
        """The table: the primary metric first, then in order of appearance."""
        primary, target, text = self.primary()
        lines = []
        for curve in self.curves.values():
            own = curve.name == primary
            aim = target if own else None
            met = None
            if aim is not None and curve.best is not None and curve.direction:
                met = curve.best <= aim if curve.direction == "min" else curve.best >= aim
            best_step = curve.best_step if curve.best is not None else None
            lines.append(
                Metric(
                    curve.name,
                    curve.current,
                    curve.current_text,
                    curve.best,
                    best_step,
                    curve.direction,
                    curve.assumed,
                    aim,
                    text if own else "",
                    met,
                    tuple(v for _, v in curve.points),
                    own,
                )
            )
        return tuple(sorted(lines, key=lambda m: not m.primary))

    def primary(self) -> tuple[str, float | None, str]:
        """Name, goal and the goal's text of the primary metric of the plan."""
        plan = mapping(self.plan.get("primary_metric"))
        thresholds = mapping(plan.get("thresholds"))
        for level in ("goal", "floor", "stretch"):
            if thresholds.get(level) is not None:
                value = thresholds[level]
                return str(plan.get("name", "")), threshold(value), f"{level} {value}"[:32]
        return str(plan.get("name", "")), None, ""

    def _problems(self) -> tuple[str, ...]:
        lines = list(self.troubles)
        if self.unusable:
            lines.append(f"{self.unusable} lines that are no records")
        if self.skipped:
            lines.append(f"{self.skipped} values of more than {METRICS_LIMIT} metrics")
        return tuple(lines)

    def _folded(self, line: Mapping[str, Any]) -> None:
        attempt = line.get("attempt")
        with contextlib.suppress(
            ValueError, TypeError, OverflowError
        ):  # whatever it says, the others still count
            self._fold.add(
                ExperimentEvent(
                    seq=whole(line.get("seq")) or self._lines,
                    time=str(line.get("time") or ""),
                    event=str(line.get("event")),
                    attempt=None if attempt is None else whole(attempt),
                    line=self._lines,
                    fields=dict(line),
                )
            )

    def _heard(self, at: float | None) -> None:
        if at is not None and (self.heard_s is None or at > self.heard_s):
            self.heard_s = at

    def _axis(self, line: Mapping[str, Any]) -> float:
        """Where a row without a step lies: at the newest step, else at its epoch."""
        if self.step is not None:
            return self.step
        epoch = number(line.get("epoch"))
        return epoch if epoch is not None and math.isfinite(epoch) else float(self.rows)

    def _step(self, attempt: int, step: float, t: float | None) -> None:
        if self._first is None or self._first[0] != attempt:
            self._first = (attempt, step, t if t is not None and math.isfinite(t) else 0.0)
        self.step = step
        self.from_zero = self.from_zero or step == 0
        if t is not None and math.isfinite(t):
            self._last_t = t

    def _epoch_end(self, line: Mapping[str, Any]) -> None:
        epoch = whole(line.get("epoch"))
        self.epochs_done = max(self.epochs_done, (epoch + 1) if epoch is not None else self.epochs_done + 1)
        self.total_epochs = self.total_epochs or whole(line.get("total_epochs")) or None
        for key, own in (("learning_rate", "lr"), ("gpu_memory_mb", "device_mb")):
            if (value := _finite(line.get(key))) is not None:
                self.signals[own] = value

    def _signals(self, attempt: int, at: float, values: Mapping[str, Any], words: Mapping[str, Any]) -> None:
        for name, value in values.items():
            known = number(value)
            if known is not None and math.isfinite(known):
                self.signals[name] = known
            if name in self.signal_curves or len(self.signal_curves) < METRICS_LIMIT:
                curve = self.signal_curves.setdefault(name, Curve(name))
                curve.add(attempt, at, value, str(words.get(name, ""))[:12])

    def _curve(self, name: str) -> Curve | None:
        if name in self.curves:
            return self.curves[name]
        if len(self.curves) >= METRICS_LIMIT:
            self.skipped += 1
            return None
        declared = self._declared(name)
        direction: Direction = declared or ("min" if directions.infer(name) == "min" else "max")
        self.curves[name] = Curve(name[:120], direction, assumed=not declared)
        return self.curves[name]

    def _declared(self, name: str) -> Direction:
        plan = mapping(self.plan.get("primary_metric"))
        word = (
            plan.get("direction") if plan.get("name") == name else mapping(self.plan.get("metrics")).get(name)
        )
        if word in ("min", "minimize", "lower"):
            return "min"
        return "max" if word in ("max", "maximize", "higher") else ""

    def _plan_of(self, line: Mapping[str, Any]) -> None:
        self.total_epochs = whole(line.get("total_epochs")) or self.total_epochs
        self.total_steps = whole(line.get("total_steps")) or self.total_steps
        self.config = mapping(line.get("config")) or self.config

    def _progress(self, running: bool) -> Progress:
        if self.step is not None:
            done, total, unit = int(self.step) + self.from_zero, self.total_steps, "step"
        else:
            done, total, unit = self.epochs_done, self.total_epochs, "epoch"
        if total is None and self.total_epochs and unit == "step" and self.epochs_done:
            done, total, unit = self.epochs_done, self.total_epochs, "epoch"
        per_s = self._rate(unit)
        share = min(1.0, done / total) if total else None
        left = (total - done) / per_s if running and total and per_s else None
        return Progress(
            done,
            total,
            "step" if unit == "step" else "epoch",
            share,
            per_s,
            max(0.0, left) if left is not None else None,
        )

    def _rate(self, unit: str) -> float | None:
        if unit == "step" and self._first and self._last_t is not None and self.step is not None:
            steps, seconds = self.step - self._first[1], self._last_t - self._first[2]
            return steps / seconds if steps > 0 and seconds > 0 else None
        attempt = self.attempt
        if unit == "epoch" and attempt and attempt.started_s and self.heard_s and self.epochs_done:
            seconds = self.heard_s - attempt.started_s
            return self.epochs_done / seconds if seconds > 0 else None
        return None

    def _loss(self) -> tuple[Curve | None, str]:
        """The curve that shows best whether it learns: the training loss, else the first metric."""
        for name in ("loss", "train_loss", "train/loss"):
            if name in self.curves:
                return self.curves[name], name
        for name, curve in self.curves.items():
            if "loss" in name.lower():
                return curve, name
        return next(((c, n) for n, c in self.curves.items()), (None, ""))

    # Events; unknown kinds have no method and are ignored.

    def _on_created(self, line: Mapping[str, Any], at: float | None) -> None:
        self.name = str(line.get("name") or "")[:120]
        self.parent = str(line.get("parent") or "")[:60]
        self.phase = str(line.get("phase") or "")[:60]
        self.plan = mapping(line.get("plan"))
        self.total_steps = whole(self.plan.get("total_steps")) or None
        self.total_epochs = whole(self.plan.get("total_epochs")) or None

    def _on_planned(self, line: Mapping[str, Any], at: float | None) -> None:
        # What a script adds when it joins; what was promised first counts.
        self.plan = {**mapping(line.get("plan")), **self.plan}
        self.total_steps = self.total_steps or whole(self.plan.get("total_steps")) or None
        self.total_epochs = self.total_epochs or whole(self.plan.get("total_epochs")) or None

    def _on_tracker_problem(self, line: Mapping[str, Any], at: float | None) -> None:
        text = f"tracker, {line.get('where')}: {line.get('error')}"[:200]
        if text not in self.troubles and len(self.troubles) < 5:
            self.troubles.append(text)

    def _on_hypothesis(self, line: Mapping[str, Any], at: float | None) -> None:
        self.hypothesis = str(line.get("text") or "")[:600]

    def _on_attempt_started(self, line: Mapping[str, Any], at: float | None) -> None:
        found = whole(line.get("attempt")) or len(self.attempts) + 1
        command = line.get("command")
        self.attempts[found] = Attempt(
            number=found,
            started_s=at,
            command=" ".join(str(c) for c in command) if isinstance(command, list) else "",
            host=str(line.get("host") or ""),
            boot_id=str(line.get("boot_id") or ""),
            pid=whole(line.get("pid")),
            process_started=_finite(line.get("process_started")),
            resumed_from=str(line.get("resumed_from") or "")[:120],
            resumed_step=_finite(line.get("resumed_step")),
            git=_git(line.get("git")),
            versions=mapping(line.get("versions")),
        )
        self.detail = ""

    def _on_training_started(self, line: Mapping[str, Any], at: float | None) -> None:
        self._plan_of(line)
        if not self.attempts:
            self.attempts[1] = Attempt(1, started_s=at)

    def _on_resumed(self, line: Mapping[str, Any], at: float | None) -> None:
        if (found := self.attempt) is not None:
            found.resumed_from = str(line.get("name") or "")[:120]
            found.resumed_step = _finite(line.get("step"))

    def _on_evaluated(self, line: Mapping[str, Any], at: float | None) -> None:
        # The row of the same evaluation stands in metrics.jsonl; the event proves it and feeds what lacks a row.
        attempt = whole(line.get("attempt")) or max(self.attempts, default=1)
        step = _finite(line.get("step"))
        for name, value in mapping(line.get("metrics")).items():
            curve = self._curve(name)
            if curve is not None and curve.count == 0:
                curve.add(attempt, step if step is not None else self._axis(line), value)

    def _on_checkpoint_committed(self, line: Mapping[str, Any], at: float | None) -> None:
        name = str(line.get("name") or "?")[:120]
        reason = str(line.get("reason") or "")[:40]
        if reason == "best":
            for other in self.checkpoints.values():
                other.best = False
        self.checkpoints[name] = Checkpoint(
            name=name,
            step=_finite(line.get("step")),
            epoch=_finite(line.get("epoch")),
            reason=reason,
            at_s=at,
            path=str(line.get("path") or "")[:300],
            metrics=mapping(line.get("metrics")),
            best=reason == "best",
        )

    def _on_checkpoint_verified(self, line: Mapping[str, Any], at: float | None) -> None:
        if (found := self.checkpoints.get(str(line.get("name")))) is not None:
            found.verified, found.failed = str(line.get("level") or "digest")[:20], ""

    def _on_checkpoint_failed(self, line: Mapping[str, Any], at: float | None) -> None:
        if (found := self.checkpoints.get(str(line.get("name")))) is not None:
            found.failed = str(line.get("detail") or line.get("level") or "it could not be verified")[:300]

    def _on_stop_requested(self, line: Mapping[str, Any], at: float | None) -> None:
        self.detail = f"stopped: {line.get('reason') or 'no reason given'}"[:200]

    def _on_training_ended(self, line: Mapping[str, Any], at: float | None) -> None:
        reason = str(line.get("reason") or "")[:40]
        exception = line.get("exception")
        text = mapping(exception).get("text") or mapping(exception).get("message") or exception
        if reason != "stopped":
            self.detail = str(text or "")[:200] if reason == "exception" else ""

    def _on_attempt_ended(self, line: Mapping[str, Any], at: float | None) -> None:
        attempt = self.attempts.get(whole(line.get("attempt")) or 0) or self.attempt
        outcome = str(line.get("outcome") or "")[:40]
        if attempt is not None:
            attempt.ended_s, attempt.outcome = at, outcome
            attempt.exit_code = _code(line.get("exit_code"))
            attempt.signal = str(line.get("signal") or "")[:20]
            attempt.log_tail = str(line.get("log_tail") or "")[-8000:]
            attempt.resources = mapping(line.get("resources"))
        if attempt is not None and not self.detail:
            self.detail = attempt.signal or (f"exit {attempt.exit_code}" if attempt.exit_code else "")

    def _on_result(self, line: Mapping[str, Any], at: float | None) -> None:
        self.result = line

    def _on_judged(self, line: Mapping[str, Any], at: float | None) -> None:
        self.judged = line

    def _on_overridden(self, line: Mapping[str, Any], at: float | None) -> None:
        self.detail = str(line.get("reason") or "")[:200]

    def _on_aborted(self, line: Mapping[str, Any], at: float | None) -> None:
        self.detail = str(line.get("reason") or "")[:200]

    def _on_failed(self, line: Mapping[str, Any], at: float | None) -> None:
        self.detail = str(line.get("reason") or "")[:200]

    def _on_completed(self, line: Mapping[str, Any], at: float | None) -> None:
        self.detail = str(line.get("reason") or "")[:200]

    def _on_note(self, line: Mapping[str, Any], at: float | None) -> None:
        self.notes.append((at, str(line.get("text") or "")[:600]))
        del self.notes[:-50]


def told(story: Story, events: Iterable[Any], rows: Iterable[Any], alerts: Iterable[Any]) -> None:
    """Feed lines of the three files; what is no mapping is counted."""
    for lines, take in ((events, story.event), (rows, story.row), (alerts, story.alert)):
        for line in lines:
            if isinstance(line, Mapping):
                take(line)
            else:
                story.unusable += 1


def _finite(value: Any) -> float | None:
    known = number(value)
    return known if known is not None and math.isfinite(known) else None


def _code(value: Any) -> int | None:
    known = _finite(value)
    return int(known) if known is not None else None


def _git(value: Any) -> str:
    found = mapping(value)
    if not found:
        return str(value or "")[:60]
    return str(found.get("commit") or "")[:12] + (", changed" if found.get("dirty") else "")


def _urgency(alert: Alert) -> tuple[bool, int, str]:
    rank = {"critical": 0, "warning": 1}.get(alert.severity, 2)
    return (alert.state != "open", rank, alert.id)


def _elapsed(attempt: Attempt | None, now_s: float, running: bool, heard_s: float | None) -> float | None:
    if attempt is None or attempt.started_s is None:
        return None
    wall = _finite(attempt.resources.get("wall_s"))
    if wall is not None:
        return wall
    end = attempt.ended_s or (now_s if running else heard_s)
    return max(0.0, end - attempt.started_s) if end is not None else None
