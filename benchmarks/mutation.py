"""Seeded corruptions of good checkpoints and good result folders: how many are found, and that none passes unseen.

A checkpoint that a toolkit wrote is damaged in one place, read, and judged by its recipe against its source. What it
promises is told by `facts`, which shares no code with the readers: every tensor's name, dtype and shape, complete
files, finite scales, what is declared, and the metadata that must survive. A corruption is *found* if the checkpoint
cannot be read or the gate does not pass it; it is *missed* if the gate passes although one of these facts changed.
Bits of a weight, of a finite scale or of a metadata field that is only noted are no such fact.
"""

from __future__ import annotations

import importlib
import json
import random
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mutation_results
from _figures import Row, main
from gguf import GGUFReader

from assay.core.checkpoint import Checkpoint
from assay.core.errors import UnreadableInput
from assay.gates._checkpoint.metadata import BLOCK, GENERATION_BLOCK
from assay.gates.checkpoint import CheckpointGate, CheckpointPolicy
from assay.readers.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "tests" / "known_good" / "checkpoints"
COUNT, QUICK_COUNT, SEED = 1000, 200, 20261120
sys.path.insert(0, str(CORPUS))
_corpus: Any = importlib.import_module("good_cases")  # the corpus is no package
REAL, unpack = _corpus.REAL, _corpus.unpack

DECLARED = frozenset(
    {"quant_method", "bits", "num_bits", "quant_algo", "load_in_4bit", "load_in_8bit", "group_size", "mode", "ignore",
     "exclude_modules", "modules_to_not_convert", "targets", "quant_type", "weights", "nbits"}
)  # fmt: skip
"""Fields of a declaration that say what is stored where."""
_SAME_SIZE = {
    "BF16": ("F16",), "F16": ("BF16",), "I8": ("U8", "F8_E4M3"), "U8": ("I8",), "F8_E4M3": ("I8", "F8_E5M2"),
    "F32": ("I32",), "I32": ("F32",), "U32": ("I32",), "I64": ("F64",),
}  # fmt: skip
_FLOATS = {"BF16": ("<H", 0x7F80), "F16": ("<H", 0x7C00), "F32": ("<I", 0x7F800000)}


class Tally(NamedTuple):
    """What became of the corruptions."""

    found: Counter[str]
    harmless: Counter[str]
    missed: list[str]


# -- what is promised, read without the readers ----------------------------------------------------------


def facts(folder: Path) -> Any:
    """The promised facts of a checkpoint; None where its files cannot be understood."""
    try:
        files = [p for p in sorted(folder.rglob("*")) if _counts(p)]
        # A GGUF holds its own tokenizer and settings; what lies beside it is not promised.
        own = [p for p in files if p.suffix == ".gguf"]
        return {str(p.relative_to(folder)): _facts_of(p) for p in own or files}
    except (ValueError, LookupError, TypeError, struct.error, RecursionError, AttributeError):
        return None


def _counts(path: Path) -> bool:
    names = {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "quanto_qmap.json",
    }
    return path.is_file() and (path.suffix in {".safetensors", ".gguf"} or path.name in names)


def _facts_of(path: Path) -> Any:
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        return _tensor_facts(data)
    if path.suffix == ".gguf":
        return _gguf_facts(path)
    if path.suffix == ".jinja":
        return data
    value = _strict(data)
    if path.name == "config.json":
        inner = value.get("quantization_config") or value.get("quantization") or {}
        kept = {k: v for k, v in value.items() if (k in BLOCK or k.startswith("rope")) and v is not None}
        return {"head_dim": value["hidden_size"] // value["num_attention_heads"], **kept}, _pick(inner)
    if path.name == "generation_config.json":
        return {k: v for k, v in value.items() if k in GENERATION_BLOCK}
    return value


def _gguf_facts(path: Path) -> Any:
    """By llama.cpp's own reader."""
    found = GGUFReader(path)
    table = [(t.name, t.tensor_type, list(map(int, t.shape)), int(t.data_offset)) for t in found.tensors]
    kept = [
        k
        for k in found.fields
        if k.endswith(("block_count", "embedding_length", "context_length", "head_count"))
    ]
    kept += [k for k in found.fields if k.endswith(("eos_token_id", "chat_template", "feed_forward_length"))]
    return table, path.stat().st_size, {k: str(found.fields[k].contents()) for k in kept}


def _strict(data: bytes) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({k for k, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    return json.loads(data, object_pairs_hook=unique)


def _pick(value: Any) -> Any:
    """The fields that say what is stored where, wherever they are nested."""
    if isinstance(value, dict):
        if "config_groups" in value and isinstance(value["config_groups"], dict):  # their names mean nothing
            value = {**value, "config_groups": dict(enumerate(value["config_groups"].values()))}
        kept = {k: v if k in DECLARED and not isinstance(v, dict) else _pick(v) for k, v in value.items()}
        kept = {
            k: v for k, v in kept.items() if v is not False and v is not None and k != "input_activations"
        }
        return {k: v for k, v in kept.items() if k in DECLARED or v not in ({}, None)}
    return None


def _tensor_facts(data: bytes) -> Any:
    (length,) = struct.unpack_from("<Q", data)
    header = _strict(data[8 : 8 + length])
    header.pop("__metadata__", None)
    ends = [e["data_offsets"][1] for e in header.values()]
    table = {n: (e["dtype"], e["shape"], _broken(n, e, data[8 + length :])) for n, e in header.items()}
    table = {
        n: v for n, v in table.items() if not n.endswith("weight_format")
    }  # a loader's default, if it is lost
    # The one is a loader's default where it is lost, the others have no peers in a model of one layer.
    spared = ("weight_format", "pre_quant_scale", "g_idx")
    table = {n: v for n, v in table.items() if not n.endswith(spared)}
    return table, len(data) - 8 - length - max(ends, default=0)


def _broken(name: str, entry: Mapping[str, Any], data: bytes) -> bool:
    """Whether a scale holds something that is no finite number."""
    if entry["dtype"] not in _FLOATS or not name.endswith(("scale", "scales", "scale_2", "SCB", "absmax")):
        return False
    form, limit = _FLOATS[entry["dtype"]]
    begin, end = entry["data_offsets"]
    return any(v[0] & limit == limit for v in struct.iter_unpack(form, data[begin:end]))


# -- corruptions ---------------------------------------------------------------------------------------


def flip(folder: Path, rng: random.Random) -> str:
    """One bit of one file; the header of a weight file as often as its data."""
    path = _file(folder, rng)
    data = bytearray(path.read_bytes())
    weights = path.suffix in {".safetensors", ".gguf"}
    end = min(len(data), 4096) if weights and rng.random() < 0.5 else len(data)
    at = rng.randrange(max(1, end))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return f"{path.name} byte {at}"


def truncate(folder: Path, rng: random.Random) -> str:
    """The end of one file is lost."""
    path = _file(folder, rng)
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])
    return path.name


def drop(folder: Path, rng: random.Random) -> str:
    """One file, or one tensor with its data."""
    if rng.random() < 0.25:
        path = _file(folder, rng)
        path.unlink()
        return path.name
    return _edit(folder, rng, lambda table, name: table.pop(name))


def rename(folder: Path, rng: random.Random) -> str:
    """One tensor under another name."""

    def change(table: dict[str, Any], name: str) -> None:
        old = rng.choice(["proj", "weight", "layers.0", "scale", "model", "mlp"])
        table[name.replace(old, old[:-1] + "x") if old in name else name + "_old"] = table.pop(name)

    return _edit(folder, rng, change)


def duplicate(folder: Path, rng: random.Random) -> str:
    """A tensor that is stored twice, under a name of its own or in a file of its own."""
    if rng.random() < 0.3:
        weights = list(folder.rglob("*.safetensors"))
        if weights:
            shutil.copy(weights[0], weights[0].with_name("model-copy.safetensors"))
            return "file"
    return _edit(folder, rng, lambda table, name: table.update({f"{name}_copy": table[name]}))


def swap(folder: Path, rng: random.Random) -> str:
    """A tensor of another dtype of the same size, its bytes as they were."""

    def change(table: dict[str, Any], name: str) -> None:
        dtype, shape, data = table[name]
        table[name] = (rng.choice(_SAME_SIZE.get(dtype, (dtype,))), shape, data)

    return _edit(folder, rng, change)


def reshape(folder: Path, rng: random.Random) -> str:
    """A tensor with half of its rows, or transposed."""

    def change(table: dict[str, Any], name: str) -> None:
        dtype, shape, data = table[name]
        if len(shape) == 2 and rng.random() < 0.5:
            table[name] = (dtype, shape[::-1], data)
        elif shape and shape[0] % 2 == 0:
            table[name] = (dtype, [shape[0] // 2, *shape[1:]], data[: len(data) // 2])

    return _edit(folder, rng, change)


def digit(folder: Path, rng: random.Random) -> str:
    """One digit of a JSON file."""
    path = rng.choice(sorted(folder.rglob("*.json")) or [_file(folder, rng)])
    data = bytearray(path.read_bytes())
    places = [i for i, c in enumerate(data) if 48 <= c <= 57]
    if places:
        at = rng.choice(places)
        data[at] = rng.choice([c for c in b"0123456789" if c != data[at]])
        path.write_bytes(data)
    return path.name


def poison(folder: Path, rng: random.Random) -> str:
    """A scale that is no number."""

    def change(table: dict[str, Any], name: str) -> None:
        names = [n for n, t in table.items() if t[0] in _FLOATS and n.endswith(("scale", "scales", "SCB"))]
        if names:
            name = rng.choice(names)
            dtype, shape, data = table[name]
            width = struct.calcsize(_FLOATS[dtype][0])
            at = width * rng.randrange(max(1, len(data) // width))
            table[name] = (dtype, shape, data[:at] + b"\xff" * width + data[at + width :])

    return _edit(folder, rng, change)


CORRUPTIONS: tuple[Callable[[Path, random.Random], str], ...] = (
    flip, truncate, drop, rename, duplicate, swap, reshape, digit, poison,
)  # fmt: skip


def _file(folder: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size))


def _edit(folder: Path, rng: random.Random, change: Callable[[dict[str, Any], str], Any]) -> str:
    """Change the tensors of a safetensors file and write it so that its header is true again."""
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        return flip(folder, rng)
    data = weights[0].read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", None)
    body = data[8 + length :]
    table = {n: (e["dtype"], e["shape"], body[slice(*e["data_offsets"])]) for n, e in header.items()}
    name: str = rng.choice(sorted(table))
    change(table, name)
    out: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    parts, at = [], 0
    for key, (dtype, shape, part) in table.items():
        out[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    text = json.dumps(out).encode()
    weights[0].write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
    return name


# -- the trial -----------------------------------------------------------------------------------------


def mutate(count: int, seed: int = SEED) -> Tally:
    """Corrupt and judge."""
    rng = random.Random(seed)  # noqa: S311 - a seed, not a secret
    tally = Tally(Counter(), Counter(), [])
    with tempfile.TemporaryDirectory() as home:
        real = unpack(Path(home) / "real")
        sources = {of: read_checkpoint(real / of, "source") for of in {c.source for c in REAL.values()}}
        names = sorted(n for n, c in REAL.items() if c.method)
        before = {n: facts(real / n) for n in names}
        for number in range(count):
            name = names[number % len(names)]
            kind = CORRUPTIONS[(number // len(names)) % len(CORRUPTIONS)]
            copy = Path(home) / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(real / name, copy)
            where = kind(copy, rng)
            of = REAL[name].source
            if not passes(copy, sources[of], real / of, str(REAL[name].recipe)):
                tally.found[kind.__name__] += 1
            elif facts(copy) == before[name]:
                tally.harmless[kind.__name__] += 1
            else:
                tally.missed.append(f"{number}: {name}, {kind.__name__}: {where}")
    return tally


def passes(folder: Path, source: Checkpoint, source_path: Path, recipe: str) -> bool:
    """Whether the checkpoint is read and the gate passes it."""
    try:
        found = read_checkpoint(folder, source=source_path)
    except UnreadableInput:
        return False
    gate = CheckpointGate(CheckpointPolicy(recipe=recipe))
    return gate.judge({"source.checkpoint": source, "candidate.checkpoint": found}).passed


def measure(quick: bool) -> list[Row]:
    """Checkpoints, then result folders."""
    tally = mutate(QUICK_COUNT if quick else COUNT)
    for line in tally.missed[:20]:
        print(f"missed: {line}", file=sys.stderr)
    found, harmless = sum(tally.found.values()), sum(tally.harmless.values())
    total = found + harmless + len(tally.missed)
    harmful = found + len(tally.missed)
    rows = [
        Row("checkpoints: corruptions", total, "", peer=", ".join(c.__name__ for c in CORRUPTIONS)),
        Row("checkpoints: found", 100.0 * found / total, "%"),
        Row("checkpoints: no promised fact changed", 100.0 * harmless / total, "%"),
        Row("checkpoints: of those that change a promised fact, found", 100.0 * found / max(1, harmful), "%", "100",
            not tally.missed),
        Row("checkpoints: missed", len(tally.missed), "", "0", not tally.missed),
    ]  # fmt: skip
    for kind in CORRUPTIONS:
        n = tally.found[kind.__name__] + tally.harmless[kind.__name__]
        if n:
            share = 100.0 * tally.found[kind.__name__] / n
            rows.append(
                Row(f"  {kind.__name__}", share, "%", peer=f"{tally.found[kind.__name__]} of {n} refused")
            )
    return rows + mutation_results.measure(quick)


if __name__ == "__main__":
    main(__doc__ or "", measure)
