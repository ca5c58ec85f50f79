"""Checkpoints as they lie on disk now, against what the events say was committed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from assay.core.errors import UnreadableInput
from assay.core.experiment import CheckpointRecord
from assay.core.experiment_state import count_of, text_of
from assay.readers.training.lines import mode_of, parse_object, read_bytes, refused, regular

MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
FOLDER = "checkpoints"
POINTERS = ("last", "best")
POINTER_LIMIT_BYTES = 4096
_SIZE_KEYS = ("bytes", "size_bytes", "size")


class _File(NamedTuple):
    name: str
    size: int | None
    sha256: str


def checked(
    folder: Path, records: Sequence[CheckpointRecord], rotated: Collection[str] = (), *, digests: bool
) -> tuple[CheckpointRecord, ...]:
    """The records with what lies on disk now.

    Args:
        folder: of the experiment.
        records: what was committed.
        rotated: names of those that the record says were rotated away.
        digests: hash every file that a manifest names, instead of comparing sizes alone.
    """
    found = (r.model_copy(update=_look(folder, r, digests=digests)) for r in records)
    return tuple(
        r.model_copy(update={"on_disk": "rotated", "detail": "newer ones took its place"})
        if r.on_disk == "missing" and r.name in rotated
        else r
        for r in found
    )


def pointers(folder: Path) -> dict[str, str]:
    """What `last` and `best` point at: a link, or a file that holds a name. A pointer to nothing points at ''."""
    found: dict[str, str] = {}
    for name in POINTERS:
        path = folder / FOLDER / name
        try:
            if path.is_symlink():
                target = PurePosixPath(os.readlink(path)).name  # noqa: PTH115 - the text of the link, not its end
                found[name] = text_of(target) if path.exists() else ""
            elif regular(path):
                target = (read_bytes(path, POINTER_LIMIT_BYTES) or b"").decode("utf-8", "replace").strip()
                target = PurePosixPath(target).name
                found[name] = text_of(target) if target and (folder / FOLDER / target).exists() else ""
        except (OSError, ValueError, UnreadableInput):
            found[name] = ""
    return found


def _look(folder: Path, record: CheckpointRecord, *, digests: bool) -> dict[str, Any]:
    place = _inside(folder, record.path or f"{FOLDER}/{record.name}")
    if place is None:
        return {"on_disk": "changed", "detail": "its path leads out of the experiment"}
    try:
        mode = mode_of(place)
    except UnreadableInput as error:
        return {"on_disk": "changed", "detail": error.what}
    if not mode:
        return {"on_disk": "missing", "detail": "it is not there"}
    if stat.S_ISREG(mode):
        # A path of the older layout names a single file; nothing pins its bytes.
        return {"on_disk": "unchecked", "detail": "a file without a manifest"}
    wrong = next(_differences(place, record, digests=digests), "")
    return {"on_disk": "changed", "detail": wrong} if wrong else {"on_disk": "intact", "detail": ""}


def _differences(place: Path, record: CheckpointRecord, *, digests: bool) -> Iterator[str]:
    try:
        data = read_bytes(place / MANIFEST)
    except UnreadableInput as error:
        yield f"{MANIFEST}: {error.what}"
        return
    if data is None:
        yield f"{MANIFEST} is missing: it was never committed"
        return
    if record.manifest_digest and hashlib.sha256(data).hexdigest() != record.manifest_digest:
        yield f"{MANIFEST} is not the one that was committed"
    yield from _seal(place, data)
    document = parse_object(data)
    files = list(_files(document)) if document is not None else []
    if not files:
        yield f"{MANIFEST} names no file"
    for file in files:
        yield from _file(place, file, digests=digests)


def _seal(place: Path, manifest: bytes) -> Iterator[str]:
    """The line beside the manifest that `sha256sum -c` checks; it tells without the record."""
    try:
        seal = read_bytes(place / SEAL)
    except UnreadableInput as error:
        yield f"{SEAL}: {error.what}"
        return
    if seal is None:
        yield f"{SEAL} is missing"
    elif seal.split()[:1] != [hashlib.sha256(manifest).hexdigest().encode()]:
        yield f"{MANIFEST} is not what {SEAL} says"


def _file(place: Path, file: _File, *, digests: bool) -> Iterator[str]:
    path = _inside(place, file.name)
    if path is None:
        yield f"{file.name} is missing"
        return
    try:
        if not regular(path):
            yield f"{file.name} is missing"
            return
        size = path.stat().st_size
        if file.size is not None and size != file.size:
            yield f"{file.name} has {size} bytes, not {file.size}"
        elif digests and file.sha256:
            with path.open("rb") as handle:
                if hashlib.file_digest(handle, "sha256").hexdigest() != file.sha256:
                    yield f"{file.name} is not what was written: its digest differs"
    except UnreadableInput as error:
        yield f"{file.name}: {error.what}"
    except OSError as error:
        yield f"{file.name}: {refused(error, path).what}"


def _files(document: Mapping[str, Any]) -> Iterator[_File]:
    files = document.get("files")
    if isinstance(files, Mapping):
        files = [{"name": k, **(v if isinstance(v, Mapping) else {})} for k, v in files.items()]
    for entry in files if isinstance(files, list) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
            size = next((count_of(entry[k]) for k in _SIZE_KEYS if k in entry), None)
            digest = entry.get("sha256")
            yield _File(
                entry["name"], size, digest.removeprefix("sha256:") if isinstance(digest, str) else ""
            )


def _inside(folder: Path, name: str) -> Path | None:
    """A path below the folder; None if the name or a link leads out of it."""
    try:
        path = folder / name
        root = folder.resolve()
        return path if root in path.resolve().parents else None
    except (OSError, ValueError, RuntimeError):
        return None
