"""From records to a load point: throughput, latencies with what they rest on, service levels, and what it is worth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assay.core.load import (
    ClientHealth,
    Latency,
    LevelResult,
    LoadPoint,
    Metric,
    Percentile,
    PointPlan,
    PointState,
    RequestError,
    RequestRecord,
    ServiceLevels,
    TokenSource,
)
from assay.load.futility import INFEASIBLE
from assay.stats.percentiles import PercentileClaim, clustered_percentile_claim, limit_test, percentile_claim

QUANTILES = (0.5, 0.9, 0.95, 0.99)
MOST_CPU_FRAC = 0.8
"""Of one core. Beyond it the client is what limits (Triton's Model Analyzer draws the same line)."""
MOST_LAG_FRAC = 0.05
"""Largest p99 of our own lateness, as a share of the tightest limit, or of the median answer without limits."""
LEAST_LAG_MS = 1.0
"""Lateness below this is never held against a point."""
CACHE_SLACK_FRAC = 0.05
CACHE_SLACK_TOKENS = 16
"""Prompt tokens of a request that may be cached though the prompt is new: a chat template's beginning."""
ENDED = "stop"
"""Finish reason of an answer that the model itself ended: nothing cut it off."""
MOST_WORDS = 160
"""Characters of a server's own words in a reason."""
LENGTH_SLACK_FRAC = 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Circumstances:
    """What the records do not hold."""

    plan: PointPlan
    started: str
    wall_s: float
    stopped_by: str
    offered_rps: float | None = None
    client: ClientHealth | None = None
    shared_prefix_frac: float = 0.0
    turns: int = 1
    warmup: int | None = None
    """Requests left out, where they have no record."""
    leaks: tuple[str, ...] = ()
    """Stop tokens that came as text, one for each such answer."""


def summarize(
    records: Sequence[RequestRecord], levels: ServiceLevels, circumstances: Circumstances
) -> LoadPoint:
    """Sum up a point. Records of warm-up requests count for the throughput window only."""
    measured = [r for r in records if not r.warmup and r.error is not RequestError.CANCELLED]
    good = [r for r in measured if r.ok]
    window = _window(records, circumstances)
    tokens, done, flight = _within(records, window)
    seconds = window.end - window.start
    sources = [r.token_source for r in good if r.token_source is not None]
    state, reasons = _state(measured, good, levels, circumstances)
    latencies = () if state in (PointState.SATURATED, PointState.CLIENT_LIMITED) else tuple(_latencies(good))
    results = _level_results(measured, levels) if state in (PointState.VALID, PointState.PARTIAL) else ()
    kept = sum(_keeps(r, levels) for r in measured) if levels.levels else None
    prompt = sum(r.prompt_tokens or r.prompt_target for r in good)
    output = sum(r.output_tokens or 0 for r in good)
    rate = tokens / seconds if good and seconds > 0 else None
    cached = [r.cached_tokens for r in good if r.cached_tokens is not None]
    failures = [r for r in measured if not r.ok]
    first = _column(r.first_s - r.sent_s for r in good if r.first_s is not None and r.sent_s is not None)
    return LoadPoint(
        plan=circumstances.plan,
        state=state,
        reasons=tuple(reasons),
        remarks=(*_remarks(records, good, circumstances.client), *_leaks(circumstances.leaks)),
        stopped_by=circumstances.stopped_by,
        started=circumstances.started,
        wall_s=circumstances.wall_s,
        window_s=seconds,
        window=window.kind,
        sent=len(measured),
        completed=len(good),
        failed=len(failures),
        warmup=sum(r.warmup for r in records) if circumstances.warmup is None else circumstances.warmup,
        offered_rps=circumstances.offered_rps,
        achieved_rps=done / seconds if good and seconds > 0 else None,
        in_flight_mean=flight / seconds if seconds > 0 else None,
        prompt_tokens=prompt,
        cached_tokens=sum(cached) if cached else None,
        output_tokens=output,
        token_source=max(sources, key=list(TokenSource).index) if sources else None,
        output_tps=rate,
        total_tps=rate * (1 + prompt / output) if rate is not None and output else None,
        latencies=latencies,
        ttft_from_send_p50_ms=float(np.median(first)) * 1e3 if first.size and latencies else None,
        itl_per_token=bool(good) and all(r.output_tokens == r.chunks for r in good),
        short_outputs=sum(_short(r) and r.finish_reason != ENDED for r in good),
        levels=results,
        good=kept,
        goodput_rps=_goodput(measured, levels, seconds, done),
        errors=dict(Counter(r.error for r in failures if r.error is not None).most_common()),
        error_texts=tuple(t for t, _ in Counter(r.detail for r in failures if r.detail).most_common(3)),
        client=circumstances.client,
    )


@dataclass(frozen=True)
class _Window:
    start: float
    end: float
    kind: Literal["steady", "whole"]


def _window(records: Sequence[RequestRecord], circumstances: Circumstances) -> _Window:
    """The time in which requests kept coming: from the first measured one sent to the last one sent.

    Before and after, fewer than the wanted number are in flight. If that is less than half of the time, the point
    was too short for it, and the ramps are part of the figure.
    """
    measured = [r for r in records if not r.warmup and r.sent_s is not None]
    starts = [r.sent_s for r in measured if r.sent_s is not None]
    if not starts:
        return _Window(0.0, circumstances.wall_s, "whole")
    start, last = min(starts), max(starts)
    end = max(r.end_s if r.end_s is not None else 0.0 for r in measured)
    if circumstances.plan.duration_s is not None and circumstances.stopped_by == "duration":
        last = start + circumstances.plan.duration_s
    if last - start >= 0.5 * (end - start) > 0:
        return _Window(start, min(last, end), "steady")
    return _Window(start, end if end > start else circumstances.wall_s, "whole")


def _within(records: Sequence[RequestRecord], window: _Window) -> tuple[float, int, float]:
    """Output tokens that came, requests that ended well, and seconds of requests in flight, within a window."""
    tokens, done, flight = 0.0, 0, 0.0
    for record in records:
        if record.warmup and window.kind == "whole":
            continue
        if record.sent_s is not None and record.end_s is not None:
            flight += max(0.0, min(record.end_s, window.end) - max(record.sent_s, window.start))
        if record.ok and record.end_s is not None and window.start < record.end_s <= window.end:
            done += 1
        if record.ok and record.output_tokens and record.first_s is not None and record.last_s is not None:
            if window.start <= record.first_s and record.last_s <= window.end:
                tokens += record.output_tokens
            else:
                tokens += record.output_tokens * _share(record, window)
    return tokens, done, flight


def _share(record: RequestRecord, window: _Window) -> float:
    """Which share of an answer's pieces came within the window."""
    assert record.first_s is not None
    assert record.last_s is not None
    if record.gaps_ms:
        at = record.first_s + np.concatenate([[0.0], np.cumsum(record.gaps_ms)]) / 1e3
        return float(((at >= window.start) & (at <= window.end)).mean())
    if record.last_s <= record.first_s:
        return float(window.start <= record.first_s <= window.end)
    inside = min(record.last_s, window.end) - max(record.first_s, window.start)
    return max(0.0, inside) / (record.last_s - record.first_s)


def _latencies(good: Sequence[RequestRecord]) -> Iterator[Latency]:
    for metric in (Metric.TTFT, Metric.TPOT, Metric.E2E):
        values = _column(v for r in good if (v := r.latency_ms(metric)) is not None)
        if values.size:
            yield _latency(metric, values, [percentile_claim(values, q) for q in QUANTILES])
    sizes = [len(r.gaps_ms) for r in good]
    if sum(sizes):
        gaps = np.concatenate([np.asarray(r.gaps_ms, dtype=np.float64) for r in good])
        owners = np.repeat(np.arange(len(good), dtype=np.float64), sizes)
        yield _latency(Metric.ITL, gaps, [clustered_percentile_claim(gaps, owners, q) for q in QUANTILES])


def _latency(metric: Metric, values: Floats, claims: Sequence[PercentileClaim]) -> Latency:
    return Latency(
        metric=metric,
        n=int(values.size),
        mean_ms=float(values.mean()),
        min_ms=float(values.min()),
        max_ms=float(values.max()),
        percentiles=tuple(
            Percentile(q=c.q, value_ms=c.estimate, low_ms=c.lower, high_ms=c.upper, n=c.n, needed=c.needed)
            for c in claims
        ),
    )


def _level_results(measured: Sequence[RequestRecord], levels: ServiceLevels) -> tuple[LevelResult, ...]:
    found = []
    for level in levels.levels:
        values = [r.latency_ms(level.metric) for r in measured if r.ok]
        late = sum(v is not None and v > level.limit_ms for v in values) + sum(not r.ok for r in measured)
        n = sum(v is not None for v in values) + sum(not r.ok for r in measured)
        test = limit_test(late, n, level.q)
        verdict: Literal["met", "missed", "undecided"] = (
            "met" if test.met else "missed" if test.missed else "undecided"
        )
        found.append(LevelResult(level=level, verdict=verdict, late=late, n=n, needed=test.needed))
    return tuple(found)


def _keeps(record: RequestRecord, levels: ServiceLevels) -> bool:
    """Whether one request keeps every limit; what it has no value for it cannot break."""
    if not record.ok:
        return False
    values = [(record.latency_ms(level.metric), level.limit_ms) for level in levels.levels]
    return all(value is None or value <= limit for value, limit in values)


def _goodput(
    measured: Sequence[RequestRecord], levels: ServiceLevels, seconds: float, done: int
) -> float | None:
    """Good requests per second: the rate of ended ones, times the share of good ones among all."""
    if not levels.levels or not measured or seconds <= 0:
        return None
    ok = sum(r.ok for r in measured)
    return sum(_keeps(r, levels) for r in measured) / ok * done / seconds if ok else 0.0


def _state(
    measured: Sequence[RequestRecord],
    good: Sequence[RequestRecord],
    levels: ServiceLevels,
    circumstances: Circumstances,
) -> tuple[PointState, list[str]]:
    """What the point is worth; every reason against it is named, the gravest gives the word."""
    found: list[tuple[PointState, str]] = []
    if len(good) * 2 <= len(measured) or not good:
        texts = ", ".join(
            f"{n} x {e.value}" for e, n in Counter(r.error for r in measured if r.error).items()
        )
        words = next((f": {r.detail[:MOST_WORDS]}" for r in measured if r.error and r.detail), "")
        why = f"{len(measured) - len(good)} of {len(measured)} requests failed ({texts}){words}"
        found.append((PointState.FAILED, why))
    if circumstances.stopped_by == INFEASIBLE:
        found.append((PointState.PARTIAL, "given up: it cannot keep any more what is asked"))
    if circumstances.stopped_by in ("interrupted", "budget"):
        found.append((PointState.PARTIAL, f"ended early: {circumstances.stopped_by}"))
    if circumstances.stopped_by == "saturated" or (
        circumstances.plan.arrivals.open_loop and runs_away(measured)
    ):
        why = "requests pile up: the offered rate is beyond the server's capacity, there is no steady state"
        found.append((PointState.SATURATED, why))
    found += [(PointState.CLIENT_LIMITED, why) for why in _client_limits(good, levels, circumstances)]
    if (hits := _cached(good, circumstances)) is not None:
        found.append((PointState.CACHED, hits))
    order = (
        PointState.FAILED,
        PointState.SATURATED,
        PointState.CLIENT_LIMITED,
        PointState.CACHED,
        PointState.PARTIAL,
    )
    word = next((s for s in order if any(s is f for f, _ in found)), PointState.VALID)
    return word, [why for _, why in found]


def _client_limits(
    good: Sequence[RequestRecord], levels: ServiceLevels, circumstances: Circumstances
) -> Iterator[str]:
    client = circumstances.client
    if client is None or not good:
        return
    if client.cpu_frac > MOST_CPU_FRAC:
        yield f"the client used {client.cpu_frac:.0%} of a core (limit {MOST_CPU_FRAC:.0%})"
    limit = max(LEAST_LAG_MS, MOST_LAG_FRAC * _tightest_ms(good, levels))
    if client.loop_lag_p99_ms > limit:
        yield f"the client's event loop was {client.loop_lag_p99_ms:.1f} ms late (p99; limit {limit:.1f} ms)"
    if client.send_lag_p99_ms > limit:
        yield f"requests were sent {client.send_lag_p99_ms:.1f} ms late (p99; limit {limit:.1f} ms)"


def _tightest_ms(good: Sequence[RequestRecord], levels: ServiceLevels) -> float:
    """The time that our lateness is measured against: the tightest limit; without limits the median answer.

    A limit on TPOT is one on the whole answer: lateness at its ends is shared by its tokens.
    """
    if not levels.levels:
        return float(np.median(_column(v for r in good if (v := r.latency_ms(Metric.E2E)) is not None)))
    tokens = max(1.0, float(np.mean([r.output_tokens or 1 for r in good])) - 1.0)
    return min(x.limit_ms * (tokens if x.metric is Metric.TPOT else 1.0) for x in levels.levels)


def _cached(good: Sequence[RequestRecord], circumstances: Circumstances) -> str | None:
    """Prompts that should be new and were found in a cache. Later turns repeat what was said on purpose."""
    if circumstances.turns > 1:
        good = [r for r in good if r.turn == 0]
    known = [
        (r.prompt_tokens or r.prompt_target, r.cached_tokens) for r in good if r.cached_tokens is not None
    ]
    hits = 0
    for prompt, cached in known:
        allowed = prompt * (circumstances.shared_prefix_frac + CACHE_SLACK_FRAC) + CACHE_SLACK_TOKENS
        hits += cached > allowed
    if not hits:
        return None
    return f"{hits} of {len(known)} prompts were found in a prefix cache beyond their declared shared prefix"


def _leaks(leaks: Sequence[str]) -> Iterator[str]:
    if leaks:
        told = ", ".join(sorted(set(leaks)))
        yield f"stop tokens came as text in {len(leaks)} answers ({told}): the engine does not end a turn by them"


def _remarks(
    records: Sequence[RequestRecord], good: Sequence[RequestRecord], client: ClientHealth | None
) -> Iterator[str]:
    first = _column(v for r in good if (v := r.latency_ms(Metric.TTFT)) is not None)
    late = max(client.loop_lag_p99_ms, client.send_lag_p99_ms) if client is not None else 0.0
    if first.size and late > max(LEAST_LAG_MS, MOST_LAG_FRAC * float(np.median(first))):
        yield f"the client was up to {late:.1f} ms late (p99): do not trust TTFT to better than that"
    sources = {r.token_source for r in good}
    if TokenSource.CHUNKS in sources:
        yield "the server sends no usage: output tokens are pieces of the stream, an estimate that may be low"
    elif TokenSource.TOKENIZER in sources:
        yield "the server sends no usage: output tokens are counted with the tokenizer given"
    measured = [(r.prompt_target, r.prompt_tokens) for r in good if r.prompt_tokens and r.turn == 0]
    if measured:
        target, real = (float(np.mean(column)) for column in zip(*measured, strict=True))
        if abs(real - target) > LENGTH_SLACK_FRAC * target:
            yield f"prompts hold {real:.0f} tokens on average, {target:.0f} were wanted"
    if short := sum(map(_short, good)):
        yield f"{short} of {len(good)} answers are shorter than asked for: compare speeds with care"
    if again := sum(r.reconnected for r in records):
        yield f"{again} requests found their kept-alive connection closed and were sent again on a new one"


def _short(record: RequestRecord) -> bool:
    return (record.output_tokens or 0) < record.output_target


def runs_away(measured: Sequence[RequestRecord]) -> bool:
    """Whether an open loop piled requests up: in-flight count and TTFT both rise, beyond chance and in size.

    Both trends are least squares over the send times, each with a one-sided t test at 99 %; as neighbours in a queue
    resemble each other, the size must speak as well: at least 3 % of what was sent is left in flight, and TTFT
    rises by half of its mean or more.
    """
    rows = sorted((r.intended_s, r.end_s) for r in measured if r.end_s is not None)
    if len(rows) < 30:
        return False
    sent, ended = np.asarray([r[0] for r in rows]), np.sort(np.asarray([r[1] for r in rows]))
    flight = np.arange(1, sent.size + 1) - np.searchsorted(ended, sent, side="right")
    first = [(r.intended_s, v) for r in measured if (v := r.latency_ms(Metric.TTFT)) is not None]
    if len(first) < 30:
        return False
    # A slow server's first wave looks like growth: begin when the first answers are back.
    settled = sent >= sent[0] + float(ended[min(ended.size - 1, max(1, ended.size // 50))] - sent[0])
    if settled.sum() < 20:
        return False
    growth, t_flight = _trend(sent[settled], flight[settled].astype(np.float64))
    times, values = np.asarray([f[0] for f in first]), np.asarray([f[1] for f in first])
    rise, t_first = _trend(times, values)
    return (
        min(t_flight, t_first) > 2.33
        and growth >= max(4.0, 0.03 * int(settled.sum()))
        and rise >= 0.5 * float(values.mean())
    )


def _trend(at: Floats, values: Floats) -> tuple[float, float]:
    """Growth over the whole time by least squares, and its t statistic."""
    centred = at - at.mean()
    spread = float((centred**2).sum())
    if spread <= 0 or at.size < 3:
        return 0.0, 0.0
    slope = float((centred * values).sum()) / spread
    rest = values - values.mean() - slope * centred
    error = math.sqrt(float((rest**2).sum()) / (at.size - 2) / spread)
    t = slope / error if error > 0 else (math.inf if slope > 0 else 0.0)
    return slope * float(at.max() - at.min()), t


def _column(values: Iterator[float]) -> Floats:
    return np.fromiter(values, dtype=np.float64)
