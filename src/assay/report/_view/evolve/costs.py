"""What each part of a study of texts cost, as far as it was told, and the runs in which an agent meddled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assay.core.agent import AgentRun
from assay.core.history import StudyHistory
from assay.ledger.evolve_records import EvolveRecord
from assay.report._view.evolve.outcomes import OUTCOMES
from assay.report._view.settled import finite, mapping
from assay.report._view.text import duration, one_line, plural

MEDDLINGS_LIMIT = 200


@dataclass(frozen=True)
class Cost:
    """One part of the study."""

    part: str
    runs: str
    known: str
    assumed: str
    tokens: str
    agent_time: str
    """Wall time of all runs together."""
    took: str
    """Wall time of the step."""


@dataclass(frozen=True)
class Meddling:
    """A run that touched what it must not."""

    task: str
    arm: str
    rep: str
    files: str
    outcome: str
    said: str


@dataclass(frozen=True)
class _Sum:
    """Money and time of some runs."""

    runs: int
    known: float | None
    untold: int
    assumed: float
    read: int | None
    written: int | None
    wall_s: float


def costs(history: StudyHistory, records: Sequence[EvolveRecord]) -> tuple[tuple[Cost, ...], str]:
    """Parts in the order of the plan, and the whole in words."""
    price = finite(mapping(history.study.spec.get("agent")).get("price_per_run"))
    made: list[tuple[str, _Sum, float]] = []
    first = next((r for r in records if r.preflight is not None), None)
    if first is not None and first.preflight is not None:
        made.append(("preflight", _sum(first.preflight.runs, price), _took(first, "preflight")))
    for record in records:
        name = f" of {one_line(record.trial.candidate.name, 60)}" if len(records) > 1 else ""
        found = record.evolution
        if found is not None and (found.runs or found.cost is not None):
            whole = _Sum(found.runs, found.cost, 0, found.cost_assumed, None, None, found.wall_s or 0.0)
            made.append((f"search{name}", whole, _took(record, "build")))
        if record.runs is not None:
            made.append((f"confirmation{name}", _sum(record.runs.runs, price), _took(record, "confirm")))
    rows = tuple(_row(part, whole, took) for part, whole, took in made)
    return rows, _told([whole for _, whole, _ in made])


def _sum(runs: Iterable[AgentRun], price: float | None) -> _Sum:
    held = list(runs)
    known = [r.cost for r in held if r.cost is not None]
    assumed = [r.assumed(price) for r in held]
    return _Sum(
        runs=len(held),
        known=math.fsum(known) if known else None,
        untold=assumed.count(None),
        assumed=math.fsum(a for a in assumed if a is not None),
        read=_total(r.input_tokens for r in held),
        written=_total(r.output_tokens for r in held),
        wall_s=math.fsum(r.wall_s or 0.0 for r in held),
    )


def _total(values: Iterable[int | None]) -> int | None:
    known = [v for v in values if v is not None]
    return sum(known) if known else None


def _took(record: EvolveRecord, prefix: str) -> float:
    return math.fsum(s.wall_s for name, s in record.trial.steps.items() if name.startswith(prefix))


def _row(part: str, found: _Sum, took: float) -> Cost:
    tokens = ""
    if found.read is not None or found.written is not None:
        tokens = f"{found.read or 0:,} in, {found.written or 0:,} out"
    return Cost(
        part=part,
        runs=f"{found.runs:,}",
        known=money(found.known) if found.known is not None else "not told",
        assumed=money(found.assumed)
        if found.assumed
        else f"unknown for {found.untold:,}"
        if found.untold
        else "",
        tokens=tokens,
        agent_time=duration(found.wall_s) if found.wall_s else "",
        took=duration(took) if took else "",
    )


def _told(parts: Sequence[_Sum]) -> str:
    known = [p.known for p in parts if p.known is not None]
    assumed = math.fsum(p.assumed for p in parts)
    if not known and not assumed:
        return "cost not told" if parts else ""
    words = [f"{money(math.fsum(known))} known"] if known else []
    words += [f"{money(assumed)} assumed"] if assumed else []
    untold = sum(p.untold for p in parts)
    words += [f"{plural(untold, 'run')} untold"] if untold else []
    return ", ".join(words)


def money(value: float) -> str:
    """A sum in the currency of the budget, which has no name."""
    return f"{value:,.2f}" if abs(value) >= 0.1 or not value else f"{value:.4f}"


def meddlings(record: EvolveRecord) -> tuple[Meddling, ...]:
    """All runs of a trial in which protected or deciding files were touched."""
    runs = [*(record.preflight.runs if record.preflight else ()), *(record.runs.runs if record.runs else ())]
    return tuple(
        Meddling(
            task=one_line(r.task, 100),
            arm=r.arm.replace("_", " "),
            rep=str(r.rep),
            files=", ".join(one_line(f, 80) for f in r.tampered[:6]),
            outcome=OUTCOMES[r.outcome][0],
            said=one_line(r.said, 160),
        )
        for r in runs
        if r.tampered
    )[:MEDDLINGS_LIMIT]
