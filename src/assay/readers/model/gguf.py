"""GGUF header → what each layer keeps, from its tensors where they say it and from its keys where they do not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from assay.core.fit import Keeps, LayerGroup, ModelShape, WeightBytes
from assay.readers.checkpoint.layout import Container, Tensor
from assay.readers.model.values import Values

FULL = frozenset({
    "llama", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe", "phi2", "phi3", "phimoe",
    "gemma", "stablelm", "starcoder", "starcoder2", "gpt2", "gptneox", "gptj", "falcon", "mpt", "bloom", "command-r",
    "olmo", "olmoe", "granite", "granitemoe", "internlm2", "baichuan", "deepseek", "minicpm", "chatglm", "glm4",
    "glm4moe", "dbrx", "arctic", "nemotron", "exaone", "smollm3", "seed_oss", "ernie4_5", "ernie4_5-moe", "hunyuan-moe",
    "hunyuan-dense", "dots1", "bailingmoe", "bailingmoe2", "minimax-m2", "apertus", "arcee", "refact", "codeshell",
    "orion", "xverse", "jais", "deci", "mistral3", "grok", "bitnet", "qwen",
})  # fmt: skip
"""Architectures for which llama.cpp keeps every token in every layer that attends (phi3's window is off there)."""
PATTERN: Mapping[str, int] = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "gpt-oss": 2, "llama4": 4, "exaone4": 4, "olmo2": 4,
}  # fmt: skip
"""Architecture → every how many layers one is full (`set_swa_pattern` in llama.cpp)."""
NO_WINDOW_NEEDED = frozenset({"exaone4", "olmo2"})
"""Their smaller or older models have no window: all layers are full."""
LATENT = frozenset({"deepseek2"})
STATES = frozenset({
    "mamba", "mamba2", "jamba", "falcon-h1", "nemotron_h", "nemotron_h_moe", "granitehybrid", "lfm2", "lfm2moe",
    "qwen3next", "qwen35", "qwen35moe",
})  # fmt: skip
KNOWN = FULL | PATTERN.keys() | LATENT | STATES
_LLAMA4_CHUNK = 8192
REPACKED = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
"""Types of which the CPU backend (x86 with AVX2, measured with xllamacpp 2026.10.11549) makes a second copy."""
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_ASIDE = re.compile(r"(v|a|mm|resampler)\.")


def shape_of_gguf(container: Container, source: str) -> ModelShape:
    """The shape of a GGUF model. Never raises for odd keys: what is missing is named."""
    architecture = container.metadata.get("general.architecture")
    name = architecture if isinstance(architecture, str) else ""
    start = f"{name}."
    values = Values({k[len(start) :]: v for k, v in container.metadata.items() if k.startswith(start)})
    if name not in KNOWN:
        values.gap(f"general.architecture {name[:60]!r} is not known" if name else "general.architecture")
    layers = _layers(values, name, container.tensors) if not values.unknown else ()
    heads = values.number("attention.head_count")
    width = values.number("attention.key_length")
    hidden = values.number("embedding_length")
    if heads and hidden and not width:
        width = hidden // heads
    tokens, merges = (_count(container.metadata.get(f"tokenizer.ggml.{k}")) for k in ("tokens", "merges"))
    return ModelShape(
        source=source,
        format="gguf",
        architecture=name[:80],
        layers=() if values.unknown else tuple(layers),
        hidden=hidden,
        feed_forward=values.number("expert_feed_forward_length") or values.number("feed_forward_length"),
        heads=heads,
        head_elements=heads * width if heads and width else None,
        vocabulary=tokens or values.number("vocab_size"),
        merges=merges,
        experts=values.number("expert_count"),
        experts_used=values.number("expert_used_count"),
        context_tokens=values.number("context_length"),
        dtype="float16",
        weights=weights_of_gguf(container.tensors),
        unknown=(*values.unknown, *_damaged(container)),
        notes=("what stands for `mmproj` beside it is not loaded unless asked for",)
        if any(_ASIDE.match(n) for n in container.tensors)
        else (),
    )


def _count(value: Any) -> int | None:
    """Length of an array; long ones are kept as their count and digest."""
    if isinstance(value, list):
        return len(value)
    found = value.get("count") if isinstance(value, Mapping) else None
    return found if isinstance(found, int) else None


def _damaged(container: Container) -> tuple[str, ...]:
    return tuple(p for p in container.problems if "truncated" in p or "splits" in p)[:3]


def _layers(values: Values, name: str, tensors: Mapping[str, Tensor]) -> Iterable[LayerGroup]:
    count = values.need("block_count")
    blocks: dict[int, dict[str, Tensor]] = {}
    for tensor in tensors.values():
        found = _BLOCK.fullmatch(tensor.name)
        if found and len(found[1]) < 6:
            blocks.setdefault(int(found[1]), {})[found[2]] = tensor
    if not tensors:
        values.gap("tensors: the file holds none")
    if count and len(blocks) != count:
        values.gap(f"block_count is {count}, the tensors are of {len(blocks)} blocks")
    if values.unknown:
        return ()
    made = [g for at, block in sorted(blocks.items()) for g in _block(values, name, block, at, count)]
    return () if values.unknown else _joined(made)


def _joined(groups: Iterable[LayerGroup]) -> list[LayerGroup]:
    counts: dict[LayerGroup, int] = {}
    for group in groups:
        key = group.model_copy(update={"count": 1})
        counts[key] = counts.get(key, 0) + 1
    return [g.model_copy(update={"count": n}) for g, n in counts.items()]


def _block(
    values: Values, name: str, block: Mapping[str, Tensor], at: int, count: int
) -> Iterable[LayerGroup]:
    shared = values.number("attention.shared_kv_layers") or 0
    if any(part.startswith("nextn.") for part in block) or at >= count - shared > 0:
        return [LayerGroup(keeps=Keeps.NOTHING, count=1)]
    made = []
    if any(part.startswith(("ssm_", "shortconv")) for part in block):
        made.append(LayerGroup(keeps=Keeps.STATE, count=1, state_elements=_state(values, block)))
    if "attn_kv_a_mqa.weight" in block:
        made.append(_latent(values, block))
    elif any(part.startswith(("attn_k.", "attn_qkv.")) for part in block):
        made.append(_attention(values, name, block, at))
    elif not made and name not in STATES and name != "deci":
        values.gap(f"block {at} has no tensors of attention that are known here")
    return made or [LayerGroup(keeps=Keeps.NOTHING, count=1)]


def _attention(values: Values, name: str, block: Mapping[str, Tensor], at: int) -> LayerGroup:
    keys = _rows(block.get("attn_k.weight"))
    held = _rows(block.get("attn_v.weight")) if "attn_v.weight" in block else keys
    if not keys:  # queries, keys and values in one tensor: the sizes stand in the keys alone
        heads = _of_layer(values, "attention.head_count_kv", at) or values.need("attention.head_count")
        width = values.number("attention.key_length")
        if width is None and values.need("attention.head_count"):
            width = values.need("embedding_length") // values.need("attention.head_count")
        keys = heads * (width or 0)
        held = heads * (values.number("attention.value_length") or width or 0)
    window = _window(values, name, at)
    return LayerGroup(
        keeps=Keeps.WINDOW if window else Keeps.FULL,
        count=1,
        key_elements=keys,
        value_elements=held,
        window_tokens=window,
    )


def _window(values: Values, name: str, at: int) -> int | None:
    if name not in PATTERN:
        if name != "phi3" and values.number("attention.sliding_window"):
            values.gap(f"attention.sliding_window: which layers of {name} slide")
        return None
    window = values.number("attention.sliding_window")
    if name == "llama4":
        window = values.number("attention.chunk_size") or _LLAMA4_CHUNK
    if not window:
        if name not in NO_WINDOW_NEEDED:
            values.gap("attention.sliding_window")
        return None
    pattern = values.data.get("attention.sliding_window_pattern")
    if isinstance(pattern, list) and at < len(pattern):
        return window if pattern[at] else None
    if isinstance(pattern, Mapping):
        values.gap("attention.sliding_window_pattern is too long to be kept")
        return None
    every = values.number("attention.sliding_window_pattern") or PATTERN[name]
    return window if at % every < every - 1 else None


def _latent(values: Values, block: Mapping[str, Tensor]) -> LayerGroup:
    rank = values.need("attention.kv_lora_rank")
    rows = _rows(block["attn_kv_a_mqa.weight"])
    rope = values.number("rope.dimension_count") or max(0, rows - rank)
    expanded = _rows(block.get("attn_kv_b.weight"))
    heads = values.need("attention.head_count")
    if "attn_k_b.weight" in block:  # the compressed vector alone is kept
        return LayerGroup(keeps=Keeps.LATENT, count=1, latent_elements=rank + rope, key_elements=rank + rope)
    return LayerGroup(
        keeps=Keeps.LATENT, count=1, latent_elements=rank + rope, key_elements=expanded + heads * rope
    )


def _state(values: Values, block: Mapping[str, Tensor]) -> int:
    """As llama.cpp's `n_embd_r` and `n_embd_s`."""
    if any(part.startswith("shortconv") for part in block):
        return values.need("embedding_length") * max(0, values.need("shortconv.l_cache") - 1)
    inner, state = values.need("ssm.inner_size"), values.need("ssm.state_size")
    groups = values.number("ssm.group_count") or 0
    return max(0, values.need("ssm.conv_kernel") - 1) * (inner + 2 * groups * state) + state * inner


def _of_layer(values: Values, name: str, at: int) -> int | None:
    found = values.data.get(name)
    if isinstance(found, list):
        return found[at] if at < len(found) and isinstance(found[at], int) else None
    return values.number(name)


def _rows(tensor: Tensor | None) -> int:
    return tensor.shape[0] if tensor is not None and len(tensor.shape) == 2 else 0


def weights_of_gguf(tensors: Mapping[str, Tensor]) -> WeightBytes:
    """Bytes of a GGUF model, and of those that llama.cpp's CPU backend holds twice."""
    aside: dict[str, int] = {}
    schemes: dict[str, int] = {}
    spans: dict[str, tuple[int, int]] = {}
    tied, repacked = "output.weight" not in tensors, 0
    for t in tensors.values():
        schemes[t.dtype] = schemes.get(t.dtype, 0) + t.size_bytes
        part = "vision" if _ASIDE.match(t.name) else "draft" if ".nextn." in t.name else ""
        if part:
            aside[part] = aside.get(part, 0) + t.size_bytes
            continue
        copied = t.dtype in REPACKED and len(t.shape) > 1 and t.shape[-2] % 8 == 0
        table = t.name == "token_embd.weight"
        if copied and (not table or tied):
            repacked += t.size_bytes
        if not copied or table:
            low, high = spans.get(t.file, (t.start, 0))
            spans[t.file] = (min(low, t.start), max(high, t.start + t.size_bytes))
    return WeightBytes(
        total=sum(schemes.values()),
        aside=aside,
        by_scheme=schemes,
        vectors=sum(t.elements for t in tensors.values() if len(t.shape) < 2),
        elements=sum(t.elements for t in tensors.values()),
        repacked=repacked,
        mapped=sum(high - low for low, high in spans.values()),
        quantized=any(s not in {"F32", "F16", "BF16", "F64"} for s in schemes),
    )
