"""The precision of every weight as a picture for terminals: layers across, modules down, one sign for each precision.

The HTML report draws the same in `_view/release/precision.py`; `_view/release/stacks.py` says where each module stands
in both.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from assay.core.checkpoint import Checkpoint, Module
from assay.report._view.release.stacks import MIXED, WRONG, place, rank

_COLOURS: Mapping[int, str] = {
    1: "bright_magenta", 2: "magenta", 3: "red", 4: "green", 5: "cyan", 6: "blue", 8: "yellow", 16: "white",
    32: "bright_white",
}  # fmt: skip
"""Bits → terminal colour."""
_PLAIN = {"BF16": ".", "F16": ",", "F32": ":", "F64": ";"}
_MAX_ROWS = 48
_MAX_SINGLES = 16
_MAX_LAYERS = 160


@dataclass(frozen=True)
class Row:
    """One kind of module over the layers of a stack."""

    name: str
    cells: Mapping[int, tuple[Module, ...]]
    """Layer → its modules of that kind; experts share a cell."""


@dataclass(frozen=True)
class Stack:
    """Layers that are numbered together."""

    name: str
    layers: tuple[int, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Picture:
    """What is drawn."""

    stacks: tuple[Stack, ...]
    singles: tuple[Module, ...]
    signs: Mapping[str, str]
    """Scheme → its sign."""


def picture(checkpoint: Checkpoint) -> Picture:
    """Modules by stack, kind and layer."""
    cells: dict[str, dict[str, dict[int, list[Module]]]] = {}
    singles: list[Module] = []
    for module in checkpoint.modules:
        stack, layer, kind = place(module.name)
        if layer is None:
            singles.append(module)
        else:
            kinds = cells.setdefault(stack, {})
            kinds.setdefault(kind, {}).setdefault(layer, []).append(module)
    stacks = tuple(
        Stack(
            name,
            tuple(sorted({layer for row in kinds.values() for layer in row})),
            tuple(
                Row(kind, {layer: tuple(held) for layer, held in kinds[kind].items()})
                for kind in sorted(kinds, key=lambda k: rank(k, next(iter(kinds[k].values()))[0]))
            ),
        )
        for name, kinds in cells.items()
    )
    return Picture(stacks, tuple(singles), signs(checkpoint.modules))


def signs(modules: Sequence[Module]) -> dict[str, str]:
    """A digit for the bits of each scheme, letters where several have the same, dots for plain floats."""
    found = {m.scheme: m.weight_bits for m in modules}
    times = Counter(m.scheme for m in modules)
    used: Counter[str] = Counter()
    result: dict[str, str] = {}
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    for scheme in sorted(found, key=lambda s: (found[s], -times[s], s)):
        if scheme in _PLAIN:
            result[scheme] = _PLAIN[scheme]
            continue
        digit = str(max(1, min(9, round(found[scheme]))))
        result[scheme] = digit if not used[digit] else next(letters, "?")
        used[digit] += 1
    return result


def render(checkpoint: Checkpoint, *, width: int = 120) -> Iterator[Text]:
    """The picture, line by line.

    Args:
        checkpoint: its modules.
        width: columns of the terminal.
    """
    drawn = picture(checkpoint)
    yield from _legend(checkpoint, drawn)
    for stack in drawn.stacks:
        yield Text()
        yield from _stack(stack, drawn.signs, width)
    if drawn.singles:
        yield Text()
        name = max(len(_short(m.name)) for m in drawn.singles[:_MAX_SINGLES])
        for module in drawn.singles[:_MAX_SINGLES]:
            text = f"  {_short(module.name):<{name}}  {_shape(module)}  "
            yield Text(text).append(f"{module.scheme}, {_bits(module.stored_bits)} bits", _style(module))
        if len(drawn.singles) > _MAX_SINGLES:
            yield Text(f"  and {len(drawn.singles) - _MAX_SINGLES} more outside of layers", "dim")


def _legend(checkpoint: Checkpoint, drawn: Picture) -> Iterator[Text]:
    held: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    styles: dict[str, str] = {}
    for module in checkpoint.modules:
        sums = held[module.scheme]
        count = math.prod(module.shape)
        sums[0] += 1
        sums[1] += count
        sums[2] += module.stored_bits * count / 8
        if module.scheme not in styles:
            styles[module.scheme] = _style(module)
    total = sum(s[2] for s in held.values()) or 1.0
    for scheme, (modules, weights, size) in sorted(held.items(), key=lambda item: -item[1][2]):
        bits = _bits(8 * size / weights) if weights else "?"
        line = Text("  ").append(drawn.signs[scheme], styles[scheme]).append(f"  {scheme:<9}", styles[scheme])
        yield line.append(f"{bits:>6} bits  {int(modules):>7} modules  {size / total:>6.1%} of the bytes")
    if any(m.problems for m in checkpoint.modules):
        yield Text("  ").append(WRONG, "bold red").append("  a module whose tensors are not in order")


def _stack(stack: Stack, signs_: Mapping[str, str], width: int) -> Iterator[Text]:
    shown = stack.rows[:_MAX_ROWS]
    name = min(44, max([len(_short(stack.name)) - 2, *(len(_short(r.name)) for r in shown)], default=0))
    layers = stack.layers[:_MAX_LAYERS]
    step = max(10, width - name - 4)
    for start in range(0, len(layers), step):
        part = layers[start : start + step]
        title = _short(stack.name) if start == 0 else ""
        yield Text(f"{title:<{name + 4}}", "bold").append(_ruler(part), "dim")
        for row in shown:
            line = Text(f"  {_short(row.name, name):<{name}}  ")
            for layer in part:
                sign, style = _cell(row.cells.get(layer, ()), signs_)
                line.append(sign, style)
            line.rstrip()
            yield line
    if len(stack.rows) > _MAX_ROWS:
        yield Text(f"  and {len(stack.rows) - _MAX_ROWS} more kinds of modules", "dim")
    if len(stack.layers) > _MAX_LAYERS:
        yield Text(f"  and {len(stack.layers) - _MAX_LAYERS} more layers", "dim")


def _cell(held: Sequence[Module], signs_: Mapping[str, str]) -> tuple[str, str]:
    if not held:
        return " ", ""
    if any(m.problems for m in held):
        return WRONG, "bold red"
    first = held[0]
    if any(m.scheme != first.scheme for m in held):
        return MIXED, "bold"
    return signs_[first.scheme], _style(first)


def _ruler(layers: Sequence[int]) -> str:
    """Every tenth layer's number, above its column."""
    marks = [" "] * (len(layers) + 6)
    for i, layer in enumerate(layers):
        if layer % 10 == 0 or i == 0:
            marks[i : i + len(str(layer))] = str(layer)
    return "".join(marks[: len(layers) + 6]).rstrip()


def _style(module: Module) -> str:
    near = min(_COLOURS, key=lambda b: abs(b - module.weight_bits))
    return _COLOURS[near]


def _shape(module: Module) -> str:
    return "x".join(map(str, module.shape)) or "scalar"


def _bits(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _short(name: str, limit: int = 60) -> str:
    """A name from a file: nothing that a terminal would obey, and not endless."""
    text = "".join(c if c.isprintable() else "?" for c in name[: limit + 1])
    return text if len(text) <= limit else "..." + text[-(limit - 3) :]
