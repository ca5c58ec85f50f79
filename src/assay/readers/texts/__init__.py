"""Texts that can be evolved, read with their exact place in their file."""

from __future__ import annotations

from pathlib import Path

from assay.core.artifact_text import TextArtifact, TextKind
from assay.core.errors import UsageError
from assay.readers.texts.candidate import read_candidate
from assay.readers.texts.manifest import Manifest, read_manifest, read_tool
from assay.readers.texts.plain import read_plain
from assay.readers.texts.region import read_region, region_names
from assay.readers.texts.skill import read_skill

__all__ = [
    "Manifest",
    "read_candidate",
    "read_manifest",
    "read_plain",
    "read_region",
    "read_skill",
    "read_text",
    "read_tool",
    "region_names",
]


def read_text(path: Path, kind: TextKind | None = None, name: str = "") -> TextArtifact:
    """A text of any kind.

    Args:
        path: folder of a skill or its SKILL.md, a manifest, or any file.
        kind: by default a skill where the path is a folder or a SKILL.md; else a region where a name is given and
            the file is no `.json`; a tool where it is; else the plain file.
        name: of the tool or region.

    Raises:
        UnreadableInput: if it cannot be read as that.
        UsageError: if a tool or region is asked for without a name.
    """
    kind = kind or _guessed(path, name)
    if kind in {TextKind.TOOL, TextKind.REGION} and not name:
        raise UsageError(f"a text of kind {kind.value!r} needs a name", where=str(path))
    if kind is TextKind.SKILL:
        return read_skill(path)
    if kind is TextKind.TOOL:
        return read_tool(path, name)
    return read_region(path, name) if kind is TextKind.REGION else read_plain(path)


def _guessed(path: Path, name: str) -> TextKind:
    if path.is_dir() or path.name == "SKILL.md":
        return TextKind.SKILL
    if not name:
        return TextKind.PLAIN
    return TextKind.TOOL if path.suffix == ".json" else TextKind.REGION
