"""The `.assay` folder: where it is, what lies in it, and who may write."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from assay.core.canon import PREFIX, canonical, digest, digest_bytes
from assay.core.errors import LedgerBroken, LedgerBusy, LedgerError
from assay.ledger.sqlite import SqliteLedger
from assay.runtime.files import sync_dir

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def find_home(start: Path | None = None) -> Path:
    """`ASSAY_HOME` if set, else the nearest `.assay` upward, else `.assay` beside `start`."""
    named = os.environ.get("ASSAY_HOME")
    if named:
        return Path(named).expanduser().absolute()
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        if (folder / ".assay").is_dir():
            return folder / ".assay"
    return start / ".assay"


def has_ledger(folder: Path) -> bool:
    """Whether that `.assay` folder holds a ledger.

    Raises:
        LedgerError: if this user may not look.
    """
    path = folder / "ledger.db"
    try:
        return path.exists()
    except OSError as error:
        raise LedgerError(
            f"cannot look: {error.strerror or error}",
            where=str(path),
            next="make the folder readable, or set ASSAY_HOME to one that is",
        ) from error


class FileStore:
    """Documents as files named by their digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest_: str) -> Path:
        """Where the document of that digest lies."""
        name = digest_.removeprefix(PREFIX)
        return self.folder / name[:2] / f"{name}.json"

    def put(self, document: Mapping[str, Any]) -> str:
        """Write aside, fsync, rename; returns the digest.

        Raises:
            LedgerError: if the disk does not take it.
        """
        key = digest(document)
        target = self.path(key)
        data = canonical(document)
        aside = target.with_suffix(f".{os.getpid()}.part")
        try:
            if target.exists() and target.read_bytes() == data:  # a power cut may have left a part of it
                return key
            target.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(target)
        except OSError as error:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise disk_error(error, target) from error
        for folder in (target.parent, self.folder):  # the names too must outlive a power cut
            sync_dir(folder)
        return key

    def get(self, digest: str) -> Mapping[str, Any]:
        """The document with that digest.

        Raises:
            LedgerBroken: if it is absent or its bytes no longer have that digest.
        """
        if not _DIGEST.fullmatch(digest):
            raise LedgerBroken(f"not a digest: {digest[:80]!r}", where=str(self.folder))
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise LedgerBroken(
                f"stored document {digest} cannot be read: {error.strerror}", where=str(path)
            ) from error
        if digest_bytes(data) != digest:
            raise LedgerBroken(f"stored document {digest} was changed", where=str(path))
        value: Mapping[str, Any] = json.loads(data)
        return value


def disk_error(error: OSError, path: Path) -> LedgerError:
    """An operating system's refusal as an error with place and remedy."""
    remedy = "free space on that disk, then `assay resume`"
    if isinstance(error, PermissionError) or error.errno == 30:  # EROFS
        remedy = "make the folder writable, or set ASSAY_HOME to one that is"
    return LedgerError(f"cannot write: {error.strerror or error}", where=str(path), next=remedy)


class Home:
    """One `.assay` folder.

    Args:
        folder: the folder itself.
        create: make it if it is not there.

    Raises:
        LedgerError: if it cannot be made or its ledger cannot be opened.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.folder = folder
        if create:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                ignore = folder / ".gitignore"
                if not ignore.exists():
                    ignore.write_text("*\n")
            except OSError as error:
                raise disk_error(error, folder) from error
        has_ledger(folder)
        self.ledger = SqliteLedger(folder / "ledger.db", create=create)
        self.store = FileStore(folder / "evidence")

    def study(self, study: str) -> Path:
        """The folder of a study's artifacts, logs and step files."""
        return self.folder / "studies" / study

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write; the kernel gives it back when the process dies, however it dies.

        Raises:
            LedgerBusy: if another process holds it.
        """
        path = self.folder / "writer.lock"
        try:
            descriptor = self._locked(path)
        except OSError as error:
            raise disk_error(error, path) from error
        try:
            with suppress(OSError):  # who holds it is only told to others: a full disk does not matter
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
            yield
        finally:
            os.close(descriptor)

    def _locked(self, path: Path) -> int:
        """A descriptor of the lock file that is there now, locked."""
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), path.stat()):
                        return descriptor
            except BlockingIOError as error:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(descriptor)
                raise LedgerBusy(
                    f"another assay is running (process {holder})",
                    where=str(self.folder),
                    next="wait for it (`assay watch`), or give this run its own ASSAY_HOME",
                ) from error
            except OSError as error:
                os.close(descriptor)
                raise LedgerError(
                    f"cannot lock: {error.strerror or error}",
                    where=str(path),
                    next="set ASSAY_HOME to a folder on a local disk",
                ) from error
            os.close(descriptor)  # somebody removed the file meanwhile
