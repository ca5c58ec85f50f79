"""The checker: rows and events in, changes of alerts out. A pure state machine: no clock, no files, no randomness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from assay.core.errors import SpecError
from assay.live import names
from assay.live.alert import AlertChange
from assay.live.incidents import Incidents
from assay.live.names import number
from assay.live.rules import classical, data, dynamics, evaluation, record, system
from assay.live.thresholds import Thresholds, resolve, stop_modes
from assay.live.window import Track, Window, unix_time


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
        self._incidents = Incidents()
        self.ignored = 0
        self._given = thresholds
        self.thresholds = thresholds or Thresholds()
        self._incidents.thresholds = self.thresholds
        self.plan: Mapping[str, Any] = {}
        self._has_plan = plan is not None
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._enter(self._new_window(1))
        self._config: Mapping[str, Any] | None = None
        self._frozen_digest: str | None = None
        self._digests: dict[int, str | None] = {}
        self._starts: list[_Start] = []
        self._started: set[int] = set()
        self._rows_of: dict[int, int] = {}
        self._evaluated = 0
        self._ended: str | None = None
        self._newest_checkpoint: str | None = None
        self._commits: dict[str, int] = {}
        self._broken_at: dict[str, int] = {}
        self._saved: dict[str, float] = {}
        self._sequence = 0
        self._limit: float | None = None
        self._watched = Track()
        self._looks = 0
        if plan is not None:
            self._adopt(plan)
        for line in known:
            self._incidents.remember(line)

    @property
    def open_alerts(self) -> list[AlertChange]:
        """The newest line of each open alert, oldest first."""
        return [c for c in self._incidents.newest if c.state == "open"]

    @property
    def alerts(self) -> list[AlertChange]:
        """The newest line of every alert, oldest first."""
        return self._incidents.newest

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
        name = _HANDLERS.get(kind) if isinstance(kind, str) else None
        handler = getattr(self, name) if name is not None else None
        if handler is None:
            self.ignored += 1
            if "seq" not in line:
                return []
            handler = self._on_quiet  # an event of a newer writer: no rule knows it, and its number counts
        stamp = line.get("timestamp") or line.get("time")
        if isinstance(stamp, str):
            self._incidents.time = stamp[:64]
        changes = self._sequence_of(line)
        attempt = number(line.get("attempt"))
        if attempt is not None and int(attempt) != self.window.attempt:
            if int(attempt) < self.window.attempt:
                return changes
            changes += self._begin_attempt(int(attempt))
        wall = unix_time(stamp)
        if wall is not None:
            self.window.wall = wall
        found: list[AlertChange] = handler(line)
        return changes + found

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
        self._incidents.time = _iso(now)
        w, t = self.window, self.thresholds
        limit = number(facts.get("memory_limit_bytes"))
        self._limit = limit if limit is not None and limit > 0 else self._limit
        changes = self._incidents.settle(17, system.stall(w, t, now, facts), 1)
        changes += self._incidents.settle(18, system.process_lost(facts), 1)
        rss = number(facts.get("rss_bytes"))
        if rss is not None and not w.signal("rss_bytes").count:
            self._looks += 1
            self._watched.push(self._looks, rss)
            changes += self._incidents.settle(
                21, system.memory_leak(w, t, self._limit, self._watched), t.memory_windows
            )
        if "last_checkpoint" in facts or "missing_checkpoints" in facts:
            changes += self._incidents.settle_keys(
                23, record.pointers(facts, self._newest_checkpoint), keep=("best",)
            )
        problems = facts.get("record_problems")
        for text in problems if isinstance(problems, list | tuple) else ():
            found = record.bypassed(
                str(text)[:300], str(text)[:100], "record is consistent", f"outside {text}"[:80]
            )
            changes += self._incidents.report(found)
        return changes

    def close(self) -> list[AlertChange]:
        """All files are read and the run is over: judge what can only be judged then (class 26)."""
        changes: list[AlertChange] = []
        for attempt, rows in sorted(self._rows_of.items()):
            if self._started and attempt not in self._started and rows:
                text = f"{rows} rows of attempt {attempt}, which was never started"
                changes += self._incidents.report(
                    record.bypassed(text, f"attempt {attempt}", "attempt_started", f"rows {attempt}")
                )
        if self._ended == "completed" and not sum(self._rows_of.values()) and not self._evaluated:
            text = "training ended as completed without a single step or evaluation"
            changes += self._incidents.report(
                record.bypassed(text, "0 rows", "steps before the end", "no steps")
            )
        if self._ended is not None and not self._started:
            text = "training ended in an experiment that no attempt was started in"
            changes += self._incidents.report(
                record.bypassed(text, "no attempt", "attempt_started", "no attempt")
            )
        return changes

    # What each kind of line does.

    def _on_step(self, row: Mapping[str, Any]) -> list[AlertChange]:
        w, t = self.window, self.thresholds
        w.push_row(row)
        self._rows_of[w.attempt] = self._rows_of.get(w.attempt, 0) + 1
        changes: list[AlertChange] = []
        for rule in dynamics.STEP_RULES:
            changes += self._incidents.settle(_NUMBERS[rule.__name__], rule(w, t), t.resolve_rows)
        wiring, facts = self._facts.get("wiring", {}), self._facts.get("data", {})
        changes += self._incidents.settle(
            9, dynamics.constant_rate(w, t, wiring.get("scheduler") is True), 1, "constant"
        )
        changes += self._incidents.settle(10, dynamics.plateau(w, t, self._good_start(facts)), t.resolve_rows)
        changes += self._incidents.settle(19, system.starvation(w, t), t.resolve_rows)
        changes += self._incidents.settle(20, system.throughput(w, t), t.resolve_rows)
        if w.row % t.memory_window_rows == 0 or w.signal("rss_bytes").count < w.row:
            changes += self._incidents.settle(21, system.memory_leak(w, t, self._limit), t.resolve_rows)
        expected = number(facts.get("expected_batch_label_entropy"))
        changes += self._incidents.settle(15, data.unshuffled(w, t, expected), t.resolve_rows)
        if w.row == t.warmup or w.row % 50 == 0:
            changes += self._incidents.maybe(record.rate_drift(w, self._config, t) if self._config else None)
            changes += self._incidents.maybe(record.times_impossible(w, t))
        if w.loss.count == t.start_losses and w.loss.fresh(w.row):
            changes += self._compare_start()
        metrics = row.get("metrics")
        if isinstance(metrics, Mapping) and any(names.held_out(str(n)) for n in metrics):
            w.held_out_rows += 1
            # Held-out values in every step row are copies of an old evaluation, not evaluations.
            if w.epochs_only or w.held_out_rows <= max(2, 0.5 * w.row):
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
            changes += self._incidents.settle(_NUMBERS[rule.__name__], rule(w, t), t.resolve_evaluations)
        classes = number(self._facts.get("data", {}).get("classes"))
        judged = evaluation.class_collapse(w, t, int(classes) if classes else None)
        changes += self._incidents.settle(14, judged, t.resolve_evaluations)
        dropout = self._facts.get("wiring", {}).get("dropout")
        changes += self._incidents.maybe(
            evaluation.validation_better(w, t, dropout if isinstance(dropout, bool) else None)
        )
        return changes + self._incidents.maybe(evaluation.first_too_good(w, t))

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
        self._frozen_digest = _text(event.get("config_digest")) or self._frozen_digest
        return []

    def _on_planned(self, event: Mapping[str, Any]) -> list[AlertChange]:
        """What became known after the beginning; it adds to the plan and replaces nothing."""
        plan = event.get("plan")
        if isinstance(plan, Mapping):
            self._adopt({**plan, **self.plan})
        return []

    def _on_resumed(self, event: Mapping[str, Any]) -> list[AlertChange]:
        self.window.resumed = True
        return []

    def _on_attempt(self, event: Mapping[str, Any]) -> list[AlertChange]:
        w = self.window
        self._started.add(w.attempt)
        self._digests[w.attempt] = _text(event.get("config_digest"))
        w.resumed = event.get("resumed_from") is not None or bool(number(event.get("resumed_step")))
        changes = self._incidents.maybe(record.edited(self._frozen_digest, self._digests[w.attempt]))
        self._frozen_digest = self._frozen_digest or self._digests[w.attempt]
        return changes

    def _on_training_started(self, event: Mapping[str, Any]) -> list[AlertChange]:
        w = self.window
        steps, epochs = number(event.get("total_steps")), number(event.get("total_epochs"))
        w.total_steps = int(steps) if steps and steps > 0 else w.total_steps
        w.total_epochs = int(epochs) if epochs and epochs > 0 else w.total_epochs
        config = event.get("config")
        if not isinstance(config, Mapping):
            return []
        changes = self._incidents.maybe(record.changed_config(self._config, config))
        self._config = self._config or config
        return changes

    def _on_data(self, event: Mapping[str, Any]) -> list[AlertChange]:
        facts = event.get("facts")
        if not isinstance(facts, Mapping):
            return []
        self._facts["data"] = facts
        self._enter(self.window)
        changes = self._incidents.settle_keys(
            16, [f for f in data.judge_data(facts, self.thresholds) if f.number == 16], keep=()
        )
        changes += self._incidents.settle_keys(
            15, [f for f in data.judge_data(facts, self.thresholds) if f.number == 15], keep=("",)
        )
        if self._config:
            drift = record.size_drift(facts, self._config, self.thresholds)
            changes += [c for f in drift for c in self._incidents.report(f)]
        return changes + self._classical(facts)

    def _on_wiring(self, event: Mapping[str, Any]) -> list[AlertChange]:
        facts = event.get("facts")
        if not isinstance(facts, Mapping):
            return []
        self._facts["wiring"] = facts
        changes = self._incidents.settle_keys(8, data.judge_wiring(facts, self.thresholds), keep=("",))
        if self._config:
            drift = record.size_drift(facts, self._config, self.thresholds)
            changes += [c for f in drift for c in self._incidents.report(f)]
        return changes + self._classical(facts)

    def _on_evaluated(self, event: Mapping[str, Any]) -> list[AlertChange]:
        # The evaluation row tells the same; only what has no row is judged here.
        self._evaluated += 1
        facts = event.get("facts")
        return self._classical(facts) if isinstance(facts, Mapping) else []

    def _on_checkpoint(self, event: Mapping[str, Any]) -> list[AlertChange]:
        name = _text(event.get("name"))
        self._newest_checkpoint = name or self._newest_checkpoint
        if name is not None:
            self._commits[name] = len(self._commits)
        changes: list[AlertChange] = []
        w = self.window
        if event.get("reason") == "best":
            newest = w.evaluations[-1].metrics if w.evaluations else None
            found = record.best_mismatch(
                event, w.ceilings, w.senses, w.primary, self.thresholds, saved=self._saved, newest=newest
            )
            changes = self._incidents.settle_keys(23, [found] if found else [], only=("best",))
        metrics = event.get("metrics")
        for key, raw in metrics.items() if isinstance(metrics, Mapping) else ():
            value, way = number(raw), names.sense(str(key), w.senses)
            if value is not None and way is not None:
                before = self._saved.get(str(key), value)
                self._saved[str(key)] = min(before, value) if way == "min" else max(before, value)
        return changes

    def _on_verified(self, event: Mapping[str, Any]) -> list[AlertChange]:
        # A checkpoint that restores makes a broken one before it harmless: there is something to resume from. Word of an
        # older one may come late, and says nothing of what was saved after it.
        changes: list[AlertChange] = []
        name = _text(event.get("name")) or ""
        verified = self._commits.get(name, len(self._commits))
        for incident in self._incidents.open_of(22):
            broken = incident.finding.key
            if broken == name or verified >= self._broken_at.get(broken, 0):
                changes += self._incidents.resolve(incident, f"{name} was verified since")
        return changes

    def _on_checkpoint_failed(self, event: Mapping[str, Any]) -> list[AlertChange]:
        found = record.checkpoint_failed(event)
        # One that never got as far as its commit is broken from here on.
        self._broken_at[found.key] = self._commits.get(found.key, len(self._commits))
        return self._incidents.report(found)

    def _on_classical(self, event: Mapping[str, Any]) -> list[AlertChange]:
        facts = event.get("facts")
        return self._classical(facts) if isinstance(facts, Mapping) else []

    def _on_training_ended(self, event: Mapping[str, Any]) -> list[AlertChange]:
        self._ended = _text(event.get("reason")) or "?"
        return []

    def _on_quiet(self, event: Mapping[str, Any]) -> list[AlertChange]:
        return []

    def _classical(self, facts: Mapping[str, Any]) -> list[AlertChange]:
        told = facts.get("classical")
        if not isinstance(told, Mapping):
            return []
        return [
            c for f in classical.judge_classical(told, self.thresholds) for c in self._incidents.report(f)
        ]

    # Beginnings.

    def _begin_attempt(self, attempt: int) -> list[AlertChange]:
        changes = self._incidents.end_attempt(attempt)
        self._enter(self._new_window(attempt))
        self._watched, self._looks, self._ended = Track(), 0, None
        return changes

    def _enter(self, window: Window) -> None:
        facts = self._facts.get("data", {})
        window.chance, window.majority = (
            number(facts.get("label_entropy")),
            number(facts.get("majority_share")),
        )
        rows = number(facts.get("validation_rows"))
        window.validation_rows = int(rows) if rows and rows > 0 else None
        self.window = self._incidents.window = window

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
            self._incidents.thresholds = self.thresholds
            self._incidents.modes = stop_modes(plan)
        except SpecError as error:
            self.problems.append(str(error))
        config = plan.get("config")
        self._config = config if isinstance(config, Mapping) else self._config
        if self.window.row == 0:
            self._enter(self._new_window(self.window.attempt))

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
                    changes += self._incidents.maybe(
                        record.start_differs(own.losses, earlier.losses, t, whose)
                    )
                    break
            reference = self.plan.get("reference_losses")
            losses = (
                [v for v in map(number, reference) if v is not None]
                if isinstance(reference, list | tuple)
                else []
            )
            changes += self._incidents.maybe(
                record.start_differs(own.losses, losses, t, "the run it is compared with")
            )
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
        return self._incidents.report(record.bypassed(text, str(int(seq)), "sequence of events", "sequence"))


_NUMBERS = {
    "nonfinite": 1, "no_update": 8, "learning_rate": 9, "gradient_explosion": 4, "divergence": 2, "loss_spike": 3,
    "saturation": 7, "dead_units": 6, "vanishing_gradient": 5, "overfit": 11, "frozen_metric": 12,
    "metric_regression": 13,
}  # fmt: skip
_HANDLERS: Mapping[str, str] = {
    "step": "_on_step",
    "evaluation": "_on_evaluation",
    "epoch_end": "_on_epoch_end",
    "training_start": "_on_training_started",
    "created": "_on_created",
    "planned": "_on_planned",
    "attempt_started": "_on_attempt",
    "resumed": "_on_resumed",
    "training_started": "_on_training_started",
    "data_inspected": "_on_data",
    "wiring_inspected": "_on_wiring",
    "classical_inspected": "_on_classical",
    "evaluated": "_on_evaluated",
    "checkpoint_committed": "_on_checkpoint",
    "checkpoint_verified": "_on_verified",
    "checkpoint_failed": "_on_checkpoint_failed",
    "training_ended": "_on_training_ended",
    "hypothesis": "_on_quiet",
    "watched": "_on_quiet",
    "config_differs": "_on_quiet",
    "checkpoint_reported": "_on_quiet",
    "tracker_problem": "_on_quiet",
    "stop_requested": "_on_quiet",
    "attempt_ended": "_on_quiet",
    "note": "_on_quiet",
    "result": "_on_quiet",
    "judged": "_on_quiet",
    "overridden": "_on_quiet",
    "aborted": "_on_quiet",
    "completed": "_on_quiet",
    "failed": "_on_quiet",
    "checkpoint_saved": "_on_quiet",
    "training_end": "_on_quiet",
}


def _text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) else None


def _iso(now: float) -> str:
    try:
        return datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00Z"


__all__ = ["AlertChange", "Checker"]
