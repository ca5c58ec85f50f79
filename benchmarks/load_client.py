"""The load client as an instrument: CPU per token, short streams per second, timing error, cost of a call.

The server is `assay.testing.engine` on a fixed schedule, a process of its own that logs when each answer was really
written, on the clock that the client uses too. Peers run in the same minutes against the same server: the streams of
aiohttp and httpx with the same parsing, and, where they are installed, aiperf and guidellm (`--aiperf PYTHON`,
`--guidellm PYTHON` name interpreters that have them). `--quick` leaves the peers with processes out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _figures import Row, below, main

from assay.core.load import PointPlan, RequestRecord, Workload
from assay.core.ports import Endpoint, Target
from assay.load.arrivals import TraceRow
from assay.load.client import ClientOptions, LoadClient, LoadTarget

MODEL = Path(__file__).resolve().parents[1] / "examples" / "release" / "model"
STREAMS = 500
GAP_MS = 33.0


@contextlib.contextmanager
def engine(*arguments: str) -> Iterator[str]:
    """A simulated engine; yields its address."""
    command = [sys.executable, "-m", "assay.testing.engine", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2]
    finally:
        process.terminate()
        process.wait(10)


def measure(quick: bool) -> list[Row]:
    """All figures."""
    rows = [*per_token(quick), *short_streams(quick), *timing(quick), *cost_of_a_call()]
    if not quick:
        rows += [*peers_per_token(), *tools()]
    return rows


def per_token(quick: bool) -> Iterator[Row]:
    """Client CPU per streamed token at 64 and 500 streams of 30 tokens/s each, and where tokens come in bulk."""
    workload = Workload.model_validate({"prompt_tokens": 32, "output_tokens": 128})
    with (
        engine("--ttft-ms", "100", "--itl-ms", str(GAP_MS)) as url,
        LoadClient(LoadTarget(url), workload) as client,
    ):
        for streams in (64, STREAMS):
            values = {"arrivals": {"concurrency": streams}, "requests": streams * (1 if quick else 3)}
            point, _ = client.measure(PointPlan.model_validate({**values, "warmup_requests": 0}))
            assert point.client is not None
            cost = (point.client.cpu_us_per_chunk or 0.0) / 1e3
            yield below(f"CPU per token, {streams} streams", cost, "ms", 0.02)
            yield Row(f"client's share of a core, {streams} streams", point.client.cpu_frac, "")
    with engine("--ttft-ms", "0", "--itl-ms", "0") as url, LoadClient(LoadTarget(url), workload) as client:
        values = {"arrivals": {"concurrency": 16}, "requests": 1000}
        point, _ = client.measure(PointPlan.model_validate(values))
        assert point.client is not None
        yield below("CPU per token, in bulk", (point.client.cpu_us_per_chunk or 0.0) / 1e3, "ms", 0.02)


def short_streams(quick: bool) -> Iterator[Row]:
    """Streams of 8 tokens per second of one core, and as measured while the server has the other core."""
    workload = Workload.model_validate({"prompt_tokens": 16, "output_tokens": 8})
    with engine("--ttft-ms", "0", "--itl-ms", "0") as url, LoadClient(LoadTarget(url), workload) as client:
        values = {"arrivals": {"concurrency": 16}, "requests": 5_000 if quick else 20_000}
        point, _ = client.measure(PointPlan.model_validate(values))
        assert point.client is not None
        used = point.client.cpu_frac * point.wall_s / (point.sent + point.warmup)
        yield Row("short streams per core-second", 1 / used, "1/s", "> 4000", 1 / used > 4000)
        yield Row("short streams, as measured", point.achieved_rps, "1/s", peer="the server is the limit")


def timing(quick: bool) -> Iterator[Row]:
    """First tokens as the client stamps them, less when the server wrote them, at about 500 streams at once.

    Requests are told apart by their prompt's length, which differs from its neighbours' by construction.
    """
    tokens, number = 60, 1500 if quick else 3000
    rate = STREAMS / (0.1 + (tokens - 1) * GAP_MS / 1e3)
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.exponential(1 / rate, number))
    trace = tuple(TraceRow(float(t), 20 + i % 400, tokens) for i, t in enumerate(times))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "truth.jsonl"
        with engine("--ttft-ms", "100", "--itl-ms", str(GAP_MS), "--log", str(log)) as url:
            options = ClientOptions(trace=trace, stop_when_saturated=False)
            with LoadClient(LoadTarget(url), options=options) as client:
                client.prepare()
                origin = time.perf_counter_ns()
                point, records = client.measure(PointPlan.model_validate({"arrivals": {"kind": "trace"}}))
        truth = [json.loads(line) for line in log.read_text().splitlines()]
    assert point.client is not None
    errors = stamp_errors(records, [t for t in truth if t["received_ns"] > origin], "first_s", "first_ns")
    yield Row("streams at once", point.in_flight_mean, "")
    yield Row("TTFT error, median", float(np.median(errors)), "ms")
    yield below("TTFT error, p99", float(np.quantile(np.abs(errors), 0.99)), "ms", 1.0)
    lag = point.client
    yield Row(
        "event loop late, p99 / longest", lag.loop_lag_p99_ms, "ms", peer=f"longest {lag.loop_lag_max_ms:.1f}"
    )
    yield Row("sent late, p99", lag.send_lag_p99_ms, "ms")


def stamp_errors(
    records: tuple[RequestRecord, ...], truth: list[dict[str, Any]], ours: str, theirs: str
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Our time of each request less the server's, in ms, after the constant offset of the two origins.

    Both use one monotonic clock: our records count from the beginning of the point, which cancels out only up to a
    constant. It is found as the smallest difference, since a token is never seen before it is written.
    """
    written: dict[int, list[int]] = defaultdict(list)
    for row in sorted(truth, key=lambda r: int(r["received_ns"])):
        written[row["prompt_tokens"]].append(row[theirs])
    seen: dict[int, int] = defaultdict(int)
    found = []
    for record in records:
        key = record.prompt_tokens or 0
        at = seen[key]
        seen[key] += 1
        stamp = getattr(record, ours)
        if stamp is not None and at < len(written[key]):
            found.append(stamp * 1e3 - written[key][at] / 1e6)
    errors = np.asarray(found)
    return np.asarray(errors - errors.min())


def cost_of_a_call() -> Iterator[Row]:
    """What a measurement costs beside its requests: a second point of a client, a new client, a new process."""
    workload = Workload.model_validate({"prompt_tokens": 16, "output_tokens": 4})
    plan = PointPlan.model_validate({"arrivals": {"concurrency": 1}, "requests": 8, "warmup_requests": 0})
    with engine("--ttft-ms", "0", "--itl-ms", "0") as url:
        with LoadClient(LoadTarget(url), workload) as client:
            client.measure(plan)
            begin = time.perf_counter()
            client.measure(plan)
            yield Row("cost of a further point (8 requests)", time.perf_counter() - begin, "s")
        begin = time.perf_counter()
        with LoadClient(LoadTarget(url), workload) as client:
            client.measure(plan)
        yield Row("cost of a new client (8 requests)", time.perf_counter() - begin, "s")
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "assay", "load", url, "-n", "8", "--output-tokens", "4", "--json"],
            check=False, capture_output=True,
        )  # fmt: skip
        yield Row("cost of `assay load` (8 requests)", time.perf_counter() - begin, "s")


def peers_per_token() -> Iterator[Row]:
    """The same streams read with aiohttp and httpx, line by line, JSON parsed, a stamp a token."""
    with engine("--ttft-ms", "100", "--itl-ms", str(GAP_MS)) as url:
        for name, stream in (("aiohttp", _with_aiohttp), ("httpx", _with_httpx)):
            for streams in (64, STREAMS):
                begin = time.process_time()
                try:
                    tokens = asyncio.run(stream(f"{url}/chat/completions", streams))
                except ImportError:
                    yield Row(f"{name}: CPU per token, {streams} streams", None, "ms", peer="not installed")
                    continue
                cost = (time.process_time() - begin) * 1e3 / tokens
                yield Row(
                    f"{name}: CPU per token, {streams} streams", cost, "ms", peer="same server and streams"
                )


def _body() -> dict[str, Any]:
    messages = [{"role": "user", "content": "time people way " * 8}]
    return {"model": "simulated", "messages": messages, "max_tokens": 128, "stream": True}


def _taken(line: bytes | str, stamps: list[int]) -> None:
    text = line if isinstance(line, bytes) else line.encode()
    if not text.startswith(b"data:") or text[5:].strip() == b"[DONE]":
        return
    value = json.loads(text[5:])
    if value.get("choices") and value["choices"][0]["delta"].get("content"):
        stamps.append(time.perf_counter_ns())


async def _with_aiohttp(url: str, streams: int) -> int:
    import aiohttp  # noqa: PLC0415 - a peer that need not be there

    stamps: list[int] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one() -> None:
            async with session.post(url, json=_body()) as response:
                async for line in response.content:
                    _taken(line, stamps)

        await _all(one, streams)
    return len(stamps)


async def _with_httpx(url: str, streams: int) -> int:
    import httpx  # noqa: PLC0415

    stamps: list[int] = []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as session:  # noqa: S113

        async def one() -> None:
            async with session.stream("POST", url, json=_body()) as response:
                async for line in response.aiter_lines():
                    _taken(line, stamps)

        await _all(one, streams)
    return len(stamps)


async def _all(one: Callable[[], Awaitable[None]], streams: int) -> None:
    await asyncio.gather(*(one() for _ in range(streams)))


def tools() -> Iterator[Row]:
    """Wall time of a call with 8 requests, rate at 16 in flight, and error of TTFT at 500, of aiperf and guidellm."""
    from assay.adapters.evaluate import aiperf, guidellm  # noqa: PLC0415

    for kind, module, python in (("aiperf", aiperf, PEERS.aiperf), ("guidellm", guidellm, PEERS.guidellm)):
        if python is None:
            yield Row(f"{kind}: all figures", None, "", peer=f"not installed: --{kind} PYTHON")
            continue
        yield from _tool(kind, module, str(python))


def _tool(kind: str, module: Any, python: str) -> Iterator[Row]:
    from assay.testing.session import make_session  # noqa: PLC0415

    def run(url: str, folder: Path, streams: int, requests: int, tokens: int) -> tuple[Any, float, float]:
        options = {
            "points": [{"arrivals": {"concurrency": streams}, "requests": requests, "warmup_requests": 0}],
            "workload": {"prompt_tokens": 16, "output_tokens": tokens},
            "python": python,
            "tokenizer": str(MODEL),
        }
        adapter = module.Adapter(module.Options.model_validate(options))
        endpoint = Endpoint(base_url=url, model="simulated", engine="simulated")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.perf_counter()
        evidence = adapter.evaluate(
            Target(name="x", path=str(MODEL), endpoint=endpoint), make_session(folder)
        )
        wall = time.perf_counter() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return evidence, wall, cpu

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with engine("--ttft-ms", "0", "--itl-ms", "0") as url:
            _, wall, _ = run(url, folder / "call", 1, 8, 4)
            yield Row(f"{kind}: cost of a call (8 requests)", wall, "s")
            evidence, _, cpu = run(url, folder / "rate", 16, 1000, 8)
            yield Row(f"{kind}: short streams, as measured", evidence.points[0].achieved_rps, "1/s")
            yield Row(f"{kind}: CPU per short stream, start included", cpu, "ms")
        log = folder / "truth.jsonl"
        with engine("--ttft-ms", "100", "--itl-ms", str(GAP_MS), "--log", str(log)) as url:
            evidence, _, _ = run(url, folder / "timing", STREAMS, STREAMS * 2, 60)
        truth = [json.loads(line) for line in log.read_text().splitlines()]
        true = statistics.quantiles([(r["first_ns"] - r["received_ns"]) / 1e6 for r in truth], n=100)
        point = evidence.points[0]
        ttft = next(x for x in point.latencies if x.metric.value == "ttft")
        for q, at in ((0.5, 49), (0.99, 98)):
            claim = ttft.percentile(q)
            if claim is not None and claim.value_ms is not None:
                label = f"{kind}: TTFT p{q * 100:g} it reports, less the server's"
                yield Row(
                    label, claim.value_ms - true[at], "ms", peer=f"{STREAMS} in flight; server {true[at]:.1f}"
                )


def _peers() -> argparse.Namespace:
    """Take our own flags off the command line; `_figures.main` parses the rest."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("--aiperf", type=Path)
    flags.add_argument("--guidellm", type=Path)
    found, rest = flags.parse_known_args()
    sys.argv[1:] = rest
    return found


PEERS = argparse.Namespace(aiperf=None, guidellm=None)

if __name__ == "__main__":
    PEERS = _peers()
    main(__doc__ or "", measure)
