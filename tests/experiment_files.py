"""Makes folders of experiments by the page docs/decisions/0011, without the tracker, so that tests can lie and break."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

FIRST = "0" * 64
HYPOTHESIS = """\
---
exp_id: exp-001
parent_id: null
created: 2026-01-02T03:04:05Z
---

# Hypothesis

A wider layer reaches 0.9
because the narrow one underfits.

## Rationale

The parent stopped at 0.84 with equal training and validation loss.
"""
RESULT = """\
---
oracle_tier: should_pass
primary_metric:
  name: accuracy
  value: {value}
  delta_vs_parent: null
secondary_metrics:
  f1: 0.91
evaluated_at: 2026-01-02T04:00:00Z
---

# Result

## Shortfalls

- class 3 is confused with class 8
- slow on long inputs
"""
PLAN = {
    "primary_metric": {
        "name": "accuracy",
        "direction": "max",
        "thresholds": {"floor": 0.8, "goal": 0.9, "stretch": 0.97},
    },
    "metrics": {"val_loss": "min"},
    "total_steps": 100,
}


def sha(data: bytes) -> str:
    """Bare hex."""
    return hashlib.sha256(data).hexdigest()


def boot_id() -> str:
    """Of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class ExperimentFiles:
    """One folder; every method writes what the tracker, the watcher or a person would."""

    def __init__(self, root: Path, name: str = "exp-001", day: int = 2) -> None:
        self.folder = root / name
        self.folder.mkdir(parents=True)
        self.name = name
        self.day = day
        self.seq = 0
        self.previous = FIRST

    def time(self) -> str:
        """Grows with every event."""
        return f"2026-01-{self.day:02d}T03:{self.seq // 60:02d}:{self.seq % 60:02d}.000000Z"

    def event(self, event: str, attempt: int | None = None, **fields: Any) -> None:
        """Append a chained event."""
        self.seq += 1
        record = {
            "schema": "experiment-event/1",
            "seq": self.seq,
            "time": self.time(),
            "event": event,
            "attempt": attempt,
            "previous": self.previous,
            **fields,
        }
        line = json.dumps(record).encode()
        self.previous = sha(line)
        self.append("events.jsonl", line)

    def append(self, name: str, line: bytes | dict[str, Any]) -> None:
        """Append one line to any file."""
        data = line if isinstance(line, bytes) else json.dumps(line).encode()
        with (self.folder / name).open("ab") as file:
            file.write(data + b"\n")

    def write(self, name: str, text: str | bytes | dict[str, Any]) -> str:
        """Write a whole file; returns its digest."""
        data = (
            text
            if isinstance(text, bytes)
            else (json.dumps(text) if isinstance(text, dict) else text).encode()
        )
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return sha(data)

    def created(self, *, plan: dict[str, Any] | None = PLAN, parent: str | None = None, **more: Any) -> None:
        """Hypothesis, configuration and the first events."""
        config = self.write("config.yaml", {"lr": 0.1, "layers": [64, 64], "seed": 1})
        fields = {"experiment": self.name, "name": "wider", "parent": parent, "phase": "train", "plan": plan}
        self.event("created", **{**fields, "config_digest": f"sha256:{config}", **more})
        digest = self.write("hypothesis.md", HYPOTHESIS)
        self.event("hypothesis", digest=f"sha256:{digest}", text="A wider layer reaches 0.9")

    def started(self, attempt: int = 1, pid: int | None = None, **more: Any) -> None:
        """An attempt of this (or another) process."""
        digests = {}
        for key, name in (("config_digest", "config.yaml"), ("hypothesis_digest", "hypothesis.md")):
            path = self.folder / name
            digests[key] = f"sha256:{sha(path.read_bytes())}" if path.exists() else ""
        fields: dict[str, Any] = {
            "command": ["python", "train.py"],
            "pid": os.getpid() if pid is None else pid,
            "host": socket.gethostname(),
            "boot_id": boot_id(),
            "process_started": None,
            "resumed_from": None,
            "resumed_step": None,
        }
        self.event("attempt_started", attempt, **{**fields, **digests, **more})

    def step(self, step: int, attempt: int = 1, t: float | None = None, **metrics: Any) -> None:
        """A step row."""
        t = step * 0.01 if t is None else t
        row = {"event": "step", "attempt": attempt, "step": step, "epoch": 0, "t": t, "metrics": metrics}
        self.append("metrics.jsonl", {**row, "signals": {"lr": 0.1}})

    def evaluated(self, step: int, attempt: int = 1, **metrics: Any) -> None:
        """An evaluation: row and event."""
        row = {"event": "evaluation", "attempt": attempt, "step": step, "epoch": 0, "t": step * 0.01}
        self.append("metrics.jsonl", {**row, "metrics": metrics})
        self.event("evaluated", attempt, step=step, epoch=0, metrics=metrics)

    def checkpoint(
        self, step: int, attempt: int = 1, *, verified: str | None = "restore", reason: str = "best"
    ) -> str:
        """A committed checkpoint with manifest and pointers."""
        name = f"ckpt-{step:08d}"
        weights = bytes(range(256)) * 4
        self.write(f"checkpoints/{name}/model.safetensors", weights)
        entry = {"name": "model.safetensors", "bytes": len(weights), "sha256": sha(weights)}
        digest = self.write(f"checkpoints/{name}/manifest.json", {"schema": "checkpoint/1", "files": [entry]})
        self.write(f"checkpoints/{name}/manifest.sha256", f"{digest}  manifest.json\n")
        for pointer in ("last", "best"):
            link = self.folder / "checkpoints" / pointer
            link.unlink(missing_ok=True)
            link.symlink_to(name)
        fields = {"name": name, "path": f"checkpoints/{name}", "step": step, "epoch": 0, "metrics": {}}
        self.event(
            "checkpoint_committed", attempt, **fields, manifest_digest=f"sha256:{digest}", reason=reason
        )
        if verified:
            self.event("checkpoint_verified", attempt, name=name, level=verified, detail="")
        return name

    def alert(
        self, id: str = "a-0001", *, severity: str = "critical", state: str = "open", **more: Any
    ) -> None:
        """A change of an alert."""
        line = {"schema": "alert/1", "id": id, "time": self.time(), "attempt": 1, "step": 40, "class": 1}
        line |= {"name": "nonfinite", "severity": severity, "state": state, "text": "loss is nan", "count": 1}
        self.append("alerts.jsonl", {**line, **more})

    def status(self, *, training: bool = False, step: int = 100, **more: Any) -> None:
        """The snapshot."""
        known = {
            "schema": "training-status/1",
            "experiment_id": self.name,
            "is_training": training,
            "step": step,
        }
        self.write("training_status.json", {**known, "epoch": 0, "total_epochs": 1, "metrics": {}, **more})

    def ended(self, attempt: int = 1, *, step: int = 100, reason: str = "completed", **more: Any) -> None:
        """The training loop's end and the process's."""
        grown = [self.folder / name for name in ("metrics.jsonl", "alerts.jsonl")]
        sizes = {path.name: path.stat().st_size for path in grown if path.exists()}
        fields = {"reason": reason, "step": step, "epoch": 0, "final_metrics": {}, "exception": None}
        self.event("training_ended", attempt, **{**fields, "sizes": sizes, **more})
        self.event(
            "attempt_ended", attempt, outcome="exited", exit_code=0, signal=None, resources={"wall_s": 1.0}
        )

    def trained(self, *, accuracy: float = 0.93, attempt: int = 1) -> None:
        """An attempt from its start to its end."""
        self.started(attempt, pid=2**22 - 1)
        self.event("watched", attempt, state="began", by="assay train", pid=2**22 - 1)
        for step in range(10, 101, 10):
            self.step(step, attempt, loss=1.0 / step)
            if step == 50:
                self.evaluated(50, attempt, accuracy=0.85, val_loss=0.4)
        self.evaluated(100, attempt, accuracy=accuracy, val_loss=0.3)
        self.checkpoint(100, attempt)
        self.write("alerts.jsonl", "")
        self.status()
        self.ended(attempt)
        self.event("watched", attempt, state="ended", by="assay train", pid=2**22 - 1)

    def result(self, value: Any = 0.93, text: str = RESULT) -> None:
        """result.md."""
        self.write("result.md", text.replace("{value}", str(value)))


def sound(
    root: Path, name: str = "exp-001", *, accuracy: float = 0.93, day: int = 2, **created: Any
) -> ExperimentFiles:
    """A folder with everything that the gate asks for."""
    made = ExperimentFiles(root, name, day)
    made.created(**created)
    made.trained(accuracy=accuracy)
    made.result(accuracy)
    return made
