"""Many runs: each once, some at a time, stopped well, and gone on with after a kill."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from agent_world import OBEY, agent, alive_with, gone, rules, suite, task

from assay.core.agent import AgentOutcome, AgentRun
from assay.core.errors import ComponentFailed, Interrupted, UsageError
from assay.core.suite import Task
from assay.core.vocabulary import FailureClass
from assay.engine.leftovers import end_leftovers
from assay.runtime.agents import AgentRunner, Draw, RunJournal, rounds, run_all, running
from assay.runtime.agents import runner as runner_module
from assay.runtime.agents.journal import recorded_runs

SUITE = suite(task("a"), task("b"), task("c"))
TEXTS = {"baseline": "right\n", "candidate": "wrong\n"}
DRAWS = rounds(["a", "b", "c"], ["baseline", "candidate"], 1, 2, 5)


def everything(tmp_path: Path, code: str = OBEY, *, draws: list[Draw] = DRAWS, **more: Any) -> list[AgentRun]:
    """Run the draws with a fresh runner and the journal that is there."""
    how = {"parallel": 2, "on_run": lambda run, done, of: None} | {
        k: more.pop(k) for k in ("parallel", "on_run", "stop") if k in more
    }
    runner = AgentRunner(agent(tmp_path, code, **more), rules(tmp_path), tmp_path / "work")
    with RunJournal(tmp_path / "work" / "runs.jsonl", {"suite": SUITE.digest}) as journal:
        return run_all(runner, SUITE, TEXTS, draws, journal, **how)


def test_every_draw_once_in_order(tmp_path: Path) -> None:
    """All draws come back in their order, with block and place, and the text decides."""
    told: list[tuple[int, int]] = []
    runs = everything(tmp_path, on_run=lambda run, done, of: told.append((done, of)), parallel=3)
    assert [r.key for r in runs] == [d.key for d in DRAWS]
    assert [r.place for r in runs] == list(range(12))
    assert [r.block for r in runs] == [1] * 6 + [2] * 6
    assert told == [(n, 12) for n in range(1, 13)]
    assert all(r.passed == (r.arm == "baseline") for r in runs)


def test_what_is_in_the_journal_is_not_run_again(tmp_path: Path) -> None:
    """A second call does only what is missing and gives back all."""
    first = everything(tmp_path, draws=DRAWS[:5])
    seen: list[AgentRun] = []
    runs = everything(tmp_path, on_run=lambda run, done, of: seen.append(run))
    assert [r.key for r in seen if r.key in {d.key for d in DRAWS[:5]}] == []
    assert runs[:5] == first
    assert len(runs) == 12


def test_agents_run_at_the_same_time(tmp_path: Path) -> None:
    """With three at a time three are there at once, and never four."""
    place = tmp_path / "running"
    place.mkdir()
    code = f"""
import os, sys, time
mine = os.path.join({str(place)!r}, str(os.getpid()))
open(mine, "w").close()
limit = time.monotonic() + 3
most = 0
while time.monotonic() < limit and most < 3:
    most = max(most, len(os.listdir({str(place)!r})))
    time.sleep(0.01)
time.sleep(0.1)
most = max(most, len(os.listdir({str(place)!r})))
os.unlink(mine)
open("answer.txt", "w").write(str(most))
"""
    runner = AgentRunner(agent(tmp_path, code), rules(tmp_path), tmp_path / "work")
    threes = suite(*(task(t, "3") for t in "abcdef"))
    draws = rounds("abcdef", ["baseline"], 1, 1, 0)
    with RunJournal(tmp_path / "runs.jsonl", {}) as journal:
        runs = run_all(runner, threes, TEXTS, draws, journal, parallel=3, on_run=lambda run, done, of: None)
    assert sum(r.passed for r in runs) >= 3, [r.feedback for r in runs]
    assert not any("'4'" in r.feedback for r in runs)


def test_a_reason_to_stop_ends_the_work(tmp_path: Path) -> None:
    """No draw is started after it; what was finished is kept."""
    runs = everything(tmp_path, parallel=1, stop=lambda run: "enough" if run.place == 3 else None)
    assert [r.place for r in runs] == [0, 1, 2, 3]


class Outage:
    """Only the run at `good` is learned, after a while, unless it is told to stop; the others are infra errors."""

    def __init__(self, runs: list[AgentRun], good: int, after_s: float = 0.0) -> None:
        self._runs, self._good, self._after_s = runs, good, after_s
        self._stopped = threading.Event()

    def run(self, *asked: Any, place: int, **more: Any) -> AgentRun:
        """One run, made before."""
        down = {"outcome": AgentOutcome.INFRA_ERROR, "reason": "connection refused"}
        if place != self._good:
            return self._runs[place].model_copy(update=down)
        if self._after_s and self._stopped.wait(self._after_s):
            raise runner_module.Stopped
        return self._runs[place]

    def stop(self) -> None:
        """As of a runner."""
        self._stopped.set()


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False])
def test_what_was_under_way_when_the_machine_went_down_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    """Five infra errors end the work; a run that ends in the same moment, or soon after, was paid for."""
    made = everything(tmp_path, draws=DRAWS[:6], parallel=1)
    good = 5 if together else 0
    if together:
        monkeypatch.setattr(running, "wait", lambda futures, return_when: concurrent.futures.wait(futures))
    world: Any = Outage(made, good, 0.0 if together else 0.5)
    parallel = 6 if together else 2
    with (
        RunJournal(tmp_path / "runs.jsonl", {}) as journal,
        pytest.raises(ComponentFailed, match="refused"),
    ):
        run_all(world, SUITE, TEXTS, DRAWS[:6], journal, parallel=parallel, on_run=lambda run, done, of: None)
    assert [r.key for r in recorded_runs(tmp_path / "runs.jsonl")] == [DRAWS[good].key]


@pytest.mark.slow
def test_infra_errors_in_a_row_end_the_work_and_are_tried_again(tmp_path: Path) -> None:
    """A machine that is down costs five runs and no data: a later attempt draws them again."""
    down = tmp_path / "down"
    down.write_text("x")
    code = f"""
import os, sys
if os.path.exists({str(down)!r}):
    sys.exit("connection refused")
open("answer.txt", "w").write(open(sys.argv[1]).read())
"""
    with pytest.raises(ComponentFailed, match="refused") as caught:
        everything(tmp_path, code, retries=0, parallel=1)
    assert caught.value.failure_class is FailureClass.INFRA_TRANSIENT
    down.unlink()
    runs = everything(tmp_path, code, retries=0, parallel=1)
    assert len(runs) == 12
    assert all(r.learned for r in runs)


def test_a_run_under_way_does_not_show_that_the_machine_is_up(tmp_path: Path) -> None:
    """What broke down while an older run went on is no result, though that run ends well: it may be an outage."""
    down = threading.Event()

    class Runner:
        def run(self, task: Task, text: str, *, arm: str, rep: int, **more: Any) -> AgentRun:
            learned = (task.task_id, arm, rep) == DRAWS[0].key
            if learned:
                assert down.wait(30)
            ended = AgentOutcome.PASS if learned else AgentOutcome.INFRA_ERROR
            return AgentRun(
                task=task.task_id,
                arm=arm,
                rep=rep,
                outcome=ended,
                score=1.0 if learned else None,
                place=more["place"],
            )

        def stop(self) -> None:
            """Nothing runs."""

    def told(run: AgentRun, done: int, of: int) -> None:
        if done == 2:
            down.set()

    with (
        RunJournal(tmp_path / "runs.jsonl", {}) as journal,
        pytest.raises(ComponentFailed, match="5 infra errors"),
    ):
        run_all(Runner(), SUITE, TEXTS, DRAWS, journal, parallel=2, on_run=told)  # type: ignore[arg-type]
    assert [r.outcome for r in recorded_runs(tmp_path / "runs.jsonl")] == [AgentOutcome.PASS]


@pytest.mark.slow
def test_single_infra_errors_are_kept(tmp_path: Path) -> None:
    """An infra error among learned runs is a result: it is counted and not hidden."""
    code = """
import sys
text = open(sys.argv[1]).read()
if text.startswith("wrong"):
    sys.exit("quota exceeded")
open("answer.txt", "w").write(text)
"""
    draws = sorted(DRAWS, key=lambda d: (d.rep, d.task, d.arm))
    runs = everything(tmp_path, code, draws=draws, retries=0, parallel=1)
    assert [r.outcome for r in runs] == [AgentOutcome.PASS, AgentOutcome.INFRA_ERROR] * 6
    again = everything(tmp_path, code, draws=draws, retries=0, on_run=lambda *a: pytest.fail("ran again"))
    assert again == runs


def test_unknown_draws_are_refused(tmp_path: Path) -> None:
    """A task that is not there, and a text that has changed under a journal."""
    with pytest.raises(UsageError, match="'zz'"):
        everything(tmp_path, draws=[Draw("zz", "baseline", 1, 1)])
    everything(tmp_path, draws=DRAWS[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TEXTS, DRAWS[0].arm, "something else")
        with pytest.raises(UsageError, match="another text"):
            everything(tmp_path)


@pytest.mark.slow
def test_an_interrupt_ends_all_agents(tmp_path: Path) -> None:
    """An exception in the waiting thread, as Ctrl-C raises one, leaves no agent; finished runs are kept."""
    mark = f"interrupt-{os.getpid()}"
    code = f"""
import subprocess, sys, time
text = open(sys.argv[1]).read()
if text.startswith("wrong"):
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)", {mark!r}])
open("answer.txt", "w").write(text)
"""

    def leave(run: AgentRun, done: int, of: int) -> None:
        deadline = time.monotonic() + 5
        while not alive_with(mark) and time.monotonic() < deadline:
            time.sleep(0.02)
        raise Interrupted("SIGINT")

    draws = [Draw("a", "candidate", 1, 1), Draw("a", "baseline", 1, 1), Draw("b", "candidate", 1, 1)]
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        everything(tmp_path, code, draws=draws, parallel=2, on_run=leave, timeout_s=60)
    assert time.monotonic() - begun < 20
    assert gone(mark, 1.0)
    with RunJournal(tmp_path / "work" / "runs.jsonl", {"suite": SUITE.digest}) as journal:
        assert list(journal.done) == [("a", "baseline", 1)]
    assert not [t for t in threading.enumerate() if t.name.startswith("agent")]


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_agent_running as t
t.everything(Path({folder!r}), {code!r}, parallel=2, timeout_s=60, isolation={level!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize("level", ["none", "auto"])
def test_a_kill_in_the_middle_loses_no_run_and_leaves_no_agent(tmp_path: Path, level: str) -> None:
    """SIGKILL while agents run, several times: what was finished stays, nothing is there twice, no process is left."""
    mark = f"killed-{os.getpid()}-{level}"
    count = tmp_path / "count"
    count.mkdir()
    code = f"""
import subprocess, sys, time
text = open(sys.argv[1]).read()
subprocess.run([sys.executable, "-I", "-S", "-c", "import time; time.sleep(0.25)", {mark!r}])
open("answer.txt", "w").write(text)
"""
    script = _KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path), code=code, level=level)
    journal = tmp_path / "work" / "runs.jsonl"
    done_before = 0
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
            if lines > done_before + 2 and alive_with(mark):
                break
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        end_leftovers(tmp_path)
        assert gone(mark, 0.5)
        done_before = journal.read_bytes().count(b"\n")
    kept = [json.loads(line) for line in journal.read_bytes().splitlines()[1:]]
    runs = everything(tmp_path, code, timeout_s=60, isolation=level)
    assert [r.key for r in runs] == [d.key for d in DRAWS]
    assert {(r["task"], r["arm"], r["rep"]): r["started"] for r in kept}.items() <= {
        r.key: r.started for r in runs
    }.items()
    keys = [(r["task"], r["arm"], r["rep"]) for r in map(json.loads, journal.read_bytes().splitlines()[1:])]
    assert len(keys) == len(set(keys)) == 12
    assert list((tmp_path / "work" / "spaces").iterdir()) == []
    assert runner_module.GRACE.orphan_s < 5
