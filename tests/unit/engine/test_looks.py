"""The loops over a plan with looks: they stop when they know, share, keep, resume, and are topped up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dying_ledger import DyingLedger, Killed

from assay.core.draw import Draw
from assay.core.errors import ComponentFailed, Interrupted
from assay.core.events import EventType
from assay.core.evidence import Evidence
from assay.core.gate import Gate
from assay.core.history import StudyHistory, replay
from assay.core.ports import Session, Target
from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.study import AdapterRef, Budget, GateRef, Step
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status, Verb
from assay.engine.study import StudyLoop
from assay.ledger.memory import MemoryLedger, MemoryStore
from assay.ledger.verify import verify_study
from assay.testing.fakes import FakeAdapter, FakeComponents, Script, fake_study

ENDS = (10, 30, 60)
ITEMS = 200
"""Items of the one task; more than the plan asks."""
WORDS: Mapping[str, tuple[Status, Outcome, bool]] = {
    "open": (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE, True),
    "futile": (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE, False),
    "accept": (Status.PASS, Outcome.ACCEPT, False),
    "regress": (Status.FAIL, Outcome.REGRESSION, False),
}


@dataclass
class Story(Script):
    """What the fakes do, and what is up at the moment."""

    lost: set[str] = field(default_factory=set)
    """`NAME +K` of batches of K items that come back without scores."""
    up: list[str] = field(default_factory=list)
    """Servers and workers that run."""


class Drawn(FakeAdapter):
    """Evaluates the items that are drawn, with a worker that stays for the trial."""

    script: Story

    @contextmanager
    def serve(self, target: Target, session: Session) -> Iterator[Any]:
        """A server that is noted while it is up."""
        with super().serve(target, session) as endpoint:
            yield from self._up(f"server {target.name}", endpoint)

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """A row for each item asked."""
        session.keep("worker", lambda _own: self._worker())
        asked = (target.samples or {})["t"]
        call = f"{target.name} +{len(asked)}"
        self.script.called(f"evaluate {call}")
        score = None if call in self.script.lost else 1.0
        state = SampleState.MISSING if score is None else SampleState.SCORED
        n = len(asked)
        rows = Samples(
            id=tuple(map(str, asked)),
            repeat=(0,) * n,
            prompt=("p",) * n,
            score=(score,) * n,
            state=(state,) * n,
            output=("o",) * n,
        )
        task = TaskResult(task="t", metric="acc", score=score, samples=rows)
        return Results(subject=target.name, harness="fake", tasks=(task,))

    @contextmanager
    def _worker(self) -> Iterator[str]:
        yield from self._up("worker", "worker")

    def _up(self, name: str, thing: Any) -> Iterator[Any]:
        self.script.up.append(name)
        try:
            yield thing
        finally:
            self.script.up.remove(name)


class RowsGate:
    """ERROR where a row has no score."""

    name = "results"
    reads: tuple[str, ...] = ("results",)

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """Look at every row."""
        rows = _rows(evidence["results"])
        whole = all(s is not None for s in rows.score)
        status, outcome = (Status.PASS, None) if whole else (Status.ERROR, Outcome.ANOMALOUS)
        failure = None if whole else FailureClass.SAMPLE_ACCOUNTING_FAILED
        return _verdict("results", evidence, (status, outcome, False), failure)


class LookGate:
    """The word that the policy has for so many rows of that candidate."""

    name = "compare"
    reads: tuple[str, ...] = ("baseline", "candidate")

    def __init__(self, words: Mapping[str, str]) -> None:
        self.words = words

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """Both sides must have answered the same."""
        before, after = (_rows(evidence[role]) for role in self.reads)
        assert before.id == after.id
        assert len(set(after.id)) == len(after)
        word = self.words.get(f"{evidence['candidate'].subject} {len(after)}", "open")
        return _verdict("compare", evidence, WORDS[word], None, f"{word} at {len(after)}")


def _rows(evidence: Evidence) -> Samples:
    assert isinstance(evidence, Results)
    return evidence.tasks[0].samples


def _verdict(
    gate: str,
    evidence: Mapping[str, Evidence],
    said: tuple[Status, Outcome | None, bool],
    failure: FailureClass | None,
    detail: str = "",
) -> Verdict:
    status, outcome, open_ = said
    return Verdict(
        gate=gate,
        status=status,
        outcome=outcome,
        open=open_,
        failure_class=failure,
        detail=detail,
        reasons=(Reason(text=detail or gate, ok=status is Status.PASS),),
        reads={role: e.content_digest for role, e in evidence.items()},
    )


class Parts(FakeComponents):
    """Fakes that draw."""

    script: Story

    def evaluate(self, ref: AdapterRef) -> Drawn:
        """A fake that draws."""
        return Drawn(self.script, ref)

    serve = build = evaluate

    def gate(self, ref: GateRef) -> Gate:
        """By its name."""
        return LookGate(ref.policy) if ref.gate == "compare" else RowsGate()


def look(number: int, before: int, upto: int, words: Mapping[str, str], *, keep: bool = True) -> list[Step]:
    """One batch on both sides."""
    fake = AdapterRef(kind="fake")
    sides = (("baseline", "source"), ("evaluate", "candidate"))
    steps = []
    for name, subject in sides:
        role = "baseline" if subject == "source" else "candidate"
        gates = [GateRef(gate="results", label=f"{role}-results", reads={"results": role})]
        if subject == "candidate":
            gates.append(GateRef(gate="compare", policy=words))
        steps.append(
            Step(
                name=f"{name}-{number}",
                verb=Verb.EVALUATE,
                subject=subject,
                adapter=fake,
                serve=fake,
                served=True,
                produces=role,
                shared=subject == "source",
                draw=Draw(sizes={"t": ITEMS}, parts={"t": (before, upto)}),
                extends=f"{name}-{number - 1}" if number > 1 else "",
                until="compare",
                keep_serving=keep,
                gates=tuple(gates),
            )
        )
    return steps


class World:
    """A ledger, a store and a story that survive the death of the engine."""

    def __init__(
        self,
        folder: Path,
        words: Mapping[str, str],
        names: Sequence[str] = ("a",),
        *,
        keep: bool = True,
        **more: Any,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.words, self.story = folder, words, Story()
        source = folder / "source"
        source.mkdir()
        (source / "weights").write_text("source")
        study = fake_study(source, names, **more)
        starts = (0, *ENDS[:-1])
        looks = [
            s
            for k, (start, end) in enumerate(zip(starts, ENDS, strict=True), start=1)
            for s in look(k, start, end, words, keep=keep)
        ]
        self.study = study.model_copy(update={"steps": (study.steps[0], *looks)})
        self.ledger, self.store = MemoryLedger(), MemoryStore()

    def loop(self, ledger: MemoryLedger | None = None) -> StudyLoop:
        """The study, opened or resumed."""
        return StudyLoop(
            self.study,
            ledger=ledger or self.ledger,
            store=self.store,
            components=Parts(self.story),
            folder=self.folder / "work",
        )

    def run(self, ledger: MemoryLedger | None = None) -> Outcome:
        """Run or resume; whatever happens, nothing stays up."""
        try:
            return self.loop(ledger).run()
        finally:
            assert self.story.up == []

    def top_up(self, upto: int, *trials: str) -> Outcome:
        """Another look for these trials."""
        steps = self.history.steps
        last = steps[-1].draw
        assert last is not None
        further = look(len(steps) // 2 + 1, last.parts["t"][1], upto, self.words)
        return self.go_on(further, dict.fromkeys(trials, further[-1].name))

    def go_on(
        self, steps: Sequence[Step], trials: Mapping[str, str], ledger: MemoryLedger | None = None
    ) -> Outcome:
        """These trials as far as these steps, whatever a look says."""
        loop = self.loop(ledger)
        loop.top_up(steps, trials)
        return loop.run()

    @property
    def history(self) -> StudyHistory:
        """What the ledger says."""
        return replay(self.ledger.read())[self.study.id]

    @property
    def evaluated(self) -> list[str]:
        """Evaluations, in order."""
        return [c.removeprefix("evaluate ") for c in self.story.calls if c.startswith("evaluate")]

    def decided(self) -> list[tuple[Any, ...]]:
        """The Decisions, without what differs from run to run."""
        return [
            (d.candidate, d.outcome, d.sentence, [(g.gate, g.step, g.status, g.detail) for g in d.gates])
            for d in self.history.decisions
        ]

    def judged(self) -> list[tuple[str, str, str]]:
        """Trial, step and gate of every verdict, in order."""
        lines = [(e.data["trial"], e.data["line"]) for e in self.ledger.read() if "line" in e.data]
        return [(trial, line["step"], line["gate"]) for trial, line in lines]

    def verified(self) -> dict[tuple[str, bool | None], int]:
        """How many things of each kind `assay verify` derives again, and how they came out."""
        parts = Parts(self.story)
        counts: dict[tuple[str, bool | None], int] = {}
        for check in verify_study(self.history, self.store, parts.gate, parts.pin):
            counts[check.what, check.ok] = counts.get((check.what, check.ok), 0) + 1
        return counts


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a fake to recover."""
    monkeypatch.setattr("assay.engine.trial.time.sleep", lambda _s: None)


@pytest.mark.parametrize(
    ("words", "outcome", "asked"),
    [
        ({"a 10": "accept"}, Outcome.ACCEPT, 10),
        ({"a 30": "accept"}, Outcome.ACCEPT, 30),
        ({"a 30": "regress"}, Outcome.REGRESSION, 30),
        ({"a 30": "futile"}, Outcome.INCONCLUSIVE, 30),
        ({"a 60": "accept"}, Outcome.ACCEPT, 60),
        ({"a 60": "futile"}, Outcome.INCONCLUSIVE, 60),
    ],
)
def test_it_stops_at_the_first_look_that_knows(
    tmp_path: Path, words: dict[str, str], outcome: Outcome, asked: int
) -> None:
    """ACCEPT, REGRESSION and futility end it where they are seen; an open look goes on; both sides get the same."""
    world = World(tmp_path, words)
    assert world.run() is outcome
    batches = [k for k, end in zip((10, 20, 30), ENDS, strict=True) if end <= asked]
    assert world.evaluated == [f"{side} +{k}" for k in batches for side in ("source", "a")]
    decision = world.history.decisions[0]
    assert decision.sentence.endswith(f"at {asked}")
    assert {g.gate for g in decision.gates if g.status is not None} >= {"compare", "candidate-results"}
    assert len(world.history.trials["fake-1-1"].looks) == 3 * (len(batches) - 1)


def test_only_an_accept_is_applied(tmp_path: Path) -> None:
    """An open look is no acceptance: nothing is published before the last word."""
    world = World(tmp_path, {"a 30": "accept"})
    world.run()
    assert world.story.calls[-2:] == ["plan a", "apply a"]
    futile = World(tmp_path / "futile", {"a 30": "futile"})
    futile.run()
    assert "apply a" not in futile.story.calls


def test_a_plan_that_ends_open_is_inconclusive(tmp_path: Path) -> None:
    """The last look is no ACCEPT by running out of items."""
    world = World(tmp_path, {})
    assert world.run() is Outcome.INCONCLUSIVE


def test_results_that_fail_at_a_later_look_end_the_trial(tmp_path: Path) -> None:
    """Lost samples of the second batch: ANOMALOUS, and neither comparison nor third batch."""
    world = World(tmp_path, {"a 30": "accept"})
    world.story.lost = {"a +20"}
    assert world.run() is Outcome.ANOMALOUS
    assert world.evaluated[-1] == "a +20"
    assert [step for _, step, gate in world.judged() if gate == "compare"] == ["evaluate-1"]


def test_servers_and_workers_stay_for_the_trial_and_no_longer(tmp_path: Path) -> None:
    """One start for all looks of a trial; another trial has its own, and none is left."""
    world = World(tmp_path, {"a 30": "regress", "b 30": "accept"}, ("a", "b"))
    world.run()
    assert [c for c in world.story.calls if c.startswith("serve")] == ["serve source", "serve a", "serve b"]
    apart = World(tmp_path / "apart", {"a 30": "accept"}, keep=False)
    apart.run()
    assert [c for c in apart.story.calls if c.startswith("serve")] == ["serve source", "serve a"] * 2


@pytest.mark.parametrize("keep", [True, False])
def test_a_failure_ends_what_was_kept(tmp_path: Path, keep: bool) -> None:
    """A second attempt begins with a server and a worker anew; a final failure leaves nothing up."""
    flaky = ComponentFailed("gone", failure_class=FailureClass.DEPLOYMENT_HEALTH_FAILED)
    world = World(tmp_path, {"a 60": "accept"}, keep=keep)
    world.story.fail = {"evaluate a +20": [flaky]}
    assert world.run() is Outcome.ACCEPT
    assert world.history.trials["fake-1-1"].retries == {"evaluate-2": 1}
    if keep:
        served = [c for c in world.story.calls if c.startswith("serve")]
        assert served == ["serve source", "serve a", "serve a", "serve source"]
    broken = World(tmp_path / "broken", {}, keep=keep)
    broken.story.fail = {"evaluate a +20": [flaky, flaky]}
    assert broken.run() is Outcome.INFEASIBLE


def test_an_interruption_ends_what_was_kept_and_is_resumed(tmp_path: Path) -> None:
    """Ctrl-C in the third batch; resuming asks that batch alone and comes to the same Decision."""
    words = {"a 60": "accept"}
    world = World(tmp_path, words)
    world.story.fail = {"evaluate a +30": [Interrupted("SIGINT")]}
    with pytest.raises(Interrupted):
        world.run()
    assert world.history.trials["fake-1-1"].decision is not None
    before = len(world.evaluated)
    assert world.run() is Outcome.ACCEPT
    assert world.evaluated[before:] == ["a +30"]
    whole = World(tmp_path / "whole", words)
    whole.run()
    assert world.decided() == whole.decided()


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_event_it_decides_the_same(tmp_path: Path, after: bool) -> None:
    """Also between looks: no finished step again, no gate of an earlier look asked again, the same Decisions."""
    words = {"a 30": "regress", "b 60": "accept"}
    whole = World(tmp_path / "whole", words, ("a", "b"))
    whole.run()
    count = len(list(whole.ledger.read()))
    assert count > 40
    for at in range(1, count + 1):
        world = World(tmp_path / str(at), words, ("a", "b"))
        with pytest.raises(Killed):
            world.run(DyingLedger(world.ledger, at, after=after))
        assert world.run() is Outcome.ACCEPT, at
        assert world.decided() == whole.decided(), at
        assert world.judged() == whole.judged(), at
        finished = [
            e.data["step"] + e.data["key"] for e in world.ledger.read() if e.type is EventType.STEP_FINISHED
        ]
        assert len(finished) == len(set(finished)), at


def test_a_retried_look_leaves_the_earlier_one_standing(tmp_path: Path) -> None:
    """Killed between a retry and its second attempt: the gates of the look before are not asked again."""
    flaky = ComponentFailed("reset", failure_class=FailureClass.DEPLOYMENT_HEALTH_FAILED)

    def world_of(folder: Path) -> World:
        made = World(folder, {"a 60": "accept"})
        made.story.fail = {"evaluate a +30": [flaky]}
        return made

    whole = world_of(tmp_path / "whole")
    whole.run()
    at = next(e.seq for e in whole.ledger.read() if e.type is EventType.STEP_RETRIED)
    world = world_of(tmp_path / "killed")
    with pytest.raises(Killed):
        world.run(DyingLedger(world.ledger, at, after=True))
    assert world.history.trials["fake-1-1"].gates["compare"].step == "evaluate-2"
    assert world.run() is Outcome.ACCEPT
    assert world.judged() == whole.judged()


def test_a_gate_that_fails_is_forgotten_with_its_step_and_no_more(tmp_path: Path) -> None:
    """The history of a retried step: its own verdicts go, those of the look before stand again."""
    world = World(tmp_path, {"a 60": "accept"})
    world.run()
    history = world.history
    lines = history.trials["fake-1-1"].gates
    world.ledger.append(
        EventType.STEP_RETRIED,
        "fake-1",
        {"trial": "fake-1-1", "step": "evaluate-3", "after": lines["compare"].to_json()},
    )
    again = world.history.trials["fake-1-1"]
    assert (again.gates["compare"].step, again.gates["candidate-results"].step) == (
        "evaluate-2",
        "evaluate-2",
    )
    assert [line.step for line in again.looks if line.gate == "compare"] == ["evaluate-1"]


def test_the_baseline_of_a_look_is_shared_and_goes_further(tmp_path: Path) -> None:
    """The second candidate takes over the baseline's looks and asks only those beyond."""
    world = World(tmp_path, {"a 30": "regress", "b 60": "accept"}, ("a", "b"))
    world.run()
    assert [c for c in world.evaluated if c.startswith("source")] == [
        "source +10",
        "source +20",
        "source +30",
    ]
    reused = [e.data["step"] for e in world.ledger.read() if e.type is EventType.STEP_REUSED]
    assert reused == ["baseline-1", "baseline-2"]
    first, second = world.history.trials.values()
    assert first.steps["baseline-2"] == second.steps["baseline-2"]


def test_another_draw_is_another_baseline(tmp_path: Path) -> None:
    """The items are part of the protocol under which a shared step is known."""
    world = World(tmp_path, {"a 10": "accept"})
    world.run()
    (step,) = (s for s in world.study.steps if s.name == "baseline-1")
    trial = world.history.trials["fake-1-1"]
    other = step.model_copy(update={"draw": Draw(seed=1, sizes={"t": ITEMS}, parts={"t": (0, 10)})})
    loop = world.loop().trials
    assert loop.steps.key(step, trial) == trial.steps["baseline-1"].key
    assert loop.steps.key(other, trial) != trial.steps["baseline-1"].key


TOPPED = {"a 30": "regress", "b 100": "accept"}


def test_a_top_up_opens_the_inconclusive_and_no_other(tmp_path: Path) -> None:
    """The refused candidate stays refused; the old Decision is kept; only further items are asked."""
    world = World(tmp_path, TOPPED, ("a", "b"), stop="never")
    assert world.run() is Outcome.INCONCLUSIVE
    assert [d.outcome for d in world.history.decisions] == [Outcome.REGRESSION, Outcome.INCONCLUSIVE]
    old, before = world.history.decisions[1], len(world.evaluated)
    assert world.top_up(100, "fake-1-2") is Outcome.ACCEPT
    assert world.evaluated[before:] == ["source +40", "b +40"]
    trial = world.history.trials["fake-1-2"]
    assert trial.superseded == [old]
    assert [d.outcome for d in world.history.decisions] == [Outcome.REGRESSION, Outcome.ACCEPT]
    assert world.story.calls[-2:] == ["plan b", "apply b"]


def test_a_top_up_may_end_open_and_be_topped_up_again(tmp_path: Path) -> None:
    """Each adds a look; the record of all of them is replayed from the ledger."""
    world = World(tmp_path, {"a 120": "regress"})
    world.run()
    assert world.top_up(90, "fake-1-1") is Outcome.INCONCLUSIVE
    assert world.top_up(120, "fake-1-1") is Outcome.REGRESSION
    trial = world.history.trials["fake-1-1"]
    assert [d.outcome for d in trial.superseded] == [Outcome.INCONCLUSIVE] * 2
    assert [s.name for s in world.history.topped_up] == [
        "baseline-4",
        "evaluate-4",
        "baseline-5",
        "evaluate-5",
    ]
    details = [line.detail for line in (*trial.looks, trial.gates["compare"]) if line.gate == "compare"]
    assert details == ["open at 10", "open at 30", "open at 60", "open at 90", "regress at 120"]


def test_a_top_up_goes_on_after_futility(tmp_path: Path) -> None:
    """Whoever insists gets the rest of the plan first, then what is added; a futile look is no reason any more."""
    world = World(tmp_path, {"a 10": "futile", "a 30": "futile", "a 100": "accept"})
    world.run()
    assert world.evaluated == ["source +10", "a +10"]
    assert world.top_up(100, "fake-1-1") is Outcome.ACCEPT
    assert [c for c in world.evaluated if c.startswith("a")] == ["a +10", "a +20", "a +30", "a +40"]


@pytest.mark.parametrize("said", ["futile", "open"])
def test_a_top_up_asks_no_more_than_was_asked_for(tmp_path: Path, said: str) -> None:
    """After futility one more look of the plan is one more look, also where that one is open again."""
    world = World(tmp_path, {"a 10": "futile", "a 30": said, "a 60": "accept"})
    world.run()
    assert world.go_on((), {"fake-1-1": "evaluate-2"}) is Outcome.INCONCLUSIVE
    assert [c for c in world.evaluated if c.startswith("a")] == ["a +10", "a +20"]
    assert world.run() is Outcome.INCONCLUSIVE
    assert world.go_on((), {"fake-1-1": "evaluate-3"}) is Outcome.ACCEPT
    assert not any(ok is False for _, ok in world.verified())


def test_a_top_up_of_older_ledgers_insists_to_the_end(tmp_path: Path) -> None:
    """They name no place: whoever insisted got the rest of the plan."""
    world = World(tmp_path, {"a 10": "futile", "a 30": "futile", "a 60": "accept"})
    world.run()
    data = {"steps": [], "trials": ["fake-1-1"], "settled": [], "insists": True}
    world.ledger.append(EventType.STUDY_TOPPED_UP, "fake-1", data)
    assert world.run() is Outcome.ACCEPT


def test_a_top_up_ends_with_the_first_that_is_accepted(tmp_path: Path) -> None:
    """Two candidates go on; the first is accepted: the second is asked nothing, and its Decision stands."""
    words = {"a 10": "futile", "b 10": "futile", "a 60": "accept"}
    both = {"fake-1-1": "evaluate-3", "fake-1-2": "evaluate-3"}
    world = World(tmp_path, words, ("a", "b"))
    world.run()
    before = world.history.decisions[1]
    assert world.go_on((), both) is Outcome.ACCEPT
    assert [c for c in world.evaluated if c.startswith("b")] == ["b +10"]
    after = world.history.decisions[1]
    assert (after.outcome, after.sentence) == (before.outcome, before.sentence)
    assert world.history.open_trial is None
    assert world.story.calls[-2:] == ["plan a", "apply a"]
    assert not any(ok is False for _, ok in world.verified())
    assert world.run() is Outcome.ACCEPT
    assert [c for c in world.evaluated if c.startswith("b")] == ["b +10"]


def test_an_accept_of_an_earlier_trial_ends_the_study(tmp_path: Path) -> None:
    """The topped-up candidate is accepted, a later one was refused: no third one is asked for."""
    words = {"a 10": "futile", "a 30": "accept", "b 10": "regress", "c 10": "accept"}
    world = World(tmp_path, words, ("a", "b", "c"), budget=Budget(trials=2))
    world.run()
    world.study = world.study.model_copy(update={"budget": Budget()})
    assert world.go_on((), {"fake-1-1": "evaluate-2"}) is Outcome.ACCEPT
    assert len(world.history.trials) == 2


@pytest.mark.parametrize("after", [False, True])
def test_a_top_up_killed_at_any_event_decides_the_same(tmp_path: Path, after: bool) -> None:
    """Also between the accepted candidate and the one whose Decision stands again."""
    words = {"a 10": "futile", "b 10": "futile", "a 60": "accept"}
    both = {"fake-1-1": "evaluate-3", "fake-1-2": "evaluate-3"}
    whole = World(tmp_path / "whole", words, ("a", "b"))
    whole.run()
    first = len(list(whole.ledger.read()))
    whole.go_on((), both)
    last = len(list(whole.ledger.read()))
    for at in range(first + 2, last + 1):  # the top-up itself is the second event of its process
        world = World(tmp_path / str(at), words, ("a", "b"))
        world.run()
        with pytest.raises(Killed):
            world.go_on((), both, DyingLedger(world.ledger, at, after=after))
        if at > first + 2 or after:
            assert world.run() is Outcome.ACCEPT, at
            assert world.decided() == whole.decided(), at
            assert "b +20" not in world.evaluated, at


def test_a_candidate_changed_before_the_top_up_is_not_kept(tmp_path: Path) -> None:
    """The bytes are looked at again: an integrity verdict of the first end says nothing about the second."""
    world = World(tmp_path, {"a 100": "accept"})
    world.run()
    artifact = world.history.decisions[0].facts["artifact"]
    (Path(artifact["path"]) / "weights").write_text("other")
    assert world.top_up(100, "fake-1-1") is Outcome.ANOMALOUS
    assert world.history.decisions[0].sentence.startswith("integrity: ")


def test_every_look_and_every_decision_is_derived_again(tmp_path: Path) -> None:
    """`assay verify` covers earlier looks, topped-up ones and superseded Decisions; a forged look shows."""
    world = World(tmp_path, TOPPED, ("a", "b"), stop="never")
    world.run()
    world.top_up(100, "fake-1-2")
    counts = world.verified()
    assert counts["verdict", True] == 2 * 3 + 4 * 3
    assert counts["decision", True] == 3 + 1, "three Decisions, and the word of the study"
    assert not any(ok is False for _, ok in counts)
    line = next(x for x in world.history.trials["fake-1-2"].looks if x.gate == "compare")
    stored = Verdict.from_json(world.store.get(line.verdict))
    forged = stored.model_copy(update={"detail": "accept at 10"})
    world.store._documents[line.verdict] = forged.to_json()
    assert world.verified().get(("verdict", False), 0) == 1
