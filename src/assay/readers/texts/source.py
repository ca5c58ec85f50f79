"""Bytes of text artifacts and suites: bounded, of any content, without a way out of a folder by links."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.canon import digest_bytes
from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact
from assay.readers.yaml_text import parse_yaml

FILE_LIMIT_BYTES = 16 << 20
"""Largest file of an artifact or suite."""
FILES_LIMIT = 5_000
BOM = b"\xef\xbb\xbf"


def read_source(path: Path) -> bytes:
    """All bytes of a regular file.

    Raises:
        UnreadableInput: if it is missing, no regular file, too large or not readable.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableInput("not a file", where=str(path))
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableInput(f"cannot read: {reason}", where=str(path)) from error
    if len(data) > FILE_LIMIT_BYTES:
        raise UnreadableInput(f"larger than {FILE_LIMIT_BYTES >> 20} MiB", where=str(path))
    return data


def decoded(data: bytes, where: str) -> str:
    """UTF-8 as text, line ends untouched.

    Raises:
        UnreadableInput: if it is not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableInput(
            f"not UTF-8: byte {data[error.start]:#04x} in line {line}",
            where=where,
            next="store the file as UTF-8",
        ) from error


def line_ends(text: str, whole: bytes = b"") -> str:
    """How lines of a new text end: as all lines of this one do, or of the whole file where it has only one."""
    pairs = text.count("\r\n")
    if not text.count("\n"):
        return "\r\n" if whole.count(b"\r\n") and whole.count(b"\r\n") == whole.count(b"\n") else "\n"
    return "\r\n" if pairs == text.count("\n") else "" if pairs else "\n"


def files_below(root: Path, *, links: bool) -> dict[str, Path]:
    """Relative POSIX name → path of all files below a folder, sorted by name.

    Args:
        root: the folder.
        links: follow links to files inside the folder; otherwise every link is refused.

    Raises:
        UnreadableInput: if it cannot be listed, holds a link that is not allowed, something that is no file, a name
            that is not UTF-8, or more than `FILES_LIMIT` files.
    """
    home = root.resolve()
    found: dict[str, Path] = {}

    def fail(error: OSError) -> None:
        raise UnreadableInput(f"cannot list: {error.strerror or error}", where=str(root)) from error

    if not root.is_dir():
        raise UnreadableInput("not a folder", where=str(root))
    for base, folders, names in os.walk(home, onerror=fail):
        for name in (*folders, *names):
            path = Path(base, name)
            if path.is_symlink():
                _require_harmless(path, home, links=links)
        for name in names:
            path = Path(base, name)
            if not path.is_file():
                raise UnreadableInput("neither a file nor a folder", where=str(path))
            found[_name(path, home)] = path
            if len(found) > FILES_LIMIT:
                raise UnreadableInput(f"more than {FILES_LIMIT} files", where=str(root))
    return dict(sorted(found.items()))


def record(name: str, data: bytes) -> Artifact:
    """The artifact record of some bytes."""
    return Artifact(path=name, digest=digest_bytes(data), size_bytes=len(data))


def mapping_of(text: str) -> tuple[Mapping[str, Any], str]:
    """A YAML mapping with text keys, or an empty one and the reason."""
    value, problem = parse_yaml(text)
    if problem:
        return {}, problem
    if not isinstance(value, dict):
        return {}, f"a mapping of keys is needed, this is {type(value).__name__}"
    if odd := [k for k in value if not isinstance(k, str)]:
        return {}, f"the key {odd[0]!r} is no text"
    return value, ""


def _require_harmless(path: Path, home: Path, *, links: bool) -> None:
    if not links:
        raise UnreadableInput("a link", where=str(path), next="put the file itself there")
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise UnreadableInput("a link that leads nowhere", where=str(path)) from error
    if home not in target.parents:
        raise UnreadableInput(
            "a link out of the folder: its bytes could change unseen",
            where=str(path),
            next="copy the file into the folder",
        )
    if target.is_dir():
        raise UnreadableInput("a link to a folder", where=str(path), next="put the files themselves there")


def _name(path: Path, home: Path) -> str:
    name = path.relative_to(home).as_posix()
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnreadableInput("a file name that is not UTF-8", where=repr(name)) from error
    return name
