"""GGUF: key-values and tensor table of a file or its splits. No tensor data is read."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from assay.core.canon import digest_bytes
from assay.core.checkpoint import Module, ModuleKind
from assay.readers.checkpoint.files import Files, plain, refuse, refuse_pointer, unreadable, visible
from assay.readers.checkpoint.ggml import (
    ASYMMETRIC,
    BY_NAME,
    FILE_TYPES,
    FUSED_NORMS,
    REMOVED,
    TYPES,
    source_name,
)
from assay.readers.checkpoint.layout import Container, Layout, Tensor, classify

_SCALARS: Mapping[int, str] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_BOOL, _STRING, _ARRAY = 7, 8, 9
MAX_HEADER_BYTES = 100_000_000
_MIN_CHUNK, _MAX_CHUNK = 2**16, 2**24
_MAX_ITEMS = 8_000_000
_MAX_NESTED = 4_096
_MAX_NAME_BYTES, _MAX_TEXT_BYTES = 2**16, 2**24
_KEPT_ITEMS = 64
_KEY = re.compile(r"[A-Za-z0-9_.\-]+")
_ESSENTIAL: Mapping[str, str] = {
    "block_count": "",
    "embedding_length": "",
    "context_length": "",
    "attention.head_count": "blk.0.attn_q.weight",
    "feed_forward_length": "blk.0.ffn_up.weight",
}
"""Key that no loader can do without → the tensor that calls for it; empty = any."""
_CONFIG_KEYS: Mapping[str, str] = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "vocab_size": "vocab_size",
    "rope.freq_base": "rope_theta",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}


@dataclass
class _Reader:
    """Reads little-endian values of a header and never more than its bound."""

    file: BinaryIO
    path: Path
    size: int
    data: bytearray = field(default_factory=bytearray)
    used: int = 0

    def need(self, count: int) -> int:
        """Make sure that so many bytes lie in memory; where they begin."""
        at, end = self.used, self.used + count
        if end > len(self.data):
            if end > min(self.size, MAX_HEADER_BYTES):
                refuse("header runs past the end of the file", self.path)
            self.data += self.file.read(
                max(end - len(self.data), min(len(self.data), _MAX_CHUNK), _MIN_CHUNK)
            )
            if end > len(self.data):
                refuse("file ends inside its header", self.path)
        self.used = end
        return at

    def take(self, count: int) -> bytes:
        """The next bytes."""
        at = self.need(count)
        return bytes(self.data[at : at + count])

    def number(self, form: str) -> Any:
        """The next value of a `struct` form."""
        return struct.unpack_from(form, self.data, self.need(struct.calcsize(form)))[0]

    def text(self, limit: int = _MAX_NAME_BYTES) -> str:
        """The next text."""
        length = self.number("<Q")
        if length > limit:
            refuse(f"text of {length} bytes", self.path)
        return self.take(length).decode("utf-8", "backslashreplace")

    def value(self, kind: int, depth: int = 0) -> Any:
        """The next value of a GGUF type."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _BOOL:
            return self.number("<B") != 0
        if kind == _STRING:
            return self.text(_MAX_TEXT_BYTES)
        if kind != _ARRAY or depth > 2:
            refuse(f"value of unknown type {kind}", self.path)
        return self.array(depth)

    def array(self, depth: int) -> Any:
        """The next array; of a long one its length and digest."""
        kind, count = self.number("<I"), self.number("<Q")
        if count > (_MAX_ITEMS if kind != _ARRAY else _MAX_NESTED):
            refuse(f"array of {count} values", self.path)
        begin = self.used
        if kind in _SCALARS or kind == _BOOL:
            form = _SCALARS.get(kind, "<B")
            at = self.need(count * struct.calcsize(form))
            if count <= _KEPT_ITEMS:
                return list(struct.unpack_from(f"<{count}{form[1]}", self.data, at))
        elif kind == _STRING and count > _KEPT_ITEMS:
            self._skip_texts(count)
        else:
            values = [self.value(kind, depth + 1) for _ in range(count)]
            if count <= _KEPT_ITEMS:
                return values
        return {"count": count, "digest": digest_bytes(bytes(self.data[begin : self.used]))}

    def _skip_texts(self, count: int) -> None:
        length = struct.Struct("<Q").unpack_from
        for _ in range(count):
            (size,) = length(self.data, self.need(8))
            self.need(size)


def read_files(files: Files, names: list[str]) -> Container:
    """Read one GGUF, or all splits of one, and the vision tower's file (`mmproj`) beside it.

    Raises:
        UnreadableInput: if it is not GGUF version 2 or 3, or several models lie in the folder.
    """
    parts = [read_file(files.paths[name], files.size(name)) for name in sorted(names)]
    towers = [p for p in parts if p.metadata.get("general.architecture") == "clip"]
    models = [p for p in parts if p not in towers] or parts
    counts = {_whole(part.metadata.get("split.count"), 1) for part in models}
    if len(models) > 1 and counts != {len(models)}:
        refuse(
            f"{len(models)} GGUF files that are not the splits of one model",
            files.root,
            next=f"name one of them: {', '.join(visible(n, 60) for n in sorted(names)[:5])}",
        )
    tensors: dict[str, Tensor] = {}
    problems: list[str] = []
    if len(models) == 1 and counts not in ({0}, {1}):
        problems.append(f"1 of {next(iter(counts))} splits is present")
    for part in [*models, *(t for t in towers if t not in models)]:
        problems += part.problems
        twice = sorted(tensors.keys() & part.tensors.keys())
        problems += [f"tensor {visible(name)} is stored twice" for name in twice[:10]]
        tensors |= part.tensors
    first = min(models, key=lambda p: _whole(p.metadata.get("split.no"), 0))
    declared = first.metadata.get("split.tensors.count")
    held = sum(len(p.tensors) for p in models)
    if isinstance(declared, int) and declared != held and not isinstance(declared, bool) and len(models) > 1:
        problems.append(f"split.tensors.count is {declared}, the splits hold {held} tensors")
    return Container("gguf", tensors, first.metadata, tuple(problems))


def read_file(path: Path, size: int) -> Container:
    """Read the header of one file.

    Raises:
        UnreadableInput: if it is not GGUF version 2 or 3, or its tensor table contradicts itself.
    """
    try:
        with path.open("rb") as file:
            return _read(_Reader(file, path, size))
    except (OSError, MemoryError, struct.error, OverflowError) as error:
        unreadable(error, path)


def read(container: Container) -> Layout:
    """The modules under the names of the source, where the architecture's names are known."""
    modules, unknown, asymmetric = [], [], []
    sandwich = f"{FUSED_NORMS}.weight" in container.tensors and "blk.0.ffn_norm.weight" in container.tensors
    for tensor in container.tensors.values():
        stem, _, leaf = tensor.name.rpartition(".")
        if leaf == "bias" and f"{stem}.weight" in container.tensors:
            continue
        stem = stem if leaf in {"weight", "bias"} else tensor.name
        name = source_name(stem, sandwich=sandwich)
        if name is None:
            unknown.append(tensor.name)
            name = stem
        bias = (f"{stem}.bias",) if leaf == "weight" and f"{stem}.bias" in container.tensors else ()
        modules.append(_module(name, stem, tensor, bias))
        if tensor.dtype in ASYMMETRIC:
            asymmetric.append(name)
    producer = visible(str(container.metadata.get("general.quantized_by", "")), 80)
    return Layout(tuple(modules), producer, (), _unmapped(unknown), tuple(asymmetric))


def _module(name: str, stem: str, tensor: Tensor, bias: tuple[str, ...]) -> Module:
    block, _, bits = BY_NAME[tensor.dtype]
    gone = (f"{tensor.dtype} was removed from ggml: quantize again",) if tensor.dtype in REMOVED else ()
    return Module(
        name=name,
        kind=ModuleKind.NORM if "norm" in stem else classify(name, tensor.shape),
        scheme=tensor.dtype,
        weight_bits=bits,
        stored_bits=round(8 * tensor.size_bytes / max(1, tensor.elements), 6),
        shape=tensor.shape,
        group_size=block if block > 1 else None,
        tensors=(tensor.name, *bias),
        problems=gone,
    )


UNMAPPED = "tensors have names of llama.cpp that are not known here"


def _unmapped(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    return (f"{len(names)} {UNMAPPED}: {', '.join(visible(n, 60) for n in sorted(names)[:3])}",)


def metadata(container: Container) -> dict[str, Any]:
    """The key-values as far as they say what a Hugging Face checkpoint says too."""
    values = container.metadata
    architecture = values.get("general.architecture")
    config = {
        ours: plain(values[f"{architecture}.{theirs}"])
        for theirs, ours in _CONFIG_KEYS.items()
        if f"{architecture}.{theirs}" in values
    }
    for word in ("bos", "eos", "pad"):
        if f"tokenizer.ggml.{word}_token_id" in values:
            config[f"{word}_token_id"] = plain(values[f"tokenizer.ggml.{word}_token_id"])
    found: dict[str, Any] = {
        "config": config,
        "files": {},
        "partial": True,
        "architecture": plain(architecture),
    }
    template = values.get("tokenizer.chat_template")
    if isinstance(template, str):
        digest = digest_bytes(template.encode("utf-8", "backslashreplace"))
        found["chat_template"] = {"digest": digest, "where": "tokenizer.chat_template"}
    file_type = values.get("general.file_type")
    if isinstance(file_type, int) and file_type in FILE_TYPES:
        found["file_type"] = FILE_TYPES[file_type]
    return found


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _read(reader: _Reader) -> Container:
    magic = reader.take(4)
    if magic != b"GGUF":
        refuse_pointer(magic + bytes(reader.data[4:24]), reader.path)
        refuse("does not begin with GGUF", reader.path)
    version = reader.number("<I")
    if version not in {2, 3}:
        refuse(f"GGUF version {version}", reader.path, allowed="2 or 3, little-endian")
    tensor_count, value_count = reader.number("<Q"), reader.number("<Q")
    if tensor_count > 1_000_000 or value_count > 100_000:
        refuse(f"{tensor_count} tensors and {value_count} values: not a model", reader.path)
    values: dict[str, Any] = {}
    for _ in range(value_count):
        key = reader.text()
        if key in values:
            refuse(f"key {visible(key, 80)} stands twice", reader.path)
        values[key] = reader.value(reader.number("<I"))
    tensors: dict[str, Tensor] = {}
    table = [_entry(reader) for _ in range(tensor_count)]
    alignment = values.get("general.alignment", 32)
    if isinstance(alignment, bool) or not isinstance(alignment, int) or not 0 < alignment <= 2**20:
        refuse(f"alignment {str(alignment)[:40]}", reader.path)
    base = -(-reader.used // alignment) * alignment
    file, odd = str(reader.path), []
    for name, dtype, shape, size, offset in table:
        if name in tensors:
            refuse(f"tensor {visible(name, 80)} stands twice", reader.path)
        if offset % alignment:
            refuse(f"tensor {visible(name, 80)}: offset {offset} is not aligned to {alignment}", reader.path)
        if not name.isprintable() or ".." in name or "/" in name:
            odd.append(name)
        tensors[name] = Tensor(name, dtype, shape, size, file, base + offset)
    problems = _extent(list(tensors.values()), reader, alignment)
    return Container("gguf", tensors, values, (*problems, *_oddities(values, tensors, odd)))


def _oddities(values: Mapping[str, Any], tensors: Mapping[str, Tensor], odd: list[str]) -> tuple[str, ...]:
    """Names that are none, and what no loader can do without."""
    problems = []
    strange = sorted(k for k in values if not _KEY.fullmatch(k))
    architecture = values.get("general.architecture")
    asked = [k for k, tensor in _ESSENTIAL.items() if tensors and (not tensor or tensor in tensors)]
    lost = [k for k in asked if architecture != "clip" and f"{architecture}.{k}" not in values]
    if strange:
        problems.append(f"{len(strange)} keys are no names: {visible(strange[0], 80)}")
    if lost and values.get("split.no", 0) == 0:
        problems.append(f"{visible(str(architecture), 40)}.{lost[0]} is missing: llama.cpp cannot load it")
    if odd:
        what = "with control characters or path separators in their names"
        problems.append(f"{len(odd)} tensors {what}: {visible(odd[0])}")
    return tuple(problems)


def _entry(reader: _Reader) -> tuple[str, str, tuple[int, ...], int, int]:
    name, rank = reader.text(), reader.number("<I")
    if rank > 8:
        refuse(f"tensor {visible(name, 80)}: {rank} dimensions", reader.path)
    dimensions = [reader.number("<Q") for _ in range(rank)]
    kind, offset = reader.number("<I"), reader.number("<Q")
    if kind not in TYPES:
        refuse(f"tensor {visible(name, 80)}: unknown ggml type {kind}", reader.path)
    dtype, block, width, _ = TYPES[kind]
    count = 1
    for dimension in dimensions:
        count *= dimension
        if count > 2**44:
            refuse(f"tensor {visible(name, 80)}: shape overflows", reader.path)
    if dimensions and dimensions[0] % block:
        refuse(f"tensor {visible(name, 80)}: rows of {dimensions[0]} in blocks of {block}", reader.path)
    return name, dtype, tuple(reversed(dimensions)), count // block * width, offset


def _extent(tensors: list[Tensor], reader: _Reader, alignment: int) -> tuple[str, ...]:
    at, problems = 0, []
    for tensor in sorted(tensors, key=lambda t: (t.start, t.size_bytes)):
        if tensor.start < at:
            refuse(f"tensor {visible(tensor.name, 80)} overlaps another", reader.path)
        if at and tensor.start > at + alignment:
            problems.append(f"{tensor.start - at} unexplained bytes before tensor {visible(tensor.name, 80)}")
        at = tensor.start + tensor.size_bytes
    if at > reader.size:
        problems.append(f"{reader.path.name} is truncated: {reader.size} of {at} bytes")
    elif reader.size > at + alignment:
        problems.append(f"{reader.path.name} has {reader.size - at} bytes behind its last tensor")
    return tuple(problems[:10])
