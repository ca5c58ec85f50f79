"""The HTML report of a study of texts."""

from __future__ import annotations

from pathlib import Path

from assay.core.history import StudyHistory
from assay.core.ports import Store
from assay.ledger.evolve_records import of_study
from assay.report._view.evolve.page import build_page
from assay.report.html import filled
from assay.report.judged_texts import stored_texts


def render(store: Store, history: StudyHistory, project: Path | None = None) -> str:
    """The report of a study of texts in whatever state it is; the same ledger gives the same page.

    Args:
        store: evidence and verdicts; what is missing there is named in the page.
        history: the study.
        project: folder that paths are shown relative to, so that a page may be handed on.
    """
    texts = {r.trial.id: stored_texts(r) for r in of_study(history, store)}
    return filled("evolve.html.j2", project, page=build_page(store, history, texts))
