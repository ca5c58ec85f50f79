"""Sections of a text: parts that can be left out, merged or measured one by one. Together they are the text again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

from assay.core.base import Noun

By: TypeAlias = Literal["headings", "paragraphs", "lines"]

_HEADING = re.compile(r"#{1,6}[ \t]+(?P<title>.*?)[ \t#]*$")
_FENCE = re.compile(r"[ ]{0,3}(`{3,}|~{3,})")
_MARKER = re.compile(r"^.{0,12}?protect:(?P<name>[\w.-]+)[ \t]+(?P<end>start|end)\b")


class Section(Noun):
    """Some whole lines of a text."""

    title: str
    """Its heading, or its first words."""
    first: int
    """First line, from 0."""
    lines: tuple[str, ...]
    """Without their ends."""

    @property
    def text(self) -> str:
        """The lines as they stand there."""
        return "\n".join(self.lines)

    @property
    def blank(self) -> bool:
        """Whether it holds nothing but space."""
        return not self.text.strip()


def sections(text: str, by: By | None = None) -> tuple[Section, ...]:
    """The sections of a text, in order; joined by line ends they are the text.

    Args:
        text: any text.
        by: `headings` of Markdown (what stands before the first is a section too), `paragraphs` that blank lines divide
            (a code block is never divided), or `lines`. By default the first of these that gives at least two sections
            that are not blank.
    """
    if by is None:
        return sections(text, coarsest(text))
    lines = text.split("\n")
    starts = sorted({0, *_starts(lines, by)})
    ends = [*starts[1:], len(lines)]
    return tuple(
        Section(title=_title(lines[i:j]), first=i, lines=tuple(lines[i:j]))
        for i, j in zip(starts, ends, strict=True)
    )


def coarsest(text: str) -> By:
    """The coarsest way that divides a text at all."""
    return next((b for b in _WAYS if sum(not s.blank for s in sections(text, b)) > 1), "lines")


def joined(parts: Iterable[Section]) -> str:
    """The text that some sections make, in the order given."""
    return "\n".join(line for part in parts for line in part.lines)


def in_code(lines: Iterable[str]) -> list[bool]:
    """Of each line, whether it belongs to a fenced code block, fences included."""
    found, mark = [], ""
    for line in lines:
        match = _FENCE.match(line)
        inside = bool(mark)
        if match and not mark:
            mark, inside = match[1], True
        elif match and match[1][0] == mark[0] and len(match[1]) >= len(mark) and not line.strip(" `~"):
            mark = ""
        found.append(inside)
    return found


def frozen(text: str, anchors: Iterable[str] = ()) -> frozenset[int]:
    """Lines that must stay: between the marks `protect:NAME start` and `end`, those marks, and what holds an anchor."""
    lines = text.split("\n")
    found: set[int] = set()
    inside = False
    for number, line in enumerate(lines):
        match = _MARKER.match(line)
        if match or inside:
            found.add(number)
        if match:
            inside = match["end"] == "start"
    for anchor in anchors:
        at = text.find(anchor) if anchor else -1
        if at >= 0:
            first = text.count("\n", 0, at)
            found |= set(range(first, first + anchor.count("\n") + 1))
    return frozenset(found)


def _starts(lines: list[str], by: By) -> list[int]:
    if by == "lines":
        return list(range(len(lines)))
    code = in_code(lines)
    if by == "headings":
        return [i for i, line in enumerate(lines) if not code[i] and _HEADING.match(line)]
    # a paragraph carries the blank lines behind it
    return [
        i for i in range(1, len(lines)) if lines[i].strip() and not lines[i - 1].strip() and not code[i - 1]
    ]


def _title(lines: list[str]) -> str:
    first = next((line.strip() for line in lines if line.strip()), "")
    match = _HEADING.match(first)
    return (match["title"] if match else first)[:60]


_WAYS: tuple[By, ...] = ("headings", "paragraphs", "lines")
