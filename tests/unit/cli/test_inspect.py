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
from assay.report._view.release.precision import precision, styles_of
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


def test_recipes_of_the_user_come_from_a_file(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A table beside Assay's own: its recipes aim, leave alone and name themselves."""
    table = tmp_path / "recipes.yaml"
    table.write_text(
        "schema: recipes/1\nrecipes:\n"
        "  mine: {recipe: nvfp4, optional: []}\n"
        "  experts: {schemes: [NVFP4], targets: ['*.experts.*']}\n"
    )
    more = (str(pair[1]), "--source", str(pair[0]), "--recipe-table", str(table), "--recipe")
    good, bad = run(*more, "mine"), run(*more, "experts")
    assert (good.return_value, "PASS: mine" in good.output) == (0, True)
    assert bad.return_value == 1
    assert "8 modules that the recipe leaves alone are NVFP4, quantized unasked" in bad.output
    assert run(str(pair[1]), "--recipe-table", str(table), "--recipe", "mine").return_value == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema: recipes/2\nrecipes: {}\n", "no recipe table"),
        ("recipes: [", "no recipe table"),
        ("schema: recipes/1\nrecipes: {a: 4}\n", "recipe 'a' is no object"),
        ("schema: recipes/1\nrecipes: {a: {scheme: fp8, target: x}}\n", "unknown keys"),
        ("schema: recipes/1\nrecipes: {a: {schemes: [FP9]}}\n", "no precision is called 'FP9'"),
        ("schema: recipes/1\nrecipes: {a: {recipe: fp8, targets: 3}}\n", "intent.targets"),
    ],
)
def test_a_wrong_recipe_table_is_refused_before_anything_is_read(
    pair: tuple[Path, Path], tmp_path: Path, text: str, words: str
) -> None:
    """The error names the file and the key."""
    table = tmp_path / "recipes.yaml"
    table.write_text(text)
    with pytest.raises(UsageError, match=words) as error:
        run(str(pair[1]), "--recipe-table", str(table), "--recipe", "a")
    assert str(table) in str(error.value)


def test_the_report_draws_the_same_picture(pair: tuple[Path, Path]) -> None:
    """Stacks, rows, their order, and which cells are mixed or not in order: as `assay inspect` shows them."""
    model = quantized("moe", "modelopt-nvfp4").drop("layers.1.mlp.experts.2.up_proj.weight_scale")
    plain = source("moe").tensors
    expert = "model.layers.0.mlp.experts.1.down_proj"
    model.drop(expert).tensors[f"{expert}.weight"] = plain[f"{expert}.weight"]
    found = read_checkpoint(model.write(pair[1].parent / "odd"))
    drawn, shown = picture(found), precision(found, styles_of(found.modules))
    assert [s.name for s in drawn.stacks] == [g.title for g in shown.grids]
    assert [[r.name for r in s.rows] for s in drawn.stacks] == [[r.name for r in g.rows] for g in shown.grids]
    grid = shown.grids[0]
    signs_ = {(c.title.partition(",")[0], c.x): c.text[-1:] for c in grid.cells if c.text[-1:] in {"+", "!"}}
    assert {(kind, sign) for (kind, _), sign in signs_.items()} == {
        ("mlp.experts.*.up_proj", "!"),
        ("mlp.experts.*.down_proj", "+"),
    }
    lines = {line.plain.split()[0]: line.plain for line in render(found) if line.plain.strip()}
    assert lines["mlp.experts.*.up_proj"].endswith("4!")
    assert lines["mlp.experts.*.down_proj"].endswith("+4")
