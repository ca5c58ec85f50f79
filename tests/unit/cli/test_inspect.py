"""`assay inspect`: the picture, the table, and the exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from assay.cli.inspect import inspect
from assay.core.errors import UnreadableInput, UsageError
from assay.readers.checkpoint import read_checkpoint
from assay.report.grid import picture, render, signs

CORPUS = Path(__file__).parents[2] / "known_good" / "checkpoints"
sys.path.insert(0, str(CORPUS))
from header_true import quantized, source  # noqa: E402 - the corpus is no package


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A source and its NVFP4 version."""
    return source("moe").write(tmp_path / "source"), quantized("moe", "modelopt-nvfp4").write(
        tmp_path / "candidate"
    )


def run(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(inspect, list(arguments), standalone_mode=False, catch_exceptions=False)


def test_the_picture_names_stacks_kinds_and_precisions(pair: tuple[Path, Path]) -> None:
    """A row for each kind of module, a sign for each layer, experts in one cell, a legend."""
    result = run(str(pair[1]))
    assert result.return_value == 0
    assert "mlp.experts.*.up_proj" in result.output
    row = next(line for line in result.output.splitlines() if "mlp.experts.*.up_proj" in line)
    assert row.endswith("44")
    assert "4  NVFP4" in result.output
    assert "lm_head" in result.output


def test_a_source_adds_the_verdict(pair: tuple[Path, Path]) -> None:
    """Three comparisons, and their exit code."""
    good = run(str(pair[1]), "--source", str(pair[0]), "--recipe", "nvfp4")
    assert (good.return_value, "PASS" in good.output) == (0, True)
    bad = run(str(pair[1]), "--source", str(pair[0]), "--recipe", "fp8")
    assert (bad.return_value, "FAIL" in bad.output) == (1, True)


def test_the_table_holds_every_module(pair: tuple[Path, Path]) -> None:
    """`--json` is one document with a row for each module."""
    value = json.loads(run(str(pair[1]), "--json").output)
    assert value["schema"] == "inspect/1"
    assert len(value["modules"]) == len(read_checkpoint(pair[1]).modules)
    up = next(m for m in value["modules"] if m["name"] == "model.layers.0.mlp.experts.0.up_proj")
    assert (up["scheme"], up["group_size"], up["symmetric"], up["shape"]) == ("NVFP4", 16, True, [1024, 512])
    assert value["status"] == "PASS"


def test_a_problem_is_marked_and_ends_in_one(pair: tuple[Path, Path]) -> None:
    """A module whose scale is missing shows in the picture, in the list and in the exit code."""
    model = quantized("moe", "modelopt-nvfp4").drop("layers.1.mlp.experts.2.up_proj.weight_scale")
    result = run(str(model.write(pair[1].parent / "bad")))
    row = next(line for line in result.output.splitlines() if "mlp.experts.*.up_proj" in line)
    assert row.endswith("4!")
    assert result.return_value == 1
    assert "BAD  model.layers.1.mlp.experts.2.up_proj" in result.output


def test_what_cannot_be_read_is_an_error_of_one_line(tmp_path: Path) -> None:
    """No folder, no traceback."""
    with pytest.raises(UnreadableInput):
        run(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="unknown recipe"):
        run(str(source("dense").write(tmp_path / "plain")), "--recipe", "none-such")


def test_two_schemes_of_the_same_bits_have_different_signs(pair: tuple[Path, Path]) -> None:
    """Also without colours the picture can be read."""
    model, other = quantized("dense", "modelopt-fp8"), quantized("dense", "ct-int-quantized")
    model.tensors |= {n: t for n, t in other.tensors.items() if ".mlp." in n}
    found = signs(read_checkpoint(model.write(pair[1].parent / "mixed")).modules)
    assert len(set(found.values())) == len(found)


def test_names_from_files_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    """Whatever a tensor is called, the picture is printable text."""
    model = source("dense")
    model.tensors["evil\x1b[2J.0.\x07weight"] = ("BF16", (2, 2))
    found = read_checkpoint(model.write(tmp_path / "evil"))
    assert all(line.plain.isprintable() for line in render(found))
    assert picture(found).stacks
