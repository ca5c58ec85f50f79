"""A search that is interrupted at every one of its runs and proposals, with agents that answer at once."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from rule_world import LEARN, write_world

import assay.adapters.build.search as module
from assay.adapters.build.search import Adapter, Options
from assay.adapters.build.search.bench import arm_of
from assay.adapters.build.search.command import Reply
from assay.core.agent import AgentOutcome, AgentRun
from assay.core.candidate import Candidate
from assay.core.canon import digest_bytes
from assay.core.errors import ComponentFailed
from assay.core.study import AdapterRef
from assay.core.suite import Task
from assay.readers.evolved import read_evolved
from assay.testing.session import make_session

CANDIDATE = Candidate(name="found", parent="sha256:0", build=AdapterRef(kind="search"))
KEPT = {
    "task_id": "other-canary",
    "canary": True,
    "user_message": "Label the words.",
    "fixture_setup": {"words.txt": "ABC"},
    "test_command": "true",
}
"""A canary that passes as long as the text holds the rule for `other`."""


class Killed(BaseException):
    """Stands for the end of the process."""


class Power:
    """Goes out at the given event, counted over runs and proposals."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.events = 0
        self.lock = threading.Lock()

    def event(self) -> None:
        """One run or proposal."""
        with self.lock:
            self.events += 1
            if self.events == self.at:
                raise Killed


class FakeRunner:
    """Applies the rules of a text to a task's words at once; one draw of seven slips."""

    power = Power(0)
    slips = True

    def __init__(self, agent: Any, artifact: Any, workdir: Path, **_: Any) -> None:
        self.fingerprint, self.isolation = "fake", "none"

    def stop(self) -> None:
        """Nothing runs."""

    def require_unchanged(self) -> None:
        """It is always the same."""

    def run(
        self, task: Task, text: str, *, arm: str, rep: int, seed: int, block: int = 1, place: int = 0
    ) -> AgentRun:
        """One run, known by its draw alone."""
        self.power.event()
        rules = [x.partition(" ") for x in text.split("\n") if " " in x]
        wanted = task.task_id.partition("-")[0]
        words = task.fixtures[0].text.split("\n")
        slip = (
            self.slips and hashlib.sha256(f"{task.task_id}/{arm}/{rep}/{seed}".encode()).digest()[0] % 7 == 0
        )
        found = ["?" if slip else self._label(rules, w) for w in words]
        told = "\n".join(
            f"missed {wanted}: {w}" if f == "?" else f"wrong {f}: {w}"
            for w, f in zip(words, found, strict=True)
            if f != wanted
        )
        return AgentRun(
            task=task.task_id,
            arm=arm,
            rep=rep,
            block=block,
            place=place,
            outcome=AgentOutcome.TASK_FAIL if told else AgentOutcome.PASS,
            score=float(not told),
            text=digest_bytes(text.encode()),
            feedback=told,
            cost=0.01,
        )

    @staticmethod
    def _label(rules: list[tuple[str, str, str]], word: str) -> str:
        for label, _, pattern in rules:
            try:
                if re.fullmatch(pattern, word):
                    return label
            except re.error:
                continue
        return "?"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Requests that reached the proposing program, whole."""
    found: list[str] = []

    def asked(options: Any, request: Any, folder: Path, limit_s: float | None) -> Reply:
        FakeRunner.power.event()
        found.append(json.dumps(request, sort_keys=True))
        line = f"{('time', 'num')[len(found) % 2]} .{{{request['texts']}}}"
        if request["texts"] % 4 == 3:
            return Reply(failed="no idea", cost=0.02)
        return Reply(text=request["parent"]["text"] + line + "\n", reason="a guess", cost=0.02)

    monkeypatch.setattr(module, "AgentRunner", FakeRunner)
    monkeypatch.setattr(module, "asked", asked)
    return found


def options(folder: Path, engine: str, **more: Any) -> Options:
    """A search with every sort of proposer."""
    given = write_world(folder / "world")
    with (folder / "world/suite.jsonl").open("a") as suite:
        suite.write(json.dumps(KEPT) + "\n")
    command = {"kind": "command", "options": {"command": ["true"], "failures": 9}}
    given |= {"engine": engine, "proposers": [LEARN, {"kind": "add-line"}, {"kind": "delete-line"}, command]}
    given |= {"max_runs": 60, "rules": {"minibatch": 2, "pick": "best"}, "max_cost": 0.8, **more}
    given["agent"]["parallel"] = 1
    return Options.model_validate_json(json.dumps(given))


def build(folder: Path, made: Options) -> dict[str, Any]:
    """Search, and what is on record."""
    session = make_session(folder)
    out = session.workdir / "artifact"
    Adapter(made).build(CANDIDATE, folder / "world/rules.txt", out, session)
    record = read_evolved(out)
    assert record.matches
    found = {k: v for k, v in record.evolution.to_json().items() if k != "wall_s"}
    runs = (session.workdir / "runs.jsonl").read_text().splitlines()[1:]
    keys = sorted((r["task"], r["arm"], r["rep"]) for r in map(json.loads, runs))
    lines = (session.workdir / "search.jsonl").read_text().splitlines()
    return {"evolution": found, "runs": keys, "lines": lines[1:], "text": record.artifact.text}


@pytest.mark.parametrize("engine", ["own", "gepa", "minimize"])
def test_interrupted_anywhere_it_ends_as_if_it_had_not_been(
    tmp_path: Path, calls: list[str], engine: str
) -> None:
    """At each fifth event once, and at several in a row: the same record, every run once, every proposal once."""
    if engine == "gepa":
        pytest.importorskip("gepa")
    FakeRunner.power = Power(0)
    whole = build(tmp_path / "whole", options(tmp_path / "whole", engine))
    events, asked_for = FakeRunner.power.events, len(calls)
    assert len(whole["runs"]) == len(set(whole["runs"])) == whole["evolution"]["runs"]
    assert events == whole["evolution"]["runs"] + asked_for
    assert engine == "minimize" or asked_for > 1
    for first in [*range(1, events + 1, 5), 0]:
        folder = tmp_path / f"at-{first}"
        made = options(folder, engine)
        calls.clear()
        killed = 0
        for at in (first, 3, 7) if first else (2, 1, 5, 4):
            FakeRunner.power = Power(at)
            try:
                build(folder, made)
            except Killed:
                killed += 1
        FakeRunner.power = Power(0)
        again = build(folder, made)
        assert again == whole, f"interrupted at event {first}"
        assert killed
        assert len(calls) == asked_for, "a proposal was asked for again"


GOOD, BREAKING = "# nothing yet\nother [A-Z]+\nday [0-9-]+\n", "day [0-9-]+\nword [a-z]+\n"


@pytest.fixture
def breaking(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A program that proposes a better text, and then one that is better still and breaks the canary."""

    def asked(options: Any, request: Any, folder: Path, limit_s: float | None) -> Reply:
        FakeRunner.power.event()
        calls.append("")
        text = {1: GOOD, 2: BREAKING}.get(request["texts"])
        return Reply(text=text, cost=0.02) if text else Reply(stop="no more", cost=0.02)

    monkeypatch.setattr(module, "asked", asked)
    monkeypatch.setattr(FakeRunner, "slips", False)
    return calls


def searching(folder: Path, **more: Any) -> Options:
    """A search by that program alone."""
    command = {"kind": "command", "options": {"command": ["true"]}}
    rules = {"minibatch": 8, "pick": "best", "parent": "best"}
    return options(
        folder, "own", proposers=[command], rules=rules, **{"max_cost": 5.0, "max_runs": 200} | more
    )


def test_a_text_that_breaks_the_canary_is_not_picked(tmp_path: Path, breaking: list[str]) -> None:
    """The best one never passes it: it is thrown away with the reason, and the next best one is the search's answer."""
    FakeRunner.power = Power(0)
    whole = build(tmp_path, searching(tmp_path))
    assert whole["text"] == GOOD
    assert [n["state"] for n in whole["evolution"]["nodes"]] == ["baseline", "kept", "rejected"]
    assert "other-canary" in whole["evolution"]["nodes"][2]["why"]
    assert whole["evolution"]["pick_rule"].endswith("; better ones that broke a canary: 1")
    canaries = [k for k in whole["runs"] if k[0] == "other-canary"]
    assert len(canaries) == 3 + 1
    assert len(whole["runs"]) == whole["evolution"]["runs"]
    last = json.loads(whole["lines"][-1])
    assert (last["node"], last["state"]) == (2, "rejected")


def test_killed_at_a_canary_no_run_is_paid_twice(tmp_path: Path, breaking: list[str]) -> None:
    """At each of the last events, which are runs of canaries: the same search, each run once."""
    FakeRunner.power = Power(0)
    whole = build(tmp_path / "whole", searching(tmp_path / "whole"))
    events = FakeRunner.power.events
    assert events == len(whole["runs"]) + len(breaking)
    for at in range(events - 4, events + 1):
        folder = tmp_path / str(at)
        made = searching(folder)
        FakeRunner.power = Power(at)
        with pytest.raises(Killed):
            build(folder, made)
        FakeRunner.power = Power(0)
        assert build(folder, made) == whole
        assert FakeRunner.power.events == events - at + 1


def test_runs_are_kept_for_the_canary(tmp_path: Path, breaking: list[str]) -> None:
    """However few runs a search has, it does not use up those that show whether its text keeps the canary."""
    FakeRunner.power = Power(0)
    needed = build(tmp_path / "all", searching(tmp_path / "all"))["evolution"]["runs"]
    for runs in range(needed - 12, needed):
        made = build(tmp_path / str(runs), searching(tmp_path / str(runs), max_runs=runs))
        found, picked = made["evolution"], made["evolution"]["picked"]
        assert found["runs"] <= runs
        tried = {arm for task, arm, _ in made["runs"] if task == "other-canary"}
        assert tried or not picked
        if picked and arm_of(found["nodes"][picked]["text"]) not in tried:
            assert "not tried on all canaries: the runs are used up" in found["pick_rule"]


def test_what_the_canary_asks_for_is_never_left_out(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task but the canary needs the rule for `other`, and the shortest text still holds it."""
    FakeRunner.power = Power(0)
    monkeypatch.setattr(FakeRunner, "slips", False)
    assert (
        build(tmp_path, options(tmp_path, "minimize", max_runs=200, max_cost=5.0))["text"] == "other [A-Z]+\n"
    )


def test_a_machine_that_is_down_ends_nothing(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Infra errors in a row, in batches however small, are an error of the step; mended, the search goes on."""
    FakeRunner.power = Power(0)
    run = FakeRunner.run
    count = 0

    def down(self: FakeRunner, task: Task, text: str, **more: Any) -> AgentRun:
        nonlocal count
        count += 1
        made = run(self, task, text, **more)
        if count <= 20:
            return made
        return made.model_copy(update={"outcome": AgentOutcome.INFRA_ERROR, "score": None, "cost": None})

    monkeypatch.setattr(FakeRunner, "run", down)
    made = options(tmp_path / "down", "own", price_per_run=0.01)
    with pytest.raises(ComponentFailed, match="infra errors"):
        build(tmp_path / "down", made)
    monkeypatch.setattr(FakeRunner, "run", run)
    again = build(tmp_path / "down", made)
    assert again["evolution"]["picked"] > 0
    assert len(set(again["runs"])) == len(again["runs"])
    unknown = [n for n in again["evolution"]["nodes"] if n["why"] == "nothing was learned about it"]
    assert len(unknown) <= 1
