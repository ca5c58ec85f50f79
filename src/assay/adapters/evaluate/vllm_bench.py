"""Evaluate kind `vllm_bench`: vLLM's own `bench serve` in our place, as a child process. Written for vLLM 0.32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from assay.core.errors import UnreadableInput
from assay.core.load import PointPlan, RequestRecord, TokenSource
from assay.core.ports import Endpoint
from assay.load.external import ToolAdapter, ToolOptions, count, number, read_document, spread, tool_error

RESULT = "result.json"
# The `vllm` command looks for metadata of a distribution named vllm, which rebuilds do not have.
_PROGRAM = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
    "p = argparse.ArgumentParser(); add_cli_args(p); main(p.parse_args())"
)


class Options(ToolOptions):
    """Options of `evaluate: {kind: vllm_bench}`. Points end by `requests`: it knows no duration."""

    @model_validator(mode="after")
    def _ended_by_requests(self) -> Self:
        if any(p.requests is None or p.duration_s is not None for p in self.points):
            raise ValueError("vllm bench knows no duration: end every point by `requests`")
        return self


class Adapter(ToolAdapter):
    """`vllm bench serve`."""

    kind = "vllm_bench"
    module = "vllm"
    install = "pip install vllm"

    def command(self, plan: PointPlan, endpoint: Endpoint, tokenizer: str, out: Path, seed: int) -> list[str]:
        """The benchmark's module, with the flags of `vllm bench serve`."""
        workload, arrivals = self.options.workload, plan.arrivals
        chat = workload.api == "chat"
        body = dict(workload.extra_body)
        flags = {
            "--backend": "openai-chat" if chat else "openai",
            "--base-url": endpoint.base_url.removesuffix("/v1"),
            "--endpoint": "/v1/chat/completions" if chat else "/v1/completions",
            "--model": endpoint.model,
            "--tokenizer": tokenizer,
            "--dataset-name": "random",
            "--random-input-len": f"{workload.prompt_tokens.mean:.0f}",
            "--random-output-len": f"{workload.output_tokens.mean:.0f}",
            "--random-range-ratio": f"{_range_ratio(self.options):g}",
            "--num-prompts": str(plan.requests),
            "--num-warmups": str(
                max(2, arrivals.concurrency or 2) if plan.warmup_requests is None else plan.warmup_requests
            ),
            "--seed": str(workload.seed or seed),
            "--result-dir": str(out.absolute()),
            "--result-filename": RESULT,
            "--percentile-metrics": "ttft,tpot,itl,e2el",
            **({"--extra-body": json.dumps(body)} if body else {}),
        }
        if arrivals.concurrency is not None:
            flags |= {"--max-concurrency": str(arrivals.concurrency), "--request-rate": "inf"}
        else:
            shape = {"poisson": 1.0, "constant": 1e6}.get(arrivals.kind, arrivals.burstiness)
            flags |= {"--request-rate": f"{arrivals.rate_rps:g}", "--burstiness": f"{shape:g}"}
        switches = ["--save-result", "--save-detailed", "--disable-tqdm"]
        if workload.length_control in ("auto", "ignore_eos"):
            switches.append("--ignore-eos")
        return [self.python, "-c", _PROGRAM, *(part for flag in flags.items() for part in flag), *switches]

    def environment(self, workdir: Path) -> dict[str, str]:
        """No network for the tokenizer."""
        return {**super().environment(workdir), "HF_HUB_OFFLINE": "1"}

    def read(self, out: Path, plan: PointPlan) -> tuple[str, list[RequestRecord], list[Path]]:
        """The requests of its result file, which names no version."""
        return "", parse(read_document(out / RESULT), plan, self.options), [out / RESULT]


def _range_ratio(options: ToolOptions) -> float:
    """It draws lengths uniformly from a band around the mean: the band of the same standard deviation."""
    length = options.workload.prompt_tokens
    return min(0.99, spread(length) * 3**0.5 / length.mean)


def parse(result: Any, plan: PointPlan, options: ToolOptions) -> list[RequestRecord]:
    """The requests of a detailed result.

    Raises:
        UnreadableInput: if it is not what `--save-detailed` writes.
    """
    names = (
        "start_times",
        "queue_times",
        "ttfts",
        "itls",
        "latencies",
        "input_lens",
        "output_lens",
        "errors",
    )
    try:
        columns = [list(result[name]) for name in names]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        # In a closed loop all of them "arrive" at once and wait for their turn: that is no latency.
        waited = 1.0 if plan.arrivals.open_loop else 0.0
        starts = [float(row["start_times"]) - waited * float(row["queue_times"] or 0.0) for row in rows]
    except (LookupError, TypeError, ValueError) as error:
        raise UnreadableInput(f"no detailed result of vllm bench: {error!r}", where=RESULT) from error
    if not rows:
        raise UnreadableInput("it holds no request", where=RESULT)
    t0 = min(starts)
    order = sorted(range(len(rows)), key=starts.__getitem__)
    return [_record(i, starts[j], t0, rows[j], options) for i, j in enumerate(order)]


def _record(
    index: int, intended: float, t0: float, row: dict[str, Any], options: ToolOptions
) -> RequestRecord:
    sent = float(row["start_times"]) - t0
    base = {
        "index": index,
        "session": index,
        "intended_s": intended - t0,
        "sent_s": sent,
        "prompt_target": round(options.workload.prompt_tokens.mean),
        "output_target": round(options.workload.output_tokens.mean),
    }
    length, ttft = number(row["latencies"]), number(row["ttfts"])
    detail = str(row["errors"] or "")
    if detail or not length or ttft is None:
        return RequestRecord(**base, error=tool_error(detail), detail=detail[:300] or "no latency")
    itls = row["itls"] if isinstance(row["itls"], list) else []
    gaps = tuple(g * 1e3 for g in map(number, itls) if g is not None)
    return RequestRecord(
        **base,
        first_s=sent + ttft,
        last_s=sent + ttft + sum(gaps) / 1e3,
        end_s=sent + length,
        status=200,
        prompt_tokens=count(row["input_lens"]),
        output_tokens=count(row["output_lens"]),
        token_source=TokenSource.USAGE,
        chunks=len(gaps) + 1,
        gaps_ms=gaps,
    )
