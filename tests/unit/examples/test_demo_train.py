"""The demo's own training under the train job: how it is started, what its endings mean, and faults that are planted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from assay import cli
from assay.cli import demo_train
from assay.core.errors import ComponentFailed, ComponentMissing, Interrupted, UsageError
from assay.readers.training import read_any
from assay.track.files import read_events


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Experiments of the test lie in its own folder."""
    (tmp_path / ".assay").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".assay" / "experiments"


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Puts a small script in the place of the trainer."""

    def put(body: str) -> Path:
        folder = tmp_path / "example"
        folder.mkdir()
        (folder / "train.py").write_text("import os, pathlib, signal, sys, time\n" + body)
        monkeypatch.setattr(demo_train, "assets", lambda: folder)
        return folder

    return put


def test_assets_is_the_repository_folder() -> None:
    """In a clone the example lies in the repository, with all that training needs."""
    folder = demo_train.assets()
    assert {"train.py", "skills.py", "tasks", "model"} <= {path.name for path in folder.iterdir()}


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Without torch the error names what is missing and the pip command; no experiment is made for it."""
    monkeypatch.setattr(demo_train, "PACKAGES", ("json", "no_such_torch"))
    with pytest.raises(ComponentMissing, match=re.escape(f"{sys.executable} -m pip install no_such_torch")):
        demo_train.train(Path("out"))
    assert not home.exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_taken_folder_is_refused(tmp_path: Path, kind: str) -> None:
    """Nothing is started over what already lies there."""
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        (out / "deep").mkdir(parents=True)
    with pytest.raises(UsageError, match="not empty"):
        demo_train.train(out)


def test_options_reach_the_trainer_and_the_record(
    trainer: Callable[[str], Path], tmp_path: Path, home: Path
) -> None:
    """Out, seed and steps are handed over; hypothesis, metric and floor stand in the plan before the start."""
    trainer(
        "out = pathlib.Path(sys.argv[2]); out.mkdir()\n"
        "(out / 'model.safetensors').write_text(' '.join(sys.argv[1:]))"
    )
    out = tmp_path / "out"
    ended = demo_train.train(out, 7, 11)
    assert (out / "model.safetensors").read_text() == f"--out {out} --seed 7 --steps 11 --items 2"
    assert ended.code == 0
    found = read_any(home / "exp-001")
    assert found.hypothesis is not None
    assert found.plan.primary is not None
    assert (found.name, found.plan.primary.name, found.plan.primary.thresholds.floor) == (
        "demo model",
        "val_loss",
        0.5,
    )


@pytest.mark.parametrize(("body", "code"), [("sys.exit('boom')", 1), ("sys.stderr.write('boom')", 0)])
def test_a_trainer_without_result_is_a_failure(
    trainer: Callable[[str], Path], tmp_path: Path, body: str, code: int
) -> None:
    """A nonzero exit, or an exit of 0 that leaves no weights, is ComponentFailed with the end of its log."""
    trainer(body)
    with pytest.raises(ComponentFailed, match=f"exit code {code}") as caught:
        demo_train.train(tmp_path / "out")
    assert "boom" in caught.value.log_tail


@pytest.mark.slow
def test_interrupted(trainer: Callable[[str], Path], tmp_path: Path) -> None:
    """Ctrl-C ends the trainer and names the command that goes on."""
    trainer("os.kill(int(os.environ['ASSAY_WATCHER']), signal.SIGINT); time.sleep(60)")
    with pytest.raises(Interrupted, match="assay train --resume exp-001"):
        demo_train.train(tmp_path / "out")


def test_the_release_goes_on_without_a_training_that_cannot_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A short training comes first; where its packages are missing that is said; `--no-train` leaves it out."""
    from assay.cli import demo as command  # noqa: PLC0415 - the module, not the command of the same name

    released: list[Path] = []
    monkeypatch.setattr(demo_train, "PACKAGES", ("no_such_torch",))
    monkeypatch.setattr(command, "_release", lambda folder, **_: released.append(folder) or 0)
    for arguments, word in ([], "the training is left out"), (["--no-train"], ""):
        assert cli._run(["demo", "--dir", str(tmp_path / "d"), *arguments]) == 0
        err = capsys.readouterr().err
        assert word in err
        assert bool(err) is bool(word)
    assert len(released) == 2


@pytest.mark.slow
def test_the_short_training_is_recorded_and_its_bytes_are_the_same(tmp_path: Path, home: Path) -> None:
    """Three real steps: a whole, clean checkpoint, and the same bytes when the script runs by itself, unrecorded."""
    out, again = tmp_path / "out", tmp_path / "again"
    ended = demo_train.train(out, 5, 3)
    assert (ended.code, ended.summary["step"]) == (0, 3)
    found = read_any(home / "exp-001", digests=True)
    assert [r for r in found.problems if r.grave] == []
    assert (found.rows.steps, found.rows.evaluations, found.chain_intact) == (3, 3, True)
    assert found.checkpoints[-1].verified
    script = demo_train.assets() / "train.py"
    command = [
        sys.executable,
        str(script),
        "--out",
        str(again),
        "--seed",
        "5",
        "--steps",
        "3",
        "--items",
        "2",
    ]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for name in (
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
        "chat_template.jinja",
    ):
        assert (out / name).read_bytes() == (again / name).read_bytes(), name
    assert '"padding": null' in (out / "tokenizer.json").read_text()
    assert '"truncation": null' in (out / "tokenizer.json").read_text()
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "name", "why", "resumes"),
    [
        ("nan", "nonfinite", "what entered at this very step", "ckpt-00000032 (step 32)"),
        ("lr", "divergence", "The learning rate jumped", "--name ckpt-00000032"),
        ("hang", "stall", "After step 39 of 80 no step came", "ckpt-00000032 (step 32)"),
    ],
)
def test_a_planted_fault_is_caught_stopped_and_diagnosed(
    home: Path, capsys: pytest.CaptureFixture[str], fault: str, name: str, why: str, resumes: str
) -> None:
    """`assay demo --fault`: exit 1; what, when, likely cause, next step; a good checkpoint from before."""
    assert cli._run(["demo", "--fault", fault, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["stopped_by"] == "checker"
    assert next(a["name"] for a in said["alerts"] if a["severity"] == "critical") == name
    assert why in said["diagnosis"]["mechanism"][0]
    assert resumes in said["diagnosis"]["next"][-1]
    good = [c for c in said["checkpoints"] if c["verified"] and not c["failed"] and c["step"] <= 40]
    assert good
    text = (home / "exp-001" / "diagnosis.md").read_text()
    assert {"## What happened", "## Mechanism", "## Recommended next experiments"} <= set(text.splitlines())
    kinds = [e["event"] for e in read_events(home / "exp-001")]
    assert "stop_requested" in kinds
    assert kinds[-1] == "attempt_ended"
