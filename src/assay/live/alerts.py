"""Delivery of alerts: alerts.jsonl, terminal, webhook, command. Each state is said once, and again ever more rarely."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from pydantic import Field

from assay.core.gate import Policy
from assay.live.alert import AlertChange
from assay.live.classes import Severity
from assay.live.tail import Tail

NAME = "alerts.jsonl"


class Delivery(Policy):
    """Who is told, and how often."""

    webhook: str | None = None
    """URL that the alert is posted to as JSON."""
    webhook_timeout_s: float = Field(default=5.0, gt=0)
    command: tuple[str, ...] = ()
    """Program and arguments, run without a shell; the alert is on its standard input as JSON."""
    command_timeout_s: float = Field(default=20.0, gt=0)
    least: Severity = Severity.WARNING
    """Milder alerts are written to the file and not sent."""
    again_s: tuple[float, ...] = (1800.0, 7200.0, 21600.0, 86400.0)
    """An alert that stays open is said again after these times; the last is repeated."""


class Alerts:
    """The alerts of one experiment on disk, and their delivery.

    Args:
        folder: of the experiment.
        delivery: who is told.
        terminal: where a line is printed; None prints nothing.
        post: sends JSON to a URL (the default uses httpx); raises if it failed.
        run: runs a command with text on its standard input; raises if it failed.
    """

    def __init__(
        self,
        folder: Path,
        delivery: Delivery | None = None,
        *,
        terminal: TextIO | None = sys.stderr,
        post: Callable[[str, Mapping[str, Any], float], None] | None = None,
        run: Callable[[Sequence[str], str, float], None] | None = None,
    ) -> None:
        self.path = folder / NAME
        self.delivery = delivery or Delivery()
        self.failures: list[str] = []
        """Deliveries that did not work, newest last; an alert is never lost for it: the file has it."""
        self._terminal = terminal
        self._post = post or _post
        self._run = run or _run
        self._last: dict[str, dict[str, Any]] = {}
        self._said: dict[str, tuple[float, int]] = {}
        self._lines: list[dict[str, Any]] = Tail(self.path).finish()
        self._written: dict[tuple[Any, ...], int] = {}
        for line in self._lines:
            self._last[str(line.get("id"))] = line
            self._written[_state(line)] = self._written.get(_state(line), 0) + 1

    @property
    def known(self) -> list[dict[str, Any]]:
        """Lines that stood in the file when it was opened: give them to the checker as `known`."""
        return list(self._lines)

    def deliver(self, changes: Iterable[AlertChange], now: float) -> list[AlertChange]:
        """Write and send what is new; returns it. A state that is in the file already is neither written nor sent.

        Args:
            changes: what the checker said.
            now: unix seconds.
        """
        fresh: list[AlertChange] = []
        for change in changes:
            stamped = change if change.time else change.model_copy(update={"time": _iso(now)})
            line = stamped.to_json()
            # After a restart the checker reads the whole log again and says the same once more.
            if self._written.get(_state(line), 0) > 0:
                self._written[_state(line)] -= 1
                self._remember(line, now)
                continue
            self._append(line)
            self._remember(line, now)
            self._send(line, "")
            fresh.append(stamped)
        return fresh

    def remind(self, now: float) -> list[dict[str, Any]]:
        """Say again what has been open for the next time on the schedule; nothing is written."""
        again: list[dict[str, Any]] = []
        schedule = self.delivery.again_s
        for id_, (when, times) in sorted(self._said.items()):
            line = self._last[id_]
            if not schedule or line.get("state") != "open":
                continue
            if now - when >= schedule[min(times, len(schedule) - 1)]:
                self._said[id_] = (now, times + 1)
                self._send(line, "still open: ")
                again.append(line)
        return again

    def _remember(self, line: dict[str, Any], now: float) -> None:
        id_ = str(line["id"])
        self._last[id_] = line
        if line["state"] == "open":
            self._said.setdefault(id_, (now, 0))
        else:
            self._said.pop(id_, None)

    def _append(self, line: Mapping[str, Any]) -> None:
        """One whole line, on the disk when this returns. A half-written line before it is closed first."""
        data = json.dumps(line, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(self.path, flags, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                data = b"\n" + data
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            os.fsync(handle)
        finally:
            os.close(handle)

    def _send(self, line: Mapping[str, Any], prefix: str) -> None:
        if self._terminal is not None:
            with contextlib.suppress(
                OSError, ValueError
            ):  # a closed terminal is no reason to miss the webhook
                print(prefix + shown(line), file=self._terminal, flush=True)
        order = list(Severity)[::-1]
        if order.index(Severity(line["severity"])) < order.index(self.delivery.least):
            return
        if self.delivery.webhook:
            self._try(
                "webhook",
                lambda: self._post(str(self.delivery.webhook), line, self.delivery.webhook_timeout_s),
            )
        if self.delivery.command:
            text = json.dumps(line)
            self._try(
                "command", lambda: self._run(self.delivery.command, text, self.delivery.command_timeout_s)
            )

    def _try(self, who: str, send: Callable[[], None]) -> None:
        try:
            send()
        except Exception as error:  # noqa: BLE001 - whatever a foreign endpoint does, watching goes on
            self.failures.append(f"{who}: {type(error).__name__}: {error}"[:300])
            del self.failures[:-50]


def shown(line: Mapping[str, Any]) -> str:
    """One line for a terminal; control characters of foreign text are dropped."""
    where = f"step {line.get('step')}" if line.get("step") is not None else "before step 0"
    joined = line.get("joined") or ()
    extra = f" (with {', '.join(map(str, joined))})" if joined else ""
    mark = "resolved" if line.get("state") == "resolved" else str(line.get("severity"))
    text = f"[{mark}] {line.get('name')} at {where}: {line.get('text')}{extra}"
    return "".join(c if c.isprintable() else " " for c in text)


def _state(line: Mapping[str, Any]) -> tuple[Any, ...]:
    joined = tuple(line.get("joined") or ()) if isinstance(line.get("joined"), list | tuple) else ()
    keys = ("name", "key", "attempt", "first_seen_step", "state", "severity", "step", "stop")
    return (*(str(line.get(k)) for k in keys), *map(str, joined))


def _iso(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _post(url: str, line: Mapping[str, Any], timeout_s: float) -> None:
    import httpx  # noqa: PLC0415 - 60 ms that only a webhook pays

    httpx.post(url, json=dict(line), timeout=timeout_s).raise_for_status()


def _run(command: Sequence[str], text: str, timeout_s: float) -> None:
    subprocess.run(list(command), input=text, text=True, timeout=timeout_s, check=True, capture_output=True)
