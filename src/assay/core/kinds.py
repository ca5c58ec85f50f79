"""Which class reads back which kind of evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.agent import AgentRuns
from assay.core.checkpoint import Checkpoint
from assay.core.evidence import Evidence
from assay.core.evolution import Evolution
from assay.core.experiment import Experiment
from assay.core.load import Load
from assay.core.results import Results
from assay.core.training_runs import TrainingRuns
from assay.core.trials import Trials
from assay.core.tuning_record import Tuning

_KINDS: Mapping[str, type[Evidence]] = {
    "agent_runs": AgentRuns,
    "checkpoint": Checkpoint,
    "evolution": Evolution,
    "experiment": Experiment,
    "load": Load,
    "results": Results,
    "training_runs": TrainingRuns,
    "trials": Trials,
    "tuning": Tuning,
}


def evidence_from_json(value: Mapping[str, Any]) -> Evidence:
    """Read back stored evidence as its own class; an unknown kind is plain Evidence.

    Raises:
        pydantic.ValidationError: if the value is no such evidence.
    """
    return _KINDS.get(str(value.get("kind")), Evidence).model_validate(value)
