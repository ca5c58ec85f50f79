"""Story: training scripts that are killed, crash, fork, or just end; and what their record says afterwards."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from assay.track import experiments, files, registry

pytestmark = pytest.mark.slow

TRAINING = """
import os, sys, time
import assay
run = assay.experiment("killed", primary_metric="val_loss", resume=True)
print("open", run.attempt, flush=True)
step = run.step
while True:
    step += 1
    run.log({"loss": 1.0 / step, "acc": 0.5}, step=step)
    os.write(1, f"step {step} {time.time()}\\n".encode())
    if step % 50 == 0:
        run.log_evaluation({"val_loss": 1.0 / step}, step=step)
        os.write(1, f"evaluated {step}\\n".encode())
    time.sleep(0.004)
"""


def script(folder: Path, text: str, **environment: str) -> subprocess.Popen[str]:
    """Start a training script in a folder."""
    path = folder / "train.py"
    path.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(path)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ran(folder: Path, text: str, **environment: str) -> tuple[int, str, str]:
    """Run a training script to its end: exit code, stdout, stderr."""
    process = script(folder, text, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def experiment(folder: Path, ident: str = "exp-001") -> Path:
    """The folder of an experiment of that working folder."""
    return folder / ".assay" / "experiments" / ident


def rows(folder: Path) -> list[dict[str, Any]]:
    """Step rows on disk; what cannot be read is left out."""
    found = [files.parse(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    return [row for row in found if row and row["event"] == "step"]


def last(folder: Path, kind: str) -> dict[str, Any]:
    """The newest event of a kind."""
    return [e for e in files.read_events(folder) if e["event"] == kind][-1]


def test_sigkill_loses_at_most_a_second_of_rows_and_no_event(tmp_path: Path) -> None:
    """Killed at five moments and resumed each time: at most 1 s of rows is missing, and no evaluation that returned."""
    promised: set[int] = set()
    for attempt in range(1, 6):
        process = script(tmp_path, TRAINING)
        time.sleep(1.2 + random.Random(attempt).random())
        killed_at = time.time()
        process.kill()
        out, _ = process.communicate()
        lines = [line.split() for line in out.splitlines() if line.count(" ") in (1, 2)]
        assert lines[0] == ["open", str(attempt)]
        promised |= {int(line[1]) for line in lines if line[0] == "evaluated"}
        folder = experiment(tmp_path)
        newest = max(experiments.seconds(row["timestamp"]) or 0.0 for row in rows(folder))
        logged = max(float(line[2]) for line in lines if line[0] == "step" and len(line) == 3)
        assert min(killed_at, logged) - newest <= 1.0
        recorded = {e["step"] for e in files.read_events(folder) if e["event"] == "evaluated"}
        assert promised <= recorded
        events = files.read_events(folder)
        assert registry.state(events) == "lost", "nobody claims that it still runs"
        assert [e["attempt"] for e in events if e["event"] == "attempt_started"] == list(
            range(1, attempt + 1)
        )
        json.loads((folder / "training_status.json").read_text())
    steps = {
        attempt: [r["step"] for r in rows(experiment(tmp_path)) if r["attempt"] == attempt]
        for attempt in (1, 2)
    }
    assert steps[2][0] <= steps[1][-1] + 1, "steps count on from what is on disk"


@pytest.mark.parametrize("how", ["raise ValueError('mine')", "with run:\n    raise ValueError('mine')"])
def test_a_crash_is_recorded(tmp_path: Path, how: str) -> None:
    """With or without a block, the exception is in the record, and the interpreter's own message is on stderr."""
    code, _, err = ran(tmp_path, f"import assay\nrun = assay.experiment()\nrun.log({{'loss': 1.0}})\n{how}\n")
    folder = experiment(tmp_path)
    assert code == 1
    assert "ValueError: mine" in err
    assert last(folder, "training_ended")["exception"]["text"] == "mine"
    assert (last(folder, "attempt_ended")["outcome"], last(folder, "attempt_ended")["exit_code"]) == (
        "crashed",
        1,
    )
    assert len(rows(folder)) == 1
    assert json.loads((folder / "training_status.json").read_text())["is_training"] is False


def test_a_script_that_just_ends(tmp_path: Path) -> None:
    """Rows are written and the end is recorded though the script never says that it has finished."""
    code, _, err = ran(tmp_path, "import assay\nrun = assay.experiment()\nrun.log({'loss': 1.0})\n")
    folder = experiment(tmp_path)
    assert (code, err) == (0, "")
    assert len(rows(folder)) == 1
    ended = last(folder, "training_ended")
    assert (ended["reason"], ended["by"]) == ("completed", "exit"), "nobody said that it was complete"
    assert (last(folder, "attempt_ended")["outcome"], last(folder, "attempt_ended")["exit_code"]) == (
        "exited",
        None,
    )


@pytest.mark.parametrize(
    "how",
    [
        "raise KeyboardInterrupt",
        "with run:\n    raise KeyboardInterrupt",
        "os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)",
    ],
)
def test_ctrl_c_is_a_stop_of_the_user(tmp_path: Path, how: str) -> None:
    """With or without a block: asked for by the user, stopped, ended by SIGINT; no crash."""
    text = f"import assay, os, signal, time\nrun = assay.experiment()\nrun.log({{'loss': 1.0}})\n{how}\n"
    code, _, err = ran(tmp_path, text)
    folder = experiment(tmp_path)
    assert (code, "KeyboardInterrupt" in err) == (-2, True)
    assert last(folder, "stop_requested")["by"] == "user"
    assert last(folder, "training_ended")["reason"] == "stopped"
    ended = last(folder, "attempt_ended")
    assert (ended["outcome"], ended["exit_code"], ended["signal"]) == ("stopped", None, "SIGINT")
    assert registry.state(files.read_events(folder)) == "trained"


def test_a_crash_is_recorded_though_the_script_took_our_hook(tmp_path: Path) -> None:
    """A library that replaces sys.excepthook and forgets the one before (rich does) hides no crash."""
    text = (
        "import assay, sys\nrun = assay.experiment()\nrun.log({'loss': 1.0})\n"
        "sys.excepthook = lambda *_: print('mine', file=sys.stderr)\nraise ValueError('hidden')\n"
    )
    code, _, err = ran(tmp_path, text)
    folder = experiment(tmp_path)
    assert (code, err) == (1, "mine\n")
    assert last(folder, "training_ended")["exception"]["text"] == "hidden"
    assert last(folder, "attempt_ended")["outcome"] == "crashed"


def test_the_exit_code_of_a_block_is_recorded(tmp_path: Path) -> None:
    """`sys.exit(3)` inside the block is no completed training."""
    code, _, _ = ran(tmp_path, "import assay, sys\nwith assay.experiment() as run:\n    sys.exit(3)\n")
    folder = experiment(tmp_path)
    assert code == 3
    assert last(folder, "training_ended")["reason"] == "exception"
    ended = last(folder, "attempt_ended")
    assert (ended["outcome"], ended["exit_code"]) == ("crashed", 3)


def test_a_crash_of_the_third_experiment_is_not_the_firsts(tmp_path: Path) -> None:
    """Experiments of one script end one by one."""
    text = (
        "import assay\nfor n in range(3):\n    with assay.experiment(seed=n) as run:\n"
        "        run.log({'loss': 1.0})\n        if n == 2:\n            raise ValueError\n"
    )
    assert ran(tmp_path, text)[0] == 1
    outcomes = [last(experiment(tmp_path, f"exp-00{n}"), "attempt_ended")["outcome"] for n in (1, 2, 3)]
    assert outcomes == ["exited", "exited", "crashed"]


def test_a_process_that_vanishes_is_lost(tmp_path: Path) -> None:
    """`os._exit` runs no hook: no end is recorded, and nobody takes it for running."""
    ran(
        tmp_path,
        "import assay, os\nrun = assay.experiment()\nrun.log({'loss': 1.0})\nrun.flush()\nos._exit(0)\n",
    )
    assert registry.state(files.read_events(experiment(tmp_path))) == "lost"


LOADER = """
import assay, torch
from torch.utils.data import DataLoader, Dataset

class Data(Dataset):
    def __len__(self): return 32
    def __getitem__(self, index):
        run.log({"worker": 1.0})
        run.event("note", text="worker")
        return torch.tensor([float(index)])

run = assay.experiment()
if __name__ == "__main__":
    for epoch in range(2):
        for batch in run.track(DataLoader(Data(), batch_size=4, num_workers=2, multiprocessing_context="fork")):
            run.log({"loss": batch.mean()})
    run.finish()
"""


def test_forked_workers_of_a_loader_write_nothing(tmp_path: Path) -> None:
    """The workers of a loader share the run by fork; only the trainer's rows are there, and nothing hangs."""
    code, _, err = ran(tmp_path, LOADER)
    assert code == 0, err
    folder = experiment(tmp_path)
    assert [row["step"] for row in rows(folder)] == list(range(1, 17))
    assert not [e for e in files.read_events(folder) if e["event"] == "note"]
    assert len([e for e in files.read_events(folder) if e["event"] == "training_ended"]) == 1


RANKS = """
import os, sys
import torch.distributed as dist
import torch.multiprocessing as mp
import assay

def work(rank, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    with assay.experiment() as run:
        for _ in range(3):
            run.log({"loss": float(rank)})
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(work, args=(sys.argv[1] if len(sys.argv) > 1 else os.environ["PORT"],), nprocs=2)
"""


def test_only_rank_zero_records(tmp_path: Path) -> None:
    """Two spawned ranks of torch.distributed: one experiment, the rows of rank 0."""
    from assay.runtime.listeners import free_port  # noqa: PLC0415 - only here

    code, _, err = ran(tmp_path, RANKS, PORT=str(free_port()))
    assert code == 0, err
    assert experiments.ids(tmp_path / ".assay" / "experiments") == ["exp-001"]
    assert [row["metrics"]["loss"] for row in rows(experiment(tmp_path))] == [0.0, 0.0, 0.0]


def test_the_older_callback_crashes_visibly(tmp_path: Path) -> None:
    """A crash of a script with the older callback does not leave `is_training` true for ever."""
    text = (
        "from assay.track import ZOTrainingCallback\n"
        "cb = ZOTrainingCallback.for_experiment('.', 'exp-001')\n"
        "cb.on_training_start(3)\ncb.on_epoch_end(0, 3, {'loss': 1.0})\nraise ValueError('mine')\n"
    )
    code, _, _ = ran(tmp_path, text)
    assert code == 1
    assert json.loads((tmp_path / "exp-001" / "training_status.json").read_text())["is_training"] is False
    assert last(tmp_path / "exp-001", "training_ended")["exception"]["type"] == "ValueError"


def test_tracking_imports_the_standard_library_alone(tmp_path: Path) -> None:
    """A script with a run loads neither torch nor numpy nor anything that is installed."""
    text = (
        "import sys\nbefore = set(sys.modules)\nimport assay\nwith assay.experiment() as run:\n"
        "    run.log({'loss': 1.0}); run.log_evaluation({'val_loss': 1.0}); run.epoch_end(0, {'loss': 1.0})\n"
        "from assay.track import ZOTrainingCallback\n"
        "new = {n.split('.')[0] for n in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - {'assay'}))\n"
    )
    assert ran(tmp_path, text)[1].strip() == "[]"
