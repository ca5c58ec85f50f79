"""Build kind `search`, with an agent that really runs: what it finds, what it spends, and how it goes on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError
from rule_world import LEARN, agent_runs, write_world

from assay.adapters.build.search import Adapter, Options
from assay.adapters.build.search.record import Record
from assay.core.agent import AgentOutcome, AgentRun
from assay.core.candidate import Candidate
from assay.core.errors import ComponentFailed, UsageError
from assay.core.study import AdapterRef
from assay.readers.evolved import Evolved, read_evolved
from assay.testing.session import RecordingSession, make_session

CANDIDATE = Candidate(name="found", parent="sha256:0", build=AdapterRef(kind="search"))
pytestmark = pytest.mark.slow


def options(world: Path, **more: Any) -> Options:
    """Of a search over the rules of that folder."""
    return Options.model_validate_json(json.dumps({**write_world(world), **more}))


def searched(folder: Path, made: Options, session: RecordingSession | None = None) -> Evolved:
    """Search, and read back what was built."""
    session = session or make_session(folder)
    Adapter(made).build(CANDIDATE, folder / "world" / "rules.txt", session.workdir / "artifact", session)
    return read_evolved(session.workdir / "artifact")


def journal(folder: Path) -> list[dict[str, Any]]:
    """The runs that are on record, without the header."""
    lines = (folder / "work" / "runs.jsonl").read_text().splitlines()
    return [json.loads(x) for x in lines[1:]]


def program(folder: Path, code: str) -> dict[str, Any]:
    """A proposer that is a Python script; it counts how often it was called."""
    path = folder / "propose.py"
    folder.mkdir(parents=True, exist_ok=True)
    head = f"import json, sys\nopen({str(folder / 'asked.log')!r}, 'a').write('x')\nrequest = json.load(sys.stdin)\n"
    path.write_text(head + code)
    return {"kind": "command", "options": {"command": ["{python}", str(path)], "price": 0.0}}


def asked(folder: Path) -> int:
    """How often the script was called."""
    path = folder / "asked.log"
    return len(path.read_text()) if path.exists() else 0


def test_rules_are_learned_from_real_failures(tmp_path: Path) -> None:
    """From a file without a useful rule to one that labels every selecting task, in real runs, each on record once."""
    found = searched(tmp_path, options(tmp_path / "world"))
    evolution = found.evolution
    picked = evolution.nodes[evolution.picked]
    assert evolution.picked > 0
    assert found.matches
    assert set(picked.select.values()) == {1.0}
    assert "2024-01-02" not in found.artifact.text
    assert evolution.runs == len(journal(tmp_path)) == agent_runs(tmp_path / "world")
    assert evolution.cost is None
    assert evolution.cost_assumed == pytest.approx(0.01 * evolution.runs)
    assert {r["task"].rpartition("-")[2] for r in journal(tmp_path)} == {"0", "1", "2"}, (
        "confirm tasks are never run"
    )


def test_nothing_better_leaves_the_baseline_byte_for_byte(tmp_path: Path) -> None:
    """Where no proposal helps, the artifact is the baseline, and the record says so and why it ended."""
    made = options(tmp_path / "world", proposers=[{"kind": "add-line"}], pool=["junk ["], max_runs=60)
    session = make_session(tmp_path)
    found = searched(tmp_path, made, session)
    assert found.evolution.picked == 0
    assert found.matches
    assert (session.workdir / "artifact/rules.txt").read_bytes() == (
        tmp_path / "world/rules.txt"
    ).read_bytes()
    assert found.evolution.ended == "the proposers have nothing new to say"
    assert any(m.startswith("no improvement:") for m, _ in session.notes)


def test_the_runs_are_a_hard_limit(tmp_path: Path) -> None:
    """Not one run more than was allowed, for each engine."""
    for cap, engine in ((13, "own"), (20, "own"), (9, "minimize")):
        folder = tmp_path / f"{engine}-{cap}"
        found = searched(folder, options(folder / "world", max_runs=cap, engine=engine))
        assert agent_runs(folder / "world") == found.evolution.runs <= cap


def test_a_cost_cap_warns_and_holds(tmp_path: Path) -> None:
    """Told at 50 and at 80 %, and ended at the cap, with what was assumed named as assumed."""
    session = make_session(tmp_path)
    found = searched(tmp_path, options(tmp_path / "world", max_cost=0.30), session)
    warnings = [m for m, _ in session.notes if m.startswith("warning:")]
    assert [m[9:12] for m in warnings] == ["50%", "80%"]
    assert "assumed" in warnings[0]
    assert found.evolution.cost_assumed <= 0.30 + 1e-9
    assert "cost cap" in found.evolution.ended


@pytest.mark.parametrize(("attempts", "kept", "spent"), [(1, "0.25", (0.2, 0.34)), (5, "1.25", (-1.0, 0.0))])
def test_the_search_leaves_what_confirmation_needs(
    tmp_path: Path, attempts: int, kept: str, spent: tuple[float, float]
) -> None:
    """What was spent before and what runs that confirm may cost, as dear as they were, is none of the search's."""
    session = make_session(tmp_path)
    session.workdir = tmp_path / "study/trial-1/build"
    for folder in (session.workdir, tmp_path / "study/trial-1/preflight"):
        folder.mkdir(parents=True)
    run = AgentRun(task="d", arm="baseline", rep=1, outcome=AgentOutcome.PASS, score=1.0, untold=attempts)
    (tmp_path / "study/trial-1/preflight/runs.jsonl").write_text(f"{{}}\n{run.model_dump_json()}\n")
    found = searched(tmp_path, options(tmp_path / "world", study_cost=0.60, confirming_runs=25), session)
    assert f"{kept} kept for confirmation" in found.evolution.ended
    assert spent[0] < found.evolution.cost_assumed <= spent[1] + 1e-9
    warnings = [m[9:12] for m, _ in session.notes if m.startswith("warning:")]
    assert warnings == ["50%"] * (attempts == 1), "80 % are for confirmation"


def test_the_time_of_the_study_ends_it(tmp_path: Path) -> None:
    """When the time is used up, agents are started no more, and what was found until then is picked from."""
    session = make_session(tmp_path, limit_s=1.5)
    found = searched(tmp_path, options(tmp_path / "world", max_runs=100), session)
    assert found.evolution.ended == "the time of the study is used up"
    assert agent_runs(tmp_path / "world") == found.evolution.runs < 100
    assert found.matches


def test_a_cap_cannot_be_kept_where_nothing_tells_a_cost(tmp_path: Path) -> None:
    """An unknown cost is not 0: with a cap and no price the search refuses to go on."""
    world = write_world(tmp_path / "world")
    world["agent"]["price_per_run"] = None
    made = Options.model_validate_json(json.dumps({**world, "max_cost": 1.0}))
    with pytest.raises(ComponentFailed, match="price_per_run") as caught:
        searched(tmp_path, made)
    assert caught.value.failure_class.value == "USER_CONFIG_ERROR"


def test_a_bloated_file_is_minimized(tmp_path: Path) -> None:
    """Rules that no task needs are gone; the others stay, in their order."""
    world = write_world(tmp_path / "world")
    world |= {"tasks_train": ["day-0", "word-0"], "tasks_select": ["word-1"]}
    rules = "# rules\n\njunk !+\nday [0-9-]+\nnote .{99}\n\nword [a-z]+\nmore @+\n"
    (tmp_path / "world/rules.txt").write_text(rules)
    made = Options.model_validate_json(json.dumps({**world, "engine": "minimize", "max_runs": 300}))
    found = searched(tmp_path, made)
    assert found.artifact.text.split() == ["day", "[0-9-]+", "word", "[a-z]+"]
    assert "no loss on 3 tasks" in found.evolution.pick_rule


def test_a_program_proposes_and_is_told_train_tasks_alone(tmp_path: Path) -> None:
    """It reads the request from its standard input; what it prints last becomes a text; its cost is counted."""
    code = (
        f"open({str(tmp_path / 'request.json')!r}, 'w').write(json.dumps(request))\n"
        "text = request['parent']['text'] + 'day [0-9-]+\\n'\n"
        "print('thinking'); print(json.dumps({'text': text, 'reason': 'dates', 'cost': 0.25}))\n"
    )
    world = options(tmp_path / "world", proposers=[program(tmp_path / "p", code)], max_runs=40)
    found = searched(tmp_path, world)
    request = json.loads((tmp_path / "request.json").read_text())
    node = next(n for n in found.evolution.nodes if n.state == "kept")
    assert node.proposer == "command"
    assert node.reason == "dates"
    assert found.evolution.cost is not None
    assert found.evolution.cost == pytest.approx(0.25 * asked(tmp_path / "p"))
    tasks = {f["task"] for f in request["failures"]}
    assert tasks
    assert all(t.endswith(("-0", "-1")) for t in tasks)
    assert "-2" not in {t[-2:] for t in request["parent"]["train"]}
    assert all(f["feedback"].startswith(("missed", "wrong")) for f in request["failures"])
    assert asked(tmp_path / "p") < 12, "one that repeats itself is not asked and paid for ever"


def test_edits_are_an_answer_too(tmp_path: Path) -> None:
    """A program may answer with edits of lines instead of the whole text."""
    edit = {"op": "add", "at": 2, "lines": ["day [0-9-]+"], "reason": "dates"}
    code = f"print(json.dumps({{'edits': [{edit!r}]}}))\n"
    found = searched(
        tmp_path, options(tmp_path / "world", proposers=[program(tmp_path / "p", code)], max_runs=40)
    )
    assert "day [0-9-]+" in found.artifact.text


@pytest.mark.parametrize(
    "code", ["sys.exit(3)", "print('no json')", "print('{\"text\": 3}')", "import time; time.sleep(30)"]
)
def test_a_program_that_fails_again_and_again_is_an_error(tmp_path: Path, code: str) -> None:
    """A proposer that is down is never taken for one that has no idea: the study stops, and asks again when resumed."""
    spec = program(tmp_path / "p", code)
    spec["options"] |= {"timeout_s": 0.7, "failures": 2}
    made = options(tmp_path / "world", proposers=[spec])
    with pytest.raises(ComponentFailed, match="2 times in a row") as caught:
        searched(tmp_path, made)
    assert caught.value.failure_class.value == "INFRA_TRANSIENT"
    assert asked(tmp_path / "p") == 2
    (tmp_path / "p" / "propose.py").write_text("import json; print(json.dumps({'stop': 'mended'}))")
    found = searched(tmp_path, made)
    assert "mended" in found.evolution.ended


def test_another_search_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """What was found for other inputs does not count."""
    searched(tmp_path, options(tmp_path / "world", max_runs=13))
    for more in ({"seed": 1}, {"tasks_select": ["day-3"]}, {"pool": ["x y"]}):
        with pytest.raises(UsageError, match="another one"):
            searched(tmp_path, options(tmp_path / "world", **{"max_runs": 13, **more}))
    (tmp_path / "world/rules.txt").write_text("changed")
    made = Options.model_validate_json(json.dumps({**write_world(tmp_path / "other"), "max_runs": 13}))
    with pytest.raises(UsageError, match="changed"):
        searched(tmp_path, made)


def test_a_changed_suite_is_refused(tmp_path: Path) -> None:
    """The digest of the plan must be that of the suite, and every task must be there."""
    with pytest.raises(UsageError, match="suite"):
        searched(tmp_path, options(tmp_path / "world", suite_digest="sha256:0"))
    with pytest.raises(UsageError, match="no task 'x'"):
        searched(tmp_path, options(tmp_path / "world", tasks_train=["x"]))


SCRIPT = """
import json, sys
from pathlib import Path
from assay.adapters.build.search import Adapter, Options
from assay.core.candidate import Candidate
from assay.core.study import AdapterRef
from assay.testing.session import make_session
folder = Path(sys.argv[1])
session = make_session(folder)
made = Options.model_validate_json((folder / "options.json").read_text())
candidate = Candidate(name="found", parent="sha256:0", build=AdapterRef(kind="search"))
Adapter(made).build(candidate, folder / "world/rules.txt", session.workdir / "artifact", session)
"""


def started(folder: Path) -> subprocess.Popen[bytes]:
    """A search in a process of its own."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], env=env)


def compared(evolution: Any) -> dict[str, Any]:
    """A record without what is another at every time."""
    return {k: v for k, v in evolution.to_json().items() if k != "wall_s"}


@pytest.mark.parametrize("engine", ["own", "gepa", "minimize"])
def test_a_killed_search_goes_on_as_if_nothing_had_happened(tmp_path: Path, engine: str) -> None:
    """Kill -9 at several moments: the same texts, the same pick, no run on record twice, no proposal asked for again."""
    if engine == "gepa":
        pytest.importorskip("gepa")
    code = "print(json.dumps({'text': request['parent']['text'] + 'time [0-9:]+\\n'}))\n"
    records, calls = {}, {}
    for name in ("whole", "killed"):
        folder = tmp_path / name
        proposers = [LEARN, program(tmp_path / "p", code), {"kind": "delete-line"}]
        given = {**write_world(folder / "world"), "proposers": proposers, "engine": engine, "max_runs": 34}
        given["rules"]["fresh"] = True
        given["agent"]["command"].append(
            "5"
        )  # one seed of five makes the agent slip: outcomes are by the draw
        (folder / "options.json").write_text(json.dumps(given))
        before = asked(tmp_path / "p")
        if name == "killed":
            for runs in (5, 17):
                process = started(folder)
                wait_for_runs(folder, process, runs)
                process.send_signal(signal.SIGKILL)
                process.wait()
        assert started(folder).wait() == 0
        records[name] = read_evolved(folder / "work/artifact")
        calls[name] = asked(tmp_path / "p") - before
    whole, killed = (compared(records[n].evolution) for n in ("whole", "killed"))
    assert whole == killed
    assert records["whole"].artifact.text == records["killed"].artifact.text
    keys = [(r["task"], r["arm"], r["rep"]) for r in journal(tmp_path / "killed")]
    assert len(set(keys)) == len(keys) == whole["runs"]
    assert calls["killed"] <= calls["whole"] + 3, "only a call that was killed is made again"
    log = str(tmp_path / "killed/world/agent.py")
    deadline = time.monotonic() + 5
    while any(log in " ".join(c) for c in commands()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(log in " ".join(c) for c in commands()), "an agent is left alive"


def wait_for_runs(folder: Path, process: subprocess.Popen[bytes], count: int) -> None:
    """Until so many runs are on record, or the search is over."""
    path = folder / "work/runs.jsonl"
    while process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.01)


def commands() -> list[list[str]]:
    """Command lines of all processes."""
    return [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]


def test_gepa_searches_with_our_runs_and_our_budget(tmp_path: Path) -> None:
    """The library finds the rules too, in no more runs than allowed, and leaves no state of its own behind."""
    pytest.importorskip("gepa")
    session = make_session(tmp_path)
    found = searched(tmp_path, options(tmp_path / "world", engine="gepa"), session)
    assert found.evolution.picked > 0
    assert set(found.evolution.nodes[found.evolution.picked].select.values()) == {1.0}
    assert found.evolution.facts["gepa"]
    left = {p.name for p in session.workdir.rglob("*")}
    assert not any(n.endswith((".bin", ".pkl")) or "gepa" in n for n in left)
    for cap in (3, 11):
        folder = tmp_path / str(cap)
        capped = searched(folder, options(folder / "world", engine="gepa", max_runs=cap))
        assert agent_runs(folder / "world") == capped.evolution.runs <= cap
        assert "runs are used up" in capped.evolution.ended


def test_gepa_ends_where_nothing_new_is_proposed(tmp_path: Path) -> None:
    """The library would go round for ever on a deterministic agent; we end it."""
    pytest.importorskip("gepa")
    made = options(
        tmp_path / "world", engine="gepa", proposers=[{"kind": "add-line"}], pool=["junk ["], max_runs=10_000
    )
    found = searched(tmp_path, made)
    assert found.evolution.picked == 0
    assert "nothing new" in found.evolution.ended


def test_gepa_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`assay doctor` says what is missing and how it is installed."""
    monkeypatch.setitem(sys.modules, "gepa", None)
    told = Adapter(options(tmp_path / "world", engine="gepa")).check()
    assert told.state == "missing"
    assert "assay[gepa]" in told.detail
    assert Adapter(options(tmp_path / "world")).check().state == "ready"


def test_options_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    """No proposer, an unknown engine, or a rule that GEPA does not have."""
    for more in (
        {"proposers": []},
        {"engine": "x"},
        {"engine": "gepa", "rules": {"accept": "better_or_shorter"}},
    ):
        with pytest.raises(ValidationError):
            options(tmp_path / "world", **more)


def test_a_torn_line_is_dropped_and_a_broken_one_is_told(tmp_path: Path) -> None:
    """A crash may tear the last line of the record; anything else is not ours."""
    path = tmp_path / "search.jsonl"
    Record(path, {"a": 1}).write("text", {"n": 1})
    with path.open("ab") as handle:
        handle.write(b'{"line": "te')
    again = Record(path, {"a": 1})
    assert again.lines == 2
    with pytest.raises(ComponentFailed, match="does not go the way"):
        again.write("text", {"n": 2})
    path.write_bytes(path.read_bytes() + b"\xff\xfe\n")
    with pytest.raises(UsageError, match="line 3"):
        Record(path, {"a": 1})
