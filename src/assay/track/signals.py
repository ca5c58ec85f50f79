"""Preemption: SIGTERM and SIGUSR1 set a flag; loops that poll it save and leave.

The handler does nothing but set the flag. A second signal exits at once, by that signal. Forked workers of torch's
loaders ignore a signal to the whole process group, so that the trainer can finish its epoch or save; their own trainer
still ends them. Other forked children behave as if we were not there. (Workers that are spawned inherit nothing.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = tuple(
    number for name in ("SIGTERM", "SIGUSR1") if (number := getattr(signal, name, None)) is not None
)
SAME_S = 0.5
"""A signal to the process group and its copy forwarded by a parent are one request."""
PATIENCE_S = 10.0
"""After so long without an answer the watchdog acts; spot machines give 30 s (GKE) to 120 s (AWS)."""


class Preemption:
    """The flag, its handlers and its watchdog.

    Args:
        signals: that are listened to.
        same_s: signals closer than this to the first are its copies.
        patience_s: how long the watchdog waits for a loop to answer.
    """

    def __init__(
        self,
        signals: tuple[signal.Signals, ...] = SIGNALS,
        *,
        same_s: float = SAME_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.signals = signals
        self.same_s = same_s
        self.patience_s = patience_s
        self.requested: str | None = None
        """Name of the signal that arrived."""
        self.answered = False
        """Whether a loop has seen it and saved."""
        self._at = 0.0
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}
        self._closed = threading.Event()

    def install(self) -> bool:
        """Take over the signals; False outside the main thread, where Python does not allow it."""
        if threading.current_thread() is not threading.main_thread():
            return False
        self._owner = os.getpid()
        _shield_workers()
        for number in self.signals:
            self._before[number] = signal.signal(number, self._handle)
        return True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            # A forked child. Nobody ends one by SIGUSR1: it was meant for the trainer. SIGTERM ends it as ever.
            if number == signal.SIGTERM:
                _die_by(number)
            return
        now = time.monotonic()
        if self.requested is None:
            self._at = now
            self.requested = signal.Signals(number).name
        elif now - self._at >= self.same_s:
            _die_by(number)

    def watch(self, late: Callable[[str], None]) -> threading.Thread:
        """Start the watchdog: it calls `late(signal name)` once if no loop answers in time.

        The thread is a daemon; it ends with `close` or after the call.
        """
        thread = threading.Thread(target=self._watch, args=(late,), name="assay-preemption", daemon=True)
        thread.start()
        return thread

    def _watch(self, late: Callable[[str], None]) -> None:
        pause = min(0.25, self.patience_s / 4) or 0.01
        while not self._closed.wait(pause):
            if self.answered:
                return
            if self.requested is not None and time.monotonic() - self._at >= self.patience_s:
                late(self.requested)
                return

    def close(self) -> None:
        """Give the signals back to whoever had them."""
        self._closed.set()
        if os.getpid() != self._owner or threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            with contextlib.suppress(ValueError, TypeError):
                if signal.getsignal(number) == self._handle:
                    signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()


def _die_by(number: int) -> None:
    """Exit at once, with the status that this signal gives."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


_shielded = False


def _shield_workers() -> None:
    global _shielded  # noqa: PLW0603 - one hook a process
    if not _shielded and hasattr(os, "register_at_fork") and hasattr(signal, "sigwaitinfo"):
        _shielded = True
        os.register_at_fork(after_in_child=_shield)


def _shield() -> None:
    """In a fresh worker of a loader: SIGTERM is taken by a thread, which obeys it only if the trainer sent it.

    torch gives its workers a handler in C, which a handler of ours cannot replace before they start; a blocked signal
    reaches no handler. Without this a signal to the group ends the workers, and the trainer's next batch with them.
    """
    if not _is_loader_worker(sys._getframe(1)):  # noqa: SLF001 - the only way to see who forks
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_parent, args=(os.getppid(),), name="assay-shield", daemon=True).start()


def _is_loader_worker(frame: FrameType | None) -> bool:
    """Whether `multiprocessing` forks here for one of torch's loaders."""
    process = frame.f_locals.get("process_obj") if frame is not None else None
    target = getattr(process, "_target", None)
    return str(getattr(target, "__module__", "")).startswith("torch.utils.data")


def _obey_parent(parent: int) -> None:
    while True:
        found = signal.sigwaitinfo({signal.SIGTERM})
        if found.si_pid == parent or os.getppid() != parent:
            os._exit(0)
