"""`assay show-results`: what Assay reads out of a results file or folder, before any gate."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from assay.core.results import Results, TaskResult


@click.command("show-results")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--harness", help="Which harness wrote it; by default found from its content.")
@click.option(
    "--metric-table", type=click.Path(path_type=Path), help="A YAML table of metrics laid over Assay's own."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_results(path: Path, harness: str | None, metric_table: Path | None, as_json: bool) -> int:
    """Print what an evaluation left behind: tasks, scores, rows, states, protocol and files. Judges nothing."""
    from assay.readers.results import read_results

    results = read_results(path, subject="results", harness=harness, metric_table=metric_table)
    if as_json:
        click.echo(json.dumps(summary(results), indent=2))
    else:
        _print(results)
    return 0


def summary(results: Results) -> dict[str, Any]:
    """The results without their rows: `schema: results/1`."""
    return {
        "schema": "results/1",
        "harness": results.harness,
        "harness_version": results.harness_version,
        "provenance": results.provenance.value,
        "digest": results.content_digest,
        "tasks": [_task(t) for t in results.tasks],
        "protocol": dict(results.protocol),
        "facts": dict(results.facts),
        "files": [a.to_json() for a in results.artifacts],
    }


def _task(task: TaskResult) -> dict[str, Any]:
    samples = task.samples
    tokens = [t for t in samples.tokens if t is not None]
    value = task.to_json()
    value.pop("samples")
    return {
        **value,
        "rows": len(samples),
        "items": len(set(samples.id)),
        "repeats": max(samples.repeat, default=-1) + 1,
        "states": {state.value: n for state, n in Counter(samples.state).most_common()},
        "finish_reasons": {word: n for word, n in Counter(samples.finish_reason).most_common(20) if word},
        "tokens": {"mean": sum(tokens) / len(tokens), "max": max(tokens)} if tokens else None,
        "clusters": len(set(samples.cluster) - {""}),
    }


def _print(results: Results) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    version = f" {results.harness_version}" if results.harness_version else ""
    files = f"{len(results.artifacts)} files, {sum(a.size_bytes for a in results.artifacts):,} bytes"
    console.print(Text(f"{results.harness}{version}  {results.provenance.value}  {files}", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, right in (("task", False), ("metric", False), ("score", True), ("range", True), ("rows", True)):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    table.add_column("expected", justify="right")
    table.add_column("states", overflow="fold")
    for task in results.tasks:
        table.add_row(*map(Text, _cells(task)))
    console.print(table)
    for line in _remarks(results):
        console.print(Text(line, style="yellow"))
    for key, value in sorted(results.protocol.items()):
        console.print(Text(f"  {key} = {value}", style="dim"), soft_wrap=True)


def _cells(task: TaskResult) -> Iterator[str]:
    yield task.task
    yield task.metric or "-"
    yield "-" if task.score is None else f"{task.score:g}"
    scale = f"{task.low:g}..{task.high:g}" if task.low < task.high else "open"
    arrow = {"higher": "", "lower": " lower"}[task.direction.value]
    yield f"{scale}{arrow}{' ?' if task.scale_source == 'inferred' else ''}"
    repeats = max(task.samples.repeat, default=0) + 1
    yield f"{len(task.samples):,}" + (f" ({repeats} each)" if repeats > 1 else "")
    yield "-" if task.expected is None else f"{task.expected:,}"
    seen = Counter(s.value.replace("_", " ") for s in task.samples.state)
    states = ", ".join(f"{n:,} {word}" for word, n in seen.most_common())
    yield states or task.status.value


def _remarks(results: Results) -> Iterator[str]:
    for task in results.tasks:
        if task.status.value != "SUCCESS":
            yield f"{task.task}: the run is {task.status.value}"
        yield from (f"{task.task}: {e}" for e in task.errors)
        cut = {w: n for w, n in Counter(task.samples.finish_reason).items() if w not in {"", "stop"}}
        if cut:
            yield f"{task.task}: ended by " + ", ".join(f"{w} {n:,}" for w, n in sorted(cut.items()))
    for entry in results.facts.get("log_failures", ()):
        yield f"{entry['file']}: {entry['count']} times: {entry['text']}"
    if any(t.scale_source == "inferred" for t in results.tasks):
        yield "?: no table knows the metric; its range is inferred from the score"
