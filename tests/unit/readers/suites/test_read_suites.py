"""Suites: both formats, and paths that try to get out."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import UnreadableInput
from assay.core.suite import Fixture, Suite, Task, Verifier, why_unsafe
from assay.readers.suites import read_suite

LINE: dict[str, Any] = {
    "task_id": "one",
    "user_message": "Repair {fixture_dir}/a.py",
    "fixture_setup": {"a.py": "x = 1\n", "test_a.py": "import a\n", "pkg/b.txt": "b"},
    "test_command": "python test_a.py --quick 'a b'",
}


def jsonl(path: Path, *entries: Any) -> Path:
    """A suite of those lines."""
    path.write_text("\n".join(e if isinstance(e, str) else json.dumps(e) for e in entries) + "\n")
    return path


def test_the_jsonl_of_other_harnesses(tmp_path: Path) -> None:
    """Comments and blank lines are skipped, the command is split without a shell, all fields are kept."""
    second = {
        "task_id": "two",
        "user_message": "x",
        "expected_tools": ["a"],
        "forbidden_tools": ["b"],
        "stale_token": "t",
    }
    suite = read_suite(jsonl(tmp_path / "s.jsonl", "# a comment", "", LINE, "   # more", second))
    one, two = suite.tasks
    assert one.verifier.command == ("python", "test_a.py", "--quick", "a b")
    assert one.verifier.timeout_s == 60
    assert one.rendered("/work") == "Repair /work/a.py"
    assert {f.path: f.data for f in one.fixtures}["pkg/b.txt"] == b"b"
    assert two.extra == {"stale_token": "t"}
    assert two.verifier.tools_pass(["c", "a"])
    assert not two.verifier.tools_pass(["c"])
    assert not two.verifier.tools_pass(["a", "b"])
    assert Verifier().tools_pass([])
    assert not Verifier().decides
    assert Suite.from_json(suite.to_json()).digest == suite.digest


def test_deciding_fixtures_are_put_back(tmp_path: Path) -> None:
    """What the command names, or a test runner would find, is restored before judging; the rest is the agent's."""
    named = read_suite(jsonl(tmp_path / "a.jsonl", LINE)).tasks[0]
    assert [f.path for f in named.verifier.files] == ["test_a.py"]
    found = read_suite(jsonl(tmp_path / "b.jsonl", {**LINE, "test_command": "python -m pytest -q"})).tasks[0]
    assert [f.path for f in found.verifier.files] == ["test_a.py"]
    outside = {**LINE, "verifier_files": {"test_a.py": "import a; assert a.x\n"}}
    (file,) = read_suite(jsonl(tmp_path / "c.jsonl", outside)).tasks[0].verifier.files
    assert "assert" in file.text


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{not json", "not valid JSON"),
        ("[1]", "object"),
        ({**LINE, "user_message": ""}, "user_message"),
        ({k: v for k, v in LINE.items() if k != "task_id"}, "task_id"),
        ({**LINE, "task_id": "a/b"}, "task_id"),
        ({**LINE, "task_id": ".."}, "task_id"),
        ({**LINE, "test_comand": "x"}, "unknown field 'test_comand'"),
        ({**LINE, "test_command": "a 'b"}, "cannot be split"),
        ({**LINE, "test_command": " "}, "empty"),
        ({**LINE, "test_command": 3}, "test_command"),
        ({**LINE, "fixture_setup": ["a"]}, "fixture_setup"),
        ({**LINE, "fixture_setup": {"a": 3}}, "fixture_setup"),
        ({**LINE, "fixture_setup": {"../a": "x"}}, "not allowed"),
        ({**LINE, "fixture_setup": {"a": "x", "A": "y"}}, "one file"),
        ({**LINE, "fixture_setup": {"a": "x", "a/b": "y"}}, "folder"),
        ({**LINE, "verifier_files": {"TEST_A.py": "x"}}, "one file"),
        ({**LINE, "timeout_s": 0}, "timeout_s"),
        ({**LINE, "expected_tools": "a"}, "expected_tools"),
        ({**LINE, "split": "test"}, "split"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, entry: Any, words: str) -> None:
    """The message says file, line and what is wrong."""
    with pytest.raises(UnreadableInput) as caught:
        read_suite(jsonl(tmp_path / "s.jsonl", {**LINE, "task_id": "good"}, "", entry))
    assert "s.jsonl:3" in str(caught.value)
    assert words in str(caught.value)


def test_suites_without_tasks_and_with_one_twice(tmp_path: Path) -> None:
    """An empty suite and a repeated id are refused, with the first line of that id."""
    with pytest.raises(UnreadableInput, match="no task"):
        read_suite(jsonl(tmp_path / "s.jsonl", "# nothing"))
    with pytest.raises(UnreadableInput, match="line 1"):
        read_suite(jsonl(tmp_path / "s.jsonl", LINE, LINE))
    with pytest.raises(UnreadableInput, match="on some systems"):
        read_suite(jsonl(tmp_path / "s.jsonl", LINE, {**LINE, "task_id": "ONE"}))
    with pytest.raises(UnreadableInput, match="cannot read"):
        read_suite(tmp_path / "gone.jsonl")


UNSAFE = [
    "",
    ".",
    "..",
    "../x",
    "a/../../x",
    "a/./b",
    "a//b",
    "a/",
    "/etc/passwd",
    "~/x",
    "C:/x",
    "c:x",
    "a\\..\\x",
    "..\\x",
    "a\x00b",
    "a\nb",
    "a\u202eb",
    "a\u200bb",
    "\uff0e\uff0e/x",
    "\u2025/x",
    "a\uff0fb",
    " a",
    "a ",
    "a.",
    ".. /x",
    "con",
    "NUL.txt",
    "a/com1",
    "x" * 256,
    "a/" * 600 + "b",
    "a\ud800",
]


@pytest.mark.parametrize("path", UNSAFE, ids=repr)
def test_paths_that_get_out_are_refused(path: str) -> None:
    """Nothing that some system reads as another place, trims, reserves or hides is a fixture's path."""
    assert why_unsafe(path)
    with pytest.raises(ValueError, match=r"not allowed|surrogate"):
        Fixture(path=path, content="")


@pytest.mark.parametrize(
    "path", ["a", "a/b/c.txt", ".env", ".github/x.yml", "größe/naïve.py", "a b.txt", "..a", "a..b"]
)
def test_plain_paths_are_allowed(path: str) -> None:
    """Dots inside of names, hidden files, spaces inside and other alphabets are fine."""
    assert why_unsafe(path) == ""


@given(
    st.lists(st.sampled_from(["..", ".", "a", "", "/", "\\", "b", "C:", "\u2024", " ", "\uff0e"]), max_size=5)
)
def test_no_allowed_path_leaves_its_folder(parts: list[str]) -> None:
    """Whatever is allowed stays below the folder that it is joined to."""
    path = "/".join(parts)
    if not why_unsafe(path):
        root = Path("/work/folder")
        assert (root / path).resolve().is_relative_to(root)
        assert (root / path).resolve() != root


@given(st.binary(max_size=100), st.booleans())
def test_a_fixture_keeps_any_bytes(data: bytes, executable: bool) -> None:
    """Bytes come back as they were, through JSON as well."""
    file = Fixture.of("a", data, executable=executable)
    assert Fixture.from_json(file.to_json()).data == data


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    root = tmp_path / "my-suite"
    for name, text in {
        "suite.yaml": "schema: assay.suite/1\ndefaults:\n  prompt: Do it.\n"
        "  verify:\n    command: [sh, check.sh]\n    timeout_s: 5\n",
        "shared/workspace/common.txt": "c",
        "shared/verifier/check.sh": "test -f out\n",
        "tasks/b/task.yaml": "canary: true\n",
        "tasks/a/task.yaml": "prompt: Other.\nverify:\n  timeout_s: 9\ntags: [x]\nsplit: train\n",
        "tasks/a/workspace/common.txt": "own",
        "tasks/a/workspace/deep/er/x.txt": "x",
        "tasks/a/verifier/more.txt": "m",
        "tasks/a/reference/out": "o",
        "tasks/a/workspace/__pycache__/x.cpython-311.pyc": "junk",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_folder_format(folder: Path) -> None:
    """Defaults, shared files, and a task's own over them; the parts stay apart, junk is left out."""
    (folder / "tasks/a/workspace/run.sh").write_text("x")
    (folder / "tasks/a/workspace/run.sh").chmod(0o755)
    a, b = read_suite(folder).tasks
    assert (a.task_id, a.prompt, a.split, a.tags, a.canary) == ("a", "Other.", "train", ("x",), False)
    assert (a.verifier.command, a.verifier.timeout_s) == (("sh", "check.sh"), 9)
    assert {f.path: f.text for f in a.fixtures} == {"common.txt": "own", "deep/er/x.txt": "x", "run.sh": "x"}
    assert [f.path for f in a.fixtures if f.executable] == ["run.sh"]
    assert [f.path for f in a.verifier.files] == ["check.sh", "more.txt"]
    assert [f.path for f in a.reference] == ["out"]
    assert (b.prompt, b.canary, b.verifier.timeout_s) == ("Do it.", True, 5)
    assert [f.text for f in b.fixtures] == ["c"]


def test_the_digest_tells_suites_apart(folder: Path) -> None:
    """Any byte that decides changes the digest; where the folder lies and junk do not."""
    before = read_suite(folder)
    (folder / "tasks/a/workspace/__pycache__/y.pyc").write_text("junk")
    moved = folder.with_name("moved")
    folder.rename(moved)
    assert read_suite(moved).digest == before.digest
    assert read_suite(moved).source_digest == before.source_digest
    (moved / "shared/verifier/check.sh").write_text("true\n")
    assert read_suite(moved).digest != before.digest


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tasks/a/task.yaml", "promt: x\n", "promt"),
        ("tasks/a/task.yaml", "prompt: [", "line 1"),
        ("tasks/a/task.yaml", "- x\n", "mapping"),
        ("tasks/a/task.yaml", "verify: 3\n", "verify"),
        ("tasks/a/task.yaml", "verify:\n  command: sh x\n", "command"),
        ("suite.yaml", "schema: assay.suite/2\n", "schema"),
        ("suite.yaml", "schema: assay.suite/1\nx: 1\n", "'x'"),
        ("tasks/a/tests/test_x.py", "x", "belongs to no part"),
        ("tasks/c/workspace/x", "x", "no task.yaml"),
        ("notes.txt", "x", "belongs to no part"),
        ("tasks/a/workspace/con", "x", "not allowed"),
        ("tasks/a/workspace/COMMON.TXT", "x", "one file"),
        ("tasks/a/verifier/Deep/er/x.txt", "x", "one file"),
    ],
)
def test_a_bad_folder_is_named(folder: Path, name: str, text: str, words: str) -> None:
    """Unknown keys, files that nothing would run, and names that clash are refused with their place."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(UnreadableInput, match=words):
        read_suite(folder)


def test_links_are_refused(folder: Path) -> None:
    """A suite holds no link, wherever it leads."""
    (folder / "tasks/a/workspace/link").symlink_to("common.txt")
    with pytest.raises(UnreadableInput, match="a link"):
        read_suite(folder)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    """Any bytes are a suite or are refused."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "s.jsonl")
        path.write_bytes(data)
        with pytest.raises(UnreadableInput):
            read_suite(path)


def test_look_alikes_across_the_parts_are_refused() -> None:
    """A fixture that a case-blind system takes for a deciding file is an attack on it."""
    with pytest.raises(ValueError, match="on some systems"):
        Task(
            task_id="x",
            prompt="p",
            fixtures=(Fixture(path="Tests/a.py", content=""),),
            verifier=Verifier(files=(Fixture(path="tests/b.py", content=""),)),
        )
