"""Rules of an MCP manifest: names, schemas and descriptions of its tools."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from assay.core.artifact_text import Severity
from assay.gates._text.policy import Dialect, Findings, TextPolicy
from assay.gates._text.static import hidden_characters

BLOCK, WARN, INFO = Severity.BLOCK, Severity.WARN, Severity.INFO
DESCRIPTION_CHARS = 500
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")


def check_tools(tools: Sequence[Mapping[str, Any]], policy: TextPolicy) -> Findings:
    """All rules over all tools of a manifest."""
    out = Findings(policy.severities)
    if not tools:
        out.add("tools-empty", WARN, "the manifest has no tool")
    seed = Dialect.SEED in policy.dialects
    for index, tool in enumerate(tools):
        name = tool.get("name")
        out.where = name[:100] if isinstance(name, str) else f"tool {index + 1}"
        _name(name, seed, out)
        _description(tool, seed, out)
        _schemas(tool, out)
        _annotations(tool.get("annotations"), out)
    _twice(tools, seed, out)
    return out


def _name(name: Any, seed: bool, out: Findings) -> None:
    if not isinstance(name, str) or not name:
        out.add("tool-name", BLOCK, "`name` is missing, empty or no text")
    elif not _NAME.fullmatch(name):
        out.add("tool-name-characters", WARN, "`name` should have 1 to 128 of A-Z a-z 0-9 _ - .")
    elif seed and "." in name:
        out.add("tool-name-dots", WARN, "`name` holds a dot, which some parsers refuse")


def _description(tool: Mapping[str, Any], seed: bool, out: Findings) -> None:
    text = tool.get("description")
    if text is None:
        rule = "`description` is missing: agents choose tools by it"
        out.add("tool-description", BLOCK if seed else WARN, rule)
    elif not isinstance(text, str):
        out.add("tool-description-type", BLOCK, "`description` is no text")
    else:
        if not text.strip():
            out.add("tool-description-empty", BLOCK if seed else WARN, "`description` is empty")
        if len(text) > DESCRIPTION_CHARS:
            out.add(
                "tool-description-length",
                WARN,
                "a long `description`",
                measured=len(text),
                limit=DESCRIPTION_CHARS,
            )
        if found := hidden_characters(text):
            out.add("hidden-characters", BLOCK, f"`description` holds {found}")


def _schemas(tool: Mapping[str, Any], out: Findings) -> None:
    schema = tool.get("inputSchema")
    if not isinstance(schema, Mapping):
        out.add("input-schema", BLOCK, "`inputSchema` must be a JSON Schema object, not missing or null")
    else:
        if schema.get("type") != "object":
            out.add("input-schema-type", BLOCK, f"`inputSchema.type` is {schema.get('type')!r}, not 'object'")
        elif not schema.get("properties") and schema.get("additionalProperties") is not False:
            out.add(
                "input-schema-open", INFO, "no arguments named: `additionalProperties: false` would say so"
            )
        _required(schema, out)
    other = tool.get("outputSchema")
    if "outputSchema" in tool and not (isinstance(other, Mapping) and other.get("type") == "object"):
        out.add("output-schema", BLOCK, "`outputSchema` must be a JSON Schema of type object")


def _required(schema: Mapping[str, Any], out: Findings) -> None:
    named = schema.get("properties")
    required = schema.get("required", [])
    if not isinstance(required, list) or not isinstance(named or {}, Mapping):
        out.add("input-schema-shape", BLOCK, "`required` must be a list and `properties` an object")
    elif lost := [r for r in required if r not in (named or {})]:
        out.add("required-unknown", WARN, f"`required` names {str(lost[0])[:80]!r}, which is no property")


def _annotations(value: Any, out: Findings) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        out.add("annotations", BLOCK, "`annotations` must be an object")
        return
    for hint in _HINTS:
        if hint in value and not isinstance(value[hint], bool):
            out.add("annotation-type", WARN, f"`annotations.{hint}` is neither true nor false")
    if value.get("readOnlyHint") is True and value.get("destructiveHint") is True:
        out.add("annotation-contradiction", WARN, "read-only and destructive at once")


def _twice(tools: Sequence[Mapping[str, Any]], seed: bool, out: Findings) -> None:
    names = [t["name"] for t in tools if isinstance(t.get("name"), str)]
    for name, count in Counter(names).items():
        if count > 1:
            out.add("tool-name-twice", BLOCK, f"{count} tools have this name", where=name[:100])
    if seed:
        alike = Counter(n.lower().replace("-", "_") for n in set(names))
        for name, count in alike.items():
            if count > 1:
                out.add("tool-name-alike", WARN, f"{count} tools differ only in case or - and _", where=name)
    texts = Counter(t["description"] for t in tools if isinstance(t.get("description"), str))
    for text, count in texts.items():
        if count > 1 and text.strip():
            out.add("tool-description-twice", WARN, f"{count} tools have one description", where=text[:60])
