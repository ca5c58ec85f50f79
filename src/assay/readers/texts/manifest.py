"""An MCP manifest, as `tools/list` answers it, and the description of one of its tools as a text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.artifact_text import TextArtifact, TextKind
from assay.core.base import Noun
from assay.core.errors import UnreadableInput
from assay.readers.checkpoint.files import parse_json
from assay.readers.texts.source import BOM, decoded, read_source, record
from assay.readers.training.lines import plain_object

_SPACE = " \t\r\n"
_DECODER = json.JSONDecoder()
SHAPES = '{"tools": [...]}, {"result": {"tools": [...]}} or a list of tools'


class Manifest(Noun):
    """The tools that an agent is offered."""

    path: str
    digest: str
    tools: tuple[Mapping[str, Any], ...]
    """Entries as they stand there, with keys that no protocol version knows."""
    neighbours: Mapping[str, tuple[str, ...]] = {}
    """Tool → tools that are easily confused with it, where the manifest says so."""


class _Member(NamedTuple):
    """A value inside a JSON text."""

    key: str | int
    start: int
    end: int


def read_manifest(path: Path) -> Manifest:
    """All tools of a manifest.

    Raises:
        UnreadableInput: if it is no JSON, or holds no list of tools.
    """
    data = read_source(path)
    _, document = _document(data, path)
    return _manifest(document, record(path.name, data).digest, path)


def read_tool(path: Path, name: str) -> TextArtifact:
    """The description of one tool.

    Raises:
        UnreadableInput: if the file is no manifest, or does not hold that tool once and with a description.
    """
    data = read_source(path)
    text, document = _document(data, path)
    manifest = _manifest(document, record(path.name, data).digest, path)
    names = tuple(str(t.get("name")) for t in manifest.tools)
    if names.count(name) != 1:
        raise UnreadableInput(
            f"{names.count(name)} tools are named {name!r}", where=str(path), allowed=", ".join(names[:20])
        )
    index = names.index(name)
    entry = manifest.tools[index]
    if not isinstance(entry.get("description"), str):
        raise UnreadableInput(
            f"the tool {name!r} has no description",
            where=str(path),
            next="give it one, so that it can be evolved",
        )
    place = _place(text, (*_way(document), index, "description"))
    skip = len(BOM) if data.startswith(BOM) else 0
    file = record(path.name, data)
    return TextArtifact(
        kind=TextKind.TOOL,
        name=name,
        path=str(path),
        text=json.loads(text[place.start : place.end]),
        start=skip + len(text[: place.start + 1].encode()),
        end=skip + len(text[: place.end - 1].encode()),
        ascii_only=text.isascii(),
        file_digest=file.digest,
        digest=file.digest,
        files=(file,),
        fields=plain_object(entry),
        tools=names,
    )


def _document(data: bytes, path: Path) -> tuple[str, Any]:
    start = len(BOM) if data.startswith(BOM) else 0
    text = decoded(data[start:], str(path))
    return text, parse_json(data[start:], path)


def _manifest(document: Any, digest: str, path: Path) -> Manifest:
    tools = document
    for step in _way(document):
        tools = tools.get(step) if isinstance(tools, dict) else None
    if not isinstance(tools, list) or not all(isinstance(t, dict) for t in tools):
        raise UnreadableInput("no list of tools", where=str(path), allowed=SHAPES)
    meta = document.get("_evolution_metadata") if isinstance(document, dict) else None
    near = meta.get("confusable_neighbors") if isinstance(meta, dict) else None
    pairs = near.items() if isinstance(near, dict) else ()
    return Manifest(
        path=str(path),
        digest=digest,
        tools=tuple(plain_object(t) for t in tools),
        neighbours={k: tuple(str(x) for x in v) for k, v in pairs if isinstance(v, list)},
    )


def _way(document: Any) -> tuple[str, ...]:
    """Keys that lead to the list of tools."""
    if isinstance(document, dict):
        return ("tools",) if "tools" in document or "result" not in document else ("result", "tools")
    return ()


def _place(text: str, way: tuple[str | int, ...]) -> _Member:
    """Where a value stands; the text is known to be JSON that holds it."""
    start = _after_space(text, 0)
    found = _Member("", start, len(text))
    for step in way:
        found = next(m for m in _members(text, found.start) if m.key == step)
    return found


def _members(text: str, start: int) -> Iterator[_Member]:
    """Keys or places of an object or list, each with the start and end of its value."""
    is_object, at, count = text[start] == "{", _after_space(text, start + 1), 0
    while text[at] not in "}]":
        key: str | int = count
        if is_object:
            key, at = _DECODER.raw_decode(text, at)
            at = _after_space(text, _after_space(text, at) + 1)
        _, end = _DECODER.raw_decode(text, at)
        yield _Member(key, at, end)
        at, count = _after_space(text, end), count + 1
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
