"""What the adapters share, and that each of them loads one framework."""

from __future__ import annotations

import ast
import copy
import pickle
import sys
from pathlib import Path

import pytest

from assay.track import checkpoint
from assay.track.frameworks import _host

HOME = Path(_host.__file__).parent
VENDORS = {
    "keras": {"keras"},
    "xgboost": {"xgboost", "numpy"},
    "lightgbm": {"lightgbm"},
    "lightning": {"lightning"},
    "transformers": {"transformers", "torch"},
    "accelerate": {"accelerate"},
    "sklearn": {"sklearn", "numpy"},
    "pytorch": {"torch"},
}


class Adapter:
    """The least that `quiet` needs."""

    def __init__(self, run=None) -> None:
        self._host = _host.Host(run, "test 1")
        self.calls = 0

    @_host.quiet
    def hook(self, fail: bool = True) -> None:
        """Fails on demand."""
        self.calls += 1
        if fail:
            raise OSError("no space left")


@pytest.mark.parametrize("path", sorted(HOME.glob("*.py")), ids=lambda path: path.stem)
def test_an_adapter_imports_its_framework_and_no_other(path) -> None:
    """Besides it: the standard library and `assay.track`, anywhere in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    foreign = {name for name in found if name.split(".")[0] not in sys.stdlib_module_names}
    ours = {name for name in foreign if name == "assay.track" or name.startswith("assay.track.")}
    assert {name.split(".")[0] for name in foreign - ours} <= VENDORS.get(path.stem, set())


def test_every_framework_has_its_file() -> None:
    """The page and the table above name the same eight."""
    assert {path.stem for path in HOME.glob("*.py") if not path.stem.startswith("_")} == set(VENDORS)


def test_a_hook_that_fails_is_told_once_and_never_raised(caplog) -> None:
    """Twice called, twice failed, one line that says where and why."""
    adapter = Adapter()
    adapter.hook()
    adapter.hook()
    adapter.hook(fail=False)
    assert adapter.calls == 3
    (line,) = [entry.getMessage() for entry in caplog.records]
    assert line == "recording failed in hook of test 1: OSError: no space left"
    caplog.clear()


def test_an_interrupt_is_not_swallowed(opened) -> None:
    """Ctrl-C in a hook ends the training as anywhere else."""

    class Interrupted(Adapter):
        @_host.quiet
        def hook(self, fail: bool = True) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted().hook()


def test_a_clone_writes_to_the_same_run_and_a_pickle_to_none(opened) -> None:
    """Frameworks deep-copy estimators with their callbacks, and pickle them into workers and files."""
    with opened() as run:
        adapter = Adapter(run)
        assert copy.deepcopy(adapter)._host is adapter._host
        again = pickle.loads(pickle.dumps(adapter))
        again._host.begin(config=dict)
        assert not again._host.active
        assert again._host.run is None


def test_settings_that_cannot_be_told_do_not_lose_the_training(opened, record, caplog) -> None:
    """The configuration is missing, the record is not."""
    with opened() as run:
        host = _host.Host(run, "test 1")
        host.begin(total_steps=3, config=lambda: {"a": 1 / 0})
        run.log({"loss": 1.0})
    assert record().one("training_started")["total_steps"] == 3
    assert "recording failed in config" in caplog.text
    caplog.clear()


def test_a_run_of_the_caller_stays_open_and_a_run_of_ours_ends(opened, record) -> None:
    """With `run=None` the open run is taken; without one a new one is opened, and only that is ended."""
    with opened() as run:
        host = _host.Host(None, "test 1")
        host.begin()
        assert host.run is run
        host.end({"loss": 1.0})
        assert not run.disabled
    host.begin()
    assert host.run is not run
    host.end({"loss": 0.5})
    assert record(2).one("training_ended")["final_metrics"] == {"loss": 0.5}


@pytest.mark.parametrize(
    ("name", "is_held_out"),
    [
        *((name, True) for name in ("val_loss", "valid_0_auc", "eval_f1", "test/acc", "dev")),
        *((name, False) for name in ("value", "evaluation_time", "loss", "train_loss", "validity")),
    ],
)
def test_names_of_held_out_metrics(name, is_held_out) -> None:
    """A whole word at the beginning, by the table of names that the checker uses."""
    assert _host.held_out(name) is is_held_out


def test_a_checkpoint_cannot_place_files_outside_of_its_folder(tmp_path) -> None:
    """A name with `..` in a checkpoint from elsewhere is refused."""
    source = tmp_path / "weights"
    source.write_bytes(b"x")
    state = {"files": {"../outside": checkpoint.Attachment(source)}}
    with pytest.raises(ValueError, match="outside"):
        _host.laid_out(state, tmp_path / "folder")
    assert not (tmp_path / "outside").exists()


def test_a_checkpoint_of_another_kind_is_named(tmp_path) -> None:
    """One that the script made itself."""
    with pytest.raises(ValueError, match="model"):
        _host.laid_out({"model": {}}, tmp_path)
