"""Memory predicted before the launch against the resident memory of real engines, over configurations that were run.

Models with random weights of several architectures are written, served by llama.cpp (xllamacpp) and by transformers,
asked until every slot has been filled, and the peak of the server's resident memory is held against the estimate.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from _figures import Row, main
from _fit_models import SHAPES, write_checkpoint, write_gguf

from assay.adapters.serve import llama_cpp, transformers
from assay.core.fit import FitVerdict, MachineMemory, MemoryEstimate, Serving
from assay.core.ports import Endpoint, Target
from assay.gates.fit import estimate_memory, judge_fit
from assay.readers.model import read_shape
from assay.runtime import listeners
from assay.testing.session import make_session

LIMIT_FRAC = 0.03
ANSWER_TOKENS = 8


@dataclass(frozen=True)
class Run:
    """One configuration.

    Attributes:
        model: name in SHAPES.
        type: GGUF type, or dtype that transformers loads as.
        prompt: tokens of each prompt; at least a whole batch, so that the buffers are used.
        pool: blocks of 128 tokens in transformers' pool.
    """

    engine: str
    model: str
    type: str
    context: int
    slots: int
    kv_type: str = "auto"
    batch: int = 512
    flash_attention: bool = True
    prompt: int = 1000
    pool: int = 64

    @property
    def name(self) -> str:
        """Engine, model and setting in a few words."""
        more = "" if self.kv_type == "auto" else f" kv {self.kv_type}"
        more += "" if self.batch == 512 else f" batch {self.batch}"
        more += "" if self.flash_attention else " no flash attention"
        more += f" pool {self.pool}" if self.engine == "transformers" else ""
        return f"{self.engine} {self.model} {self.type} {self.context}x{self.slots}{more}"


def _llama(*row: Any, **more: Any) -> Run:
    return Run("llama_cpp", *row, **more)


def _hf(*row: Any, **more: Any) -> Run:
    return Run("transformers", *row, **more)


QUICK = (
    _llama("llama-5m", "Q8_0", 512, 1),
    _llama("llama-30m", "Q8_0", 1024, 4),
    _llama("llama-30m", "Q4_0", 1024, 2, "q8_0"),
    _llama("qwen3-100m", "Q8_0", 2048, 2, prompt=600),
    _llama("gemma3-60m", "Q8_0", 2048, 2, prompt=1500),
    _llama("mixtral-120m", "Q4_0", 1024, 2),
    _llama("mamba-60m", "F16", 1024, 1),
    _hf("llama-5m", "bfloat16", 1024, 2),
)
"""What answers within 45 s."""
MORE = (
    _llama("llama-5m", "Q8_0", 4096, 4, prompt=4000),
    _llama("llama-5m", "F16", 2048, 8, prompt=2000),
    _llama("llama-30m", "F16", 1024, 4),
    _llama("llama-30m", "Q8_0", 2048, 4, "q4_0", prompt=2000),
    _llama("llama-30m", "Q8_0", 2048, 4, "q8_0", prompt=2000),
    _llama("llama-30m", "Q8_0", 1024, 4, batch=128),
    _llama("llama-30m", "Q8_0", 2048, 2, flash_attention=False, prompt=2000),
    _llama("llama-120m", "Q8_0", 2048, 2, prompt=2000),
    _llama("llama-120m", "Q4_0", 2048, 4, "q8_0"),
    _llama("llama-400m", "Q8_0", 2048, 2, prompt=600),
    _llama("qwen2-60m", "F16", 2048, 2),
    _llama("qwen2-60m", "Q8_0", 4096, 2, prompt=4000),
    _llama("qwen3-100m", "Q4_0", 2048, 2),
    _llama("gemma3-60m", "Q4_0", 4096, 1, prompt=2000),
    _llama("mixtral-120m", "Q8_0", 2048, 2),
    _llama("mamba-60m", "Q8_0", 4096, 4),
    _hf("llama-5m", "bfloat16", 1024, 4, pool=256),
    _hf("llama-30m", "bfloat16", 1024, 4),
    _hf("llama-30m", "float32", 1024, 2),
    _hf("llama-120m", "bfloat16", 1024, 2),
    _hf("qwen2-60m", "float32", 1024, 2, pool=128),
    _hf("qwen3-100m", "bfloat16", 1024, 2),
    _hf("gemma3-60m", "bfloat16", 1024, 2),
    _hf("llama-400m", "bfloat16", 1024, 2, prompt=600),
    _hf("mixtral-120m", "bfloat16", 1024, 2),
    _hf("llama-200m", "float32", 700, 3, pool=96),
)


FRESH = (
    _llama("llama-200m", "Q8_0", 3000, 3, "bf16", prompt=1200),
    _llama("qwen2-150m", "Q4_0", 1536, 2, "q8_0"),
    _llama("qwen3-70m", "F16", 2048, 4, "q5_1", batch=256),
    _llama("gemma3-130m", "Q8_0", 6000, 2, prompt=2500),
    _llama("mixtral-250m", "Q8_0", 1024, 3),
    _llama("mamba-120m", "F16", 2048, 2),
    _hf("qwen3-70m", "bfloat16", 1500, 2),
    _hf("qwen2-150m", "float32", 900, 2),
    _hf("mixtral-250m", "bfloat16", 1024, 1),
)
"""Nothing in the engines' table was fitted on these: other shapes, cache types, contexts."""


def measure(quick: bool) -> list[Row]:
    """Run each configuration; a row each, and the two figures that count."""
    missing = [
        n for n in ("xllamacpp", "gguf", "transformers", "torch") if importlib.util.find_spec(n) is None
    ]
    if missing:
        return [Row("fit", None, "%", peer=f"pip install {' '.join(missing)} to measure it")]
    rows: list[Row] = []
    errors: dict[Run, float] = {}
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for run in QUICK if quick else (*QUICK, *MORE, *FRESH):
            estimate, peak = _measured(run, Path(folder))
            expected = estimate.estimate_bytes
            if expected is None:
                raise SystemExit(f"{run.name}: not known: {estimate.unknown}")
            error = expected / peak - 1
            exact = MachineMemory(total_bytes=peak, available_bytes=peak)
            wrong += judge_fit(estimate, exact).verdict is FitVerdict.CANNOT
            above = estimate.upper_bytes is not None and peak > estimate.upper_bytes
            errors[run] = error
            parts = ", ".join(f"{p.name} {p.estimate / 2**20:.1f}" for p in estimate.parts)
            peer = f"{peak / 2**20:.1f} MiB measured; {parts}{'; ABOVE THE RANGE' if above else ''}"
            rows.append(Row(run.name, 100 * error, "%", peer=peer))
            print(f"{run.name}: {100 * error:+.1f} % ({peer})", file=sys.stderr)
            wrong += above
    mean = sum(map(abs, errors.values())) / len(errors)
    worst = max(errors.values(), key=abs)
    fresh = [abs(errors[run]) for run in FRESH if run in errors]
    unseen = (
        [Row("fit: mean error where nothing was fitted", 100 * sum(fresh) / len(fresh), "%")] if fresh else []
    )
    return [
        *rows,
        Row(
            "fit: configurations", len(rows), "", "" if quick else ">= 12", None if quick else len(rows) >= 12
        ),
        Row("fit: mean error", 100 * mean, "%", f"<= {100 * LIMIT_FRAC:g}", mean <= LIMIT_FRAC),
        *unseen,
        Row("fit: worst error", 100 * worst, "%"),
        Row("fit: wrong cannot, or above the range", wrong, "", "0", wrong == 0),
    ]


def _measured(run: Run, folder: Path) -> tuple[MemoryEstimate, int]:
    """What was predicted for a configuration, and the peak of what it took, in bytes."""
    path = _model(run, folder)
    serving = Serving(
        engine=run.engine,
        context_tokens=run.context,
        concurrency=run.slots,
        kv_type=run.kv_type,
        dtype=run.type if run.engine == "transformers" else "auto",
        batch_tokens=run.batch,
        flash_attention=run.flash_attention,
        pool_tokens=128 * run.pool if run.engine == "transformers" else None,
    )
    estimate = estimate_memory(read_shape(path), serving)
    work = Path(tempfile.mkdtemp(dir=folder))
    with ExitStack() as stack:
        endpoint = stack.enter_context(
            _adapter(run).serve(Target(name="m", path=str(path)), make_session(work))
        )
        (pid,) = listeners.listener_pids(int(endpoint.base_url.rsplit(":", 1)[1].removesuffix("/v1")))
        with ThreadPoolExecutor(run.slots) as pool:
            list(pool.map(lambda n: _ask(run, endpoint, n), range(run.slots)))
        peak = _peak(pid)
    return estimate, peak


def _model(run: Run, folder: Path) -> Path:
    if run.engine == "transformers":
        path = folder / run.model
        return path if path.exists() else write_checkpoint(path, SHAPES[run.model])
    path = folder / f"{run.model}-{run.type}.gguf"
    return path if path.exists() else write_gguf(path, SHAPES[run.model], run.type)


def _adapter(run: Run) -> Any:
    if run.engine == "transformers":
        return transformers.Adapter(
            transformers.Options.model_validate(
                {"dtype": run.type, "kv_blocks": run.pool, "max_batch_tokens": run.batch}
            )
        )
    return llama_cpp.Adapter(
        llama_cpp.Options.model_validate(
            {
                "context_tokens": run.context,
                "slots": run.slots,
                "threads": 1,
                "ubatch_tokens": run.batch,
                "kv_type": "f16" if run.kv_type == "auto" else run.kv_type,
                "flash_attention": "auto" if run.flash_attention else "off",
            }
        )
    )


def _ask(run: Run, endpoint: Endpoint, number: int) -> None:
    """One request with a prompt of its own, all slots at once."""
    count = max(1, min(run.prompt, run.context - ANSWER_TOKENS - 16))
    body: dict[str, Any] = {"model": endpoint.model, "max_tokens": ANSWER_TOKENS}
    if run.engine == "llama_cpp":
        url = f"{endpoint.base_url}/completions"
        tokens = [(7 * i + number) % 250 for i in range(count)]
        body |= {"prompt": tokens, "ignore_eos": True, "cache_prompt": False}
    else:
        url = f"{endpoint.base_url}/chat/completions"
        text = "".join(chr(97 + (number * 7 + i) % 26) for i in range(count))
        body |= {"messages": [{"role": "user", "content": text}], "stream": True}
        body["generation_config"] = json.dumps(
            {"max_new_tokens": ANSWER_TOKENS, "min_new_tokens": ANSWER_TOKENS}
        )
        del body["max_tokens"]
    httpx.post(url, json=body, timeout=300).raise_for_status()


def _peak(pid: int) -> int:
    """The most that was resident, in bytes: files that are mapped count as what is there of them."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise SystemExit("the kernel does not tell VmHWM")


def configurations() -> Iterator[Run]:
    """All of them, for tests."""
    yield from (*QUICK, *MORE, *FRESH)


if __name__ == "__main__":
    main(__doc__ or "", measure)
