"""YAML: a value is replaced where it stands; what that cannot do, ruamel's round trip may.

Comments, order, quotes, blank lines and indentation stay. Values are written so that parsers of YAML 1.1 and 1.2
read them alike.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import MutableMapping
from typing import Any

from assay.runtime.config_text.scalars import NotSo, Scalar, line_end, literal, quoted, yaml_plain

_STEP = 2
"""Columns by which a new mapping is indented."""
_WIDE = 1 << 20


def read(text: str) -> Any:
    """What the one document of the text says.

    Raises:
        NotSo: if it is no YAML 1.2, or a key stands twice.
    """
    return _guarded(lambda: _yaml("safe").load(io.StringIO(text)))


def put(text: str, key: tuple[str, ...], value: Scalar) -> str:
    """The text with one key set or, for None, removed; nothing else changes.

    Raises:
        NotSo: if it cannot be done by replacing or adding a line.
    """
    from ruamel.yaml.nodes import MappingNode  # noqa: PLC0415 - only where YAML is changed

    node = _guarded(lambda: _yaml("safe").compose(io.StringIO(text)))
    if node is None or node.value == "":
        return text if value is None else _appended(text, key, value)
    column, rest = 0, key
    while isinstance(node, MappingNode):
        column = node.value[0][0].start_mark.column if node.value else column
        pair = next((p for p in node.value if p[0].value == rest[0]), None)
        if pair is None:
            return text if value is None else _added(text, node, column, rest, value)
        if len(rest) == 1:
            return _removed(text, node, pair) if value is None else _replaced(text, pair, value)
        parent, node, rest = pair, pair[1], rest[1:]
        if (
            not isinstance(node, MappingNode)
            and node.value == ""
            and node.style is None
            and value is not None
        ):
            return _filled(text, parent, column + _STEP, rest, value)
    raise NotSo("a part of the way is no mapping")


def put_round_trip(text: str, key: tuple[str, ...], value: Scalar) -> str:
    """The same through ruamel's round trip: comments and order stay, the layout may not.

    Raises:
        NotSo: if a part of the way is no mapping.
    """

    def made() -> str:
        yaml = _yaml("rt")
        tree = yaml.load(io.StringIO(text))
        place = tree
        for part in key[:-1]:
            if not isinstance(place, MutableMapping):
                raise NotSo(f"{part} is in no mapping")
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
        if not isinstance(place, MutableMapping):
            raise NotSo("a part of the way is no mapping")
        if value is None:
            place.pop(key[-1], None)
        else:
            place[key[-1]] = value
        out = io.StringIO()
        yaml.dump(tree, out)
        return out.getvalue()

    found: str = _guarded(made)
    return found if line_end(text) == "\n" else found.replace("\n", "\r\n")


def _replaced(text: str, pair: Any, value: Scalar) -> str:
    name, old = pair
    if isinstance(old.value, list) or old.style in {"|", ">"} or old.anchor:
        raise NotSo("the value is more than a plain one")
    style = old.style or ""
    if not style and old.value == "":
        place = text.index(":", name.end_mark.index) + 1
        return f"{text[:place]} {_scalar(value, '')}{text[place:]}"
    start, end = old.start_mark.index, old.end_mark.index
    return text[:start] + _scalar(value, style) + text[end:]


def _added(text: str, node: Any, column: int, rest: tuple[str, ...], value: Scalar) -> str:
    if node.flow_style:
        return _added_in_flow(text, node, rest, value)
    end = line_end(text)
    place = _after(text, node.value[-1])
    lines = _lines(rest, value, column, end)
    if place and text[place - 1] != "\n":
        return f"{text[:place]}{end}{lines[: -len(end)]}{text[place:]}"
    return text[:place] + lines + text[place:]


def _added_in_flow(text: str, node: Any, rest: tuple[str, ...], value: Scalar) -> str:
    made = f"{_key(rest[0])}: "
    for part in rest[1:]:
        made += f"{{{_key(part)}: "
    made += quoted(value) if isinstance(value, str) else _scalar(value, "")
    made += "}" * (len(rest) - 1)
    if not node.value:
        return text[: node.start_mark.index + 1] + made + text[node.start_mark.index + 1 :]
    last = node.value[-1][1].end_mark.index
    return f"{text[:last]}, {made}{text[last:]}"


def _filled(text: str, pair: Any, column: int, rest: tuple[str, ...], value: Scalar) -> str:
    """A key that stood there without a value gets a mapping."""
    end = line_end(text)
    place = text.find("\n", text.index(":", pair[0].end_mark.index))
    head, tail = (text + end, "") if place < 0 else (text[: place + 1], text[place + 1 :])
    return head + _lines(rest, value, column, end) + tail


def _appended(text: str, key: tuple[str, ...], value: Scalar) -> str:
    """To a document without content: comments at most, or its marks."""
    end = line_end(text)
    gap = "" if not text or text.endswith("\n") else end
    return f"{text}{gap}{_lines(key, value, 0, end)}"


def _removed(text: str, node: Any, pair: Any) -> str:
    if node.flow_style:
        raise NotSo("it stands inside of braces")
    start = text.rfind("\n", 0, pair[0].start_mark.index) + 1
    if text[start : pair[0].start_mark.index].strip():
        raise NotSo("the key does not begin its line")
    return text[:start] + text[_after(text, pair) :]


def _after(text: str, pair: Any) -> int:
    """The beginning of the line after a pair; the end of the text if there is none."""
    name, value = pair
    while isinstance(value.value, list) and value.value and not value.flow_style and _here(name, value):
        last = value.value[-1]
        name, value = last if isinstance(last, tuple) else (last, last)
    empty = value.value == "" and value.style is None
    # an alias is the node of its anchor, and an empty value is told to be where the next token is
    place = value.end_mark.index if _here(name, value) and not empty else name.end_mark.index
    if place and text[place - 1] == "\n":
        return int(place)
    found = text.find("\n", place)
    return len(text) if found < 0 else found + 1


def _here(name: Any, value: Any) -> bool:
    """The value stands behind its key: it is not an alias of something before."""
    return name is value or bool(value.start_mark.index >= name.end_mark.index)


def _lines(key: tuple[str, ...], value: Scalar, column: int, end: str) -> str:
    made = ""
    for depth, part in enumerate(key[:-1]):
        made += f"{' ' * (column + _STEP * depth)}{_key(part)}:{end}"
    indent = " " * (column + _STEP * (len(key) - 1))
    return f"{made}{indent}{_key(key[-1])}: {_scalar(value, '')}{end}"


def _key(name: str) -> str:
    return name if yaml_plain(name) else quoted(name)


def _scalar(value: Scalar, style: str) -> str:
    if not isinstance(value, str):
        return "null" if value is None else literal(value)
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return value if style == "" and yaml_plain(value) else quoted(value)


def _yaml(kind: str) -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415 - `assay ls` must not load it

    found = YAML(typ=kind, pure=True)
    if kind == "rt":
        found.preserve_quotes = True
        found.width = _WIDE
    return found


def _guarded(work: Any) -> Any:
    from ruamel.yaml.error import YAMLError, YAMLWarning  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", YAMLWarning)
            return work()
    except YAMLError as error:
        raise NotSo(" ".join(str(error).split())[:200]) from error
    # ruamel lets these through for tags, dates and numbers that it cannot make anything of
    except (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        OverflowError,
        RecursionError,
    ) as error:
        raise NotSo(f"{type(error).__name__}: {error}"[:200]) from error
