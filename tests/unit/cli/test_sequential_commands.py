"""`sequential` on the command line: what is refused, what is exploratory, what may be topped up, what noise does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assay import registry
from assay.core.errors import Interrupted
from assay.core.evidence import Evidence
from assay.core.gate import Gate
from assay.core.history import StudyHistory, replay
from assay.core.ports import Session, Target
from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.study import AdapterRef, GateRef
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import Outcome, Status
from assay.ledger.home import Home
from assay.testing.fakes import FakeAdapter, FakeApply, FakeExecute, Script
from cli_call import SPEC, Call, Said

pytestmark = pytest.mark.slow

ITEMS = 600
JUDGED = {"compare", "contract", "noise", "results"}
"""Gates that are asked for real; the others pass."""


class Passes:
    """A gate that this test is not about."""

    reads: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    def judge(self, _evidence: Mapping[str, Evidence]) -> Verdict:
        """PASS."""
        reason = Reason(text="not asked here", ok=True)
        return Verdict(gate=self.name, status=Status.PASS, detail=reason.text, reasons=(reason,))


class World(registry.Registry):
    """The registry with fakes for adapters; gates, flows, ledger and engine are real."""

    def __init__(self) -> None:
        self.script = Script()
        self.wrong: dict[str, int] = {}
        """Candidate → items of each hundred that it gets wrong; the baseline gets all right."""
        self.noise = 0
        """Items of each hundred that the baseline gets wrong, others each time that it is asked."""
        self.asked: list[tuple[str, int]] = []
        """Who was asked how many items."""

    def build(self, ref: AdapterRef) -> Any:
        """A fake."""
        return FakeAdapter(self.script, ref)

    serve = build

    def evaluate(self, ref: AdapterRef) -> Any:
        """A fake that answers."""
        return Answers(self, ref)

    def apply(self, _ref: AdapterRef) -> Any:
        """A fake."""
        return FakeApply(self.script)

    def execute(self) -> Any:
        """A fake."""
        return FakeExecute()

    def gate(self, ref: GateRef) -> Gate:
        """Real where it matters."""
        return super().gate(ref) if ref.gate in JUDGED else Passes(ref.gate)


class Answers(FakeAdapter):
    """An evaluation that the world scripts."""

    def __init__(self, world: World, ref: AdapterRef) -> None:
        super().__init__(world.script, ref)
        self.world = world

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """Rows of the items drawn, or of all."""
        if self.ref.kind == "checkpoint":
            return Evidence(kind="fake", subject=target.name)
        asked = list((target.samples or {"facts": tuple(range(ITEMS))})["facts"])
        before = len([s for s, _ in self.world.asked if s == target.name])
        self.world.asked.append((target.name, len(asked)))
        first, last = 0, self.world.wrong.get(target.name, 0)
        if target.name == "source":
            first = 50 * (before % 2)
            last = first + self.world.noise
        n = len(asked)
        rows = Samples(
            id=tuple(map(str, asked)),
            repeat=(0,) * n,
            prompt=("p",) * n,
            score=tuple(float(not first <= i % 100 < last) for i in asked),
            state=(SampleState.SCORED,) * n,
            output=tuple(f"o{i}" for i in asked),
        )
        mean = sum(s or 0.0 for s in rows.score) / n
        task = TaskResult(task="facts", metric="acc", score=mean, expected=n, scored=n, samples=rows)
        return Results(subject=target.name, harness="fake", tasks=(task,))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """The components that Assay gets."""
    made = World()
    monkeypatch.setattr(registry, "Registry", lambda: made)
    return made


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """One recipe, 600 items, up to three looks."""
    text = SPEC.replace("pass]", 'pass, "{samples}"]').replace("facts: 40", f"facts: {ITEMS}")
    text = text.replace("  - name: second\n    build: {kind: gguf, type: Q4_0}\n", "")
    path = tmp_path / "release.yaml"
    path.write_text(
        text.replace("margin: 0.1", "margin: 0.05")
        + "sequential: {rule: anytime, looks: 3, first: 200, futile_below: 0}\n"
    )
    return path


def told(said: Said) -> str:
    """What the study came to."""
    return str(said.json["decisions"][-1]["sentence"]) if "decisions" in said.json else str(said.json)


def history(tmp_path: Path, study: str = "small-1") -> StudyHistory:
    """What the ledger says."""
    return replay(Home(tmp_path / ".assay").ledger.read())[study]


def run(assay: Call, spec: Path, *overrides: str) -> Said:
    """A run without a report, with these keys changed."""
    return assay("run", spec, "--no-report", "--json", *(x for o in overrides for x in ("--set", o)))


# --- what is refused before the first sample ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("expected_samples={}", "expected_samples"),
        ("expected_samples={facts: 0}", "without items: facts"),
        ("evaluate={kind: lm_eval, tasks: [facts], limit: 3}", "evaluate.limit"),
        ("compare.policy=point", "the point rule has no error rate"),
        ("sequential.rule=peek", "'group' or 'anytime'"),
        ("sequential.looks=0", "sequential.looks"),
        ("sequential.looks=101", "sequential.looks"),
        ("sequential.first=0", "sequential.first"),
        ("sequential.n_max=0", "sequential.n_max"),
        ("sequential.topup_frac=0.6", "sequential.topup_frac"),
        ("sequential.futile_below=1", "sequential.futile_below"),
        ("sequential.batches=3", "unknown key"),
        ("compare.looks={rule: group, ends: [5], sizes: {facts: 5}}", "made from `sequential`"),
    ],
)
def test_a_wrong_plan_of_looks_is_one_line(assay: Call, spec: Path, override: str, said: str) -> None:
    """What cannot be planned is refused with its key, before anything is read or made."""
    assay("plan", spec, "--set", override).refused(2, said)
    assert list(spec.parent.iterdir()) == [spec]


def test_every_task_must_have_room(assay: Call, spec: Path) -> None:
    """Fewer pairs than tasks would compare without one of them."""
    said = assay("plan", spec, "--set", "expected_samples={a: 9, b: 9, c: 9}", "--set", "sequential.n_max=2")
    said.refused(2, "each of the 3 tasks")


def test_the_plan_shows_the_looks(assay: Call, spec: Path) -> None:
    """Where it looks, and by which rule; steps come in pairs."""
    plan = assay("plan", spec, "--json").json
    assert plan["deciding"]["looks"]["ends"] == [200, 400, 600]
    assert [s["name"] for s in plan["steps"]][-2:] == ["baseline-3", "evaluate-3"]
    assert "up to 3 looks (anytime), from 200 to 600 pairs" in assay("plan", spec).out


def test_the_plan_tells_the_guard_that_the_gate_will_use(
    assay: Call, spec: Path, tmp_path: Path, world: World
) -> None:
    """The rung of a task in the plan is that of its estimate in the verdict."""
    guard = assay("plan", spec, "--json").json["deciding"]["tasks"][0]["guard_margin"]
    assert run(assay, spec).code == 0
    line = history(tmp_path).trials["small-1-1"].gates["compare"]
    verdict = Verdict.from_json(Home(tmp_path / ".assay").store.get(line.verdict))
    assert verdict.estimates[1].margin == guard


def test_an_infeasible_plan_is_refused(assay: Call, spec: Path, world: World) -> None:
    """600 pairs cannot show half a point: exit 3, in `plan` and in `run`, and nothing is asked."""
    narrow = ("--set", "compare.margin=0.005")
    planned = assay("plan", spec, *narrow)
    assert planned.code == 3
    assert "INFEASIBLE plan: 600 pairs" in planned.out
    refused = assay("run", spec, *narrow)
    refused.refused(3, "INFEASIBLE plan", "--anyway")
    assert (world.asked, world.script.calls) == ([], [])
    assert list(spec.parent.iterdir()) == [spec]


def test_anyway_goes_on(assay: Call, spec: Path, world: World) -> None:
    """Whoever insists gets the plan and the run."""
    narrow = ("--set", "compare.margin=0.005", "--anyway")
    assert assay("plan", spec, *narrow).code == 0
    assert assay("run", spec, *narrow, "--no-report").code == 4
    assert world.asked


# --- it stops when it knows ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "code", "looks"),
    [(0, 0, 1), (5, 4, 3), (30, 1, 1)],
    ids=["accept", "inconclusive", "regression"],
)
def test_it_stops_when_it_knows(
    assay: Call, spec: Path, world: World, wrong: int, code: int, looks: int
) -> None:
    """A perfect and a bad candidate end at the first look, one on the margin takes all."""
    world.wrong = {"first": wrong}
    assert run(assay, spec).code == code
    assert world.asked == [("source", 200), ("first", 200)] * looks


# --- a contract that was changed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("compare.margin=0.08", "margin 0.05 → 0.08"),
        ("compare.alpha_accept=0.2", "alpha_accept 0.05 → 0.2"),
        ("compare.guard=null", "guard ladder → None"),
        ("sequential.n_max=400", "changed: looks"),
    ],
)
def test_a_contract_changed_afterwards_cannot_accept(
    assay: Call, spec: Path, tmp_path: Path, world: World, override: str, said: str
) -> None:
    """The second study is exploratory: it says what changed, judges, and ends INCONCLUSIVE where it would accept."""
    world.wrong = {"first": 5}
    assert run(assay, spec).code == 4
    world.wrong = {}
    again = run(assay, spec, override)
    assert again.code == 4
    assert "note: exploratory" in again.err
    assert said in again.err
    assert "small-1" in again.err
    study = history(tmp_path, "small-2")
    (decision,) = study.decisions
    assert decision.outcome is Outcome.INCONCLUSIVE
    assert decision.sentence.startswith("contract: exploratory: ")
    assert said in decision.sentence
    assert study.trials["small-2-1"].gates["compare"].status is Status.PASS
    assert not study.applied


def test_the_same_contract_is_not_exploratory(assay: Call, spec: Path, world: World) -> None:
    """Running the same again, or another recipe under another contract, is a study of its own right."""
    assert run(assay, spec).code == 0
    assert run(assay, spec, "apply={kind: none}").code == 0
    other = "recipes=[{name: other, build: {kind: gguf, type: Q4_0}}]"
    said = run(assay, spec, "compare.margin=0.08", other, "apply={kind: none}")
    assert said.code == 0
    assert "exploratory" not in said.err


def test_an_exploratory_study_still_refuses(assay: Call, spec: Path, world: World) -> None:
    """A regression is one under the changed contract too."""
    world.wrong = {"first": 40}
    assert run(assay, spec).code == 1
    assert run(assay, spec, "compare.margin=0.08").code == 1


# --- more pairs ---------------------------------------------------------------------------------------------


def more(assay: Call, pairs: int, study: str = "small-1") -> Said:
    """`assay resume --more`."""
    return assay("resume", study, "--more", str(pairs), "--no-report", "--json")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("sequential=null",), "tests once"),
        (("sequential.rule=group", "sequential.n_max=400"), "keeps no part of its error rates"),
        ((), "all 600 items of the tasks were asked"),
        (("sequential.rule=group", "sequential.topup_frac=0.2"), "all 600 items of the tasks were asked"),
    ],
    ids=["fixed", "group", "exhausted", "exhausted-with-reserve"],
)
def test_more_is_refused_with_the_reason(
    assay: Call, spec: Path, world: World, tmp_path: Path, overrides: tuple[str, ...], said: str
) -> None:
    """A fixed contract, a spent one, and tasks without further items: exit 2, nothing asked, the Decision stands."""
    world.wrong = {"first": 5}
    assert run(assay, spec, *overrides).code == 4
    asked, before = list(world.asked), history(tmp_path).decisions
    more(assay, 100).refused(2, said)
    assert world.asked == asked
    assert history(tmp_path).decisions == before


def test_more_of_what_is_decided_is_refused(assay: Call, spec: Path, world: World) -> None:
    """An accepted candidate needs none, and a refused one gets no second chance."""
    for wrong, study in ((0, "small-1"), (30, "small-2")):
        world.wrong = {"first": wrong}
        run(assay, spec, "apply={kind: none}")
        more(assay, 100, study).refused(2, "no candidate of it is INCONCLUSIVE", f"assay show {study}")


@pytest.mark.parametrize("overrides", [(), ("sequential.rule=group", "sequential.topup_frac=0.2")])
def test_more_settles_what_was_open(
    assay: Call, spec: Path, world: World, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    """Further items alone are asked on both sides, and the verdict is taken over all of them."""
    world.wrong = {"first": 5}
    assert run(assay, spec, "sequential.n_max=400", *overrides).code == 4
    world.asked.clear()
    world.wrong = {}
    said = more(assay, 200)
    assert world.asked == [("source", 200), ("first", 200)]
    trial = history(tmp_path).trials["small-1-1"]
    assert [d.outcome for d in trial.superseded] == [Outcome.INCONCLUSIVE]
    assert "600 pairs" in trial.gates["compare"].detail
    assert said.code in (0, 4)


def test_more_after_futility_is_no_more_than_that(
    assay: Call, spec: Path, world: World, tmp_path: Path
) -> None:
    """Three looks are left of a plan that was given up at its first: each `--more` takes as many as it says."""
    world.wrong = {"first": 5}
    stopping = ("sequential.futile_below=0.99", "sequential.looks=6", "sequential.first=100")
    assert run(assay, spec, *stopping).code == 4
    assert world.asked == [("source", 100), ("first", 100)]
    world.asked.clear()
    said = more(assay, 100)
    assert (said.code, world.asked) == (4, [("source", 100), ("first", 100)])
    assert "small-1-1 is asked 100 more pairs\n" in said.err
    said = more(assay, 150)
    assert world.asked == [("source", 100), ("first", 100)] * 3
    assert "small-1-1 is asked 200 more pairs, to the end of a look\n" in said.err
    said = more(assay, 5000)
    assert world.asked == [("source", 100), ("first", 100)] * 5
    assert "small-1-1 is asked 200 more pairs, all that are left\n" in said.err
    more(assay, 1).refused(2, "all 600 items of the tasks were asked")


def test_more_gives_each_candidate_as_many(assay: Call, spec: Path, world: World) -> None:
    """One candidate was given up early, the other late: both are asked as many more, not up to one number."""
    recipes = (
        "recipes=[{name: a, build: {kind: gguf, type: Q4_0}}, {name: b, build: {kind: gguf, type: Q8_0}}]"
    )
    world.wrong = {"a": 5, "b": 4}
    looks = ("sequential.futile_below=0.3", "sequential.looks=6", "sequential.first=100")
    assert run(assay, spec, recipes, *looks, "compare.comparisons=1").code == 4
    assert [world.asked.count((name, 100)) for name in ("a", "b")] == [2, 4]
    world.asked.clear()
    assert more(assay, 100).code == 4
    assert world.asked == [("a", 100), ("source", 100), ("b", 100)]


def test_more_of_an_unfinished_study_is_refused(
    assay: Call, spec: Path, world: World, tmp_path: Path
) -> None:
    """What its plan still asks comes first."""
    world.script.fail = {"build first": [Interrupted("SIGINT")]}
    assert run(assay, spec).code == 130
    more(assay, 100).refused(2, "it is not finished yet", "assay resume small-1")


@pytest.mark.parametrize("pairs", ["0", "-5", "many"])
def test_more_is_a_number_above_zero(assay: Call, pairs: str) -> None:
    """Anything else is a usage error."""
    assert assay("resume", "small-1", "--more", pairs).code == 2


# --- the noise of the baseline ------------------------------------------------------------------------------


def test_noise_is_stored_and_planned_with(assay: Call, spec: Path, world: World) -> None:
    """Two runs that differ both ways in 8 % of the answers: exit 0, and plans take 16 % instead of 6 %."""
    world.noise = 4
    said = assay("calibrate", spec, "--json")
    assert said.code == 0
    assert (said.json["outcome"], said.json["study"]) == ("ACCEPT", "small-noise-1")
    assert said.json["flip_rate"] == pytest.approx(0.08)
    assert said.json["tasks"]["facts"]["pairs"] == ITEMS
    assert world.asked == [("source", ITEMS)] * 2
    planned = assay("plan", spec, "--json")
    assert planned.json["deciding"]["planning_flip_rate"] == pytest.approx(0.16)
    assert "16.00%" in planned.err
    other = assay("plan", spec, "--json", "--set", 'evaluate.command=[x, "{samples}"]').json["deciding"]
    assert other["planning_flip_rate"] == 0.06


def test_noise_is_measured_on_as_much_as_a_trial_asks(assay: Call, spec: Path, world: World) -> None:
    """With a limit on the pairs the baseline is not asked more than twice that many items, the same ones."""
    said = assay("calibrate", spec, "--json", "--set", "sequential.n_max=300")
    assert said.code == 0
    assert world.asked == [("source", 300)] * 2
    assert said.json["tasks"]["facts"]["pairs"] == 300


def test_little_noise_changes_no_plan(assay: Call, spec: Path, world: World) -> None:
    """A flip rate that is already twice the noise stays, and people see a table."""
    world.noise = 1
    said = assay("calibrate", spec)
    assert said.code == 0
    assert "2.00%" in said.out
    assert assay("plan", spec, "--json").json["deciding"]["planning_flip_rate"] == 0.06


def test_a_baseline_that_differs_from_itself_is_anomalous(assay: Call, spec: Path, world: World) -> None:
    """All flips one way are no noise: exit 5, and no plan is made with it."""
    world.noise = 30

    class OneWay(Answers):
        """The second run alone is wrong."""

        def evaluate(self, target: Target, session: Session) -> Evidence:
            self.world.noise = 30 if self.world.asked else 0
            return super().evaluate(target, session)

    world.evaluate = lambda ref: OneWay(world, ref)  # type: ignore[method-assign]
    said = assay("calibrate", spec, "--json")
    assert said.code == 5
    assert said.json["sentence"].startswith("noise: facts: the checkpoint differs from itself")
    assert said.json["flip_rate"] is None
    assert assay("plan", spec, "--json").json["deciding"]["planning_flip_rate"] == 0.06
