"""`assay checkpoint list|verify|restore`, as a script calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.cli import _run
from assay.track.checkpoint import Checkpointer


class Quiet:
    """A run that records nothing."""

    id = "exp-001"
    attempt = 1

    def event(self, kind: str, **fields: Any) -> None:
        """Nothing."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with exp-001 and three checkpoints, the best of them the second."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".assay" / "experiments" / "exp-001" / "checkpoints"
    made = Checkpointer(Quiet(), folder, verify_every=0, best=("loss", "min"))
    for step, loss in ((1, 0.5), (2, 0.1), (3, 0.3)):
        made.save({"model": b"x" * 5000, "n": step}, step=step, metrics={"loss": loss})
        made._proofs._waiting.clear()  # no process is started for a proof here
    made.join()
    return folder


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and stdout."""
    code = _run(["checkpoint", *arguments])
    return code, capsys.readouterr().out


def damage(folder: Path, name: str) -> None:
    """Change one byte."""
    path = folder / name / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"y")


def test_an_id_is_the_experiment_though_a_folder_is_called_so(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning leaves a folder `exp-001` beside the script; the id still means ours, a path means the path."""
    theirs = Path("exp-001/attempt-1/checkpoints")
    theirs.mkdir(parents=True)
    assert "ckpt-00000003" in asked(capsys, "list", "exp-001")[1]
    assert asked(capsys, "list", "./exp-001") == (0, "")


def test_list_by_id_folder_and_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same list for the id, the experiment's folder and the folder of checkpoints; one for a checkpoint's own."""
    found = [asked(capsys, "list", where) for where in ("exp-001", str(project.parent), str(project))]
    assert found[0] == found[1] == found[2] == asked(capsys, "list", "1")
    lines = found[0][1].splitlines()
    assert [line.split()[0] for line in lines] == ["ckpt-00000001", "ckpt-00000002", "ckpt-00000003"]
    assert lines[1].endswith("best")
    assert lines[2].endswith("last")
    code, out = asked(capsys, "list", str(project / "ckpt-00000002"), "--json")
    value = json.loads(out)
    assert code == 0
    assert value["schema"] == "checkpoints/1"
    assert [row["step"] for row in value["checkpoints"]] == [2]
    assert value["checkpoints"][0]["verified"] == "digest"


def test_verify_says_which_does_not_hold(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0 while all hold; 1 with the file named after a byte changed; nothing is written."""
    before = sorted(p.name for p in project.iterdir())
    assert asked(capsys, "verify", "exp-001")[0] == 0
    damage(project, "ckpt-00000002")
    code, out = asked(capsys, "verify", "exp-001")
    assert code == 1
    assert [line[:4].strip() for line in out.splitlines()] == ["ok", "BAD", "ok"]
    assert "model.safetensors" in out
    assert asked(capsys, "verify", "exp-001", "--name", "last")[0] == 0
    code, out = asked(capsys, "verify", "exp-001", "--name", "best", "--json")
    assert code == 1
    assert json.loads(out)["checkpoints"][0]["ok"] is False
    assert sorted(p.name for p in project.iterdir()) == before


@pytest.mark.parametrize("arguments", [
    ["verify", "exp-404"], ["verify", "exp-001", "--name", "ckpt-00000099"], ["list", "nowhere"], ["verify", "empty"],
])  # fmt: skip
def test_what_is_not_there_is_usage(
    arguments: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 with one line that says what is allowed."""
    (Path.cwd() / "empty").mkdir()
    assert _run(["checkpoint", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("assay: ")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_restore_copies_or_points(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--out gives a verified copy; without it the next attempt resumes from there; a damaged one changes nothing."""
    code, out = asked(capsys, "restore", "exp-001", "--name", "best", "--out", "copy", "--json")
    assert code == 0
    assert json.loads(out)["level"] == "restore"
    assert asked(capsys, "verify", str(Path.cwd() / "copy"))[0] == 0
    run = Quiet()
    run.attempt = 2
    for name, step in (("ckpt-00000001", 1), ("best", 2)):
        code, out = asked(capsys, "restore", "exp-001", "--name", name)
        assert (code, out.split()[1]) == (0, f"ckpt-0000000{step}:")
        state = Checkpointer(run, project, verify_every=0).load()
        assert state is not None
        assert state["n"] == step
    (project / "resume").unlink()
    damage(project, "ckpt-00000003")
    assert asked(capsys, "restore", "exp-001", "--name", "last")[0] == 1
    assert not (project / "resume").exists()
    assert _run(["checkpoint", "restore", "exp-001", "--name", "best", "--out", "copy"]) == 2
