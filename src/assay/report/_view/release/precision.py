"""The precision of every weight as a picture: layers across, modules down, one colour for each number of bits."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from assay.core.checkpoint import Checkpoint, Module
from assay.core.sizes import size
from assay.report._view.release.stacks import MIXED, WRONG, place, rank
from assay.report._view.text import one_line, percent, plural

BUCKETS = (2, 3, 4, 5, 6, 8, 16, 32)
"""Bits that have a colour of their own."""
_CELL_PX = (26, 17, 11, 7)
_CELL_LAYERS = (12, 28, 48)
_ROW_PX = 20
_MAX_ROWS = 40
_MAX_SINGLES = 24


@dataclass(frozen=True)
class Swatch:
    """One precision of the legend."""

    scheme: str
    style: str
    """CSS class of its colour."""
    bits: str
    modules: str
    share: str
    """Of the weights' bytes."""


@dataclass(frozen=True)
class Cell:
    """A run of equal layers in one row."""

    x: int
    y: int
    width: int
    style: str
    other: str
    """CSS class of the second precision in this cell, if there is one."""
    other_px: int
    """Its share of the cell's height."""
    text: str
    """Bits, where the cell is wide enough to say it."""
    title: str


@dataclass(frozen=True)
class GridRow:
    """One kind of module."""

    name: str
    y: int
    made_of: str
    """What it is stored in, in words."""


@dataclass(frozen=True)
class Grid:
    """One stack of layers."""

    title: str
    width: int
    height: int
    row_px: int
    rows: tuple[GridRow, ...]
    cells: tuple[Cell, ...]
    lines: tuple[int, ...]
    """Between which layers lines are drawn."""
    ticks: tuple[tuple[int, str], ...]
    """Numbers of layers and where they stand."""
    more: str
    label: str


@dataclass(frozen=True)
class Single:
    """A module that belongs to no layer."""

    name: str
    style: str
    text: str


@dataclass(frozen=True)
class Segment:
    """A part of a size bar."""

    x: float
    width: float
    style: str
    title: str


@dataclass(frozen=True)
class Precision:
    """All that is shown of a checkpoint's weights."""

    total: str
    bits: str
    """Average bits per weight."""
    legend: tuple[Swatch, ...]
    grids: tuple[Grid, ...]
    singles: tuple[Single, ...]
    more_singles: str
    problems: tuple[str, ...]


def styles_of(modules: Sequence[Module]) -> dict[str, str]:
    """Scheme → CSS class by its bits; a second scheme of the same bits gets a pattern."""
    styles: dict[str, str] = {}
    used: Counter[int] = Counter()
    for scheme, held in sorted(_by_scheme(modules)):
        bucket = _bucket(held[0])
        styles[scheme] = f"b{bucket}" + (f" v{min(used[bucket], 2)}" if used[bucket] else "")
        used[bucket] += 1
    return styles


def legend(modules: Sequence[Module], styles: Mapping[str, str]) -> tuple[Swatch, ...]:
    """The colours that occur, the fewest bits first."""
    total = sum(_bytes(m) for m in modules) or 1.0
    found = [
        Swatch(
            scheme=scheme,
            style=styles[scheme],
            bits=_span([m.stored_bits for m in held]),
            modules=plural(len(held), "module"),
            share=percent(sum(_bytes(m) for m in held) / total, 0),
        )
        for scheme, held in sorted(_by_scheme(modules), key=lambda item: (_bucket(item[1][0]), item[0]))
    ]
    return tuple(found)


def precision(checkpoint: Checkpoint, styles: Mapping[str, str]) -> Precision:
    """The picture of a checkpoint.

    Args:
        checkpoint: its modules.
        styles: of `styles_of` over all checkpoints of the page.
    """
    stacks: dict[str, dict[tuple[str, int], list[Module]]] = defaultdict(lambda: defaultdict(list))
    single: list[Module] = []
    for module in checkpoint.modules:
        prefix, layer, rest = place(module.name)
        if layer is None:
            single.append(module)
        else:
            stacks[prefix][rest, layer].append(module)
    problems = [*checkpoint.problems, *(f"{m.name}: {p}" for m in checkpoint.modules for p in m.problems)]
    more = len(single) - _MAX_SINGLES
    return Precision(
        total=size(checkpoint.weight_bytes),
        bits=average(checkpoint),
        legend=legend(checkpoint.modules, styles),
        grids=tuple(_grid(title, cells, styles) for title, cells in stacks.items()),
        singles=tuple(
            Single(m.name, styles[m.scheme], f"{m.scheme}, {_bits(m.stored_bits)} bits")
            for m in single[:_MAX_SINGLES]
        ),
        more_singles=f"and {more} more" if more > 0 else "",
        problems=tuple(one_line(p) for p in problems[:20]),
    )


def average(checkpoint: Checkpoint | None) -> str:
    """Bits on disk per weight over the whole checkpoint, scales included."""
    if checkpoint is None or not checkpoint.parameters:
        return ""
    return f"{8.0 * checkpoint.weight_bytes / checkpoint.parameters:.2f} bits a weight"


def segments(checkpoint: Checkpoint, whole_bytes: int, styles: Mapping[str, str]) -> tuple[Segment, ...]:
    """The bytes of a checkpoint by precision, as parts of a bar whose full width is `whole_bytes`."""
    known = sum(_bytes(m) for m in checkpoint.modules)
    if 2 * known < checkpoint.weight_bytes or not known:  # shapes are not known
        return (whole(checkpoint.weight_bytes, whole_bytes),)
    parts, at = [], 0.0
    for scheme, held in _by_scheme(checkpoint.modules):
        count = sum(_bytes(m) for m in held)
        # shares of the real size: what is stored beside the weights may not widen the bar
        width = 100.0 * count / known * checkpoint.weight_bytes / whole_bytes if whole_bytes else 0.0
        title = f"{scheme}: {size(count)} in {plural(len(held), 'module')}"
        parts.append(Segment(round(at, 3), round(width, 3), styles[scheme], title))
        at += width
    return tuple(parts)


def whole(count: int, whole_bytes: int) -> Segment:
    """A bar of which nothing but the size is known."""
    width = 100.0 * count / whole_bytes if whole_bytes else 0.0
    return Segment(0.0, round(min(100.0, width), 3), "unknown", size(count))


def _bucket(module: Module) -> int:
    return next((b for b in BUCKETS if module.weight_bits <= b), BUCKETS[-1])


def _by_scheme(modules: Iterable[Module]) -> list[tuple[str, list[Module]]]:
    """Modules by precision, the most bytes first; equal ones by name."""
    held: dict[str, list[Module]] = defaultdict(list)
    for module in modules:
        held[module.scheme].append(module)
    return sorted(held.items(), key=lambda item: (-sum(_bytes(m) for m in item[1]), item[0]))


def _grid(title: str, cells: dict[tuple[str, int], list[Module]], styles: Mapping[str, str]) -> Grid:
    layers = sorted({layer for _, layer in cells})
    first = {rest: held[0] for (rest, _), held in cells.items()}
    kinds = sorted(first, key=lambda kind: rank(kind, first[kind]))
    shown = kinds[:_MAX_ROWS]
    px = next((p for p, n in zip(_CELL_PX, _CELL_LAYERS, strict=False) if len(layers) <= n), _CELL_PX[-1])
    drawn, rows = [], []
    for number, kind in enumerate(shown):
        y = number * _ROW_PX
        runs = _runs([cells.get((kind, layer), []) for layer in layers], merge=px < _CELL_PX[1])
        drawn += [_cell(run, layers, px, y, kind, styles) for run in runs if run[2]]
        held = [m for layer in layers for m in cells.get((kind, layer), [])]
        rows.append(GridRow(kind, y, ", ".join(_times(s, len(m)) for s, m in _by_scheme(held))))
    every = max(1, math.ceil(len(layers) * 16 / max(1, len(layers) * px)))
    ticks = [
        (i * px + px // 2, str(layer))
        for i, layer in enumerate(layers)
        if i % (every * (5 if px < 17 else 1)) == 0
    ]
    more = len(kinds) - len(shown)
    return Grid(
        title=title,
        width=len(layers) * px,
        height=len(shown) * _ROW_PX,
        row_px=_ROW_PX,
        rows=tuple(rows),
        cells=tuple(drawn),
        lines=tuple(i * px for i in range(1, len(layers))),
        ticks=tuple(ticks),
        more=f"and {plural(more, 'more kind')} of modules" if more > 0 else "",
        label=f"Precision of {plural(len(layers), 'layer')} of {title or 'the model'}: "
        + "; ".join(f"{r.name} {r.made_of}" for r in rows[:12]),
    )


def _runs(row: Sequence[list[Module]], *, merge: bool) -> list[tuple[int, int, list[Module]]]:
    """The cells of a row: start, end, modules; neighbouring layers of equal precision as one where asked."""
    runs: list[tuple[int, int, list[Module]]] = []
    for i, held in enumerate(row):
        if merge and runs and _key(runs[-1][2]) == _key(held):
            runs[-1] = (runs[-1][0], i + 1, runs[-1][2])
        else:
            runs.append((i, i + 1, held))
    return runs


def _key(held: Sequence[Module]) -> tuple[tuple[str, float, bool], ...]:
    return tuple(sorted((m.scheme, round(m.stored_bits, 2), bool(m.problems)) for m in held))


def _cell(
    run: tuple[int, int, list[Module]],
    layers: Sequence[int],
    px: int,
    y: int,
    kind: str,
    styles: Mapping[str, str],
) -> Cell:
    start, end, held = run
    parts = _by_scheme(held)
    main, mixed = parts[0][0], len(parts) > 1
    where = f"layer {layers[start]}" if end - start == 1 else f"layers {layers[start]} to {layers[end - 1]}"
    made = ", ".join(
        f"{_times(scheme, len(m)) if len(held) > 1 else scheme}, {_span([x.stored_bits for x in m])} bits"
        for scheme, m in parts
    )
    text = _bits(held[0].weight_bits) if px >= 17 else ""
    wrong = [f"{m.name}: {p}" for m in held for p in m.problems]
    if wrong:  # as in the terminal, whatever the width
        text, made = (
            WRONG,
            f"{made}; {one_line(wrong[0])}" + (f" and {len(wrong) - 1} more" if wrong[1:] else ""),
        )
    return Cell(
        x=start * px,
        y=y,
        width=(end - start) * px,
        style=styles[main],
        other=styles[parts[1][0]] if mixed else "",
        other_px=max(5, round(_ROW_PX * len(parts[1][1]) / len(held))) if mixed else 0,
        text=text + (MIXED if text and mixed and not wrong else ""),
        title=f"{kind}, {where}: {made}",
    )


def _bytes(module: Module) -> float:
    return module.stored_bits * math.prod(module.shape or (0,)) / 8.0


def _times(scheme: str, count: int) -> str:
    return f"{scheme} \u00d7 {count}"


def _bits(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _span(values: Sequence[float]) -> str:
    low, high = _bits(min(values)), _bits(max(values))
    return low if low == high else f"{low} to {high}"
