"""What was fixed before the first sample, what it was measured with, and how anyone checks it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.core.checkpoint import Checkpoint
from assay.core.events import link_digest
from assay.core.evidence import Evidence
from assay.core.history import StudyHistory
from assay.core.results import Results
from assay.core.trial import Trial
from assay.core.vocabulary import Provenance
from assay.gates.compare import ComparePolicy
from assay.report._view.documents import Documents
from assay.report._view.text import Digest, digest_of, one_line, percent, plural, points


@dataclass(frozen=True)
class Term:
    """One clause of the contract."""

    name: str
    value: str
    detail: str


@dataclass(frozen=True)
class EvidenceView:
    """One stored document that verdicts rest on."""

    role: str
    candidate: str
    about: str
    provenance: str
    files: str
    digest: Digest
    problem: str


@dataclass(frozen=True)
class Verification:
    """How to check the study, and what it rests on."""

    head: Digest
    events: str
    decisions: tuple[tuple[str, str, Digest], ...]
    """Candidate, word, ledger head when it was decided."""
    source: Digest
    source_path: str
    terms: tuple[Term, ...]
    versions: tuple[tuple[str, str, str], ...]
    """What, which, where it was used."""
    evidence: tuple[EvidenceView, ...]


_GUARD = "largest tolerated drop of a single task"
_GUARDS = f"{_GUARD}: the smallest of 2, 3, 4, 5 and 8 points that its number of pairs can prove"


def verification(history: StudyHistory, documents: Documents) -> Verification:
    """Everything of the last section."""
    source = history.study.source
    decided = [t.decision for t in history.trials.values() if t.decision is not None]
    return Verification(
        head=digest_of(link_digest(history.events[-1]) if history.events else ""),
        events=plural(len(history.events), "event"),
        decisions=tuple(
            (d.candidate, "interrupted" if d.interrupted else d.outcome.value, digest_of(d.head))
            for d in decided
        ),
        source=digest_of(source.digest),
        source_path=source.path,
        terms=tuple(terms(history)),
        versions=tuple(_versions(history, documents)),
        evidence=tuple(_evidence(history, documents)),
    )


def terms(history: StudyHistory) -> list[Term]:
    """The clauses that decide, in words."""
    study = history.study
    found = []
    for ref in study.gates:
        if ref.gate == "compare":
            try:
                found += _comparison(ComparePolicy.model_validate(dict(ref.policy)))
            except ValueError as error:
                found.append(Term("comparison", "unreadable policy", one_line(error)))
    required = [r.name for r in study.gates if r.required and not r.shadow]
    found.append(Term("required gates", str(len(required)), ", ".join(required)))
    stop = "at the first that is accepted" if study.stop == "first_accept" else "when all were tried"
    found.append(Term("ladder ends", stop, ""))
    limits = {k: v for k, v in study.budget.to_json().items() if v is not None}
    found.append(Term("budget", ", ".join(f"{k} {v:g}" for k, v in limits.items()) or "no limit", ""))
    found.append(Term("seed", str(study.seed), ""))
    return found


def _comparison(policy: ComparePolicy) -> list[Term]:
    if policy.policy == "point":
        threshold = "none given" if policy.threshold is None else f"{points(policy.threshold, 1)} points"
        return [
            Term("rule", "point", "two numbers a task against a threshold"),
            Term("threshold", threshold, ""),
        ]
    margin = (
        f"{percent(policy.margin)} of the baseline"
        if policy.relative
        else f"{points(policy.margin, 1)} points"
    )
    each = policy.alpha_accept / policy.comparisons
    shared = f"shared by {plural(policy.comparisons, 'comparison')}: {percent(each, 2)} each"
    guard = (
        policy.guard
        if policy.guard == "ladder" or policy.guard is None
        else f"{points(policy.guard, 1)} points"
    )
    return [
        Term("rule", "paired", "non-inferiority over the same samples on both sides"),
        Term("margin", margin, "largest tolerated drop of the mean over tasks"),
        Term(
            "chance of a wrong ACCEPT", percent(policy.alpha_accept), shared if policy.comparisons > 1 else ""
        ),
        Term("chance of a wrong REGRESSION", percent(policy.alpha_regress), ""),
        Term("guard of a task", guard or "none", _GUARDS if guard == "ladder" else _GUARD),
        Term(
            "flips planned for",
            percent(policy.planning_flip_rate),
            "answers expected to change right or wrong",
        ),
        Term("power planned for", percent(policy.min_power, 0), "chance that the stated samples settle it"),
    ]


def _versions(history: StudyHistory, documents: Documents) -> list[tuple[str, str, str]]:
    found: dict[tuple[str, str, str], None] = {}
    for trial in history.trials.values():
        name = trial.candidate.name
        for step in trial.steps.values():
            vendor = step.facts.get("vendor")
            if isinstance(vendor, Mapping):
                kind = trial.candidate.build.kind
                found["toolkit " + kind, _listed(vendor), name] = None
            evidence = documents.evidence(step.evidence)
            if isinstance(evidence, Results):
                found[
                    "harness", f"{evidence.harness} {evidence.harness_version}".strip(), "all evaluations"
                ] = None
                engine = evidence.protocol.get("serve.engine") or evidence.protocol.get("engine")
                version = evidence.protocol.get("serve.engine_version") or evidence.protocol.get(
                    "engine_version"
                )
                if engine:
                    found["engine", f"{one_line(engine, 60)} {one_line(version or '', 60)}".strip(), name] = (
                        None
                    )
    merged: dict[tuple[str, str], list[str]] = {}
    for what, which, where in found:
        places = merged.setdefault((what, which), [])
        if where not in places:
            places.append(where)
    return [(what, which, ", ".join(places)) for (what, which), places in sorted(merged.items())]


def _listed(vendor: Mapping[str, Any]) -> str:
    return ", ".join(f"{one_line(k, 60)} {one_line(v, 60)}" for k, v in vendor.items())


def _evidence(history: StudyHistory, documents: Documents) -> list[EvidenceView]:
    found: dict[str, EvidenceView] = {}
    for trial in history.trials.values():
        for step in trial.steps.values():
            if step.evidence and step.evidence not in found:
                found[step.evidence] = _document(step.evidence, step.role or step.step, trial, documents)
    return list(found.values())


def _document(digest: str, role: str, trial: Trial, documents: Documents) -> EvidenceView:
    evidence = documents.evidence(digest)
    provenance = ""
    if evidence is not None:
        told = evidence.provenance is Provenance.SELF_REPORTED
        provenance = "self-reported" if told else "measured"
    return EvidenceView(
        role=role,
        candidate=trial.candidate.name,
        about=_about(evidence),
        provenance=provenance,
        files=plural(len(evidence.artifacts), "file") if evidence and evidence.artifacts else "",
        digest=digest_of(digest),
        problem=documents.problems.get(digest, ""),
    )


def _about(evidence: Evidence | None) -> str:
    if isinstance(evidence, Results):
        scored = sum(t.scored or len(t.samples) for t in evidence.tasks)
        return f"{plural(len(evidence.tasks), 'task')}, {scored:,} samples scored"
    if isinstance(evidence, Checkpoint):
        return f"{evidence.format}, {plural(len(evidence.modules), 'module')}"
    if evidence is None:
        return ""
    count = len(evidence.measurements)
    return f"{evidence.kind}, {plural(count, 'measurement')}" if count else evidence.kind
