"""A text that somebody wrote to replace another one."""

from __future__ import annotations

from pathlib import Path

from assay.core.artifact_text import TextArtifact, TextKind
from assay.core.errors import UnreadableInput, UsageError
from assay.readers.texts.manifest import read_tool
from assay.readers.texts.plain import read_plain
from assay.readers.texts.region import read_region
from assay.readers.texts.skill import read_skill

FENCE = "---"


def read_candidate(path: Path, baseline: TextArtifact) -> str:
    """The text alone, from a file or folder in the baseline's form, or from a file that holds nothing else.

    Raises:
        UnreadableInput: if it cannot be read.
        UsageError: if it holds the markers of another region.
    """
    if not path.exists():
        raise UnreadableInput("no such text", where=str(path))
    alone = path.is_file() and path.name != "SKILL.md"
    if baseline.kind is TextKind.PLAIN:
        return read_plain(path).text
    if baseline.kind is TextKind.SKILL:
        return _body(read_plain(path).text) if alone else read_skill(path).text
    try:
        read = read_tool if baseline.kind is TextKind.TOOL else read_region
        return read(path, baseline.name).text
    except UnreadableInput:
        if not alone or path.suffix == ".json":
            raise
    found = read_plain(path).text.rstrip("\r\n")
    if baseline.kind is TextKind.REGION and "evolve:" in found:
        raise UsageError(
            f"the file holds markers, and not those of the region {baseline.name!r}", where=str(path)
        )
    return found


def _body(text: str) -> str:
    """What stands behind a frontmatter, if there is one: a skill's frontmatter is never changed."""
    lines = text.strip("\r\n").split("\n")
    if lines[0].rstrip() == FENCE and any(x.rstrip() == FENCE for x in lines[1:]):
        end = next(i for i, x in enumerate(lines[1:], 1) if x.rstrip() == FENCE)
        lines = lines[end + 1 :]
    return "\n".join(lines).strip("\r\n")
