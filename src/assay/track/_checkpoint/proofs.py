"""The queue of restores of a running training: each waits for its commit and for the losses of the next steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay.track._checkpoint.policy import Policy
from assay.track._checkpoint.proof import Answer, Restore


@dataclass
class _Trial:
    """A checkpoint that waits for its restore."""

    name: str
    step: int
    wanted: int
    losses: list[tuple[float, ...]] = field(default_factory=list)
    committed: bool = False


class Proofs:
    """One restore works at a time; the others wait. Safe to use from the loop and from the thread of a save.

    Args:
        folder: of the checkpoints.
        policy: how a restore is made.
        replay: where the replay function is, if there is one.
        concluded: told the answer of each.
    """

    def __init__(
        self,
        folder: Path,
        policy: Policy,
        replay: Mapping[str, str] | None,
        concluded: Callable[[str, Answer], None],
    ) -> None:
        self._folder = folder
        self._policy = policy
        self._replay = replay
        self._concluded = concluded
        self._lock = threading.RLock()
        self._waiting: list[_Trial] = []
        self._working: Restore | None = None
        self._by_hand = False

    @property
    def names(self) -> frozenset[str]:
        """Checkpoints that are still needed here."""
        with self._lock:
            working = {self._working.name} if self._working is not None else set()
            return frozenset({trial.name for trial in self._waiting} | working)

    @property
    def waits(self) -> bool:
        """Whether losses are wanted."""
        return self._replay is not None and any(len(t.losses) < t.wanted for t in self._waiting)

    def add(self, name: str, step: int, *, last: bool, instead_of: str | None = None) -> None:
        """Queue one, before it is committed: the losses of the next steps are its.

        Args:
            name: of the checkpoint.
            step: steps done in it.
            last: whether no step follows.
            instead_of: one that is not worth a restore any more.
        """
        with self._lock:
            self._waiting = [trial for trial in self._waiting if trial.name != instead_of]
            wanted = self._policy.replay_steps if self._replay is not None and not last else 0
            self._waiting.append(_Trial(name, step, wanted))

    def drop(self, name: str) -> None:
        """Take one out: its save failed."""
        with self._lock:
            self._waiting = [trial for trial in self._waiting if trial.name != name]

    def committed(self, name: str) -> None:
        """One is on disk."""
        with self._lock:
            for trial in self._waiting:
                trial.committed = trial.committed or trial.name == name

    def observe(self, losses: tuple[float, ...]) -> None:
        """The losses of a step of the live run, as the script tells them."""
        if not self._by_hand:
            self._by_hand = True
            with self._lock:
                for trial in self._waiting:
                    trial.losses.clear()  # a log of this step came first, with one loss where there may be more
        if not self._waiting:
            return
        with self._lock:
            for trial in self._waiting:
                if len(trial.losses) < trial.wanted:
                    trial.losses.append(losses)
        self.reap()

    def logged(self, step: int, loss: float) -> None:
        """The loss of a step as it was logged; a script that logs not every step is compared as far as it did."""
        if self._by_hand:
            return
        with self._lock:
            for trial in self._waiting:
                if len(trial.losses) >= trial.wanted:
                    continue
                if step == trial.step + 1 + len(trial.losses):
                    trial.losses.append((loss,))
                else:
                    trial.wanted = len(trial.losses)
        self.reap()

    def finish(self) -> None:
        """No step follows: what was seen is compared, and every answer waited for."""
        with self._lock:
            for trial in self._waiting:
                trial.wanted = len(trial.losses)
        while self.names:
            self.reap(wait=True)

    def reap(self, *, wait: bool = False) -> None:
        """Take the answer of the restore that works, and start the next that is ready."""
        with self._lock:
            if self._working is not None:
                answer = self._working.wait() if wait else self._working.poll()
                if answer is None:
                    return
                name, self._working = self._working.name, None
                self._concluded(name, answer)
            ready = next((t for t in self._waiting if t.committed and len(t.losses) >= t.wanted), None)
            if ready is not None:
                self._waiting.remove(ready)
                self._start(ready)
            elif wait:
                self._waiting.clear()  # never committed: their saves failed

    def _start(self, trial: _Trial) -> None:
        try:
            self._working = Restore(
                self._folder / trial.name,
                self._replay,
                trial.losses,
                tolerance=self._policy.replay_tolerance,
                timeout_s=self._policy.verify_timeout_s,
            )
        except OSError as error:
            self._concluded(trial.name, Answer(None, f"no process could be started: {error}"))
