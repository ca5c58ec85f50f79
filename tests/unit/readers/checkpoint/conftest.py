"""Checkpoint folders for the tests of the reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import header_of, write_file

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty checkpoint folder."""
    path = tmp_path / "checkpoint"
    path.mkdir()
    return path


@pytest.fixture
def recorded(folder: Path) -> Callable[..., Path]:
    """A checkpoint folder with the header and declaration that a real toolkit wrote (facts/lab.md §4).

    `change` may edit the tensors before they are written.
    """

    def make(name: str, change: Callable[[dict[str, Any], dict[str, Any]], None] | None = None) -> Path:
        found = json.loads((RECORDED / f"{name}.json").read_text())
        tensors = found["tensors"]
        if change is not None:
            change(tensors, found["config"])
        pairs = {n: (dtype, shape) for n, (dtype, shape) in tensors.items()}
        write_file(folder / "model.safetensors", header_of(pairs, found["metadata"]))
        (folder / "config.json").write_text(json.dumps(found["config"]))
        if "hf_quant_config" in found:
            (folder / "hf_quant_config.json").write_text(json.dumps(found["hf_quant_config"]))
        return folder

    return make
