"""Values of the scales, the only tensor data that is read: zeros, infinities and NaN destroy a module silently."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.core.checkpoint import Module
from assay.readers.checkpoint.files import read_range, visible
from assay.readers.checkpoint.layout import Container, Tensor

MAX_BYTES = 64 * 2**20
MAX_MODULES = 4_096
"""Beyond either, a sample spread evenly over the modules is read; `facts.scales` says how much."""
_MAX_TENSOR_BYTES = 2**22
_MAX_OPEN = 128
_CACHE = (".k_scale", ".v_scale", ".q_scale", ".kv_scale")
SUFFIXES = frozenset((
    "weight_scale", "weight_scale_inv", "scale_inv", "weight_scale_2", "weight_global_scale", "scales", "scale", "SCB",
    "weight.absmax", "weight.nested_absmax", "weight._scale", "input_scale", "input_global_scale", "pre_quant_scale",
    "activation_scale", "output_scale", "weight_per_tensor_scale", "weight_act_per_tensor_scale",
))  # fmt: skip
_SECOND = ("weight_scale_2", "weight_global_scale")
_FUSED: Mapping[str, str] = {
    "q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up",
    "w1": "w13", "w3": "w13",
}  # fmt: skip
_MAY_BE_ZERO = (
    "SCB",
    "weight.absmax",
    "weight.nested_absmax",
    "weight._scale",
    "input_scale",
    "output_scale",
)
"""Largest magnitudes of a block: zero where the source's weights are. All of them are zero in no real module."""
_FORMS: Mapping[str, tuple[str, int, int]] = {
    "BF16": ("<u2", 0x7FFF, 0x7F80),
    "F16": ("<u2", 0x7FFF, 0x7C00),
    "F32": ("<u4", 0x7FFFFFFF, 0x7F800000),
    "F8_E4M3": ("u1", 0x7F, 0x7F),
    "F8_E5M2": ("u1", 0x7F, 0x7C),
}
"""dtype → how its bits are read, the mask of the magnitude, the least magnitude that is no finite number."""
_EXPONENTS = frozenset({"F8_E8M0"})


def examine(modules: Sequence[Module], container: Container) -> tuple[dict[str, str], dict[str, Any]]:
    """Read scales and say what is wrong with them.

    Returns:
        Module → problem; and facts: how many quantized modules there are, and of how many the scales were read.
    """
    quantized = [m for m in modules if m.weight_bits < 16]
    taken = quantized[:: -(-len(quantized) // MAX_MODULES) or 1]
    chosen = _sample([(m, part, t) for m in taken for part, t in _scales(m, container)])
    problems: dict[str, list[str]] = {}
    count = 0
    with ExitStack() as stack:
        files: dict[str, int] = {}
        for module, part, tensor in chosen:
            data = _bytes(tensor, files, stack)
            if data is None:
                continue  # truncated: the container says so
            count += len(data)
            found = _wrong(part, tensor.dtype, data)
            if found:
                problems.setdefault(module.name, []).append(found)
    seen = len({m.name for m, _, _ in chosen})
    facts = {
        "modules": len(quantized),
        "modules_read": seen,
        "tensors_read": len(chosen),
        "bytes_read": count,
    }
    return {name: "; ".join(what) for name, what in problems.items()}, facts


def unequal(modules: Sequence[Module], container: Container) -> list[str]:
    """Fused groups of NVFP4 modules with different second-level scales, named by their parent.

    Engines compute gate and up, and q, k and v, as one matrix with one such scale. Exports unify them; those of
    experts that no calibration token reached were seen not to (Model-Optimizer #1411, vllm #54974).
    """
    groups: dict[str, list[Tensor]] = {}
    for module in (m for m in modules if m.scheme == "NVFP4"):
        parent, _, last = module.name.rpartition(".")
        if last in _FUSED:
            tensors = [container.tensors.get(f"{module.name}.{part}") for part in _SECOND]
            groups.setdefault(f"{parent}.{_FUSED[last]}", []).extend(t for t in tensors if t is not None)
    taken = sorted(groups)[:: -(-len(groups) // MAX_MODULES) or 1]
    with ExitStack() as stack:
        files: dict[str, int] = {}
        values = {name: {_bytes(t, files, stack) for t in groups[name]} - {None} for name in taken}
    return [name for name, found in values.items() if len(found) > 1]


def examine_cache(container: Container) -> tuple[str, ...]:
    """Scales of the KV cache, which belong to no weight: each must be a finite number other than zero."""
    found = [t for t in container.tensors.values() if t.name.endswith(_CACHE)][:MAX_MODULES]
    kinds = {t.dtype for t in found}
    wrong = [f"scales are stored as {' and '.join(sorted(kinds))}"] if len(kinds) > 1 else []
    keys = {
        t.name.removesuffix("k_scale").removesuffix("k_proj.") for t in found if t.name.endswith(".k_scale")
    }
    values = {
        t.name.removesuffix("v_scale").removesuffix("v_proj.") for t in found if t.name.endswith(".v_scale")
    }
    if keys != values and len(found) < MAX_MODULES:
        wrong.append(f"{min(keys ^ values)} has a scale for keys or values alone")
    for tensor in found:
        if tensor.dtype not in _FORMS:
            wrong.append(f"{tensor.name} is {tensor.dtype}")
            continue
        data = read_range(tensor.file, tensor.start, min(tensor.size_bytes, _MAX_TENSOR_BYTES))
        what = _wrong("scale", tensor.dtype, data) if len(data) == tensor.size_bytes else None
        wrong += [f"{tensor.name}: {what}"] if what else []
    return tuple(f"KV cache: {visible(w)}" for w in wrong[:10])


def _scales(module: Module, container: Container) -> Iterator[tuple[str, Tensor]]:
    for name in module.tensors:
        # `m.weight_scale`, fused `m_weight_scale`, torchao's `m._weight_scale`
        part = name[len(module.name) + 1 :].lstrip("_")
        tensor = container.tensors.get(name) if part in SUFFIXES else None
        if tensor is None or not tensor.size_bytes:
            continue
        if tensor.dtype in _FORMS or tensor.dtype in _EXPONENTS or _is_exponent(module, tensor):
            yield part, tensor


def _is_exponent(module: Module, tensor: Tensor) -> bool:
    return tensor.dtype == "U8" and module.scheme.startswith("MX") and len(tensor.shape) >= 2


def _sample(
    listed: list[tuple[Module, str, Tensor]],
) -> list[tuple[Module, str, Tensor]]:
    total = sum(min(t.size_bytes, _MAX_TENSOR_BYTES) for _, _, t in listed)
    return listed[:: -(-total // MAX_BYTES) or 1]


def _bytes(tensor: Tensor, files: dict[str, int], stack: ExitStack) -> bytes | None:
    try:
        if tensor.file not in files:
            if len(files) >= _MAX_OPEN:
                stack.close()
                files.clear()
            files[tensor.file] = os.open(tensor.file, os.O_RDONLY)
            stack.callback(os.close, files[tensor.file])
        wanted = min(tensor.size_bytes, _MAX_TENSOR_BYTES)
        data = os.pread(files[tensor.file], wanted, tensor.start)
    except (OSError, OverflowError):
        return None
    return data if len(data) == wanted else None


def _wrong(part: str, dtype: str, data: bytes) -> str | None:
    if dtype not in _FORMS:
        bad = data.count(255)  # the code of E8M0 that stands for NaN; it has none for zero
        return f"{part}: {bad} of {len(data)} values are not numbers" if bad else None
    form, mask, limit = _FORMS[dtype]
    size: NDArray[Any] = np.frombuffer(data, form) & mask
    bad, zero = int(np.count_nonzero(size >= limit)), int(size.size - np.count_nonzero(size))
    if bad:
        return f"{part}: {bad} of {size.size} values are not finite"
    if zero and (zero == size.size or (dtype != "F8_E4M3" and part not in _MAY_BE_ZERO)):
        return f"{part}: {'all' if zero == size.size else zero} of {size.size} values are zero"
    # Scales of 4-bit floats underflow to zero where a block is all but empty; half of them never are.
    return (
        f"{part}: {zero} of {size.size} values are zero"
        if 2 * zero > size.size and dtype == "F8_E4M3"
        else None
    )
