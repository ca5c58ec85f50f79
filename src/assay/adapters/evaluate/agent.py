"""Evaluate kind `agent`: an agent does the tasks of a suite with several texts, interleaved, each run on record.

Every block is each task once with each arm, in an order drawn from the seed. Canaries are run `canary_repeats` times per
step and arm, in its first blocks: they prove delivery and decide nothing. The empty and the known-good text are controls:
they are run on canaries alone unless `empty_tasks` or `known_good_tasks` say otherwise.

A killed step is gone on with where it was: its journal `runs.jsonl` lies in the step's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from assay.core.agent import (
    AGAIN,
    BASELINE,
    CANDIDATE,
    EMPTY,
    KNOWN_GOOD,
    AgentCommand,
    AgentRun,
    AgentRuns,
)
from assay.core.artifact_text import TextArtifact, TextKind
from assay.core.base import Noun, SpecPath
from assay.core.errors import ComponentFailed, UnreadableInput, UsageError
from assay.core.evidence import Evidence, Measurement
from assay.core.ports import Component, Session, Target
from assay.core.suite import Suite
from assay.core.vocabulary import FailureClass
from assay.readers.suites import read_suite
from assay.readers.texts import read_text
from assay.runtime.agents import AgentRunner, Draw, RunJournal, check_agent, run_all
from assay.runtime.agents.plan import drawn, in_order
from assay.runtime.agents.purse import RUNS, Purse, spent_before
from assay.runtime.agents.running import text_digest
from assay.runtime.files import artifact

_ARMS = (BASELINE, CANDIDATE, AGAIN, EMPTY, KNOWN_GOOD)


class Options(Noun):
    """Options of `evaluate: {kind: agent}`."""

    suite: SpecPath
    """Folder or JSONL file of the tasks."""
    suite_digest: str = ""
    """That the suite must have; empty = as it is. A study sets it when it opens."""
    agent: AgentCommand
    """How a task is carried out."""
    text_kind: TextKind | None = None
    """Of the text; null = told by its path."""
    name: str = ""
    """Of the tool or region."""
    tasks: tuple[str, ...] = ()
    """Ids of the tasks; empty = all that are no canaries."""
    canaries: tuple[str, ...] = ()
    """Ids of the canaries that are run."""
    arms: tuple[str, ...] = Field(default=(BASELINE,), min_length=1)
    """`baseline`, `candidate`, `again` (the baseline a second time), `empty`, `known_good`."""
    first: int = Field(default=1, ge=1)
    """Number of the first repeat of this step."""
    last: int = Field(default=1, ge=1)
    """Number of the last one."""
    canary_repeats: int = Field(default=1, ge=0)
    """How often a canary is run with each arm in this step; at most as often as a task."""
    empty_tasks: bool = False
    """Run the tasks, and not the canaries alone, with the empty text."""
    known_good_tasks: bool = False
    """Run the tasks, and not the canaries alone, with the known-good text."""
    known_good: SpecPath | None = None
    """Text of the arm `known_good`."""
    texts: Mapping[str, str] = Field(default_factory=dict)
    """Further arms with the text of each, such as the baseline without one of its sections."""
    max_cost: float | None = Field(default=None, ge=0)
    """Most that the study may cost, all its steps together, as told or at `agent.price_per_run`; told at 50 and 80 %."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if unknown := sorted(set(self.arms) - {*_ARMS, *self.texts}):
            raise ValueError(f"unknown arm {unknown[0]!r}; allowed: {', '.join((*_ARMS, *self.texts))}")
        if taken := sorted(set(self.texts) & set(_ARMS)):
            raise ValueError(f"`texts` names {taken[0]!r}, an arm that has its text already")
        for name in ("arms", "tasks", "canaries"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"`{name}` names something twice")
        if self.last < self.first:
            raise ValueError("`last` is smaller than `first`")
        if KNOWN_GOOD in self.arms and self.known_good is None:
            raise ValueError("the arm `known_good` needs `known_good`")
        return self


@dataclass(frozen=True)
class Plan:
    """What is run."""

    tasks: tuple[str, ...]
    """Canaries included, in the order of the suite."""
    canaries: tuple[str, ...]
    repeats: Mapping[str, int]
    """Arm → runs of each task; 0 where the arm is run on canaries alone."""
    canary_repeats: int
    """Runs of each canary with each arm."""
    draws: tuple[Draw, ...]


def plan(options: Options, suite: Suite, seed: int) -> Plan:
    """Which draws the options mean. Pure.

    Raises:
        ComponentFailed: USER_CONFIG_ERROR, if they name a task that the suite has not, or nothing is left to run.
    """
    ids = [t.task_id for t in suite.tasks]
    if unknown := sorted({*options.tasks, *options.canaries} - set(ids)):
        raise _wrong(f"the suite has no task {unknown[0]!r}", "evaluate.tasks")
    canaries = tuple(i for i in ids if i in options.canaries)
    wanted = options.tasks or tuple(t.task_id for t in suite.tasks if not t.canary)
    tasks = tuple(i for i in ids if i in wanted and i not in canaries)
    controls = {EMPTY: options.empty_tasks, KNOWN_GOOD: options.known_good_tasks}
    repeats = options.last - options.first + 1
    per_arm = {a: repeats if controls.get(a, True) else 0 for a in options.arms}
    canary_last = options.first + min(options.canary_repeats, repeats) - 1
    draws = [
        drawn(task, arm, rep, rep, seed)
        for rep in range(options.first, options.last + 1)
        for arm in options.arms
        for task in (*(tasks if per_arm[arm] else ()), *(canaries if rep <= canary_last else ()))
    ]
    if not draws:
        raise _wrong("no run is left: the arms are controls, and no canary is named", "evaluate.arms")
    return Plan(
        tasks=tuple(i for i in ids if i in {*tasks, *canaries}),
        canaries=canaries,
        repeats=per_arm,
        canary_repeats=canary_last - options.first + 1,
        draws=tuple(in_order(draws, seed)),
    )


class Adapter:
    """Runs an agent on a suite."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether program and isolation are there."""
        return check_agent(self.options.agent, self.options.text_kind or TextKind.SKILL)

    def protocol(self) -> Mapping[str, Any]:
        """Suite and agent."""
        agent = self.options.agent.to_json()
        return {
            "harness": "agent",
            "suite": self.options.suite_digest,
            **{
                f"agent.{k}": agent[k]
                for k in ("preset", "command", "model", "timeout_s", "isolation", "network")
            },
        }

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """Run what is planned and not yet in the journal.

        Raises:
            ComponentMissing: if the program is not there, or the isolation does not work here.
            ComponentFailed: USER_CONFIG_ERROR, if the suite is not the planned one; BUDGET_EXHAUSTED, if money or time
                run out; INFRA_TRANSIENT, after infra errors in a row.
        """
        options = self.options
        suite = self._suite()
        found = plan(options, suite, session.seed)
        baseline, texts = self._texts(target)
        runner = AgentRunner(options.agent, baseline, session.workdir, hidden=(Path(options.suite),))
        session.note(f"isolation {runner.isolation}, {len(found.draws)} runs")
        header = {
            "suite": suite.digest,
            "runner": runner.fingerprint,
            "texts": {a: text_digest(t) for a, t in texts.items()},
            "seed": session.seed,
            "plan": [
                list(found.tasks),
                list(found.canaries),
                dict(found.repeats),
                options.first,
                options.last,
            ],
        }
        with RunJournal(session.workdir / RUNS, header) as journal:
            budget = _Budget(options, session, journal)
            if left := sum(d.key not in journal.done for d in found.draws):
                budget.require(left)
            if journal.done:
                session.note(f"{len(journal.done)} runs of an earlier attempt are kept")
            runs = run_all(
                runner,
                suite,
                texts,
                found.draws,
                journal,
                parallel=options.agent.parallel,
                on_run=lambda run, done, of: session.note(f"{done} of {of} runs; {_line(run)}", done / of),
                stop=budget.after,
            )
        runner.require_unchanged()
        if len(runs) < len(found.draws):
            budget.check()
        return self._evidence(target, suite, runner, texts, found, runs, session)

    def _suite(self) -> Suite:
        suite = read_suite(Path(self.options.suite))
        if self.options.suite_digest and suite.digest != self.options.suite_digest:
            raise _wrong(
                "the suite is no longer the one that the study was opened with",
                str(self.options.suite),
                "put it back, or start a new study",
            )
        return suite

    def _texts(self, target: Target) -> tuple[TextArtifact, dict[str, str]]:
        """The artifact that the texts belong to, and the text of each arm."""
        options = self.options
        try:
            baseline = read_text(Path(target.source or target.path), options.text_kind, options.name)
            texts = {a: baseline.text for a in options.arms if a in (BASELINE, AGAIN)} | dict(options.texts)
            if CANDIDATE in options.arms:
                texts[CANDIDATE] = self._candidate(target)
            if EMPTY in options.arms:
                texts[EMPTY] = ""
            if KNOWN_GOOD in options.arms and options.known_good is not None:
                texts[KNOWN_GOOD] = self._known_good(Path(options.known_good), baseline)
        except (UnreadableInput, UsageError) as error:
            raise _wrong(error.what, error.where, error.next) from error
        return baseline, {a: texts[a] for a in options.arms}

    def _candidate(self, target: Target) -> str:
        if not target.source:
            raise _wrong("the arm `candidate` needs a built candidate", "evaluate.arms")
        from assay.readers.evolved import read_evolved  # noqa: PLC0415 - only where something was built

        return str(read_evolved(Path(target.path)).artifact.text)

    def _known_good(self, path: Path, baseline: TextArtifact) -> str:
        """A text of the same kind, or a plain file where it is none."""
        skill = baseline.kind is TextKind.SKILL and (path.is_dir() or path.name == "SKILL.md")
        named = baseline.kind in (TextKind.TOOL, TextKind.REGION)
        kind = baseline.kind if skill or named else TextKind.PLAIN
        return read_text(path, kind, self.options.name).text

    def _evidence(
        self,
        target: Target,
        suite: Suite,
        runner: AgentRunner,
        texts: Mapping[str, str],
        found: Plan,
        runs: list[AgentRun],
        session: Session,
    ) -> AgentRuns:
        price = self.options.agent.price_per_run
        assumed = [r.assumed(price) for r in runs]
        known = [(r.cost or 0.0) + a for r, a in zip(runs, assumed, strict=True) if a is not None]
        return AgentRuns(
            subject=target.name,
            suite=suite.digest,
            runner=runner.fingerprint,
            isolation=runner.isolation,
            texts={a: text_digest(t) for a, t in texts.items()},
            text_chars={a: len(t) for a, t in texts.items()},
            tasks=found.tasks,
            canaries=found.canaries,
            repeats=found.repeats,
            canary_repeats=dict.fromkeys(found.repeats, found.canary_repeats),
            runs=tuple(runs),
            artifacts=(artifact(session.workdir / RUNS),),
            measurements=(
                Measurement.of("cost", sum(known) if len(known) == len(runs) else None, n=len(known)),
                Measurement.of("infra_errors", sum(not r.learned for r in runs), n=len(runs)),
            ),
            facts={
                "agent": self.options.agent.preset,
                "version": runner.version,
                "file_chars": {a: runner.file_chars(t) for a, t in texts.items()},
                "model": self.options.agent.model,
                "assumed_cost": sum(a for a in assumed if a is not None),
                "runs_without_cost": sum(r.cost is None for r in runs),
            },
        )


class _Budget:
    """Money and time of the study, as far as this step may use them."""

    def __init__(self, options: Options, session: Session, journal: RunJournal) -> None:
        price = options.agent.price_per_run
        self._session = session
        self._purse = Purse(options.max_cost, price, spent_before(session.workdir, price))
        self.why = ""
        """Why no further run is started."""
        self.failure = FailureClass.BUDGET_EXHAUSTED
        self._next = ""
        for run in journal.done.values():  # of an earlier attempt of this step
            self.after(run)

    def require(self, runs: int) -> None:
        """Begin nothing that the money does not reach for.

        Raises:
            ComponentFailed: see `Adapter.evaluate`.
        """
        purse, needed = self._purse, runs * self._purse.per_run
        if not self.why and purse.left is not None and (purse.left <= 0 or needed > purse.left * (1 + 1e-9)):
            self._spent(f"{runs} more runs may cost {needed:.4g}")
        self.check()

    def check(self) -> None:
        """Stop where nothing is left.

        Raises:
            ComponentFailed: see `Adapter.evaluate`.
        """
        if self.why:
            raise ComponentFailed(
                self.why, failure_class=self.failure, where="evaluate.agent", next=self._next
            )

    def after(self, run: AgentRun) -> str | None:
        """Count a run; a reason where no other may be started."""
        purse = self._purse
        known = purse.mine.run(run, purse.price)
        if purse.left is not None:
            if not known and run.learned:
                self.failure = FailureClass.USER_CONFIG_ERROR
                self.why = "the agent tells no cost, and `max_cost` cannot be kept: set `agent.price_per_run`"
            elif purse.left <= 0:
                self._spent("no other run is begun")
            purse.warn(self._session.note)
        left = self._session.remaining_s()
        if left is not None and left <= 0 and not self.why:
            self.why = "the wall-time budget ended while agents were running"
        return self.why or None

    def _spent(self, then: str) -> None:
        purse = self._purse
        self.why = f"the money of this study is used up: {purse.cost:.4g} of {purse.cap:.4g}, and {then}"
        self._next = "a study's budget is fixed: raise it in the spec and start a new study"


def _line(run: AgentRun) -> str:
    return f"{run.task} {run.arm} {run.rep}: {run.outcome.value}" + (f", {run.reason}" if run.reason else "")


def _wrong(what: str, where: str, next_: str = "") -> ComponentFailed:
    return ComponentFailed(what, failure_class=FailureClass.USER_CONFIG_ERROR, where=where, next=next_)
