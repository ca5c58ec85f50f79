"""What only the machine knows: whether the process of an attempt still lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from assay.core.experiment import Attempt

START_TOLERANCE_S = 5.0
"""Clocks of /proc and of the process may differ by this much; a pid is not used again within it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that asks."""

    host: str
    boot_id: str

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            boot = ""
        return cls(socket.gethostname(), boot)

    def gone(self, attempts: Iterable[Attempt]) -> frozenset[int]:
        """Attempts without a recorded end whose process cannot be alive.

        That is so if it ran here in this boot and its pid is free or belongs to a process that started at another
        time, or if this host was booted again since. Of a process on another host nothing is known.
        """
        return frozenset(a.number for a in attempts if not a.outcome and self._is_gone(a))

    def _is_gone(self, attempt: Attempt) -> bool:
        if not attempt.boot_id or not self.boot_id:
            return attempt.host == self.host and attempt.pid is not None and not _lives(attempt)
        if attempt.boot_id != self.boot_id:
            return attempt.host == self.host
        return attempt.host == self.host and attempt.pid is not None and not _lives(attempt)


def _lives(attempt: Attempt) -> bool:
    import psutil  # noqa: PLC0415 - only where an attempt seems to live

    if attempt.pid is None or attempt.pid <= 0 or attempt.pid > 2**31:
        return False
    try:
        os.kill(attempt.pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    try:
        process = psutil.Process(attempt.pid)
        started = process.create_time()
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
    known = attempt.process_started
    return known is None or abs(started - known) <= START_TOLERANCE_S
