"""Evaluate kind `agent`: plan, evidence, controls, budget, resume and refusals, with real agents and a real suite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from assay.adapters.evaluate.agent import Adapter, Options, plan
from assay.core.agent import (
    AGAIN,
    BASELINE,
    CANDIDATE,
    EMPTY,
    KNOWN_GOOD,
    AgentCommand,
    AgentOutcome,
    AgentRuns,
)
from assay.core.canon import digest_bytes
from assay.core.errors import ComponentFailed, UnreadableInput
from assay.core.evidence import Evidence
from assay.core.evolution import Evolution, TextNode
from assay.core.ports import Target
from assay.core.vocabulary import FailureClass
from assay.engine.leftovers import end_leftovers
from assay.readers.suites import read_suite
from assay.runtime.agents.purse import RUNS
from assay.testing.session import RecordingSession, make_session

CODE = """
import json, sys
text, result, task = open(sys.argv[1]).read(), sys.argv[2], sys.argv[3]
passes = ("mark" in text) if task == "canary" else ("good" in text or task == "easy")
open("answer.txt", "w").write("yes" if passes else "no")
if COST is not None:
    json.dump({"status": "ok", "cost_usd": COST}, open(result, "w"))
"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A text, a known-good one, a suite of three tasks and a canary, an agent."""
    (tmp_path / "rules.txt").write_text("mark\n")
    (tmp_path / "known.txt").write_text("mark good\n")
    lines = [
        {"task_id": t, "user_message": "p", "expected_files": {"answer.txt": "yes"}, "canary": t == "canary"}
        for t in ("easy", "hard", "harder", "canary")
    ]
    (tmp_path / "suite.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return tmp_path


def options(world: Path, *, cost: float | None = 0.5, **more: Any) -> Options:
    """Options for the world; keys with `agent_` go to the agent."""
    script = world / "bin" / "agent.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(CODE.replace("COST", repr(cost)))
    of_agent = {k.removeprefix("agent_"): more.pop(k) for k in list(more) if k.startswith("agent_")}
    command = (sys.executable, "-I", "-S", str(script), "{text_file}", "{result_file}", "{task_id}")
    made = AgentCommand(**{"command": command, "isolation": "none", "parallel": 2, "retries": 0, **of_agent})
    return Options(suite=str(world / "suite.jsonl"), agent=made, **more)


def target(world: Path, candidate: str | None = None) -> Target:
    """The source, or a built candidate."""
    if candidate is None:
        return Target(name="source", path=str(world / "rules.txt"))
    folder = world / "artifact"
    folder.mkdir(exist_ok=True)
    (folder / "rules.txt").write_text(candidate)
    digest = digest_bytes(candidate.encode())
    node = TextNode(number=0, text=digest, chars=len(candidate), state="baseline")
    found = Evolution(subject="c", engine="given", nodes=(node,))
    record = {
        "schema": "evolved/1",
        "artifact": {"path": "rules.txt", "kind": "plain", "digest": digest},
        "evolution": found.to_json(),
        "texts": {digest: candidate},
    }
    (folder / "evolution.json").write_text(json.dumps(record))
    return Target(name="c", path=str(folder), source=str(world / "rules.txt"))


def measured(
    world: Path, made: Options, what: Target | None = None, session: RecordingSession | None = None
) -> AgentRuns:
    """The evidence."""
    found = Adapter(made).evaluate(what or target(world), session or make_session(world))
    assert isinstance(found, AgentRuns)
    return found


def test_baseline_and_candidate(world: Path) -> None:
    """Runs, texts, repeats and artifact stand in the evidence, which survives being stored."""
    session = make_session(world, seed=4)
    made = options(world, arms=(BASELINE, CANDIDATE), first=1, last=2, canaries=("canary",))
    found = measured(world, made, target(world, "mark good\n"), session)
    assert found.repeats == {BASELINE: 2, CANDIDATE: 2}
    assert found.tasks == ("easy", "hard", "harder", "canary")
    assert found.canaries == ("canary",)
    assert len(found.runs) == 2 * 2 * 3 + 2
    assert {r.task for r in found.of(BASELINE) if r.passed} == {"easy", "canary"}
    assert all(r.passed for r in found.of(CANDIDATE))
    assert found.text_chars == {BASELINE: 5, CANDIDATE: 10}
    assert found.texts[BASELINE] == found.runs[0].text or found.texts[CANDIDATE] == found.runs[0].text
    assert found.suite == read_suite(world / "suite.jsonl").digest
    assert found.isolation == "none"
    cost = found.measurement("cost")
    assert cost is not None
    assert cost.value == pytest.approx(7.0)
    assert AgentRuns.from_json(found.to_json()) == found
    assert isinstance(found, Evidence)
    shares = [d for _, d in session.notes if d is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_looks_extend_each_other(world: Path) -> None:
    """A second look has other repeats and the same everything else."""
    made = options(world, arms=(BASELINE,), last=2)
    first = measured(world, made, session=make_session(world / "1"))
    second = measured(
        world, made.model_copy(update={"first": 3, "last": 4}), session=make_session(world / "2")
    )
    assert {r.rep for r in first.extended(second).runs} == {1, 2, 3, 4}


def test_controls_run_on_canaries(world: Path) -> None:
    """The empty and the known-good text cost two runs; asked for, they do the tasks too."""
    made = options(
        world,
        arms=(BASELINE, EMPTY, KNOWN_GOOD),
        known_good=str(world / "known.txt"),
        canaries=("canary",),
        last=2,
    )
    found = measured(world, made)
    assert found.repeats == {BASELINE: 2, EMPTY: 0, KNOWN_GOOD: 0}
    assert [r.outcome for r in found.of(EMPTY)] == [AgentOutcome.TASK_FAIL]
    assert [r.passed for r in found.of(KNOWN_GOOD)] == [True]
    assert found.text_chars[EMPTY] == 0
    suite = read_suite(world / "suite.jsonl")
    asked = made.model_copy(update={"empty_tasks": True, "known_good_tasks": True, "canary_repeats": 5})
    whole = plan(asked, suite, 0)
    assert whole.repeats == {BASELINE: 2, EMPTY: 2, KNOWN_GOOD: 2}
    assert len(whole.draws) == 4 * 2 * 3


def test_arms_again_and_candidate(world: Path) -> None:
    """The baseline a second time is the same text with draws of its own."""
    found = measured(world, options(world, arms=(BASELINE, AGAIN)))
    assert found.texts[BASELINE] == found.texts[AGAIN]
    assert len(found.runs) == 6
    with pytest.raises(ComponentFailed, match="built candidate") as caught:
        measured(world, options(world, arms=(CANDIDATE,)))
    assert caught.value.failure_class is FailureClass.USER_CONFIG_ERROR


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"arms": ("other",)}, "unknown arm"),
        ({"arms": (BASELINE, BASELINE)}, "twice"),
        ({"first": 3, "last": 2}, "smaller"),
        ({"arms": (KNOWN_GOOD,)}, "needs `known_good`"),
    ],
)
def test_options_that_contradict_themselves(world: Path, more: dict[str, Any], what: str) -> None:
    """They are refused before anything runs."""
    with pytest.raises(ValidationError, match=what):
        options(world, **more)


def test_a_changed_suite_is_refused(world: Path) -> None:
    """The digest that the study was opened with must hold."""
    digest = read_suite(world / "suite.jsonl").digest
    assert measured(world, options(world, suite_digest=digest, tasks=("easy",))).tasks == ("easy",)
    with (world / "suite.jsonl").open("a") as file:
        file.write('\n{"task_id": "new", "user_message": "p", "expected_files": {"a": "b"}}')
    with pytest.raises(ComponentFailed, match="no longer") as caught:
        measured(world, options(world, suite_digest=digest))
    assert caught.value.failure_class is FailureClass.USER_CONFIG_ERROR


def test_plans_that_run_nothing_are_refused(world: Path) -> None:
    """Unknown tasks, and controls without a canary."""
    with pytest.raises(ComponentFailed, match="no task 'zz'"):
        measured(world, options(world, tasks=("zz",)))
    with pytest.raises(ComponentFailed, match="no canary"):
        measured(world, options(world, arms=(EMPTY,)))


@pytest.mark.slow
def test_money_is_kept_to(world: Path) -> None:
    """Half and four fifths are told, the cap ends the step, and the next attempt does not start over."""
    session = make_session(world)
    made = options(world, arms=(BASELINE, AGAIN), last=5, max_cost=5.0, agent_parallel=1)
    with pytest.raises(ComponentFailed, match="5 of 5") as caught:
        measured(world, made, session=session)
    assert caught.value.failure_class is FailureClass.BUDGET_EXHAUSTED
    notes = [n for n, _ in session.notes if "of the money" in n]
    assert [n.removeprefix("warning: ").split()[0] for n in notes] == ["50%", "80%"]
    lines = (session.workdir / "runs.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 10
    with pytest.raises(ComponentFailed, match="5 of 5"):
        measured(world, made, session=session)
    assert len((session.workdir / "runs.jsonl").read_text().splitlines()) == len(lines)
    more = measured(world, made.model_copy(update={"max_cost": 100.0}), session=session)
    assert len(more.runs) == 30


def test_the_money_is_that_of_the_whole_study(world: Path) -> None:
    """What other steps have spent counts, resumed or not, and a step that the rest does not reach for is not begun."""

    def step(trial: int, name: str) -> RecordingSession:
        session = make_session(world / name)
        session.workdir = world / "study" / f"trial-{trial}" / name
        session.workdir.mkdir(parents=True, exist_ok=True)
        return session

    made = options(world, max_cost=4.0, agent_price_per_run=0.1)
    for _ in range(2):  # the second time nothing is run, nor paid
        assert len(measured(world, made, session=step(1, "preflight")).runs) == 3
    (step(1, "build").workdir / "search.jsonl").write_text(
        '{"schema": "search/1"}\n{"line": "answer", "answer": {}, "charged": 0.25}\n{"line": "answer", "charged": 9'
    )
    last = step(2, "confirm-1")
    assert len(measured(world, made, session=last).runs) == 3
    assert [n for n, _ in last.notes if "of the money" in n] == [
        "warning: 50% of the money of this study is used: 2.25 of 4",
        "warning: 80% of the money of this study is used: 3.25 of 4",
    ]
    with pytest.raises(ComponentFailed, match=r"3.25 of 4, and 3 more runs may cost 1.5") as caught:
        measured(world, made, session=step(2, "confirm-2"))
    assert caught.value.failure_class is FailureClass.BUDGET_EXHAUSTED
    assert not (world / "study/trial-2/confirm-2/runs.jsonl").read_text().count("\n") > 1
    (world / "study/trial-1/preflight/runs.jsonl").write_bytes(b"\x00junk\n")
    with pytest.raises(UnreadableInput, match="not JSON"):
        measured(world, made, session=step(2, "confirm-3"))


def test_the_last_run_may_use_the_money_up(world: Path) -> None:
    """A step that is finished is not failed for having cost what it was allowed."""
    assert len(measured(world, options(world, max_cost=1.5)).runs) == 3
    with pytest.raises(ComponentFailed, match="used up"):
        measured(world, options(world, max_cost=0.0), session=make_session(world / "zero"))


def test_unknown_cost_is_not_0(world: Path) -> None:
    """A cap needs a price for runs that tell none; an assumed price is told as assumed."""
    with pytest.raises(ComponentFailed, match="price_per_run") as caught:
        measured(world, options(world, cost=None, max_cost=1.0), session=make_session(world / "a"))
    assert caught.value.failure_class is FailureClass.USER_CONFIG_ERROR
    unknown = measured(world, options(world, cost=None), session=make_session(world / "b"))
    cost = unknown.measurement("cost")
    assert cost is not None
    assert cost.value is None
    assumed = measured(
        world, options(world, cost=None, agent_price_per_run=0.1), session=make_session(world / "c")
    )
    assert assumed.facts["assumed_cost"] == pytest.approx(0.3)
    assert assumed.runs[0].cost is None


def test_time_is_kept_to(world: Path) -> None:
    """A wall-time budget that is used up ends the step; what is finished is kept."""
    session = make_session(world, limit_s=0.0)
    with pytest.raises(ComponentFailed, match="wall-time") as caught:
        measured(world, options(world, last=3, agent_parallel=1), session=session)
    assert caught.value.failure_class is FailureClass.BUDGET_EXHAUSTED
    assert len((session.workdir / "runs.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("how", ["{}", "--log={}"])
def test_an_agent_that_changes_while_it_runs(world: Path, how: str) -> None:
    """A file that the command names is part of the agent, also one that it writes to: the first step says so."""
    made = options(world)
    log = world / "agent.log"
    log.write_text("")
    script = Path(made.agent.command[3])
    script.write_text(f"{script.read_text()}\nopen({str(log)!r}, 'a').write('ran\\n')\n")
    named = made.agent.model_copy(update={"command": (*made.agent.command, how.format(log))})
    with pytest.raises(ComponentFailed, match=r"agent\.log, which `agent\.command` names") as caught:
        measured(world, made.model_copy(update={"agent": named}))
    assert caught.value.failure_class is FailureClass.NOT_COMPARABLE
    assert "{home}" in caught.value.next
    assert len(measured(world, made, session=make_session(world / "unnamed")).runs) == 3


def test_a_finished_step_is_not_run_again(world: Path) -> None:
    """The journal of the same plan is taken as it is; that of another one is refused."""
    session = make_session(world)
    first = measured(world, options(world), session=session)
    assert measured(world, options(world), session=session).runs == first.runs
    with pytest.raises(ComponentFailed, match="another plan"):
        measured(world, options(world, last=2), session=session)


def test_check_and_protocol(world: Path) -> None:
    """What doctor prints, and what must be equal on both sides."""
    adapter = Adapter(options(world, agent_model="m"))
    assert adapter.check().state == "ready"
    assert adapter.protocol()["agent.model"] == "m"
    missing = options(world).model_copy(
        update={"agent": AgentCommand(command=("nobody-here",), isolation="none")}
    )
    assert Adapter(missing).check().state == "missing"


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(world: Path) -> None:
    """SIGKILL of the evaluating process: its runs stay, its agents end, and the rest is run once."""
    session = make_session(world)
    journal = session.workdir / RUNS
    slow = CODE + "\nimport time; time.sleep(0.3)\n"
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_agent_adapter as t
t.CODE = {slow!r}
world = Path({str(world)!r})
t.measured(world, t.options(world, arms=("baseline", "again"), last=3, agent_isolation="auto"))
"""
    child = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 60
    while (not journal.exists() or journal.read_bytes().count(b"\n") < 5) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    end_leftovers(world)
    kept = [json.loads(line)["started"] for line in journal.read_bytes().splitlines()[1:5]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "CODE", slow)
        made = options(world, arms=(BASELINE, AGAIN), last=3, agent_isolation="auto")
    found = measured(world, made, session=session)
    assert len(found.runs) == len({r.key for r in found.runs}) == 18
    assert set(kept) <= {r.started for r in found.runs}
    assert any("earlier attempt" in note for note, _ in session.notes)
