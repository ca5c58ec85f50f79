"""Files on disk: a crash leaves the old or the new bytes, and a digest shows every change."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.core import hub
from assay.core.canon import PREFIX
from assay.core.errors import AssayError, ComponentFailed, UnreadableInput, UsageError
from assay.core.evidence import Artifact
from assay.core.sizes import size
from assay.core.vocabulary import FailureClass

CHUNK_BYTES = 1 << 20
READ_LIMIT_BYTES = 64 << 20
"""Largest JSON document that is read whole."""

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


RESUME = "free space there or set ASSAY_HOME to a larger disk, then `assay resume`"


def explained(error: OSError, place: Path, *, then: str = RESUME) -> AssayError:
    """The error that tells a person where the operating system refused, and what to do about it.

    Args:
        error: as raised.
        place: that was written.
        then: what to do about a full disk; a study's way to go on by default.
    """
    reason = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        free = free_bytes(place)
        room = "" if free is None else f"; {size(free)} are free"
        return ComponentFailed(
            f"no space left on the disk{room}",
            failure_class=FailureClass.INFRA_TRANSIENT,
            where=str(place),
            next=then,
        )
    if error.errno in _NO_RIGHT:
        return UsageError(
            f"cannot write: {reason}",
            where=str(place),
            next=f"make {_nearest(place)} writable for this user, or set ASSAY_HOME to a folder that is",
        )
    return ComponentFailed(
        f"cannot write: {reason}", failure_class=FailureClass.INFRA_TRANSIENT, where=str(place)
    )


@contextlib.contextmanager
def explaining(place: Path, *, then: str = RESUME) -> Iterator[None]:
    """Turn every `OSError` of the block into an `AssayError` that names `place`; `then` as in `explained`.

    Raises:
        ComponentFailed: INFRA_TRANSIENT, if the disk is full or broken.
        UsageError: if the place is not writable.
    """
    try:
        yield
    except OSError as error:
        raise explained(error, place, then=then) from error


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write aside, flush to disk, rename: a reader sees the old bytes or the new ones, never a part.

    Raises:
        ComponentFailed: INFRA_TRANSIENT, if the disk is full or broken; nothing is left aside.
        UsageError: if the folder is not writable.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with explaining(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with open(descriptor, "wb") as handle:  # noqa: PTH123 - a descriptor, not a path
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            aside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        sync_dir(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically, indented and with sorted keys.

    Raises:
        ComponentFailed, UsageError: see `write_atomic`.
        ValueError: if the value holds NaN or an infinity.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode("utf-8", "surrogatepass"))


def read_json(path: Path) -> Any:
    """Read a JSON document that Assay or a worker of its own wrote.

    Raises:
        UnreadableInput: if it is missing, larger than `READ_LIMIT_BYTES`, or no JSON.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(READ_LIMIT_BYTES + 1)
        if len(data) > READ_LIMIT_BYTES:
            raise UnreadableInput("the file is too large for a JSON document", where=str(path))
        return json.loads(data)
    except OSError as error:
        raise UnreadableInput(f"cannot read: {error.strerror or error}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise UnreadableInput(f"not JSON: {error}", where=str(path)) from error


def sync_dir(folder: Path) -> None:
    """Make a rename in this folder durable. File systems that cannot are left as they are."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_file(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes.

    Raises:
        UnreadableInput: if it cannot be read.
    """
    try:
        with path.open("rb") as handle:
            return PREFIX + hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableInput(f"cannot read: {error.strerror or error}", where=str(path)) from error


def files_of(folder: Path) -> tuple[Path, ...]:
    """All files below a folder, sorted by their relative POSIX name; links to files inside it count as files.

    So do the links of a snapshot in a cache of the Hugging Face hub, to `blobs/` of the same repository.

    Raises:
        UnreadableInput: if it cannot be listed, holds a link that leads out of it or nowhere, or something
            that is no file (a socket, a device).
    """
    root = folder.resolve()
    found: list[Path] = []

    def fail(error: OSError) -> None:
        raise UnreadableInput(f"cannot list: {error.strerror or error}", where=str(folder)) from error

    for base, folders, names in os.walk(root, onerror=fail):
        for name in (*folders, *names):
            path = Path(base, name)
            if path.is_symlink():
                _require_inside(path, root)
                if path.is_dir():
                    raise UnreadableInput(
                        "a link to a folder cannot be digested: put the files themselves there",
                        where=str(path),
                    )
        for name in names:
            path = Path(base, name)
            if not path.is_file():
                raise UnreadableInput("neither a file nor a folder", where=str(path))
            found.append(path)
    return tuple(sorted(found, key=lambda p: p.relative_to(root).as_posix()))


def digest_folder(folder: Path) -> str:
    """`sha256:<hex>` over the sorted relative names, sizes and digests of all files below a folder.

    Raises:
        UnreadableInput: see `files_of`.
    """
    root = folder.resolve()
    whole = hashlib.sha256()
    for path in files_of(folder):
        name = path.relative_to(root).as_posix()
        # NUL ends a name in every file system, so no two trees give one byte sequence.
        line = f"{digest_file(path)} {path.stat().st_size} {name}\0"
        whole.update(line.encode("utf-8", "surrogateescape"))
    return PREFIX + whole.hexdigest()


def size_bytes(path: Path) -> int:
    """Size of a file, or of all files below a folder.

    Raises:
        UnreadableInput: if it cannot be read.
    """
    if path.is_dir():
        return sum(item.stat().st_size for item in files_of(path))
    try:
        return path.stat().st_size
    except OSError as error:
        raise UnreadableInput(f"cannot read: {error.strerror or error}", where=str(path)) from error


def bytes_below(folder: Path) -> int:
    """What a folder in use takes on disk; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def artifact(path: Path, shown: str = "") -> Artifact:
    """The artifact record of a file or folder; `shown` is the path that it is recorded under.

    Raises:
        UnreadableInput: if it cannot be read or holds links that lead out of it.
    """
    whole = digest_folder(path) if path.is_dir() else digest_file(path)
    return Artifact(path=shown or str(path), digest=whole, size_bytes=size_bytes(path))


def copy_tree(source: Path, target: Path) -> None:
    """Copy a file or folder to a path that does not exist yet; it appears there whole or not at all.

    Links to files are followed, so that the copy stands alone.

    Raises:
        UsageError: if the target exists or is not writable.
        UnreadableInput: if the source cannot be read or holds links that lead out of it.
        ComponentFailed: INFRA_TRANSIENT, if the disk is full or broken; nothing is left behind.
    """
    if target.exists() or target.is_symlink():
        raise UsageError("already exists", where=str(target), next="name a path that does not exist yet")
    aside = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
    root = source.resolve()
    pairs = (
        [(item, item.relative_to(root)) for item in files_of(source)] if source.is_dir() else [(root, Path())]
    )
    with explaining(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                aside.mkdir()
            for item, name in pairs:
                _copy_file(item, aside / name)
            aside.replace(target)
        except BaseException:
            remove(aside)
            raise
        sync_dir(target.parent)


def remove(path: Path) -> None:
    """Remove a file or folder if it is there; a link is removed, not what it leads to.

    Raises:
        UsageError: if it is not writable.
    """
    with explaining(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def free_bytes(path: Path) -> int | None:
    """Bytes that this user may still write on the file system of `path`; None if it cannot be told."""
    try:
        return shutil.disk_usage(_nearest(path)).free
    except OSError:
        return None


def _nearest(path: Path) -> Path:
    """The closest folder on the way up that exists."""
    start = path.absolute()
    return next((p for p in (start, *start.parents) if p.is_dir()), Path(start.anchor))


def _require_inside(path: Path, root: Path) -> None:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise UnreadableInput("a link that leads nowhere", where=str(path)) from error
    if not target.is_relative_to(hub.repository_of(root.as_posix()) or root):
        raise UnreadableInput(
            f"a link out of the folder, to {target}: its bytes could change unseen",
            where=str(path),
            next="copy the file into the folder",
        )


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, CHUNK_BYTES)
        writer.flush()
        os.fsync(writer.fileno())
    shutil.copymode(source, target)
