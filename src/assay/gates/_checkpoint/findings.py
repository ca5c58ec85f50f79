"""One finding of a check: a reason, and the class it fails with if it fails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from assay.core.base import Noun
from assay.core.verdict import Reason
from assay.core.vocabulary import FailureClass

PRECEDENCE = (
    FailureClass.MODEL_UNSUPPORTED,
    FailureClass.QUANT_COVERAGE_FAILURE,
    FailureClass.USER_CONFIG_ERROR,
)
"""Most actionable first; facts: the source system's order."""


class Finding(Noun):
    """A reason with its failure class; None for what is as it should be, and for notes."""

    reason: Reason
    failure_class: FailureClass | None = None


def good(text: str, **more: Any) -> Finding:
    """Something that is as it should be, or a note that does not count."""
    return Finding(reason=Reason(text=text, ok=True, **more))


def bad(text: str, failure_class: FailureClass = FailureClass.QUANT_COVERAGE_FAILURE, **more: Any) -> Finding:
    """Something that refuses the checkpoint."""
    return Finding(reason=Reason(text=text, ok=False, **more), failure_class=failure_class)


def worst(findings: Iterable[Finding]) -> FailureClass | None:
    """The class that decides what is done next."""
    found = {f.failure_class for f in findings if f.failure_class is not None}
    return next((c for c in PRECEDENCE if c in found), None)


def visible(name: str, limit: int = 120) -> str:
    """A name from a file, fit for a message: no control characters, cut where it is endless."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name[: limit + 1])
    return text if len(text) <= limit else text[: limit - 3] + "..."


def some(names: Sequence[str], limit: int = 3) -> str:
    """The first few names and how many there are."""
    shown = ", ".join(visible(n) for n in sorted(names)[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
