"""A checkpoint of 1 TB, inspected: time and memory of `assay inspect`, beside three peers on the same folder.

The folder is synthetic and its headers are true: 512 shards, about 120,000 tensors in the names, shapes and blocks of
a DeepSeek-V3-like FP8 model. The weights are holes in sparse files (260 MB on disk); the scales hold ones.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from _figures import Row, below, main

SHARDS, LAYERS, EXPERTS = 512, 60, 328
HIDDEN, INTER, VOCAB = 7168, 2304, 163_840
LIMIT_S, LIMIT_MIB = 2.0, 300.0
PATIENCE_S = 90.0
BITS = {"F8_E4M3": 8, "F32": 32, "BF16": 16}
Entry = tuple[str, str, list[int]]

ASSAY = "import sys; from assay.cli.inspect import inspect; inspect.main([{path!r}])"
READ = """
from assay.readers.checkpoint import read_checkpoint
c = read_checkpoint({path!r}, digest_limit_bytes=0)
assert len(c.modules) > 50_000 and not c.problems
"""
SAFE_OPEN = """
from pathlib import Path
from safetensors import safe_open
found = {{}}
for path in sorted(Path({path!r}).glob("*.safetensors")):
    with safe_open(path, "np") as file:
        for key in file.keys():
            part = file.get_slice(key)
            found[key] = part.get_dtype(), part.get_shape()
assert len(found) > 100_000
"""
HUB = """
from huggingface_hub import get_local_safetensors_metadata
found = get_local_safetensors_metadata({path!r})
assert sum(len(f.tensors) for f in found.files_metadata.values()) > 100_000
"""
TRANSFORMERS = """
import json, shutil, tempfile
from pathlib import Path
from transformers import AutoConfig, AutoModelForCausalLM
# FP8 wants a GPU and refuses to load on meta: the declaration is left out, which spares the peer work.
home = Path(tempfile.mkdtemp())
for path in Path({path!r}).iterdir():
    (home / path.name).symlink_to(path)
(home / "config.json").unlink()
config = json.loads(Path({path!r}, "config.json").read_text())
del config["quantization_config"]
(home / "config.json").write_text(json.dumps(config))
model = AutoModelForCausalLM.from_pretrained(home, device_map="meta", dtype="auto")
assert sum(1 for _ in model.parameters()) > 100
"""


class Cost(NamedTuple):
    """What a child process took."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    error: str


def tensors(layers: int, experts: int) -> Iterator[Entry]:
    """The tensors of the model."""
    yield "model.embed_tokens.weight", "BF16", [VOCAB, HIDDEN]
    for layer in range(layers):
        head = f"model.layers.{layer}."
        attention = {
            "q_a_proj": (1536, HIDDEN),
            "q_b_proj": (12_288, 1536),
            "kv_a_proj_with_mqa": (576, HIDDEN),
        }
        attention |= {"kv_b_proj": (16_384, 512), "o_proj": (HIDDEN, 8192)}
        for name, shape in attention.items():
            yield from _linear(f"{head}self_attn.{name}", *shape)
        for name, size in (("input_layernorm", HIDDEN), ("post_attention_layernorm", HIDDEN)):
            yield f"{head}{name}.weight", "BF16", [size]
        yield f"{head}self_attn.q_a_layernorm.weight", "BF16", [1536]
        yield f"{head}self_attn.kv_a_layernorm.weight", "BF16", [512]
        yield f"{head}mlp.gate.weight", "BF16", [experts, HIDDEN]
        yield f"{head}mlp.gate.e_score_correction_bias", "F32", [experts]
        for block in ("shared_experts", *(f"experts.{e}" for e in range(experts))):
            yield from _linear(f"{head}mlp.{block}.gate_proj", INTER, HIDDEN)
            yield from _linear(f"{head}mlp.{block}.up_proj", INTER, HIDDEN)
            yield from _linear(f"{head}mlp.{block}.down_proj", HIDDEN, INTER)
    yield "model.norm.weight", "BF16", [HIDDEN]
    yield "lm_head.weight", "BF16", [VOCAB, HIDDEN]


def _linear(name: str, out: int, inputs: int) -> Iterator[Entry]:
    yield f"{name}.weight", "F8_E4M3", [out, inputs]
    yield f"{name}.weight_scale_inv", "F32", [-(-out // 128), -(-inputs // 128)]


def write(
    root: Path, *, shards: int = SHARDS, layers: int = LAYERS, experts: int = EXPERTS
) -> tuple[int, int]:
    """Write the folder; how many tensors and bytes it has."""
    root.mkdir(parents=True, exist_ok=True)
    listed = list(tensors(layers, experts))
    weight_map: dict[str, str] = {}
    total = 0
    for i in range(shards):
        part = sorted(
            listed[len(listed) * i // shards : len(listed) * (i + 1) // shards],
            key=lambda t: (-BITS[t[1]], t[0]),
        )
        name = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        total += _write_shard(root / name, part)
        weight_map |= dict.fromkeys((t[0] for t in part), name)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (root / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    config = {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": VOCAB,
        "num_hidden_layers": layers, "hidden_size": HIDDEN, "moe_intermediate_size": INTER, "n_routed_experts": experts,
        "tie_word_embeddings": False, "dtype": "bfloat16", "q_lora_rank": 1536, "kv_lora_rank": 512,
        "n_shared_experts": 1,
        "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "num_attention_heads": 64,
        "num_key_value_heads": 64, "first_k_dense_replace": 0, "intermediate_size": INTER,
        "quantization_config": {
            "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
        },
    }  # fmt: skip
    (root / "config.json").write_text(json.dumps(config, indent=2))
    return len(listed), total


def _write_shard(path: Path, part: list[Entry]) -> int:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = scales = 0
    for name, dtype, shape in part:
        size = math.prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
        scales = at if dtype == "F32" else scales
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + struct.pack("<f", 1.0) * (scales // 4))
        file.truncate(8 + len(text) + at)
    return at


def run(code: str, path: Path, python: str = sys.executable) -> Cost:
    """The cost of a child process, warm: the files' headers lie in the page cache."""
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        child = subprocess.Popen(
            [python, "-c", code.format(path=str(path))], stdout=subprocess.DEVNULL, stderr=errors
        )
        guard = threading.Timer(PATIENCE_S, child.kill)
        guard.start()
        _, status, used = os.wait4(child.pid, 0)
        guard.cancel()
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    error = ""
    if wall > PATIENCE_S:
        error = f"stopped after {PATIENCE_S:g} s"
    elif child.returncode:
        error = (lines[-1] if lines else f"exit {child.returncode}")[:160]
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, error)


def best(code: str, path: Path, times: int) -> Cost:
    """The least of several runs: other work on the machine only ever adds."""
    costs = [run(code, path) for _ in range(times)]
    failed = next((c for c in costs if c.error), None)
    if failed is not None:
        return failed
    return Cost(
        min(c.wall_s for c in costs),
        min(c.cpu_s for c in costs),
        statistics.median(c.peak_mib for c in costs),
        "",
    )


PEERS = (
    ("safetensors.safe_open", SAFE_OPEN, "safetensors", "names, dtypes, shapes: none of our facts"),
    ("huggingface_hub local metadata", HUB, "huggingface_hub", "the same with offsets and weight_map, unchecked"),
    ("transformers, meta device", TRANSFORMERS, "transformers", "modules, without their precision"),
)  # fmt: skip


def measure(quick: bool) -> list[Row]:
    """Assay as a command and as a call, then the peers; each in a process of its own."""
    times = 2 if quick else 5
    rows: list[Row] = []
    modules: Cost | None = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tb"
        count, size = write(path)
        rows.append(Row("tensors", count, "", peer=f"{size / 1e12:.3f} TB in {SHARDS} shards"))
        run(ASSAY, path)
        command, call = best(ASSAY, path, times), best(READ, path, times)
        rows.append(
            below("assay inspect, wall", command.wall_s, "s", LIMIT_S, "start of Python, picture and all")
        )
        rows.append(Row("assay inspect, CPU", command.cpu_s, "s"))
        rows.append(below("assay inspect, peak memory", command.peak_mib, "MiB", LIMIT_MIB))
        rows.append(Row("read_checkpoint alone, CPU", call.cpu_s, "s", peer="with start of Python"))
        for name, code, package, gives in PEERS:
            if importlib.util.find_spec(package) is None:
                rows.append(Row(name, None, "s", peer="not installed"))
            elif package == "transformers" and quick:
                rows.append(Row(name, None, "s", peer="minutes: without --quick only"))
            else:
                cost = best(code, path, 1 if package == "transformers" else times)
                modules = cost if package == "transformers" else modules
                rows += _peer(name, gives, cost, command)
        rows.append(_same_facts(modules, command))
    return rows


def _same_facts(modules: Cost | None, ours: Cost) -> Row:
    """Ten times the fastest peer that gives the same facts, or why not.

    No peer gives them. The two fast ones stop at names, dtypes, shapes and offsets, which is where our work begins:
    modules, schemes, groups, scales, declaration, index against shards. Only transformers comes as far as modules.
    """
    name = "times faster than the one peer that comes as far as modules"
    why = "the fast peers stop at names, dtypes and shapes, and give none of the facts that are compared"
    if modules is None or (modules.error and modules.wall_s < PATIENCE_S):
        return Row(name, None, "x", "> 10", peer=f"transformers was not run; {why}")
    ratio = modules.wall_s / ours.wall_s
    least = "at least, as it was stopped; " if modules.error else ""
    return Row(name, ratio, "x", "> 10", ratio > 10, f"{least}transformers, wall; {why}")


def _peer(name: str, gives: str, cost: Cost, ours: Cost) -> list[Row]:
    if cost.error:
        return [Row(name, None, "s", peer=cost.error)]
    ratio = cost.cpu_s / ours.cpu_s
    return [
        Row(f"{name}, CPU", cost.cpu_s, "s", peer=f"{ratio:.2f} x assay inspect; {gives}"),
        Row(f"{name}, peak memory", cost.peak_mib, "MiB"),
    ]


if __name__ == "__main__":
    main(__doc__ or "", measure)
