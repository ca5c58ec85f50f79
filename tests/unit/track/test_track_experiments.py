"""Ids, plans, hypotheses, parents, registry.json and CHECKLIST.md."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from assay.track import directions, experiments, files, registry


def finished(root: Path, value: float, **how: Any) -> Path:
    """A complete experiment with a result."""
    plan = experiments.make_plan(primary_metric="val_loss", thresholds={"floor": 1.0, "goal": "<= 0.5"})
    folder = experiments.create(root, plan=plan, **how)
    primary = {"name": "val_loss", "value": value}
    files.append_event(folder, "result", 1, {"primary": primary, "metrics": {"val_loss": value, "acc": 0.5}})
    files.append_event(folder, "completed", 1, {"reason": "gate"})
    registry.refresh(root)
    return folder


def entry(root: Path, ident: str) -> dict[str, Any]:
    """What registry.json says of an experiment."""
    known = json.loads((root / "registry.json").read_text())
    return next(e for e in known["experiments"] if e["id"] == ident)


@pytest.mark.slow
def test_twenty_processes_get_twenty_ids(tmp_path: Path) -> None:
    """Minting at once gives everybody an id of his own, and a registry that knows them all."""
    code = (
        "import sys, time; from pathlib import Path; from assay.track import experiments\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "print(experiments.create(Path(sys.argv[1])).name)"
    )
    start = str(time.time() + 3)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), start], stdout=subprocess.PIPE, text=True
        )
        for _ in range(20)
    ]
    names = {worker.communicate()[0].strip() for worker in workers}
    assert names == {f"exp-{n:03d}" for n in range(1, 21)}
    known = json.loads((tmp_path / "registry.json").read_text())
    assert {e["id"] for e in known["experiments"]} == names


def test_an_id_is_not_given_twice_though_its_folder_is_gone(tmp_path: Path) -> None:
    """What registry.json lists counts as taken."""
    (tmp_path / "registry.json").write_text(json.dumps({"experiments": [{"id": "exp-007"}]}))
    assert experiments.mint(tmp_path).name == "exp-008"


def test_the_root_is_the_nearest_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.assay` of a folder above is found; ASSAY_HOME comes before it."""
    (tmp_path / ".assay").mkdir()
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert experiments.experiments_root() == tmp_path / ".assay" / "experiments"
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "other"))
    assert experiments.experiments_root() == tmp_path / "other" / "experiments"


def test_a_plan_takes_thresholds_as_people_write_them() -> None:
    """`> 0.9` and `90 %` are numbers once and for all; the sign tells the direction."""
    plan = experiments.make_plan(primary_metric="score_x", thresholds={"floor": "> 0.8", "goal": "90 %"})
    assert plan["primary_metric"]["thresholds"] == {"floor": 0.8, "goal": 0.9}
    assert plan["primary_metric"]["direction"] == "max"


@pytest.mark.parametrize(
    "wrong",
    [
        {"primary_metric": "loss", "direction": "sideways"},
        {"primary_metric": "loss", "thresholds": {"top": 1}},
        {"primary_metric": "loss", "thresholds": {"goal": "good"}},
        {"primary_metric": "loss", "thresholds": {"goal": float("nan")}},
        {"primary_metric": "loss", "direction": "min", "thresholds": {"goal": "> 0.9"}},
        {"thresholds": {"goal": 1.0}},
        {"direction": "min"},
    ],
)
def test_a_plan_that_cannot_be_understood_is_refused(wrong: dict[str, Any]) -> None:
    """A wrong plan ends before the training, not after it."""
    with pytest.raises(ValueError, match=r"."):
        experiments.make_plan(**wrong)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("val_loss", "min"), ("MAE", "min"), ("test/rmse", "min"), ("perplexity", "min"), ("wer", "min"),
        ("error_rate", "min"), ("CrossEntropy", "min"), ("l1", "min"), ("valLoss", "min"), ("mlogloss", "min"),
        ("accuracy", "max"), ("val_f1", "max"), ("auc", "max"), ("neg_mean_squared_error", "max"), ("r2", "max"),
        ("samples_per_second", "max"), ("mAP", "max"), ("log_likelihood", "max"), ("bleu", "max"), ("closseness", "max"),
    ],
)  # fmt: skip
def test_the_direction_of_a_name(name: str, way: str) -> None:
    """Without a declaration the name decides, by a table and not by the word loss alone."""
    assert directions.infer(name) == way


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"primary_metric": "gap"}, True),
        ({"primary_metric": "gap", "direction": "min"}, False),
        ({"primary_metric": "gap", "thresholds": {"goal": "< 3"}}, False),
        ({"primary_metric": "val_acc"}, False),
        ({"primary_metric": "val_loss"}, False),
        ({"primary_metric": "neg_mae"}, False),
    ],
)
def test_a_guessed_direction_is_said(
    given: dict[str, Any], said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Best, rotation and gate follow it: where neither the plan nor the name tells, a line on stderr does."""
    experiments.make_plan(**given)
    assert ("'gap'" in capsys.readouterr().err) is said


def test_a_declared_direction_counts() -> None:
    """What the plan says comes before what the name suggests."""
    plan = experiments.make_plan(
        primary_metric="loss_of_weight", direction={"loss_of_weight": "max", "x": "min"}
    )
    assert directions.direction_of("loss_of_weight", plan) == "max"
    assert directions.direction_of("x", plan) == "min"


def test_the_hypothesis_is_recorded_when_it_is_seen_and_when_it_changes(tmp_path: Path) -> None:
    """Its digest stands in the events, once a version."""
    folder = experiments.create(tmp_path, hypothesis="Wider is better.\nBy a lot.\n\nMore text.")
    known = experiments.known_hypothesis(files.read_events(folder))
    assert experiments.ingest_hypothesis(folder, None, known) == known
    (folder / "hypothesis.md").write_text("# Hypothesis\n\nDeeper is better.\n")
    experiments.ingest_hypothesis(folder, None, known)
    texts = [e["text"] for e in files.read_events(folder) if e["event"] == "hypothesis"]
    assert texts == ["Wider is better. By a lot.", "Deeper is better."]


def test_a_hypothesis_is_taken_from_a_file(tmp_path: Path) -> None:
    """A path that exists is read, front matter and all."""
    source = tmp_path / "idea.md"
    source.write_text("---\nexp_id: x\n---\n# Hypothesis\n\nAn idea.\n\n## Rationale\n\nBecause.\n")
    folder = experiments.create(tmp_path / "root", hypothesis=str(source))
    assert (folder / "hypothesis.md").read_text() == source.read_text()
    assert entry(tmp_path / "root", "exp-001")["hypothesis"] == "An idea."
    assert entry(tmp_path / "root", "exp-001")["rationale"] == "Because."


def test_the_parent_is_the_best_complete_experiment(tmp_path: Path) -> None:
    """Not the last one, not an aborted one; Δ is taken against the nearest complete ancestor."""
    finished(tmp_path, 0.9)
    finished(tmp_path, 0.4)
    finished(tmp_path, 0.6)
    plan = experiments.make_plan(primary_metric="val_loss")
    child = experiments.create(tmp_path, plan=plan)
    assert entry(tmp_path, child.name)["parent_id"] == "exp-002"
    files.append_event(child, "aborted", None, {"reason": "no"})
    finished(tmp_path, 0.3, parent=child.name)
    made = entry(tmp_path, "exp-005")
    assert made["parent_id"] == "exp-004"
    assert made["result"]["primary_metric"]["delta_vs_parent"] == pytest.approx(-0.1)
    assert made["result"]["oracle_tier"] == "should_pass"


def test_a_parent_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """And no id is spent."""
    with pytest.raises(ValueError, match="no experiment 'exp-9'"):
        experiments.create(tmp_path, parent="exp-9")
    assert experiments.ids(tmp_path) == []


def test_lineage_ends_at_a_cycle() -> None:
    """A cycle in parent ids is no endless loop."""
    entries = [{"id": "a", "parent_id": "b"}, {"id": "b", "parent_id": "a"}]
    assert registry.lineage(entries, "a") == ["b", "a"]


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"experiments": 3}', '{"experiments": [null, {"id": 4}]}', None]
)
def test_the_registry_is_recovered_from_the_experiments(tmp_path: Path, damage: str | None) -> None:
    """Lost or broken, it is derived again from the per-experiment records."""
    finished(tmp_path, 0.4)
    before = entry(tmp_path, "exp-001")
    path = tmp_path / "registry.json"
    path.unlink() if damage is None else path.write_text(damage)
    registry.refresh(tmp_path)
    assert entry(tmp_path, "exp-001") == before


def test_an_experiment_of_the_older_layout_keeps_its_entry(tmp_path: Path) -> None:
    """A folder without events is not judged anew."""
    (tmp_path / "exp-001").mkdir(parents=True)
    old = {
        "id": "exp-001",
        "phase": "p",
        "status": "complete",
        "created": "2024-01-01T00:00:00Z",
        "parent_id": None,
    }
    (tmp_path / "registry.json").write_text(json.dumps({"project": "mine", "experiments": [old]}))
    experiments.create(tmp_path)
    assert entry(tmp_path, "exp-001") == old
    assert json.loads((tmp_path / "registry.json").read_text())["project"] == "mine"


def test_nan_in_a_result_does_not_poison_the_registry(tmp_path: Path) -> None:
    """A result that is not finite is none; every later load works."""
    folder = experiments.create(tmp_path)
    (folder / "result.md").write_text(
        "---\noracle_tier: must_pass\nprimary_metric: {name: f1, value: nan}\n---\n"
    )
    registry.refresh(tmp_path)
    assert entry(tmp_path, "exp-001")["result"] is None


def test_a_result_file_is_read_as_in_the_older_layout(tmp_path: Path) -> None:
    """Front matter in both forms, shortfalls, next ideas with the template's own title."""
    folder = experiments.create(tmp_path)
    (folder / "result.md").write_text(
        "---\noracle_tier: should_pass\nprimary_metric:\n  name: f1\n  value: 0.81 # held out\n"
        "secondary_metrics: {auc: 0.9, bad: nan}\nevaluated_at: 2024-01-01\n---\n"
        "# R\n\n## Shortfalls\n- slow\n\n## Other\n- x\n"
    )
    (folder / "next.md").write_text(
        "# Next experiments\n\n## exp-NNN+1\n- try dropout\n- more\n\n## exp-003\n- try more\n"
    )
    registry.refresh(tmp_path, whole=True)
    made = entry(tmp_path, "exp-001")
    assert made["result"]["primary_metric"] == {"name": "f1", "value": 0.81, "delta_vs_parent": None}
    assert made["result"]["secondary_metrics"] == {"auc": 0.9}
    assert made["result"]["shortfalls"] == ["slow"]
    assert made["next_ideas"] == ["try dropout", "try more"]
    assert "- try dropout" in (tmp_path / "CHECKLIST.md").read_text()


def test_the_checklist_has_the_columns_of_the_older_layout(tmp_path: Path) -> None:
    """Signed Δ, six digits, pipes escaped, long cells cut, nothing shown as a dash."""
    finished(tmp_path, 0.51234567, hypothesis="a | b " + "x" * 100)
    finished(tmp_path, 0.4)
    lines = (tmp_path / "CHECKLIST.md").read_text().splitlines()
    assert "| Exp | Parent | Status | Hypothesis | Metric | Δ vs parent | Tier | Top shortfall |" in lines
    row = next(line for line in lines if line.startswith("| exp-002"))
    assert row == "| exp-002 | exp-001 | complete | — | val_loss=0.4 | -0.112346 | should_pass | — |"
    first = next(line for line in lines if line.startswith("| exp-001"))
    assert "a \\| b xxx" in first
    assert "…" in first


def test_an_empty_registry_says_so() -> None:
    """No table without rows."""
    assert "No experiments yet" in registry.checklist({"project": "p", "experiments": []})


def test_a_process_that_is_gone_is_lost_and_not_running(tmp_path: Path) -> None:
    """A crashed attempt does not stay running for ever."""
    folder = experiments.create(tmp_path)
    started = experiments.start_attempt(folder)
    assert registry.state(files.read_events(folder)) == "running"
    assert experiments.alive(started) is True
    assert experiments.alive({**started, "boot_id": "another"}) is False
    assert experiments.alive({**started, "process_started": 1.0}) is False
    assert experiments.alive({**started, "host": "elsewhere"}) is None
    gone = {**started, "boot_id": "another"}
    assert registry.state([gone]) == "lost"


def test_what_has_ended_takes_no_further_attempt(tmp_path: Path) -> None:
    """A complete experiment cannot be trained on."""
    folder = finished(tmp_path, 0.4)
    with pytest.raises(ValueError, match="is completed"):
        experiments.start_attempt(folder)
