"""THE loop: one candidate through the plan, gated as it goes. All endings leave a complete record."""

from __future__ import annotations

import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from assay.core.canon import digest
from assay.core.decision import Decision, GateLine, fold
from assay.core.errors import ComponentError, ComponentFailed, Interrupted, UnreadableInput, UsageError
from assay.core.events import EventType
from assay.core.evidence import Artifact, Evidence
from assay.core.history import INTEGRITY as INTEGRITY_GATE
from assay.core.ports import Endpoint, Target
from assay.core.results import Results
from assay.core.study import AdapterRef, GateRef, Step
from assay.core.triage import TRIAGE
from assay.core.trial import StepRecord, Trial
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status, Verb
from assay.engine.components import Components
from assay.engine.journal import Journal
from assay.engine.kept import Kept
from assay.engine.leftovers import end_leftovers
from assay.engine.observer import Observer, Progress
from assay.engine.session import RecordedExecute, StepSession
from assay.engine.telling import Telling
from assay.runtime.files import bytes_below, explaining, remove

FINAL = "final"
"""Where the gates over the whole trial stand."""
TELLING = frozenset({"compare", "improvement", "noise", "tuning"})
"""Gates whose sentence is that of the Decision when all passed."""
INTEGRITY = GateRef(gate=INTEGRITY_GATE)
"""Asked of every trial at its end: the bytes that were judged are the bytes that are there."""


class TrialLoop:
    """Puts candidates of one study through its plan.

    Args:
        journal: the study's pen and memory.
        components: makes adapters and gates.
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

    def run(self, trial: Trial) -> Decision:
        """One trial from where the ledger says it stands to its Decision.

        Raises:
            Interrupted: after an interrupted Decision was recorded.
        """
        self._tell("trial", trial)
        try:
            with self.kept.of_a_trial():
                blocked = any(self._blocked(step, trial) for step in self._plan(trial))
            if not blocked and self._judge(self.study.final_gates, trial, FINAL) is None:
                self._integrity(trial)
        except Interrupted:
            self._decide(trial, interrupted=True)
            raise
        return self._decide(trial)

    def _plan(self, trial: Trial) -> list[Step]:
        """The steps that are for this candidate."""
        phase = trial.candidate.intent.get("phase")
        return [s for s in self.journal.history.steps if not s.phase or s.phase == phase]

    def _blocked(self, step: Step, trial: Trial) -> bool:
        """Do a step, judge it, try again as triage says; True if the trial ends here."""
        if step.name not in trial.steps and self._settled(step, trial):
            return False
        while True:
            failure = self._attempt(step, trial) or self._judge(step.gates, trial, step.name)
            if failure is None:
                return False
            if not self._retry(step, trial, failure):
                return True

    def _attempt(self, step: Step, trial: Trial) -> GateLine | None:
        """Have the step done; its failure as a verdict, or None."""
        try:
            if self._reused(step, trial):
                return None
            if (failed := trial.gates.get(step.name)) is not None:
                self._tell("gate", trial, line=failed)
                return failed  # recorded before a crash: it is dealt with now, not repeated
            self._perform(step, trial)
        except (ComponentError, UsageError) as error:
            return self._step_failed(step, trial, error)
        return None

    def _settled(self, step: Step, trial: Trial) -> bool:
        """Whether the gate that the step was to give more to has said its last word."""
        line = trial.gates.get(step.until)
        return line is not None and not self._open(line)

    def _open(self, line: GateLine) -> bool:
        """Whether another look may decide what this one did not."""
        return line.open or (line.status is Status.INCONCLUSIVE and self.journal.history.insists)

    # -- doing a step ---------------------------------------------------------------------------------

    def _reused(self, step: Step, trial: Trial) -> bool:
        """Whether the step is finished: in this trial, or in another for all."""
        if step.name in trial.steps:
            self._tell("reused", trial, step, message="done before")
            return True
        earlier = self.journal.history.shared.get(self._key(step, trial)) if step.shared else None
        if earlier is None:
            return False
        self.journal.write(EventType.STEP_REUSED, {"trial": trial.id, "step": step.name, "key": earlier.key})
        self._tell("reused", trial, step, message="shared: the same protocol was measured in this study")
        return True

    def _perform(self, step: Step, trial: Trial) -> None:
        self._require_budget(step)
        key = self._key(step, trial)
        attempt = trial.retries.get(step.name, 0) + 1
        self.journal.write(
            EventType.STEP_STARTED, {"trial": trial.id, "step": step.name, "attempt": attempt, "key": key}
        )
        self._tell("step", trial, step)
        record = self._do(step, trial, key, attempt)
        self.journal.finish_step(trial, record, shared=step.shared)
        self._tell("step_done", trial, step, wall_s=record.wall_s)

    def _require_budget(self, step: Step) -> None:
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

    def _do(self, step: Step, trial: Trial, key: str, attempt: int) -> StepRecord:
        session, execute = self._session(step, trial, f"{step.name}-{attempt}")
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

    def _session(self, step: Step, trial: Trial, name: str) -> tuple[StepSession, RecordedExecute]:
        """An empty folder and a pen for what is started there."""
        workdir = self.folder / f"trial-{trial.number}" / name
        if workdir.exists():  # left by an attempt that did not finish
            end_leftovers(workdir)
            remove(workdir)
        with explaining(workdir):
            workdir.mkdir(parents=True)
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
        if not isinstance(earlier, Results) or not isinstance(evidence, Results):
            raise ComponentFailed(f"step {step.extends} left no results to extend", where=step.name)
        return earlier.extended(evidence)

    def _machine(self, trial: Trial) -> Evidence:
        """What this trial needs and what is there: components, disk, an unchanged source."""
        checks = [self.components.build(trial.candidate.build).check()]
        for step in self.journal.history.steps:
            serve = self._serve_ref(step, trial)
            if serve is not None:
                checks += [
                    self.components.serve(serve).check(),
                    self.components.evaluate(_adapter(step)).check(),
                ]
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
        artifact = self._artifact(trial)
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

    def _key(self, step: Step, trial: Trial) -> str:
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

    # -- judging --------------------------------------------------------------------------------------

    def _judge(self, refs: tuple[GateRef, ...], trial: Trial, step: str) -> GateLine | None:
        """Ask the gates in order; the first that does not pass, if any."""
        for ref in refs:
            if ref.name in self.journal.history.settled:
                continue
            line = trial.gates.get(ref.name)
            if line is not None and self._place(line.step) > self._place(step):
                continue  # a later look has been taken: that one counts
            if line is None or line.step != step:
                line = self._ask(ref, trial, step)
            self._tell("gate", trial, line=line)
            if line.status is not Status.PASS and not ref.shadow and not self._open(line):
                return line
        return None

    def _place(self, step: str) -> int:
        """Where a step stands in the plan; the final gates stand last."""
        names = [s.name for s in self.journal.history.steps]
        return names.index(step) if step in names else len(names)

    def _ask(self, ref: GateRef, trial: Trial, step: str) -> GateLine:
        gate = self.components.gate(ref)
        evidence: dict[str, Evidence] = {}
        held = {r.role: r.evidence for r in trial.steps.values() if r.role and r.evidence}
        for role in gate.reads:
            found = held.get(ref.reads.get(role, role))
            if found is None:
                missing = _cannot_judge(
                    ref.name, f"required evidence is missing: {ref.reads.get(role, role)}"
                )
                return self.journal.record_verdict(trial, step, ref, missing)
            evidence[role] = self.journal.evidence(found)
        return self.journal.record_verdict(trial, step, ref, gate.judge(evidence))

    def _step_failed(self, step: Step, trial: Trial, error: ComponentError | UsageError) -> GateLine:
        """A step that could not be done, as a verdict of its own."""
        failure_class = FailureClass.USER_CONFIG_ERROR
        tail = cause = ""
        if isinstance(error, ComponentFailed):
            failure_class, tail, cause = error.failure_class, error.log_tail, error.cause
            if self.study.models and failure_class is FailureClass.USER_CONFIG_ERROR:
                failure_class = FailureClass.POINT_INFEASIBLE  # settings are what the candidates are made of
        outcome = TRIAGE[failure_class].outcome
        if outcome is Outcome.INFEASIBLE and step.subject != "candidate":
            outcome = Outcome.ANOMALOUS  # nothing was said about the candidate
        status = {Outcome.INFEASIBLE: Status.FAIL, Outcome.INCONCLUSIVE: Status.INCONCLUSIVE}.get(
            outcome, Status.ERROR
        )
        verdict = Verdict(
            gate=step.name,
            status=status,
            failure_class=failure_class,
            outcome=outcome,
            detail=str(error),
            reasons=(Reason(text=str(error), ok=False, where=error.where),),
            extra={k: v for k, v in (("log_tail", tail), ("cause", cause)) if v},
        )
        line = self.journal.record_verdict(trial, step.name, GateRef(gate=step.name), verdict)
        self._tell("gate", trial, line=line)
        return line

    def _retry(self, step: Step, trial: Trial, failure: GateLine) -> bool:
        """Whether triage grants another attempt; waits the backoff if so."""
        rule = TRIAGE[failure.failure_class or FailureClass.UNKNOWN]
        used = trial.retries.get(step.name, 0)
        if failure.failure_class is None or used >= rule.retries or failure.outcome is Outcome.REGRESSION:
            return False
        delay = rule.backoff_s * 2**used
        self._tell("retry", trial, step, message=f"{failure.failure_class}: trying again in {delay:g} s")
        time.sleep(delay)
        data = {"trial": trial.id, "step": step.name, "after": failure.to_json()}
        self.journal.write(EventType.STEP_RETRIED, data)
        return True

    def _integrity(self, trial: Trial) -> None:
        """A candidate that changed after it was judged must not be kept."""
        artifact = self._artifact(trial)
        if artifact is None or INTEGRITY.name in trial.gates:
            return
        try:
            found = self.components.pin(Path(artifact.path)).digest
        except UnreadableInput as error:
            found = error.what
        ok = found == artifact.digest
        reason = Reason(
            text="the artifact is the one that was built and judged"
            if ok
            else "the artifact changed on disk",
            ok=ok,
            where=artifact.path,
            measured=found,
            limit=artifact.digest,
        )
        verdict = Verdict(
            gate=INTEGRITY.name,
            status=Status.PASS if ok else Status.ERROR,
            failure_class=None if ok else FailureClass.NOT_COMPARABLE,
            outcome=None if ok else Outcome.ANOMALOUS,
            detail=reason.text,
            reasons=(reason,),
        )
        line = self.journal.record_verdict(trial, FINAL, INTEGRITY, verdict)
        self._tell("gate", trial, line=line)

    # -- deciding -------------------------------------------------------------------------------------

    def _decide(self, trial: Trial, *, interrupted: bool = False) -> Decision:
        lines = self._lines(trial)
        blocking = next((g for g in lines if g.status not in (None, Status.PASS) and not g.shadow), None)
        outcome = Outcome.ANOMALOUS if interrupted else fold(lines)
        artifact = self._artifact(trial)
        cause = self._cause(blocking)
        decision = Decision(
            study=self.study.id,
            trial=trial.id,
            candidate=trial.candidate.name,
            candidate_key=trial.candidate.key,
            outcome=outcome,
            gates=lines,
            sentence=_sentence(lines, blocking, interrupted=interrupted),
            failure_class=blocking.failure_class if blocking else None,
            interrupted=interrupted,
            head=self.journal.head,
            facts={
                "artifact": artifact.to_json() if artifact else None,
                "systemic": self._systemic(blocking),
                **({"cause": cause} if cause else {}),
            },
        )
        self.journal.record_decision(decision)
        self._tell("decision", trial, decision=decision)
        return decision

    def _lines(self, trial: Trial) -> tuple[GateLine, ...]:
        """Every gate of the plan, reached or not, and the steps that failed by themselves."""
        plan = self._plan(trial)
        builds = any(step.verb is Verb.BUILD for step in plan)
        gates = self.study.gates_for(trial.candidate.intent.get("phase"))
        planned = [*gates, *([INTEGRITY] if builds else [])]
        lines = [
            trial.gates.get(ref.name) or GateLine(gate=ref.name, required=ref.required, shadow=ref.shadow)
            for ref in planned
        ]
        names = {ref.name for ref in planned}
        return tuple([line for name, line in trial.gates.items() if name not in names] + lines)

    def _systemic(self, blocking: GateLine | None) -> bool:
        """A failure of what all candidates share meets every one of them."""
        if blocking is None:
            return False
        steps = self.journal.history.steps
        return any(s.name == blocking.step and s.subject not in ("candidate", "study") for s in steps)

    def _cause(self, blocking: GateLine | None) -> str:
        """What a failed step died of, where it told."""
        if blocking is None or blocking.gate != blocking.step or not blocking.verdict:
            return ""
        return str(self.journal.store.get(blocking.verdict).get("extra", {}).get("cause", ""))

    def _artifact(self, trial: Trial) -> Artifact | None:
        built = next((r.artifact for r in trial.steps.values() if r.artifact), None)
        taken = (m for m in self.study.models if m.digest == trial.candidate.parent)
        return built or next(taken, None)

    def _tell(self, kind: str, trial: Trial, step: Step | None = None, **more: object) -> None:
        values = {"trial": trial.id, "candidate": trial.candidate.name, "step": step.name if step else ""}
        self.observer.tell(Progress(kind, **values, **more))  # type: ignore[arg-type]


def _adapter(step: Step) -> AdapterRef:
    if step.adapter is None:
        raise ValueError(f"step {step.name!r} has no adapter")
    return step.adapter


def _cannot_judge(gate: str, why: str) -> Verdict:
    return Verdict(
        gate=gate,
        status=Status.ERROR,
        failure_class=FailureClass.UNKNOWN,
        outcome=Outcome.ANOMALOUS,
        detail=why,
        reasons=(Reason(text=why, ok=False),),
    )


def _sentence(lines: tuple[GateLine, ...], blocking: GateLine | None, *, interrupted: bool) -> str:
    if interrupted:
        return "interrupted before all gates were asked; `assay resume` goes on where it stopped"
    if blocking is not None:
        return f"{blocking.gate}: {blocking.detail}"
    telling = next((line for line in lines if line.gate in TELLING and line.detail), None)
    return telling.detail if telling else "every gate passed"
