"""The spec of a tuning study, resolved: models pinned, every setting validated, what cannot fit left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay import registry
from assay.cli.sources import located
from assay.core.canon import digest_bytes
from assay.core.errors import AssayError, SpecError, UsageError
from assay.core.fit import FitLine, FitVerdict, MachineMemory, ModelShape, Serving
from assay.core.ports import Component
from assay.core.study import AdapterRef
from assay.core.tuning import Cell
from assay.core.vocabulary import Verb
from assay.flows import tune
from assay.flows.tune import ModelRef, TuneLoad, TuneSpec
from assay.runtime.machine import cpus

MOST_SPINS = 20_000
"""GOMP_SPINCOUNT from which on one busy neighbour stops an engine's threads (10,000 costs two thirds of the speed)."""
FIT_ENGINES = ("llama_cpp", "transformers", "vllm", "sglang")
"""Serve kinds whose memory can be told before a launch."""


def resolved(spec: TuneSpec, base: Path) -> TuneSpec:
    """The spec with every reference resolved and every model pinned.

    Raises:
        SpecError: naming the key; also if there are more settings than a study can hold.
        UnreadableInput: if a model cannot be read.
    """
    engine = _sharing(spec, registry.resolved(Verb.SERVE, spec.engine, base, "engine"), base)
    apply = _expecting(spec, registry.resolved(Verb.APPLY, spec.apply, base, "apply"))
    models = tuple(_pinned(model, base, f"models.{i}") for i, model in enumerate(spec.models))
    load = _traced(spec, base)
    found = spec.model_copy(update={"engine": engine, "apply": apply, "models": models, "load": load})
    twice = {m.digest: m.name for m in models}
    if len(twice) < len(models):
        raise SpecError("two candidates are the same model", where="models")
    _validate(found)
    return found.model_copy(update={**_fit(found), "remarks": tuple(_traps(found))})


def components(spec: TuneSpec) -> list[tuple[str, Component]]:
    """What the study needs on this machine."""
    return [("engine", registry.adapter(Verb.SERVE, spec.engine).check())]


def _to_be_written(model: Path) -> bool:
    """Whether llama.cpp cannot read it as it is."""
    return (model / "config.json").is_file() and not any(model.glob("*.gguf"))


def _sharing(spec: TuneSpec, engine: AdapterRef, base: Path) -> AdapterRef:
    """The engine with one place for what it writes: dozens of launches need no copy of the weights each."""
    from assay.ledger.home import find_home

    written = any(_to_be_written(base / Path(m.path).expanduser()) for m in spec.models)
    if engine.kind != "llama_cpp" or not written or engine.options.get("gguf_folder"):
        return engine
    return engine.model_copy(update={"options": {**engine.options, "gguf_folder": str(find_home() / "gguf")}})


def _expecting(spec: TuneSpec, apply: AdapterRef) -> AdapterRef:
    """The application with the digest of the file as it is now: what the study answers for is a change of that one."""
    if apply.kind != "config_file":
        return apply
    _writable_keys(spec, apply)
    if apply.options.get("expects") is not None:
        return apply
    try:
        data = Path(apply.options["path"]).read_bytes()
    except FileNotFoundError:
        data = b""  # as the adapter digests a file that it is to make
    except OSError as error:
        raise SpecError(
            f"it cannot be read: {error.strerror or error}", where=f"apply.path: {apply.options['path']}"
        ) from error
    return apply.model_copy(update={"options": {**apply.options, "expects": digest_bytes(data)}})


def _writable_keys(spec: TuneSpec, apply: AdapterRef) -> None:
    """What can never be written is refused before hours of launches."""
    from assay.core.recommendation import Choice, Knobs
    from assay.runtime import config_text

    if apply.options.get("format") is None:
        try:
            config_text.format_of(Path(apply.options["path"]))
        except UsageError as error:
            raise SpecError(error.what, where="apply.path", allowed=error.allowed, next=error.next) from error
    settings = [*(k.name for k in spec.knobs), *([spec.context_knob] if spec.context_knob else ())]
    known = [
        *(n for n in Choice.model_fields if n not in ("settings", "knobs")),
        *(f"settings.{name}" for name in settings),
        *(f"knobs.{name}" for name in Knobs.model_fields),
    ]
    for key, field in (apply.options.get("keys") or {}).items():
        if field not in known:
            raise SpecError(
                f"a recommendation has no field {field!r}",
                where=f"apply.keys.{key}",
                allowed=", ".join(
                    ["path", "model", "engine", "target_context", *(n for n in known if "." in n)]
                ),
            )


def _pinned(model: ModelRef, base: Path, where: str) -> ModelRef:
    from assay.runtime.files import artifact

    path = located(model.path, base, f"{where}.path")
    pinned = artifact(path)
    return model.model_copy(
        update={"path": str(path), "digest": pinned.digest, "size_bytes": pinned.size_bytes}
    )


def _traced(spec: TuneSpec, base: Path) -> TuneLoad:
    """The load with its trace read once, so that a file that cannot be played is refused here."""
    if spec.load.trace is None:
        return spec.load
    from assay.load.arrivals import read_trace
    from assay.runtime.files import digest_file

    path = (base / Path(spec.load.trace).expanduser()).absolute()
    if not path.is_file():
        raise SpecError(f"no such file: {path}", where="load.trace", next="correct the path")
    least = min(spec.contexts)
    beyond = [r for r in read_trace(path) if (r.prompt_tokens or 0) + (r.output_tokens or 0) > least]
    if beyond:
        raise SpecError(
            f"{len(beyond)} requests of the trace take more than the context of {least} tokens",
            where="load.trace",
            next="raise `contexts`, or leave those requests out",
        )
    return spec.load.model_copy(update={"trace": str(path), "trace_digest": digest_file(path)})


def _validate(spec: TuneSpec) -> None:
    """Every setting must be one that the engine's options take."""
    cells = list(tune.cells(spec, spec.models[0]))
    if len(cells) * len(spec.models) > tune.MOST_CELLS:
        raise SpecError(
            f"{len(cells)} settings of {len(spec.models)} models", where="knobs", allowed=f"{tune.MOST_CELLS}"
        )
    for cell in cells:
        registry.options(Verb.SERVE, cell.serve, "knobs")
    for i, context in enumerate(spec.contexts):
        registry.options(Verb.SERVE, tune.serve_ref(spec, cells[0].values, context), f"contexts.{i}")


def _traps(spec: TuneSpec) -> Iterator[str]:
    """Settings that are known to slow an engine down in a way that no figure explains."""
    have = cpus() or 1
    given = [
        spec.engine.options.get("threads"),
        *(v for k in spec.knobs if k.name == "threads" for v in k.values),
    ]
    for count in dict.fromkeys(v for v in given if isinstance(v, int) and v > have):
        yield f"{count} threads on {have} processors: they wait for each other at every token"
    for model in spec.models:
        if spec.engine.kind == "llama_cpp" and _to_be_written(Path(model.path)):
            yield f"{model.name} is written as GGUF into {spec.engine.options['gguf_folder']}, and served from there"
    env = {**os.environ, **(spec.engine.options.get("env") or {})}
    spins = env.get("GOMP_SPINCOUNT", "")
    if (
        env.get("OMP_WAIT_POLICY", "").lower() == "active"
        or spins == "infinite"
        or (spins.isdigit() and int(spins) > MOST_SPINS)
    ):
        yield (
            "OMP_WAIT_POLICY or GOMP_SPINCOUNT let idle threads spin: beside one busy process such an engine is many "
            "times slower; GOMP_SPINCOUNT=1000 costs nothing"
        )
    elif spec.engine.kind == "command" and not spins and "OMP_WAIT_POLICY" not in env:
        yield (
            "nothing is known of how this server's threads wait: if it uses OpenMP, set GOMP_SPINCOUNT=1000 in "
            "`engine.env`, or one busy process beside it makes it many times slower"
        )


def _fit(spec: TuneSpec) -> dict[str, Any]:
    """What is known before any launch; only what cannot fit, by its bytes, is left out."""
    if spec.engine.kind not in FIT_ENGINES:
        return {}
    from assay.readers.model import read_shape
    from assay.runtime.memory import detect_memory

    machine = detect_memory()
    pruned: dict[str, str] = {}
    fits: dict[str, str] = {}
    for model in spec.models:
        try:
            shape = read_shape(model.path)
        except AssayError as error:  # a launch will tell
            fits[model.name] = f"unknown: {error}"
            continue
        for cell, line in _lines(spec, model, shape, machine):
            if line.verdict is FitVerdict.CANNOT:
                pruned[cell.id] = f"cannot fit: {line.detail}"
            if cell.default:
                fits[model.name] = f"{line.verdict.value}: {line.detail}"
    return {"pruned": pruned, "fits": fits}


def _lines(
    spec: TuneSpec, model: ModelRef, shape: ModelShape, machine: MachineMemory
) -> Iterator[tuple[Cell, FitLine]]:
    from assay.gates.fit import estimate_memory, judge_fit

    for cell in tune.cells(spec, model):
        serving = _serving(cell)
        line = judge_fit(estimate_memory(shape, serving), machine, spec.fit, serving.device)
        yield cell, line


def _serving(cell: Cell) -> Serving:
    options = cell.serve.options
    given = {
        "engine": cell.serve.kind,
        "context_tokens": options.get("context_tokens") or 2048,
        "concurrency": options.get("slots") or 1,
        "kv_type": options.get("kv_type") or options.get("kv_dtype") or "auto",
        "device": "gpu" if cell.serve.kind in ("vllm", "sglang") or options.get("gpu_layers") else "cpu",
        "batch_tokens": options.get("ubatch_tokens") or 512,
        "flash_attention": options.get("flash_attention") != "off",
    }
    return Serving.model_validate(given)
