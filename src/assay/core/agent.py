"""Agent: how the tasks of a suite are carried out, and what became of each run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from assay.core.base import Noun
from assay.core.evidence import Evidence

BASELINE = "baseline"
"""Arm: the text as it stands."""
CANDIDATE = "candidate"
"""Arm: the text that would replace it."""
EMPTY = "empty"
"""Arm: no text at all. What passes so needs no text."""
KNOWN_GOOD = "known_good"
"""Arm: a text that is known to work: the positive control."""
AGAIN = "again"
"""Arm: the baseline a second time. What it differs by is noise."""


class AgentOutcome(StrEnum):
    """How one run of one task ended. Closed."""

    PASS = "pass"  # noqa: S105
    TASK_FAIL = "task_fail"
    """The agent ended by itself and the verifier said no."""
    AGENT_ERROR = "agent_error"
    """The agent broke down: the text may be why."""
    AGENT_TIMEOUT = "agent_timeout"
    """The agent was ended at its time limit: the text may be why."""
    INFRA_ERROR = "infra_error"
    """Nothing was learned about the text: no network, no quota, no disk, no program."""


class AgentCommand(Noun):
    """The agent: a command that is run once for each task, arm and repeat."""

    preset: str = "command"
    """`command`, or a known agent's command line: see `docs/evolve.md`."""
    command: tuple[str, ...] = ()
    """Template without a shell, into which is put: `{prompt}`, `{prompt_file}`, `{workdir}`, `{artifact}` (staged copy of
    the text's folder or file), `{artifact_dir}` (where it lies), `{text_file}` (the text alone), `{result_file}`,
    `{seed}`, `{rep}`, `{task_id}`, `{python}`, `{model}`. Empty = the preset's own."""
    model: str = ""
    """Passed on to the agent; part of the fingerprint."""
    base_url: str = ""
    """Of an OpenAI-compatible server, for the preset `prompt`."""
    env: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], ...] = ()
    """Names of environment variables that the agent may see, beside the harmless ones. Values are never stored."""
    deliver: str = ""
    """Path in the workspace where the artifact is laid, such as `.claude/skills/{name}`; empty = it lies beside it."""
    timeout_s: float = Field(default=300.0, gt=0)
    """Of one run; then the whole process group is ended."""
    retries: int = Field(default=2, ge=0)
    """Further attempts after an infra error. Nothing else is tried again."""
    parallel: int = Field(default=1, ge=1, le=64)
    """Runs at the same time."""
    isolation: Literal["auto", "none", "namespace", "bubblewrap", "docker"] = "auto"
    """How far the agent is kept from the machine. `auto` = the strongest that works here; it is recorded."""
    network: bool = True
    """Whether the agent may reach a network; false needs an isolation that can forbid it."""
    output_bytes: int = Field(default=1 << 20, ge=1024)
    """Most that is kept of what an agent prints."""
    version_command: tuple[str, ...] = ()
    """Prints the agent's version; it is part of the fingerprint. Empty = the preset's, or a digest of the program."""
    price_per_run: float | None = Field(default=None, ge=0)
    """Assumed cost of a run, its judge included, that does not tell all of it, in the currency of the budget. Unknown is
    not 0."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Of the preset."""

    @model_validator(mode="after")
    def _has_a_command(self) -> Self:
        if self.preset == "command" and not self.command:
            raise ValueError("the preset `command` needs a `command`")
        return self


class AgentRun(Noun):
    """One run of one task with one text."""

    task: str
    arm: str
    rep: int = Field(ge=1)
    """Number of the fresh draw of this task and arm. A run is known by task, arm and rep."""
    block: int = Field(default=1, ge=1)
    """Runs of one block were started close to each other, in an order that was drawn."""
    place: int = Field(default=0, ge=0)
    """Place in the order of starting, over all arms."""
    outcome: AgentOutcome
    score: float | None = Field(default=None, ge=0, le=1)
    """1 for pass, 0 for a failure, between where an evaluator says so; None where nothing was learned."""
    reason: str = ""
    """One sentence about how it ended."""
    text: str = ""
    """Digest of the text that was given."""
    attempts: int = Field(default=1, ge=1)
    """How often it was tried; all but the last were infra errors."""
    cost: float | None = Field(default=None, ge=0)
    """As agent and judge told, of all attempts. None = unknown, which is not 0."""
    untold: int = Field(default=0, ge=0)
    """Attempts of which agent or judge told no cost; where `cost` is None, all of them."""
    input_tokens: int | None = Field(default=None, ge=0)
    output_tokens: int | None = Field(default=None, ge=0)
    wall_s: float | None = Field(default=None, ge=0)
    tools: tuple[str, ...] = ()
    """Names of the tools that were called, in order."""
    tampered: tuple[str, ...] = ()
    """Protected or deciding files that the agent touched; they were put back before judging."""
    said: str = ""
    """The end of its last message or of what it printed."""
    feedback: str = ""
    """What the verifier printed where it said no; never shown to a proposer for tasks that decide."""
    started: str = ""
    """UTC, ISO 8601."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What the run is known by: no two may have the same."""
        return self.task, self.arm, self.rep

    @property
    def learned(self) -> bool:
        """Whether it says anything about the text."""
        return self.outcome is not AgentOutcome.INFRA_ERROR

    @property
    def passed(self) -> bool:
        """Whether the verifier said yes."""
        return self.outcome is AgentOutcome.PASS

    def assumed(self, price: float | None) -> float | None:
        """What is put down for attempts that told no cost; None = there are some, and no price is known."""
        untold = max(self.untold, self.cost is None)
        return 0.0 if not untold else None if price is None else untold * price


class AgentRuns(Evidence):
    """Runs of a suite's tasks with one or several texts."""

    kind: Literal["agent_runs"] = "agent_runs"
    suite: str
    """Digest of the suite."""
    runner: str
    """Fingerprint of the agent: program, version, arguments, names of variables, limits."""
    isolation: str = ""
    """The level that was in force."""
    texts: Mapping[str, str] = Field(default_factory=dict)
    """Arm → digest of its text."""
    text_chars: Mapping[str, int] = Field(default_factory=dict)
    """Arm → length of its text."""
    tasks: tuple[str, ...]
    """The tasks that were to be run, canaries included."""
    canaries: tuple[str, ...] = ()
    """Those of them that need the text to pass. They prove delivery and never count for the difference."""
    repeats: Mapping[str, int] = Field(default_factory=dict)
    """Arm → how many runs of each task there should be; canaries are counted apart."""
    canary_repeats: Mapping[str, int] | None = None
    """Arm → how many runs of each canary there should be; None = as of each task."""
    runs: tuple[AgentRun, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms, as planned."""
        return tuple(self.repeats)

    def planned(self, arm: str, task: str) -> int:
        """How many runs of a task with an arm there should be."""
        known = (
            self.repeats if self.canary_repeats is None or task not in self.canaries else self.canary_repeats
        )
        return known.get(arm, 0)

    def of(self, arm: str, task: str = "") -> tuple[AgentRun, ...]:
        """The runs of an arm, of one task or of all."""
        return tuple(r for r in self.runs if r.arm == arm and task in ("", r.task))

    def extended(self, later: AgentRuns) -> AgentRuns:
        """These runs and further ones with the same texts.

        Raises:
            ValueError: if suite, agent, tasks or texts differ, or a run is there twice.
        """
        for name in ("suite", "runner", "tasks", "canaries", "texts"):
            if getattr(self, name) != getattr(later, name):
                raise ValueError(f"the {name} differ from those of the runs before")
        if {r.key for r in self.runs} & {r.key for r in later.runs}:
            raise ValueError("a run is there twice")
        canaries = None
        if self.canary_repeats is not None or later.canary_repeats is not None:
            canaries = _sum(
                *(r.repeats if r.canary_repeats is None else r.canary_repeats for r in (self, later))
            )
        return self.model_copy(
            update={
                "runs": (*self.runs, *later.runs),
                "repeats": _sum(self.repeats, later.repeats),
                "canary_repeats": canaries,
                "artifacts": (*self.artifacts, *later.artifacts),
                "measurements": (),
            }
        )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {arm: one.get(arm, 0) + other.get(arm, 0) for arm in (*one, *(a for a in other if a not in one))}
