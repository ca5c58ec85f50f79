"""What each serving engine calls a setting: one table, from which a command to copy is made.

The settings have the names of Assay's serve adapters. Flags are those of the engines' manuals of 2026; a setting
that an engine has no flag for is told, never dropped without a word.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from assay.core.errors import UsageError


@dataclass(frozen=True)
class Flag:
    """How one setting is written."""

    word: str
    """The flag, or the variable where `variable` is set."""
    variable: bool = False
    """It is an environment variable."""
    off: str = ""
    """The flag for False; without one, False leaves it away."""
    value: Callable[[Any], Any] | None = None
    """The value as the engine writes it."""
    both: str = ""
    """A second flag that takes the same value."""


@dataclass(frozen=True)
class Engine:
    """One engine's command line."""

    name: str
    program: tuple[str, ...]
    model: tuple[str, ...]
    """Words before the model; empty = the model follows the program."""
    port: Flag
    flags: Mapping[str, Flag]
    ignored: frozenset[str] = frozenset()
    """Settings that say how Assay starts it, not how it serves."""
    after: tuple[str, ...] = ()
    """Words that close the command line."""
    served_by_name: bool = False
    """The server loads models by name when they are asked for; the command does not name one."""
    always: Mapping[str, str] = field(default_factory=dict)
    """Variables without which the measured speed does not come back."""


@dataclass(frozen=True)
class ServeCommand:
    """A command that serves a model with its settings."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    untold: tuple[str, ...]
    """Settings that this engine has no word for."""

    @property
    def shell(self) -> str:
        """For a shell, to be copied."""
        variables = [f"{k}={shlex.quote(v)}" for k, v in self.environment.items()]
        return " ".join([*variables, shlex.join(self.words)])


_OURS = frozenset(
    "host port ready_timeout_s env extra_args python binary gguf_type gguf_folder device_index alias".split()  # noqa: SIM905
)


ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        "llama_cpp": Engine(
            name="llama.cpp",
            program=("llama-server",),
            model=("-m",),
            port=Flag("--port"),
            flags={
                "context_tokens": Flag("-c"),
                "slots": Flag("-np"),
                "threads": Flag("-t"),
                "batch_tokens": Flag("-b"),
                "ubatch_tokens": Flag("-ub"),
                "kv_type": Flag("-ctk", both="-ctv"),
                "flash_attention": Flag("-fa"),
                "kv_unified": Flag("-kvu"),
                "gpu_layers": Flag("-ngl"),
                "cache_ram_mib": Flag("-cram"),
                "moe_cpu_layers": Flag("-ncmoe"),
                "split_mode": Flag("-sm"),
                "tensor_split": Flag("-ts"),
                "draft_model": Flag("-md"),
                "cache_reuse_tokens": Flag("--cache-reuse"),
            },
            ignored=_OURS,
            # Builds of 2026 shrink the context until it fits, and threads that spin stand still beside others.
            after=("-fit", "off"),
            always={"GOMP_SPINCOUNT": "1000"},
        ),
        "transformers": Engine(
            name="transformers",
            program=("transformers", "serve"),
            model=(),
            port=Flag("--port"),
            flags={
                "dtype": Flag("--dtype"),
                "device": Flag("--device"),
                "continuous_batching": Flag("--continuous-batching"),
                "kv_block_tokens": Flag("--cb-block-size"),
                "kv_blocks": Flag("--cb-num-blocks"),
                "max_batch_tokens": Flag("--cb-max-batch-tokens"),
                "attention": Flag("--attn-implementation"),
                "quantization": Flag("--quantization"),
                "threads": Flag("OMP_NUM_THREADS", variable=True),
            },
            ignored=_OURS,
            always={"OMP_WAIT_POLICY": "passive"},
        ),
        "vllm": Engine(
            name="vLLM",
            program=("vllm", "serve"),
            model=(),
            port=Flag("--port"),
            flags={
                "dtype": Flag("--dtype"),
                "quantization": Flag("--quantization"),
                "kv_dtype": Flag("--kv-cache-dtype"),
                "context_tokens": Flag("--max-model-len"),
                "slots": Flag("--max-num-seqs"),
                "batch_tokens": Flag("--max-num-batched-tokens"),
                "gpu_memory_frac": Flag("--gpu-memory-utilization"),
                "kv_cache_bytes": Flag("--kv-cache-memory-bytes"),
                "cpu_kv_cache_gib": Flag("VLLM_CPU_KVCACHE_SPACE", variable=True),
                "tensor_parallel": Flag("--tensor-parallel-size"),
                "pipeline_parallel": Flag("--pipeline-parallel-size"),
                "data_parallel": Flag("--data-parallel-size"),
                "expert_parallel": Flag("--enable-expert-parallel"),
                "prefix_caching": Flag("--enable-prefix-caching", off="--no-enable-prefix-caching"),
                "eager": Flag("--enforce-eager"),
                "async_scheduling": Flag("--async-scheduling"),
                "stream_interval": Flag("--stream-interval"),
                "block_tokens": Flag("--block-size"),
                "cpu_offload_gib": Flag("--cpu-offload-gb"),
                "speculative": Flag("--speculative-config"),
                "load_format": Flag("--load-format"),
                "threads": Flag("OMP_NUM_THREADS", variable=True),
            },
            ignored=_OURS,
        ),
        "sglang": Engine(
            name="SGLang",
            program=("python", "-m", "sglang.launch_server"),
            model=("--model-path",),
            port=Flag("--port"),
            flags={
                "dtype": Flag("--dtype"),
                "quantization": Flag("--quantization"),
                "kv_dtype": Flag("--kv-cache-dtype"),
                "context_tokens": Flag("--context-length"),
                "slots": Flag("--max-running-requests"),
                "prefill_tokens": Flag("--max-prefill-tokens"),
                "chunked_prefill_tokens": Flag("--chunked-prefill-size"),
                "memory_frac": Flag("--mem-fraction-static"),
                "kv_cache_tokens": Flag("--max-total-tokens"),
                "tensor_parallel": Flag("--tp-size"),
                "pipeline_parallel": Flag("--pp-size"),
                "data_parallel": Flag("--dp-size"),
                "expert_parallel": Flag("--ep-size"),
                "prefix_caching": Flag("", off="--disable-radix-cache"),
                "schedule": Flag("--schedule-policy"),
                "schedule_conservativeness": Flag("--schedule-conservativeness"),
                "cuda_graph_max_batch": Flag("--cuda-graph-max-bs"),
                "stream_interval": Flag("--stream-interval"),
                "load_format": Flag("--load-format"),
            },
            ignored=_OURS,
        ),
        "mlx_lm": Engine(
            name="MLX-LM",
            program=("mlx_lm.server",),
            model=("--model",),
            port=Flag("--port"),
            flags={
                "slots": Flag("--decode-concurrency"),
                "prompt_slots": Flag("--prompt-concurrency"),
                "prefill_tokens": Flag("--prefill-step-size"),
                "prompt_cache_entries": Flag("--prompt-cache-size"),
                "prompt_cache_bytes": Flag("--prompt-cache-bytes"),
                "draft_model": Flag("--draft-model"),
                "draft_tokens": Flag("--num-draft-tokens"),
            },
            ignored=_OURS,
        ),
        "ollama": Engine(
            name="Ollama",
            program=("ollama", "serve"),
            model=(),
            port=Flag("OLLAMA_HOST", variable=True),
            flags={
                "context_tokens": Flag("OLLAMA_CONTEXT_LENGTH", variable=True),
                "slots": Flag("OLLAMA_NUM_PARALLEL", variable=True),
                "max_queue": Flag("OLLAMA_MAX_QUEUE", variable=True),
                "kv_type": Flag("OLLAMA_KV_CACHE_TYPE", variable=True),
                "flash_attention": Flag(
                    "OLLAMA_FLASH_ATTENTION", variable=True, value=lambda v: int(v in (True, "on"))
                ),
                "gpu_overhead_bytes": Flag("OLLAMA_GPU_OVERHEAD", variable=True),
                "loaded_models": Flag("OLLAMA_MAX_LOADED_MODELS", variable=True),
            },
            ignored=_OURS,
            served_by_name=True,
        ),
        "tensorrt_llm": Engine(
            name="TensorRT-LLM",
            program=("trtllm-serve",),
            model=(),
            port=Flag("--port"),
            flags={
                "context_tokens": Flag("--max_seq_len"),
                "slots": Flag("--max_batch_size"),
                "batch_tokens": Flag("--max_num_tokens"),
                "kv_cache_free_frac": Flag("--kv_cache_free_gpu_memory_fraction"),
                "kv_dtype": Flag("--kv_cache_dtype"),
                "tensor_parallel": Flag("--tp_size"),
                "pipeline_parallel": Flag("--pp_size"),
                "expert_parallel": Flag("--ep_size"),
                "chunked_prefill": Flag("--enable_chunked_prefill"),
                "config": Flag("--config"),
            },
            ignored=_OURS,
        ),
    }
)
"""Serve kind → its command line."""


def serve_command(
    engine: str, model: str, settings: Mapping[str, Any], *, host: str = "", port: int = 8000
) -> ServeCommand:
    """The command that serves a model as it was measured.

    Args:
        engine: serve kind, a key of `ENGINES`.
        model: path or id.
        settings: by the names of the serve adapter; None = left to the engine.
        host: address to listen on; empty = the engine's default.
        port: TCP port.

    Raises:
        UsageError: if no such engine is known.
    """
    found = ENGINES.get(engine)
    if found is None:
        raise UsageError(f"no flags are known for engine {engine!r}", allowed=", ".join(ENGINES))
    own = settings.get("binary")
    words = [str(own)] if own else [*found.program]
    if not found.served_by_name:
        words += [*found.model, model]
    environment = {**found.always}
    untold = []
    for name, value in _totals(engine, settings).items():
        if value is None or name in found.ignored:
            continue
        flag = found.flags.get(name)
        if flag is None:
            untold.append(name)
        elif flag.variable:
            environment[flag.word] = str(_written(flag, value))
        else:
            words += _words(flag, value)
    _listen(found, host, port, words, environment)
    extra = settings.get("extra_args") or ()
    environment |= {str(k): str(v) for k, v in (settings.get("env") or {}).items()}
    return ServeCommand((*words, *found.after, *map(str, extra)), environment, tuple(untold))


def copied_command(engine: str, model: str, settings: Mapping[str, Any], otherwise: str = "") -> str:
    """The engine's own command, for a shell; what it has no word for stands behind it as a comment.

    Args:
        engine: serve kind.
        model: path or id.
        settings: all options by the names of the serve adapter.
        otherwise: the command for an engine whose flags are not known, such as one that a person wrote himself.
    """
    if engine not in ENGINES or not model:
        return otherwise
    made = serve_command(engine, model, settings)
    return made.shell + (f"  # not told: {', '.join(made.untold)}" if made.untold else "")


def _totals(engine: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """llama.cpp's context is the total over its slots, unless they share one pool; 0 threads are the default."""
    made = dict(settings)
    context, slots = made.get("context_tokens"), made.get("slots")
    if engine != "llama_cpp":
        return made
    if isinstance(context, int) and isinstance(slots, int) and not made.get("kv_unified"):
        made["context_tokens"] = context * slots
    if not made.get("threads"):
        made["threads"] = None
    return made


def _words(flag: Flag, value: Any) -> list[str]:
    if value is True:
        return [flag.word] if flag.word else []
    if value is False:
        return [flag.off] if flag.off else []
    shown = str(_written(flag, value))
    return [flag.word, shown, *([flag.both, shown] if flag.both else [])]


def _written(flag: Flag, value: Any) -> Any:
    return flag.value(value) if flag.value else value


def _listen(found: Engine, host: str, port: int, words: list[str], environment: dict[str, str]) -> None:
    if found.port.variable:
        environment[found.port.word] = f"{host or '127.0.0.1'}:{port}"
        return
    if host:
        words += ["--host", host]
    words += [found.port.word, str(port)]
