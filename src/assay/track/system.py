"""Facts about this process and its machine, by the standard library alone."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMED = (
    "torch",
    "numpy",
    "transformers",
    "lightning",
    "keras",
    "tensorflow",
    "jax",
    "xgboost",
    "lightgbm",
    "sklearn",
)
"""Libraries whose versions are recorded if the script has loaded them."""
GIT_LIMIT_S = 2.0


def boot_id() -> str:
    """What names this boot of the machine; another value means that every pid of before is gone."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # macOS
        shown = subprocess.run(
            ["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, timeout=2, check=False
        )
        if shown.stdout.strip():
            return shown.stdout.strip()
    return ""


def process_started(pid: int | None = None) -> float | None:
    """When a process started, in unix seconds: with the pid it names one process. None if it cannot be told."""
    try:
        fields = Path(f"/proc/{pid or os.getpid()}/stat").read_bytes().rpartition(b")")[2].split()
        ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
            if line.startswith("btime "):
                return round(int(line.split()[1]) + ticks, 2)
    except (OSError, ValueError, IndexError):
        pass
    return None


def rss_bytes() -> int | None:
    """Resident memory of this process now."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


class Contention:
    """How much of the processor time that one thread wanted others took, between two readings.

    Linux counts for each thread how long it ran and how long it was ready and waited (/proc/PID/task/TID/schedstat).
    Where that is not to be had the pressure of the whole machine is told, or its load over its cores.

    Args:
        thread: of this process, by its native id; its first one if absent.
    """

    def __init__(self, thread: int | None = None) -> None:
        self._path = Path(f"/proc/self/task/{thread or os.getpid()}/schedstat")
        self._before = self._counted()

    def share(self) -> float | None:
        """0 = it got all it wanted; None if nothing was wanted since the reading before, or nothing is known."""
        before, self._before = self._before, self._counted()
        if before is None or self._before is None:
            return _pressure()
        ran, waited = (b - a for a, b in zip(before, self._before, strict=True))
        return max(0.0, waited / (ran + waited)) if ran > 0 and ran + waited > 0 else None

    def _counted(self) -> tuple[int, int] | None:
        try:
            ran, waited, _ = self._path.read_bytes().split()
            return (int(ran), int(waited)) if int(ran) else None
        except (OSError, ValueError):
            return None


def _pressure() -> float | None:
    """The machine's own word: share of time in which somebody waited for a processor, or load beyond the cores."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        some = Path("/proc/pressure/cpu").read_text(encoding="ascii").split()
        return float(some[1].removeprefix("avg10=")) / 100
    with contextlib.suppress(OSError, AttributeError):
        load = os.getloadavg()[0]
        return max(0.0, 1.0 - (os.cpu_count() or 1) / load) if load > 0 else 0.0
    return None


def device_bytes() -> int | None:
    """Memory that torch holds on its accelerators; asked only if the script uses one, and never waits for it."""
    torch = sys.modules.get("torch")
    try:
        if torch is None or not torch.cuda.is_initialized():
            return None
        return int(sum(torch.cuda.memory_allocated(i) for i in range(torch.cuda.device_count())))
    except Exception:  # noqa: BLE001 - a foreign library in an unknown state
        return None


def host() -> str:
    """Name of this machine."""
    try:
        return socket.gethostname()
    except OSError:
        return ""


def versions() -> dict[str, str]:
    """Versions of Python and of the known libraries that are loaded; nothing is imported for it."""
    found = {"python": platform.python_version()}
    for name in NAMED:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            found[name] = str(version)[:80]
    return found


def git(folder: Path | None = None) -> dict[str, Any] | None:
    """Commit and whether files differ from it; None outside a repository or where git does not answer in time."""
    where = str(folder or Path.cwd())
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    limit = time.monotonic() + GIT_LIMIT_S

    def ask(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", where, *arguments],
            capture_output=True,
            text=True,
            timeout=max(0.1, limit - time.monotonic()),
            check=True,
            stdin=subprocess.DEVNULL,
            env=environment,
            errors="replace",
        )
        return done.stdout.strip()

    try:
        commit = ask("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None
    try:
        dirty: bool | None = bool(ask("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        dirty = None  # a large tree: not known, rather than slow
    return {"commit": commit, "dirty": dirty}


def command_line() -> list[str]:
    """The command that this process runs."""
    return [str(part) for part in getattr(sys, "orig_argv", sys.argv)]


def resources(wall_s: float) -> dict[str, Any]:
    """What this process used so far."""
    found: dict[str, Any] = {"wall_s": round(wall_s, 3)}
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return found
    used = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        **found,
        "user_s": round(used.ru_utime, 3),
        "system_s": round(used.ru_stime, 3),
        "max_rss_bytes": used.ru_maxrss * unit,
    }
