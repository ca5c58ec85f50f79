"""`assay load`: the load client alone, against any OpenAI-compatible server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from assay.core.load import Latency, LoadPoint, Percentile, PointPlan, ServiceLevels, Workload
    from assay.load.client import LoadClient, Measured


@click.command("load")
@click.argument("url")
@click.option("--model", default="", help="Model id; by default the first that the server lists.")
@click.option("--concurrency", "-c", help="Closed loop: requests kept in flight; `1,2,4` measures each.")
@click.option("--rate", "-r", help="Open loop: requests per second on schedule; `1,2,4` measures each.")
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "constant", "gamma"]),
    default="poisson",
    show_default=True,
    help="How an open loop's requests are spaced.",
)
@click.option("--burstiness", type=float, default=1.0, show_default=True, help="Shape of gamma arrivals.")
@click.option("--trace", type=click.Path(path_type=Path), help="JSON lines with times and lengths to replay.")
@click.option(
    "--speed", type=float, default=1.0, show_default=True, help="How much faster a trace is played."
)
@click.option("--requests", "-n", type=int, help="Measured requests of each point.  [default: 100]")
@click.option("--duration", type=float, metavar="SECONDS", help="Send requests for so long.")
@click.option("--warmup", type=int, help="Requests left out first; by default as many as are in flight.")
@click.option(
    "--prompt-tokens", default="128", show_default=True, help="128, uniform:64-256, normal:512,128."
)
@click.option("--output-tokens", default="64", show_default=True, help="The same for the answers.")
@click.option(
    "--shared-prefix", type=float, default=0.0, show_default=True, help="Share of a prompt others share."
)
@click.option("--shared-prefixes", type=int, default=1, show_default=True, help="Different shared prefixes.")
@click.option("--turns", type=int, default=1, show_default=True, help="Requests of one conversation.")
@click.option("--think-time", type=float, default=0.0, show_default=True, help="Seconds between turns.")
@click.option(
    "--api", type=click.Choice(["chat", "completions"]), default="chat", show_default=True, help="Route."
)
@click.option("--slo", multiple=True, metavar="LIMIT", help="Such as ttft_p95=2000 (ms); may be repeated.")
@click.option("--extra-body", default="{}", help="JSON object added to every request.")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="tokenizer.json, where usage is missing.")
@click.option("--api-key-env", help="NAME of the environment variable that holds the key.")
@click.option(
    "--timeout", type=float, default=600.0, show_default=True, help="Seconds until one is given up."
)
@click.option("--new-connections", is_flag=True, help="A new connection for every request.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of prompts, lengths and arrivals.")
@click.option("--out", type=click.Path(path_type=Path), help="Write one JSON line per request.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def load(url: str, *, as_json: bool, out: Path | None, **given: Any) -> int:
    """Measure a server under load: throughput, TTFT, TPOT, ITL, E2E, goodput.

    URL ends in /v1. Without --rate, --concurrency or --trace one request is in flight. Latencies of an open loop
    count from the time at which a request should have been sent. Exit 0 = every point is valid, 5 = one is not,
    130 = interrupted (what was measured is printed).
    """
    from assay.core.load import ServiceLevels
    from assay.load.client import ClientOptions, LoadClient, LoadTarget, api_key
    from assay.load.rows import write_rows

    plans, trace = _plans(given)
    workload = _workload(given)
    levels = _validated(ServiceLevels, dict(map(_limit, given["slo"])), "--slo")
    options = ClientOptions(
        request_timeout_s=given["timeout"],
        reuse_connections=not given["new_connections"],
        tokenizer=given["tokenizer"],
        trace=trace,
    )
    target = LoadTarget(_base(url), given["model"], api_key(given["api_key_env"]))
    with LoadClient(target, workload, levels, options, progress=_progress) as client:
        measured = _measured(client, plans)
        facts = dict(client.facts)
    if out is not None:
        write_rows(out, measured)
    points = [m.point for m in measured]
    if as_json:
        click.echo(json.dumps(_document(url, facts, workload, levels, points), indent=2))
    else:
        _print(points, facts)
    if points[-1].stopped_by == "interrupted":
        return 130
    return 0 if all(p.valid for p in points) else 5


def _measured(client: LoadClient, plans: Sequence[PointPlan]) -> list[Measured]:
    from assay.load.rows import describe

    client.prepare()
    measured: list[Measured] = []
    for plan in plans:
        measured.append(client.measure(plan))
        click.echo(f"\r{describe(measured[-1].point)}", err=True)
        if measured[-1].point.stopped_by in ("interrupted", "errors"):
            break
    return measured


def _progress(ended: int, failed: int) -> None:
    more = f", {failed} failed" if failed else ""
    click.echo(f"\r{ended} requests{more} ", err=True, nl=False)


def _base(url: str) -> str:
    """The address up to `/v1`; a whole route is cut back to it, and nothing but a host gets one."""
    url = url.rstrip("/")
    for route in ("/chat/completions", "/completions", "/models"):
        url = url.removesuffix(route)
    return url if "/" in url.partition("://")[2] else f"{url}/v1"


def _plans(given: dict[str, Any]) -> tuple[list[PointPlan], Any]:
    from assay.core.errors import UsageError
    from assay.core.load import PointPlan
    from assay.load.arrivals import read_trace

    asked = [name for name in ("concurrency", "rate", "trace") if given[name] is not None]
    if len(asked) > 1:
        raise UsageError(
            f"--{asked[0]} and --{asked[1]} exclude each other: a rate under a cap of concurrency becomes a closed "
            "loop as soon as the server is slow",
            allowed="one of --concurrency, --rate, --trace",
        )
    trace = read_trace(given["trace"]) if given["trace"] else ()
    requests = given["requests"]
    if requests is None and given["duration"] is None and not trace:
        requests = 100
    rest = {"requests": requests, "duration_s": given["duration"], "warmup_requests": given["warmup"]}
    open_loop = {"kind": given["arrivals"], "burstiness": given["burstiness"]}
    loads: list[dict[str, Any]] = [
        *([{"kind": "trace", "speed": given["speed"]}] if trace else []),
        *({**open_loop, "rate_rps": n} for n in _numbers(given["rate"], "--rate", float)),
        *({"concurrency": n} for n in _numbers(given["concurrency"], "--concurrency", int)),
    ]
    plans = [_validated(PointPlan, {"arrivals": x, **rest}, "load") for x in loads or [{"concurrency": 1}]]
    return plans, trace


def _numbers(text: str | None, flag: str, kind: type[int | float]) -> list[float]:
    from assay.core.errors import UsageError

    try:
        return [kind(part) for part in text.split(",")] if text else []
    except ValueError:
        raise UsageError(f"{text!r} is no number", where=flag, allowed="such as 4 or 1,2,4") from None


def _workload(given: dict[str, Any]) -> Workload:
    from assay.core.errors import UsageError
    from assay.core.load import Workload

    try:
        extra = json.loads(given["extra_body"])
    except ValueError as error:
        raise UsageError(f"no JSON: {error}", where="--extra-body") from error
    values = {
        "api": given["api"],
        "prompt_tokens": given["prompt_tokens"],
        "output_tokens": given["output_tokens"],
        "shared_prefix_frac": given["shared_prefix"],
        "shared_prefixes": given["shared_prefixes"],
        "turns": given["turns"],
        "think_time_s": given["think_time"],
        "extra_body": extra,
        "seed": given["seed"],
    }
    made: Workload = _validated(Workload, values, "workload")
    return made


def _limit(text: str) -> tuple[str, Any]:
    """`ttft_p95=2000` as a key of `ServiceLevels`."""
    from assay.core.errors import UsageError

    name, equals, value = text.partition("=")
    try:
        number = float(value.removesuffix("ms") if equals else "none")
    except ValueError:
        allowed = "such as ttft_p95=2000 or e2e_p99=9000"
        raise UsageError(f"{text!r} is no limit", where="--slo", allowed=allowed) from None
    if name == "goodput_frac" or name.endswith("_ms"):
        return name, number
    return f"{name}_ms", number


def _validated(model: Any, values: Any, where: str) -> Any:
    from assay import registry

    return registry.validated(model, values, where)


def _document(
    url: str, facts: dict[str, Any], workload: Workload, levels: ServiceLevels, points: list[LoadPoint]
) -> dict[str, Any]:
    from assay.load.client import NAME

    return {
        "schema": "load/1",
        "client": NAME,
        "url": url,
        "server": facts,
        "workload": workload.to_json(),
        "service_levels": levels.to_json(),
        "points": [{**p.to_json(), "valid": p.valid} for p in points],
    }


def _print(points: list[LoadPoint], facts: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from assay.report.console import result_console

    console = result_console()
    console.print(Text(f"{facts.get('model', '')}  {points[-1].started[:19]}Z", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("load", "state"):
        table.add_column(name, overflow="fold")
    for name in ("ok", "req/s", "tok/s", "TTFT p50", "p95", "p99", "TPOT p50", "p95", "E2E p95", "good/s"):
        table.add_column(name, justify="right")
    for point in points:
        style = {"valid": "", "partial": "yellow"}.get(point.state.value, "red")
        table.add_row(*(Text(cell, style=style) for cell in _cells(point)))
    console.print(table)
    console.print(Text("latencies in ms; n<59 = not enough: the percentile needs 59 requests", style="dim"))
    for point in points:
        for line, style in _lines(point):
            console.print(Text(f"{point.plan.arrivals.text}: {line}", style=style), soft_wrap=True)


def _cells(point: LoadPoint) -> Iterator[str]:
    from assay.core.load import Metric

    yield point.plan.arrivals.text
    yield "valid" if point.valid else point.state.value.replace("_", " ")
    yield f"{point.completed}/{point.sent}"
    yield _figure(point.achieved_rps, 2)
    yield _figure(point.output_tps, 1)
    ttft, tpot, e2e = (point.latency(m) for m in (Metric.TTFT, Metric.TPOT, Metric.E2E))
    yield from (_percentile(ttft, q) for q in (0.5, 0.95, 0.99))
    yield from (_percentile(tpot, q) for q in (0.5, 0.95))
    yield _percentile(e2e, 0.95)
    yield _figure(point.goodput_rps, 2)


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _percentile(latency: Latency | None, q: float) -> str:
    claim: Percentile | None = latency.percentile(q) if latency is not None else None
    if claim is None:
        return "-"
    if claim.value_ms is None:
        return f"n<{claim.needed}"
    return f"{claim.value_ms:,.1f}"


def _lines(point: LoadPoint) -> Iterator[tuple[str, str]]:
    """What does not fit into the table: why a point is not valid, service levels, errors, remarks."""
    for reason in point.reasons:
        yield ("partial: " if point.state.value == "partial" else "INVALID: ") + reason, "red"
    for result in point.levels:
        style = {"met": "green", "missed": "red", "undecided": "yellow"}[result.verdict]
        more = f"; {result.needed} requests could settle it" if result.verdict == "undecided" else ""
        yield f"{result.level.text}: {result.verdict} ({result.late} of {result.n} late{more})", style
    if point.errors:
        counts = ", ".join(f"{n} {name.value}" for name, n in point.errors.items())
        yield f"failed: {counts}", "red"
        yield from ((f"  {text}", "dim") for text in point.error_texts)
    for remark in point.remarks:
        yield remark, "yellow"
    client = point.client
    if client is not None:
        own = f"client: {client.cpu_frac:.0%} of a core, late by {client.loop_lag_p99_ms:.2f} ms (p99)"
        yield f"{own}; throughput over {point.window_s:.1f} s ({point.window})", "dim"
