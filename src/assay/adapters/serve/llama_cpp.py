"""Kind `llama_cpp`: llama.cpp's HTTP server, from the xllamacpp wheel or a `llama-server` binary.

A checkpoint folder is written as GGUF first. Weight-only compressed-tensors checkpoints are dequantized to
the numbers on disk, so what is served is the artifact.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assay.core.base import SpecPath
from assay.core.canon import short
from assay.core.errors import ComponentMissing, UsageError
from assay.core.ports import Component, Endpoint, Session, Target
from assay.core.vocabulary import Verb
from assay.runtime import llama_launcher, probe
from assay.runtime.serving import Server, ServerOptions, model_id, serving
from assay.runtime.worker import run_worker

LAUNCHER = Path(llama_launcher.__file__)
WRITER = "quantize_gguf"
GGUF_NAME = "model.gguf"


class Options(ServerOptions):
    """How llama.cpp's server is started."""

    binary: str | None = None
    """A `llama-server` program; None = the xllamacpp wheel behind Assay's launcher."""
    python: SpecPath | None = None
    """Interpreter that has xllamacpp and gguf; None = the one that runs Assay."""
    context_tokens: int = Field(default=2048, ge=1)
    """Context of one slot. llama.cpp rounds it up to a multiple of 256."""
    slots: int = Field(default=8, ge=1)
    """Requests served at once."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 = as many as this process may use."""
    batch_tokens: int = Field(default=2048, ge=1)
    """Logical batch."""
    ubatch_tokens: int = Field(default=512, ge=1)
    """Physical batch."""
    kv_type: Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"] = "f16"
    """Type of the KV cache. A quantized one needs flash attention."""
    flash_attention: Literal["auto", "on", "off"] = "auto"
    """`auto` = where llama.cpp can."""
    kv_unified: bool = False
    """One KV pool for all slots instead of equal shares."""
    gpu_layers: int = Field(default=0, ge=0)
    """Layers on the accelerator, where the build has one."""
    gguf_type: Literal["F32", "F16", "BF16"] = "F16"
    """Type of the matrices when a checkpoint folder is written as GGUF. F32 keeps every value as it is."""
    gguf_folder: SpecPath | None = None
    """Where a checkpoint folder is written as GGUF once, for all launches; null = by each step into its own folder."""


class Adapter:
    """Serves a GGUF file, or a checkpoint folder that is written as one."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether the program or the wheel is there."""
        if self.options.binary is None:
            return probe.component(
                Verb.SERVE, "llama_cpp", ("xllamacpp", "gguf"), self.options.python, "llama-cpp"
            )
        try:
            version = _binary_version(self.options.binary)
        except ComponentMissing as error:
            return Component(verb=Verb.SERVE, kind="llama_cpp", state="missing", detail=str(error))
        return Component(verb=Verb.SERVE, kind="llama_cpp", state="ready", vendor={"llama-server": version})

    def protocol(self) -> Mapping[str, Any]:
        """Engine, precision, context and batching."""
        chosen = self.options
        return {
            "engine": "llama_cpp",
            "engine_version": self._version(),
            "dtype": chosen.gguf_type,
            "kv_dtype": chosen.kv_type,
            "flash_attention": chosen.flash_attention,
            "context_tokens": chosen.context_tokens,
            "slots": chosen.slots,
            "batch_tokens": chosen.batch_tokens,
            "ubatch_tokens": chosen.ubatch_tokens,
            "kv_unified": chosen.kv_unified,
            "gpu_layers": chosen.gpu_layers,
            "extra_args": list(chosen.extra_args),
        }

    @contextmanager
    def serve(self, target: Target, session: Session) -> Iterator[Endpoint]:
        """Serve the target.

        Raises:
            UsageError: if the target is neither a GGUF file nor a checkpoint folder, or the port is taken.
            ComponentMissing, ComponentFailed: see the port; MODEL_UNSUPPORTED if it cannot become a GGUF
            file.
        """
        file = self._gguf(target, session)
        facts = self.protocol()
        name = model_id(target.name)
        server = Server(
            engine="llama_cpp",
            version=str(facts["engine_version"]),
            model=name,
            command=lambda port: self.command(file, name, port, session.seed),
            # OpenMP threads that spin stand still beside one busy process; a short spin costs nothing.
            env={"GOMP_SPINCOUNT": "1000", "OMP_NUM_THREADS": str(self._threads())},
            facts=facts,
        )
        with serving(server, self.options, session) as endpoint:
            yield endpoint

    def command(self, file: Path, name: str, port: int, seed: int) -> tuple[str, ...]:
        """The command line; the launcher takes the same flags as `llama-server`."""
        chosen = self.options
        if chosen.binary is None:
            line = [probe.interpreter(chosen.python), str(LAUNCHER)]
        else:
            line = [chosen.binary, "--jinja", *_no_fit(chosen.binary)]
        line += ["-m", str(file), "--alias", name, "--host", chosen.host, "--port", str(port)]
        # The context is the total over all slots, unless they share one pool.
        total = chosen.context_tokens if chosen.kv_unified else chosen.context_tokens * chosen.slots
        line += ["-c", str(total), "-np", str(chosen.slots), "-t", str(self._threads())]
        line += ["-b", str(chosen.batch_tokens), "-ub", str(chosen.ubatch_tokens)]
        line += ["-ctk", chosen.kv_type, "-ctv", chosen.kv_type, "-fa", chosen.flash_attention]
        line += ["-cram", "0", "-ngl", str(chosen.gpu_layers), "-s", str(seed)]
        if chosen.kv_unified:
            line.append("-kvu")
        return (*line, *chosen.extra_args)

    def _threads(self) -> int:
        if hasattr(os, "sched_getaffinity"):
            return self.options.threads or len(os.sched_getaffinity(0))
        return self.options.threads or os.cpu_count() or 1

    def _version(self) -> str:
        if self.options.binary is not None:
            return _binary_version(self.options.binary)
        return str(probe.versions(("xllamacpp",), self.options.python).get("xllamacpp", ""))

    def _gguf(self, target: Target, session: Session) -> Path:
        path = Path(target.path).absolute()
        if path.is_file():
            return path
        found = sorted(path.glob("*.gguf"))
        if len(found) == 1:
            return found[0]
        if found or not (path / "config.json").is_file():
            raise UsageError(
                f"{len(found)} GGUF files and no way to choose"
                if found
                else "neither a GGUF file nor a checkpoint",
                where=str(path),
                allowed="a .gguf file, a folder with one, or a checkpoint folder with config.json",
            )
        out = self._written(target, session)
        if not (out / GGUF_NAME).is_file():
            session.note(f"llama_cpp: writing {target.name} as GGUF {self.options.gguf_type}")
            run_worker(
                WRITER,
                python=self.options.python,
                source=path,
                out=out,
                options={"type": self.options.gguf_type, "file_name": GGUF_NAME},
                threads=self._threads(),
                session=session,
            )
        return out / GGUF_NAME

    def _written(self, target: Target, session: Session) -> Path:
        """The folder of the GGUF; a shared one is named after what it was made of."""
        shared = self.options.gguf_folder
        if shared is None or not target.digest:
            return Path(session.workdir).absolute() / "gguf"
        return Path(shared) / f"{short(target.digest)}-{self.options.gguf_type}"


def _binary_version(binary: str) -> str:
    found = shutil.which(binary)
    if found is None:
        raise ComponentMissing(
            "no such program",
            where=binary,
            next="build llama.cpp, or leave `binary` away for the xllamacpp wheel",
        )
    text = _output(found, "--version")
    match = re.search(r"version: (.+)", text)
    return match.group(1).strip() if match else "unknown"


def _no_fit(binary: str) -> tuple[str, ...]:
    """Newer builds shrink the context that was asked for until it fits, unless they are told not to."""
    return ("-fit", "off") if re.search(r"^\s*-fit,", _output(binary, "--help"), re.MULTILINE) else ()


def _output(binary: str, flag: str) -> str:
    try:
        done = subprocess.run(
            [binary, flag], capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL, text=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout + done.stderr
