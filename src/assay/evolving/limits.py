"""Limits: what a proposed text is held to before a run is paid for. The gate `text` judges the candidate in full."""

from __future__ import annotations

import re
import unicodedata

from pydantic import Field

from assay.core.base import Noun
from assay.evolving.sections import in_code

_REGION = re.compile(
    r"(?ms)^[^\n]{0,12}?protect:(?P<name>[\w.-]+)[ \t]+start\b.*?^[^\n]{0,12}?protect:(?P=name)[ \t]+end\b[^\n]*"
)


class Limits(Noun):
    """What no proposal may break."""

    max_chars: int | None = Field(default=None, gt=0)
    """Longest text; a baseline that is longer may keep its length. None = no limit."""
    max_growth_frac: float | None = Field(default=None, ge=0)
    """Growth over the baseline, as a share of its length; None = no limit."""
    anchors: tuple[str, ...] = ()
    """Pieces of the baseline that must stay as they are."""

    def room(self, baseline: str) -> int | None:
        """The most characters that a text may have; None without a limit."""
        found = []
        if self.max_chars is not None:
            found.append(max(self.max_chars, len(baseline)))
        if self.max_growth_frac is not None:
            found.append(max(1, int(len(baseline) * (1 + self.max_growth_frac))))
        return min(found, default=None)

    def why_refused(self, baseline: str, text: str) -> str:
        """Why a text is not worth a run; empty for one that is."""
        if not text.strip():
            return "it is empty"
        room = self.room(baseline)
        if room is not None and len(text) > room:
            return f"it has {len(text):,} characters; {room:,} are allowed"
        if odd := _odd_character(text):
            return f"it holds {odd}"
        lines = text.split("\n")
        if in_code([*lines, ""])[-1] and not in_code([*baseline.split("\n"), ""])[-1]:
            return "a code block is never closed"
        for anchor in self.anchors:
            if text.count(anchor) < baseline.count(anchor):
                return f"the anchor {anchor[:60]!r} is gone or changed"
        kept = {m["name"]: m[0] for m in _REGION.finditer(text)}
        for region in _REGION.finditer(baseline):
            if kept.get(region["name"]) != region[0]:
                return f"the protected region {region['name']!r} is gone or changed"
        return ""


def _odd_character(text: str) -> str:
    for character in text:
        category = unicodedata.category(character)
        if category in {"Cs", "Zl", "Zp"} or (category == "Cc" and character not in "\n\r\t"):
            return f"the character U+{ord(character):04X}"
    return ""
