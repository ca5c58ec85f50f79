"""What the engine tells whoever watches. Nothing depends on it: the ledger is the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from assay.core.decision import Decision, GateLine
from assay.core.study import Study


@dataclass(frozen=True)
class Progress:
    """One thing to show."""

    kind: Literal[
        "study", "trial", "step", "note", "reused", "step_done", "retry", "gate", "decision", "apply"
    ]
    trial: str = ""
    candidate: str = ""
    step: str = ""
    message: str = ""
    done: float | None = None
    """Share of the step that is finished, 0..1."""
    wall_s: float | None = None
    line: GateLine | None = None
    decision: Decision | None = None
    study: Study | None = None


class Observer(Protocol):
    """Is told; never answers."""

    def tell(self, progress: Progress) -> None:
        """Take note of progress."""
        ...


class Silent:
    """Shows nothing."""

    def tell(self, progress: Progress) -> None:
        """Take no note."""
