"""safetensors: the header of each file, and the index over several. No tensor data is read."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from assay.readers.checkpoint.files import parse_json, read_object, refuse, regular_file
from assay.readers.checkpoint.layout import Container, Tensor

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
_MAX_TENSOR_BYTES = 2**44
_MAX_RANK = 16
DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def read_file(path: Path, root: Path) -> Container:
    """Read the header of one file.

    A file that is shorter or longer than its header promises is readable and wrong: that is a problem of the
    container. A header that contradicts itself is not readable.

    Raises:
        UnreadableInput: if the header is not one.
    """
    size = regular_file(path, root).st_size
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if len(start) < 8:
                refuse("too short for a safetensors file", path)
            (length,) = struct.unpack("<Q", start)
            if length > MAX_HEADER_BYTES:
                refuse(f"header of {length} bytes: at most {MAX_HEADER_BYTES} are allowed", path)
            if length > size - 8:
                refuse(f"header of {length} bytes in a file of {size}", path)
            data = file.read(length)
    except OSError as error:
        refuse(f"cannot be read: {error.strerror}", path)
    header = parse_json(data, path)
    if not isinstance(header, dict):
        refuse("header must be a JSON object", path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        refuse("__metadata__ must be a JSON object", path)
    tensors = {name: _tensor(name, entry, path, 8 + length) for name, entry in header.items()}
    problems = _extent(list(tensors.values()), path, 8 + length, size)
    return Container(format="safetensors", tensors=tensors, metadata=metadata, problems=problems)


def read_folder(root: Path, files: Mapping[str, Path]) -> Container:
    """Read all shards of a folder and compare them with their index.

    Args:
        root: the checkpoint folder.
        files: relative name → path of every file in it.

    Raises:
        UnreadableInput: if a shard or the index cannot be understood.
    """
    shards = {name: path for name, path in files.items() if name.endswith(".safetensors") and "/" not in name}
    index_names = [n for n in files if n.endswith(".safetensors.index.json") and "/" not in n]
    if len(index_names) > 1:
        refuse(f"several indexes: {', '.join(sorted(index_names))}", root)
    wanted = _weight_map(files[index_names[0]]) if index_names else None
    problems: list[str] = []
    if wanted is not None:
        listed = set(wanted.values())
        problems += [f"the index names {name}, which is missing" for name in sorted(listed - set(shards))]
        problems += [f"{name} is not in the index" for name in sorted(set(shards) - listed)]
        shards = {name: path for name, path in shards.items() if name in listed}
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, Any] = {}
    for path in (shards[name] for name in sorted(shards)):
        part = read_file(path, root)
        problems += part.problems
        problems += [f"tensor {name} is stored twice" for name in sorted(set(tensors) & set(part.tensors))]
        tensors |= part.tensors
        metadata |= part.metadata
    if wanted is not None:
        problems += _index_problems(wanted, tensors)
    return Container("safetensors", tensors, metadata, tuple(problems))


def _tensor(name: str, entry: Any, path: Path, base: int) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        refuse(f"tensor {name[:80]!r}: an entry has exactly dtype, shape and data_offsets", path)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        refuse(f"tensor {name[:80]!r}: unknown dtype {str(dtype)[:40]!r}", path)
    if not _counts(shape) or len(shape) > _MAX_RANK:
        refuse(f"tensor {name[:80]!r}: shape must be a list of whole numbers", path)
    if not _counts(offsets) or len(offsets) != 2:
        refuse(f"tensor {name[:80]!r}: data_offsets must be two whole numbers", path)
    elements = 1
    for dimension in shape:
        elements *= dimension
        if elements > _MAX_TENSOR_BYTES:
            refuse(f"tensor {name[:80]!r}: shape overflows", path)
    begin, end = offsets
    if (elements * DTYPE_BITS[dtype] + 7) // 8 != end - begin:
        refuse(f"tensor {name[:80]!r}: {end - begin} bytes cannot hold {dtype} {shape}", path)
    return Tensor(name, dtype, tuple(shape), end - begin, str(path), base + begin)


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= _MAX_TENSOR_BYTES for v in value
    )


def _extent(tensors: list[Tensor], path: Path, base: int, size: int) -> tuple[str, ...]:
    at = base
    for tensor in sorted(tensors, key=lambda t: (t.start, t.size_bytes)):
        if tensor.start < at:
            refuse(f"tensor {tensor.name[:80]!r} overlaps another", path)
        if tensor.start > at:
            refuse(f"{tensor.start - at} unexplained bytes before tensor {tensor.name[:80]!r}", path)
        at = tensor.start + tensor.size_bytes
    if at > size:
        return (f"{path.name} is truncated: {size} of {at} bytes",)
    return (f"{path.name} has {size - at} bytes behind its last tensor",) if at < size else ()


def _weight_map(path: Path) -> dict[str, str]:
    found = read_object(path).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        refuse("weight_map must map tensor names to file names", path)
    for name in set(found.values()):
        if PurePosixPath(name).name != name or "\\" in name or name in {"", ".", ".."}:
            refuse(f"weight_map points outside the folder: {name[:80]!r}", path)
    return found


def _index_problems(wanted: Mapping[str, str], tensors: Mapping[str, Tensor]) -> list[str]:
    problems = []
    lost = sorted(set(wanted) - set(tensors))
    extra = sorted(set(tensors) - set(wanted))
    moved = sorted(n for n in set(wanted) & set(tensors) if Path(tensors[n].file).name != wanted[n])
    for names, what in (
        (lost, "in the index, in no shard"),
        (extra, "in a shard, not in the index"),
        (moved, "in another shard than the index says"),
    ):
        if names:
            problems.append(f"{len(names)} tensors {what}: {', '.join(names[:3])}")
    return problems
