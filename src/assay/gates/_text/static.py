"""Checks of a candidate text that cost nothing: before a single run is paid for."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from assay.core.artifact_text import Severity, TextArtifact, TextKind, growth
from assay.gates._text.policy import Findings, TextPolicy
from assay.gates._text.skill import check_body_size, check_links

BLOCK, WARN, INFO = Severity.BLOCK, Severity.WARN, Severity.INFO
_FENCE = re.compile(r"[ ]{0,3}(`{3,}|~{3,})(.*)")
_MARKER = re.compile(r"(?m)^.{0,12}?(?P<word>evolve|protect):(?P<name>[\w.-]+)[ \t]+(?P<end>start|end)\b.*$")
_SEED_STRUCTURE_CHARS = 500


def hidden_characters(text: str) -> str:
    """Names the first control, bidirectional or invisible character; empty if there is none.

    Line ends and tabs are allowed, and so is what joins emoji and scripts: ZWJ, ZWNJ, variation selectors.
    """
    for character in text:
        category = unicodedata.category(character)
        joins = character in "\u200c\u200d"
        if (category == "Cc" and character not in "\n\r\t") or (category == "Cf" and not joins):
            return f"U+{ord(character):04X} ({unicodedata.name(character, 'a control character').lower()})"
        if category in {"Zl", "Zp"}:
            return f"U+{ord(character):04X} (a line end that few programs see)"
    return ""


def open_fence(text: str) -> int | None:
    """The line, from 1, of a code fence that is never closed."""
    mark, opened = "", None
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.fullmatch(line)
        if match is None:
            continue
        if not mark:
            if not (match[1][0] == "`" and "`" in match[2]):
                mark, opened = match[1], number
        elif match[1][0] == mark[0] and len(match[1]) >= len(mark) and not match[2].strip():
            mark, opened = "", None
    return opened


def protected_regions(text: str) -> dict[str, str] | None:
    """Name → content of the regions between `protect:NAME start` and `protect:NAME end`; None if they do not match."""
    found: dict[str, str] = {}
    begun: re.Match[str] | None = None
    for mark in _MARKER.finditer(text):
        if mark["word"] != "protect":
            continue
        if mark["end"] == "start":
            if begun is not None or mark["name"] in found:
                return None
            begun = mark
        elif begun is None or begun["name"] != mark["name"]:
            return None
        else:
            found[mark["name"]] = text[begun.start() : mark.end()]
            begun = None
    return None if begun is not None else found


def check_static(artifact: TextArtifact, text: str, policy: TextPolicy) -> Findings:
    """Rules that a text meets or breaks by itself."""
    out = Findings(policy.severities, artifact.file or artifact.name)
    if not text.strip():
        out.add("non-empty", BLOCK, "the text is empty")
        return out
    # a skill's limit is on the file, as the source system has it: frontmatter counts
    length = len(text) + (len(artifact.front) if artifact.kind is TextKind.SKILL else 0)
    limit = policy.size_limit(artifact.kind)
    if limit is not None and length > limit:
        out.add("size-limit", BLOCK, "the text is too long, in characters", measured=length, limit=limit)
    if found := hidden_characters(text):
        out.add("hidden-characters", BLOCK, f"the text holds {found}")
    if any("\ud800" <= c <= "\udfff" for c in text):
        out.add("surrogate", BLOCK, "the text holds half a surrogate pair, which no file can hold")
    if artifact.kind is TextKind.SKILL:
        _skill(artifact, text, out)
    elif artifact.kind is TextKind.TOOL and text[0].isspace():
        out.add("leading-whitespace", BLOCK, "the description begins with whitespace")
    elif artifact.kind is TextKind.REGION and _marks(text, "evolve")[artifact.name]:
        out.add("marker-inside", BLOCK, "the text holds a marker of its own region")
    return out


def check_change(artifact: TextArtifact, text: str, policy: TextPolicy, out: Findings) -> None:
    """Rules about the way from the baseline to the candidate."""
    before = artifact.text
    budget, ceiling = policy.growth_budget(before), policy.ceiling_for(before)
    if budget is not None and len(text) > budget:
        share = f"the text grew by {growth(before, text):.0%}, more than its budget, in characters"
        out.add("growth-budget", BLOCK, share, measured=len(text), limit=budget)
    if ceiling is not None and len(text) > ceiling:
        out.add(
            "ceiling",
            BLOCK,
            "the text is above the ceiling, in characters",
            measured=len(text),
            limit=ceiling,
        )
    for anchor in policy.anchors:
        if anchor not in before:
            out.add("anchor-unknown", WARN, f"the baseline does not hold the anchor {anchor[:60]!r}")
        elif text.count(anchor) < before.count(anchor):
            out.add("anchor-lost", BLOCK, f"the anchor {anchor[:60]!r} is gone or changed")
    _protected(before, text, out)
    if artifact.kind is TextKind.REGION:
        lost = _marks(before, "evolve") - _marks(text, "evolve")
        for name in sorted(lost):
            out.add("marker-lost", BLOCK, f"a marker of the region {name!r} is gone")
    if text == before:
        out.add("unchanged", INFO, "the candidate is the baseline")


def _protected(before: str, text: str, out: Findings) -> None:
    old, new = protected_regions(before), protected_regions(text)
    if old is None:
        out.add("protected-markers", WARN, "the baseline's markers of protected regions do not match")
        return
    if old and new is None:
        out.add("protected-markers", BLOCK, "the markers of protected regions do not match")
        return
    for name, content in old.items():
        if name not in (new or {}):
            out.add("protected-lost", BLOCK, f"the protected region {name!r} is gone")
        elif (new or {})[name].replace("\r\n", "\n") != content.replace("\r\n", "\n"):
            out.add("protected-changed", BLOCK, f"the protected region {name!r} has changed")


def _skill(artifact: TextArtifact, text: str, out: Findings) -> None:
    if re.match(r"\s*---[ \t]*\r?(?:\n|\Z)", text):
        out.add("front-injected", BLOCK, "the body begins with ---: it would be read as frontmatter")
    if line := open_fence(text):
        out.add("open-fence", BLOCK, f"the code fence in line {line} of the text is never closed")
    if text != text.strip(" \t\r\n") and text[:1] in "\r\n":
        out.add("blank-start", INFO, "the body begins with blank lines")
    check_links(text, artifact, out)
    check_body_size(text, out)
    head = artifact.front[: _SEED_STRUCTURE_CHARS - 4]
    if artifact.front and not ("name:" in head and "description:" in head):
        out.add("structure", WARN, "`name:` and `description:` do not stand within the first 500 characters")


def _marks(text: str, word: str) -> Counter[str]:
    return Counter(m["name"] for m in _MARKER.finditer(text) if m["word"] == word)
