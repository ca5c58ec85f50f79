"""A file of the user's that is changed: looked at without following links, locked, backed up, replaced as a whole.

Everything happens through a descriptor of its folder, so that nobody can put another folder in its place meanwhile.
The lock is on the folder: it leaves nothing behind, and it outlives the renames.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from assay.core.canon import digest_bytes
from assay.core.errors import ComponentFailed, UnreadableInput, UsageError
from assay.core.vocabulary import FailureClass
from assay.runtime.files import explaining

LIMIT_BYTES = 4 << 20
"""Largest configuration file that is changed."""
LOCK_WAIT_S = 5.0
MAX_BACKUPS = 65_535
SECRET_MODE = 0o600
"""Backups and unfinished files: what they copy may hold tokens."""
PART = "assay-part"


class Danger(StrEnum):
    """Why a file is not changed unless that is forced."""

    SYMLINK = "symlink"
    """The name leads elsewhere."""
    HARDLINK = "hardlink"
    """The file has other names, which would keep the old bytes."""
    FOREIGN_OWNER = "foreign_owner"
    """File or folder belong to another user."""
    WORLD_WRITABLE = "world_writable"
    """Anybody may write the file, or put another one in its place."""


_TEXTS = {
    Danger.SYMLINK: "it is a symbolic link to {real}",
    Danger.HARDLINK: "it has {links} names; the others would keep the old content",
    Danger.FOREIGN_OWNER: "{what} belongs to user {owner}, not to you ({own})",
    Danger.WORLD_WRITABLE: "anybody may write {what}",
}


@dataclass(frozen=True)
class Stood:
    """What a file held when it was looked at."""

    data: bytes
    mode: int
    uid: int
    gid: int

    @property
    def digest(self) -> str:
        """Of the bytes."""
        return digest_bytes(self.data)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold the right to change files of a folder; lends a descriptor of it.

    Raises:
        UsageError: if there is no such folder, or another process holds it for too long.
    """
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"no folder that can be read: {error.strerror}", where=str(folder)) from error
    try:
        _lock(directory, folder)
        yield directory
    finally:
        os.close(directory)


def real_path(path: Path, forced: Collection[str]) -> Path:
    """The absolute path of a file; where a link is forced, what it leads to.

    Raises:
        UsageError: for a link that is not forced, or leads nowhere.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the link
    if not whole.is_symlink():
        return whole
    real = Path(os.path.realpath(whole))
    _refuse_unless(forced, Danger.SYMLINK, whole, real=real)
    if not real.exists():
        raise UsageError("a link that leads nowhere", where=str(whole))
    return real


def look(directory: int, path: Path, forced: Collection[str]) -> Stood | None:
    """What stands there; None if nothing does.

    Raises:
        UsageError: if it is no ordinary file, or dangerous in a way that is not forced.
        UnreadableInput: if it is too large or cannot be read.
    """
    _require_safe_folder(directory, path.parent, forced)
    try:
        descriptor = os.open(
            path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError("it became a symbolic link meanwhile", where=str(path)) from error
        raise UnreadableInput(f"cannot read: {error.strerror}", where=str(path)) from error
    with _bytes_of(descriptor, path) as handle:
        about = os.fstat(handle.fileno())
        if about.st_nlink > 1:
            _refuse_unless(forced, Danger.HARDLINK, path, links=about.st_nlink)
        _require_owner(about.st_uid, "it", path, forced)
        if about.st_mode & stat.S_IWOTH:
            _refuse_unless(forced, Danger.WORLD_WRITABLE, path, what="it")
        data = handle.read(LIMIT_BYTES + 1)
    if len(data) > LIMIT_BYTES:
        raise UnreadableInput(f"larger than {LIMIT_BYTES >> 20} MiB: no configuration file", where=str(path))
    return Stood(data, stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid)


def back_up(directory: int, path: Path, stood: Stood, stem: str) -> Path:
    """Keep the bytes under the first free name `STEM-N`; what is there is never written over.

    A backup of this stem with these very bytes is the one that an interrupted attempt made, and is taken.

    Raises:
        UsageError, ComponentFailed: if it cannot be written.
    """
    found = backup_of(directory, path, stood.digest, stem)
    if found is not None:
        return found
    with aside(directory, path, stood.data, None) as part, explaining(path):
        for number in range(MAX_BACKUPS + 1):
            name = f"{stem}-{number}"
            # a link appears whole, and never in the place of something
            with contextlib.suppress(FileExistsError):
                os.link(part.name, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
                _sync(directory)
                return path.with_name(name)
    raise UsageError("no free name for a backup", where=str(path), next=f"remove old {stem}-* files")


def backup_of(directory: int, path: Path, digest: str, stem: str) -> Path | None:
    """The backup that holds these bytes: of this stem first, else any other of the file."""
    names = sorted(n for n in os.listdir(directory) if n.startswith(f"{path.name}.bak-"))
    for name in sorted(names, key=lambda n: not n.startswith(f"{stem}-")):
        with contextlib.suppress(OSError):
            descriptor = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory
            )
            with open(descriptor, "rb") as handle:  # noqa: PTH123 - a descriptor, not a path
                regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
                if regular and digest_bytes(handle.read(LIMIT_BYTES + 1)) == digest:
                    return path.with_name(name)
    return None


@contextlib.contextmanager
def aside(directory: int, path: Path, data: bytes, like: Stood | None) -> Iterator[Path]:
    """The new content in a file beside the target, on disk, with the target's rights; gone at the end.

    Raises:
        UsageError, ComponentFailed: if it cannot be written.
    """
    # the suffix stays: parsers go by it
    name = f".{path.stem}.{secrets.token_hex(4)}.{PART}{path.suffix}"
    part = path.with_name(name)
    try:
        with explaining(path):
            _write_new(directory, part, data, like)
        yield part
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)


def put(directory: int, part: Path, path: Path) -> None:
    """Let the file that stands aside take the target's place, durably."""
    with explaining(path):
        os.rename(part.name, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        _sync(directory)


def sweep(directory: int, path: Path) -> None:
    """Remove what interrupted attempts at this file left beside it. The caller holds the lock."""
    for name in os.listdir(directory):
        if name.startswith(f".{path.stem}.") and name.endswith(f".{PART}{path.suffix}"):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)


def drop(directory: int, path: Path) -> None:
    """Remove a file durably; one that is gone already is fine."""
    with explaining(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=directory)
        _sync(directory)


def _bytes_of(descriptor: int, path: Path) -> BinaryIO:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    raise UsageError("no ordinary file", where=str(path))


def _write_new(directory: int, path: Path, data: bytes, like: Stood | None = None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path.name, flags, SECRET_MODE, dir_fd=directory)
    try:
        # unbuffered: on a full disk, the rest of a buffer would be written once more when the file is closed
        with open(descriptor, "wb", buffering=0) as handle:  # noqa: PTH123 - a descriptor, not a path
            left = memoryview(data)
            while left:
                left = left[handle.write(left) :]
            if like is not None:
                _dress(handle.fileno(), like)
            os.fsync(handle.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path.name, dir_fd=directory)
        raise


def _dress(descriptor: int, like: Stood) -> None:
    """Owner, group and mode of the file that is replaced; the mode last, as a new owner may clear bits of it."""
    if (like.uid, like.gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, like.uid, like.gid)
    os.fchmod(descriptor, like.mode)


def _sync(directory: int) -> None:
    # some file systems cannot
    with contextlib.suppress(OSError):
        os.fsync(directory)


def _lock(directory: int, folder: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise UsageError(
                    "another process changes files here",
                    where=str(folder),
                    next="wait for it, then try again",
                ) from error
            time.sleep(0.05)
        except OSError as error:
            raise ComponentFailed(
                f"cannot lock the folder: {error.strerror}",
                failure_class=FailureClass.INFRA_TRANSIENT,
                where=str(folder),
            ) from error
        else:
            return


def _require_safe_folder(directory: int, folder: Path, forced: Collection[str]) -> None:
    about = os.fstat(directory)
    _require_owner(about.st_uid, "its folder", folder, forced, also=0)
    if about.st_mode & stat.S_IWOTH:
        _refuse_unless(forced, Danger.WORLD_WRITABLE, folder, what="this folder")


def _require_owner(
    owner: int, what: str, path: Path, forced: Collection[str], *, also: int | None = None
) -> None:
    if owner not in (os.geteuid(), also):
        _refuse_unless(forced, Danger.FOREIGN_OWNER, path, what=what, owner=owner, own=os.geteuid())


def _refuse_unless(forced: Collection[str], danger: Danger, path: Path, **facts: object) -> None:
    if danger.value in forced:
        return
    raise UsageError(
        f"not changed: {_TEXTS[danger].format(**facts)}",
        where=str(path),
        next=f"mend that, or add {danger.value!r} to apply.force if it is meant so",
    )
