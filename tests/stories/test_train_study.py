"""Stories: a study of trainings by the real command line, on a script that needs no framework."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twin_project import Project, finished_once, lent

from assay.cli.load import load_any
from assay.core.study import Study
from assay.flows import train
from assay.readers.training import read_experiments
from assay.runtime.files import artifact

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TINY = Path(__file__).parent / "tiny"


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Project]:
    """A user's folder with the script and its spec; at the end nothing of it may run."""
    yield from lent(lay_out(tmp_path / "project"))


def lay_out(folder: Path) -> Project:
    """The script and the spec in a folder of their own."""
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return Project(folder)


def words(project: Project) -> list[tuple[str, str]]:
    """Candidate and outcome of each standing Decision."""
    return [(d.candidate, d.outcome.value) for d in project.history("tiny-1").decisions]


def trained(project: Project) -> Counter[tuple[str, int]]:
    """Experiment and epoch → how often it was trained."""
    lines = (project.folder / "trained.log").read_text(encoding="utf-8").splitlines()
    return Counter((name, int(epoch)) for name, _, epoch in (line.split() for line in lines))


def closed(project: Project) -> dict[str, Any]:
    """How the study ended."""
    found = project.history("tiny-1").closed
    assert found is not None
    return dict(found)


def test_a_study_keeps_what_seeds_confirm_and_goes_on_from_there(tiny: Project) -> None:
    """Worse and crashing candidates are reverted, better ones kept; it ends at the goal and says that it may advance."""
    done = tiny.run("run", "train.yaml", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert words(tiny) == [
        ("baseline", "ACCEPT"),
        ("worse", "NO_GAIN"),
        ("crashing", "INFEASIBLE"),
        ("better", "ACCEPT"),
        ("best", "ACCEPT"),
    ]
    assert told["outcome"] == "ACCEPT"
    assert told["why"].startswith("goal: best reached tier goal")
    assert told["advance"]["word"] == "ADVANCE"
    assert Path(told["report"]).stat().st_size > 10_000

    trials = list(tiny.history("tiny-1").trials.values())
    baseline, worse, crashing, better, best = (t.candidate for t in trials)
    assert worse.parent == crashing.parent == better.parent == baseline.key
    assert best.parent == better.key
    assert best.build.options["config"] == {"level": 0.95, "epochs": 3}
    # One seed is enough to see that something is no better; five confirm a new best.
    counts = [len([s for s in t.steps if s.startswith("train")]) for t in trials]
    assert counts == [5, 1, 1, 5, 5]

    experiments = {e.id: e for e in read_experiments(tiny.home / "experiments")}
    assert {e.state.value for e in experiments.values()} == {"complete", "crashed"}
    assert experiments["exp-013"].parent == "exp-008"
    assert experiments["exp-008"].hypothesis is not None
    assert experiments["exp-008"].hypothesis.text == "More is more."
    assert set(trained(tiny).values()) == {1}
    for command in (
        ["verify", "tiny-1"],
        ["ls"],
        ["show", "tiny-1"],
        ["show", "tiny-1-4"],
        ["report", "tiny-1"],
    ):
        said = tiny.run(*command)
        assert said.returncode == 0, said.stderr
    assert "ADVANCE" in tiny.run("show", "tiny-1").stdout
    again = tiny.run("resume", "tiny-1", "--json")
    assert json.loads(again.stdout)["outcome"] == "ACCEPT"
    assert set(trained(tiny).values()) == {1}


def test_below_the_floor_a_person_is_asked(tiny: Project) -> None:
    """A better recipe that is not good enough ends with exit code 1 and NEEDS_HUMAN, and nothing is applied."""
    done = tiny.run(
        "run",
        "train.yaml",
        "--json",
        *("--set", "seeds=1", "--set", "metric.floor=0.8", "--set", "budget.trials=4"),
        *("--set", f"apply={{kind: directory, path: {tiny.published}}}"),
    )
    told = json.loads(done.stdout)
    assert told["outcome"] == "ACCEPT"
    assert told["why"] == "the budget of 4 trials is used up"
    assert told["advance"]["word"] == "NEEDS_HUMAN"
    assert "below the floor of 0.8" in told["advance"]["reason"]
    assert done.returncode == 1
    assert not tiny.published.exists()


def test_the_best_is_applied_at_the_end_if_it_may_advance(tiny: Project) -> None:
    """What is published is the last kept candidate with its verified checkpoint, not the first."""
    target = f"apply={{kind: directory, path: {tiny.published}}}"
    done = tiny.run("run", "train.yaml", "--json", "--set", "seeds=1", "--set", target)
    assert done.returncode == 0, done.stderr
    record = json.loads((tiny.published / "experiment.json").read_text())
    assert record["value"] == pytest.approx(0.95, abs=0.05)
    assert (tiny.published / "checkpoint" / "manifest.json").is_file()


@pytest.mark.parametrize("seconds", [0.6, 2.5])
def test_killed_while_it_trains_it_goes_on_from_the_newest_checkpoint(tiny: Project, seconds: float) -> None:
    """Kill -9 in the middle of a training: nothing stays behind, and `resume` repeats no epoch that was saved."""
    sets = (
        "--set",
        "seeds=1",
        "--set",
        "budget.trials=1",
        "--set",
        "config.epochs=8",
        "--set",
        "config.pause_s=0.5",
    )
    child = tiny.start("run", "train.yaml", *sets)
    log = tiny.folder / "trained.log"
    tiny.until("the second epoch", lambda: log.exists() and len(log.read_text().splitlines()) >= 2)
    if seconds > 1:
        tiny.until("the fourth", lambda: len(log.read_text().splitlines()) >= 4)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    tiny.nothing_left()
    before = trained(tiny)
    done = tiny.run("resume", "tiny-1", "--json")
    assert words(tiny) == [("baseline", "ACCEPT")], done.stderr
    after = trained(tiny)
    assert set(after) == {("exp-001", epoch) for epoch in range(8)}
    # An epoch that ended in the very moment of the kill may lack its checkpoint.
    assert sum(after.values()) <= 8 + 1
    assert sum(before.values()) < 8
    (found,) = read_experiments(tiny.home / "experiments")
    assert len(found.attempts) == 2
    assert found.attempts[-1].resumed_from


def test_interrupted_it_saves_and_resumes(tiny: Project) -> None:
    """Ctrl-C asks the training for a last checkpoint; the study is interrupted, and goes on where it stopped."""
    sets = (
        "--set",
        "seeds=1",
        "--set",
        "budget.trials=1",
        "--set",
        "config.epochs=8",
        "--set",
        "config.pause_s=0.5",
    )
    child = tiny.start("run", "train.yaml", *sets)
    log = tiny.folder / "trained.log"
    tiny.until("the second epoch", lambda: log.exists() and len(log.read_text().splitlines()) >= 2)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    tiny.nothing_left()
    tiny.run("resume", "tiny-1")
    assert words(tiny) == [("baseline", "ACCEPT")]
    assert trained(tiny) == Counter({("exp-001", epoch): 1 for epoch in range(8)})


def test_a_person_stops_it_by_a_file(tiny: Project) -> None:
    """A file STOP in the study's folder ends it after the running trial; the reason is told."""
    tiny.run("run", "train.yaml", "--set", "seeds=1", "--set", "budget.trials=1")
    stop = tiny.home / "studies" / "tiny-2" / "STOP"
    stop.parent.mkdir(parents=True)
    stop.write_text("enough for today")
    done = tiny.run("run", "train.yaml", "--json", "--set", "seeds=1")
    told = json.loads(done.stdout)
    assert told["why"] == f"a person asked for it: {stop}"
    assert told["trials"] == []


AGENT = """\
import json, os, sys
request = json.load(open(os.environ["ASSAY_REQUEST"]))
assert request["schema"] == "propose-request/1"
with open("asked.jsonl", "a") as file:
    file.write(json.dumps(request) + "\\n")
level = request["parent"]["config"]["level"]
if request["error"] is None and len(request["history"]) == 2:
    print("let me think {not json")
else:
    reply = {"patch": {"level": round(level + 0.22, 3)}, "hypothesis": f"More than {level}.",
             "rationale": f"the parent had {request['parent']['value']}"}
    json.dump(reply, open(sys.argv[1], "w"))
"""


def test_an_agent_proposes(tiny: Project) -> None:
    """A command is told the best experiment and all that was tried; an answer that is no JSON is asked for again."""
    (tiny.folder / "agent.py").write_text(AGENT, encoding="utf-8")
    propose = "propose={kind: command, command: ['{python}', agent.py, '{reply}']}"
    done = tiny.run("run", "train.yaml", "--json", "--set", "seeds=1", "--set", propose)
    assert done.returncode == 0, done.stderr
    assert [d for d, _ in words(tiny)] == ["baseline", "try-2", "try-3"]
    asked = [json.loads(line) for line in (tiny.folder / "asked.jsonl").read_text().splitlines()]
    assert [a["error"] for a in asked] == [None, None, "there is no JSON object in its answer"]
    assert asked[-1]["parent"]["experiment"] == "exp-002"
    assert asked[-1]["parent"]["config"]["level"] == 0.72
    assert [h["outcome"] for h in asked[-1]["history"]] == ["ACCEPT", "ACCEPT"]


def test_a_test_evaluation_gives_the_value(tiny: Project) -> None:
    """The best verified checkpoint is evaluated by a command; its metric is what the study compares."""
    (tiny.folder / "test.py").write_text(
        "import json, sys\n"
        "from assay.track.checkpoint import Folder, read_state\n"
        "assert len(sys.argv) == 4\n"
        "config = json.load(open(sys.argv[2]))\n"
        "json.dump({'metrics': {'test_score': config['level'] - 0.01, 'seconds': 1}}, open(sys.argv[3], 'w'))\n",
        encoding="utf-8",
    )
    evaluate = (
        "evaluate={kind: experiment, command: ['{python}', test.py, '{checkpoint}', '{config}', '{out}']}"
    )
    done = tiny.run(
        *("run", "train.yaml", "--json", "--set", "seeds=1", "--set", "metric.name=test_score"),
        *("--set", evaluate),
    )
    told = json.loads(done.stdout)
    assert told["outcome"] == "ACCEPT", done.stderr
    assert told["advance"]["value"] == pytest.approx(0.94)
    assert "test_score" in (tiny.home / "experiments" / "exp-001" / "result.md").read_text()


def test_plan_and_starter(tiny: Project) -> None:
    """`assay init train` is a spec that the reader takes, and `assay plan` runs nothing."""
    starter = tiny.run("init", "train")
    (tiny.folder / "mine.yaml").write_text(starter.stdout, encoding="utf-8")
    told = json.loads(tiny.run("plan", "mine.yaml", "--json").stdout)
    assert told["trainings"] == {
        "baseline": 5, "candidate_at_least": 1, "candidate_at_most": 5, "study_at_most": 50
    }  # fmt: skip
    assert told["deciding"]["claim"] == "recipe"
    text = tiny.run("plan", "train.yaml", "--set", "seeds=3").stdout
    assert "the claim is about the checkpoint only" in text
    assert not tiny.home.exists()
    for wrong, where in (
        ("metric.direction=up", "metric.direction"),
        ("metric.goal=0.1", "metric"),
        ("seeds=[1,1]", "seeds"),
    ):
        refused = tiny.run("plan", "train.yaml", "--set", wrong)
        assert refused.returncode == 2
        assert where in refused.stderr
    other = tiny.run("calibrate", "train.yaml")
    assert other.returncode == 2
    assert "train/1" in other.stderr


def decided(project: Project) -> list[Any]:
    """What a study came to, without what differs from run to run."""
    return [
        (d.trial, d.candidate, d.candidate_key, d.outcome, [(g.gate, g.status, g.outcome) for g in d.gates])
        for d in project.history("tiny-1").decisions
    ]


TWO = """propose={kind: patches, patches: [{name: worse, patch: {level: 0.4}, hypothesis: less},
{name: better, patch: {level: 0.7}, hypothesis: more}]}"""


def test_killed_at_events_of_the_ledger(tmp_path: Path) -> None:
    """Killed with -9 at every sixth event, then `resume`: the same Decisions, and no ended training repeated."""
    sets = ("--set", "seeds=2", "--set", "config.epochs=2", "--set", TWO, "--no-report")
    project = lay_out(tmp_path / "project")
    assert project.run("run", "train.yaml", *sets).returncode == 0
    expected, end = decided(project), closed(project)
    events = len(project.events())
    for number in range(2, events, 6):
        shutil.rmtree(project.home)
        (project.folder / "trained.log").unlink(missing_ok=True)
        place = f"after event {number}"
        assert project.killed("after", number, "run", "train.yaml", *sets) == -signal.SIGKILL, place
        again = project.run("resume", "tiny-1", "--no-report")
        assert again.returncode == 0, f"{place}: {again.stderr}"
        project.nothing_left()
        assert decided(project) == expected, place
        assert closed(project) == end, place
        finished_once(project.events())
        assert max(trained(project).values()) == 1, place


def test_the_study_of_the_example_is_a_study() -> None:
    """`examples/train.yaml` is read and planned as it stands."""
    spec = load_any(Path(__file__).parents[2] / "examples" / "train.yaml")
    assert isinstance(spec, train.TrainSpec)
    study = train.plan(spec, artifact(Path(spec.source)), "spirals-1")
    assert Study.from_json(json.loads(json.dumps(study.to_json()))) == study
