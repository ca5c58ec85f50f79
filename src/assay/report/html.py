"""The HTML report: one file that stands alone, without network, frameworks or a need for scripts."""

from __future__ import annotations

import base64
import hashlib
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from assay import __version__
from assay.core.history import StudyHistory
from assay.core.ports import Store
from assay.ledger.home import Home
from assay.report._view.text import plain
from assay.report.view import build_page
from assay.runtime.files import write_atomic


def render(store: Store, history: StudyHistory, project: Path | None = None) -> str:
    """The report of a study in whatever state it is: finished, running, interrupted, aborted, or damaged.

    The same ledger always gives the same page: nothing is read but the history and the store.

    Args:
        store: evidence and verdicts; what is missing there is named in the page.
        history: the study.
        project: folder that paths are shown relative to, so that a page may be handed on.
    """
    environment = _environment(f"{project}/" if project else "")
    script = environment.get_template("report.js").render()
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = build_page(store, history)
    # Trusted: our own file, not a value of the study.
    return environment.get_template("report.html.j2").render(
        page=page,
        script=Markup(script),  # noqa: S704
        script_hash=hashed,
        version=__version__,
    )


def write_report(home: Home, history: StudyHistory, out: Path | None = None) -> Path:
    """Write the report of a study.

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


@cache
def _environment(prefix: str) -> Environment:
    """Templates that escape everything, stop at an unknown name, and leave a prefix out of paths."""
    environment = Environment(
        loader=PackageLoader("assay.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=partial(_finalize, prefix=prefix),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = partial(_prose, prefix=prefix)
    return environment


def _prose(text: str, prefix: str) -> Markup:
    """A sentence in which `commands` between backticks are set as code; all else is escaped."""
    shown = _shown(text, prefix)
    parts = shown.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is no pair
        return escape(shown)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(part) if i % 2 else part for i, part in enumerate(parts))


def _finalize(value: Any, prefix: str) -> Any:
    """Every value on its way into the page: no control characters, no reordering, no lone surrogates."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _shown(value, prefix)
    return "" if value is None else value


def _shown(text: str, prefix: str) -> str:
    return plain(text).replace(prefix, "") if prefix else plain(text)
