"""Tuning: settings of a server, the launches that measure them, and what each launch showed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from assay.core.base import Noun
from assay.core.gate import Policy
from assay.core.load import PointState, ServiceLevel, ServiceLevels
from assay.core.recommendation import ExitReason, Standing
from assay.core.study import AdapterRef
from assay.core.vocabulary import FailureClass

__all__ = [
    "ANSWER", "LOAD", "TRIALS", "Budgeted", "Cause", "Cell", "ExitReason", "Knob", "Launch", "LevelCount", "Model",
    "PointReading", "Pruned", "RacePolicy", "Reading", "ReadingState", "Stage", "Standing", "TuningPlan",
]  # fmt: skip

LOAD = "candidate.load"
"""Role of a launch's load test."""
TRIALS = "study.trials"
"""Role of what all launches came to."""
ANSWER = "answer"
"""Phase of the trial that answers the study."""


class Cause(StrEnum):
    """What a server died of, as its log tells. Closed."""

    OOM_LOAD = "oom_load"
    """Out of memory before it was ready."""
    OOM_RUN = "oom_run"
    """Out of memory while it served."""
    TOO_LONG = "too_long"
    """The context is beyond the model or the KV cache."""
    BAD_FLAG = "bad_flag"
    """It does not take its command line."""
    ARCHITECTURE = "architecture"
    """It does not know the model or its quantization."""
    DRIVER = "driver"
    """The accelerator or its driver."""
    PORT = "port"
    CRASH = "crash"
    HANG = "hang"
    """It never became ready."""
    GATED = "gated"
    """The model hub refuses access."""
    NETWORK = "network"
    DISK = "disk"
    INTEGRITY = "integrity"
    """The weights are not what they should be."""

    @property
    def memory(self) -> bool:
        """What takes at least as much memory fails too."""
        return self in (Cause.OOM_LOAD, Cause.OOM_RUN)


class Stage(StrEnum):
    """Why a launch is made."""

    FIT = "fit"
    """Can the model be served at all, at the default settings?"""
    SCREEN = "screen"
    CONFIRM = "confirm"
    SENTINEL = "sentinel"
    """The default again after a pause: is the machine as it was?"""
    MAP = "map"
    """The chosen setting at another context."""


class Knob(Noun):
    """One setting that is searched."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    """Option of the serve kind."""
    values: tuple[JsonValue, ...] = Field(min_length=1)
    """In the order in which they are listed; the first is the default."""

    @model_validator(mode="after")
    def _different(self) -> Self:
        seen = [repr(v) for v in self.values]
        if len(set(seen)) < len(seen):
            raise ValueError(f"knob {self.name!r} lists a value twice")
        return self


class Cell(Noun):
    """One setting of one model: what a launch starts."""

    id: str
    """Unique in the study; for people."""
    model: str
    values: Mapping[str, JsonValue] = Field(default_factory=dict)
    """Knob → value; a knob left out stands as the engine has it."""
    serve: AdapterRef
    """At the target context."""
    elsewhere: Mapping[str, AdapterRef] = Field(default_factory=dict)
    """The same at other contexts, by their tokens."""
    default: bool = False
    memory: tuple[float, ...] = ()
    """Sizes that memory grows with (context, slots, bytes of a KV element): a cell that is at least as large in
    all of them fails where this one was out of memory."""


class Model(Noun):
    """One candidate model with its settings."""

    name: str
    artifact: str
    """Digest of its files."""
    cells: tuple[Cell, ...] = Field(min_length=1)
    """The default first."""

    @property
    def default(self) -> Cell:
        """The default setting: the first that says so, else the first."""
        return next((c for c in self.cells if c.default), self.cells[0])


class Pruned(Noun):
    """A setting that is not launched, and why."""

    cell: str
    reason: str
    source: str = ""
    """Cell whose failure implies it; empty = known before any launch."""


class RacePolicy(Policy):
    """How the choice is made. The figures of `race` are those of `stats.selection.RaceRule`."""

    policy: Literal["race", "sequential_band"] = "race"
    """`race`: interleaved blocks, and a gain must be proven; `sequential_band`: the source's rule, whose answer is
    shown beside the race's anyway."""
    eps: float = Field(default=0.05, gt=0, lt=1)
    """Gain of throughput that does not matter."""
    alpha: float = Field(default=0.1, gt=0, lt=0.5)
    """Chance, at most, that the default is left although nothing is better."""
    arms: int = Field(default=2, ge=1, le=20)
    """Challengers that may be confirmed against the default."""
    at_once: int = Field(default=2, ge=1, le=10)
    """Of them, in one block."""
    looks: int = Field(default=6, ge=1, le=50)
    """Blocks of confirmation of one challenger."""
    readings: int | None = Field(default=None, ge=1)
    """Launches at most while settings are compared; null = four of each, at least 32."""
    replicates: int = Field(default=3, ge=1)
    """`sequential_band`: readings of each setting."""
    band: float = Field(default=0.02, ge=0, lt=1)
    """`sequential_band`: relative difference within which the lower latency wins."""


class Budgeted(Noun):
    """What a search may use."""

    max_duration_s: float | None = Field(default=7200.0, gt=0)
    """Seconds of launches; then the best so far is told, marked partial. null = no limit."""


class TuningPlan(Policy):
    """The whole search, fixed before the first launch. Proposer and gates read the same one."""

    models: tuple[Model, ...] = Field(min_length=1)
    """In the operator's order, which is the contract."""
    objective: Literal["biggest_fit", "throughput"] = "biggest_fit"
    """`biggest_fit`: the first model that serves, then its fastest setting; `throughput`: the fastest of all."""
    metric: Literal["output_tps", "goodput_rps"] = "output_tps"
    """What is maximised: output tokens a second, or good requests a second."""
    target_context: int = Field(ge=1)
    contexts: tuple[int, ...] = ()
    """Further contexts at which the chosen setting is measured, rising."""
    levels: ServiceLevels = ServiceLevels()
    failed_frac: float = Field(default=0.0, ge=0, lt=1)
    """Share of requests of a load point that may fail."""
    short_frac: float = Field(default=0.0, ge=0, lt=1)
    """Share of answers that may be shorter than asked for."""
    race: RacePolicy = RacePolicy()
    budget: Budgeted = Budgeted()
    pruned: tuple[Pruned, ...] = ()
    """Known before any launch to be of no use."""
    seed: int = 0

    def cell(self, id_: str) -> Cell | None:
        """The cell of that id."""
        return next((c for m in self.models for c in m.cells if c.id == id_), None)

    def model(self, name: str) -> Model | None:
        """The model of that name."""
        return next((m for m in self.models if m.name == name), None)


class Launch(Noun):
    """What a trial of a tuning study is for. It stands in the candidate's intent."""

    stage: Stage
    cell: str
    context: int
    block: int = 0
    position: int = 0
    attempt: int = 1


class ReadingState(StrEnum):
    """What one launch is worth."""

    MEASURED = "measured"
    INFEASIBLE = "infeasible"
    """The setting cannot serve what was asked."""
    INVALID = "invalid"
    """It was not measured rightly: the client was too slow, prompts were cached, time ran out."""
    FAILED = "failed"
    """Nobody knows why."""


class LevelCount(Noun):
    """How many requests of a point were late for one service level."""

    level: ServiceLevel
    late: int = Field(ge=0)
    n: int = Field(ge=0)

    @property
    def keeps(self) -> bool:
        """Whether the share that was late is no larger than the level allows; no proof of it."""
        return self.late <= (1.0 - self.level.q) * self.n + 1e-9


class PointReading(Noun):
    """One load point of one launch."""

    name: str
    """Such as `8 in flight`."""
    state: PointState
    value: float | None = None
    """What is maximised; None unless the point is valid."""
    ttft_p95_ms: float | None = None
    """Of this point alone; None where there were too few requests to bound it."""
    ttft_worst_ms: float | None = None
    tpot_p95_ms: float | None = None
    levels: tuple[LevelCount, ...] = ()
    completed: int = 0
    failed: int = 0
    prompt_tokens: float | None = None
    """Of one request on average, as the server counted them."""
    output_tokens: float | None = None
    reasons: tuple[str, ...] = ()
    """Why it does not count, or why the setting fails there."""
    remarks: tuple[str, ...] = ()
    """What a reader should know of how it was measured."""
    strict: bool = True
    """No more failed or short answers than allowed."""


class Reading(Noun):
    """What one launch showed."""

    trial: str
    number: int
    launch: Launch
    session: int = 0
    state: ReadingState
    points: tuple[PointReading, ...] = ()
    failure_class: FailureClass | None = None
    cause: Cause | None = None
    detail: str = ""
    spent_s: float = 0.0
    others_frac: float | None = None
    """Share of all processors' time that other processes used while it was measured; None = not known."""
    evidence: str = ""
    """Digest of the load test."""
