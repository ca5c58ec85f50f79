"""The recommendation of a tuning study: a block on a terminal, and the JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from assay.core.recommendation import Change, Choice, Recommendation, Standing
from assay.report._view.text import one_line, percent, plain, plural
from assay.report.console import result_console

UNSET = "unset"
_STYLES = {
    Standing.RESOLVED: "bold green",
    Standing.TIED: "bold green",
    Standing.UNRESOLVED: "bold yellow",
    None: "bold red",
}
_SHOWN_ALTERNATES = 6
_LABEL = 12


def document(found: Recommendation) -> dict[str, Any]:
    """The recommendation for scripts: `schema: recommendation/1`."""
    return found.to_json()


def print_recommendation(
    found: Recommendation,
    stale: Sequence[Change] = (),
    console: Console | None = None,
    remarks: Sequence[str] = (),
) -> None:
    """The block: what to serve, how sure that is, the command, and what else there is.

    Args:
        found: the recommendation.
        stale: what changed since it was measured.
        console: where to; stdout if None.
        remarks: what a reader should know of how it was measured.
    """
    console = console or result_console()
    for text in block(found, stale, remarks):
        console.print(text, soft_wrap=True)


def block(found: Recommendation, stale: Sequence[Change] = (), remarks: Sequence[str] = ()) -> Iterator[Text]:
    """The lines of the block."""
    yield Text(word(found), style=_STYLES[found.standing]).append(f"  {found.run_id}", style="not bold dim")
    yield from (_line(label, value) for label, value in _rows(found))
    for change in stale:
        yield _line("stale", change.text, "yellow")
    for remark in remarks:
        yield _line("note", one_line(remark, 400), "yellow")
    # the last one tried is the closest to serving: without any that serves, its reason comes first
    for item in sorted(found.infeasible, key=lambda i: i.rank, reverse=found.recommendation is None):
        values = "".join(f" {k}={UNSET if v is None else one_line(v, 60)}" for k, v in item.settings.items())
        text = f"{item.rank}. {one_line(item.model)}{values}: {one_line(item.reason)}"
        yield _line("not served", text, "dim")
    chosen = found.recommendation
    if chosen is not None and chosen.serve_command:
        yield Text()
        yield Text("  " + plain(chosen.serve_command))


def word(found: Recommendation) -> str:
    """The headline word."""
    if found.recommendation is None:
        return f"NO RECOMMENDATION ({found.exit_reason.value})"
    partial = ", PARTIAL" if found.recommendation.partial else ""
    return f"RECOMMENDATION ({found.standing.value if found.standing else 'unknown'}{partial})"


def settings_text(choice: Choice) -> str:
    """The settings on one line; one that is left to the engine is `unset`."""
    values = dict(choice.settings) or {k: v for k, v in choice.knobs.to_json().items() if v is not None}
    if not values:
        return "all as the engine has them"
    return ", ".join(f"{k} {UNSET if v is None else one_line(v, 60)}" for k, v in values.items())


def speed_text(choice: Choice) -> str:
    """Throughput with its interval and what it rests on."""
    value = choice.tps if choice.tps is not None else choice.tps_median
    if value is None:
        return "not measured"
    text = f"{figure(value)} tok/s"
    if choice.tps_low is not None and choice.tps_high is not None:
        level = f", {percent(choice.level, 0)}" if choice.level is not None else ""
        text += f" ({figure(choice.tps_low)} to {figure(choice.tps_high)}{level})"
    spread = f" over {plural(choice.launches, 'launch', 'launches')}" if choice.launches else ""
    return f"{text}, {plural(choice.replicates, 'reading')}{spread}"


def gain_text(choice: Choice) -> str:
    """The gain over the default, from readings that chose nothing."""
    if choice.gain is None:
        return ""
    text = f"{_share(choice.gain)} over the default"
    if choice.gain_low is not None and choice.gain_high is not None:
        text += f" ({_share(choice.gain_low)} to {_share(choice.gain_high)})"
    return text


def latency_text(choice: Choice) -> str:
    """p95 TTFT, or that it is not known."""
    return (
        "not enough requests to bound it" if choice.ttft_p95_ms is None else milliseconds(choice.ttft_p95_ms)
    )


def figure(value: float) -> str:
    """A measured number with three digits."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{digits}f}"


def milliseconds(value: float) -> str:
    """A latency with three digits."""
    return f"{value / 1000:.2f} s" if value >= 9_999.5 else f"{figure(value)} ms"


def _rows(found: Recommendation) -> Iterator[tuple[str, str]]:
    chosen = found.recommendation
    if chosen is not None:
        yield "model", one_line(chosen.model)
        yield "settings", settings_text(chosen)
        yield "context", f"{chosen.target_context:,} tokens"
        yield "throughput", speed_text(chosen)
        if gain := gain_text(chosen):
            yield "gain", gain
        yield "TTFT p95", latency_text(chosen)
    if len(found.tie_set) > 1:
        label = "tied with" if found.standing is Standing.TIED else "close to it"
        yield label, ", ".join(n for n in found.tie_set if chosen is None or n != chosen.name)
    yield from _beside(found)
    if found.alternates:
        more = len(found.alternates) - _SHOWN_ALTERNATES
        names = ", ".join(one_line(n, 80) for n in found.alternates[:_SHOWN_ALTERNATES])
        yield "smaller", names + (f" and {more} more" if more > 0 else "")
    if found.recipe_hash:
        yield "recipe", found.recipe_hash


def _beside(found: Recommendation) -> Iterator[tuple[str, str]]:
    """Other answers from the same readings, where they differ."""
    chosen = found.recommendation
    for label, other in (("estimate", found.best_estimate), ("point rule", found.sequential_band)):
        if other is None:
            continue
        if chosen is not None and (other.model, other.settings) == (chosen.model, chosen.settings):
            yield label, "the same"
        else:
            yield label, f"{one_line(other.model)}, {settings_text(other)}: {speed_text(other)}"


def _line(label: str, value: str, style: str = "") -> Text:
    return Text(f"  {label:<{_LABEL}}", style="dim").append(value, style=style or "not dim default")


def _share(value: float) -> str:
    return ("+" if value > 0 else "") + percent(value, 0 if abs(value) >= 0.095 else 1)
