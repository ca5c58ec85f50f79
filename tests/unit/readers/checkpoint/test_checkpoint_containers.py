"""Containers: what is refused, what is read and wrong, what is read."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import gguf_bytes, header_of, write_file
from hypothesis import given
from hypothesis import strategies as st

from assay.core.checkpoint import Checkpoint
from assay.core.errors import UnreadableInput
from assay.readers.checkpoint import read_checkpoint
from assay.readers.checkpoint.safetensors import MAX_HEADER_BYTES

MODEL = {
    "model.embed_tokens.weight": ("BF16", [8, 4]),
    "model.layers.0.mlp.up_proj.weight": ("BF16", [6, 4]),
    "model.layers.0.mlp.up_proj.bias": ("BF16", [6]),
    "model.norm.weight": ("BF16", [4]),
    "lm_head.weight": ("BF16", [8, 4]),
}


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    """A header with one tensor."""
    shape = list(shape) if isinstance(shape, tuple) else shape
    offsets = list(offsets) if isinstance(offsets, tuple) else offsets
    return {"a.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def test_a_plain_checkpoint_is_read_whole(folder: Path) -> None:
    """Sizes, kinds and digests come from headers and bytes."""
    write_file(folder / "model.safetensors", header_of(MODEL))
    found = read_checkpoint(folder, "source")
    kinds = {m.name: m.kind.value for m in found.modules}
    assert kinds == {
        "lm_head": "head",
        "model.embed_tokens": "embedding",
        "model.layers.0.mlp.up_proj": "linear",
        "model.norm": "norm",
    }
    assert found.weight_bytes == 2 * (32 + 24 + 6 + 4 + 32)
    assert found.parameters == 32 + 24 + 6 + 4 + 32
    assert found.problems == ()
    assert [Path(a.path).name for a in found.artifacts] == ["model.safetensors"]
    assert Checkpoint.from_json(found.to_json()) == found


BROKEN = {
    "header length lies": lambda p: write_file(p, {}, b"", length=10**6),
    "huge header": lambda p: write_file(p, {}, b"", length=MAX_HEADER_BYTES + 1),
    "length of 2**63": lambda p: write_file(p, {}, b"", length=2**63),
    "no JSON": lambda p: write_file(p, b"{nonsense", b""),
    "no object": lambda p: write_file(p, b"[1, 2]", b""),
    "duplicate key": lambda p: write_file(p, b'{"a": 1, "a": 2}', b""),
    "not UTF-8": lambda p: write_file(p, b'{"\xff\xfe": 1}', b""),
    "half a character": lambda p: write_file(p, b'{"\\ud800": 1}', b""),
    "deep nesting": lambda p: write_file(p, b"[" * 100_000, b""),
    "huge number": lambda p: write_file(p, b'{"a": ' + b"9" * 10_000 + b"}", b""),
    "unknown dtype": lambda p: write_file(p, entry("F99"), bytes(8)),
    "dtype is a list": lambda p: write_file(p, entry(["F32"]), bytes(8)),
    "negative shape": lambda p: write_file(p, entry(shape=(-2,)), bytes(8)),
    "boolean shape": lambda p: write_file(p, entry(shape=(True, 2)), bytes(8)),
    "shape overflow": lambda p: write_file(p, entry(shape=(2**40, 2**40)), bytes(8)),
    "shape is text": lambda p: write_file(p, entry(shape="2"), bytes(8)),
    "offsets reversed": lambda p: write_file(p, entry(offsets=(8, 0)), bytes(8)),
    "offsets do not fit": lambda p: write_file(p, entry(offsets=(0, 12)), bytes(12)),
    "hole": lambda p: write_file(p, entry(offsets=(8, 16)), bytes(16)),
    "overlap": lambda p: write_file(
        p, {**entry(), "b.weight": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, bytes(12)
    ),
    "extra field": lambda p: write_file(p, {"a": {**entry()["a.weight"], "x": 1}}, bytes(8)),
    "metadata is a list": lambda p: write_file(p, {"__metadata__": [1], **entry()}, bytes(8)),
    "empty file": lambda p: p.write_bytes(b""),
    "seven bytes": lambda p: p.write_bytes(b"1234567"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_header_is_one_line_of_refusal(folder: Path, case: str) -> None:
    """What cannot be a safetensors file is refused with the file's name, in one line."""
    BROKEN[case](folder / "model.safetensors")
    with pytest.raises(UnreadableInput) as caught:
        read_checkpoint(folder)
    assert "model.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("extra", "word"), [(-5, "truncated"), (7, "behind its last tensor")])
def test_a_file_of_the_wrong_length_is_read_and_wrong(folder: Path, extra: int, word: str) -> None:
    """A cut or padded file is a problem of the checkpoint, which the gate refuses."""
    header = header_of(MODEL)
    size = max(v["data_offsets"][1] for k, v in header.items() if k != "__metadata__")
    write_file(folder / "model.safetensors", header, bytes(size + extra))
    assert any(word in p for p in read_checkpoint(folder).problems)


def shards(folder: Path, weight_map: dict[str, str]) -> None:
    """Two shards and an index."""
    names = list(MODEL)
    write_file(folder / "model-00001-of-00002.safetensors", header_of({n: MODEL[n] for n in names[:3]}))
    write_file(folder / "model-00002-of-00002.safetensors", header_of({n: MODEL[n] for n in names[3:]}))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


GOOD_MAP = {name: f"model-0000{1 if i < 3 else 2}-of-00002.safetensors" for i, name in enumerate(MODEL)}


def test_shards_are_counted_once(folder: Path) -> None:
    """The sum over shards is the whole model, whatever the index says about sizes."""
    shards(folder, GOOD_MAP)
    found = read_checkpoint(folder)
    assert found.problems == ()
    assert found.parameters == 98


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ghost.weight": GOOD_MAP["lm_head.weight"]}, "in no shard"),
        ({"lm_head.weight": None}, "not in the index"),
        ({"lm_head.weight": GOOD_MAP["model.embed_tokens.weight"]}, "in another shard"),
        ({"lm_head.weight": "model-00003-of-00003.safetensors"}, "missing"),
    ],
)
def test_an_index_that_disagrees_with_its_shards_is_a_problem(
    folder: Path, change: dict[str, str | None], word: str
) -> None:
    """Loaders pass over what the index does not name, so it must be said."""
    shards(folder, {k: v for k, v in {**GOOD_MAP, **change}.items() if v is not None})
    assert any(word in p for p in read_checkpoint(folder).problems)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "a\\b"])
def test_an_index_cannot_lead_out_of_the_folder(folder: Path, name: str) -> None:
    """A weight_map is a list of file names and no paths."""
    shards(folder, {**GOOD_MAP, "lm_head.weight": name})
    with pytest.raises(UnreadableInput, match="outside the folder"):
        read_checkpoint(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    """A checkpoint is what lies in its folder."""
    outside = write_file(tmp_path / "outside.safetensors", header_of(MODEL))
    (folder / "model.safetensors").symlink_to(outside)
    with pytest.raises(UnreadableInput, match="leads out"):
        read_checkpoint(folder)


def test_links_of_a_hub_cache_are_followed(tmp_path: Path) -> None:
    """A snapshot of the Hugging Face cache links into the blobs of the same repository."""
    home = tmp_path / "models--org--name"
    snapshot = home / "snapshots" / "0123"
    blobs = home / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    write_file(blobs / "abc", header_of(MODEL))
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    assert read_checkpoint(snapshot).parameters == 98


def test_a_pipe_is_refused_without_waiting(folder: Path) -> None:
    """Opening a pipe would hang for ever."""
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises(UnreadableInput, match="ordinary file"):
        read_checkpoint(folder)


def test_pickles_are_never_loaded(folder: Path) -> None:
    """A .bin checkpoint cannot be verified."""
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UnreadableInput, match="pickle"):
        read_checkpoint(folder)


@pytest.mark.parametrize("place", ["nowhere", "a\0b"])
def test_a_missing_path_says_what_is_allowed(tmp_path: Path, place: str) -> None:
    """The message names what would have been accepted."""
    with pytest.raises(UnreadableInput, match="safetensors or GGUF"):
        read_checkpoint(tmp_path / place)


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
)
@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"a": 1, "a": 1}', b"\xff", b'{"a":' * 5000])
def test_broken_companions_are_refused(folder: Path, name: str, data: bytes) -> None:
    """A companion that is not what its name says is named."""
    write_file(folder / "model.safetensors", header_of(MODEL))
    (folder / name).write_bytes(data)
    with pytest.raises(UnreadableInput, match=name):
        read_checkpoint(folder)


def test_numbers_beyond_canonical_json_survive_as_text(folder: Path) -> None:
    """tokenizer_config.json holds model_max_length 10**30 in thousands of models; Mamba's config holds Infinity."""
    write_file(folder / "model.safetensors", header_of(MODEL))
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    (folder / "config.json").write_text('{"time_step_limit": [0.0, Infinity], "big": 1e999}')
    found = read_checkpoint(folder)
    assert found.content_digest.startswith("sha256:")
    assert found.metadata["tokenizer_config"]["model_max_length"] == "1000000000000000019884624838656"


@pytest.mark.parametrize("method", ["exl3", "modelopt2", "", "gptq ", 7, None, ["awq"]])
def test_an_unknown_quantization_cannot_be_judged(folder: Path, method: Any) -> None:
    """What no reader understands is refused, never taken for unquantized."""
    write_file(folder / "model.safetensors", header_of(MODEL))
    (folder / "config.json").write_text(
        json.dumps({"quantization_config": {"quant_method": method, "bits": 4}})
    )
    with pytest.raises(UnreadableInput, match="cannot be judged"):
        read_checkpoint(folder)


SMALL = json.dumps(header_of({"lm_head.weight": ("BF16", [4, 4]), "a.weight": ("I8", [2, 3])})).encode()


@given(st.lists(st.tuples(st.integers(0, len(SMALL) + 7), st.binary(min_size=0, max_size=3)), max_size=6))
def test_any_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, bytes]]
) -> None:
    """Whatever the bytes of a header, nothing but UnreadableInput is raised, and what is read can be stored."""
    data = bytearray(struct.pack("<Q", len(SMALL)) + SMALL + bytes(38))
    for at, new in edits:
        data[at : at + max(1, len(new))] = new
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(bytes(data))
    try:
        found = read_checkpoint(path)
    except UnreadableInput:
        return
    assert found.content_digest


# -- GGUF ---------------------------------------------------------------------------------------------

Q4_0, F16, F32, Q4_K = 2, 1, 0, 12
GGUF_TENSORS = {
    "token_embd.weight": (F16, [32, 4], 256),
    "blk.0.attn_q.weight": (Q4_0, [32, 6], 108),
    "blk.0.ffn_down.weight": (Q4_0, [64, 2], 72),
    "output_norm.weight": (F32, [32], 128),
    "output.weight": (F16, [32, 4], 256),
}


def test_gguf_is_read_under_the_names_of_the_source(folder: Path) -> None:
    """Types, block sizes and reversed dimensions give the same modules as the source's."""
    (folder / "model.gguf").write_bytes(gguf_bytes(GGUF_TENSORS, {"general.file_type": 2}))
    found = read_checkpoint(folder)
    modules = {m.name: m for m in found.modules}
    assert modules["model.layers.0.self_attn.q_proj"].scheme == "Q4_0"
    assert modules["model.layers.0.self_attn.q_proj"].shape == (6, 32)
    assert modules["model.layers.0.self_attn.q_proj"].stored_bits == 4.5
    assert modules["lm_head"].kind == "head"
    assert modules["model.norm"].kind == "norm"
    assert (found.format, found.quant_method) == ("gguf", "gguf")
    assert found.metadata["file_type"] == "Q4_0"
    assert found.weight_bytes == 256 + 108 + 72 + 128 + 256


def test_a_truncated_gguf_is_read_and_wrong(folder: Path) -> None:
    """The table promises more than the file holds."""
    (folder / "model.gguf").write_bytes(gguf_bytes(GGUF_TENSORS, data=100))
    assert any("truncated" in p for p in read_checkpoint(folder).problems)


@pytest.mark.parametrize(
    ("tensors", "values", "version"),
    [
        (GGUF_TENSORS, {}, 1),
        (GGUF_TENSORS, {}, 0x03000000),
        ({"a.weight": (99, [32], 4)}, {}, 3),
        ({"a.weight": (Q4_K, [100], 4)}, {}, 3),
        ({"a.weight": (F32, [2**40, 2**40], 4)}, {}, 3),
        ({"a.weight": (F32, [1] * 9, 4)}, {}, 3),
        (GGUF_TENSORS, {"general.alignment": 0}, 3),
        (GGUF_TENSORS, {"general.alignment": "x"}, 3),
    ],
)
def test_a_broken_gguf_is_refused(folder: Path, tensors: Any, values: Any, version: int) -> None:
    """Unknown types, impossible rows, other versions."""
    (folder / "model.gguf").write_bytes(gguf_bytes(tensors, values, version=version))
    with pytest.raises(UnreadableInput, match=r"model\.gguf"):
        read_checkpoint(folder)


def test_several_models_in_one_folder_are_refused(folder: Path) -> None:
    """Which one is meant must be said."""
    for name in ("a.gguf", "b.gguf"):
        (folder / name).write_bytes(gguf_bytes(GGUF_TENSORS))
    with pytest.raises(UnreadableInput, match="name one of them"):
        read_checkpoint(folder)


def test_splits_are_one_model(folder: Path) -> None:
    """Splits are joined; a missing one is a problem."""
    names = list(GGUF_TENSORS)
    for number, part in enumerate((names[:2], names[2:])):
        data = gguf_bytes({n: GGUF_TENSORS[n] for n in part}, {"split.no": number, "split.count": 2})
        (folder / f"m-0000{number + 1}-of-00002.gguf").write_bytes(data)
    assert read_checkpoint(folder).problems == ()
    assert len(read_checkpoint(folder).modules) == 5
    (folder / "m-00002-of-00002.gguf").unlink()
    assert any("splits" in p for p in read_checkpoint(folder).problems)


GGUF_DATA = gguf_bytes(
    GGUF_TENSORS, {"tokenizer.chat_template": "x", "general.file_type": 2, "split.no": 0, "t.l": ["a", "b"]}
)


@given(
    st.lists(st.tuples(st.integers(0, len(GGUF_DATA) - 900), st.binary(min_size=1, max_size=8)), max_size=6)
)
def test_any_gguf_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, bytes]]
) -> None:
    """Whatever the bytes of a GGUF, nothing but UnreadableInput is raised, and what is read can be stored."""
    data = bytearray(GGUF_DATA)
    for at, new in edits:
        data[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "fuzzed.gguf"
    path.write_bytes(bytes(data))
    try:
        assert read_checkpoint(path).content_digest
    except UnreadableInput:
        return


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4567\n"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("model.safetensors", POINTER, "git-LFS pointer.*git lfs pull"),
        ("model.gguf", POINTER, "git-LFS pointer.*git lfs pull"),
        ("config.json", b"{}", "no file of weights.*name the folder"),
        ("pytorch_model.bin", b"\x80\x02}q\x00.", "never loaded.*save_pretrained"),
    ],
)
def test_what_people_name_by_mistake_is_answered_with_the_next_step(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    """A pointer, a config, a pickle: said in a line, with what helps."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnreadableInput, match=words):
        read_checkpoint(tmp_path / name)


def test_a_name_of_a_hub_and_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched: the command that does it is named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableInput, match="hf download owner/some-model-8B"):
        read_checkpoint("owner/some-model-8B")
    with pytest.raises(UnreadableInput, match="no such checkpoint") as error:
        read_checkpoint(tmp_path / "none")
    assert "hf download" not in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableInput, match="the folder is empty"):
        read_checkpoint(tmp_path / "empty")
