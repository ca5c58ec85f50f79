"""YAML from anybody: a value, or one line that says why there is none."""

from __future__ import annotations

import warnings
from typing import Any


def parse_yaml(text: str) -> tuple[Any, str]:
    """A YAML document, or one line that says why it is none. Numbers stay as they are, so that NaN is still NaN."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - only where YAML is read
    from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLWarning  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", YAMLWarning)
            return YAML(typ="safe", pure=True).load(text), ""
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        return None, f"{place}{' '.join(str(error.problem or error.context).split())}"[:200]
    except YAMLError as error:
        return None, " ".join(str(error).split())[:200]
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        RecursionError,
        OverflowError,
    ) as error:
        # the parser's own slips on bytes that are nearly YAML: dates, tags, anchors
        return None, f"{type(error).__name__} in the YAML parser"
