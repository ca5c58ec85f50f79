"""Which page a study gets: one of settings shows its cells, one of texts its tasks, every other its candidates."""

from __future__ import annotations

from pathlib import Path

from assay.core.history import StudyHistory
from assay.ledger import evolve_records
from assay.ledger.home import Home
from assay.ledger.tuning_records import of_study
from assay.report import evolve, release, tuning
from assay.runtime.files import write_atomic

TUNE = "tune"


def write_page(home: Home, history: StudyHistory, out: Path | None = None) -> Path:
    """Write the report of a study.

    Args:
        home: the `.assay` folder.
        history: the study.
        out: the file; `<home>/reports/<study>.html` if None.

    Raises:
        ComponentFailed, UsageError: see `runtime.files.write_atomic`.
        LedgerBroken: if a tuning record is gone or changed.
    """
    path = out if out is not None else home.folder / "reports" / f"{history.study.id}.html"
    write_atomic(path, render(home, history).encode("utf-8"))
    return path


def render(home: Home, history: StudyHistory) -> str:
    """The page that goes into a bundle: the same for all who hold the ledger.

    Raises:
        LedgerBroken: if a tuning record is gone or changed.
    """
    record = of_study(history, home.store) if history.study.job == TUNE else None
    if record is not None:  # a tuning study that has no record yet has its trials told as they stand
        return tuning.render(record, project=home.folder.parent)
    made = evolve.render if history.study.job == evolve_records.JOB else release.render
    return made(home.store, history, home.folder.parent)
