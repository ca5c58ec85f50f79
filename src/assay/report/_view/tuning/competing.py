"""Which cells of a tuning study compete."""

from __future__ import annotations

from collections.abc import Sequence

from assay.core.tuning_record import Cell, CellState, TuningRecord


def at_target(record: TuningRecord) -> Sequence[Cell]:
    """The cells that compete: those at the context that was asked for, where there are several."""
    target = record.recommendation.inputs.target_context
    found = [c for c in record.cells if c.context_tokens == target and c.stage > 1]
    return found if len(found) > 1 else record.cells


def rivals(record: TuningRecord) -> list[Cell]:
    """Those of them that serve."""
    return [c for c in at_target(record) if c.state is CellState.FEASIBLE]
