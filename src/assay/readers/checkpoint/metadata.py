"""What must survive besides the weights: config fields, generation settings, tokenizer, chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.canon import digest_bytes
from assay.readers.checkpoint.files import MAX_JSON_BYTES, parse_json, plain, read_bytes, read_object

_COMPANIONS = (
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "image_processor_config.json",
)
_BINARY = frozenset({"tokenizer.model"})
_NOT_METADATA = ("quantization_config", "transformers_version")


def read_metadata(files: Mapping[str, Path], config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a release must keep, as plain JSON.

    Args:
        files: relative name → path of every file of the checkpoint.
        config: config.json, parsed.

    Raises:
        UnreadableInput: if one of the files is not what its name says.
    """
    metadata: dict[str, Any] = {
        "config": plain({k: v for k, v in config.items() if k not in _NOT_METADATA}),
        "files": {},
    }
    if "generation_config.json" in files:
        metadata["generation_config"] = plain(read_object(files["generation_config.json"]))
    tokenizer_config: dict[str, Any] = {}
    if "tokenizer_config.json" in files:
        tokenizer_config = read_object(files["tokenizer_config.json"])
        kept = {k: v for k, v in tokenizer_config.items() if k != "chat_template"}
        metadata["tokenizer_config"] = plain(kept)
    if "tokenizer.json" in files:
        metadata["tokenizer"] = _tokenizer(read_object(files["tokenizer.json"]))
    template = _chat_template(files, tokenizer_config)
    if template is not None:
        metadata["chat_template"] = template
    for name, path in files.items():
        if name in _COMPANIONS or name.endswith(".py"):
            metadata["files"][name] = _content_digest(name, path)
    return metadata


def _tokenizer(value: dict[str, Any]) -> dict[str, Any]:
    """Truncation and padding, which calibration leaves behind, apart from what decides the token ids."""
    rest = {k: v for k, v in value.items() if k not in {"truncation", "padding"}}
    model = rest.get("model")
    if isinstance(model, dict) and isinstance(model.get("merges"), list):
        # Written as "a b" by older and as ["a", "b"] by newer versions of the tokenizers library.
        merges = [" ".join(map(str, m)) if isinstance(m, list) else m for m in model["merges"]]
        rest["model"] = {**model, "merges": merges}
    return {
        "truncation": plain(value.get("truncation")),
        "padding": plain(value.get("padding")),
        "digest": _json_digest(rest),
        "added_tokens": len(value["added_tokens"]) if isinstance(value.get("added_tokens"), list) else 0,
    }


def _chat_template(files: Mapping[str, Path], tokenizer_config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The text's digest wherever it lies: its place may change, its text may not."""
    text: Any = None
    where = ""
    if "chat_template.jinja" in files:
        where, text = "chat_template.jinja", _utf8(read_bytes(files["chat_template.jinja"]))
    elif "chat_template.json" in files:
        where, text = "chat_template.json", read_object(files["chat_template.json"]).get("chat_template")
    elif tokenizer_config.get("chat_template") is not None:
        where, text = "tokenizer_config.json", tokenizer_config["chat_template"]
    if text is None:
        return None
    digest = (
        digest_bytes(text.encode("utf-8", "backslashreplace"))
        if isinstance(text, str)
        else _json_digest(text)
    )
    return {"digest": digest, "where": where}


def _content_digest(name: str, path: Path) -> str:
    data = read_bytes(path, MAX_JSON_BYTES)
    if name.endswith(".json"):
        return _json_digest(parse_json(data, path))
    return digest_bytes(data if name in _BINARY else data.replace(b"\r\n", b"\n"))


def _json_digest(value: Any) -> str:
    """Independent of key order and white space, and fast enough for vocabularies of 10 MB."""
    return digest_bytes(json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode())


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
