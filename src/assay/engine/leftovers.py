"""What an Assay that is gone left running: it must have ended before its folder is used again."""

from __future__ import annotations

import time
from pathlib import Path

from assay.runtime import process

WAIT_S = 10.0
"""Guards end their commands by themselves; one that has not after this long is ended."""
STEP_S = 0.02


def end_leftovers(folder: Path) -> None:
    """Return when nothing that was started below a folder runs any more.

    The writer's lock is ours, so whatever runs there has lost its owner. A server that still holds its port or
    its memory would fail the next one, and a guard that ends later would write over its record.

    Raises:
        ComponentFailed: if a process cannot be ended.
    """
    deadline = time.monotonic() + WAIT_S
    for path in sorted(folder.glob("**/.runs/*.json")):
        status = process.read_status(path)
        if status is None or status["ended"] is not None:
            continue
        while process.alive(status["guard_pid"], status["guard_ticks"]) and time.monotonic() < deadline:
            time.sleep(STEP_S)
        process.sweep(str(status["run_id"]))
