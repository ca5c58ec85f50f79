"""Writers of small checkpoints: real containers, made byte by byte."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.readers.checkpoint.safetensors import DTYPE_BITS

GGUF_KEYS = (
    "block_count",
    "embedding_length",
    "context_length",
    "attention.head_count",
    "feed_forward_length",
)
FILL = b"\x3c"
Tensors = Mapping[str, tuple[str, list[int]]]


def header_of(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A safetensors header with the tensors one after the other."""
    header: dict[str, Any] = {"__metadata__": dict(metadata or {"format": "pt"})}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * DTYPE_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return header


def write_file(path: Path, header: Any, data: bytes | None = None, *, length: int | None = None) -> Path:
    """A safetensors file from a header (JSON value or raw bytes); data that is finite and not zero in any dtype."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    if data is None:
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        data = FILL * max(ends, default=0)
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def gguf_text(value: str) -> bytes:
    """A length and UTF-8."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_bytes(
    tensors: Mapping[str, tuple[int, list[int], int]],
    values: Mapping[str, Any] | None = None,
    *,
    version: int = 3,
    data: int | None = None,
) -> bytes:
    """A GGUF file: tensor name → (ggml type, dimensions innermost first, bytes); values are text or whole."""
    sizes = {f"llama.{key}": 128 for key in GGUF_KEYS}
    values = {"general.architecture": "llama", **sizes, **(values or {})}
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    for key, value in values.items():
        out += gguf_text(key)
        if isinstance(value, str):
            out += struct.pack("<I", 8) + gguf_text(value)
        elif isinstance(value, list):
            out += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(gguf_text(v) for v in value)
        else:
            out += struct.pack("<II", 4, value)
    at = 0
    for name, (kind, dimensions, size) in tensors.items():
        out += gguf_text(name) + struct.pack("<I", len(dimensions))
        out += b"".join(struct.pack("<Q", d) for d in dimensions) + struct.pack("<IQ", kind, at)
        at += -(-size // 32) * 32
    out += bytes(-len(out) % 32)
    return out + bytes(at if data is None else data)
