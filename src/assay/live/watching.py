"""The judge of a watched experiment and where its alerts go: the file, whoever watches, a webhook, a command."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.live.alert import AlertChange
from assay.live.alerts import Alerts, Delivery
from assay.live.checker import Checker
from assay.live.classes import CLASSES, Family
from assay.track import files

FINITE = "finite"
"""Level of a checkpoint that was kept aside because its weights are not finite."""
NONFINITE = 1
OF_AN_ATTEMPT = frozenset({Family.DYNAMICS, Family.DATA, Family.SYSTEM, Family.CLASSICAL})
"""What another attempt leaves behind; alerts about the record itself stay."""
SEND_LIMIT_S = 15.0
"""Longest wait, at the end, for deliveries that are on their way."""


class _Judge(Checker):
    """A checker that reads the record as it is written: what belongs to one cause is one incident."""

    def feed(self, line: Mapping[str, Any]) -> list[AlertChange]:
        """As the checker does."""
        kind = line.get("event")
        if kind == "checkpoint_failed" and line.get("level") == FINITE and self._nonfinite():
            line = {**line, "event": "note"}  # one incident: it was kept aside because of that one
        elif kind == "checkpoint_failed" and line.get("level") == "write":
            line = {
                **line,
                "name": "the newest save",
            }  # a full disk is one incident, however often it is tried
        return super().feed(line)

    def _nonfinite(self) -> bool:
        return any(c.number == NONFINITE for c in self.open_alerts)


class Desk:
    """Takes changed alerts to the file and to people, and knows what the file says last of each.

    Args:
        folder: of the experiment.
        say: shows a line to whoever watches.
        delivery: a webhook and a command, if any, and how often an open alert is said again.
    """

    def __init__(self, folder: Path, say: Callable[[str], Any], delivery: Delivery | None = None) -> None:
        self._path = folder / "alerts.jsonl"
        self._say = say
        self._outbox = _Outbox()
        self._alerts = Alerts(
            folder, delivery, terminal=None, post=self._outbox.post, run=self._outbox.command
        )
        self._last = {str(line.get("id")): line for line in self._alerts.known}
        self.judge: Checker = _Judge(known=self._alerts.known)

    def deliver(self, changes: Sequence[AlertChange]) -> None:
        """Write, show and send what is new; a state that the file has already is none of these."""
        for change in changes:
            try:
                fresh = self._alerts.deliver([change], time.time())
            except OSError as error:
                self._say(f"the alert could not be written: {error.strerror}")
                fresh = [change]
            for new in fresh:
                self._last[new.id] = new.to_json()
                where = f" at step {new.step}" if new.step is not None else ""
                self._say(f"{new.severity} {new.name} {new.state}{where}: {new.text}")

    def remind(self) -> None:
        """Say again what has been open for long, ever more rarely."""
        for line in self._alerts.remind(time.time()):
            self._say(f"still open: {line.get('severity')} {line.get('name')}: {line.get('text')}")

    def settle(self, attempt: int) -> None:
        """Bring the file to what the judge knows: a watcher that was killed left it in the middle.

        Args:
            attempt: that is watched. What belonged to an earlier one and was not found again ends with it.
        """
        for change in self.judge.alerts:
            line = self._last.get(change.id)
            if line is not None and (line.get("state"), line.get("severity")) != (
                change.state,
                change.severity,
            ):
                self._put(change.to_json())
        known = {change.id for change in self.judge.alerts}
        for name, line in list(self._last.items()):
            row, of = CLASSES.get(line.get("class") or 0), line.get("attempt")
            bound = row is not None and row.family in OF_AN_ATTEMPT
            earlier = isinstance(of, int) and of < attempt
            if line.get("state") == "open" and bound and earlier and name not in known:
                text = f"{line.get('text')} (resolved: attempt {attempt} began)"
                self._put({**line, "state": "resolved", "time": files.utc(), "stop": False, "text": text})

    def close(self) -> None:
        """Wait for what is being sent, and tell what could not be."""
        self._outbox.close(SEND_LIMIT_S)
        for failure in self._outbox.failures[:3]:
            self._say(f"an alert could not be sent: {failure}")

    def _put(self, line: dict[str, Any]) -> None:
        self._last[str(line["id"])] = line
        try:
            descriptor = files.open_append(self._path)
            try:
                files.append(descriptor, (json.dumps(line) + "\n").encode("ascii"))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._say(f"the alert could not be written: {error.strerror}")


class _Outbox:
    """Sends in a thread of its own: an endpoint that hangs must not keep a stop waiting."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._waiting: queue.Queue[tuple[str, Callable[[], object]] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def post(self, url: str, line: Mapping[str, Any], timeout_s: float) -> None:
        """Send JSON to a URL."""

        def send() -> None:
            import httpx  # noqa: PLC0415 - 60 ms that only a webhook pays

            httpx.post(url, json=dict(line), timeout=timeout_s).raise_for_status()

        self._put("webhook", send)

    def command(self, command: Sequence[str], text: str, timeout_s: float) -> None:
        """Run a program with the alert on its standard input."""

        def send() -> None:
            subprocess.run(
                list(command), input=text, text=True, timeout=timeout_s, check=True, capture_output=True
            )

        self._put("command", send)

    def close(self, timeout_s: float) -> None:
        """Let what waits be sent."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                self.failures.append(f"no answer within {timeout_s:g} s")

    def _put(self, who: str, send: Callable[[], object]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="assay-alerts", daemon=True)
            self._thread.start()
        self._waiting.put((who, send))

    def _loop(self) -> None:
        while (item := self._waiting.get()) is not None:
            who, send = item
            try:
                send()
            except Exception as error:  # noqa: BLE001 - whatever a foreign endpoint does, watching goes on
                self.failures.append(f"{who}: {type(error).__name__}: {error}"[:300])
