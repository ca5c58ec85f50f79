"""The checker: rows and events in, changes of alerts out. A pure state machine: no clock, no files, no randomness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from assay.core.errors import SpecError

from assay.live.alert import AlertChange, value
from assay.live.classes import CLASSES, Family, Severity, StopMode, explains
from assay.live import names, rules
from assay.live.names import number
from assay.live.rules import classical, data, dynamics, evaluation, record, system
from assay.live.rules.finding import CLEAR, Finding, Judged
from assay.live.thresholds import Thresholds, resolve, stop_modes
from assay.live.window import Track, Window, unix_time

STEP_LIKE = ("step",)
OUTSIDE = (17, 18, 21, 23)
"""Classes whose findings come from outside the log: they are not found again by reading it again."""
_ATTEMPT_BOUND = (Family.DYNAMICS, Family.DATA, Family.SYSTEM, Family.CLASSICAL)


@dataclass
class _Incident:
    """An alert that was opened, and what the checker remembers of it."""

    change: AlertChange
    finding: Finding
    first_row: int
    last_row: int
    count: int = 1
    cleared: int = 0
    joined: list[str] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.change.state == "open"


@dataclass
class _Start:
    """The beginning of an attempt, for class 24."""

    attempt: int
    digest: str | None
    losses: list[float]


class Checker:
    """Judges one experiment.

    Args:
        thresholds: limits of the rules; None takes the defaults, or what the plan says.
        plan: as in the `created` event. If None, the plan of that event is taken when it is fed.
        known: lines of alerts.jsonl from an earlier life of the watcher: ids go on, alerts from outside stay open.

    A plan whose `rules` or `stop` cannot be used is reported in `problems`; the defaults then hold.
    """

    def __init__(
        self,
        thresholds: Thresholds | None = None,
        plan: Mapping[str, Any] | None = None,
        known: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.problems: list[str] = []
        self.ignored = 0
        self._given = thresholds
        self.thresholds = thresholds or Thresholds()
        self.modes = stop_modes(None)
        self.plan: Mapping[str, Any] = {}
        self._has_plan = plan is not None
        self.window = self._new_window(1)
        self._incidents: dict[str, _Incident] = {}
        self._ids: dict[tuple[str, str, int | None, int | None], str] = {}
        self._next = 1
        self._time: str | None = None
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._config: Mapping[str, Any] | None = None
        self._frozen_digest: str | None = None
        self._digests: dict[int, str | None] = {}
        self._starts: list[_Start] = []
        self._started: set[int] = set()
        self._rows_of: dict[int, int] = {}
        self._evaluated = 0
        self._ended: str | None = None
        self._newest_checkpoint: str | None = None
        self._sequence = 0
        self._limit: float | None = None
        self._watched = Track()
        self._looks = 0
        if plan is not None:
            self._adopt(plan)
        for line in known:
            self._remember(line)

    @property
    def open_alerts(self) -> list[AlertChange]:
        """The newest line of each open alert, oldest first."""
        return [i.change for i in self._incidents.values() if i.open]

    @property
    def alerts(self) -> list[AlertChange]:
        """The newest line of every alert, oldest first."""
        return [i.change for i in self._incidents.values()]

    @property
    def stop_reason(self) -> str | None:
        """Why the policy asks for a stop now; None if it does not."""
        return next((f"{c.name}: {c.text}" for c in self.open_alerts if c.stop), None)

    def feed_all(self, lines: Iterable[Mapping[str, Any]]) -> list[AlertChange]:
        """Feed many rows or events."""
        return [change for line in lines for change in self.feed(line)]

    def feed(self, line: Mapping[str, Any]) -> list[AlertChange]:
        """Take in one row of metrics.jsonl or one line of events.jsonl. Never raises for its content."""
        if not isinstance(line, Mapping):
            self.ignored += 1
            return []
        kind = line.get("event")
        handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is None:
            self.ignored += 1
            return []
        stamp = line.get("timestamp") or line.get("time")
        if isinstance(stamp, str):
            self._time = stamp[:64]
        changes = self._sequence_of(line)
        attempt = number(line.get("attempt"))
        if attempt is not None and int(attempt) != self.window.attempt:
            if int(attempt) < self.window.attempt:
                return changes
            changes += self._begin_attempt(int(attempt))
        wall = unix_time(stamp)
        if wall is not None:
            self.window.wall = wall
        return changes + handler(self, line)

    def at(self, now: float, outside: Mapping[str, Any] | None = None) -> list[AlertChange]:
        """Judge what only an observer outside the process sees.

        Args:
            now: unix seconds.
            outside: facts, each may be absent: `alive` (bool), `boot_changed` (bool), `ended` (bool), `exit` (text),
                `phase`, `phase_since` (unix s), `last_row_time` (unix s), `longest_evaluation_s`, `rss_bytes`,
                `memory_limit_bytes`, `last_checkpoint` (name the pointer holds), `missing_checkpoints` (names),
                `record_problems` (texts: broken chain of events, hand-made status).
        """
        facts = outside or {}
        self._time = _iso(now)
        w, t = self.window, self.thresholds
        limit = number(facts.get("memory_limit_bytes"))
        self._limit = limit if limit is not None and limit > 0 else self._limit
        changes = self._settle(17, system.stall(w, t, now, facts), 1)
        changes += self._settle(18, system.process_lost(facts), 1)
        rss = number(facts.get("rss_bytes"))
        if rss is not None and not w.signal("rss_bytes").count:
            self._looks += 1
            self._watched.push(self._looks, rss)
            changes += self._settle(
                21, system.memory_leak(w, t, self._limit, self._watched), t.memory_windows
            )
        if "last_checkpoint" in facts or "missing_checkpoints" in facts:
            changes += self._settle_keys(23, record.pointers(facts, self._newest_checkpoint), keep=("best",))
        problems = facts.get("record_problems")
        for text in problems if isinstance(problems, list | tuple) else ():
            found = record.bypassed(
                str(text)[:300], str(text)[:100], "record is consistent", f"outside {text}"[:80]
            )
            changes += self._report(found)
        return changes

    def close(self) -> list[AlertChange]:
        """All files are read and the run is over: judge what can only be judged then (class 26)."""
        changes: list[AlertChange] = []
        for attempt, rows in sorted(self._rows_of.items()):
            if self._started and attempt not in self._started and rows:
                text = f"{rows} rows of attempt {attempt}, which was never started"
                changes += self._report(
                    record.bypassed(text, f"attempt {attempt}", "attempt_started", f"rows {attempt}")
                )
        if self._ended == "completed" and not sum(self._rows_of.values()) and not self._evaluated:
            text = "training ended as completed without a single step or evaluation"
            changes += self._report(record.bypassed(text, "0 rows", "steps before the end", "no steps"))
        if self._ended is not None and not self._started:
            text = "training ended in an experiment that no attempt was started in"
            changes += self._report(record.bypassed(text, "no attempt", "attempt_started", "no attempt"))
        return changes

    # What each kind of line does.

    def _on_step(self, row: Mapping[str, Any]) -> list[AlertChange]:
        w, t = self.window, self.thresholds
        w.push_row(row)
        self._rows_of[w.attempt] = self._rows_of.get(w.attempt, 0) + 1
        changes: list[AlertChange] = []
        for rule in dynamics.STEP_RULES:
            changes += self._settle(_NUMBERS[rule.__name__], rule(w, t), t.resolve_rows)
        wiring, facts = self._facts.get("wiring", {}), self._facts.get("data", {})
        changes += self._settle(
            9, dynamics.constant_rate(w, t, wiring.get("scheduler") is True), 1, "constant"
        )
        changes += self._settle(10, dynamics.plateau(w, t, self._good_start(facts)), t.resolve_rows)
        changes += self._settle(19, system.starvation(w, t), t.resolve_rows)
        changes += self._settle(20, system.throughput(w, t), t.resolve_rows)
        if w.row % t.memory_window_rows == 0 or w.signal("rss_bytes").count < w.row:
            changes += self._settle(21, system.memory_leak(w, t, self._limit), t.resolve_rows)
        expected = number(facts.get("expected_batch_label_entropy"))
        changes += self._settle(15, data.unshuffled(w, t, expected), t.resolve_rows)
        if w.row == t.warmup or w.row % 50 == 0:
            changes += self._maybe(record.rate_drift(w, self._config, t) if self._config else None)
            changes += self._maybe(record.times_impossible(w, t))
        if w.loss.count == t.start_losses and w.loss.fresh(w.row):
            changes += self._compare_start()
        metrics = row.get("metrics")
        if isinstance(metrics, Mapping) and any(names.held_out(str(n)) for n in metrics):
            w.held_out_rows += 1
            # Held-out values in every step row are copies of an old evaluation, not evaluations.
            if w.held_out_rows <= max(2, 0.5 * w.row):
                held = {n: v for n, v in metrics.items() if names.held_out(str(n))}
                changes += self._on_evaluation({**row, "metrics": held})
        return changes

    def _on_evaluation(self, row: Mapping[str, Any]) -> list[AlertChange]:
        w, t = self.window, self.thresholds
        if w.push_evaluation(row) is None:
            return []
        self._evaluated += 1
        changes: list[AlertChange] = []
        for rule in evaluation.EVALUATION_RULES:
            changes += self._settle(_NUMBERS[rule.__name__], rule(w, t), t.resolve_evaluations)
        classes = number(self._facts.get("data", {}).get("classes"))
        judged = evaluation.class_collapse(w, t, int(classes) if classes else None)
        changes += self._settle(14, judged, t.resolve_evaluations)
        dropout = self._facts.get("wiring", {}).get("dropout")
        changes += self._maybe(
            evaluation.validation_better(w, t, dropout if isinstance(dropout, bool) else None)
        )
        return changes + self._maybe(evaluation.first_too_good(w, t))

    def _on_epoch_end(self, row: Mapping[str, Any]) -> list[AlertChange]:
        w = self.window
        total = number(row.get("total_epochs"))
        if total:
            w.total_epochs = int(total)
        # In a log that knows epochs only, an epoch is the step.
        only_epochs = not w.timed and (w.row == 0 or w.epochs_only)
        changes: list[AlertChange] = []
        if only_epochs:
            w.epochs_only = True
            epoch = number(row.get("epoch"))
            rate = number(row.get("learning_rate"))
            signals = {"lr": rate} if rate is not None else {}
            changes += self._on_step({**row, "step": epoch, "epoch": epoch, "signals": signals})
            return changes
        return changes + self._on_evaluation({k: v for k, v in row.items() if k != "step"})

    def _on_created(self, event: Mapping[str, Any]) -> list[AlertChange]:
        plan = event.get("plan")
        if not self._has_plan and isinstance(plan, Mapping):
            self._adopt(plan)
        self._frozen_digest = self._frozen_digest or _text(event.get("config_digest"))
        return []

    def _on_attempt(self, event: Mapping[str, Any]) -> list[AlertChange]:
        w = self.window
        self._started.add(w.attempt)
        self._digests[w.attempt] = _text(event.get("config_digest"))
        w.resumed = event.get("resumed_from") is not None or bool(number(event.get("resumed_step")))
        return self._maybe(record.edited(self._frozen_digest, self._digests[w.attempt]))

    def _on_training_started(self, event: Mapping[str, Any]) -> list[AlertChange]:
        w = self.window
        steps, epochs = number(event.get("total_steps")), number(event.get("total_epochs"))
        w.total_steps = int(steps) if steps and steps > 0 else w.total_steps
        w.total_epochs = int(epochs) if epochs and epochs > 0 else w.total_epochs
        config = event.get("config")
        if not isinstance(config, Mapping):
            return []
        changes = self._maybe(record.changed_config(self._config, config))
        self._config = self._config or config
        return changes

    def _on_data(self, event: Mapping[str, Any]) -> list[AlertChange]:
        facts = event.get("facts")
        if not isinstance(facts, Mapping):
            return []
        self._facts["data"] = facts
        self.window.chance = number(facts.get("label_entropy"))
        changes = self._settle_keys(
            16, [f for f in data.judge_data(facts, self.thresholds) if f.number == 16], keep=()
        )
        changes += self._settle_keys(
            15, [f for f in data.judge_data(facts, self.thresholds) if f.number == 15], keep=("",)
        )
        if self._config:
            drift = record.size_drift(facts, self._config, self.thresholds)
            changes += [c for f in drift for c in self._report(f)]
        return changes + self._classical(facts)

    def _on_wiring(self, event: Mapping[str, Any]) -> list[AlertChange]:
        facts = event.get("facts")
        if not isinstance(facts, Mapping):
            return []
        self._facts["wiring"] = facts
        changes = self._settle_keys(8, data.judge_wiring(facts, self.thresholds), keep=("",))
        if self._config:
            drift = record.size_drift(facts, self._config, self.thresholds)
            changes += [c for f in drift for c in self._report(f)]
        return changes + self._classical(facts)

    def _on_evaluated(self, event: Mapping[str, Any]) -> list[AlertChange]:
        # The evaluation row tells the same; only what has no row is judged here.
        self._evaluated += 1
        facts = event.get("facts")
        return self._classical(facts) if isinstance(facts, Mapping) else []

    def _on_checkpoint(self, event: Mapping[str, Any]) -> list[AlertChange]:
        name = _text(event.get("name"))
        self._newest_checkpoint = name or self._newest_checkpoint
        if event.get("reason") != "best":
            return []
        w = self.window
        found = record.best_mismatch(event, w.ceilings, w.senses, w.primary, self.thresholds)
        return self._settle_keys(23, [found] if found else [], only=("best",))

    def _on_verified(self, event: Mapping[str, Any]) -> list[AlertChange]:
        # A newer checkpoint that restores makes the broken one harmless: there is something to resume from.
        changes: list[AlertChange] = []
        for incident in self._open_of(22):
            changes += self._resolve(incident, f"{_text(event.get('name'))} was verified since")
        return changes

    def _on_checkpoint_failed(self, event: Mapping[str, Any]) -> list[AlertChange]:
        return self._report(record.checkpoint_failed(event))

    def _on_training_ended(self, event: Mapping[str, Any]) -> list[AlertChange]:
        self._ended = _text(event.get("reason")) or "?"
        return []

    def _on_quiet(self, event: Mapping[str, Any]) -> list[AlertChange]:
        return []

    def _classical(self, facts: Mapping[str, Any]) -> list[AlertChange]:
        told = facts.get("classical")
        if not isinstance(told, Mapping):
            return []
        return [c for f in classical.judge_classical(told, self.thresholds) for c in self._report(f)]

    # Incidents.

    def _settle(self, number_: int, judged: Judged, patience: int, key: str = "") -> list[AlertChange]:
        """Report a finding, or count a clear answer towards the end of an open alert."""
        if judged is CLEAR:
            changes: list[AlertChange] = []
            for incident in self._open_of(number_):
                if incident.finding.key == key:
                    incident.cleared += 1
                    if incident.cleared >= patience:
                        changes += self._resolve(incident, f"not found again in {patience} looks")
            return changes
        if judged is None:
            return []
        return self._report(judged if not key else _keyed(judged, key))

    def _settle_keys(
        self,
        number_: int,
        found: list[Finding],
        *,
        keep: tuple[str, ...] = (),
        only: tuple[str, ...] | None = None,
    ) -> list[AlertChange]:
        """Report what an inspection found and resolve what it no longer finds."""
        changes = [c for f in found for c in self._report(f)]
        keys = {f.key for f in found}
        for incident in self._open_of(number_):
            key = incident.finding.key
            if key not in keys and key not in keep and (only is None or key in only):
                changes += self._resolve(incident, "the newest inspection does not find it")
        return changes

    def _maybe(self, finding: Judged) -> list[AlertChange]:
        return self._report(finding) if isinstance(finding, Finding) else []

    def _report(self, finding: Finding) -> list[AlertChange]:
        row_of_class = CLASSES[finding.number]
        if self.modes[finding.number] is StopMode.OFF:
            return []
        row = self.window.row
        own = next((i for i in self._open_of(finding.number) if i.finding.key == finding.key), None)
        if own is not None:
            own.count, own.last_row, own.cleared = own.count + 1, row, 0
            harder = finding.certain and not own.finding.certain
            if (
                _severity(finding) != own.change.severity
                and _worse(_severity(finding), own.change.severity)
                or harder
            ):
                own.finding = finding
                return [self._emit(own)]
            return []
        near = self.thresholds.join_rows
        for incident in self._incidents.values():
            if (
                incident.last_row >= row - near
                and incident.change.attempt == self.window.attempt
                and (explains(incident.finding.number, finding.number))
            ):
                return self._join(incident, row_of_class.name)
        return self._open(finding)

    def _join(self, incident: _Incident, name: str) -> list[AlertChange]:
        if name in incident.joined:
            return []
        incident.joined.append(name)
        return [self._emit(incident)]

    def _open(self, finding: Finding) -> list[AlertChange]:
        w = self.window
        row = w.row
        effects = [
            i
            for i in self._incidents.values()
            if i.open
            and i.first_row >= row - self.thresholds.join_rows
            and i.change.attempt == w.attempt
            and explains(finding.number, i.finding.number)
        ]
        first = max(w.first_step or 0, w.step - finding.since) if w.step is not None else None
        identity = (CLASSES[finding.number].name, finding.key, w.attempt, first)
        known = self._ids.get(identity)
        if known is None or (known in self._incidents and self._incidents[known].open):
            known = f"a-{self._next:04d}"
            self._next += 1
            self._ids[identity] = known
        incident = _Incident(_PLACEHOLDER, finding, row, row)
        incident.joined = [n for e in effects for n in (e.change.name, *e.joined)]
        incident.joined = list(dict.fromkeys(n for n in incident.joined if n != identity[0]))
        self._incidents[known] = incident
        changes = [self._emit(incident, known, first)]
        for effect in effects:
            changes += self._resolve(effect, f"part of {known} {identity[0]}")
        return changes

    def _emit(self, incident: _Incident, id_: str | None = None, first: int | None = None) -> AlertChange:
        w, finding = self.window, incident.finding
        row = CLASSES[finding.number]
        fresh = id_ is not None
        stop = finding.certain and self.modes[finding.number] is StopMode.STOP
        incident.change = AlertChange(
            id=id_ or incident.change.id,
            time=self._time,
            attempt=w.attempt if fresh else incident.change.attempt,
            step=w.step,
            epoch=w.epoch,
            number=row.number,
            name=row.name,
            severity=_severity(finding),
            state="open" if fresh else incident.change.state,
            observed=value(finding.observed),
            reference=value(finding.reference),
            rule=finding.rule,
            threshold=value(finding.threshold),
            first_seen_step=first if fresh else incident.change.first_seen_step,
            count=incident.count,
            joined=tuple(incident.joined),
            action=row.action,
            text=str(value(finding.text)),
            key=str(value(finding.key)),
            stop=stop,
        )
        return incident.change

    def _resolve(self, incident: _Incident, why: str) -> list[AlertChange]:
        healed = incident.finding.number == 3
        incident.change = incident.change.model_copy(
            update={
                "time": self._time,
                "step": self.window.step,
                "epoch": self.window.epoch,
                "state": "resolved",
                "count": incident.count,
                "stop": False,
                "severity": Severity.INFO if healed else incident.change.severity,
                "text": f"{incident.change.text} (resolved: {why})",
            }
        )
        return [incident.change]

    def _open_of(self, number_: int) -> list[_Incident]:
        return [i for i in self._incidents.values() if i.finding.number == number_ and i.open]

    # Beginnings.

    def _begin_attempt(self, attempt: int) -> list[AlertChange]:
        changes: list[AlertChange] = []
        for incident in self._incidents.values():
            if incident.open and CLASSES[incident.finding.number].family in _ATTEMPT_BOUND:
                changes += self._resolve(incident, f"attempt {attempt} began")
        self.window = self._new_window(attempt)
        self._watched, self._looks, self._ended = Track(), 0, None
        return changes

    def _new_window(self, attempt: int) -> Window:
        primary = self.plan.get("primary_metric")
        told = self.plan.get("metrics")
        senses = {str(k): str(v) for k, v in told.items()} if isinstance(told, Mapping) else {}
        name = None
        if isinstance(primary, Mapping):
            name = _text(primary.get("name"))
            if name is not None and _text(primary.get("direction")) is not None:
                senses.setdefault(name, str(primary["direction"]))
        steps, epochs = number(self.plan.get("total_steps")), number(self.plan.get("total_epochs"))
        return Window(
            attempt=attempt,
            chance=number(self._facts.get("data", {}).get("label_entropy")) if hasattr(self, "_facts") else None,
            total_steps=int(steps) if steps and steps > 0 else None,
            total_epochs=int(epochs) if epochs and epochs > 0 else None,
            senses=senses,
            primary=name,
            smoothing=self.thresholds.ema,
            warmup=self.thresholds.warmup,
        )

    def _adopt(self, plan: Mapping[str, Any]) -> None:
        self.plan, self._has_plan = plan, True
        try:
            self.thresholds = resolve(plan, self._given)
            self.modes = stop_modes(plan)
        except SpecError as error:
            self.problems.append(str(error))
        config = plan.get("config")
        self._config = config if isinstance(config, Mapping) else self._config
        if self.window.row == 0:
            self.window = self._new_window(self.window.attempt)

    def _remember(self, line: Mapping[str, Any]) -> None:
        try:
            change = AlertChange.model_validate(dict(line))
        except (ValueError, TypeError):
            self.ignored += 1
            return
        self._ids[change.identity] = change.id
        digits = change.id.removeprefix("a-")
        if digits.isdigit():
            self._next = max(self._next, int(digits) + 1)
        if change.number in OUTSIDE and change.number in CLASSES:
            finding = Finding(
                change.number, change.text, None, change.rule, None, change.text, key=change.key
            )
            kept = _Incident(change, finding, 0, 0, change.count, 0, list(change.joined))
            self._incidents[change.id] = kept

    def _good_start(self, facts: Mapping[str, Any]) -> bool:
        entropy = number(facts.get("label_entropy"))
        init = self.window.init
        return bool(entropy and init is not None and init < self.thresholds.plateau_good_start * entropy)

    def _compare_start(self) -> list[AlertChange]:
        w, t = self.window, self.thresholds
        if w.resumed:
            return []
        own = _Start(w.attempt, self._digests.get(w.attempt), list(w.loss.opening[: t.start_losses]))
        changes: list[AlertChange] = []
        if number(self.plan.get("seed")) is not None:
            for earlier in self._starts:
                if earlier.digest == own.digest:
                    whose = f"attempt {earlier.attempt}"
                    changes += self._maybe(record.start_differs(own.losses, earlier.losses, t, whose))
                    break
            reference = self.plan.get("reference_losses")
            losses = (
                [v for v in map(number, reference) if v is not None]
                if isinstance(reference, list | tuple)
                else []
            )
            changes += self._maybe(record.start_differs(own.losses, losses, t, "the run it is compared with"))
        self._starts.append(own)
        return changes

    def _sequence_of(self, line: Mapping[str, Any]) -> list[AlertChange]:
        seq = number(line.get("seq"))
        if seq is None:
            return []
        expected, self._sequence = self._sequence + 1, int(seq)
        if int(seq) == expected:
            return []
        text = f"events.jsonl: line {int(seq)} follows line {expected - 1}"
        return self._report(record.bypassed(text, str(int(seq)), "sequence of events", "sequence"))


_PLACEHOLDER = AlertChange(
    id="", number=1, name="", severity=Severity.INFO, state="open", observed=None, reference=None, rule="",
    threshold=None, first_seen_step=None, count=1, action="", text="",
)  # fmt: skip
_NUMBERS = {
    "nonfinite": 1, "no_update": 8, "learning_rate": 9, "gradient_explosion": 4, "divergence": 2, "loss_spike": 3,
    "saturation": 7, "dead_units": 6, "vanishing_gradient": 5, "overfit": 11, "frozen_metric": 12,
    "metric_regression": 13,
}  # fmt: skip
_HANDLERS = {
    "step": Checker._on_step,
    "evaluation": Checker._on_evaluation,
    "epoch_end": Checker._on_epoch_end,
    "training_start": Checker._on_training_started,
    "created": Checker._on_created,
    "attempt_started": Checker._on_attempt,
    "training_started": Checker._on_training_started,
    "data_inspected": Checker._on_data,
    "wiring_inspected": Checker._on_wiring,
    "evaluated": Checker._on_evaluated,
    "checkpoint_committed": Checker._on_checkpoint,
    "checkpoint_verified": Checker._on_verified,
    "checkpoint_failed": Checker._on_checkpoint_failed,
    "training_ended": Checker._on_training_ended,
    "hypothesis": Checker._on_quiet,
    "stop_requested": Checker._on_quiet,
    "attempt_ended": Checker._on_quiet,
    "note": Checker._on_quiet,
    "result": Checker._on_quiet,
    "judged": Checker._on_quiet,
    "overridden": Checker._on_quiet,
    "aborted": Checker._on_quiet,
    "completed": Checker._on_quiet,
    "failed": Checker._on_quiet,
    "checkpoint_saved": Checker._on_quiet,
    "training_end": Checker._on_quiet,
}


def _severity(finding: Finding) -> Severity:
    return finding.severity or CLASSES[finding.number].severity


_ORDER = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)


def _worse(a: Severity, b: Severity) -> bool:
    return _ORDER.index(a) > _ORDER.index(b)


def _keyed(finding: Finding, key: str) -> Finding:
    return Finding(**{**finding.__dict__, "key": key})


def _text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) else None


def _iso(now: float) -> str:
    try:
        return datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00Z"


__all__ = ["AlertChange", "Checker", "rules"]
