"""A run inside a process: rows, evaluations, stops, phases, attempts, and that it never stands in the way."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import assay
from assay.readers.training import read_any
from assay.track import Run, StopTraining, current, experiments, files, opening, sinks, tracker
from assay.track.status import Standing


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Opens experiments below the test's folder, and ends what the test left open."""

    def opened(**how: Any) -> Run:
        return assay.experiment(root=tmp_path / "experiments", **how)

    yield opened
    while current() is not None:
        current().finish()  # type: ignore[union-attr]


def rows(run: Run, event: str = "step") -> list[dict[str, Any]]:
    """The rows on disk."""
    lines = (run.folder / "metrics.jsonl").read_bytes().splitlines()
    return [r for line in lines if (r := files.parse(line)) and r["event"] == event]


def events(run: Run, kind: str) -> list[dict[str, Any]]:
    """The events on disk."""
    return [e for e in files.read_events(run.folder) if e["event"] == kind]


def status(run: Run) -> dict[str, Any]:
    """The snapshot on disk."""
    return json.loads((run.folder / "training_status.json").read_text())


def until(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    """Wait for another thread."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "did not come"
        time.sleep(0.01)


def test_rows_are_written_while_training_goes_on(make: Callable[..., Run]) -> None:
    """Steps count themselves from 1; a row is on disk within the flush interval, without any call."""
    run = make()
    run.log({"loss": 0.5})
    run.log({"loss": torch.tensor(0.25), "n": np.int64(3)}, epoch=0)
    until(lambda: len(rows(run)) == 2)
    first, second = rows(run)
    assert (first["step"], first["metrics"], first["attempt"]) == (1, {"loss": 0.5}, 1)
    assert (second["step"], second["epoch"], second["metrics"]) == (2, 0, {"loss": 0.25, "n": 3})
    assert second["t"] >= first["t"] >= 0
    assert "step_s" in second["signals"]


def test_a_loss_that_is_not_finite_is_on_disk_at_once(make: Callable[..., Run]) -> None:
    """NaN wakes the writer: the checker sees it before the flush interval has passed; null in JSON, named beside it."""
    run = make()
    run.log({"loss": 1.0})
    run.flush()
    begun = time.monotonic()
    run.log({"loss": float("nan"), "acc": 1.0})
    until(lambda: len(rows(run)) == 2)
    assert time.monotonic() - begun < 0.2
    row = rows(run)[1]
    assert row["metrics"] == {"loss": None, "acc": 1.0}
    assert row["nonfinite"] == {"loss": "nan"}


def test_the_start_is_recorded_once_and_first(make: Callable[..., Run]) -> None:
    """By `start` or by the first row; asked twice it adds what it did not know."""
    run = make()
    run.log({"loss": 1.0})
    run.flush()
    run.start(total_steps=10)
    run.finish()
    assert len(events(run, "training_started")) == 1
    assert [json.loads(x)["event"] for x in (run.folder / "metrics.jsonl").read_text().splitlines()] == [
        "training_start", "step", "training_end"
    ]  # fmt: skip
    assert status(run)["total_steps"] == 10


def test_the_best_value_is_finite_and_has_a_direction(make: Callable[..., Run]) -> None:
    """NaN never becomes the best, MAE goes down, and the declared direction counts."""
    run = make(primary_metric="q", direction="min")
    for epoch, (mae, q) in enumerate([(float("nan"), 3.0), (2.0, 1.0), (1.0, 2.0), (5.0, float("inf"))]):
        run.log_evaluation({"val_mae": mae, "q": q, "acc": epoch}, step=epoch, epoch=epoch)
    run.finish()
    assert run.best["val_mae"]["value"] == 1.0
    assert run.best["q"] == {"value": 1.0, "step": 1, "epoch": 1}
    assert run.best["acc"]["value"] == 3
    assert len(events(run, "evaluated")) == 4


def test_an_epoch_counts_when_it_is_done(make: Callable[..., Run]) -> None:
    """`epochs_completed` is a count; steps after an epoch's end belong to the next; the end keeps total and rate."""
    run = make(total_epochs=2)
    for epoch in range(2):
        run.log({"loss": 1.0})
        run.epoch_end(epoch, {"loss": 1.0, "val_loss": 2.0 - epoch}, learning_rate=0.1)
        run.log_evaluation({"val_loss": 2.0 - epoch})
    run.finish({"val_loss": 1.0})
    shown = status(run)
    assert (shown["epoch"], shown["epochs_completed"], shown["total_epochs"]) == (1, 2, 2)
    assert (shown["learning_rate"], shown["is_training"]) == (0.1, False)
    assert [h["epoch"] for h in shown["metrics_history"]] == [0, 1]
    assert [r["epoch"] for r in rows(run)] == [None, 1]
    assert len(events(run, "evaluated")) == 2, "the same numbers of the same epoch are recorded once"


def test_tracking_a_loader_times_data_and_counts_steps(make: Callable[..., Run]) -> None:
    """The wait for a batch is in the row; a row every other batch has the batch's number; evaluation counts nothing."""
    run = make()

    def slow() -> Iterator[int]:
        for index in range(4):
            time.sleep(0.02)
            yield index

    tracked = run.track(list(range(3)))
    assert len(tracked) == 3  # type: ignore[arg-type]
    for index in run.track(slow()):
        if index % 2:
            run.log({"loss": 1.0})
            with run.phase("eval"):
                assert list(run.track([7, 8])) == [7, 8]
                time.sleep(0.05)
    run.finish()
    assert [r["step"] for r in rows(run)] == [2, 4]
    signals = rows(run)[1]["signals"]
    assert signals["data_wait_s"] > 0.015
    assert signals["step_s"] < 0.045, "the evaluation belongs to no step"
    assert status(run)["phase"] == "train"


def test_an_error_of_the_loader_is_the_scripts(make: Callable[..., Run]) -> None:
    """What the loader raises comes through as it is."""
    run = make()

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(run.track(broken()))


def test_a_request_to_stop_is_seen(make: Callable[..., Run]) -> None:
    """stop.json sets the flag and is recorded once; a request to an earlier attempt is not."""
    run = make()
    assert not run.should_stop
    experiments.request_stop(run.folder, "checker", "nonfinite")
    until(lambda: run.should_stop)
    assert run.stop_reason == "nonfinite"
    run.log({"loss": 1.0})
    run.finish(reason="stopped")
    assert [e["by"] for e in events(run, "stop_requested")] == ["checker"]
    os.utime(run.folder / "stop.json", (1.0, 1.0))
    again = make(resume=run.id)
    time.sleep(0.4)
    assert not again.should_stop


def test_a_stop_is_raised_only_where_the_script_opted_in(make: Callable[..., Run]) -> None:
    """`stop="raise"` ends the block with StopTraining, which goes no further; the default never raises."""
    run = make()
    run.request_stop("me", "enough")
    run.log({"loss": 1.0})
    run.finish()
    with make(stop="raise") as other:
        for _ in other.track(range(100)):
            other.request_stop("me", "enough")
    assert other.step == 0
    assert events(other, "training_ended")[0]["reason"] == "stopped"
    ignoring = make(stop="off")
    ignoring.request_stop("me", "enough")
    assert not ignoring.should_stop
    raising = make(stop="raise")
    raising.request_stop("me", "enough")
    with pytest.raises(StopTraining, match="enough"):
        raising.log({"loss": 1.0})


def test_an_exception_is_recorded_and_goes_on(make: Callable[..., Run]) -> None:
    """The block's exception is in the record with its text, and still raised."""
    run = make()

    def train() -> None:
        with run:
            run.log({"loss": 1.0})
            1 / 0  # noqa: B018

    with pytest.raises(ZeroDivisionError):
        train()
    ended = events(run, "training_ended")[0]
    assert ended["reason"] == "exception"
    assert ended["exception"]["type"] == "ZeroDivisionError"
    assert "1 / 0" in ended["exception"]["traceback"]
    assert status(run)["state"] == "crashed"
    assert status(run)["is_training"] is False


def test_a_resumed_attempt_takes_over(make: Callable[..., Run]) -> None:
    """Best, history, counters and wall time go on; the attempt has the next number; the start is not doubled in it."""
    run = make(name="a")
    for step in range(5):
        run.log({"loss": 1.0, "val_loss": 5.0 - step})
    run.epoch_end(0, {"val_loss": 1.0})
    run.finish()
    again = make(name="a", resume=True)
    assert (again.id, again.attempt, again.step) == (run.id, 2, 5)
    assert again.best["val_loss"]["value"] == 1.0
    again.log({"val_loss": 0.5})
    again.epoch_end(1, {"val_loss": 0.5})
    again.finish()
    assert [r["step"] for r in rows(again)][-1] == 6
    assert rows(again)[-1]["epoch"] == 1
    assert [h["epoch"] for h in status(again)["metrics_history"]] == [0, 1]
    assert status(again)["wall_time_seconds"] >= status(run)["wall_time_seconds"]
    assert [e["attempt"] for e in events(again, "training_started")] == [1, 2]


def test_without_a_snapshot_the_rows_tell(make: Callable[..., Run]) -> None:
    """A broken training_status.json is derived again from metrics.jsonl, bad lines and all."""
    run = make()
    run.epoch_end(0, {"val_loss": 0.7})
    run.finish()
    (run.folder / "training_status.json").write_text('{"epoch": 3')
    with (run.folder / "metrics.jsonl").open("ab") as handle:
        handle.write(
            b'garbage\n{"event": "epoch_end", "metrics": {"val_loss": NaN}, "epoch": 1}\n{"event": "ep'
        )
    again = make(resume=run.id)
    assert again.best["val_loss"]["value"] == 0.7
    again.log({"loss": 1.0})
    again.finish()
    assert rows(again)[-1]["metrics"] == {"loss": 1.0}


def test_the_monitor_itself_resumes(make: Callable[..., Run]) -> None:
    """`state_dict` is plain JSON; loading it goes back to that step, best and history."""
    run = make()
    for _ in run.track(range(3)):
        run.log({"val_loss": 1.0})
    state = json.loads(json.dumps(run.state_dict()))
    for _ in run.track(range(2)):
        run.log({"val_loss": 0.1})
    run.flush()
    run.load_state_dict(state)
    assert run.step == 3
    assert run.best["val_loss"]["value"] == 1.0
    for _ in run.track(range(1)):
        run.log({"val_loss": 0.9})
    assert run.step == 4


def test_nothing_that_is_logged_raises(make: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong arguments are said once on stderr and in the events, and the next row is written."""
    run = make()
    for wrong in (None, 3, object(), {"a": object()}, [1]):
        run.log(wrong)  # type: ignore[arg-type]
    for step in ("x", float("nan"), None, object()):
        run.log({"loss": 1.0}, step=step)  # type: ignore[arg-type]
    run.log_evaluation(3, step="x")  # type: ignore[arg-type]
    run.epoch_end("x", None)  # type: ignore[arg-type]
    run.event("odd", value=object(), nan=float("nan"))
    run.signal(lr=object())
    run.watch(object())
    run.load_state_dict({"best": 3, "history": "x"})
    run.log({"loss": 2.0}, step=77)
    run.finish(7)  # type: ignore[arg-type]
    assert rows(run)[-1]["step"] == 77
    shown = capsys.readouterr().err
    assert shown.count("assay: log: ValueError") == 1
    assert events(run, "tracker_problem")
    assert events(run, "odd")[0]["nan"] == "nan"
    run.log({"loss": 1.0})
    run.finish()


def test_a_full_disk_loses_nothing_that_fits_later(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the disk is full rows and events wait in memory; training goes on, and all is written afterwards."""
    run = make()
    run.log({"loss": 1.0})
    run.flush()
    real = files.write_all

    def full(descriptor: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    run.log({"loss": 2.0})
    assert run.event("note", text="x") is None
    assert run.flush() is False
    monkeypatch.setattr(files, "write_all", real)
    until(lambda: len(rows(run)) == 2 and events(run, "note"))
    assert "No space left" in capsys.readouterr().err


def test_no_generator_is_touched(make: Callable[..., Run]) -> None:
    """random, numpy and torch draw the same numbers with a run as without one."""
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    with make(primary_metric="val_loss", seed=3, config={"lr": 1}, hypothesis="x") as run:
        for _ in run.track(range(3)):
            run.log({"loss": torch.tensor(1.0)})
        run.log_evaluation({"val_loss": 1.0})
        run.epoch_end(0, {"val_loss": 1.0})
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_forked_worker_does_nothing(make: Callable[..., Run]) -> None:
    """A fork shares the run; its calls are no-ops, and neither its exit nor its crash ends the parent's run."""
    run = make()
    run.log({"loss": 1.0})
    run.flush()
    before = (run.folder / "metrics.jsonl").read_bytes(), (run.folder / "events.jsonl").read_bytes()
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            run.log({"loss": 9.0})
            run.log_evaluation({"loss": 9.0})
            run.event("note", text="child")
            run.flush()
            run.finish()
            code = 0 if run.disabled else 8
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    time.sleep(0.3)
    assert ((run.folder / "metrics.jsonl").read_bytes(), (run.folder / "events.jsonl").read_bytes()) == before
    run.log({"loss": 2.0})
    run.finish()
    assert [r["metrics"]["loss"] for r in rows(run)] == [1.0, 2.0]


def test_a_run_in_another_process_does_nothing(make: Callable[..., Run]) -> None:
    """Pickled into a spawned worker it is a run that is off; a tracked loader stands alone."""
    run = make()
    copy = pickle.loads(pickle.dumps(run))
    assert copy.disabled
    assert copy.folder == run.folder
    assert list(pickle.loads(pickle.dumps(run.track([1, 2])))) == [1, 2]


@pytest.mark.parametrize(
    "variables",
    [
        {"ASSAY_TRACK": "off"},
        {"RANK": "1"},
        {"LOCAL_RANK": "3"},
        {"SLURM_PROCID": "2", "SLURM_NTASKS": "4"},
    ],
)
def test_off_by_switch_and_by_rank(
    make: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Every call does nothing and no file appears."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with make(config={"lr": 1}) as run:
        assert run.disabled
        for batch in run.track([1, 2]):
            run.log({"loss": batch})
        with run.phase("eval"):
            run.log_evaluation({"loss": 1.0})
        run.start(), run.epoch_end(0, {}), run.signal(lr=1), run.note("x"), run.watch(None), run.flush()
        assert run.checkpoint({}) is None
        assert run.resume() is None
        assert run.event("x") is None
        assert not run.should_stop
        assert run.state_dict()["step"] == 0
        run.load_state_dict({})
    assert not (tmp_path / "experiments").exists()


def test_rank_zero_records(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 of a job, and a single task of a cluster, record."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("SLURM_PROCID", "5")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert not make().disabled


def test_joining_the_attempt_of_assay_train(
    tmp_path: Path, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder and attempt come from the environment; the script adds plan and configuration, and no attempt events."""
    folder = experiments.create(tmp_path / "experiments", name="from outside")
    files.append_event(folder, "attempt_started", 1, {"command": ["x"], "pid": os.getpid(), "host": "h"})
    monkeypatch.setenv(opening.FOLDER, str(folder))
    monkeypatch.setenv(opening.ATTEMPT, "1")
    with assay.experiment(primary_metric="val_loss", config={"lr": 1}, total_epochs=1) as run:
        assert (run.id, run.attempt, run.name) == ("exp-001", 1, "from outside")
        run.log_evaluation({"val_loss": 1.0})
    assert len(events(run, "attempt_started")) == 1
    assert events(run, "planned")[0]["plan"]["primary_metric"]["name"] == "val_loss"
    assert json.loads((folder / "config.yaml").read_text()) == {"lr": 1}
    other = assay.experiment()
    assert other.id == "exp-002" or other.folder != folder, "the second experiment of a script is its own"
    other.finish()


def test_one_process_records_an_experiment_at_a_time(make: Callable[..., Run], tmp_path: Path) -> None:
    """A second process that joins the same folder is off, and says why."""
    run = make()
    code = "import assay; r = assay.experiment(); print(r.disabled, r.why_disabled)"
    environment = {**os.environ, opening.FOLDER: str(run.folder), opening.ATTEMPT: "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True another process records this experiment"


def test_a_resume_of_what_runs_is_no_attempt(make: Callable[..., Run], tmp_path: Path) -> None:
    """A second process that goes on with it trains unrecorded, is told so, and adds nothing to the record."""
    run = make()
    code = "import assay, sys; print(assay.experiment(resume='exp-001', root=sys.argv[1]).disabled)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.folder.parent)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
    assert "exp-001: another process records this experiment now; this one is not recorded" in done.stderr
    assert len(events(run, "attempt_started")) == 1


def test_the_first_configuration_is_kept(make: Callable[..., Run]) -> None:
    """Another one is recorded beside it."""
    run = make(config={"lr": 1, "depth": 3}, seed=7)
    run.start(config={"lr": 2, "depth": 3})
    run.finish()
    assert json.loads((run.folder / "config.yaml").read_text()) == {"lr": 1, "depth": 3, "seed": 7}
    assert events(run, "config_differs")[0]["given"] == {"lr": 2}


def test_a_hypothesis_written_later_is_seen(make: Callable[..., Run]) -> None:
    """The writer looks at hypothesis.md while training runs."""
    run = make()
    (run.folder / "hypothesis.md").write_text("# Hypothesis\n\nLate.\n")
    until(lambda: events(run, "hypothesis"))
    assert events(run, "hypothesis")[0]["attempt"] == 1


def test_sinks_mirror_and_a_broken_one_is_dropped(
    make: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows and events reach a sink from a thread of its own; one that raises is named and left."""
    seen: list[str] = []

    class Sink:
        def row(self, row: Any) -> None:
            assert threading.current_thread() is not threading.main_thread()
            seen.append(row["event"])

        def event(self, event: Any) -> None:
            seen.append(event["event"])

        def close(self) -> None:
            seen.append("closed")

    class Broken(Sink):
        def row(self, row: Any) -> None:
            raise RuntimeError("mine")

    run = make()
    run.add_sink(Broken())
    run.add_sink(Sink())
    run.log({"loss": 1.0})
    run.log_evaluation({"val_loss": 1.0})
    run.finish()
    assert {"step", "evaluation", "evaluated", "training_ended"} <= set(seen)
    assert seen[-1] == "closed"
    assert "sink Broken" in capsys.readouterr().err


def test_two_runs_may_be_open(make: Callable[..., Run]) -> None:
    """`current` is the newest that has not ended."""
    first, second = make(), make()
    assert current() is second
    second.finish()
    assert current() is first


def test_threads_log_together(make: Callable[..., Run]) -> None:
    """Calls from several threads lose no row."""
    run = make()
    threads = [
        threading.Thread(target=lambda: [run.log({"x": 1.0}, step=i) for i in range(200)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish()
    assert len(rows(run)) == 800


@pytest.mark.slow
def test_a_writer_that_is_stuck_does_not_hold_the_loop(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rows come faster than they can be written the oldest are counted and dropped, after a short wait."""
    monkeypatch.setattr("assay.track.writer.WAITING_LIMIT", 100)
    monkeypatch.setattr("assay.track.tracker.WAITING_LIMIT", 100)
    monkeypatch.setattr("assay.track.writer.WAIT_LIMIT_S", 0.01)
    run = make()
    record = run._record
    assert record is not None
    with record.writer._one_at_a_time:
        for _ in range(400):
            run.log({"x": 1.0})
        assert record.writer.dropped > 0
        assert len(record.writer.queue) <= 201
    run.finish()
    assert status(run)["rows_dropped"] == record.writer.dropped


def test_a_watched_model_gives_signals(make: Callable[..., Run]) -> None:
    """Probes join the step rows, and the wiring is recorded before the first."""
    pytest.importorskip("assay.track.probes")
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = make()
    run.watch(model, optimizer, every=1)
    for _ in range(12):
        optimizer.zero_grad()
        loss = model(torch.ones(4, 2)).mean()
        loss.backward()
        optimizer.step()
        run.log({"loss": loss})
    run.finish()
    assert any(r["signals"].get("lr") == 0.1 for r in rows(run))
    assert any("grad_norm" in r["signals"] for r in rows(run))
    assert events(run, "wiring_inspected")


@pytest.mark.slow
def test_rows_say_what_the_batches_hold_and_what_the_machine_gives(make: Callable[..., Run]) -> None:
    """The entropy of the first batches' labels, and the share of the processor that others took, reach the log."""
    run = make()
    batches = [(np.zeros((4, 2)), np.array(labels)) for labels in ([0, 0, 0, 0], [0, 1, 0, 1])]
    until_s = time.monotonic() + 10.0
    for index, _ in enumerate(run.track(batches * 2_000)):
        run.log({"loss": 1.0})
        time.sleep(0.001)
        if index > 20 and (
            time.monotonic() > until_s or any("contended" in r["signals"] for r in rows(run)[-40:])
        ):
            break
    run.finish()
    seen = [r["signals"].get("label_entropy") for r in rows(run)]
    assert seen[:2] == pytest.approx([0.0, float(np.log(2))])
    assert sum(v is not None for v in seen) < 12 + len(seen) / 10
    shares = [r["signals"]["contended"] for r in rows(run) if "contended" in r.get("signals", {})]
    assert shares
    assert all(0.0 <= v <= 1.0 for v in shares)


def test_batches_without_labels_are_passed_over(
    make: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a loader yields, the loop sees it and nobody complains."""
    run = make()
    odd: list[Any] = [None, 3, "text", {"x": 1}, (object(), object()), ([1], torch.ones(2, 2))]
    assert list(run.track(odd)) == odd
    run.finish()
    assert "assay:" not in capsys.readouterr().err


def test_a_checkpoint_and_a_resume(make: Callable[..., Run]) -> None:
    """A saved state comes back in the next attempt, and steps count on from it."""
    pytest.importorskip("assay.track.checkpoint")
    run = make(primary_metric="val_loss")
    for _ in range(3):
        run.log({"loss": 1.0})
    name = run.checkpoint({"weights": [1, 2]}, {"val_loss": 0.5}, wait=True)
    assert name is not None
    run.log({"loss": 1.0})
    run.finish()
    assert status(run)["checkpoints"][-1]["metrics"] == {"val_loss": 0.5}
    again = make(resume=run.id)
    state = again.resume()
    assert state["weights"] == [1, 2]
    assert again.step == 3


def test_a_signal_to_end_is_answered_at_the_next_boundary(make: Callable[..., Run]) -> None:
    """SIGTERM saves what the provider gives and asks the loop to stop."""
    pytest.importorskip("assay.track.checkpoint")
    before = signal.getsignal(signal.SIGTERM)
    if before != signal.SIG_DFL:
        pytest.skip("somebody else listens to SIGTERM here")
    run = make()
    done = 0
    run.checkpoint(lambda: {"done": done})
    for _ in run.track(range(100)):
        run.log({"loss": 1.0})
        if done == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda: run._checkpointer.policy.preemption.requested)
        if run.should_stop:
            break
        done += 1
    run.finish(reason="stopped")
    assert done == 2
    assert [e["reason"] for e in events(run, "checkpoint_committed")][-1] == "signal"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_tick_ends_an_ignored_signal(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that never looks is ended by the signal after its time, as it would be without us."""
    sent: list[int] = []
    monkeypatch.setattr(tracker.os, "kill", lambda pid, number: sent.append(number))
    monkeypatch.setattr(tracker, "IGNORED_S", 0.0)
    run = make()

    class Saver:
        class policy:  # noqa: N801
            class preemption:  # noqa: N801
                requested = "SIGTERM"

        def close(self) -> None:
            """Nothing is held."""

    run._checkpointer = Saver()
    run._unanswered()
    time.sleep(0.01)
    run._unanswered()
    assert sent == [signal.SIGTERM]
    run._checkpointer = None


# --- going on ---------------------------------------------------------------------------------------------------------


def test_a_snapshot_that_was_old_when_its_process_died_is_not_believed(tmp_path: Path) -> None:
    """Best, history, step and wall time come from the rows that were written after it."""
    root = tmp_path / "experiments"
    run = assay.experiment(root=root, primary_metric="accuracy", direction="max")
    run.log({"loss": 1.0})
    run.epoch_end(0, {"accuracy": 0.1})
    run.show()
    until(lambda: status(run)["rows"] >= 3)
    old = (run.folder / "training_status.json").read_bytes()
    run.epoch_end(1, {"accuracy": 0.9})
    run.log({"loss": 0.5}, step=7)
    run.finish()
    lines = (run.folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run.folder / "metrics.jsonl").write_bytes(b"".join(lines[:-1]))  # as if killed: no end
    for snapshot in (
        old,
        None,
        b"{}",
        old.replace(b'"rows_bytes"', b'"x"'),
        old.replace(b'"attempt"', b'"y"'),
    ):
        (run.folder / "training_status.json").unlink(missing_ok=True)
        if snapshot is not None:
            (run.folder / "training_status.json").write_bytes(snapshot)
        standing = Standing(run.id, "", dict(run.plan))
        standing.adopt(run.folder)
        assert standing.best["accuracy"]["value"] == 0.9, snapshot
        assert [h["epoch"] for h in standing.history] == [0, 1]
        assert (standing.step, standing.epochs_completed) == (7, 2)
        assert 0.0 <= standing.elapsed_before_s < 30.0


def test_wall_time_of_rows_after_the_snapshot_counts(tmp_path: Path) -> None:
    """Of the snapshot's attempt only what lies beyond it; a later attempt in full; earlier ones are in it already."""
    (tmp_path / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"event": "step", "attempt": a, "step": s, "t": t, "metrics": {"loss": 1.0}}) + "\n"
            for a, s, t in [(1, 1, 50.0), (2, 2, 30.0), (2, 3, 34.0), (3, 4, 5.0)]
        )
    )
    (tmp_path / "training_status.json").write_text(
        json.dumps(
            {"attempt": 2, "attempt_elapsed_s": 30.0, "wall_time_seconds": 80.0, "metrics_history": []}
        )
    )
    standing = Standing("exp-001", "", {})
    standing.adopt(tmp_path)
    assert standing.elapsed_before_s == pytest.approx(89.0)


def test_an_epoch_that_is_trained_again_stands_once_in_the_history() -> None:
    """A resume from before an epoch replaces it and what came after it."""
    standing = Standing("exp-001", "", {})
    for epoch, value in [(0, 1.0), (1, 2.0), (2, 3.0), (1, 2.5)]:
        standing.take({"event": "epoch_end", "epoch": epoch, "metrics": {"loss": value}})
    assert [(h["epoch"], h["loss"]) for h in standing.history] == [(0, 1.0), (1, 2.5)]


def test_a_resumed_script_may_name_its_plan_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it added in the first attempt stands in the plan: it is not added, and not refused, a second time."""
    folder = experiments.create(tmp_path / "experiments")
    said: dict[str, Any] = {"primary_metric": "loss", "direction": "min", "total_steps": 5}
    for attempt in (1, 2):
        files.append_event(folder, "attempt_started", attempt, {"pid": os.getpid(), "host": "x"})
        monkeypatch.setenv(opening.FOLDER, str(folder))
        monkeypatch.setenv(opening.ATTEMPT, str(attempt))
        opening._joined.clear()
        run = assay.experiment(**said)
        assert run.attempt == attempt
        run.log_evaluation({"loss": 1.0 / attempt}, step=attempt)
        run.finish()
        files.append_event(folder, "attempt_ended", attempt, {"outcome": "exited", "exit_code": 0})
    found = read_any(folder)
    assert [e.event for e in found.events].count("planned") == 1
    assert (found.problems_of("events.jsonl"), found.plan.total_steps) == ((), 5)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("again", "word"),
    [
        ({"primary_metric": "loss", "total_steps": 9}, "total_steps of the script differs from the plan"),
        ({"primary_metric": "loss", "seed": 3}, "seed of the script was named after the first evaluation"),
    ],
)
def test_a_plan_that_comes_too_late_or_differs_is_told_and_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], again: dict[str, Any], word: str
) -> None:
    """The record stays sound: a line on stderr and a note, no event that the gate would refuse."""
    root = tmp_path / "experiments"
    with assay.experiment(root=root, primary_metric="loss", total_steps=5) as run:
        run.log_evaluation({"loss": 1.0}, step=1)
    with assay.experiment(root=root, resume=run.id, **again):
        pass
    found = read_any(run.folder)
    assert (found.problems_of("events.jsonl"), found.plan.total_steps) == ((), 5)
    assert word in capsys.readouterr().err
    assert any(word in note for note in found.notes)


def test_a_hypothesis_of_the_script_stands_before_its_first_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joining writes and records it at once, not when the writer comes by."""
    folder = experiments.create(tmp_path / "experiments")
    files.append_event(
        folder, "attempt_started", 1, {"pid": os.getpid(), "host": "x", "hypothesis_digest": ""}
    )
    monkeypatch.setenv(opening.FOLDER, str(folder))
    monkeypatch.setenv(opening.ATTEMPT, "1")
    opening._joined.clear()
    run = assay.experiment(hypothesis="wider is better")
    run.log_evaluation({"loss": 1.0}, step=1)
    run.finish()
    kinds = [e["event"] for e in files.read_events(folder)]
    assert kinds.count("hypothesis") == 1
    assert kinds.index("hypothesis") < kinds.index("evaluated")


# --- what goes along ----------------------------------------------------------------------------------------------------

REPLAY = """
def replay(state, steps):
    return [1.0 / (state["counters"]["step"] + k) for k in range(1, steps + 1)]
"""


@pytest.mark.slow
@pytest.mark.parametrize(("stride", "replayed"), [(1, "3 steps replayed"), (2, "state equal")])
def test_a_replay_is_compared_with_what_was_logged(
    make: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int, replayed: str
) -> None:
    """Without a call of `observe`; a script that logs every other step is compared in its state alone, not wrongly."""
    (tmp_path / "replayed_by_the_test.py").write_text(REPLAY)
    monkeypatch.syspath_prepend(tmp_path)
    import replayed_by_the_test  # type: ignore[import-not-found]  # noqa: PLC0415 - it was just written

    run = make()
    run.checkpoints(replay=replayed_by_the_test.replay, verify="restore")
    for step in range(stride, 9, stride):
        run.log({"loss": torch.tensor(1.0 / step, dtype=torch.float64)}, step=step)
        if step == 2:
            assert run.checkpoint({"counters": {"step": 2}}, step=2)
    run.finish()
    (proven,) = [e for e in events(run, "checkpoint_verified") if e["level"] == "restore"]
    assert replayed in proven["detail"]
    assert ("replayed" in proven["detail"]) is (stride == 1)
    assert events(run, "checkpoint_failed") == []


class Collected:
    """A mirror of the test."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def row(self, row: Any) -> None:
        """A row."""
        self.seen.append(f"row {row['event']}")

    def event(self, event: Any) -> None:
        """An event."""
        self.seen.append(f"event {event['event']}")

    def close(self) -> None:
        """The end."""
        self.seen.append("closed")


def test_sinks_are_attached_at_the_door(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An object hears everything; a tracker that is not installed is told once and the training goes on."""

    def refuse(kind: str, *_: Any, **__: Any) -> Any:
        raise ImportError(f"the sink needs the package {kind}")

    monkeypatch.setattr(sinks, "open_sink", refuse)
    mine = Collected()
    run = make(sinks=["wandb", mine])
    run.log({"loss": 1.0})
    run.finish()
    assert [word for word in mine.seen if word in ("row step", "event training_ended", "closed")] == [
        "row step", "event training_ended", "closed"
    ]  # fmt: skip
    assert "the sink needs the package wandb" in capsys.readouterr().err
    assert [e["where"] for e in events(run, "tracker_problem")] == ["sinks"]


def test_an_unknown_sink_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """A typing error is no missing library."""
    with pytest.raises(ValueError, match="mlflow, tensorboard, trackio, wandb"):
        assay.experiment(root=tmp_path / "experiments", sinks=["wanbd"])
    assert not (tmp_path / "experiments").exists()
    assert opening.SINKS == sinks.KINDS
