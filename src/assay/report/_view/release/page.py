"""What the HTML report shows, as plain typed data: a history and its documents in, frozen dataclasses out.

Nothing is computed in the template and nothing is read here but what the ledger and the store hold. Missing or
damaged documents become sentences in the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.core.history import StudyHistory
from assay.core.ports import Store
from assay.core.sizes import size
from assay.report._view.contract import Verification, verification
from assay.report._view.documents import Documents
from assay.report._view.first_screen import Headline
from assay.report._view.gates import GateView, gates
from assay.report._view.marks import Mark
from assay.report._view.release.comparison import Comparison, comparison
from assay.report._view.release.headline import headline
from assay.report._view.release.ladder import Picture, Rung, SizeBar, ladder, made_by, pictures, sizes
from assay.report._view.release.precision import Swatch, legend, styles_of
from assay.report._view.release.trial import Cast, Subject, subject_of
from assay.report._view.settled import settled
from assay.report._view.text import Digest, digest_of, moment, one_line, plural
from assay.report._view.timeline import RunView, Timeline, runs, timeline


@dataclass(frozen=True)
class CandidateView:
    """Everything about one candidate."""

    anchor: str
    name: str
    trial: str
    mark: Mark
    sentence: str
    advice: str
    made_by: str
    options: tuple[tuple[str, str], ...]
    artifact: str
    artifact_digest: Digest | None
    notes: tuple[str, ...]
    """What the toolkit told about its work."""
    changes: tuple[str, ...]
    """What its application changed."""
    comparison: Comparison | None
    no_comparison: str
    gates: tuple[GateView, ...]
    runs: tuple[RunView, ...]
    runs_text: str


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    study: str
    job: str
    question: str
    when: str
    headline: Headline
    ladder: tuple[Rung, ...]
    sizes: tuple[SizeBar, ...]
    pictures: tuple[Picture, ...]
    legend: tuple[Swatch, ...]
    candidates: tuple[CandidateView, ...]
    timeline: Timeline
    verification: Verification
    problems: tuple[tuple[Digest, str], ...]
    """Documents that cannot be shown, and why."""


def build_page(store: Store, history: StudyHistory) -> Page:
    """The page of a study, in whatever state the study is.

    Args:
        store: the documents.
        history: the study; its events decide, so that a live and a replayed history give the same page.
    """
    history = settled(history)
    documents = Documents(store)
    cast = _cast(history, documents)
    executed = runs(history)
    times = timeline(history)
    first = headline(cast, times.active_s)
    held = [c for c in (cast.source, *(s.checkpoint for s in cast.subjects)) if c is not None]
    candidates = tuple(_candidate(s, cast, documents, executed) for s in cast.subjects)
    return Page(
        title=f"{first.mark.word}: {history.study.id}",
        study=history.study.id,
        job=history.study.job,
        question=history.study.question,
        when=moment(history.opened),
        headline=first,
        ladder=ladder(cast),
        sizes=sizes(cast),
        pictures=pictures(cast),
        legend=legend([m for c in held for m in c.modules], cast.styles),
        candidates=candidates,
        timeline=times,
        verification=verification(history, documents),
        problems=tuple((digest_of(d), why) for d, why in documents.problems.items()),
    )


def _cast(history: StudyHistory, documents: Documents) -> Cast:
    subjects = tuple(subject_of(t, history, documents) for t in history.trials.values())
    source = next((s.source for s in subjects if s.source is not None), None)
    held = [c for c in (source, *(s.checkpoint for s in subjects)) if c is not None]
    return Cast(history, subjects, source, styles_of([m for c in held for m in c.modules]))


def _candidate(
    subject: Subject, cast: Cast, documents: Documents, executed: Sequence[RunView]
) -> CandidateView:
    trial, artifact = subject.trial, subject.artifact
    views = gates(trial, cast.history.study, documents)
    found = comparison(subject.compare) if subject.compare else None
    own = tuple(r for r in executed if r.trial == trial.id)
    token = cast.history.applied.get(trial.id, {})
    return CandidateView(
        anchor=subject.anchor,
        name=subject.name,
        trial=trial.id,
        mark=subject.mark,
        sentence=subject.reason,
        advice=next((g.advice for g in views if g.advice and g.open), ""),
        made_by=made_by(trial.candidate),
        options=tuple((str(k), one_line(v)) for k, v in _set(trial.candidate.build.options)),
        artifact="" if artifact is None else f"{artifact.path}, {size(artifact.size_bytes)} with all files",
        artifact_digest=digest_of(artifact.digest) if artifact else None,
        notes=tuple(one_line(n) for step in trial.steps.values() for n in _list(step.facts.get("notes"))),
        changes=tuple(one_line(c) for c in _list(token.get("changes"))),
        comparison=found,
        no_comparison="" if found else _no_comparison(subject, cast),
        gates=views,
        runs=own,
        runs_text=plural(len(own), "command was run", "commands were run"),
    )


def _no_comparison(subject: Subject, cast: Cast) -> str:
    if subject.compare is None:
        grows = cast.history.study.stopping is not None
        return (
            "How it compares with the best before it is told by gate improvement, below."
            if grows
            else "It was not compared with its source: the trial did not get that far."
        )
    return "The comparison holds no numbers that could be drawn; its gate says why."


def _set(options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted((k, v) for k, v in options.items() if v is not None)


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
