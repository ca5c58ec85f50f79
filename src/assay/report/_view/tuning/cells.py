"""The cells of a tuning study as rows, and why a model or setting does not serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from assay.core.recommendation import Choice
from assay.core.sizes import size as bytes_text
from assay.core.tuning_record import CellState, TuningRecord
from assay.report import recommendation as told
from assay.report._view.marks import Mark
from assay.report._view.text import one_line

FAILURES_LIMIT = 200
STATES = {
    CellState.FEASIBLE: Mark("feasible", "good", "check"),
    CellState.INFEASIBLE: Mark("infeasible", "bad", "cross"),
    CellState.PRUNED: Mark("pruned", "idle", "dash"),
    CellState.UNTRIED: Mark("not tried", "idle", "dash"),
}


@dataclass(frozen=True)
class FailureView:
    """Why a model or setting does not serve."""

    mark: Mark
    name: str
    model: str
    reason: str
    where: str
    """Failure class, or what implied it."""


@dataclass(frozen=True)
class CellRow:
    """A cell in the table of all of them."""

    mark: Mark
    name: str
    settings: str
    context: str
    load: str
    tps: str
    interval: str
    ttft: str
    readings: str
    memory: str
    flags: str


def failures(record: TuningRecord, names: dict[str, str]) -> tuple[FailureView, ...]:
    """What was refused, failed, was implied by a failure, or never had its turn.

    Args:
        record: what was tried.
        names: cell → how it is called.
    """
    made = [
        FailureView(
            STATES[CellState.INFEASIBLE], one_line(i.model, 80), "", one_line(i.reason), i.failure_class
        )
        for i in record.recommendation.infeasible
    ]
    models = {c.model for c in record.cells if c.stage > 1}
    for cell in record.cells:
        silent = cell.state is CellState.UNTRIED and not cell.reason
        if cell.state is CellState.FEASIBLE or cell.stage == 1 or silent:
            continue
        where = cell.failure_class
        if cell.implied_by:
            where = f"implied by {names.get(cell.implied_by, cell.implied_by)}"
        made.append(
            FailureView(
                mark=STATES[cell.state],
                name=names[cell.name],
                model=one_line(cell.model, 80) if len(models) > 1 else "",
                reason=one_line(cell.reason),
                where=where,
            )
        )
    return (*made[:FAILURES_LIMIT], *_not_tried(record))


def _not_tried(record: TuningRecord) -> Iterator[FailureView]:
    """One line a model for all the cells whose turn never came."""
    chosen = record.recommendation.recommendation
    ranks = {c.rank for c in record.cells if chosen is not None and c.model == chosen.model}
    counts = Counter((c.rank, c.model) for c in record.cells if c.state is CellState.UNTRIED and not c.reason)
    for (rank, model), count in sorted(counts.items()):
        why = "their turn did not come"
        if ranks and rank > min(ranks):
            why = "a model that is wanted more serves"
        elif ranks and rank < min(ranks):
            why = "the model does not serve at its default setting"
        name = f"{one_line(model, 80)}: {count} cell{'' if count == 1 else 's'}"
        yield FailureView(STATES[CellState.UNTRIED], name, "", why, "")


def row_of(record: TuningRecord, name: str, names: dict[str, str]) -> CellRow:
    """The row of a cell.

    Args:
        record: what was tried.
        name: of the cell.
        names: cell → how it is called.
    """
    cell = next(c for c in record.cells if c.name == name)
    tps, ttft = record.tps(cell), record.ttft_p95_ms(cell)
    interval = ""
    if cell.tps_low is not None and cell.tps_high is not None:
        interval = f"{told.figure(cell.tps_low)} to {told.figure(cell.tps_high)}"
    count = len(record.of(cell)) if cell.replicates is None else cell.replicates
    memory = "" if cell.memory_bytes is None else bytes_text(cell.memory_bytes)
    if cell.memory_predicted_bytes is not None:
        memory += f" (predicted {bytes_text(cell.memory_predicted_bytes)})"
    return CellRow(
        mark=STATES[cell.state],
        name=names[cell.name],
        settings=told.settings_text(
            Choice(model=cell.model, target_context=cell.context_tokens, settings=cell.settings)
        )
        if cell.settings
        else "",
        context=f"{cell.context_tokens:,}",
        load=str(cell.concurrency),
        tps="" if tps is None else told.figure(tps),
        interval=interval,
        ttft="" if ttft is None else told.milliseconds(ttft),
        readings=str(count) if count else "",
        memory=memory.strip(),
        flags=", ".join(w for w, on in (("recommended", cell.kept), ("default", cell.default)) if on),
    )
