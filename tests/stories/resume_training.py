"""A small but complete training whose last bit depends on everything that a checkpoint must hold.

MLP with batch norm and dropout, AdamW, cosine schedule, averaged weights, accumulation over two batches, noise of numpy
and flips of Python in the augmentation, a private shuffle generator. One step is one batch, so that a checkpoint at an
odd step has gradients pending.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from assay.track._checkpoint.blobs import write_blobs
from assay.track._checkpoint.tree import encode
from assay.track.checkpoint import Checkpointer, Disk, capture, restore

ROWS, BATCH = 96, 8
PLANNED = 240


class Training:
    """The training; `left_out` names parts that a careless script neither saves nor restores."""

    def __init__(self, seed: int = 0, left_out: tuple[str, ...] = ()) -> None:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global generator is the one that scripts forget
        random.seed(seed)
        self.left_out = left_out
        data = torch.Generator().manual_seed(7)
        self.x = torch.randn(ROWS, 6, generator=data)
        self.y = (self.x.sum(1) > 0).float()
        self.model = nn.Sequential(
            nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 1)
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.02)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, PLANNED // 2)
        self.ema = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.shuffle = torch.Generator().manual_seed(seed + 1)
        self.order = torch.randperm(ROWS, generator=self.shuffle)
        self.at = 0
        self.step = 0

    def advance(self) -> tuple[float, float]:
        """One batch: its loss, and that of the averaged model."""
        if self.at >= ROWS:
            self.order, self.at = torch.randperm(ROWS, generator=self.shuffle), 0
        index = self.order[self.at : self.at + BATCH]
        self.at += BATCH
        noise = torch.from_numpy(np.random.normal(0, 0.1, (BATCH, 6)).astype("f4"))  # noqa: NPY002
        x = self.x[index] * (1.0 if random.random() < 0.8 else -1.0) + noise
        criterion = nn.functional.binary_cross_entropy_with_logits
        loss = criterion(self.model(x).squeeze(1), self.y[index])
        (loss / 2).backward()
        self.step += 1
        if self.step % 2 == 0:
            self._update()
        return loss.item(), self._averaged(x, self.y[index])

    def _update(self) -> None:
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.ema[name].mul_(0.9).add_(value, alpha=0.1)

    def _averaged(self, x: torch.Tensor, y: torch.Tensor) -> float:
        with torch.no_grad():
            hidden = torch.relu(x @ self.ema["0.weight"].T + self.ema["0.bias"])
            logits = (hidden @ self.ema["4.weight"].T + self.ema["4.bias"]).squeeze(1)
            return nn.functional.binary_cross_entropy_with_logits(logits, y).item()

    def parts(self) -> dict[str, Any]:
        """The live objects by their part's name."""
        parts = {
            "model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, "ema": self.ema,
            "loader_generator": self.shuffle, "scaler": None,
        }  # fmt: skip
        kept = {name: part for name, part in parts.items() if name not in self.left_out}
        if "gradients" in self.left_out:
            kept["gradients"] = False
        return kept

    def state(self) -> dict[str, Any]:
        """All that a resume needs."""
        position = {"order": self.order, "at": self.at}
        state = capture(
            **self.parts(), position=position, counters={"step": self.step, "samples": self.step * BATCH}
        )
        for name in self.left_out:
            state.pop(name, None)
            state["rng"].pop(name.removeprefix("rng."), None)
        state["left_out"] = list(self.left_out)
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state, as carelessly as it was saved."""
        for name in ("torch", "numpy", "python"):
            if f"rng.{name}" in self.left_out:
                own = capture()["rng"]
                state["rng"][name] = own[name]
        plain = restore(state, **self.parts())
        self.step = plain["counters"]["step"]
        if "position" not in self.left_out:
            self.order, self.at = plain["position"]["order"], plain["position"]["at"]

    def digest(self) -> str:
        """Of everything: weights, averages, optimizer, generators, position."""
        encoded = encode(self.state(), copy=False)
        whole = hashlib.sha256(encoded.text())

        class Sink:
            write = staticmethod(whole.update)

        for blobs in encoded.blobs.values():
            write_blobs(Sink(), blobs)  # type: ignore[arg-type]
        return whole.hexdigest()


def replay(state: dict[str, Any], steps: int) -> list[tuple[float, float]]:
    """For the restore: the next steps from a state, in fresh objects."""
    training = Training(seed=1, left_out=tuple(state["left_out"]))
    training.load(state)
    return [training.advance() for _ in range(steps)]


class FileRun:
    """The smallest run: an event is a line."""

    id = "exp-001"

    def __init__(self, folder: Path, attempt: int) -> None:
        self.attempt = attempt
        self._file = folder / "events.txt"

    def event(self, kind: str, **fields: Any) -> None:
        """Append a line."""
        with self._file.open("a") as handle:
            handle.write(json.dumps({"attempt": self.attempt, "event": kind, **fields}) + "\n")


class DyingDisk(Disk):
    """Kills the process with -9 at the n-th operation of the file system; half of a write is done by then."""

    def __init__(self, dies_at: int) -> None:
        self.left = dies_at

    def _count(self) -> bool:
        self.left -= 1
        return self.left == 0

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write, or half of it and die."""
        if self._count():
            os.write(descriptor, data[: data.nbytes // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Flush, or die before."""
        if self._count():
            os.kill(os.getpid(), signal.SIGKILL)
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, or die before."""
        if self._count():
            os.kill(os.getpid(), signal.SIGKILL)
        super().rename(source, target)


def train(
    folder: Path, attempt: int, *, steps: int, disk: Disk | None = None, asynchronous: bool = False
) -> str:
    """Train to the end, from the newest checkpoint if there is one; the digest of the end."""
    run = FileRun(folder, attempt)
    checkpointer = Checkpointer(
        run,
        folder / "checkpoints",
        every_steps=3,
        asynchronous=asynchronous,
        verify_every=0,
        disk=disk or Disk(),
    )
    training = Training()
    state = checkpointer.load()
    if state is not None:
        training.load(state)
    while training.step < steps:
        training.advance()
        if checkpointer.due(training.step):
            checkpointer.save(training.state(), step=training.step)
    checkpointer.join()
    return training.digest()


def attempt(
    folder: Path, number: int, *, steps: int, disk: Disk | None, asynchronous: bool, kill_after_s: float
) -> bool:
    """One attempt in a forked process, killed at a random moment; True if it was killed, False if it reached the end."""
    child = os.fork()
    if child == 0:
        try:
            (folder / "final").write_text(
                train(folder, number, steps=steps, disk=disk, asynchronous=asynchronous)
            )
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - a forked child must not return into its parent's code
            print(f"attempt {number}: {type(error).__name__}: {error}", flush=True)
            os._exit(3)
    end = time.monotonic() + kill_after_s
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if not done and time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            done, status = os.waitpid(child, 0)
        if done:
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
                raise SystemExit(f"attempt {number} ended with {os.WEXITSTATUS(status)}")
            return os.WIFSIGNALED(status)
        time.sleep(0.001)


def nursery(root: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill attempts of experiments until so many were killed; each experiment then runs to its end.

    torch is imported once: attempts are forks. Even ones die from outside at a random time, odd ones from inside at a
    random operation of the file system, which is in the middle of a checkpoint's write.
    """
    dice = random.Random(seed)
    straight = root / "straight"
    straight.mkdir()
    attempt(straight, 1, steps=PLANNED, disk=None, asynchronous=False, kill_after_s=1e9)
    expected = (straight / "final").read_text()
    killed, runs, inside = 0, [], 0
    while killed < kills:
        folder = root / f"run-{len(runs)}"
        folder.mkdir()
        number = 0
        while not (folder / "final").exists():
            number += 1
            within = number % 2 == 1 and killed < kills
            disk = DyingDisk(dice.randint(1, 150)) if within else None
            limit = dice.uniform(0.0, 0.4) if not within and killed < kills else 1e9
            died = attempt(
                folder, number, steps=PLANNED, disk=disk, asynchronous=number % 3 == 0, kill_after_s=limit
            )
            killed, inside = killed + died, inside + (died and within)
        runs.append({"attempts": number, "equal": (folder / "final").read_text() == expected})
    return {"killed": killed, "inside_writes": inside, "runs": runs}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(nursery(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
