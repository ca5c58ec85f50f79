"""The documents of `report.lineup` on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from assay.report.console import result_console

EMPTY = "—"
CELL = 60
COLORS = {
    "running": "cyan",
    "stopping": "cyan",
    "complete": "green",
    "evaluated": "green",
    "overridden": "yellow",
    "crashed": "red",
    "failed": "red",
    "lost": "red",
    "aborted": "red",
}
SHOWN_METRICS = 40
SHOWN_CHECKPOINTS = 8


def print_list(lines: Sequence[Mapping[str, Any]], active: str | None) -> None:
    """A table; the active experiment is marked."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("Exp", "Phase", "Parent", "State", "Hypothesis", "Metric", "Δ vs parent", "Tier"):
        table.add_column(
            column, no_wrap=column != "Hypothesis", max_width=44 if column == "Hypothesis" else None
        )
    for line in lines:
        mark = "▸ " if line["id"] == active else "  "
        table.add_row(
            mark + escape(line["id"]),
            cell(line["phase"], 16),
            cell(line["parent"]),
            _state(line["state"]),
            cell(line["hypothesis"]),
            _metric(line),
            signed(line["delta_vs_parent"]),
            cell(line["tier"] or (f"({line['claimed_tier']} claimed)" if line["claimed_tier"] else "")),
        )
    result_console().print(table)


def print_experiment(view: Mapping[str, Any]) -> None:
    """Everything of one experiment, in the order in which one asks."""
    console = result_console()
    name = f" {view['name']}" if view["name"] else ""
    ended = f": {view['ended_by']}" if view["ended_by"] else ""
    console.print(f"[bold]{escape(view['id'])}[/]{escape(name)}  {_state(view['state'])}{escape(ended)}")
    for label, value in _facts(view):
        console.print(f"  [dim]{label:<12}[/] {escape(str(value))}")
    _print_attempts(console, view["attempts"])
    _print_metrics(console, view["metrics"])
    for alert in view["alerts"]:
        at = f" step {alert['step']}" if alert["step"] is not None else ""
        console.print(f"  alert {escape(alert['id'])} {alert['severity']} {alert['state']}{at}: ", end="")
        console.print(escape(f"{alert['name']} {alert['text']}"))
    _print_checkpoints(console, view["checkpoints"])
    for title, texts in (
        ("shortfalls", view["shortfalls"]),
        ("next", view["next_ideas"]),
        ("notes", view["notes"]),
    ):
        for text in texts:
            console.print(f"  [dim]{title:<12}[/] {escape(cell(text, 200, plain=True))}")
    if view["diagnosis"]:
        console.print("  [dim]diagnosis[/]")
        console.print(escape("\n".join(f"    {t}" for t in view["diagnosis"].splitlines()[:20])))
    for problem in view["problems"]:
        console.print(f"  [yellow]![/] {escape(problem)}")


def _facts(view: Mapping[str, Any]) -> list[tuple[str, Any]]:
    tier = view["tier"] or (f"{view['claimed_tier']} (claimed)" if view["claimed_tier"] else None)
    against = f"{signed(view['delta_vs_parent'])} vs {view['compared_with']}" if view["compared_with"] else ""
    best = f"{signed(view['delta_vs_best'])} vs best {view['best_before']}" if view["best_before"] else ""
    progress = view["progress"]
    steps = f"step {progress['last_step']}" if progress["last_step"] is not None else ""
    steps += f" of {progress['total_steps']}" if steps and progress["total_steps"] else ""
    steps += f"  epoch {progress['last_epoch']}" if progress["last_epoch"] is not None else ""
    found = [
        ("lineage", " → ".join(a["id"] for a in view["lineage"])),
        ("children", ", ".join(view["children"])),
        ("hypothesis", view["hypothesis"]),
        ("rationale", view["rationale"]),
        ("result", "  ".join(t for t in (_metric(view), tier or "", against, best) if t and t != EMPTY)),
        ("progress", steps),
        ("provenance", "self-reported" if view["provenance"] == "self_reported" else ""),
        ("overridden", "; ".join(view["overridden"])),
    ]
    return [(label, value) for label, value in found if value]


def _print_attempts(console: Any, attempts: Sequence[Mapping[str, Any]]) -> None:
    for attempt in attempts:
        resumed = f", from {attempt['resumed_from']}" if attempt["resumed_from"] else ""
        ended = attempt["outcome"] or attempt["training_reason"] or "no end recorded"
        code = f" {attempt['exit_code']}" if attempt["exit_code"] not in {None, 0} else ""
        sign = f" {attempt['signal']}" if attempt["signal"] else ""
        why = f": {attempt['exception']}" if attempt["exception"] else ""
        text = f"attempt {attempt['number']}  {attempt['started'][:19]}{resumed}  {ended}{code}{sign}{why}"
        console.print(f"  {escape(text)}")


def _print_metrics(console: Any, metrics: Sequence[Mapping[str, Any]]) -> None:
    if not metrics:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("  metric", "last", "best", "at", "better", "n"):
        table.add_column(column)
    for metric in metrics[:SHOWN_METRICS]:
        at = metric["best_step"] if metric["best_step"] is not None else metric["best_epoch"]
        bad = f" ({metric['nonfinite']} not finite)" if metric["nonfinite"] else ""
        table.add_row(
            "  " + cell(metric["name"], 40),
            number(metric["last"]),
            number(metric["best"]),
            cell(at),
            cell(metric["direction"] or "not declared"),
            f"{metric['count']}{bad}",
        )
    console.print(table)
    if len(metrics) > SHOWN_METRICS:
        console.print(f"  and {len(metrics) - SHOWN_METRICS} more metrics: --json")


def _print_checkpoints(console: Any, checkpoints: Sequence[Mapping[str, Any]]) -> None:
    there = [c for c in checkpoints if c["on_disk"] != "rotated"]
    if len(there) < len(checkpoints):
        console.print(f"  {len(checkpoints) - len(there)} older checkpoints rotated away")
    for checkpoint in there[-SHOWN_CHECKPOINTS:]:
        proof = (
            f"verified by {', '.join(checkpoint['verified'])}" if checkpoint["verified"] else "not verified"
        )
        proof = f"failed: {checkpoint['failed']}" if checkpoint["failed"] else proof
        lies = (
            "" if checkpoint["on_disk"] in {"intact", "unchecked"} else f", {checkpoint['on_disk']} on disk"
        )
        text = f"checkpoint {checkpoint['name']}  {checkpoint['reason']}  {proof}{lies}"
        console.print(f"  {escape(text)}")


def print_difference(document: Mapping[str, Any]) -> None:
    """The difference of two experiments."""
    console = result_console()
    console.print(f"[bold]{escape(document['a'])} → {escape(document['b'])}[/]")
    primary = document["primary"]
    console.print("  primary  " + (escape(primary["why_not"]) if "why_not" in primary else _changed(primary)))
    tiers = [document["tiers"][document[k]] or EMPTY for k in ("a", "b")]
    console.print(f"  tier     {tiers[0]} → {tiers[1]}")
    name = primary.get("name")
    for change in document["metrics"]:
        if change["name"] != name:
            console.print(f"  metric   {_changed(change)}")
    for change in document["config"]:
        values = [cell(change[k], CELL) for k in ("a", "b")]
        shown = {"~": f"{values[0]} → {values[1]}", "+": values[1], "-": values[0]}[change["mark"]]
        console.print(f"  config {change['mark']} {escape(change['key'])}: {shown}")
    for item in document["shortfalls"]:
        console.print(f"  shortfall {item['mark'].replace('-', '−')} {escape(item['text'])}")  # noqa: RUF001 - as in the older `diff`


def _changed(change: Mapping[str, Any]) -> str:
    color = {"better": "green", "worse": "red"}.get(change["b_is"] or "", "")
    word = change["b_is"] or "direction not declared"
    word = f"[{color}]{word}[/]" if color else word
    return f"{escape(change['name'])} {number(change['a'])} → {number(change['b'])}  {signed(change['delta'])}  {word}"


def _metric(line: Mapping[str, Any]) -> str:
    if line["metric"] is None:
        return EMPTY
    value = f"{line['value']:g}" if line["value"] is not None else str(line["value_state"])
    return escape(f"{line['metric']}={value}")


def _state(word: str) -> str:
    color = COLORS.get(word)
    return f"[{color}]{word}[/]" if color else word


def cell(value: Any, limit: int = CELL, *, plain: bool = False) -> str:
    """One line, cut; `—` for nothing."""
    text = " ".join(str(value if value is not None else "").split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return (text if plain else escape(text)) or EMPTY


def number(value: Any) -> str:
    """A number in six digits, or the word that stands for it."""
    return f"{value:g}" if isinstance(value, int | float) else cell(value)


def signed(value: float | None) -> str:
    """A difference with its sign."""
    return EMPTY if value is None else f"{value:+g}"
