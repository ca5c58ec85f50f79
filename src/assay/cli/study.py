"""`assay run` and `assay resume`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from assay import registry
from assay.cli.load import components, load_spec
from assay.cli.progress import observer
from assay.core.decision import EXIT_CODES
from assay.core.errors import AssayError, ComponentMissing, UsageError
from assay.core.history import StudyHistory
from assay.core.study import Study
from assay.engine.study import StudyLoop
from assay.flows.release import ReleaseSpec, plan
from assay.ledger.home import Home, find_home
from assay.ledger.projections import histories, study_summary
from assay.runtime.files import artifact


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a key of the spec.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--report/--no-report", default=True, help="Write the HTML report at the end.")
def run(spec: Path, overrides: tuple[str, ...], as_json: bool, report: bool) -> int:
    """Run a study to its Decision."""
    resolved = load_spec(spec, overrides)
    _require_components(resolved)
    source = Path(resolved.source)
    folder = find_home()
    _require_room(resolved, source, folder)
    home = Home(folder, create=True)
    with home.writing():
        known = histories(home.ledger.read())
        study = plan(resolved, artifact(source), _new_id(resolved.name, known))
        _mention_unfinished(known, study)
        return run_study(home, study, as_json=as_json, report=report)


@click.command()
@click.argument("study")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--report/--no-report", default=True, help="Write the HTML report at the end.")
def resume(study: str, as_json: bool, report: bool) -> int:
    """Go on with a study where the ledger says it stands."""
    home = Home(find_home(), create=False)
    with home.writing():
        history = find_study(home, study)
        found = artifact(Path(history.study.source.path))
        if found.digest != history.study.source.digest:
            raise UsageError(
                "the source checkpoint changed since the study opened: its baseline no longer holds",
                where=found.path,
                next="start a new study with `assay run`",
            )
        return run_study(home, history.study, as_json=as_json, report=report)


def run_study(home: Home, study: Study, *, as_json: bool, report: bool) -> int:
    """Run or resume a study with live progress, then print what came of it; returns the exit code."""
    with observer() as watching:
        loop = StudyLoop(
            study,
            ledger=home.ledger,
            store=home.store,
            components=registry.Registry(),
            folder=home.study(study.id),
            observer=watching,
        )
        outcome = loop.run()
    summary = study_summary(loop.journal.history)
    if report:
        summary["report"] = _report(home, loop.journal.history)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        from assay.report.decision import print_summary

        print_summary(summary)
    return EXIT_CODES[outcome]


def _report(home: Home, history: StudyHistory) -> str | None:
    """Write the report; the Decision stands also where a page of it cannot be written."""
    from assay.report.html import write_report

    try:
        return str(write_report(home, history))
    except AssayError as error:
        click.echo(f"assay: no report: {error}", err=True)
        return None


def find_study(home: Home, name: str) -> StudyHistory:
    """A study by its id.

    Raises:
        UsageError: if the ledger does not know it.
    """
    known = histories(home.ledger.read())
    if name not in known:
        ids = ", ".join(list(known)[-5:]) or "none"
        raise UsageError(
            f"no study {name!r}", where=str(home.folder), allowed=ids, next="`assay ls` lists all"
        )
    return known[name]


def _require_room(spec: ReleaseSpec, source: Path, folder: Path) -> None:
    """What would stand in the way at the end is said before anything is paid for."""
    if source.resolve() in folder.resolve().parents:
        raise UsageError(
            "the ledger would lie inside the source checkpoint and change it",
            where=str(folder),
            next="move the spec out of that folder, or set ASSAY_HOME",
        )
    target = spec.apply.options.get("path") if spec.apply_on_accept else None
    if target is not None and Path(target).exists():
        raise UsageError(
            "it exists already, and a release is never overwritten",
            where=f"apply.path: {target}",
            next="`assay undo` the earlier release, name another `apply.path`, or set `apply_on_accept: false`",
        )


def _new_id(name: str, known: dict[str, StudyHistory]) -> str:
    number = 1
    while f"{name}-{number}" in known:
        number += 1
    return f"{name}-{number}"


def _mention_unfinished(known: dict[str, StudyHistory], study: Study) -> None:
    for other in known.values():
        same = other.study.spec == study.spec and other.study.source.digest == study.source.digest
        if same and other.closed is None:
            name = other.study.id
            click.echo(
                f"note: {name} asks the same and is unfinished; `assay resume {name}` goes on with it",
                err=True,
            )


def _require_components(spec: ReleaseSpec) -> None:
    for where, component in components(spec):
        if component.state != "ready":
            raise ComponentMissing(
                f"{component.verb} kind {component.kind!r} is {component.state}: {component.detail}",
                where=where,
                next="`assay doctor` lists all kinds",
            )
