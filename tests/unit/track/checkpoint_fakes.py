"""A run that remembers its events, and disks that fail."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from assay.track.checkpoint import Disk


class MemoryRun:
    """The smallest run."""

    def __init__(self, attempt: int = 1, experiment: str = "exp-001") -> None:
        self.id = experiment
        self.attempt = attempt
        self.events: list[dict[str, Any]] = []

    def event(self, kind: str, **fields: Any) -> None:
        """Remember."""
        self.events.append({"event": kind, **fields})

    def kinds(self, *kinds: str) -> list[dict[str, Any]]:
        """Events of these kinds."""
        return [event for event in self.events if event["event"] in kinds]


class FailingDisk(Disk):
    """Fails once, or from then on, at the n-th operation."""

    def __init__(self, fails_at: int, code: int = errno.ENOSPC, *, for_good: bool = False) -> None:
        self.fails_at = fails_at
        self.code = code
        self.for_good = for_good
        self.count = 0

    def _step(self, place: object) -> None:
        self.count += 1
        if self.count == self.fails_at or (self.for_good and self.count > self.fails_at):
            raise OSError(self.code, "played", str(place))

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write, or take half of it and fail the next time."""
        self._step("write")
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Flush or fail."""
        self._step("fsync")
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename or fail."""
        self._step(target)
        super().rename(source, target)

    def link(self, name: str, place: Path) -> None:
        """Link or fail."""
        self._step(place)
        super().link(name, place)


class LinklessDisk(Disk):
    """A file system without symbolic links."""

    def link(self, name: str, place: Path) -> None:
        """Refuse."""
        raise OSError(errno.EPERM, "no links here", str(place))


class FullDisk(Disk):
    """A disk that says beforehand that it has no room."""

    def free_bytes(self, folder: Path) -> int:
        """Almost nothing."""
        return 1000


class ShortDisk(Disk):
    """Takes at most seven bytes a call, as a disk may."""

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write a little."""
        return super().write(descriptor, data[:7])
