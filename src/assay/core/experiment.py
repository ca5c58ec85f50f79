"""Evidence of a training experiment: what its files say, and the state that its events add up to.

An experiment has attempts (a resume is another attempt), alerts, checkpoints and a result. The files are described in
docs/decisions/0011; `readers.training` reads them, `core.experiment_state` folds the events, gate `training` judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field

from assay.core.base import Noun
from assay.core.evidence import Evidence, Measurement
from assay.core.vocabulary import Direction


class ExperimentState(StrEnum):
    """Where an experiment stands."""

    PLANNED = "planned"
    RUNNING = "running"
    STOPPING = "stopping"
    TRAINED = "trained"
    EVALUATED = "evaluated"
    COMPLETE = "complete"
    FAILED = "failed"
    ABORTED = "aborted"
    OVERRIDDEN = "overridden"
    CRASHED = "crashed"
    LOST = "lost"


FINAL = frozenset(
    {ExperimentState.COMPLETE, ExperimentState.FAILED, ExperimentState.ABORTED, ExperimentState.OVERRIDDEN}
)
"""Nothing leads out of these; a correction is a new record. A crashed or lost experiment may be resumed."""
LIVE = frozenset({ExperimentState.RUNNING, ExperimentState.STOPPING})
"""Somebody trains."""
WAITING = frozenset({ExperimentState.PLANNED, ExperimentState.TRAINED, ExperimentState.EVALUATED})
"""Nobody trains and the end has not been recorded."""
DONE = frozenset({ExperimentState.COMPLETE, ExperimentState.OVERRIDDEN})
"""Ended with a result that may be a parent's."""


class Tier(StrEnum):
    """How good a result is, from bad to best. Computed from value, direction and thresholds, never claimed."""

    FAIL = "fail"
    FLOOR = "floor"
    GOAL = "goal"
    STRETCH = "stretch"

    @property
    def rank(self) -> int:
        """0 for the lowest."""
        return list(Tier).index(self)


class Thresholds(Noun):
    """Values that the primary metric must reach; what is not set is not asked for."""

    floor: float | None = None
    """Below it a result must not be used."""
    goal: float | None = None
    stretch: float | None = None

    @property
    def declared(self) -> tuple[tuple[Tier, float], ...]:
        """The tiers that have a threshold, from floor to stretch."""
        pairs = ((Tier.FLOOR, self.floor), (Tier.GOAL, self.goal), (Tier.STRETCH, self.stretch))
        return tuple((tier, value) for tier, value in pairs if value is not None)

    def disorder(self, direction: Direction) -> str:
        """Which two thresholds stand the wrong way round; empty if none do."""
        for (low, a), (high, b) in pairwise(self.declared):
            if (b < a) if direction is Direction.HIGHER else (b > a):
                return f"{high} {b:g} is easier to reach than {low} {a:g}, where {direction} is better"
        return ""

    def tier(self, value: float, direction: Direction) -> Tier | None:
        """The highest tier that the value reaches; None where no threshold is declared."""
        if not self.declared:
            return None
        reached = [
            t
            for t, limit in self.declared
            if (value >= limit if direction is Direction.HIGHER else value <= limit)
        ]
        return reached[-1] if reached else Tier.FAIL


class PrimaryMetric(Noun):
    """The one metric that an experiment is judged by."""

    name: str
    direction: Direction | None = None
    thresholds: Thresholds = Thresholds()


class PlanOfExperiment(Noun):
    """What was promised before the first step."""

    primary: PrimaryMetric | None = None
    directions: Mapping[str, Direction] = Field(default_factory=dict)
    """Metric → which way it gets better, as declared."""
    total_steps: int | None = None
    total_epochs: int | None = None
    seed: int | None = None
    rules: Mapping[str, Any] = Field(default_factory=dict)
    """Thresholds of the checker that differ from its table."""
    stop: Mapping[str, Any] = Field(default_factory=dict)
    """Stop policy by class of fault."""
    problems: tuple[str, ...] = ()
    """What of the plan could not be understood."""

    def direction(self, metric: str) -> Direction | None:
        """Which way a metric gets better, as declared; None if nobody said."""
        if self.primary is not None and self.primary.name == metric and self.primary.direction is not None:
            return self.primary.direction
        return self.directions.get(metric)


class ExperimentEvent(Noun):
    """One line of events.jsonl."""

    seq: int
    time: str
    event: str
    attempt: int | None = None
    line: int
    """Line of the file, from 1."""
    fields: Mapping[str, Any] = Field(default_factory=dict)
    """Everything else that the line says, as plain JSON."""


class Attempt(Noun):
    """One process that trained: the first, or a resume."""

    number: int
    started: str = ""
    command: tuple[str, ...] = ()
    pid: int | None = None
    host: str = ""
    boot_id: str = ""
    process_started: float | None = None
    """Unix time in seconds."""
    config_digest: str = ""
    hypothesis_digest: str = ""
    """Of hypothesis.md as it was when the attempt began; empty if there was none."""
    started_seq: int = 0
    resumed_from: str = ""
    """Name of the checkpoint."""
    resumed_step: int | None = None
    training_reason: str = ""
    """Why the training loop ended: completed, stopped, exception; empty while it goes on."""
    training_ended: str = ""
    last_step: int | None = None
    """Step that the training loop ended at."""
    exception: str = ""
    final_metrics: tuple[Measurement, ...] = ()
    outcome: str = ""
    """How the process ended: exited, crashed, killed, lost, stopped; empty while it lives or if nobody saw its end."""
    ended: str = ""
    exit_code: int | None = None
    signal: str = ""
    resources: Mapping[str, Any] = Field(default_factory=dict)
    log_tail: str = ""
    stop_requested_by: str = ""
    stop_reason: str = ""


class Evaluation(Noun):
    """Metrics of one evaluation, as an event recorded them."""

    seq: int
    attempt: int | None = None
    step: int | None = None
    epoch: int | None = None
    metrics: tuple[Measurement, ...] = ()


class CheckpointRecord(Noun):
    """One committed checkpoint."""

    name: str
    path: str = ""
    """Relative to the experiment's folder."""
    attempt: int | None = None
    step: int | None = None
    epoch: int | None = None
    reason: str = ""
    metrics: tuple[Measurement, ...] = ()
    manifest_digest: str = ""
    committed_seq: int = 0
    verified: tuple[str, ...] = ()
    """Levels at which it was proven after it was written: digest, restore."""
    failed: str = ""
    """Why a verification failed; a later success clears it."""
    on_disk: Literal["unchecked", "intact", "changed", "missing", "rotated"] = "unchecked"
    """What a reader found now; `rotated`: gone, and not among those that must be kept."""
    detail: str = ""
    """What differs on disk."""


class Alert(Noun):
    """One incident of the checker, as its last line in alerts.jsonl says."""

    id: str
    name: str
    number: int | None = None
    """Class of fault, 1..27."""
    severity: str = ""
    """critical, warning, info."""
    state: str = ""
    """open or resolved."""
    time: str = ""
    attempt: int | None = None
    step: int | None = None
    epoch: int | None = None
    first_seen_step: int | None = None
    count: int | None = None
    observed: float | str | None = None
    reference: float | str | None = None
    threshold: float | str | None = None
    rule: str = ""
    joined: tuple[str, ...] = ()
    """Names of alarms of the same incident."""
    action: str = ""
    text: str = ""
    line: int = 0

    @property
    def blocking(self) -> bool:
        """Open and critical. A word that is neither `warning` nor `info` counts as critical."""
        return self.state != "resolved" and self.severity not in {"warning", "info"}


class Hypothesis(Noun):
    """What was expected, from hypothesis.md."""

    digest: str
    text: str = ""
    """First paragraph under `# Hypothesis`."""
    rationale: str = ""
    parent: str = ""
    problems: tuple[str, ...] = ()


class ResultFile(Noun):
    """What result.md says. All of it is a claim of whoever wrote it."""

    digest: str
    claimed_tier: str = ""
    primary: Measurement | None = None
    claimed_delta: Measurement | None = None
    secondary: tuple[Measurement, ...] = ()
    shortfalls: tuple[str, ...] = ()
    evaluated_at: str = ""
    problems: tuple[str, ...] = ()
    """Why it cannot be used; empty if it can."""


class StatusFile(Noun):
    """The snapshot training_status.json."""

    digest: str = ""
    experiment: str = ""
    attempt: int | None = None
    is_training: bool | None = None
    step: int | None = None
    epoch: int | None = None
    total_epochs: int | None = None
    total_steps: int | None = None
    metrics: tuple[Measurement, ...] = ()
    best: tuple[Measurement, ...] = ()
    wall_time_s: float | None = None
    learning_rate: float | None = None


class MetricSummary(Noun):
    """One metric over all rows that count."""

    name: str
    count: int = 0
    """Finite values."""
    nonfinite: int = 0
    direction: Direction | None = None
    """As declared."""
    last: Measurement
    last_step: int | None = None
    last_epoch: int | None = None
    best: float | None = None
    """Best finite value in the declared direction; None where no direction is declared."""
    best_step: int | None = None
    best_epoch: int | None = None
    first: float | None = None


class Rows(Noun):
    """metrics.jsonl in figures."""

    steps: int = 0
    """Step rows that count: a resumed attempt's row replaces those from its first step on."""
    evaluations: int = 0
    epochs: int = 0
    """`epoch_end` rows that count."""
    replaced: int = 0
    """Rows of earlier attempts that a resumed attempt wrote again."""
    last_step: int | None = None
    last_epoch: int | None = None
    attempts: tuple[int, ...] = ()
    """Attempts that wrote rows."""
    metrics: tuple[MetricSummary, ...] = ()
    bad_lines: int = 0
    backwards: int = 0
    """Step rows whose time lies before that of the row above, within one attempt."""
    wall_s: float | None = None
    """Largest time since an attempt's start."""

    def metric(self, name: str) -> MetricSummary | None:
        """The metric of that name, or None."""
        return next((m for m in self.metrics if m.name == name), None)


class Problem(Noun):
    """Something in the files that is not as it must be."""

    file: str
    line: int = 0
    text: str
    grave: bool = True
    """What the file says cannot be relied on; false for a note."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class Experiment(Evidence):
    """All that the folder of one experiment holds."""

    kind: Literal["experiment"] = "experiment"
    layout: Literal["assay", "zo"] = "assay"
    """`zo`: the older layout without events; nothing in it is proven."""
    id: str
    name: str = ""
    parent: str = ""
    phase: str = ""
    created: str = ""
    state: ExperimentState = ExperimentState.PLANNED
    ended_by: str = ""
    """Reason of the event that ended it."""
    imported: bool = False
    """Taken over from another tool's files: self-reported."""
    plan: PlanOfExperiment = PlanOfExperiment()
    attempts: tuple[Attempt, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    checkpoints: tuple[CheckpointRecord, ...] = ()
    alerts: tuple[Alert, ...] = ()
    rows: Rows = Rows()
    status: StatusFile | None = None
    hypothesis: Hypothesis | None = None
    result: ResultFile | None = None
    recorded_result: Mapping[str, Any] = Field(default_factory=dict)
    """Fields of the newest `result` event."""
    diagnosis: str = ""
    next_ideas: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    """What a person overrode."""
    config_digest: str = ""
    """Of config.yaml as it lies there now; empty if there is none."""
    frozen_digest: str = ""
    """Of config.yaml when the experiment was created."""
    config: Mapping[str, Any] = Field(default_factory=dict)
    """config.yaml as plain JSON."""
    events: tuple[ExperimentEvent, ...] = ()
    chain_intact: bool = False
    """Every line of events.jsonl follows from the one before."""
    head: str = ""
    """SHA-256 of the last event's line."""
    problems: tuple[Problem, ...] = ()

    @property
    def last_attempt(self) -> Attempt | None:
        """The newest attempt, or None."""
        return self.attempts[-1] if self.attempts else None

    def problems_of(self, *files: str) -> tuple[Problem, ...]:
        """Grave problems of these files."""
        return tuple(p for p in self.problems if p.grave and p.file in files)
