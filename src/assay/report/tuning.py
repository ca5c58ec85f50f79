"""The HTML report of a tuning study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.core.recommendation import Change
from assay.core.tuning_record import TuningRecord
from assay.report._view.tuning.page import build_page
from assay.report.html import filled
from assay.runtime.files import write_atomic


def render(record: TuningRecord, stale: Sequence[Change] = (), project: Path | None = None) -> str:
    """The report of a tuning study in whatever state it is; the same record gives the same page.

    Args:
        record: what was tried.
        stale: what changed since it was measured.
        project: folder that paths are shown relative to, so that a page may be handed on.
    """
    return filled("tuning.html.j2", project, page=build_page(record, stale))


def write_report(
    out: Path, record: TuningRecord, stale: Sequence[Change] = (), project: Path | None = None
) -> Path:
    """Write the report.

    Raises:
        ComponentFailed, UsageError: see `runtime.files.write_atomic`.
    """
    write_atomic(out, render(record, stale, project).encode("utf-8"))
    return out
