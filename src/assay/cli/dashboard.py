"""One frame of an experiment as a terminal shows it. All text of the experiment is set as text, never as markup."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.core.sizes import size
from assay.live.watch import Alert, Checkpoint, Frame, Metric, Progress
from assay.report._view.text import duration, one_line

SPARKS = "▁▂▃▄▅▆▇█"
SEVERITY = {"critical": ("✗", "bold red"), "warning": ("!", "yellow"), "info": ("i", "cyan")}
STATES = {
    "running": "bold cyan",
    "stopping": "bold yellow",
    "trained": "bold green",
    "evaluated": "bold green",
    "complete": "bold green",
    "planned": "dim",
}
METRICS_SHOWN = 12
ALERTS_SHOWN = 6
QUIET_S = 30.0


def picture(frame: Frame, width: int = 100, now_s: float | None = None) -> RenderableType:
    """The whole dashboard.

    Args:
        frame: what is shown.
        width: columns of the terminal.
        now_s: unix seconds that ages are counted from; None is now.
    """
    now_s = time.time() if now_s is None else now_s
    parts: list[RenderableType] = [_title(frame), _bar_line(frame.progress, frame, width)]
    if frame.metrics:
        parts += [Text(), _metrics(frame.metrics, width)]
    if frame.signals:
        parts.append(_signals(frame))
    if len(frame.loss) > 1:
        parts += [Text(), _loss(frame, width)]
    if frame.checkpoints:
        parts += [Text(), _checkpoints(frame.checkpoints, now_s)]
    if frame.alerts:
        parts += [Text(), _alerts(frame.alerts, width)]
    parts += [Text(f"! {line}", style="dim yellow") for line in frame.problems]
    return Group(*parts)


def footer(frame: Frame, width: int) -> RenderableType:
    """Three lines below a scrolling log: progress, the newest numbers, open alerts."""
    numbers = Text("  ")
    for metric in frame.metrics[:6]:
        part = (
            Text()
            .append(f"{one_line(metric.name, 24)} ", style="dim")
            .append_text(_current(metric))
            .append("   ")
        )
        if len(numbers) + len(part) > width - 44:
            break
        numbers.append_text(part)
    if (lr := frame.signals.get("lr")) is not None:
        numbers.append("lr ", style="dim").append(f"{lr:.2e}")
    numbers.append("  ").append(sparkline(frame.loss, 24), style="cyan")
    parts: list[RenderableType] = [_bar_line(frame.progress, frame, width), numbers]
    still = [a for a in frame.alerts if a.state == "open"]
    if still:
        parts.append(_alert(still[0], width))
    return Group(*parts)


def plain_line(frame: Frame) -> str:
    """Progress and the newest numbers as one line without colours, for a log."""
    progress = frame.progress
    total = f"/{progress.total}" if progress.total else ""
    share = f" ({progress.share:.0%})" if progress.share is not None else ""
    parts = [f"{progress.unit} {progress.done}{total}{share}"]
    for metric in frame.metrics[:4]:
        best = f" (best {value(metric.best)})" if metric.best is not None else ""
        parts.append(f"{one_line(metric.name, 24)} {_current(metric)}{best}")
    course = sparkline(frame.loss, 16)
    if course:
        parts.append(course)
    if progress.eta_s is not None:
        parts.append(f"about {duration(progress.eta_s)} to go")
    return ", ".join(parts)


def value(number: float | None) -> str:
    """A metric with the digits that matter."""
    if number is None:
        return "—"
    if number and (abs(number) < 1e-3 or abs(number) >= 1e6):
        return f"{number:.3e}"
    return f"{number:.4f}" if abs(number) < 100 else f"{number:,.2f}"


def sparkline(values: Sequence[float], width: int) -> str:
    """The course of a metric in `width` blocks; each shows the mean of its stretch."""
    known = [v for v in values if math.isfinite(v)]
    if not known or width < 1:
        return ""
    count = min(width, len(known))
    means = []
    for i in range(count):
        part = known[i * len(known) // count : (i + 1) * len(known) // count]
        means.append(sum(v / len(part) for v in part))
    low, high = min(means), max(means)
    span = high - low
    # Means of one and the same number differ in their last bit.
    if not (span > 1e-12 * max(abs(low), abs(high)) and math.isfinite(span)):
        return SPARKS[3] * count
    return "".join(SPARKS[min(7, int((m - low) / span * 8))] for m in means)


def _title(frame: Frame) -> Text:
    text = Text()
    text.append(frame.experiment, style="bold")
    if frame.name and frame.name != frame.experiment:
        text.append(f"  {one_line(frame.name, 60)}")
    text.append("  ").append(frame.state, style=STATES.get(frame.state, "bold red"))
    if frame.detail:
        text.append(f" ({one_line(frame.detail, 100)})", style="dim")
    if frame.attempts > 1:
        text.append(f"  attempt {frame.attempt}", style="dim")
    if frame.parent:
        text.append(f"  child of {one_line(frame.parent, 30)}", style="dim")
    if frame.hypothesis:
        text.append(f"\n{one_line(frame.hypothesis, 160)}", style="italic dim")
    return text


def _bar_line(progress: Progress, frame: Frame, width: int) -> Text:
    text = Text()
    room = max(10, min(40, width - 62))
    if progress.share is not None:
        filled = round(room * progress.share)
        text.append("━" * filled, style="cyan").append("━" * (room - filled), style="bright_black")
        text.append(f" {progress.share:4.0%} ")
    unit = progress.unit if progress.total == 1 else progress.unit + "s"
    total = f"/{progress.total:,}" if progress.total else ""
    text.append(f" {progress.done:,}{total} {unit}")
    if progress.unit == "step" and frame.epoch is not None:
        text.append(f", epoch {frame.epoch:g}" + (f" of {frame.epochs}" if frame.epochs else ""), style="dim")
    if progress.per_s:
        pace = f"{progress.per_s:.1f}/s" if progress.per_s >= 0.1 else f"{duration(1 / progress.per_s)} each"
        text.append(f"  {pace}", style="dim")
    if frame.elapsed_s is not None:
        text.append(f"  elapsed {duration(frame.elapsed_s)}", style="dim")
    if progress.eta_s is not None:
        text.append(f"  about {duration(progress.eta_s)} to go")
    if frame.quiet_s is not None and frame.quiet_s > QUIET_S:
        text.append(f"  silent for {duration(frame.quiet_s)}", style="yellow")
    return text


def _metrics(metrics: Sequence[Metric], width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=30, overflow="ellipsis", no_wrap=True)
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row(*(Text(t, style="dim") for t in ("metric", "now", "best", "target", "")))
    for metric in metrics[:METRICS_SHOWN]:
        best = Text(value(metric.best))
        if metric.best is not None and metric.best_step is not None:
            best.append(f" @{metric.best_step:g}", style="dim")
        target = Text("")
        if metric.target is not None:
            sign = "≤" if metric.direction == "min" else "≥"
            target = Text(f"{sign} {value(metric.target)}", style="green" if metric.met else "")
            target.append(" ✓" if metric.met else "")
        elif metric.target_text:
            target = Text(f"{one_line(metric.target_text, 24)} ?", style="yellow")
        name = Text(one_line(metric.name, 40), style="bold" if metric.primary else "")
        table.add_row(
            name,
            _current(metric),
            best,
            target,
            Text(sparkline(metric.course, max(8, min(24, width - 76))), style="cyan"),
        )
    if len(metrics) > METRICS_SHOWN:
        return Group(table, Text(f"and {len(metrics) - METRICS_SHOWN} more", style="dim"))
    return table


def _current(metric: Metric) -> Text:
    if metric.current_text:
        bad = metric.current_text in ("nan", "inf", "-inf")
        return Text(one_line(metric.current_text, 16), style="bold red" if bad else "yellow")
    return Text(value(metric.current))


def _signals(frame: Frame) -> Text:
    shown = Text()
    known = frame.signals
    for name, label in (("lr", "lr"), ("grad_norm", "grad norm"), ("update_ratio", "update/weight")):
        if name in known:
            shown.append(f"{label} ", style="dim").append(f"{known[name]:.2e}   ")
    if "rss_bytes" in known:
        shown.append("memory ", style="dim").append(f"{size(known['rss_bytes'])}   ")
    if "device_bytes" in known:
        shown.append("device ", style="dim").append(f"{size(known['device_bytes'])}   ")
    elif "device_mb" in known:
        shown.append("device ", style="dim").append(f"{known['device_mb']:,.0f} MB   ")
    if known.get("step_s"):
        wait = known.get("data_wait_s", 0.0)
        shown.append("step ", style="dim").append(f"{known['step_s'] * 1000:.1f} ms")
        if wait > 0:
            shown.append(f" ({wait / max(known['step_s'], wait):.0%} waiting for data)", style="dim")
    return shown


def _loss(frame: Frame, width: int) -> Text:
    text = Text(f"{one_line(frame.loss_name, 24)}  ", style="dim")
    room = max(10, min(72, width - len(text) - 26))
    text.append(sparkline(frame.loss, room), style="cyan")
    return text.append(f"  {value(max(frame.loss))} … {value(frame.loss[-1])}", style="dim")


def _checkpoints(checkpoints: Sequence[Checkpoint], now_s: float) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for checkpoint in reversed(checkpoints):
        if checkpoint.failed:
            mark = Text(f"✗ {one_line(checkpoint.failed, 50)}", style="bold red")
        elif checkpoint.verified:
            mark = Text(f"✓ {checkpoint.verified}", style="green")
        else:
            mark = Text("· not verified", style="dim")
        age = f"{duration(now_s - checkpoint.at_s)} ago" if checkpoint.at_s is not None else ""
        table.add_row(
            Text(one_line(checkpoint.name, 40)),
            Text(f"epoch {checkpoint.epoch:g}" if checkpoint.epoch is not None else "", style="dim"),
            mark,
            _reason(checkpoint),
            Text(age, style="dim"),
        )
    return table


def _reason(checkpoint: Checkpoint) -> Text:
    if checkpoint.best:
        return Text("best", style="bold")
    return Text(
        "best until then" if checkpoint.reason == "best" else one_line(checkpoint.reason, 20), style="dim"
    )


def _alerts(alerts: Sequence[Alert], width: int) -> RenderableType:
    parts = [_alert(a, width) for a in alerts[:ALERTS_SHOWN]]
    if len(alerts) > ALERTS_SHOWN:
        parts.append(Text(f"and {len(alerts) - ALERTS_SHOWN} more alerts", style="dim"))
    return Group(*parts)


def _alert(alert: Alert, width: int) -> Text:
    sign, style = SEVERITY.get(alert.severity, ("!", "magenta"))
    still = alert.state == "open"
    tail = f" (also {', '.join(one_line(j, 30) for j in alert.joined)})" if alert.joined else ""
    head = f"{sign} {one_line(alert.name, 40)}"
    where = f" at step {alert.first_step:g}" if alert.first_step is not None else ""
    where += "" if still else ", resolved"
    room = max(30, width - len(head) - len(where) - len(tail) - 3)
    text = Text(head, style=style if still else "dim")
    text.append(f"{where}: {one_line(alert.text, room)}")
    text.append(tail, style="dim")
    if still and alert.action:
        text.append(f"\n  {one_line(alert.action, 160)}", style="dim")
    return text
