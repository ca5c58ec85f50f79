"""What stands behind a run: its events, its rows, its snapshot, and what the writer thread looks after."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from assay.track import experiments, files, registry, status, system, values
from assay.track.writer import StepItem, Writer

STATUS_S = 1.0
"""Shortest time between two snapshots while rows come."""
HEARTBEAT_S = 5.0
"""Longest time between two snapshots while none come."""
SLOW_TICK_S = 1.0
CLOSE_S = 10.0
EVENTS_LIMIT = 10_000
"""Events that wait for a full disk; beyond it the oldest are lost."""
LINES = ("metrics.jsonl", "alerts.jsonl")
"""Files that only grow: how long they were stands in the event of the end, so that lines cannot be taken away."""
_ROUNDED = ("step_s", "step_cpu_s", "data_wait_s")
_STATES = {"completed": "trained", "stopped": "trained", "exception": "crashed"}


class Recorder:
    """The files of one attempt, written by this process alone.

    Args:
        folder: of the experiment.
        ident: its id.
        name: for people.
        attempt: counted from 1.
        plan: shared with the run; what becomes known is added.
        stop: what to do about stop.json: anything but `off` reads it.
        only_old_keys: keep training_status.json readable for readers of the older layout, and leave its registry alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ident: str,
        name: str,
        attempt: int,
        plan: dict[str, Any],
        stop: Literal["flag", "raise", "off"] = "flag",
        only_old_keys: bool = False,
    ) -> None:
        self.folder = folder
        self.ident = ident
        self.name = name
        self.attempt = attempt
        self.plan = plan
        self.standing = status.Standing(ident, name, plan)
        self.stop: dict[str, Any] | None = None
        self.stop_mode = stop
        self.phase = "train"
        self.facts: dict[str, Any] = {}
        self.own_attempt: dict[str, Any] | None = None
        self.started = False
        self.ended = ""
        self.on_tick: list[Any] = []
        self._only_old_keys = only_old_keys
        self._phase_since = files.utc()
        self._born = time.monotonic()
        self._born_wall = time.time()
        self._starting = threading.Lock()
        self._reading = threading.Lock()
        self._appending = threading.RLock()
        self._newest_event: tuple[int, str] = (0, "")
        self._late_events: deque[tuple[str, dict[str, Any]]] = deque(maxlen=EVENTS_LIMIT)
        self._slow_at = self._status_at = self._born
        self._rows_shown = -1
        self._show = True
        self._rss_due = True
        self._contention = system.Contention(threading.get_native_id())
        self._hypothesis: tuple[int, str] = (-1, "")
        self._evaluated: dict[str, Any] = {}
        self._claim: int | None = None
        self._said: set[tuple[str, str]] = set()
        self._problems = 0
        self._machine = {"pid": os.getpid(), "host": system.host(), "boot_id": system.boot_id()}
        self.writer = Writer(
            folder / "metrics.jsonl",
            rows=self._step_rows,
            written=self.standing.take,
            tick=self._tick,
            problem=self.problem,
        )

    # -- life

    def open(self, *, adopt: bool) -> bool:
        """Claim the folder, take over from earlier attempts, start the writer; False if another process holds it.

        Raises:
            OSError: if the folder is not writable.
        """
        self._claim = files.claim(self.folder / ".tracker.lock")
        if self._claim is None:
            return False
        if adopt:
            self.standing.adopt(self.folder)
        events = files.read_events(self.folder)
        self._hypothesis = (-1, experiments.known_hypothesis(events))
        ours = [e for e in events if e.get("attempt") == self.attempt]
        self.started = any(e["event"] == "training_started" for e in ours)
        started = [e for e in ours if e["event"] == "attempt_started"]
        if started:
            before = experiments.elapsed_s(started[-1])
            self._born -= before
            self._born_wall -= before
        self.writer.start()
        return True

    def abandon(self) -> None:
        """In a forked copy: let go of everything without a lock."""
        self.writer.abandon()
        self._release()

    def leave(self) -> None:
        """Let another process, or another run of this one, have the folder."""
        self._release()

    def _release(self) -> None:
        if self._claim is not None:
            with contextlib.suppress(OSError):
                os.close(self._claim)
            self._claim = None

    def begin(self) -> None:
        """Record the start of training, once an attempt."""
        row = self._begin()
        if row is not None:
            self.row(row)

    def _begin(self) -> dict[str, Any] | None:
        if self.started:
            return None
        with self._starting:
            if self.started:
                return None
            self.started = True
        config = files.read_object(self.folder / "config.yaml") or {}
        totals = {key: self.plan.get(key) for key in ("total_epochs", "total_steps")}
        self.event("training_started", {**totals, "config": config})
        return self._old_row("training_start", total_epochs=totals["total_epochs"], config=config)

    def freeze(self, config: Any) -> None:
        """Keep the first configuration; another one is recorded beside it, never in its place."""
        path = self.folder / "config.yaml"
        if not path.exists():
            experiments.freeze_config(self.folder, config, self.plan)
            return
        held, given = files.read_object(path), values.plain(config)
        if isinstance(given, dict) and isinstance(held, dict):
            given = {key: value for key, value in given.items() if held.get(key, path) != value}
        if given:
            self.event("config_differs", {"given": given})

    def end(
        self, found: values.Numbers, reason: str, place: Mapping[str, Any], error: BaseException | None
    ) -> None:
        """Write everything that waits, then the end."""
        wall = round(self.wall_s(), 1)
        self.begin()
        self.old("training_end", wall_time_seconds=wall, **found.fields())
        if not self.writer.flush(CLOSE_S):
            self.problem("finish", TimeoutError("rows could not be written"))
        self.ended = _STATES[reason]
        said = None if error is None else describe_exception(error)
        bad = {"nonfinite": found.bad} if found.bad else {}
        fields = {"reason": reason, **place, "final_metrics": found.finite, **bad, "exception": said}
        fields["sizes"] = {name: size for name in LINES if (size := files.size_of(self.folder / name))}
        self.event("training_ended", fields)
        self.writer.close(CLOSE_S)
        self._snapshot(sync=True)
        self._registry()

    def end_attempt(self, outcome: str, exit_code: int | None, signal: str | None = None) -> None:
        """The process ends; recorded here only if no `assay train` stands above it."""
        if self.own_attempt is None or os.getpid() != self._machine["pid"]:
            return
        started, self.own_attempt = self.own_attempt, None
        resources = system.resources(experiments.elapsed_s(started))
        said = {
            "outcome": outcome,
            "exit_code": exit_code,
            "signal": signal,
            "resources": resources,
            "log_tail": None,
        }
        files.append_event(self.folder, "attempt_ended", self.attempt, {**said, "by": "tracker"})
        self._registry()

    def _registry(self) -> None:
        if not self._only_old_keys and experiments.ID.fullmatch(self.folder.name):
            registry.refresh(self.folder.parent)

    # -- events and rows

    def event(self, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Append an event; on disk when this returns.

        Raises:
            OSError: if the disk does not take it; the writer thread then tries again until it does.
        """
        self._late_events.append((kind, dict(fields)))
        record = self._write_events()
        if kind == "checkpoint_committed":
            held = record.get("metrics")
            metrics = held if isinstance(held, dict) else {}
            self.old(
                "checkpoint_saved",
                epoch=record.get("epoch"),
                metrics=metrics,
                checkpoint_path=record.get("path"),
            )
        self.writer.mirrors.take("event", record)
        return record

    def _write_events(self) -> dict[str, Any]:
        """Append what waits, in its order; the last line as written."""
        record: dict[str, Any] = {}
        with self._appending:
            while self._late_events:
                kind, fields = self._late_events[0]
                try:
                    record = files.append_event(self.folder, kind, self.attempt, fields)
                except (TypeError, ValueError):
                    record = files.append_event(self.folder, kind, self.attempt, values.plain(fields))
                self._late_events.popleft()
                self._newest_event = (record["seq"], files.digest_of_line(record))
        return record

    def evaluated(self, place: Mapping[str, Any], found: values.Numbers) -> None:
        """The event of an evaluation, unless these numbers of this place were just recorded."""
        told = {**place, **found.finite}
        known = self._evaluated
        shared = [k for k in found.finite if k in known]
        if not found.finite or (
            shared and all(known[k] == told[k] for k in shared) and known.get("epoch") == place["epoch"]
        ):
            return
        self._evaluated = told
        self.event("evaluated", {**place, **found.fields()})

    def row(self, row: dict[str, Any]) -> None:
        """Queue a row that is ready, and have it written at once."""
        self.writer.queue.append(row)
        self.writer.wake()

    def old(self, kind: str, **fields: Any) -> None:
        """Queue a line of the older layout."""
        self.begin()
        self.row(self._old_row(kind, **fields))

    def _old_row(self, kind: str, **fields: Any) -> dict[str, Any]:
        row = status.old_row(self.ident, self.name, kind, files.utc(), **fields)
        if (
            self.attempt > 1
        ):  # readers of the older layout skip lines with keys of ours: only where it is needed
            row["attempt"] = self.attempt
        return row

    def wall_s(self) -> float:
        """Seconds of training, those of earlier attempts included."""
        return self.standing.elapsed_before_s + self.elapsed_s()

    def elapsed_s(self) -> float:
        """Seconds since the attempt started."""
        return time.monotonic() - self._born

    def when(self, now: float | None = None) -> dict[str, Any]:
        """Attempt and time of a row."""
        elapsed = (time.monotonic() if now is None else now) - self._born
        return {
            "attempt": self.attempt,
            "t": round(elapsed, 4),
            "timestamp": files.utc(self._born_wall + elapsed),
        }

    def _step_rows(self, item: StepItem) -> Iterator[dict[str, Any]]:
        """The row of a queued step, after the row of the start if it is the first; made by the writer thread."""
        if not self.started:
            first = self._begin()
            if first is not None:
                yield first
        now, step, epoch, metrics, signals = item
        found = values.numbers(metrics)
        row = {"event": "step", "step": step, "epoch": epoch, **self.when(now), **found.fields()}
        if self._rss_due:
            self._rss_due = False
            signals = {**(signals or {}), **_memory()}
            taken = self._contention.share()
            if taken is not None:
                signals["contended"] = round(taken, 4)
        if signals:
            more = values.numbers(signals)
            for name in _ROUNDED:
                if more.finite.get(name) is not None:
                    more.finite[name] = round(more.finite[name] or 0.0, 7)
            row["signals"] = more.finite
            if more.bad:
                row["nonfinite"] = {**more.bad, **found.bad}
        yield row

    # -- beside the rows, in the writer thread

    def show(self) -> None:
        """Write the snapshot at the next tick."""
        self._show = True
        self.writer.wake()

    def enter(self, phase: str) -> None:
        """The process now does something else."""
        self.phase, self._phase_since = phase, files.utc()
        self.show()

    def take_stop(self, request: dict[str, Any], *, record: bool = True) -> None:
        """Somebody asks to stop."""
        self.stop = request
        if record:
            by, reason = values.text(request.get("by")), values.text(request.get("reason"))
            wish = request.get("checkpoint") is not False
            self.event("stop_requested", {"by": by, "reason": reason, "checkpoint": wish})
        self.show()

    def _tick(self) -> None:
        now = time.monotonic()
        if self._late_events:
            self._write_events()
        self._poll_stop()
        if now - self._slow_at >= SLOW_TICK_S:
            self._slow_at = now
            self._rss_due = True
            self.read_hypothesis()
        due = HEARTBEAT_S if self.standing.rows == self._rows_shown else STATUS_S
        if self._show or now - self._status_at >= due:
            self._show = False
            self._status_at = now
            self._rows_shown = self.standing.rows
            self._snapshot()
        for action in self.on_tick:
            action()

    def _poll_stop(self) -> None:
        if self.stop_mode == "off" or self.stop is not None:
            return
        path = self.folder / "stop.json"
        try:
            if path.stat().st_mtime < self._born_wall - 1.0:
                return  # a request to an earlier attempt
        except OSError:
            return
        request = files.read_object(path)
        if request and request.get("attempt") not in (None, self.attempt):
            return  # to an earlier attempt too: it was taken up again at once
        self.take_stop(request or {"by": "stop.json", "reason": "the request is not readable"})

    def read_hypothesis(self) -> None:
        """Record hypothesis.md if it is another than the one that was recorded last.

        Raises:
            OSError: if the disk does not take the event.
        """
        with self._reading:
            try:
                changed = (self.folder / "hypothesis.md").stat().st_mtime_ns
            except OSError:
                return
            if changed != self._hypothesis[0]:
                digest = experiments.ingest_hypothesis(self.folder, self.attempt, self._hypothesis[1])
                self._hypothesis = (changed, digest)

    def _snapshot(self, *, sync: bool = False) -> None:
        place: dict[str, Any] = {"elapsed_s": self.elapsed_s(), "training": not self.ended}
        standing = self.standing
        content = (
            standing.old(**place) if self._only_old_keys else standing.snapshot(**place, **self._state())
        )
        files.write_atomic(self.folder / "training_status.json", status.document(content), sync=sync)

    def _state(self) -> dict[str, Any]:
        stop = self.stop
        return {
            "attempt": self.attempt,
            "state": self.ended or ("stopping" if stop is not None else "running"),
            "phase": self.phase,
            "phase_since": self._phase_since,
            **self._machine,
            "updated": files.utc(),
            "stop": None if stop is None else {k: values.text(stop.get(k)) for k in ("by", "reason")},
            "steps_per_epoch": self.facts.get("steps_per_epoch"),
            "events_seq": self._newest_event[0] or None,
            "events_head": self._newest_event[1] or None,
            "rows_bytes": self.writer.settled_bytes,
            "rows_dropped": self.writer.dropped,
            "problems": self._problems,
        }

    def problem(self, where: str, error: BaseException) -> None:
        """Say once what failed inside; never raise."""
        with contextlib.suppress(Exception):
            self._problems += 1
            kind = (where, type(error).__name__)
            if kind in self._said:
                return
            self._said.add(kind)
            told = f"{type(error).__name__}: {values.text(error)}"
            print(f"assay: {where}: {told} (training goes on)", file=sys.stderr)
            fields = {"where": where, "error": told}
            files.append_event(self.folder, "tracker_problem", self.attempt, fields)


def describe_exception(error: BaseException) -> dict[str, Any]:
    """An exception as it is recorded: type, text and the end of its traceback."""
    lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-20)
    return {
        "type": type(error).__name__,
        "text": values.text(error, 2_000),
        "traceback": values.text("".join(lines)[-4_000:], 4_000),
    }


def _memory() -> dict[str, Any]:
    known = {"rss_bytes": system.rss_bytes(), "device_bytes": system.device_bytes()}
    return {name: value for name, value in known.items() if value is not None}
