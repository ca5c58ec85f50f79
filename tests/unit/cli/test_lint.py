"""`assay lint-skill`, `lint-manifest` and `lint-suite`: exit codes, tables and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.cli import _run

TASK = {
    "user_message": "Write right into answer.txt.",
    "fixture_setup": {"answer.txt": "wrong"},
    "test_command": ["sh", "check.sh"],
    "verifier_files": {"check.sh": "grep -q right answer.txt\n"},
    "collect": ["answer.txt"],
    "reference": {"answer.txt": "right"},
}


def skill(folder: Path, front: str) -> Path:
    """A skill's folder."""
    root = folder / "s"
    root.mkdir()
    (root / "SKILL.md").write_text(f"---\n{front}---\n\nDo it.\n")
    return root


def suite(folder: Path, *changes: dict[str, object]) -> Path:
    """Six tasks and a canary, with changes to the first ones."""
    lines = [
        {**TASK, "task_id": f"task-{i}", "user_message": f"{TASK['user_message']} {i}"} for i in range(7)
    ]
    lines[6]["canary"] = True
    for line, change in zip(lines, changes, strict=False):
        line.update(change)
    path = folder / "suite.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_clean_skill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and JSON with the digest and no finding."""
    root = skill(tmp_path, "name: s\ndescription: d\n")
    assert _run(["lint-skill", str(root), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["schema"], value["ok"], value["findings"], value["files"]) == ("lint-skill/1", True, [], 1)
    assert _run(["lint-skill", str(root)]) == 0
    assert "nothing found" in capsys.readouterr().out


def test_a_skill_that_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, the rule in the table; another dialect may allow it."""
    root = skill(tmp_path, "name: s\ndescription: d\nmodel: x\n")
    assert _run(["lint-skill", str(root)]) == 1
    assert "unknown-key" in capsys.readouterr().out
    assert _run(["lint-skill", str(root), "--dialect", "claude-code"]) == 0


def test_warnings_do_not_block(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A manifest with a warning alone exits with 0; a null schema with 1."""
    path = tmp_path / "tools.json"
    tool = {
        "name": "t.x",
        "description": "d",
        "inputSchema": {"type": "object", "additionalProperties": False},
    }
    path.write_text(json.dumps({"tools": [tool]}))
    assert _run(["lint-manifest", str(path), "--dialect", "seed", "--json"]) == 0
    assert [f["rule"] for f in json.loads(capsys.readouterr().out)["findings"]] == ["tool-name-dots"]
    path.write_text(json.dumps({"tools": [{**tool, "inputSchema": None}]}))
    assert _run(["lint-manifest", str(path)]) == 1


@pytest.mark.parametrize("command", ["lint-skill", "lint-manifest", "lint-suite"])
def test_what_cannot_be_read(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one line that names the path."""
    (tmp_path / "bad").write_bytes(b"\xff{")
    for path in (tmp_path / "gone", tmp_path / "bad"):
        assert _run([command, str(path)]) == 2
        out = capsys.readouterr()
        assert out.out == ""
        assert str(path) in out.err


def test_a_suite_without_running_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--runs 0` starts nothing and still finds what is missing."""
    path = suite(tmp_path, {"test_command": ["sh", "-c", f"touch {tmp_path}/ran"]})
    assert _run(["lint-suite", str(path), "--runs", "0", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["tasks"], value["canaries"], value["verifier_runs"]) == (7, 1, 0)
    assert not (tmp_path / "ran").exists()
    lines = path.read_text().splitlines()[:-1]
    path.write_text("\n".join(lines))
    assert _run(["lint-suite", str(path), "--runs", "0"]) == 1
    assert "no-canary" in capsys.readouterr().out
    assert _run(["lint-suite", str(path), "--runs", "0", "--no-canary"]) == 0


@pytest.mark.slow
def test_a_suite_that_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Too easy, unfillable, flaky and missing verifiers are found by running each solution three times."""
    counter = tmp_path / "count"
    flaky = f"echo x >> {counter}; test $(wc -l < {counter}) -eq 2\n"
    path = suite(
        tmp_path,
        {"verifier_files": {"check.sh": "exit 0\n"}},
        {"verifier_files": {"check.sh": "exit 1\n"}},
        {"verifier_files": {"check.sh": flaky}},
        {"test_command": ["no-such-program"]},
    )
    assert _run(["lint-suite", str(path), "--json", "--jobs", "1"]) == 1
    out = capsys.readouterr()
    value = json.loads(out.out)
    assert "7/7 task-6" in out.err
    assert value["verifier_runs"] == 42
    found = {(f["where"], f["rule"]) for f in value["findings"] if f["severity"] == "block"}
    assert found == {
        ("task-0", "too-easy"),
        ("task-1", "unfillable"),
        ("task-2", "flaky-verifier"),
        ("task-2", "unfillable"),
        ("task-3", "verifier-missing"),
    }
