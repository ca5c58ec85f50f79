"""Texts: digests over whole folders, line ends, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assay.core.artifact_text import Edit, EditOp, TextKind, changed, edited, spliced
from assay.core.errors import UnreadableInput, UsageError
from assay.readers.texts import read_plain, read_region, read_skill, read_text, read_tool, region_names
from assay.runtime.files import digest_folder

FRONT = "---\nname: s\ndescription: d\n---\n"


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    root = tmp_path / "s"
    (root / "scripts").mkdir(parents=True)
    (root / "SKILL.md").write_text(FRONT + "\nbody\n")
    (root / "scripts" / "run.sh").write_text("echo\n")
    return root


def test_the_digest_is_that_of_the_folder(folder: Path) -> None:
    """A skill has the digest that anything else computes for its folder, before and after a change."""
    artifact = read_skill(folder)
    assert artifact.digest == digest_folder(folder)
    data, after = changed(artifact, (folder / "SKILL.md").read_bytes(), "new body")
    (folder / "SKILL.md").write_bytes(data)
    assert after.digest == digest_folder(folder)
    assert after == read_skill(folder)


def test_scripts_count(folder: Path) -> None:
    """Another script makes another skill: the text alone does not name it."""
    before = read_skill(folder)
    (folder / "scripts" / "run.sh").write_text("rm\n")
    after = read_skill(folder)
    assert after.text == before.text
    assert after.file_digest == before.file_digest
    assert after.digest != before.digest


def test_links_out_of_a_skill_are_refused(folder: Path) -> None:
    """A link to a file inside is read; one that leads out, to a folder or nowhere is refused."""
    (folder / "again.sh").symlink_to("scripts/run.sh")
    assert len(read_skill(folder).files) == 3
    for target in ("/etc/hostname", "../elsewhere", "scripts"):
        (folder / "bad").symlink_to(target)
        with pytest.raises(UnreadableInput, match="link"):
            read_skill(folder)
        (folder / "bad").unlink()


def test_what_is_no_skill(tmp_path: Path, folder: Path) -> None:
    """A folder without SKILL.md is refused, and a name in another case is pointed at."""
    with pytest.raises(UnreadableInput, match=r"no SKILL\.md"):
        read_skill(tmp_path)
    (folder / "SKILL.md").rename(folder / "skill.md")
    with pytest.raises(UnreadableInput, match=r"only skill\.md"):
        read_skill(folder)


def test_pipes_do_not_hold_us_up(folder: Path) -> None:
    """A pipe in a skill's folder is refused at once."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(UnreadableInput, match="neither"):
        read_skill(folder)


def test_windows_line_ends_stay(folder: Path) -> None:
    """A file whose lines end in CRLF gets a new text that does, and frontmatter as it was."""
    path = folder / "SKILL.md"
    path.write_bytes((FRONT + "\none\ntwo\n").replace("\n", "\r\n").encode())
    artifact = read_skill(folder)
    made = spliced(artifact, path.read_bytes(), "three\nfour")
    assert made == (FRONT + "\nthree\nfour\n").replace("\n", "\r\n").encode()


def test_a_changed_file_is_not_written_to(folder: Path) -> None:
    """A text that was judged on other bytes is not put into these."""
    artifact = read_skill(folder)
    with pytest.raises(UsageError, match="no longer"):
        spliced(artifact, b"other", "x")


def test_half_a_surrogate_pair_is_refused(folder: Path) -> None:
    """A text that no file can hold is a usage error, not a crash."""
    artifact = read_skill(folder)
    with pytest.raises(UsageError, match="surrogate"):
        spliced(artifact, (folder / "SKILL.md").read_bytes(), "a\ud800")


def test_an_empty_body_gets_its_own_line(folder: Path) -> None:
    """A body put behind a closing fence without a line end does not join it."""
    path = folder / "SKILL.md"
    path.write_text(FRONT.rstrip("\n"))
    artifact = read_skill(folder)
    assert artifact.text == ""
    path.write_bytes(spliced(artifact, path.read_bytes(), "body"))
    assert read_skill(folder).text == "body"
    assert not read_skill(folder).problems


def test_alias_bombs_do_not_fill_the_memory(folder: Path) -> None:
    """YAML aliases that stand for a billion values are cut short."""
    lines = [
        "a0: &a0 [x,x,x,x,x,x,x,x,x]",
        *(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)),
    ]
    (folder / "SKILL.md").write_text("---\n" + "\n".join(lines) + "\n---\nbody\n")
    assert len(str(read_skill(folder).fields)) < 2_000_000


@pytest.mark.parametrize(
    "document",
    [
        b"[]",
        b'{"tools": {}}',
        b'{"tools": [1]}',
        b'{"result": 3}',
        b'{"tools": [{"name": "t"}]}',
        b'{"tools": [{"name": "t", "description": 3}]}',
        b'{"tools": [{"name": "t", "description": "a"}, {"name": "t", "description": "b"}]}',
        b'{"tools": [{"name": "t", "description": "a", "description": "b"}]}',
        b'{"tools": [{"name": "t", "description": "\\ud800"}]}',
        b'{"tools": [{"name": "t", "description": "a"}',
        b"\xff\xfe",
        b"",
        b"[" * 100_000,
    ],
)
def test_what_is_no_manifest_with_that_tool(tmp_path: Path, document: bytes) -> None:
    """A tool that is missing, there twice, without a description or ambiguous is refused."""
    path = tmp_path / "tools.json"
    path.write_bytes(document)
    with pytest.raises(UnreadableInput):
        read_tool(path, "t")


@pytest.mark.parametrize(
    "wrap", ['{{"tools": {0}}}', '{{"jsonrpc": "2.0", "result": {{"tools": {0}}}}}', "{0}", "\ufeff {0} \n"]
)
def test_shapes_of_a_manifest(tmp_path: Path, wrap: str) -> None:
    """The list alone, in `tools`, and in the answer of a server."""
    path = tmp_path / "tools.json"
    data = wrap.format(
        '[{"name": "s"}, {"name": "t", "description": "old", "x": {"description": "old"}}]'
    ).encode()
    path.write_bytes(data)
    artifact = read_tool(path, "t")
    assert (artifact.text, artifact.tools) == ("old", ("s", "t"))
    assert spliced(artifact, data, "né\n") == data.replace(b'"old"', b'"n\\u00e9\\n"', 1)


def test_regions_are_named_once_and_in_order(tmp_path: Path) -> None:
    """Markers that are missing, doubled or turned round are refused, with the names that are there."""
    path = tmp_path / "x.py"
    start, end = "# evolve:a start\n", "# evolve:a end\n"
    for text in ("", start, end, end + start, start + start + end, start + end + end):
        path.write_text(text)
        with pytest.raises(UnreadableInput, match="markers"):
            read_region(path, "a")
    path.write_text(start + "x\n" + end + "// evolve:b start\n// evolve:b end\n")
    assert region_names(path.read_bytes()) == ("a", "b")
    assert read_region(path, "a").text == "x"
    empty = read_region(path, "b")
    assert spliced(empty, path.read_bytes(), "y").endswith(b"start\ny\n// evolve:b end\n")


def test_the_kind_is_found_by_path_and_name(tmp_path: Path, folder: Path) -> None:
    """A folder is a skill, a named part of JSON a tool, of another file a region, and all else plain."""
    tools, rules = tmp_path / "t.json", tmp_path / "rules.txt"
    tools.write_text('[{"name": "t", "description": "d"}]')
    rules.write_text("# evolve:r start\nx\n# evolve:r end\n")
    assert read_text(folder).kind is TextKind.SKILL
    assert read_text(folder / "SKILL.md").kind is TextKind.SKILL
    assert read_text(tools, name="t").kind is TextKind.TOOL
    assert read_text(rules, name="r").kind is TextKind.REGION
    assert read_text(rules).kind is TextKind.PLAIN
    assert read_text(tools, TextKind.PLAIN).text.startswith("[")
    with pytest.raises(UsageError, match="needs a name"):
        read_text(rules, TextKind.REGION)


def test_plain_files_must_be_utf8(tmp_path: Path) -> None:
    """Another encoding is refused with the line of the first bad byte."""
    path = tmp_path / "rules.txt"
    path.write_bytes(b"one\ntw\xe9\n")
    with pytest.raises(UnreadableInput, match="line 2"):
        read_plain(path)


@pytest.mark.parametrize(
    "edit",
    [
        {"op": "add", "at": 0},
        {"op": "add", "at": 0, "count": 1, "lines": ["x"]},
        {"op": "delete", "at": 0},
        {"op": "delete", "at": 0, "count": 1, "lines": ["x"]},
        {"op": "replace", "at": 0, "count": 1},
        {"op": "move", "at": 0, "count": 1},
        {"op": "add", "at": 0, "lines": ["x"], "to": 1},
        {"op": "add", "at": 0, "lines": ["x\ny"]},
        {"op": "delete", "at": -1, "count": 1},
    ],
)
def test_edits_that_make_no_sense(edit: dict[str, object]) -> None:
    """An edit has exactly the parts that its word needs."""
    with pytest.raises(ValueError, match="validation error"):
        Edit.model_validate(edit)


def test_edits_beyond_the_text() -> None:
    """Lines that are not there cannot be edited."""
    with pytest.raises(UsageError, match="has 1"):
        edited("one", [Edit(op=EditOp.DELETE, at=1, count=1)])
    with pytest.raises(UsageError, match="only 0"):
        edited("one", [Edit(op=EditOp.MOVE, at=0, count=1, to=1)])
