"""Doing a step: which adapter gets what, in which folder, and the record of what it yielded."""

from __future__ import annotations

import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from assay.core.agent import AgentRuns
from assay.core.canon import digest
from assay.core.errors import ComponentFailed
from assay.core.evidence import Evidence
from assay.core.ports import Endpoint, Target
from assay.core.results import Results
from assay.core.study import AdapterRef, Step
from assay.core.trial import StepRecord, Trial
from assay.core.vocabulary import FailureClass, Verb
from assay.engine.components import Components
from assay.engine.journal import Journal
from assay.engine.kept import Kept
from assay.engine.leftovers import end_leftovers
from assay.engine.observer import Observer, Progress
from assay.engine.session import RecordedExecute, StepSession
from assay.engine.telling import Telling
from assay.runtime.files import bytes_below, explaining, remove


class Steps:
    """Does the steps of one study.

    Args:
        journal: the study's pen and memory.
        components: makes adapters.
        folder: the study's folder.
        observer: is told what happens.
        deadline: `time.monotonic()` at which the wall-time budget ends, or None.
    """

    def __init__(
        self,
        journal: Journal,
        components: Components,
        folder: Path,
        observer: Observer,
        deadline: float | None = None,
    ) -> None:
        self.journal = journal
        self.study = journal.study
        self.components = components
        self.folder = folder
        self.observer = observer
        self.deadline = deadline
        self.kept = Kept()

    def require_budget(self, step: Step) -> None:
        """Refuse to begin a step for which time or disk is used up.

        Raises:
            ComponentFailed: with BUDGET_EXHAUSTED.
        """
        budget = self.study.budget
        where = f"before step {step.name}"
        if self.deadline is not None and time.monotonic() > self.deadline:
            what = f"the wall-time budget of {budget.wall_time_s:g} s is used up"
            raise ComponentFailed(what, failure_class=FailureClass.BUDGET_EXHAUSTED, where=where)
        if budget.disk_bytes is None:
            return
        used = bytes_below(self.folder)
        if used > budget.disk_bytes:
            what = f"the disk budget of {budget.disk_bytes:,} bytes is used up: {used:,} bytes"
            raise ComponentFailed(what, failure_class=FailureClass.BUDGET_EXHAUSTED, where=where)

    def do(self, step: Step, trial: Trial, key: str, attempt: int) -> StepRecord:
        """Do a step; nothing that it started runs afterwards.

        Raises:
            ComponentError, UsageError: if it could not be done.
        """
        name = step.name if step.resumes else f"{step.name}-{attempt}"  # what was left there is gone on with
        session, execute = self._session(step, trial, name, fresh=not step.resumes)
        started = time.monotonic()
        try:
            if step.verb is Verb.BUILD:
                return self._build(step, trial, key, session, started)
            return self._evaluate(step, trial, key, session, started)
        except BaseException:
            self.kept.close()  # whatever it was, another attempt begins with all of it anew
            raise
        finally:
            execute.cancel_all()

    def _session(
        self, step: Step, trial: Trial, name: str, *, fresh: bool = True
    ) -> tuple[StepSession, RecordedExecute]:
        """A folder, empty unless the step goes on with what it left there, and a pen for what is started there."""
        workdir = self.folder / f"trial-{trial.number}" / name
        if workdir.exists():  # left by an attempt that did not finish
            end_leftovers(workdir)
            if fresh:
                remove(workdir)
        with explaining(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
        execute = RecordedExecute(
            self.components.execute(), lambda run: self.journal.record_run(trial, step.name, run)
        )
        context = Progress("note", trial=trial.id, candidate=trial.candidate.name, step=step.name)
        session = StepSession(
            workdir=workdir,
            seed=self.study.seed if step.seed is None else step.seed,
            execute=execute,
            observer=self.observer,
            context=context,
            deadline=self.deadline,
            keep=lambda key, start: self.kept.keep(key, lambda: self._session(step, trial, key), start),
        )
        return session, execute

    def _build(self, step: Step, trial: Trial, key: str, session: StepSession, started: float) -> StepRecord:
        out = session.workdir / "artifact"
        remove(out)  # half of one, where a killed attempt is gone on with
        adapter = self.components.build(trial.candidate.build)
        facts = adapter.build(trial.candidate, Path(self.study.source.path), out, session)
        wall_s = time.monotonic() - started
        return StepRecord(step.name, key, wall_s, artifact=self.components.pin(out), facts=facts)

    def _evaluate(
        self, step: Step, trial: Trial, key: str, session: StepSession, started: float
    ) -> StepRecord:
        if step.subject == "machine":
            evidence = self._machine(trial)
            wall_s = time.monotonic() - started
            return StepRecord(step.name, key, wall_s, role=step.produces, evidence=self.journal.put(evidence))
        if step.subject == "study":
            digest_ = self.journal.put(Telling(self.journal).trials(trial))
            return StepRecord(
                step.name, key, time.monotonic() - started, role=step.produces, evidence=digest_
            )
        adapter = self.components.evaluate(_adapter(step))
        target = self._target(step, trial)
        with self._served(step, trial, target, session) as endpoint:
            evidence = adapter.evaluate(target.model_copy(update={"endpoint": endpoint}), session)
        evidence = self._extended(step, trial, evidence)
        wall_s = time.monotonic() - started
        return StepRecord(step.name, key, wall_s, role=step.produces, evidence=self.journal.put(evidence))

    def _served(
        self, step: Step, trial: Trial, target: Target, session: StepSession
    ) -> AbstractContextManager[Endpoint | None]:
        """The endpoint of a step: none, a server of its own, or one that is shared by several steps."""
        serve = self._serve_ref(step, trial)
        if serve is None:
            return nullcontext(None)
        adapter = self.components.serve(serve)
        if not step.keep_serving:
            return adapter.serve(target, session)
        key = f"serve-{step.subject}-{digest(serve.to_json())[7:15]}"
        return nullcontext(session.keep(key, lambda own: adapter.serve(target, own)))

    def _extended(self, step: Step, trial: Trial, evidence: Evidence) -> Evidence:
        """The evidence of a later part of the items, with that of the earlier ones."""
        if not step.extends:
            return evidence
        before = trial.steps[step.extends].evidence
        earlier = self.journal.evidence(before) if before else None
        if isinstance(earlier, Results) and isinstance(evidence, Results):
            return earlier.extended(evidence)
        if isinstance(earlier, AgentRuns) and isinstance(evidence, AgentRuns):
            return _with_later(earlier, evidence, step.name)
        raise ComponentFailed(f"step {step.extends} left nothing to extend", where=step.name)

    def _machine(self, trial: Trial) -> Evidence:
        """What this trial needs and what is there: components, disk, an unchanged source."""
        checks = [self.components.build(trial.candidate.build).check()]
        for step in self.journal.history.steps:
            serve = self._serve_ref(step, trial)
            if serve is not None:
                checks.append(self.components.serve(serve).check())
            if step.adapter is not None and (serve is not None or step.resumes):
                checks.append(self.components.evaluate(step.adapter).check())
        found = self.components.pin(Path(self.study.source.path))
        same = found.digest == self.study.source.digest
        facts = {
            "components": list({c.content_digest: c.to_json() for c in checks}.values()),
            "disk_free_bytes": shutil.disk_usage(self.folder).free,
            "disk_needed_bytes": 2 * self.study.source.size_bytes,
            "source": {"readable": same, "detail": "" if same else "changed since the study opened"},
        }
        if self.study.exploratory:
            facts["exploratory"] = self.study.exploratory
        return Evidence(kind="machine", subject="machine", facts=facts)

    def _target(self, step: Step, trial: Trial) -> Target:
        source = self.study.source
        serves = [ref for s in self.study.steps if (ref := self._serve_ref(s, trial))]
        engine = serves[0].kind if serves else ""
        samples = {task: tuple(asked) for task, asked in step.draw.indices().items()} if step.draw else None
        if step.subject != "candidate":
            return Target(
                name=step.subject, path=source.path, digest=source.digest, engine=engine, samples=samples
            )
        artifact = trial.artifact(self.study.models)
        return Target(
            name=trial.candidate.name,
            path=artifact.path if artifact else "",
            digest=artifact.digest if artifact else "",
            engine=engine,
            source=source.path,
            samples=samples,
            intent={**self.components.build(trial.candidate.build).intent(), **trial.candidate.intent},
        )

    def _serve_ref(self, step: Step, trial: Trial) -> AdapterRef | None:
        return (trial.candidate.serve or step.serve) if step.served else None

    def key(self, step: Step, trial: Trial) -> str:
        """A shared step is known by everything that decides its result; any other by its trial."""
        if not step.shared:
            return digest([trial.id, step.name])
        adapter = _adapter(step)
        serve = self._serve_ref(step, trial)
        protocol = {
            "step": step.name,
            "source": self.study.source.digest,
            "evaluate": {"kind": adapter.kind, **self.components.evaluate(adapter).protocol()},
            "serve": {"kind": serve.kind, **self.components.serve(serve).protocol()} if serve else None,
        }
        if step.draw is not None:
            protocol["draw"] = step.draw.to_json()
        return digest(protocol)


def _adapter(step: Step) -> AdapterRef:
    if step.adapter is None:
        raise ValueError(f"step {step.name!r} has no adapter")
    return step.adapter


def _with_later(earlier: AgentRuns, later: AgentRuns, where: str) -> AgentRuns:
    """The runs of both, which must have been made in the same way."""
    try:
        return earlier.extended(later)
    except ValueError as error:  # somebody changed the agent between two looks, say
        raise ComponentFailed(
            str(error),
            failure_class=FailureClass.NOT_COMPARABLE,
            where=where,
            next="leave text, suite and agent alone while a study runs, and start a new one",
        ) from error
