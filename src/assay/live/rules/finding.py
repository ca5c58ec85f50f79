"""What a rule answers: a finding, "clear", or nothing because it could not judge."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from assay.live.classes import Severity


class Clear(Enum):
    """The rule looked and found nothing. Only this resolves an alert: missing evidence never does."""

    CLEAR = "clear"


CLEAR: Final = Clear.CLEAR


@dataclass(frozen=True)
class Finding:
    """A fault that holds now, with the evidence for it."""

    number: int
    """Of the class."""
    observed: float | str
    reference: float | str | None
    """What the observed value is compared with; None where nothing is."""
    rule: str
    """The comparison in words."""
    threshold: float | str | None
    text: str
    """One sentence for people."""
    severity: Severity | None = None
    """None = the class's own."""
    certain: bool = False
    """Nothing but the fault explains it: a stop may be asked for."""
    key: str = ""
    """Tells findings of one class apart (a checkpoint's name)."""
    since: int = 0
    """Rows for which it holds already."""


Judged = Finding | Literal[Clear.CLEAR] | None
