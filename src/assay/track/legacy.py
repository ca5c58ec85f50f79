"""The callback of the older layout by its own name: the same calls and files, and our record beside them.

A script switches by its import alone: `from assay.track import ZOTrainingCallback, should_checkpoint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from assay.track import _switch, experiments, files, system
from assay.track.tracker import Run


def should_checkpoint(epoch: int, total_epochs: int, *, every: int = 10, is_best: bool = False) -> bool:
    """Whether to save after this epoch: always a best one, always the last one, and every so many.

    Args:
        epoch: counted from 0; `every=10` saves after 9, 19, 29.
        total_epochs: planned; without any only a best one is saved.
        every: epochs between two saves; below 1 it counts as 1.
        is_best: whether this epoch is the best so far.
    """
    if is_best:
        return True
    if total_epochs <= 0 or epoch < 0:
        return False
    return epoch == total_epochs - 1 or (epoch + 1) % max(1, every) == 0


class ZOTrainingCallback:
    """Writes metrics.jsonl and training_status.json so that readers of the older layout understand them.

    Args:
        log_dir: folder of the two files; events.jsonl is written there as well.
        experiment_id: such as `exp-003`.
        experiment_name: for people; the id if empty.
    """

    def __init__(self, log_dir: str | Path, experiment_id: str, experiment_name: str = "") -> None:
        folder = Path(log_dir)
        name = experiment_name or experiment_id
        why = _switch.why_off()
        if why:
            self.run = Run(folder, ident=experiment_id, name=name, off=why)
            return
        folder.mkdir(parents=True, exist_ok=True)
        if not any(e["event"] == "created" for e in files.read_events(folder)):
            digest = experiments.digest_of(folder / "config.yaml")
            said: dict[str, Any] = {
                "experiment": experiment_id,
                "name": name,
                "parent": None,
                "phase": "train",
                "plan": {},
            }
            files.append_event(folder, "created", None, {**said, "config_digest": digest})
        again = (folder / "metrics.jsonl").exists()
        started = experiments.start_attempt(folder, command=system.command_line())
        self.run = Run(folder, ident=experiment_id, name=name, attempt=started["attempt"], only_old_keys=True)
        self.run.open(adopt=again, own_attempt=started)

    @classmethod
    def for_experiment(cls, registry_dir: str | Path, experiment_id: str, experiment_name: str = "") -> Self:
        """The callback of an experiment in `registry_dir/experiment_id`."""
        return cls(Path(registry_dir) / experiment_id, experiment_id, experiment_name)

    @property
    def should_stop(self) -> bool:
        """Whether somebody asked to stop."""
        return self.run.should_stop

    def on_training_start(self, total_epochs: int, config: Mapping[str, Any] | None = None) -> None:
        """Training begins."""
        self.run.start(total_epochs=total_epochs, config=config or None)
        self.run.show()

    def on_epoch_end(
        self,
        epoch: int,
        total_epochs: int,
        metrics: Mapping[str, Any],
        learning_rate: float | None = None,
        gpu_memory_mb: float | None = None,
    ) -> None:
        """An epoch has ended; `epoch` counts from 0."""
        self.run.epoch_end(
            epoch, metrics, learning_rate, total_epochs=total_epochs, gpu_memory_mb=gpu_memory_mb
        )
        self.run.show()

    def on_checkpoint_saved(self, path: str, epoch: int, metrics: Mapping[str, Any] | None = None) -> None:
        """The script wrote a checkpoint of its own; whether the path exists is recorded with it."""
        self.run.checkpoint_reported(str(path), epoch=epoch, metrics=metrics)
        self.run.show()

    def on_training_end(self, final_metrics: Mapping[str, Any] | None = None) -> None:
        """Training has ended."""
        self.run.finish(final_metrics)
