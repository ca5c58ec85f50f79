"""Checkpoint folders and files → `Checkpoint` evidence, from headers. A file per format, one function."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core import hub
from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.evidence import Artifact
from assay.readers.checkpoint import (
    awq,
    bitsandbytes,
    compressed_tensors,
    fp8,
    gguf,
    gptq,
    hqq,
    mlx,
    modelopt,
    mxfp4,
    plain,
    quanto,
    safetensors,
    torchao,
)
from assay.readers.checkpoint.declaration import read_declaration, spelled
from assay.readers.checkpoint.files import (
    DIGEST_LIMIT_BYTES,
    HEADER_PREFIX,
    Files,
    find,
    pin_all,
    present,
    refuse,
)
from assay.readers.checkpoint.layout import Container, Declaration, Layout, Tensor
from assay.readers.checkpoint.metadata import read_metadata

FORMATS = (
    plain, compressed_tensors, modelopt, awq, gptq, bitsandbytes, torchao, fp8, mxfp4, quanto, hqq, mlx,
)  # fmt: skip
"""Readers of the declarations that lie beside safetensors; each names the quant_methods it understands."""
READERS: Mapping[str | None, Callable[[Container, Declaration], Layout]] = {
    method: module.read for module in FORMATS for method in module.QUANT_METHODS
}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_SAVE_AGAIN = (
    "load it with the toolkit that made it and call save_pretrained(..., safe_serialization=True); "
    "torchao writes safetensors from 0.15 on, with quantization classes of version 2"
)
"""What people type who mean a model on a hub: owner/name."""
_NESTED_MANY = 64
_MAX_PROBLEMS = 200


@dataclass(frozen=True)
class _Read:
    """One folder with weights, read."""

    container: Container
    layout: Layout
    method: str | None
    metadata: dict[str, Any]


def read_checkpoint(
    path: str | Path,
    subject: str = "candidate",
    *,
    source: str | Path | None = None,
    digest_limit_bytes: int = DIGEST_LIMIT_BYTES,
    values: bool = True,
) -> Checkpoint:
    """Read what a checkpoint is from its headers and hash its files.

    Args:
        path: a folder with safetensors or GGUF, also nested, or one such file.
        subject: `source`, `candidate` or another name for the report.
        source: the baseline's checkpoint; where given, a sample of the quantized weights is compared with it
            and `weight_error` measurements are added.
        digest_limit_bytes: up to this size all files are hashed whole; beyond it weight files by size and header
            (`facts.digests` says so).
        values: look for zero and non-finite values among the scales, as far as `scales.MAX_BYTES` allows.

    Raises:
        UnreadableInput: if it is not a checkpoint, of a format that cannot be judged, or changed while it was read.
    """
    with _no_collections():
        files, found = _read(Path(path))
        checkpoint = _checkpoint(subject, found)
        if values:
            checkpoint = _with_scales(checkpoint, found.container)
        if source is not None:
            from assay.readers.checkpoint.fidelity import measure  # noqa: PLC0415 - numpy only where it is used

            _, base = _read(Path(source))
            measurements, facts = measure(
                checkpoint, found.container, _checkpoint("source", base), base.container
            )
            facts = {**checkpoint.facts, "fidelity": facts}
            checkpoint = checkpoint.model_copy(update={"measurements": measurements, "facts": facts})
        artifacts = pin_all(files, digest_limit_bytes)
        files.unchanged()
    facts = {**checkpoint.facts, "digests": _digests(artifacts)}
    return checkpoint.model_copy(update={"artifacts": artifacts, "facts": facts})


@contextmanager
def _no_collections() -> Iterator[None]:
    """Hundreds of thousands of rows are made and none is garbage: each collection would walk them all in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _digests(artifacts: tuple[Artifact, ...]) -> dict[str, int]:
    by_header = sum(a.digest.startswith(HEADER_PREFIX) for a in artifacts)
    return {"whole": len(artifacts) - by_header, "header_and_size": by_header}


def _read(root: Path) -> tuple[Files, _Read]:
    if not present(root):
        named = hub.ID.fullmatch(str(root))
        refuse(
            "no such checkpoint",
            root,
            allowed="a folder with safetensors or GGUF, or such a file",
            next=f"only local files are read; fetch it first: hf download {root} --local-dir DIR"
            if named
            else "",
        )
    files = find(root)
    if not root.is_dir():
        return files, _read_one_file(files, root)
    return files, _read_folder(files)


def _read_one_file(files: Files, path: Path) -> _Read:
    if path.name.endswith(".gguf"):
        return _gguf(files, [path.name])
    if path.name.endswith(_PICKLES):
        refuse(
            f"{path.name} is a pickle, which is never loaded",
            path,
            allowed="safetensors or GGUF",
            next=_SAVE_AGAIN,
        )
    if not path.name.endswith(".safetensors"):
        refuse(
            "no file of weights", path, allowed="safetensors or GGUF", next="name the folder that it lies in"
        )
    container = safetensors.read_file(path, files.size(path.name))
    beside = path.parent / "config.json"
    # A single shard is judged with the declaration that lies beside it.
    declared = find(beside) if beside.is_file() else files
    declaration = read_declaration(declared)
    return _judged(container, declaration, declared)


def _read_folder(files: Files) -> _Read:
    """The folder's own weights; where it has none, those of the folders in it."""
    own = _read_flat(files)
    if own is not None:
        return own
    nested = sorted(
        {name.rpartition("/")[0] for name in files.paths if name.endswith((".safetensors", ".gguf"))}
    )
    if not nested:
        pickled = next((n for n in files.paths if n.endswith(_PICKLES)), None)
        what = "no safetensors or GGUF in it" if files.paths else "the folder is empty"
        what = f"{pickled} is a pickle, which is never loaded" if pickled else what
        refuse(what, files.root, allowed="safetensors or GGUF", next=_SAVE_AGAIN if pickled else "")
    if len(nested) > _NESTED_MANY:
        refuse(f"{len(nested)} folders with weights in it: name one of them", files.root)
    parts = {folder: _read_flat(files.within(folder)) for folder in nested}
    found = {folder: part for folder, part in parts.items() if part is not None}
    if len(found) == 1:
        folder, part = next(iter(found.items()))
        layout = replace(part.layout, notes=(*part.layout.notes, f"the weights lie in {folder}"))
        return replace(part, layout=layout)
    return _joined(found)


def _read_flat(files: Files) -> _Read | None:
    here = [n for n in files.paths if "/" not in n]
    if any(n.endswith(".safetensors") for n in here):
        container = safetensors.read_folder(files)
        beside = [n for n in files.paths if n.endswith((".safetensors", ".gguf")) and "/" in n]
        if beside:
            note = f"{len(beside)} weight files in folders of it are not judged: {beside[0]}"
            container = replace(container, notes=(*container.notes, note))
        return _judged(container, read_declaration(files), files)
    ggufs = [n for n in here if n.endswith(".gguf")]
    return _gguf(files, ggufs) if ggufs else None


def _judged(container: Container, declaration: Declaration, files: Files) -> _Read:
    method = spelled(declaration.method)
    reader = READERS.get(method)
    if reader is None:
        known = ", ".join(sorted(m for m in READERS if m))
        refuse(
            f"quant_method {str(declaration.method)[:60]!r} cannot be judged",
            files.root / "config.json",
            allowed=known,
            next="use a format that can be verified, or add a reader under readers/checkpoint",
        )
    return _Read(
        container, reader(container, declaration), method, read_metadata(files.paths, declaration.config)
    )


def _gguf(files: Files, names: list[str]) -> _Read:
    container = gguf.read_files(files, names)
    return _Read(container, gguf.read(container), "gguf", gguf.metadata(container))


def _joined(parts: Mapping[str, _Read]) -> _Read:
    """Several models in one folder, such as the parts of a diffusion pipeline: one, with the folders as prefixes."""
    tensors: dict[str, Tensor] = {}
    modules: list[Module] = []
    problems: list[str] = []
    notes: list[str] = []
    asymmetric: list[str] = []
    for folder, part in parts.items():
        at = folder.replace("/", ".")
        tensors |= {f"{at}.{n}": t._replace(name=f"{at}.{n}") for n, t in part.container.tensors.items()}
        modules += [_moved(m, at) for m in part.layout.modules]
        problems += [f"{folder}: {p}" for p in (*part.container.problems, *part.layout.problems)]
        notes += [f"{folder}: {n}" for n in (*part.container.notes, *part.layout.notes)]
        asymmetric += [f"{at}.{n}" for n in part.layout.asymmetric]
    methods = sorted({p.method for p in parts.values() if p.method})
    forms = sorted({p.container.format for p in parts.values()})
    return _Read(
        Container("+".join(forms), tensors, {}, tuple(problems), tuple(notes)),
        Layout(tuple(modules), asymmetric=tuple(asymmetric)),
        "+".join(methods) or None,
        {"config": {}, "files": {}, "parts": {folder: part.metadata for folder, part in parts.items()}},
    )


def _moved(module: Module, folder: str) -> Module:
    tensors = tuple(f"{folder}.{t}" for t in module.tensors)
    return module.model_copy(update={"name": f"{folder}.{module.name}", "tensors": tensors})


def _checkpoint(subject: str, found: _Read) -> Checkpoint:
    container, layout = found.container, found.layout
    named = sorted(layout.modules, key=lambda m: m.name)
    biases = sum(
        container.tensors[name].elements
        for m in named
        for name in m.tensors
        if name.endswith(("bias", ".bias")) and not name.endswith("biases") and len(m.tensors) > 1
    )
    return Checkpoint(
        subject=subject,
        format=container.format,
        quant_method=found.method,
        producer=layout.producer,
        weight_bytes=sum(t.size_bytes for t in container.tensors.values()),
        parameters=sum(math.prod(m.shape) for m in named) + biases,
        modules=tuple(named),
        problems=tuple(dict.fromkeys((*container.problems, *layout.problems)))[:_MAX_PROBLEMS],
        metadata=found.metadata,
        facts={
            "tensors": len(container.tensors),
            "notes": [*container.notes, *layout.notes],
            "linears": sum(m.kind in {ModuleKind.LINEAR, ModuleKind.HEAD} for m in named),
            "asymmetric": _asymmetric(layout),
        },
    )


def _asymmetric(layout: Layout) -> list[str] | str:
    """Names of the modules with zero points; `all` where every quantized one has them."""
    if not layout.asymmetric:
        return []
    quantized = sum(m.weight_bits < 16 and len(m.shape) >= 2 for m in layout.modules)
    return "all" if len(layout.asymmetric) == quantized else sorted(layout.asymmetric)


def _with_scales(checkpoint: Checkpoint, container: Container) -> Checkpoint:
    from assay.readers.checkpoint.scales import (  # noqa: PLC0415 - numpy only where it is used
        examine,
        examine_cache,
        unequal,
    )

    cache = examine_cache(container)
    if cache:
        checkpoint = checkpoint.model_copy(update={"problems": (*checkpoint.problems, *cache)})
    problems, facts = examine(checkpoint.modules, container)
    if problems:
        modules = tuple(
            m.model_copy(update={"problems": (*m.problems, problems[m.name])}) if m.name in problems else m
            for m in checkpoint.modules
        )
        checkpoint = checkpoint.model_copy(update={"modules": modules})
    more = {**checkpoint.facts, "scales": facts}
    if groups := unequal(checkpoint.modules, container):
        more["unequal_scales"] = groups
    return checkpoint.model_copy(update={"facts": more})
