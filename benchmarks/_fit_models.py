"""Models with random weights for the memory benchmark: GGUF files of several architectures, and checkpoint folders.

A GGUF file is made of one row of random weights repeated: memory depends on shapes and types alone.
"""

# ruff: noqa: PLC0415, S106  (the vendors are optional; the names of special tokens are no passwords)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HEAD_DIM = 64
Row = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Shape:
    """The dimensions of a model.

    Attributes:
        kind: llama, qwen2, qwen3, gemma3, mixtral or mamba.
        window: tokens of a sliding window; only gemma3 has one.
    """

    kind: str
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    window: int = 512
    experts: int = 4
    experts_used: int = 2
    context: int = 16384


SHAPES: Mapping[str, Shape] = {
    "llama-5m": Shape("llama", 256, 768, 5, 4, 2, 4096),
    "llama-30m": Shape("llama", 512, 1536, 8, 8, 4, 8192),
    "llama-120m": Shape("llama", 768, 2048, 17, 12, 4, 16384),
    "llama-400m": Shape("llama", 1024, 4096, 24, 16, 8, 32000),
    "qwen2-60m": Shape("qwen2", 512, 2048, 10, 8, 2, 32768),
    "qwen3-100m": Shape("qwen3", 768, 2304, 12, 12, 4, 24576),
    "gemma3-60m": Shape("gemma3", 512, 2048, 12, 8, 4, 16384),
    "mixtral-120m": Shape("mixtral", 512, 1024, 12, 8, 4, 16384),
    "mamba-60m": Shape("mamba", 512, 0, 20, 0, 0, 16384),
    "llama-200m": Shape("llama", 1024, 2816, 12, 16, 4, 24000),
    "qwen2-150m": Shape("qwen2", 896, 2432, 14, 14, 2, 40960),
    "qwen3-70m": Shape("qwen3", 640, 1792, 10, 10, 2, 16384),
    "gemma3-130m": Shape("gemma3", 768, 3072, 18, 12, 4, 32768, window=1024),
    "mixtral-250m": Shape("mixtral", 768, 1280, 8, 12, 4, 16384, experts=8),
    "mamba-120m": Shape("mamba", 768, 0, 24, 0, 0, 24576),
}
"""The models of the benchmark. Nothing was fitted on the last six, but for one configuration of llama-200m."""


def write_gguf(path: Path, shape: Shape, kind: str) -> Path:
    """Write a GGUF file whose matrices are of type `kind`; vectors are F32."""
    import gguf

    arch = "llama" if shape.kind == "mixtral" else shape.kind
    writer = gguf.GGUFWriter(path, arch)
    _hyperparameters(writer, arch, shape)
    _tokenizer(writer, shape.vocab)
    random = np.random.default_rng(0)
    for name, dims in _tensors(shape):
        plain = len(dims) == 1 or "conv1d" in name or name.endswith(("ssm_a", "gate_inp.weight"))
        type_ = gguf.GGMLQuantizationType["F32" if plain else kind]
        row = gguf.quants.quantize(random.normal(0, 0.02, (1, dims[-1])).astype(np.float32), type_)
        data = np.ascontiguousarray(np.broadcast_to(row[0], (*dims[:-1], row.shape[1])))
        writer.add_tensor(name, data, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _hyperparameters(writer: Any, arch: str, shape: Shape) -> None:
    counts = {
        "context_length": shape.context,
        "embedding_length": shape.hidden,
        "block_count": shape.layers,
        "feed_forward_length": shape.ffn,
        "vocab_size": shape.vocab,
        "attention.head_count": shape.heads,
    }
    if shape.kind == "mamba":
        inner = {
            "inner_size": 2 * shape.hidden,
            "conv_kernel": 4,
            "state_size": 16,
            "time_step_rank": shape.hidden // 16,
        }
        counts |= {f"ssm.{key}": value for key, value in inner.items()}
    else:
        counts |= {
            "attention.head_count_kv": shape.kv_heads,
            "attention.key_length": HEAD_DIM,
            "attention.value_length": HEAD_DIM,
            "rope.dimension_count": HEAD_DIM,
        }
    if shape.kind == "gemma3":
        counts["attention.sliding_window"] = shape.window
    if shape.kind == "mixtral":
        counts |= {"expert_count": shape.experts, "expert_used_count": shape.experts_used}
    for key, value in counts.items():
        writer.add_uint32(f"{arch}.{key}", value)
    writer.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32(f"{arch}.rope.freq_base", 10000.0)


def _tensors(shape: Shape) -> Iterator[Row]:
    """Name and dimensions, outermost first."""
    yield "token_embd.weight", (shape.vocab, shape.hidden)
    yield "output_norm.weight", (shape.hidden,)
    for layer in range(shape.layers):
        for name, dims in _mamba(shape) if shape.kind == "mamba" else _attention(shape):
            yield f"blk.{layer}.{name}", dims


def _attention(shape: Shape) -> Iterator[Row]:
    hidden, query, kv = shape.hidden, shape.heads * HEAD_DIM, shape.kv_heads * HEAD_DIM
    yield "attn_norm.weight", (hidden,)
    yield "attn_q.weight", (query, hidden)
    yield "attn_k.weight", (kv, hidden)
    yield "attn_v.weight", (kv, hidden)
    yield "attn_output.weight", (hidden, query)
    yield "ffn_norm.weight", (hidden,)
    if shape.kind == "qwen2":
        yield "attn_q.bias", (query,)
        yield "attn_k.bias", (kv,)
        yield "attn_v.bias", (kv,)
    if shape.kind in {"qwen3", "gemma3"}:
        yield "attn_q_norm.weight", (HEAD_DIM,)
        yield "attn_k_norm.weight", (HEAD_DIM,)
    if shape.kind == "gemma3":
        yield "post_attention_norm.weight", (hidden,)
        yield "post_ffw_norm.weight", (hidden,)
    if shape.kind == "mixtral":
        yield "ffn_gate_inp.weight", (shape.experts, hidden)
        for part in ("gate", "up"):
            yield f"ffn_{part}_exps.weight", (shape.experts, shape.ffn, hidden)
        yield "ffn_down_exps.weight", (shape.experts, hidden, shape.ffn)
    else:
        for part in ("gate", "up"):
            yield f"ffn_{part}.weight", (shape.ffn, hidden)
        yield "ffn_down.weight", (hidden, shape.ffn)


def _mamba(shape: Shape) -> Iterator[Row]:
    hidden, inner, rank, state = shape.hidden, 2 * shape.hidden, shape.hidden // 16, 16
    yield "attn_norm.weight", (hidden,)
    yield "ssm_in.weight", (2 * inner, hidden)
    yield "ssm_conv1d.weight", (inner, 4)
    yield "ssm_conv1d.bias", (inner,)
    yield "ssm_x.weight", (rank + 2 * state, inner)
    yield "ssm_dt.weight", (inner, rank)
    yield "ssm_dt.bias", (inner,)
    yield "ssm_a", (inner, state)
    yield "ssm_d", (inner,)
    yield "ssm_out.weight", (hidden, inner)


def byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in byte-level tokenizers."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(rest)) for b in range(256)]


def _tokenizer(writer: Any, vocab: int) -> None:
    import gguf

    tokens = [*byte_alphabet(), *(f"<unused_{i}>" for i in range(vocab - 259)), "th", "<s>", "</s>"]
    kinds = (
        [gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.UNUSED] * (vocab - 258) + [gguf.TokenType.CONTROL] * 2
    )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["t h"])  # llama.cpp wants at least one
    writer.add_bos_token_id(vocab - 2)
    writer.add_eos_token_id(vocab - 1)
    writer.add_add_bos_token(False)


def write_checkpoint(folder: Path, shape: Shape, dtype: str = "bfloat16") -> Path:
    """Write a checkpoint folder that transformers loads, with a byte-level tokenizer."""
    import torch
    import transformers

    library: Any = transformers  # its loaders are not typed
    made = library.AutoModelForCausalLM.from_config(_config(shape, dtype))
    made = made.to(getattr(torch, dtype))
    made.save_pretrained(folder)
    _folder_tokenizer(folder, shape.vocab)
    return folder


def _config(shape: Shape, dtype: str) -> Any:
    import transformers

    names = {
        "llama": "Llama",
        "qwen2": "Qwen2",
        "qwen3": "Qwen3",
        "gemma3": "Gemma3Text",
        "mixtral": "Mixtral",
    }
    more: dict[str, Any] = {}
    if shape.kind == "gemma3":
        more = {"sliding_window": shape.window, "query_pre_attn_scalar": HEAD_DIM}
    if shape.kind == "mixtral":
        more = {"num_local_experts": shape.experts, "num_experts_per_tok": shape.experts_used}
    if shape.kind == "mamba":
        return transformers.MambaConfig(
            vocab_size=shape.vocab, hidden_size=shape.hidden, num_hidden_layers=shape.layers, dtype=dtype
        )
    return getattr(transformers, f"{names[shape.kind]}Config")(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=HEAD_DIM,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=shape.vocab - 2,
        eos_token_id=shape.vocab - 1,
        pad_token_id=shape.vocab - 1,
        dtype=dtype,
        **more,
    )


def _folder_tokenizer(folder: Path, vocab: int) -> None:
    import tokenizers  # type: ignore[import-untyped]
    import transformers

    words = [*byte_alphabet(), *(f"<unused_{i}>" for i in range(vocab - 258)), "<s>", "</s>"]
    made = tokenizers.Tokenizer(tokenizers.models.BPE({word: i for i, word in enumerate(words)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    library: Any = transformers
    fast = library.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    fast.save_pretrained(folder)
