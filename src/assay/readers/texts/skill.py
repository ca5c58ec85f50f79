"""A skill: a folder with a SKILL.md, whose body may change and whose frontmatter stays as it is, byte by byte."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.artifact_text import Finding, Severity, TextArtifact, TextKind, tree_digest
from assay.core.errors import UnreadableInput
from assay.readers.texts.source import BOM, decoded, files_below, line_ends, mapping_of, read_source, record
from assay.readers.training.lines import plain_object

FILE = "SKILL.md"
FRONT_LIMIT_BYTES = 64 << 10
_FENCE = re.compile(r"---[ \t]*\r?\n?")


def read_skill(path: Path) -> TextArtifact:
    """The body of a skill's SKILL.md, with its frontmatter and the digests of every file of the folder.

    Args:
        path: the folder, or its SKILL.md.

    Raises:
        UnreadableInput: if there is no SKILL.md, it is not UTF-8, or the folder holds links that lead out of it.
    """
    root = path.parent if path.name == FILE and path.is_file() else path
    names = files_below(root, links=True)
    if FILE not in names:
        near = next((n for n in names if n.lower() == FILE.lower()), "")
        raise UnreadableInput(
            f"no {FILE} in the folder" + (f", only {near}" if near else ""),
            where=str(root),
            allowed=f"a skill's folder or its {FILE}",
        )
    data = read_source(names[FILE])
    files = tuple(record(n, data if n == FILE else read_source(p)) for n, p in names.items())
    front, start, problem = _front(
        decoded(data, str(names[FILE])), skip=len(BOM) if data.startswith(BOM) else 0
    )
    fields, parse_problem = _fields(front) if not problem else ({}, "")
    start, end = _body(data, start)
    text = data[start:end].decode()
    joins = not text and start > 0 and data[start - 1 : start] != b"\n"
    return TextArtifact(
        kind=TextKind.SKILL,
        name=root.resolve().name,
        path=str(root),
        file=FILE,
        text=text,
        start=start,
        end=end,
        lead="\n" if joins else "",
        newline=line_ends(text, data),
        file_digest=next(f.digest for f in files if f.path == FILE),
        digest=tree_digest(files),
        files=files,
        front=front,
        fields=fields,
        problems=tuple(_block(p) for p in (problem, parse_problem) if p),
    )


def _front(text: str, skip: int) -> tuple[str, int, str]:
    """The frontmatter, the byte behind its closing fence, and what is wrong with it."""
    # lines end in LF alone: `splitlines` would also cut at form feeds and other separators
    lines = re.findall(r"[^\n]*\n|[^\n]+", text[1:] if skip else text)
    if not lines or not _FENCE.fullmatch(lines[0]):
        return "", skip, "no frontmatter: the first line must be ---"
    for i, line in enumerate(lines[1:], 1):
        if _FENCE.fullmatch(line):
            front = "".join(lines[1:i])
            return front, skip + len("".join(lines[: i + 1]).encode()), ""
    return "", skip, "the frontmatter has no closing ---"


def _fields(front: str) -> tuple[Mapping[str, Any], str]:
    if len(front) > FRONT_LIMIT_BYTES:
        return {}, f"the frontmatter is larger than {FRONT_LIMIT_BYTES >> 10} KiB"
    found, problem = mapping_of(front)
    return plain_object(found), problem and f"the frontmatter is not YAML: {problem}"


def _body(data: bytes, start: int) -> tuple[int, int]:
    """First and last byte of the body: blank lines around it belong to the file, not to the text."""
    while blank := re.compile(rb"[ \t\r]*\n").match(data, start):
        start = blank.end()
    rest = data[start:]
    return start, start + len(rest.rstrip(b" \t\r\n"))


def _block(text: str) -> Finding:
    return Finding(rule="frontmatter", severity=Severity.BLOCK, text=text, where=FILE)
