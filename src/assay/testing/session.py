"""A session to try adapters with: a folder, the real `local` execution, and a record of what was told."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from assay.adapters.execute.local import Adapter as LocalExecute
from assay.core.ports import Execute, Session

T = TypeVar("T")


@dataclass
class RecordingSession:
    """What the engine lends an adapter, without an engine."""

    workdir: Path
    seed: int = 0
    execute: Execute = field(default_factory=LocalExecute)
    limit_s: float | None = None
    """Wall-time budget from the moment the session was made; None = no limit."""
    notes: list[tuple[str, float | None]] = field(default_factory=list)
    """Everything that the adapter told: message and share done."""
    opened: float = field(default_factory=time.monotonic)
    kept: ExitStack = field(default_factory=ExitStack)
    """Ends what adapters keep; close it at the end of the test."""
    _things: dict[str, Any] = field(default_factory=dict)

    def note(self, message: str, done: float | None = None) -> None:
        """Keep what the adapter says."""
        self.notes.append((message, done))

    def remaining_s(self) -> float | None:
        """Seconds of the budget left; None without a limit."""
        return None if self.limit_s is None else self.limit_s - (time.monotonic() - self.opened)

    def keep(self, key: str, start: Callable[[Session], AbstractContextManager[T]]) -> T:
        """Something for later steps; it shares this session's folder."""
        if key not in self._things:
            self._things[key] = self.kept.enter_context(start(self))
        thing: T = self._things[key]
        return thing


def make_session(tmp_path: Path, *, seed: int = 0, limit_s: float | None = None) -> RecordingSession:
    """A session whose workdir is an empty folder `work` below `tmp_path`.

    Args:
        tmp_path: existing folder.
        seed: what the adapter is to draw its randomness from.
        limit_s: wall-time budget; None = no limit.
    """
    workdir = tmp_path / "work"
    workdir.mkdir(parents=True, exist_ok=True)
    return RecordingSession(workdir=workdir, seed=seed, limit_s=limit_s)
