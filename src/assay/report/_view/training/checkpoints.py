"""The checkpoints of a training run, and which of them are proven whole."""

from __future__ import annotations

from dataclasses import dataclass

from assay.core.experiment import Experiment
from assay.report._view.marks import Mark
from assay.report._view.text import one_line
from assay.report._view.training.curves import figure

CHECKPOINTS_LIMIT = 100


@dataclass(frozen=True)
class CheckpointView:
    """One checkpoint."""

    name: str
    step: str
    epoch: str
    reason: str
    metrics: str
    mark: Mark
    detail: str


def checkpoints(experiment: Experiment) -> tuple[CheckpointView, ...]:
    """The newest first."""
    found = []
    for one in reversed(experiment.checkpoints[-CHECKPOINTS_LIMIT:]):
        if one.failed or one.on_disk in ("changed", "missing"):
            mark = Mark(
                "damaged"
                if one.on_disk == "changed"
                else "missing"
                if one.on_disk == "missing"
                else "failed",
                "bad",
                "cross",
            )
        elif one.on_disk == "rotated":
            mark = Mark("rotated away", "idle", "dash")
        elif one.verified:
            mark = Mark(f"verified by {one.verified[-1]}", "good", "check")
        else:
            mark = Mark("not verified", "open", "question")
        values = ", ".join(
            f"{one_line(m.name, 40)} {figure(m.value)}" for m in one.metrics[:4] if m.value is not None
        )
        found.append(
            CheckpointView(
                name=one_line(one.name, 80),
                step="" if one.step is None else f"{one.step:,}",
                epoch="" if one.epoch is None else str(one.epoch),
                reason=one_line(one.reason, 40),
                metrics=values,
                mark=mark,
                detail=one_line(one.failed or one.detail, 200),
            )
        )
    return tuple(found)
