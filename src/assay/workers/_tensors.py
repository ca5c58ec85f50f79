"""Read safetensors with numpy alone, and give a compressed-tensors checkpoint its float weights back.

The numbers are those that transformers computes when it decompresses the same files: integer or FP4/FP8
values times scales, rounded once to the dtype of the scales (to bfloat16 for NVFP4). Formats: pack-quantized
(1 to 8 bits, dense over 32-bit words, or the older layout that never splits a value), int-, float- and
naive-quantized, nvfp4-pack-quantized, mxfp4-pack-quantized, mxfp8-quantized: compressed-tensors 0.18.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING or __package__:
    from . import _job
else:  # started as a script: the folder of the script is the first entry of sys.path
    import _job

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

# OCP Microscaling Formats v1.0, table 1: E2M1 has no infinity and no NaN.
E2M1 = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], np.float32)
FP4_VALUES = np.concatenate([E2M1, -E2M1])

NUMPY_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
FLOAT_DTYPES = ("BF16", "F16", "F32", "F64")


def _e4m3_table() -> Float32:
    """All 256 values of float8_e4m3fn: bias 7, subnormals, NaN at 0x7f and 0xff, no infinity."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    value = np.where(exponent == 0, np.ldexp(mantissa / 8, -6), normal)
    value = np.where(code & 0x7F == 0x7F, np.nan, value)
    return np.where(code & 0x80, -value, value).astype(np.float32)


E4M3_VALUES = _e4m3_table()


@dataclass(frozen=True)
class Tensor:
    """One stored tensor; the bytes are mapped, not read."""

    dtype: str
    """The name in the safetensors header, such as BF16 or F8_E4M3."""
    raw: Array
    """Its values as numpy can hold them: BF16 as uint16, F8_E4M3 as uint8."""

    def float32(self) -> Float32:
        """The values as float32; exact for every floating dtype but F64, and for integers below 2**24."""
        if self.dtype == "BF16":
            return (self.raw.astype(np.uint32) << 16).view(np.float32)
        if self.dtype == "F8_E4M3":
            return E4M3_VALUES[self.raw]
        return self.raw.astype(np.float32)


class Checkpoint:
    """The tensors of a folder with one safetensors file, or with shards and an index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._where: dict[str, tuple[Path, str, tuple[int, ...], int, int]] = {}
        for path in self._files():
            self._read_header(path)

    def _files(self) -> list[Path]:
        index = self.folder / "model.safetensors.index.json"
        if index.is_file():
            return [self.folder / name for name in sorted(set(_job.read_json(index)["weight_map"].values()))]
        single = self.folder / "model.safetensors"
        if single.is_file():
            return [single]
        raise _job.JobError(
            f"{self.folder} has no model.safetensors and no index of shards", _job.USER_CONFIG_ERROR
        )

    def _read_header(self, path: Path) -> None:
        try:
            with path.open("rb") as handle:
                length = int.from_bytes(handle.read(8), "little")
                header = json.loads(handle.read(length)) if length < path.stat().st_size else None
        except (OSError, ValueError) as exc:
            raise _job.JobError(
                f"cannot read the safetensors file {path}: {exc}", _job.USER_CONFIG_ERROR
            ) from exc
        if not isinstance(header, dict):
            raise _job.JobError(f"{path} is not a whole safetensors file", _job.USER_CONFIG_ERROR)
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            if 8 + length + end > path.stat().st_size:
                raise _job.JobError(
                    f"{path} is cut short: tensor {name} ends beyond it", _job.USER_CONFIG_ERROR
                )
            self._where[name] = (path, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin)

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def names(self) -> list[str]:
        """All tensor names, in the order of the files."""
        return list(self._where)

    def get(self, name: str) -> Tensor:
        """One tensor by name.

        Raises:
            JobError: MODEL_UNSUPPORTED for a dtype that has no numpy counterpart here.
        """
        path, dtype, shape, offset, size = self._where[name]
        kind = np.uint16 if dtype == "BF16" else np.uint8 if dtype == "F8_E4M3" else NUMPY_DTYPES.get(dtype)
        if kind is None:
            raise _job.JobError(
                f"{path}: tensor {name} has dtype {dtype}, which is not handled", _job.MODEL_UNSUPPORTED
            )
        if size == 0:
            return Tensor(dtype, np.zeros(shape, kind))
        return Tensor(dtype, np.memmap(path, kind, "r", offset, shape))


def round_to(values: Float32, dtype: str) -> Float32:
    """Round float32 values to what ``dtype`` (BF16, F16 or F32) can hold, ties to even; stays float32."""
    if dtype == "F16":
        return values.astype(np.float16).astype(np.float32)
    if dtype != "BF16":
        return values
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    # Adding to a NaN's bits could turn it into an infinity.
    return np.where(np.isnan(values), values, rounded.astype(np.uint32).view(np.float32)).astype(np.float32)


def unpack_int32(words: npt.NDArray[np.int32], bits: int, columns: int) -> npt.NDArray[np.int16]:
    """Unpack signed integers stored with an offset of 2**(bits-1) in rows of 32-bit words, low bits first.

    Args:
        words: [rows, words per row].
        bits: Bits per value, 1 to 8.
        columns: Values per row.

    Returns:
        [rows, columns], each in -2**(bits-1) .. 2**(bits-1)-1.

    Raises:
        JobError: MODEL_UNSUPPORTED when the width fits neither layout, or both in a way that differs.
    """
    dense, loose = math.ceil(columns * bits / 32), math.ceil(columns / (32 // bits))
    same = 32 % bits == 0 or columns <= 32 // bits
    if words.shape[1] not in (dense, loose) or (dense == loose and not same):
        message = f"{columns} values of {bits} bits do not fill {words.shape[1]} words in a known way"
        raise _job.JobError(message, _job.MODEL_UNSUPPORTED)
    # compressed-tensors before 0.18 put 32 // bits values in a word; since then a value may cross words.
    element = np.arange(columns, dtype=np.int64)
    start = (
        element * bits
        if words.shape[1] == dense
        else element // (32 // bits) * 32 + element % (32 // bits) * bits
    )
    unsigned = np.ascontiguousarray(words).view(np.uint32).astype(np.uint64)
    padded = np.concatenate([unsigned, np.zeros((words.shape[0], 1), np.uint64)], axis=1)
    word, shift = start // 32, (start % 32).astype(np.uint64)
    pair = padded[:, word] | (padded[:, word + 1] << np.uint64(32))
    value = (pair >> shift) & np.uint64((1 << bits) - 1)
    signed: npt.NDArray[np.int16] = value.astype(np.int16) - np.int16(1 << (bits - 1))
    return signed


def unpack_fp4(packed: npt.NDArray[np.uint8]) -> Float32:
    """Unpack E2M1 pairs, the first value in the low four bits: [rows, n] -> [rows, 2n]."""
    codes = np.stack([packed & 0x0F, packed >> 4], axis=-1)
    return FP4_VALUES[codes].reshape(packed.shape[0], -1)


class CompressedTensors:
    """A compressed-tensors checkpoint whose weights alone are quantized.

    Raises:
        JobError: MODEL_UNSUPPORTED when activations, the KV cache or a transform are in the scheme: float
            weights would then be another model.
    """

    def __init__(self, checkpoint: Checkpoint, declared: Mapping[str, Any]) -> None:
        self.checkpoint = checkpoint
        self.groups = list((declared.get("config_groups") or {}).values())
        status = declared.get("quantization_status", "compressed")
        if status != "compressed":
            raise _job.JobError(f"quantization_status is {status!r}, not compressed", _job.MODEL_UNSUPPORTED)
        for group in self.groups:
            for part in ("input_activations", "output_activations"):
                if group.get(part) is not None:
                    raise _job.JobError(_activation_message(part, group[part]), _job.MODEL_UNSUPPORTED)
        for part in ("kv_cache_scheme", "transform_config"):
            if declared.get(part):
                message = f"the scheme has a {part}, which float weights cannot represent"
                raise _job.JobError(message, _job.MODEL_UNSUPPORTED)

    def readers(self) -> dict[str, Callable[[], Float32]]:
        """A function for each tensor of the unquantized model, by name; nothing is read before it is called.

        Raises:
            JobError: MODEL_UNSUPPORTED for an integer tensor without a scale beside it.
        """
        names = self.checkpoint.names()
        modules = {name.rpartition(".")[0] for name in names if name.endswith(".weight_scale")}
        found: dict[str, Callable[[], Float32]] = {}
        for name in names:
            module, _, leaf = name.rpartition(".")
            if module in modules and leaf.startswith("weight"):
                found[f"{module}.weight"] = functools.partial(self.dequantize, module)
                continue
            tensor = self.checkpoint.get(name)
            if tensor.dtype not in FLOAT_DTYPES:
                message = f"tensor {name} is {tensor.dtype} but has no scale beside it"
                raise _job.JobError(message, _job.MODEL_UNSUPPORTED)
            found[name] = tensor.float32
        return found

    def dequantize(self, module: str) -> Float32:
        """The weight of one module as transformers would serve it, [out, in]."""
        scale = self.checkpoint.get(f"{module}.weight_scale")
        args = self._weight_args(module)
        if f"{module}.weight_packed" not in self.checkpoint:
            stored = self.checkpoint.get(f"{module}.weight")
            zero_point = self._zero_point(module)
        else:
            stored = self.checkpoint.get(f"{module}.weight_packed")
            if stored.dtype == "U8":
                return self._fp4(module, stored, scale)
            bits = int(args["num_bits"])
            rows, columns = (int(n) for n in self.checkpoint.get(f"{module}.weight_shape").raw)
            stored = Tensor("I16", unpack_int32(stored.raw, bits, columns))
            zero_point = self._packed_zero_point(module, bits, (rows, scale.raw.shape[-1]), args)
        scales, dtype = (_e8m0(scale), "BF16") if scale.dtype == "U8" else (scale.float32(), scale.dtype)
        columns = stored.raw.shape[1]
        values = stored.float32()
        if zero_point is not None:
            values = values - self._spread(module, zero_point, columns)
        return round_to(values * self._spread(module, scales, columns), dtype)

    def _fp4(self, module: str, packed: Tensor, scale: Tensor) -> Float32:
        values = unpack_fp4(packed.raw)
        name = f"{module}.weight_global_scale"
        if name in self.checkpoint:
            # The reference divides and multiplies in float32, then rounds once to bfloat16.
            scales = scale.float32() / self.checkpoint.get(name).float32().reshape(1, 1)
        else:
            scales = _e8m0(scale)
        return round_to(values * self._spread(module, scales, values.shape[1]), "BF16")

    def _zero_point(self, module: str) -> Float32 | None:
        name = f"{module}.weight_zero_point"
        return self.checkpoint.get(name).float32() if name in self.checkpoint else None

    def _packed_zero_point(
        self, module: str, bits: int, shape: tuple[int, int], args: Mapping[str, Any]
    ) -> Float32 | None:
        if args.get("symmetric", True):
            return None
        name = f"{module}.weight_zero_point"
        if name not in self.checkpoint:
            message = f"{module}: the scheme is asymmetric but there is no weight_zero_point"
            raise _job.JobError(message, _job.QUANT_COVERAGE_FAILURE)
        # Zero points are packed along the outputs.
        return unpack_int32(self.checkpoint.get(name).raw.T, bits, shape[0]).T.astype(np.float32)

    def _spread(self, module: str, scales: Float32, columns: int) -> Float32:
        """Repeat scales or zero points over the inputs they cover, in activation order if there is one."""
        if scales.ndim < 2:
            return scales.reshape(1, 1)
        groups = scales.shape[1]
        if groups == 1:
            return scales
        if columns % groups:
            message = f"{module}: {columns} inputs do not divide into {groups} groups"
            raise _job.JobError(message, _job.MODEL_UNSUPPORTED)
        name = f"{module}.weight_g_idx"
        order = self.checkpoint.get(name).raw if name in self.checkpoint else None
        if order is None or (order < 0).any():
            order = np.arange(columns) // (columns // groups)
        return scales[:, order]

    def _weight_args(self, module: str) -> Mapping[str, Any]:
        """The weight arguments of the group that covers a module; names win over classes."""
        for group in self.groups:
            if any(_matches(target, module) for target in group.get("targets") or ()):
                return _arguments(group, module)
        for group in self.groups:
            if any(
                "." not in t and not t.startswith("re:") and t[:1].isupper()
                for t in group.get("targets") or ()
            ):
                return _arguments(group, module)
        message = f"{module} has a weight_scale, but no config group covers it"
        raise _job.JobError(message, _job.QUANT_COVERAGE_FAILURE)


def _arguments(group: Mapping[str, Any], module: str) -> Mapping[str, Any]:
    args = group.get("weights")
    if not isinstance(args, dict):
        message = f"{module} has a weight_scale, but its config group quantizes no weights"
        raise _job.JobError(message, _job.QUANT_COVERAGE_FAILURE)
    return args


def _matches(target: str, module: str) -> bool:
    return bool(re.match(target[3:], module)) if target.startswith("re:") else target == module


def _e8m0(scale: Tensor) -> Float32:
    """E8M0 exponents (bias 127) as float32."""
    return np.ldexp(np.float32(1), scale.raw.astype(np.int32) - 127)


def _activation_message(part: str, args: Mapping[str, Any]) -> str:
    kind = f"{args.get('num_bits')}-bit {args.get('type')}"
    return (
        f"{part} are quantized ({kind}): GGUF holds weights only, so a server would run another model than "
        "the one on disk; use a weight-only scheme (W8A16, W4A16, NVFP4A16), or serve the safetensors"
    )
