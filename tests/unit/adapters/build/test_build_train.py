"""Build kind `train` and evaluate kind `experiment`, below the stories: what is over, what is refused, what is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.adapters.build import train
from assay.adapters.evaluate import experiment
from assay.core.candidate import Candidate
from assay.core.errors import ComponentFailed, ComponentMissing
from assay.core.experiment import Attempt, Experiment, ExperimentState
from assay.core.ports import Target
from assay.core.study import AdapterRef
from assay.core.training_runs import TrainingRuns
from assay.testing.session import RecordingSession as FakeSession
from experiment_files import sound


def ended(state: ExperimentState, outcome: str = "exited", reason: str = "", by: str = "") -> Experiment:
    """An experiment whose last attempt ended so."""
    attempt = Attempt(number=1, outcome=outcome, training_reason=reason, stop_requested_by=by)
    return Experiment(subject="x", id="exp-001", state=state, attempts=(attempt,))


@pytest.mark.parametrize(
    ("state", "over"),
    [
        (Experiment(subject="x", id="exp-001"), False),
        (ended(ExperimentState.TRAINED, reason="completed"), True),
        (ended(ExperimentState.CRASHED, "crashed"), True),
        (ended(ExperimentState.CRASHED, "killed"), False),
        (ended(ExperimentState.LOST, ""), False),
        (ended(ExperimentState.RUNNING, ""), False),
        (ended(ExperimentState.TRAINED, "stopped", "stopped", "checker"), True),
        (ended(ExperimentState.TRAINED, "stopped", "stopped", "study"), False),
        (ended(ExperimentState.TRAINED, "stopped", "stopped", "user"), False),
        (ended(ExperimentState.TRAINED, "exited", "stopped", "study"), False),
        (ended(ExperimentState.TRAINED, "exited", "stopped", "checker"), True),
        (ended(ExperimentState.TRAINED, "stopped", "stopped", "watcher"), False),
        (ended(ExperimentState.TRAINED, "stopped", "completed", "user"), True),
    ],
)
def test_what_was_cut_short_goes_on_and_what_ended_does_not(state: Experiment, over: bool) -> None:
    """A training ends by itself, by the checker, or by its own time limit; anything else is taken up again."""
    assert train.Adapter(train.Options(command=("x",)))._over(state) is over


def test_its_own_time_limit_is_an_end() -> None:
    """With a fixed time for each experiment, being stopped by it is how it ends."""
    adapter = train.Adapter(train.Options(command=("x",), max_duration_s=60.0))
    assert adapter._over(ended(ExperimentState.TRAINED, "stopped", "stopped", "watcher"))


def test_check_names_what_is_missing(tmp_path: Path) -> None:
    """A program that is not there is found before anything is planned."""
    assert train.Adapter(train.Options()).check().detail == "no command is given"
    assert train.Adapter(train.Options(command=("no-such-program",))).check().state == "missing"
    assert train.Adapter(train.Options(command=("{python}",))).check().state == "ready"
    assert experiment.Adapter(experiment.Options()).check().state == "ready"
    assert experiment.Adapter(experiment.Options(command=("no-such-program",))).check().state == "missing"


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    """A session of a trial below a home of its own."""
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    workdir = tmp_path / "home" / "studies" / "s-1" / "trial-2" / "train-1"
    workdir.mkdir(parents=True)
    return FakeSession(workdir)


def built(adapter: train.Adapter, session: FakeSession, tmp_path: Path) -> Any:
    """One build."""
    made = Candidate(
        name="wide", parent="p", build=AdapterRef(kind="train"), intent={"hypothesis": "wider is better"}
    )
    return adapter.build(made, tmp_path, session.workdir / "artifact", session)


def test_a_missing_program_is_no_failed_recipe(session: FakeSession, tmp_path: Path) -> None:
    """`assay train` refuses to start; that is a missing component, and the experiment stays as planned."""
    with pytest.raises(ComponentMissing, match="no-such-program"):
        built(train.Adapter(train.Options(command=("no-such-program",))), session, tmp_path)


def test_a_script_that_crashes_is_evidence(session: FakeSession, tmp_path: Path) -> None:
    """The build succeeds, without a checkpoint; the record tells the gates what happened."""
    adapter = train.Adapter(
        train.Options(command=("{python}", "-c", "raise SystemExit(3)"), metric="score", direction="max")
    )
    facts = built(adapter, session, tmp_path)
    assert (facts["state"], facts["checkpoint"], facts["value"]) == ("crashed", "", None)
    assert (
        json.loads((session.workdir / "artifact" / "experiment.json").read_text())["experiment"] == "exp-001"
    )
    hypothesis = (tmp_path / "home" / "experiments" / "exp-001" / "hypothesis.md").read_text()
    assert "wider is better" in hypothesis
    again = FakeSession(session.workdir.parent / "train-2")
    again.workdir.mkdir()
    assert built(adapter, again, tmp_path)["attempts"] == 1


def left(root: Path, seed: int, folder: Path, **more: Any) -> None:
    """What a build step leaves of a trained experiment."""
    place = root / f"train-{seed}-1" / "artifact"
    place.mkdir(parents=True)
    record = {
        "schema": "trained/1", "experiment": folder.name, "folder": str(folder), "seed": seed, "recipe": "r",
        "checkpoint": "", "metric": "accuracy", "value": 0.84, "state": "trained", **more,
    }  # fmt: skip
    (place / "experiment.json").write_text(json.dumps(record))


def target() -> Target:
    """What is evaluated."""
    return Target(name="wide", path="artifact", source="source", intent={"metric": "accuracy"})


def test_the_experiment_of_the_seed_is_read_and_kept(tmp_path: Path) -> None:
    """The evidence is the record; copies of its files stay where the experiment no longer writes."""
    made = sound(tmp_path / "experiments")
    left(tmp_path / "trial-1", 7, made.folder)
    workdir = tmp_path / "trial-1" / "record-1"
    workdir.mkdir()
    adapter = experiment.Adapter(experiment.Options())
    session = FakeSession(workdir, seed=7)
    found = adapter.evaluate(target(), session)
    assert isinstance(found, Experiment)
    assert found.id == "exp-001"
    assert all(Path(a.path).is_relative_to(workdir) for a in found.artifacts)
    with pytest.raises(ComponentFailed, match="seed 8"):
        adapter.evaluate(target(), FakeSession(workdir, seed=8))


def test_all_seeds_are_gathered(tmp_path: Path) -> None:
    """Each seed is one run with its value; mean and standard deviation are measurements, and never 0 for missing."""
    first, second = sound(tmp_path / "a"), sound(tmp_path / "b")
    left(tmp_path / "trial-1", 0, first.folder)
    left(tmp_path / "trial-1", 1, second.folder)
    workdir = tmp_path / "trial-1" / "compare-1"
    workdir.mkdir()
    adapter = experiment.Adapter(experiment.Options(all_seeds=True))
    found = adapter.evaluate(target(), FakeSession(workdir))
    assert isinstance(found, TrainingRuns)
    assert [r.seed for r in found.runs] == [0, 1]
    mean, sd = found.measurement("accuracy"), found.measurement("seed_sd")
    assert mean is not None
    assert mean.value is not None
    assert mean.n == 2
    assert sd is not None
    assert sd.value == 0.0
