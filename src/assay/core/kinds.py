"""Which class reads back which kind of evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.checkpoint import Checkpoint
from assay.core.evidence import Evidence
from assay.core.experiment import Experiment
from assay.core.results import Results

_KINDS: Mapping[str, type[Evidence]] = {
    "checkpoint": Checkpoint,
    "experiment": Experiment,
    "results": Results,
}


def evidence_from_json(value: Mapping[str, Any]) -> Evidence:
    """Read back stored evidence as its own class; an unknown kind is plain Evidence.

    Raises:
        pydantic.ValidationError: if the value is no such evidence.
    """
    return _KINDS.get(str(value.get("kind")), Evidence).model_validate(value)
