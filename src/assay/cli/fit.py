"""`assay fit`: what a model needs and whether this machine has it, before anything is downloaded or launched."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from assay.core.sizes import size

if TYPE_CHECKING:
    from assay.core.fit import FitLine, MachineMemory, MemoryEstimate, ModelShape

SCHEMA = "fit/1"
ENGINES = ("llama_cpp", "transformers", "vllm", "sglang")
_MOST_POINTS = 2_000
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?", re.IGNORECASE)
_STYLE = {"fits": "green", "uncertain": "yellow", "cannot": "bold red", "unknown": "dim"}
_EXIT = {"fits": 0, "uncertain": 4, "unknown": 5, "cannot": 3}


def _numbers(_: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """`4096,8192`, also `4k,8k` with k = 1024."""
    found = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(k?)\s*", word, re.IGNORECASE)
        value = int(match[1]) * (1024 if match[2] else 1) if match else 0
        if value < 1:
            raise click.BadParameter(f"{word!r} is no whole number from 1", param=option)
        found.append(value)
    return tuple(dict.fromkeys(found))


def _memory(_: click.Context, option: click.Parameter, text: str) -> int | None:
    """Bytes, `16GB`, `8GiB`; None for `auto`."""
    if text == "auto":
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter("bytes, such as 16000000000, 16GB or 8GiB, or auto", param=option)
    power = " kmgt".find(match[2].lower() or " ")
    step = (1024 if match[3] else 1000) ** power
    return int(float(match[1]) * step)


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--context",
    default="4096",
    show_default=True,
    callback=_numbers,
    help="Tokens of one request, as a list.",
)
@click.option(
    "--concurrency", default="1", show_default=True, callback=_numbers, help="Requests at once, as a list."
)
@click.option(
    "--kv-type",
    default="auto",
    show_default=True,
    help="Type of the KV cache: f16, q8_0, q4_0, fp8, ... as a list; auto = the engine's own.",
)
@click.option("--engine", type=click.Choice(ENGINES), default="llama_cpp", show_default=True)
@click.option(
    "--device", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True, help="Where it is held."
)
@click.option("--dtype", default="auto", show_default=True, help="What a checkpoint folder is loaded as.")
@click.option(
    "--batch", type=click.IntRange(1, 2**20), default=512, show_default=True, help="Tokens worked on at once."
)
@click.option(
    "--memory",
    default="auto",
    show_default=True,
    callback=_memory,
    help="Memory to hold it against; auto = this machine's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fit(  # noqa: PLR0913, PLR0917 - click hands over one argument an option
    models: tuple[str, ...],
    context: tuple[int, ...],
    concurrency: tuple[int, ...],
    kv_type: str,
    engine: str,
    device: str,
    dtype: str,
    batch: int,
    memory: int | None,
    as_json: bool,
) -> int:
    """Say before any download or launch whether models fit: fits, cannot, uncertain or unknown, with the bytes.

    MODEL is a checkpoint folder, a GGUF file, or owner/name of a hub whose files are in the local cache; nothing is
    fetched. `cannot` rests on bytes that no setting avoids; `fits` on the upper end of calibrated ranges.

    Exit 0 some configuration fits, 4 at best uncertain, 5 at best unknown, 3 none can, 2 a model cannot be read.
    """
    kinds = tuple(dict.fromkeys(k.strip().lower() for k in kv_type.split(",") if k.strip())) or ("auto",)
    base = {"engine": engine, "device": device, "dtype": dtype, "batch_tokens": batch}
    points = [
        {**base, "context_tokens": c, "concurrency": n, "kv_type": k}
        for k in kinds
        for n in concurrency
        for c in context
    ]
    if len(points) * len(models) > _MOST_POINTS:
        raise click.UsageError(f"{len(points) * len(models)} configurations; at most {_MOST_POINTS}")
    machine = _machine(memory, device)
    found = [(shape, _lines(shape, points, machine, device)) for shape in map(_shape, models)]
    if as_json:
        click.echo(json.dumps(_document(found, machine, base), indent=2))
    else:
        _print(found, machine)
    words = {line.verdict.value for _, lines in found for line in lines}
    return next(code for word, code in _EXIT.items() if word in words)


def _machine(memory: int | None, device: str) -> MachineMemory:
    from assay.core.fit import Device, MachineMemory
    from assay.runtime.memory import detect_memory

    if memory is None:
        return detect_memory()
    if device == "gpu":
        given = Device(name="as given", index=0, total_bytes=memory, free_bytes=memory, source="--memory")
        return MachineMemory(devices=(given,))
    return MachineMemory(total_bytes=memory, available_bytes=memory)


def _shape(model: str) -> ModelShape:
    from assay.readers.model import read_shape

    return read_shape(model)


def _lines(
    shape: ModelShape, points: Sequence[dict[str, Any]], machine: MachineMemory, device: str
) -> list[FitLine]:
    from assay.core.fit import Serving
    from assay.gates.fit import estimate_memory, judge_fit

    return [
        judge_fit(estimate_memory(shape, Serving.model_validate(p)), machine, device=device) for p in points
    ]


def _document(
    found: Sequence[tuple[ModelShape, Sequence[FitLine]]], machine: MachineMemory, base: dict[str, Any]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        **base,
        "machine": machine.to_json(),
        "models": [
            {
                "model": shape.source,
                "shape": shape.to_json(),
                "points": [_point(line) for line in lines],
            }
            for shape, lines in found
        ],
    }


def _point(line: FitLine) -> dict[str, Any]:
    estimate = line.estimate
    return {
        "verdict": line.verdict.value,
        "context_tokens": estimate.context_tokens,
        "concurrency": estimate.concurrency,
        "kv_type": estimate.kv_type,
        "lower_bytes": estimate.lower_bytes,
        "estimate_bytes": estimate.estimate_bytes,
        "upper_bytes": estimate.upper_bytes,
        "parts": [p.to_json() for p in estimate.parts],
        "capacity_bytes": line.capacity_bytes,
        "free_bytes": line.free_bytes,
        "place": line.place,
        "unknown": list(estimate.unknown),
        "detail": line.detail,
    }


def _print(found: Sequence[tuple[ModelShape, Sequence[FitLine]]], machine: MachineMemory) -> None:
    from rich.table import Table
    from rich.text import Text

    from assay.report.console import result_console

    console = result_console()
    console.print(Text(_room(machine), "dim"), soft_wrap=True)
    for shape, lines in found:
        console.print()
        console.print(Text(shape.source, "bold"), Text(_headline(shape)), sep="\n", soft_wrap=True)
        if all(line.verdict.value == "unknown" for line in lines):
            console.print(Text(f"unknown ({lines[0].detail})", _STYLE["unknown"]), soft_wrap=True)
        else:
            table = Table(box=None, pad_edge=False, header_style="bold")
            for name in ("context", "at once", "KV", "verdict", "at least", "estimate", "at most", *_PARTS):
                table.add_column(name, justify="left" if name in {"KV", "verdict"} else "right", no_wrap=True)
            for line in lines:
                table.add_row(*_cells(line.estimate, line))
            console.print(table)
            for reason in _reasons(lines):
                console.print(Text(reason, "dim"), soft_wrap=True)
        for note in shape.notes:
            console.print(Text(note, "dim"), soft_wrap=True)


_PARTS = ("weights", "kv_cache", "activations", "engine")


def _cells(estimate: MemoryEstimate, line: FitLine) -> list[Any]:
    from rich.text import Text

    parts = {p.name.value: p.estimate for p in estimate.parts}
    word = line.verdict.value
    return [
        f"{estimate.context_tokens:,}",
        str(estimate.concurrency),
        estimate.kv_type,
        Text(word, _STYLE[word]),
        size(estimate.lower_bytes),
        size(estimate.estimate_bytes),
        size(estimate.upper_bytes),
        *(size(parts.get(name)) for name in _PARTS),
    ]


def _reasons(lines: Sequence[FitLine]) -> list[str]:
    """Why not, once for each word."""
    first = {line.verdict.value: line.detail for line in reversed(lines) if line.verdict.value != "fits"}
    return [f"{word}: {detail}" for word, detail in sorted(first.items())]


def _room(machine: MachineMemory) -> str:
    words = []
    if machine.total_bytes is not None:
        words.append(f"memory {size(machine.total_bytes)}, {size(machine.available_bytes)} available")
    if machine.limit_bytes is not None:
        words.append(f"{machine.limit_source} allows {size(machine.limit_bytes)}")
    words += [f"{d.name}: {size(d.free_bytes)} of {size(d.total_bytes)} free" for d in machine.devices]
    return "; ".join([*words, *machine.notes]) or "how much memory there is cannot be told"


def _headline(shape: ModelShape) -> str:
    stored = f", weights {size(shape.weights.total)}" if shape.weights is not None else ""
    layers = ", ".join(f"{g.count} {_layer(g)}" for g in shape.layers)
    return f"{shape.architecture or 'architecture unknown'}{stored}{'; layers: ' + layers if layers else ''}"


def _layer(group: Any) -> str:
    window = f" {group.window_tokens}" if group.window_tokens else ""
    return f"{group.keeps.value}{window}"
