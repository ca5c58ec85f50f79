"""The record of a tuning study: every cell, every reading and the recommendation, as one document. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assay.core.canon import digest
from assay.core.recommendation import (
    Basis,
    Choice,
    Infeasible,
    Inputs,
    Machine,
    Recommendation,
    alternates,
    source_knobs,
)
from assay.core.trials import TrialRow
from assay.core.tuning import LOAD, Cell, PointReading, Reading, ReadingState, Stage, Standing, TuningPlan
from assay.core.tuning_record import Cell as CellRecord
from assay.core.tuning_record import CellState, TuningRecord
from assay.core.tuning_record import Reading as ReadingRecord
from assay.tuning.answer import LEVEL, Answer
from assay.tuning.search import Search

RULE = "assay race/1"
"""The deciding rule and its version: what a recommendation rests on."""
PORT = "8080"
"""Port in the command that is shown; the one that was used was any free one."""
_ROLES = {
    Stage.FIT: "fit",
    Stage.SCREEN: "search",
    Stage.CONFIRM: "confirm",
    Stage.SENTINEL: "sentinel",
    Stage.MAP: "search",
}
_NO_ID = re.compile(r"[^A-Za-z0-9._-]+")
"""What `runtime.serving.model_id` replaces in a candidate's name."""
_PLACES = ("-m", "--model", "--host", "--alias", "--served-model-name", "--port")


def record(
    search: Search,
    found: Answer,
    rows: Sequence[TrialRow],
    *,
    study: str = "",
    inputs: Mapping[str, Any] | None = None,
) -> TuningRecord:
    """The whole record. Machine and hashes are filled in by whoever writes it down, as only he can look."""
    given = dict(inputs or {})
    ranks = {m.name: k for k, m in enumerate(search.plan.models, 1)}
    sizes, paths = given.pop("model_bytes", {}), given.pop("model_paths", {})
    order = tuple(m.name for m in search.plan.models)
    recommendation = Recommendation(
        run_id=study,
        started_at=rows[0].started if rows else "",
        exit_reason=found.exit_reason,
        machine=Machine(ram_gb=0, chip=""),
        inputs=Inputs(
            target_context=search.plan.target_context,
            candidate_models=order,
            stage2_replicates=search.plan.race.replicates,
            tps_tie_epsilon=search.plan.race.band,
            gate_ttft_ms=_ttft_limit(search.plan),
            service_levels=tuple(x.text for x in search.plan.levels.levels),
            objective=search.plan.objective,
            policy=search.plan.race.policy,
        ),
        recommendation=_choice(search, found, found.recommended, rows, paths),
        standing=found.standing,
        tie_set=found.tie_set,
        best_estimate=_choice(search, found, found.best_estimate, rows, paths),
        sequential_band=_choice(search, found, found.sequential_band, rows, paths),
        alternates=alternates(order, found.model, sizes) if found.model else (),
        infeasible=tuple(_infeasible(search, found, ranks)),
        noise_frac=found.noise_frac,
        basis=_basis(search, found, rows, given),
    )
    return TuningRecord(
        recommendation=recommendation,
        cells=tuple(_cells(search, found, ranks)),
        readings=tuple(_readings(search, rows)),
        remarks=(*found.remarks, *given.get("remarks", ())),
    )


def _ttft_limit(plan: TuningPlan) -> float | None:
    return next((x.limit_ms for x in plan.levels.levels if x.text.startswith("ttft p95")), None)


def _choice(
    search: Search, found: Answer, name: str | None, rows: Sequence[TrialRow], paths: Mapping[str, str]
) -> Choice | None:
    cell = search.plan.cell(name) if name else None
    if cell is None:
        return None
    estimate = found.estimate(cell.id)
    proof = next((p for p in found.proofs if p.cell == cell.id), None)
    return Choice(
        model=cell.model,
        target_context=search.plan.target_context,
        knobs=source_knobs(cell.serve.options),
        tps_median=estimate.median if estimate else None,
        ttft_p95_ms=estimate.ttft_p95_ms if estimate else None,
        replicates=estimate.readings if estimate else 0,
        serve_command=_command(cell, rows),
        partial=found.partial,
        name=cell.id,
        path=paths.get(cell.model, ""),
        engine=cell.serve.kind,
        settings=_settings(cell),
        launches=estimate.readings if estimate else 0,
        tps=estimate.value if estimate else None,
        tps_low=estimate.low if estimate else None,
        tps_high=estimate.high if estimate else None,
        level=LEVEL if estimate and estimate.low is not None else None,
        gain=proof.gain if proof else None,
        gain_low=proof.low if proof else None,
        gain_high=proof.high if proof else None,
    )


def _settings(cell: Cell) -> dict[str, Any]:
    """What was chosen, by the names of the adapter; what a knob set comes first."""
    context = cell.serve.options.get("context_tokens")
    more = {} if context is None else {"context_tokens": context}
    return {**dict(cell.values), **more}


def _command(cell: Cell, rows: Sequence[TrialRow]) -> str:
    """What started it last, on the usual port."""
    mine = [r for r in rows if r.command and _launched(r) == cell.id and not _elsewhere(r)]
    if not mine:
        return ""
    # the id by which requests named it was that of its trial
    alias = _NO_ID.sub("-", mine[-1].candidate.name).strip("-.")
    words = [cell.model if word == alias else word for word in mine[-1].command]
    return shlex.join(_with_port(words))


def _launched(row: TrialRow) -> str:
    launch = row.candidate.intent.get("launch")
    return str(launch.get("cell", "")) if isinstance(launch, Mapping) else ""


def _elsewhere(row: TrialRow) -> bool:
    """It was launched at another context than the target."""
    launch = row.candidate.intent.get("launch")
    return isinstance(launch, Mapping) and launch.get("stage") == Stage.MAP


def _with_port(words: Sequence[str]) -> list[str]:
    return [PORT if before == "--port" else word for before, word in zip(("", *words), words, strict=False)]


def _infeasible(search: Search, found: Answer, ranks: Mapping[str, int]) -> Iterator[Infeasible]:
    """The smallest candidate first, then upward: the last of the operator's order is the least that was asked for."""
    for id_, reason in reversed(list(found.infeasible.items())):
        cell = search.plan.cell(id_)
        if cell is not None:
            mine = [r for r in search.readings if r.launch.cell == id_ and r.failure_class]
            yield Infeasible(
                model=cell.model,
                rank=ranks[cell.model],
                reason=reason,
                settings=dict(cell.values),
                failure_class=str(mine[-1].failure_class or "") if mine else "",
            )


def _basis(search: Search, found: Answer, rows: Sequence[TrialRow], given: Mapping[str, Any]) -> Basis | None:
    cell = search.plan.cell(found.recommended) if found.recommended else None
    if cell is None:
        return None
    model = search.plan.model(cell.model)
    mine = [r for r in rows if _launched(r) == cell.id and not _elsewhere(r)]
    facts = mine[-1].evidence.get(LOAD, {}).get("facts", {}) if mine else {}
    words = mine[-1].command if mine else ()
    return Basis(
        engine=cell.serve.kind,
        engine_build=str(facts.get("engine_version", "")),
        machine="",
        weights=model.artifact if model else "",
        workload=str(given.get("workload", "")),
        service_levels=digest(search.plan.levels.to_json()),
        command=_without_places(words),
        environment=dict(cell.serve.options.get("env") or {}),
        rule=RULE,
    )


def _without_places(words: Sequence[str]) -> tuple[str, ...]:
    """Flags and values alone: no program, port, host or path."""
    told, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in _PLACES:
            skip = True
        elif "/" not in word:
            told.append(word)
    return tuple(told)


def _cells(search: Search, found: Answer, ranks: Mapping[str, int]) -> Iterator[CellRecord]:
    implied = {p.cell: p.source for p in search.implied}
    for cell in [c for m in search.plan.models for c in m.cells]:
        mine = [r for r in search.readings if r.launch.cell == cell.id]
        contexts = dict.fromkeys([search.plan.target_context, *(r.launch.context for r in mine)])
        for context in contexts:
            there = [r for r in mine if r.launch.context == context]
            for k, concurrency in enumerate(_concurrencies(search)):
                yield _cell(search, found, cell, context, k, concurrency, there, implied, ranks[cell.model])


def _cell(  # noqa: PLR0913, PLR0917 - one row of a table, by all that it is made of
    search: Search,
    found: Answer,
    cell: Cell,
    context: int,
    k: int,
    concurrency: int,
    there: Sequence[Reading],
    implied: Mapping[str, str],
    rank: int,
) -> CellRecord:
    target = context == search.plan.target_context
    points = [r.points[k] for r in there if len(r.points) > k]
    good = [p for p in points if _good(p)]
    failed = [r for r in there if not r.points]
    estimate = found.estimate(cell.id) if target and search.point(cell.id) == k else None
    state, reason = _state(points, good, failed, there)
    if not there and (why := found.infeasible.get(cell.id)):
        state, reason = (CellState.PRUNED if cell.id in implied else CellState.INFEASIBLE), why
    return CellRecord(
        name=_place(cell.id, context, concurrency, search),
        model=cell.model,
        rank=rank,
        stage=1 if there and all(r.launch.stage is Stage.FIT for r in there) else 2,
        context_tokens=context,
        concurrency=concurrency,
        settings=_settings(cell) | {"context_tokens": context},
        state=state,
        reason=reason,
        failure_class=str(failed[-1].failure_class or "") if failed else "",
        implied_by=implied.get(cell.id, ""),
        default=cell.id == found.default and target,
        kept=cell.id == found.recommended and target and search.point(cell.id) == k,
        tps=estimate.value if estimate else None,
        tps_low=estimate.low if estimate else None,
        tps_high=estimate.high if estimate else None,
        level=LEVEL if estimate and estimate.low is not None else None,
        ttft_p95_ms=estimate.ttft_p95_ms if estimate else None,
    )


def _state(
    points: Sequence[PointReading],
    good: Sequence[PointReading],
    failed: Sequence[Reading],
    there: Sequence[Reading],
) -> tuple[CellState, str]:
    if good:
        return CellState.FEASIBLE, ""
    if failed:
        return CellState.INFEASIBLE, failed[-1].detail
    decided = [p for p in points if p.value is not None or not p.strict]
    if decided:
        return CellState.INFEASIBLE, "; ".join(decided[-1].reasons[:2]) or there[-1].detail
    if points:
        return CellState.UNTRIED, f"not validly measured: {'; '.join(points[-1].reasons[:1])}"
    return CellState.UNTRIED, ""


def _good(point: PointReading) -> bool:
    return point.value is not None and point.strict and all(c.keeps for c in point.levels)


def _concurrencies(search: Search) -> list[int]:
    """In flight at each load point; an open loop counts by its place."""
    names = max(([p.name for p in r.points] for r in search.readings), key=len, default=["1 in flight"])
    return [int(n.split()[0]) if n.endswith("in flight") else k for k, n in enumerate(names or [""], 1)]


def _place(cell: str, context: int, concurrency: int, search: Search) -> str:
    many = len(_concurrencies(search)) > 1
    more = f" c{concurrency}" if many else ""
    return cell + more + (f" ctx{context}" if context != search.plan.target_context else "")


def _readings(search: Search, rows: Sequence[TrialRow]) -> Iterator[ReadingRecord]:
    at = {row.trial: row.started for row in rows}
    concurrencies = _concurrencies(search)
    number = 0
    for launch, r in enumerate(search.readings, 1):
        for k, point in enumerate(r.points or (None,)):
            number += 1
            yield _reading(
                number, launch, r, point, concurrencies[min(k, len(concurrencies) - 1)], at, search
            )


def _reading(
    number: int,
    launch: int,
    r: Reading,
    point: PointReading | None,
    concurrency: int,
    at: Mapping[str, str],
    search: Search,
) -> ReadingRecord:
    failed = [*(point.reasons if point is not None else ()), r.detail]
    valid = point is not None and point.value is not None and r.state is not ReadingState.INVALID
    return ReadingRecord(
        number=number,
        cell=_place(r.launch.cell, r.launch.context, concurrency, search),
        at=at.get(r.trial, ""),
        stage=1 if r.launch.stage is Stage.FIT else 2,
        role=_ROLES[r.launch.stage],
        block=r.launch.block or None,
        launch=launch,
        tps=point.value if point is not None else None,
        ttft_p95_ms=(point.ttft_p95_ms or point.ttft_worst_ms) if point is not None else None,
        prompt_tokens=_whole(point.prompt_tokens) if point is not None else None,
        max_tokens=_whole(point.output_tokens) if point is not None else None,
        n_ok=point.completed if point is not None else 0,
        n_err=point.failed if point is not None else 0,
        valid=valid,
        reason="" if valid else failed[0],
    )


def _whole(tokens: float | None) -> int | None:
    return None if tokens is None else round(tokens)


__all__ = ["RULE", "Standing", "record"]
