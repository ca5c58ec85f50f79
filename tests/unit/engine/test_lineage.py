"""A study whose candidates grow out of each other, over fakes: kept, reverted, stopped, applied, killed and resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.errors import ComponentFailed
from assay.core.events import EventType
from assay.core.evidence import Evidence, Measurement
from assay.core.experiment import PrimaryMetric, Thresholds
from assay.core.proposal import Idea, Template, baseline, candidate, pasts
from assay.core.study import AdapterRef, Budget, GateRef, Step, StopRules, Study
from assay.core.training_runs import ABSENT
from assay.core.verdict import Verdict
from assay.core.vocabulary import Direction, FailureClass, Outcome, Status, Verb
from assay.engine.study import StudyLoop
from assay.ledger.memory import MemoryLedger, MemoryStore
from assay.testing.fakes import FakeComponents, Script

METRIC = PrimaryMetric(name="score", direction=Direction.HIGHER, thresholds=Thresholds(floor=0.5, goal=0.9))


class BetterGate:
    """PASS if the score is above that of the best before it."""

    name = "better"
    reads: tuple[str, ...] = ("candidate.runs", "parent.runs")

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """Compare two numbers; the first has nothing to beat."""
        mine, theirs = (evidence[r] for r in self.reads)
        score, before = mine.measurement("score"), theirs.measurement("score")
        if score is None or score.value is None:
            return self._said(Status.FAIL, Outcome.INFEASIBLE)
        if theirs.kind == ABSENT or (before is not None and (before.value or 0.0) < score.value):
            return self._said(Status.PASS, Outcome.ACCEPT)
        return self._said(Status.FAIL, Outcome.NO_GAIN)

    def _said(self, status: Status, outcome: Outcome) -> Verdict:
        return Verdict(gate=self.name, status=status, outcome=outcome, detail=outcome.value)


class Proposer:
    """Ideas in order, each a change of the best so far."""

    def __init__(self, template: Template, ideas: Sequence[Idea], fail: list[Exception]) -> None:
        self.template, self.ideas, self.fail = template, ideas, fail
        self.told: list[Sequence[Decision]] = []

    def propose(self, history: Sequence[Decision]) -> Candidate | None:
        """The next one."""
        self.told.append(history)
        if self.fail:
            raise self.fail.pop(0)
        known = pasts(history)
        first = baseline(self.template, known)
        if first is not None:
            return first
        return (
            candidate(self.template, known, self.ideas[len(known) - 1])
            if len(known) <= len(self.ideas)
            else None
        )


class World(FakeComponents):
    """Fakes with a proposer of ideas and a gate that wants a better score."""

    def __init__(self, folder: Path, scores: Mapping[str, Any], **rules: Any) -> None:
        super().__init__(Script(scores=dict(scores)))
        self.folder = folder
        self.source = folder / "source"
        self.source.mkdir(exist_ok=True)
        (self.source / "train.py").write_text("train")
        self.ledger, self.store = MemoryLedger(), MemoryStore()
        names = [n for n in scores if n != "baseline"]
        self.ideas = [
            Idea(name=n, patch={"level": i}, hypothesis=f"{n} is better")
            for i, n in enumerate(names, start=1)
        ]
        self.fail: list[Exception] = []
        self.template = Template(
            source=self.pin(self.source).digest,
            build=AdapterRef(kind="fake", options={"config": {"level": 0}}),
            baseline=Idea(name="baseline", hypothesis="as it stands"),
            metric=METRIC,
        )
        self.proposer = Proposer(self.template, self.ideas, self.fail)
        budget = rules.pop("budget", Budget())
        on_accept = rules.pop("apply_on_accept", True)
        self.study = Study(
            id="s-1",
            job="fake",
            name="s",
            question="Which?",
            source=self.pin(self.source),
            steps=(
                Step(name="build", verb=Verb.BUILD, subject="candidate"),
                Step(
                    name="evaluate",
                    verb=Verb.EVALUATE,
                    subject="candidate",
                    adapter=AdapterRef(kind="fake"),
                    produces="candidate.runs",
                    gates=(GateRef(gate="better"),),
                ),
            ),
            proposer=AdapterRef(kind="fake"),
            apply=AdapterRef(kind="fake"),
            apply_on_accept=on_accept,
            stop="never",
            stopping=StopRules(metric=METRIC, **rules),
            inherits={"parent.runs": "candidate.runs"},
            budget=budget,
            spec={},
        )

    def propose(self, ref: AdapterRef) -> Any:
        """The proposer of ideas."""
        return self.proposer

    def gate(self, ref: GateRef) -> Any:
        """The gate that wants more."""
        return BetterGate()

    def loop(self) -> StudyLoop:
        """The study from where the ledger says it stands."""
        return StudyLoop(
            self.study,
            ledger=self.ledger,
            store=self.store,
            components=self,
            folder=self.folder / "study",
        )

    def run(self) -> Outcome:
        """Run it to its end, or to the crash that the script plans."""
        (self.folder / "study").mkdir(exist_ok=True)
        return self.loop().run()

    @property
    def closed(self) -> Mapping[str, Any]:
        """How it ended."""
        return [e for e in self.ledger.read() if e.type is EventType.STUDY_CLOSED][-1].data

    @property
    def decided(self) -> list[tuple[str, str]]:
        """Candidate and word of each Decision that stands."""
        found = [e.data["decision"] for e in self.ledger.read() if e.type is EventType.DECISION_RECORDED]
        return [(d["candidate"], d["outcome"]) for d in found if not d["interrupted"]]


def test_each_candidate_is_measured_against_the_best_before_it(tmp_path: Path) -> None:
    """A candidate better than its predecessor and worse than the best is reverted; the next grows out of the best."""
    world = World(tmp_path, {"baseline": 0.5, "a": 0.7, "b": 0.6, "c": 0.8})
    assert world.run() is Outcome.ACCEPT
    assert [w for _, w in world.decided] == ["ACCEPT", "ACCEPT", "NO_GAIN", "ACCEPT"]
    trials = [e.data for e in world.ledger.read() if e.type is EventType.TRIAL_STARTED]
    keys = [Candidate.from_json(t["candidate"]).key for t in trials]
    parents = [t["candidate"]["parent"] for t in trials]
    assert parents == [world.template.source, keys[0], keys[1], keys[1]]
    assert world.closed["advance"]["trial"] == "s-1-4"


def test_nothing_better_than_the_baseline_is_no_gain(tmp_path: Path) -> None:
    """The baseline is kept as what others must beat, and that does not make the study a success."""
    world = World(tmp_path, {"baseline": 0.6, "a": 0.5})
    assert world.run() is Outcome.NO_GAIN
    assert world.closed["advance"]["word"] == "ADVANCE"
    alone = World(tmp_path, {"baseline": 0.6})
    assert alone.run() is Outcome.ACCEPT


def test_the_best_is_applied_once_at_the_end_and_only_if_it_may_advance(tmp_path: Path) -> None:
    """Not the first kept one but the last; below the floor nothing is touched."""
    world = World(tmp_path, {"baseline": 0.5, "a": 0.7})
    world.run()
    applied = [e.data["trial"] for e in world.ledger.read() if e.type is EventType.APPLY_DONE]
    assert applied == ["s-1-2"]
    low = World(tmp_path, {"baseline": 0.1, "a": 0.2})
    assert low.run() is Outcome.ACCEPT
    assert low.closed["advance"]["word"] == "NEEDS_HUMAN"
    assert not [e for e in low.ledger.read() if e.type is EventType.APPLY_INTENDED]


def test_it_stops_by_its_rules(tmp_path: Path) -> None:
    """Goal, failure budget, plateau, and a person's file each end it, and say so."""
    goal = World(tmp_path, {"baseline": 0.5, "a": 0.95, "b": 0.99})
    goal.run()
    assert goal.closed["why"].startswith("goal: a ")
    failing = World(tmp_path, {"baseline": 0.5, "a": None, "b": None, "c": 0.9}, budget=Budget(failures=2))
    failing.run()
    assert failing.closed["why"] == "the budget of 2 failed trials is used up"
    flat = World(tmp_path, {"baseline": 0.5, "a": 0.4, "b": 0.4, "c": 0.99}, plateau_trials=2)
    flat.run()
    assert flat.closed["why"].startswith("plateau: 2 trials in a row")
    stopped = World(tmp_path, {"baseline": 0.5}, stop_file=str(tmp_path / "halt"))
    (tmp_path / "halt").write_text("")
    stopped.run()
    assert stopped.closed["why"] == f"a person asked for it: {tmp_path / 'halt'}"
    assert stopped.decided == []


def test_a_repeated_proposal_is_not_trained(tmp_path: Path) -> None:
    """At a dead end the study closes before the repeated candidate begins."""
    world = World(tmp_path, {"baseline": 0.5, "a": 0.4, "b": 0.4}, dead_end_trials=1)
    world.proposer.ideas = [world.ideas[0], world.ideas[0].model_copy(update={"name": "again"})]
    world.run()
    assert world.closed["why"].startswith("dead end: the last 1 proposals")
    assert [c for c, _ in world.decided] == ["baseline", "a"]


def test_a_proposer_that_fails_is_asked_again_as_triage_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passing failure is retried once; one that stays ends in an error, and a resumed study goes on."""
    monkeypatch.setattr("assay.engine.lineage.time.sleep", lambda _: None)
    world = World(tmp_path, {"baseline": 0.5, "a": 0.6})
    passing = ComponentFailed("no answer", failure_class=FailureClass.INFRA_TRANSIENT)
    world.fail[:] = [passing]
    assert world.run() is Outcome.ACCEPT
    other = World(tmp_path, {"baseline": 0.5, "a": 0.6})
    other.fail[:] = [passing, passing]
    with pytest.raises(ComponentFailed):
        other.run()
    assert other.run() is Outcome.ACCEPT
    assert [c for c, _ in other.decided] == ["baseline", "a"]


def test_proposers_are_told_what_came_out(tmp_path: Path) -> None:
    """Each Decision comes with its candidate and what was measured; the ledger's own copy stays as it is."""
    world = World(tmp_path, {"baseline": 0.5, "a": 0.6})
    world.run()
    known = pasts(world.proposer.told[-1])
    assert [p.candidate.name for p in known] == ["baseline", "a"]
    assert [p.value("score") for p in known] == [0.5, 0.6]
    recorded = [e.data["decision"] for e in world.ledger.read() if e.type is EventType.DECISION_RECORDED]
    assert all("candidate" not in d["facts"] for d in recorded)


class Crash(BaseException):
    """Stands for kill -9."""


def test_crashed_at_each_event_it_goes_on_the_same(tmp_path: Path) -> None:
    """Whichever event was the last to be written: the same Decisions, the same end, nothing built twice."""
    scores = {"baseline": 0.5, "a": 0.7, "b": 0.6, "c": 0.8}
    whole = World(tmp_path, scores)
    whole.run()
    expected, end = whole.decided, whole.closed
    total = len(list(whole.ledger.read()))
    for number in range(1, total):
        world = World(tmp_path, scores)
        append, count = world.ledger.append, iter(range(1, 10_000))

        def deadly(*args: Any, append: Any = append, count: Any = count, at: int = number) -> Any:
            event = append(*args)
            if next(count) == at:
                raise Crash
            return event

        world.ledger.append = deadly  # type: ignore[method-assign]
        with pytest.raises(Crash):
            world.run()
        world.ledger.append = append  # type: ignore[method-assign]
        world.run()
        assert world.decided == expected, number
        assert world.closed == end, number
        steps = [
            (e.data["trial"], e.data["step"])
            for e in world.ledger.read()
            if e.type is EventType.STEP_FINISHED
        ]
        assert len(steps) == len(set(steps)), number


def test_a_measurement_is_never_invented(tmp_path: Path) -> None:
    """A trial whose evidence was never made has no value, not 0."""
    world = World(tmp_path, {"baseline": 0.5, "a": 0.6})
    world.script.fail["build a"] = [ComponentFailed("broken", failure_class=FailureClass.POINT_INFEASIBLE)]
    world.run()
    assert world.decided == [("baseline", "ACCEPT"), ("a", "INFEASIBLE")]
    last = pasts(world.loop().lineage._told())[-1]
    assert last.value("score") is None
    assert last.measured == {}
    assert Measurement.of("score", None).value is None
