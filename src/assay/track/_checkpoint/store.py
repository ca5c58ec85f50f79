"""The folder of an experiment's checkpoints: commit, pointers, marks, list, rotation.

```
ckpt-00000150/            manifest.json, manifest.sha256, state.json, COMPONENT.safetensors, attached files
ckpt-00000150.verified    JSON: level, time, digest of the manifest that was verified
ckpt-00000150.failed      the same, when it did not hold
ckpt-00000150.pinned      empty: rotation leaves it alone
last, best, resume        links to a folder (files with its name where links fail)
```
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.track._checkpoint.blobs import SUFFIX, write_blobs
from assay.track._checkpoint.disk import DigestingFile, Disk, discard, replace_text, sync_folder
from assay.track._checkpoint.errors import CheckpointDamaged
from assay.track._checkpoint.manifest import (
    MANIFEST,
    NAME,
    SEAL,
    STATE,
    FileEntry,
    Manifest,
    digest_of_manifest,
    now,
    read_manifest,
    seal_of,
)  # fmt: skip
from assay.track._checkpoint.tree import Encoded

POINTERS = ("last", "best", "resume")
MARKS = ("verified", "failed", "pinned")
MARK_SCHEMA = "checkpoint-mark/1"
_LEFTOVER = re.compile(r"ckpt-[0-9a-z-]+\.(tmp|old)-(\d+)\Z")
_MARGIN_BYTES = 1 << 20


@dataclass(frozen=True)
class Stored:
    """A committed checkpoint as the folder shows it; its blobs were not read."""

    name: str
    folder: Path
    manifest: Manifest | None
    """None if it does not read; then `problem` says why."""
    problem: str = ""
    verified: str | None = None
    """`digest` or `restore`: the highest level at which these very bytes were verified."""
    verified_at: str | None = None
    failed: str = ""
    """Why a verification failed; empty if none did."""
    odd: bool = False
    """Every byte holds and the weights are not finite."""
    pinned: bool = False

    @property
    def order(self) -> tuple[int, int]:
        """Sorts by the order of the saves; unreadable ones first."""
        return (self.manifest.attempt, self.manifest.sequence) if self.manifest else (-1, -1)

    @property
    def sound(self) -> bool:
        """Verified, and no later verification failed."""
        return self.verified is not None and not self.failed


class Folder:
    """Reads and changes the checkpoints of one experiment.

    Args:
        path: the folder `checkpoints`; made when first written to.
        disk: the file system.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.path = path
        self.disk = disk or Disk()

    def all(self) -> tuple[Stored, ...]:
        """All committed checkpoints in the order of their saves; unreadable ones first."""
        try:
            names = [entry.name for entry in os.scandir(self.path) if NAME.match(entry.name)]
        except OSError:
            return ()
        found = [self.stored(name) for name in sorted(names) if not (self.path / name).is_symlink()]
        return tuple(sorted(found, key=lambda item: item.order))

    def stored(self, name: str) -> Stored:
        """One checkpoint as the folder shows it."""
        folder = self.path / name
        try:
            manifest, problem, digest = read_manifest(folder), "", digest_of_manifest(folder)
        except (CheckpointDamaged, OSError) as error:
            what = error.what if isinstance(error, CheckpointDamaged) else str(error)
            return Stored(name, folder, None, what, pinned=self.mark(name, "pinned") is not None)
        good, bad = self.mark(name, "verified"), self.mark(name, "failed")
        fits = good is not None and good.get("manifest_digest") == digest
        level = good.get("level") if good is not None and fits else None
        failed = bad if bad and bad.get("manifest_digest") == digest else {}
        return Stored(
            name,
            folder,
            manifest,
            problem,
            verified=level if level in {"digest", "restore"} else None,
            verified_at=str(good.get("time")) if good is not None and fits else None,
            failed=str(failed.get("detail", "failed")) if failed else "",
            odd=failed.get("level") == "finite",
            pinned=self.mark(name, "pinned") is not None,
        )

    def mark(self, name: str, kind: str) -> dict[str, Any] | None:
        """What a mark of a checkpoint says; None without the mark."""
        try:
            text = (self.path / f"{name}.{kind}").read_text(encoding="utf-8", errors="replace")[:65536]
        except OSError:
            return None
        try:
            value = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def set_mark(self, name: str, kind: str, *, level: str = "", detail: str = "") -> None:
        """Leave a mark beside a checkpoint, bound to its manifest.

        Raises:
            OSError: what the file system says.
        """
        value = {"schema": MARK_SCHEMA, "level": level, "time": now(), "detail": detail}
        with contextlib.suppress(OSError):
            value["manifest_digest"] = digest_of_manifest(self.path / name)
        replace_text(self.disk, self.path / f"{name}.{kind}", json.dumps(value) + "\n")

    def clear_mark(self, name: str, kind: str) -> None:
        """Take a mark away if it is there."""
        discard(self.path / f"{name}.{kind}")

    def fresh_name(self, step: int, attempt: int) -> str:
        """A name for a save at this step that no other checkpoint has."""
        base = f"ckpt-{step:08d}"
        names = [base, f"{base}-a{attempt}", *(f"{base}-a{attempt}-{n}" for n in range(2, 10_000))]
        return next(name for name in names if not (self.path / name).exists())

    def commit(self, manifest: Manifest, encoded: Encoded, extra: Sequence[tuple[str, Any]] = ()) -> Manifest:
        """Write aside, flush, seal, rename: after this returns the checkpoint survives a power cut.

        Args:
            manifest: without its files.
            encoded: the frozen state.
            extra: further files, as (name, function that writes to a file object).

        Raises:
            OSError: what the file system says; nothing of the checkpoint is left.
        """
        aside = self.path / f"{manifest.name}.tmp-{manifest.attempt}"
        self.path.mkdir(parents=True, exist_ok=True)
        discard(aside)
        self._require_room(encoded.bytes())
        try:
            aside.mkdir()
            files = self._write_files(aside, encoded, extra)
            whole = replace(manifest, files=tuple(files))
            document = whole.text()
            self._write(aside / MANIFEST, document)
            self._write(aside / SEAL, seal_of(document))
            sync_folder(self.disk, aside)
            self.disk.rename(aside, self.path / manifest.name)
            sync_folder(self.disk, self.path)
        except BaseException:
            discard(aside)
            raise
        return whole

    def _require_room(self, needed: int) -> None:
        """A disk that cannot take the checkpoint is not filled first: others write to it too."""
        with contextlib.suppress(NotImplementedError):
            free = self.disk.free_bytes(self.path)
            if free < needed + _MARGIN_BYTES:
                text = (
                    f"{needed / 1e6:.1f} MB and 1 MB for other files are needed, {free / 1e6:.1f} MB are free"
                )
                raise OSError(errno.ENOSPC, f"no space left on the disk: {text}", str(self.path))

    def _write_files(
        self, aside: Path, encoded: Encoded, extra: Sequence[tuple[str, Any]]
    ) -> list[FileEntry]:
        writers: list[tuple[str, Any]] = [(STATE, lambda file: file.write(encoded.text()))]
        for part, blobs in encoded.blobs.items():
            writers.append((part + SUFFIX, lambda file, blobs=blobs: write_blobs(file, blobs)))
        for name, source in encoded.attachments.items():
            writers.append((name, lambda file, source=source: _copy(source, file)))
        return [self._write_with(aside / name, write) for name, write in (*writers, *extra)]

    def _write_with(self, path: Path, write: Any) -> FileEntry:
        file = DigestingFile(self.disk, path)
        try:
            write(file)
            return FileEntry(path.name, file.bytes, file.commit())
        finally:
            file.close()

    def _write(self, path: Path, data: bytes) -> None:
        self._write_with(path, lambda file: file.write(data))

    def point(self, pointer: str, name: str) -> None:
        """Let `last` or `best` lead to a checkpoint, in one step.

        Raises:
            OSError: what the file system says; the pointer stays where it was.
        """
        self._point(self.path / pointer, name)

    def point_file(self, pointer: str, name: str, file: str) -> None:
        """Let an old name (`last.pt`) lead to a file of a checkpoint: a link, or a copy where links fail.

        Raises:
            OSError: what the file system says; the pointer stays where it was.
        """
        self._point(self.path / pointer, f"{name}/{file}", self.path / name / file)

    def _point(self, place: Path, target: str, source: Path | None = None) -> None:
        aside = place.with_name(f".{place.name}.{os.getpid()}")
        discard(aside)
        try:
            try:
                self.disk.link(target, aside)
            except (OSError, NotImplementedError):
                if source is None:
                    replace_text(self.disk, place, target + "\n")
                    return
                self._write_with(aside, lambda file: _copy(source, file))
            self.disk.rename(aside, place)
            sync_folder(self.disk, self.path)
        finally:
            discard(aside)

    def pointed(self, pointer: str) -> str | None:
        """The checkpoint that a pointer leads to, if it is there."""
        place = self.path / pointer
        try:
            text = str(place.readlink()) if place.is_symlink() else place.read_text(encoding="utf-8")[:200]
        except (OSError, ValueError):
            return None
        name = text.strip().rstrip("/").rsplit("/", 1)[-1]
        return name if NAME.match(name) and (self.path / name).is_dir() else None

    def remove_pointer(self, pointer: str) -> None:
        """Take a pointer away if it is there."""
        discard(self.path / pointer)

    def remove(self, name: str, attempt: int) -> None:
        """Delete a checkpoint: first its name, so that no half of one is ever taken for a whole."""
        aside = self.path / f"{name}.old-{attempt}"
        discard(aside)
        with contextlib.suppress(OSError):
            self.disk.rename(self.path / name, aside)
            for kind in MARKS:
                self.clear_mark(name, kind)
            discard(aside)

    def clean(self, attempt: int) -> tuple[str, ...]:
        """Remove what killed attempts left half-written or half-deleted; those of this and later attempts stay."""
        removed = []
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(self.path)):
                found = _LEFTOVER.match(entry.name)
                if found and int(found[2]) < attempt:
                    discard(Path(entry.path))
                    removed.append(entry.name)
        return tuple(sorted(removed))

    def rotate(
        self,
        experiment: str,
        attempt: int,
        keep: int,
        busy: frozenset[str] = frozenset(),
        tell: Callable[[str], object] = lambda _: None,
    ) -> tuple[str, ...]:
        """Delete old checkpoints of this experiment; returns their names. `tell` hears each name before it goes.

        Never: best, last, the one to resume from, the newest verified, pinned ones, the newest `keep`, `busy` ones,
        unreadable ones, the newest whose weights are not finite (somebody wants to look at it), those of another
        experiment, or one without which fewer than two verified ones are left.
        Old is what was saved earlier, not what has a lower step: a later attempt may have started from an earlier one.
        """
        everything = [item for item in self.all() if item.manifest and item.manifest.experiment == experiment]
        sound = [item.name for item in everything if item.sound]
        usable = [item for item in everything if not item.failed]
        safe = {item.name for item in usable[-max(1, keep) :]} | set(sound[-2:]) | busy
        safe |= {item.name for item in [i for i in everything if i.odd][-1:]}
        safe |= {name for pointer in POINTERS if (name := self.pointed(pointer))}
        if len(sound) < 2:
            return ()
        removed = []
        for item in everything:
            if item.name not in safe and not item.pinned:
                tell(item.name)
                self.remove(item.name, attempt)
                removed.append(item.name)
        return tuple(removed)

    def next_sequence(self) -> int:
        """One more than the highest of all saves that still exist."""
        return 1 + max((item.manifest.sequence for item in self.all() if item.manifest), default=0)


def _copy(source: Path, file: DigestingFile) -> None:
    with source.open("rb") as handle:
        while piece := handle.read(4 << 20):
            file.write(piece)
