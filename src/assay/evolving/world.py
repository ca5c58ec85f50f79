"""What a search asks of the world. It keeps nothing else: with the same answers it goes the same way again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from assay.core.artifact_text import Edit

Purpose: TypeAlias = Literal["train", "minibatch", "select", "minimize", "canary"]


class Wanted(NamedTuple):
    """One run that a search needs."""

    text: str
    """Digest of the text."""
    task: str
    rep: int
    """Number of the draw of this text and task, from 1. The same number is the same run."""


@dataclass(frozen=True)
class Observed:
    """What a run came to."""

    score: float | None
    """None where nothing was learned about the text."""
    outcome: str = ""
    feedback: str = ""
    """What the verifier printed."""
    said: str = ""
    """The end of what the agent printed."""


@dataclass(frozen=True)
class Answer:
    """What a proposer outside of Assay answered."""

    text: str | None = None
    """A whole text; None where it gave edits, or nothing."""
    edits: tuple[Edit, ...] = ()
    """To be applied to the parent, where it gave no whole text."""
    reason: str = ""
    stop: str = ""
    """Why it has nothing left to propose; empty = it has."""
    failed: str = ""
    """Why its answer cannot be used."""


class Ended(Exception):
    """A limit was reached: the search ends with what it has. No error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Standing:
    """How a search stands, for a person who watches."""

    baseline: float | None = None
    """Mean score on the tasks that select."""
    best: float | None = None
    kept: int = 0
    rejected: int = 0
    refused: int = 0
    doing: str = ""

    def line(self) -> str:
        """One line."""
        parts = [] if self.best is None else [f"best {self.best:.2f}"]
        if self.baseline is not None:
            parts.append(f"baseline {self.baseline:.2f}")
        parts.append(f"{self.kept} kept, {self.rejected} rejected")
        if self.refused:
            parts.append(f"{self.refused} refused")
        return ", ".join(parts)


class World(Protocol):
    """Runs agents and asks proposers."""

    @property
    def runs(self) -> int:
        """Runs asked for so far."""
        ...

    @property
    def runs_left(self) -> int:
        """Runs that may still be asked for."""
        ...

    def measure(
        self, wanted: Sequence[Wanted], texts: Mapping[str, str], purpose: Purpose
    ) -> Mapping[Wanted, Observed]:
        """Carry out runs; each is done once in the life of the search.

        Raises:
            Ended: if they do not fit the budget any more.
        """
        ...

    def ask(self, proposer: int, request: Mapping[str, Any]) -> Answer:
        """Ask a proposer outside of Assay, by its place among the proposers.

        Raises:
            Ended: if its cost does not fit the budget any more.
        """
        ...

    def tell(self, standing: Standing) -> None:
        """Tell whoever watches."""
        ...

    def settle(self, event: Mapping[str, Any]) -> None:
        """Note what was decided, for people and for the proof that a repetition goes the same way."""
        ...
