"""JSON: members are spliced in where they stand, in the file's own indentation."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from assay.runtime.config_text.scalars import NotSo, Scalar, line_end

_BLANK = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class _Member:
    """A key and its value, as places in the text."""

    key: str
    start: int
    colon: int
    """First place after the colon and the blanks behind it."""
    end: int


def read(text: str) -> Any:
    """What the text says; a key that stands twice is an error.

    Raises:
        NotSo: if it is no JSON.
    """
    if not text.strip():
        return None
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotSo(str(error)) from error


def put(text: str, key: tuple[str, ...], value: Scalar) -> str:
    """The text with one key set or, for None, removed.

    Raises:
        NotSo: if a part of the way is no object.
    """
    if not text.strip():
        text = "{}" + line_end(text)
    return _put(text, _skip(text, 0), key, value, 0)


def _put(text: str, at: int, key: tuple[str, ...], value: Scalar, depth: int) -> str:
    if text[at] != "{":
        raise NotSo("a part of the way is no object")
    members, close = _members(text, at)
    found = next((m for m in members if m.key == key[0]), None)
    if found is not None and len(key) > 1:
        return _put(text, found.colon, key[1:], value, depth + 1)
    if found is None:
        return text if value is None else _added(text, at, close, members, key, value, depth)
    if value is not None:
        return text[: found.colon] + _json(value) + text[found.end :]
    return _removed(text, at, close, members, found)


def _added(
    text: str, at: int, close: int, members: list[_Member], key: tuple[str, ...], value: Scalar, depth: int
) -> str:
    unit, line = _indent(text), line_end(text)
    pretty = "\n" in text.strip() or not text.strip("{} \t\r\n")
    if members:
        last = members[-1]
        before = text[_line_of(text, last.start, at) : last.start]
        colon = text[last.start + len(json.dumps(last.key)) : last.colon] if last.key.isascii() else ": "
        colon = colon if re.fullmatch(r"\s*:\s*", colon) else ": "
        inner = before if "\n" in before else ""
        made = json.dumps(key[0], ensure_ascii=False) + colon + _nested(key[1:], value, inner, unit, line)
        return text[: last.end] + "," + (before or (" " if " " in colon else "")) + made + text[last.end :]
    inner = line + unit * (depth + 1) if pretty else ""
    outer = line + unit * depth if pretty else ""
    made = json.dumps(key[0], ensure_ascii=False) + ": " + _nested(key[1:], value, inner, unit, line)
    return text[: at + 1] + inner + made + outer + text[close:]


def _nested(rest: tuple[str, ...], value: Scalar, inner: str, unit: str, line: str) -> str:
    """The value inside of objects for what is left of the way."""
    if not rest:
        return _json(value)
    deeper = inner + unit if inner else ""
    name = json.dumps(rest[0], ensure_ascii=False)
    return "{" + deeper + name + ": " + _nested(rest[1:], value, deeper, unit, line) + inner + "}"


def _removed(text: str, at: int, close: int, members: list[_Member], found: _Member) -> str:
    place = members.index(found)
    if len(members) == 1:
        return text[: at + 1] + text[close:]
    if place == 0:
        return text[: found.start] + text[members[1].start :]
    return text[: members[place - 1].end] + text[found.end :]


def _members(text: str, at: int) -> tuple[list[_Member], int]:
    """The members of the object at a place, and the place of its closing brace. The text is known to be JSON."""
    members: list[_Member] = []
    at = _skip(text, at + 1)
    while text[at] != "}":
        start = at
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        colon = at
        _, at = _DECODER.raw_decode(text, at)
        members.append(_Member(key, start, colon, at))
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return members, at


def _line_of(text: str, start: int, floor: int) -> int:
    """Where the blanks before a place begin."""
    while start > floor + 1 and text[start - 1] in " \t\r\n":
        start -= 1
    return start


def _indent(text: str) -> str:
    found = re.search(r"\{[ \t]*\r?\n([ \t]+)\S", text)
    return found[1] if found else "  "


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _json(value: Scalar) -> str:
    try:
        made = json.dumps(value, ensure_ascii=False, allow_nan=False)
        made.encode()
    except ValueError as error:
        raise NotSo(str(error)) from error
    return made


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [k for k, _ in pairs]
        raise ValueError(f"a key stands twice: {next(n for n in names if names.count(n) > 1)!r}")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
