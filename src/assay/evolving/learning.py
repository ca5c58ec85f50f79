"""Learning rules from failures, without a language model: patterns that examples share, and tokens that must change."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

_TOKEN = re.compile(r"\d+|[a-z]+|[A-Z]+|[^\W\d_]+|\s+|.", re.DOTALL)
_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_LIMIT_CHARS = 400
"""Longer examples are left out: no rule that is worth reading comes from them."""


class Token(NamedTuple):
    """A piece of an example."""

    kind: str
    """A character class, or the character itself."""
    text: str


def tokens(text: str) -> tuple[Token, ...]:
    """Digits, lower-case and upper-case letters, other letters, space, and single other characters."""
    return tuple(Token(_kind(piece), piece) for piece in _TOKEN.findall(text))


def least_general(positives: Sequence[str]) -> tuple[str, ...]:
    """Regular expressions that match all positives whole, from the least general one on.

    Positives must have the same shape, that is kinds of tokens in the same order; else only none is returned.

    Args:
        positives: examples, at least one.
    """
    rows = [tokens(p) for p in dict.fromkeys(positives)]
    if not rows or not rows[0] or len({tuple(t.kind for t in row) for row in rows}) != 1:
        return ()
    columns = list(zip(*rows, strict=True))
    ladder = ("".join(_piece(column, level) for column in columns) for level in range(3))
    return tuple(dict.fromkeys(ladder))


def shapes(examples: Sequence[str]) -> list[list[str]]:
    """Examples grouped by shape, the largest group first."""
    fit = [e for e in dict.fromkeys(examples) if 0 < len(e) <= _LIMIT_CHARS]

    def shape(example: str) -> str:
        return "\0".join(t.kind for t in tokens(example))

    groups = [list(g) for _, g in groupby(sorted(fit, key=lambda e: (shape(e), e)), key=shape)]
    return sorted(groups, key=lambda g: (-len(g), g[0]))


def learned_patterns(
    positives: Sequence[str], negatives: Sequence[str], support: int = 2
) -> list[tuple[str, int]]:
    """Patterns with how many positives each one matches; none matches a negative.

    Args:
        positives: what must match, whole.
        negatives: what must not match, anywhere in it.
        support: fewest positives behind a pattern: one example is copied, not learned from.
    """
    found: dict[str, int] = {}
    for group in shapes(positives):
        for pattern in least_general(group):
            made = re.compile(pattern)
            if any(made.search(n) for n in negatives):
                break  # what is more general matches it too
            matched = sum(bool(made.fullmatch(p)) for p in dict.fromkeys(positives))
            if matched >= support:
                found[pattern] = matched
    return sorted(found.items(), key=lambda item: (-item[1], len(item[0]), item[0]))


def token_changes(before: str, after: str) -> Iterator[tuple[str, str]]:
    """The smallest pieces that differ, each as it was and as it should be; then with one token of context."""
    old, new = _WORD.findall(before[:_LIMIT_CHARS]), _WORD.findall(after[:_LIMIT_CHARS])
    codes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for context in (0, 1):
        for op, i, j, k, m in codes:
            if op == "equal":
                continue
            head, tail = min(context, i, k), min(context, len(old) - j, len(new) - m)
            pair = "".join(old[i - head : j + tail]), "".join(new[k - head : m + tail])
            if pair[0].strip():
                yield pair


def _kind(piece: str) -> str:
    if piece.isascii() and piece.isdigit():
        return "0"
    if piece.isascii() and piece.isalpha():
        return "a" if piece.islower() else "A"
    if piece.isspace():
        return " "
    if piece.isalpha():
        return "w"
    return piece


_CLASSES = {"0": "[0-9]", "a": "[a-z]", "A": "[A-Z]", " ": r"\s", "w": r"[^\W\d_]"}
_WIDER = {"0": "[0-9]", "a": "[A-Za-z]", "A": "[A-Za-z]", " ": r"\s", "w": r"[^\W\d_]"}


def _piece(column: Sequence[Token], level: int) -> str:
    """One token: 0 = as it is where all agree, lengths as seen; 1 = any length; 2 = letters of any case, no literals."""
    kind = column[0].kind
    texts = {t.text for t in column}
    if kind not in _CLASSES or (level < 2 and len(texts) == 1):
        return re.escape(column[0].text)
    if level == 2 and kind == "w" and len(texts) == 1:
        return re.escape(column[0].text)
    letters = _CLASSES[kind] if level < 2 else _WIDER[kind]
    low, high = (f(map(len, texts)) for f in (min, max))
    if level > 0:
        return f"{letters}+"
    return letters + (f"{{{low}}}" if low == high else f"{{{low},{high}}}") if high > 1 else letters
