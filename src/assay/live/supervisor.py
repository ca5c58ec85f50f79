"""The watcher of one attempt: reads what the training writes, looks at its process, judges, and stops it if it must.

`tick` does one round and never waits; whoever calls it decides how often (`TICK_S`). A stop is always asked for first
(stop.json: the trainer saves a checkpoint and leaves), and enforced only if we started the process.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from assay.live.attempt import Process
from assay.live.following import Follow
from assay.live.in_order import InOrder
from assay.live.outside import Outside, Seen
from assay.live.watch import Story, mapping, moment_s, number
from assay.track import experiments, files, system

ALERTS = "alerts.jsonl"
TICK_S = 0.25
LOOK_EVERY_S = 1.0
"""Looking at a process tree costs milliseconds."""
HUNG = frozenset({17, 18})
"""Classes whose process cannot save a checkpoint: it does not answer."""
HUNG_GRACE_S = 2.0
GONE_LOOKS = 3
"""So often a process must be found gone: its exit hook may still be writing."""


class Judge(Protocol):
    """What the supervisor asks: `live.checker.Checker`."""

    def feed(self, line: Mapping[str, Any]) -> Sequence[Any]:
        """A row or an event; what changed of the alerts."""

    def at(self, now: float, facts: Mapping[str, Any]) -> Sequence[Any]:
        """The time and what is seen from outside; what changed of the alerts."""

    def close(self) -> Sequence[Any]:
        """Everything is read; what changed of the alerts."""


@dataclass(frozen=True)
class Patience:
    """How long is waited before the next, harder step."""

    stop_s: float = 30.0
    """Between the request and SIGTERM: the step ends and a checkpoint is written."""
    start_s: float = 2.0
    """The same for a command that never showed that it reads requests."""
    kill_s: float = 10.0
    """Between SIGTERM and SIGKILL, where no keeper does it."""


@dataclass
class Stop:
    """A stop under way."""

    by: str
    reason: str
    at: float
    """Monotonic seconds."""
    hung: bool = False
    terminated: float | None = None
    """When SIGTERM was sent."""
    killed: bool = False


@dataclass
class Supervisor:
    """Everything about watching one attempt."""

    folder: Path
    attempt: int
    judge: Judge | None
    deliver: Callable[[Sequence[Any]], Any]
    """Takes changed alerts to the file, the terminal and elsewhere."""
    process: Process | None = None
    """None: we did not start it, so it is only asked and never ended."""
    patience: Patience = field(default_factory=Patience)
    limit_s: float | None = None
    """Longest time that the attempt may take."""
    fresh: bool = True
    """The attempt has just begun, so that a stop.json that lies there is an old one."""
    say: Callable[[str], Any] = lambda _: None
    by: str = "assay train"
    """Who watches, for the record."""
    settle: Callable[[int], Any] = lambda _: None
    """Called with the attempt when everything that was there has been read, and at the end."""
    story: Story = field(init=False)
    stop: Stop | None = field(default=None, init=False)
    seen: Seen | None = field(default=None, init=False)
    ended: bool = field(default=False, init=False)
    """The trainer said that training ended, or the attempt's end is recorded."""

    def __post_init__(self) -> None:
        self.story = Story(self.folder.name)
        self._events = Follow(self.folder / "events.jsonl")
        self._rows = Follow(self.folder / "metrics.jsonl")
        self._alerts = Follow(self.folder / ALERTS)
        self._outside: Outside | None = None
        self._looked = self._began = time.monotonic()
        self._heard_s = time.time()
        self._asked: float | None = None
        self._gone_looks = 0
        self._finishing = self._began_told = self._settled = False
        self._order = InOrder()
        self._stop_recorded = False
        self._listens = False
        self._phase: tuple[str, float] | None = None
        self._longest_evaluation_s = 0.0
        if self.fresh:
            with contextlib.suppress(OSError):
                self._asked = (self.folder / "stop.json").stat().st_mtime

    def tick(self) -> None:
        """One round: read, look, judge, stop."""
        if not self._began_told:
            self._began_told = True
            self._watched("began")
        if not self._read() and not self._settled:
            self._settled = True
            self.settle(self.attempt)
        now = time.monotonic()
        if self._outside is None or now - self._looked >= LOOK_EVERY_S:
            self._look(now)
        if self.judge is not None and not self.ended:
            self._changed(self.judge.at(time.time(), self.facts()))
        self._asked_elsewhere()
        if self.limit_s is not None and now - self._began > self.limit_s and self.stop is None:
            self.request_stop("watcher", f"the attempt took longer than {self.limit_s:g} s")
        self._enforce(now)

    def finish(self, ending: Mapping[str, Any] | None = None) -> None:
        """Read what was written last; the process runs no more.

        Args:
            ending: outcome, exit code and signal, if they are known.
        """
        self._finishing = True
        while self._read():
            pass
        if self.judge is None:
            return
        outcome = str((ending or {}).get("outcome", ""))
        signalled = (ending or {}).get("signal")
        # A program that ended by itself, even with an error, is not lost: its exit code stands in the record.
        if (outcome in ("killed", "lost") or signalled) and outcome != "stopped" and not self.ended:
            how = str(signalled or "no exit is known")
            if self._outside is not None and self._outside.was_out_of_memory():
                how = f"{how}, the kernel was out of memory"
            self._changed(self.judge.at(time.time(), {"alive": False, "exit": how, "ended": False}))
        self._changed(self.judge.close())
        self.settle(self.attempt)
        self._watched("ended")

    def _watched(self, state: str) -> None:
        """Say in the record that a checker looks: without it "no alert" and "nobody looked" are the same."""
        if self.judge is None:
            return
        fields: dict[str, Any] = {"state": state, "by": self.by, "pid": os.getpid()}
        if state == "ended" and (size := files.size_of(self.folder / ALERTS)):
            fields["sizes"] = {ALERTS: size}
        with contextlib.suppress(OSError):
            files.append_event(self.folder, "watched", self.attempt, fields)

    def gone(self) -> bool:
        """Whether the process was found gone often enough to be believed."""
        return self._gone_looks >= GONE_LOOKS

    def facts(self) -> dict[str, Any]:
        """What the checker is told from outside; times in unix seconds."""
        seen = self.seen
        phase, since = self._phase or (None, None)
        found: dict[str, Any] = {
            "last_row_time": self._heard_s,
            "phase": phase,
            "phase_since": since,
            "longest_evaluation_s": self._longest_evaluation_s or None,
            "ended": self.ended or self.stop is not None,
            "boot_changed": False,
        }
        if seen is not None:
            # Of a process of our own the keeper tells how it ended; until then its absence means nothing.
            gone = self.process is None and not seen.alive and self._gone_looks >= GONE_LOOKS
            found |= {
                "alive": True if seen.alive else False if gone else None,
                "state": seen.status,
                "rss_bytes": seen.rss_bytes,
                "cpu_s": seen.cpu_s,
                "memory_limit_bytes": seen.memory_limit_bytes,
                "memory_available_bytes": seen.memory_available_bytes,
                "load_per_cpu": seen.load_per_cpu,
                "contended": seen.contended,
            }
        return found

    def request_stop(self, by: str, reason: str, *, hung: bool = False) -> None:
        """Ask for an orderly end, once; the clock of enforcing starts."""
        if self.stop is not None:
            self.stop.hung = self.stop.hung or hung
            return
        self.stop = Stop(by, reason, time.monotonic(), hung)
        self.say(f"stop requested by {by}: {reason}")
        try:
            experiments.request_stop(self.folder, by, reason, attempt=self.attempt)
            if not self._listens:
                self._record_stop()
        except OSError as error:
            # The disk is full: the trainer cannot be asked, so the signal has to do.
            self.say(f"the request could not be written: {error.strerror}")
            self.stop.hung = True
        with contextlib.suppress(OSError):
            self._asked = (self.folder / "stop.json").stat().st_mtime

    def kill(self) -> None:
        """End it now."""
        if self.process is not None:
            self._record_stop()
            self.process.kill()

    def _read(self) -> int:
        """Read a piece of each file; how many lines that were."""
        events, rows = self._events.new(), self._rows.new()
        for line in events:
            self.story.event(line)
            self._event(line)
        for line in rows:
            self.story.row(line)
            self._row(line)
        self._judged(events, rows)
        alerts = self._alerts.new()
        for line in alerts:
            self.story.alert(line)
        self.story.unusable = self._events.bad + self._rows.bad + self._alerts.bad
        return len(events) + len(rows) + len(alerts)

    def _event(self, line: Mapping[str, Any]) -> None:
        kind, own = line.get("event"), line.get("attempt") == self.attempt
        if own and kind not in ("attempt_started", "stop_requested", "attempt_ended"):
            self._listens = True
            self._heard_s = time.time()
        if own and kind in ("training_ended", "attempt_ended"):
            self.ended = True
        if own and kind == "stop_requested":
            self._stop_recorded = True

    def _row(self, line: Mapping[str, Any]) -> None:
        if line.get("attempt") in (self.attempt, None):
            self._listens = True
            self._heard_s = time.time()
            if line.get("event") == "evaluation":
                self._phase = None

    def _judged(self, events: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> None:
        if self.judge is None:
            return
        for line in self._order.merge(
            events, rows, now_s=time.time(), more_rows=self._rows.more, all_of_it=self._finishing
        ):
            self._changed(self.judge.feed(line))

    def _changed(self, changes: Sequence[Any]) -> None:
        if not changes:
            return
        self.deliver(changes)
        for change in changes:
            own = getattr(change, "attempt", None) in (self.attempt, None) and not self._finishing
            if own and change.state == "open" and self._asks_for_stop(change) and not self.ended:
                hung = getattr(change, "number", None) in HUNG
                self.request_stop("checker", str(getattr(change, "text", "") or change)[:300], hung=hung)

    def _asks_for_stop(self, change: Any) -> bool:
        """The checker stops on what is certain; whoever names a class in the plan wants it stopped anyway."""
        named = mapping(self.story.plan.get("stop"))
        return bool(change.stop) or "stop" in (named.get(change.name), named.get(str(change.number)))

    def _look(self, now: float) -> None:
        self._looked = now
        if self._outside is None:
            pid, started = self._pid()
            if pid is None:
                return
            self._outside = Outside(pid, started)
        self.seen = self._outside.look()
        self._gone_looks = 0 if self.seen.alive else self._gone_looks + 1
        self._status()

    def _pid(self) -> tuple[int | None, float | None]:
        known = self.story.attempts.get(self.attempt)
        if known is None or known.pid is None:
            return None, None
        if known.host and known.host != system.host():
            return None, None
        return known.pid, known.process_started

    def _status(self) -> None:
        """Phase and heartbeat as the tracker's snapshot tells them."""
        line = files.read_object(self.folder / "training_status.json") or {}
        if line.get("attempt") not in (self.attempt, None):
            return
        phase = line.get("phase")
        name = phase if isinstance(phase, str) else mapping(phase).get("name")
        since = moment_s(line.get("phase_since")) or number(line.get("phase_since"))
        if not isinstance(name, str) or name == "train":
            if self._phase is not None and self._phase[0].startswith("eval"):
                self._longest_evaluation_s = max(self._longest_evaluation_s, time.time() - self._phase[1])
            self._phase = None
        elif self._phase is None or self._phase[0] != name:
            self._phase = (name, since or time.time())

    def _asked_elsewhere(self) -> None:
        """Somebody else wrote stop.json: the same patience, then the same end."""
        if self.stop is not None:
            return
        path = self.folder / "stop.json"
        try:
            written = path.stat().st_mtime
        except OSError:
            return
        if written == self._asked:
            return
        self._asked = written
        own = self.story.attempts.get(self.attempt)
        if own is not None and own.started_s is not None and written < own.started_s:
            return  # it was meant for an earlier attempt
        line = files.read_object(path) or {}
        by, reason = str(line.get("by") or "somebody")[:80], str(line.get("reason") or "")[:300]
        self.stop = Stop(by, reason, time.monotonic())
        self.say(f"stop requested by {by}: {reason}")

    def _record_stop(self) -> None:
        """The event, unless the tracker has written it: it does when it sees the request."""
        if self._stop_recorded or self.stop is None:
            return
        self._stop_recorded = True
        fields = {"by": self.stop.by, "reason": self.stop.reason}
        with contextlib.suppress(OSError):
            files.append_event(self.folder, "stop_requested", self.attempt, fields)

    def _enforce(self, now: float) -> None:
        stop = self.stop
        if stop is None or self.process is None or stop.killed or not self.process.running():
            return
        if stop.terminated is not None:
            if now - stop.terminated >= self.patience.kill_s and not self.process.kept():
                stop.killed = True
                self.process.kill()
            return
        patience = (
            HUNG_GRACE_S if stop.hung else self.patience.stop_s if self._listens else self.patience.start_s
        )
        if now - stop.at >= min(patience, self.patience.stop_s):
            stop.terminated = now
            self._record_stop()
            self.say("SIGTERM: it did not stop by itself")
            self.process.terminate()
