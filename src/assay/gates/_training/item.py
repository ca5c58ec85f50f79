"""One item of evidence that a training must show: met or not, in which way, and the likely cause if not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from assay.core.experiment import Problem
from assay.core.verdict import Reason


class Lack(StrEnum):
    """In which way an item is not met. In the order in which they name the verdict."""

    TAMPERED = "tampered"
    """The files contradict each other: nothing in them can be believed."""
    NOT_YET = "not_yet"
    """It may still come by itself."""
    LOST = "lost"
    """The machine or the process went away."""
    UNHEALTHY = "unhealthy"
    """The training itself went wrong."""
    MISSING = "missing"
    """The evidence is not there, or cannot be read."""
    BELOW = "below"
    """Everything is there, and it is not good enough."""
    UNDECIDED = "undecided"
    """Nobody said what is good enough."""


@dataclass(frozen=True, slots=True)
class Item:
    """What was found about one thing.

    Attributes:
        name: stable name, for scripts.
        text: one sentence.
        lack: None if it is met or only told.
        where: file that it was read from.
    """

    name: str
    text: str
    lack: Lack | None = None
    where: str = ""
    measured: float | str | None = None
    limit: float | str | None = None

    def reason(self, evidence: str) -> Reason:
        """The item as a reason of the verdict."""
        return Reason(
            text=self.text,
            ok=self.lack is None,
            where=self.where,
            measured=self.measured,
            limit=self.limit,
            evidence=evidence,
        )


def cause(text: str, likely: str) -> str:
    """What is missing, with its likely cause."""
    return f"{text} (likely cause: {likely})"


def some(problems: tuple[Problem, ...], limit: int = 2) -> str:
    """The first problems, with their places."""
    shown = "; ".join(str(p) for p in problems[:limit])
    return f"{shown} (and {len(problems) - limit} more)" if len(problems) > limit else shown
