"""Build kind `search`: tries many versions of a text with real agent runs and writes the best, with how it was found.

What it measured decides nothing but its own pick: the study confirms the text on fresh runs. The tasks that confirm are
not even known here. A killed search goes on where it was: no run is done twice, and no proposal is asked for again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from assay.adapters.build.search.bench import Bench, Spending
from assay.adapters.build.search.canary import TRIES, proven
from assay.adapters.build.search.command import asked, missing
from assay.adapters.build.search.gepa import INSTALL, evolve_by_gepa, vendor
from assay.adapters.build.search.record import Record
from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextArtifact, TextKind
from assay.core.base import Noun, SpecPath
from assay.core.candidate import Candidate
from assay.core.canon import digest
from assay.core.errors import ComponentMissing, UsageError
from assay.core.evolution import Evolution
from assay.core.ports import Component, Session
from assay.core.suite import Suite
from assay.evolving.archive import Archive, Pick, text_digest
from assay.evolving.chance import Chance
from assay.evolving.course import Course
from assay.evolving.limits import Limits
from assay.evolving.proposers.spec import CommandOptions, PoolLine, ProposerSpec
from assay.evolving.rules import Rules
from assay.evolving.search import evolve
from assay.evolving.shorten import minimized
from assay.readers.suites import read_suite
from assay.readers.texts import read_plain, read_text
from assay.runtime.agents import AgentRunner, RunJournal
from assay.runtime.agents.purse import PROPOSALS, RUNS, Purse, spent_before
from assay.runtime.evolved import write_evolved

PROPOSERS = (
    ProposerSpec(kind="add-line", weight=3.0),
    ProposerSpec(kind="delete-line"),
    ProposerSpec(kind="replace-line"),
    ProposerSpec(kind="move-line"),
    ProposerSpec(kind="merge"),
)
"""What proposes where nothing is named: small changes of lines, from the pool."""
_NO_COURSE = {"max_cost", "study_cost", "confirming_runs", "max_runs", "suite", "pool_file"}
"""Options that do not decide where a search goes: how far, and where things lie."""


class Options(Noun):
    """Options of `build: {kind: search}`. The job fills in suite, tasks, agent, text and seed."""

    text_kind: TextKind | None = None
    """What the text is part of; null = told by its path."""
    name: str = ""
    """Of the tool or region."""
    suite: SpecPath
    """The tasks: a JSONL file or a folder."""
    suite_digest: str = ""
    """Of the suite that the study was planned with; empty = any."""
    tasks_train: tuple[str, ...] = Field(min_length=1)
    """Tasks to learn from: proposers see what verifiers printed about them."""
    tasks_select: tuple[str, ...] = ()
    """Tasks that choose among the kept texts; proposers see nothing of them. Empty = the train tasks choose."""
    agent: AgentCommand
    """What carries out the tasks."""
    engine: Literal["own", "gepa", "minimize"] = "own"
    """`own`: Assay's search. `gepa`: the GEPA library directs it, with the same proposers. `minimize`: the shortest text
    that loses nothing, by delta debugging; needs no proposer."""
    proposers: tuple[ProposerSpec, ...] = PROPOSERS
    """What changes texts. Only `command` can ask a language model."""
    pool: tuple[PoolLine | str, ...] = ()
    """Lines that may be put into the text."""
    pool_file: SpecPath | None = None
    """A file with one line of the pool a line; blank lines are left out."""
    rules: Rules = Rules()
    """How the search goes."""
    limits: Limits = Limits()
    """What no text may break; the gate `text` judges the candidate again."""
    max_runs: int = Field(default=300, ge=1)
    """Most agent runs."""
    max_cost: float | None = Field(default=None, ge=0)
    """Most that the runs and proposals of the search may cost together; null = no cap."""
    study_cost: float | None = Field(default=None, ge=0)
    """Most that the whole study may cost, with what its other steps have spent; filled in by the job."""
    confirming_runs: int = Field(default=0, ge=0)
    """Runs that confirm afterwards, whose cost is not spent here; filled in by the job."""
    price_per_run: float | None = Field(default=None, ge=0)
    """Assumed cost of a run that tells none; null = the agent's. Unknown is not 0: with `max_cost` one is needed."""
    seed: int = 0

    @model_validator(mode="after")
    def _fits_the_engine(self) -> Self:
        if self.engine != "minimize" and not self.proposers:
            raise ValueError("`proposers` is empty: nothing would change the text")
        if self.engine == "gepa" and self.rules.accept == "better_or_shorter":
            raise ValueError("engine `gepa` accepts by `better` or `not_worse`")
        return self


class Adapter:
    """Searches for a better text."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether the engine and the proposing programs are there; the agent is checked where it is run."""
        o = self.options
        lacking = [m for s in o.proposers if isinstance(t := s.typed, CommandOptions) and (m := missing(t))]
        if o.engine == "gepa":
            try:
                vendor()
            except ComponentMissing:
                lacking.append(f"gepa is not installed: {INSTALL}")
        state = "missing" if lacking else "ready"
        return Component(verb="build", kind="search", state=state, detail="; ".join(lacking))

    def intent(self) -> Mapping[str, Any]:
        """It promises nothing: the gates say what it is worth."""
        return {}

    def build(self, candidate: Candidate, source: Path, out: Path, session: Session) -> Mapping[str, Any]:
        """Search, and write what was picked; the baseline's own text where nothing was better.

        Raises:
            UnreadableInput, UsageError: if text or suite cannot be read, or are not those of the plan.
            ComponentMissing: if the engine, the agent or a proposer is not there.
            ComponentFailed: if agent or proposer cannot be run.
        """
        o = self.options
        started = time.monotonic()
        artifact = read_text(source, o.text_kind, o.name)
        text = artifact.text.replace("\r\n", "\n") if artifact.newline == "\r\n" else artifact.text
        suite = self._suite()
        runner = AgentRunner(o.agent, artifact, session.workdir / "agent", hidden=(Path(o.suite),))
        plan = {
            "suite": suite.digest,
            "runner": runner.fingerprint,
            "text": text_digest(text),
            "options": digest(_essence(o)),
            "pool": digest([p.to_json() for p in self._pool()]),
        }
        record = Record(session.workdir / PROPOSALS, plan)
        resumed = record.again
        with RunJournal(session.workdir / RUNS, plan) as journal:
            bench = self._bench(runner, suite, journal, record, session)
            course = self._course(text, suite, bench)
            pick, ended = self._searched(course)
            if o.engine != "minimize":
                bench.held = 0
                pick = proven(course, pick, [t.task_id for t in suite.canaries])
            runner.require_unchanged()
            if bench.reused:
                session.note(f"{bench.reused} of {bench.runs} runs had been done before the interruption")
        evolution = _evolution(course, pick, ended, bench, o)
        if not resumed:
            evolution = evolution.model_copy(update={"wall_s": time.monotonic() - started})
        return self._written(out, artifact, course, evolution, session)

    def _searched(self, course: Course) -> tuple[Pick, str]:
        o = self.options
        chance = Chance(f"search/{o.seed}")
        if o.engine == "minimize":
            return minimized(course)
        if o.engine == "gepa":
            return evolve_by_gepa(course, chance, o.seed)
        return evolve(course, chance)

    def _written(
        self, out: Path, artifact: TextArtifact, course: Course, evolution: Evolution, session: Session
    ) -> Mapping[str, Any]:
        entry = course.archive.entries[evolution.picked]
        texts = {
            e.digest: e.text for e in course.archive.entries if e.state in {"baseline", "kept", "rejected"}
        }
        write_evolved(out, artifact, entry.text, evolution, texts)
        if evolution.picked == 0:
            session.note(f"no improvement: {evolution.pick_rule}; it ended because {evolution.ended}", 1.0)
        else:
            growth = f"{len(entry.text) - len(artifact.text):+,} characters"
            session.note(
                f"picked text {evolution.picked} ({growth}); it ended because {evolution.ended}", 1.0
            )
        return {
            "engine": evolution.engine,
            "picked": evolution.picked,
            "ended": evolution.ended,
            "runs": evolution.runs,
            "cost": evolution.cost,
            "cost_assumed": evolution.cost_assumed,
            "texts": len(evolution.nodes),
        }

    def _suite(self) -> Suite:
        o = self.options
        suite = read_suite(Path(o.suite))
        if o.suite_digest and suite.digest != o.suite_digest:
            raise UsageError(
                "the suite is no longer the one that the study was planned with",
                where=o.suite,
                next="start a new study: results of another suite do not count here",
            )
        unknown = [t for t in (*o.tasks_train, *o.tasks_select) if suite.task(t) is None]
        if unknown:
            raise UsageError(f"the suite has no task {unknown[0]!r}", where=o.suite)
        return suite

    def _pool(self) -> tuple[PoolLine, ...]:
        o = self.options
        lines = read_plain(Path(o.pool_file)).text.splitlines() if o.pool_file is not None else []
        given = tuple(p if isinstance(p, PoolLine) else PoolLine(text=p) for p in o.pool)
        return (*given, *(PoolLine(text=x) for x in lines if x.strip()))

    def _bench(
        self, runner: AgentRunner, suite: Suite, journal: RunJournal, record: Record, session: Session
    ) -> Bench:
        o = self.options
        price = o.price_per_run if o.price_per_run is not None else o.agent.price_per_run
        purse = Purse(o.study_cost, price, spent_before(session.workdir, price))
        return Bench(
            runner=runner,
            suite=suite,
            journal=journal,
            record=record,
            spending=Spending(o.max_runs, o.max_cost, purse, o.confirming_runs),
            session=session,
            proposers=o.proposers,
            ask_command=asked,
            parallel=o.agent.parallel,
            seed=o.seed,
            held=0 if o.engine == "minimize" else TRIES * len(suite.canaries),
        )

    def _course(self, text: str, suite: Suite, bench: Bench) -> Course:
        o = self.options
        prompts = {t.task_id: {"prompt": t.prompt} for t in suite.tasks if t.task_id in o.tasks_train}
        # what a canary asks for is one of the things that a shorter text may not lose
        kept = tuple(t.task_id for t in suite.canaries) if o.engine == "minimize" else ()
        return Course(
            archive=Archive(text),
            train=(*kept, *o.tasks_train),
            select=o.tasks_select,
            rules=o.rules,
            limits=o.limits,
            world=bench,
            proposers=o.proposers,
            pool=self._pool(),
            facts=prompts,
        )


def _essence(options: Options) -> dict[str, Any]:
    """What of the options decides where a search goes; an agent's speed does not either."""
    told = options.model_dump(mode="json", exclude=_NO_COURSE)
    del told["agent"]["parallel"]
    return {k: str(v) if isinstance(v, float) else _plain(v) for k, v in told.items()}


def _plain(value: Any) -> Any:
    """JSON whose floats are text, so that any number has a digest."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _evolution(course: Course, pick: Pick, ended: str, bench: Bench, options: Options) -> Evolution:
    spending = bench.spending
    facts: dict[str, Any] = {
        "tasks_train": list(course.train),
        "tasks_select": list(course.select),
        "isolation": bench.runner.isolation,
        "band": list(pick.band),
        "proposals_asked": bench.asked,
        "max_runs": spending.max_runs,
        "max_cost": spending.max_cost,
        "study_cost": spending.purse.cap,
    }
    if options.engine == "gepa":
        from importlib.metadata import version  # noqa: PLC0415 - only where the library is used

        facts["gepa"] = version("gepa")
    return Evolution(
        subject="candidate",
        engine=options.engine,
        nodes=course.archive.nodes(),
        picked=pick.number,
        pick_rule=pick.rule,
        ended=ended,
        runs=spending.runs,
        cost=spending.mine.told if spending.mine.tellers else None,
        cost_assumed=spending.mine.assumed,
        seed=options.seed,
        facts=facts,
    )
