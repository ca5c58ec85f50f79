"""`assay export` and `assay import`: tuning runs as the two SQLite tables that other tools query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
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
    """Write tuning studies, and imported runs, as tables tune_runs and tune_trials. All of them if none is named."""
    from assay.core.errors import UsageError
    from assay.ledger.export_sqlite import export_runs
    from assay.ledger.home import Home, find_home

    home = Home(find_home(), create=False)
    records = {r.recommendation.run_id: r for r in _records(home)}
    unknown = [name for name in studies if name not in records]
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
        click.echo(json.dumps({"schema": "export/1", "file": str(file), "runs": runs}, indent=2))
    else:
        click.echo(f"{file}: {count} run{'' if count == 1 else 's'}")
    return 0


def _records(home: Home) -> Iterator[TuningRecord]:
    """Of every tuning study, one without an end as far as it came, then the imported ones."""
    from assay.cli.tune_progress import at_work, record_of
    from assay.ledger.projections import histories
    from assay.ledger.tuning_records import imported

    known = histories(home.ledger.read())
    running = at_work(home, known)
    for name, history in known.items():
        if (record := record_of(home, history, alive=name == running)) is not None:
            yield record
    yield from imported(home.folder)


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
