"""States as JSON and blobs: what goes in comes out, and what is no plain data is named."""

from __future__ import annotations

import collections
import contextlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from assay.track._checkpoint.blobs import write_blobs
from assay.track._checkpoint.disk import DigestingFile, Disk
from assay.track._checkpoint.reading import read_state
from assay.track._checkpoint.tree import encode
from assay.track.checkpoint import Attachment, CheckpointDamaged, StateError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=40) | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.just("$"), inner, max_size=4)
        | st.dictionaries(st.integers() | st.tuples(st.integers(), st.text(max_size=2)), inner, max_size=3)
    ),
    max_leaves=12,
)  # fmt: skip


def through(state: dict[str, Any], folder: Path, *, copy: bool = False) -> dict[str, Any]:
    """A state after it was written and read."""
    encoded = encode(state, copy=copy)
    (folder / "state.json").write_bytes(encoded.text())
    for part, blobs in encoded.blobs.items():
        path = folder / f"{part}.safetensors"
        path.unlink(missing_ok=True)
        file = DigestingFile(Disk(), path)
        write_blobs(file, blobs)
        file.commit()
    return read_state(folder, verify=False)


def same(a: Any, b: Any) -> bool:
    """Equal in type and value; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(map(repr, a)) == list(map(repr, b)) and all(
            same(x, y) for x, y in zip(a.values(), b.values(), strict=True)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, complex):
        return repr(a) == repr(b)
    return bool(a == b)


@given(value=PLAIN)
def test_plain_data_comes_back_as_it_was(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any nesting of plain data has the same types, order, and values after a round trip; -0.0 and NaN too."""
    folder = tmp_path_factory.getbasetemp()
    assert same(through({"part": value}, folder)["part"], value)


@pytest.mark.parametrize("dtype", [
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int64", "int8", "uint8", "bool", "complex64",
    "uint16",
])  # fmt: skip
def test_tensors_keep_their_bits(dtype: str, tmp_path: Path) -> None:
    """Every dtype of a dense tensor comes back bit by bit, NaN payloads included."""
    kind = getattr(torch, dtype)
    raw = torch.arange(24 * kind.itemsize, dtype=torch.uint8) * 37
    tensor = torch.ones(24, dtype=torch.bool) if dtype == "bool" else raw.view(kind)
    back = through({"part": {"t": tensor.reshape(2, 3, 4)}}, tmp_path)["part"]["t"]
    assert back.dtype == kind
    assert back.shape == (2, 3, 4)
    assert torch.equal(back.reshape(-1).view(torch.uint8), tensor.view(torch.uint8))


def test_views_scalars_and_empty_tensors(tmp_path: Path) -> None:
    """Slices are saved as themselves and not with all of their storage; scalars and empty tensors keep their shape."""
    base = torch.arange(1000.0)
    state = {
        "part": {"slice": base[3:5], "step": base[::7], "zero": torch.tensor(2.5), "none": torch.empty(0, 3)}
    }
    back = through(state, tmp_path)["part"]
    assert back["slice"].tolist() == [3.0, 4.0]
    assert torch.equal(back["step"], base[::7])
    assert back["zero"].shape == ()
    assert back["none"].shape == (0, 3)
    assert (tmp_path / "part.safetensors").stat().st_size < 1500


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 1, 4, 4), (4, 2, 1, 1)])
def test_channels_last_keeps_its_order_of_memory(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Values and memory format come back, the encoding of what was read is the same, and others read plain shapes."""
    tensor = torch.randn(shape).to(memory_format=torch.channels_last)
    state = {"model": {"w": tensor}}
    back = through(state, tmp_path)
    assert torch.equal(back["model"]["w"], tensor)
    assert back["model"]["w"].is_contiguous(memory_format=torch.channels_last)
    assert encode(back, copy=False).text() == encode(state, copy=False).text()
    assert torch.equal(load_file(tmp_path / "model.safetensors")["w"], tensor)


@given(
    names=st.lists(
        st.text("ab.-0", min_size=1, max_size=100) | st.just("attached-000-a") | st.just("attached-1-a"),
        max_size=4,
        unique=True,
    ).map(lambda names: [name for name in names if name.strip(".")])
)
def test_files_of_a_state_that_was_read_are_written_under_the_same_names(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What a restore encodes again has the same text: a file's number in the checkpoint is not part of its name."""
    folder = tmp_path_factory.getbasetemp()
    for name in names:
        (folder / name).touch()
    written = encode({"files": {name: Attachment(folder / name) for name in names}}, copy=False)
    for name in written.attachments:
        (folder / name).touch()
    (folder / "state.json").write_bytes(written.text())
    assert encode(read_state(folder, verify=False), copy=False).text() == written.text()


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    """Two names of one memory are written once and are one tensor after a restore."""
    shared = torch.randn(4, 4)
    back = through({"model": {"in": shared, "out": shared, "other": shared.clone()}}, tmp_path)["model"]
    assert back["in"] is back["out"]
    assert back["other"] is not back["in"]


def test_a_copy_does_not_see_later_changes(tmp_path: Path) -> None:
    """With copy=True the frozen state is that of the moment, for tensors, arrays and lists."""
    tensor, array, items = torch.zeros(3), np.zeros(3), [1]
    encoded = encode({"part": {"t": tensor, "a": array, "l": items}}, copy=True)
    before = encoded.text()
    tensor.add_(1)
    array += 1
    items.append(2)
    assert encoded.text() == before
    assert all(not np.asarray(value).any() for value, _ in encoded.blobs["part"].values())


def test_containers_of_libraries(tmp_path: Path) -> None:
    """Counter, OrderedDict, deque, sets, torch.Size, dtypes, devices and numpy scalars come back as what they are."""
    state = {
        "milestones": collections.Counter({30: 1, 60: 2}),
        "ordered": collections.OrderedDict(b=1, a=2),
        "queue": collections.deque([1, 2], maxlen=3),
        "set": {3, 1, 2},
        "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "scalar": np.float32(0.1),
        "words": np.array(["a", "bc"]),
        "dates": np.array(["2026-01-01"], dtype="M8[D]"),
        "big": np.arange(6, dtype=">i4").reshape(2, 3),
    }
    back = through({"part": state}, tmp_path)["part"]
    for name, value in state.items():
        assert type(back[name]) is type(value), name
        assert np.array_equal(back[name], value) if isinstance(value, np.ndarray) else back[name] == value, (
            name
        )
    assert back["big"].dtype == np.dtype(">i4")


@pytest.mark.parametrize(("value", "text"), [
    (object(), "builtins.object"),
    (lambda: None, "function"),
    (torch.eye(2).to_sparse(), "sparse"),
    (torch.empty(2, device="meta"), "meta"),
    (np.array([object()]), "object"),
    (np.zeros(1, dtype=[("a", "i4")]), "no plain bytes"),
    (Attachment(Path("/nowhere/model.pkl")), "no such file"),
])  # fmt: skip
def test_what_is_no_plain_data_is_named(value: Any, text: str) -> None:
    """A value that would need a pickle is refused, with its path in the state."""
    with pytest.raises(StateError, match=text) as caught:
        encode({"optimizer": {"groups": [1, {"hook": value}]}}, copy=False)
    assert caught.value.where == "optimizer.groups.1.hook"


def test_a_cycle_is_refused() -> None:
    """A state that holds itself is an error and not an endless loop."""
    state: dict[str, Any] = {}
    state["self"] = state
    with pytest.raises(StateError, match="cycle"):
        encode({"part": state}, copy=False)


@given(data=st.binary(max_size=300))
def test_the_reader_survives_any_tree(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any bytes as state or blobs give a state or CheckpointDamaged, nothing else."""
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "state.json").write_bytes(data)
    (folder / "part.safetensors").write_bytes(data)
    with contextlib.suppress(CheckpointDamaged):
        read_state(folder, verify=False)
    tree = {"part": {"$": "tensor", "dtype": "float32", "shape": [1], "at": ["part", "x"]}}
    (folder / "state.json").write_text(json.dumps(tree))
    with pytest.raises(CheckpointDamaged):
        read_state(folder, verify=False)


WORDS = [
    "tensor", "ndarray", "bytes", "dict", "tuple", "size", "counter", "float32", "<f4", "O", "scalar", "deque",
    "complex", "float", "torch.dtype", "torch.device", "file", "part", "../x",
]  # fmt: skip
KEYS = ["$", "at", "shape", "dtype", "items", "value", "order", "hex", "name", "note", "base64", "maxlen"]
ODD = st.recursive(
    st.none() | st.integers(-3, 9) | st.sampled_from(WORDS) | st.just(math.pi),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=8,
)


@given(tree=ODD)
def test_the_reader_survives_odd_trees(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Trees of our own words in the wrong places give a state or CheckpointDamaged, nothing else."""
    folder = tmp_path_factory.getbasetemp()
    (folder / "state.json").write_text(json.dumps({"part": tree}))
    with contextlib.suppress(CheckpointDamaged):
        read_state(folder, verify=False)
