"""training_status.json: the snapshot. Unknown keys are ignored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from assay.core.experiment import StatusFile
from assay.core.experiment_state import count_of, measurements, number_of, text_of
from assay.readers.training.lines import parse_object

STATUS_FILE = "training_status.json"


def parse_status(data: bytes) -> StatusFile | None:
    """The snapshot; None if the bytes are no JSON object or say nothing about a training."""
    record = parse_object(data)
    if record is None or not isinstance(record.get("is_training"), bool):
        return None
    get = record.get
    named = get("nonfinite")
    return StatusFile(
        digest=hashlib.sha256(data).hexdigest(),
        experiment=text_of(get("experiment_id")),
        attempt=count_of(get("attempt")),
        is_training=get("is_training"),
        step=count_of(get("step")),
        epoch=count_of(get("epoch")),
        total_epochs=count_of(get("total_epochs")),
        total_steps=count_of(get("total_steps")),
        metrics=measurements(get("metrics"), named),
        best=measurements(_flat(get("best_metrics")), named),
        wall_time_s=number_of(get("wall_time_seconds")),
        learning_rate=number_of(get("learning_rate")),
    )


def _flat(best: Any) -> Any:
    """Best values, where each may stand with the step that it was reached at."""
    if not isinstance(best, Mapping):
        return None
    return {k: v.get("value") if isinstance(v, Mapping) else v for k, v in best.items()}
