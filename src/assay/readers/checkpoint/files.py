"""Bounded, link-safe access to the files of a checkpoint. Every surprise is an `UnreadableInput`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from assay.core import hub
from assay.core.canon import PREFIX
from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact

MAX_JSON_BYTES = 128 * 2**20
"""Largest JSON file read whole; the largest tokenizer.json in the field has about 35 MB."""
MAX_FILES = 20_000
_EXACT_INT = 2**53
_CHUNK_BYTES = 2**20
_MAX_PINNED_HEADER = 256 * 2**20
WEIGHTS = (".safetensors", ".gguf")
HEADER_PREFIX = "sha256-header:"
DIGEST_LIMIT_BYTES = 64 * 2**30
"""Up to here a checkpoint's files are hashed whole: about a minute at 1 GB/s."""
_MAX_DEPTH = 64
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def refuse(what: str, where: Path | str, *, allowed: str = "", next: str = "") -> NoReturn:
    """Raise `UnreadableInput`.

    Raises:
        UnreadableInput: always.
    """
    raise UnreadableInput(what, where=str(where), allowed=allowed, next=next)


def unreadable(error: BaseException, where: Path | str, *, done: str = "read") -> NoReturn:
    """Say what the operating system refused, and what helps.

    Args:
        error: as raised.
        where: the file or folder.
        done: what could not be done with it.

    Raises:
        UnreadableInput: always.
    """
    rights = "make it, and the folders above it, readable for this user"
    next_ = rights if isinstance(error, PermissionError) else ""
    refuse(f"cannot be {done}: {_reason(error)}", where, next=next_)


def present(path: Path) -> bool:
    """Whether something is there.

    Raises:
        UnreadableInput: if a folder on the way may not be looked into.
    """
    try:
        return path.exists()
    except PermissionError as error:
        unreadable(error, path)
    except (OSError, ValueError):
        return False


def regular_file(path: Path, root: Path) -> os.stat_result:
    """Make sure that a path is an ordinary file inside its checkpoint.

    The links of a Hugging Face cache, from `snapshots/` to `blobs/` of the same repository, are followed.

    Raises:
        UnreadableInput: if it is missing, a device or pipe, or a link that leads out of the folder.
    """
    try:
        status = path.lstat()
    except (OSError, ValueError) as error:
        unreadable(error, path)
    if stat.S_ISREG(status.st_mode):
        return status  # folders on the way are no links: `list_files` refuses those
    if not stat.S_ISLNK(status.st_mode):
        refuse("not an ordinary file", path)
    try:
        real, home = path.resolve(strict=True), root.resolve(strict=True)
        status = real.stat()
    except (OSError, RuntimeError, ValueError) as error:
        unreadable(error, path)
    if not real.is_relative_to(hub.repository_of(home.as_posix()) or home):
        refuse("a link that leads out of the checkpoint folder", path, next="copy the file into the folder")
    if not stat.S_ISREG(status.st_mode):
        refuse("not an ordinary file", path)
    return status


@dataclass(frozen=True)
class Files:
    """The files of a checkpoint, as they were when reading began."""

    root: Path
    """The folder, or the folder of the single file."""
    paths: Mapping[str, Path]
    """Relative name, with `/` → path."""
    stamps: Mapping[str, tuple[int, int, int]]
    """Relative name → size, modification time in ns, inode."""

    def size(self, name: str) -> int:
        """Bytes of a file when reading began."""
        return self.stamps[name][0]

    def within(self, folder: str) -> Files:
        """The files of one nested folder, by names relative to it."""
        start = folder + "/"
        return Files(
            self.root / folder,
            {n[len(start) :]: p for n, p in self.paths.items() if n.startswith(start)},
            {n[len(start) :]: s for n, s in self.stamps.items() if n.startswith(start)},
        )

    def unchanged(self) -> None:
        """Make sure that what was read is what lies there now.

        Raises:
            UnreadableInput: if a file was changed, replaced or removed meanwhile.
        """
        for name, path in self.paths.items():
            if _stamp(regular_file(path, self.root)) != self.stamps[name]:
                refuse("changed while it was read", path, next="read it when nothing writes to it any more")


LFS_POINTER = b"version https://git-lfs"
"""How a file begins that git-LFS has not fetched yet."""


def refuse_pointer(start: bytes, path: Path) -> None:
    """Name what is not the weights but stands for them.

    Raises:
        UnreadableInput: if the file begins as a git-LFS pointer.
    """
    if start and LFS_POINTER.startswith(start[: len(LFS_POINTER)]) and len(start) >= 8:
        refuse("a git-LFS pointer, not the weights", path, next="git lfs pull, in its folder")


def find(root: Path) -> Files:
    """The files of a checkpoint folder, or the one file.

    Raises:
        UnreadableInput: if it cannot be listed, or holds links that lead out.
    """
    try:
        is_folder = root.is_dir()
    except (OSError, ValueError) as error:
        unreadable(error, root)
    if is_folder:
        paths = {path.relative_to(root).as_posix(): path for path in list_files(root)}
        home = root
    else:
        paths, home = {root.name: root}, root.parent
    return Files(home, paths, {name: _stamp(regular_file(path, home)) for name, path in paths.items()})


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


def list_files(root: Path) -> list[Path]:
    """All files below a folder, sorted; version-control and cache folders left out.

    Raises:
        UnreadableInput: if the folder cannot be read, holds too many files, or a link that leads out.
    """
    found: list[Path] = []

    def fail(error: OSError) -> None:
        unreadable(error, error.filename or root, done="listed")

    for folder, names, files in os.walk(root, onerror=fail):
        names[:] = sorted(n for n in names if n not in {".git", ".cache", "__pycache__"})
        for name in names:
            if os.path.islink(Path(folder, name)):  # noqa: PTH114 - `is_symlink` raises where it may not look
                refuse("a linked folder inside a checkpoint", Path(folder, name), next="copy the files")
        found += [Path(folder, name) for name in files]
        if len(found) > MAX_FILES:
            refuse(f"more than {MAX_FILES} files: not a checkpoint folder", root)
    for path in found:
        regular_file(path, root)
    return sorted(found)


def pin(path: Path) -> Artifact:
    """Digest and size of one file, read whole.

    Raises:
        UnreadableInput: if it cannot be read.
    """
    sha, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                sha.update(chunk)
                size += len(chunk)
    except OSError as error:
        unreadable(error, path)
    return Artifact(path=_text(str(path)), digest=PREFIX + sha.hexdigest(), size_bytes=size)


def pin_header(path: Path) -> Artifact:
    """Digest of a weight file's size and header alone: for files too large to read whole.

    The digest begins with `sha256-header:` instead of `sha256:`. It is the SHA-256 of the size as 8 bytes, little
    endian, and of the first bytes of the file: of safetensors up to the end of the header, of other files 1 MiB.

    Raises:
        UnreadableInput: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(8)
            wanted = int.from_bytes(data, "little") if path.name.endswith(".safetensors") else _CHUNK_BYTES
            data += file.read(min(wanted, _MAX_PINNED_HEADER))
    except OSError as error:
        unreadable(error, path)
    sha = hashlib.sha256(size.to_bytes(8, "little") + data)
    return Artifact(path=_text(str(path)), digest=HEADER_PREFIX + sha.hexdigest(), size_bytes=size)


def pin_as(path: Path, digest: str) -> Artifact:
    """Pin a file the way an earlier digest of it was made, so that the two can be compared.

    Raises:
        UnreadableInput: if it cannot be read.
    """
    return pin_header(path) if digest.startswith(HEADER_PREFIX) else pin(path)


def pin_all(files: Files, limit_bytes: int) -> tuple[Artifact, ...]:
    """Pin every file: whole if all of them together stay within the limit, else weight files by their headers."""
    large = sum(files.size(name) for name in files.paths) > limit_bytes
    return tuple(
        pin_header(path) if large and name.endswith(WEIGHTS) else pin(path)
        for name, path in files.paths.items()
    )


def read_bytes(path: Path, limit: int = MAX_JSON_BYTES) -> bytes:
    """The bytes of a file of at most `limit` bytes.

    Raises:
        UnreadableInput: if it is larger or cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        unreadable(error, path)
    if len(data) > limit:
        refuse(f"larger than {limit} bytes", path)
    return data


def read_range(path: str, start: int, count: int) -> bytes:
    """Some bytes of a file; fewer where it ends before, none where it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - the path is text in a Tensor
            file.seek(start)
            return file.read(count) or b""
    except (OSError, ValueError, OverflowError):
        return b""


def parse_json(data: bytes, where: Path | str) -> Any:
    """Strict JSON: UTF-8, no duplicate keys. `NaN` and the infinities, which JSON lacks, become their names.

    Raises:
        UnreadableInput: if it is anything else.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=lambda word: f"<{word}>"
        )
        if _SURROGATE.search(data):  # half a character can be written in JSON and nowhere else
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError, MemoryError) as error:
        refuse(f"not valid JSON: {_reason(error)}", where)
    return value


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UnreadableInput: if the file holds anything else.
    """
    value = parse_json(read_bytes(path), path)
    if not isinstance(value, dict):
        refuse(f"must hold a JSON object, holds {type(value).__name__}", path)
    return value


def plain(value: Any, depth: int = 0) -> Any:
    """A JSON value that canonical JSON can express: what is no finite double becomes text.

    Raises:
        UnreadableInput: if it is nested more than 64 deep.
    """
    if depth > _MAX_DEPTH:
        refuse(f"JSON nested more than {_MAX_DEPTH} deep", "metadata")
    if isinstance(value, dict):
        return {_text(str(k)): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, depth + 1) for v in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < _EXACT_INT else str(value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else repr(value)  # noqa: PLR0124
    return _text(str(value))


def visible(text: str, limit: int = 120) -> str:
    """A name or value from a file, fit for a message: no control characters, at most `limit` characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:80]!r} stands twice")
    return result


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]
