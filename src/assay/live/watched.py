"""A folder that is watched: its files, read as they grow, give one frame at a time."""

from __future__ import annotations

import time
from pathlib import Path

from assay.live.following import Follow
from assay.live.watch import Attempt, Frame, Story, told
from assay.readers.training.lines import require_readable
from assay.track import experiments, files

LINES = ("events.jsonl", "metrics.jsonl", "alerts.jsonl")
CATCH_UP_S = 2.0
"""Longest time that one frame spends on reading: a large history is shown in parts."""
STATUS_EVERY_S = 1.0


class Watched:
    """One experiment, of our layout or of the older one.

    Args:
        folder: the experiment's own.

    Raises:
        UnreadableInput: if the operating system refuses to read it. What goes away later is waited for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.story = Story(folder.name)
        for name in LINES:
            require_readable(folder / name)
        self._events, self._rows, self._alerts = (Follow(folder / name) for name in LINES)
        self._status_at = 0.0

    def read(self) -> bool:
        """Read what is new; whether anything was."""
        began = time.monotonic()
        any_new = False
        while True:
            events, rows, alerts = self._events.new(), self._rows.new(), self._alerts.new()
            told(self.story, events, rows, alerts)
            any_new = any_new or bool(events or rows or alerts)
            if not (events or rows or alerts) or time.monotonic() - began > CATCH_UP_S:
                break
        self.story.unusable = self._events.bad + self._rows.bad + self._alerts.bad
        if time.monotonic() - self._status_at > STATUS_EVERY_S:
            self._status_at = time.monotonic()
            self.story.status(files.read_object(self.folder / "training_status.json"))
        return any_new

    def frame(self, now_s: float | None = None) -> Frame:
        """Read what is new and give the picture of this moment."""
        self.read()
        return self.story.frame(time.time() if now_s is None else now_s, alive(self.story.attempt))


def alive(attempt: Attempt | None) -> bool | None:
    """Whether the process of an attempt lives; None if that cannot be known here or nobody said who it is."""
    if attempt is None or attempt.pid is None or attempt.outcome:
        return None
    return experiments.alive(
        {
            "host": attempt.host,
            "boot_id": attempt.boot_id,
            "pid": attempt.pid,
            "process_started": attempt.process_started,
        }
    )
