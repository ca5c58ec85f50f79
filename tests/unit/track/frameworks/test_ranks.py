"""Two real processes that train together: one records, both stop at the same step."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="gloo over the loopback device"),
]

LIGHTNING = """
import lightning, torch
from torch.utils.data import DataLoader, TensorDataset
from assay.track import experiment
from assay.track.frameworks.lightning import AssayCallback

class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 1)
    def training_step(self, batch, index):
        return ((self.net(batch[0]) - batch[1]) ** 2).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

class Asks(lightning.pytorch.Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 7 and trainer.is_global_zero:
            run.request_stop("test", "step 7")

with experiment("ranks") as run:
    options = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = lightning.Trainer(max_epochs=5, accelerator="cpu", devices=2, strategy="ddp", **options)
    trainer.callbacks += [Asks(), AssayCallback(run, save=True)]
    rows = TensorDataset(torch.randn(128, 4), torch.randn(128, 1))
    trainer.fit(Net(), DataLoader(rows, batch_size=8))
    print("\\nsteps", trainer.global_rank, trainer.global_step, run.why_disabled, flush=True)
"""

TRAINER = """
import os, torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
from assay.track import experiment
from assay.track.frameworks.transformers import AssayCallback

class Asks(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 7 and state.is_world_process_zero:
            run.request_stop("test", "step 7")

with experiment("ranks") as run:
    rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(128)]
    config = GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=50, n_positions=16, bos_token_id=0, eos_token_id=0)
    args = TrainingArguments(
        output_dir="out", per_device_train_batch_size=4, num_train_epochs=5, report_to="none", disable_tqdm=True,
        use_cpu=True, save_strategy="steps", save_steps=1000, ddp_backend="gloo",
    )
    callbacks = [Asks(), AssayCallback(run, save=True)]
    trainer = Trainer(GPT2LMHeadModel(config), args, train_dataset=rows, callbacks=callbacks)
    trainer.train()
    print("\\nsteps", os.environ["RANK"], trainer.state.global_step, run.why_disabled, flush=True)
"""


@pytest.mark.timeout(280)
@pytest.mark.parametrize("host", ["lightning", "transformers"])
def test_two_ranks_record_once_and_stop_together(host, root, record, tmp_path) -> None:
    """Rank 0 is asked at step 7; both end at the same next step that they agree on, with one checkpoint."""
    pytest.importorskip(host)
    script = tmp_path / "train.py"
    script.write_text(LIGHTNING if host == "lightning" else TRAINER)
    command = [sys.executable, str(script)]
    if host == "transformers":
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node=2",
            f"--master_port={_port()}",
            str(script),
        ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": str(_port())}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = sorted(line.split(maxsplit=3) for line in done.stdout.splitlines() if line.startswith("steps"))
    assert [line[1] for line in said] == ["0", "1"]
    assert said[0][2] == said[1][2]
    last = int(said[0][2])
    assert 7 <= last <= 12
    assert said[1][3:] == ["rank 1"]
    found = record()
    found.assert_healthy()
    assert found.numbers_of_steps() == list(range(1, last + 1))
    assert [event["reason"] for event in found.named("checkpoint_committed")] == ["stop"]
    assert found.one("training_ended")["reason"] == "stopped"
    assert [path.name for path in Path(root).glob("exp-*")] == ["exp-001"]


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
