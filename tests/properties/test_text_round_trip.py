"""Reading a text and putting it back changes no byte; putting another one there changes no other byte."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from assay.core.artifact_text import (
    Edit,
    EditOp,
    TextArtifact,
    TextKind,
    changed,
    edited,
    edits_between,
    growth,
    spliced,
)
from assay.core.errors import UnreadableInput
from assay.readers.texts import read_manifest, read_plain, read_region, read_skill, read_tool

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
LINE_TEXT = st.text(st.sampled_from('ab -#\n\t`é😀"\\<>:'), max_size=60)
END = st.sampled_from(["\n", "\r\n"])


def written(data: bytes, name: str) -> tuple[TemporaryDirectory[str], Path]:
    """A file in a folder of its own."""
    folder = TemporaryDirectory()
    path = Path(folder.name, name)
    path.write_bytes(data)
    return folder, path


def check(artifact: TextArtifact, data: bytes, new: str) -> bytes:
    """The laws of a splice, whatever the kind."""
    assert spliced(artifact, data, artifact.text) == data
    made, after = changed(artifact, data, new)
    assert made == spliced(artifact, data, new)
    assert made[: artifact.start] == data[: artifact.start]
    assert made.endswith(data[artifact.end :])
    inside = made[after.start : after.end].decode()
    assert (json.loads(f'"{inside}"') if after.kind is TextKind.TOOL else inside) == after.text
    return made


@given(st.binary(max_size=80), TEXT)
def test_any_bytes_as_a_plain_text(data: bytes, new: str) -> None:
    """A plain file is read or refused, and written back byte by byte."""
    folder, path = written(data, "rules.txt")
    with folder:
        try:
            artifact = read_plain(path)
        except UnreadableInput:
            return
        made = check(artifact, data, new)
        path.write_bytes(made)
        again = read_plain(path)
        assert again.text == changed(artifact, data, new)[1].text
        assert again.digest == changed(artifact, data, new)[1].digest


@given(
    st.binary(max_size=40).filter(lambda b: b"evolve:" not in b),
    st.binary(max_size=40).filter(lambda b: b"evolve:" not in b),
    LINE_TEXT.filter(lambda t: "evolve" not in t),
    LINE_TEXT,
    END,
    st.sampled_from(["<!-- evolve:x {} -->", "# evolve:x {}", "  // evolve:x {}", "evolve:x {}"]),
)
def test_a_region_of_any_file(
    before: bytes, after: bytes, text: str, new: str, end: str, marker: str
) -> None:
    """The bytes around a region stay, even where they are no text at all; what was put there is read again."""
    head = before + (b"" if before.endswith(b"\n") or not before else b"\n")
    inner = text.replace("\n", end)
    middle = f"{marker.format('start')}{end}{inner}{end if inner else ''}{marker.format('end')}{end}".encode()
    data = head + middle + after
    folder, path = written(data, "any.bin")
    with folder:
        artifact = read_region(path, "x")
        assert artifact.text == inner
        made = check(artifact, data, new)
        assert made.startswith(head)
        assert made.endswith(after)
        path.write_bytes(made)
        again = read_region(path, "x")
        expected = changed(artifact, data, new)[1]
        assert (again.text, again.start, again.end) == (expected.text, expected.start, expected.end)


@given(
    st.sampled_from(["", "\ufeff"]),
    st.sampled_from(["name: a\ndescription: b\n", "x: 1\n", "", "---x\n", ": : bad\n"]),
    LINE_TEXT,
    LINE_TEXT.map(lambda t: t.strip(" \t\n")),
    END,
)
def test_the_frontmatter_of_a_skill_stays(bom: str, front: str, body: str, new: str, end: str) -> None:
    """Frontmatter, byte order mark, blank lines and line ends of a SKILL.md are the same after a change of its body."""
    data = (bom + "---\n" + front + "---\n\n" + body).replace("\n", end).encode()
    folder, path = written(data, "SKILL.md")
    with folder:
        artifact = read_skill(path)
        assert artifact.front == front.replace("\n", end)
        made = check(artifact, data, new)
        path.write_bytes(made)
        again = read_skill(path)
        expected = changed(artifact, data, new)[1]
        assert (again.text, again.digest) == (expected.text, expected.digest)
        assert again.front == artifact.front


@given(
    TEXT,
    TEXT,
    TEXT,
    st.booleans(),
    st.sampled_from([None, 1, 2, "\t"]),
    st.sampled_from([(",", ":"), (", ", " : "), None]),
)
def test_one_description_of_a_manifest(
    text: str, other: str, new: str, ascii_only: bool, indent: object, separators: object
) -> None:
    """Only the one description changes; every other value, and the way in which the file is written, stay."""
    document = {
        "x-unknown": {"tools": [{"name": "t", "description": "a decoy"}]},
        "tools": [
            {"description": other, "name": "s", "inputSchema": {"description": "inner", "type": "object"}},
            {"inputSchema": {"description": text, "type": "object"}, "name": "t", "description": text},
        ],
        "_evolution_metadata": {"confusable_neighbors": {"t": ["s"]}},
    }
    data = json.dumps(document, ensure_ascii=ascii_only, indent=indent, separators=separators).encode()  # type: ignore[arg-type]
    folder, path = written(data, "tools.json")
    with folder:
        artifact = read_tool(path, "t")
        assert artifact.text == text
        made = check(artifact, data, new)
        document["tools"][1]["description"] = new  # type: ignore[index]
        assert json.loads(made) == document
        if data.isascii():
            assert made.isascii()
        path.write_bytes(made)
        assert read_tool(path, "t").text == new
        assert read_manifest(path).neighbours == {"t": ("s",)}


@given(
    st.lists(st.sampled_from(["a", "\\u0061", "\\u00e9", "é", "\\n", "\\/", "/", "\\ud83d\\ude00", "😀"])),
    TEXT,
)
def test_escapes_of_what_stays_are_kept(units: list[str], new: str) -> None:
    """A description that is written in an odd way keeps that way wherever its text did not change."""
    raw = "".join(units)
    data = f'[{{"name":"t","description":"{raw}"}}]'.encode()
    folder, path = written(data, "tools.json")
    with folder:
        artifact = read_tool(path, "t")
        made = spliced(artifact, data, artifact.text + new)
        assert made.startswith(data[: artifact.end])
        made = spliced(artifact, data, new + artifact.text)
        assert made.endswith(data[artifact.start :])


@given(st.binary(max_size=200))
def test_no_bytes_crash_a_reader(data: bytes) -> None:
    """Every reader answers any bytes with an artifact or with `UnreadableInput`."""
    folder, path = written(data, "SKILL.md")
    with folder:
        for read in (read_skill, read_plain, read_manifest, lambda p: read_region(p, "x")):
            with contextlib.suppress(UnreadableInput):
                assert read(path)


LINES = st.lists(st.sampled_from(["", "a", "b", "c d"]), max_size=8).map("\n".join)


@given(LINES, LINES)
def test_edits_between_two_texts_make_the_second(before: str, after: str) -> None:
    """The edits from one text to another, applied to the first, give the second; equal texts need none."""
    edits = edits_between(before, after)
    assert edited(before, edits) == after
    assert bool(edits) == (before != after)
    assert all(Edit.from_json(e.to_json()) == e for e in edits)


@given(LINES.filter(lambda t: t.count("\n") >= 2), st.data())
def test_a_move_keeps_all_lines(text: str, data: st.DataObject) -> None:
    """Moving lines neither makes nor loses one."""
    count = text.count("\n") + 1
    at = data.draw(st.integers(0, count - 1))
    size = data.draw(st.integers(1, count - at))
    to = data.draw(st.integers(0, count - size))
    made = edited(text, [Edit(op=EditOp.MOVE, at=at, count=size, to=to)])
    assert sorted(made.split("\n")) == sorted(text.split("\n"))
    assert growth(text, made) == 0
