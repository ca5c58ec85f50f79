"""`assay experiment` and `assay gate training`: files in, answers out, exit codes as designed."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from assay.core.experiment import ExperimentState
from assay.readers.training import read_any, read_state
from assay.track.system import process_started
from cli_call import Call
from experiment_files import PLAN, RESULT, ExperimentFiles, boot_id, sha, sound

OLD_EVENT = {"timestamp": "2026-01-02T03:04:05+00:00", "experiment_id": "exp-001", "experiment_name": "n"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the experiments, of a project that has none."""
    place = tmp_path / ".assay" / "experiments"
    place.mkdir(parents=True)
    return place


def tree(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes, but locks."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_the_list_names_metric_tier_and_difference(assay: Call, root: Path) -> None:
    """Oldest first; the difference is to the nearest ancestor with a result, and to the best before."""
    sound(root, "exp-001", day=1).event("completed", reason="")
    sound(root, "exp-002", accuracy=0.95, day=2, parent="exp-001").event("aborted", reason="no")
    sound(root, "exp-003", accuracy=0.9, day=3, parent="exp-002")
    said = assay("experiment", "list", "--json")
    assert said.code == 0
    lines = {line["id"]: line for line in said.json["experiments"]}
    assert list(lines) == ["exp-001", "exp-002", "exp-003"]
    assert [line["tier"] for line in lines.values()] == ["goal", "goal", "goal"]
    assert lines["exp-003"]["compared_with"] == "exp-001"  # its parent was aborted
    assert lines["exp-003"]["delta_vs_parent"] == pytest.approx(-0.03)
    assert lines["exp-003"]["best_before"] == "exp-001"
    assert said.json["active"] == "exp-003"
    shown = assay("experiment", "list").out
    assert "accuracy=0.9" in shown
    assert "A wider layer reaches 0.9" in shown


def test_what_cannot_be_listed_is_named(assay: Call, root: Path) -> None:
    """A folder that is no experiment is said to be left out; an id that was only reserved is nothing."""
    sound(root, "exp-001")
    (root / "exp-002").mkdir()
    (root / "exp-003" / "events.jsonl").mkdir(parents=True)
    said = assay("experiment", "list", "--json")
    assert [line["id"] for line in said.json["experiments"]] == ["exp-001"]
    assert said.err.count("\n") == 1
    assert "exp-003: no experiment" in said.err
    assert "left out" in said.err


def test_the_list_can_be_of_one_phase(assay: Call, root: Path) -> None:
    """And says where it looked if there is none."""
    sound(root, phase="tuning")
    assert [
        e["id"] for e in assay("experiment", "list", "--phase", "tuning", "--json").json["experiments"]
    ] == ["exp-001"]
    nothing = assay("experiment", "list", "--phase", "train")
    assert (nothing.code, nothing.out) == (0, "")
    assert "no experiments of phase train" in nothing.err


def test_the_registry_is_recovered_from_the_records(assay: Call, root: Path) -> None:
    """registry.json and CHECKLIST.md may be garbage or gone."""
    made = sound(root)
    made.write("next.md", "# Next experiments\n\n## exp-NNN+1\n\n- deeper net\n")
    made.event("result", digest=f"sha256:{sha((made.folder / 'result.md').read_bytes())}", metrics={"f1": 0.91},
               primary={"name": "accuracy", "value": 0.93}, tier="goal")  # fmt: skip
    made.event("completed", reason="")
    (root / "registry.json").write_text('{"experiments": NaN')
    assert assay("experiment", "list", "--recover").code == 0
    entry = json.loads((root / "registry.json").read_text("utf-8"))["experiments"][0]
    assert (entry["id"], entry["status"]) == ("exp-001", "complete")
    assert entry["result"]["primary_metric"] == {"name": "accuracy", "value": 0.93, "delta_vs_parent": None}
    checklist = (root / "CHECKLIST.md").read_text("utf-8")
    assert "| Exp | Parent | Status | Hypothesis | Metric | Δ vs parent | Tier | Top shortfall |" in checklist
    assert "A wider layer reaches 0.9" in checklist
    assert "class 3 is confused with class 8" in checklist
    assert "## Next planned\n\n- deeper net" in checklist


def test_show_has_everything(assay: Call, root: Path) -> None:
    """State, attempts, metrics with best, alerts, checkpoints, lineage."""
    sound(root, "exp-001", day=1).event("completed", reason="")
    made = sound(root, "exp-002", day=2, parent="exp-001")
    made.alert(severity="warning")
    view = assay("experiment", "show", "exp-002", "--json").json
    assert view["state"] == "trained"
    assert [a["id"] for a in view["lineage"]] == ["exp-001", "exp-002"]
    metric = next(m for m in view["metrics"] if m["name"] == "val_loss")
    assert (metric["last"], metric["best"], metric["direction"]) == (0.3, 0.3, "lower")
    assert view["checkpoints"][0]["verified"] == ["restore"]
    assert [a["id"] for a in view["alerts"]] == ["a-0001"]
    text = assay("experiment", "show", "2")
    assert text.code == 0
    for word in ("exp-001 → exp-002", "val_loss", "verified by restore", "a-0001 warning open", "attempt 1"):
        assert word in text.out


@pytest.mark.parametrize("command", ["show", "note", "abort", "finish", "export", "gate"])
def test_an_unknown_id_is_refused_with_the_known_ones(assay: Call, root: Path, command: str) -> None:
    """Exit 2."""
    sound(root)
    more = {"note": ["x"], "abort": ["--reason", "x"]}.get(command, [])
    arguments = ["gate", "training"] if command == "gate" else ["experiment", command]
    said = assay(*arguments, "exp-042", *more)
    assert said.code == 2
    assert "exp-001" in said.out + said.err


def test_diff_by_declared_direction(assay: Call, root: Path) -> None:
    """A lower val_loss is better, a lower accuracy is worse; configuration and shortfalls are compared."""
    sound(root, "exp-001")
    b = sound(root, "exp-002", accuracy=0.9)
    b.evaluated(100, accuracy=0.9, val_loss=0.2)
    b.write("config.yaml", {"lr": 0.2, "layers": [64, 64], "dropout": 0.1})
    b.result(0.9, RESULT.replace("- slow on long inputs", "- needs more memory"))
    document = assay("experiment", "diff", "exp-001", "exp-002", "--json").json
    assert document["primary"]["b_is"] == "worse"
    assert {m["name"]: m["b_is"] for m in document["metrics"]}["val_loss"] == "better"
    assert [(c["mark"], c["key"]) for c in document["config"]] == [
        ("+", "dropout"),
        ("~", "lr"),
        ("-", "seed"),
    ]
    assert [(s["mark"], s["text"][:5]) for s in document["shortfalls"]] == [
        ("=", "class"),
        ("-", "slow "),
        ("+", "needs"),
    ]
    text = assay("experiment", "diff", "1", "2").out
    assert "worse" in text
    assert "lr: 0.1 → 0.2" in text


def test_a_note_is_an_event(assay: Call, root: Path) -> None:
    """Chained like every other; an empty one is refused."""
    made = sound(root)
    assert assay("experiment", "note", "exp-001", "looked at it").code == 0
    found = read_any(made.folder)
    assert found.notes == ("looked at it",)
    assert found.chain_intact
    assert assay("experiment", "note", "exp-001", "  ").code == 2


def test_finish_completes_what_is_whole(assay: Call, root: Path) -> None:
    """Result, verdict and the end are recorded once; a second time is refused and changes nothing."""
    made = sound(root)
    said = assay("experiment", "finish", "exp-001", "--json")
    assert (said.code, said.json["status"], said.json["word"], said.json["recorded"]) == (
        0,
        "PASS",
        "ADVANCE",
        "completed",
    )
    found = read_any(made.folder)
    assert found.state is ExperimentState.COMPLETE
    kinds = [e.event for e in found.events]
    assert kinds[-3:] == ["result", "judged", "completed"]
    assert found.events[-3].fields["tier"] == "goal"
    before = tree(made.folder)
    again = assay("experiment", "finish", "exp-001")
    assert again.code == 2
    assert "has ended" in again.err
    assert tree(made.folder) == before
    assert assay("gate", "training", "exp-001").json["word"] == "ADVANCE"


def test_finish_leaves_what_is_incomplete(assay: Call, root: Path) -> None:
    """The verdict is recorded, the state stays, the exit code is the gate's."""
    made = sound(root)
    (made.folder / "training_status.json").unlink()
    said = assay("experiment", "finish", "exp-001", "--json")
    assert (said.code, said.json["word"], said.json["recorded"]) == (5, "HOLD_INCOMPLETE", "nothing")
    assert read_state(made.folder).state is ExperimentState.EVALUATED


def test_finish_below_the_floor_completes_and_says_iterate(assay: Call, root: Path) -> None:
    """The evidence is whole and it is not good enough: that is a result."""
    made = ExperimentFiles(root)
    made.created()
    made.trained(accuracy=0.5)
    said = assay("experiment", "finish", "exp-001", "--json")
    assert (said.code, said.json["word"], said.json["recorded"]) == (1, "ITERATE", "completed")
    assert read_state(made.folder).state is ExperimentState.COMPLETE


def test_an_override_needs_a_reason_and_records_what_is_unmet(assay: Call, root: Path) -> None:
    """The state is `overridden`, not `complete`, and the gate still says what is wrong."""
    made = sound(root)
    (made.folder / "training_status.json").unlink()
    assert assay("experiment", "finish", "exp-001", "--override", " ").code == 2
    said = assay("experiment", "finish", "exp-001", "--override", "the disk was lost", "--json")
    assert (said.code, said.json["recorded"], said.json["pass"]) == (0, "overridden", False)
    found = read_any(made.folder)
    assert (found.state, found.ended_by, found.unmet) == (
        ExperimentState.OVERRIDDEN,
        "the disk was lost",
        ("status",),
    )
    assert assay("gate", "training", "exp-001").code == 5


def test_finish_refuses_what_still_trains(assay: Call, root: Path) -> None:
    """Also with an override; nothing is written."""
    made = ExperimentFiles(root)
    made.created()
    made.started()
    before = tree(made.folder)
    said = assay("experiment", "finish", "exp-001", "--override", "now")
    assert said.code == 2
    assert "still trains" in said.err
    assert tree(made.folder) == before


def test_abort_of_what_does_not_run(assay: Call, root: Path) -> None:
    """The reason is recorded; the end is final."""
    made = sound(root)
    assert assay("experiment", "abort", "exp-001", "--reason", "wrong data").code == 0
    found = read_state(made.folder)
    assert (found.state, found.ended_by) == (ExperimentState.ABORTED, "wrong data")
    assert assay("experiment", "abort", "exp-001", "--reason", "again").code == 2


def _sleeper(made: ExperimentFiles, code: str) -> subprocess.Popen[bytes]:
    """A process that is recorded as the attempt's."""
    child = subprocess.Popen([sys.executable, "-c", code])
    made.created()
    made.started(pid=child.pid, process_started=process_started(child.pid), boot_id=boot_id())
    return child


@pytest.mark.slow
def test_abort_asks_a_training_to_stop(assay: Call, root: Path) -> None:
    """stop.json is what it sees; the process ends by itself and only then the end is recorded."""
    made = ExperimentFiles(root)
    stop = made.folder / "stop.json"
    code = f"import pathlib, time\nwhile not pathlib.Path({str(stop)!r}).exists(): time.sleep(0.05)"
    child = _sleeper(made, code)
    said = assay("experiment", "abort", "exp-001", "--reason", "too slow", "--wait-s", "20")
    assert (said.code, child.wait(5)) == (0, 0)
    request = json.loads(stop.read_text("utf-8"))
    assert (request["schema"], request["reason"], request["checkpoint"]) == ("stop/1", "too slow", True)
    assert read_state(made.folder).state is ExperimentState.ABORTED


@pytest.mark.slow
def test_abort_ends_only_on_request_and_only_the_recorded_process(assay: Call, root: Path) -> None:
    """Without --kill a deaf training goes on and nothing is recorded; with it the process is ended."""
    made = ExperimentFiles(root)
    child = _sleeper(made, "import time\ntime.sleep(120)")
    said = assay("experiment", "abort", "exp-001", "--reason", "hangs", "--wait-s", "0.3")
    assert said.code == 4
    assert "--kill" in said.err
    assert child.poll() is None
    assert read_state(made.folder).state is ExperimentState.RUNNING
    assert assay("experiment", "abort", "exp-001", "--reason", "hangs", "--wait-s", "0.1", "--kill").code == 0
    assert child.wait(5) == -signal.SIGTERM
    assert read_state(made.folder).state is ExperimentState.ABORTED


def test_abort_never_ends_a_process_that_took_the_pid(assay: Call, root: Path) -> None:
    """The recorded start time is another one: the attempt is lost, and our process lives."""
    made = ExperimentFiles(root)
    made.created()
    made.started(pid=os.getppid(), process_started=12.0)
    assert assay("experiment", "abort", "exp-001", "--reason", "gone", "--wait-s", "0", "--kill").code == 0
    os.kill(os.getppid(), 0)


def test_export_csv_has_the_rows_that_count(assay: Call, root: Path) -> None:
    """A column a metric; a non-finite value stands as its word."""
    made = sound(root)
    bad = {
        "event": "step",
        "attempt": 1,
        "step": 110,
        "t": 2.0,
        "metrics": {"loss": None},
        "nonfinite": {"loss": "nan"},
    }
    made.append("metrics.jsonl", bad)
    rows = list(csv.DictReader(io.StringIO(assay("experiment", "export", "exp-001", "--format", "csv").out)))
    assert len(rows) == 13
    assert (rows[0]["step"], rows[0]["loss"], rows[-1]["loss"]) == ("10", "0.1", "nan")
    assert [r["accuracy"] for r in rows if r["event"] == "evaluation"] == ["0.85", "0.93"]


def test_export_json_is_the_evidence(assay: Call, root: Path) -> None:
    """The very document that the gate judges."""
    made = sound(root)
    document = assay("experiment", "export", "exp-001").json
    assert document.pop("schema") == "experiment/1"
    assert document == read_any(made.folder, digests=True).to_json()


def test_export_bundle_pins_every_file(assay: Call, root: Path, tmp_path: Path) -> None:
    """A zip with the digest of each file and the verdict on them; checkpoints on request."""
    made = sound(root)
    out = tmp_path / "b.zip"
    assert (
        assay("experiment", "export", "exp-001", "--format", "bundle", "--out", out, "--checkpoints").code
        == 0
    )
    with zipfile.ZipFile(out) as bundle:
        manifest = json.loads(bundle.read("exp-001/MANIFEST.json"))
        for entry in manifest["files"]:
            assert sha(bundle.read(f"exp-001/{entry['name']}")) == entry["sha256"].removeprefix("sha256:")
    assert manifest["verdict"]["status"] == "PASS"
    assert "checkpoints/ckpt-00000100/model.safetensors" in {e["name"] for e in manifest["files"]}
    assert {"events.jsonl", "metrics.jsonl"} <= {e["name"] for e in manifest["files"]}
    assert assay("experiment", "export", "exp-001", "--format", "bundle", "--out", out).code == 2
    assert made.folder.exists()


def zo(folder: Path) -> Path:
    """An older project: two experiments, the second a child of the first."""
    source = folder / ".zo" / "experiments"
    entries = []
    for number, (status, value) in enumerate((("complete", 0.9), ("running", 0.93)), 1):
        name = f"exp-00{number}"
        place = source / name
        place.mkdir(parents=True)
        rows = [{**OLD_EVENT, "event": "training_start", "epoch": 0, "total_epochs": 1, "config": {}},
                {**OLD_EVENT, "event": "epoch_end", "epoch": 0, "metrics": {"accuracy": value}},
                {**OLD_EVENT, "event": "training_end", "metrics": {"accuracy": value}}]  # fmt: skip
        (place / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        (place / "training_status.json").write_text(
            '{"is_training": false, "epoch": 0, "experiment_id": "' + name + '"}'
        )
        (place / "result.md").write_text(RESULT.replace("{value}", str(value)))
        (place / "hypothesis.md").write_text("# Hypothesis\n\nIt helps.\n")
        parent = "exp-001" if number == 2 else None
        entries.append(
            {
                "id": name,
                "phase": "phase_4",
                "parent_id": parent,
                "status": status,
                "created": f"2026-01-0{number}",
            }
        )
    (source / "registry.json").write_text(
        json.dumps({"schema_version": 1, "project": "p", "experiments": entries})
    )
    return source


def test_import_keeps_ids_and_bytes_and_says_self_reported(assay: Call, root: Path, tmp_path: Path) -> None:
    """Taken over twice it is there once; no gate believes it."""
    source = zo(tmp_path / "older")
    said = assay("experiment", "import", source, "--json")
    assert (said.code, said.json["imported"]) == (0, ["exp-001", "exp-002"])
    for name in ("exp-001", "exp-002"):
        mine, theirs = tree(root / name), tree(source / name)
        assert {k: v for k, v in mine.items() if k in theirs} == theirs
    lines = assay("experiment", "list", "--json").json["experiments"]
    assert [(e["state"], e["provenance"], e["parent"]) for e in lines] == [
        ("complete", "self_reported", None),
        ("evaluated", "self_reported", "exp-001"),
    ]
    assert lines[1]["delta_vs_parent"] == pytest.approx(0.03)
    assert lines[0]["claimed_tier"] == "should_pass"
    verdict = assay("gate", "training", "exp-001")
    assert (verdict.code, verdict.json["word"]) == (5, "HOLD_INCOMPLETE")
    assert assay("experiment", "import", source, "--json").json["there"] == ["exp-001", "exp-002"]


def test_import_never_writes_over_another_experiment(assay: Call, root: Path, tmp_path: Path) -> None:
    """The id is taken: refused, and nothing was copied."""
    sound(root, "exp-002")
    before = tree(root)
    said = assay("experiment", "import", zo(tmp_path / "older"))
    assert said.code == 2
    assert "exp-002" in said.err
    assert tree(root) == before


def test_the_older_layout_can_be_looked_at_where_it_lies(assay: Call, tmp_path: Path) -> None:
    """Without an import, by every command; what would write is refused with the way to do it."""
    source = zo(tmp_path)
    assert [e["id"] for e in assay("experiment", "list", "--json").json["experiments"]] == [
        "exp-001",
        "exp-002",
    ]
    assert assay("gate", "training", source / "exp-001").code == 5
    assert assay("watch", "--once").out.startswith("exp-00")
    assert assay("checkpoint", "list", "exp-001").code == 0
    assert assay("report", "exp-001", "--out", tmp_path / "report.html").code == 0
    refused = assay("experiment", "note", "exp-001", "x")
    assert refused.code == 2
    assert "assay experiment import" in refused.err


def test_export_zo_is_what_an_older_reader_takes(assay: Call, root: Path, tmp_path: Path) -> None:
    """Only the old keys, strict JSON, relative paths; and it can be taken over again."""
    made = sound(root)
    made.write(
        "training_status.json",
        {"schema": "x", "experiment_id": "exp-001", "is_training": False, "epoch": 0, "step": 1},
    )
    out = tmp_path / "out"
    assert assay("experiment", "export", "--format", "zo", "--out", out).code == 0
    status = json.loads((out / "exp-001" / "training_status.json").read_text("utf-8"))
    assert set(status) == {"experiment_id", "is_training", "epoch"}
    rows = [json.loads(line) for line in (out / "exp-001" / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert {r["event"] for r in rows} == {"epoch_end"}
    entry = json.loads((out / "registry.json").read_text("utf-8"))["experiments"][0]
    assert entry["artifacts_dir"] == "exp-001"
    assert "exp-001" in (out / "CHECKLIST.md").read_text("utf-8")
    assert assay("experiment", "import", out, "--root", tmp_path / "again").code == 0


def test_the_gate_takes_its_policy_from_options(assay: Call, root: Path) -> None:
    """A folder or an id; JSON on stdout whatever happens."""
    made = sound(root, accuracy=0.85)
    assert assay("gate", "training", "exp-001").code == 0
    refused = assay(
        "gate", "training", made.folder, "--advance-tier", "goal", "--iterations-left", "0", "--json"
    )
    assert (refused.code, refused.json["word"]) == (1, "NEEDS_HUMAN")
    assert refused.json["inputs"]["experiment"] == str(made.folder)
    assert PLAN["total_steps"] == 100
    wrong = assay("gate", "training", "exp-001", "--iterations-left", "-1")
    assert (wrong.code, wrong.json["status"]) == (2, "ERROR")


def test_runs_of_another_tracker_become_experiments(assay: Call, root: Path, tmp_path: Path) -> None:
    """A folder that MLflow left: rows, configuration and end; once, self-reported, and believed by no gate."""
    run = tmp_path / "mlruns" / "0" / "abc123"
    for name in ("metrics", "params", "tags"):
        (run / name).mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("experiment_id: '0'\nname: Default\n")
    meta = "run_id: abc123\nrun_name: brave\nexperiment_id: '0'\nstatus: 3\nstart_time: 1767322800000\n"
    (run / "meta.yaml").write_text(meta + "end_time: 1767322900000\nlifecycle_stage: active\n")
    (run / "metrics" / "loss").write_text("1767322801000 0.5 1\n1767322802000 nan 2\n1767322803000 0.25 3\n")
    (run / "params" / "lr").write_text("0.1")
    sound(root)
    said = assay("experiment", "import", tmp_path / "mlruns", "--from", "mlflow", "--json")
    assert (said.code, said.json["imported"]) == (0, ["exp-002"])
    found = read_any(root / "exp-002", digests=True)
    assert (found.chain_intact, found.provenance.value, found.name) == (True, "self_reported", "brave")
    assert (found.rows.steps, found.rows.last_step, found.config["lr"]) == (3, 3, "0.1")
    assert found.state is ExperimentState.TRAINED
    assert assay("gate", "training", "exp-002").json["word"] == "HOLD_INCOMPLETE"
    assert assay("experiment", "import", tmp_path / "mlruns", "--from", "mlflow", "--json").json["there"] == [
        "exp-002"
    ]
