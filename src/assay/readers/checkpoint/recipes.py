"""Recipes of the user from a YAML file: name → the promise that `gates/_checkpoint/intent.py` resolves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.readers.checkpoint.files import refuse

SCHEMA = "recipes/1"
MAX_BYTES = 4 * 2**20


def read_recipes(path: Path) -> dict[str, dict[str, Any]]:
    """A table `{schema: recipes/1, recipes: {NAME: {recipe | scheme | num_bits, targets, ignore, ...}}}`.

    What the promises mean is not judged here.

    Raises:
        UnreadableInput: if it is no such file; names the recipe.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415 - only where a table is read
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    allowed = "{schema: recipes/1, recipes: {NAME: {scheme: FP8, targets: [Linear], ignore: [lm_head]}}}"
    try:
        if path.stat().st_size > MAX_BYTES:
            refuse(f"larger than {MAX_BYTES} bytes: no recipe table", path)
        value = YAML(typ="safe", pure=True).load(path.read_bytes())
    except (OSError, YAMLError, ValueError, RecursionError) as error:
        refuse(f"no recipe table: {' '.join(str(error).split())[:200]}", path, allowed=allowed)
    table = value.get("recipes") if isinstance(value, Mapping) and value.get("schema") == SCHEMA else None
    if not isinstance(table, Mapping):
        refuse("no recipe table", path, allowed=allowed)
    for name, promise in table.items():
        if not isinstance(name, str) or not isinstance(promise, Mapping):
            refuse(f"recipe {str(name)[:60]!r} is no object", path, allowed=allowed)
    return {name.strip(): dict(promise) for name, promise in table.items()}
