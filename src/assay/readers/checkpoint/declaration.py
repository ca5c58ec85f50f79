"""What a checkpoint says about its own quantization, wherever a toolkit writes that down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.readers.checkpoint.files import Files, read_object, refuse
from assay.readers.checkpoint.layout import Declaration

SIDECARS: Mapping[str, str] = {
    "hf_quant_config.json": "modelopt",
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "quanto_qmap.json": "quanto",
}
"""Files beside config.json → the quant_method that they stand for where config.json names none."""


def read_declaration(files: Files) -> Declaration:
    """The declaration of a folder; without any, the weights must be plain.

    Raises:
        UnreadableInput: if a file is no JSON, or a declaration names no quant_method and none can be told.
    """
    paths = files.paths
    config = read_object(paths["config.json"]) if "config.json" in paths else {}
    block = _block(config)
    found = [(name, method) for name, method in SIDECARS.items() if name in paths]
    if block is not None and not isinstance(block, dict):
        refuse("quantization_config must be an object", paths["config.json"])
    method = _method(block, config) if block else None
    if block and method is None:
        refuse("quantization_config without a quant_method cannot be judged", paths["config.json"])
    own = next((name for name, of in found if method is None or of == spelled(method)), None)
    sidecar = read_object(paths[own]) if own else None
    if method is None and own is not None:
        method = SIDECARS[own]
    return Declaration(config=config, quantization=block or None, sidecar=sidecar, method=method)


def spelled(method: str | None) -> str | None:
    """A quant_method in one spelling."""
    return None if method is None else method.lower().replace("_", "-")


def _block(config: Mapping[str, Any]) -> Any:
    for outer in (config, config.get("text_config")):
        if isinstance(outer, Mapping):
            for key in ("quantization_config", "compression_config"):
                if outer.get(key) is not None:
                    return outer[key]
    return config.get("quantization") if isinstance(config.get("quantization"), dict) else None


def _method(block: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    if isinstance(block.get("quant_method"), str):
        return str(block["quant_method"])
    if "quant_method" in block:
        return None
    if "config_groups" in block:
        return "compressed-tensors"
    # MLX writes the same block twice, under a name of its own as well.
    return "mlx" if isinstance(config.get("quantization"), dict) else None
