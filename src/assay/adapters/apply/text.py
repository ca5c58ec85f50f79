"""Apply kind `text`: put an accepted text in the place of the one that it was judged against.

Only the text changes, every other byte of its file stays. The whole artifact (all files of a skill) must still be the
judged baseline. The bytes from before lie in the undo token, not in a backup beside the file, where agents would
read it.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from assay.core.artifact_text import TextArtifact, TextKind, changed
from assay.core.base import Noun, SpecPath
from assay.core.canon import digest_bytes
from assay.core.decision import Decision
from assay.core.errors import UsageError
from assay.readers.evolved import read_evolved
from assay.readers.texts import read_text
from assay.runtime import owned_file
from assay.runtime.files import artifact as pinned

MOST_BYTES = 4 << 20
"""Largest file whose bytes are kept in an undo token."""
Force = Literal["symlink", "hardlink", "foreign_owner", "world_writable"]


class Options(Noun):
    """Options of `apply: {kind: text}`."""

    path: SpecPath
    """The skill's folder, or the file. The flow fills in that of the judged text."""
    text_kind: TextKind | None = None
    """How the text lies there; null = as for the spec's `text`."""
    name: str = ""
    """Of the tool or region."""
    expects: str = ""
    """Digest of the judged baseline. Filled in by the flow."""
    force: tuple[Force, ...] = ()
    """Do it although the file is a `symlink` or `hardlink`, has a `foreign_owner` or is `world_writable`."""


class Adapter:
    """Puts a text in its place."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def plan(self, artifact: Path, decision: Decision) -> Mapping[str, Any]:
        """What will be changed, and from which bytes.

        Raises:
            UsageError: if the target is not the judged baseline, is dangerous, or the artifact changed since.
            UnreadableInput: if either cannot be read.
        """
        judged = decision.facts["artifact"]["digest"]
        if pinned(artifact).digest != judged:
            raise UsageError("the candidate changed since it was judged", where=str(artifact))
        candidate = read_evolved(artifact).artifact.text
        target = self._target()
        path, before = self._file(target)
        after, _ = changed(target, before, candidate)
        return {
            "kind": "text",
            "path": str(path),
            "before": digest_bytes(before),
            "after": digest_bytes(after),
            "bytes_before": base64.b64encode(zlib.compress(before)).decode(),
            "bytes_after": base64.b64encode(zlib.compress(after)).decode(),
            "forced": list(self.options.force),
            "changes": [_told(path, target.text, candidate)],
        }

    def apply(self, artifact: Path, decision: Decision, token: Mapping[str, Any]) -> None:
        """Change the file; doing it again after it succeeded changes nothing.

        Raises:
            UsageError: if the artifact is not what the token names any more.
        """
        path = Path(token["path"])
        with owned_file.locked(path.parent) as directory:
            owned_file.sweep(directory, path)
            if _stands(directory, path, token) == token["before"] and self.options.expects:
                self._target()  # another file of the skill may have changed since
        _exchange(token, "before", "after")

    def undo(self, token: Mapping[str, Any]) -> None:
        """Bring back the very bytes from before; a file that holds them already is fine.

        Raises:
            UsageError: if the file was changed since.
        """
        _exchange(token, "after", "before")

    def _target(self) -> TextArtifact:
        found = read_text(Path(self.options.path), self.options.text_kind, self.options.name)
        if self.options.expects and found.digest != self.options.expects:
            raise UsageError(
                f"it is not the text that was judged as the baseline ({found.digest[:19]}...)",
                where=str(self.options.path),
                allowed=f"{self.options.expects[:19]}...",
                next="bring the judged version back, or run a new study from this one",
            )
        return found

    def _file(self, target: TextArtifact) -> tuple[Path, bytes]:
        path = Path(target.path)
        if target.file:
            path = (path if path.is_dir() else path.parent) / target.file
        path = owned_file.real_path(path, self.options.force)
        with owned_file.locked(path.parent) as directory:
            stood = owned_file.look(directory, path, self.options.force)
        if stood is None or stood.digest != target.file_digest:
            raise _moved(path)
        if len(stood.data) > MOST_BYTES:
            raise UsageError(
                f"larger than {MOST_BYTES >> 20} MiB: too large to be taken back", where=str(path)
            )
        return path, stood.data


def _stands(directory: int, path: Path, token: Mapping[str, Any]) -> str | None:
    stood = owned_file.look(directory, path, token["forced"])
    return stood.digest if stood else None


def _exchange(token: Mapping[str, Any], old: str, new: str) -> None:
    path = Path(token["path"])
    with owned_file.locked(path.parent) as directory:
        owned_file.sweep(directory, path)
        stood = owned_file.look(directory, path, token["forced"])
        if stood is not None and stood.digest == token[new]:
            return
        if stood is None or stood.digest != token[old]:
            raise _moved(path)
        try:
            data = zlib.decompress(base64.b64decode(token[f"bytes_{new}"]))
        except (binascii.Error, zlib.error) as error:
            raise UsageError(f"the undo token is damaged: {error}", where=str(path)) from error
        with owned_file.aside(directory, path, data, stood) as part:
            owned_file.put(directory, part, path)


def _told(path: Path, before: str, after: str) -> str:
    if before == after:
        return f"nothing: {path} says so already"
    return f"{path}: the text, {len(before):,} → {len(after):,} characters"


def _moved(path: Path) -> UsageError:
    return UsageError(
        "the file was changed by somebody else: left alone",
        where=str(path),
        next="look at it; `assay apply` and `assay undo` go on once it is as it was",
    )
