"""A marked region of any file: what stands between a line `evolve:NAME start` and a line `evolve:NAME end`.

The marker may stand in a comment of any language: `<!-- evolve:NAME start -->`, `# evolve:NAME start`, `// ...`. The
file around the region may hold any bytes; the region itself must be UTF-8.
"""

from __future__ import annotations

import re
from pathlib import Path

from assay.core.artifact_text import TextArtifact, TextKind
from assay.core.errors import UnreadableInput
from assay.readers.texts.source import decoded, line_ends, read_source, record

_MARKER = re.compile(
    rb"^(?P<line>[ \t]*(?:<!--|/\*|\(\*|[#;%*/'\"-]{1,3})?[ \t]*evolve:(?P<name>[A-Za-z0-9._-]+)[ \t]+(?P<word>start|end)"
    rb"[ \t]*(?:-->|\*/|\*\))?[ \t]*\r?)(?:\n|\Z)",
    re.MULTILINE,
)


def region_names(data: bytes) -> tuple[str, ...]:
    """Names of the regions that start in a file, in order."""
    return tuple(dict.fromkeys(m["name"].decode() for m in _MARKER.finditer(data) if m["word"] == b"start"))


def read_region(path: Path, name: str) -> TextArtifact:
    """The text of one region.

    Raises:
        UnreadableInput: if the file cannot be read, or does not hold the two markers of that name exactly once and
            in order.
    """
    data = read_source(path)
    marks = [m for m in _MARKER.finditer(data) if m["name"].decode() == name]
    words = [m["word"].decode() for m in marks]
    if words != ["start", "end"]:
        raise UnreadableInput(
            f"the markers of region {name!r} are {' '.join(words) or 'missing'}",
            where=str(path),
            allowed="one line with `evolve:NAME start` and, below it, one with `evolve:NAME end`",
            next=f"regions of the file: {', '.join(region_names(data)[:9]) or 'none'}",
        )
    first, last = marks
    start, end = first.end(), last.start()
    empty = start == end
    if not empty:
        end -= 2 if data[start:end].endswith(b"\r\n") else 1
    text = decoded(data[start:end], f"{path}, region {name}")
    file = record(path.name, data)
    newline = line_ends(text, data)
    return TextArtifact(
        kind=TextKind.REGION,
        name=name,
        path=str(path),
        text=text,
        start=start,
        end=end,
        tail=(newline or "\n") if empty else "",
        newline=newline,
        file_digest=file.digest,
        digest=file.digest,
        files=(file,),
    )
