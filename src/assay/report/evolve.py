"""The HTML report of a study of texts: one file that stands alone, without network or scripts."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup, escape

from assay import __version__
from assay.core.history import StudyHistory
from assay.core.ports import Store
from assay.ledger.evolve_records import of_study
from assay.ledger.home import Home
from assay.report._view.evolve import build_page
from assay.report._view.text import plain
from assay.report.html import _environment
from assay.report.judged_texts import stored_texts
from assay.runtime.files import write_atomic


def render(store: Store, history: StudyHistory, project: Path | None = None) -> str:
    """The report of a study of texts in whatever state it is; the same ledger gives the same page.

    Args:
        store: evidence and verdicts; what is missing there is named in the page.
        history: the study.
        project: folder that paths are shown relative to, so that a page may be handed on.
    """
    environment = _environment(f"{project}/" if project else "")
    environment.filters["exact"] = _exact
    texts = {r.trial.id: stored_texts(r) for r in of_study(history, store)}
    page = build_page(store, history, texts)
    return environment.get_template("evolve.html.j2").render(page=page, version=__version__)


def write_report(home: Home, history: StudyHistory, out: Path | None = None) -> Path:
    """Write the report.

    Args:
        home: the `.assay` folder.
        history: the study.
        out: the file; `<home>/reports/<study>.html` if None.

    Raises:
        ComponentFailed, UsageError: see `runtime.files.write_atomic`.
    """
    path = out if out is not None else home.folder / "reports" / f"{history.study.id}.html"
    write_atomic(path, render(home.store, history, home.folder.parent).encode("utf-8"))
    return path


def _exact(text: str) -> Markup:
    """Content of a text, escaped, with every path left as it stands: it is what would be deployed."""
    return escape(plain(text))
