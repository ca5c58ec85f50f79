"""Kind `sglang`: SGLang's OpenAI-compatible server, from an interpreter of its own.

It needs an accelerator. The command line follows its documentation, readiness and failure signatures are
tested on quoted log lines; nothing here was run on one.
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

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "DO_NOT_TRACK": "1",
}
"""Offline and quiet."""


class Options(ServerOptions):
    """How SGLang is started. An option left at null leaves the choice to SGLang."""

    python: SpecPath | None = None
    """Interpreter that has SGLang; None = the one that runs Assay."""
    ready_timeout_s: float = Field(default=900.0, gt=0)
    """Longest time from the start until the first token."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "bfloat16"
    """What the model computes in."""
    quantization: str | None = None
    """Method, where config.json does not declare it."""
    kv_dtype: str = "auto"
    """Type of the KV cache: auto, fp8_e5m2, fp8_e4m3."""
    context_tokens: int | None = Field(default=None, ge=1)
    """Longest prompt and output together; None = the model's own."""
    slots: int | None = Field(default=None, ge=1)
    """Requests that run at once."""
    prefill_tokens: int | None = Field(default=None, ge=1)
    """Tokens in one prefill batch."""
    chunked_prefill_tokens: int | None = Field(default=None, ge=-1)
    """Tokens in one chunk of a long prompt; -1 = prompts are not cut."""
    memory_frac: float | None = Field(default=None, gt=0, le=1)
    """Share of the device's memory for weights and KV cache. Raise it when the KV cache is too small."""
    kv_cache_tokens: int | None = Field(default=None, ge=1)
    """Tokens in the KV cache."""
    tensor_parallel: int = Field(default=1, ge=1)
    """Devices that share each layer."""
    prefix_caching: bool = True
    """Reuse the KV cache of equal prompt beginnings (radix cache)."""
    schedule: str | None = None
    """Scheduling policy: fcfs, lpm, ..."""


class Adapter(FolderServing):
    """Serves a checkpoint folder with SGLang."""

    def __init__(self, options: Options) -> None:
        self.options: Options = options

    def check(self) -> Component:
        """Whether the interpreter has SGLang."""
        return probe.component(Verb.SERVE, "sglang", ("sglang",), self.options.python, "")

    def protocol(self) -> Mapping[str, Any]:
        """Engine, precision, context and batching."""
        chosen = self.options
        names = (
            "dtype quantization kv_dtype context_tokens slots prefill_tokens chunked_prefill_tokens "
            "kv_cache_tokens tensor_parallel prefix_caching schedule"
        )
        return {
            "engine": "sglang",
            "engine_version": self._version(),
            **{name: getattr(chosen, name) for name in names.split()},
            "extra_args": list(chosen.extra_args),
        }

    def server(self, folder: Path, target: Target, session: Session) -> Server:
        """The server of that folder."""
        name = model_id(target.name)
        return Server(
            engine="sglang",
            version=self._version(),
            model=name,
            command=lambda port: self.command(folder, name, port, session.seed),
            env=ENVIRONMENT,
            facts=self.protocol(),
        )

    def command(self, folder: Path, name: str, port: int, seed: int) -> tuple[str, ...]:
        """The command line."""
        chosen = self.options
        line = [probe.interpreter(chosen.python), "-m", "sglang.launch_server"]
        line += flags(
            {
                "--model-path": folder,
                "--served-model-name": name,
                "--host": chosen.host,
                "--port": port,
                "--random-seed": seed,
                "--dtype": chosen.dtype,
                "--quantization": chosen.quantization,
                "--kv-cache-dtype": chosen.kv_dtype,
                "--context-length": chosen.context_tokens,
                "--max-running-requests": chosen.slots,
                "--max-prefill-tokens": chosen.prefill_tokens,
                "--chunked-prefill-size": chosen.chunked_prefill_tokens,
                "--mem-fraction-static": chosen.memory_frac,
                "--max-total-tokens": chosen.kv_cache_tokens,
                "--tp-size": chosen.tensor_parallel,
                "--disable-radix-cache": not chosen.prefix_caching,
                "--schedule-policy": chosen.schedule,
            }
        )
        return (*line, *chosen.extra_args)

    def _version(self) -> str:
        return str(probe.versions(("sglang",), self.options.python).get("sglang", ""))
