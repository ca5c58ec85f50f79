"""The tracker writes and the reader reads the files of docs/decisions/0011: the same page for both sides."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import assay
from assay.core.experiment import ExperimentEvent, ExperimentState
from assay.core.experiment_state import Fold
from assay.core.vocabulary import Direction, Status
from assay.gates.training import TrainingGate
from assay.readers.training import iter_rows, read_any, read_experiments, resolve_active
from assay.track import ZOTrainingCallback, registry
from assay.track.experiments import experiments_root, ids
from assay.track.files import append_event

PAGE = (Path(__file__).parents[2] / "docs" / "decisions" / "0011-the-files-of-an-experiment.md").read_text(
    "utf-8"
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project."""
    monkeypatch.chdir(tmp_path)
    return experiments_root()


def trained(**more: Any) -> Path:
    """A small training under the real tracker; its folder."""
    given: dict[str, Any] = {
        "hypothesis": "It reaches 0.9",
        "config": {"lr": 0.1},
        "primary_metric": "accuracy",
        "direction": "max",
        "thresholds": {"floor": 0.8, "goal": "> 0.95"},
        "total_steps": 20,
        "seed": 7,
    }
    with assay.experiment("small", **{**given, **more}) as run:
        for step in range(1, 21):
            run.log({"loss": 1.0 / step, "bad": float("nan") if step == 3 else 1.0}, step=step)
            if step % 10 == 0:
                run.log_evaluation({"accuracy": 0.8 + step / 200, "val_loss": 1.0 / step}, step=step)
                run.checkpoint(
                    {"model": {"w": [1.0, step]}}, metrics={"accuracy": 0.8 + step / 200}, step=step
                )
    return run.folder


def lines(path: Path) -> list[dict[str, Any]]:
    """Every line as strict JSON: a bare NaN is an error."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.slow
def test_what_the_tracker_writes_is_read_whole(root: Path) -> None:
    """Plan, attempt, rows, evaluations, checkpoints and the end arrive as they were meant, without a problem."""
    folder = trained()
    found = read_any(folder, digests=True)
    assert found.problems == ()
    assert found.chain_intact
    assert (found.id, found.name, found.state) == ("exp-001", "small", ExperimentState.TRAINED)
    assert found.plan.primary is not None
    assert found.plan.primary.direction is Direction.HIGHER
    assert (found.plan.primary.thresholds.floor, found.plan.primary.thresholds.goal) == (0.8, 0.95)
    assert (found.plan.total_steps, found.plan.seed) == (20, 7)
    attempt = found.attempts[0]
    assert (attempt.training_reason, attempt.last_step) == ("completed", 20)
    assert attempt.outcome in {"", "exited"}  # said when the process ends, which is this one
    assert attempt.hypothesis_digest == hashlib.sha256((folder / "hypothesis.md").read_bytes()).hexdigest()
    assert attempt.config_digest == found.frozen_digest == found.config_digest != ""
    assert (found.rows.steps, found.rows.evaluations, found.rows.bad_lines, found.rows.backwards) == (
        20,
        2,
        0,
        0,
    )
    assert [e.step for e in found.evaluations] == [10, 20]
    assert [c.on_disk for c in found.checkpoints] == ["intact", "intact"]
    assert found.checkpoints[-1].verified
    assert found.facts["pointers"]["last"] == found.checkpoints[-1].name
    assert found.status is not None
    assert (found.status.is_training, found.status.step) == (False, 20)


@pytest.mark.slow
def test_what_the_tracker_writes_passes_the_gate(root: Path) -> None:
    """The two sides agree on what a sound training is."""
    verdict = TrainingGate().judge({"experiment": read_any(trained(), digests=True)})
    assert verdict.status is Status.PASS, verdict.detail


@pytest.mark.slow
def test_every_event_and_row_is_on_the_page(root: Path) -> None:
    """Envelope, chain, kinds and signals are those of 0011; every line is strict JSON."""
    folder = trained()
    kinds = set(re.findall(r"`(\w+)`", PAGE))
    previous = "0" * 64
    events = (folder / "events.jsonl").read_bytes().splitlines()
    for number, line in enumerate(events, 1):
        event = json.loads(line)
        assert (event["schema"], event["seq"], event["previous"]) == ("experiment-event/1", number, previous)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", event["time"])
        assert event["event"] in kinds, f"{event['event']} is not on the page"
        previous = hashlib.sha256(line).hexdigest()
    lines(folder / "events.jsonl")
    rows = lines(folder / "metrics.jsonl")
    signals = {w for row in rows for w in row.get("signals", {})}
    assert signals <= set(re.findall(r"\w+", PAGE[PAGE.index("`signals` are ours") :]))
    third = next(r for r in rows if r["event"] == "step" and r["step"] == 3)
    assert third["metrics"]["bad"] is None
    assert third["nonfinite"] == {"bad": "nan"}
    json.loads((folder / "training_status.json").read_bytes())


def test_the_streams_agree(root: Path) -> None:
    """Rows as the reader yields them are the rows that were logged."""
    with assay.experiment("rows") as run:
        for step in range(1, 6):
            run.log({"loss": float(step)}, step=step)
    rows = [r for r in iter_rows(run.folder) if r.kind == "step"]
    assert [(r.step, r.metrics["loss"], r.attempt) for r in rows] == [(s, float(s), 1) for s in range(1, 6)]
    assert all(r.t is not None for r in rows)


def test_an_exception_is_a_crash(root: Path) -> None:
    """The script's own error ends the attempt, with its text."""

    def script() -> None:
        with assay.experiment("broken") as run:
            run.log({"loss": 1.0}, step=1)
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError):
        script()
    found = read_experiments(root)[0]
    assert found.state is ExperimentState.CRASHED
    assert "out of luck" in found.attempts[0].exception


@pytest.mark.slow
def test_sigkill_is_lost_and_nothing_that_matters_is_gone(root: Path, tmp_path: Path) -> None:
    """After -9 the reader says lost; the events are whole and rows reach to within a second."""
    code = (
        "import assay, time\n"
        "with assay.experiment('killed', primary_metric='a', direction='max') as run:\n"
        "    run.log_evaluation({'a': 0.5}, step=0)\n"
        "    for step in range(1, 10**6):\n"
        "        run.log({'loss': 1.0}, step=step)\n"
        "        time.sleep(0.01)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    try:
        _until(lambda: sum(1 for _ in iter_rows(root / "exp-001")) > 20)
        assert resolve_active(root) == "exp-001"
        assert read_any(root / "exp-001").state is ExperimentState.RUNNING
    finally:
        child.kill()
        child.wait()
    found = read_any(root / "exp-001")
    assert found.state is ExperimentState.LOST
    assert found.chain_intact
    assert [m.value for e in found.evaluations for m in e.metrics] == [0.5]
    assert (found.rows.last_step or 0) >= 20
    assert resolve_active(root) is None


def _until(true: Callable[[], bool], limit_s: float = 30.0) -> None:
    ends = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_the_older_callback_is_read(root: Path) -> None:
    """A script that changed only its import: epochs, checkpoint and end are there, under an attempt."""
    made = ZOTrainingCallback.for_experiment(root, "exp-001", "old")
    made.on_training_start(2, {"lr": 0.1})
    for epoch in range(2):
        made.on_epoch_end(epoch, 2, {"val_loss": 0.5 - epoch / 10}, learning_rate=0.1)
    made.on_checkpoint_saved("best.pt", 1, {"val_loss": 0.4})
    made.on_training_end({"val_loss": 0.4})
    found = read_any(root / "exp-001", digests=True)
    assert found.layout == "assay"
    assert found.chain_intact
    assert (found.rows.epochs, found.rows.last_epoch) == (2, 1)
    assert found.attempts[0].training_reason == "completed"
    assert found.status is not None


def test_registry_and_reader_give_the_same_states(root: Path) -> None:
    """registry.json, which the tracker derives by its short fold, and the full fold agree."""
    told = {"complete": "complete", "aborted": "aborted", "failed": "failed", "overridden": "complete"}
    ends = {
        "completed": {},
        "aborted": {"reason": "x"},
        "failed": {"reason": "y"},
        "overridden": {"reason": "z", "unmet": []},
    }
    for event, fields in ends.items():
        with assay.experiment(event) as run:
            run.log({"loss": 1.0}, step=1)
        append_event(run.folder, event, None, fields)
    registry.refresh(root, whole=True)
    entries = json.loads((root / "registry.json").read_text("utf-8"))["experiments"]
    found = {e.id: e.state.value for e in read_experiments(root)}
    assert {e["id"]: e["status"] for e in entries} == {name: told[state] for name, state in found.items()}
    assert ids(root) == list(found)


_KINDS = (
    "created", "attempt_started", "stop_requested", "training_ended", "attempt_ended", "result", "evaluated", "note",
    "completed", "failed", "aborted", "overridden",
)  # fmt: skip
_EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "event": st.sampled_from(_KINDS),
            "attempt": st.sampled_from([None, 0, 1, 2, 3]),
            "reason": st.sampled_from(["completed", "stopped", "exception", None]),
            "outcome": st.sampled_from(["exited", "crashed", "killed", "lost", "stopped", None]),
            "exit_code": st.sampled_from([0, 1, 137, None, True]),
            "host": st.just("another machine"),
        }
    ),
    max_size=12,
)


@given(_EVENTS)
@example(
    [
        {"event": "attempt_started", "attempt": 1, "host": "another machine"},
        {"event": "training_ended", "attempt": 1, "reason": "completed"},
        {"event": "attempt_ended", "attempt": 1, "outcome": "exited", "exit_code": 1},
    ]
)
def test_the_short_fold_is_the_full_fold(events: list[dict[str, Any]]) -> None:
    """Whatever the events, the state in registry.json is the one that every command shows."""
    full = Fold()
    for seq, line in enumerate(events, 1):
        fields = {k: v for k, v in line.items() if k not in {"event", "attempt"}}
        full.add(
            ExperimentEvent(
                seq=seq, time="", event=line["event"], attempt=line["attempt"], line=seq, fields=fields
            )
        )
    assert registry.state(events) == full.state.value
