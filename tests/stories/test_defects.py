"""One story for each row of the table of defects in the systems that `train` replaces, driven by the real commands."""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import assay as package
from assay.core.experiment import ExperimentState
from assay.readers.training import iter_rows, read_any, read_experiments, resolve_active
from assay.track import ZOTrainingCallback, registry
from assay.track.experiments import create, ids, make_plan
from cli_call import Call, calling
from experiment_files import PLAN, RESULT, ExperimentFiles, sound

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Assay in a project of its own; no traceback, no defect."""
    return calling(tmp_path, monkeypatch, capsys)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The experiments of that project."""
    place = tmp_path / ".assay" / "experiments"
    place.mkdir(parents=True)
    return place


def tree(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def run_script(place: Path, code: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """A training script of a user, in a process of its own."""
    path = place / "train.py"
    path.write_text(code, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(path)], cwd=place, capture_output=True, text=True, check=False, **more
    )


def test_01_the_gate_does_not_pass_on_the_second_call(assay: Call, root: Path) -> None:
    """Asked three times about the same lack it says three times the same, and the folder stays byte for byte."""
    made = sound(root)
    (made.folder / "metrics.jsonl").unlink()
    (made.folder / "training_status.json").unlink()
    before = tree(root)
    said = [assay("gate", "training", "exp-001") for _ in range(3)]
    assert said[0].code == 5
    assert said[0].out == said[1].out == said[2].out
    assert tree(root) == before
    assert assay("experiment", "show", "exp-001", "--json").json["state"] == "trained"


@pytest.mark.parametrize(
    "spoil",
    ["empty files", "foreign content", "still training", "NaN loss", "NaN result", "checkpoint missing"],
)
def test_02_content_is_checked_not_existence(assay: Call, root: Path, spoil: str) -> None:
    """Each of the states that passed upstream is refused here."""
    if spoil == "still training":
        made = ExperimentFiles(root)
        made.created()
        made.started()
        made.step(1, loss=1.0)
        made.status(training=True, step=1)
        made.result()
        assert (assay("gate", "training", "exp-001").code, assay("experiment", "finish", "exp-001").code) == (
            4,
            2,
        )
        return
    made = sound(root)
    if spoil == "empty files":
        for name in ("metrics.jsonl", "training_status.json"):
            made.write(name, "")
    elif spoil == "foreign content":
        made.write("metrics.jsonl", "epoch,loss\n1,0.5\n")
        made.write("training_status.json", {"state": "fine"})
    elif spoil == "NaN loss":
        made.append(
            "metrics.jsonl",
            b'{"event": "step", "attempt": 1, "step": 100, "t": 5.0, "metrics": {"loss": NaN}}',
        )
    elif spoil == "NaN result":
        made.result(".nan")
    else:
        (made.folder / "checkpoints" / "ckpt-00000100" / "model.safetensors").unlink()
    said = assay("gate", "training", "exp-001")
    assert said.code in {1, 5}
    assert said.json["word"] != "ADVANCE"


def test_03_a_person_may_override_and_it_is_recorded(assay: Call, root: Path) -> None:
    """With its reason and the unmet items; the experiment does not stay `running`."""
    made = sound(root)
    (made.folder / "result.md").write_text("done, looks good", encoding="utf-8")
    said = assay(
        "experiment", "finish", "exp-001", "--override", "the result was shown in the meeting", "--json"
    )
    assert (said.code, said.json["recorded"]) == (0, "overridden")
    last = read_any(made.folder).events[-1]
    assert (last.event, last.fields["reason"]) == ("overridden", "the result was shown in the meeting")
    assert "result" in last.fields["unmet"]
    assert assay("experiment", "list", "--json").json["experiments"][0]["state"] == "overridden"


def test_04_an_empty_budget_does_not_let_a_bad_result_advance(assay: Call, root: Path) -> None:
    """Below the floor with no experiment left: a person is asked, the exit code is not 0."""
    made = ExperimentFiles(root)
    made.created()
    made.trained(accuracy=0.5)
    said = assay("gate", "training", "exp-001", "--iterations-left", "0")
    assert (said.code, said.json["word"], said.json["tier"]) == (1, "NEEDS_HUMAN", "fail")


def test_05_the_tier_is_computed_and_the_metric_must_be_the_declared_one(assay: Call, root: Path) -> None:
    """A claim of the highest tier for a value below the floor is refused, and so is the value of another metric."""
    low = ExperimentFiles(root, "exp-001")
    low.created()
    low.trained(accuracy=0.5)
    low.result(0.5, RESULT.replace("should_pass", "must_pass"))
    said = assay("gate", "training", "exp-001")
    assert (said.code, said.json["tier"], said.json["claimed_tier"]) == (5, "fail", "must_pass")
    other = sound(root, "exp-002")
    other.result(0.99, RESULT.replace("name: accuracy", "name: train_accuracy"))
    assert "the plan declares 'accuracy'" in assay("gate", "training", "exp-002").json["detail"]


def test_06_hypothesis_and_next_are_read_and_a_late_hypothesis_does_not_count(
    assay: Call, root: Path
) -> None:
    """They fill list and checklist; `assay train` can demand one; one written afterwards is no hypothesis."""
    made = sound(root)
    made.write("next.md", "# Next experiments\n\n## exp-NNN+1\n\n- try a deeper net\n")
    registry.refresh(root, whole=True)
    text = (root / "CHECKLIST.md").read_text("utf-8")
    assert "A wider layer reaches 0.9" in text
    assert "- try a deeper net" in text
    assert (
        assay("experiment", "list", "--json").json["experiments"][0]["hypothesis"].startswith("A wider layer")
    )
    refused = assay("train", "--require-hypothesis", "--", sys.executable, "-c", "pass")
    assert refused.code == 2
    assert "hypothesis" in refused.err
    late = ExperimentFiles(root, "exp-002")
    late.created()
    (late.folder / "hypothesis.md").unlink()
    late.trained()
    late.write("hypothesis.md", "# Hypothesis\n\nIt reaches 0.93, as I always said.\n")
    assert assay("gate", "training", "exp-002").json["items"]["hypothesis"] == "missing"


def test_07_a_nan_in_a_result_makes_nothing_unreadable(assay: Call, root: Path) -> None:
    """It is refused at the border, and a registry that holds one is written again from the records."""
    made = sound(root)
    made.result(".nan")
    finished = assay("experiment", "finish", "exp-001")
    assert finished.code == 5
    assert "not finite" in finished.out
    (root / "registry.json").write_text(
        '{"experiments": [{"id": "exp-001", "result": {"primary_metric": NaN}}]}'
    )
    assert assay("experiment", "list", "--recover").code == 0

    def refuse(token: str) -> None:
        raise AssertionError(token)

    json.loads((root / "registry.json").read_text("utf-8"), parse_constant=refuse)
    assert assay("experiment", "list", "--json").code == 0


@pytest.mark.slow
def test_08_twenty_processes_mint_twenty_experiments(root: Path) -> None:
    """No id is given twice, none is lost, and the registry knows all of them."""
    code = f"from assay.track.experiments import *; print(create(Path({str(root)!r})).name)"
    minting = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(20)
    ]
    said = [p.communicate(timeout=120) for p in minting]
    assert all(err == "" for _, err in said), said
    names = sorted(out.strip() for out, _ in said)
    assert names == [f"exp-{n:03d}" for n in range(1, 21)] == ids(root)
    entries = json.loads((root / "registry.json").read_text("utf-8"))["experiments"]
    assert sorted(e["id"] for e in entries) == names


def test_09_lineage_may_be_a_cycle_and_the_parent_is_a_complete_one(assay: Call, root: Path) -> None:
    """Nothing loops; an aborted experiment is no parent; the difference is to parent and to best."""
    plan = make_plan(primary_metric="accuracy", direction="max", thresholds={"floor": 0.8})
    first = sound(root, "exp-001", day=1, parent="exp-002")
    sound(root, "exp-002", day=2, parent="exp-001").event("aborted", reason="no")
    assert assay("experiment", "finish", "exp-001").code == 0
    view = assay("experiment", "show", "exp-001", "--json").json
    assert [a["id"] for a in view["lineage"]] == ["exp-002", "exp-001"]
    child = create(root, plan=plan)
    assert read_any(child).parent == first.folder.name
    better = sound(root, "exp-004", accuracy=0.96, day=4, parent="exp-002")
    assert assay("experiment", "finish", better.name).code == 0
    line = next(e for e in assay("experiment", "list", "--json").json["experiments"] if e["id"] == "exp-004")
    assert (line["compared_with"], line["best_before"]) == ("exp-001", "exp-001")
    assert line["delta_vs_parent"] == line["delta_vs_best"] == pytest.approx(0.03)


def test_10_the_dashboard_does_not_die_on_data(assay: Call, root: Path) -> None:
    """NaN, infinities, tensors as text, textual targets, the plan's own metric name, and garbage lines."""
    thresholds = {"floor": "> 0.8", "goal": "> 0.9"}
    made = ExperimentFiles(root)
    made.created(plan={"primary_metric": {"name": "accuracy", "direction": "max", "thresholds": thresholds}})
    made.started()
    for value in ("NaN", "Infinity", '"tensor(0.5)"', '"high"', "true", "null", "[1]", "0.7"):
        metrics = f'{{"accuracy": {value}, "loss": {value}}}'
        line = f'{{"event": "step", "attempt": 1, "step": 1, "t": 1.0, "metrics": {metrics}}}'
        made.append("metrics.jsonl", line.encode())
    made.append("metrics.jsonl", b"\x00\xff not a line")
    made.append("alerts.jsonl", b'{"id": 3, "class": NaN}')
    made.write("training_status.json", b'{"is_training": "maybe"')
    said = assay("watch", "exp-001", "--once")
    assert said.code == 0
    assert "accuracy" in said.out
    assert assay("experiment", "show", "exp-001").code == 0


def test_11_best_is_finite_and_lower_is_better_for_an_error(assay: Call, root: Path, tmp_path: Path) -> None:
    """A NaN first, then MAE falling and rising: the best is the smallest."""
    code = """
import assay
with assay.experiment("mae", primary_metric="mae", direction="min") as run:
    for step, value in enumerate([float("nan"), 0.5, 0.2, 0.4, float("nan")], 1):
        run.log({"loss": 1.0}, step=step)
        run.log_evaluation({"mae": value}, step=step)
"""
    assert run_script(tmp_path, code).returncode == 0
    metric = next(
        m for m in assay("experiment", "show", "exp-001", "--json").json["metrics"] if m["name"] == "mae"
    )
    assert (metric["best"], metric["best_step"], metric["nonfinite"]) == (0.2, 3, 2)
    status = json.loads((root / "exp-001" / "training_status.json").read_text("utf-8"))
    assert status["best_metrics"]["mae"] == 0.2


@pytest.mark.slow
def test_12_a_resume_is_another_attempt_that_remembers(assay: Call, root: Path, tmp_path: Path) -> None:
    """Best and history survive, wall time goes on, steps that were trained again count once."""
    code = """
import assay, os, sys, time
again = os.path.exists(".assay/experiments/exp-001")
run = assay.experiment("long", primary_metric="accuracy", direction="max", resume="exp-001" if again else None)
with run:
    for step in range(4 if again else 1, 9):
        run.log({"loss": 1.0 / step}, step=step)
        run.log_evaluation({"accuracy": 0.9 if step == 2 else 0.5}, step=step)
        if step == 6 and not again:
            run.flush()
            os._exit(9)
"""
    assert run_script(tmp_path, code).returncode == 9
    assert run_script(tmp_path, code).returncode == 0
    found = read_any(root / "exp-001")
    assert [a.number for a in found.attempts] == [1, 2]
    assert [r.step for r in iter_rows(root / "exp-001") if r.kind == "step"] == list(range(1, 9))
    assert (found.rows.replaced > 0, found.rows.metric("accuracy").best) == (True, 0.9)
    status = json.loads((root / "exp-001" / "training_status.json").read_text("utf-8"))
    assert (status["best_metrics"]["accuracy"], status["attempt"]) == (0.9, 2)
    assert assay("experiment", "show", "exp-001", "--json").json["state"] == "trained"


@pytest.mark.slow
def test_13_a_crash_does_not_train_for_ever(assay: Call, root: Path, tmp_path: Path) -> None:
    """-9 is `lost`, an exception is `crashed` with its text; neither is resolved as the active one."""
    kill = "import assay, os, signal\nrun = assay.experiment('k')\nrun.log({'a': 1.0}, step=1)\nrun.flush()\n"
    assert run_script(tmp_path, kill + "os.kill(os.getpid(), signal.SIGKILL)\n").returncode == -9
    status = json.loads((root / "exp-001" / "training_status.json").read_text("utf-8"))
    assert status["is_training"] is True
    broken = "import assay\nwith assay.experiment('b') as run:\n    run.log({'a': 1.0}, step=1)\n    1 / 0\n"
    assert run_script(tmp_path, broken).returncode == 1
    states = {e.id: e for e in read_experiments(root)}
    assert [e.state for e in states.values()] == [ExperimentState.LOST, ExperimentState.CRASHED]
    assert "ZeroDivisionError" in states["exp-002"].attempts[0].exception
    assert resolve_active(root) is None
    assert assay("experiment", "list", "--json").json["active"] is None


def test_14_unknown_keys_are_ignored(assay: Call, root: Path) -> None:
    """In the snapshot, in events, rows and alerts of a later version."""
    made = ExperimentFiles(root)
    made.created(colour="blue")
    made.event("something_new", None, depth={"a": [1]})
    made.trained()
    made.status(a_key_of_a_later_version={"x": 1})
    made.alert(severity="info", state="resolved", mood="fine")
    assert assay("gate", "training", "exp-001").code == 0
    watched = assay("watch", "exp-001", "--once")
    assert watched.code == 0
    assert "accuracy" in watched.out


def test_15_epochs_are_counted_when_they_are_done(assay: Call, root: Path) -> None:
    """Epoch index 4 of 5 is the fifth: progress ends at 5 of 5, also after the end."""
    made = ZOTrainingCallback.for_experiment(root, "exp-001")
    made.on_training_start(5)
    for epoch in range(5):
        made.on_epoch_end(epoch, 5, {"val_loss": 1.0 / (epoch + 1)}, learning_rate=0.1)
    made.on_training_end({"val_loss": 0.2})
    status = json.loads((root / "exp-001" / "training_status.json").read_text("utf-8"))
    assert (status["total_epochs"], status["learning_rate"]) == (5, 0.1)
    shown = assay("watch", "exp-001", "--once").out
    assert "5/5" in shown.replace(" of ", "/").replace(" / ", "/")


def test_16_there_is_one_resolver(assay: Call, root: Path) -> None:
    """List and watch show what `resolve_active` says; no module of ours knows the old paths."""
    sound(root, "exp-001", day=1).event("completed", reason="")
    living = ExperimentFiles(root, "exp-002", 2)
    living.created()
    living.started()
    assert resolve_active(root) == "exp-002"
    assert assay("experiment", "list", "--json").json["active"] == "exp-002"
    assert "exp-002" in assay("watch", "--once").out
    source = Path(package.__file__).parent
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert "logs/training" not in node.value, path


LOOP = """\
import json, pathlib, random, sys
import assay
config = json.loads(pathlib.Path(sys.argv[1]).read_text())
with assay.experiment("loop") as run:
    run.checkpoints(every_epochs=1, verify_every=0, best=None)
    if config.get("crash"):
        raise RuntimeError("out of luck")
    error = config["level"] + random.Random(config["seed"]).gauss(0, config["noise"])
    run.log({"loss": error})
    run.epoch_end(0, {"mae": error})
    run.checkpoint({"error": error}, {"mae": error}, epoch=0, reason="final")
    run.finish({"mae": error})
"""


def loop_of(place: Path, patches: list[dict[str, Any]], **more: Any) -> Path:
    """A study of that script; JSON is YAML."""
    (place / "loop.py").write_text(LOOP, encoding="utf-8")
    spec = {
        "schema": "train/1",
        "name": "loop",
        "source": "./loop.py",
        "train": {"kind": "train", "command": ["{python}", "{source}", "{config}"]},
        "config": {"level": 5000.0, "noise": 50.0},
        "metric": {"name": "mae", "direction": "min", "floor": 9000.0, "goal": 100.0},
        "propose": {
            "kind": "patches",
            "patches": [{"patch": p, "hypothesis": f"idea {n} helps"} for n, p in enumerate(patches)],
        },
        **more,
    }
    path = place / "loop.yaml"
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path


@pytest.mark.slow
def test_17_failed_experiments_count(assay: Call, tmp_path: Path) -> None:
    """A loop whose experiments crash ends after as many as its failure budget says, not after 59."""
    crashing = [{"crash": n} for n in range(1, 6)]
    spec = loop_of(tmp_path, crashing, seeds=1, budget={"trials": 50, "failures": 2})
    said = assay("run", spec, "--json", "--no-report")
    assert said.json["why"] == "the budget of 2 failed trials is used up"
    assert [t["outcome"] for t in said.json["trials"]] == ["ACCEPT", "INFEASIBLE", "INFEASIBLE"]
    assert said.code == 3


@pytest.mark.slow
def test_18_a_plateau_is_measured_in_seed_noise(assay: Call, tmp_path: Path) -> None:
    """An error in the thousands that falls by less than its seeds differ is a plateau; a fixed epsilon never sees it."""
    falling = [{"level": 5000.0 - 3.0 * n} for n in range(1, 6)]
    spec = loop_of(tmp_path, falling, seeds=2, stop={"plateau_trials": 2})
    said = assay("run", spec, "--json", "--no-report")
    assert said.json["why"].startswith("plateau: 2 trials in a row brought no progress beyond mae = ")
    assert len(said.json["trials"]) == 3
    assert [t["outcome"] for t in said.json["trials"]] == [
        "ACCEPT"
    ] * 3  # each better, none by more than the noise
    assert "1 SD of the seeds is" in said.json["why"]
    # Where the seeds hardly differ the same falls are progress, and it goes on to the end of the list.
    quiet = assay(
        "run", spec, "--json", "--no-report", "--set", "config.noise=0.1", "--set", "budget.trials=4"
    )
    assert quiet.json["why"] == "the budget of 4 trials is used up"


def test_19_every_line_is_strict_json(root: Path, tmp_path: Path) -> None:
    """A NaN is null and named."""
    code = """
import assay
with assay.experiment("nan") as run:
    run.log({"loss": float("nan"), "other": float("-inf")}, step=1)
    run.log_evaluation({"accuracy": float("inf")}, step=1)
    run.epoch_end(0, {"val_loss": float("nan")})
"""
    assert run_script(tmp_path, code).returncode == 0

    def refuse(token: str) -> None:
        raise AssertionError(token)

    folder = root / "exp-001"
    for name in ("metrics.jsonl", "events.jsonl"):
        for line in (folder / name).read_text("utf-8").splitlines():
            json.loads(line, parse_constant=refuse)
    json.loads((folder / "training_status.json").read_text("utf-8"), parse_constant=refuse)
    first = next(r for r in iter_rows(folder) if r.kind == "step")
    assert (first.fields["metrics"]["loss"], first.nonfinite) == (None, {"loss": "nan", "other": "-inf"})


def test_20_steps_signals_and_throughput_are_recorded(assay: Call, root: Path, tmp_path: Path) -> None:
    """A plain loop over a loader yields step rows with their times, and progress against the plan."""
    code = """
import assay, time
with assay.experiment("steps", total_steps=12) as run:
    for batch in run.track(range(12)):
        time.sleep(0.002)
        run.log({"loss": 1.0 / (batch + 1)})
"""
    assert run_script(tmp_path, code).returncode == 0
    rows = [r for r in iter_rows(root / "exp-001") if r.kind == "step"]
    assert len(rows) == 12
    assert all(r.t is not None and math.isfinite(r.t) for r in rows)
    assert sum(r.signals.get("step_s", 0.0) > 0.001 for r in rows) >= 8
    assert any("data_wait_s" in r.signals for r in rows)
    progress = assay("experiment", "show", "exp-001", "--json").json["progress"]
    assert progress["total_steps"] == PLAN["total_steps"] - 88
