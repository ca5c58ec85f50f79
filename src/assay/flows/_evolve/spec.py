"""The spec of an evolve study: the whole question, as one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextKind
from assay.core.base import Noun, SpecPath
from assay.core.study import AdapterRef, flat_ref
from assay.gates.deploy import DeployPolicy
from assay.gates.preflight import PreflightPolicy
from assay.gates.setup import SetupPolicy
from assay.gates.text import TextPolicy

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
LOOKS = (3, 6, 9)
FEWEST_TO_SPLIT = 15
"""A suite with fewer tasks is not divided: search, selection and confirmation draw afresh on the same tasks."""


def _path(value: Any) -> Any:
    """`skills/x` is short for `{path: skills/x}`."""
    return {"path": value} if isinstance(value, str) else value


def _agent(value: Any) -> Any:
    """A list is short for a command."""
    given = {"command": value} if isinstance(value, list | tuple) else value
    if not isinstance(given, Mapping):
        return given
    return {
        k: tuple(v) if isinstance(v, list) else v for k, v in given.items()
    }  # what a validator saw is no JSON


def _search(value: Any) -> Any:
    """The options as they are written → kind and options."""
    if isinstance(value, Mapping) and "options" not in value:
        return {
            "kind": value.get("kind", "search"),
            "options": {k: v for k, v in value.items() if k != "kind"},
        }
    return value


class TextRef(Noun):
    """A text, and how it lies where it lies."""

    path: SpecPath
    """Folder of a skill, an MCP manifest, or any file."""
    kind: TextKind | None = None
    """null = a skill where the path is a folder or SKILL.md, a tool where a `.json` and a name are given, a region where
    another file and a name are given, else the whole file."""
    name: str = ""
    """Of the tool or region."""
    digest: str = ""
    """Of the whole artifact. Filled in when the spec is read."""
    chars: int = Field(default=0, ge=0)
    """Of the text. Filled in when the spec is read."""


class CandidateText(Noun):
    """A text that somebody wrote, to be judged."""

    path: SpecPath
    """In the same form as the baseline: a folder of a skill, a manifest, a file; or a file with the text alone."""
    name: str = ""
    """For people; empty = the last part of the path."""


class SuiteRef(Noun):
    """The tasks, and what each is used for."""

    path: SpecPath
    """A JSONL file or a folder."""
    train_frac: float = Field(default=0.36, gt=0, lt=1)
    """Share of the tasks that the search learns from, where the suite does not say it."""
    select_frac: float = Field(default=0.24, gt=0, lt=1)
    """Share that chooses among what was found. The rest confirms, and nothing else sees it."""
    digest: str = ""
    """Filled in when the spec is read, as all below."""
    train: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    confirm: tuple[str, ...] = ()
    canaries: tuple[str, ...] = ()
    divided: bool = True
    """False: too few tasks, so the three share them; draws are fresh, and nothing is said about other tasks."""

    @model_validator(mode="after")
    def _some_left(self) -> Self:
        if self.train_frac + self.select_frac >= 1:
            raise ValueError("train_frac and select_frac leave no task to confirm with")
        return self


class EvolveBudget(Noun):
    """What the study may use. null = no limit."""

    wall_time_s: float | None = Field(default=None, gt=0)
    disk_bytes: int | None = Field(default=None, gt=0)
    cost: float | None = Field(default=None, gt=0)
    """Most that the study may cost: agents, judges and proposers of all its steps together, as they tell or at
    `agent.price_per_run`. Confirmation comes first: what it may need is kept for it."""


class EvolveSpec(Noun):
    """The whole question, as one YAML file."""

    schema_: Literal["evolve/1"] = Field(alias="schema")
    """Version of this format."""
    name: str = Field(default="evolve", pattern=NAME)
    """Name of the study; ids are made from it."""
    text: Annotated[TextRef, BeforeValidator(_path)]
    """The text as it stands: the baseline."""
    suite: Annotated[SuiteRef, BeforeValidator(_path)]
    """The tasks that decide."""
    agent: Annotated[AgentCommand, BeforeValidator(_agent)]
    """What carries the tasks out."""
    candidates: tuple[Annotated[CandidateText, BeforeValidator(_path)], ...] = ()
    """Texts to be judged as they are; null or empty where one is searched for."""
    search: Annotated[AdapterRef | None, BeforeValidator(_search)] = None
    """How a better text is searched for: options of the build kind `search`."""
    preflight: PreflightPolicy = PreflightPolicy()
    """When it is not worth it to begin."""
    preflight_repeats: int = Field(default=2, ge=1)
    """Runs of each task with the text as it stands, before anything else."""
    empty_tasks: bool = False
    """Whether all deciding tasks are also run without any text, not only the canaries: what does the text earn at all?"""
    known_good: SpecPath | None = None
    """A text that is known to work. The preflight runs it on all deciding tasks: where all fail with the baseline, it
    shows that a text can do them. null = none is known."""
    rules: TextPolicy = TextPolicy()
    """What a text is held to before it costs a run."""
    deploy: DeployPolicy = DeployPolicy()
    """The rule that decides. Without `looks`, it is looked after 3, 6 and 9 runs of each task and text."""
    setup: SetupPolicy = SetupPolicy()
    """What must be there before the start."""
    apply: AdapterRef = AdapterRef(kind="text")
    """Where an accepted text goes; the place of the baseline unless a `path` is given."""
    apply_on_accept: bool = False
    """False: `assay apply ID` does it, after somebody has read the text."""
    budget: EvolveBudget = EvolveBudget()
    seed: int = 0

    _flat = field_validator("apply", mode="before")(flat_ref)

    @model_validator(mode="after")
    def _has_candidates(self) -> Self:
        if not self.candidates and self.search is None:
            raise ValueError("name `candidates` to judge, or how to `search` for one")
        return self

    @model_validator(mode="after")
    def _can_keep_its_cap(self) -> Self:
        if self.budget.cost is not None and self.agent.price_per_run is None:
            raise ValueError(
                "`budget.cost` needs `agent.price_per_run`, what a run may cost: so much is kept for confirmation, and "
                "counted for a run that tells no cost"
            )
        return self

    @property
    def source(self) -> str:
        """Path of the baseline."""
        return self.text.path

    @property
    def rule(self) -> DeployPolicy:
        """The rule with everything that the study fixes: its looks, and how many candidates share its level."""
        looks = self.deploy.looks or LOOKS
        return self.deploy.model_copy(update={"looks": looks, "candidates": self.judged, "seed": self.seed})

    @property
    def beginning(self) -> PreflightPolicy:
        """The rule of the preflight, which must know what confirmation is to follow."""
        return self.preflight.model_copy(update={"planned_looks": self.rule.looks})

    @property
    def judged(self) -> int:
        """How many candidates are confirmed."""
        return len(self.candidates) + (self.search is not None)

    @property
    def repeats(self) -> int:
        """Runs of each task and text where nothing stops early."""
        return self.rule.looks[-1]
