"""The committed model: the size it claims, in bfloat16, and nothing of the training in its tokenizer."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path

import pytest

MODEL = Path(__file__).resolve().parents[3] / "examples" / "release" / "model"


def header() -> dict:
    """The safetensors header, by the standard library."""
    data = (MODEL / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = json.loads(data[8 : 8 + length])
    tensors.pop("__metadata__", None)
    return tensors


def test_parameters_and_precision():
    """541,568 parameters, every tensor in BF16."""
    tensors = header()
    assert sum(math.prod(tensor["shape"]) for tensor in tensors.values()) == 541_568
    assert {tensor["dtype"] for tensor in tensors.values()} == {"BF16"}


def test_config_agrees_with_the_tensors():
    """The declared shape is the stored one: hidden 128, 3 layers, feed-forward 256, 384 tokens, untied."""
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    tensors = header()
    assert (
        tensors["model.embed_tokens.weight"]["shape"]
        == [config["vocab_size"], config["hidden_size"]]
        == [384, 128]
    )
    assert tensors["lm_head.weight"]["shape"] == [384, 128]
    assert (
        tensors["model.layers.2.mlp.up_proj.weight"]["shape"]
        == [config["intermediate_size"], 128]
        == [256, 128]
    )
    assert "model.layers.3.mlp.up_proj.weight" not in tensors
    assert config["dtype"] == "bfloat16"
    assert config["tie_word_embeddings"] is False


def test_tokenizer_carries_no_padding_or_truncation():
    """What batches need in training does not leak into the released tokenizer."""
    tokenizer = json.loads((MODEL / "tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer["padding"] is None
    assert tokenizer["truncation"] is None
    assert len(tokenizer["model"]["vocab"]) == 384
    settings = json.loads((MODEL / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert not {"is_local", "local_files_only", "name_or_path"} & set(settings)


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "generation_config.json"],
)
def test_everybody_may_read_it(name):
    """A server under another user can read every file."""
    assert (MODEL / name).stat().st_mode & 0o044 == 0o044


def test_report_and_card_speak_of_these_bytes():
    """The report and the README name the digest of these weights, and an accuracy of at least 99 %."""
    digest = hashlib.sha256((MODEL / "model.safetensors").read_bytes()).hexdigest()
    report = json.loads((MODEL / "train_report.json").read_text(encoding="utf-8"))
    assert report["sha256"] == digest
    assert digest in (MODEL / "README.md").read_text(encoding="utf-8")
    assert report["items"] == 2100
    assert report["accuracy"]["all"] >= 0.99
    assert report["parameters"] == 541_568
