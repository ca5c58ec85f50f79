"""training_status.json: where the training stands, as a fold of its rows. The keys of the older layout, and ours."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from assay.track import directions, files

SCHEMA = "training-status/1"
HISTORY = 30
CHECKPOINTS = 5
REPLAY_LIMIT_BYTES = 64 << 20
OLD_KEYS = (
    "experiment_id", "experiment_name", "epoch", "total_epochs", "metrics", "best_metrics", "learning_rate",
    "wall_time_seconds", "gpu_memory_mb", "is_training", "checkpoints", "metrics_history", "config",
)  # fmt: skip
"""A reader of the older layout refuses a status with any other key."""
OLD_EVENTS = frozenset({"training_start", "epoch_end", "checkpoint_saved", "training_end"})
_VALIDATION = re.compile(r"(?i)(^|[/_.-])(val|valid|validation|eval|test|dev|holdout)([/_.-]|$)")


class Standing:
    """Best values, history and counters of a run; fed with its rows by one thread."""

    def __init__(self, experiment: str, name: str, plan: dict[str, Any]) -> None:
        self.experiment = experiment
        self.name = name
        self.plan = plan
        self.step = 0
        self.epoch: int | None = None
        self.epochs_completed = 0
        self.metrics: dict[str, Any] = {}
        self.nonfinite: dict[str, str] = {}
        self.signals: dict[str, Any] = {}
        self.best: dict[str, dict[str, Any]] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self.checkpoints: deque[dict[str, Any]] = deque(maxlen=CHECKPOINTS)
        self.learning_rate: float | None = None
        self.gpu_memory_mb: float | None = None
        self.config: dict[str, Any] = {}
        self.rows = 0
        self.last_step_time: str | None = None
        self.elapsed_before_s = 0.0
        """Wall time of earlier attempts."""
        self._ranked: dict[str, bool] = {}

    def take(self, row: Mapping[str, Any]) -> None:
        """One row of metrics.jsonl."""
        kind = row.get("event")
        held = row.get("metrics")
        metrics: dict[str, Any] = held if isinstance(held, dict) else {}
        bad = row.get("nonfinite") or {}
        self.rows += 1
        if kind == "training_start":
            self.config = row.get("config") or self.config
            self._plan_epochs(row)
            return
        if kind == "checkpoint_saved":
            self.saved(row.get("checkpoint_path"), row.get("epoch"), metrics, row.get("timestamp"))
            return
        if kind == "step":
            self.metrics = {**self.metrics, **metrics}
        elif metrics or kind != "training_end":
            self.metrics = {**metrics}
        self.nonfinite = {
            k: v for k, v in {**self.nonfinite, **bad}.items() if self.metrics.get(k, 0) is None
        }
        if isinstance(row.get("epoch"), int):
            self.epoch = row["epoch"]
        if isinstance(row.get("step"), int):
            self.step = row["step"]
        if kind == "step":
            self.last_step_time = row.get("timestamp")
            self.signals.update(row.get("signals") or {})
            lr = self.signals.get("lr", metrics.get("lr", metrics.get("learning_rate")))
            self.learning_rate = lr if isinstance(lr, int | float) else self.learning_rate
        if kind == "epoch_end":
            self._remember({"epoch": row.get("epoch"), **metrics})
            self.epochs_completed = max(self.epochs_completed, (self.epoch or 0) + 1)
            self._plan_epochs(row)
            rate = row.get("learning_rate")
            self.learning_rate = rate if rate is not None else self.learning_rate
            memory = row.get("gpu_memory_mb")
            self.gpu_memory_mb = memory if memory is not None else self.gpu_memory_mb
        self._rank(metrics, everything=kind != "step")

    def _remember(self, entry: dict[str, Any]) -> None:
        """The history of epochs; a resumed attempt replaces those that it trains again."""
        epoch = entry["epoch"]
        while isinstance(epoch, int) and self.history:
            last = self.history[-1].get("epoch")
            if not isinstance(last, int) or last < epoch:
                break
            self.history.pop()
        self.history.append(entry)

    def _plan_epochs(self, row: Mapping[str, Any]) -> None:
        total = row.get("total_epochs")
        if isinstance(total, int) and total > 0:
            self.plan["total_epochs"] = total

    def saved(self, path: Any, epoch: Any, metrics: Mapping[str, Any], when: Any) -> None:
        """A checkpoint was written."""
        self.checkpoints.append({"epoch": epoch, "path": path, "metrics": dict(metrics), "timestamp": when})

    def _rank(self, metrics: Mapping[str, Any], *, everything: bool) -> None:
        for name, value in metrics.items():
            if value is None or not (everything or self._ranks_by_step(name)):
                continue
            held = self.best.get(name)
            if held is None or directions.better(
                value, held["value"], directions.direction_of(name, self.plan)
            ):
                self.best[name] = {"value": value, "step": self.step or None, "epoch": self.epoch}

    def _ranks_by_step(self, name: str) -> bool:
        """Of step rows only what was declared or looks like validation has a best: a least noisy loss tells little."""
        if name not in self._ranked:
            primary = self.plan.get("primary_metric") or {}
            declared = primary.get("name") == name or name in (self.plan.get("metrics") or {})
            self._ranked[name] = declared or _VALIDATION.search(name) is not None
        return self._ranked[name]

    def old(self, *, elapsed_s: float, training: bool) -> dict[str, Any]:
        """The keys that the older layout knows; what is not finite is left out, as its readers format every value."""
        return {
            "experiment_id": self.experiment,
            "experiment_name": self.name or self.experiment,
            "epoch": self.epoch or 0,
            "total_epochs": self.plan.get("total_epochs") or 0,
            "metrics": _finite(self.metrics),
            "best_metrics": {name: held["value"] for name, held in self.best.items()},
            "learning_rate": self.learning_rate,
            "wall_time_seconds": round(self.elapsed_before_s + elapsed_s, 1),
            "gpu_memory_mb": self.gpu_memory_mb,
            "is_training": training,
            "checkpoints": [dict(c, metrics=_finite(c["metrics"])) for c in self.checkpoints],
            "metrics_history": [_finite(entry) for entry in self.history],
            "config": self.config,
        }

    def snapshot(self, *, elapsed_s: float, training: bool, **facts: Any) -> dict[str, Any]:
        """The old keys and ours; `facts` are added as they are."""
        return {
            "schema": SCHEMA,
            **self.old(elapsed_s=elapsed_s, training=training),
            "epoch": self.epoch,
            "metrics": dict(self.metrics),
            "nonfinite": dict(self.nonfinite),
            "step": self.step,
            "total_steps": self.plan.get("total_steps"),
            "epochs_completed": self.epochs_completed,
            "best": {name: dict(held) for name, held in self.best.items()},
            "signals": dict(self.signals),
            "primary_metric": self.plan.get("primary_metric"),
            "rows": self.rows,
            "last_step_time": self.last_step_time,
            "attempt_elapsed_s": round(elapsed_s, 1),
            **facts,
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold so that the monitor itself resumes; plain JSON."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "epochs_completed": self.epochs_completed,
            "best": {name: dict(held) for name, held in self.best.items()},
            "history": [dict(entry) for entry in self.history],
            "rows": self.rows,
            "learning_rate": self.learning_rate,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` gave; what is missing or of another kind stays."""
        for name, kind in (("step", int), ("epoch", int), ("epochs_completed", int), ("rows", int)):
            if isinstance(state.get(name), kind):
                setattr(self, name, state[name])
        self.best = _ranking(state.get("best")) if "best" in state else self.best
        if isinstance(state.get("history"), list):
            self.history = deque((h for h in state["history"] if isinstance(h, dict)), maxlen=HISTORY)
        if isinstance(state.get("learning_rate"), int | float):
            self.learning_rate = state["learning_rate"]

    def adopt(self, folder: Path) -> None:
        """Take over from earlier attempts: the rows, or the snapshot and the rows that were written after it.

        A snapshot is up to 5 s old when its process is killed, and one of the older layout may say nothing of where it
        stands in the rows; the rows themselves lose nothing.
        """
        known = files.read_object(folder / "training_status.json") or {}
        path = folder / "metrics.jsonl"
        size = path.stat().st_size if path.is_file() else 0
        at = known.get("rows_bytes")
        told = isinstance(known.get("metrics_history"), list)
        if told and isinstance(at, int) and not isinstance(at, bool) and 0 <= at <= size:
            self._adopt_snapshot(known)
            start = at
        else:
            if told and (size == 0 or size > REPLAY_LIMIT_BYTES):
                self._adopt_snapshot(known)
            start = max(0, size - REPLAY_LIMIT_BYTES)
        longest = _Longest(known)
        for row in _rows(path, start):
            self.take(row)
            longest.see(row)
        self.elapsed_before_s = longest.total_s()

    def _adopt_snapshot(self, known: Mapping[str, Any]) -> None:
        best = known.get("best")
        if not isinstance(best, dict) and isinstance(known.get("best_metrics"), dict):
            best = {k: {"value": v, "step": None, "epoch": None} for k, v in known["best_metrics"].items()}
        self.load_state_dict({**known, "history": known["metrics_history"], "best": best})
        if "epochs_completed" not in known and self.history:
            self.epochs_completed = (self.epoch or 0) + 1
        for item in known.get("checkpoints") or []:
            if isinstance(item, dict) and isinstance(item.get("metrics"), dict):
                self.checkpoints.append(item)
        if isinstance(known.get("config"), dict):
            self.config = known["config"]


class _Longest:
    """Wall time of earlier attempts: of the snapshot, and of rows that were written after it."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        wall, own = known.get("wall_time_seconds"), known.get("attempt_elapsed_s")
        attempt = known.get("attempt")
        self._at_snapshot = float(wall) if _finite_number(wall) else 0.0
        self._attempt = attempt if isinstance(attempt, int) else None
        self._own = float(own) if _finite_number(own) else 0.0
        self._seen: dict[int, float] = {}

    def see(self, row: Mapping[str, Any]) -> None:
        """A row after the snapshot."""
        attempt, t = row.get("attempt"), row.get("t")
        if isinstance(attempt, int) and _finite_number(t):
            self._seen[attempt] = max(self._seen.get(attempt, 0.0), float(t))

    def total_s(self) -> float:
        """Seconds of all attempts."""
        later = dict(self._seen)
        same = later.pop(self._attempt, 0.0) if self._attempt is not None else 0.0
        after = self._at_snapshot + max(0.0, same - self._own)
        if self._attempt is None:  # a snapshot that does not say whose it is: whichever tells more
            return max(self._at_snapshot, sum(later.values()))
        return after + sum(value for attempt, value in later.items() if attempt > self._attempt)


def old_row(experiment: str, name: str, kind: str, when: str, **fields: Any) -> dict[str, Any]:
    """A line of the older layout: its keys in its order, each with its default."""
    row: dict[str, Any] = {
        "timestamp": when,
        "event": kind,
        "experiment_id": experiment,
        "experiment_name": name or experiment,
        "epoch": None,
        "total_epochs": None,
        "metrics": {},
        "learning_rate": None,
        "checkpoint_path": None,
        "wall_time_seconds": None,
        "gpu_memory_mb": None,
        "config": {},
    }
    return {**row, **fields}


def document(snapshot: Mapping[str, Any]) -> bytes:
    """The snapshot as a file."""
    return (json.dumps(snapshot, allow_nan=False) + "\n").encode("ascii")


def _finite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if value is not None}


def _ranking(value: Any) -> dict[str, dict[str, Any]]:
    """Best values out of a file: only finite numbers, so that nothing sticks at NaN."""
    found = {}
    for name, held in value.items() if isinstance(value, Mapping) else ():
        amount = held.get("value") if isinstance(held, Mapping) else None
        if isinstance(amount, int | float) and not isinstance(amount, bool) and amount - amount == 0.0:
            found[str(name)] = {"value": amount, "step": held.get("step"), "epoch": held.get("epoch")}
    return found


def _rows(path: Path, start: int) -> Iterable[dict[str, Any]]:
    try:
        with path.open("rb") as handle:
            handle.seek(start)
            for line in handle:
                row = files.parse(line)
                metrics = row.get("metrics") if row else None
                if row and isinstance(metrics, dict) and _numeric(metrics):
                    yield row
    except OSError:
        return


def _finite_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0.0


def _numeric(metrics: Mapping[str, Any]) -> bool:
    return all(v is None or (isinstance(v, int | float) and v - v == 0.0) for v in metrics.values())
