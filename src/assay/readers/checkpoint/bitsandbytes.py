"""bitsandbytes: NF4 and FP4 with their quant_state, LLM.int8() with row statistics."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.core.checkpoint import Module, ModuleKind
from assay.readers.checkpoint.declared import Make, module, odd_ones
from assay.readers.checkpoint.files import read_range
from assay.readers.checkpoint.layout import Container, Declaration, Layout, Tensor, classify, group
from assay.readers.checkpoint.precision import Claim, Stored, infer

QUANT_METHODS: tuple[str | None, ...] = ("bitsandbytes", "bitsandbytes-4bit", "bitsandbytes-8bit")
STATES: Mapping[str, str] = {
    "weight.quant_state.bitsandbytes__nf4": "NF4",
    "weight.quant_state.bitsandbytes__fp4": "FP4",
}
PARTS = (
    "weight",
    "bias",
    *STATES,
    "weight.absmax",
    "weight.quant_map",
    "weight.nested_absmax",
    "weight.nested_quant_map",
    "SCB",
    "weight_format",
)
_ROUTERS = frozenset({"gate", "router"})
"""No `Linear` from transformers 5 on, so bitsandbytes leaves them alone and no list says so."""
_MAX_STATE_BYTES = 4096
_STORAGE: Mapping[str, str] = {
    "uint8": "U8", "int8": "I8", "bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64",
}  # fmt: skip
_BOOKS: tuple[tuple[str, frozenset[str], int], ...] = (
    ("weight.absmax", frozenset({"F32", "U8"}), 0),
    ("weight.quant_map", frozenset({"F32"}), 16),
    ("weight.nested_absmax", frozenset({"F32"}), 0),
    ("weight.nested_quant_map", frozenset({"F32"}), 256),
    ("weight.quant_state.bitsandbytes__nf4", frozenset({"U8"}), 0),
    ("weight.quant_state.bitsandbytes__fp4", frozenset({"U8"}), 0),
)
"""Companion → dtypes, and the number of values where it is fixed."""


@dataclass(frozen=True)
class QuantState:
    """The JSON that bitsandbytes stores in a tensor's bytes."""

    shape: tuple[int, ...]
    block_size: int
    nested_block_size: int | None
    nested_offset: float


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules. The logical shape of a 4-bit weight stands in its quant_state, a few bytes that are read."""
    block = declaration.quantization or {}
    modules, problems = [], []
    makes: list[Make] = []
    for name, parts in group(container.tensors.values(), PARTS).items():
        if "weight" not in parts:
            problems += [f"quantization tensor without a weight: {t.name}" for t in parts.values()]
            continue
        stored = _stored(parts, str(block.get("bnb_4bit_quant_storage", "uint8")))
        modules.append(module(name, parts, stored, _claim(name, stored, block)))
        if stored.bits < 16:
            makes.append((stored, parts, [name]))
    problems += odd_ones(makes)
    for width in ("4", "8"):
        if block.get(f"_load_in_{width}bit") is True and block.get(f"load_in_{width}bit") is not True:
            problems.append(f"_load_in_{width}bit is set and load_in_{width}bit, which loaders read, is not")
    return Layout(tuple(_grouped(modules, block)), "bitsandbytes", tuple(problems[:10]))


def read_state(tensor: Tensor) -> QuantState | None:
    """The quant_state of a 4-bit weight, or None if its bytes are not one."""
    if tensor.size_bytes > _MAX_STATE_BYTES:
        return None
    try:
        value: Any = json.loads(read_range(tensor.file, tensor.start, tensor.size_bytes))
        shape, size = value["shape"], value["blocksize"]
        nested = value.get("nested_blocksize")
        state = QuantState(
            tuple(map(int, shape)),
            int(size),
            None if nested is None else int(nested),
            float(value.get("nested_offset", 0.0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    sane = state.shape and all(0 < d < 2**31 for d in state.shape) and math.prod(state.shape) < 2**44
    sane = sane and 0 < state.block_size < 2**31
    return state if sane and state.nested_block_size != 0 else None


def _stored(parts: Mapping[str, Tensor], storage: str) -> Stored:
    weight = parts["weight"]
    found = next((p for p in STATES if p in parts), None)
    if found is not None:
        return _four_bit(weight, STATES[found], read_state(parts[found]), parts, storage)
    if weight.dtype == "I8":
        problems = () if "SCB" in parts else ("SCB, the row statistics, is missing",)
        if "SCB" in parts and parts["SCB"].dtype != "F32":
            problems = (f"SCB is {parts['SCB'].dtype}, not F32",)
        if "SCB" in parts and parts["SCB"].shape != weight.shape[:1]:
            problems = (f"SCB has shape {list(parts['SCB'].shape)}, not {list(weight.shape[:1])}",)
        return Stored("INT8", 8, weight.shape, None, problems)
    if weight.dtype == "U8" and (len(weight.shape) != 2 or weight.shape[-1] == 1):
        return Stored("UNKNOWN", 4, weight.shape, None, ("packed 4-bit weight without its quant_state",))
    stored = infer({"weight": weight}, Claim())
    return stored or Stored("UNKNOWN", 0, weight.shape)


def _four_bit(
    weight: Tensor, scheme: str, state: QuantState | None, parts: Mapping[str, Tensor], storage: str
) -> Stored:
    if state is None:
        return Stored(scheme, 4, weight.shape, None, ("quant_state cannot be read",))
    count = math.prod(state.shape)
    problems = []
    if weight.size_bytes != -(-count // 2):
        problems.append(f"{weight.size_bytes} bytes cannot hold {list(state.shape)} at 4 bits")
    blocks = -(-count // state.block_size)
    absmax = parts.get("weight.absmax")
    if weight.dtype != _STORAGE.get(storage, weight.dtype):
        problems.append(f"the packed weight is {weight.dtype}, declared {storage}"[:120])
    if weight.shape[1:] != (1,):
        problems.append(f"the packed weight has shape {list(weight.shape)}, not a column")
    if absmax is None:
        problems.append("absmax is missing")
    elif absmax.elements != blocks:
        problems.append(f"absmax holds {absmax.elements} values, not one per {state.block_size} weights")
    elif absmax.shape != (blocks,):
        # What the CPU kernels of bitsandbytes leave behind when weights were repacked at the first forward.
        problems.append(
            f"absmax is {absmax.dtype} {list(absmax.shape)}, not a list of {blocks}: saved after a forward pass "
            "repacked the weights"
        )
    elif absmax.dtype == "U8" and "weight.nested_absmax" not in parts:
        problems.append("nested_absmax is missing")
    elif absmax.dtype == "U8" and "weight.nested_quant_map" not in parts:
        problems.append("nested_quant_map is missing")
    problems += _book_problems(parts, blocks, state.nested_block_size or 256)
    return Stored(scheme, 4, state.shape, state.block_size, tuple(problems))


def _book_problems(parts: Mapping[str, Tensor], blocks: int, nested_size: int) -> list[str]:
    """Code books and nested scales: dtype and number of values."""
    problems = []
    for part, dtypes, size in _BOOKS:
        tensor = parts.get(part)
        if tensor is not None and (tensor.dtype not in dtypes or (size and tensor.shape != (size,))):
            problems.append(f"{part} is {tensor.dtype} {list(tensor.shape)}")
    nested = parts.get("weight.nested_absmax")
    if nested is not None and nested.shape != (-(-blocks // nested_size),):
        problems.append(f"nested_absmax has shape {list(nested.shape)} for {blocks} blocks")
    if "weight.quant_map" not in parts:
        problems.append("quant_map is missing")
    return problems


def _claim(name: str, stored: Stored, block: Mapping[str, Any]) -> Claim:
    skipped = block.get("llm_int8_skip_modules")
    skipped = [s for s in skipped if isinstance(s, str)] if isinstance(skipped, list) else ["lm_head"]
    if any(name == s or name.endswith("." + s) or s in name.split(".") for s in skipped):
        return Claim(ignored=True)
    if classify(name, stored.shape) not in {ModuleKind.LINEAR, ModuleKind.HEAD}:
        return Claim()
    if stored.bits >= 16 and name.rpartition(".")[2] in _ROUTERS:
        return Claim()
    if block.get("load_in_4bit") is True or block.get("_load_in_4bit") is True:
        kind = str(block.get("bnb_4bit_quant_type", "fp4")).upper()
        return Claim(scheme=kind if kind in {"NF4", "FP4"} else "FP4", bits=4)
    if block.get("load_in_8bit") is True or block.get("_load_in_8bit") is True:
        return Claim(scheme="INT8", bits=8, activation="int8-row-dynamic")
    return Claim()


def _grouped(modules: list[Module], block: Mapping[str, Any]) -> list[Module]:
    """A tied or last head is skipped by default even where its declaration lists nothing."""
    if block.get("llm_int8_skip_modules") is not None:
        return modules
    return [
        m.model_copy(update={"ignored": True, "declared": None})
        if m.kind is ModuleKind.HEAD and m.scheme in {"BF16", "F16", "F32"}
        else m
        for m in modules
    ]
