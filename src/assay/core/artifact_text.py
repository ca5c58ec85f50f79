"""Text artifacts: the text that may change, the bytes around it that may not, and edits between two versions.

An artifact says where its text lies in a file and which bytes that file had. `spliced` puts another text there and
leaves every other byte as it was; it refuses a file that is no longer the one that was read.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from assay.core.base import Noun
from assay.core.canon import PREFIX, digest_bytes
from assay.core.errors import UsageError
from assay.core.evidence import Artifact


class TextKind(StrEnum):
    """What a text is part of."""

    SKILL = "skill"
    """The body of the SKILL.md of a skill's folder."""
    TOOL = "tool"
    """The description of one tool in an MCP manifest."""
    PLAIN = "plain"
    """A whole file: a prompt, a list of rules or patterns."""
    REGION = "region"
    """What stands between two marker lines of any file."""


class Severity(StrEnum):
    """What a finding does: refuse, tell, or just mention."""

    BLOCK = "block"
    WARN = "warn"
    INFO = "info"


class Finding(Noun):
    """One thing that a check of a text, a manifest or a suite found."""

    rule: str
    """Name of the rule, such as `name-length`; policies change severities by it."""
    severity: Severity
    text: str
    """One sentence for a person."""
    where: str = ""
    """File, tool or task."""
    line: int | None = None
    """In that file, from 1."""
    measured: float | str | None = None
    limit: float | str | None = None


class TextArtifact(Noun):
    """A text that can be evolved, and its place in its file."""

    kind: TextKind
    name: str
    """Of the skill, tool or region; else the file's."""
    path: str
    """Folder of a skill, else the file, as the user named it."""
    file: str = ""
    """The file that holds the text, relative to `path`; empty where `path` is that file."""
    text: str
    """What may change. A tool's is decoded from JSON."""
    start: int = Field(ge=0)
    """First byte of the text in its file."""
    end: int = Field(ge=0)
    """The byte after the last one."""
    lead: str = ""
    """Put before a text where there was none, so that it does not join the line before."""
    tail: str = ""
    """Put behind a text where there was none, so that the line behind does not join it."""
    newline: Literal["\n", "\r\n", ""] = ""
    """How lines of a new text end; empty = as they come, because the text itself has both or is no file's."""
    ascii_only: bool = False
    """The manifest escapes all that is not ASCII, so a new description does too."""
    file_digest: str
    """Of the whole file."""
    digest: str
    """Of the whole artifact: all files of a skill's folder, else the file."""
    files: tuple[Artifact, ...] = ()
    """Every file of the artifact, by its name relative to `path`, sorted."""
    front: str = ""
    """The frontmatter of a skill as it stands there, without its fences."""
    fields: Mapping[str, Any] = Field(default_factory=dict)
    """The parsed frontmatter of a skill; the whole entry of a tool."""
    tools: tuple[str, ...] = ()
    """Names of all tools of the manifest."""
    problems: tuple[Finding, ...] = ()
    """What the reader could not make sense of."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end < self.start:
            raise ValueError("a text ends before it starts")
        return self


class EditOp(StrEnum):
    """What an edit does with lines."""

    ADD = "add"
    DELETE = "delete"
    REPLACE = "replace"
    MOVE = "move"


class Edit(Noun):
    """A change of whole lines: small enough to be told, remembered when rejected, and taken back."""

    op: EditOp
    at: int = Field(ge=0)
    """First line concerned, from 0; ADD puts its lines before this one."""
    count: int = Field(default=0, ge=0)
    """Lines that are deleted, replaced or moved."""
    lines: tuple[str, ...] = ()
    """New lines, without their ends."""
    to: int | None = Field(default=None, ge=0)
    """MOVE: the place among the lines that are left when the moved ones are gone."""
    reason: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needs_count = self.op is not EditOp.ADD
        needs_lines = self.op in {EditOp.ADD, EditOp.REPLACE}
        if bool(self.count) != needs_count or bool(self.lines) != needs_lines:
            raise ValueError(f"an edit {self.op.value!r} has count={self.count} and {len(self.lines)} lines")
        if (self.to is not None) != (self.op is EditOp.MOVE):
            raise ValueError("`to` belongs to an edit 'move' and to no other")
        if any("\n" in line for line in self.lines):
            raise ValueError("a line of an edit holds a line end")
        return self


def edited(text: str, edits: Iterable[Edit]) -> str:
    """The text after some edits, each applied to what the one before left.

    Raises:
        UsageError: if an edit speaks of lines that are not there.
    """
    lines = text.split("\n") if text else []
    for edit in edits:
        last = edit.at + edit.count
        if last > len(lines):
            raise UsageError(f"an edit of lines {edit.at}..{last}: the text has {len(lines)}")
        taken = lines[edit.at : last]
        del lines[edit.at : last]
        if edit.to is None:
            lines[edit.at : edit.at] = edit.lines
        elif edit.to > len(lines):
            raise UsageError(f"an edit moves lines to {edit.to}: only {len(lines)} are left")
        else:
            lines[edit.to : edit.to] = taken
    return "\n".join(lines)


def edits_between(before: str, after: str) -> tuple[Edit, ...]:
    """Edits that make `after` of `before`, last line first, so that no edit shifts another."""
    old, new = (text.split("\n") if text else [] for text in (before, after))
    found = []
    for op, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if op == "insert":
            found.append(Edit(op=EditOp.ADD, at=i, lines=tuple(new[k:m])))
        elif op == "delete":
            found.append(Edit(op=EditOp.DELETE, at=i, count=j - i))
        elif op == "replace":
            found.append(Edit(op=EditOp.REPLACE, at=i, count=j - i, lines=tuple(new[k:m])))
    return tuple(reversed(found))


def growth(baseline: str, candidate: str) -> float:
    """How much longer a text is, as a share of the baseline: (len(candidate) - len(baseline)) / len(baseline)."""
    return (len(candidate) - len(baseline)) / max(1, len(baseline))


def spliced(artifact: TextArtifact, data: bytes, text: str) -> bytes:
    """The bytes of the artifact's file with another text in place of the old one.

    Args:
        artifact: what was read.
        data: the file's bytes; they must be those that the artifact was read from.
        text: the new text; `artifact.text` gives the same bytes again.

    Raises:
        UsageError: if the file has changed since, or the text cannot be written as UTF-8.
    """
    if digest_bytes(data) != artifact.file_digest:
        raise UsageError(
            "the file is no longer the one that was read",
            where=artifact.path,
            next="read it again; what was judged on the old bytes does not hold for these",
        )
    if text == artifact.text:
        return data
    try:
        return data[: artifact.start] + _encoded(artifact, data, text) + data[artifact.end :]
    except UnicodeEncodeError as error:
        raise UsageError(f"the text holds half a surrogate pair: {error}", where=artifact.name) from error


def changed(artifact: TextArtifact, data: bytes, text: str) -> tuple[bytes, TextArtifact]:
    """The new bytes of the file, and the artifact as a reader would find it, frontmatter and names unchanged.

    Raises:
        UsageError: see `spliced`.
    """
    made = spliced(artifact, data, text)
    if made is data:
        return data, artifact
    lead = artifact.lead if text else ""
    tail = artifact.tail if text else ""
    start = artifact.start + len(lead.encode())
    end = artifact.start + len(made) - (len(data) - (artifact.end - artifact.start)) - len(tail.encode())
    inner = _with_line_ends(artifact, text)
    name = artifact.file or (artifact.files[0].path if artifact.files else "")
    record = Artifact(path=name, digest=digest_bytes(made), size_bytes=len(made))
    files = tuple(record if f.path == name else f for f in artifact.files)
    fields = artifact.fields
    if artifact.kind is TextKind.TOOL:
        fields = {**fields, "description": text}
    return made, artifact.model_copy(
        update={
            "text": inner,
            "start": start,
            "end": end,
            "lead": "" if text else artifact.lead,
            "tail": "" if text else artifact.tail,
            "file_digest": record.digest,
            "digest": tree_digest(files) if artifact.kind is TextKind.SKILL else record.digest,
            "files": files,
            "fields": fields,
        }
    )


def tree_digest(files: Sequence[Artifact]) -> str:
    """One digest over names, sizes and digests of files, the same as of the folder that they lie in."""
    whole = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.path):
        line = f"{file.digest} {file.size_bytes} {file.path}\0"
        whole.update(line.encode("utf-8", "surrogateescape"))
    return PREFIX + whole.hexdigest()


def _with_line_ends(artifact: TextArtifact, text: str) -> str:
    return re.sub(r"(?<!\r)\n", "\r\n", text) if artifact.newline == "\r\n" else text


def _encoded(artifact: TextArtifact, data: bytes, text: str) -> bytes:
    if artifact.kind is TextKind.TOOL:
        return _as_json(data[artifact.start : artifact.end].decode(), text, artifact.ascii_only)
    if not text:
        return b""
    return (artifact.lead + _with_line_ends(artifact, text) + artifact.tail).encode()


_UNIT = re.compile(r'\\u[0-9a-fA-F]{4}|\\["\\/bfnrt]|[^"\\]', re.DOTALL)


def _as_json(raw: str, text: str, ascii_only: bool) -> bytes:
    """A JSON string's inside: what both texts begin and end with keeps the escapes that it has."""
    old = list(_characters(raw))
    head = _common(((c for c, _ in old), text))
    rest = min(len(old), len(text)) - head
    back = min(rest, _common(((c for c, _ in reversed(old)), reversed(text))))
    middle = json.dumps(text[head : len(text) - back], ensure_ascii=ascii_only)[1:-1]
    before = "".join(r for _, r in old[:head])
    after = "".join(r for _, r in old[len(old) - back :])
    return (before + middle + after).encode()


def _characters(raw: str) -> Iterator[tuple[str, str]]:
    """Each character of a JSON string with the way in which it is written; a surrogate pair is one."""
    units = _UNIT.findall(raw)
    i = 0
    while i < len(units):
        written = units[i]
        if re.match(r"\\u[dD][89abAB]", written) and i + 1 < len(units):
            written += units[i + 1]
        yield json.loads(f'"{written}"', strict=False), written
        i += 2 if len(written) > 6 else 1


def _common(pair: tuple[Iterable[str], Iterable[str]]) -> int:
    count = 0
    for a, b in zip(*pair, strict=False):
        if a != b:
            break
        count += 1
    return count
