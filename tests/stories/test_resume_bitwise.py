"""A real training, killed wherever it hurts and resumed, ends on the same last bit; and what is lost is found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import resume_training as twin
import torch

from assay.track._checkpoint.restored import replay_of
from assay.track._checkpoint.restored import restore as restored
from assay.track.checkpoint import Checkpointer

pytestmark = pytest.mark.slow
KILLS = 50
ODD_STEP = 83  # gradients of half an accumulation are pending, and the permutation ends with the next batch
REPLAYED = 5  # batches: two updates, and the loss that shows the second


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.timeout(1200)
def test_killed_fifty_times_ends_on_the_same_bit(tmp_path: Path) -> None:
    """SIGKILL at 50 random moments, half of them inside a checkpoint's write: every end equals the straight one."""
    command = [sys.executable, twin.__file__, str(tmp_path), str(KILLS), "5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["killed"] >= KILLS
    assert found["inside_writes"] >= KILLS // 3
    assert all(run["equal"] for run in found["runs"]), found


def live(tmp_path: Path, left_out: tuple[str, ...]) -> tuple[Path, list[tuple[float, float]]]:
    """A checkpoint of a script that forgets some parts, and the losses that followed it."""
    training = twin.Training(left_out=left_out)
    while training.step < ODD_STEP:
        training.advance()
    made = Checkpointer(twin.FileRun(tmp_path, 1), tmp_path / "checkpoints", verify_every=0)
    name = made.save(training.state(), step=training.step)
    assert name is not None, made.failures
    return tmp_path / "checkpoints" / name, [training.advance() for _ in range(REPLAYED)]


def proven(folder: Path, losses: list[tuple[float, float]]) -> dict[str, object]:
    """What the restore says, with the replay."""
    expected = [[number.hex() for number in row] for row in losses]
    return restored({"folder": str(folder), "replay": replay_of(twin.replay), "expected": expected})


def test_a_whole_state_replays_the_same_losses(tmp_path: Path) -> None:
    """With every part saved, the steps after a restore give the live run's losses to the last bit."""
    answer = proven(*live(tmp_path, ()))
    assert answer["ok"] is True, answer
    assert answer["replayed"] == REPLAYED


@pytest.mark.parametrize("part", [
    "model", "optimizer", "scheduler", "ema", "loader_generator", "position", "gradients", "rng.torch", "rng.numpy",
    "rng.python",
])  # fmt: skip
def test_any_single_part_left_out_is_found(part: str, tmp_path: Path) -> None:
    """A script that neither saves nor restores one part has other losses in the replay: the verification fails."""
    answer = proven(*live(tmp_path, (part,)))
    assert answer["ok"] is False
    assert "other losses" in str(answer["detail"])


def test_the_checkpointer_proves_by_replay_in_a_process(tmp_path: Path) -> None:
    """The live run's losses are observed; a whole state is verified at level restore, a careless one fails."""
    for left_out, word in (((), "verified"), (("optimizer",), "failed")):
        folder = tmp_path / word
        folder.mkdir()
        training = twin.Training(left_out=left_out)
        made = Checkpointer(
            twin.FileRun(folder, 1),
            folder / "checkpoints",
            verify="restore",
            replay=twin.replay,
            replay_steps=REPLAYED,
        )
        for _ in range(30):
            losses = training.advance()
            made.observe(training.step, *losses)
            if training.step == 21:
                made.save(training.state(), step=21)
        made.join()
        events = [json.loads(line) for line in (folder / "events.txt").read_text().splitlines()]
        last = events[-1]
        assert last["event"] == f"checkpoint_{word}", events
        assert last["level"] == "restore"
        assert f"{REPLAYED} steps replayed" in last["detail"]


SCRIPT = """
import sys, time, torch
from pathlib import Path
sys.path[:0] = [sys.argv[3]]
import resume_training as twin
from assay.track.checkpoint import Checkpointer
from assay.track.signals import Preemption
torch.set_num_threads(1)
where = sys.argv[2]
folder = Path(sys.argv[1])
run = twin.FileRun(folder, 1)
training = twin.Training()
made = Checkpointer(run, folder / "checkpoints", every_steps=10**6, verify_every=0,
                    preemption=Preemption(patience_s=0.1 if where == "eval without poll" else 60))
made.provider = training.state
assert made.listen()
run.phase_name = "train"
for _ in range(20):
    training.advance()
    made.due(training.step)
run.phase_name = {"train": "train", "warm-up": "warm-up"}.get(where, "eval")
print("ready", flush=True)
while True:
    if where == "train":
        training.advance()
    if where == "eval without poll":
        if made.policy.preemption.answered and made.latest():
            break
        time.sleep(0.005)
    elif made.poll(training.step):
        break
made.join()
made.close()
"""


@pytest.mark.parametrize("where", ["train", "eval", "warm-up", "eval without poll"])
def test_a_preempted_training_saves_in_every_loop(where: str, tmp_path: Path) -> None:
    """SIGTERM in training, evaluation or warm-up ends in a verified checkpoint; the watchdog answers for a deaf loop."""
    here = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), where, here],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    process.terminate()
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    made = Checkpointer(twin.FileRun(tmp_path, 2), tmp_path / "checkpoints", verify_every=0)
    stored = made.latest()
    assert stored is not None
    assert stored.manifest is not None
    assert stored.manifest.reason == "signal"
    assert stored.manifest.step >= 20
    state = made.load()
    assert state is not None
    fresh = twin.Training(seed=9)
    fresh.load(state)
    assert fresh.step == stored.manifest.step
