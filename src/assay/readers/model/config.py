"""config.json → what each layer keeps. Nothing is guessed: what is missing is named and the answer is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.core.fit import Keeps, LayerGroup, ModelShape
from assay.readers.model.families import (
    FOUR_TIMES,
    HEAD_DIM_NEEDED,
    HYBRID,
    KNOWN,
    KV_HEADS_NEEDED,
    LATENT,
    LAYER_TYPES_ONLY,
    LIGHTNING,
    LINEAR,
    MAMBA1,
    MAMBA2,
    PATTERN,
    RENAMED,
    SHORT_CONVOLUTION,
    TEXT_PARTS,
    WINDOW_IF_SET,
    WINDOW_IF_USED,
)
from assay.readers.model.values import Values

_MOST_LAYERS = 10_000
_FULL, _SLIDING, _CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
_NAMES: Mapping[str, str] = {
    "attention": _FULL, "full": _FULL, "global": _FULL, "mamba": "state", "mamba2": "state", "linear_attention": "state",
    "conv": "state", "short_conv": "state", "recurrent": "state", "moe": "nothing", "mlp": "nothing",
    "sliding": _SLIDING, "local": _SLIDING, "chunked": _CHUNKED, _FULL: _FULL, _SLIDING: _SLIDING, _CHUNKED: _CHUNKED,
    "hybrid": "hybrid", "deepseek_sparse_attention": _FULL,
}  # fmt: skip
_NEMOTRON: Mapping[str, str] = {"M": "state", "*": _FULL, "-": "nothing", "E": "nothing"}


def shape_of_config(config: Mapping[str, Any], source: str = "") -> ModelShape:
    """The shape of a model from its config alone. Never raises: an empty or absurd config is `unknown`.

    Args:
        config: config.json, parsed.
        source: what the model is called in messages.
    """
    text, family, notes = _text_part(config)
    values = Values(text)
    layers = _layers(values, family)
    heads, head_dim = values.number("num_attention_heads", "n_head", "n_heads"), _head_dim(values, family)
    return ModelShape(
        source=source,
        architecture=family[:80],
        layers=() if values.unknown else tuple(layers),
        hidden=values.number("hidden_size", "n_embd", "d_model"),
        feed_forward=_feed_forward(values, family),
        heads=heads,
        head_elements=heads * head_dim if heads and head_dim else None,
        vocabulary=values.number("vocab_size", "padded_vocab_size"),
        experts=values.number("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
        experts_used=values.number("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_top_k"),
        context_tokens=values.number("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
        dtype=_dtype(values, Values(config)),
        unknown=tuple(values.unknown),
        notes=tuple(notes),
    )


def _feed_forward(values: Values, family: str) -> int | None:
    found = values.number(
        "moe_intermediate_size",
        "intermediate_size",
        "ffn_hidden_size",
        "ffn_dim",
        "n_inner",
        "ffn_intermediate_size",
    )
    nested = values.data.get("ffn_config")
    if found is None and isinstance(nested, Mapping):
        found = Values(nested).number("ffn_hidden_size")
    if found is None and family in FOUR_TIMES:
        hidden = values.number("hidden_size", "n_embd", "d_model")
        found = 4 * hidden if hidden else None
    return found


def _text_part(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], str, list[str]]:
    """The language model's own config, its family, and what was left aside."""
    outer = _family(config)
    for name in TEXT_PARTS:
        inner = config.get(name)
        if isinstance(inner, Mapping) and inner:
            deeper, family, notes = _text_part(inner)
            family = family or RENAMED.get(outer, outer)
            return deeper, family, [*notes, f"a {outer or 'composed'} model: the language part is reckoned"]
    return config, RENAMED.get(outer, outer), []


def _family(config: Mapping[str, Any]) -> str:
    name = config.get("model_type")
    return name if isinstance(name, str) else ""


def _dtype(*places: Values) -> str:
    for values in places:
        for name in ("dtype", "torch_dtype"):
            if values.text(name):
                return values.text(name).removeprefix("torch.")[:20]
    return ""


def _layers(values: Values, family: str) -> Iterable[LayerGroup]:
    if family not in KNOWN:
        values.gap(f"model_type {family[:60]!r} is not known" if family else "model_type")
        return ()
    if values.flag("is_encoder_decoder"):
        values.gap("encoder-decoder: what cross attention keeps is not reckoned")
        return ()
    if values.flag("use_bidirectional_attention"):
        values.gap("use_bidirectional_attention: what its windows keep")
    if values.has("cross_attention_layers"):
        values.gap("cross_attention_layers: what they keep depends on the images")
        return ()
    count = values.need("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if count > _MOST_LAYERS:
        values.gap(f"num_hidden_layers of {count}")
        return ()
    if family in LATENT:
        return _latent(values, count)
    kinds = _kinds(values, family, count)
    shared = values.number("num_kv_shared_layers") or 0
    if 0 < shared < count and not values.unknown:
        kinds = [*kinds[: count - shared], *("nothing" for _ in range(shared))]
    return _grouped(values, family, kinds)


def _kinds(values: Values, family: str, count: int) -> Sequence[str]:
    """What each layer is: full_attention, sliding_attention, chunked_attention, state, hybrid or nothing."""
    said = values.words("layer_types", "layers_block_type", "block_types")
    if said is not None:
        return _said(values, said, count)
    if family in MAMBA1 | MAMBA2:
        return ["state"] * count
    if family == "falcon_h1":
        return ["hybrid"] * count
    if family in HYBRID:
        return _hybrid(values, family, count)
    if family in LINEAR:
        every = values.number("full_attention_interval") or 4
        return [_FULL if (i + 1) % every == 0 else "state" for i in range(count)]
    if family in LIGHTNING:
        listed = values.words("attn_type_list")
        if listed is None or len(listed) != count:
            values.gap("attn_type_list")
            return []
        return [_FULL if word == "1" else "state" for word in listed]
    if family in LAYER_TYPES_ONLY:
        values.gap("layer_types")
        return []
    return _windows(values, family, count)


def _said(values: Values, said: Sequence[str], count: int) -> Sequence[str]:
    if len(said) != count:
        values.gap(f"layer_types names {len(said)} layers of {count}")
        return []
    strange = sorted({word for word in said if word not in _NAMES})
    if strange:
        values.gap(f"layer type {strange[0]!r}")
        return []
    return [_NAMES[word] for word in said]


def _windows(values: Values, family: str, count: int) -> Sequence[str]:
    if family in WINDOW_IF_SET:
        return [_SLIDING if values.number("sliding_window") else _FULL] * count
    if family in WINDOW_IF_USED:
        if not values.flag("use_sliding_window") or not values.number("sliding_window"):
            return [_FULL] * count
        first = values.need("max_window_layers")
        return [_FULL if i < first else _SLIDING for i in range(count)]
    if family in PATTERN:
        key, every, assumed = PATTERN[family]
        every = values.number("sliding_window_pattern", "_sliding_window_pattern") or every
        if not values.number(key) and assumed is None:
            if family == "exaone4":  # its smaller sizes have no window
                return [_FULL] * count
            values.gap(key)
        word = _CHUNKED if key == "attention_chunk_size" else _SLIDING
        return [_FULL if (i + 1) % every == 0 else word for i in range(count)]
    if values.number("sliding_window") and values.data.get("use_sliding_window") is not False:
        values.gap("sliding_window: how this family uses it")
    return [_FULL] * count


def _hybrid(values: Values, family: str, count: int) -> Sequence[str]:
    if family == "jamba":
        period, offset = values.need("attn_layer_period"), values.number("attn_layer_offset")
        if offset is None or not period:
            values.gap("attn_layer_offset")
            return []
        return [_FULL if i % period == offset else "state" for i in range(count)]
    if family == "bamba":
        indices = values.words("attn_layer_indices")
        if indices is None:
            values.gap("attn_layer_indices")
            return []
        return [_FULL if str(i) in indices else "state" for i in range(count)]
    pattern = values.text("hybrid_override_pattern")
    if family == "nemotron_h" and len(pattern) == count and set(pattern) <= _NEMOTRON.keys():
        return [_NEMOTRON[c] for c in pattern]
    values.gap("hybrid_override_pattern" if family == "nemotron_h" else "layer_types")
    return []


def _grouped(values: Values, family: str, kinds: Sequence[str]) -> Iterable[LayerGroup]:
    if values.unknown:
        return ()
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    made: list[LayerGroup] = []
    for kind, count in counts.items():
        if kind in {_FULL, _SLIDING, _CHUNKED, "hybrid"}:
            made.append(_attention(values, family, kind, count))
        if kind in {"state", "hybrid"}:
            made.append(LayerGroup(keeps=Keeps.STATE, count=count, state_elements=_state(values, family)))
        if kind == "nothing":
            made.append(LayerGroup(keeps=Keeps.NOTHING, count=count))
    return made


def _attention(values: Values, family: str, kind: str, count: int) -> LayerGroup:
    heads, head_dim = _kv_heads(values, family), _head_dim(values, family)
    if family == "gemma4_text" and kind == _FULL:
        head_dim = values.number("global_head_dim") or head_dim
        if values.flag("attention_k_eq_v"):
            heads = values.need("num_global_key_value_heads")
    elements = heads * (head_dim or 0)
    window = None
    if kind == _SLIDING:
        assumed = PATTERN.get(family, ("", 0, None))[2]
        window = values.number("sliding_window") or assumed or values.need("sliding_window")
    elif kind == _CHUNKED:
        window = values.need("attention_chunk_size")
    return LayerGroup(
        keeps=Keeps.WINDOW if window else Keeps.FULL,
        count=count,
        key_elements=elements,
        value_elements=elements,
        window_tokens=window or None,
    )


def _kv_heads(values: Values, family: str) -> int:
    if family == "falcon":
        if values.flag("new_decoder_architecture"):
            return values.need("num_kv_heads", "n_head_kv")
        return 1 if values.flag("multi_query") else values.need("num_attention_heads", "n_head")
    if family == "gpt_bigcode":
        return 1 if values.flag("multi_query") else values.need("n_head")
    if family == "chatglm" and values.flag("multi_query_attention"):
        return values.need("multi_query_group_num")
    inner = values.data.get("attn_config")
    if isinstance(inner, Mapping) and inner.get("kv_n_heads") is not None:
        nested = Values(inner, values.unknown)
        return nested.need("kv_n_heads")
    if values.has("num_key_value_heads"):
        return values.need("num_key_value_heads")
    if family in KV_HEADS_NEEDED or family == "dbrx":
        return values.need("num_key_value_heads")
    return values.need("num_attention_heads", "n_head", "n_heads")


def _head_dim(values: Values, family: str) -> int | None:
    if values.has("head_dim") or family in HEAD_DIM_NEEDED:
        return values.need("head_dim") if not _stateless(family) else values.number("head_dim")
    if values.has("kv_channels"):
        return values.need("kv_channels")
    hidden = values.number("hidden_size", "n_embd", "d_model")
    heads = values.number("num_attention_heads", "n_head", "n_heads")
    if not hidden or not heads:
        if not _stateless(family):
            values.gap("hidden_size and num_attention_heads, or head_dim")
        return None
    if hidden % heads:
        values.gap(f"head_dim: hidden_size {hidden} is no multiple of {heads} heads")
        return None
    return hidden // heads


def _stateless(family: str) -> bool:
    """Families in which no layer attends."""
    return family in MAMBA1 | MAMBA2 or family not in KNOWN


def _latent(values: Values, count: int) -> Iterable[LayerGroup]:
    rank, rope = values.need("kv_lora_rank"), values.need("qk_rope_head_dim")
    heads = values.need("num_attention_heads")
    nope, value = values.need("qk_nope_head_dim"), values.need("v_head_dim")
    if values.unknown:
        return ()
    index = (values.number("index_head_dim") or 0) if values.has("index_topk") else 0
    group = LayerGroup(
        keeps=Keeps.LATENT,
        count=count,
        latent_elements=rank + rope + index,
        key_elements=heads * (nope + rope),
        value_elements=heads * value,
    )
    return (group,)


def _state(values: Values, family: str) -> int:
    """Elements of one sequence's state in one layer, as llama.cpp reckons them: convolution of kernel - 1 columns."""
    if family in SHORT_CONVOLUTION:
        return values.need("hidden_size") * max(0, values.need("conv_L_cache") - 1)
    if family in LIGHTNING:
        return values.need("num_attention_heads") * (_head_dim(values, family) or 0) ** 2
    if family in LINEAR:
        keys = values.need("linear_num_key_heads") * values.need("linear_key_head_dim")
        heads, width = values.need("linear_num_value_heads"), values.need("linear_value_head_dim")
        convolution = (2 * keys + heads * width) * max(0, values.need("linear_conv_kernel_dim") - 1)
        return convolution + heads * width * values.need("linear_key_head_dim")
    if family in MAMBA1 | {"jamba"}:
        hidden = values.need("hidden_size", "d_model")
        inner = values.number("intermediate_size", "d_inner") if family != "jamba" else None
        inner = inner or hidden * values.need("mamba_expand", "expand")
        kernel, state = values.need("mamba_d_conv", "conv_kernel"), values.need("mamba_d_state", "state_size")
        return inner * (max(0, kernel - 1) + state)
    heads = values.need("mamba_n_heads", "mamba_num_heads", "num_heads")
    width = values.need("mamba_d_head", "mamba_head_dim", "head_dim")
    state = values.need("mamba_d_state", "ssm_state_size", "state_size")
    groups = values.need("mamba_n_groups", "n_groups")
    kernel = values.need("mamba_d_conv", "conv_kernel")
    return max(0, kernel - 1) * (heads * width + 2 * groups * state) + heads * width * state
