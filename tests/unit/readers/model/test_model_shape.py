"""Shapes from the published config.json of well-known models; every figure was computed by hand, as quoted."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import UnreadableInput
from assay.core.fit import Keeps, ModelShape
from assay.readers.model import cached_snapshot, read_shape, shape_of_config
from assay.readers.model.families import KNOWN


def plain(kind: str, layers: int, heads: int, kv: int | None, hidden: int, **more: Any) -> dict[str, Any]:
    """The usual keys of config.json."""
    config = {
        "model_type": kind,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "vocab_size": 32000,
        **more,
    }
    return config if kv is None else {**config, "num_key_value_heads": kv}


MLA = {"qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "kv_lora_rank": 512}
GPT_OSS_TYPES = ["sliding_attention", "full_attention"] * 12
LFM2_TYPES = ["conv", "conv", "full_attention", "conv", "conv", "full_attention", "conv", "conv"] + (
    ["full_attention", "conv"] * 4
)
FULL_BYTES: dict[str, tuple[dict[str, Any], int]] = {
    # name: (config, bytes of keys and values a token in 16 bits, over the layers that keep every token)
    "Llama-3.2-1B: 2 x 16 x 8 x 64 x 2": (plain("llama", 16, 32, 8, 2048, head_dim=64), 32_768),
    "Llama-3.2-3B: 2 x 28 x 8 x 128 x 2": (plain("llama", 28, 24, 8, 3072, head_dim=128), 114_688),
    "Llama-3.1-8B: 2 x 32 x 8 x 128 x 2": (plain("llama", 32, 32, 8, 4096), 131_072),
    "Llama-3.1-70B: 2 x 80 x 8 x 128 x 2": (plain("llama", 80, 64, 8, 8192), 327_680),
    "Llama-2-7B, no GQA: 2 x 32 x 32 x 128 x 2": (plain("llama", 32, 32, None, 4096), 524_288),
    "Phi-3.5-mini: 2 x 32 x 32 x 96 x 2, window beyond its context": (
        plain("phi3", 32, 32, 32, 3072, sliding_window=None),
        393_216,
    ),
    "Qwen2.5-7B, window not used: 2 x 28 x 4 x 128 x 2": (
        plain("qwen2", 28, 28, 4, 3584, use_sliding_window=False, sliding_window=131072, max_window_layers=28),
        57_344,
    ),
    "Qwen2.5-14B: 2 x 48 x 8 x 128 x 2": (plain("qwen2", 48, 40, 8, 5120), 196_608),
    "Qwen2.5-32B: 2 x 64 x 8 x 128 x 2": (plain("qwen2", 64, 40, 8, 5120), 262_144),
    "Qwen3-8B: 2 x 36 x 8 x 128 x 2": (plain("qwen3", 36, 32, 8, 4096, head_dim=128), 147_456),
    "Qwen3-30B-A3B: 2 x 48 x 4 x 128 x 2": (plain("qwen3_moe", 48, 32, 4, 2048, head_dim=128), 98_304),
    "Mixtral-8x7B: 2 x 32 x 8 x 128 x 2": (
        plain("mixtral", 32, 32, 8, 4096, sliding_window=None),
        131_072,
    ),
    "Gemma-7B, heads of 256: 2 x 28 x 16 x 256 x 2": (plain("gemma", 28, 16, 16, 3072, head_dim=256), 458_752),
    "gpt-oss-20b, 12 of 24 layers: 2 x 12 x 8 x 64 x 2": (
        plain("gpt_oss", 24, 64, 8, 2880, head_dim=64, sliding_window=128, layer_types=GPT_OSS_TYPES),
        24_576,
    ),
    "Gemma-3-27B, 10 of 62 layers: 2 x 10 x 16 x 128 x 2": (
        {
            "model_type": "gemma3",
            "text_config": plain("gemma3_text", 62, 32, 16, 5376, head_dim=128, sliding_window=1024),
        },
        81_920,
    ),
    "Gemma-2-9B, 21 of 42 layers: 2 x 21 x 8 x 256 x 2": (
        plain("gemma2", 42, 16, 8, 3584, head_dim=256, sliding_window=4096),
        344_064 // 2,
    ),
    "Mistral-7B-v0.1, all slide": (plain("mistral", 32, 32, 8, 4096, sliding_window=4096), 0),
    "Mistral-7B-v0.3: 2 x 32 x 8 x 128 x 2": (plain("mistral", 32, 32, 8, 4096, sliding_window=None), 131_072),
    "Command-R7B, 8 of 32 layers: 2 x 8 x 8 x 128 x 2": (
        plain("cohere2", 32, 32, 8, 4096, sliding_window=4096, sliding_window_pattern=4),
        32_768,
    ),
    "Llama-4-Scout, 12 of 48 layers: 2 x 12 x 8 x 128 x 2": (
        {
            "model_type": "llama4",
            "text_config": plain("llama4_text", 48, 40, 8, 5120, head_dim=128, attention_chunk_size=8192),
        },
        49_152,
    ),
    "Falcon-7B, one kv head: 2 x 32 x 64 x 2": (
        {"model_type": "falcon", "num_hidden_layers": 32, "num_attention_heads": 71, "hidden_size": 4544,
         "multi_query": True},
        8_192,
    ),
    "Falcon-40B: 2 x 60 x 8 x 64 x 2": (
        plain("falcon", 60, 128, None, 8192, new_decoder_architecture=True, num_kv_heads=8, multi_query=True),
        122_880,
    ),
    "GPT-2: 2 x 12 x 768 x 2": (
        {"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50257},
        36_864,
    ),
    "StarCoder, one kv head: 2 x 40 x 128 x 2": (
        {"model_type": "gpt_bigcode", "n_layer": 40, "n_head": 48, "n_embd": 6144, "multi_query": True},
        20_480,
    ),
    "ChatGLM3-6B: 2 x 28 x 2 x 128 x 2": (
        {
            "model_type": "chatglm",
            "num_layers": 28,
            "num_attention_heads": 32,
            "hidden_size": 4096,
            "kv_channels": 128,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
        },
        28_672,
    ),
    "DBRX, nested heads: 2 x 40 x 8 x 128 x 2": (
        {"model_type": "dbrx", "n_layers": 40, "n_heads": 48, "d_model": 6144, "attn_config": {"kv_n_heads": 8}},
        163_840,
    ),
    "Qwen2-VL-7B, keys at the top: 2 x 28 x 4 x 128 x 2": (plain("qwen2_vl", 28, 28, 4, 3584), 57_344),
    "Jamba-v0.1, 4 of 32 layers: 2 x 4 x 8 x 128 x 2": (
        plain(
            "jamba", 32, 32, 8, 4096,
            attn_layer_period=8, attn_layer_offset=4, mamba_d_state=16, mamba_d_conv=4, mamba_expand=2,
        ),
        16_384,
    ),
    "Qwen3-Next-80B, 12 of 48 layers: 2 x 12 x 2 x 256 x 2": (
        plain(
            "qwen3_next", 48, 16, 2, 2048, head_dim=256, full_attention_interval=4,
            linear_num_key_heads=16, linear_key_head_dim=128, linear_num_value_heads=32, linear_value_head_dim=128,
            linear_conv_kernel_dim=4,
        ),
        24_576,
    ),
    "LFM2-1.2B, 6 of 16 layers: 2 x 6 x 8 x 64 x 2": (
        plain("lfm2", 16, 32, 8, 2048, layer_types=LFM2_TYPES, conv_L_cache=3),
        12_288,
    ),
}  # fmt: skip


def per_token(shape: ModelShape) -> int:
    """Bytes a token in 16 bits over the layers that keep every token."""
    return sum(2 * g.count * g.elements_per_token for g in shape.layers if g.keeps is Keeps.FULL)


@pytest.mark.parametrize("name", FULL_BYTES)
def test_bytes_a_token_are_those_computed_by_hand(name: str) -> None:
    """Layers, heads and dimensions are read from whatever key the family keeps them in."""
    config, expected = FULL_BYTES[name]
    shape = shape_of_config(config, name)
    assert shape.unknown == ()
    assert sum(g.count for g in shape.layers) == (
        config.get("text_config", config).get("num_hidden_layers")
        or config.get("n_layer") or config.get("n_layers") or config["num_layers"]
    )  # fmt: skip
    assert per_token(shape) == expected


@pytest.mark.parametrize(
    ("name", "window", "count", "bytes_at_most"),
    [
        # gpt-oss: 12 x 2 x 8 x 64 x 2 B x 128 tokens = 3 MiB; Gemma-3-27B: 52 x 2 x 16 x 128 x 2 B x 1024 = 416 MiB
        ("gpt-oss-20b, 12 of 24 layers: 2 x 12 x 8 x 64 x 2", 128, 12, 3 * 2**20),
        ("Gemma-3-27B, 10 of 62 layers: 2 x 10 x 16 x 128 x 2", 1024, 52, 416 * 2**20),
        ("Gemma-2-9B, 21 of 42 layers: 2 x 21 x 8 x 256 x 2", 4096, 21, 21 * 8192 * 4096),
        ("Mistral-7B-v0.1, all slide", 4096, 32, 131_072 * 4096),
        ("Llama-4-Scout, 12 of 48 layers: 2 x 12 x 8 x 128 x 2", 8192, 36, 36 * 4096 * 8192),
    ],
)
def test_windows_hold_a_constant(name: str, window: int, count: int, bytes_at_most: int) -> None:
    """Sliding and chunked layers stop growing at their window."""
    (group,) = [g for g in shape_of_config(FULL_BYTES[name][0]).layers if g.keeps is Keeps.WINDOW]
    assert (group.window_tokens, group.count) == (window, count)
    assert 2 * group.count * group.elements_per_token * window == bytes_at_most


@pytest.mark.parametrize(
    ("kind", "layers", "more", "expected"),
    [
        ("deepseek_v3", 61, {}, 70_272),  # 61 x (512 + 64) x 2
        ("kimi_k2", 61, {}, 70_272),
        ("deepseek_v2", 27, {}, 31_104),  # V2-Lite: 27 x 576 x 2
        ("deepseek_v32", 61, {"index_topk": 2048, "index_head_dim": 128}, 85_888),  # 61 x (576 + 128) x 2
    ],
)
def test_latent_attention_keeps_one_vector(
    kind: str, layers: int, more: dict[str, Any], expected: int
) -> None:
    """The compressed vector and its rotary part, and what an engine keeps that expands them."""
    (group,) = shape_of_config(plain(kind, layers, 128, 128, 7168, **MLA, **more)).layers
    assert group.keeps is Keeps.LATENT
    assert 2 * group.count * group.latent_elements == expected
    assert (group.key_elements, group.value_elements) == (128 * 192, 128 * 128)


@pytest.mark.parametrize(
    ("config", "count", "elements"),
    [
        # inner x (kernel - 1 + state) = 5120 x 19
        ({"model_type": "mamba", "hidden_size": 2560, "num_hidden_layers": 64, "intermediate_size": 5120,
          "state_size": 16, "conv_kernel": 4}, 64, 97_280),
        # 28 layers of expand 2: 8192 x 19
        (FULL_BYTES["Jamba-v0.1, 4 of 32 layers: 2 x 4 x 8 x 128 x 2"][0], 28, 155_648),
        # (2 x 16 x 128 + 32 x 128) x 3 + 32 x 128 x 128
        (FULL_BYTES["Qwen3-Next-80B, 12 of 48 layers: 2 x 12 x 2 x 256 x 2"][0], 36, 548_864),
        # 2048 x (3 - 1)
        (FULL_BYTES["LFM2-1.2B, 6 of 16 layers: 2 x 6 x 8 x 64 x 2"][0], 10, 4_096),
        # Mamba2-2.7B: 3 x (5120 + 2 x 128) + 80 x 64 x 128
        ({"model_type": "mamba2", "hidden_size": 2560, "num_hidden_layers": 64, "num_heads": 80, "head_dim": 64,
          "state_size": 128, "n_groups": 1, "conv_kernel": 4}, 64, 671_488),
        # Nemotron-H-8B: 3 x (128 x 64 + 2 x 8 x 128) + 128 x 64 x 128
        (plain("nemotron_h", 4, 32, 8, 4096, hybrid_override_pattern="M-M*", mamba_num_heads=128, mamba_head_dim=64,
               ssm_state_size=128, n_groups=8, conv_kernel=4), 2, 1_079_296),
    ],
)  # fmt: skip
def test_states_do_not_grow_with_the_context(config: dict[str, Any], count: int, elements: int) -> None:
    """State-space layers, delta nets and short convolutions, with their convolution's columns."""
    shape = shape_of_config(config)
    assert shape.unknown == ()
    (group,) = [g for g in shape.layers if g.keeps is Keeps.STATE]
    assert (group.count, group.state_elements) == (count, elements)


def test_layers_that_share_keep_nothing() -> None:
    """Gemma 3n: of 35 layers the last 15 read what earlier ones kept: 4 full and 16 sliding ones are left."""
    config = plain("gemma3n_text", 35, 8, 2, 2048, head_dim=256, sliding_window=512, num_kv_shared_layers=15)
    counts = {g.keeps: g.count for g in shape_of_config(config).layers}
    assert counts == {Keeps.WINDOW: 16, Keeps.FULL: 4, Keeps.NOTHING: 15}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({}, "model_type"),
        ({"model_type": "brand_new"}, "'brand_new' is not known"),
        (plain("t5", 6, 8, None, 512, is_encoder_decoder=True), "'t5' is not known"),
        (plain("llama", 32, 32, 8, 4096, is_encoder_decoder=True), "encoder-decoder"),
        (plain("qwen3", 36, 32, 8, 4096), "head_dim"),
        (plain("mixtral", 32, 32, None, 4096), "num_key_value_heads"),
        (plain("gemma3_text", 26, 4, 1, 1152, head_dim=256), "sliding_window"),
        (plain("llama", 32, 30, 8, 4096), "no multiple of 30 heads"),
        (plain("llama", 32, 32, 8, 4096, layer_types=["full_attention"] * 31), "layer_types names 31 layers of 32"),
        (plain("llama", 1, 32, 8, 4096, layer_types=["quantum"]), "layer type 'quantum'"),
        (plain("llama", True, 32, 8, 4096), "num_hidden_layers is no whole number"),
        (plain("smollm3", 36, 16, 4, 2048), "layer_types"),
        (plain("llama", 32, 32, 8, 4096, sliding_window=4096), "sliding_window: how this family uses it"),
        (plain("gemma3_text", 26, 4, 1, 1152, head_dim=256, sliding_window=512, use_bidirectional_attention=True),
         "use_bidirectional_attention"),
        (plain("deepseek_v3", 61, 128, 128, 7168), "kv_lora_rank"),
        (plain("mllama", 40, 32, 8, 4096, cross_attention_layers=[3]), "is not known"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_named(config: dict[str, Any], named: str) -> None:
    """A gap in the config is the answer `unknown`, never a default of somebody's class."""
    shape = shape_of_config(config)
    assert not shape.known
    assert shape.layers == ()
    assert any(named in gap for gap in shape.unknown), shape.unknown


_KEYS = st.sampled_from(
    ["model_type", "num_hidden_layers", "n_layer", "num_attention_heads", "num_key_value_heads", "hidden_size",
     "head_dim", "sliding_window", "layer_types", "text_config", "max_window_layers", "use_sliding_window",
     "kv_lora_rank", "attn_config", "num_kv_shared_layers", "sliding_window_pattern", "hybrid_override_pattern",
     "attn_layer_period", "attn_layer_offset", "vocab_size", "intermediate_size", "dtype", "multi_query"]
)  # fmt: skip
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(sorted(KNOWN)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=12,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=12))
def test_no_config_is_too_absurd(config: dict[str, Any]) -> None:
    """Whatever stands in a config, the answer is a shape: known with layers, or unknown with a reason."""
    shape = shape_of_config(config)
    assert bool(shape.unknown) != bool(shape.layers)
    assert ModelShape.from_json(shape.to_json()) == shape


@given(st.sampled_from(sorted(FULL_BYTES)), st.data())
def test_a_broken_value_never_crashes(name: str, data: st.DataObject) -> None:
    """A known config with one value replaced stays a shape."""
    config = dict(FULL_BYTES[name][0])
    config[data.draw(st.sampled_from(sorted(config)))] = data.draw(_VALUES)
    shape_of_config(config)


def test_the_cache_of_a_hub_is_read_without_network(tmp_path: Path) -> None:
    """The current revision's folder is found by its ref; one that is not there is named with the next command."""
    snapshot = tmp_path / "models--org--small" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--org--small" / "refs").mkdir()
    (tmp_path / "models--org--small" / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text('{"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 64}')
    env = {"HF_HUB_CACHE": str(tmp_path)}
    assert cached_snapshot("org/small", env) == snapshot
    found = read_shape("org/small", env)
    assert found.architecture == "gpt2"
    assert found.unknown == ("the weights: no safetensors in the folder",)
    absent = read_shape("org/large", env)
    assert absent.unknown == ("the files: not in the local cache",)
    assert "hf download org/large" in absent.notes[0]


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 40, b"\x00" * 100])
def test_bytes_that_are_no_model_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no GGUF is an input that cannot be read, with its path."""
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(UnreadableInput, match=r"model\.gguf"):
        read_shape(path)


def test_a_place_without_a_model_is_refused(tmp_path: Path) -> None:
    """An empty folder and a name that is nothing are usage errors, not `unknown`."""
    with pytest.raises(UnreadableInput, match=r"neither config\.json nor weights"):
        read_shape(tmp_path)
    with pytest.raises(UnreadableInput, match="no such model"):
        read_shape("nothing here")


def test_what_loaders_leave_out_is_set_apart(tmp_path: Path) -> None:
    """A tied head that is stored, tables, the vision tower and draft layers are not in the lower bound."""
    stored = {
        "model.embed_tokens.weight": 10, "model.layers.0.self_attn.k_proj.weight": 1, "lm_head.weight": 20,
        "model.layers.0.self_attn.rotary_emb.inv_freq": 30, "visual.patch_embed.weight": 40,
        "model.layers.1.eh_proj.weight": 50, "mtp.fc.weight": 60,
    }  # fmt: skip
    header, at = {}, 0
    for name, rows in stored.items():
        header[name] = {"dtype": "BF16", "shape": [rows, 64], "data_offsets": [at, at + 128 * rows]}
        at += 128 * rows
    data = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(data)) + data + bytes(at))
    config = plain("llama", 1, 2, 1, 64, head_dim=1, tie_word_embeddings=True)
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = read_shape(tmp_path)
    assert found.unknown == ()
    assert found.dtype == "bfloat16"
    assert found.weights is not None
    rows = {part: size // 128 for part, size in found.weights.aside.items()}
    assert rows == {"tied": 20, "buffers": 30, "vision": 40, "draft": 110}
    assert found.weights.needed == 11 * 128
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_key_value_heads": 2}))
    assert "the tensors have 1" in read_shape(tmp_path).unknown[0]
