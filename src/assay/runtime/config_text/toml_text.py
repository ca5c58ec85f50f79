"""TOML: tomlkit changes the text and keeps the rest; the standard library's parser reads it back."""

from __future__ import annotations

import tomllib
from collections.abc import MutableMapping
from typing import Any

from assay.core.errors import ComponentMissing
from assay.runtime.config_text.scalars import NotSo, Scalar, line_end


def read(text: str) -> Any:
    """What the text says.

    Raises:
        NotSo: if it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotSo(str(error)) from error


def put(text: str, key: tuple[str, ...], value: Scalar) -> str:
    """The text with one key set or, for None, removed.

    Raises:
        ComponentMissing: if tomlkit is not installed.
        NotSo: if a part of the way is no table, or tomlkit cannot make the change.
    """
    try:
        import tomlkit  # noqa: PLC0415 - only where TOML is changed
        from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415
    except ImportError as error:
        raise ComponentMissing("tomlkit is not installed", next="pip install tomlkit") from error
    try:
        document = tomlkit.parse(text)
        place: Any = document
        for part in key[:-1]:
            if part not in place:
                if value is None:
                    return text
                place[part] = tomlkit.table()
            place = place[part]
            if not isinstance(place, MutableMapping):
                raise NotSo(f"{part} is no table")
        if value is None:
            place.pop(key[-1], None)
        else:
            place[key[-1]] = value
        made = tomlkit.dumps(document)
    except (TOMLKitError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise NotSo(f"tomlkit: {error}") from error
    return made if line_end(text) == "\n" else made.replace("\r\n", "\n").replace("\n", "\r\n")
