"""What a study of trainings does beside the ledger: the experiments of a decided trial are ended in their own record."""

from __future__ import annotations

import contextlib
from pathlib import Path

from assay.cli.experiment_ending import finished
from assay.core.errors import AssayError, UnreadableInput
from assay.core.history import StudyHistory
from assay.core.trial import Trial
from assay.engine.observer import Observer, Progress
from assay.gates.training import TrainingPolicy
from assay.runtime.files import read_json
from assay.track import registry

RECORDS = "*/artifact/experiment.json"


class Concluding:
    """Passes on what it is told, and ends the experiments of each trial that was decided.

    Args:
        inner: who is told.
        folder: of the study.
    """

    def __init__(self, inner: Observer, folder: Path) -> None:
        self._inner = inner
        self._folder = folder

    def tell(self, progress: Progress) -> None:
        """Take note of progress."""
        self._inner.tell(progress)
        decision = progress.decision
        if progress.kind == "decision" and decision is not None and not decision.interrupted:
            _conclude(self._folder / f"trial-{decision.trial.rpartition('-')[2]}", decision.study)


def conclude(folder: Path, history: StudyHistory) -> None:
    """End the experiments of every decided trial; those that have ended stay as they are."""
    for trial in history.trials.values():
        if trial.finished:
            _conclude(folder / _place(trial), history.study.id)


def _place(trial: Trial) -> str:
    return f"trial-{trial.number}"


def _conclude(place: Path, study: str) -> None:
    """Record and complete what was trained; what crashed or lacks evidence is left for a person to end."""
    roots: set[Path] = set()
    for path in sorted(place.glob(RECORDS)):
        # The Decision stands whatever becomes of these files; `assay experiment finish` does the same by hand.
        with contextlib.suppress(AssayError, OSError, KeyError, TypeError):
            folder = _experiment(path)
            finished(folder, TrainingPolicy(tier="told"), None, f"assay run {study}")
            roots.add(folder.parent)
    for root in roots:
        with contextlib.suppress(OSError):
            registry.refresh(root)


def _experiment(path: Path) -> Path:
    record = read_json(path)
    if not isinstance(record, dict):
        raise UnreadableInput("no record of a training", where=str(path))
    return Path(record["folder"])
