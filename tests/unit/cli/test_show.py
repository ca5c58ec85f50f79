"""`assay ls`, `show`, `watch`, `verify`, `apply` and `undo` over a ledger that holds a study of fakes."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from assay.adapters.apply import directory
from assay.core.errors import Interrupted
from assay.core.evidence import Artifact
from assay.core.study import AdapterRef
from assay.engine.study import StudyLoop
from assay.ledger.home import Home
from assay.runtime.files import artifact
from assay.testing.fakes import FakeComponents, Script, fake_study
from cli_call import Call


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A ledger with one finished study in it: `a` is worse, `b` is accepted and applied."""
    return make(tmp_path, Script({"source": 0.9, "a": 0.5, "b": 0.9}))


def make(folder: Path, script: Script) -> Path:
    """Run the study of fakes in a folder."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    (source / "weights").write_text("source")
    home = Home(folder / ".assay", create=True)
    study = fake_study(source)
    where = home.study(study.id)
    StudyLoop(
        study, ledger=home.ledger, store=home.store, components=FakeComponents(script), folder=where
    ).run()
    home.ledger.close()
    return home.folder


def test_ls(assay: Call, home: Path) -> None:
    """One line a study: id, word, how far, when, which source."""
    said = assay("ls")
    assert said.code == 0
    (line,) = said.out.splitlines()
    assert line.split()[:4] == ["fake-1", "ACCEPT", "2/2", "decided"]
    (row,) = assay("ls", "--json").json["studies"]
    assert (row["id"], row["state"], row["outcomes"]) == ("fake-1", "closed", ["REGRESSION", "ACCEPT"])


def test_ls_of_nothing(assay: Call, tmp_path: Path) -> None:
    """No ledger is no error, and none is made; scripts get an empty list."""
    said = assay("ls")
    assert (said.code, said.out) == (0, "")
    assert "`assay run SPEC`" in said.err
    assert assay("ls", "--json").json["studies"] == []
    assert list(tmp_path.iterdir()) == []


def test_ls_of_an_interrupted_study(assay: Call, tmp_path: Path) -> None:
    """A study that was cut short says so; a killed one is taken as running."""

    def strike(call: str) -> None:
        if call == "evaluate b":
            raise Interrupted("SIGINT")

    with pytest.raises(Interrupted):
        make(tmp_path, Script({"source": 0.9, "a": 0.5}, before=strike))
    (row,) = assay("ls", "--json").json["studies"]
    assert row["state"] == "interrupted"
    summary = assay("show", "fake-1", "--json").json
    assert [t["interrupted"] for t in summary["trials"]] == [False, True]


def test_show_study(assay: Call, home: Path) -> None:
    """The word, each candidate with its reason, and the command to verify it."""
    said = assay("show", "fake-1")
    assert said.code == 0
    for text in ("ACCEPT  fake-1", "a  REGRESSION", "score: worse", "assay verify fake-1"):
        assert text in said.out
    summary = assay("show", "fake-1", "--json").json
    assert summary["schema"] == "study/1"
    assert summary["accepted"] == ["b"]
    assert [t["outcome"] for t in summary["trials"]] == ["REGRESSION", "ACCEPT"]


def test_show_trial(assay: Call, home: Path) -> None:
    """Every gate with its reasons; the JSON holds the verdicts whole."""
    said = assay("show", "fake-1-1")
    assert "REGRESSION  fake-1-1 a" in said.out
    assert "✗ worse" in said.out
    assert assay("show", "fake-1-1", "--json").json["verdicts"]["score"]["status"] == "FAIL"


@pytest.mark.parametrize("command", ["show", "watch", "resume", "verify", "report", "apply", "undo"])
def test_unknown_name(assay: Call, home: Path, command: str) -> None:
    """What is not there is named, with what is, and the command that lists it."""
    said = assay(command, "nothing-7")
    assert said.code == 2
    assert "nothing-7" in said.err
    assert "allowed: fake-1" in said.err
    assert "`assay ls`" in said.err


@pytest.mark.parametrize("command", ["show", "watch", "resume", "verify", "report", "apply", "undo"])
def test_no_ledger(assay: Call, tmp_path: Path, command: str) -> None:
    """Without a ledger: exit 7, the place, and what starts one; nothing is made."""
    assay(command, "fake-1").refused(7, ".assay/ledger.db", "no ledger here", "`assay run SPEC`")
    assert list(tmp_path.iterdir()) == []


def test_watch_a_finished_study(assay: Call, home: Path) -> None:
    """It tells the story to the end and returns."""
    said = assay("watch")
    assert said.code == 0
    assert "▸ b" in said.out
    assert said.out.splitlines()[-1].endswith("ACCEPT: a candidate was accepted")
    assert assay("watch", "fake-1").out == said.out


def test_home_is_found_upward_or_named(assay: Call, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like `.git`; `ASSAY_HOME` wins."""
    deep = home.parent / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert "fake-1" in assay("ls").out
    monkeypatch.setenv("ASSAY_HOME", str(deep / "other"))
    assert assay("ls").out == ""


def tamper(home: Path, change: str) -> None:
    """Edit the ledger behind its triggers."""
    with sqlite3.connect(home / "ledger.db") as db:
        db.execute("DROP TRIGGER event_is_final")
        db.execute("DROP TRIGGER event_stays")
        assert db.execute(change).rowcount > 0
    db.close()


def test_verify_names_a_changed_event(assay: Call, home: Path) -> None:
    """An event edited behind the triggers breaks the chain there: exit 7."""
    tamper(
        home, "UPDATE event SET data = replace(data, 'REGRESSION', 'ACCEPT') WHERE type = 'decision.recorded'"
    )
    said = assay("verify", "fake-1")
    assert said.code == 7
    assert "✗ chain" in said.out
    assert "assay: chain event" in said.err


@pytest.mark.parametrize("command", ["show", "resume", "apply", "undo", "report"])
def test_a_ledger_without_its_first_event(assay: Call, home: Path, command: str) -> None:
    """Where the events no longer make a study, the way to the broken link is told."""
    tamper(home, "DELETE FROM event WHERE seq = 1")
    assay(command, "fake-1").refused(7, "do not replay", "`assay verify STUDY`")
    assert assay("verify", "fake-1").code == 7
    assert assay("ls").code == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE event SET data = 'x' WHERE seq = 3",
        "UPDATE event SET data = '[]' WHERE seq = 3",
        "UPDATE event SET type = 'x.y' WHERE seq = 3",
        "UPDATE event SET data = '{}' WHERE type = 'step.finished'",
        "UPDATE event SET data = '{}' WHERE type = 'decision.recorded'",
    ],
)
@pytest.mark.parametrize("command", ["ls", "show", "watch", "verify", "resume", "apply"])
def test_a_damaged_event_is_no_crash(assay: Call, home: Path, change: str, command: str) -> None:
    """Whatever stands in the ledger, a command answers or names the damage."""
    tamper(home, change)
    said = assay(command, *([] if command in {"ls", "watch"} else ["fake-1"]))
    assert said.code in {0, 2, 7}
    assert command != "verify" or said.code == 7


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root writes everywhere: tests/stories has it on a read-only disk"
)
def test_read_only_ledger_can_be_read(assay: Call, home: Path) -> None:
    """What only lies there can be looked at without writing beside it."""
    home.chmod(0o555)
    try:
        assert assay("ls").code == 0
    finally:
        home.chmod(0o755)


def test_apply_without_accept(assay: Call, home: Path) -> None:
    """Only ACCEPT is applied; the trial's word is told."""
    assay("apply", "fake-1-1").refused(2, "fake-1-1 is REGRESSION", "only ACCEPT", "`assay show fake-1-1`")


def test_apply_again(assay: Call, home: Path) -> None:
    """What is in force is not applied twice."""
    assay("apply", "fake-1", "--yes").refused(2, "fake-1-2 is applied already", "`assay undo fake-1-2`")


def test_nothing_to_apply_or_undo(assay: Call, tmp_path: Path) -> None:
    """A study without an accepted candidate."""
    make(tmp_path, Script({"source": 0.9, "a": 0.5, "b": 0.5}))
    assay("apply", "fake-1").refused(2, "no accepted trial", "`assay show fake-1`")
    assay("undo", "fake-1").refused(2, "no applied trial", "`assay show fake-1`")
    assay("undo", "fake-1-1").refused(2, "not applied")


def test_write_lock_names_the_process(assay: Call, home: Path) -> None:
    """Two writers at once: exit 7, and the process that holds the ledger."""
    with Home(home).writing():
        for line in (("resume", "fake-1"), ("apply", "fake-1"), ("undo", "fake-1")):
            assay(*line).refused(7, f"another assay is running (process {os.getpid()})", "`assay watch`")
        assert assay("ls").code == 0
        assert assay("show", "fake-1").code == 0


class Publishing(FakeComponents):
    """Fakes whose accepted candidate is really published to a folder."""

    def __init__(self, target: Path) -> None:
        super().__init__(Script({"source": 0.9, "a": 0.9}))
        self._target = target

    def apply(self, ref: AdapterRef) -> Any:
        """The folder."""
        return directory.Adapter(directory.Options(path=str(self._target)))

    def pin(self, path: Path) -> Artifact:
        """The digest that `verify` asks for."""
        return artifact(path)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a study has published."""
    (source := tmp_path / "source").mkdir()
    (source / "weights").write_text("source")
    home = Home(tmp_path / ".assay", create=True)
    study = fake_study(source, ("a",)).model_copy(update={"source": artifact(source)})
    components = Publishing(tmp_path / "published")
    StudyLoop(
        study, ledger=home.ledger, store=home.store, components=components, folder=home.study(study.id)
    ).run()
    home.ledger.close()
    monkeypatch.setattr("assay.registry.gate", components.gate)
    return tmp_path / "published"


def test_verify_holds_a_published_folder_against_what_was_judged(assay: Call, published: Path) -> None:
    """Untouched it holds, also with a file that a person put beside the others."""
    (published / "README.md").write_text("ours")
    said = assay("verify", "fake-1")
    assert said.code == 0, said.err
    assert "✓ published" in said.out


@pytest.mark.parametrize("harm", ["change", "remove"])
def test_verify_notices_a_changed_published_folder(assay: Call, published: Path, harm: str) -> None:
    """A published file that is another, or gone, is named with exit code 7; what was judged is untouched."""
    weights = published / "weights"
    if harm == "change":
        weights.write_bytes(weights.read_bytes() + b"x")
    else:
        weights.unlink()
    said = assay("verify", "fake-1")
    assert said.code == 7
    assert "published fake-1-1" in said.err
    assert "not what was judged: weights" in said.err
    checks = [c for c in assay("verify", "fake-1", "--json").json["checks"] if c["ok"] is False]
    assert [c["what"] for c in checks] == ["published"]


def test_verify_of_a_published_folder_that_was_moved(assay: Call, published: Path) -> None:
    """A person may move it: that is said, and breaks nothing."""
    published.rename(published.with_name("elsewhere"))
    said = assay("verify", "fake-1")
    assert said.code == 0
    assert "is not there any more" in said.out
