"""The loops, over fakes: order, sharing, triage, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dying_ledger import DyingLedger, Killed

from assay.adapters.propose.ladder import Adapter, Options
from assay.core.errors import ComponentFailed, Interrupted
from assay.core.events import EventType
from assay.core.history import replay
from assay.core.study import Budget
from assay.core.vocabulary import FailureClass, Outcome
from assay.engine.study import StudyLoop
from assay.ledger.memory import MemoryLedger, MemoryStore
from assay.testing.fakes import FakeComponents, Script, fake_study


class World:
    """A ledger, a store and a script that survive the death of the engine."""

    def __init__(self, folder: Path, script: Script, **study: Any) -> None:
        self.folder = folder
        self.script = script
        source = folder / "source"
        source.mkdir()
        (source / "weights").write_text("source")
        self.study = fake_study(source, **study)
        self.ledger = MemoryLedger()
        self.store = MemoryStore()

    def run(self, ledger: MemoryLedger | None = None) -> Outcome:
        """Run or resume the study."""
        return StudyLoop(
            self.study,
            ledger=ledger or self.ledger,
            store=self.store,
            components=FakeComponents(self.script),
            folder=self.folder / "work",
        ).run()

    @property
    def history(self) -> Any:
        """What the ledger says."""
        return replay(self.ledger.read())[self.study.id]

    @property
    def outcomes(self) -> list[Outcome]:
        """The words of the standing Decisions."""
        return [d.outcome for d in self.history.decisions]


@pytest.fixture
def scores() -> dict[str, Any]:
    """The first candidate is worse than the source, the second is not."""
    return {"source": 0.9, "a": 0.5, "b": 0.9}


def test_ladder_stops_at_the_first_accepted(tmp_path: Path, scores: dict[str, Any]) -> None:
    """A regression leads to the next recipe, an ACCEPT ends the study and is applied."""
    world = World(tmp_path, Script(scores), names=("a", "b", "c"))
    assert world.run() is Outcome.ACCEPT
    assert world.outcomes == [Outcome.REGRESSION, Outcome.ACCEPT]
    assert "build c" not in world.script.calls
    assert world.script.calls[-2:] == ["plan b", "apply b"]


def test_baseline_is_measured_once(tmp_path: Path, scores: dict[str, Any]) -> None:
    """The baseline is shared by all candidates with the same protocol."""
    world = World(tmp_path, Script(scores))
    world.run()
    assert world.script.calls.count("evaluate source") == 1


def test_every_server_is_stopped(tmp_path: Path, scores: dict[str, Any]) -> None:
    """Each serve has its stop, also where the evaluation raises."""
    script = Script(scores, fail={"evaluate a": [ComponentFailed("no", failure_class=FailureClass.UNKNOWN)]})
    world = World(tmp_path, script)
    world.run()
    starts = [c for c in script.calls if c.startswith("serve")]
    assert len(starts) - 1 == len([c for c in script.calls if c.startswith("stop")])


@pytest.mark.parametrize("score", [None, float("nan"), float("inf"), True, "0.9"])
def test_no_number_never_accepts(tmp_path: Path, score: Any) -> None:
    """Missing, NaN, infinite, boolean and text scores end ANOMALOUS."""
    world = World(tmp_path, Script({"source": 0.9, "a": score}), names=("a",))
    assert world.run() is Outcome.ANOMALOUS


@pytest.mark.slow
def test_transient_failure_is_tried_again_once(tmp_path: Path, scores: dict[str, Any]) -> None:
    """INFRA_TRANSIENT is repeated once and then goes well."""
    flaky = ComponentFailed("reset by peer", failure_class=FailureClass.INFRA_TRANSIENT)
    script = Script(scores, fail={"evaluate b": [flaky]})
    world = World(tmp_path, script, names=("b",))
    assert world.run() is Outcome.ACCEPT
    assert script.calls.count("build b") == 1
    assert world.history.trials["fake-1-1"].retries == {"evaluate": 1}


@pytest.mark.slow
def test_transient_failure_twice_aborts_the_study(tmp_path: Path, scores: dict[str, Any]) -> None:
    """A second INFRA_TRANSIENT is systemic: no further candidate is begun."""
    flaky = [ComponentFailed("down", failure_class=FailureClass.INFRA_TRANSIENT) for _ in range(2)]
    world = World(tmp_path, Script(scores, fail={"evaluate a": flaky}))
    assert world.run() is Outcome.ANOMALOUS
    assert len(world.outcomes) == 1


@pytest.mark.slow
def test_aborted_study_resumes_with_the_same_candidate(tmp_path: Path, scores: dict[str, Any]) -> None:
    """What broke for the study's sake is tried again once it is mended, without building the baseline again."""
    flaky = [ComponentFailed("down", failure_class=FailureClass.INFRA_TRANSIENT) for _ in range(2)]
    world = World(tmp_path, Script(scores, fail={"evaluate b": flaky}), names=("b",))
    world.run()
    ladder = Adapter(Options.model_validate(dict(world.study.proposer.options)))
    assert ladder.propose(world.history.decisions) is not None


@pytest.mark.slow
def test_a_step_that_resumes_goes_on_in_its_trial(tmp_path: Path, scores: dict[str, Any]) -> None:
    """What broke off in such a step is the same trial when the study is resumed, whatever else was done stays."""
    flaky = [ComponentFailed("down", failure_class=FailureClass.INFRA_TRANSIENT) for _ in range(3)]
    script = Script(scores, fail={"evaluate b": flaky})
    world = World(tmp_path, script, names=("b",))
    steps = tuple(s.model_copy(update={"resumes": s.name == "evaluate"}) for s in world.study.steps)
    world.study = world.study.model_copy(update={"steps": steps})
    assert [world.run(), world.run(), world.run()] == [Outcome.ANOMALOUS, Outcome.ANOMALOUS, Outcome.ACCEPT]
    assert list(world.history.trials) == ["fake-1-1"]
    assert script.calls.count("build b") == 1
    assert [d.outcome for d in world.history.trials["fake-1-1"].superseded] == [Outcome.ANOMALOUS] * 2


def test_unsupported_recipe_is_infeasible_and_the_next_is_tried(
    tmp_path: Path, scores: dict[str, Any]
) -> None:
    """MODEL_UNSUPPORTED means PATCH: the next recipe of the ladder."""
    no = ComponentFailed("needs 128 columns", failure_class=FailureClass.MODEL_UNSUPPORTED)
    world = World(tmp_path, Script(scores, fail={"build a": [no]}))
    assert world.run() is Outcome.ACCEPT
    assert world.outcomes == [Outcome.INFEASIBLE, Outcome.ACCEPT]


def test_failure_of_the_baseline_ends_the_study(tmp_path: Path, scores: dict[str, Any]) -> None:
    """What all candidates share fails for all of them."""
    no = ComponentFailed("will not load", failure_class=FailureClass.MODEL_UNSUPPORTED)
    world = World(tmp_path, Script(scores, fail={"evaluate source": [no]}))
    world.run()
    assert len(world.outcomes) == 1


def test_changed_artifact_is_not_kept(tmp_path: Path) -> None:
    """A candidate whose bytes changed after the evaluation ends ANOMALOUS."""
    world = World(tmp_path, Script({"source": 0.5, "a": 0.9}, tamper=True), names=("a",))
    assert world.run() is Outcome.ANOMALOUS


def test_trial_budget(tmp_path: Path) -> None:
    """No more trials than the budget allows."""
    script = Script({"source": 1.0, "a": 0.0, "b": 0.0, "c": 0.0})
    world = World(tmp_path, script, names=("a", "b", "c"), budget=Budget(trials=2))
    world.run()
    assert world.outcomes == [Outcome.REGRESSION, Outcome.REGRESSION]


def test_used_up_time_is_inconclusive(tmp_path: Path, scores: dict[str, Any]) -> None:
    """A study without time left judges nothing and says so."""
    world = World(tmp_path, Script(scores), budget=Budget(wall_time_s=1e-9))
    assert world.run() is Outcome.INCONCLUSIVE
    assert "build a" not in world.script.calls


def test_used_up_disk_is_inconclusive(tmp_path: Path, scores: dict[str, Any]) -> None:
    """A study that has written more than it may stops before the next step."""
    world = World(tmp_path, Script(scores), budget=Budget(disk_bytes=1), names=("candidate-of-many-bytes",))
    assert world.run() is Outcome.INCONCLUSIVE
    assert world.script.calls == ["build candidate-of-many-bytes"]


def test_interruption_is_recorded_and_resumed(tmp_path: Path, scores: dict[str, Any]) -> None:
    """Ctrl-C leaves an interrupted Decision; resuming ends as if nothing had happened."""
    script = Script(scores, fail={"evaluate b": [Interrupted("SIGINT")]})  # type: ignore[list-item]
    world = World(tmp_path, script)
    with pytest.raises(Interrupted):
        world.run()
    assert world.history.interrupted
    assert world.history.trials["fake-1-2"].decision.interrupted
    assert world.run() is Outcome.ACCEPT
    assert script.calls.count("build b") == 1


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_event_and_resumed_it_decides_the_same(
    tmp_path: Path, scores: dict[str, Any], after: bool
) -> None:
    """Whatever event the engine dies at, resuming gives the same Decisions and repeats no finished step."""
    (tmp_path / "whole").mkdir()
    whole = World(tmp_path / "whole", Script(dict(scores)))
    whole.run()
    count = len(list(whole.ledger.read()))
    expected = [(d.candidate, d.outcome, d.sentence) for d in whole.history.decisions]
    for at in range(1, count + 1):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        world = World(folder, Script(dict(scores)))
        with pytest.raises(Killed):
            world.run(DyingLedger(world.ledger, at, after=after))
        assert world.run() is Outcome.ACCEPT, at
        assert [(d.candidate, d.outcome, d.sentence) for d in world.history.decisions] == expected, at
        finished = [
            e.data["step"] + e.data["key"] for e in world.ledger.read() if e.type is EventType.STEP_FINISHED
        ]
        assert len(finished) == len(set(finished)), at
