"""safetensors: the header of each file, and the index over several. No tensor data is read."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from assay.readers.checkpoint.files import (
    Files,
    parse_json,
    read_object,
    refuse,
    refuse_pointer,
    unreadable,
    visible,
)
from assay.readers.checkpoint.layout import Container, Tensor

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
_MAX_TENSOR_BYTES = 2**44
_MAX_RANK = 16
MAX_SHARDS = 10_000
_KEYS = {"dtype", "shape", "data_offsets"}
_NUMBERED = re.compile(r"(.*)-(\d{1,6})-of-(\d{1,6})\.safetensors")
_APART = re.compile(r"(consolidated|adapter_|training_|optimizer|random_states|rng_state)")
"""Files that loaders of the folder leave alone: Mistral's own format, adapters, state of a training run."""
DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def read_file(path: Path, size: int) -> Container:
    """Read the header of one file.

    A file that is shorter or longer than its header promises is readable and wrong: that is a problem of the
    container. A header that contradicts itself is not readable.

    Args:
        path: an ordinary file.
        size: its bytes.

    Raises:
        UnreadableInput: if the header is not one.
    """
    header, base = _header(path, size)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        refuse("__metadata__ must be a JSON object", path)
    tensors, end, ordered = _tensors(header, path, base)
    problems = () if ordered else _gaps(list(tensors.values()), path, base)
    if end > size:
        problems = (*problems, f"{path.name} is truncated: {size} of {end} bytes")
    elif end < size:
        problems = (*problems, f"{path.name} has {size - end} bytes behind its last tensor")
    return Container(format="safetensors", tensors=tensors, metadata=metadata, problems=problems)


def read_folder(files: Files) -> Container:
    """Read all shards of a folder and compare them with their index, or with the number in their names.

    Raises:
        UnreadableInput: if a shard or the index cannot be understood.
    """
    paths = files.paths
    shards = [n for n in paths if n.endswith(".safetensors") and "/" not in n]
    index_names = sorted(n for n in paths if n.endswith(".safetensors.index.json") and "/" not in n)
    if len(index_names) > 1:
        refuse(f"several indexes: {', '.join(index_names)}", files.root)
    index = _index(paths[index_names[0]]) if index_names else None
    wanted = index[0] if index is not None else None
    shards, problems, notes = _sorted_out(shards, wanted)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, Any] = {}
    count = 0
    for name in sorted(shards):
        part = read_file(paths[name], files.size(name))
        count += len(part.tensors)
        problems += part.problems
        before = len(tensors)
        tensors |= part.tensors
        metadata |= part.metadata
        if len(tensors) != before + len(part.tensors):
            problems.append(f"{before + len(part.tensors) - len(tensors)} tensors of {name} are stored twice")
        if wanted is not None:
            problems += _misplaced(name, part.tensors, wanted)
    if index is not None:
        problems += _named(sorted(index[0].keys() - tensors.keys()), "in the index, in no shard")
        size = sum(t.size_bytes for t in tensors.values())
        if index[1] not in {None, size}:  # some toolkits write the source's size; no loader looks at it
            notes = (*notes, f"the index says {visible(str(index[1]), 40)} bytes, the headers {size}")
    return Container("safetensors", tensors, metadata, (*problems, *_names(tensors)), notes)


def _header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if len(start) < 8:
                refuse("too short for a safetensors file", path)
            refuse_pointer(start, path)
            (length,) = struct.unpack("<Q", start)
            if length > MAX_HEADER_BYTES:
                refuse(f"header of {length} bytes: at most {MAX_HEADER_BYTES} are allowed", path)
            if length > size - 8:
                refuse(f"header of {length} bytes in a file of {size}", path)
            data = file.read(length)
    except OSError as error:
        unreadable(error, path)
    if len(data) != length:
        refuse("changed while it was read", path)
    header = parse_json(data, path)
    if not isinstance(header, dict):
        refuse("header must be a JSON object", path)
    return header, 8 + length


def _tensors(header: Mapping[str, Any], path: Path, base: int) -> tuple[dict[str, Tensor], int, bool]:
    """The tensors, where the last one ends, and whether they follow each other without a gap as they are listed."""
    tensors: dict[str, Tensor] = {}
    file, at, ordered = str(path), 0, True
    sizes: dict[tuple[Any, ...], int] = {}
    for name, entry in header.items():
        if not isinstance(entry, dict) or len(entry) != 3 or not entry.keys() >= _KEYS:
            refuse(f"tensor {visible(name, 80)}: an entry has exactly dtype, shape and data_offsets", path)
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(offsets, list) or len(offsets) != 2 or not _counts(offsets):
            refuse(f"tensor {visible(name, 80)}: data_offsets must be two whole numbers", path)
        begin, end = offsets
        if not isinstance(shape, list) or len(shape) > _MAX_RANK or not _counts(shape):
            refuse(f"tensor {visible(name, 80)}: shape must be a list of whole numbers", path)
        key = (dtype, *shape) if isinstance(dtype, str) else ()
        if key not in sizes:
            sizes[key] = _size(name, dtype, shape, path)
        if sizes[key] != end - begin:
            refuse(f"tensor {visible(name, 80)}: {end - begin} bytes cannot hold {dtype} {shape}", path)
        tensors[name] = Tensor(name, dtype, tuple(shape), end - begin, file, base + begin)
        ordered = ordered and begin == at
        at = max(at, end)
    return tensors, base + at, ordered


def _size(name: str, dtype: Any, shape: list[int], path: Path) -> int:
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        refuse(f"tensor {visible(name, 80)}: unknown dtype {visible(str(dtype), 40)!r}", path)
    elements = math.prod(shape)
    if elements > _MAX_TENSOR_BYTES:
        refuse(f"tensor {visible(name, 80)}: shape overflows", path)
    return (elements * DTYPE_BITS[dtype] + 7) // 8


def _counts(values: list[Any]) -> bool:
    # `type` and not isinstance: a bool is an int in Python, and none in JSON. A loop: this runs for every tensor.
    for value in values:  # noqa: SIM110
        if type(value) is not int or not 0 <= value <= _MAX_TENSOR_BYTES:
            return False
    return True


def _gaps(tensors: list[Tensor], path: Path, base: int) -> tuple[str, ...]:
    at = base
    for tensor in sorted(tensors, key=lambda t: (t.start, t.size_bytes)):
        if tensor.start < at:
            refuse(f"tensor {visible(tensor.name, 80)} overlaps another", path)
        if tensor.start > at:
            refuse(f"{tensor.start - at} unexplained bytes before tensor {visible(tensor.name, 80)}", path)
        at = tensor.start + tensor.size_bytes
    return ()


def _sorted_out(
    found: list[str], wanted: Mapping[str, str] | None
) -> tuple[list[str], list[str], tuple[str, ...]]:
    """Which files hold the weights; what is missing or too many; what lies beside and is not judged."""
    apart = [n for n in found if _APART.match(n)]
    shards = [n for n in found if n not in apart] or found
    notes = tuple(f"{n} lies beside the checkpoint and is not judged" for n in apart if n not in shards)
    if shards and shards[0].startswith("adapter_"):
        notes = (*notes, f"{shards[0]} holds an adapter, no whole model")
    if wanted is not None:
        listed = set(wanted.values())
        problems = [f"the index names {visible(n)}, which is missing" for n in sorted(listed - set(found))]
        problems += [f"{n} is not in the index" for n in sorted(set(shards) - listed)]
        return [n for n in found if n in listed], problems, notes
    problems = []
    numbered = {n: m for n in shards if (m := _NUMBERED.fullmatch(n))}
    for stem, of in sorted({(m[1], m[3]) for m in numbered.values()}):
        there = {int(m[2]) for m in numbered.values() if (m[1], m[3]) == (stem, of)}
        lost = [i for i in range(1, min(int(of), MAX_SHARDS) + 1) if i not in there]
        if lost:
            problems.append(
                f"{len(lost)} of {int(of)} shards are missing: {stem}-{lost[0]:0{len(of)}d}-of-{of}"
            )
    return shards, problems, notes


def _index(path: Path) -> tuple[dict[str, str], Any]:
    value = read_object(path)
    found, extra = value.get("weight_map"), value.get("metadata")
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        refuse("weight_map must map tensor names to file names", path)
    for name in set(found.values()):
        if PurePosixPath(name).name != name or "\\" in name or name in {"", ".", ".."}:
            refuse(f"weight_map points outside the folder: {visible(name, 80)}", path)
    total = extra.get("total_size") if isinstance(extra, dict) else None
    return found, total if isinstance(total, int | float | str) else None


def _misplaced(shard: str, tensors: Mapping[str, Tensor], wanted: Mapping[str, str]) -> list[str]:
    extra = sorted(n for n in tensors if n not in wanted)
    moved = sorted(n for n in tensors if wanted.get(n, shard) != shard)
    return [
        *_named(extra, f"in {shard}, not in the index"),
        *_named(moved, f"in {shard}: in another shard than the index says"),
    ]


def _names(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    odd = sorted(n for n in tensors if not n.isprintable() or ".." in n or "/" in n or "\\" in n or not n)
    return tuple(_named(odd, "with control characters or path separators in their names"))


def _named(names: list[str], what: str) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{len(names)} tensors {what}: {', '.join(visible(n) for n in names[:3])}{more}"]
