"""Rules of a skill: frontmatter by dialect, links, size. Source: the Agent Skills format and its validators."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from assay.core.artifact_text import Severity, TextArtifact
from assay.gates._text.policy import Dialect, Findings, TextPolicy

BLOCK, WARN, INFO = Severity.BLOCK, Severity.WARN, Severity.INFO
KEYS = frozenset({"name", "description", "license", "compatibility", "metadata", "allowed-tools"})
CLAUDE_CODE_KEYS = frozenset(
    {"disable-model-invocation", "user-invocable", "context", "argument-hint", "model", "agent", "hooks"}
)
ADVISED_LINES = 500
ADVISED_TOKENS = 5_000
CHARS_PER_TOKEN = 4
"""Of English text, roughly; only for advice."""
COPILOT_MENU_CHARS = 15_000
_CODE = re.compile(r"(?ms)^(?P<mark>`{3,}|~{3,}).*?(?:^(?P=mark)[`~]*[ \t]*\r?$|\Z)|`[^`\n]+`")
_LINK = re.compile(r"\]\(\s{0,9}<?([^()\[\]\s<>]{1,1000})>?(?:\s{1,9}[\"'][^)\n]{0,500}[\"'])?\s{0,9}\)")
"""Bounded everywhere: a text of nothing but brackets must not take minutes."""
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|#|/{2}")


def check_frontmatter(artifact: TextArtifact, policy: TextPolicy) -> Findings:
    """Everything about the frontmatter and the folder's name."""
    out = Findings(policy.severities, artifact.file)
    for problem in artifact.problems:
        out.add(problem.rule, problem.severity, problem.text, line=problem.line)
    if artifact.problems:
        return out
    dialects = set(policy.dialects)
    _name(artifact, dialects, out)
    _description(artifact.fields.get("description"), dialects, out)
    _other(artifact.fields, dialects, out)
    return out


def check_links(text: str, artifact: TextArtifact, out: Findings) -> None:
    """Relative links of the text lead to files of the folder, one level deep."""
    names = {f.path for f in artifact.files}
    folders = {posixpath.dirname(n) for n in names} - {""}
    for target in dict.fromkeys(links(text)):
        path = posixpath.normpath(target.partition("#")[0].partition("?")[0])
        if path.startswith(("../", "/")) or path == "..":
            out.add("link-outside", BLOCK, f"the link {target!r} leads out of the skill's folder")
        elif path not in names and path not in folders and path != ".":
            out.add("link-missing", BLOCK, f"the link {target!r} leads to no file of the skill")
        elif path.count("/") > 1:
            out.add("link-depth", WARN, f"the link {target!r} is more than one level deep")


def links(text: str) -> list[str]:
    """Relative targets of Markdown links, code left out."""
    found = (m[1] for m in _LINK.finditer(_CODE.sub("", text)))
    return [t for t in found if not _SCHEME.match(t)]


def check_body_size(text: str, out: Findings) -> None:
    """Advice on the length of a body."""
    lines = text.count("\n") + 1
    if lines >= ADVISED_LINES:
        out.add("body-lines", WARN, "a long body", measured=lines, limit=ADVISED_LINES)
    tokens = len(text) // CHARS_PER_TOKEN
    if tokens >= ADVISED_TOKENS:
        out.add(
            "body-tokens", WARN, "a body of many tokens (estimated)", measured=tokens, limit=ADVISED_TOKENS
        )


def _name(artifact: TextArtifact, dialects: set[Dialect], out: Findings) -> None:
    value = artifact.fields.get("name")
    if not isinstance(value, str) or not value.strip():
        out.add("name", BLOCK, "`name` is missing, empty or no text")
        return
    name = unicodedata.normalize("NFKC", value.strip())
    limit = 100 if dialects == {Dialect.CODEX} else 64
    if len(name) > limit:
        out.add("name-length", BLOCK, "`name` is too long", measured=len(name), limit=limit)
    if name != name.lower() or not all(c.isalnum() or c == "-" for c in name):
        out.add(
            "name-characters", BLOCK, f"`name` {name[:80]!r} holds more than lowercase letters, digits and -"
        )
    if name.startswith("-") or name.endswith("-") or "--" in name:
        out.add("name-hyphens", BLOCK, f"`name` {name[:80]!r} begins or ends with - or holds --")
    if name != unicodedata.normalize("NFKC", artifact.name):
        out.add("name-folder", BLOCK, f"`name` is {name[:80]!r}, the folder {artifact.name[:80]!r}")
    if dialects & {Dialect.ANTHROPIC, Dialect.CLAUDE_CODE}:
        for word in ("anthropic", "claude"):
            if word in name:
                out.add("name-reserved", BLOCK, f"`name` holds the reserved word {word!r}")
        if not name.isascii():
            out.add("name-ascii", BLOCK, "`name` holds letters that are not ASCII")


def _description(value: Any, dialects: set[Dialect], out: Findings) -> None:
    if not isinstance(value, str) or not value.strip():
        out.add("description", BLOCK, "`description` is missing, empty or no text")
        return
    if len(value) > 1024:
        out.add("description-length", BLOCK, "`description` is too long", measured=len(value), limit=1024)
    if dialects & {Dialect.ANTHROPIC, Dialect.CLAUDE_CODE} and ("<" in value or ">" in value):
        out.add("description-brackets", BLOCK, "`description` holds < or >")
    if Dialect.CODEX in dialects:
        if len(value) > 500:
            out.add("description-codex", BLOCK, "`description` is too long", measured=len(value), limit=500)
        if "\n" in value.strip():
            out.add("description-lines", BLOCK, "`description` has more than one line")
    if Dialect.COPILOT in dialects and len(value) > COPILOT_MENU_CHARS // 20:
        out.add(
            "description-menu",
            WARN,
            "`description` takes more than a twentieth of the menu that all skills share",
            measured=len(value),
            limit=COPILOT_MENU_CHARS // 20,
        )


def _other(fields: Mapping[str, Any], dialects: set[Dialect], out: Findings) -> None:
    known = KEYS | (CLAUDE_CODE_KEYS if Dialect.CLAUDE_CODE in dialects else frozenset())
    for key in sorted(set(fields) - known):
        hint = " (known to the dialect claude-code)" if key in CLAUDE_CODE_KEYS else ""
        out.add("unknown-key", BLOCK, f"the frontmatter holds the unknown key {key[:80]!r}{hint}")
    text = fields.get("compatibility")
    if "compatibility" in fields and not (isinstance(text, str) and 1 <= len(text) <= 500):
        out.add("compatibility", BLOCK, "`compatibility` must be a text of 1 to 500 characters")
    if "license" in fields and not isinstance(fields["license"], str):
        out.add("license", BLOCK, "`license` must be a text")
    meta = fields.get("metadata")
    if "metadata" in fields and not isinstance(meta, Mapping):
        out.add("metadata", BLOCK, "`metadata` must map texts to texts")
    elif isinstance(meta, Mapping) and (odd := [k for k, v in meta.items() if not isinstance(v, str)]):
        out.add("metadata-values", WARN, f"`metadata.{odd[0]}` is no text: put it in quotes")
    tools = fields.get("allowed-tools")
    if isinstance(tools, list):
        out.add("allowed-tools-list", WARN, "`allowed-tools` is a list; the format has a text with spaces")
    elif "allowed-tools" in fields and not isinstance(tools, str):
        out.add("allowed-tools", BLOCK, "`allowed-tools` must be a text of names with spaces between")
