"""The HTML report of a tuning study: one file that stands alone, without network or scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay import __version__
from assay.core.recommendation import Change
from assay.core.tuning_record import TuningRecord
from assay.report._view.tuning import build_page
from assay.report.html import _environment
from assay.runtime.files import write_atomic


def render(record: TuningRecord, stale: Sequence[Change] = (), project: Path | None = None) -> str:
    """The report of a tuning study in whatever state it is; the same record gives the same page.

    Args:
        record: what was tried.
        stale: what changed since it was measured.
        project: folder that paths are shown relative to, so that a page may be handed on.
    """
    environment = _environment(f"{project}/" if project else "")
    page = build_page(record, stale)
    return environment.get_template("tuning.html.j2").render(page=page, version=__version__)


def write_report(
    out: Path, record: TuningRecord, stale: Sequence[Change] = (), project: Path | None = None
) -> Path:
    """Write the report.

    Raises:
        ComponentFailed, UsageError: see `runtime.files.write_atomic`.
    """
    write_atomic(out, render(record, stale, project).encode("utf-8"))
    return out
