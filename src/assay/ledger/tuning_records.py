"""Tuning records of a project: of its own studies, out of the ledger, and of runs that were imported.

Imported runs are what another tool said of itself. They lie beside the ledger, not in it: nothing is decided on them.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from assay.core.errors import LedgerBroken
from assay.core.history import StudyHistory
from assay.core.ports import Store
from assay.core.tuning_record import TuningRecord
from assay.core.vocabulary import Provenance
from assay.runtime.files import read_json, write_json

JOB = "tune"
KIND = "tuning"
FOLDER = "imported/tuning"


def of_study(history: StudyHistory, store: Store) -> TuningRecord | None:
    """The last tuning record among a study's evidence; None if it has none yet.

    Raises:
        LedgerBroken: if a document is gone, changed, or no such record.
    """
    digests = [s.evidence for t in history.trials.values() for s in t.steps.values() if s.evidence]
    for digest in reversed(digests):
        document = store.get(digest)
        if document.get("kind") == KIND:
            found = _record(document.get("record"), digest)
            return found.model_copy(update={"applied": bool(history.applied)})
    return None


def imported(folder: Path) -> list[TuningRecord]:
    """The imported runs of a `.assay` folder, oldest first.

    Raises:
        LedgerBroken, UnreadableInput: if a file of them was damaged.
    """
    return sorted(map(imported_run, imported_files(folder)), key=lambda r: r.recommendation.started_at)


def imported_files(folder: Path) -> list[Path]:
    """The files of the imported runs of a `.assay` folder."""
    return sorted((folder / FOLDER).glob("*.json"))


def imported_run(path: Path) -> TuningRecord:
    """One imported run.

    Raises:
        LedgerBroken, UnreadableInput: if its file was damaged.
    """
    return _record(read_json(path), str(path))


def keep_imported(folder: Path, record: TuningRecord) -> Path:
    """Put an imported run beside the ledger; the same run again replaces itself.

    Raises:
        UsageError, ComponentFailed: if it cannot be written.
    """
    claimed = record.model_copy(update={"provenance": Provenance.SELF_REPORTED})
    # a run's id comes from a file of somebody: it names no path
    name = claimed.recommendation.content_digest.removeprefix("sha256:")[:16]
    for path in imported_files(folder):
        if imported_run(path).recommendation.run_id == claimed.recommendation.run_id:
            name = path.stem
    place = folder / FOLDER / f"{name}.json"
    write_json(place, claimed.to_json())
    return place


def _record(value: object, where: str) -> TuningRecord:
    try:
        return TuningRecord.from_json(value)
    except ValidationError as error:
        what = f"no tuning/1: {str(error).splitlines()[1] if error.errors() else error}"
        raise LedgerBroken(what, where=where) from error
