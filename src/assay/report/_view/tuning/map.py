"""The map of a tuning study: context by concurrency, one square a load point, and short names of cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from assay.core.tuning_record import Cell, CellState, TuningRecord
from assay.report._view.text import one_line
from assay.report.recommendation import figure, milliseconds

Tone = Literal["good", "bad", "idle"]
MAPS_LIMIT = 12
_AXES = frozenset({"context_tokens", "slots"})
"""Settings that are the map's axes, or follow from them."""
_UNITS = {"slots": "{} slot", "context_tokens": "{} token", "threads": "{} thread", "kv_type": "{} KV"}
"""Settings that are said with a noun; one that counts gets its plural."""


@dataclass(frozen=True)
class Square:
    """One context at one concurrency."""

    tone: Tone
    sign: str
    strength: int
    """Percent of the tone that is laid over the paper: the faster, the fuller."""
    speed: str
    latency: str
    note: str
    title: str
    kept: bool


@dataclass(frozen=True)
class Row:
    """One concurrency."""

    load: str
    squares: tuple[Square | None, ...]


@dataclass(frozen=True)
class Map:
    """One model with the settings that are not axes."""

    title: str
    detail: str
    contexts: tuple[str, ...]
    rows: tuple[Row, ...]
    counts: str


def maps(record: TuningRecord) -> tuple[Map, ...]:
    """A map for each model and group of settings that was tried at more than one point."""
    tried = {(c.model, _others(c)) for c in record.cells if c.state is not CellState.UNTRIED}
    searched = [c for c in record.cells if c.stage > 1 or (c.state is CellState.INFEASIBLE and not c.kept)]
    cells = [c for c in searched or record.cells if (c.model, _others(c)) in tried]
    groups: dict[tuple[int, str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.rank, cell.model, _others(cell)), []).append(cell)
    shown = [(key, held) for key, held in groups.items() if len({_place(c) for c in held}) > 1]
    top = max((t for c in cells if (t := record.tps(c)) is not None), default=None)
    shown.sort(key=lambda item: (not any(c.kept for c in item[1]), item[0][0]))
    return tuple(_map(record, key[1], key[2], held, top) for key, held in shown[:MAPS_LIMIT])


def named(cells: Sequence[Cell]) -> dict[str, str]:
    """Cell → a short name for people: only what differs between the cells of the study."""
    searched = [c for c in cells if c.stage > 1] or list(cells)
    varying = _varying(searched)
    models = {c.model for c in searched}
    contexts = len({c.context_tokens for c in searched})
    loads = len({c.concurrency for c in searched})
    made = {}
    for cell in cells:
        parts = [one_line(cell.model, 40)] if len(models) > 1 or cell not in searched else []
        settings = {k: v for k, v in cell.settings.items() if k in varying and k != "context_tokens"}
        if contexts > 1:
            settings = {"context_tokens": cell.context_tokens, **settings}
        parts += [short_settings(settings)] if settings else []
        if loads > 1 and settings.get("slots") != cell.concurrency:
            parts.append(f"{cell.concurrency} in flight")
        made[cell.name] = ", ".join(p for p in parts if p) or one_line(cell.name, 60)
    twice = {text for text, count in Counter(made.values()).items() if count > 1}
    return {name: f"{text} ({one_line(name, 40)})" if text in twice else text for name, text in made.items()}


def short_settings(settings: Mapping[str, Any]) -> str:
    """Settings as a person says them: `8 slots, f16 KV`."""
    words = []
    for name, value in settings.items():
        if value is None:
            continue
        shown = (
            f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else one_line(value, 40)
        )
        many = "s" if isinstance(value, int) and value != 1 else ""
        words.append(_UNITS[name].format(shown) + many if name in _UNITS else f"{name} {shown}")
    return ", ".join(words)


def _map(record: TuningRecord, model: str, others: str, held: Sequence[Cell], top: float | None) -> Map:
    contexts = sorted({c.context_tokens for c in held})
    loads = sorted({c.concurrency for c in held})
    rows = []
    for load in loads:
        squares = []
        for context in contexts:
            there = [c for c in held if (c.context_tokens, c.concurrency) == (context, load)]
            squares.append(_square(record, there, top) if there else None)
        rows.append(Row(str(load), tuple(squares)))
    states = Counter(c.state.value for c in held)
    counts = ", ".join(f"{states[s.value]} {s.value}" for s in CellState if states[s.value])
    return Map(one_line(model, 80), others, tuple(f"{c:,}" for c in contexts), tuple(rows), counts)


def _square(record: TuningRecord, there: Sequence[Cell], top: float | None) -> Square:
    """The best of the cells that share a place; what the others are stands in the title."""

    def better(cell: Cell) -> tuple[bool, bool, float]:
        return cell.state is CellState.FEASIBLE, cell.state is CellState.INFEASIBLE, record.tps(cell) or 0.0

    best = max(there, key=better)
    tps, ttft = record.tps(best), record.ttft_p95_ms(best)
    readings = record.of(best, valid=False)
    ok, errors = sum(r.n_ok for r in readings), sum(r.n_err for r in readings)
    tone: Tone = {CellState.FEASIBLE: "good", CellState.INFEASIBLE: "bad"}.get(best.state, "idle")  # type: ignore[assignment]
    share = tps / top if tps is not None and top else 0.0
    note = _note(best) if best.state is not CellState.FEASIBLE else ""
    title = [best.reason] if best.reason else []
    title += [f"{ok} requests ended well, {errors} failed"] if ok or errors else []
    title += [f"best of {len(there)} settings"] if len(there) > 1 else []
    return Square(
        tone=tone,
        sign={"good": "check", "bad": "cross", "idle": "dash"}[tone],
        strength=round(10 + 38 * share) if tone == "good" else 14 if tone == "bad" else 0,
        speed="" if tps is None else figure(tps),
        latency="" if ttft is None else milliseconds(ttft),
        note=note,
        title=one_line(". ".join(title)),
        kept=any(c.kept for c in there),
    )


def _note(cell: Cell) -> str:
    """A reason in very few words."""
    reason = cell.reason.lower()
    if cell.state is CellState.UNTRIED:
        return "not tried"
    word = next(
        (w for key, w in (("memory", "memory"), ("ttft", "TTFT"), ("tpot", "TPOT"), ("context", "too long"),
                          ("kv cache", "memory")) if key in reason),
        "failed",
    )  # fmt: skip
    return f"{word}, implied" if cell.state is CellState.PRUNED else word


def _others(cell: Cell) -> str:
    return short_settings({k: v for k, v in cell.settings.items() if k not in _AXES})


def _place(cell: Cell) -> tuple[int, int]:
    return cell.context_tokens, cell.concurrency


def _varying(cells: Sequence[Cell]) -> set[str]:
    """Settings that have more than one value; where one is left out, it says nothing."""
    values: dict[str, set[str]] = {}
    for cell in cells:
        for name, value in cell.settings.items():
            values.setdefault(name, set()).add(repr(value))
    return {name for name, found in values.items() if len(found) > 1}
