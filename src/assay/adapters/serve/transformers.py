"""Kind `transformers`: the server command of Hugging Face transformers; the reference, and slow.

Continuous batching is on: without it requests are served one by one (60 instead of 146 requests/s, measured
with the demo model on two cores). `/v1/models` answers 500 where there is no hub cache, so the model is
known by the completion's own field, which is the checkpoint's path with `@main` behind it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assay.core.base import SpecPath
from assay.core.ports import Component, Session, Target
from assay.core.vocabulary import Verb
from assay.runtime import probe
from assay.runtime.serving import FolderServing, Server, ServerOptions

PACKAGES = ("transformers", "torch", "fastapi", "uvicorn")


class Options(ServerOptions):
    """How `transformers serve` is started."""

    python: SpecPath | None = None
    """Interpreter that has transformers; None = the one that runs Assay."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "bfloat16"
    """What the model computes in; `auto` = as the checkpoint says, which may differ between two sides."""
    device: str = "cpu"
    """`cpu`, `cuda:0`, `auto`, ..."""
    threads: int = Field(default=1, ge=1)
    """OpenMP threads on the CPU."""
    continuous_batching: bool = True
    """Serve several requests in one batch."""
    kv_block_tokens: int = Field(default=128, ge=1)
    """Tokens in one block of the KV cache."""
    kv_blocks: int = Field(default=64, ge=1)
    """Blocks in the KV cache. Too few, and no request can be scheduled."""
    max_batch_tokens: int = Field(default=512, ge=1)
    """Tokens in one batch."""
    attention: str | None = None
    """`sdpa`, `eager`, `flash_attention_2`, ...; None = what transformers chooses."""


class Adapter(FolderServing):
    """Serves a checkpoint folder with `transformers serve`."""

    def __init__(self, options: Options) -> None:
        self.options: Options = options

    def check(self) -> Component:
        """Whether the interpreter has transformers and what its server needs."""
        found = probe.component(Verb.SERVE, "transformers", PACKAGES, self.options.python, "transformers")
        version = found.vendor.get("transformers", "")
        if found.state == "ready" and version and int(version.partition(".")[0]) < 5:
            return found.model_copy(
                update={"state": "unsupported", "detail": f"transformers {version}: needs 5.9 or newer"}
            )
        return found

    def protocol(self) -> Mapping[str, Any]:
        """Engine, precision, device and batching."""
        chosen = self.options
        batching = {
            "kv_block_tokens": chosen.kv_block_tokens,
            "kv_blocks": chosen.kv_blocks,
            "max_batch_tokens": chosen.max_batch_tokens,
        }
        return {
            "engine": "transformers",
            "engine_version": probe.versions(("transformers",), chosen.python).get("transformers", ""),
            "dtype": chosen.dtype,
            "kv_dtype": chosen.dtype,
            "device": chosen.device,
            "attention": chosen.attention or "default",
            "continuous_batching": chosen.continuous_batching,
            **(batching if chosen.continuous_batching else {}),
            "extra_args": list(chosen.extra_args),
        }

    def server(self, folder: Path, target: Target, session: Session) -> Server:
        """The server of that folder."""
        facts = self.protocol()
        return Server(
            engine="transformers",
            version=str(facts["engine_version"]),
            model=str(folder),
            accepted=frozenset({f"{folder}@main", f"{os.path.realpath(folder)}@main"}),
            command=lambda port: self.command(folder, port, session.seed),
            env=self.environment(),
            lists_models=False,
            facts=facts,
        )

    def command(self, folder: Path, port: int, seed: int) -> tuple[str, ...]:
        """The command line."""
        chosen = self.options
        line = [probe.interpreter(chosen.python), "-m", "transformers.cli.transformers", "serve", str(folder)]
        line += [
            "--host",
            chosen.host,
            "--port",
            str(port),
            "--device",
            chosen.device,
            "--dtype",
            chosen.dtype,
        ]
        line += ["--default-seed", str(seed)]
        if chosen.attention:
            line += ["--attn-implementation", chosen.attention]
        if chosen.continuous_batching:
            line += ["--continuous-batching", "--cb-block-size", str(chosen.kv_block_tokens)]
            line += [
                "--cb-num-blocks",
                str(chosen.kv_blocks),
                "--cb-max-batch-tokens",
                str(chosen.max_batch_tokens),
            ]
        return (*line, *chosen.extra_args)

    def environment(self) -> Mapping[str, str]:
        """Offline, quiet, and with threads that do not spin: one busy neighbour would stop them all."""
        return {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(self.options.threads),
            "OMP_WAIT_POLICY": "passive",
            "PYTHONUNBUFFERED": "1",
        }
