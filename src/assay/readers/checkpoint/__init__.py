"""Checkpoint folders and files → `Checkpoint` evidence, from headers. A file per format, one function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from assay.core.checkpoint import Checkpoint, ModuleKind
from assay.core.evidence import Artifact
from assay.readers.checkpoint import (
    bitsandbytes,
    compressed_tensors,
    gguf,
    modelopt,
    plain,
    safetensors,
    torchao,
)
from assay.readers.checkpoint.files import list_files, pin, read_object, refuse, regular_file, relative_names
from assay.readers.checkpoint.layout import Container, Declaration, Layout
from assay.readers.checkpoint.metadata import read_metadata

FORMATS = (plain, compressed_tensors, modelopt, bitsandbytes, torchao)
"""Readers of the declarations that lie beside safetensors; each names the quant_methods it understands."""
_READERS: Mapping[str | None, Callable[[Container, Declaration], Layout]] = {
    method: module.read for module in FORMATS for method in module.QUANT_METHODS
}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_checkpoint(
    path: str | Path, subject: str = "candidate", *, source: str | Path | None = None
) -> Checkpoint:
    """Read what a checkpoint is from its headers and hash its files.

    Args:
        path: a folder with safetensors or one GGUF, or a GGUF file.
        subject: `source`, `candidate` or another name for the report.
        source: the baseline's checkpoint; where given, a sample of the quantized weights is compared with it
            and `weight_error` measurements are added.

    Raises:
        UnreadableInput: if it is not a checkpoint, or of a format that cannot be judged.
    """
    root = Path(path)
    if not _exists(root):
        refuse("no such checkpoint", root, allowed="a folder with safetensors or GGUF, or a .gguf file")
    checkpoint, container = _read(root, subject)
    if source is None:
        return checkpoint
    from assay.readers.checkpoint.fidelity import measure  # noqa: PLC0415 - numpy only where it is used

    base, base_container = _read(Path(source), "source", hashed=False)
    measurements, facts = measure(checkpoint, container, base, base_container)
    return checkpoint.model_copy(
        update={"measurements": measurements, "facts": {**checkpoint.facts, "fidelity": facts}}
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no permission, a null byte: nothing that could be read
        return False


def _read(root: Path, subject: str, *, hashed: bool = True) -> tuple[Checkpoint, Container]:
    if root.is_dir():
        files = dict(relative_names(root, list_files(root)))
    else:
        regular_file(root, root.parent)
        files = {root.name: root}
    ggufs = [n for n in files if n.endswith(".gguf")]
    if any(n.endswith(".safetensors") and "/" not in n for n in files):
        checkpoint, container = _safetensors(root, subject, files)
    elif ggufs:
        checkpoint, container = _gguf(root, subject, files, ggufs)
    else:
        pickled = next((n for n in files if n.endswith(_PICKLES)), None)
        what = f"{pickled} is a pickle, which is never loaded" if pickled else "no safetensors or GGUF in it"
        refuse(what, root, allowed="safetensors or GGUF")
    artifacts: tuple[Artifact, ...] = tuple(pin(p) for p in files.values()) if hashed else ()
    return checkpoint.model_copy(update={"artifacts": artifacts}), container


def _safetensors(root: Path, subject: str, files: Mapping[str, Path]) -> tuple[Checkpoint, Container]:
    container = (
        safetensors.read_folder(root, files) if root.is_dir() else safetensors.read_file(root, root.parent)
    )
    declaration = _declaration(files)
    reader = _READERS.get(_spelled(declaration.method))
    if reader is None:
        known = ", ".join(sorted(m for m in _READERS if m))
        refuse(
            f"quant_method {str(declaration.method)[:60]!r} cannot be judged",
            root / "config.json",
            allowed=known,
            next="use a format that can be verified, or add a reader under readers/checkpoint",
        )
    layout = reader(container, declaration)
    return _checkpoint(
        subject, container, layout, declaration.method, read_metadata(files, declaration.config)
    ), container


def _gguf(
    root: Path, subject: str, files: Mapping[str, Path], names: list[str]
) -> tuple[Checkpoint, Container]:
    home = root if root.is_dir() else root.parent
    container = gguf.read_files(home, [files[n] for n in names])
    layout = gguf.read(container)
    return _checkpoint(subject, container, layout, "gguf", gguf.metadata(container)), container


def _checkpoint(
    subject: str, container: Container, layout: Layout, method: str | None, metadata: dict[str, Any]
) -> Checkpoint:
    named = sorted(layout.modules, key=lambda m: m.name)
    weights = {m.name: math.prod(m.shape) for m in named}
    covered = {name for m in named for name in m.tensors}
    biases = sum(
        t.count for t in container.tensors.values() if t.name.endswith(".bias") and t.name in covered
    )
    return Checkpoint(
        subject=subject,
        format=container.format,
        quant_method=_spelled(method),
        producer=layout.producer,
        weight_bytes=sum(t.size_bytes for t in container.tensors.values()),
        parameters=sum(weights.values()) + biases,
        modules=tuple(named),
        problems=(*container.problems, *layout.problems),
        metadata=metadata,
        facts={
            "tensors": len(container.tensors),
            "notes": list(layout.notes),
            "linears": sum(m.kind in {ModuleKind.LINEAR, ModuleKind.HEAD} for m in named),
        },
    )


def _declaration(files: Mapping[str, Path]) -> Declaration:
    config = read_object(files["config.json"]) if "config.json" in files else {}
    block = config.get("quantization_config")
    if block is None and isinstance(config.get("text_config"), dict):
        block = config["text_config"].get("quantization_config")
    if block is None:
        block = config.get("compression_config")
    if block is not None and not isinstance(block, dict):
        refuse("quantization_config must be an object", files["config.json"])
    if block and not isinstance(block.get("quant_method"), str) and "config_groups" not in block:
        refuse("quantization_config without a quant_method cannot be judged", files["config.json"])
    if block and "quant_method" not in block:
        block = {**block, "quant_method": "compressed-tensors"}
    sidecar = read_object(files["hf_quant_config.json"]) if "hf_quant_config.json" in files else None
    if block is None and sidecar is None and "quantize_config.json" in files:
        block = {"quant_method": "gptq"}
    if block is None and isinstance(config.get("quantization"), dict):
        block = {"quant_method": "mlx"}
    return Declaration(config=config, quantization=block or None, sidecar=sidecar)


def _spelled(method: str | None) -> str | None:
    return None if method is None else method.lower().replace("_", "-")
