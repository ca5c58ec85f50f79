"""Decisions and trials on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.core.canon import short
from assay.core.decision import GateLine
from assay.core.sizes import size
from assay.core.tuning import ReadingState
from assay.core.vocabulary import Outcome, Status
from assay.report.console import result_console

COLOUR = {
    "ACCEPT": "bold green",
    "REGRESSION": "bold red",
    "NO_GAIN": "bold red",
    "INFEASIBLE": "bold red",
    "INCONCLUSIVE": "bold yellow",
    "ANOMALOUS": "bold magenta",
    "PASS": "green",
    "FAIL": "red",
    "ERROR": "magenta",
    ReadingState.MEASURED.value: "green",
    ReadingState.INVALID.value: "yellow",
}
_READING = "reading-"
_INVALID = "not a valid measurement"
"""How the gate of a launch begins where it has no figure."""


def launched(gates: Iterable[GateLine]) -> tuple[str, str] | None:
    """A launch of a tuning study in a word and its figure; None for any other trial, and for one that failed.

    A launch proves nothing by itself, so its trial is INCONCLUSIVE at best, which tells a person nothing.
    """
    line = next((g for g in gates if is_reading(g)), None)
    if line is None:
        return None
    word = ReadingState.INVALID if line.detail.startswith(_INVALID) else ReadingState.MEASURED
    return word.value, line.detail


def is_reading(line: GateLine) -> bool:
    """Whether a gate only took the reading of a launch, and found nothing against the setting."""
    return line.gate.startswith(_READING) and line.status is Status.INCONCLUSIVE


def print_summary(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """A study: its word, each candidate with the reason, and what to do next."""
    console = console or result_console()
    console.print()
    word = summary["outcome"] or summary["state"]
    head = Text(word, style=COLOUR.get(word, "bold"))
    console.print(head.append(f"  {summary['id']}: {summary['question']}", style="not bold default"))
    table = Table.grid(padding=(0, 2), pad_edge=False)
    for trial in summary["trials"]:
        outcome = "interrupted" if trial["interrupted"] else trial["outcome"] or "running"
        sentence = trial["sentence"]
        if outcome == Outcome.INCONCLUSIVE:
            launch = launched(map(GateLine.from_json, trial["gates"]))
            outcome, sentence = launch or (outcome, sentence)
        held = f"{size(trial['artifact']['size_bytes'])} with all files" if trial["artifact"] else ""
        line = (Text(trial["candidate"], style="bold"), Text(outcome, style=COLOUR.get(outcome, "dim")), held)
        table.add_row(Text("  "), *line, Text(sentence))
    console.print(table)
    if summary["why"]:
        console.print(Text(f"  ended because {summary['why']}", style="dim"))
    if advance := summary.get("advance"):
        style = "bold green" if advance["word"] == "ADVANCE" else "bold yellow"
        console.print(Text("  ").append(advance["word"], style=style).append(f"  {advance['reason']}"))
    for trial, token in summary["applied"].items():
        for change in token.get("changes", []):
            console.print(Text(f"  {trial} {change}", style="green"))
    if summary.get("report"):
        console.print(Text(f"  report  {summary['report']}"), soft_wrap=True)
    if summary.get("delivery"):
        console.print(Text(f"  texts   {summary['delivery']}"), soft_wrap=True)
        if summary["outcome"] == "ACCEPT" and not summary["applied"]:
            name = summary["id"]
            console.print(
                Text(f"  next    assay show {name} --diff ; assay apply {name} --yes"), soft_wrap=True
            )
    console.print(Text(f"  verify  assay verify {summary['id']}", style="dim"))


def print_trial(
    trial: Mapping[str, Any], verdicts: Mapping[str, Mapping[str, Any]], console: Console | None = None
) -> None:
    """A trial with every gate, every reason and every estimate."""
    console = console or result_console()
    outcome = trial["outcome"] or "running"
    title = Text(outcome, style=COLOUR.get(outcome, "bold"))
    console.print(
        title.append(f"  {trial['id']} {trial['candidate']}: {trial['sentence']}", style="not bold default")
    )
    for line in trial["gates"]:
        status = line["status"] or "not reached"
        row = Text(f"  {status:<13}", style=COLOUR.get(status, "dim"))
        row.append(f"{line['gate']:<18}", style="bold").append(line["detail"], style="default")
        console.print(row)
        _print_reasons(console, verdicts.get(line["gate"]))
    estimates = (verdicts.get("compare") or {}).get("estimates") or []
    if estimates:
        console.print(_estimates(estimates))


def _print_reasons(console: Console, verdict: Mapping[str, Any] | None) -> None:
    for reason in (verdict or {}).get("reasons", []):
        mark = Text("      ✓ " if reason["ok"] else "      ✗ ", style="green" if reason["ok"] else "red")
        place = f"{reason['where']}: " if reason["where"] and reason["where"] not in reason["text"] else ""
        source = f"  [{short(reason['evidence'])}]" if reason["evidence"] else ""
        console.print(mark.append(place + reason["text"], style="default").append(source, style="dim"))


def _estimates(estimates: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1))
    for name in ("task", "baseline", "candidate", "drop", "interval", "margin", "lost", "won", "pairs"):
        table.add_column(name, justify="left" if name == "task" else "right", no_wrap=True)
    for e in estimates:
        interval = f"{100 * e['lower']:+.2f} .. {100 * e['upper']:+.2f}" if e["lower"] is not None else ""
        table.add_row(
            Text(e["task"], style="bold" if e["role"] == "primary" else ""),
            f"{100 * e['baseline']:.2f}",
            f"{100 * e['candidate']:.2f}",
            f"{100 * e['drop']:+.2f}",
            interval,
            f"{100 * e['margin']:.1f}" if e["margin"] is not None else "advisory",
            *("" if e[k] is None else str(e[k]) for k in ("lost", "won", "n")),
        )
    return table
