"""Curves of a training: metrics over steps as inline SVG can draw them, with what happened marked on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from assay.core.sizes import size
from assay.live.watch import Alert, Curve, Story
from assay.report._view.axis import Axis, Tick, with_ticks
from assay.report._view.marks import Tone
from assay.report._view.text import MINUS, duration, number, one_line

BOX = 1000.0
"""The curve is drawn in a square of this side and stretched to its place."""
LOG_SPREAD = 50.0
"""Positive values that span more than this are drawn on a logarithmic axis."""
CHARTS_LIMIT = 24
LARGEST = 1e300
"""Beyond it a value is drawn at the edge: the axis itself must not overflow."""
SMALLEST = 1e-280
MILLI, MILLION = 1e-3, 1e6
"""Between them a figure stands without a power of ten."""
ZERO_FRAC = 1e-4
"""Of an axis' span: far below any gap between its ticks."""
Reading = Callable[[float], str]
TONES: dict[str, Tone] = {"critical": "bad", "warning": "open", "info": "idle"}
_SPLITS = ("train", "training", "val", "valid", "validation", "eval", "test")


@dataclass(frozen=True)
class Line:
    """One metric in a chart."""

    name: str
    style: str
    """`line-1`, `line-2`, ...: colour and dash."""
    points: str
    """For a polyline in the box."""
    dots: tuple[tuple[float, float], ...]
    """Percent from left and top; drawn where there are so few values that a line would hide them."""
    last: str
    best: str
    """With its step; empty where nothing is best."""
    best_at: tuple[float, float] | None


@dataclass(frozen=True)
class Incident:
    """An alert on the axis of steps."""

    x: float
    """Percent."""
    tone: Tone
    label: str
    title: str


@dataclass(frozen=True)
class Chart:
    """Metrics that are read together."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    """`at` is percent from the top."""
    log: bool
    incidents: tuple[Incident, ...]
    checkpoints: tuple[tuple[float, str, str], ...]
    """Percent, style (`verified`, `failed`, `unproven`), name."""
    starts: tuple[tuple[float, str], ...]
    """Where a resumed attempt began: percent and text."""
    nonfinite: tuple[tuple[float, str], ...]
    """Values that are no number: percent and text."""
    target: float | None
    """Percent from the top."""
    target_label: str
    label: str
    """For those who cannot see it."""


def charts(story: Story) -> tuple[Chart, ...]:
    """One chart a quantity, training and validation together; the primary metric's first."""
    primary, target, text = story.primary()
    groups: dict[str, list[Curve]] = {}
    for curve in story.curves.values():
        if curve.points or curve.nonfinite:
            groups.setdefault(_quantity(curve.name), []).append(curve)
    ordered = sorted(groups.values(), key=lambda held: not any(c.name == primary for c in held))
    steps = _steps(story)
    return tuple(
        _chart(held, story, steps, target if any(c.name == primary for c in held) else None, text)
        for held in ordered[:CHARTS_LIMIT]
    )


def signal_charts(story: Story) -> tuple[Chart, ...]:
    """Learning rate, gradient norm, update ratio, step time, memory: what the tracker saw beside the metrics."""
    wanted = (
        ("lr",),
        ("grad_norm",),
        ("grad_rms_first", "grad_rms_last"),
        ("update_ratio",),
        ("step_s", "data_wait_s"),
        ("rss_bytes", "device_bytes"),
    )
    steps = _steps(story)
    found = []
    for names in wanted:
        held = [story.signal_curves[n] for n in names if n in story.signal_curves]
        if any(len(c.points) > 1 for c in held):
            found.append(_chart(held, story, steps, None, "", marks=False))
    return tuple(found)


def _quantity(name: str) -> str:
    """The name without the split that it was measured on: `train/loss` and `val_loss` are one quantity."""
    words = [w for w in name.replace("/", "_").replace(".", "_").replace("-", "_").split("_") if w]
    return "_".join(w for w in words if w.lower() not in _SPLITS) or name


def _steps(story: Story) -> Axis:
    known = [
        p[0]
        for c in (*story.curves.values(), *story.signal_curves.values())
        for p in (*c.points, *c.nonfinite)
    ]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if story.total_steps and story.step is not None and story.step <= story.total_steps <= 3 * story.step:
        high = max(high, float(story.total_steps))
    return with_ticks(low, high if high > low else low + 1.0, 6)


def _chart(
    curves: Sequence[Curve],
    story: Story,
    steps: Axis,
    target: float | None,
    target_text: str,
    *,
    marks: bool = True,
) -> Chart:
    values = [v for c in curves for _, v in c.points]
    if target is not None:
        values.append(target)
    say = reading_of(curves[0].name)
    scale = _Scale.over(values, say)
    lines = tuple(_line(c, i, steps, scale, say) for i, c in enumerate(curves))
    return Chart(
        title=" and ".join(one_line(c.name, 60) for c in curves),
        lines=lines,
        x_ticks=steps.ticks,
        y_ticks=scale.ticks,
        log=scale.log,
        incidents=tuple(incidents(story.alerts.values(), steps)) if marks else (),
        checkpoints=_checkpoints(story, steps) if marks else (),
        starts=_starts(story, steps),
        nonfinite=tuple(
            (steps.at(x), f"{one_line(c.name, 40)} is {w} at step {x:g}")
            for c in curves
            for x, w in c.nonfinite
        ),
        target=scale.at(target) if target is not None else None,
        target_label=target_text,
        label=". ".join(
            f"{line.name}: last {line.last}" + (f", best {line.best}" if line.best else "") for line in lines
        ),
    )


def incidents(alerts: Iterable[Alert], steps: Axis) -> Iterable[Incident]:
    """Alerts that have a step within the axis."""
    for alert in alerts:
        at = alert.first_step if alert.first_step is not None else alert.step
        if at is not None and steps.holds(at):
            text = f"{alert.severity}: {alert.name} at step {at:g}, {alert.state}. {alert.text}"
            yield Incident(
                steps.at(at), TONES.get(alert.severity, "odd"), one_line(alert.name, 40), one_line(text)
            )


def _line(curve: Curve, index: int, steps: Axis, scale: _Scale, say: Reading) -> Line:
    placed = [(steps.at(x), scale.at(y)) for x, y in curve.points]
    points = " ".join(f"{x * BOX / 100:.1f},{y * BOX / 100:.1f}" for x, y in placed)
    best = ""
    best_at = None
    if curve.best is not None:
        best = f"{say(curve.best)} at step {number(curve.best_step)}"
        best_at = (steps.at(curve.best_step), scale.at(curve.best))
    return Line(
        name=one_line(curve.name, 60),
        style=f"line-{index % 4 + 1}",
        points=points,
        dots=tuple(placed) if len(placed) <= 40 else (),
        last=say(curve.current) if curve.current is not None else curve.current_text or "none",
        best=best,
        best_at=best_at,
    )


def _checkpoints(story: Story, steps: Axis) -> tuple[tuple[float, str, str], ...]:
    found = []
    for checkpoint in story.checkpoints.values():
        if checkpoint.step is not None and steps.holds(checkpoint.step):
            style = "failed" if checkpoint.failed else "verified" if checkpoint.verified else "unproven"
            found.append((steps.at(checkpoint.step), style, one_line(checkpoint.name, 60)))
    return tuple(found[-200:])


def _starts(story: Story, steps: Axis) -> tuple[tuple[float, str], ...]:
    return tuple(
        (steps.at(a.resumed_step), f"attempt {a.number}")
        for a in story.attempts.values()
        if a.resumed_step is not None and steps.holds(a.resumed_step)
    )


@dataclass(frozen=True)
class _Scale:
    """The vertical axis, linear or logarithmic; percent are counted from the top."""

    axis: Axis
    log: bool
    ticks: tuple[Tick, ...]

    @classmethod
    def over(cls, values: Sequence[float], say: Reading) -> _Scale:
        """An axis that shows all values."""
        known = [min(LARGEST, max(-LARGEST, v)) for v in values if math.isfinite(v)]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        if low > 0 and high / low > LOG_SPREAD:
            return cls._decades(math.log10(low), math.log10(high))
        if not high - low > max(1e-12 * max(abs(high), abs(low)), SMALLEST):
            room = abs(high) * 0.1 if abs(high) > SMALLEST else 0.5
            low, high = low - room, high + room
        if say is size and high - low < 0.2 * high:
            low, high = 0.9 * low, 1.1 * high  # a breath of the allocator is no mountain
        room = 0.06 * (high - low)
        axis = with_ticks(low - room, high + room, 4)
        return cls(axis, False, tuple(Tick(100.0 - t.at, t.label) for t in _read(axis, say)))

    @classmethod
    def _decades(cls, low: float, high: float) -> _Scale:
        room = 0.04 * (high - low)
        axis = Axis(low - room, high + room)
        first, last = math.ceil(axis.low), math.floor(axis.high)
        each = max(1, math.ceil((last - first + 1) / 6))
        ticks = tuple(Tick(100.0 - axis.at(k), figure(10.0**k)) for k in range(first, last + 1, each))
        return cls(axis, True, ticks)

    def at(self, value: float) -> float:
        """Percent from the top."""
        if self.log:
            return self.axis.from_top(math.log10(value)) if value > 0 else 100.0
        return self.axis.from_top(value)


def _read(axis: Axis, say: Reading) -> tuple[Tick, ...]:
    """The axis' ticks as a person reads them; two of them never read the same."""
    span, top = axis.high - axis.low, max(abs(axis.low), abs(axis.high))
    short = MILLI <= top < MILLION
    if short and say is figure:
        return axis.ticks
    values = [axis.low + t.at / 100 * span for t in axis.ticks]
    # A tick's place is rounded: what lies so near to zero is zero.
    said = [say(0.0 if abs(v) < ZERO_FRAC * span else v) for v in values]
    if len(set(said)) < len(said):
        if short:
            return axis.ticks
        gap = math.floor(math.log10((values[-1] - values[0]) / (len(values) - 1) * (1 + 1e-3)))
        said = [_power(round(v / 10.0**gap), gap) for v in values]
    return tuple(Tick(t.at, label) for t, label in zip(axis.ticks, said, strict=True))


def _power(units: int, place: int) -> str:
    """`units` times ten to the power of `place`, with all its digits: 100001, 0 → 1.00001e5."""
    digits = str(abs(units))
    mantissa = f"{digits[0]}.{digits[1:]}".rstrip("0").rstrip(".")
    sign = MINUS if units < 0 else ""
    return f"{sign}{mantissa}e{place + len(digits) - 1}".replace("-", MINUS) if units else "0"


def reading_of(name: str) -> Reading:
    """How values of that name are read: bytes, seconds, or plain numbers."""
    if name.endswith("_bytes"):
        return size
    return _seconds if name.endswith("_s") else figure


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if abs(value) < 1 else duration(value)


def figure(value: float) -> str:
    """A metric with the digits that matter."""
    if value == 0:
        return "0"
    if abs(value) < MILLI or abs(value) >= MILLION:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", MINUS)
    shown = f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return shown.replace("-", MINUS)
