"""A bounded sample of the stored weights, dequantized and compared with the source's.

Headers cannot see codes that no longer mean what they meant: bitsandbytes NF4 saved after a forward pass is well
formed and wrong. At most `MAX_MODULES` linears are sampled, and of each at most `MAX_SOURCE_BYTES` of whole rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.evidence import Measurement
from assay.core.vocabulary import Direction, State
from assay.readers.checkpoint.bitsandbytes import STATES, read_state
from assay.readers.checkpoint.layout import Container, Tensor
from assay.readers.checkpoint.precision import SCALES

Array: TypeAlias = NDArray[np.float32]
Parts: TypeAlias = Mapping[str, Tensor]

MAX_MODULES = 4
MAX_SOURCE_BYTES = 2**20
"""Per module, of the source's weight."""
_FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


class _Unsupported(Exception):
    """This layout cannot be dequantized here."""


_NOT_MEASURABLE = (_Unsupported, ValueError, LookupError, OSError, MemoryError, ArithmeticError, TypeError)
"""Contradictory shapes, files shorter than their headers. The gate hears of them by other ways."""


def measure(
    candidate: Checkpoint, container: Container, source: Checkpoint, source_container: Container
) -> tuple[tuple[Measurement, ...], dict[str, Any]]:
    """`weight_error`, the relative RMS between stored and source weight, for each sampled module.

    Where a method moved scale from activations into weights (AWQ, SmoothQuant), which shows in changed norms or a
    stored factor per input, rows and columns are first rescaled to the best fit: only then the codes can be judged.

    Returns:
        One measurement per sampled module, its name in `detail`; and facts: what was sampled and how.
    """
    ours = {m.name: m for m in source.modules}
    smoothed = _norms_moved(candidate, container, ours, source_container)
    measurements, facts = [], {}
    for module in sample(candidate, ours):
        rows = _rows(module)
        try:
            with np.errstate(all="ignore"):
                reference = load(source_container, ours[module.name], rows)
                stored = load(container, module, rows)
                error, fitted = _error(stored, reference, smoothed=smoothed)
            measurement = _measurement(module, error, reference.size)
            facts[module.name] = {
                "rows": rows,
                "of": module.shape[0],
                "rescaled": fitted,
                "scheme": module.scheme,
            }
        except _NOT_MEASURABLE as problem:
            why = " ".join(str(problem).split())[:200] or type(problem).__name__
            measurement = Measurement(
                name="weight_error", state=State.MISSING, unit="relative RMS", detail=module.name
            )
            facts[module.name] = {"not_measured": why}
        measurements.append(measurement)
    return tuple(measurements), facts


def sample(candidate: Checkpoint, source: Mapping[str, Module]) -> list[Module]:
    """Quantized linears spread evenly over the model: first, last and between."""
    found = [
        m
        for m in candidate.modules
        if m.kind is ModuleKind.LINEAR and m.weight_bits <= 8 and len(m.shape) == 2 and m.name in source
        and source[m.name].shape == m.shape
        # llama.cpp permutes the rows of q and k; the others are stored as they are.
        and not (candidate.format == "gguf" and m.name.endswith(("q_proj", "k_proj")))
    ]  # fmt: skip
    if len(found) <= MAX_MODULES:
        return found
    step = (len(found) - 1) / (MAX_MODULES - 1)
    return [found[round(i * step)] for i in range(MAX_MODULES)]


def load(container: Container, module: Module, rows: int) -> Array:
    """The first `rows` rows of a module's weight, dequantized, as float32 [rows, in].

    Raises:
        ValueError: or another of the errors that `measure` catches, if the layout is not understood.
    """
    parts = _parts(container, module)
    if container.format == "gguf":
        return _gguf(parts, module, rows)
    for part in STATES:
        if part in parts:
            return _bitsandbytes(parts, part, module, rows)
    if "SCB" in parts:
        return _raw(parts["weight"], rows) * _all(parts["SCB"])[:rows, None] / np.float32(127)
    if "qdata" in parts:
        return _torchao(parts, rows)
    if "weight_packed" in parts or parts["weight"].dtype == "U8":
        return _packed(parts, module, rows)
    weight = _raw(parts["weight"], rows)
    scale = next((parts[p] for p in SCALES if p in parts), None)
    if scale is None or parts["weight"].dtype in {"BF16", "F16", "F32", "F64"}:
        return weight
    zero = parts.get("weight_zero_point")
    if zero is not None:
        weight = weight - _expanded(_all(zero), weight.shape[0], module.shape)
    return weight * _scale(scale, rows, module.shape)


# -- layouts ------------------------------------------------------------------------------------------


def _packed(parts: Parts, module: Module, rows: int) -> Array:
    packed = parts.get("weight_packed") or parts["weight"]
    out, inputs = module.shape
    scale = next((parts[p] for p in SCALES if p in parts), None)
    if scale is None or "weight_g_idx" in parts:
        raise _Unsupported("no scale, or reordered groups")
    if packed.dtype == "I32":
        words = _view(packed, rows, np.dtype("<u4"))
        codes = _unpack(words, int(module.weight_bits), inputs).astype(np.float32) - 2 ** (
            module.weight_bits - 1
        )
        if "weight_zero_point" in parts:
            zero = _view(parts["weight_zero_point"], None, np.dtype("<u4"))
            points = _unpack(zero.T, int(module.weight_bits), out).T[:rows].astype(np.float32)
            codes = (
                codes
                - np.repeat(points - 2 ** (module.weight_bits - 1), -(-inputs // points.shape[1]), 1)[
                    :, :inputs
                ]
            )
        return np.asarray(codes * _scale(scale, rows, module.shape), np.float32)
    if module.scheme == "INT4":
        return _modelopt_int4(packed, scale, module, rows)
    data = _view(packed, rows, np.dtype("u1"))
    codes = _FP4[np.stack((data & 15, data >> 4), -1).reshape(rows, inputs)]
    if module.scheme == "MXFP4":
        exponents = _view(scale, rows, np.dtype("u1")).astype(np.float32) - 127
        return np.asarray(codes * np.repeat(np.exp2(exponents), 32, 1)[:, :inputs], np.float32)
    return np.asarray(codes * _scale(scale, rows, module.shape) * _second_level(parts), np.float32)


def _second_level(parts: Parts) -> np.float32:
    """compressed-tensors stores the inverse of what ModelOpt stores."""
    if "weight_global_scale" in parts:
        return np.float32(1 / float(_all(parts["weight_global_scale"]).reshape(-1)[0]))
    return np.float32(_all(parts["weight_scale_2"]).reshape(-1)[0])


def _modelopt_int4(packed: Tensor, scale: Tensor, module: Module, rows: int) -> Array:
    """Rows are packed in pairs. `pre_quant_scale` multiplies the inputs; the fit of `_error` finds it."""
    data = _view(packed, -(-rows // 2), np.dtype("u1"))
    low, high = (data & 15).astype(np.int8), (data >> 4).astype(np.int8)
    codes = np.stack((low, high), 1).reshape(-1, data.shape[1])[:rows]
    signed = np.where(codes > 7, codes - 16, codes).astype(np.float32)
    return signed * _scale(scale, rows, module.shape)


def _bitsandbytes(parts: Parts, part: str, module: Module, rows: int) -> Array:
    state = read_state(parts[part])
    if state is None:
        raise _Unsupported("quant_state cannot be read")
    inputs = module.shape[-1]
    count = rows * inputs
    with open(parts["weight"].file, "rb") as file:  # noqa: PTH123 - the path is text in a Tensor
        file.seek(parts["weight"].start)
        data = np.frombuffer(file.read(-(-count // 2)), np.uint8)
    codes = np.stack((data >> 4, data & 15), -1).reshape(-1)[:count]
    absmax = _all(parts["weight.absmax"]).reshape(-1)
    if parts["weight.absmax"].dtype == "U8":
        size = state.nested_block_size or 256
        nested = _all(parts["weight.nested_absmax"]).reshape(-1)
        book = _all(parts["weight.nested_quant_map"]).reshape(-1)
        absmax = book[absmax.astype(np.int64)] * np.repeat(nested, size)[: absmax.size] + state.nested_offset
    scale = np.repeat(absmax[: -(-count // state.block_size)], state.block_size)[:count]
    values = _all(parts["weight.quant_map"]).reshape(-1)[codes] * scale
    return np.asarray(values.reshape(rows, inputs), np.float32)


def _torchao(parts: Parts, rows: int) -> Array:
    if parts["qdata"].dtype not in {"I8", "F8_E4M3"}:
        raise _Unsupported(f"torchao codes in {parts['qdata'].dtype}")
    codes = _raw(parts["qdata"], rows)
    if "zero_point" in parts:
        codes = codes - _expanded(_all(parts["zero_point"]), rows, parts["qdata"].shape)
    return np.asarray(codes * _scale(parts["scale"], rows, parts["qdata"].shape))


def _gguf(parts: Parts, module: Module, rows: int) -> Array:
    try:
        from gguf import GGMLQuantizationType, quants  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _Unsupported("package gguf is not installed: pip install 'assay[gguf]'") from error
    tensor = parts["weight"]
    width = tensor.size_bytes // tensor.shape[0]
    data = _bytes(tensor, rows * width).reshape(rows, width)
    try:
        values = quants.dequantize(data, GGMLQuantizationType[tensor.dtype])
    except NotImplementedError as error:
        raise _Unsupported(f"{tensor.dtype} cannot be dequantized here") from error
    return np.asarray(values, np.float32).reshape(rows, module.shape[1])


# -- reading ------------------------------------------------------------------------------------------


def _parts(container: Container, module: Module) -> dict[str, Tensor]:
    parts = {}
    for name in module.tensors:
        tail = name.removeprefix(module.name).lstrip("._") if name.startswith(module.name) else "weight"
        parts[tail.removeprefix("weight_") if "._weight_" in name else tail] = container.tensors[name]
    return parts


def _rows(module: Module) -> int:
    return max(1, min(module.shape[0], MAX_SOURCE_BYTES // (2 * max(1, module.shape[1]))) // 2 * 2)


def _bytes(tensor: Tensor, count: int) -> NDArray[np.uint8]:
    with open(tensor.file, "rb") as file:  # noqa: PTH123 - the path is text in a Tensor
        file.seek(tensor.start)
        data = file.read(min(count, tensor.size_bytes))
    if len(data) != count:
        raise ValueError(f"{tensor.name}: file ends inside the tensor")
    return np.frombuffer(data, np.uint8)


def _view(tensor: Tensor, rows: int | None, dtype: np.dtype[Any]) -> NDArray[Any]:
    shape = tensor.shape if rows is None else (min(rows, tensor.shape[0]), *tensor.shape[1:])
    count = math.prod(shape) * dtype.itemsize
    return _bytes(tensor, count).view(dtype).reshape(shape)


def _raw(tensor: Tensor, rows: int | None) -> Array:
    """Rows of a tensor as float32, codes as numbers."""
    dtype = tensor.dtype
    if dtype == "BF16":
        words = _view(tensor, rows, np.dtype("<u2")).astype(np.uint32) << 16
        return np.asarray(words.view(np.float32))
    if dtype in {"F8_E4M3", "F8_E5M2"}:
        return np.asarray(_float8(dtype)[_view(tensor, rows, np.dtype("u1"))])
    plain = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "U8": "u1", "I32": "<i4"}
    if dtype not in plain:
        raise _Unsupported(f"dtype {dtype}")
    return np.asarray(_view(tensor, rows, np.dtype(plain[dtype])), np.float32)


def _all(tensor: Tensor) -> Array:
    if tensor.size_bytes > 64 * MAX_SOURCE_BYTES:
        raise _Unsupported(f"{tensor.name} is too large to sample")
    return _raw(tensor, None)


def _float8(dtype: str) -> Array:
    """The 256 values of E4M3 (no infinities) or E5M2 (OCP 8-bit floating point specification)."""
    mantissa_bits, bias = (3, 7) if dtype == "F8_E4M3" else (2, 15)
    codes = np.arange(256)
    exponent = (codes & 127) >> mantissa_bits
    fraction = (codes & (2**mantissa_bits - 1)) / 2**mantissa_bits
    normal = np.exp2(exponent - float(bias)) * (1 + fraction)
    values = np.where(exponent == 0, 2.0 ** (1 - bias) * fraction, normal)
    special = (codes & 127) == 127 if dtype == "F8_E4M3" else exponent == 31
    values = np.where(special, np.nan, values) * np.where(codes & 128, -1.0, 1.0)
    return np.asarray(values, np.float32)


def _unpack(words: NDArray[Any], bits: int, count: int) -> NDArray[np.uint32]:
    """Integers of `bits` bits stored densely, lowest bits first, in words of 32."""
    starts = np.arange(count) * bits
    wide = words.astype(np.uint64)
    wide = np.concatenate((wide, np.zeros((*wide.shape[:-1], 1), np.uint64)), -1)
    joined = wide[..., starts // 32] | (wide[..., starts // 32 + 1] << np.uint64(32))
    return np.asarray((joined >> (starts % 32).astype(np.uint64)) & np.uint64(2**bits - 1), np.uint32)


def _scale(tensor: Tensor, rows: int, shape: tuple[int, ...]) -> Array:
    return _expanded(_all(tensor), rows, shape)


def _expanded(values: Array, rows: int, shape: tuple[int, ...]) -> Array:
    """One value per weight, from one per tensor, row, group or block."""
    out, inputs = shape
    if values.size == 1:
        return np.full((rows, 1), values.reshape(-1)[0], np.float32)
    if values.ndim == 1:
        values = values[:, None]
    tall = values if values.shape[0] == out else np.repeat(values, -(-out // values.shape[0]), 0)
    wide = tall[:rows]
    return wide if wide.shape[1] == 1 else np.repeat(wide, -(-inputs // wide.shape[1]), 1)[:, :inputs]


# -- comparing ----------------------------------------------------------------------------------------


def _error(stored: Array, reference: Array, *, smoothed: bool) -> tuple[float, bool]:
    if reference.size == 0 or stored.shape != reference.shape:
        raise _Unsupported(f"shapes {stored.shape} and {reference.shape} cannot be compared")
    power = float(np.sqrt(np.mean(np.square(reference, dtype=np.float64))))
    if power == 0:
        raise _Unsupported("the source's rows are all zero")
    raw = float(np.sqrt(np.mean(np.square(stored - reference, dtype=np.float64)))) / power
    if not smoothed or not math.isfinite(raw):
        return raw, False
    # The quantizer rounded the rescaled weight, so its error is that of the stored one.
    target, fit = stored.astype(np.float64), reference.astype(np.float64)
    for axis in (0, 1, 0, 1):
        energy = np.sum(fit * fit, axis, keepdims=True)
        match = np.sum(fit * target, axis, keepdims=True)
        fit = fit * np.divide(match, energy, out=np.zeros_like(energy), where=energy > 0)
    scale = float(np.sqrt(np.mean(np.square(target))))
    fitted = float(np.sqrt(np.mean(np.square(fit - target)))) / scale if scale > 0 else math.inf
    return (fitted, True) if fitted < raw else (raw, False)


def _norms_moved(
    candidate: Checkpoint, container: Container, ours: Mapping[str, Module], source: Container
) -> bool:
    if any(t.endswith("pre_quant_scale") for m in candidate.modules for t in m.tensors):
        return True
    norms = [m for m in candidate.modules if m.kind is ModuleKind.NORM and m.name in ours][:MAX_MODULES]
    for module in norms:
        try:
            new = _all(next(iter(_parts(container, module).values())))
            old = _all(next(iter(_parts(source, ours[module.name]).values())))
        except (*_NOT_MEASURABLE, StopIteration):
            continue
        if new.shape == old.shape and not np.allclose(new, old, rtol=0.01, atol=1e-3):
            return True
    return False


def _measurement(module: Module, error: float, count: int) -> Measurement:
    return Measurement.of(
        "weight_error",
        error,
        unit="relative RMS",
        low=0.0,
        direction=Direction.LOWER,
        n=count,
        detail=module.name,
    )
