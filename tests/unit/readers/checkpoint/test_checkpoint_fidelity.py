"""Fidelity: dequantized samples reproduce what was quantized, in every layout that is understood."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.core.vocabulary import State
from assay.readers.checkpoint import read_checkpoint
from assay.readers.checkpoint.fidelity import MAX_MODULES

NAME = "model.layers.{}.mlp.up_proj"
OUT, INPUTS = 64, 128
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
NF4 = np.array(
    [-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
     0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0]
)  # fmt: skip


def weight(seed: int = 0) -> NDArray[np.float32]:
    """A weight of the source, exactly representable in bfloat16."""
    values = np.random.default_rng(seed).normal(0, 0.05, (OUT, INPUTS)).astype(np.float32)
    return (values.view(np.uint32) & 0xFFFF0000).view(np.float32)


def bf16(values: NDArray[Any]) -> bytes:
    """Truncated to bfloat16."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()


def save(
    folder: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]], config: dict[str, Any]
) -> Path:
    """A checkpoint folder with data."""
    folder.mkdir(parents=True, exist_ok=True)
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source of six layers and a norm."""
    tensors: dict[str, Any] = {
        f"{NAME.format(i)}.weight": ("BF16", (OUT, INPUTS), bf16(weight(i))) for i in range(6)
    }
    tensors["model.norm.weight"] = ("BF16", (INPUTS,), bf16(np.ones(INPUTS)))
    return save(tmp_path / "source", tensors, {})


def rtn(values: NDArray[Any], bits: int, group: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Symmetric round to nearest: codes and scales [out, groups]."""
    blocks = values.reshape(OUT, -1, group)
    scale = np.abs(blocks).max(-1) * 2 / (2**bits - 1)
    scale = (scale.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
    codes = np.clip(np.rint(blocks / scale[..., None]), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return codes.reshape(OUT, INPUTS).astype(np.int64), scale


def pack(codes: NDArray[Any], bits: int) -> NDArray[np.uint32]:
    """Dense little-endian packing into 32-bit words along the input, one bit after the other."""
    unsigned = (codes + 2 ** (bits - 1)).astype(np.uint64)
    stream = ((unsigned[..., None] >> np.arange(bits, dtype=np.uint64)) & np.uint64(1)).astype(np.uint8)
    flat = stream.reshape(codes.shape[0], -1)
    flat = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 32)))
    return np.packbits(flat, axis=1, bitorder="little").view("<u4")


def ct_config(bits: int, group: int | None, form: str, kind: str = "int") -> dict[str, Any]:
    """A compressed-tensors declaration."""
    weights = {
        "num_bits": bits,
        "type": kind,
        "strategy": "group" if group else "channel",
        "group_size": group,
    }
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    block = {"quant_method": "compressed-tensors", "format": form, "config_groups": groups, "ignore": []}
    return {"quantization_config": block}


def packed_int(values: NDArray[Any], name: str, bits: int, group: int) -> dict[str, Any]:
    """Tensors of a packed integer weight."""
    codes, scale = rtn(values, bits, group)
    words = pack(codes, bits)
    return {
        f"{name}.weight_packed": ("I32", words.shape, words.tobytes()),
        f"{name}.weight_scale": ("BF16", scale.shape, bf16(scale)),
        f"{name}.weight_shape": ("I64", (2,), struct.pack("<qq", OUT, INPUTS)),
    }


def nf4(values: NDArray[Any], name: str, *, shuffle: bool = False) -> dict[str, Any]:
    """Tensors of a bitsandbytes NF4 weight; `shuffle` stores the codes in another order."""
    blocks = values.reshape(-1, 64)
    absmax = np.abs(blocks).max(1)
    codes = np.abs(blocks[..., None] / absmax[:, None, None] - NF4).argmin(-1).reshape(-1).astype(np.uint8)
    if shuffle:
        codes = codes.reshape(OUT, INPUTS)[:, ::-1].reshape(-1)
    state = json.dumps({"shape": [OUT, INPUTS], "blocksize": 64, "quant_type": "nf4"}).encode()
    return {
        f"{name}.weight": ("U8", (OUT * INPUTS // 2, 1), ((codes[::2] << 4) | codes[1::2]).tobytes()),
        f"{name}.weight.absmax": ("F32", absmax.shape, absmax.astype("<f4").tobytes()),
        f"{name}.weight.quant_map": ("F32", (16,), NF4.astype("<f4").tobytes()),
        f"{name}.weight.quant_state.bitsandbytes__nf4": ("U8", (len(state),), state),
    }


BNB = {
    "quantization_config": {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
    }
}


def errors(folder: Path, source: Path) -> list[float | None]:
    """The measured relative RMS of each sampled module."""
    found = read_checkpoint(folder, source=source)
    assert [m.name for m in found.measurements] == ["weight_error"] * len(found.measurements)
    return [m.value for m in found.measurements]


@pytest.mark.parametrize(
    ("bits", "group", "low", "high"),
    [
        (8, 128, 0.003, 0.02),
        (4, 128, 0.08, 0.15),
        (4, 32, 0.06, 0.12),
        (3, 32, 0.15, 0.3),
        (2, 32, 0.35, 0.7),
    ],
)
def test_packed_integers_reproduce_the_source(
    tmp_path: Path, source: Path, bits: int, group: int, low: float, high: float
) -> None:
    """Any width from 2 to 8 bits unpacks across word boundaries to the codes that were packed."""
    tensors: dict[str, Any] = {}
    for i in range(6):
        tensors |= packed_int(weight(i), NAME.format(i), bits, group)
    folder = save(tmp_path / "c", tensors, ct_config(bits, group, "pack-quantized"))
    found = errors(folder, source)
    assert len(found) == MAX_MODULES
    assert all(e is not None and low < e < high for e in found)


def test_swapped_scales_are_seen(tmp_path: Path, source: Path) -> None:
    """Scales of one layer in another, doubled: well-formed and wrong."""
    tensors = packed_int(weight(0), NAME.format(0), 4, 32)
    dtype, shape, data = tensors[f"{NAME.format(0)}.weight_scale"]
    doubled = np.frombuffer(data, "<u2").astype(np.uint32) << 16
    tensors[f"{NAME.format(0)}.weight_scale"] = (dtype, shape, bf16(doubled.view(np.float32) * 2))
    (error,) = errors(save(tmp_path / "c", tensors, ct_config(4, 32, "pack-quantized")), source)
    assert error == pytest.approx(1.0, abs=0.15)


def test_nf4_reproduces_the_source_and_a_shuffled_one_does_not(tmp_path: Path, source: Path) -> None:
    """The distance of shuffled codes is that of unrelated weights."""
    good = save(tmp_path / "good", nf4(weight(0), NAME.format(0)), BNB)
    bad = save(tmp_path / "bad", nf4(weight(0), NAME.format(0), shuffle=True), BNB)
    assert errors(good, source)[0] == pytest.approx(0.09, abs=0.03)
    assert errors(bad, source)[0] == pytest.approx(math.sqrt(2), abs=0.15)


def test_nvfp4_and_its_inverse_global_scale(tmp_path: Path, source: Path) -> None:
    """compressed-tensors divides by the global scale, ModelOpt multiplies: mixing them up is seen."""
    values = weight(0)
    blocks = values.reshape(OUT, -1, 16)
    scale = np.exp2(np.ceil(np.log2(np.abs(blocks).max(-1) / 6)))
    codes = np.abs(blocks[..., None] / scale[..., None, None] - FP4).argmin(-1).reshape(OUT, INPUTS)
    data = (codes[:, ::2] | (codes[:, 1::2] << 4)).astype(np.uint8)
    # E4M3 of a power of two is its exponent alone; the global scale brings all into its range.
    shift = 2.0**8
    exponent = ((np.log2(scale * shift) + 7).astype(np.uint8) << 3).astype(np.uint8)
    name = NAME.format(0)
    for stored, expected in ((shift, 0.11), (1 / shift, None)):
        tensors: dict[str, Any] = {
            f"{name}.weight_packed": ("U8", data.shape, data.tobytes()),
            f"{name}.weight_scale": ("F8_E4M3", exponent.shape, exponent.tobytes()),
            f"{name}.weight_global_scale": ("F32", (1,), struct.pack("<f", stored)),
        }
        config = ct_config(4, 16, "nvfp4-pack-quantized", "float")
        (error,) = errors(save(tmp_path / str(stored), tensors, config), source)
        assert error is not None
        assert error == pytest.approx(expected, abs=0.05) if expected else error > 100


def test_smoothing_is_not_mistaken_for_damage(tmp_path: Path, source: Path) -> None:
    """A factor moved from weights into norms leaves the model as it is."""
    factor = np.exp2(np.random.default_rng(7).integers(-2, 3, INPUTS)).astype(np.float32)
    tensors: dict[str, Any] = packed_int(weight(0) * factor, NAME.format(0), 8, 128)
    tensors["model.norm.weight"] = ("BF16", (INPUTS,), bf16(1 / factor))
    folder = save(tmp_path / "c", tensors, ct_config(8, 128, "pack-quantized"))
    assert errors(folder, source)[0] == pytest.approx(0.006, abs=0.01)
    found = read_checkpoint(folder, source=source)
    assert found.facts["fidelity"][NAME.format(0)]["rescaled"] is True


def test_a_factor_without_its_counterpart_is_damage(tmp_path: Path, source: Path) -> None:
    """The same weights beside unchanged norms are another model."""
    factor = np.exp2(np.random.default_rng(7).integers(-2, 3, INPUTS)).astype(np.float32)
    tensors: dict[str, Any] = packed_int(weight(0) * factor, NAME.format(0), 8, 128)
    tensors["model.norm.weight"] = ("BF16", (INPUTS,), bf16(np.ones(INPUTS)))
    (error,) = errors(save(tmp_path / "c", tensors, ct_config(8, 128, "pack-quantized")), source)
    assert error is not None
    assert error > 0.5


def test_a_nan_scale_is_no_number(tmp_path: Path, source: Path) -> None:
    """A checkpoint with NaN in its scales measures as nonfinite, never as a value."""
    tensors = packed_int(weight(0), NAME.format(0), 4, 32)
    dtype, shape, _ = tensors[f"{NAME.format(0)}.weight_scale"]
    tensors[f"{NAME.format(0)}.weight_scale"] = (dtype, shape, bf16(np.full(shape, np.nan)))
    found = read_checkpoint(save(tmp_path / "c", tensors, ct_config(4, 32, "pack-quantized")), source=source)
    assert [m.state for m in found.measurements] == [State.NONFINITE]


def test_what_cannot_be_measured_is_missing(tmp_path: Path, source: Path) -> None:
    """A truncated file has no weights to compare: the measurement is missing and says why."""
    folder = save(
        tmp_path / "c", packed_int(weight(0), NAME.format(0), 4, 32), ct_config(4, 32, "pack-quantized")
    )
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4000])
    found = read_checkpoint(folder, source=source)
    assert [m.state for m in found.measurements] == [State.MISSING]
    assert "not_measured" in found.facts["fidelity"][NAME.format(0)]


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1", "MXFP4"])
def test_gguf_types_are_dequantized(tmp_path: Path, source: Path, kind: str) -> None:
    """What the gguf package quantized comes back near the source."""
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    dtype = gguf.GGMLQuantizationType[kind]
    for i in range(2):
        data = gguf.quants.quantize(weight(i), dtype)
        writer.add_tensor(f"blk.{i}.ffn_up.weight", data, raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = errors(path, source)
    limit = {"Q8_0": 0.01, "Q5_1": 0.06, "Q4_0": 0.12, "MXFP4": 0.15}[kind]
    assert len(found) == 2
    assert all(e is not None and 0 < e < limit for e in found)
