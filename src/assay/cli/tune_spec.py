"""The spec of a tuning study, resolved: models pinned, every setting validated, what cannot fit left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay import registry
from assay.core.errors import AssayError, SpecError
from assay.core.fit import FitLine, FitVerdict, MachineMemory, ModelShape, Serving
from assay.core.ports import Component
from assay.core.tuning import Cell
from assay.core.vocabulary import Verb
from assay.flows import tune
from assay.flows.tune import ModelRef, TuneSpec

FIT_ENGINES = ("llama_cpp", "transformers", "vllm", "sglang")
"""Serve kinds whose memory can be told before a launch."""


def resolved(spec: TuneSpec, base: Path) -> TuneSpec:
    """The spec with every reference resolved and every model pinned.

    Raises:
        SpecError: naming the key; also if there are more settings than a study can hold.
        UnreadableInput: if a model cannot be read.
    """
    engine = registry.resolved(Verb.SERVE, spec.engine, base, "engine")
    apply = registry.resolved(Verb.APPLY, spec.apply, base, "apply")
    models = tuple(_pinned(model, base, f"models.{i}") for i, model in enumerate(spec.models))
    found = spec.model_copy(update={"engine": engine, "apply": apply, "models": models})
    twice = {m.digest: m.name for m in models}
    if len(twice) < len(models):
        raise SpecError("two candidates are the same model", where="models")
    _validate(found)
    return found.model_copy(update=_fit(found))


def components(spec: TuneSpec) -> list[tuple[str, Component]]:
    """What the study needs on this machine."""
    return [("engine", registry.adapter(Verb.SERVE, spec.engine).check())]


def _pinned(model: ModelRef, base: Path, where: str) -> ModelRef:
    from assay.runtime.files import artifact

    path = (base / Path(model.path).expanduser()).absolute()
    if not path.exists():
        raise SpecError(f"no such model: {path}", where=f"{where}.path", next="correct the path")
    pinned = artifact(path)
    return model.model_copy(
        update={"path": str(path), "digest": pinned.digest, "size_bytes": pinned.size_bytes}
    )


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


def _fit(spec: TuneSpec) -> dict[str, Any]:
    """What is known before any launch; only what cannot fit, by its bytes, is left out."""
    if spec.engine.kind not in FIT_ENGINES:
        return {}
    from assay.runtime.memory import detect_memory

    machine = detect_memory()
    pruned: dict[str, str] = {}
    fits: dict[str, str] = {}
    for model in spec.models:
        for cell, line in _lines(spec, model, machine):
            if line.verdict is FitVerdict.CANNOT:
                pruned[cell.id] = f"cannot fit: {line.detail}"
            if cell.default:
                fits[model.name] = f"{line.verdict.value}: {line.detail}"
    return {"pruned": pruned, "fits": fits}


def _lines(spec: TuneSpec, model: ModelRef, machine: MachineMemory) -> Iterator[tuple[Cell, FitLine]]:
    from assay.gates.fit import estimate_memory, judge_fit

    shape = _shape(model)
    if shape is None:
        return
    for cell in tune.cells(spec, model):
        serving = _serving(cell)
        line = judge_fit(estimate_memory(shape, serving), machine, spec.fit, serving.device)
        yield cell, line


def _shape(model: ModelRef) -> ModelShape | None:
    from assay.readers.model import read_shape

    try:
        return read_shape(model.path)
    except AssayError:
        return None  # a launch will tell


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
