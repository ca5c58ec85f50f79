"""The HTML report of a release study, and of every study that has no page of its own."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup

from assay.core.history import StudyHistory
from assay.core.ports import Store
from assay.report._view.release.page import build_page
from assay.report.html import filled


def render(store: Store, history: StudyHistory, project: Path | None = None) -> str:
    """The report of a study in whatever state it is: finished, running, interrupted, aborted, or damaged.

    The same ledger always gives the same page: nothing is read but the history and the store.

    Args:
        store: evidence and verdicts; what is missing there is named in the page.
        history: the study.
        project: folder that paths are shown relative to, so that a page may be handed on.
    """
    script = filled("report.js", project)
    return filled(
        "report.html.j2",
        project,
        page=build_page(store, history),
        script=Markup(script),  # noqa: S704 - our own file, not a value of the study
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
