"""What can be seen of a training from outside its process: life, memory, CPU time, how busy the machine is."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class Seen:
    """One look. Sums run over the command and all its descendants."""

    alive: bool
    status: str = ""
    """The system's word for the command: running, sleeping, stopped, disk-sleep, ..."""
    processes: int = 0
    rss_bytes: int | None = None
    cpu_s: float | None = None
    """CPU time used so far by what lives now."""
    memory_limit_bytes: int | None = None
    memory_available_bytes: int | None = None
    load_per_cpu: float | None = None
    others_cpu_frac: float | None = None
    """Share of the machine's CPUs that other processes used since the last look."""
    contended: bool = False
    """Others left less than one CPU, so that wall-clock times say little."""


class Outside:
    """Looks at one process tree.

    Args:
        pid: the command.
        started: unix seconds at which it started; another process with its pid is then not taken for it.
    """

    def __init__(self, pid: int, started: float | None = None) -> None:
        self._process: psutil.Process | None = None
        with contextlib.suppress(psutil.Error, ValueError, OverflowError):
            process = psutil.Process(pid)
            if started is None or abs(process.create_time() - started) < 5.0:
                self._process = process
        self._limit = memory_limit_bytes()
        self._before: tuple[float, float, float] | None = None
        self._share: float | None = None
        self.oom_kills = oom_kills()

    def look(self) -> Seen:
        """Look now."""
        process = self._process
        try:
            status = (
                process.status() if process is not None and process.is_running() else psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            status = psutil.STATUS_ZOMBIE
        if process is None or status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return Seen(alive=False, status=status)
        rss = cpu = 0.0
        count = 0
        for each in _tree(process):
            with contextlib.suppress(psutil.Error):
                with each.oneshot():
                    rss += each.memory_info().rss
                    times = each.cpu_times()
                    cpu += times.user + times.system
                count += 1
        others = self._others(cpu)
        cpus = os.cpu_count() or 1
        return Seen(
            alive=True,
            status=status,
            processes=count,
            rss_bytes=int(rss),
            cpu_s=round(cpu, 3),
            memory_limit_bytes=self._limit,
            memory_available_bytes=int(psutil.virtual_memory().available),
            load_per_cpu=round(os.getloadavg()[0] / cpus, 3) if hasattr(os, "getloadavg") else None,
            others_cpu_frac=others,
            contended=others is not None and others * cpus > max(0.0, cpus - 1.0),
        )

    def was_out_of_memory(self) -> bool:
        """Whether the kernel killed something of our control group for memory since we began to look."""
        now = oom_kills()
        return self.oom_kills is not None and now is not None and now > self.oom_kills

    def _others(self, own_cpu_s: float) -> float | None:
        """Share of the CPUs that was used and not by the tree, over at least half a second."""
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0)
        now = (time.monotonic(), float(busy), own_cpu_s)
        if self._before is None:
            self._before = now
            return None
        wall = now[0] - self._before[0]
        if wall >= 0.5:
            used = (now[1] - self._before[1]) - max(0.0, now[2] - self._before[2])
            self._share = round(min(1.0, max(0.0, used / (wall * (os.cpu_count() or 1)))), 3)
            self._before = now
        return self._share


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return [process]


def memory_limit_bytes() -> int | None:
    """The control group's limit if there is one below the machine's memory, else the machine's memory."""
    total = int(psutil.virtual_memory().total)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limit = int((CGROUP / name).read_text(encoding="ascii").strip())
            if 0 < limit < min(total, NO_LIMIT):
                return limit
    return total


def oom_kills() -> int | None:
    """How often the kernel killed a process of our control group for memory; None where it does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (CGROUP / "memory.events").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None
