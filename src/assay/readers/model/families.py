"""Families of `model_type`: what their class assumes where config.json is silent. A type that is not here is unknown.

Sources: the `configuration_*.py` of transformers 5.14, and the published config.json of each family.
"""

from __future__ import annotations

FULL = frozenset({
    "llama", "phi", "gpt2", "gpt_neox", "gptj", "gpt_bigcode", "codegen", "bloom", "opt", "mpt", "falcon",
    "stablelm", "persimmon", "gemma", "cohere", "olmo", "olmo2", "olmoe", "flex_olmo", "granite", "granitemoe",
    "granitemoeshared", "internlm2", "internlm3", "baichuan", "internlm", "chatglm", "glm", "glm4", "glm4_moe",
    "glm4v_text", "glm4v_moe_text", "nemotron", "dbrx", "minicpm", "exaone", "seed_oss", "ernie4_5",
    "ernie4_5_moe", "hunyuan_v1_dense", "hunyuan_v1_moe", "arcee", "apertus", "helium", "minimax_m2", "jais2",
    "solar_open", "deepseek", "xglm", "orion", "xverse", "skywork", "nanochat", "bailing_moe", "bitnet",
    "qwen", "qwen3_vl_text", "qwen3_vl_moe_text",
})  # fmt: skip
"""Every layer keeps the keys and values of every token, unless `layer_types` says otherwise."""

WINDOW_IF_SET = frozenset({"mistral", "mixtral", "phi3", "starcoder2", "ministral3", "phimoe"})
"""A `sliding_window` that is not null holds for every layer."""

WINDOW_IF_USED = frozenset({"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen2_vl_text", "qwen2_5_vl_text"})
"""`use_sliding_window` must be true; then layers from `max_window_layers` on slide."""

PATTERN: dict[str, tuple[str, int, int | None]] = {
    "gemma2": ("sliding_window", 2, 4096),
    "gemma3_text": ("sliding_window", 6, None),
    "gemma3n_text": ("sliding_window", 5, None),
    "gemma4_text": ("sliding_window", 6, None),
    "cohere2": ("sliding_window", 4, None),
    "olmo3": ("sliding_window", 4, None),
    "gpt_oss": ("sliding_window", 2, None),
    "exaone4": ("sliding_window", 4, None),
    "llama4_text": ("attention_chunk_size", 4, None),
}
"""Family → key of the window, every how many layers one is full, and the window that its class assumes."""

LAYER_TYPES_ONLY = frozenset({
    "smollm3", "ministral", "dots1", "mellum", "lfm2", "lfm2_moe", "qwen3_5_text", "qwen3_5_moe_text",
})  # fmt: skip
"""Their config must say it by `layer_types`."""

FOUR_TIMES = frozenset({"gpt2", "gpt_bigcode", "gptj", "codegen", "bloom", "falcon", "mpt"})
"""Their feed-forward part is four times as wide as the model, unless the config says otherwise."""

LATENT = frozenset(
    {"deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "minicpm3", "glm4_moe_lite", "mistral4"}
)
"""Multi-head latent attention."""

MAMBA1 = frozenset({"mamba", "falcon_mamba"})
MAMBA2 = frozenset({"mamba2"})
HYBRID = frozenset({"jamba", "bamba", "granitemoehybrid", "nemotron_h", "falcon_h1"})
LINEAR = frozenset({"qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"})
"""Gated delta nets between full attention."""
LIGHTNING = frozenset({"minimax"})
"""Lightning attention between full attention."""
SHORT_CONVOLUTION = frozenset({"lfm2", "lfm2_moe"})

HEAD_DIM_NEEDED = frozenset({
    "gemma", "gemma2", "gemma3_text", "gemma3n_text", "gemma4_text", "qwen3", "qwen3_moe", "qwen3_next", "gpt_oss",
    "qwen3_vl_text", "qwen3_vl_moe_text", "qwen3_5_text", "qwen3_5_moe_text", "llama4_text", "glm", "glm4", "helium",
})  # fmt: skip
"""Their class assumes a head_dim that is not hidden / heads: the config must say it."""

KV_HEADS_NEEDED = frozenset({
    "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "gemma3n_text",
    "gemma4_text", "starcoder2", "glm4_moe", "gpt_oss", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "stablelm",
    "jamba", "bamba", "nemotron_h", "falcon_h1", "llama4_text", "minimax", "minimax_m2", "ministral", "ministral3",
})  # fmt: skip
"""Their class assumes a number of kv heads that is not the number of heads: the config must say it."""

TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where the config of a model with eyes or ears keeps that of its language model."""

RENAMED = {
    "gemma3": "gemma3_text", "gemma3n": "gemma3n_text", "gemma4": "gemma4_text", "llama4": "llama4_text",
    "qwen2_vl": "qwen2_vl_text", "qwen2_5_vl": "qwen2_5_vl_text", "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text", "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text",
    "RefinedWeb": "falcon", "RefinedWebModel": "falcon", "mistral3": "mistral", "glm4v": "glm4v_text",
    "glm4v_moe": "glm4v_moe_text", "RWForCausalLM": "falcon",
}  # fmt: skip
"""Older configs of a model with eyes keep the language model's keys at the top."""

KNOWN = (
    FULL | WINDOW_IF_SET | WINDOW_IF_USED | PATTERN.keys() | LAYER_TYPES_ONLY | LATENT | MAMBA1 | MAMBA2 | HYBRID
    | LINEAR | LIGHTNING
)  # fmt: skip
"""All families whose memory is understood."""
