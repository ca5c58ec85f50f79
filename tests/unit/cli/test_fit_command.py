"""`assay fit`: words, exit codes, JSON, and requests that cannot be carried out."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli_call import MODEL, Call


def config(folder: Path, **more: Any) -> Path:
    """A checkpoint folder of the shape of Llama-3.1-8B in BF16, its weights a hole in a file."""
    folder.mkdir()
    values = {
        "model_type": "llama", "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128256, "dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**values, **more}))
    size = 16_060_522_496
    header = json.dumps(
        {"w": {"dtype": "BF16", "shape": [size // 8192, 4096], "data_offsets": [0, size]}}
    ).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    return folder


def test_a_table_for_a_person(assay: Call) -> None:
    """The example model in every context and concurrency, with its parts."""
    said = assay("fit", MODEL, "--context", "1k,4k", "--concurrency", "1,4", "--memory", "64GiB")
    assert said.code == 0
    assert said.out.count("fits") == 4
    for word in ("at least", "weights", "kv_cache", "activations", "engine", "4,096"):
        assert word in said.out


def test_json_for_a_script(assay: Call, tmp_path: Path) -> None:
    """Each point with bytes by part; the parts add up."""
    folder = config(tmp_path / "m")
    said = assay("fit", folder, "--context", "8192,131072", "--engine", "vllm", "--memory", "40GB", "--json")
    document = json.loads(said.out)
    assert document["schema"] == "fit/1"
    near, far = document["models"][0]["points"]
    assert near["lower_bytes"] == 16_060_522_496 + 8192 * 131_072
    assert far["lower_bytes"] == 16_060_522_496 + 16 * 2**30
    for point in (near, far):
        assert sum(p["estimate"] for p in point["parts"]) == point["estimate_bytes"]
        assert point["capacity_bytes"] == 40_000_000_000


@pytest.mark.parametrize(
    ("memory", "code", "word"), [("16GB", 3, "cannot"), ("18GB", 4, "uncertain"), ("64GB", 0, "fits")]
)
def test_the_exit_code_is_the_best_word(
    assay: Call, tmp_path: Path, memory: str, code: int, word: str
) -> None:
    """0 something fits, 4 at best uncertain, 3 nothing can."""
    said = assay("fit", config(tmp_path / "m"), "--context", "8192", "--memory", memory)
    assert said.code == code
    assert word in said.out


def test_one_that_fits_among_many_is_enough(assay: Call, tmp_path: Path) -> None:
    """The order of the models is kept, and the code is the best of them."""
    said = assay("fit", config(tmp_path / "big"), MODEL, "--memory", "8GB", "--json")
    assert said.code == 0
    first, second = json.loads(said.out)["models"]
    assert [p["verdict"] for p in (*first["points"], *second["points"])] == ["cannot", "fits"]


def test_a_hub_id_that_is_not_here_is_unknown(
    assay: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched; the next command is named."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    said = assay("fit", "org/model")
    assert said.code == 5
    assert "not in the local cache" in said.out
    assert "hf download org/model" in said.out


def test_an_architecture_that_nobody_knows(assay: Call, tmp_path: Path) -> None:
    """Unknown with the reason, and `cannot` where the weights alone are too much."""
    folder = config(tmp_path / "m", model_type="brand_new")
    said = assay("fit", folder, "--memory", "64GB")
    assert (said.code, "'brand_new' is not known" in said.out) == (5, True)
    assert assay("fit", folder, "--memory", "8GB").code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["--context", "0"],
        ["--context", "many"],
        ["--concurrency", "-1"],
        ["--memory", "lots"],
        ["--engine", "abacus"],
        ["--context", ",".join(map(str, range(1, 3000)))],
    ],
)
def test_requests_that_make_no_sense(assay: Call, arguments: list[str]) -> None:
    """Exit 2 and a line that says what is allowed."""
    said = assay("fit", MODEL, *arguments)
    assert said.code == 2
    assert said.err


def test_files_that_are_none(assay: Call, tmp_path: Path) -> None:
    """Exit 2 with the path."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model")
    assert assay("fit", bad).code == 2
    assert assay("fit", tmp_path / "nowhere").code == 2
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "config.json").write_text("{")
    said = assay("fit", folder)
    assert (said.code, "config.json" in said.err) == (2, True)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files, and what lies in `shut`, this user may not read; root may read everything, so we act it."""
    opened, there = Path.open, Path.exists

    def refused(path: Path) -> PermissionError:
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def open_(path: Path, *arguments: Any, **more: Any) -> Any:
        if tmp_path in path.absolute().parents:
            raise refused(path)
        return opened(path, *arguments, **more)

    def exists(path: Path) -> bool:
        if "shut" in path.parts:
            raise refused(path)
        return there(path)

    for name in ("model.gguf", "folder/config.json", "weights/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    monkeypatch.setattr(Path, "open", open_)
    monkeypatch.setattr(Path, "exists", exists)
    return tmp_path


@pytest.mark.parametrize("command", ["fit", "inspect"])
@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("model.gguf", "model.gguf"),
        ("weights", "model.safetensors"),
        ("shut/model.gguf", "shut/model.gguf"),
    ],
)
def test_what_may_not_be_read_is_named_with_what_helps(
    assay: Call, locked: Path, command: str, model: str, named: str
) -> None:
    """The file and the remedy; no errno, and never `no such model` of one that nobody could look at."""
    said = assay(command, locked / model)
    said.refused(2, f"{named}: cannot be read: Permission denied", "readable for this user")
    assert "Errno" not in said.err


def test_a_config_that_may_not_be_read_is_named(assay: Call, locked: Path) -> None:
    """It is not taken for a model without one."""
    assay("fit", locked / "folder").refused(2, "config.json: cannot be read: Permission denied")


def test_a_checkpoint_that_may_not_be_read_is_no_verdict_on_it(assay: Call, locked: Path) -> None:
    """`gate checkpoint` says the same, as JSON."""
    said = assay("gate", "checkpoint", locked / "model.gguf", "--source", locked / "model.gguf")
    assert said.code == 2
    assert "cannot be read: Permission denied. Next: make it" in said.json["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["fit", "inspect"])
def test_a_folder_that_lists_and_does_not_open_is_named(tmp_path: Path, command: str) -> None:
    """Really without the right, as root gives it up too: the names are told, what is behind them is not."""
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "model").chmod(0o600)
    call = [sys.executable, "-m", "assay", command, "model"]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root reads everything")
        call = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *call]
    said = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    (tmp_path / "model").chmod(0o700)
    assert said.returncode == 2, said.stderr
    assert "model/inner: cannot be listed: Permission denied. Next: make it" in said.stderr
