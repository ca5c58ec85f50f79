"""The checkpointer: cadence, what is best, resume with its fallbacks and refusals, background saves, proofs."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_fakes import FailingDisk, MemoryRun

from assay.track._checkpoint.cadence import Cadence
from assay.track._checkpoint.finite import not_finite
from assay.track._checkpoint.restored import replay_of, same
from assay.track._checkpoint.tree import encode
from assay.track.checkpoint import (
    CheckpointDamaged,
    Checkpointer,
    CheckpointMismatch,
    Disk,
    Policy,
    capture,
    read_legacy,
    young_interval_s,
)
from assay.track.signals import Preemption

STATE = {"model": {"w": np.arange(50, dtype="f4")}, "counters": {"samples": 7}}


def saver(folder: Path, run: MemoryRun | None = None, **options: Any) -> Checkpointer:
    """A checkpointer that starts no process."""
    return Checkpointer(run or MemoryRun(), folder / "checkpoints", **{"verify_every": 0, **options})


def flip(folder: Path, name: str) -> None:
    """Damage the weights of a checkpoint."""
    path = folder / "checkpoints" / name / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


class Clock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


# --- cadence ------------------------------------------------------------------------------------------------------------


def test_by_steps_a_multiple_that_was_passed_counts() -> None:
    """Due at each multiple, also when steps come in strides, and from where a resume left off."""
    cadence = Cadence(every_steps=100)
    assert [step for step in range(0, 301, 30) if _due(cadence, step)] == [120, 210, 300]
    resumed = Cadence(every_steps=100)
    resumed.saved(250, None)
    assert [step for step in range(251, 420) if _due(resumed, step)] == [300, 400]


def _due(cadence: Cadence, step: int, epoch: int | None = None) -> bool:
    due = cadence.due(step, epoch)
    if due:
        cadence.saved(step, epoch, 0.0)
    return due


def test_by_epochs_counted_from_zero_and_once_an_epoch() -> None:
    """Every 10 fires after epochs 9, 19, 29 and once in each, as the old contract has it."""
    cadence = Cadence(every_epochs=10)
    assert [epoch for epoch in range(30) if _due(cadence, epoch, epoch)] == [9, 19, 29]
    assert not cadence.due(400, 29)


def test_by_seconds() -> None:
    """Due when the seconds have passed since the last save."""
    clock = Clock()
    cadence = Cadence(every_s=60, clock=clock)
    clock.now = 59
    assert not cadence.due(1, None)
    clock.now = 60
    assert _due(cadence, 1)
    clock.now = 100
    assert not cadence.due(2, None)


def test_young_interval_and_its_cap() -> None:
    """sqrt(2 C M), but saves never take more than the cap."""
    assert young_interval_s(2.0, 10_000.0) == pytest.approx(200.0)
    assert young_interval_s(100.0, 1000.0, 0.035) == pytest.approx(100 / 0.035)
    clock = Clock()
    cadence = Cadence(mtbf_s=3600, clock=clock)
    for cost in (40.0, 60.0):
        cadence.saved(1, None, cost)
    assert cadence.interval_s() == pytest.approx(max(math.sqrt(2 * 50 * 3600), 50 / 0.035))
    clock.now = 10_000
    assert cadence.overhead_frac == pytest.approx(0.01)


def test_without_any_cadence_young_decides() -> None:
    """A checkpointer that was told nothing saves by time; one with steps does not."""
    assert Cadence().interval_s() == pytest.approx(math.sqrt(2 * 6 * 3600))
    assert Cadence(every_steps=5).interval_s() is None


@pytest.mark.parametrize("options", [
    {"keep": 0}, {"every_steps": 0}, {"every_s": -1.0}, {"best": ("loss", "lower")}, {"verify": "full"},
    {"overhead_cap_frac": float("nan")}, {"digests": {"seed": "x"}},
])  # fmt: skip
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    """A wrong option is an error that says what is allowed, at once and not at the first save."""
    with pytest.raises(ValueError, match="allowed"):
        Policy(**options)


# --- resume -------------------------------------------------------------------------------------------------------------


def test_nothing_saved_is_nothing_to_resume(tmp_path: Path) -> None:
    """A new experiment starts from the beginning."""
    made = saver(tmp_path)
    assert made.load() is None
    assert made.resumed is None


def test_resume_falls_back_one_by_one_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest that holds is taken; each that was skipped is recorded with its reason."""
    first = saver(tmp_path, keep=9)
    for step in (1, 2, 3, 4):
        first.save({**STATE, "step": step}, step=step)
    flip(tmp_path, "ckpt-00000004")
    (tmp_path / "checkpoints" / "ckpt-00000003" / "manifest.json").unlink()
    run = MemoryRun(attempt=2)
    second = saver(tmp_path, run, keep=9)
    state = second.load()
    assert state is not None
    assert state["step"] == 2
    assert second.resumed is not None
    assert [name for name, _ in second.resumed.skipped] == ["ckpt-00000004"]
    assert [event["name"] for event in run.kinds("checkpoint_failed")] == ["ckpt-00000004"]
    assert run.kinds("resumed")[0]["step"] == 2
    assert "skipped ckpt-00000004" in capsys.readouterr().err


def test_an_unreadable_manifest_is_the_last_resort_and_named(tmp_path: Path) -> None:
    """If nothing holds the resume refuses, and does not silently begin anew."""
    made = saver(tmp_path)
    made.save(STATE, step=1)
    flip(tmp_path, "ckpt-00000001")
    (tmp_path / "checkpoints" / "ckpt-00000002").mkdir()
    with pytest.raises(CheckpointDamaged) as caught:
        saver(tmp_path, MemoryRun(attempt=2)).load()
    assert "ckpt-00000001" in str(caught.value)
    assert "ckpt-00000002" in str(caught.value)
    assert "assay checkpoint verify" in caught.value.next


def test_one_that_was_named_is_not_replaced_by_another(tmp_path: Path) -> None:
    """load("best") gives that one, or says that it does not hold."""
    made = saver(tmp_path, best=("loss", "min"))
    made.save({**STATE, "step": 1}, step=1, metrics={"loss": 0.1})
    made.save({**STATE, "step": 2}, step=2, metrics={"loss": 0.2})
    made.join()
    best = made.load("best")
    assert best is not None
    assert best["step"] == 1
    flip(tmp_path, "ckpt-00000001")
    with pytest.raises(CheckpointDamaged, match="bytes changed"):
        made.load("best")
    with pytest.raises(CheckpointDamaged, match="no checkpoint 'ckpt-00000099'"):
        made.load("ckpt-00000099")


@pytest.mark.parametrize("what", ["config", "data", "code"])
def test_another_configuration_is_refused_unless_forced(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume under other digests is refused with both named; force and ASSAY_RESUME=force let it pass and say so."""
    saver(tmp_path, digests={what: "sha256:a"}).save(STATE, step=1)
    run = MemoryRun(attempt=2)
    other = saver(tmp_path, run, digests={what: "sha256:b"})
    with pytest.raises(CheckpointMismatch, match=f"another {what}.*sha256:a.*sha256:b"):
        other.load()
    assert other.load(force=True) is not None
    assert other.resumed is not None
    assert other.resumed.forced == (f"{what}_digest",)
    assert "forced" in run.kinds("note")[0]["text"]
    monkeypatch.setenv("ASSAY_RESUME", "force")
    assert other.load() is not None


def test_the_best_value_is_adopted_by_the_next_attempt(tmp_path: Path) -> None:
    """A second attempt does not call its first evaluation the best if an earlier one was better."""
    first = saver(tmp_path, best=("acc", "max"))
    first.save(STATE, step=1, metrics={"acc": 0.9})
    first.join()
    second = saver(tmp_path, MemoryRun(attempt=2), best=("acc", "max"))
    second.save(STATE, step=2, metrics={"acc": 0.8})
    assert second.folder.pointed("best") == "ckpt-00000001"


def test_restored_on_purpose(tmp_path: Path) -> None:
    """The pointer `resume` decides until the resumed attempt has a checkpoint of its own."""
    made = saver(tmp_path, keep=9)
    for step in (1, 2, 3):
        made.save({**STATE, "step": step}, step=step)
    made.folder.point("resume", "ckpt-00000001")
    second = saver(tmp_path, MemoryRun(attempt=2), keep=9)
    assert [second.load()["step"] for _ in range(2)] == [1, 1]  # type: ignore[index]
    second.save({**STATE, "step": 9}, step=9)
    assert second.load()["step"] == 9  # type: ignore[index]


def test_a_rank_above_zero_reads_and_changes_nothing(tmp_path: Path) -> None:
    """A disabled run may resume; it leaves files, marks and half-written folders of the first rank alone."""
    made = saver(tmp_path)
    made.save(STATE, step=1)
    made.folder.point("resume", "ckpt-00000001")
    (tmp_path / "checkpoints" / "ckpt-00000002.tmp-1").mkdir()
    before = sorted((p.name, p.lstat().st_mtime_ns) for p in (tmp_path / "checkpoints").iterdir())
    run = MemoryRun(attempt=2)
    run.disabled = True  # type: ignore[attr-defined]
    other = saver(tmp_path, run)
    assert other.load() is not None
    assert other.save(STATE, step=5) is None
    assert not other.due(5)
    assert sorted((p.name, p.lstat().st_mtime_ns) for p in (tmp_path / "checkpoints").iterdir()) == before


# --- the loop is never disturbed ----------------------------------------------------------------------------------------


def test_a_state_that_cannot_be_saved_does_not_end_the_loop(tmp_path: Path) -> None:
    """An object without a plain form is recorded with its path; nothing is raised."""
    run = MemoryRun()
    made = saver(tmp_path, run)
    assert made.save({"model": {"hook": lambda: None}}, step=1) is None
    assert "model.hook" in run.events[0]["detail"]
    assert made.save(lambda: 1 / 0, step=2) is None  # type: ignore[arg-type, return-value]
    assert made.save(STATE, step=3) == "ckpt-00000003"


def test_saving_touches_no_random_generator(tmp_path: Path) -> None:
    """Random numbers after a save are those that would have come without it."""
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    saver(tmp_path).save(capture(model=torch.nn.Identity(), counters=STATE["counters"]), step=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_importing_needs_neither_torch_nor_numpy() -> None:
    """The module, and saving plain data with it, loads no package but the standard library's."""
    code = (
        "import sys, tempfile, pathlib\n"
        "from assay.track.checkpoint import Checkpointer, capture\n"
        "class Run:\n    id='e'; attempt=1\n    def event(self, kind, **f): pass\n"
        "c = Checkpointer(Run(), pathlib.Path(tempfile.mkdtemp())/'c', verify_every=0)\n"
        "assert c.save(capture(counters={'n': 1}), step=1)\n"
        "assert c.load()['counters'] == {'n': 1}\n"
        "sys.exit(','.join({'torch','numpy','pydantic','safetensors'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_forked_worker_saves_nothing(tmp_path: Path) -> None:
    """In a forked copy of the process every call is a no-op."""
    made = saver(tmp_path)
    made._owner = os.getpid() + 1
    assert made.save(STATE, step=1) is None
    assert not made.due(1)
    made.join()
    assert made.all() == ()


# --- in the background --------------------------------------------------------------------------------------------------


class HeldDisk(Disk):
    """Writes only when the test lets it."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.reached = threading.Event()

    def write(self, descriptor: int, data: memoryview) -> int:
        """Wait, then write."""
        self.reached.set()
        assert self.free.wait(60)
        return super().write(descriptor, data)


def test_one_background_save_at_a_time_of_the_moment_it_was_asked(tmp_path: Path) -> None:
    """The state is that of the call; a second is skipped meanwhile; an urgent one waits; join ends with all on disk."""
    disk = HeldDisk()
    made = saver(tmp_path, asynchronous=True, disk=disk)
    weights = np.zeros(8)
    assert made.save({"model": {"w": weights}}, step=1) == "ckpt-00000001"
    assert disk.reached.wait(60)
    weights += 1
    assert made.save({"model": {"w": weights}}, step=2) is None
    assert made.all() == ()
    disk.free.set()
    assert made.save({"model": {"w": weights}}, step=3, reason="final") == "ckpt-00000003"
    made.join()
    assert made.load("ckpt-00000001")["model"]["w"].tolist() == [0.0] * 8  # type: ignore[index]
    assert made.load("ckpt-00000003")["model"]["w"].tolist() == [1.0] * 8  # type: ignore[index]


def test_a_background_failure_is_recorded(tmp_path: Path) -> None:
    """A disk that fails in the thread is an event and not a traceback."""
    run = MemoryRun()
    made = saver(tmp_path, run, asynchronous=True, disk=FailingDisk(2))
    made.save(STATE, step=1)
    made.join()
    assert run.kinds("checkpoint_failed")[0]["level"] == "write"
    assert made.all() == ()


# --- proofs -------------------------------------------------------------------------------------------------------------


def test_bytes_that_rot_while_they_are_written_are_found_at_once(tmp_path: Path) -> None:
    """What the disk stored differs from what was hashed: the save is marked, `last` stays with the one before."""

    class Rotting(Disk):
        def write(self, descriptor: int, data: memoryview) -> int:
            changed = bytearray(data)
            changed[len(changed) // 2] ^= 4
            return super().write(descriptor, memoryview(changed))

    saver(tmp_path).save(STATE, step=1)
    run = MemoryRun()
    made = saver(tmp_path, run, disk=Rotting())
    made.save(STATE, step=2)
    assert run.kinds("checkpoint_failed")[0]["level"] == "digest"
    assert made.folder.pointed("last") == "ckpt-00000001"


def test_a_failed_proof_leads_pointers_and_resume_away(tmp_path: Path) -> None:
    """A checkpoint whose restore failed is neither last nor best nor resumed from, unless named."""
    made = saver(tmp_path, best=("loss", "min"))
    made.save({**STATE, "step": 1}, step=1, metrics={"loss": 0.5})
    made.join()
    made.save({**STATE, "step": 2}, step=2, metrics={"loss": 0.1})
    made.join()
    made._reject("ckpt-00000002", "restore", CheckpointDamaged("2 steps replayed give other losses"))
    assert made.folder.pointed("last") == "ckpt-00000001"
    assert made.folder.pointed("best") == "ckpt-00000001"
    second = saver(tmp_path, MemoryRun(attempt=2))
    assert second.load()["step"] == 1  # type: ignore[index]
    assert second.resumed is not None
    assert second.resumed.skipped == (("ckpt-00000002", "2 steps replayed give other losses"),)
    assert second.load("ckpt-00000002")["step"] == 2  # type: ignore[index]


@pytest.mark.slow
def test_every_nth_best_and_final_are_restored_in_a_process(tmp_path: Path) -> None:
    """With verify_every=2 the second, the best and the final are proven by restore; join waits for them."""
    run = MemoryRun()
    made = Checkpointer(run, tmp_path / "checkpoints", verify_every=2, best=("loss", "min"), keep=9)
    made.save(STATE, step=1)
    made.save(STATE, step=2)
    made.save(STATE, step=3, metrics={"loss": 0.1})
    made.join()
    made.save(STATE, step=5, reason="final")
    made.join()
    proven = {event["name"] for event in run.kinds("checkpoint_verified") if event["level"] == "restore"}
    assert proven == {"ckpt-00000002", "ckpt-00000003", "ckpt-00000005"}
    assert [item.verified for item in made.all()] == ["digest", "restore", "restore", "restore"]


@pytest.mark.parametrize(
    ("plan", "options", "expected"),
    [
        ({"total_epochs": 13}, {"legacy_names": True}, [9, 12]),
        ({"total_epochs": 10}, {"legacy_names": True}, [9]),
        ({"total_steps": 26}, {"every_steps": 10}, [4, 9, 12]),
        ({}, {"every_epochs": 5}, [4, 9]),
    ],
)
def test_the_planned_end_is_due(
    plan: dict[str, int], options: dict[str, Any], expected: list[int], tmp_path: Path
) -> None:
    """The last epoch or step is saved whatever the cadence; two steps an epoch, thirteen epochs."""
    run = MemoryRun()
    run.plan = plan  # type: ignore[attr-defined]
    made = saver(tmp_path, run, **options)
    due = []
    for epoch in range(13):
        if made.due(2 * (epoch + 1), epoch):
            due.append(epoch)
            made.cadence.saved(2 * (epoch + 1), epoch)
        assert not made.due(2 * (epoch + 1), epoch) or epoch not in due
    assert due == expected


@pytest.mark.slow
def test_the_best_and_the_last_are_proven_whatever_reason_they_were_saved_for(tmp_path: Path) -> None:
    """A save for a stop that is the best is restored; so is the newest one when training ends by itself."""
    run = MemoryRun()
    made = Checkpointer(run, tmp_path / "checkpoints", verify_every=0, best=("loss", "min"), keep=9)
    made.save(STATE, step=1, metrics={"loss": 0.1}, reason="stop")
    made.save(STATE, step=2, metrics={"loss": 0.2})
    made.join()
    assert [item.verified for item in made.all()] == ["restore", "digest"]
    made.close(completed=True)
    assert [item.verified for item in made.all()] == ["restore", "restore"]


def test_losses_are_the_same_only_if_every_bit_is() -> None:
    """Rows of equal length and equal numbers; NaN equals NaN; a tolerance is relative."""
    nan = float("nan")
    assert same([[1.0, nan]], [[1.0, nan]], 0.0)
    assert not same([[1.0]], [[math.nextafter(1.0, 2.0)]], 0.0)
    assert same([[100.0]], [[100.05]], 1e-3)
    assert not same([[1.0], [2.0]], [[1.0]], 0.0)
    assert not same([[1.0]], [[nan]], 0.5)


def test_a_replay_must_be_found_from_another_process() -> None:
    """A lambda or a nested function is refused when the checkpointer is made."""
    with pytest.raises(ValueError, match="top of a module"):
        replay_of(lambda state, steps: [])
    assert replay_of(math.sqrt) == {"module": "math", "name": "sqrt"}


# --- the old names ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_old_names_and_keys(tmp_path: Path) -> None:
    """last.pt and best.pt load with weights_only, hold the keys of the old contract, and follow the pointers."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2).to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    made = saver(tmp_path, legacy_names=True, best=("val_loss", "min"))
    assert made.cadence.every_epochs == 10
    for step, loss in ((1, 0.5), (2, 0.9)):
        state = capture(
            {"hyperparams": {"lr": 1e-3}, "noise": np.ones(2)},
            model=model,
            optimizer=optimizer,
            scheduler=None,
        )
        assert made.save(state, step=step, epoch=step, metrics={"val_loss": loss}) is not None, made.failures
    made.join()
    last = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert {
        "epoch",
        "model",
        "optimizer",
        "torch_rng_state",
        "best_val_loss",
        "hyperparams",
        "metadata",
    } <= set(last)
    assert (last["epoch"], last["best_val_loss"], last["hyperparams"]) == (2, 0.5, {"lr": 1e-3})
    assert torch.equal(last["model"]["weight"], model.weight)
    fresh = torch.optim.Adam(torch.nn.Linear(3, 2).parameters())
    fresh.load_state_dict(last["optimizer"])
    assert read_legacy(tmp_path / "checkpoints" / "best.pt")["epoch"] == 1
    assert made.load() is not None


def test_a_foreign_pickle_is_never_loaded(tmp_path: Path) -> None:
    """A last.pt that would run code is refused."""

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/ran",)

    path = tmp_path / "last.pt"
    path.write_bytes(pickle.dumps({"model": Evil()}))
    with pytest.raises(CheckpointDamaged):
        read_legacy(path)
    assert not (tmp_path / "ran").exists()


# --- signals ------------------------------------------------------------------------------------------------------------


def test_a_signal_makes_a_save_due_and_polls_answer_it_once(tmp_path: Path) -> None:
    """After the flag is set: due; poll saves with reason `signal` at the newest step, and goes on saying stop."""
    run, preemption = MemoryRun(), Preemption()
    made = saver(tmp_path, run, every_steps=100, preemption=preemption)
    made.provider = lambda: STATE
    assert not made.poll()
    assert not made.due(41, 3)
    preemption.requested = "SIGTERM"
    assert made.due(42, 3)
    assert made.poll()
    assert made.poll()
    assert [item.name for item in made.all()] == ["ckpt-00000042"]
    assert run.kinds("checkpoint_committed")[0]["reason"] == "signal"
    assert run.kinds("stop_requested") == [
        {"event": "stop_requested", "by": "SIGTERM", "reason": "preemption"}
    ]


def test_a_save_of_the_loop_answers_the_signal(tmp_path: Path) -> None:
    """A script that only asks due() and saves has answered as well."""
    run, preemption = MemoryRun(), Preemption()
    made = saver(tmp_path, run, every_steps=100, preemption=preemption)
    preemption.requested = "SIGUSR1"
    assert made.due(7)
    made.save(STATE, step=7)
    assert preemption.answered
    assert made.poll()
    assert len(made.all()) == 1
    assert made.all()[0].manifest.reason == "signal"  # type: ignore[union-attr]


def test_the_watchdog_saves_where_the_state_is_at_rest(tmp_path: Path) -> None:
    """During an evaluation that polls nothing the state is saved from the watchdog; in training it only speaks."""
    for phase, saved in (("eval", 1), ("warm-up", 1), ("train", 0)):
        run, preemption = MemoryRun(), Preemption()
        run.phase_name = phase  # type: ignore[attr-defined]
        made = saver(tmp_path / phase, run, preemption=preemption)
        made.provider = lambda: STATE
        preemption.requested = "SIGTERM"
        made._late("SIGTERM")
        assert len(made.all()) == saved, phase
        assert bool(run.kinds("note")) == (not saved)


# --- weights that are not finite ----------------------------------------------------------------------------------------


def test_weights_that_are_not_finite_are_kept_aside_and_never_resumed(tmp_path: Path) -> None:
    """Neither last nor best leads to them, whatever the metric says; a resume takes the one before."""
    run = MemoryRun()
    made = saver(tmp_path, run, best=("loss", "min"))
    assert made.save(STATE, step=10, metrics={"loss": 1.0}) == "ckpt-00000010"
    bad = {**STATE, "model": {"w": torch.tensor([1.0, math.nan, 2.0])}}
    assert made.save(bad, step=20, metrics={"loss": 0.1}, reason="stop") is None
    assert (made.folder.pointed("last"), made.folder.pointed("best")) == ("ckpt-00000010", "ckpt-00000010")
    item = made.folder.stored("ckpt-00000020")
    assert (item.sound, item.odd, item.failed) == (
        False, True, "the weights are not finite: model.w holds 1 NaN of 3 values",
    )  # fmt: skip
    said = run.kinds("checkpoint_failed")
    assert [(e["name"], e["level"]) for e in said] == [("ckpt-00000020", "finite")]
    made.join()
    assert {e["name"] for e in run.kinds("checkpoint_verified")} == {"ckpt-00000010"}
    again = saver(tmp_path, MemoryRun(2))
    assert again.load() is not None
    assert again.resumed is not None
    assert (again.resumed.name, again.resumed.skipped[0][0]) == ("ckpt-00000010", "ckpt-00000020")
    for step in range(30, 100, 10):
        again.save(STATE, step=step)
    assert (tmp_path / "checkpoints" / "ckpt-00000020").is_dir()


def test_a_resume_looks_at_the_weights_itself(tmp_path: Path) -> None:
    """A checkpoint without the mark (a full disk, an older version) is not gone on from either, unless it is named."""
    made = saver(tmp_path)
    made.save(STATE, step=10)
    made.save({**STATE, "model": {"w": np.array([np.inf, 1.0])}}, step=20)
    made.folder.clear_mark("ckpt-00000020", "failed")
    made.folder.point("last", "ckpt-00000020")
    again = saver(tmp_path, MemoryRun(2))
    assert again.load() is not None
    assert again.resumed is not None
    assert again.resumed.name == "ckpt-00000010"
    with pytest.raises(CheckpointDamaged, match="not finite"):
        saver(tmp_path, MemoryRun(3)).load("last")
    assert saver(tmp_path, MemoryRun(4)).load("ckpt-00000020") is not None


@pytest.mark.parametrize(
    ("state", "bad"),
    [
        ({"model": {"mask": torch.tensor([0.0, -math.inf])}}, False),
        ({"model": {"w": torch.tensor([1.0, -math.inf])}}, True),
        ({"model": {"w": torch.tensor([1.0, math.inf], dtype=torch.bfloat16)}}, True),
        ({"model": {"w": torch.tensor([1.0, math.nan]).to(torch.float8_e5m2)}}, True),
        ({"model": {"n": torch.tensor([1, 2])}}, False),
        ({"model": {"w": [0.5, math.nan]}}, True),
        ({"model": {"layers": [[0.5], [math.nan]]}}, True),
        ({"net": torch.nn.Linear(1, 1)}, False),
        ({"optimizer": {"state": {0: {"exp_avg": torch.tensor([math.nan])}}}}, True),
        ({"optimizer": {"state": {0: {"max": torch.tensor([math.inf])}}}}, False),
        ({"gradients": {"w.weight": torch.tensor([math.nan])}}, False),
        ({"history": {"weights": torch.tensor([math.nan])}}, False),
        ({"counters": {"best_model": math.inf}}, False),
        ({"model": {"class": "Imputer", "fitted": {"statistics_": np.array([math.nan])}}}, False),
        ({"model": {"best": math.nan}}, False),
    ],
)  # fmt: skip
def test_what_counts_as_weights(state: dict[str, Any], bad: bool) -> None:
    """Parameters and moments do; masks, pending gradients, histories and fitted gaps do not."""
    assert bool(not_finite(encode(state, copy=False))) is bad


def test_what_rotation_takes_is_recorded_before_it_goes(tmp_path: Path) -> None:
    """Each name once, so that a checkpoint that is gone without a word was taken by somebody else."""
    run = MemoryRun()
    made = saver(tmp_path, run, keep=2)
    for step in range(1, 6):
        made.save(STATE, step=step)
    gone = [e["name"] for e in run.kinds("checkpoint_rotated")]
    assert gone == [f"ckpt-{step:08d}" for step in (1, 2, 3)]
    assert not any((tmp_path / "checkpoints" / name).exists() for name in gone)
