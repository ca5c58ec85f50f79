"""The 27 fault classes: number, name, severity, place in the order of causes, what to do, what stops."""

# ruff: noqa: E501 - a table: a row a line

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from assay.core.base import Noun


class Severity(StrEnum):
    """How bad: CRITICAL makes the rest of the run worthless, WARNING needs a look, INFO is worth knowing."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class StopMode(StrEnum):
    """What an alert of a class does to the run: nothing at all, an alert, or an alert and a request to stop."""

    OFF = "off"
    WARN = "warn"
    STOP = "stop"


class Family(StrEnum):
    """Alerts join one incident only within a family: a leak of memory does not explain a NaN."""

    DYNAMICS = "dynamics"
    DATA = "data"
    SYSTEM = "system"
    RECORD = "record"
    CLASSICAL = "classical"


class FaultClass(Noun):
    """One row of the table."""

    number: int
    """As in the project's notes and in alerts.jsonl."""
    name: str
    severity: Severity
    """The usual one; a rule may find a milder case."""
    family: Family
    rank: int
    """Order of causes within the family: of two alerts in one incident the lower rank is the cause."""
    stop: StopMode
    """Default policy. A stop is asked for only where the finding is certain."""
    action: str
    """What a person should do next."""


def _row(
    number: int,
    name: str,
    severity: Severity,
    family: Family,
    rank: int,
    action: str,
    stop: StopMode = StopMode.WARN,
) -> FaultClass:
    return FaultClass(
        number=number, name=name, severity=severity, family=family, rank=rank, stop=stop, action=action
    )


_C, _W, _I = Severity.CRITICAL, Severity.WARNING, Severity.INFO
_DY, _DA, _SY, _RE, _CL = Family.DYNAMICS, Family.DATA, Family.SYSTEM, Family.RECORD, Family.CLASSICAL

_ROWS = (
    _row(1, "nonfinite", _C, _DY, 0,
         "Stop, resume from the last verified checkpoint; look at the batch of this step, at log(0) and at overflow.",
         StopMode.STOP),
    _row(2, "divergence", _C, _DY, 6,
         "Resume from the checkpoint before first_seen_step with a smaller learning rate or with clipping."),
    _row(3, "loss_spike", _W, _DY, 7, "Look at the batch of this step; clip gradients if spikes come back."),
    _row(4, "gradient_explosion", _C, _DY, 3, "Clip the gradient norm; check the scale of the loss and of the batch."),
    _row(5, "vanishing_gradient", _W, _DY, 8,
         "Change the activation, initialisation or depth; add residual connections or normalisation."),
    _row(6, "dead_units", _W, _DY, 5, "Lower the learning rate, check biases and initialisation, try a leaky activation."),
    _row(7, "saturation", _W, _DY, 4, "Scale the inputs, lower the initial weights, add normalisation."),
    _row(8, "no_update", _C, _DY, 1,
         "The optimizer does not move the weights: build it from model.parameters() of this model and call step().",
         StopMode.STOP),
    _row(9, "learning_rate", _W, _DY, 2, "Size the schedule for the whole run and call scheduler.step() once a step."),
    _row(10, "plateau", _W, _DY, 14, "Check labels against inputs; overfit ten samples; raise the learning rate."),
    _row(11, "overfit", _W, _DY, 13, "Use the best checkpoint; add data, regularisation, or stop early."),
    _row(12, "frozen_metric", _W, _DY, 9,
         "The evaluation does not see the training: check for a cached result, a stale copy or the wrong loader."),
    _row(13, "metric_regression", _W, _DY, 10, "Find what changed in the data at the best evaluation; use that checkpoint."),
    _row(14, "class_collapse", _W, _DY, 12, "Weight or resample the classes; judge by balanced accuracy."),
    _row(15, "unshuffled", _W, _DA, 21, "Shuffle the training set: batches hold too few of the labels."),
    _row(16, "leakage", _W, _DA, 20, "Remove the shared rows or the telling column, split again, train again."),
    _row(17, "stall", _C, _SY, 31, "Look at the stack of the process (py-spy dump); a loader worker or a collective hangs."),
    _row(18, "process_lost", _C, _SY, 30, "Look at the log's end and the kernel's (out of memory?); resume the experiment.",
         StopMode.STOP),
    _row(19, "starvation", _W, _SY, 33, "More loader workers, prefetching, or data nearer to the machine."),
    _row(20, "throughput", _W, _SY, 34, "Find what was added to the step, or what else runs on the machine."),
    _row(21, "memory_leak", _W, _SY, 32, "Log loss.item() or detached values; look for lists that keep tensors."),
    _row(22, "checkpoint_not_resumable", _C, _RE, 41, "Save again with the full state; resume from the last verified one."),
    _row(23, "checkpoint_mismatch", _C, _RE, 42, "Do not publish best: save the state that the best metric was measured on."),
    _row(24, "non_reproducible", _I, _RE, 44, "Seed loader workers and generators; note which operation is nondeterministic."),
    _row(25, "config_drift", _W, _RE, 43, "Make the run follow config.yaml, or start an experiment with the new values."),
    _row(26, "log_integrity", _C, _RE, 40, "The record does not come from a run: train under `assay train`."),
    _row(27, "classical_ml", _W, _CL, 50, "See the evidence: more data per fold, regularisation, early stopping, another search."),
)  # fmt: skip

CLASSES: Mapping[int, FaultClass] = MappingProxyType({row.number: row for row in _ROWS})
BY_NAME: Mapping[str, FaultClass] = MappingProxyType({row.name: row for row in _ROWS})

_EFFECTS = {
    **dict.fromkeys((1, 8, 9, 4, 2, 3), frozenset(range(1, 15))),
    # Dead or saturated units lose the progress that a divergence shows; a rate that jumped is named by the latter.
    7: frozenset({2, 3, 5, 6, 10, 14}),
    6: frozenset({2, 3, 5, 10, 13, 14}),
    5: frozenset({10, 14}),
    10: frozenset({14}),
    13: frozenset({11}),
    18: frozenset({17}),
    17: frozenset({20}),
    21: frozenset({20}),
    19: frozenset({20}),
    26: frozenset({23}),
    22: frozenset({23}),
    27: frozenset({27}),
}


def explains(cause: int, effect: int) -> bool:
    """Whether an alert of one class is part of an incident whose cause is the other."""
    a, b = CLASSES[cause], CLASSES[effect]
    return a.rank < b.rank and effect in _EFFECTS.get(cause, frozenset())
