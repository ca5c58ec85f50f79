"""A whole tuning study in one process: the real flow, proposer, gates and engine over servers that are nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from assay.cli.tune_progress import exit_reason, so_far
from assay.core.errors import ComponentFailed
from assay.core.events import Event, EventType
from assay.core.history import StudyHistory, replay
from assay.core.load import (
    Arrivals,
    LevelResult,
    Load,
    LoadPoint,
    PointPlan,
    PointState,
    ServiceLevel,
    Workload,
)
from assay.core.ports import Component, Endpoint, Session, Target
from assay.core.recommendation import ExitReason, Recommendation
from assay.core.study import AdapterRef, Study
from assay.core.trials import Trials
from assay.core.tuning import TuningPlan
from assay.core.tuning_record import Tuning
from assay.core.vocabulary import FailureClass, Outcome
from assay.engine.study import StudyLoop
from assay.flows.tune import TuneSpec, plan
from assay.gates.tuning import derived
from assay.ledger.memory import MemoryLedger, MemoryStore
from assay.registry import Registry
from assay.runtime.files import artifact, read_json

pytestmark = pytest.mark.slow

LEVEL = ServiceLevel(metric="ttft", q=0.95, limit_ms=1000.0)
SPEEDS = {("big", 4): 100.0, ("big", 1): 60.0, ("big", 2): 150.0, ("big", 3): 90.0, ("small", 4): 300.0}
OOM = ComponentFailed("out of memory", failure_class=FailureClass.POINT_INFEASIBLE, cause="oom_load")
BAD_WEIGHTS = ComponentFailed(
    "the weights cannot be read", failure_class=FailureClass.MODEL_UNSUPPORTED, cause="integrity"
)
BAD_FLAG = ComponentFailed("no such flag", failure_class=FailureClass.USER_CONFIG_ERROR, cause="bad_flag")


class Machine:
    """What servers answer here; it survives the death of the engine."""

    def __init__(self, fails: Mapping[tuple[str, int], ComponentFailed] | None = None) -> None:
        self.fails = dict(fails or {})
        self.launches = 0
        self.up = 0
        self.most_up = 0


class FakeServe:
    """A server that is nowhere."""

    def __init__(self, machine: Machine, options: Mapping[str, Any]) -> None:
        self.machine = machine
        self.options = options

    def check(self) -> Component:
        """Always ready."""
        return Component(verb="serve", kind="fake", state="ready")

    def protocol(self) -> Mapping[str, Any]:
        """Its options."""
        return dict(self.options)

    @contextmanager
    def serve(self, target: Target, session: Session) -> Iterator[Endpoint]:
        """Up while it is used; the model must be the one that was pinned."""
        key = (Path(target.path).stem, self.options["slots"])
        assert artifact(Path(target.path)).digest == target.digest
        self.machine.launches += 1
        if key in self.machine.fails:
            raise self.machine.fails[key]
        self.machine.up += 1
        self.machine.most_up = max(self.machine.most_up, self.machine.up)
        try:
            yield Endpoint(
                base_url="http://127.0.0.1:9/v1", model=str(key), engine="fake", facts={"key": key}
            )
        finally:
            self.machine.up -= 1


class FakeLoad:
    """Measures the true speed, with two percent of noise."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def evaluate(self, target: Target, session: Session) -> Load:
        """One point."""
        assert target.endpoint is not None
        n = self.machine.launches
        tps = SPEEDS[tuple(target.endpoint.facts["key"])] * (1 + 0.02 * ((n * 7919) % 11 - 5) / 5)
        point = LoadPoint(
            plan=PointPlan(arrivals=Arrivals(concurrency=4), requests=8), state=PointState.VALID,
            stopped_by="requests", started="2026-01-01T00:00:00+00:00", wall_s=1.0, window_s=1.0, window="steady",
            sent=8, completed=8, failed=0, warmup=4, output_tps=tps,
            levels=(LevelResult(level=LEVEL, verdict="undecided", late=0, n=8, needed=59),),
        )  # fmt: skip
        return Load(subject=target.name, client="fake", workload=Workload(), points=(point,))


class Components(Registry):
    """The real ones, but for servers and load."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def serve(self, ref: AdapterRef) -> Any:
        """Nowhere."""
        return FakeServe(self.machine, ref.options)

    def evaluate(self, ref: AdapterRef) -> Any:
        """The load test is ours."""
        return FakeLoad(self.machine) if ref.kind == "load" else super().evaluate(ref)


class Deadly(MemoryLedger):
    """Dies at its n-th event, counted over all lives."""

    def __init__(self, at: int | None = None) -> None:
        super().__init__()
        self.at = at
        self.appended = 0

    def append(self, type: EventType, study: str, data: Mapping[str, Any]) -> Event:
        """Append, then die if it is time."""
        event = super().append(type, study, data)
        self.appended += 1
        if self.appended == self.at:
            raise KeyboardInterrupt
        return event


class Project:
    """A study of two models and four settings."""

    def __init__(
        self, folder: Path, machine: Machine | None = None, at: int | None = None, **more: Any
    ) -> None:
        self.folder = folder
        self.machine = machine or Machine()
        self.ledger = Deadly(at)
        self.store = MemoryStore()
        folder.mkdir(exist_ok=True)
        models = []
        for name in ("big", "small"):
            path = folder / f"{name}.gguf"
            path.write_text(name)
            pinned = artifact(path)
            models.append(
                {
                    "name": name,
                    "path": str(path),
                    "digest": pinned.digest,
                    "size_bytes": 5 if name == "big" else 3,
                }
            )
        spec = TuneSpec.model_validate(
            {
                "schema": "tune/1",
                "models": models,
                "engine": "fake",
                "contexts": [512],
                "knobs": {"slots": [4, 1, 2, 3]},
                "load": {"concurrency": [4]},
                "service_levels": {"ttft_p95_ms": 1000},
                **more,
            }
        )
        self.study: Study = plan(spec, artifact(folder / "big.gguf"), "tune-1")

    def run(self) -> Outcome:
        """Run or resume it."""
        return StudyLoop(
            self.study, ledger=self.ledger, store=self.store, components=Components(self.machine),
            folder=self.folder / "work",
        ).run()  # fmt: skip

    @property
    def history(self) -> StudyHistory:
        """What the ledger says."""
        return replay(self.ledger.read())["tune-1"]

    @property
    def recommendation(self) -> Recommendation:
        """What was written down."""
        path = Path(self.history.decisions[-1].facts["artifact"]["path"])
        return Recommendation.from_json(read_json(path / "recommendation.json"))


def test_from_the_first_launch_to_a_recommendation(tmp_path: Path) -> None:
    """The faster setting of the bigger model, proven; the smaller model by name alone; one server at a time."""
    project = Project(tmp_path)
    assert project.run() is Outcome.ACCEPT
    found = project.recommendation
    assert found.recommendation is not None
    assert found.recommendation.name == "big slots=2"
    assert found.recommendation.gain_low is not None
    assert found.recommendation.gain_low > 0
    assert found.alternates == ("small",)
    assert found.run_id == "tune-1"
    assert found.machine.ram_gb > 0
    assert found.recipe_hash is not None
    assert found.fingerprint == (found.basis.fingerprint if found.basis else None)
    assert project.machine.most_up == 1


def test_launches_are_no_answers(tmp_path: Path) -> None:
    """Each launch ends INCONCLUSIVE; only the recommendation counts for the study, and nobody applies a launch."""
    project = Project(tmp_path)
    project.run()
    decisions = project.history.decisions
    assert {d.outcome for d in decisions[:-1]} == {Outcome.INCONCLUSIVE}
    assert decisions[-1].outcome is Outcome.ACCEPT
    assert [g.gate for g in decisions[0].gates] == ["reading-512"]
    assert {g.gate for g in decisions[-1].gates} == {"tuning", "integrity"}


def test_the_answer_can_be_derived_again(tmp_path: Path) -> None:
    """From the stored launches alone follows the very answer that was judged."""
    project = Project(tmp_path)
    project.run()
    answer = list(project.history.trials.values())[-1]
    held = {r.role: r.evidence for r in answer.steps.values() if r.role}
    trials = Trials.from_json(project.store.get(str(held["study.trials"])))
    record = Tuning.from_json(project.store.get(str(held["candidate.tuning"])))
    policy = TuningPlan.from_json(project.study.gates_for("answer")[0].policy)
    found = derived(trials, policy)
    assert record.record.recommendation.recommendation is not None
    assert found.recommended == record.record.recommendation.recommendation.name
    assert len(trials.rows) == len(project.history.decisions) - 1


def test_a_setting_that_fails_is_told_and_others_go_on(tmp_path: Path) -> None:
    """Out of memory and a flag that one setting makes are this setting's fault: no abort, the reasons told."""
    machine = Machine({("big", 1): OOM, ("big", 3): BAD_FLAG})
    project = Project(tmp_path, machine)
    assert project.run() is Outcome.ACCEPT
    causes = {
        d.candidate.split(" s")[1][:6]: d.facts.get("cause")
        for d in project.history.decisions[:-1]
        if d.facts.get("cause")
    }
    assert set(causes.values()) == {"oom_load", "bad_flag"}
    reasons = {str(i.settings["slots"]): i.reason for i in project.recommendation.infeasible}
    assert "out of memory" in reasons["1"]
    assert "no such flag" in reasons["3"]


def test_weights_that_are_not_what_they_should_be_end_the_whole_study(tmp_path: Path) -> None:
    """Integrity is no property of a setting: nothing else is launched, nothing is recommended, the reason has a word."""
    machine = Machine({("big", 4): BAD_WEIGHTS})
    project = Project(tmp_path, machine)
    assert project.run() is Outcome.ANOMALOUS
    assert machine.launches == 1
    assert exit_reason(project.history) is ExitReason.PRE_WARM_INTEGRITY
    machine.fails.clear()
    assert project.run() is Outcome.ACCEPT  # mended: the launch is made again


def test_what_is_launched_knows_the_time_that_is_left(tmp_path: Path) -> None:
    """Each launch carries what remains of the budget; without a budget none does."""
    limited = Project(tmp_path / "limited", budget={"max_duration_s": 500.0})
    limited.run()
    left = [t.candidate.intent["limit_s"] for t in list(limited.history.trials.values())[:-1]]
    assert left == sorted(left, reverse=True)
    assert 0 < left[-1] <= left[0] == 500.0
    free = Project(tmp_path / "free", budget={"max_duration_s": None})
    free.run()
    assert all("limit_s" not in t.candidate.intent for t in free.history.trials.values())


def test_the_choice_is_complete(tmp_path: Path) -> None:
    """Where the model lies, and the estimate with the drift taken out beside the plain median."""
    project = Project(tmp_path)
    project.run()
    chosen = project.recommendation.recommendation
    assert chosen is not None
    assert chosen.path == str(tmp_path / "big.gguf")
    assert chosen.tps == pytest.approx(chosen.tps_median, rel=0.1)
    assert chosen.tps_low is not None
    assert chosen.tps_high is not None
    assert chosen.tps is not None
    assert chosen.tps_low < chosen.tps < chosen.tps_high


def test_nothing_serves(tmp_path: Path) -> None:
    """All models out of memory: INFEASIBLE, and the reasons stand in the Decision, the smallest model first."""
    machine = Machine({(m, s): OOM for m in ("big", "small") for s in (1, 2, 3, 4)})
    project = Project(tmp_path, machine)
    assert project.run() is Outcome.INFEASIBLE
    sentence = project.history.decisions[-1].sentence
    assert sentence.index("small") < sentence.index("big")


def test_time_that_is_up_is_inconclusive(tmp_path: Path) -> None:
    """The best so far is written down as partial; the study is INCONCLUSIVE, which is its own exit code."""
    project = Project(tmp_path, budget={"max_duration_s": 1e-3})
    assert project.run() is Outcome.INCONCLUSIVE
    found = project.recommendation
    assert found.recommendation is not None
    assert found.recommendation.partial
    assert found.exit_reason == "budget_exhausted_with_partial_recommendation"
    assert not found.settled


def test_death_at_every_event(tmp_path: Path) -> None:
    """Whatever the moment: the study goes on, nothing finished is done again, the recommendation is the same."""
    whole = Project(tmp_path / "whole")
    whole.run()
    for at in range(1, whole.ledger.appended, 2):
        project = Project(tmp_path / f"at-{at}", at=at)
        with pytest.raises(KeyboardInterrupt):
            project.run()
        assert project.run() is Outcome.ACCEPT, at
        assert project.recommendation.recommendation is not None
        assert project.recommendation.recommendation.name == "big slots=2", at
        finished = [e for e in project.ledger.read() if e.type is EventType.STEP_FINISHED]
        keys = [(e.data["trial"], e.data["step"]) for e in finished]
        assert len(keys) == len(set(keys)), at
        assert project.machine.most_up == 1


def test_what_is_known_before_the_end(tmp_path: Path) -> None:
    """After a death in the middle: the best so far, marked partial, and a reason that says it crashed."""
    project = Project(tmp_path, at=30)
    with pytest.raises(KeyboardInterrupt):
        project.run()
    record, found = so_far(project.history, project.store)
    assert found.partial
    assert record.recommendation.exit_reason == "crashed"
    assert record.recommendation.recommendation is not None
    assert record.recommendation.recommendation.partial
    assert len(record.readings) == len(project.history.decisions)
    assert exit_reason(project.history, alive=True) == "running"
    project.run()
    assert exit_reason(project.history) == "ok"
