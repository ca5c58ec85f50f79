"""Values that are written into configuration files, and how they look there."""

from __future__ import annotations

import re
from typing import TypeAlias

Scalar: TypeAlias = bool | int | float | str | None
"""A value; None = the key is left away."""


class NotSo(Exception):
    """The text is not of the format, or the change cannot be made in it; the argument says why."""


# Plain in YAML 1.1 and 1.2 alike: many engines read their files with a parser of 1.1.
_PLAIN = re.compile(r"(?:[A-Za-z_]|\.{0,2}/)[A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*")
_WORDS = frozenset("true false yes no on off null y n nan inf none".split())  # noqa: SIM905

_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def number(value: float) -> str:
    """A float with a point in it, as YAML 1.1 and TOML want it.

    Raises:
        NotSo: for NaN and infinities: no setting of an engine is one.
    """
    text = repr(float(value))
    if text in {"nan", "inf", "-inf"}:
        raise NotSo(f"{text} is no value for a setting")
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    sign = "" if exponent.startswith(("-", "+")) else "+"
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}{exponent}"


def quoted(value: str) -> str:
    """Text in double quotes, as YAML and TOML read it.

    Raises:
        NotSo: for lone surrogates: no file in UTF-8 can hold them.
    """
    return f'"{"".join(map(_escaped, value))}"'


def yaml_plain(value: str) -> bool:
    """Whether text can stand in YAML without quotes and be nothing but text."""
    return _PLAIN.fullmatch(value) is not None and value.lower() not in _WORDS


def literal(value: bool | float) -> str:
    """A bool or number as JSON, YAML and TOML write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else number(value)


def line_end(text: str) -> str:
    """The line end that a text uses."""
    return "\r\n" if "\r\n" in text else "\n"


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:
        raise NotSo("text with a lone surrogate")
    # a bare DEL, NEL or byte order mark is refused or eaten by some parsers
    if character.isprintable():
        return character
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
