"""Every gate of a trial: its word, its reasons with the numbers they rest on, and what it read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.core.decision import GateLine
from assay.core.study import GateRef, Study
from assay.core.triage import TRIAGE
from assay.core.trial import Trial
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import Provenance, Status
from assay.report._view.documents import Documents
from assay.report._view.marks import Mark, status_mark
from assay.report._view.text import Digest, digest_of, measured, plain

MACRO = "macro"
"""Task name of the mean over tasks."""
MEAN = "mean over tasks"
"""What people call it."""


@dataclass(frozen=True)
class ReasonView:
    """One finding."""

    mark: Mark
    where: str
    text: str
    numbers: str
    """What was measured and what the limit was, where both say more than the sentence."""
    evidence: Digest | None


@dataclass(frozen=True)
class GateView:
    """One gate."""

    name: str
    kind: str
    """The gate's own name, where it is labelled otherwise."""
    step: str
    mark: Mark
    weight: str
    """Why it does not count, if it does not."""
    detail: str
    failure: str
    advice: str
    reasons: tuple[ReasonView, ...]
    reads: tuple[tuple[str, Digest], ...]
    provenance: str
    verdict: Digest | None
    log_tail: str
    policy: str
    problem: str
    """Why the stored verdict cannot be shown."""
    open: bool
    """Shown unfolded."""


def gates(trial: Trial, study: Study, documents: Documents) -> tuple[GateView, ...]:
    """The gates of a trial in the order of its Decision; those that were not reached are listed too."""
    refs = {ref.name: ref for ref in study.gates}
    return tuple(_gate(line, refs.get(line.gate), documents) for line in lines(trial, study))


def lines(trial: Trial, study: Study) -> Sequence[GateLine]:
    """The Decision's lines, or what is known of a trial without one."""
    if trial.decision is not None and not trial.decision.interrupted:
        return trial.decision.gates
    planned = {ref.name: ref for ref in study.gates}
    extra = [line for name, line in trial.gates.items() if name not in planned]
    return [
        *extra,
        *(
            trial.gates.get(ref.name) or GateLine(gate=ref.name, required=ref.required, shadow=ref.shadow)
            for ref in planned.values()
        ),
    ]


def _gate(line: GateLine, ref: GateRef | None, documents: Documents) -> GateView:
    verdict = documents.verdict(line.verdict)
    rule = TRIAGE.get(line.failure_class) if line.failure_class else None
    return GateView(
        name=line.gate,
        kind="" if verdict is None or verdict.gate == line.gate else verdict.gate,
        step=line.step,
        mark=status_mark(line.status),
        weight="shadow: measured, not counted" if line.shadow else "" if line.required else "not required",
        detail=line.detail,
        failure=line.failure_class.value if line.failure_class else "",
        advice=rule.advice if rule else "",
        reasons=tuple(_reason(r) for r in verdict.reasons) if verdict else (),
        reads=tuple((role, digest_of(d)) for role, d in sorted(verdict.reads.items())) if verdict else (),
        provenance=_provenance(verdict),
        verdict=digest_of(line.verdict) if line.verdict else None,
        log_tail=_log_tail(verdict),
        policy=_policy(ref.policy) if ref else "",
        problem=documents.problems.get(line.verdict, ""),
        open=line.status not in (Status.PASS, None),
    )


def _reason(reason: Reason) -> ReasonView:
    found = measured(reason.measured, reason.unit)
    limit = measured(reason.limit, reason.unit)
    numbers = " · ".join(
        text for text in (f"measured {found}" if found else "", f"limit {limit}" if limit else "") if text
    )
    return ReasonView(
        mark=Mark("ok", "good", "check") if reason.ok else Mark("not ok", "bad", "cross"),
        where=MEAN if reason.where == MACRO else reason.where,
        text=reason.text,
        numbers=numbers,
        evidence=digest_of(reason.evidence) if reason.evidence else None,
    )


def _provenance(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    return "self-reported" if verdict.provenance is Provenance.SELF_REPORTED else "measured"


def _log_tail(verdict: Verdict | None) -> str:
    tail = verdict.extra.get("log_tail") if verdict else None
    return plain(tail) if isinstance(tail, str) else ""


def _policy(policy: Mapping[str, Any]) -> str:
    return json.dumps(policy, indent=2, sort_keys=True, ensure_ascii=False, default=str) if policy else ""
