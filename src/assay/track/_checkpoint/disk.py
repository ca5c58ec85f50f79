"""What the file system does for a checkpoint. A port, so that a full or broken disk can be played in a test."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

PIECE_BYTES = 4 << 20


class Disk:
    """The real file system."""

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of the data; returns how many bytes were taken."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Flush a file or folder to the device."""
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or folder its final name in one step."""
        source.replace(target)

    def link(self, name: str, place: Path) -> None:
        """Make a symbolic link."""
        place.symlink_to(name)

    def free_bytes(self, folder: Path) -> int:
        """Bytes that this user may still write there."""
        return shutil.disk_usage(folder).free


class DigestingFile:
    """A new file that is hashed while it is written and flushed to the device when it is closed."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._hash = hashlib.sha256()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self.bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        """Write all of the data.

        Raises:
            OSError: what the file system says (a full disk, an I/O error).
        """
        rest = memoryview(data).cast("B")
        size = rest.nbytes
        while rest.nbytes:
            taken = self._disk.write(self._descriptor, rest[:PIECE_BYTES])
            self._hash.update(rest[:taken])
            rest = rest[taken:]
        self.bytes += size
        return size

    def flush(self) -> None:
        """Nothing is buffered here; writers of archives ask for it."""

    def commit(self) -> str:
        """Flush to the device and close; returns the sha256 of what was written.

        Raises:
            OSError: what the file system says.
        """
        self._disk.sync(self._descriptor)
        # The digests are read back at once: from the device, where the system lets go of its cache.
        with contextlib.suppress(AttributeError, OSError):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        self.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close without flushing; a second call does nothing."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def sync_folder(disk: Disk, folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: what the file system says.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        disk.sync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(disk: Disk, path: Path, text: str) -> None:
    """Write a small file aside and rename it.

    Raises:
        OSError: what the file system says; the old file stays.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()
    file = DigestingFile(disk, aside)
    try:
        file.write(text.encode())
        file.commit()
        disk.rename(aside, path)
    except BaseException:
        file.close()
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def digest_of(path: Path) -> tuple[int, str]:
    """Size and sha256 of a file.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256")
        return handle.tell(), digest.hexdigest()


def discard(path: Path) -> None:
    """Remove a file or folder if it can be removed; a link is removed, not what it leads to."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
