"""The first screen of a tuning study: its word, what to serve, how sure that is, and a few numbers."""

from __future__ import annotations

from assay.core.recommendation import Choice, ExitReason, Recommendation, Standing
from assay.core.tuning_record import TuningRecord
from assay.report import recommendation as told
from assay.report._view.first_screen import Figure, Headline
from assay.report._view.marks import Mark
from assay.report._view.text import duration, instant, one_line, percent, plain, plural
from assay.report._view.tuning.map import short_settings

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


def headline(record: TuningRecord) -> Headline:
    """The first screen, in whatever state the study is.

    Args:
        record: what was tried.
    """
    found = record.recommendation
    return Headline(
        mark=_mark(found),
        text=_text(found),
        lead=_lead(found),
        notes=(),
        command=plain(found.recommendation.serve_command) if found.recommendation else "",
        command_why="",
        figures=_figures(record),
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


def _text(found: Recommendation) -> str:
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
