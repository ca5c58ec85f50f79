"""Under the training script: an experiment is recorded while it runs, by the standard library alone.

    with assay.experiment("wider", primary_metric="val_loss") as run:
        for batch in run.track(loader):
            ...
            run.log({"loss": loss})

Nothing here raises into the training loop, waits for a disk in it, or touches a random generator. torch and numpy
are used only if the script has loaded them. `ASSAY_TRACK=off` makes every call do nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.track.legacy import ZOTrainingCallback, should_checkpoint
    from assay.track.opening import experiment
    from assay.track.tracker import Run, StopTraining, current
    from assay.track.writer import Sink

_HOME = {
    "Run": "assay.track.tracker",
    "Sink": "assay.track.writer",
    "StopTraining": "assay.track.tracker",
    "ZOTrainingCallback": "assay.track.legacy",
    "current": "assay.track.tracker",
    "experiment": "assay.track.opening",
    "should_checkpoint": "assay.track.legacy",
}

__all__ = [
    "Run",
    "Sink",
    "StopTraining",
    "ZOTrainingCallback",
    "current",
    "experiment",
    "should_checkpoint",
]


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are first used: commands that only read files load no tracker."""
    if name not in _HOME:
        raise AttributeError(f"module 'assay.track' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
