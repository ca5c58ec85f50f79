"""GGUF: key-values and tensor table of a file or its splits. No tensor data is read."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from assay.core.canon import digest_bytes
from assay.core.checkpoint import Module, ModuleKind
from assay.readers.checkpoint.files import plain, refuse, regular_file
from assay.readers.checkpoint.layout import Container, Layout, Tensor, classify

TYPES: Mapping[int, tuple[str, int, int, float]] = {
    0: ("F32", 1, 4, 32), 1: ("F16", 1, 2, 16), 30: ("BF16", 1, 2, 16), 28: ("F64", 1, 8, 64),
    24: ("I8", 1, 1, 8), 25: ("I16", 1, 2, 16), 26: ("I32", 1, 4, 32), 27: ("I64", 1, 8, 64),
    2: ("Q4_0", 32, 18, 4), 3: ("Q4_1", 32, 20, 4), 6: ("Q5_0", 32, 22, 5), 7: ("Q5_1", 32, 24, 5),
    8: ("Q8_0", 32, 34, 8), 9: ("Q8_1", 32, 40, 8),
    10: ("Q2_K", 256, 84, 2), 11: ("Q3_K", 256, 110, 3), 12: ("Q4_K", 256, 144, 4), 13: ("Q5_K", 256, 176, 5),
    14: ("Q6_K", 256, 210, 6), 15: ("Q8_K", 256, 292, 8),
    16: ("IQ2_XXS", 256, 66, 2), 17: ("IQ2_XS", 256, 74, 2), 18: ("IQ3_XXS", 256, 98, 3), 19: ("IQ1_S", 256, 50, 1),
    20: ("IQ4_NL", 32, 18, 4), 21: ("IQ3_S", 256, 110, 3), 22: ("IQ2_S", 256, 82, 2), 23: ("IQ4_XS", 256, 136, 4),
    29: ("IQ1_M", 256, 56, 1), 34: ("TQ1_0", 256, 54, 1.585), 35: ("TQ2_0", 256, 66, 2),
    39: ("MXFP4", 32, 17, 4), 40: ("NVFP4", 64, 36, 4), 41: ("Q1_0", 128, 18, 1),
}  # fmt: skip
"""ggml type → name, weights per block, bytes per block, bits of one weight."""
FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
"""general.file_type, which is only what most tensors are."""
_SCALARS: Mapping[int, str] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_BOOL, _STRING, _ARRAY = 7, 8, 9
MAX_HEADER_BYTES = 256 * 2**20
_MAX_ITEMS = 8_000_000
_KEPT_ITEMS = 64
_NAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^token_embd$", "model.embed_tokens"),
        (r"^output_norm$", "model.norm"),
        (r"^output$", "lm_head"),
        (r"^blk\.(\d+)\.attn_q$", r"model.layers.\1.self_attn.q_proj"),
        (r"^blk\.(\d+)\.attn_k$", r"model.layers.\1.self_attn.k_proj"),
        (r"^blk\.(\d+)\.attn_v$", r"model.layers.\1.self_attn.v_proj"),
        (r"^blk\.(\d+)\.attn_output$", r"model.layers.\1.self_attn.o_proj"),
        (r"^blk\.(\d+)\.attn_q_norm$", r"model.layers.\1.self_attn.q_norm"),
        (r"^blk\.(\d+)\.attn_k_norm$", r"model.layers.\1.self_attn.k_norm"),
        (r"^blk\.(\d+)\.ffn_gate$", r"model.layers.\1.mlp.gate_proj"),
        (r"^blk\.(\d+)\.ffn_up$", r"model.layers.\1.mlp.up_proj"),
        (r"^blk\.(\d+)\.ffn_down$", r"model.layers.\1.mlp.down_proj"),
        (r"^blk\.(\d+)\.attn_norm$", r"model.layers.\1.input_layernorm"),
        (r"^blk\.(\d+)\.ffn_norm$", r"model.layers.\1.post_attention_layernorm"),
    )
)
_CONFIG_KEYS: Mapping[str, str] = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "vocab_size": "vocab_size",
    "rope.freq_base": "rope_theta",
}


@dataclass
class _Reader:
    """Reads little-endian values of a header and never more than its bound."""

    file: BinaryIO
    path: Path
    size: int
    used: int = 0

    def take(self, count: int) -> bytes:
        self.used += count
        if count < 0 or self.used > min(self.size, MAX_HEADER_BYTES):
            refuse("header runs past the end of the file", self.path)
        data = self.file.read(count)
        if len(data) != count:
            refuse("file ends inside its header", self.path)
        return data

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8", "backslashreplace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _BOOL:
            return self.number("<B") != 0
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY or depth > 2:
            refuse(f"value of unknown type {kind}", self.path)
        return self.array(depth)

    def array(self, depth: int) -> Any:
        kind, count = self.number("<I"), self.number("<Q")
        if count > _MAX_ITEMS:
            refuse(f"array of {count} values", self.path)
        if kind in _SCALARS or kind == _BOOL:
            width = struct.calcsize(_SCALARS.get(kind, "<B"))
            data = self.take(count * width)
            if count > _KEPT_ITEMS:
                return {"count": count, "digest": digest_bytes(data)}
            return [struct.unpack_from(_SCALARS.get(kind, "<B"), data, i * width)[0] for i in range(count)]
        values = [self.value(kind, depth + 1) for _ in range(count)]
        if count > _KEPT_ITEMS:
            joined = "\0".join(map(str, values)).encode("utf-8", "backslashreplace")
            return {"count": count, "digest": digest_bytes(joined)}
        return values


def read_files(root: Path, paths: list[Path]) -> Container:
    """Read one GGUF, or all splits of one.

    Raises:
        UnreadableInput: if it is not GGUF version 2 or 3, or several models lie in the folder.
    """
    parts = [read_file(path, root) for path in sorted(paths)]
    counts = {_whole(part.metadata.get("split.count"), 1) for part in parts}
    if len(parts) > 1 and counts != {len(parts)}:
        refuse(f"{len(parts)} GGUF files that are not the splits of one model", root, next="name one file")
    tensors: dict[str, Tensor] = {}
    problems: list[str] = []
    if len(parts) == 1 and counts not in ({0}, {1}):
        problems.append(f"1 of {next(iter(counts))} splits is present")
    for part in parts:
        problems += part.problems
        problems += [f"tensor {name} is stored twice" for name in sorted(set(tensors) & set(part.tensors))]
        tensors |= part.tensors
    first = min(parts, key=lambda p: _whole(p.metadata.get("split.no"), 0))
    return Container("gguf", tensors, first.metadata, tuple(problems))


def read_file(path: Path, root: Path) -> Container:
    """Read the header of one file.

    Raises:
        UnreadableInput: if it is not GGUF version 2 or 3, or its tensor table contradicts itself.
    """
    size = regular_file(path, root).st_size
    try:
        with path.open("rb") as file:
            return _read(_Reader(file, path, size))
    except (OSError, MemoryError, struct.error) as error:
        refuse(f"cannot be read: {error}", path)


def read(container: Container) -> Layout:
    """The modules under the names of the source, where the architecture's names are known."""
    modules = []
    for tensor in container.tensors.values():
        stem, _, leaf = tensor.name.rpartition(".")
        if leaf != "weight":
            continue
        bias = (f"{stem}.bias",) if f"{stem}.bias" in container.tensors else ()
        name = source_name(stem)
        scheme, _, _, bits = next(t for t in TYPES.values() if t[0] == tensor.dtype)
        block = next(t[1] for t in TYPES.values() if t[0] == tensor.dtype)
        kind = ModuleKind.NORM if "norm" in stem else classify(name, tensor.shape)
        modules.append(
            Module(
                name=name,
                kind=kind,
                scheme=scheme,
                weight_bits=bits,
                stored_bits=round(8 * tensor.size_bytes / max(1, tensor.count), 6),
                shape=tensor.shape,
                group_size=block if block > 1 else None,
                tensors=(tensor.name, *bias),
            )
        )
    producer = str(container.metadata.get("general.quantized_by", ""))[:80]
    return Layout(tuple(modules), producer)


def source_name(stem: str) -> str:
    """The Hugging Face name of a llama.cpp tensor; unknown names stay as they are."""
    for pattern, name in _NAMES:
        if pattern.match(stem):
            return pattern.sub(name, stem)
    return stem


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
    if reader.take(4) != b"GGUF":
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
            refuse(f"key {key[:80]!r} stands twice", reader.path)
        values[key] = reader.value(reader.number("<I"))
    entries = [_entry(reader) for _ in range(tensor_count)]
    alignment = values.get("general.alignment", 32)
    if isinstance(alignment, bool) or not isinstance(alignment, int) or not 0 < alignment <= 2**20:
        refuse(f"alignment {str(alignment)[:40]}", reader.path)
    base = -(-reader.used // alignment) * alignment
    tensors: dict[str, Tensor] = {}
    for name, dtype, shape, size, offset in entries:
        if name in tensors:
            refuse(f"tensor {name[:80]!r} stands twice", reader.path)
        tensors[name] = Tensor(name, dtype, shape, size, str(reader.path), base + offset)
    return Container("gguf", tensors, values, _extent(list(tensors.values()), reader))


def _entry(reader: _Reader) -> tuple[str, str, tuple[int, ...], int, int]:
    name, rank = reader.text(), reader.number("<I")
    if rank > 8:
        refuse(f"tensor {name[:80]!r}: {rank} dimensions", reader.path)
    dimensions = [reader.number("<Q") for _ in range(rank)]
    kind, offset = reader.number("<I"), reader.number("<Q")
    if kind not in TYPES:
        refuse(f"tensor {name[:80]!r}: unknown ggml type {kind}", reader.path)
    dtype, block, width, _ = TYPES[kind]
    count = 1
    for dimension in dimensions:
        count *= dimension
        if count > 2**44:
            refuse(f"tensor {name[:80]!r}: shape overflows", reader.path)
    if dimensions and dimensions[0] % block:
        refuse(f"tensor {name[:80]!r}: rows of {dimensions[0]} in blocks of {block}", reader.path)
    return name, dtype, tuple(reversed(dimensions)), count // block * width, offset


def _extent(tensors: list[Tensor], reader: _Reader) -> tuple[str, ...]:
    at = 0
    for tensor in sorted(tensors, key=lambda t: (t.start, t.size_bytes)):
        if tensor.start < at:
            refuse(f"tensor {tensor.name[:80]!r} overlaps another", reader.path)
        at = tensor.start + tensor.size_bytes
    return (f"{reader.path.name} is truncated: {reader.size} of {at} bytes",) if at > reader.size else ()
