"""Shapes from GGUF headers that were written with the `gguf` package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.fit import Keeps, ModelShape
from assay.readers.checkpoint.layout import Container, Tensor
from assay.readers.model import read_shape
from assay.readers.model.gguf import KNOWN, shape_of_gguf

gguf = pytest.importorskip("gguf")
LLAMA = {"attn_k": (64, 128), "attn_v": (64, 128), "attn_q": (128, 128), "attn_output": (128, 128)}


def write(
    path: Path,
    arch: str,
    blocks: Mapping[int, Mapping[str, tuple[int, ...]]],
    *,
    type_: str = "F16",
    **keys: Any,
) -> ModelShape:
    """Write a file with these blocks and read its shape."""
    writer = gguf.GGUFWriter(path, arch)
    defaults = {"context_length": 4096, "embedding_length": 128, "block_count": len(blocks)}
    defaults |= {"attention.head_count": 4, "feed_forward_length": 256}
    for key, value in {**defaults, **{k.replace("__", "."): v for k, v in keys.items()}}.items():
        if isinstance(value, list):
            writer.add_array(f"{arch}.{key}", value)
        else:
            writer.add_uint32(f"{arch}.{key}", value)
    kind = gguf.GGMLQuantizationType[type_]
    for at, block in blocks.items():
        for name, dims in block.items():
            size = gguf.quant_shape_to_byte_shape(dims, kind)
            writer.add_tensor(f"blk.{at}.{name}.weight", np.zeros(size, np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_shape(path)


def test_the_tensors_decide(tmp_path: Path) -> None:
    """Keys and values are as wide as their tensors, whatever the keys of the header say."""
    shape = write(tmp_path / "m.gguf", "llama", {0: LLAMA, 1: LLAMA}, attention__head_count_kv=99)
    (group,) = shape.layers
    assert (group.keeps, group.count, group.key_elements, group.value_elements) == (Keeps.FULL, 2, 64, 64)
    assert shape.weights is not None
    assert shape.weights.total == 2 * 2 * (2 * 64 * 128 + 2 * 128 * 128)


def test_layers_may_differ(tmp_path: Path) -> None:
    """Variable heads (deci): a block with fewer heads, and one without attention."""
    narrow = {**LLAMA, "attn_k": (32, 128), "attn_v": (32, 128)}
    shape = write(tmp_path / "m.gguf", "deci", {0: LLAMA, 1: narrow, 2: {"ffn_up": (256, 128)}})
    assert [(g.keeps, g.key_elements) for g in shape.layers] == [
        (Keeps.FULL, 64),
        (Keeps.FULL, 32),
        (Keeps.NOTHING, 0),
    ]


@pytest.mark.parametrize(
    ("arch", "count", "windows"), [("gemma3", 12, 10), ("gemma2", 4, 2), ("gpt-oss", 4, 2), ("cohere2", 8, 6)]
)
def test_the_pattern_of_windows_is_llama_cpps(tmp_path: Path, arch: str, count: int, windows: int) -> None:
    """Which layers slide stands in llama.cpp's code, not in the file."""
    shape = write(
        tmp_path / "m.gguf", arch, dict.fromkeys(range(count), LLAMA), attention__sliding_window=512
    )
    counts = {g.keeps: (g.count, g.window_tokens) for g in shape.layers}
    assert counts == {Keeps.WINDOW: (windows, 512), Keeps.FULL: (count - windows, None)}


def test_a_pattern_in_the_file_wins(tmp_path: Path) -> None:
    """`sliding_window_pattern` as a list names each layer."""
    shape = write(
        tmp_path / "m.gguf",
        "gemma3",
        dict.fromkeys(range(3), LLAMA),
        attention__sliding_window=512,
        attention__sliding_window_pattern=[True, False, False],
    )
    assert {g.keeps: g.count for g in shape.layers} == {Keeps.WINDOW: 1, Keeps.FULL: 2}


def test_state_space_blocks(tmp_path: Path) -> None:
    """Mamba: (kernel - 1) x inner and state x inner elements, as the server's log says."""
    keys = {"ssm__inner_size": 256, "ssm__state_size": 16, "ssm__conv_kernel": 4, "ssm__time_step_rank": 8}
    shape = write(
        tmp_path / "m.gguf", "mamba", {0: {"ssm_in": (512, 128)}, 1: {"ssm_in": (512, 128)}}, **keys
    )
    (group,) = shape.layers
    assert (group.keeps, group.count, group.state_elements) == (Keeps.STATE, 2, 3 * 256 + 16 * 256)


def test_latent_attention_depends_on_the_tensors(tmp_path: Path) -> None:
    """With the absorbed matrices one vector is kept; in older files keys and values are expanded."""
    old = {"attn_kv_a_mqa": (96, 128), "attn_kv_b": (512, 64)}
    keys = {"attention__kv_lora_rank": 64, "rope__dimension_count": 32}
    (group,) = write(tmp_path / "old.gguf", "deepseek2", {0: old}, **keys).layers
    assert (group.latent_elements, group.elements_per_token) == (96, 512 + 4 * 32)
    new = {**old, "attn_k_b": (64, 64)}
    (group,) = write(tmp_path / "new.gguf", "deepseek2", {0: new}, **keys).layers
    assert (group.latent_elements, group.elements_per_token) == (96, 96)


@pytest.mark.parametrize(
    ("arch", "keys", "named"),
    [
        ("unheard-of", {}, "is not known"),
        ("gemma3", {}, "attention.sliding_window"),
        ("llama", {"block_count": 7}, "block_count is 7"),
    ],
)
def test_gaps_are_named(tmp_path: Path, arch: str, keys: dict[str, Any], named: str) -> None:
    """What the header does not say leaves the shape unknown; the weights are known all the same."""
    shape = write(tmp_path / "m.gguf", arch, {0: LLAMA}, **keys)
    assert not shape.known
    assert any(named in gap for gap in shape.unknown)
    assert shape.weights is not None
    assert shape.weights.total > 0


def test_repacked_types_are_counted_twice(tmp_path: Path) -> None:
    """Q4_0 gets a second copy in llama.cpp's CPU backend, Q8_0 does not."""
    four = write(tmp_path / "4.gguf", "llama", {0: LLAMA}, type_="Q4_0").weights
    eight = write(tmp_path / "8.gguf", "llama", {0: LLAMA}, type_="Q8_0").weights
    assert four is not None
    assert eight is not None
    assert (four.repacked, eight.repacked) == (four.total, 0)
    assert eight.mapped >= eight.total


_ODD = (
    st.integers(-1, 2**64) | st.booleans() | st.text(max_size=4) | st.floats() | st.lists(st.integers(0, 9), max_size=4)
    | st.just({"count": 70, "digest": "sha256:0"})
)  # fmt: skip
_NAMES = st.sampled_from(
    ["attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.sliding_window", "block_count",
     "attention.sliding_window_pattern", "attention.shared_kv_layers", "embedding_length", "feed_forward_length",
     "ssm.inner_size", "ssm.state_size", "ssm.conv_kernel", "attention.kv_lora_rank", "shortconv.l_cache", "vocab_size"]
)  # fmt: skip
_PARTS = st.sampled_from(
    ["attn_k.weight", "attn_v.weight", "attn_qkv.weight", "ssm_in.weight", "shortconv.conv.weight",
     "nextn.eh_proj.weight", "attn_kv_a_mqa.weight", "attn_kv_b.weight", "ffn_up.weight"]
)  # fmt: skip


@given(
    st.sampled_from(sorted(KNOWN)),
    st.dictionaries(_NAMES, _ODD, max_size=8),
    st.lists(st.tuples(st.integers(0, 3), _PARTS, st.lists(st.integers(0, 99), max_size=3)), max_size=8),
)
def test_no_header_is_too_absurd(
    arch: str, keys: dict[str, Any], stored: list[tuple[int, str, list[int]]]
) -> None:
    """Whatever stands in a header, the answer is a shape: known with layers, or unknown with a reason."""
    tensors = {
        f"blk.{at}.{part}": Tensor(f"blk.{at}.{part}", "F16", tuple(dims), 64, "f", 0)
        for at, part, dims in stored
    }
    metadata = {"general.architecture": arch, **{f"{arch}.{k}": v for k, v in keys.items()}}
    shape = shape_of_gguf(Container("gguf", tensors, metadata), "m")
    assert bool(shape.unknown) != bool(shape.layers)
    assert ModelShape.from_json(shape.to_json()) == shape
