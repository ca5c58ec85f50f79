"""Evaluate kind `guidellm`: vLLM project's load tool in our place, as a child process. Written for guidellm 0.8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from assay.core.errors import UnreadableInput
from assay.core.load import PointPlan, RequestError, RequestRecord, TokenSource
from assay.core.ports import Endpoint
from assay.load.external import ToolAdapter, ToolOptions, count, number, read_document, spread, tool_error

REPORT = "guidellm.json"
_PROFILES = {"closed": "concurrent", "constant": "constant", "poisson": "poisson"}


class Options(ToolOptions):
    """Options of `evaluate: {kind: guidellm}`. It has no warm-up and no gamma arrivals."""

    @model_validator(mode="after")
    def _known_arrivals(self) -> Self:
        if any(p.arrivals.kind not in _PROFILES for p in self.points):
            raise ValueError(f"guidellm has no such arrivals, only {', '.join(_PROFILES)}")
        return self


class Adapter(ToolAdapter):
    """guidellm's `run` command."""

    kind = "guidellm"
    module = "guidellm"
    install = "pip install guidellm"

    def command(self, plan: PointPlan, endpoint: Endpoint, tokenizer: str, out: Path, seed: int) -> list[str]:
        """`guidellm run ...`."""
        workload, arrivals = self.options.workload, plan.arrivals
        route = "/v1/chat/completions" if workload.api == "chat" else "/v1/completions"
        load = f"streams={arrivals.concurrency}" if arrivals.concurrency else f"rate={arrivals.rate_rps:g}"
        data = [
            f"prompt_tokens={workload.prompt_tokens.mean:g}",
            f"output_tokens={workload.output_tokens.mean:g}",
        ]
        if deviation := spread(workload.prompt_tokens):
            data.append(f"prompt_tokens_stdev={deviation}")
        if deviation := spread(workload.output_tokens):
            data.append(f"output_tokens_stdev={deviation}")
        target = endpoint.base_url.removesuffix("/v1")
        flags = [
            ("--backend", f"kind=openai_http,target={target},model={endpoint.model},request_format={route}"),
            ("--profile", f"kind={_PROFILES[arrivals.kind]},{load}"),
            ("--data", ",".join(["kind=synthetic_text", *data])),
            ("--tokenizer", f"kind=huggingface_auto,model={tokenizer}"),
            ("--seed", f"kind=static,value={workload.seed or seed}"),
            ("--output", f"kind=json,path={(out / REPORT).absolute()}"),
            *_constraints(plan),
        ]
        return [
            self.python, "-m", "guidellm", "run", *(part for flag in flags for part in flag), "--disable-progress",
        ]  # fmt: skip

    def environment(self, workdir: Path) -> dict[str, str]:
        """One worker, as its default of ten steals the server's cores; no network for the tokenizer."""
        return {
            **super().environment(workdir),
            "GUIDELLM__MAX_WORKER_PROCESSES": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
        }

    def read(self, out: Path, plan: PointPlan) -> tuple[str, list[RequestRecord], list[Path]]:
        """The requests of its JSON report."""
        version, records = parse(read_document(out / REPORT), plan, self.options)
        return version, records, [out / REPORT]


def _constraints(plan: PointPlan) -> Iterator[tuple[str, str]]:
    if plan.requests is not None:
        yield "--constraint", f"kind=max_requests,count={plan.requests}"
    if plan.duration_s is not None:
        yield "--constraint", f"kind=max_duration,seconds={plan.duration_s:g}"


def parse(report: Any, plan: PointPlan, options: ToolOptions) -> tuple[str, list[RequestRecord]]:
    """Version and requests of a report with one benchmark.

    Raises:
        UnreadableInput: if it is not what guidellm writes.
    """
    try:
        version = str(report["metadata"]["guidellm_version"])
        (benchmark,) = report["benchmarks"]
        rows = [
            (dict(row["info"]["timings"]), row, group)
            for group in ("successful", "errored", "incomplete")
            for row in benchmark["requests"].get(group) or ()
        ]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableInput(f"no report of guidellm with one benchmark: {error!r}", where=REPORT) from error
    starts = [_intended(timings, plan) for timings, _, _ in rows]
    known = [s for s in starts if s is not None]
    if not known:
        raise UnreadableInput("no request has a start time", where=REPORT)
    t0 = min(known)
    begun = [(s, row) for s, row in zip(starts, rows, strict=True) if s is not None]
    begun.sort(key=lambda pair: pair[0])
    return version, [_record(i, s - t0, t0, row, options) for i, (s, row) in enumerate(begun)]


def _intended(timings: dict[str, Any], plan: PointPlan) -> float | None:
    """In an open loop the scheduled start: guidellm's own latencies count from the real one."""
    target = number(timings.get("targeted_start")) if plan.arrivals.open_loop else None
    return target if target is not None else number(timings.get("request_start"))


def _record(
    index: int, intended: float, t0: float, row: tuple[dict[str, Any], Any, str], options: ToolOptions
) -> RequestRecord:
    timings, value, group = row

    def at(name: str) -> float | None:
        found = number(timings.get(name))
        return None if found is None else found - t0

    base = {
        "index": index,
        "session": index,
        "intended_s": intended,
        "sent_s": at("request_start"),
        "end_s": at("request_end"),
        "prompt_target": round(options.workload.prompt_tokens.mean),
        "output_target": round(options.workload.output_tokens.mean),
    }
    if group != "successful":
        detail = str(value["info"].get("error") or "")[:300]
        error = RequestError.CANCELLED if group == "incomplete" else tool_error(detail)
        return RequestRecord(**base, error=error, detail=detail)
    return RequestRecord(
        **base,
        first_s=at("first_token_iteration"),
        last_s=at("last_token_iteration"),
        status=200,
        prompt_tokens=count(value.get("prompt_tokens")),
        cached_tokens=count(value.get("cached_tokens")),
        output_tokens=count(value.get("output_tokens")),
        token_source=TokenSource.USAGE,
        chunks=count(timings.get("token_iterations")) or 0,
    )
