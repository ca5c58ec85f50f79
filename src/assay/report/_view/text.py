"""Numbers, times and foreign strings as a person reads them. Everything here is total: it never raises."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from assay.core.canon import short

MINUS = "\u2212"
_ANSI = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    "|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?"  # OSC: titles, hyperlinks
    "|\x1b[@-Z\\\\-_]"
)
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
_KEPT = frozenset("\n\t")


def plain(text: str) -> str:
    """Foreign text that can neither move the cursor, reorder the line, nor break the encoding of the page."""
    if text.isascii() and text.isprintable():
        return text
    text = _ANSI.sub("", text).replace("\r\n", "\n")
    return "".join(_shown(c) for c in text)


def _shown(character: str) -> str:
    if character in _KEPT:
        return character
    if character in _BIDI:
        return f"[U+{ord(character):04X}]"
    category = unicodedata.category(character)
    if category == "Cc":
        code = ord(character)
        return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
    return "\ufffd" if category == "Cs" else character


def one_line(value: Any, limit: int = 300) -> str:
    """Any value on one line of at most `limit` characters."""
    try:
        text = plain(str(value)[: 4 * limit])
    except ValueError:  # an integer of too many digits
        return f"a {type(value).__name__} too large to show"
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass(frozen=True)
class Digest:
    """A digest for people and for machines."""

    short: str
    full: str


def digest_of(value: str) -> Digest:
    """The digest with its first twelve digits beside it."""
    return Digest(short(value), value)


def signed(value: float, digits: int = 2) -> str:
    """A number with a real minus sign and no negative zero."""
    text = f"{value:,.{digits}f}"
    if text.startswith("-"):
        return text[1:] if not text.strip("-0.,") else MINUS + text[1:]
    return text


def points(share: float, digits: int = 2) -> str:
    """A share of the range in points of 100."""
    return signed(100.0 * share, digits)


def bound_above(share: float) -> str:
    """An upper bound in points, rounded up: it may not be told smaller than it is."""
    return signed(math.ceil(share * 10_000 - 1e-9) / 100)


def bound_below(share: float) -> str:
    """A lower bound in points, rounded down."""
    return signed(math.floor(share * 10_000 + 1e-9) / 100)


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage."""
    return f"{signed(100.0 * share, digits)} %"


def number(value: float) -> str:
    """A count with thousands separated, a fraction with four digits."""
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 2**53:
        return signed(value, 0)
    return f"{value:.4g}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds, or minutes and hours where they say more."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.1 else f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, length, smaller, part in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= length:
            return f"{whole // length} {unit} {whole % length // part} {smaller}"
    return f"{whole} s"


def instant(at: str) -> datetime | None:
    """A recorded time; None if it is none."""
    try:
        found = datetime.fromisoformat(at)
    except (ValueError, TypeError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def moment(at: str) -> str:
    """A recorded time for people, in UTC."""
    found = instant(at)
    return f"{found.day} {found:%B %Y, %H:%M} UTC" if found else one_line(at, 40)


def day(at: str) -> str:
    """The date of a recorded time, in UTC."""
    found = instant(at)
    return f"{found.day} {found:%B %Y}" if found else one_line(at, 40)


def plural(count: int, noun: str, many: str = "") -> str:
    """`1 task`, `6 tasks`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def measured(value: float | str | None, unit: str) -> str:
    """A reason's number in the unit that people think in."""
    if value is None:
        return ""
    if isinstance(value, str):
        return short(value) if value.startswith("sha256:") else one_line(value, 120)
    if unit == "goodness":
        return f"{bound_above(value)} points"
    if unit == "bytes":
        return f"{number(value)} bytes"
    return f"{number(value)} {one_line(unit, 40)}".strip()
