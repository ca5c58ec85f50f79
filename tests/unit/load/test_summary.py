"""From records to a point: throughput, percentiles, service levels, and whether it is worth anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assay.core.load import (
    ClientHealth,
    Metric,
    PointPlan,
    PointState,
    RequestError,
    RequestRecord,
    ServiceLevels,
    TokenSource,
)
from assay.load.summary import Circumstances, runs_away, summarize

CLOSED = PointPlan.model_validate({"arrivals": {"concurrency": 2}, "requests": 100})
OPEN = PointPlan.model_validate({"arrivals": {"kind": "poisson", "rate_rps": 10}, "requests": 100})
NONE = ServiceLevels()


def record(
    index: int, start: float, ttft: float = 0.1, gap: float = 0.01, tokens: int = 11, **more: Any
) -> RequestRecord:
    """A good request: first token after `ttft`, then one every `gap` seconds."""
    first = start + ttft
    last = first + gap * (tokens - 1)
    values: dict[str, Any] = {
        "index": index, "session": index, "intended_s": start, "sent_s": start, "first_s": first, "last_s": last,
        "end_s": last, "prompt_target": 100, "prompt_tokens": 100, "output_target": tokens, "output_tokens": tokens,
        "token_source": "usage", "chunks": tokens, "gaps_ms": (gap * 1e3,) * (tokens - 1), "cached_tokens": 0,
    }  # fmt: skip
    return RequestRecord.model_validate({**values, **more})


def around(plan: PointPlan = CLOSED, **more: Any) -> Circumstances:
    """Ordinary circumstances."""
    return Circumstances(**{"plan": plan, "started": "x", "wall_s": 10.0, "stopped_by": "requests", **more})


def health(**more: float) -> ClientHealth:
    """A client that kept up, except where said."""
    calm = {"cpu_frac": 0.1, "loop_lag_p99_ms": 0.1, "loop_lag_max_ms": 1.0, "send_lag_p99_ms": 0.1}
    return ClientHealth(**{**calm, **more})


def back_to_back(number: int = 100, slots: int = 2) -> list[RequestRecord]:
    """A closed loop in its steady state: each slot sends 0.2 s after it sent before."""
    return [record(i, (i // slots) * 0.2) for i in range(number)]


def test_a_steady_closed_loop() -> None:
    """Throughput is tokens of the window by its length; latencies are the known ones."""
    point = summarize(back_to_back(), NONE, around())
    assert point.valid
    assert point.window == "steady"
    assert point.output_tps == pytest.approx(2 * 11 / 0.2, rel=0.03)
    assert point.achieved_rps == pytest.approx(10, rel=0.03)
    assert point.in_flight_mean == pytest.approx(2, rel=0.03)
    values = {x.metric: x.percentile(0.5) for x in point.latencies}
    assert {m: round(c.value_ms or 0, 6) for m, c in values.items() if c} == {
        Metric.TTFT: 100.0, Metric.TPOT: 10.0, Metric.E2E: 200.0, Metric.ITL: 10.0,
    }  # fmt: skip
    assert point.itl_per_token
    assert point.token_source is TokenSource.USAGE


def test_percentiles_say_when_there_are_not_enough() -> None:
    """100 requests: p95 has a value, p99 needs 299."""
    ttft = summarize(back_to_back(), NONE, around()).latency(Metric.TTFT)
    assert ttft is not None
    p95, p99 = ttft.percentile(0.95), ttft.percentile(0.99)
    assert p95 is not None
    assert p95.value_ms == pytest.approx(100)
    assert p99 is not None
    assert (p99.value_ms, p99.needed) == (None, 299)


def test_warmup_is_left_out_of_latencies_and_counts() -> None:
    """A slow first request does not show."""
    rows = [record(0, 0.0, ttft=9.0, warmup=True), *[record(i, 9.0 + i * 0.2) for i in range(1, 60)]]
    point = summarize(rows, NONE, around())
    assert (point.sent, point.warmup) == (59, 1)
    ttft = point.latency(Metric.TTFT)
    assert ttft is not None
    assert ttft.max_ms == pytest.approx(100)


def test_latency_counts_from_the_intended_time() -> None:
    """A request sent 2 s late has waited 2 s, however quick the answer is (coordinated omission)."""
    rows = [record(i, i * 0.1 + 2.0, intended_s=i * 0.1) for i in range(60)]
    point = summarize(rows, NONE, around(OPEN))
    ttft = point.latency(Metric.TTFT)
    assert ttft is not None
    claim = ttft.percentile(0.5)
    assert claim is not None
    assert claim.value_ms == pytest.approx(2100)
    assert point.ttft_from_send_p50_ms == pytest.approx(100)


def test_a_short_point_takes_the_whole_time() -> None:
    """One wave of four: there is no steady part."""
    point = summarize([record(i, 0.0) for i in range(4)], NONE, around())
    assert point.window == "whole"
    assert point.output_tps == pytest.approx(4 * 11 / 0.2)


def test_tpot_needs_two_tokens() -> None:
    """One token has no time per output token: it is absent, not 0."""
    point = summarize([record(i, i * 0.2, tokens=1) for i in range(10)], NONE, around())
    assert point.latency(Metric.TPOT) is None
    assert point.latency(Metric.ITL) is None


@pytest.mark.parametrize(("late", "verdict"), [(0, "met"), (1, "met"), (4, "undecided"), (12, "missed")])
def test_service_levels_by_the_exact_binomial(late: int, verdict: str) -> None:
    """100 requests on a p95 limit."""
    levels = ServiceLevels.model_validate({"ttft_p95_ms": 150})
    rows = [record(i, i * 0.2, ttft=0.2 if i < late else 0.1) for i in range(100)]
    point = summarize(rows, levels, around())
    assert [r.verdict for r in point.levels] == [verdict]
    assert point.good == 100 - late
    assert point.goodput_rps == pytest.approx((point.achieved_rps or 0) * (100 - late) / 100)


def test_failed_requests_are_late() -> None:
    """Ten refusals miss a p95 limit that every answer kept; each is named and counted."""
    levels = ServiceLevels.model_validate({"ttft_p95_ms": 150})
    bad = [
        RequestRecord(index=i, session=i, intended_s=i * 0.2, sent_s=i * 0.2, end_s=i * 0.2 + 0.01, status=429,
                      error=RequestError.OVERLOAD, detail="HTTP 429: full")
        for i in range(90, 100)
    ]  # fmt: skip
    point = summarize([*back_to_back(90, 1), *bad], levels, around())
    assert (point.completed, point.failed) == (90, 10)
    assert point.errors == {RequestError.OVERLOAD: 10}
    assert point.error_texts == ("HTTP 429: full",)
    assert point.levels[0].verdict == "missed"
    assert point.valid


def test_cancelled_requests_count_for_nothing() -> None:
    """What we stopped is neither good nor bad."""
    gone = RequestRecord(index=99, session=99, intended_s=1.0, error=RequestError.CANCELLED)
    point = summarize([*back_to_back(60), gone], NONE, around(stopped_by="interrupted"))
    assert (point.sent, point.failed) == (60, 0)
    assert point.state is PointState.PARTIAL


def test_nothing_measured_is_failed() -> None:
    """No records at all."""
    point = summarize([], NONE, around())
    assert point.state is PointState.FAILED
    assert point.output_tps is None
    assert point.latencies == ()


@pytest.mark.parametrize(
    ("client", "word"),
    [
        (health(cpu_frac=0.81), "of a core"),
        (health(loop_lag_p99_ms=10.1), "event loop"),
        (health(send_lag_p99_ms=10.1), "sent"),
    ],
)
def test_a_client_that_cannot_keep_up_makes_the_point_invalid(client: ClientHealth, word: str) -> None:
    """5 % of the median answer of 200 ms, 80 % of a core; no percentile is published."""
    point = summarize(back_to_back(), NONE, around(client=client))
    assert point.state is PointState.CLIENT_LIMITED
    assert word in point.reasons[0]
    assert point.latencies == ()
    assert summarize(back_to_back(), NONE, around(client=health())).valid


def test_the_tightest_limit_decides_how_late_the_client_may_be() -> None:
    """Of 10.1 ms: with a limit of 150 ms too late, with 400 ms not; a limit on TPOT counts for the whole answer."""
    late = around(client=health(loop_lag_p99_ms=10.1))
    for limits, valid in (
        ({"ttft_p95_ms": 150}, False),
        ({"ttft_p95_ms": 400}, True),
        ({"tpot_p95_ms": 25}, True),
    ):
        assert summarize(back_to_back(), ServiceLevels.model_validate(limits), late).valid is valid


def test_lateness_that_matters_to_ttft_alone_is_a_remark() -> None:
    """6 ms are more than 5 % of the median TTFT, and less than 5 % of the answer."""
    point = summarize(back_to_back(), NONE, around(client=health(loop_lag_p99_ms=6.0)))
    assert point.valid
    assert any("do not trust TTFT" in r for r in point.remarks)


def test_prompts_found_in_a_cache_make_the_point_invalid() -> None:
    """Unless the share was declared, or only the template's beginning was found."""
    rows = [record(i, i * 0.2, cached_tokens=60) for i in range(60)]
    assert summarize(rows, NONE, around()).state is PointState.CACHED
    assert summarize(rows, NONE, around(shared_prefix_frac=0.5)).valid
    assert summarize([record(i, i * 0.2, cached_tokens=12) for i in range(60)], NONE, around()).valid
    later = [record(i, i * 0.2, cached_tokens=90, turn=1) for i in range(60)]
    assert summarize(later, NONE, around(turns=2)).valid


def test_estimates_are_called_so() -> None:
    """Pieces counted as tokens, prompts of another length, short answers: each has its remark."""
    rows = [
        record(i, i * 0.2, token_source="chunks", prompt_tokens=140, output_target=20, reconnected=i == 3)
        for i in range(60)
    ]
    text = " ".join(summarize(rows, NONE, around()).remarks)
    for words in (
        "an estimate",
        "140 tokens on average, 100 were wanted",
        "60 of 60 answers are shorter",
        "1 requests found",
    ):
        assert words in text


def queue(load: float, number: int, servers: int, seed: int) -> list[RequestRecord]:
    """Poisson arrivals at a queue with exponential service of mean 1 s."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / (load * servers), number))
    free = np.zeros(servers)
    rows = []
    for i, at in enumerate(arrivals):
        slot = int(free.argmin())
        begin = max(float(at), float(free[slot]))
        free[slot] = begin + rng.exponential()
        rows.append(record(i, float(at), ttft=begin - float(at) + 0.05, gap=(float(free[slot]) - begin) / 10))
    return rows


def test_overload_is_seen_and_good_service_is_not_called_so() -> None:
    """Eight servers: at 120 % of capacity nearly always saturated, at 70 % nearly never."""
    over = sum(runs_away(queue(1.2, 400, 8, s)) for s in range(100))
    under = sum(runs_away(queue(0.7, 400, 8, s)) for s in range(100))
    assert over >= 95
    assert under <= 3


def test_a_saturated_point_has_no_percentiles() -> None:
    """It keeps its throughput, which is the capacity."""
    rows = queue(1.5, 400, 8, 1)
    point = summarize(rows, NONE, around(OPEN, wall_s=max(r.end_s or 0 for r in rows)))
    assert point.state is PointState.SATURATED
    assert point.latencies == ()
    assert point.output_tps is not None
    assert point.achieved_rps == pytest.approx(8, rel=0.15)


def test_a_slow_server_is_not_saturated_by_its_first_wave() -> None:
    """Answers of 20 s at a steady rate: the ramp is no overload."""
    rows = [record(i, i * 0.1, ttft=0.5, gap=1.95) for i in range(400)]
    assert not runs_away(rows)


@pytest.mark.parametrize(("reason", "cut"), [("stop", 0), ("length", 100), ("", 100)])
def test_an_answer_that_the_model_ended_was_not_cut_short(reason: str, cut: int) -> None:
    """A model that says what it has to say is no context that is too small; who does not say why is not trusted."""
    rows = [record(i, (i // 2) * 0.2, output_target=20, finish_reason=reason) for i in range(100)]
    point = summarize(rows, NONE, around())
    assert point.short_outputs == cut
    assert "100 of 100 answers are shorter" in " ".join(point.remarks)


def test_a_servers_own_words_stand_in_the_reason() -> None:
    """Not only that it failed, but what it said."""
    said = {"error": RequestError.SERVER, "detail": "CUDA error: out of tune", "output_tokens": None}
    point = summarize([record(i, 0.1 * i, **said) for i in range(4)], NONE, around())
    assert point.reasons[0] == "4 of 4 requests failed (4 x server): CUDA error: out of tune"
