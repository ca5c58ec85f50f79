"""Tuning record: everything that a tuning study tried, in one document. Reports and exports show nothing else. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from assay.core.base import Noun
from assay.core.evidence import Evidence
from assay.core.recommendation import Recommendation
from assay.core.vocabulary import Provenance


class CellState(StrEnum):
    """What became of a cell. Closed."""

    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    """It was tried, or is proven by its bytes, and cannot serve what was asked."""
    PRUNED = "pruned"
    """Not tried: the failure of a smaller one implies its own."""
    UNTRIED = "untried"
    """Its turn did not come."""


class Reading(Noun):
    """One measurement of a cell, in the order in which they were taken."""

    number: int = Field(ge=1)
    """Place in the order of the whole study."""
    cell: str
    """Name of the cell."""
    at: str = ""
    """UTC, ISO 8601."""
    stage: int = Field(default=2, ge=1)
    role: Literal["fit", "search", "confirm", "sentinel"] = "search"
    """What it was taken for; `confirm` readings chose nothing."""
    block: int | None = None
    """Round; readings of one block are compared with each other."""
    launch: int | None = None
    """Number of the server start."""
    tps: float | None = None
    """Output tokens per second; None = not measured."""
    ttft_p95_ms: float | None = None
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    n_ok: int = Field(default=0, ge=0)
    n_err: int = Field(default=0, ge=0)
    valid: bool = True
    reason: str = ""
    """Why it does not count."""


class Cell(Noun):
    """A model with settings at one load."""

    name: str
    model: str
    rank: int = Field(default=1, ge=1)
    """Place of the model in the operator's order."""
    stage: int = Field(default=2, ge=1)
    context_tokens: int = Field(ge=1)
    concurrency: int = Field(default=1, ge=1)
    """Requests in flight while it was measured."""
    settings: Mapping[str, Any] = Field(default_factory=dict)
    state: CellState
    reason: str = ""
    """Why it is not feasible."""
    failure_class: str = ""
    implied_by: str = ""
    """The cell whose failure pruned this one."""
    default: bool = False
    """The settings as they stood: what others must beat."""
    kept: bool = False
    """The recommended one; one in a study at most."""
    tps: float | None = None
    """The estimate; None = the median of its readings is meant."""
    tps_low: float | None = None
    tps_high: float | None = None
    level: float | None = None
    """Two-sided confidence level of the interval."""
    ttft_p95_ms: float | None = None
    replicates: int | None = Field(default=None, ge=0)
    """Readings behind the estimate, where they are not listed one by one."""
    memory_predicted_bytes: int | None = None
    memory_bytes: int | None = None
    """Resident, observed."""


class TuningRecord(Noun):
    """A tuning study: `schema: tuning/1`."""

    schema_: Literal["tuning/1"] = Field(default="tuning/1", alias="schema")
    provenance: Provenance = Provenance.MEASURED
    """`self_reported` for runs of another tool that were imported."""
    recommendation: Recommendation
    """With run, machine, inputs and how it ended."""
    applied: bool = False
    cells: tuple[Cell, ...] = ()
    readings: tuple[Reading, ...] = ()
    remarks: tuple[str, ...] = ()
    """What a reader should know: threads that spin, a busy machine, a clock that drifts."""

    model_config = Noun.model_config | {"populate_by_name": True}

    def of(self, cell: Cell, *, valid: bool = True) -> tuple[Reading, ...]:
        """The readings of a cell; those that count, or all."""
        return tuple(r for r in self.readings if r.cell == cell.name and (r.valid or not valid))

    def tps(self, cell: Cell) -> float | None:
        """Throughput of a cell: its estimate, else the median of its readings."""
        return cell.tps if cell.tps is not None else _median(r.tps for r in self.of(cell))

    def ttft_p95_ms(self, cell: Cell) -> float | None:
        """p95 TTFT of a cell: its estimate, else the median over its readings."""
        return (
            cell.ttft_p95_ms
            if cell.ttft_p95_ms is not None
            else _median(r.ttft_p95_ms for r in self.of(cell))
        )


def _median(values: Any) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None


class Tuning(Evidence):
    """The record as evidence of a study."""

    kind: Literal["tuning"] = "tuning"
    record: TuningRecord
