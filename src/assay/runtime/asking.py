"""Asking a program of the user: what is put into its command line, and the one JSON object that it answers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assay.core.errors import UnreadableInput
from assay.runtime.files import read_json


def filled(word: str, values: Mapping[str, str]) -> str:
    """A word of a command line with its placeholders replaced.

    Args:
        word: may hold `{name}`.
        values: name → what is put in, and not looked at again; other braces stay as they are.
    """
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), word)


def missing(program: str) -> str:
    """What of a program is not on this machine; empty if it is there."""
    return "" if shutil.which(program) else f"program {program!r} is not on PATH"


def answered(reply: Path, printed: str) -> dict[str, Any] | None:
    """The object in the reply file, else the last JSON object that was printed; None without one.

    Args:
        reply: where the program may have written its answer.
        printed: all that it wrote to its output.
    """
    try:
        found = read_json(reply)
    except UnreadableInput:
        found = None
    return found if isinstance(found, dict) else _last_object(printed)


def first_problem(error: ValidationError, whole: str = "") -> str:
    """Where an answer is wrong, and how.

    Args:
        error: of the answer's model.
        whole: what the answer as a whole is called.
    """
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(p) for p in first['loc']) or whole}: {first['msg']}"


def _last_object(text: str) -> dict[str, Any] | None:
    decoder = json.JSONDecoder()
    found: dict[str, Any] | None = None
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found = value if isinstance(value, dict) else found
        at = text.find("{", end)
    return found
