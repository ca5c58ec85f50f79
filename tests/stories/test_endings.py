"""Stories over fakes: endings that real processes reach too seldom to wait for."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import ComponentFailed, UnreadableInput, UsageError
from assay.core.events import Event, EventType
from assay.core.history import StudyHistory, replay
from assay.core.run import Run, Work
from assay.core.vocabulary import FailureClass, Outcome
from assay.engine.leftovers import end_leftovers
from assay.engine.session import RecordedExecute
from assay.engine.study import StudyLoop
from assay.ledger.memory import MemoryLedger, MemoryStore
from assay.testing.fakes import FakeComponents, Script, fake_study


class Killed(BaseException):
    """What SIGKILL is to a ledger in memory: nobody catches it."""


class DeadlyLedger(MemoryLedger):
    """Dies right after a given number of events."""

    def __init__(self) -> None:
        super().__init__()
        self.dies_after: int | None = None

    def append(self, type: EventType, study: str, data: Mapping[str, Any]) -> Event:
        """Add one event, then die if it is time."""
        event = super().append(type, study, data)
        if event.seq == self.dies_after:
            raise Killed
        return event


class World:
    """A study of fakes whose engine may die and be started again."""

    def __init__(self, folder: Path, script: Script, **study: Any) -> None:
        self.folder = folder
        self.script = script
        (folder / "source").mkdir()
        (folder / "source" / "weights").write_text("source")
        self.study = fake_study(folder / "source", **study)
        self.ledger = DeadlyLedger()
        self.store = MemoryStore()

    def run(self) -> Outcome:
        """Run or resume."""
        loop = StudyLoop(
            self.study,
            ledger=self.ledger,
            store=self.store,
            components=FakeComponents(self.script),
            folder=self.folder / "work",
        )
        return loop.run()

    @property
    def history(self) -> StudyHistory:
        """What the ledger says."""
        return replay(self.ledger.read())[self.study.id]

    def dies_after(self, type_: EventType) -> None:
        """Die right after the next event of a type, which a run without death would write."""
        folder = self.folder / "twin"
        folder.mkdir()
        fail = {call: list(errors) for call, errors in self.script.fail.items()}
        twin = World(folder, Script(self.script.scores, fail))
        twin.study = self.study.model_copy(update={"source": twin.study.source})
        twin.run()
        self.ledger.dies_after = next(e.seq for e in twin.ledger.read() if e.type is type_)
        with pytest.raises(Killed):
            self.run()
        self.ledger.dies_after = None


SCORES = {"source": 0.9, "a": 0.5, "b": 0.9}


def unsupported() -> ComponentFailed:
    """A failure that triage does not repeat."""
    return ComponentFailed("needs 128 columns", failure_class=FailureClass.MODEL_UNSUPPORTED)


def test_failed_step_is_not_done_again_after_a_kill(tmp_path: Path) -> None:
    """A failure that is on record is dealt with when the study goes on; the step is not tried once more."""
    world = World(tmp_path, Script(SCORES, fail={"build a": [unsupported()]}))
    world.dies_after(EventType.VERDICT_RECORDED)
    assert world.run() is Outcome.ACCEPT
    assert world.script.calls.count("build a") == 1
    assert [d.outcome for d in world.history.decisions] == [Outcome.INFEASIBLE, Outcome.ACCEPT]
    recorded = [e.data["line"]["gate"] for e in world.ledger.read() if e.type is EventType.VERDICT_RECORDED]
    assert recorded.count("build") == 1


@pytest.mark.slow
def test_retry_is_granted_once_also_across_a_kill(tmp_path: Path) -> None:
    """The retry budget is the trial's, not the process's."""
    flaky = [ComponentFailed("down", failure_class=FailureClass.INFRA_TRANSIENT) for _ in range(3)]
    world = World(tmp_path, Script(SCORES, fail={"build a": flaky}), names=("a",))
    world.dies_after(EventType.STEP_RETRIED)
    assert world.run() is Outcome.ANOMALOUS
    assert world.script.calls.count("build a") == 2


@pytest.mark.parametrize("error", [UsageError("port 1 is taken"), UnreadableInput("no such checkpoint")])
def test_refused_step_is_a_decision(tmp_path: Path, error: UsageError) -> None:
    """What an adapter refuses ends in a Decision with the class that says whose turn it is, and closes the study."""
    world = World(tmp_path, Script(SCORES, fail={"build a": [error]}))
    assert world.run() is Outcome.ANOMALOUS
    (decision,) = world.history.decisions
    assert decision.failure_class is FailureClass.USER_CONFIG_ERROR
    assert error.what in decision.sentence
    assert world.history.closed is not None


def test_source_that_fails_says_nothing_about_a_candidate(tmp_path: Path) -> None:
    """INFEASIBLE is a word for candidates; where the source fails it is ANOMALOUS."""
    world = World(tmp_path, Script(SCORES, fail={"serve source": [unsupported()]}))
    assert world.run() is Outcome.ANOMALOUS
    assert [d.outcome for d in world.history.decisions] == [Outcome.ANOMALOUS]


def test_only_the_first_accepted_is_applied(tmp_path: Path) -> None:
    """`stop: never` judges all; one target takes one candidate."""
    world = World(tmp_path, Script({"source": 0.9, "a": 0.9, "b": 0.9}), stop="never")
    assert world.run() is Outcome.ACCEPT
    assert [d.outcome for d in world.history.decisions] == [Outcome.ACCEPT, Outcome.ACCEPT]
    assert [c for c in world.script.calls if c.startswith("apply")] == ["apply a"]
    assert list(world.history.applied) == ["fake-1-1"]
    world.run()
    assert [c for c in world.script.calls if c.startswith("apply")] == ["apply a"]


def test_what_was_taken_back_stays_so(tmp_path: Path) -> None:
    """Resuming does not apply again what somebody undid."""
    world = World(tmp_path, Script(SCORES))
    world.run()
    token = world.history.applied["fake-1-2"]
    world.ledger.append(EventType.UNDO_INTENDED, "fake-1", {"trial": "fake-1-2", "token": token})
    world.ledger.append(EventType.UNDO_DONE, "fake-1", {"trial": "fake-1-2"})
    world.run()
    assert world.script.calls.count("apply b") == 1


def test_kill_between_decision_and_application(tmp_path: Path) -> None:
    """What was accepted and not yet applied is applied when the study goes on, once."""
    world = World(tmp_path, Script(SCORES), names=("b",))
    world.dies_after(EventType.DECISION_RECORDED)
    assert world.run() is Outcome.ACCEPT
    assert world.script.calls.count("apply b") == 1


def test_artifact_that_is_gone_is_not_kept(tmp_path: Path) -> None:
    """An artifact that was removed between kill and resume ends ANOMALOUS, not in a crash."""

    class Strict(FakeComponents):
        def pin(self, path: Path) -> Any:
            if not path.exists():
                raise UnreadableInput("cannot read: No such file or directory", where=str(path))
            return super().pin(path)

    world = World(tmp_path, Script(SCORES), names=("b",))
    world.dies_after(EventType.VERDICT_RECORDED)
    shutil.rmtree(next((tmp_path / "work").glob("trial-1/build-1/artifact")))
    components = Strict(world.script)
    loop = StudyLoop(
        world.study, ledger=world.ledger, store=world.store, components=components, folder=tmp_path / "work"
    )
    assert loop.run() is Outcome.ANOMALOUS
    (decision,) = world.history.decisions
    assert decision.sentence == "integrity: the artifact changed on disk"


class LostRecord:
    """An execution whose status file could not be written at the end: it knows that it is over, and no times."""

    def submit(self, work: Work) -> str:
        """Start it."""
        return work.label

    def poll(self, handle: str, timeout_s: float = 0.0) -> Run:
        """Over, without times."""
        return Run(label=handle, command=(handle,), cwd=".", log="", started="", exit_code=-9, cancelled=True)

    cancel = poll


def test_lost_record_ends_the_waiting() -> None:
    """Whoever waits for a run's end hears of it, and it is recorded once."""
    recorded: list[Run] = []
    execute = RecordedExecute(LostRecord(), recorded.append)
    handle = execute.submit(Work(label="x", command=("x",), cwd=".", log="x.log"))
    assert execute.poll(handle).wall_s is not None
    execute.cancel(handle)
    assert [run.exit_code for run in recorded] == [-9]


def test_no_leftovers_is_no_waiting(tmp_path: Path) -> None:
    """Folders without runs, and status files that are damaged or finished, hold nobody up."""
    runs = tmp_path / "step" / ".runs"
    runs.mkdir(parents=True)
    (runs / "a.json").write_text("{")
    (runs / "b.json").write_text('{"schema": "assay.run/1", "ended": "2026-01-01T00:00:00Z"}')
    end_leftovers(tmp_path)
