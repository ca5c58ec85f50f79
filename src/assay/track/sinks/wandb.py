"""Mirror to Weights & Biases. Offline unless asked: nothing leaves the machine, `wandb sync` uploads it later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.track.sinks import ROWS, Origin, step_of, values, vendor


class Wandb:
    """One run for each attempt.

    The step is a metric of its own and not W&B's counter: that one may only grow, so a resumed attempt would lose rows.

    Args:
        origin: the experiment.
        mode: `offline`, or `online` to upload while it runs.
        folder: where W&B writes; None takes `<experiment>/sinks/wandb`.
    """

    def __init__(self, origin: Origin, *, mode: str = "offline", folder: str | Path | None = None) -> None:
        wandb = vendor("wandb", "wandb")
        self._run = wandb.init(
            mode=mode,
            dir=str(folder or origin.place("wandb")),
            project=origin.project,
            name=origin.title,
            group=origin.experiment,
            config=dict(origin.config),
            reinit="create_new",
            settings=wandb.Settings(
                console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True
            ),
        )
        self._run.define_metric("*", step_metric="step")
        self._step = 0
        self._code = 0

    @property
    def folder(self) -> Path:
        """Where this run is stored."""
        return Path(self._run.dir).parent

    def row(self, row: Mapping[str, Any]) -> None:
        """One record of history."""
        if row.get("event") not in ROWS:
            return
        self._step = step_of(row, self._step)
        self._run.log({**values(row), "step": self._step})

    def event(self, event: Mapping[str, Any]) -> None:
        """An exception is an exit code that is not 0."""
        if event.get("event") == "training_ended" and event.get("reason") == "exception":
            self._code = 1

    def close(self) -> None:
        """End the run."""
        self._run.finish(exit_code=self._code)


def open_mirror(origin: Origin, **options: Any) -> Wandb:
    """See `Wandb`."""
    return Wandb(origin, **options)
