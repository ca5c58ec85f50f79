"""Any value as one short line that canonical JSON can hold."""

from __future__ import annotations

from typing import Any


def one_line(value: Any, limit: int = 200) -> str:
    """The text of a value without line breaks and lone surrogates, cut to `limit` characters."""
    try:
        text = str(value)
    except (ValueError, RecursionError):  # an integer of too many digits; a list nested too deeply
        return f"a {type(value).__name__} too large to show"
    return " ".join(text[: 4 * limit].encode("utf-8", "replace").decode()[:limit].split())


def quoted(value: Any) -> str:
    """The same, with quotation marks around text."""
    return repr(one_line(value)) if isinstance(value, str) else one_line(value)
