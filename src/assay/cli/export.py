"""`assay export` and `assay import`: tuning runs as the two SQLite tables that other tools query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from assay.core.errors import AssayError
    from assay.core.tuning_record import TuningRecord
    from assay.ledger.home import Home


@click.command()
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@click.option(
    "--sqlite",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file; one that holds tune_runs and tune_trials keeps its other runs.",
)
@click.option("--keep", type=click.IntRange(min=1), help="Keep only so many of the newest runs in the file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(studies: tuple[str, ...], file: Path, keep: int | None, as_json: bool) -> int:
    """Write tuning studies, and imported runs, as tables tune_runs and tune_trials. All of them if none is named.

    Of all, those that cannot be read are named and left out; the exit code is then 7.
    """
    from assay.core.errors import LedgerBroken, UsageError
    from assay.ledger.export_sqlite import export_runs
    from assay.ledger.home import Home, find_home

    home = Home(find_home(), create=False)
    records, broken = _records(home)
    if damaged := [broken[name] for name in studies if name in broken]:
        raise damaged[0]
    unknown = [name for name in studies if name not in records]
    left_out = broken if unknown or not studies else {}
    for name, error in left_out.items():
        click.echo(f"cannot be read: {name}: {error}", err=True)
    if unknown:
        raise UsageError(
            f"no tuning run {unknown[0]!r}",
            where=str(home.folder),
            allowed=", ".join(list(records)[-5:]) or "none",
            next="`assay ls`",
        )
    chosen = [records[name] for name in dict.fromkeys(studies)] or list(records.values())
    count = export_runs(file, chosen, keep=keep)
    if as_json:
        runs = [r.recommendation.run_id for r in chosen]
        told = {"schema": "export/1", "file": str(file), "runs": runs, "left_out": list(left_out)}
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(f"{file}: {count} run{'' if count == 1 else 's'}")
    if left_out:
        names = ", ".join(list(left_out)[:5])
        raise LedgerBroken(
            f"left out what cannot be read: {names}", where=str(file), next="`assay verify STUDY`"
        )
    return 0


def _records(home: Home) -> tuple[dict[str, TuningRecord], dict[str, AssayError]]:
    """Tuning studies, one without an end as far as it came, and imported runs; and by name what cannot be read."""
    from assay.cli.tune_progress import at_work, record_of
    from assay.core.errors import LedgerBroken, UnreadableInput
    from assay.ledger.projections import histories
    from assay.ledger.tuning_records import imported_files, imported_run

    known = histories(home.ledger.read())
    running = at_work(home, known)
    found: dict[str, TuningRecord] = {}
    broken: dict[str, AssayError] = {}
    for name, history in known.items():
        try:
            if (record := record_of(home, history, alive=name == running)) is not None:
                found[name] = record
        except LedgerBroken as error:
            broken[name] = error
    runs = []
    for path in imported_files(home.folder):
        try:
            runs.append(imported_run(path))
        except (LedgerBroken, UnreadableInput) as error:
            broken[path.name] = error
    for run in sorted(runs, key=lambda r: r.recommendation.started_at):
        found.setdefault(
            run.recommendation.run_id, run
        )  # what was measured here outranks what another tool said
    return found, broken


@click.command("import")
@click.option(
    "--sqlite",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="A file with the tables tune_runs and tune_trials.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(file: Path, as_json: bool) -> int:
    """Take over tuning runs of another tool: shown and exported as its own word, never decided on."""
    from assay.ledger.export_sqlite import import_runs
    from assay.ledger.home import Home, find_home
    from assay.ledger.tuning_records import keep_imported

    records = import_runs(file)
    folder = find_home()
    if records:
        home = Home(folder, create=True)
        with home.writing():
            for record in records:
                keep_imported(home.folder, record)
    runs = [r.recommendation.run_id for r in records]
    if as_json:
        click.echo(json.dumps({"schema": "import/1", "file": str(file), "runs": runs}, indent=2))
        return 0
    for record in records:
        chosen = record.recommendation.recommendation
        said = chosen.model if chosen else record.recommendation.exit_reason.value
        click.echo(f"{record.recommendation.run_id}  {len(record.cells)} trials  {said}")
    if not records:
        click.echo(f"no runs in {file}", err=True)
    return 0


# The command table finds a command by its name, and `import` is none that a function may have.
globals()["import"] = import_
