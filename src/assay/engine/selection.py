"""Which of the ranked candidates is confirmed on items of its own."""

from __future__ import annotations

from assay.core.history import StudyHistory
from assay.core.ports import Store
from assay.core.vocabulary import Status

RANK = "rank"
"""The gate whose verdict carries the drop that candidates are ranked by."""


def best_ranked(history: StudyHistory, store: Store) -> str | None:
    """The trial with the smallest drop, the earlier one of equals; None without any, or once it was chosen."""
    if not history.study.confirm or history.topped_up:
        return None
    ranked = [
        (float(store.get(line.verdict)["extra"]["drop"]), trial.number, trial.id)
        for trial in history.trials.values()
        if trial.finished
        and (line := trial.gates.get(RANK)) is not None
        and line.status is Status.INCONCLUSIVE
    ]
    return min(ranked)[2] if ranked else None
