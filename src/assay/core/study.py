"""Study: one question, with everything that decides its answer fixed before the first sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from assay.core.base import Noun
from assay.core.draw import Draw
from assay.core.evidence import Artifact
from assay.core.experiment import PrimaryMetric, Tier
from assay.core.vocabulary import Verb

Subject: TypeAlias = Literal["machine", "source", "candidate", "study"]
"""`study` = what all its trials came to so far."""


class AdapterRef(Noun):
    """Which adapter does a step, with its options."""

    kind: str
    options: Mapping[str, Any] = Field(default_factory=dict)


def flat_ref(value: Any) -> Any:
    """`{kind: x, a: 1}` as people write it → kind and options."""
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, Mapping) and "kind" in value and "options" not in value:
        return {"kind": value["kind"], "options": {k: v for k, v in value.items() if k != "kind"}}
    return value


class GateRef(Noun):
    """Which gate judges, with its policy."""

    gate: str
    policy: Mapping[str, Any] = Field(default_factory=dict)
    reads: Mapping[str, str] = Field(default_factory=dict)
    """The gate's own role → role of the study, where they differ: `results` → `baseline.results`."""
    required: bool = True
    shadow: bool = False
    """Measured and shown, but not counted."""
    label: str = ""
    """Name of the verdict where one gate judges at two places."""

    @property
    def name(self) -> str:
        """What the verdict is called in the Decision."""
        return self.label or self.gate


class Step(Noun):
    """One step of a plan: a verb, done to a subject, then judged by gates."""

    name: str
    verb: Literal[Verb.BUILD, Verb.EVALUATE]
    subject: Subject
    adapter: AdapterRef | None = None
    """None for the build step: the candidate brings its own."""
    serve: AdapterRef | None = None
    """How the subject is served while it is evaluated; the candidate's own wins."""
    served: bool = False
    """The step needs an endpoint."""
    produces: str | None = None
    """Role of the evidence that it yields, such as `candidate.results`."""
    shared: bool = False
    """Done once per study and protocol, not once per trial."""
    draw: Draw | None = None
    """The items that are asked; None = all of them."""
    extends: str = ""
    """Step whose results this one adds to: the same subject, asked an earlier part of the items."""
    resumes: bool = False
    """Its adapter goes on with what a killed attempt left in its folder, and repeats none of it."""
    until: str = ""
    """Gate after whose verdict the step is not needed any more."""
    keep_serving: bool = False
    """The server stays for later steps of the trial that serve the same."""
    seed: int | None = None
    """Seed of this step, where the same thing is done with several; None = the study's."""
    phase: str = ""
    """Only candidates whose intent names this `phase` go through the step; empty = all do."""
    gates: tuple[GateRef, ...] = ()


class Budget(Noun):
    """What a study may use. None = no limit."""

    wall_time_s: float | None = Field(default=None, gt=0)
    trials: int | None = Field(default=None, gt=0)
    disk_bytes: int | None = Field(default=None, gt=0)
    failures: int | None = Field(default=None, gt=0)
    """Trials that may end INFEASIBLE or ANOMALOUS before the study ends."""
    cost: float | None = Field(default=None, gt=0)
    """Most that the study's runs may cost together, in the currency of `cost_per_hour`."""
    cost_per_hour: float | None = Field(default=None, gt=0)
    """Price of an hour in which something runs. `cost` needs it."""

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.cost is not None and self.cost_per_hour is None:
            raise ValueError("`cost` needs `cost_per_hour`: the price of an hour of running")
        return self


class StopRules(Noun):
    """When a study that goes on from its best candidate has seen enough, and whether its best one may advance.

    The two are different questions: a study may stop with nothing that is good enough.
    """

    metric: PrimaryMetric
    """What candidates are measured by."""
    reads: str = "candidate.runs"
    """Role of the evidence that holds the metric, and its standard deviation over seeds as `seed_sd`."""
    stop_tier: Tier | None = Tier.GOAL
    """The study ends when a kept candidate reaches this tier; null = a tier ends nothing."""
    advance_tier: Tier = Tier.FLOOR
    """Lowest tier at which the best candidate may advance; below it a person is asked."""
    plateau_trials: int | None = Field(default=5, gt=0)
    """So many trials in a row without progress end the study; null = no such rule."""
    plateau_sds: float = Field(default=1.0, ge=0)
    """What counts as progress: a kept candidate better than the last progress by more than so many standard
    deviations of the seeds, as they were measured in the study."""
    dead_end_trials: int | None = Field(default=3, gt=0)
    """So many proposals in a row that repeat earlier ones end the study; null = no such rule."""
    same_text: float = Field(default=0.9, gt=0, le=1)
    """Share of equal words from which on a hypothesis is one that was stated before."""
    same_value_frac: float = Field(default=0.05, ge=0)
    """Numbers of two configurations that differ by no more than this share are the same setting."""
    stop_file: str = ""
    """A file by which a person ends the study after the running trial; empty = `STOP` in the study's folder."""


class Study(Noun):
    """One question. Never changed after it opens: a changed spec is another study."""

    id: str
    job: str
    name: str
    question: str
    source: Artifact
    """The baseline that candidates change."""
    models: tuple[Artifact, ...] = ()
    """Further artifacts that candidates take as they are: a candidate names its own by `parent`."""
    steps: tuple[Step, ...]
    confirm: tuple[Step, ...] = ()
    """Steps for the best ranked candidate alone, on items that no candidate was ranked by; empty = no ranking."""
    final_gates: tuple[GateRef, ...] = ()
    """Gates over the whole trial, judged when all steps are done."""
    proposer: AdapterRef
    apply: AdapterRef
    apply_on_accept: bool = True
    stop: Literal["first_accept", "never"] = "first_accept"
    """When the study ends before its proposer does."""
    stopping: StopRules | None = None
    """Rules of a study in which each candidate grows out of the best one before it; None = each stands alone."""
    inherits: Mapping[str, str] = Field(default_factory=dict)
    """Role that a trial takes over → role under which the best kept trial before it holds that evidence."""
    tells: tuple[str, ...] = ()
    """Roles of the evidence that the proposer is told, and the step whose subject is `study`."""
    answers: str = ""
    """Phase of the candidates that answer the question: only their Decisions count for it; empty = all count."""
    budget: Budget = Budget()
    seed: int = 0
    exploratory: str = ""
    """Why nothing may be accepted: the contract was changed after results of its samples were seen."""
    spec: Mapping[str, Any]
    """The resolved spec, whole."""

    @property
    def gates(self) -> tuple[GateRef, ...]:
        """All gates in the order in which they are reached; of one that looks several times, the last look."""
        steps = (*self.steps, *self.confirm)
        return tuple({g.name: g for s in steps for g in s.gates}.values()) + self.final_gates

    def gates_for(self, phase: object) -> tuple[GateRef, ...]:
        """The gates that a candidate of a phase meets."""
        steps = (*self.steps, *self.confirm)
        others = {g.name for s in steps if s.phase and s.phase != phase for g in s.gates}
        return tuple(g for g in self.gates if g.name not in others)
