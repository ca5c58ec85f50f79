"""A few rows of a stored weight as numbers, whatever the layout of its codes. Never more than is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from assay.core.checkpoint import Module
from assay.readers.checkpoint.bitsandbytes import STATES, read_state
from assay.readers.checkpoint.files import read_range
from assay.readers.checkpoint.layout import Container, Tensor
from assay.readers.checkpoint.precision import SCALES
from assay.readers.checkpoint.torchao import swizzled

Array: TypeAlias = NDArray[np.float32]
Parts: TypeAlias = Mapping[str, Tensor]

_MAX_TENSOR_BYTES = 2**26
_FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where the n-th output of a word of eight lies (AutoAWQ, gemm)."""


class Unsupported(Exception):
    """This layout cannot be dequantized here."""


NOT_MEASURABLE = (Unsupported, ValueError, LookupError, OSError, MemoryError, ArithmeticError, TypeError)
"""Contradictory shapes, files shorter than their headers. The gate hears of them by other ways."""


def load(container: Container, module: Module, rows: int) -> Array:
    """The first `rows` rows of a module's weight, dequantized, as float32 [rows, in].

    Raises:
        ValueError: or another of the errors that `measure` catches, if the layout is not understood.
    """
    parts = parts_of(container, module)
    if container.format == "gguf":
        return _gguf(parts, module, rows)
    for part in STATES:
        if part in parts:
            return _bitsandbytes(parts, part, module, rows)
    if "SCB" in parts:
        return _raw(parts["weight"], rows) * whole_tensor(parts["SCB"])[:rows, None] / np.float32(127)
    if "qdata" in parts:
        return _torchao(parts, module, rows)
    if "qweight" in parts:
        return _gptq(parts, module, rows) if _is_gptq(parts, module) else _awq(parts, module, rows)
    if "W_q" in parts:
        return _hqq(parts, module, rows)
    if "weight._data" in parts or "weight._data._data" in parts:
        return _quanto(parts, module, rows)
    if "weight" in parts and parts["weight"].dtype == "U32":
        return _mlx(parts, module, rows)
    if "weight_packed" in parts or parts["weight"].dtype == "U8":
        return _packed(parts, module, rows)
    weight = _raw(parts["weight"], rows)
    scale = next((parts[p] for p in SCALES if p in parts), None)
    if scale is None or parts["weight"].dtype in {"BF16", "F16", "F32", "F64"}:
        return weight
    zero = parts.get("weight_zero_point")
    if zero is not None:
        weight = weight - _expanded(whole_tensor(zero), weight.shape[0], module.shape)
    return weight * _scale(scale, rows, module.shape)


# -- layouts ------------------------------------------------------------------------------------------


def _packed(parts: Parts, module: Module, rows: int) -> Array:
    packed = parts.get("weight_packed") or parts["weight"]
    out, inputs = module.shape
    scale = next((parts[p] for p in SCALES if p in parts), None)
    if scale is None or "weight_g_idx" in parts:
        raise Unsupported("no scale, or reordered groups")
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
    second = np.float32(1) if module.scheme == "MXFP4" else _second_level(parts)
    return np.asarray(codes * _scale(scale, rows, module.shape) * second, np.float32)


def _second_level(parts: Parts) -> np.float32:
    """compressed-tensors stores the inverse of what ModelOpt stores."""
    if "weight_global_scale" in parts:
        return np.float32(1 / float(whole_tensor(parts["weight_global_scale"]).reshape(-1)[0]))
    return np.float32(whole_tensor(parts["weight_scale_2"]).reshape(-1)[0])


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
        raise Unsupported("quant_state cannot be read")
    inputs = module.shape[-1]
    count = rows * inputs
    data = np.frombuffer(read_range(parts["weight"].file, parts["weight"].start, -(-count // 2)), np.uint8)
    codes = np.stack((data >> 4, data & 15), -1).reshape(-1)[:count]
    absmax = whole_tensor(parts["weight.absmax"]).reshape(-1)
    if parts["weight.absmax"].dtype == "U8":
        size = state.nested_block_size or 256
        nested = whole_tensor(parts["weight.nested_absmax"]).reshape(-1)
        book = whole_tensor(parts["weight.nested_quant_map"]).reshape(-1)
        absmax = book[absmax.astype(np.int64)] * np.repeat(nested, size)[: absmax.size] + state.nested_offset
    scale = np.repeat(absmax[: -(-count // state.block_size)], state.block_size)[:count]
    values = whole_tensor(parts["weight.quant_map"]).reshape(-1)[codes] * scale
    return np.asarray(values.reshape(rows, inputs), np.float32)


def _torchao(parts: Parts, module: Module, rows: int) -> Array:
    packed = parts["qdata"]
    if packed.dtype == "U8" and module.scheme in {"NVFP4", "MXFP4"}:
        data = _view(packed, rows, np.dtype("u1"))
        codes = _FP4[np.stack((data & 15, data >> 4), -1).reshape(rows, -1)]
    elif packed.dtype in {"I8", "F8_E4M3"}:
        codes = _raw(packed, rows)
    else:
        raise Unsupported(f"torchao codes in {packed.dtype}")
    if "zero_point" in parts:
        codes = codes - _expanded(whole_tensor(parts["zero_point"]), rows, module.shape)
    scale = _unswizzled(parts["scale"], module)
    scale = (
        _scale(parts["scale"], rows, module.shape) if scale is None else _expanded(scale, rows, module.shape)
    )
    if "per_tensor_scale" in parts:
        scale = scale * np.float32(whole_tensor(parts["per_tensor_scale"]).reshape(-1)[0])
    return np.asarray(codes * scale, np.float32)


def _unswizzled(tensor: Tensor, module: Module) -> Array | None:
    """Scales out of the order of cuBLAS, one per row and group; None where they are stored in plain order."""
    out, inputs = module.shape
    columns = -(-inputs // (module.group_size or inputs))
    if tensor.shape != swizzled(out, columns) or tensor.shape == (out, columns):
        return None
    tall, wide = -(-out // 128), -(-columns // 4)
    tiles = whole_tensor(tensor).reshape(tall, wide, 32, 4, 4).transpose(0, 3, 2, 1, 4)
    return np.asarray(tiles.reshape(tall * 128, wide * 4)[:out, :columns])


def _is_gptq(parts: Parts, module: Module) -> bool:
    """GPTQ packs along the inputs, AWQ along the outputs."""
    return parts["qweight"].shape[0] * 32 == module.shape[1] * int(module.weight_bits)


def _gptq(parts: Parts, module: Module, rows: int) -> Array:
    bits, (_, inputs) = int(module.weight_bits), module.shape
    words = _view(parts["qweight"], None, np.dtype("<u4"))
    codes = _unpack(words.T[:rows], bits, inputs).astype(np.float32)
    scale = whole_tensor(parts["scales"]).T[:rows]
    points = np.full_like(scale, 2 ** (bits - 1))
    if "qzeros" in parts:
        zeros = _view(parts["qzeros"], None, np.dtype("<u4"))
        points = _unpack(zeros, bits, module.shape[0]).T[:rows].astype(np.float32)
        # Stored one too low by all but `gptq_v2`: weights lie about zero, which tells the two apart.
        points += abs(codes.mean() - points.mean() - 1) < abs(codes.mean() - points.mean())
    index = _view(parts["g_idx"], None, np.dtype("<i4")) if "g_idx" in parts else None
    group = np.arange(inputs) // (module.group_size or inputs) if index is None else index
    return np.asarray((codes - points[:, group]) * scale[:, group], np.float32)


def _awq(parts: Parts, module: Module, rows: int) -> Array:
    bits, (_, inputs) = int(module.weight_bits), module.shape
    if bits != 4 or parts["qweight"].shape[0] != inputs:
        raise Unsupported("only 4 bits of the gemm layout")
    count = -(-rows // 8)
    order = np.array(_AWQ_ORDER)
    words = _columns(parts["qweight"], count)
    codes = ((words[:, :, None] >> (4 * order)) & 15).reshape(inputs, -1)[:, :rows].T.astype(np.float32)
    scale = whole_tensor(parts["scales"])[:, :rows].T
    points = np.full_like(scale, 8)
    if "qzeros" in parts:
        zeros = _columns(parts["qzeros"], count)
        points = (
            ((zeros[:, :, None] >> (4 * order)) & 15).reshape(len(zeros), -1)[:, :rows].T.astype(np.float32)
        )
    group = np.arange(inputs) // (inputs // scale.shape[1])
    return np.asarray((codes - points[:, group]) * scale[:, group], np.float32)


def _columns(tensor: Tensor, count: int) -> NDArray[np.uint32]:
    if tensor.size_bytes > _MAX_TENSOR_BYTES:
        raise Unsupported(f"{tensor.name} is too large to sample")
    return np.asarray(_view(tensor, None, np.dtype("<u4"))[:, :count])


def _mlx(parts: Parts, module: Module, rows: int) -> Array:
    bits, inputs = int(module.weight_bits), module.shape[1]
    codes = _unpack(_view(parts["weight"], rows, np.dtype("<u4")), bits, inputs)
    group = module.group_size or 64
    if "biases" in parts:
        scale, bias = (np.repeat(_raw(parts[p], rows), group, 1)[:, :inputs] for p in ("scales", "biases"))
        return np.asarray(codes * scale + bias, np.float32)
    values = _FP4[codes] if bits == 4 else _float8("F8_E4M3")[codes]
    if module.scheme == "NVFP4":  # its scales are E4M3, stored as plain bytes
        scale = _float8("F8_E4M3")[_view(parts["scales"], rows, np.dtype("u1"))]
        return np.asarray(values * np.repeat(scale, group, 1)[:, :inputs], np.float32)
    return np.asarray(values * _scale(parts["scales"], rows, module.shape), np.float32)


def _hqq(parts: Parts, module: Module, rows: int) -> Array:
    """Codes are packed along the rows of [groups, group]: the first rows in the highest bits, and so on.

    Three bits are packed ten to a word of 32, all others as many as a byte holds.
    """
    bits, group, packed = int(module.weight_bits), module.group_size, parts["W_q"]
    if group is None or packed.dtype != ("I32" if bits == 3 else "U8"):
        raise Unsupported(f"HQQ at {bits} bits in {packed.dtype}")
    data = _view(packed, None, np.dtype("<u4" if bits == 3 else "u1"))
    each = 10 if bits == 3 else 8 // bits
    codes = np.concatenate([(data >> (bits * (each - 1 - i))) & (2**bits - 1) for i in range(each)], 0)
    codes = codes.reshape(-1, group)[: math.prod(module.shape) // group].astype(np.float32)
    values = (codes - whole_tensor(parts["zero"])) * whole_tensor(parts["scale"])
    return np.asarray(values.reshape(module.shape)[:rows], np.float32)


def _quanto(parts: Parts, module: Module, rows: int) -> Array:
    scale = whole_tensor(parts["weight._scale"])
    if "weight._data" in parts:
        return np.asarray(_raw(parts["weight._data"], rows) * scale[:rows], np.float32)
    bits = int(module.weight_bits)
    data = _view(parts["weight._data._data"], None, np.dtype("u1"))
    codes = np.concatenate([(data >> (bits * i)) & (2**bits - 1) for i in range(8 // bits)], 0)
    values = codes.astype(np.float32) * scale - whole_tensor(parts["weight._shift"])
    return np.asarray(values[:rows], np.float32)


def _gguf(parts: Parts, module: Module, rows: int) -> Array:
    try:
        from gguf import GGMLQuantizationType, quants  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Unsupported("package gguf is not installed: pip install 'assay[gguf]'") from error
    tensor = parts["weight"]
    width = tensor.size_bytes // tensor.shape[0]
    data = _bytes(tensor, rows * width).reshape(rows, width)
    try:
        values = quants.dequantize(data, GGMLQuantizationType[tensor.dtype])
    except NotImplementedError as error:
        raise Unsupported(f"{tensor.dtype} cannot be dequantized here") from error
    return np.asarray(values, np.float32).reshape(rows, module.shape[1])


# -- reading ------------------------------------------------------------------------------------------


def parts_of(container: Container, module: Module) -> dict[str, Tensor]:
    """The tensors of a module by the last part of their names."""
    parts = {}
    for name in module.tensors:
        tail = name.removeprefix(module.name).lstrip("._") if name.startswith(module.name) else "weight"
        parts[tail.removeprefix("weight_") if "._weight_" in name else tail] = container.tensors[name]
    return parts


def _bytes(tensor: Tensor, count: int) -> NDArray[np.uint8]:
    data = read_range(tensor.file, tensor.start, min(count, tensor.size_bytes))
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
    if dtype == "F8_E8M0":
        return np.exp2(_view(tensor, rows, np.dtype("u1")).astype(np.float32) - 127)
    plain = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "U8": "u1", "I32": "<i4"}
    if dtype not in plain:
        raise Unsupported(f"dtype {dtype}")
    return np.asarray(_view(tensor, rows, np.dtype(plain[dtype])), np.float32)


def whole_tensor(tensor: Tensor) -> Array:
    """A small tensor as float32.

    Raises:
        Unsupported: if it is not small.
    """
    if tensor.size_bytes > _MAX_TENSOR_BYTES:
        raise Unsupported(f"{tensor.name} is too large to sample")
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
    """One scale per weight; powers of two are stored as their exponents (E8M0, also as plain bytes)."""
    values = whole_tensor(tensor)
    if tensor.dtype == "U8":
        values = np.exp2(values - 127)
    return _expanded(values, rows, shape)


def _expanded(values: Array, rows: int, shape: tuple[int, ...]) -> Array:
    """One value per weight, from one per tensor, row, group or block."""
    out, inputs = shape
    if values.size == 1:
        return np.full((rows, 1), values.reshape(-1)[0], np.float32)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim == 4:  # ModelOpt keeps the axes inside a block: [rows, 1, columns, 1]
        values = values.reshape(values.shape[0], values.shape[2])
    tall = values if values.shape[0] == out else np.repeat(values, _block(out, values.shape[0]), 0)
    wide = tall[:rows]
    return wide if wide.shape[1] == 1 else np.repeat(wide, _block(inputs, wide.shape[1]), 1)[:, :inputs]


def _block(size: int, count: int) -> int:
    """The length of each of so many blocks; where the last one is short, the others are a power of two."""
    step = -(-size // count)
    return step if size % count == 0 else 1 << (step - 1).bit_length()
