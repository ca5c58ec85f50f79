"""A model's folder, file or id → `ModelShape`: what decides how much memory it takes. Headers alone, no network."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from assay.core import hub
from assay.core.errors import UnreadableInput
from assay.core.fit import Keeps, ModelShape, WeightBytes
from assay.readers.checkpoint import gguf as gguf_files
from assay.readers.checkpoint import safetensors
from assay.readers.checkpoint.declaration import SIDECARS
from assay.readers.checkpoint.files import Files, find, parse_json, present, read_bytes, read_object, refuse
from assay.readers.checkpoint.layout import Container, Tensor
from assay.readers.model.config import shape_of_config
from assay.readers.model.gguf import shape_of_gguf

__all__ = ["read_shape", "shape_of_config", "shape_of_gguf"]

_VISION = re.compile(
    r"(?:^|\.)(visual|vision|vision_tower|vision_model|vision_embed_tokens|image_newline|audio_tower|audio_model"
    r"|multi_modal_projector|mm_projector|embed_vision|embed_audio|speech_encoder)(?:\.|$)"
)
_DRAFT = re.compile(r"(?:^|\.)(mtp|mtp_layers|nextn|medusa_head)(?:\.|$)")
_BUFFER = re.compile(r"(?:rotary_emb\.inv_freq|\.attn\.(?:masked_)?bias|\.attention\.(?:masked_)?bias)$")
"""Tables that older checkpoints store and loaders make themselves."""
_LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,6})\.")
_KEYS = re.compile(r"(?:^|\.)layers\.\d{1,6}\.self_attn\.k_proj\.weight$")
_FLOATS = {"F16", "BF16", "F32", "F64"}


def read_shape(path: str | Path, env: Mapping[str, str] | None = None) -> ModelShape:
    """Read a checkpoint folder, a GGUF file or its folder, or a hub id whose files are in the local cache.

    What is not here or not understood is named in `unknown`; a hub id that is not in the cache is all unknown.

    Args:
        path: folder, file, or `owner/name`.
        env: environment that names the cache; None = the process's own.

    Raises:
        UnreadableInput: if a file is there and its bytes are not what they must be, or nothing is there.
    """
    name = str(path)
    root = Path(path)
    if not present(root):
        if not hub.ID.fullmatch(name):
            refuse("no such model", name, allowed="a checkpoint folder, a .gguf file, or owner/name of a hub")
        cached = cached_snapshot(name, os.environ if env is None else env)
        if cached is None:
            next_ = f"hf download {name} --local-dir DIR, then `assay fit DIR`"
            return ModelShape(source=name, unknown=("the files: not in the local cache",), notes=(next_,))
        root = cached
    try:
        return _read(root, name)
    except (OverflowError, RecursionError, MemoryError) as error:
        raise UnreadableInput(f"cannot be read: {type(error).__name__}", where=name) from error


def cached_snapshot(name: str, env: Mapping[str, str]) -> Path | None:
    """Where the hub's cache keeps the current revision of a model; None if it does not."""
    home = env.get("HF_HOME") or str(
        Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    )
    cache = Path(env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub")
    folder = cache / f"models--{name.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()[:100]
        snapshots = folder / "snapshots"
        found = snapshots / revision if revision and "/" not in revision and ".." not in revision else None
        return found if found is not None and found.is_dir() else None
    except (OSError, ValueError):
        return None


def _read(root: Path, name: str) -> ModelShape:
    files = find(root)
    here = [n for n in files.paths if "/" not in n]
    ggufs = [n for n in here if n.endswith(".gguf")]
    if ggufs and not any(n.endswith(".safetensors") for n in here):
        return shape_of_gguf(gguf_files.read_files(files, ggufs), name)
    if not root.is_dir():
        if not root.name.endswith(".safetensors"):
            refuse(
                "no file of weights", name, allowed="safetensors or GGUF", next="name the folder it lies in"
            )
        files = find(root.parent)
    return _folder(files, name)


def _folder(files: Files, name: str) -> ModelShape:
    if "config.json" not in files.paths:
        return _without_config(files, name)
    config = read_object(files.paths["config.json"])
    shape = shape_of_config(config, name)
    weights, gaps, container = _weights_if_any(files, config)
    unknown = (*shape.unknown, *gaps)
    if container is not None:
        unknown = (*unknown, *_contradictions(shape, container))
    return shape.model_copy(
        update={
            "format": "safetensors" if container is not None else "",
            "weights": weights,
            "dtype": shape.dtype or _stored_dtype(weights),
            "merges": _merges(files),
            "unknown": unknown,
        }
    )


def _without_config(files: Files, name: str) -> ModelShape:
    """A folder around one checkpoint is that checkpoint; around several, or without a config, nothing is known."""
    holds = {n.rpartition("/")[0] for n in files.paths if n.endswith((".safetensors", ".gguf"))}
    if not holds:
        refuse("neither config.json nor weights in it", name, allowed="a checkpoint folder or a .gguf file")
    (first, *others) = sorted(holds)
    if first and not others:
        inner = files.within(first)
        ggufs = [n for n in inner.paths if n.endswith(".gguf") and "/" not in n]
        found = shape_of_gguf(gguf_files.read_files(inner, ggufs), name) if ggufs else _folder(inner, name)
        return found.model_copy(update={"notes": (*found.notes, f"the weights lie in {first}")})
    where = f": the weights lie in {', '.join(sorted(holds))[:120]}" if others else ""
    return ModelShape(source=name, unknown=(f"config.json{where}",), weights=_weights_if_any(files, {})[0])


def _weights_if_any(
    files: Files, config: Mapping[str, object]
) -> tuple[WeightBytes | None, tuple[str, ...], Container | None]:
    if not any(n.endswith(".safetensors") and "/" not in n for n in files.paths):
        return None, ("the weights: no safetensors in the folder",), None
    container = safetensors.read_folder(files)
    lost = tuple(p for p in container.problems if "missing" in p or "in no shard" in p or "truncated" in p)
    return _weights(container, config, files), lost[:3], container


def _weights(container: Container, config: Mapping[str, object], files: Files) -> WeightBytes:
    depth = config.get("num_hidden_layers")
    depth = depth if isinstance(depth, int) and not isinstance(depth, bool) and depth > 0 else None
    tied = config.get("tie_word_embeddings") is True and any("embed" in n for n in container.tensors)
    aside: dict[str, int] = {}
    schemes: dict[str, int] = {}
    for t in container.tensors.values():
        schemes[t.dtype] = schemes.get(t.dtype, 0) + t.size_bytes
        part = "tied" if tied and t.name.endswith("lm_head.weight") else _part(t, depth)
        if part:
            aside[part] = aside.get(part, 0) + t.size_bytes
    declared = any(
        isinstance(place, dict)
        and any(place.get(k) for k in ("quantization_config", "compression_config", "quantization"))
        for place in (config, config.get("text_config"))
    )
    return WeightBytes(
        total=sum(schemes.values()),
        aside=aside,
        by_scheme=schemes,
        vectors=sum(t.elements for t in container.tensors.values() if len(t.shape) < 2),
        elements=sum(t.elements for t in container.tensors.values()),
        quantized=declared or any(n in SIDECARS for n in files.paths) or not schemes.keys() <= _FLOATS,
    )


def _part(tensor: Tensor, depth: int | None) -> str:
    """Which part of a model a tensor belongs to that an engine may leave out."""
    if _VISION.search(tensor.name):
        return "vision"
    if _BUFFER.search(tensor.name):
        return "buffers"
    layer = _LAYER.search(tensor.name)
    if _DRAFT.search(tensor.name) or (layer and depth is not None and int(layer[1]) >= depth):
        return "draft"
    return ""


def _stored_dtype(weights: WeightBytes | None) -> str:
    """What plain weights are mostly stored in, where the config does not say what is computed in."""
    if weights is None or weights.quantized or not weights.by_scheme:
        return ""
    most = max(weights.by_scheme, key=lambda scheme: weights.by_scheme[scheme])
    return {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}.get(most, "")


def _contradictions(shape: ModelShape, container: Container) -> tuple[str, ...]:
    """Where the tensors of the keys say another size than the config."""
    said = {g.key_elements for g in shape.layers if g.keeps in {Keeps.FULL, Keeps.WINDOW}}
    if not said or any(g.keeps is Keeps.LATENT for g in shape.layers):
        return ()
    stored = {
        t.shape[0]
        for t in container.tensors.values()
        if len(t.shape) == 2 and t.dtype in _FLOATS and _KEYS.search(t.name) and not _VISION.search(t.name)
    }
    if stored <= said:
        return ()
    odd = min(stored - said)
    return (f"config.json says keys of {sorted(said)} elements, the tensors have {odd}",)


def _merges(files: Files) -> int | None:
    if "tokenizer.json" not in files.paths:
        return None
    try:
        value = parse_json(read_bytes(files.paths["tokenizer.json"]), files.paths["tokenizer.json"])
    except UnreadableInput:
        return None  # the tokenizer's size is a detail; other readers judge its bytes
    model = value.get("model") if isinstance(value, dict) else None
    merges = model.get("merges") if isinstance(model, dict) else None
    return len(merges) if isinstance(merges, list) else None
