"""What every report begins with: the word, what it means, why, what to do next, and a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

from assay.report._view.marks import Mark


@dataclass(frozen=True)
class Figure:
    """One number of the first screen."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Headline:
    """What a person reads first."""

    mark: Mark
    text: str
    lead: str
    """The reason, in the Decision's own words."""
    notes: tuple[str, ...]
    command: str
    """What to type next."""
    command_why: str
    figures: tuple[Figure, ...]
