"""Blobs in files that safetensors reads: eight bytes of header length, a JSON header, the raw data.

Written here and not by the library, so that the bytes are hashed while they are written and nothing but the standard
library is needed. Format: github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from assay.track._checkpoint import arrays
from assay.track._checkpoint.disk import DigestingFile
from assay.track._checkpoint.errors import CheckpointDamaged

SUFFIX = ".safetensors"
HEADER_LIMIT_BYTES = 100 << 20
"""The limit of the library itself."""

_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
    "<f8": "F64", "<f4": "F32", "<f2": "F16", "|b1": "BOOL",
    "<i8": "I64", "<i4": "I32", "<i2": "I16", "|i1": "I8",
    "<u8": "U64", "<u4": "U32", "<u2": "U16", "|u1": "U8",
}  # fmt: skip
"""dtype of torch or numpy → name in the header. What has none is stored as bytes; our own tree says what they are."""


def write_blobs(file: DigestingFile, blobs: Mapping[str, tuple[Any, dict[str, Any]]]) -> None:
    """Write frozen values in their order.

    Raises:
        OSError: what the file system says.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for key, (value, specification) in blobs.items():
        size = arrays.view(value).nbytes
        name = _NAMES.get(str(specification["dtype"]))
        shape = [size] if name is None else specification["shape"]
        header[key] = {"dtype": name or "U8", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for value, _ in blobs.values():
        file.write(arrays.view(value))


class BlobReader:
    """Values of one checkpoint's blob files, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables: dict[str, tuple[int, int, dict[str, Any]]] = {}
        self._read: dict[tuple[str, str], Any] = {}

    def __call__(self, specification: dict[str, Any]) -> Any:
        """The value of a specification with its place `at`.

        Raises:
            CheckpointDamaged: if file, header and specification do not belong together.
        """
        part, key = specification["at"]
        if (part, key) not in self._read:
            self._read[part, key] = self._load(str(part), str(key), specification)
        return self._read[part, key]

    def _load(self, part: str, key: str, specification: dict[str, Any]) -> Any:
        path = self._folder / f"{part}{SUFFIX}"
        if path.parent != self._folder:
            raise CheckpointDamaged("a name that leads out of the folder", where=part)
        try:
            with path.open("rb") as handle:
                return self._value(handle, part, key, specification)
        except OSError as error:
            raise CheckpointDamaged(f"cannot read: {error.strerror or error}", where=str(path)) from error

    def _value(self, handle: BinaryIO, part: str, key: str, specification: dict[str, Any]) -> Any:
        if part not in self._tables:
            self._tables[part] = read_header(handle)
        start, size, table = self._tables[part]
        begin, end = _extent(table.get(key), size, f"{part}: {key}")
        raw = specification["$"] == "bytes"
        if not raw and arrays.size_of(specification) != end - begin:
            raise CheckpointDamaged(
                f"{end - begin} bytes are not this shape and dtype", where=f"{part}: {key}"
            )
        handle.seek(start + begin)
        if raw:
            return handle.read(end - begin)
        value = arrays.allocate(specification)
        memory = arrays.view(value)
        if memory.nbytes and handle.readinto(memory) != memory.nbytes:  # type: ignore[attr-defined]
            raise CheckpointDamaged("the file is too short", where=f"{part}: {key}")
        return arrays.arrange(value, specification)


def read_header(handle: BinaryIO) -> tuple[int, int, dict[str, Any]]:
    """Where the data starts, how long it is, and the table of a blob file.

    Raises:
        CheckpointDamaged: if it has no such header.
    """
    start = handle.read(8)
    whole = handle.seek(0, 2)
    size = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
    if not 0 <= size <= min(HEADER_LIMIT_BYTES, whole - 8):
        raise CheckpointDamaged("no header of a blob file")
    handle.seek(8)
    try:
        table = json.loads(handle.read(size))
    except (ValueError, RecursionError) as error:
        raise CheckpointDamaged(f"the header is no JSON: {error}") from error
    if not isinstance(table, dict):
        raise CheckpointDamaged("the header is no table")
    return 8 + size, whole - 8 - size, table


def _extent(row: Any, size: int, where: str) -> tuple[int, int]:
    offsets = row.get("data_offsets") if isinstance(row, dict) else None
    if isinstance(offsets, list) and len(offsets) == 2 and all(type(n) is int for n in offsets):
        begin, end = offsets
        if 0 <= begin <= end <= size:
            return begin, end
    raise CheckpointDamaged("no such blob", where=where)
