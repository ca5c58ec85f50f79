"""`assay inspect`: what a checkpoint really is, from its bytes; with or without a source or a recipe."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.core.sizes import size

if TYPE_CHECKING:
    from assay.core.checkpoint import Checkpoint, Module
    from assay.core.verdict import Reason, Verdict

SCHEMA = "inspect/1"


@click.command()
@click.argument("path", metavar="DIR|FILE", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--source",
    type=click.Path(path_type=Path, readable=False),
    help="The checkpoint that it was made from: compares the two.",
)
@click.option(
    "--recipe", help="What it was meant to be: nvfp4, fp8, W4A16, Q4_K_M, ... or `from-declaration`."
)
@click.option(
    "--recipe-table", type=click.Path(path_type=Path), help="YAML with recipes of your own beside Assay's."
)
@click.option("--json", "as_json", is_flag=True, help="Every module with its precision, for scripts.")
def inspect(
    path: Path, source: Path | None, recipe: str | None, recipe_table: Path | None, as_json: bool
) -> int:
    """Show what a checkpoint really is: the precision of every module, by its bytes and not by its declaration.

    Reads headers, and of the weights only the scales. Exit 0 nothing is wrong, 1 something is, 2 it cannot be read.
    """
    gc.disable()
    try:
        return _inspect(path, source, recipe, recipe_table, as_json=as_json)
    finally:
        gc.freeze()  # hundreds of thousands of modules: the interpreter would walk them all once more before it ends
        gc.enable()


def _inspect(
    path: Path, source: Path | None, recipe: str | None, table: Path | None, *, as_json: bool
) -> int:
    from assay.readers.checkpoint import read_checkpoint

    recipes = recipes_of(table)
    found = read_checkpoint(path, source=source, digest_limit_bytes=0)
    verdict = _compare(found, source, recipe, recipes) if source is not None else None
    reasons = verdict.reasons if verdict is not None else _alone(found, recipe, recipes)
    wrong = (verdict is not None and not verdict.passed) or any(not r.ok for r in reasons)
    if as_json:
        click.echo(json.dumps(_document(path, found, reasons, verdict), separators=(",", ":")))
    else:
        _show(path, found, reasons, verdict)
    return 1 if wrong else 0


def recipes_of(table: Path | None) -> dict[str, dict[str, Any]]:
    """The user's recipes, each of which must be understood before anything is read."""
    if table is None:
        return {}
    from assay.core.errors import UsageError
    from assay.gates.checkpoint import resolve
    from assay.readers.checkpoint.recipes import read_recipes

    recipes = read_recipes(table)
    for name, promise in recipes.items():
        try:
            resolve(promise)
        except ValueError as error:
            raise UsageError(f"recipe {name!r}: {error}", where=str(table)) from error
    return recipes


def _compare(
    found: Checkpoint, source: Path, recipe: str | None, recipes: Mapping[str, Mapping[str, Any]]
) -> Verdict:
    from assay.gates.checkpoint import CheckpointGate, CheckpointPolicy
    from assay.readers.checkpoint import read_checkpoint

    base = read_checkpoint(source, "source", digest_limit_bytes=0, values=False)
    gate = CheckpointGate(CheckpointPolicy(recipe=recipe, recipes=recipes))
    return gate.judge({"source.checkpoint": base, "candidate.checkpoint": found})


def _alone(
    found: Checkpoint, recipe: str | None, recipes: Mapping[str, Mapping[str, Any]]
) -> tuple[Reason, ...]:
    from assay.core.errors import UsageError
    from assay.gates.checkpoint import intrinsic

    try:
        return tuple(f.reason for f in intrinsic(found, recipe, recipes))
    except ValueError as error:
        raise UsageError(str(error), where="--recipe") from error


def _document(
    path: Path, found: Checkpoint, reasons: Sequence[Reason], verdict: Verdict | None
) -> dict[str, Any]:
    asymmetric = found.facts.get("asymmetric")
    odd = set(asymmetric) if isinstance(asymmetric, list | tuple) else None
    return {
        "schema": SCHEMA,
        "path": str(path),
        "status": "PASS" if all(r.ok for r in reasons) else "FAIL" if verdict is None else verdict.status.value,
        "format": found.format,
        "quant_method": found.quant_method,
        "producer": found.producer,
        "weight_bytes": found.weight_bytes,
        "parameters": found.parameters,
        "bits_per_weight": round(8 * found.weight_bytes / found.parameters, 4) if found.parameters else None,
        "facts": dict(found.facts),
        "problems": list(found.problems),
        "findings": [r.model_dump(include={"ok", "text", "where", "measured", "limit", "unit"}) for r in reasons],
        "modules": [_row(m, odd) for m in found.modules],
    }  # fmt: skip


def _row(module: Module, asymmetric: set[str] | None) -> dict[str, Any]:
    quantized = module.weight_bits < 16
    return {
        "name": module.name,
        "kind": module.kind.value,
        "scheme": module.scheme,
        "weight_bits": module.weight_bits,
        "stored_bits": module.stored_bits,
        "shape": module.shape,
        "group_size": module.group_size,
        "symmetric": (asymmetric is not None and module.name not in asymmetric) if quantized else None,
        "activation": module.activation,
        "declared": module.declared,
        "ignored": module.ignored,
        "tensors": module.tensors,
        "problems": module.problems,
    }


def _show(path: Path, found: Checkpoint, reasons: Sequence[Reason], verdict: Verdict | None) -> None:
    from rich.text import Text

    from assay.report.console import result_console
    from assay.report.grid import render

    console = result_console()
    console.print(Text(f"{path}", "bold"), Text(_headline(found)), sep="\n", soft_wrap=True)
    console.print()
    for line in render(found, width=console.width):
        console.print(line, soft_wrap=True)
    console.print()
    for reason in sorted(reasons, key=lambda r: r.ok):
        mark, style = ("ok  ", "green") if reason.ok else ("BAD ", "bold red")
        if reason.text.startswith("note: "):
            mark, style = "note", "dim"
        text = reason.text.removeprefix("note: ")
        console.print(Text(f"{mark} ", style).append(text, "" if mark != "note" else "dim"), soft_wrap=True)
    if verdict is not None:
        console.print(Text(f"\n{verdict.status.value}: {verdict.detail}", "bold"), soft_wrap=True)


def _headline(found: Checkpoint) -> str:
    made = f" by {found.producer}" if found.producer else ""
    method = f", {found.quant_method}{made}" if found.quant_method else ", no quantization declared"
    method = "" if found.quant_method == found.format else method
    bits = f", {8 * found.weight_bytes / found.parameters:.2f} bits a weight" if found.parameters else ""
    facts: Mapping[str, Any] = found.facts
    return (
        f"{found.format}{method}; {size(found.weight_bytes)}{bits}; {found.parameters:,} weights in "
        f"{facts.get('tensors', 0):,} tensors of {len(found.modules):,} modules"
    )
