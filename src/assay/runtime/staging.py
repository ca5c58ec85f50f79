"""Copies of a text artifact with another text in it: what an agent is given, never the original."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assay.core.artifact_text import TextArtifact, TextKind, spliced, tree_digest
from assay.core.canon import digest_bytes
from assay.core.errors import UnreadableInput, UsageError
from assay.core.evidence import Artifact
from assay.runtime.files import explaining, files_of


def stage(artifact: TextArtifact, text: str, into: Path) -> Path:
    """Copy an artifact into an empty folder, with a text in place of its own.

    Args:
        artifact: as it was read.
        text: what is put in.
        into: empty folder.

    Returns:
        The copy: `into` and the name of the artifact's folder or file.

    Raises:
        UsageError: if the artifact is no longer the one that was read.
        UnreadableInput: if it cannot be read.
        ComponentFailed: if the disk is full.
    """
    return StagedSource(artifact).lay(text, into)


class StagedSource:
    """The bytes of an artifact, read once and checked, from which any number of copies are made.

    Args:
        artifact: as it was read.

    Raises:
        UsageError: if it is no longer the one that was read.
        UnreadableInput: if it cannot be read.
    """

    def __init__(self, artifact: TextArtifact) -> None:
        self.artifact = artifact
        place = Path(artifact.path)
        self.folder = artifact.kind is TextKind.SKILL
        self.name = place.resolve().name
        """Of the copies."""
        self._files = self._read(place)
        self._main = artifact.file or (self.name if not self.folder else "SKILL.md")

    def lay(self, text: str, into: Path) -> Path:
        """A copy with that text, as `stage` makes it.

        Raises:
            UsageError: if the text cannot be written as UTF-8, or something stands there.
            ComponentFailed: if the disk is full.
        """
        return self.lay_at(text, into / self.name)

    def lay_at(self, text: str, target: Path) -> Path:
        """A copy at that path, whatever its name.

        Raises:
            UsageError, ComponentFailed: see `lay`.
        """
        with explaining(target):
            if target.exists() or target.is_symlink():
                raise UsageError("already exists", where=str(target))
            for name, data, mode in self._with(text):
                place = target / name if self.folder else target
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
                place.chmod(mode)
        return target

    def digest(self, text: str) -> str:
        """What a copy with that text is known by.

        Raises:
            UsageError: if the text cannot be written as UTF-8.
        """
        return self._digest({name: (data, mode) for name, data, mode in self._with(text)})

    def chars(self, text: str) -> int:
        """Characters of the whole file that holds the text, a skill's frontmatter included.

        Raises:
            UsageError: if the text cannot be written as UTF-8.
        """
        return next(
            len(data.decode("utf-8", "replace")) for name, data, _ in self._with(text) if name == self._main
        )

    def _with(self, text: str) -> Iterator[tuple[str, bytes, int]]:
        """Name, bytes and mode of every file of a copy."""
        for name, (data, mode) in self._files.items():
            yield name, spliced(self.artifact, data, text) if name == self._main else data, mode

    def _read(self, place: Path) -> dict[str, tuple[bytes, int]]:
        """Name → bytes and mode of every file."""
        found: dict[str, tuple[bytes, int]] = {}
        try:
            paths = files_of(place) if self.folder else (place.resolve(),)
            for path in paths:
                name = path.relative_to(place.resolve()).as_posix() if self.folder else self.name
                found[name] = (path.read_bytes(), 0o755 if path.stat().st_mode & 0o100 else 0o644)
        except OSError as error:
            raise UnreadableInput(f"cannot read: {error.strerror or error}", where=str(place)) from error
        if self._digest(found) != self.artifact.digest:
            raise UsageError(
                "the artifact is no longer the one that was read",
                where=self.artifact.path,
                next="read it again; what was judged on the old bytes does not hold for these",
            )
        return found

    def _digest(self, found: dict[str, tuple[bytes, int]]) -> str:
        if not self.folder:
            return digest_bytes(found[self.name][0])
        return tree_digest(
            [
                Artifact(path=name, digest=digest_bytes(data), size_bytes=len(data))
                for name, (data, _) in found.items()
            ]
        )
