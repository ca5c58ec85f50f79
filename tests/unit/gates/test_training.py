"""Gate `training`: judged by content, the same each time, and what is missing is named with its likely cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay import registry
from assay.core.evidence import Evidence
from assay.core.study import GateRef
from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status
from assay.gates.training import TrainingGate, TrainingPolicy
from assay.readers.training import read_any
from experiment_files import PLAN, RESULT, ExperimentFiles, sound


def judge(made: ExperimentFiles, **policy: Any) -> Verdict:
    """The verdict on a folder."""
    gate = TrainingGate(TrainingPolicy(**policy))
    return gate.judge({"experiment": read_any(made.folder, digests=True)})


def plan(**thresholds: float) -> dict[str, Any]:
    """The plan with other thresholds."""
    return {**PLAN, "primary_metric": {"name": "accuracy", "direction": "max", "thresholds": thresholds}}


def test_whole_evidence_advances(tmp_path: Path) -> None:
    """A training with everything that is asked for passes, and the tier is computed."""
    verdict = judge(sound(tmp_path))
    assert verdict.passed
    assert verdict.extra["word"] == "ADVANCE"
    assert verdict.extra["tier"] == "goal"
    assert verdict.provenance is Provenance.MEASURED
    assert set(verdict.extra["items"].values()) == {"met"}


def test_asked_twice_it_answers_the_same_and_changes_nothing(tmp_path: Path) -> None:
    """Verdicts are equal and every byte of the folder stays."""
    made = sound(tmp_path)
    (made.folder / "result.md").unlink()
    (made.folder / "training_status.json").unlink()
    before = {p: p.read_bytes() for p in made.folder.rglob("*") if p.is_file()}
    first, second = judge(made), judge(made)
    assert first == second
    assert not first.passed
    assert before == {p: p.read_bytes() for p in made.folder.rglob("*") if p.is_file()}


def no_events(made: ExperimentFiles) -> None:
    """The record is gone."""
    (made.folder / "events.jsonl").unlink()


def edited_event(made: ExperimentFiles) -> None:
    """A better accuracy is written into the record."""
    path = made.folder / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"accuracy": 0.85', b'"accuracy": 0.99'))


def removed_event(made: ExperimentFiles) -> None:
    """A line in the middle is taken out."""
    path = made.folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4] + lines[5:]))


def rows_of_nobody(made: ExperimentFiles) -> None:
    """Rows of an attempt that never started."""
    made.step(200, attempt=7, loss=0.1)


def empty_files(made: ExperimentFiles) -> None:
    """The two files that the older gate asked for, with nothing in them."""
    made.write("metrics.jsonl", "")
    made.write("training_status.json", "")


def hypothesis_later(made: ExperimentFiles) -> None:
    """Edited after the start."""
    with (made.folder / "hypothesis.md").open("a") as file:
        file.write("\nAs expected.\n")


def config_later(made: ExperimentFiles) -> None:
    """Edited after it was frozen."""
    made.write("config.yaml", {"lr": 0.2})


def flipped_bit(made: ExperimentFiles) -> None:
    """One bit of the weights, after they were verified."""
    path = made.folder / "checkpoints" / "ckpt-00000100" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[17] ^= 1
    path.write_bytes(data)


def lost_weights(made: ExperimentFiles) -> None:
    """The file of the newest checkpoint is deleted."""
    (made.folder / "checkpoints" / "ckpt-00000100" / "model.safetensors").unlink()


def wrong_last(made: ExperimentFiles) -> None:
    """`last` leads nowhere."""
    link = made.folder / "checkpoints" / "last"
    link.unlink()
    link.symlink_to("ckpt-00000007")


def still_training(made: ExperimentFiles) -> None:
    """The snapshot says that it runs."""
    made.status(training=True)


def ahead(made: ExperimentFiles) -> None:
    """The snapshot is at a step that no row has."""
    made.status(step=900)


def other_metric(made: ExperimentFiles) -> None:
    """result.md gives another metric than the plan declares."""
    made.result(text=RESULT.replace("name: accuracy", "name: top5"))


def nan_result(made: ExperimentFiles) -> None:
    """NaN as the primary value."""
    made.result(".nan")


def true_result(made: ExperimentFiles) -> None:
    """A boolean as the primary value."""
    made.result("true")


def too_good(made: ExperimentFiles) -> None:
    """result.md says more than any evaluation recorded."""
    made.result(0.99)


def claimed_fail(made: ExperimentFiles) -> None:
    """The claim says fail, the value reaches a tier."""
    made.result(text=RESULT.replace("should_pass", "fail").replace("{value}", "0.93"))


def garbled_alerts(made: ExperimentFiles) -> None:
    """A line of alerts.jsonl that nobody can read may have been a critical one."""
    made.write("alerts.jsonl", b"\x00\xff{\n")


def last_rows_gone(made: ExperimentFiles) -> None:
    """The rows that a NaN stood in are cut off."""
    path = made.folder / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def alerts_gone(made: ExperimentFiles) -> None:
    """An alert was there when training ended."""
    made.event("attempt_started", 2)
    made.alert(severity="info")
    made.ended(2)
    (made.folder / "alerts.jsonl").unlink()


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (last_rows_gone, "rows are gone"),
        (alerts_gone, "alerts.jsonl: has 0 bytes"),
        (no_events, "events.jsonl"),
        (edited_event, "does not follow"),
        (removed_event, "does not follow"),
        (rows_of_nobody, "never started"),
        (empty_files, "likely cause"),
        (hypothesis_later, "changed after the start"),
        (config_later, "edited after"),
        (flipped_bit, "digest differs"),
        (lost_weights, "missing"),
        (wrong_last, "pointer last"),
        (still_training, "says that the training runs"),
        (ahead, "at step 900"),
        (other_metric, "'top5'"),
        (nan_result, "not finite"),
        (true_result, "not a number"),
        (too_good, "the best that was recorded is 0.93"),
        (claimed_fail, "claims tier 'fail'"),
        (garbled_alerts, "alerts are not whole"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_spoiled_evidence_holds(tmp_path: Path, spoil: Callable[[ExperimentFiles], None], word: str) -> None:
    """What is missing or contradicts itself is HOLD_INCOMPLETE and is named."""
    made = sound(tmp_path)
    spoil(made)
    verdict = judge(made)
    assert verdict.status is Status.ERROR
    assert verdict.extra["word"] == "HOLD_INCOMPLETE"
    assert verdict.outcome is Outcome.ANOMALOUS
    assert any(word in r.text for r in verdict.reasons if not r.ok), [
        r.text for r in verdict.reasons if not r.ok
    ]


@pytest.mark.parametrize("name", ["metrics.jsonl", "training_status.json", "hypothesis.md"])
def test_a_missing_file_is_named_with_its_likely_cause(tmp_path: Path, name: str) -> None:
    """As the older gate said "(ZOTrainingCallback not used)", for every file."""
    made = sound(tmp_path)
    (made.folder / name).unlink()
    verdict = judge(made)
    assert not verdict.passed
    assert any(name in r.text and "likely cause" in r.text for r in verdict.reasons if not r.ok)


def test_recorded_values_stand_in_for_a_result_that_nobody_wrote(tmp_path: Path) -> None:
    """Without result.md the last recorded evaluation is judged."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.trained()
    verdict = judge(made)
    assert verdict.passed
    assert verdict.extra["primary"] == {"name": "accuracy", "value": 0.93, "source": "evaluated"}


def test_a_running_training_is_not_judged_yet(tmp_path: Path) -> None:
    """An attempt of a living process: INCONCLUSIVE, and its sentence says so."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started()
    made.step(1, loss=1.0)
    verdict = judge(made)
    assert verdict.status is Status.INCONCLUSIVE
    assert "not yet: the training is running" in verdict.detail


def test_a_process_that_is_gone_is_lost(tmp_path: Path) -> None:
    """No end was recorded and the pid is free: the machine's failure, not the model's."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started(pid=2**22 - 1)
    made.step(1, loss=1.0)
    verdict = judge(made)
    assert (verdict.status, verdict.failure_class) == (Status.ERROR, FailureClass.INFRA_TRANSIENT)
    assert verdict.extra["state"] == "lost"


def test_an_open_critical_alert_refuses(tmp_path: Path) -> None:
    """Open: FAIL. Resolved: it no longer counts. Of unknown severity: it counts as critical."""
    made = sound(tmp_path)
    made.alert()
    refused = judge(made)
    assert (refused.status, refused.extra["word"]) == (Status.FAIL, "ITERATE")
    assert "a-0001 nonfinite" in refused.detail
    made.alert(state="resolved")
    assert judge(made).passed
    made.alert("a-0002", severity="warning")
    assert judge(made).passed
    made.alert("a-0003", severity="???")
    assert not judge(made).passed


@pytest.mark.parametrize(
    ("states", "word"),
    [
        ([], "no checker watched this training"),
        (["began"], "did not watch to the end"),
        (["began", "ended"], ""),
    ],
)
def test_that_nobody_watched_is_not_that_nothing_was_found(
    tmp_path: Path, states: list[str], word: str
) -> None:
    """Told as a note; where a watcher is required it is missing evidence."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.trained()
    made.result()
    lines = (made.folder / "events.jsonl").read_bytes().splitlines()
    made.folder.joinpath("events.jsonl").unlink()
    made.seq, made.previous = 0, "0" * 64
    for line in map(json.loads, lines):
        if line["event"] != "watched":
            fields = {
                k: v
                for k, v in line.items()
                if k not in {"schema", "seq", "time", "event", "attempt", "previous"}
            }
            made.event(line["event"], line["attempt"], **fields)
    for state in states:
        made.event("watched", 1, state=state, by="assay train")
    assert judge(made).passed
    strict = judge(made, require_watched=True)
    assert (strict.passed, strict.extra["items"]["alerts"]) == (not word, "missing" if word else "met")
    assert word in strict.detail


@pytest.mark.parametrize(("exit_code", "passes"), [(None, False), (0, True)])
def test_a_script_that_just_ended_is_believed_only_if_its_exit_code_is_known(
    tmp_path: Path, exit_code: int | None, passes: bool
) -> None:
    """Without finish() and without `assay train` nobody knows whether it had trained to its end: HOLD."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started(pid=2**22 - 1)
    made.step(100, loss=0.1)
    made.evaluated(100, accuracy=0.93)
    made.checkpoint(100)
    made.status()
    made.event("training_ended", 1, reason="completed", by="exit", step=100, final_metrics={}, exception=None)
    made.event("attempt_ended", 1, outcome="exited", exit_code=exit_code, signal=None, resources={})
    verdict = judge(made)
    assert verdict.passed is passes
    if not passes:
        assert verdict.extra["word"] == "HOLD_INCOMPLETE"
        assert "ended without finish()" in verdict.detail
        assert "likely cause" in verdict.detail


def test_a_checkpoint_that_was_kept_aside_leaves_last_where_it_is(tmp_path: Path) -> None:
    """`last` leads past one that failed; that the newest failed is missing evidence, not a forged pointer."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started(pid=2**22 - 1)
    made.step(100, loss=0.1)
    made.evaluated(100, accuracy=0.93)
    made.checkpoint(50)
    bad = made.checkpoint(100, verified=None, reason="stop")
    for pointer in ("last", "best"):
        (made.folder / "checkpoints" / pointer).unlink()
        (made.folder / "checkpoints" / pointer).symlink_to("ckpt-00000050")
    made.event("checkpoint_failed", 1, name=bad, level="finite", detail="the weights are not finite: model.w")
    made.status()
    made.ended()
    verdict = judge(made)
    assert verdict.extra["items"]["checkpoint"] == "missing"
    assert "ckpt-00000100 failed its verification: the weights are not finite" in verdict.detail


def test_a_loss_that_ended_as_nan_refuses(tmp_path: Path) -> None:
    """Also where no checker watched."""
    made = sound(tmp_path)
    made.append(
        "metrics.jsonl",
        {
            "event": "step",
            "attempt": 1,
            "step": 100,
            "t": 9.0,
            "metrics": {"loss": None},
            "nonfinite": {"loss": "nan"},
        },
    )
    verdict = judge(made)
    assert verdict.status is Status.FAIL
    assert "loss ended as nan at step 100" in verdict.detail
    assert judge(made, nonfinite_allowed=("loss",)).passed


@pytest.mark.parametrize(
    ("value", "tier", "status"),
    [
        (0.79, "fail", Status.FAIL),
        (0.8, "floor", Status.PASS),
        (0.93, "goal", Status.PASS),
        (0.97, "stretch", Status.PASS),
    ],
)
def test_the_tier_is_computed(tmp_path: Path, value: float, tier: str, status: Status) -> None:
    """From value, direction and thresholds, whatever result.md claims."""
    made = sound(tmp_path, accuracy=value)
    if tier == "fail":
        made.result(text=RESULT.replace("should_pass", "fail").replace("{value}", str(value)))
    verdict = judge(made)
    assert (verdict.extra["tier"], verdict.status) == (tier, status)


def test_lower_is_better_where_it_was_declared(tmp_path: Path) -> None:
    """An error of 0.3 misses a floor of 0.25 and an error of 0.2 reaches it."""
    limits = {
        "primary_metric": {"name": "mae", "direction": "min", "thresholds": {"floor": 0.25, "goal": 0.1}}
    }
    for day, (value, passed) in enumerate(((0.3, False), (0.2, True)), 1):
        made = ExperimentFiles(tmp_path, f"exp-00{day}", day)
        made.created(plan=limits)
        made.started()
        made.step(1, loss=1.0)
        made.evaluated(1, mae=value)
        made.checkpoint(1)
        made.status(step=1)
        made.ended(step=1)
        assert judge(made).passed is passed


def test_below_the_floor_with_an_empty_budget_needs_a_person(tmp_path: Path) -> None:
    """To stop iterating is not to advance."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.trained(accuracy=0.5)
    assert judge(made).extra["word"] == "ITERATE"
    last = judge(made, iterations_left=0)
    assert (last.status, last.extra["word"], last.outcome) == (Status.FAIL, "NEEDS_HUMAN", Outcome.NO_GAIN)


def test_without_a_threshold_a_person_decides(tmp_path: Path) -> None:
    """Nobody said what is good enough."""
    verdict = judge(sound(tmp_path, plan=plan()))
    assert (verdict.status, verdict.extra["word"]) == (Status.INCONCLUSIVE, "NEEDS_HUMAN")


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (None, "no primary metric"),
        ({"primary_metric": {"name": "accuracy"}}, "with a direction"),
        (plan(floor=0.9, goal=0.8), "easier to reach"),
        (
            {"primary_metric": {"name": "accuracy", "direction": "up", "thresholds": {"floor": 0.5}}},
            "neither min nor max",
        ),
        (plan(floor=0.8) | {"metrics": {"x": 3}}, "neither min nor max"),
    ],
)
def test_a_plan_that_cannot_be_judged_holds(tmp_path: Path, wrong: Any, word: str) -> None:
    """Metric, direction and thresholds must be declared and agree."""
    verdict = judge(sound(tmp_path, plan=wrong))
    assert verdict.extra["word"] == "HOLD_INCOMPLETE"
    assert any(word in r.text for r in verdict.reasons if not r.ok)


def test_the_floor_is_enough_only_where_it_is_asked_for(tmp_path: Path) -> None:
    """`advance_tier` moves the bar; the tier stays."""
    made = sound(tmp_path, accuracy=0.85)
    assert judge(made).passed
    assert not judge(made, advance_tier="goal").passed


def test_how_a_checkpoint_must_be_verified(tmp_path: Path) -> None:
    """Committed alone is not enough; digest is enough for digest and not for restore."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started()
    made.step(1, loss=1.0)
    made.evaluated(1, accuracy=0.9)
    name = made.checkpoint(1, verified=None)
    made.status(step=1)
    made.ended(step=1)
    assert "not verified by digest" in judge(made).detail
    made.event("checkpoint_verified", 1, name=name, level="digest", detail="")
    assert judge(made).passed
    assert not judge(made, checkpoint="restore").passed
    made.event("checkpoint_failed", 1, name=name, level="restore", detail="optimizer differs")
    assert "optimizer differs" in judge(made).detail
    assert judge(made, checkpoint="none").passed


def test_a_stopped_training_is_accepted_only_on_purpose(tmp_path: Path) -> None:
    """It did not do what was planned."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started()
    made.step(50, loss=1.0)
    made.evaluated(50, accuracy=0.95)
    made.checkpoint(50)
    made.event("stop_requested", 1, by="person", reason="enough")
    made.status(step=50)
    made.ended(step=50, reason="stopped")
    assert "stopped by person at step 50 of 100: enough" in judge(made).detail
    assert judge(made, accept_stopped=True).passed


def test_a_crash_iterates(tmp_path: Path) -> None:
    """The exception is the first thing that is said."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started()
    made.step(1, loss=1.0)
    made.event(
        "training_ended",
        1,
        reason="exception",
        step=1,
        exception={"type": "ValueError", "message": "bad batch"},
    )
    verdict = judge(made)
    assert (verdict.status, verdict.extra["word"]) == (Status.FAIL, "ITERATE")
    assert "ValueError: bad batch" in verdict.detail


def test_thresholds_cannot_be_added_after_a_result_is_known(tmp_path: Path) -> None:
    """A plan that comes after the first evaluation is no plan."""
    made = ExperimentFiles(tmp_path)
    made.created(plan={"primary_metric": {"name": "accuracy", "direction": "max"}})
    made.trained(accuracy=0.5)
    made.event("planned", 1, plan={"primary_metric": {"thresholds": {"floor": 0.4}}})
    verdict = judge(made)
    assert not verdict.passed
    assert "after the first evaluation" in verdict.detail


def test_the_older_layout_proves_nothing(tmp_path: Path) -> None:
    """Hand-made files of the older contract hold."""
    folder = tmp_path / "exp-001"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(
        '{"event": "epoch_end", "epoch": 0, "metrics": {"accuracy": 0.99}}\n'
    )
    (folder / "training_status.json").write_text('{"is_training": false, "epoch": 1}')
    (folder / "result.md").write_text(RESULT.replace("{value}", "0.99"))
    verdict = TrainingGate().judge({"experiment": read_any(folder, digests=True)})
    assert verdict.extra["word"] == "HOLD_INCOMPLETE"
    assert "did not run under Assay" in verdict.detail


def test_other_evidence_is_an_error() -> None:
    """Nothing, or evidence of another kind, is never a pass."""
    gate = TrainingGate()
    assert gate.judge({}).status is Status.ERROR
    assert gate.judge({"experiment": Evidence(kind="machine", subject="x")}).status is Status.ERROR


def test_it_is_registered_like_the_other_gates() -> None:
    """By its name, with its policy."""
    gate = registry.gate(GateRef(gate="training", policy={"advance_tier": "goal"}))
    assert isinstance(gate, TrainingGate)
    assert gate.policy.advance_tier == "goal"
