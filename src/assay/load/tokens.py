"""Counting tokens here, for servers that do not: the tokenizer's own file, read offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from assay.core.errors import ComponentMissing, UnreadableInput


def token_counter(path: Path) -> Callable[[str], int]:
    """A function from text to its number of tokens.

    Args:
        path: `tokenizer.json`, or a checkpoint's folder that holds one.

    Raises:
        ComponentMissing: if the package `tokenizers` is not installed.
        UnreadableInput: if there is no such tokenizer.
    """
    try:
        # A vendor, needed only where usage is missing.
        from tokenizers import Tokenizer  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise ComponentMissing("tokenizers is not installed", next="`pip install tokenizers`") from error
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise UnreadableInput("no tokenizer.json there", where=str(path))
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises bare Exception for whatever the file holds
        raise UnreadableInput(f"no tokenizer: {str(error)[:200]}", where=str(file)) from error

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count
