"""Evaluate kind `aiperf`: NVIDIA's load tool in our place, as a child process. Written for aiperf 0.13."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.core.errors import UnreadableInput
from assay.core.load import PointPlan, RequestRecord, TokenSource
from assay.core.ports import Endpoint
from assay.load.external import ToolAdapter, ToolOptions, count, number, read_document, spread, tool_error

RECORDS = "profile_export.jsonl"
SUMMARY = "profile_export_aiperf.json"


class Options(ToolOptions):
    """Options of `evaluate: {kind: aiperf}`."""


class Adapter(ToolAdapter):
    """aiperf's `profile` command."""

    kind = "aiperf"
    module = "aiperf"
    install = "pip install aiperf"

    def command(self, plan: PointPlan, endpoint: Endpoint, tokenizer: str, out: Path, seed: int) -> list[str]:
        """`aiperf profile ...`; the console script's own entry point, so that no PATH is needed."""
        workload = self.options.workload
        code = "import sys; from aiperf.cli import app; sys.exit(app())"
        flags = {
            "--model": endpoint.model,
            "--url": endpoint.base_url.removesuffix("/v1"),
            "--endpoint-type": workload.api,
            "--tokenizer": tokenizer,
            "--isl": f"{workload.prompt_tokens.mean:g}",
            "--isl-stddev": str(spread(workload.prompt_tokens)),
            "--osl": f"{workload.output_tokens.mean:g}",
            "--osl-stddev": str(spread(workload.output_tokens)),
            "--random-seed": str(workload.seed or seed),
            "--output-artifact-dir": str(out.absolute()),
            "--export-level": "records",
            "--ui": "none",
        }
        command = [self.python, "-c", code, "profile", "--streaming", "--use-server-token-count"]
        command += [part for flag in flags.items() for part in flag]
        command += list(_load(plan))
        body = dict(workload.extra_body)
        if workload.length_control in ("auto", "ignore_eos"):
            body["ignore_eos"] = True
        for name, value in body.items():
            command += ["--extra-inputs", f"{name}:{json.dumps(value)}"]
        return command

    def read(self, out: Path, plan: PointPlan) -> tuple[str, list[RequestRecord], list[Path]]:
        """The records of every request, warm-up included."""
        summary = read_document(out / SUMMARY)
        version = str(summary.get("aiperf_version", "")) if isinstance(summary, dict) else ""
        records = parse(read_document(out / RECORDS, str), plan, self.options)
        return version, records, [out / RECORDS, out / SUMMARY]


def _load(plan: PointPlan) -> Iterator[str]:
    arrivals = plan.arrivals
    if arrivals.concurrency is not None:
        yield from ("--concurrency", str(arrivals.concurrency))
    else:
        yield from ("--request-rate", f"{arrivals.rate_rps:g}", "--arrival-pattern", arrivals.kind)
        if arrivals.kind == "gamma":
            yield from ("--arrival-smoothness", f"{arrivals.burstiness:g}")
    if plan.requests is not None:
        yield from ("--request-count", str(plan.requests))
    if plan.duration_s is not None:
        yield from ("--benchmark-duration", f"{plan.duration_s:g}")
    warmup = plan.warmup_requests if plan.warmup_requests is not None else max(2, arrivals.concurrency or 2)
    if warmup:
        yield from ("--warmup-request-count", str(warmup))


def parse(text: str, plan: PointPlan, options: ToolOptions) -> list[RequestRecord]:
    """The requests of a `profile_export.jsonl`.

    Raises:
        UnreadableInput: if a line is not what aiperf writes.
    """
    rows = []
    for at, line in enumerate(text.splitlines(), 1):
        try:
            value = json.loads(line)
            rows.append((value["metadata"], dict(value.get("metrics") or {}), value.get("error")))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UnreadableInput(f"no record of aiperf: {error}", where=f"{RECORDS}:{at}") from error
    starts = [_intended_ns(meta, plan) for meta, _, _ in rows]
    if not rows or any(s is None for s in starts):
        raise UnreadableInput("a record has no start time", where=RECORDS)
    t0 = min(s for s in starts if s is not None)
    order = sorted(range(len(rows)), key=lambda i: starts[i] or 0)
    return [_record(i, *rows[j], (starts[j] or 0, t0), options) for i, j in enumerate(order)]


def _intended_ns(meta: Any, plan: PointPlan) -> int | None:
    """In an open loop the moment at which the schedule released the request, not when it was sent."""
    name = "credit_issued_ns" if plan.arrivals.open_loop else "request_start_ns"
    return count(meta.get(name)) if isinstance(meta, dict) else None


def _record(
    index: int, meta: Any, metrics: dict[str, Any], error: Any, times: tuple[int, int], options: ToolOptions
) -> RequestRecord:
    def metric(*names: str) -> float | None:
        for name in names:
            value = metrics.get(name)
            found = number(value.get("value")) if isinstance(value, dict) else None
            if found is not None:
                return found
        return None

    intended, t0 = times
    sent = (int(meta["request_start_ns"]) - t0) / 1e9 if count(meta.get("request_start_ns")) else None
    base = {
        "index": index,
        "session": index,
        "warmup": meta.get("benchmark_phase") == "warmup",
        "intended_s": (intended - t0) / 1e9,
        "sent_s": sent,
        "prompt_target": round(options.workload.prompt_tokens.mean),
        "output_target": round(options.workload.output_tokens.mean),
    }
    ttft, length = metric("time_to_first_token"), metric("request_latency")
    if error or sent is None or length is None:
        detail = json.dumps(error)[:300] if error else "no latency"
        end = count(meta.get("request_end_ns"))
        return RequestRecord(
            **base, error=tool_error(detail), detail=detail, end_s=(end - t0) / 1e9 if end else None
        )
    first = sent + (ttft if ttft is not None else length) / 1e3
    gaps = metrics.get("inter_chunk_latency")
    pieces = gaps.get("value") if isinstance(gaps, dict) else None
    gaps_ms = tuple(g for g in map(number, pieces) if g is not None) if isinstance(pieces, list) else ()
    tokens = count(metric("usage_completion_tokens"))
    return RequestRecord(
        **base,
        first_s=first,
        last_s=first + sum(gaps_ms) / 1e3,
        end_s=sent + length / 1e3,
        status=200,
        prompt_tokens=count(metric("usage_prompt_tokens", "input_sequence_length")),
        cached_tokens=count(metric("usage_prompt_cache_read_tokens")),
        output_tokens=tokens if tokens is not None else count(metric("output_sequence_length")),
        token_source=TokenSource.USAGE if tokens is not None else TokenSource.TOKENIZER,
        chunks=len(gaps_ms) + 1,
        gaps_ms=gaps_ms,
    )
