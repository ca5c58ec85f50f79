"""Tables of GGUF: ggml's tensor types, llama.cpp's file types, and its tensor names as Hugging Face spells them."""

from __future__ import annotations

import re
from collections.abc import Mapping

TYPES: Mapping[int, tuple[str, int, int, float]] = {
    0: ("F32", 1, 4, 32), 1: ("F16", 1, 2, 16), 30: ("BF16", 1, 2, 16), 28: ("F64", 1, 8, 64),
    24: ("I8", 1, 1, 8), 25: ("I16", 1, 2, 16), 26: ("I32", 1, 4, 32), 27: ("I64", 1, 8, 64),
    2: ("Q4_0", 32, 18, 4), 3: ("Q4_1", 32, 20, 4), 6: ("Q5_0", 32, 22, 5), 7: ("Q5_1", 32, 24, 5),
    8: ("Q8_0", 32, 34, 8), 9: ("Q8_1", 32, 40, 8),
    10: ("Q2_K", 256, 84, 2), 11: ("Q3_K", 256, 110, 3), 12: ("Q4_K", 256, 144, 4), 13: ("Q5_K", 256, 176, 5),
    14: ("Q6_K", 256, 210, 6), 15: ("Q8_K", 256, 292, 8),
    16: ("IQ2_XXS", 256, 66, 2), 17: ("IQ2_XS", 256, 74, 2), 18: ("IQ3_XXS", 256, 98, 3), 19: ("IQ1_S", 256, 50, 1),
    20: ("IQ4_NL", 32, 18, 4), 21: ("IQ3_S", 256, 110, 3), 22: ("IQ2_S", 256, 82, 2), 23: ("IQ4_XS", 256, 136, 4),
    29: ("IQ1_M", 256, 56, 1), 34: ("TQ1_0", 256, 54, 1.585), 35: ("TQ2_0", 256, 66, 2),
    39: ("MXFP4", 32, 17, 4), 40: ("NVFP4", 64, 36, 4), 41: ("Q1_0", 128, 18, 1),
    31: ("Q4_0_4_4", 32, 18, 4), 32: ("Q4_0_4_8", 32, 18, 4), 33: ("Q4_0_8_8", 32, 18, 4),
    36: ("IQ4_NL_4_4", 32, 18, 4), 37: ("IQ4_NL_4_8", 32, 18, 4), 38: ("IQ4_NL_8_8", 32, 18, 4),
}  # fmt: skip
"""ggml type → name, weights per block, bytes per block, bits of one weight (gguf 0.19.0, GGML_QUANT_SIZES)."""
BY_NAME: Mapping[str, tuple[int, int, float]] = {name: rest for name, *rest in TYPES.values()}  # type: ignore[misc]
REMOVED = frozenset({"Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8"})
"""Types that files of 2024 hold and that llama.cpp no longer reads."""
ASYMMETRIC = frozenset({"Q4_1", "Q5_1", "Q8_1", "Q2_K", "Q4_K", "Q5_K"})
"""Types whose blocks store a minimum beside the scale."""
FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
"""general.file_type, which is only what most tensors are."""

_BLOCK: Mapping[str, str] = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_qkv": "self_attn.qkv_proj", "attn_sinks": "self_attn.sinks",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "attn_q_a": "self_attn.q_a_proj", "attn_q_b": "self_attn.q_b_proj", "attn_kv_b": "self_attn.kv_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa", "attn_k_b": "self_attn.k_b_proj", "attn_v_b": "self_attn.v_b_proj",
    "attn_q_a_norm": "self_attn.q_a_layernorm", "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate", "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "exp_probs_b": "mlp.gate.e_score_correction_bias",
    "ffn_gate_exps": "mlp.experts.gate_proj", "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj", "ffn_gate_up_exps": "mlp.experts.gate_up_proj",
    "ffn_gate_shexp": "mlp.shared_experts.gate_proj", "ffn_up_shexp": "mlp.shared_experts.up_proj",
    "ffn_down_shexp": "mlp.shared_experts.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
    "nextn.eh_proj": "eh_proj", "nextn.embed_tokens": "embed_tokens", "nextn.enorm": "enorm", "nextn.hnorm": "hnorm",
    "nextn.shared_head_head": "shared_head.head", "nextn.shared_head_norm": "shared_head.norm",
}  # fmt: skip
_TOP: Mapping[str, str] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "rope_freqs": "rope_freqs",
    "rope_factors_long": "rope_factors_long",
    "rope_factors_short": "rope_factors_short",
}
_IN_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
PROJECTOR = re.compile(r"(v|a|mm|resampler)\.")
"""Tensors of an `mmproj` file: the vision or audio tower, under names that are not compared."""
FUSED_NORMS = "blk.0.post_attention_norm"
"""Where it is stored together with `ffn_norm`, the latter is the norm before the feed-forward part (Gemma)."""


def source_name(stem: str, *, sandwich: bool = False) -> str | None:
    """The Hugging Face name of a llama.cpp tensor without its last part; None where it is not known.

    Args:
        stem: `blk.0.attn_q`.
        sandwich: the architecture has norms before and after both parts of a layer.
    """
    if stem in _TOP:
        return _TOP[stem]
    found = _IN_BLOCK.fullmatch(stem)
    if found is None:
        return stem if PROJECTOR.match(stem) else None
    layer, part = found.groups()
    if sandwich and part == "ffn_norm":
        return f"model.layers.{layer}.pre_feedforward_layernorm"
    return f"model.layers.{layer}.{_BLOCK[part]}" if part in _BLOCK else None
