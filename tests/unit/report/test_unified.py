"""Patches: what `patch` and `git apply` make of them is the other file, byte by byte."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.report.unified import patch

CASES = {
    "plain": (b"a\nb\nc\n", b"a\nB\nc\n"),
    "crlf": (b"a\r\nb\r\nc\r\n", b"a\r\nB\r\nc\r\nd\r\n"),
    "line ends": (b"a\r\nb\r\n", b"a\nb\n"),
    "newline gone": (b"a\nb\n", b"a\nb"),
    "newline came": (b"a\nb", b"a\nb\n"),
    "never one": (b"a\nb", b"a\nc"),
    "from nothing": (b"", b"a\nb\n"),
    "to nothing": (b"a\nb\n", b""),
    "one json line": (b'{"tools": [{"description": "a"}]}', b'{"tools": [{"description": "b"}]}'),
    "looks like a patch": (b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n", b"--- a/x\n+++ b/x\n@@ -1 +2 @@\nx\n"),
    "separators": ("a\x0bb\x0cc\u2028d\x85e\n".encode(), "a\x0bb\x0cX\u2028d\x85e\n".encode()),
    "any bytes": (bytes(range(1, 256)), bytes(range(1, 256)) + b"\n\xff"),
    "bom": (b"\xef\xbb\xbfa\n", b"\xef\xbb\xbfb\n"),
}
NAMES = ("SKILL.md", "skills/my skill/SKILL.md", "dïr/täxt.md", 'quo"te.md')


def _tool(program: str, folder: Path, made: bytes) -> None:
    command = {
        "patch": ["patch", "-p1", "--silent"],
        "git": ["git", "apply", "--whitespace=nowarn", "-"],
    }[program]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here")
    environment = {
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
    }
    done = subprocess.run(command, cwd=folder, input=made, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, (done.stdout, done.stderr)


@pytest.mark.parametrize("program", ["patch", "git"])
@pytest.mark.parametrize("case", sorted(CASES))
def test_real_programs_take_it(program: str, case: str, tmp_path: Path) -> None:
    """CRLF, a missing line end, empty files and odd bytes come out as they went in."""
    before, after = CASES[case]
    (tmp_path / "SKILL.md").write_bytes(before)
    _tool(program, tmp_path, patch(before, after, "SKILL.md"))
    path = tmp_path / "SKILL.md"
    # `patch` removes a file that it emptied
    assert (path.read_bytes() if path.exists() else b"") == after


@pytest.mark.parametrize("program", ["patch", "git"])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_need_care(program: str, name: str, tmp_path: Path) -> None:
    """Blanks, letters that are not ASCII and quotation marks in a path find their file."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"one\n")
    _tool(program, tmp_path, patch(b"one\n", b"two\n", name))
    assert path.read_bytes() == b"two\n"


def test_equal_files_have_no_patch() -> None:
    """Nothing changed: nothing to apply."""
    assert patch(b"a\n", b"a\n", "x") == b""


def test_a_name_opens_no_header_of_its_own() -> None:
    """A line end in a path is escaped: it cannot name another file."""
    made = patch(b"a\n", b"b\n", "x\n+++ b/etc/passwd")
    assert made.split(b"\n")[1].startswith(b'+++ "b/x\\n+++')
    assert sum(line.startswith(b"+++ ") for line in made.split(b"\n")) == 1


def _applied(made: bytes, before: bytes) -> bytes:
    """A patch applied as the format says, by a reader of its own."""
    old = [p + b"\n" for p in before.split(b"\n")]
    old[-1:] = [old[-1][:-1]] if old[-1] != b"\n" else []
    out: list[bytes] = []
    at = 0
    rows = made.split(b"\n")[2:-1]
    for i, row in enumerate(rows):
        bare = i + 1 < len(rows) and rows[i + 1].startswith(b"\\")
        content = row[1:] + (b"" if bare else b"\n")
        if row.startswith(b"@@"):
            start, _, count = row.split(b" ")[1][1:].partition(b",")
            begin = int(start) - (0 if count == b"0" else 1)
            out += old[at:begin]
            at = begin
        elif row.startswith(b" "):
            assert old[at] == content
            out.append(content)
            at += 1
        elif row.startswith(b"-"):
            assert old[at] == content
            at += 1
        elif row.startswith(b"+"):
            out.append(content)
    return b"".join([*out, *old[at:]])


BYTES = st.lists(st.sampled_from([b"a", b"b\r", b"", b"- x", b"\\ No", b"@@ -1 +1 @@", b"\xff"]), max_size=12)


@given(BYTES, BYTES, st.booleans(), st.booleans())
def test_any_change_is_carried(old: list[bytes], new: list[bytes], left: bool, right: bool) -> None:
    """A patch holds all that is needed to make one file of the other."""
    before = b"\n".join(old) + (b"\n" if left else b"")
    after = b"\n".join(new) + (b"\n" if right else b"")
    made = patch(before, after, "x")
    assert (_applied(made, before) if made else before) == after
