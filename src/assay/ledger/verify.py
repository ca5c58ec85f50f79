"""Verification: the chain, every stored byte, every verdict and every Decision, derived again from the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from assay.core.decision import Decision, GateLine, fold
from assay.core.errors import AssayError, LedgerBroken
from assay.core.events import GENESIS, Event, EventType, link_digest
from assay.core.evidence import Artifact
from assay.core.gate import Gate
from assay.core.history import StudyHistory
from assay.core.kinds import evidence_from_json
from assay.core.ports import Store
from assay.core.study import GateRef
from assay.core.trial import Trial
from assay.core.verdict import Verdict


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    """chain, document, artifact, verdict or decision."""
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


def verify_chain(events: Iterable[Event | Link]) -> Iterator[Check]:
    """Walk the chain; one Check, failing at the first broken link."""
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
        previous = event.digest if isinstance(event, Link) else link_digest(event)
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
    refs = {(step.name, ref.name): ref for step in history.steps for ref in step.gates}
    refs |= {("final", ref.name): ref for ref in history.study.final_gates}
    for trial in history.trials.values():
        for line in (*trial.looks, *trial.gates.values()):
            yield _verify_verdict(trial, line, refs.get((line.step, line.gate)), store, make_gate)
        for decision in trial.superseded:
            yield _verify_fold(trial, decision)
        if trial.decision is not None:
            yield _verify_decision(trial, trial.decision, history)


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


def _verify_verdict(
    trial: Trial, line: GateLine, ref: GateRef | None, store: Store, make_gate: Callable[[GateRef], Gate]
) -> Check:
    where = f"{trial.id} {line.gate}"
    try:
        stored = Verdict.from_json(store.get(line.verdict))
    except (LedgerBroken, ValueError) as error:
        return Check("verdict", where, ok=False, detail=_first_line(error))
    if (stored.status, stored.outcome, stored.failure_class) != (
        line.status,
        line.outcome,
        line.failure_class,
    ):
        return Check(
            "verdict", where, ok=False, detail="the recorded line is not what the stored verdict says"
        )
    if ref is None:
        return Check("verdict", where, ok=None, detail="witnessed by the engine: no gate derives it")
    gate = make_gate(ref)
    if not set(gate.reads) <= set(stored.reads):
        return Check(
            "verdict", where, ok=None, detail="judged without its evidence: nothing to derive it from"
        )
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
