"""A whole file as a text: a prompt, or a list of rules or patterns."""

from __future__ import annotations

from pathlib import Path

from assay.core.artifact_text import TextArtifact, TextKind
from assay.readers.texts.source import BOM, decoded, line_ends, read_source, record


def read_plain(path: Path) -> TextArtifact:
    """All of a file but a byte order mark.

    Raises:
        UnreadableInput: if it cannot be read or is not UTF-8.
    """
    data = read_source(path)
    start = len(BOM) if data.startswith(BOM) else 0
    text = decoded(data[start:], str(path))
    file = record(path.name, data)
    return TextArtifact(
        kind=TextKind.PLAIN,
        name=path.name,
        path=str(path),
        text=text,
        start=start,
        end=len(data),
        newline=line_ends(text, data),
        file_digest=file.digest,
        digest=file.digest,
        files=(file,),
    )
