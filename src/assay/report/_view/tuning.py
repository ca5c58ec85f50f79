"""What the report of a tuning study shows, as plain typed data: a record in, frozen dataclasses out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assay.core.recommendation import Change, Choice, ExitReason, Recommendation, Standing
from assay.core.tuning_record import CellState, TuningRecord
from assay.core.vocabulary import Provenance
from assay.report import recommendation as told
from assay.report._view import tuning_charts as charts
from assay.report._view.marks import Mark
from assay.report._view.text import (
    Digest,
    digest_of,
    duration,
    instant,
    moment,
    one_line,
    percent,
    plain,
    plural,
)
from assay.report._view.text import size as bytes_text
from assay.report._view.training import Figure
from assay.report._view.tuning_map import Map, maps, named, short_settings

FAILURES_LIMIT = 200
CELLS_LIMIT = 400

_STANDING = {
    Standing.RESOLVED: Mark("RESOLVED", "good", "check"),
    Standing.TIED: Mark("TIED", "good", "check"),
    Standing.UNRESOLVED: Mark("UNRESOLVED", "open", "question"),
}
_SENTENCES = {
    Standing.RESOLVED: "It is proven: no other setting that was tried is better by more than the tolerance.",
    Standing.TIED: "Several settings are equal within the tolerance; among them the default or the plainest stands.",
    Standing.UNRESOLVED: "The budget ended before it was settled: treat it as an estimate.",
}
STATES = {
    CellState.FEASIBLE: Mark("feasible", "good", "check"),
    CellState.INFEASIBLE: Mark("infeasible", "bad", "cross"),
    CellState.PRUNED: Mark("pruned", "idle", "dash"),
    CellState.UNTRIED: Mark("not tried", "idle", "dash"),
}


@dataclass(frozen=True)
class Answer:
    """One answer from the readings."""

    title: str
    mark: Mark
    name: str
    speed: str
    why: str


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


@dataclass(frozen=True)
class TuningPage:
    """The whole report."""

    title: str
    study: str
    when: str
    mark: Mark
    headline: str
    lead: str
    command: str
    alerts: tuple[tuple[str, str], ...]
    """Tone and text."""
    figures: tuple[Figure, ...]
    maps: tuple[Map, ...]
    progression: charts.Progression | None
    front: charts.Front | None
    strips: charts.Strips | None
    noise: charts.Noise | None
    answers: tuple[Answer, ...]
    answers_text: str
    failures: tuple[FailureView, ...]
    cells: tuple[CellRow, ...]
    more_cells: str
    alternates: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]
    machine: tuple[tuple[str, str], ...]
    basis: tuple[tuple[str, str], ...]
    hashes: tuple[tuple[str, Digest], ...]
    document: str


def build_page(record: TuningRecord, stale: Sequence[Change] = ()) -> TuningPage:
    """The page of a tuning study in whatever state it is.

    Args:
        record: what was tried.
        stale: what changed since then.
    """
    found = _estimated(record)
    record = record.model_copy(update={"recommendation": found})
    names = named(record.cells)
    mark = _mark(found)
    answers = _answers(found)
    return TuningPage(
        title=f"{mark.word}: {found.run_id}",
        study=found.run_id,
        when=moment(found.started_at),
        mark=mark,
        headline=_headline(found),
        lead=_lead(found),
        command=plain(found.recommendation.serve_command) if found.recommendation else "",
        alerts=_alerts(record, stale),
        figures=_figures(record),
        maps=maps(record),
        progression=charts.progression(record, names),
        front=charts.front(record, names),
        strips=charts.strips(record, names),
        noise=charts.noise(record, names),
        answers=answers,
        answers_text=_answers_text(found),
        failures=_failures(record, names),
        cells=tuple(_row(record, c.name, names) for c in record.cells[:CELLS_LIMIT]),
        more_cells=f"and {len(record.cells) - CELLS_LIMIT} more" if len(record.cells) > CELLS_LIMIT else "",
        alternates=tuple(one_line(a, 120) for a in found.alternates),
        asked=_asked(found),
        machine=_machine(found),
        basis=_basis(found),
        hashes=tuple(
            (k, digest_of(v))
            for k, v in (("recipe", found.recipe_hash), ("fingerprint", found.fingerprint))
            if v
        ),
        document=json.dumps(found.to_json(), indent=2, ensure_ascii=False),
    )


def _estimated(record: TuningRecord) -> Recommendation:
    """The recommendation with the estimate of its cell, where it tells a median alone beside the interval."""
    found = record.recommendation
    kept = next((c for c in record.cells if c.kept and c.tps is not None), None)
    if found.recommendation is None or found.recommendation.tps is not None or kept is None:
        return found
    return found.model_copy(
        update={"recommendation": found.recommendation.model_copy(update={"tps": kept.tps})}
    )


def _mark(found: Recommendation) -> Mark:
    if found.recommendation is None:
        if found.exit_reason is ExitReason.RUNNING:
            return Mark("RUNNING", "idle", "dash")
        word = (
            "NOTHING SERVES"
            if found.exit_reason is ExitReason.NO_FEASIBLE
            else found.exit_reason.value.upper()
        )
        return Mark(word.replace("_", " "), "bad", "cross")
    mark = Mark("RECOMMENDED", "idle", "dash") if found.standing is None else _STANDING[found.standing]
    return Mark(f"{mark.word}, PARTIAL", "open", "question") if found.recommendation.partial else mark


def _headline(found: Recommendation) -> str:
    chosen = found.recommendation
    if chosen is None:
        context = f"{found.inputs.target_context:,} tokens"
        if found.exit_reason is ExitReason.RUNNING:
            return f"Looking for the biggest model that serves {context}"
        return f"No candidate serves {context} on this machine"
    settings = short_settings(chosen.settings)
    return f"Serve {one_line(chosen.model, 80)}" + (f" with {settings}" if settings else "")


def _lead(found: Recommendation) -> str:
    chosen = found.recommendation
    if chosen is None:
        levels = ", ".join(found.inputs.service_levels)
        return f"Asked for: {levels}." if levels else "No service level was asked for."
    parts = [f"{told.speed_text(chosen)}."]
    if gain := told.gain_text(chosen):
        parts.append(f"{gain}, measured by readings that chose nothing.")
    if found.standing is not None:
        parts.append(_SENTENCES[found.standing])
    return " ".join(parts)


def _alerts(record: TuningRecord, stale: Sequence[Change]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    if record.provenance is Provenance.SELF_REPORTED:
        found.append(("odd", "Imported: another tool said this of itself, and nothing was measured here."))
    found += [("open", f"Stale: {change.text}.") for change in stale]
    found += [("open", one_line(remark)) for remark in record.remarks]
    return tuple(found)


def _figures(record: TuningRecord) -> tuple[Figure, ...]:
    found = record.recommendation
    chosen, made = found.recommendation, []
    if chosen is not None:
        tps = chosen.tps if chosen.tps is not None else chosen.tps_median
        if tps is not None:
            made.append(Figure("throughput", f"{told.figure(tps)} tok/s", _interval(chosen)))
        ttft = "unknown" if chosen.ttft_p95_ms is None else told.milliseconds(chosen.ttft_p95_ms)
        limit = found.inputs.gate_ttft_ms
        beside = f"limit {told.milliseconds(limit)}" if limit is not None else ""
        made.append(
            Figure("TTFT p95", ttft, beside if chosen.ttft_p95_ms is not None else told.latency_text(chosen))
        )
        if chosen.gain is not None:
            made.append(Figure("over the default", f"{100 * chosen.gain:+.0f} %", _gain_interval(chosen)))
    launches = len({r.launch for r in record.readings if r.launch is not None})
    counted = sum(r.valid for r in record.readings)
    made.append(
        Figure("readings", str(counted), plural(launches, "launch", "launches") if launches else "that count")
    )
    if found.noise_frac is not None:
        made.append(Figure("noise between launches", percent(found.noise_frac), "standard deviation"))
    seconds = _seconds(found)
    if seconds is not None:
        made.append(Figure("took", duration(seconds), f"ended: {found.exit_reason.value}"))
    return tuple(made)


def _interval(choice: Choice) -> str:
    if choice.tps_low is None or choice.tps_high is None:
        return plural(choice.replicates, "reading")
    level = f" ({percent(choice.level, 0)})" if choice.level is not None else ""
    return f"{told.figure(choice.tps_low)} to {told.figure(choice.tps_high)}{level}"


def _gain_interval(choice: Choice) -> str:
    if choice.gain_low is None or choice.gain_high is None:
        return ""
    return f"{100 * choice.gain_low:+.0f} to {100 * choice.gain_high:+.0f} %"


def _seconds(found: Recommendation) -> float | None:
    start, end = instant(found.started_at), instant(found.ended_at or "")
    return (end - start).total_seconds() if start and end else None


def _answers(found: Recommendation) -> tuple[Answer, ...]:
    made = []
    for title, choice, why in (
        ("this study", found.recommendation, "the default, unless another is proven better"),
        ("highest estimate", found.best_estimate, "whatever measured fastest, proven or not"),
        ("point rule", found.sequential_band, "medians one after another, a band of 2 %, no intervals"),
    ):
        if choice is None:
            continue
        same = found.recommendation is not None and _same(choice, found.recommendation)
        mark = _mark(found) if title == "this study" else _agrees(same)
        made.append(Answer(title, mark, _choice_name(choice), told.speed_text(choice), why))
    return tuple(made)


def _answers_text(found: Recommendation) -> str:
    chosen, point = found.recommendation, found.sequential_band
    if chosen is None or point is None:
        return ""
    if _same(chosen, point):
        return "The point rule comes to the same answer; it cannot say how sure it is."
    return (
        "The point rule takes another one from the same readings. It compares medians in the order in which cells were "
        "read, so a drift of the machine or a lucky reading decides."
    )


def _same(one: Choice, other: Choice) -> bool:
    return (one.model, one.name, one.settings) == (other.model, other.name, other.settings)


def _agrees(same: bool) -> Mark:
    return Mark("the same", "good", "check") if same else Mark("another", "open", "question")


def _choice_name(choice: Choice) -> str:
    settings = short_settings(choice.settings) or told.settings_text(choice)
    return f"{one_line(choice.model, 80)}: {settings}"


def _failures(record: TuningRecord, names: dict[str, str]) -> tuple[FailureView, ...]:
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


def _row(record: TuningRecord, name: str, names: dict[str, str]) -> CellRow:
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


def _asked(found: Recommendation) -> tuple[tuple[str, str], ...]:
    inputs = found.inputs
    rows = [
        ("candidates, in order", ", ".join(one_line(m, 120) for m in inputs.candidate_models)),
        ("context", f"{inputs.target_context:,} tokens"),
        ("service levels", ", ".join(inputs.service_levels)),
        ("objective", inputs.objective),
        ("rule", inputs.policy),
        ("tolerance", percent(inputs.tps_tie_epsilon)),
        ("ended", found.exit_reason.value),
    ]
    return tuple((k, v) for k, v in rows if v)


def _machine(found: Recommendation) -> tuple[tuple[str, str], ...]:
    machine = found.machine
    rows = [
        ("chip", machine.chip),
        ("cores", str(machine.cpus) if machine.cpus else ""),
        ("memory", f"{machine.ram_gb} GiB"),
        ("system", machine.os_version),
        ("driver", machine.driver),
        ("engine", machine.binary_version),
    ]
    return tuple((k, one_line(v, 120)) for k, v in rows if v)


def _basis(found: Recommendation) -> tuple[tuple[str, str], ...]:
    if found.basis is None:
        return ()
    values = found.basis.to_json()
    return tuple(
        (name.replace("_", " "), one_line(" ".join(v) if isinstance(v, list) else v, 160))
        for name, v in values.items()
        if v and not isinstance(v, dict)
    )
