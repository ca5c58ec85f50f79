"""Two texts side by side line by line, with the words that differ marked inside changed lines."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from assay.report._view.text import plural

CONTEXT_LINES = 3
SHOWN_LINES = 1_500
"""Lines of a diff that a page holds."""
LINE_CHARS = 2_000
"""Longer lines are cut, and not compared word by word."""
COMPARED_LINES = 20_000
"""Longer texts are not compared: nobody reads that on a page."""
SIMILAR = 0.6
"""Lines that share less of the shorter one's words are two lines, not one that was changed."""
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True)
class Piece:
    """A part of a line."""

    text: str
    changed: bool = False


@dataclass(frozen=True)
class DiffLine:
    """A line of the diff."""

    sign: Literal["+", "-", " ", "@"]
    old: str
    """Number in the baseline."""
    new: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Diff:
    """What a candidate changes."""

    lines: tuple[DiffLine, ...]
    summary: str
    more: str
    """What is not shown, and why."""


def diff(before: str, after: str) -> Diff:
    """The changes of a text, line by line; total for any two texts."""
    old, new = before.replace("\r\n", "\n").split("\n"), after.replace("\r\n", "\n").split("\n")
    if max(len(old), len(new)) > COMPARED_LINES:
        return Diff((), _summary(before, after, None), "the texts are too long to be compared here")
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=max(len(old), len(new)) > 2_000)
    made: list[DiffLine] = []
    added = deleted = 0
    for group in matcher.get_grouped_opcodes(CONTEXT_LINES):
        first, last = group[0], group[-1]
        made.append(_head(first[1], last[2], first[3], last[4]))
        for op, i, j, k, m in group:
            if op == "equal":
                made += [_line(" ", i + n + 1, k + n + 1, _cut(old[i + n])) for n in range(j - i)]
                continue
            added, deleted = added + m - k, deleted + j - i
            if len(made) < SHOWN_LINES:
                made += _changed(old[i:j], new[k:m], i + 1, k + 1)
    more = f"and {len(made) - SHOWN_LINES:,} more lines" if len(made) > SHOWN_LINES else ""
    return Diff(tuple(made[:SHOWN_LINES]), _summary(before, after, (added, deleted)), more)


def _summary(before: str, after: str, lines: tuple[int, int] | None) -> str:
    if before == after:
        return "The texts are the same."
    parts = []
    if lines is not None:
        parts.append(
            f"{plural(lines[0], 'line')} added, {lines[1]:,} taken away"
            if any(lines)
            else "Only line ends or blanks differ"
        )
    parts.append(f"{len(before):,} to {len(after):,} characters")
    return "; ".join(parts) + "."


def _changed(old: Sequence[str], new: Sequence[str], at_old: int, at_new: int) -> list[DiffLine]:
    """Lines that were taken away, then those that came; pairs that are alike are compared by words."""
    left: list[tuple[Piece, ...]] = [_cut(line) for line in old]
    right: list[tuple[Piece, ...]] = [_cut(line) for line in new]
    for i, j in _pairs(old, new):
        left[i], right[j] = _words(old[i], new[j])
    return [
        *(_line("-", at_old + n, None, pieces) for n, pieces in enumerate(left)),
        *(_line("+", None, at_new + n, pieces) for n, pieces in enumerate(right)),
    ]


def _pairs(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Lines that are one line before and after, in order; each at most once."""
    if len(old) * len(new) > 400:  # a rewrite: which line became which is a guess
        return []
    found: list[tuple[int, int]] = []
    next_new = 0
    for i, before in enumerate(old):
        scored = [(_alike(before, new[j]), -j) for j in range(next_new, len(new))]
        best = max(scored, default=(0.0, 0))
        if best[0] >= SIMILAR:
            found.append((i, -best[1]))
            next_new = 1 - best[1]
    return found


def _alike(before: str, after: str) -> float:
    """The share of the shorter line's words that the other has in the same order."""
    if max(len(before), len(after)) > LINE_CHARS:
        return 0.0
    old, new = (re.findall(r"\w+", line) or [line] for line in (before, after))
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()) / min(len(old), len(new))


def _words(before: str, after: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    left: list[Piece] = []
    right: list[Piece] = []
    for op, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if i < j:
            left.append(Piece("".join(old[i:j]), op != "equal"))
        if k < m:
            right.append(Piece("".join(new[k:m]), op != "equal"))
    return _joined(left), _joined(right)


def _joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Blanks between two changed words are part of the change: one mark, not one a word."""
    made: list[Piece] = []
    for i, piece in enumerate(pieces):
        between = 0 < i < len(pieces) - 1 and pieces[i - 1].changed and pieces[i + 1].changed
        changed = piece.changed or (between and not piece.text.strip())
        if made and made[-1].changed == changed:
            made[-1] = Piece(made[-1].text + piece.text, changed)
        else:
            made.append(Piece(piece.text, changed))
    return tuple(made)


def _cut(line: str) -> tuple[Piece, ...]:
    if len(line) <= LINE_CHARS:
        return (Piece(line),)
    return (Piece(f"{line[:LINE_CHARS]}… ({len(line):,} characters)"),)


def _head(i: int, j: int, k: int, m: int) -> DiffLine:
    return DiffLine(
        "@", "", "", (Piece(f"lines {i + 1} to {max(i + 1, j)}, now {k + 1} to {max(k + 1, m)}"),)
    )


def _line(
    sign: Literal["+", "-", " "], old: int | None, new: int | None, pieces: tuple[Piece, ...]
) -> DiffLine:
    return DiffLine(sign, str(old or ""), str(new or ""), pieces)
