"""A world for searches: tasks are passed by texts that hold what they need, and nothing is run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assay.evolving.archive import Archive
from assay.evolving.course import Course
from assay.evolving.limits import Limits
from assay.evolving.proposers.spec import PoolLine, ProposerSpec
from assay.evolving.rules import Rules
from assay.evolving.world import Answer, Ended, Observed, Purpose, Standing, Wanted

Passes = Callable[[str, str], float]
"""Text and task → chance to pass."""


class FakeWorld:
    """Answers at once, and keeps what it was asked."""

    def __init__(self, passes: Passes, max_runs: int = 10_000, answers: Sequence[Answer] = ()) -> None:
        self.passes = passes
        self.max_runs = max_runs
        self.answers = list(answers)
        self.runs = 0
        self.wanted: list[tuple[Wanted, Purpose]] = []
        self.requests: list[Mapping[str, Any]] = []
        self.told: list[Standing] = []
        self.settled: list[Mapping[str, Any]] = []

    @property
    def runs_left(self) -> int:
        """Of `max_runs`."""
        return self.max_runs - self.runs

    def measure(
        self, wanted: Sequence[Wanted], texts: Mapping[str, str], purpose: Purpose
    ) -> Mapping[Wanted, Observed]:
        """Each run by its own draw."""
        if len(wanted) > self.runs_left:
            raise Ended("the runs are used up")
        self.runs += len(wanted)
        self.wanted += [(w, purpose) for w in wanted]
        return {w: self._seen(w, texts[w.text]) for w in wanted}

    def _seen(self, wanted: Wanted, text: str) -> Observed:
        name = f"{wanted.text}/{wanted.task}/{wanted.rep}"
        drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / (1 << 32)
        passed = drawn < self.passes(text, wanted.task)
        return Observed(
            score=float(passed),
            outcome="pass" if passed else "task_fail",
            feedback="" if passed else f"missed: {wanted.task}",
        )

    def ask(self, proposer: int, request: Mapping[str, Any]) -> Answer:
        """The next of the answers."""
        self.requests.append(request)
        return self.answers.pop(0) if self.answers else Answer(stop="no more")

    def tell(self, standing: Standing) -> None:
        """Keep it."""
        self.told.append(standing)

    def settle(self, event: Mapping[str, Any]) -> None:
        """Keep it."""
        self.settled.append(event)


def has_line(text: str, task: str) -> float:
    """Passed by a text that holds `do TASK`, and by no text that holds `break TASK`."""
    lines = text.split("\n")
    return float(f"do {task}" in lines and f"break {task}" not in lines)


TRAIN, SELECT = ("a", "b", "c", "d"), ("e", "f", "g")
POOL = (*tuple(PoolLine(text=f"do {t}") for t in (*TRAIN, *SELECT)), PoolLine(text="break a"))


def course(world: FakeWorld, text: str = "a rule", **more: Any) -> Course:
    """A search over letters."""
    given: dict[str, Any] = {
        "train": TRAIN,
        "select": SELECT,
        "rules": Rules(fresh=False),
        "limits": Limits(),
        "proposers": (ProposerSpec(kind="add-line"), ProposerSpec(kind="delete-line")),
        "pool": POOL,
    }
    return Course(archive=Archive(text), world=world, **{**given, **more})
