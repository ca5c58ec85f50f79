"""Write three small GGUF models with random weights: engines serve them at the speed and memory of their size.

    python examples/tune/build_models.py

Their answers are noise. Q8_0, as the rows of a real model would be; one row of weights stands in for all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

HEAD = 64


@dataclass(frozen=True)
class Shape:
    """Dimensions of a Llama."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    context: int = 8192


SHAPES = {
    "120m": Shape(768, 2048, 17, 12, 4, 16384),
    "30m": Shape(512, 1536, 8, 8, 4, 8192),
    "5m": Shape(256, 768, 5, 4, 2, 4096),
}


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and dimensions, outermost first."""
    query, kv = shape.heads * HEAD, shape.kv_heads * HEAD
    yield "token_embd.weight", (shape.vocab, shape.hidden)
    yield "output_norm.weight", (shape.hidden,)
    for layer in range(shape.layers):
        yield f"blk.{layer}.attn_norm.weight", (shape.hidden,)
        yield f"blk.{layer}.attn_q.weight", (query, shape.hidden)
        yield f"blk.{layer}.attn_k.weight", (kv, shape.hidden)
        yield f"blk.{layer}.attn_v.weight", (kv, shape.hidden)
        yield f"blk.{layer}.attn_output.weight", (shape.hidden, query)
        yield f"blk.{layer}.ffn_norm.weight", (shape.hidden,)
        yield f"blk.{layer}.ffn_gate.weight", (shape.ffn, shape.hidden)
        yield f"blk.{layer}.ffn_up.weight", (shape.ffn, shape.hidden)
        yield f"blk.{layer}.ffn_down.weight", (shape.hidden, shape.ffn)


def describe(writer: Any, shape: Shape) -> None:
    """What llama.cpp needs to know of the model."""
    for key, value in {
        "context_length": shape.context,
        "embedding_length": shape.hidden,
        "block_count": shape.layers,
        "feed_forward_length": shape.ffn,
        "vocab_size": shape.vocab,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "rope.dimension_count": HEAD,
    }.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32("llama.rope.freq_base", 10000.0)


def tokenizer(writer: Any, vocab: int) -> None:
    """Bytes, then invented words: every token is text, so that every token is seen in a stream."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    alphabet = [chr(b) if b in printable else chr(next(rest)) for b in range(256)]
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [f"{a}{b}{c}{d}" for a in letters for b in letters for c in letters for d in letters][
        : vocab - 258
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*alphabet, *words, "<s>", "</s>"])
    writer.add_token_types([gguf.TokenType.NORMAL] * (vocab - 2) + [gguf.TokenType.CONTROL] * 2)
    writer.add_token_merges(["a a"])  # llama.cpp wants at least one
    writer.add_bos_token_id(vocab - 2)
    writer.add_eos_token_id(vocab - 1)
    writer.add_add_bos_token(False)


def write(path: Path, shape: Shape) -> None:
    """Write one model."""
    writer = gguf.GGUFWriter(path, "llama")
    describe(writer, shape)
    tokenizer(writer, shape.vocab)
    random = np.random.default_rng(0)
    q8 = gguf.GGMLQuantizationType.Q8_0
    for name, dims in tensors(shape):
        if len(dims) == 1:
            writer.add_tensor(name, np.ones(dims, dtype=np.float32))
            continue
        row = gguf.quants.quantize(random.normal(0, 0.02, (1, dims[-1])).astype(np.float32), q8)
        data = np.ascontiguousarray(np.broadcast_to(row[0], (dims[0], row.shape[1])))
        writer.add_tensor(name, data, raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Write what is not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in SHAPES.items():
        path = folder / f"{name}.gguf"
        if not path.exists():
            part = path.with_suffix(".part")
            write(part, shape)
            part.rename(path)
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
