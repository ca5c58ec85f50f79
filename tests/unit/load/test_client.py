"""The load client against the simulated engine: every quirk, every failure, known times."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from assay.core.errors import ComponentFailed, UsageError
from assay.core.load import (
    Metric,
    PointPlan,
    PointState,
    RequestError,
    ServiceLevels,
    TokenSource,
    Workload,
)
from assay.core.vocabulary import FailureClass
from assay.load.arrivals import TraceRow
from assay.load.client import ClientOptions, LoadClient, LoadTarget, Measured, api_key
from assay.load.rows import read_rows, write_rows
from assay.testing.engine import QUIRKS

pytestmark = pytest.mark.slow  # each point is measured by the clock

Launch = Callable[..., str]

MODEL = Path(__file__).parents[3] / "examples" / "release" / "model"
FAST = ("--ttft-ms", "4", "--itl-ms", "1")
SMALL = {"prompt_tokens": 40, "output_tokens": 8}


def plan(concurrency: int = 4, requests: int = 12, **more: Any) -> PointPlan:
    """A closed loop."""
    values = {"arrivals": {"concurrency": concurrency}, "requests": requests, "warmup_requests": 2, **more}
    return PointPlan.model_validate(values)


def measured(
    url: str,
    workload: dict[str, Any] | None = None,
    options: ClientOptions | None = None,
    **more: Any,
) -> Measured:
    """One point."""
    made = Workload.model_validate(workload or SMALL)
    with LoadClient(LoadTarget(url), made, options=options) as client:
        return client.measure(plan(**more))


TEXTLESS = {"stream_error", "reset", "html", "http_500", "empty"}
ODD = sorted(set(QUIRKS) - TEXTLESS)


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("quirk", ["", *ODD])
def test_every_quirk_of_a_good_stream_is_understood(launch: Launch, quirk: str, api: str) -> None:
    """Each answer has 8 tokens and a first token after 4 ms, however it is spelled."""
    url = launch(*FAST, *(("--quirks", quirk) if quirk else ()))
    point, rows = measured(url, {**SMALL, "api": api})
    assert point.completed == point.sent == 12, point.error_texts
    assert point.token_source is (TokenSource.CHUNKS if quirk == "no_usage" else TokenSource.USAGE)
    assert [r.output_tokens for r in rows] == [8] * 14
    if quirk not in ("no_stream", "multi_token"):
        assert [r.chunks for r in rows] == [8] * 14
        assert point.itl_per_token
    if quirk == "multi_token":
        assert [r.chunks for r in rows] == [4] * 14
        assert not point.itl_per_token
    if quirk != "no_stream":
        assert min(r.latency_ms(Metric.TTFT) or 0 for r in rows) >= 3.5


@pytest.mark.parametrize(
    ("quirk", "error"), [("stream_error", RequestError.STREAM), ("reset", RequestError.RESET)]
)
def test_failures_have_their_class(launch: Launch, quirk: str, error: RequestError) -> None:
    """Nothing is taken for a good answer; after ten failures the point is given up."""
    point, rows = measured(launch(*FAST, "--quirks", quirk), requests=200)
    assert {r.error for r in rows} <= {error, RequestError.CANCELLED}
    assert point.state is PointState.FAILED
    assert point.stopped_by == "errors"
    assert point.completed == 0
    assert point.output_tps is None


@pytest.mark.parametrize(
    ("arguments", "failure_class", "words"),
    [
        (("--quirks", "http_500"), FailureClass.DEPLOYMENT_HEALTH_FAILED, "compute failed"),
        (("--mode", "dead_after_ready"), FailureClass.DEPLOYMENT_HEALTH_FAILED, "compute failed"),
        (("--mode", "never_ready"), FailureClass.INFRA_TRANSIENT, "Loading model"),
        (("--max-queue", "0"), FailureClass.INFRA_TRANSIENT, "queue is full"),
        (("--context-tokens", "4"), FailureClass.POINT_INFEASIBLE, "exceeds the available context"),
    ],
)
def test_a_server_that_takes_nothing_is_an_error_with_its_class(
    launch: Launch, arguments: tuple[str, ...], failure_class: FailureClass, words: str
) -> None:
    """Before any point is measured."""
    with pytest.raises(ComponentFailed, match=words) as caught:
        measured(launch(*arguments))
    assert caught.value.failure_class is failure_class


def test_an_html_page_is_no_answer(launch: Launch) -> None:
    """Status 200 and no event in it: every request failed as empty."""
    point, rows = measured(launch("--quirks", "html"), requests=50)
    assert {r.error for r in rows} <= {RequestError.EMPTY, RequestError.CANCELLED}
    assert point.state is PointState.FAILED


def test_nobody_listens() -> None:
    """The error names the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ComponentFailed, match="no connection") as caught:
        measured(f"http://127.0.0.1:{port}/v1")
    assert caught.value.failure_class is FailureClass.DEPLOYMENT_HEALTH_FAILED


def test_a_server_that_dies_ends_the_point(launch: Launch) -> None:
    """Resets and refused connections are counted; what came before stays measured."""
    url = launch(*FAST, "--dies-after", "20")
    point, rows = measured(url, requests=100)
    assert 10 <= point.completed <= 20
    assert {r.error for r in rows if r.error} <= {RequestError.RESET, RequestError.CONNECT}
    assert point.state is PointState.FAILED


def test_a_hanging_server_times_out(launch: Launch) -> None:
    """Each request after its own time; preparation says so first."""
    options = ClientOptions(request_timeout_s=0.3)
    with pytest.raises(ComponentFailed, match="no answer"):
        measured(launch("--mode", "hangs"), options=options)


def test_a_slow_answer_times_out_as_itself(launch: Launch) -> None:
    """Preparation is quick, the long answers are not."""
    url = launch("--ttft-ms", "5", "--itl-ms", "50")
    options = ClientOptions(request_timeout_s=0.2)
    point, rows = measured(
        url, {"prompt_tokens": 20, "output_tokens": 100}, options, requests=4, warmup_requests=0
    )
    assert {r.error for r in rows} == {RequestError.TIMEOUT}
    assert all(r.chunks in (3, 4) for r in rows)
    assert point.state is PointState.FAILED


def test_prompts_have_the_wanted_length_after_calibration(launch: Launch) -> None:
    """1.4 tokens a word and 9 of template: 200 are asked for and 200 come."""
    url = launch(*FAST, "--tokens-per-word", "1.4")
    with LoadClient(LoadTarget(url), Workload.model_validate({**SMALL, "prompt_tokens": 200})) as client:
        facts = client.prepare()
        _, rows = client.measure(plan())
    assert facts["prompt_calibration"] == "usage"
    assert facts["tokens_per_word"] == pytest.approx(1.4, rel=0.03)
    assert all(abs((r.prompt_tokens or 0) - 200) <= 3 for r in rows)


def test_a_strict_server_gets_only_fields_it_knows(launch: Launch) -> None:
    """ignore_eos is refused with 422; the next way is tried."""
    with LoadClient(LoadTarget(launch(*FAST, "--quirks", "strict")), Workload()) as client:
        assert client.prepare()["length_control"] == "generation_config"


def test_tokens_are_counted_with_a_tokenizer_where_usage_is_missing(launch: Launch) -> None:
    """Named as the source, and equal to the tokenizer's own count."""
    url = launch(*FAST, "--quirks", "no_usage")
    point, rows = measured(url, options=ClientOptions(tokenizer=MODEL))
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    text = " time people way water word side light story"
    assert {r.output_tokens for r in rows} == {len(tokenizer.encode(text, add_special_tokens=False).ids)}
    assert point.token_source is TokenSource.TOKENIZER
    assert any("tokenizer" in r for r in point.remarks)


def test_the_model_is_the_first_listed(launch: Launch) -> None:
    """Without a name."""
    with LoadClient(LoadTarget(launch(*FAST, "--model", "a/b"))) as client:
        assert client.prepare()["model"] == "a/b"


def test_conversations_send_what_was_said(launch: Launch) -> None:
    """Three turns: prompts grow by answer and new words, and the prefix cache of the server sees it."""
    url = launch(*FAST, "--prefix-cache")
    point, rows = measured(url, {**SMALL, "turns": 3}, requests=24, warmup_requests=0)
    assert point.completed == 24
    assert point.state is not PointState.CACHED
    by_turn = [[r.prompt_tokens or 0 for r in rows if r.turn == t] for t in range(3)]
    assert [len(x) for x in by_turn] == [8, 8, 8]
    assert min(by_turn[1]) > max(by_turn[0])
    assert all((r.cached_tokens or 0) > 30 for r in rows if r.turn)


def test_the_declared_prefix_is_cached_and_no_more(launch: Launch) -> None:
    """Half of each prompt is shared: half of the tokens come from the cache, and the point is valid."""
    url = launch(*FAST, "--prefix-cache")
    point, rows = measured(
        url, {"prompt_tokens": 209, "output_tokens": 4, "shared_prefix_frac": 0.5}, requests=40
    )
    assert point.state is not PointState.CACHED
    share = sum(r.cached_tokens or 0 for r in rows) / sum(r.prompt_tokens or 1 for r in rows)
    assert 0.42 < share < 0.52


def test_points_of_one_client_never_repeat_a_prompt(launch: Launch) -> None:
    """A second point with the same plan finds nothing in the cache; another client with the same seed does."""
    url = launch(*FAST, "--prefix-cache")
    with LoadClient(LoadTarget(url), Workload.model_validate(SMALL)) as client:
        states = [client.measure(plan(requests=20)).point.state for _ in range(2)]
    assert PointState.CACHED not in states
    again = measured(url, requests=20)
    assert any("prefix cache" in reason for reason in again.point.reasons)


def test_a_kept_alive_connection_that_is_gone_is_replaced(launch: Launch) -> None:
    """llama.cpp closes it unannounced: no request fails of it, and after a few no connection is kept any more."""
    point, rows = measured(launch(*FAST, "--quirks", "close"), requests=60)
    assert point.completed == 60
    assert not point.errors
    assert sum(r.reconnected for r in rows) <= 8
    assert not any(r.reconnected for r in rows[30:])


def test_a_trace_is_played_as_recorded(launch: Launch) -> None:
    """Times and lengths of the rows, twice as fast."""
    trace = tuple(TraceRow(0.1 * i, 30 + i, 2 + i % 3) for i in range(12))
    with LoadClient(
        LoadTarget(launch(*FAST)), Workload.model_validate(SMALL), options=ClientOptions(trace=trace)
    ) as client:
        point, rows = client.measure(PointPlan.model_validate({"arrivals": {"kind": "trace", "speed": 2.0}}))
    assert [r.output_tokens for r in rows] == [2 + i % 3 for i in range(12)]
    assert [r.prompt_tokens for r in rows] == [30 + i for i in range(12)]
    assert [round(r.intended_s, 6) for r in rows] == [round(0.05 * i, 6) for i in range(12)]
    assert point.stopped_by == "requests"


def test_an_open_loop_keeps_its_schedule_when_the_server_is_slow(launch: Launch) -> None:
    """One slot, 100 requests per second: sending never waits, waiting counts, and the point is saturated."""
    url = launch("--slots", "1", "--step-overhead-s", "0.005")
    values = {"arrivals": {"kind": "constant", "rate_rps": 100}, "requests": 150, "warmup_requests": 0}
    with LoadClient(LoadTarget(url), Workload.model_validate({**SMALL, "output_tokens": 4})) as client:
        point, rows = client.measure(PointPlan.model_validate(values))
    assert point.state is PointState.SATURATED
    assert rows[100].intended_s == pytest.approx(1.0, abs=1e-6)
    assert max((r.sent_s or 0) - r.intended_s for r in rows) < 0.3
    waits = [r.latency_ms(Metric.TTFT) or 0 for r in rows if r.ok]
    assert waits[-1] > 5 * waits[0] + 500


def test_times_are_those_of_the_server(launch: Launch, truth_log: Path) -> None:
    """Each first token is stamped after it was sent, and the median within 2 ms of it."""
    url = launch("--ttft-ms", "20", "--itl-ms", "5", "--log", str(truth_log))
    values = {"arrivals": {"kind": "poisson", "rate_rps": 60}, "requests": 60, "warmup_requests": 0}
    trace_free = Workload.model_validate({"prompt_tokens": "uniform:20-400", "output_tokens": 6})
    with LoadClient(LoadTarget(url), trace_free) as client:
        before = time.perf_counter()
        _, rows = client.measure(PointPlan.model_validate(values))
    assert before < time.perf_counter()
    late = sorted((r.first_s or 0) - (r.sent_s or 0) - 0.020 for r in rows)
    assert late[0] > -0.001
    assert late[30] < 0.004


def test_interrupting_gives_what_was_measured(launch: Launch) -> None:
    """SIGINT: the point is partial, its requests are kept, and the former handler is back."""
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    timer = threading.Timer(4.0, os.kill, (os.getpid(), signal.SIGINT))  # a busy machine starts slowly
    try:
        url = launch(*FAST)
        timer.start()
        point, rows = measured(url, requests=1_000_000)
        assert point.stopped_by == "interrupted"
        assert not point.valid
        assert point.completed > 5
        assert {r.error for r in rows} <= {None, RequestError.CANCELLED}
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        assert seen == [1]
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


def test_a_budget_cuts_a_point_short(launch: Launch) -> None:
    """`limit_s` ends it as `budget`."""
    with LoadClient(LoadTarget(launch(*FAST)), Workload.model_validate(SMALL)) as client:
        client.prepare()
        begin = time.monotonic()
        point, _ = client.measure(plan(requests=1_000_000), limit_s=0.5)
    assert time.monotonic() - begin < 3
    assert point.stopped_by == "budget"
    assert not point.valid


def test_a_point_that_is_lost_is_given_up(launch: Launch) -> None:
    """Every answer is late for a promise of p95: a few of two hundred requests decide, and no figure is published."""
    levels = ServiceLevels.model_validate({"ttft_p95_ms": 1000})
    url = launch("--ttft-ms", "1200", "--itl-ms", "1", "--slots", "16")
    made = Workload.model_validate(SMALL)
    with LoadClient(LoadTarget(url), made, levels, ClientOptions(stop_when_infeasible=True)) as client:
        point, _ = client.measure(plan(concurrency=16, requests=200))
    assert point.stopped_by == "infeasible"
    assert 11 <= point.sent < 40  # more than a twentieth of 200 must be late
    assert point.state is PointState.PARTIAL
    assert "given up" in point.reasons[0]
    assert not point.valid


def test_a_point_that_keeps_its_levels_is_measured_to_its_end(launch: Launch) -> None:
    """Nothing is given up that may still be kept."""
    levels = ServiceLevels.model_validate({"ttft_p95_ms": 2000, "tpot_p95_ms": 500, "e2e_p95_ms": 4000})
    made = Workload.model_validate(SMALL)
    with LoadClient(
        LoadTarget(launch(*FAST)), made, levels, ClientOptions(stop_when_infeasible=True)
    ) as client:
        point, _ = client.measure(plan())
    assert point.stopped_by == "requests"
    assert point.completed == 12


def test_more_failures_than_allowed_end_a_point(launch: Launch) -> None:
    """The first failure decides where none is allowed; with half of them allowed the old rule of ten decides."""
    url, made = launch(*FAST, "--quirks", "reset"), Workload.model_validate(SMALL)
    sent = []
    for frac in (0.0, 0.5):
        options = ClientOptions(stop_when_infeasible=True, failed_frac=frac)
        with LoadClient(LoadTarget(url), made, options=options) as client:
            point, _ = client.measure(plan(requests=200, warmup_requests=0))
        assert point.state is PointState.FAILED
        sent.append(point.failed)
    assert sent[0] <= 5
    assert sent[1] >= 10


def test_a_stop_token_as_text_is_told_or_an_error(launch: Launch) -> None:
    """Where we forced the length it is our doing and a remark; where the engine was to stop, the answer has failed."""
    point, _ = measured(launch(*FAST, "--quirks", "stop_token"))
    assert point.completed == 12
    assert any("`" not in r and "</s>" in r for r in point.remarks)
    free = {**SMALL, "length_control": "none"}
    point, rows = measured(launch(*FAST, "--quirks", "stop_token"), free)
    assert {r.error for r in rows} == {RequestError.PROTOCOL}
    assert point.state is PointState.FAILED
    assert "a stop token is part of the text: </s>" in point.error_texts[0]


def test_a_duration_ends_a_closed_loop(launch: Launch) -> None:
    """What is in flight then is finished and counted."""
    values = {"arrivals": {"concurrency": 3}, "duration_s": 0.6}
    with LoadClient(LoadTarget(launch(*FAST)), Workload.model_validate(SMALL)) as client:
        point, _ = client.measure(PointPlan.model_validate(values))
    assert point.stopped_by == "duration"
    assert 0.4 < point.window_s < 1.0
    assert point.completed == point.sent


def test_rows_come_back_as_they_were(launch: Launch, tmp_path: Path) -> None:
    """What is written is read again, but for times below a tenth of a microsecond."""
    found = measured(launch(*FAST))
    write_rows(tmp_path / "rows.jsonl", [found])
    back = read_rows(tmp_path / "rows.jsonl")
    assert [r.model_copy(update={"gaps_ms": ()}) for _, r in back] == [
        r.model_copy(update={"gaps_ms": ()}) for r in found.records
    ]
    assert json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])["schema"] == "load-requests/1"


def test_the_key_goes_into_the_header_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name of a variable; a missing one is an error that names it; the key is not shown."""
    monkeypatch.setenv("SOME_KEY", "secret")
    assert api_key("SOME_KEY") == "secret"
    assert api_key(None) == ""
    assert "secret" not in repr(LoadTarget("http://127.0.0.1:1/v1", api_key="secret"))
    with pytest.raises(UsageError, match="not set"):
        api_key("NO_SUCH_VARIABLE_HERE")


@pytest.mark.parametrize(
    "url", ["ftp://x/v1", "127.0.0.1:80/v1", "http://u:p@127.0.0.1/v1", "http://x:99999999/v1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises((UsageError, ComponentFailed)):
        measured(url)


def test_service_levels_reach_the_point(launch: Launch) -> None:
    """59 good requests show a p95, and goodput equals throughput."""
    levels = ServiceLevels.model_validate({"ttft_p95_ms": 500})
    with LoadClient(LoadTarget(launch(*FAST)), Workload.model_validate(SMALL), levels) as client:
        point, _ = client.measure(plan(requests=64))
    assert point.good == 64
    assert point.goodput_rps == pytest.approx(point.achieved_rps)
