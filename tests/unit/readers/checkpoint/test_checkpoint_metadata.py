"""Metadata: what is recorded of tokenizer, template and config, and what makes no difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import header_of, write_file

from assay.readers.checkpoint import read_checkpoint

TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "model": {"merges": ["a b"]},
}


@pytest.fixture
def metadata(folder: Path) -> Any:
    """Reads the metadata of a folder with the given files."""

    def read(**files: Any) -> dict[str, Any]:
        write_file(folder / "model.safetensors", header_of({"lm_head.weight": ("BF16", [2, 2])}))
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name.replace("__", ".")).write_text(text)
        return dict(read_checkpoint(folder).metadata)

    return read


def test_truncation_stands_apart_from_the_vocabulary(metadata: Any) -> None:
    """Calibration leaves truncation and padding behind: the vocabulary's digest is not changed by them."""
    clean = metadata(tokenizer__json=TOKENIZER)["tokenizer"]
    leaked = metadata(tokenizer__json={**TOKENIZER, "truncation": {"max_length": 64}})["tokenizer"]
    assert clean["digest"] == leaked["digest"]
    assert leaked["truncation"] == {"max_length": 64}


def test_both_spellings_of_merges_are_one(metadata: Any) -> None:
    """Tokenizers 0.20 began to write pairs."""
    pairs = {**TOKENIZER, "model": {"merges": [["a", "b"]]}}
    assert metadata(tokenizer__json=TOKENIZER)["tokenizer"] == metadata(tokenizer__json=pairs)["tokenizer"]


def test_a_changed_vocabulary_changes_the_digest(metadata: Any) -> None:
    """Another merge makes another tokenizer."""
    other = {**TOKENIZER, "model": {"merges": ["a c"]}}
    assert metadata(tokenizer__json=TOKENIZER)["tokenizer"] != metadata(tokenizer__json=other)["tokenizer"]


def test_the_chat_template_is_its_text_wherever_it_lies(metadata: Any, folder: Path) -> None:
    """Moving the template between files is no change."""
    inside = metadata(tokenizer_config__json={"chat_template": "{{ x }}\n"})["chat_template"]
    (folder / "tokenizer_config.json").unlink()
    beside = metadata(chat_template__jinja="{{ x }}\n")["chat_template"]
    assert inside["digest"] == beside["digest"]
    assert (inside["where"], beside["where"]) == ("tokenizer_config.json", "chat_template.jinja")


def test_the_declaration_of_quantization_is_no_metadata(metadata: Any) -> None:
    """quantization_config and the writer's version are expected to differ."""
    found = metadata(config__json={"vocab_size": 4, "transformers_version": "5", "compression_config": None})
    assert "transformers_version" not in found["config"]
    assert found["config"]["vocab_size"] == 4
