"""Verification: the chain, every stored byte, every verdict and every Decision, derived again from the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from assay.core.decision import Decision, GateLine, fold, fold_study
from assay.core.errors import AssayError, LedgerBroken
from assay.core.events import GENESIS, Event, EventType, link_digest
from assay.core.evidence import Artifact
from assay.core.gate import Gate
from assay.core.history import INTEGRITY, StudyHistory
from assay.core.kinds import evidence_from_json
from assay.core.ports import Store
from assay.core.study import GateRef
from assay.core.trial import Trial
from assay.core.verdict import Verdict
from assay.core.vocabulary import Status

FINAL = "final"
"""Where the gates over a whole trial stand."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    """chain, document, artifact, verdict, decision, report or published."""
    where: str
    ok: bool | None
    """None = could not be looked at, for the reason in `detail`."""
    detail: str = ""


@dataclass(frozen=True)
class Link:
    """An event of another study, of which a bundle carries the digests alone."""

    seq: int
    previous: str
    digest: str


def verify_chain(events: Iterable[Event | Link], appended: int | None = None) -> Iterator[Check]:
    """Walk the chain; one Check, failing at the first broken link.

    Args:
        events: in order.
        appended: how many there must be; None where nobody counted.
    """
    previous, count = GENESIS, 0
    for event in events:
        count += 1
        if event.seq != count:
            yield Check(
                "chain", f"event {count}", ok=False, detail=f"missing: the next stored event is {event.seq}"
            )
            return
        if event.previous != previous:
            detail = f"does not follow event {count - 1}: that one or this one was changed"
            yield Check("chain", f"event {count}", ok=False, detail=detail)
            return
        try:
            previous = event.digest if isinstance(event, Link) else link_digest(event)
        except ValueError as error:
            yield Check("chain", f"event {count}", ok=False, detail=f"cannot be hashed: {_first_line(error)}")
            return
    if appended is not None and appended != count:
        detail = f"the last {appended - count} of {appended} events are gone"
        yield Check("chain", f"event {count + 1}", ok=False, detail=detail)
        return
    yield Check("chain", f"events 1 to {count}", ok=True)


def verify_study(
    history: StudyHistory,
    store: Store,
    make_gate: Callable[[GateRef], Gate],
    pin: Callable[[Path], Artifact] | None,
) -> Iterator[Check]:
    """Derive everything again that a study's Decisions rest on.

    Args:
        history: the study.
        store: its evidence and verdicts.
        make_gate: gates from their references.
        pin: digests a file or folder; None where the files are not at hand, as in a bundle.
    """
    yield from _verify_artifacts(history, store, pin)
    yield from _verify_heads(history)
    refs = {(step.name, ref.name): ref for step in history.steps for ref in step.gates}
    refs |= {(FINAL, ref.name): ref for ref in history.study.final_gates}
    for trial in history.trials.values():
        for line in (*trial.looks, *trial.gates.values()):
            ref = refs.get((line.step, line.gate))
            misplaced = _verify_place(trial, line, ref, history)
            yield misplaced or _verify_verdict(trial, line, ref, store, make_gate)
        for decision in trial.superseded:
            yield _verify_fold(trial, decision)
        if trial.decision is not None:
            yield _verify_decision(trial, trial.decision, history)
    yield from _verify_closing(history)


def _verify_heads(history: StudyHistory) -> Iterator[Check]:
    """A Decision names the head of the chain when it was taken; a chain that was linked anew has another one."""
    for event in history.events:
        if event.type is not EventType.DECISION_RECORDED:
            continue
        decision = Decision.from_json(event.data["decision"])
        if decision.head != event.previous and not decision.interrupted:
            detail = f"names the head {decision.head}, and stands after {event.previous}: the chain was linked anew"
            yield Check("decision", f"{decision.trial} head", ok=False, detail=detail)


def _verify_artifacts(
    history: StudyHistory, store: Store, pin: Callable[[Path], Artifact] | None
) -> Iterator[Check]:
    wanted = {(history.study.source.path, history.study.source.digest): "source"}
    for event in history.events:
        if event.type is not EventType.STEP_FINISHED:
            continue
        data = event.data
        where = f"{data['trial']} {data['step']}"
        if data.get("artifact"):
            wanted[data["artifact"]["path"], data["artifact"]["digest"]] = where
        if data.get("evidence"):
            try:
                evidence = evidence_from_json(store.get(data["evidence"]))
            except (LedgerBroken, ValueError) as error:
                yield Check("document", where, ok=False, detail=_first_line(error))
                continue
            yield Check("document", where, ok=True)
            wanted.update({(a.path, a.digest): where for a in evidence.artifacts})
    for (path, digest), where in wanted.items():
        yield _verify_artifact(Path(path), digest, where, pin)


def _verify_artifact(path: Path, digest: str, where: str, pin: Callable[[Path], Artifact] | None) -> Check:
    if pin is None:
        return Check("artifact", f"{where}: {path.name}", ok=None, detail="not carried by the bundle")
    if not path.exists():
        return Check("artifact", f"{where}: {path}", ok=False, detail="is gone")
    try:
        found = pin(path).digest
    except AssayError as error:
        return Check("artifact", f"{where}: {path}", ok=False, detail=_first_line(error))
    if found != digest:
        return Check("artifact", f"{where}: {path}", ok=False, detail=f"was changed: {digest} → {found}")
    return Check("artifact", f"{where}: {path}", ok=True)


def _verify_place(trial: Trial, line: GateLine, ref: GateRef | None, history: StudyHistory) -> Check | None:
    """A line stands where the plan asks its gate, and counts as the plan says; None where it does."""
    where = f"{trial.id} {line.gate}"
    if ref is None:
        failed = line.gate == line.step and line.gate in {s.name for s in history.steps}
        if not failed and (line.gate, line.step) != (INTEGRITY, FINAL):
            return Check("verdict", where, ok=False, detail=f"the plan asks no such gate at {line.step!r}")
    required, shadow = (True, False) if ref is None else (ref.required, ref.shadow)
    if (line.required, line.shadow) != (required, shadow):
        return Check("verdict", where, ok=False, detail="it does not count as the plan says")
    return None


def _verify_verdict(
    trial: Trial, line: GateLine, ref: GateRef | None, store: Store, make_gate: Callable[[GateRef], Gate]
) -> Check:
    where = f"{trial.id} {line.gate}"
    try:
        stored = Verdict.from_json(store.get(line.verdict))
    except (LedgerBroken, ValueError) as error:
        return Check("verdict", where, ok=False, detail=_first_line(error))
    told = (line.status, line.outcome, line.failure_class, line.detail, line.open)
    if (stored.status, stored.outcome, stored.failure_class, stored.detail, stored.open) != told:
        return Check(
            "verdict", where, ok=False, detail="the recorded line is not what the stored verdict says"
        )
    if ref is None:
        return Check("verdict", where, ok=None, detail="witnessed by the engine: no gate derives it")
    gate = make_gate(ref)
    if not set(gate.reads) <= set(stored.reads):
        detail = "judged without its evidence: nothing to derive it from"
        return Check("verdict", where, ok=False if stored.status is Status.PASS else None, detail=detail)
    for role in gate.reads:
        held = {r.evidence for r in trial.steps.values() if r.role == ref.reads.get(role, role)}
        if stored.reads[role] not in held:
            return Check("verdict", where, ok=False, detail=f"its evidence {role} is none of this trial")
    try:
        evidence = {role: evidence_from_json(store.get(stored.reads[role])) for role in gate.reads}
    except (LedgerBroken, ValueError) as error:
        return Check("verdict", where, ok=False, detail=_first_line(error))
    again = gate.judge(evidence)
    if again.content_digest != stored.content_digest:
        detail = f"derived again it is {again.status} ({again.detail}), recorded was {stored.status}"
        return Check("verdict", where, ok=False, detail=detail)
    return Check("verdict", where, ok=True, detail=stored.status.value)


def _verify_decision(trial: Trial, decision: Decision, history: StudyHistory) -> Check:
    where = f"{trial.id} decision"
    if decision.interrupted:
        return Check("decision", where, ok=None, detail="interrupted: no Decision stands yet")
    recorded = {line.gate: line for line in decision.gates if line.status is not None}
    if recorded != trial.gates:
        return Check("decision", where, ok=False, detail="its gates are not the recorded verdicts")
    artifact = trial.artifact(history.study.models)
    if decision.facts.get("artifact") != (artifact.to_json() if artifact else None):
        return Check("decision", where, ok=False, detail="its artifact is not the one that the trial built")
    named = (decision.study, decision.candidate, decision.candidate_key)
    if named != (history.study.id, trial.candidate.name, trial.candidate.key):
        return Check("decision", where, ok=False, detail="it names another candidate than its trial")
    planned = history.study.gates_for(trial.candidate.intent.get("phase"))
    missing = {ref.name for ref in planned} - {line.gate for line in decision.gates}
    if missing:
        return Check(
            "decision",
            where,
            ok=False,
            detail=f"gates of the plan are left out: {', '.join(sorted(missing))}",
        )
    return _verify_fold(trial, decision)


def _verify_closing(history: StudyHistory) -> Iterator[Check]:
    """The word of a study is the fold of its Decisions; where only some of them answer, it is that of one of them."""
    if history.closed is None:
        return
    words = [d.outcome for d in history.decisions]
    some = history.study.answers or history.study.stopping is not None
    ok = history.closed["outcome"] in (words if some and words else [fold_study(words)])
    detail = "" if ok else f"the Decisions do not fold to {history.closed['outcome']}"
    yield Check("decision", f"{history.study.id} closed", ok=ok, detail=detail)


def _verify_fold(trial: Trial, decision: Decision) -> Check:
    where = f"{trial.id} decision"
    again = fold(decision.gates)
    if again is not decision.outcome:
        return Check(
            "decision",
            where,
            ok=False,
            detail=f"the verdicts fold to {again}, recorded was {decision.outcome}",
        )
    return Check("decision", where, ok=True, detail=decision.outcome.value)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
