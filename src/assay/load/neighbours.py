"""Who else used the processors while we measured: nothing that a server or a client could be blamed for."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import psutil


class _Spent(NamedTuple):
    """CPU seconds until now, over all processors."""

    whole: float
    idle: float
    ours: float


class Neighbours:
    """Watches the processors from its making on."""

    def __init__(self) -> None:
        self._before = _spent()

    def shares(self) -> dict[str, float]:
        """`idle_frac` and `others_frac` of all processors' time since then; empty where the system does not tell.

        Ours is this process and everything below it: the client, the server, their guards.
        """
        before, now = self._before, _spent()
        if before is None or now is None or now.whole <= before.whole:
            return {}
        whole = now.whole - before.whole
        idle = (now.idle - before.idle) / whole
        others = 1.0 - idle - (now.ours - before.ours) / whole
        return {"idle_frac": _share(idle), "others_frac": _share(others)}


def _spent() -> _Spent | None:
    try:
        times = psutil.cpu_times()._asdict()
        own = psutil.Process()
        ours = 0.0
        for process in (own, *own.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                # what ended meanwhile is part of its parent's figure, what lives is not
                ours += sum(process.cpu_times()[:4])
    except (psutil.Error, OSError, NotImplementedError):
        return None
    # time of guests is part of `user` already
    whole = sum(v for k, v in times.items() if not k.startswith("guest"))
    return _Spent(whole, times["idle"] + times.get("iowait", 0.0), ours)


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 3)
