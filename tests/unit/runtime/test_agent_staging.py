"""Copies of artifacts with another text: every other byte as it was, the original untouched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from assay.core.errors import UsageError
from assay.readers.texts import read_region, read_skill, read_text, read_tool
from assay.runtime.staging import StagedSource, stage


def test_a_skill_is_copied_whole(tmp_path: Path) -> None:
    """All files with their rights, frontmatter byte by byte, the new body; the copy has the folder's name."""
    source = tmp_path / "fix"
    (source / "scripts").mkdir(parents=True)
    (source / "SKILL.md").write_bytes(b"---\r\nname: fix\r\n---\r\nold\r\n")
    (source / "scripts" / "x.sh").write_bytes(b"\xff\x00")
    (source / "scripts" / "x.sh").chmod(0o755)
    (tmp_path / "out").mkdir()
    copy = stage(read_skill(source / "SKILL.md"), "new\nlines", tmp_path / "out")
    assert copy == tmp_path / "out" / "fix"
    assert (copy / "SKILL.md").read_bytes() == b"---\r\nname: fix\r\n---\r\nnew\r\nlines\r\n"
    assert (copy / "scripts" / "x.sh").read_bytes() == b"\xff\x00"
    assert os.access(copy / "scripts" / "x.sh", os.X_OK)
    assert (source / "SKILL.md").read_bytes().endswith(b"old\r\n")
    staged = StagedSource(read_skill(source))
    assert staged.chars("new\nlines") == len((copy / "SKILL.md").read_bytes().decode())
    assert staged.digest("new\nlines") == read_skill(copy).digest != staged.artifact.digest


def test_tools_and_regions(tmp_path: Path) -> None:
    """One description of a manifest, one region of a file."""
    manifest = tmp_path / "tools.json"
    tool = {"name": "look", "description": "old", "inputSchema": {"type": "object"}}
    manifest.write_text(json.dumps({"tools": [tool], "more": 1}, indent=3))
    (tmp_path / "a").mkdir()
    copy = stage(read_tool(manifest, "look"), 'new "one"', tmp_path / "a")
    assert copy.read_text() == manifest.read_text().replace('"old"', '"new \\"one\\""')
    page = tmp_path / "CLAUDE.md"
    page.write_text("top\n<!-- evolve:rules start -->\nold\n<!-- evolve:rules end -->\nend\n")
    (tmp_path / "b").mkdir()
    made = stage(read_region(page, "rules"), "new", tmp_path / "b")
    assert made.read_text() == page.read_text().replace("old", "new")


def test_the_same_text_gives_the_same_bytes(tmp_path: Path) -> None:
    """A copy with its own text is the artifact."""
    path = tmp_path / "rules.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\n")
    artifact = read_text(path)
    (tmp_path / "out").mkdir()
    assert stage(artifact, artifact.text, tmp_path / "out").read_bytes() == path.read_bytes()


def test_what_changed_is_refused(tmp_path: Path) -> None:
    """The text's file, or any other file of a skill; and a place that is taken."""
    source = tmp_path / "fix"
    source.mkdir()
    (source / "SKILL.md").write_text("---\nname: fix\n---\nold\n")
    artifact = read_skill(source)
    staged = StagedSource(artifact)
    (source / "new.txt").write_text("x")
    with pytest.raises(UsageError, match="no longer"):
        stage(artifact, "new", tmp_path)
    assert staged.lay("new", tmp_path / "out").is_dir()
    with pytest.raises(UsageError, match="already exists"):
        staged.lay("new", tmp_path / "out")
