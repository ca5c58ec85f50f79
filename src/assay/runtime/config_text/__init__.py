"""Configuration files as text: a few keys are set, and every other byte stays as it is.

`edited` changes the text where the values stand, reads the result again with a parser that did not write it, and
answers only if the file now says what was asked for and nothing else.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Literal, TypeAlias, get_args

from assay.core.errors import UnreadableInput, UsageError
from assay.runtime.config_text import env, json_text, toml_text, yaml_text
from assay.runtime.config_text.scalars import NotSo, Scalar

Format: TypeAlias = Literal["yaml", "toml", "json", "env"]
Key: TypeAlias = tuple[str, ...]
"""A key by its way through the mappings."""

_READERS: Mapping[str, Callable[[str], Any]] = {
    "yaml": yaml_text.read,
    "toml": toml_text.read,
    "json": json_text.read,
    "env": env.read,
}
_SETTERS: Mapping[str, Callable[[str, Key, Scalar], str]] = {
    "yaml": yaml_text.put,
    "toml": toml_text.put,
    "json": json_text.put,
    "env": env.put,
}
_SUFFIXES: Mapping[str, Format] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".json": "json",
    ".env": "env",
}
_BOM = "\ufeff"

__all__ = ["Format", "Key", "Scalar", "edited", "format_of", "parsed", "value_at"]


def format_of(path: PurePath) -> Format:
    """The format by the file's name.

    Raises:
        UsageError: if the name tells none.
    """
    found = _SUFFIXES.get(path.suffix.lower())
    if found is None and (path.name == ".env" or path.name.startswith(".env.")):
        return "env"
    if found is None:
        raise UsageError(
            "the file's name does not tell its format",
            where=str(path),
            allowed=f"{', '.join(_SUFFIXES)}, .env.NAME",
            next=f"set `format` to one of {', '.join(get_args(Format))}",
        )
    return found


def parsed(data: bytes, format_: Format, where: str = "") -> dict[str, Any]:
    """What a file says; an empty one says nothing.

    Raises:
        UnreadableInput: if it is not of that format, not UTF-8, no mapping, or says a key twice.
    """
    return _mapping(_text(data, where)[1], format_, where)


def edited(data: bytes, format_: Format, changes: Mapping[Key, Scalar], where: str = "") -> bytes:
    """The file with these keys set; None removes a key.

    Raises:
        UnreadableInput: see `parsed`.
        UsageError: if a key cannot be set without touching others.
    """
    mark, text = _text(data, where)
    tree = _mapping(text, format_, where)
    for key, value in changes.items():
        stored = _stored(value, format_, ".".join(key), where)
        wanted = copy.deepcopy(tree)
        _set(wanted, key, stored, where)
        if not _same(tree, wanted):
            text = _changed(text, format_, key, value, wanted, where)
            tree = wanted
    return (mark + text).encode("utf-8")


def value_at(tree: Any, key: Key) -> Any:
    """The value of a key; None if it is not there."""
    for part in key:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(part)
    return tree


def _changed(
    text: str, format_: Format, key: Key, value: Scalar, wanted: Mapping[str, Any], where: str
) -> str:
    """One key changed, proven by reading the result; YAML has a second way, which may lay the file out anew."""
    ways = [_SETTERS[format_], *([yaml_text.put_round_trip] if format_ == "yaml" else [])]
    reason = ""
    for way in ways:
        try:
            made = way(text, key, value)
            if _same(_mapping(made, format_, where), wanted):
                return made
        except (NotSo, UnreadableInput) as error:
            reason = reason or str(error)
    name, why = ".".join(key), f" ({reason})" if reason else ""
    raise _refused(f"{name} cannot be set without touching other keys{why}", where)


def _mapping(text: str, format_: Format, where: str) -> dict[str, Any]:
    try:
        tree = _READERS[format_](text)
    except NotSo as error:
        raise UnreadableInput(f"no {format_.upper()}: {error}", where=where) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UnreadableInput(f"it holds a {type(tree).__name__}, not keys with values", where=where)
    return tree


def _text(data: bytes, where: str) -> tuple[str, str]:
    """A byte order mark, kept, and the text behind it."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableInput(f"not UTF-8: byte {error.start}", where=where) from error
    return (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)


def _set(tree: dict[str, Any], key: Key, value: Any, where: str) -> None:
    *way, last = key
    for part in way:
        if value is None and part not in tree:
            return
        inside = tree.get(part)
        if inside is None:
            inside = tree[part] = {}
        if not isinstance(inside, dict):
            raise _refused(f"{'.'.join(key)}: {part} is no mapping there", where)
        tree = inside
    if value is None:
        tree.pop(last, None)
    else:
        tree[last] = value


def _stored(value: Scalar, format_: Format, name: str, where: str) -> Any:
    """A value as the format gives it back: an environment file knows text alone."""
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(f"{value} is no value for {name}", where)
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise _refused(f"the value for {name} holds a lone surrogate", where)
    return env.as_text(value) if format_ == "env" and value is not None else value


def _same(one: Any, other: Any) -> bool:
    """Equal in value and in type; `true` is not 1, and NaN is itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(v, other[k]) for k, v in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def _refused(what: str, where: str) -> UsageError:
    return UsageError(what, where=where, next="change that key by hand, or name another file or key")
