"""An experiment that the operating system does not let us read: said so, and never taken for one that did not run."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from assay.cli.experiment import experiment
from assay.cli.gate import gate
from assay.core.errors import UnreadableInput
from assay.live.watched import Watched
from assay.readers.training import read_any, read_experiments, resolve_active
from assay.readers.training.folder import read_experiment
from experiment_files import ExperimentFiles, sound

SAID = "cannot read: Permission denied"


def lock(patch: pytest.MonkeyPatch, locked: Path) -> None:
    """Make a folder look as one of mode 000 does, or a file below one; root would read it all the same."""
    stat, listdir = Path.stat, os.listdir

    def refuse(path: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def no_stat(self: Path, **how: Any) -> os.stat_result:
        if locked in self.parents:
            refuse(self)
        return stat(self, **how)

    def no_list(path: Any = ".") -> list[str]:
        if Path(path) == locked:
            refuse(path)
        return listdir(path)

    patch.setattr(Path, "stat", no_stat)
    patch.setattr(os, "listdir", no_list)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound experiment that stands in registry.json and cannot be looked into."""
    folder = sound(tmp_path).folder
    entry = {"id": folder.name, "phase": "train", "created": "2026-01-02", "parent_id": None}
    (tmp_path / "registry.json").write_text(json.dumps({"schema_version": 1, "experiments": [entry]}))
    lock(monkeypatch, folder)
    return folder


def test_list_names_it(locked: Path) -> None:
    """It is left out of the lines, with its reason, and is none of the planned."""
    done = CliRunner().invoke(experiment, ["list", "--root", str(locked.parent), "--json"])
    assert json.loads(done.stdout)["experiments"] == []
    assert SAID in done.stderr
    assert locked.name in done.stderr


def test_show_refuses(locked: Path) -> None:
    """The input is unreadable (exit 2); nothing is said about how it trained."""
    done = CliRunner().invoke(experiment, ["show", "exp-001", "--root", str(locked.parent)])
    assert isinstance(done.exception, UnreadableInput), done.output
    assert (done.exception.what, done.exception.exit_code) == (SAID, 2)


@pytest.mark.parametrize("name", ["exp-001", "the path"])
def test_the_gate_cannot_judge(locked: Path, name: str) -> None:
    """An ERROR with the reason, and no word about a training that did not run."""
    asked = str(locked) if name == "the path" else name
    done = CliRunner().invoke(gate, ["training", asked, "--root", str(locked.parent)])
    verdict = json.loads(done.stdout)
    assert verdict["status"] == "ERROR"
    assert verdict["detail"].endswith(SAID)


def test_the_resolver_does_not_say_that_there_is_none(locked: Path) -> None:
    """It may be the one that trains; another that can be read is shown all the same."""
    with pytest.raises(UnreadableInput, match=SAID):
        resolve_active(locked.parent)
    other = ExperimentFiles(locked.parent, "exp-002")
    other.created()
    assert resolve_active(locked.parent) == "exp-002"


def test_watching_it_shows_no_planned_experiment(
    tmp_path: Path, locked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a locked folder nor a locked file is an experiment that has not begun."""
    with pytest.raises(UnreadableInput, match=SAID):
        Watched(locked)
    other = ExperimentFiles(tmp_path, "exp-002")
    other.created()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "events.jsonl")
    with pytest.raises(UnreadableInput, match=SAID):
        Watched(other.folder)


def test_a_root_that_cannot_be_listed_is_no_empty_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what lies there."""
    sound(tmp_path)
    lock(monkeypatch, tmp_path)
    assert read_experiments(tmp_path) == ()
    with pytest.raises(UnreadableInput, match=SAID):
        resolve_active(tmp_path)
    done = CliRunner().invoke(experiment, ["show", "exp-001", "--root", str(tmp_path)])
    assert isinstance(done.exception, UnreadableInput)


def test_the_snapshot_of_the_older_layout_is_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may not open training_status.json does not know whether it runs."""
    folder = tmp_path / "exp-001"
    folder.mkdir()
    status = folder / "training_status.json"
    status.write_text('{"is_training": true}')
    opened = Path.open

    def no_open(self: Path, *how: Any, **more: Any) -> Any:
        if self == status:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, *how, **more)

    monkeypatch.setattr(Path, "open", no_open)
    with pytest.raises(UnreadableInput, match=SAID):
        read_any(folder)


def test_locked_checkpoints_are_not_intact_and_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What differs on disk cannot be said, and that is what is said."""
    folder = sound(tmp_path).folder
    lock(monkeypatch, folder / "checkpoints")
    found = read_experiment(folder, digests=True)
    assert [(c.on_disk, c.detail) for c in found.checkpoints] == [("changed", SAID)]
