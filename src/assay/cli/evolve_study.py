"""What `assay run` does for an evolve study beside the ledger: asks before it goes on, and delivers what came of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from assay.core.errors import AssayError, SpecError
from assay.core.history import StudyHistory
from assay.core.vocabulary import Status
from assay.flows.evolve import EvolveSpec
from assay.ledger.home import Home
from assay.ledger.projections import histories

PREFLIGHT = "preflight"


def goes_on(home: Home) -> bool:
    """Whether the newest study ended at its preflight and a person wants to go on all the same.

    Asked on a terminal, where anything but yes is no; elsewhere only the option is told.
    """
    history = list(histories(home.ledger.read()).values())[-1]
    reason = _refused(history)
    if not reason:
        return False
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        click.echo("note: `--force` goes on all the same", err=True)
        return False
    try:
        return click.confirm(f"{reason}\nGo on all the same?", default=False, err=True)
    except click.Abort:
        return False


def _refused(history: StudyHistory) -> str:
    """What the preflight had against going on; empty if it had nothing, or what cannot be overruled."""
    for trial in history.trials.values():
        line = trial.gates.get(PREFLIGHT)
        if line is not None and line.status in (Status.FAIL, Status.INCONCLUSIVE):
            return line.detail
    return ""


def delivered(home: Home, history: StudyHistory) -> str | None:
    """Write texts, patch and reasons of an evolve study; their folder, or None where there is nothing.

    The Decision stands also where they cannot be written.
    """
    from assay.report.delivery import deliver

    try:
        files = deliver(home, history)
    except AssayError as error:
        click.echo(f"assay: the delivered files were not written: {error}", err=True)
        return None
    return str(files[0].parent) if files else None


def forced(spec: EvolveSpec) -> EvolveSpec:
    """The spec with a preflight that tells and does not refuse."""
    return spec.model_copy(update={"preflight": spec.preflight.model_copy(update={"force": True})})


def minimizing(path: Path, overrides: Sequence[str], margin: float, max_runs: int) -> EvolveSpec:
    """The spec of a study that looks for the shortest text with equivalent behaviour.

    Raises:
        UnreadableInput, SpecError: see `cli.load.load_any`; also for a spec of another job.
    """
    search = f"search={{engine: minimize, max_runs: {max_runs}}}"
    more = ("candidates=[]", search, f"deploy.equivalent_margin={margin}", "preflight.force=true")
    spec = evolve_spec(path, (*overrides, *more))
    return spec.model_copy(update={"name": f"{spec.name}-short"[:64]})


def evolve_spec(path: Path, overrides: Sequence[str]) -> EvolveSpec:
    """A spec of this job.

    Raises:
        UnreadableInput, SpecError: see `cli.load.load_any`; also for a spec of another job.
    """
    from assay.cli.load import load_any

    found = load_any(path, overrides)
    if not isinstance(found, EvolveSpec):
        raise SpecError(f"this is a spec of {found.schema_}", where=f"{path}: schema", allowed="evolve/1")
    return found


def as_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows for people."""
    from rich.table import Table

    from assay.report.console import result_console

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2))
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*(str(row[c]) for c in columns))
    result_console().print(table)
