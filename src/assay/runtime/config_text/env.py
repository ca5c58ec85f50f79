"""Environment files: `KEY=value` lines, as systemd, Docker and dotenv read them. All values are text."""

from __future__ import annotations

import re

from assay.runtime.config_text.scalars import NotSo, Scalar, line_end, literal

_LINE = re.compile(
    r"(?P<head>[ \t]*(?:export[ \t]+)?(?P<key>[A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*)(?P<rest>.*)"
)
_WRITTEN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "`": "`"}


def as_text(value: bool | float | str) -> str:
    """A value as it stands in the environment."""
    return value if isinstance(value, str) else literal(value)


def read(text: str) -> dict[str, str]:
    """Key → value; lines that are no assignment must be blank or comments.

    Raises:
        NotSo: for any other line, a key that stands twice, or a value over several lines.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(_lines(text), 1):
        bare = line.rstrip("\r\n")
        if not bare.strip() or bare.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(bare)
        if match is None:
            raise NotSo(f"line {number} is no KEY=value")
        if match["key"] in found:
            raise NotSo(f"line {number} sets {match['key']} a second time")
        found[match["key"]] = _value(match["rest"], number)[0]
    return found


def put(text: str, key: tuple[str, ...], value: Scalar) -> str:
    """The text with one variable set or, for None, its line removed.

    Raises:
        NotSo: if the name is none of a variable, or the value cannot stand on one line.
    """
    if len(key) != 1 or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", key[0]):
        raise NotSo("no name of a variable")
    lines = _lines(text)
    for place, line in enumerate(lines):
        body = line.rstrip("\r\n")
        match = _LINE.fullmatch(body)
        if match is None or match["key"] != key[0]:
            continue
        if value is None:
            return "".join([*lines[:place], *lines[place + 1 :]])
        tail = match["rest"][_value(match["rest"], place + 1)[1] :]
        lines[place] = match["head"] + _written(as_text(value)) + tail + line[len(body) :]
        return "".join(lines)
    if value is None:
        return text
    end = line_end(text)
    gap = "" if not text or text.endswith("\n") else end
    return f"{text}{gap}{key[0]}={_written(as_text(value))}{end}"


def _lines(text: str) -> list[str]:
    """Lines with their ends; only line feeds end one, as other separators may stand in values."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _value(rest: str, number: int) -> tuple[str, int]:
    """The value of an assignment, and how many characters of it are the value."""
    if rest.startswith("'"):
        end = rest.find("'", 1)
        return rest[1:end], _closed(rest, end, number)
    if rest.startswith('"'):
        value, at = [], 1
        while at < len(rest) and rest[at] != '"':
            if rest[at] == "\\" and at + 1 < len(rest):
                at += 1
                value.append(_ESCAPES.get(rest[at], "\\" + rest[at]))
            else:
                value.append(rest[at])
            at += 1
        return "".join(value), _closed(rest, at if at < len(rest) else -1, number)
    comment = re.search(r"(?:^|[ \t])#", rest)
    body = (rest[: comment.start()] if comment else rest).rstrip()
    return body, len(body)


def _closed(rest: str, end: int, number: int) -> int:
    if end < 0 or not re.fullmatch(r"[ \t]*(?:#.*)?", rest[end + 1 :]):
        raise NotSo(f"the quoted value of line {number} does not end there")
    return end + 1


def _written(value: str) -> str:
    if _WRITTEN.fullmatch(value):
        return value
    if "'" in value or any(ord(c) < 0x20 or 0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise NotSo("a value that cannot be quoted on one line")
    return f"'{value}'"
