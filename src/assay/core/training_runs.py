"""Evidence of a recipe: the same training with several seeds. The seeds are the units of any claim about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from assay.core.base import Noun
from assay.core.evidence import Evidence, Measurement
from assay.core.experiment import PrimaryMetric

SEED_SD = "seed_sd"
"""Name of the measurement that holds the standard deviation of the metric over seeds."""
ABSENT = "absent"
"""Kind of the evidence that stands for a parent which is not there: the candidate is the first of its line."""


class TrainedRun(Noun):
    """One training of the recipe: one seed."""

    seed: int
    experiment: str
    """Id of the experiment."""
    state: str
    """Where the experiment stands: trained, evaluated, complete, crashed, ..."""
    value: Measurement
    """Of the metric."""
    recipe: str
    """Digest of everything that was set, without the seed."""
    checkpoint: str = ""
    """Verified checkpoint that stands for the run; empty if it has none."""
    head: str = ""
    """SHA-256 of the last line of its record when it was read."""
    wall_s: float | None = None
    """Seconds of all its attempts that ended on record."""


class TrainingRuns(Evidence):
    """All runs of one recipe, so far."""

    kind: Literal["training_runs"] = "training_runs"
    metric: PrimaryMetric
    runs: tuple[TrainedRun, ...] = ()
    protocol: Mapping[str, Any] = Field(default_factory=dict)
    """How the metric was measured, as flat JSON: two recipes compare only where these agree."""

    def values(self) -> dict[int, float]:
        """Seed → value, of the runs that have one."""
        return {r.seed: r.value.value for r in self.runs if r.value.value is not None}
