"""The judge of a watched experiment and where its alerts go."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.live.alert import AlertChange
from assay.live.checker import _HANDLERS, Checker
from assay.live.following import Follow
from assay.track import files

Deliver = Callable[[Sequence[AlertChange]], Any]


class _Judge(Checker):
    """A checker for which events of kinds that no rule knows still count in the numbering of the record."""

    def feed(self, line: Mapping[str, Any]) -> list[AlertChange]:
        """As the checker does."""
        if "seq" in line and line.get("event") not in _HANDLERS:
            line = {**line, "event": "note"}
        return super().feed(line)


def judge_of(folder: Path, *, say: Callable[[str], Any]) -> tuple[Checker, Deliver]:
    """A checker that knows the alerts of before, and the way its alerts take.

    Args:
        folder: of the experiment.
        say: shows a line to whoever watches.
    """
    past = Follow(folder / "alerts.jsonl")
    known: list[dict[str, Any]] = []
    while lines := past.new():
        known += lines
    return _Judge(known=known), AlertFile(folder / "alerts.jsonl", known, say).deliver


class AlertFile:
    """alerts.jsonl: each change is on disk before it is shown; what stands there already is not written again."""

    def __init__(self, path: Path, known: Sequence[dict[str, Any]], say: Callable[[str], Any]) -> None:
        self._path = path
        self._say = say
        self._last = {str(line.get("id")): (line.get("state"), line.get("severity")) for line in known}

    def deliver(self, changes: Sequence[AlertChange]) -> None:
        """Write and show what is new."""
        for change in changes:
            state = (change.state, str(change.severity))
            if self._last.get(change.id) == state:
                continue
            self._last[change.id] = state
            self._write(change)
            where = f" at step {change.step}" if change.step is not None else ""
            self._say(f"{change.severity} {change.name} {change.state}{where}: {change.text}")

    def _write(self, change: AlertChange) -> None:
        line = change.to_json()
        line["time"] = line.get("time") or files.utc()
        try:
            descriptor = files.open_append(self._path)
            try:
                files.append(descriptor, (json.dumps(line) + "\n").encode("ascii"))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._say(f"the alert could not be written: {error.strerror}")
