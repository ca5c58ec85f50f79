"""`assay lint-skill`, `lint-manifest`, `lint-suite`: what is wrong with a text or suite, before anything is paid for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from assay.core.artifact_text import Finding
    from assay.core.suite import SolutionRuns, Suite

SKILL_DIALECTS = ("agentskills", "anthropic", "claude-code", "codex", "copilot")
MANIFEST_DIALECTS = ("mcp", "seed")
_COLOURS = {"block": "bold red", "warn": "yellow", "info": "dim"}


@click.command("lint-skill")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    type=click.Choice(SKILL_DIALECTS),
    help="Whose rules count; repeatable. [default: agentskills]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lint_skill(folder: Path, dialects: tuple[str, ...], as_json: bool) -> int:
    """Check a skill: frontmatter, name, links, sizes. FOLDER holds its SKILL.md. Exit code 1: a finding blocks."""
    from assay.gates.text import TextPolicy, check_text
    from assay.readers.texts import read_skill

    skill = read_skill(folder)
    policy = TextPolicy.model_validate({"dialects": dialects or ("agentskills",)})
    facts = {
        "name": skill.name,
        "digest": skill.digest,
        "files": len(skill.files),
        "characters": len(skill.text),
        "lines": skill.text.count("\n") + 1,
    }
    return _told("lint-skill", str(folder), facts, check_text(skill, policy), as_json)


@click.command("lint-manifest")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    type=click.Choice(MANIFEST_DIALECTS),
    help="Whose rules count; repeatable. [default: mcp]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lint_manifest(file: Path, dialects: tuple[str, ...], as_json: bool) -> int:
    """Check an MCP manifest: names, schemas, descriptions, hidden characters. Exit code 1: a finding blocks."""
    from assay.gates.text import TextPolicy, check_manifest
    from assay.readers.texts import read_manifest

    manifest = read_manifest(file)
    policy = TextPolicy.model_validate({"dialects": dialects or ("mcp",)})
    facts = {"digest": manifest.digest, "tools": len(manifest.tools)}
    return _told("lint-manifest", str(file), facts, check_manifest(manifest.tools, policy), as_json)


@click.command("lint-suite")
@click.argument("suite", type=click.Path(path_type=Path))
@click.option(
    "--runs",
    default=3,
    show_default=True,
    type=click.IntRange(0, 100),
    help="How often each verifier judges the reference and nothing done; 0 runs nothing.",
)
@click.option(
    "--jobs", default=2, show_default=True, type=click.IntRange(1, 64), help="Tasks that are tried at once."
)
@click.option("--no-canary", is_flag=True, help="The study brings its own proof that the text is delivered.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lint_suite(suite: Path, runs: int, jobs: int, no_canary: bool, as_json: bool) -> int:
    """Check a suite: leaks, tasks that nobody can pass or fail, flaky verifiers, a missing canary, duplicates.

    SUITE is a folder with a suite.yaml, or a JSONL file. Its verifiers are run on this machine, without a sandbox.
    Exit code 1: a finding blocks.
    """
    from assay.gates.suite import SuitePolicy, check_solutions, check_suite
    from assay.readers.suites import read_suite

    read = read_suite(suite)
    found = check_suite(read, SuitePolicy(needs_canary=not no_canary))
    tried = _tried(read, runs, jobs) if runs else ()
    facts: dict[str, Any] = {
        "name": read.name,
        "digest": read.digest,
        "source_digest": read.source_digest,
        "tasks": len(read.tasks),
        "canaries": len(read.canaries),
        "verifier_runs": sum(len(r.passed) for r in tried),
    }
    return _told("lint-suite", str(suite), facts, (*found, *check_solutions(tried)), as_json)


def _tried(suite: Suite, runs: int, jobs: int) -> tuple[SolutionRuns, ...]:
    """Both solutions of every task that a command decides, in the order of the suite."""
    from concurrent.futures import ThreadPoolExecutor

    from assay.runtime.verifier import try_solutions

    tasks = [t for t in suite.tasks if t.verifier.command]
    found: list[SolutionRuns] = []
    with ThreadPoolExecutor(jobs) as pool:
        # cancelled by hand: leaving the pool would first run all that waits
        waiting = [pool.submit(try_solutions, task, runs) for task in tasks]
        try:
            for number, (task, future) in enumerate(zip(tasks, waiting, strict=True), 1):
                click.echo(f"{number}/{len(tasks)} {task.task_id}", err=True)
                found.extend(future.result())
        finally:
            for future in waiting:
                future.cancel()
    return tuple(found)


def _told(command: str, path: str, facts: dict[str, Any], findings: Sequence[Finding], as_json: bool) -> int:
    """Print findings, worst first; 1 where one blocks, else 0."""
    order = list(_COLOURS)
    shown = sorted(findings, key=lambda f: order.index(f.severity.value))
    blocks = sum(f.severity.value == "block" for f in shown)
    if as_json:
        value = {
            "schema": f"{command}/1",
            "path": path,
            **facts,
            "ok": not blocks,
            "findings": [f.to_json() for f in shown],
        }
        click.echo(json.dumps(value, indent=2))
    else:
        _print(facts, shown)
    return 1 if blocks else 0


def _print(facts: dict[str, Any], findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text("  ".join(_fact(k, v) for k, v in facts.items()), style="dim"), soft_wrap=True)
    if findings:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("", "rule", "where", "what"):
            table.add_column(name, overflow="fold")
        for finding in findings:
            table.add_row(*_cells(finding))
        console.print(table)
    count = {w: sum(f.severity.value == w for f in findings) for w in _COLOURS}
    end = ", ".join(f"{n} {w}" for w, n in count.items() if n) or "nothing found"
    console.print(Text(end, style="bold red" if count["block"] else "bold green"))


def _fact(key: str, value: Any) -> str:
    shown = (
        str(value)[:19]
        if str(value).startswith("sha256:")
        else f"{value:,}"
        if isinstance(value, int)
        else value
    )
    return f"{key.replace('_', ' ')} {shown}"


def _cells(finding: Finding) -> Iterator[Any]:
    from rich.text import Text

    yield Text(finding.severity.value, style=_COLOURS[finding.severity.value])
    yield Text(finding.rule)
    yield Text(finding.where + (f":{finding.line}" if finding.line else ""))
    numbers = "" if finding.measured is None else f" ({_number(finding.measured)}"
    if numbers:
        numbers += f" of {_number(finding.limit)})" if finding.limit is not None else ")"
    yield Text(finding.text + numbers)


def _number(value: float | str | None) -> str:
    return f"{value:,g}" if isinstance(value, int | float) else str(value)
