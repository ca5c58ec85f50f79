"""What evidence says besides precision: digests, values of scales, notes, nested folders, files that change."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import header_of, write_file

from assay.core.errors import UnreadableInput
from assay.readers.checkpoint import files as checkpoint_files
from assay.readers.checkpoint import read_checkpoint
from assay.readers.checkpoint.files import HEADER_PREFIX, find, pin, pin_as, visible
from assay.readers.checkpoint.scales import MAX_BYTES

PLAIN = {"model.layers.0.mlp.up_proj.weight": ("BF16", [64, 32]), "lm_head.weight": ("BF16", [16, 32])}


def plain(folder: Path, name: str = "model.safetensors") -> Path:
    """A folder with two unquantized weights."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / name, header_of(PLAIN))
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 1}))
    return folder


def test_small_checkpoints_are_hashed_whole(folder: Path) -> None:
    """Every file by all of its bytes, and the evidence says so."""
    found = read_checkpoint(plain(folder))
    assert found.facts["digests"] == {"whole": 2, "header_and_size": 0}
    assert {a.digest for a in found.artifacts} == {pin(p).digest for p in folder.iterdir()}


def test_large_checkpoints_are_pinned_by_header_and_size(folder: Path) -> None:
    """Beyond the limit weight files get a digest of another kind, which sees size and header."""
    before = read_checkpoint(plain(folder), digest_limit_bytes=0)
    weights = next(a for a in before.artifacts if a.path.endswith(".safetensors"))
    assert weights.digest.startswith(HEADER_PREFIX)
    assert before.facts["digests"] == {"whole": 1, "header_and_size": 1}
    assert pin_as(folder / "model.safetensors", weights.digest) == weights
    assert pin_as(folder / "config.json", "sha256:x") == pin(folder / "config.json")
    data = bytearray((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").write_bytes(data + b"\0")
    assert pin_as(folder / "model.safetensors", weights.digest) != weights
    data[20] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert pin_as(folder / "model.safetensors", weights.digest) != weights


def test_a_file_that_changes_while_it_is_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict about two halves of two checkpoints would be about none."""
    plain(folder)
    real = checkpoint_files.pin

    def meanwhile(path: Path) -> Any:
        if path.name == "config.json":
            (folder / "config.json").write_text('{"num_hidden_layers": 2}')
        return real(path)

    monkeypatch.setattr(checkpoint_files, "pin", meanwhile)
    with pytest.raises(UnreadableInput, match="changed while it was read"):
        read_checkpoint(folder)


@pytest.mark.parametrize("kind", ["fifo", "loop", "folder-link"])
def test_what_is_no_ordinary_file_is_refused(folder: Path, kind: str) -> None:
    """Pipes would hang the reader, links could lead anywhere."""
    plain(folder)
    if kind == "fifo":
        os.mkfifo(folder / "tokenizer.json")
    elif kind == "loop":
        (folder / "tokenizer.json").symlink_to(folder / "tokenizer.json")
    else:
        (folder / "inner").symlink_to(folder.parent)
    with pytest.raises(UnreadableInput):
        find(folder)


def test_a_hub_cache_is_followed(tmp_path: Path) -> None:
    """Snapshots of the Hugging Face cache are links to blobs of the same repository."""
    home = tmp_path / "models--a--b"
    blobs, snapshot = home / "blobs", home / "snapshots" / "1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    write_file(blobs / "x", header_of(PLAIN))
    (snapshot / "model.safetensors").symlink_to(blobs / "x")
    assert len(read_checkpoint(snapshot).modules) == 2


def test_a_single_shard_is_read_with_the_declaration_beside_it(recorded: Callable[..., Path]) -> None:
    """`assay inspect model.safetensors` tells the same precision as the folder."""
    folder = recorded("modelopt-NVFP4")
    alone = read_checkpoint(folder / "model.safetensors")
    assert {m.scheme for m in alone.modules if m.kind == "linear"} == {"NVFP4"}


def test_several_models_in_one_folder_are_one_checkpoint(folder: Path) -> None:
    """The parts of a pipeline keep their folders as prefixes, and what is wrong with one is said with its name."""
    plain(folder / "text_encoder")
    broken = plain(folder / "transformer") / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1])
    found = read_checkpoint(folder)
    assert {m.name.split(".")[0] for m in found.modules} == {"text_encoder", "transformer"}
    assert any(p.startswith("transformer: ") and "truncated" in p for p in found.problems)


def test_what_lies_beside_is_noted_and_not_judged(folder: Path) -> None:
    """A second copy in another format and weights in folders do not count twice."""
    plain(folder)
    write_file(folder / "consolidated.safetensors", header_of(PLAIN))
    plain(folder / "original")
    found = read_checkpoint(folder)
    assert len(found.modules) == 2
    assert sum("not judged" in n for n in found.facts["notes"]) == 2


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (b"\x00\x00\x80\x7f", "not finite"),
        (b"\x00\x00\xc0\x7f", "not finite"),
        (b"\x00\x00\x00\x00", "all of 1 values are zero"),
        (b"\x00\x00\x80\x3f", None),
    ],
)
def test_a_broken_scale_is_a_problem(recorded: Callable[..., Path], value: bytes, word: str | None) -> None:
    """Infinities, NaN and zero in one scale of one module; 1.0 is in order."""
    folder = recorded("modelopt-FP8")
    path, name = folder / "model.safetensors", "model.layers.0.mlp.up_proj.weight_scale"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8 : 8 + length])[name]["data_offsets"]
    data[8 + length + begin : 8 + length + end] = value
    path.write_bytes(data)
    found = read_checkpoint(folder)
    problems = {m.name: m.problems for m in found.modules if m.problems}
    assert list(problems) == ([name.removesuffix(".weight_scale")] if word else [])
    assert word is None or word in problems[name.removesuffix(".weight_scale")][0]
    assert found.facts["scales"]["bytes_read"] <= MAX_BYTES


def test_one_module_unlike_all_others_is_a_problem(recorded: Callable[..., Path]) -> None:
    """A companion of another dtype, or one that is missing, in one layer of many."""

    def change(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        tensors["model.layers.0.mlp.up_proj.weight_scale"] = ["F16", [384, 1]]

    problems = read_checkpoint(recorded("llmcompressor-W8A8", change)).problems
    assert any("weight_scale is F16 in 1 of the INT8 modules" in p for p in problems)


def test_a_name_from_a_file_cannot_write_to_the_terminal(folder: Path) -> None:
    """Control characters in tensor names are a problem, and are shown as text."""
    write_file(folder / "model.safetensors", header_of({"a\x1b[2J.weight": ("BF16", [2, 2])}))
    problems = read_checkpoint(folder).problems
    assert any("control characters" in p for p in problems)
    assert all(p.isprintable() for p in problems)
    assert visible("x" * 500, 80).endswith("...")


def test_a_missing_shard_is_seen_without_an_index(folder: Path) -> None:
    """The names say how many there should be."""
    write_file(folder / "model-00001-of-00003.safetensors", header_of(PLAIN))
    assert any("2 of 3 shards are missing" in p for p in read_checkpoint(folder).problems)
