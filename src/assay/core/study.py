"""Study: one question, with everything that decides its answer fixed before the first sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import Field

from assay.core.base import Noun
from assay.core.draw import Draw
from assay.core.evidence import Artifact
from assay.core.vocabulary import Verb

Subject: TypeAlias = Literal["machine", "source", "candidate"]


class AdapterRef(Noun):
    """Which adapter does a step, with its options."""

    kind: str
    options: Mapping[str, Any] = Field(default_factory=dict)


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
    until: str = ""
    """Gate after whose verdict the step is not needed any more."""
    keep_serving: bool = False
    """The server stays for later steps of the trial that serve the same."""
    gates: tuple[GateRef, ...] = ()


class Budget(Noun):
    """What a study may use. None = no limit."""

    wall_time_s: float | None = Field(default=None, gt=0)
    trials: int | None = Field(default=None, gt=0)
    disk_bytes: int | None = Field(default=None, gt=0)


class Study(Noun):
    """One question. Never changed after it opens: a changed spec is another study."""

    id: str
    job: str
    name: str
    question: str
    source: Artifact
    """The baseline that candidates change."""
    steps: tuple[Step, ...]
    final_gates: tuple[GateRef, ...] = ()
    """Gates over the whole trial, judged when all steps are done."""
    proposer: AdapterRef
    apply: AdapterRef
    apply_on_accept: bool = True
    stop: Literal["first_accept", "never"] = "first_accept"
    """When the study ends before its proposer does."""
    budget: Budget = Budget()
    seed: int = 0
    exploratory: str = ""
    """Why nothing may be accepted: the contract was changed after results of its samples were seen."""
    spec: Mapping[str, Any]
    """The resolved spec, whole."""

    @property
    def gates(self) -> tuple[GateRef, ...]:
        """All gates in the order in which they are reached; of one that looks several times, the last look."""
        return tuple({g.name: g for s in self.steps for g in s.gates}.values()) + self.final_gates
