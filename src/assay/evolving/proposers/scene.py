"""What a proposer may know, what it answers, and where in a text something may be put."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from assay.evolving.archive import Entry
from assay.evolving.proposers.spec import PoolLine
from assay.evolving.sections import Section, frozen, in_code, sections


@dataclass(frozen=True)
class Scene:
    """What a proposer may know: nothing of the tasks that select or confirm."""

    parent: Entry
    mates: Sequence[Entry] = ()
    """Other texts that were kept."""
    pool: tuple[PoolLine, ...] = ()
    anchors: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """Of the parent."""
        return self.parent.text.split("\n")

    @property
    def feedback(self) -> dict[str, str]:
        """What verifiers printed about the parent's failed train tasks, in the order of the tasks."""
        last = self.parent.last
        return {t: last[t].feedback for t in sorted(last) if (last[t].score or 0.0) < 1 and last[t].feedback}


@dataclass(frozen=True)
class Proposal:
    """A text that may be worth a try."""

    text: str
    reason: str = ""
    parents: tuple[int, ...] = field(default=())
    """Beside the parent."""
    tasks: tuple[str, ...] = ()
    """Train tasks that it was made for."""


def place(scene: Scene, under: str) -> Section | None:
    """The section of that heading; the whole text where none is named."""
    if not under:
        return Section(title="", first=0, lines=tuple(scene.lines))
    return next((s for s in sections(scene.parent.text, "headings") if s.title == under), None)


def gaps_of(scene: Scene, section: Section) -> list[int]:
    """Places between lines of a section where a line may be put: not into code, nor into what must stay."""
    held, code = frozen(scene.parent.text, scene.anchors), in_code(scene.lines)
    first = section.first + (1 if section.title and section.lines[0].lstrip().startswith("#") else 0)
    last = section.first + len(section.lines)
    while last > first and not scene.lines[last - 1].strip():
        last -= 1
    shut = [i for i in range(len(scene.lines)) if i in held or code[i]]
    return [g for g in range(first, last + 1) if not (g in shut and g - 1 in shut)]


def inserted(lines: list[str], at: int, new: str) -> str:
    """The text with a line more; an empty text becomes that line."""
    return "\n".join([*lines[:at], new, *lines[at:]]) if any(lines) else new


def touches(section: Section, held: frozenset[int]) -> bool:
    """Whether a section holds a line that must stay."""
    return any(i in held for i in range(section.first, section.first + len(section.lines)))


def short(text: str) -> str:
    """A piece of text in a reason: one line, quoted, cut."""
    one = " ".join(text.split())
    return repr(one if len(one) <= 60 else f"{one[:57]}...")
