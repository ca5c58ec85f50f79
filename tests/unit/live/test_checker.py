"""Incidents, policies, attempts, ids: what the checker makes of findings."""

from __future__ import annotations

import subprocess
import sys

import pytest
from test_classes_of_fault import (
    PLAN,
    altered,
    at,
    classes,
    evaluations,
    event,
    judged,
    last_nan,
    learning,
    losses,
    row,
)

from assay.core.errors import SpecError
from assay.live.checker import Checker
from assay.live.thresholds import Thresholds, resolve, stop_modes


def test_one_incident_for_one_cause() -> None:
    """A NaN after a spike is the cause: the spike's alert is closed as part of it, later effects join it."""
    rows = losses(learning(101), 100, lambda i: 9.0)
    checker = judged(last_nan(rows))
    assert [(a.number, a.state) for a in checker.alerts] == [(3, "resolved"), (1, "open")]
    assert checker.open_alerts[0].joined == ("loss_spike",)


def test_effects_join_an_open_cause() -> None:
    """Gradients that explode in the step of a NaN open nothing of their own."""
    rows = altered(learning(100), 99, grad_norm=500.0)
    rows[-2]["metrics"]["loss"], rows[-2]["nonfinite"] = None, {"loss": "inf"}
    checker = judged(rows)
    assert [a.name for a in checker.open_alerts] == ["nonfinite"]
    assert checker.open_alerts[0].joined == ("gradient_explosion",)


def test_a_leak_does_not_join_a_nan() -> None:
    """Families stay apart: starvation beside a NaN is an incident of its own."""
    rows = altered(learning(80), 40, data_wait_s=0.02, step_s=0.03)
    checker = judged([*rows, *last_nan(learning(1))])
    assert classes(checker) == {1, 19}
    assert len(checker.open_alerts) == 2


def test_stop_is_asked_for_certain_findings_only() -> None:
    """A NaN stops, a warning does not, `warn` takes the stop away and `off` the alert."""
    rows = last_nan(learning(40))
    assert "nonfinite" in str(judged(rows).stop_reason)
    assert judged(rows, {**PLAN, "stop": {"nonfinite": "warn"}}).stop_reason is None
    assert judged(rows, {**PLAN, "stop": {"nonfinite": "off"}}).alerts == []
    assert judged(losses(learning(100), 100, lambda i: 3.0)).stop_reason is None


def test_a_scaled_run_is_not_stopped_for_one_bad_gradient() -> None:
    """Under a gradient scaler a non-finite gradient alone is tolerated."""
    rows = learning(60, amp_skipped=0.0)
    rows[-1]["signals"] |= {"amp_skipped": 1.0}
    rows[-1]["nonfinite"] = {"grad_norm": "inf"}
    assert judged(rows).alerts == []


def test_a_partly_owned_model_warns_and_never_stops() -> None:
    """One optimizer of two was watched: that looks like missing parameters and is no reason to stop."""
    facts = {"trainable_elements": 10, "owned_trainable_elements": 4, "foreign_elements": 0, "elements": 10}
    checker = judged([event("wiring_inspected", facts=facts)])
    assert [(a.number, str(a.severity)) for a in checker.open_alerts] == [(8, "warning")]
    assert checker.stop_reason is None


def test_alerts_resolve_after_quiet_rows_and_not_before() -> None:
    """A spike is closed, as information, once the loss stayed calm long enough."""
    rows = learning(160)
    rows[99]["metrics"]["loss"] = 5.0
    assert [a.state for a in judged(rows[:149]).alerts] == ["open"]
    closed = judged(rows).alerts
    assert [(a.state, str(a.severity)) for a in closed] == [("resolved", "info")]


def test_missing_values_resolve_nothing() -> None:
    """Rows without the signal say nothing about it: the alert stays open."""
    rows = [*altered(learning(100), 99, grad_norm=100.0)]
    for step in range(101, 300):
        line = row(step, 0.3)
        del line["signals"]["grad_norm"]
        rows.append(line)
    assert 4 in {a.number for a in judged(rows).open_alerts}


def test_a_new_attempt_closes_the_old_ones_alerts() -> None:
    """After a resume the NaN of attempt 1 no longer blocks; rows of attempt 1 that arrive late are ignored."""
    checker = judged(
        [*last_nan(learning(40)), {**event("attempt_started", resumed_from="ckpt-1"), "attempt": 2}]
    )
    assert checker.open_alerts == []
    assert checker.feed(last_nan(learning(41))[-1]) == []


def test_a_verified_checkpoint_resolves_a_broken_one() -> None:
    """There is something to resume from again."""
    checker = judged([event("checkpoint_failed", name="a"), event("checkpoint_verified", name="b")])
    assert checker.open_alerts == []


def test_late_word_of_an_older_checkpoint_resolves_nothing_newer() -> None:
    """What was saved before the broken one is no reason to trust the newest; what was saved after it is."""
    commits = [event("checkpoint_committed", name=n, metrics={}) for n in ("a", "b")]
    checker = judged([*commits, event("checkpoint_failed", name="b"), event("checkpoint_verified", name="a")])
    assert [a.number for a in checker.open_alerts] == [22]
    checker.feed_all([event("checkpoint_committed", name="c"), event("checkpoint_verified", name="c")])
    assert checker.open_alerts == []


def test_a_failed_write_outlives_word_of_what_was_saved_before() -> None:
    """A save that never got as far as its commit is broken from then on."""
    checker = judged([event("checkpoint_committed", name="a"), event("checkpoint_failed", name="b")])
    checker.feed(event("checkpoint_verified", name="a"))
    assert [a.number for a in checker.open_alerts] == [22]


def test_saving_every_few_evaluations_is_no_mismatch() -> None:
    """The best of those that were saved may stay behind the log's best; one worse than another saved is not it."""
    rows = evaluations(learning(60), 10, val_loss=lambda i: (0.9, 0.5, 0.7, 0.6, 0.65, 0.8)[i - 1])

    def saved(step: int, value: float) -> dict[str, object]:
        return {
            **event("checkpoint_committed", name=f"c{step}", reason="best", metrics={"val_loss": value}),
            "step": step,
        }

    def after(step: int, line: dict[str, object]) -> None:
        last = max(i for i, r in enumerate(rows) if r.get("step") == step)
        rows.insert(last + 1, line)

    after(30, saved(30, 0.7))
    assert 23 not in classes(judged(rows))
    after(60, saved(60, 0.8))
    assert 23 in classes(judged(rows))


def test_a_configuration_frozen_by_the_script_was_not_edited() -> None:
    """An empty digest means that nothing was frozen yet; from the first digest on a change is one."""
    begun = [event("created", config_digest=""), event("attempt_started", config_digest="x")]
    assert judged(begun).alerts == []
    again = [*begun, {**event("attempt_started", config_digest="y"), "attempt": 2}]
    assert classes(judged(again)) == {25}


def test_what_was_planned_later_joins_the_plan_and_replaces_nothing() -> None:
    """The `planned` event adds totals; the plan it was created with stands."""
    checker = Checker()
    checker.feed_all(
        [event("created", plan={"seed": 1}), event("planned", plan={"seed": 2, "total_steps": 9})]
    )
    assert checker.plan == {"seed": 1, "total_steps": 9}
    assert checker.window.total_steps == 9


def test_a_resumed_run_is_not_judged_by_its_first_loss() -> None:
    """The event of a restored checkpoint says that the attempt goes on from somewhere."""
    checker = judged([event("attempt_started"), event("resumed", name="c", step=5)])
    assert checker.window.resumed


def test_folds_told_by_a_framework_are_judged() -> None:
    """`classical_inspected`, as the adapters for classical models write it, reaches class 27."""
    facts = {"classical": {"fold_scores": [0.9, 0.2, 0.8], "baseline_score": 0.6}}
    assert classes(judged([event("classical_inspected", facts=facts)])) == {27}


def test_events_of_a_newer_writer_keep_their_numbers() -> None:
    """A kind that no rule knows is no gap in the sequence; a missing line is one."""
    known = [
        {**event("attempt_started"), "seq": 1},
        {**event("telemetry"), "seq": 2},
        {**event("note"), "seq": 3},
    ]
    assert judged(known).alerts == []
    assert classes(judged([known[0], known[2]])) == {26}


def test_a_busy_machine_hides_no_starvation_and_makes_none() -> None:
    """Where others take the processor, steps are long: the wait is measured against the run's own time."""
    loaded = {"step_s": 0.05, "step_cpu_s": 0.004, "contended": 0.85}
    starved = learning(80, data_wait_s=0.016, **loaded)
    assert 19 in classes(judged(starved))
    assert classes(judged(learning(80, data_wait_s=0.0001, **loaded))) == set()
    # The same log without the word of the machine: a third of the step is no starvation.
    assert 19 not in classes(judged([{**r, "signals": {**r["signals"], "contended": 0.0}} for r in starved]))


def test_a_step_that_grows_on_a_busy_machine_is_worth_knowing_only() -> None:
    """Processor time beside others is a hint: info there, a warning on a quiet machine."""
    for taken, wanted in ((0.6, "info"), (0.0, "warning")):
        rows = altered(
            learning(120, step_s=0.01, step_cpu_s=0.01, contended=taken), 60, step_s=0.2, step_cpu_s=0.05
        )
        found = [a for a in judged(rows).alerts if a.number == 20]
        assert [str(a.severity) for a in found] == [wanted]


def test_ids_go_on_after_a_restart_of_the_watcher() -> None:
    """The same alert keeps its id, a new one gets the next, an alert from outside stays open."""
    first = Checker(plan=PLAN)
    lines = last_nan(learning(40))
    changes = first.feed_all(lines) + first.at(5000.0, {"alive": False})
    again = Checker(plan=PLAN, known=[c.to_json() for c in changes])
    assert [c.id for c in again.feed_all(lines)] == ["a-0001"]
    assert [a.number for a in again.open_alerts] == [18, 1]
    assert again.at(5001.0, {"alive": True})[0].state == "resolved"


def test_thresholds_are_overridden_by_the_plan() -> None:
    """A plan's rules change one number; what is unknown is named with what is allowed."""
    rows = altered(learning(60), 59, dead_frac=0.95)
    assert classes(judged(rows, {"rules": {"dead_probes": 2}})) == {6}
    with pytest.raises(SpecError, match="dead_probes"):
        resolve({"rules": {"dead_probe": 2}})
    with pytest.raises(SpecError, match=r"plan\.rules\.dead_frac"):
        resolve({"rules": {"dead_frac": 7}})
    with pytest.raises(SpecError, match="off, warn, stop"):
        stop_modes({"stop": {"nonfinite": "never"}})
    bad = Checker(plan={"rules": {"nope": 1}})
    assert bad.problems
    assert bad.thresholds == Thresholds()


def test_the_plan_of_the_created_event_counts() -> None:
    """A checker without a plan takes the one it is fed."""
    checker = Checker()
    checker.feed(event("created", plan={"total_steps": 10, "stop": {"1": "off"}}))
    checker.feed_all(last_nan(learning(40)))
    assert checker.alerts == []
    assert checker.window.total_steps == 10


def test_a_log_of_epochs_is_judged_by_epochs() -> None:
    """The old format has a row an epoch: a NaN loss and overfitting are found in it."""
    rows = [
        {"event": "epoch_end", "epoch": e, "total_epochs": 30,
         "metrics": {"loss": 2 * 0.8**e, "val_loss": 1.0 - 0.1 * e if e < 6 else 0.5 + 0.05 * (e - 6)}}
        for e in range(20)
    ]  # fmt: skip
    assert 11 in classes(judged(rows, {}))
    rows[-1] = {**rows[-1], "metrics": {"loss": None, "val_loss": 1.0}, "nonfinite": {"loss": "nan"}}
    assert 1 in classes(judged(rows, {}))


def test_the_file_format_is_the_one_that_was_decided() -> None:
    """The keys of a line are those of the decision record, and additions."""
    (change,) = at(judged(learning(30)), 10.0, alive=False)
    line = change.to_json()
    wanted = "schema id time attempt step epoch class name severity state observed reference rule threshold"
    wanted += " first_seen_step count joined action text"
    assert set(wanted.split()) <= set(line)
    assert line["schema"] == "alert/1"


def test_the_checker_needs_no_torch_and_no_numpy() -> None:
    """Importing all of it leaves the heavy libraries alone."""
    code = "import sys, assay.live.checker, assay.live.alerts; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
