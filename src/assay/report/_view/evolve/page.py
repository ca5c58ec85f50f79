"""What the report of a study of texts shows, as plain typed data: records and texts in, frozen dataclasses out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay.core.history import StudyHistory
from assay.core.ports import Store
from assay.ledger.evolve_records import of_trial
from assay.report._view.contract import Verification, verification
from assay.report._view.documents import Documents
from assay.report._view.evolve.candidate import CandidateView, candidate
from assay.report._view.evolve.costs import Cost, costs
from assay.report._view.evolve.headline import headline
from assay.report._view.evolve.preflight import Preflight, preflight
from assay.report._view.evolve.setting import digests, plan, setting
from assay.report._view.first_screen import Headline
from assay.report._view.settled import settled
from assay.report._view.text import Digest, digest_of, moment
from assay.report._view.timeline import Timeline, timeline
from assay.report.judged_texts import TrialTexts


@dataclass(frozen=True)
class EvolvePage:
    """The whole report."""

    title: str
    study: str
    question: str
    when: str
    headline: Headline
    preflight: Preflight | None
    candidates: tuple[CandidateView, ...]
    costs: tuple[Cost, ...]
    costs_text: str
    setting: tuple[tuple[str, str], ...]
    plan: tuple[tuple[str, str], ...]
    digests: tuple[tuple[str, Digest], ...]
    timeline: Timeline
    verification: Verification
    problems: tuple[tuple[Digest, str], ...]
    """Documents that cannot be shown, and why."""


def build_page(store: Store, history: StudyHistory, texts: Mapping[str, TrialTexts]) -> EvolvePage:
    """The page of a study of texts, in whatever state it is.

    Args:
        store: the documents.
        history: the study.
        texts: trial → its two texts; what is not there is told as missing.
    """
    history = settled(history)
    documents = Documents(store)
    records = tuple(of_trial(trial, store) for trial in history.trials.values())
    times = timeline(history)
    problems = {d: w for r in records for d, w in r.problems.items()}
    candidates = tuple(candidate(r, history, documents, texts.get(r.trial.id)) for r in records)
    checked = verification(history, documents)
    spent, spent_text = costs(history, records)
    first = headline(history, records, times.active_s, spent_text)
    return EvolvePage(
        title=f"{first.mark.word}: {history.study.id}",
        study=history.study.id,
        question=history.study.question,
        when=moment(history.opened),
        headline=first,
        preflight=preflight(records),
        candidates=candidates,
        costs=spent,
        costs_text=spent_text,
        setting=setting(history, records),
        plan=plan(history),
        digests=digests(history, records),
        timeline=times,
        verification=checked,
        problems=tuple((digest_of(d), w) for d, w in {**problems, **documents.problems}.items()),
    )
