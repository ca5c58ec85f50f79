"""`assay run` and `assay resume`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from assay import registry
from assay.cli import hangup_stops
from assay.cli.calibrate import with_noise
from assay.cli.evolve_study import delivered, forced, goes_on
from assay.cli.load import load_any
from assay.cli.opening import infeasible, opened, require_canary, require_components, require_room
from assay.cli.progress import observer
from assay.cli.topup import TopUp, topping_up
from assay.cli.training_study import Concluding, conclude
from assay.cli.tuning_study import print_recommended, recommended, room_for
from assay.core.decision import EXIT_CODES
from assay.core.errors import AssayError, Interrupted, UsageError
from assay.core.history import StudyHistory
from assay.core.study import Study
from assay.core.vocabulary import Outcome
from assay.engine.study import StudyLoop
from assay.flows.evolve import EvolveSpec
from assay.flows.release import ReleaseSpec
from assay.ledger.home import Home, find_home
from assay.ledger.projections import histories, study_summary
from assay.runtime.files import artifact

ANYWAY = "Run it although the plan cannot reach its power, or the preflight says that it is not worth while."
DRAIN = "Stop this service while a tuning study runs, then start it again. May be repeated."


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a key of the spec.")
@click.option("--anyway", "--force", "anyway", is_flag=True, help=ANYWAY)
@click.option("--drain", "drains", multiple=True, metavar="SERVICE", help=DRAIN)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--report/--no-report", default=True, help="Write the HTML report at the end.")
def run(
    spec: Path,
    overrides: tuple[str, ...],
    anyway: bool,
    drains: tuple[str, ...],
    as_json: bool,
    report: bool,
) -> int:
    """Run a study to its Decision."""
    resolved = load_any(spec, overrides)
    if isinstance(resolved, EvolveSpec):
        require_canary(resolved)
    require_components(resolved)
    source = artifact(Path(resolved.source))
    folder = find_home()
    require_room(resolved, Path(resolved.source), folder)
    if isinstance(resolved, ReleaseSpec):
        resolved = with_noise(resolved, source)
    if not anyway and (reason := infeasible(resolved, source)):
        click.echo(f"assay: {reason}", err=True)
        return EXIT_CODES[Outcome.INFEASIBLE]
    home = Home(folder, create=True)
    with home.writing():
        if not isinstance(resolved, EvolveSpec):
            study = opened(home, resolved, source)
            return run_study(home, study, as_json=as_json, report=report, drains=drains)
        resolved = forced(resolved) if anyway else resolved
        code = run_study(home, opened(home, resolved, source), as_json=as_json, report=report, drains=drains)
        if not anyway and goes_on(home):
            again = opened(home, forced(resolved), source)
            return run_study(home, again, as_json=as_json, report=report, drains=drains)
        return code


@click.command()
@click.argument("study")
@click.option(
    "--more", type=click.IntRange(min=1), metavar="N", help="Ask N more pairs of what is INCONCLUSIVE."
)
@click.option("--drain", "drains", multiple=True, metavar="SERVICE", help=DRAIN)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--report/--no-report", default=True, help="Write the HTML report at the end.")
def resume(study: str, more: int | None, drains: tuple[str, ...], as_json: bool, report: bool) -> int:
    """Go on with a study where the ledger says it stands."""
    home = Home(find_home(), create=False)
    with home.writing():
        history = find_study(home, study)
        found = artifact(Path(history.study.source.path))
        if found.digest != history.study.source.digest:
            what = _SOURCES.get(history.study.job, "source checkpoint")
            raise UsageError(
                f"the {what} changed since the study opened: its baseline no longer holds",
                where=found.path,
                next="start a new study with `assay run`",
            )
        topped_up = topping_up(history, more) if more is not None else None
        for trial, pairs in (topped_up.pairs if topped_up is not None else {}).items():
            whole = (
                ""
                if pairs == more
                else ", to the end of a look"
                if pairs > (more or 0)
                else ", all that are left"
            )
            click.echo(f"note: {trial} is asked {pairs:,} more pairs{whole}", err=True)
        return run_study(
            home, history.study, as_json=as_json, report=report, topped_up=topped_up, drains=drains
        )


_SOURCES: Mapping[str, str] = {"train": "training code", "evolve": "text"}
"""Job → what its baseline is called."""


def run_study(
    home: Home,
    study: Study,
    *,
    as_json: bool,
    report: bool,
    topped_up: TopUp | None = None,
    drains: Sequence[str] = (),
) -> int:
    """Run or resume a study with live progress, then print what came of it; returns the exit code."""
    try:
        with room_for(study, home, drains):
            outcome, history = execute(home, study, topped_up)
    except Interrupted:
        _mention_best(home, study)
        raise
    summary = study_summary(history)
    if report:
        summary["report"] = _report(home, history)
    if (delivery := delivered(home, history)) is not None:
        summary["delivery"] = delivery
    if as_json:
        found = recommended(home, history)
        click.echo(
            json.dumps({**summary, **({"recommendation": found.to_json()} if found else {})}, indent=2)
        )
    else:
        from assay.report.decision import print_summary

        print_summary(summary)
        print_recommended(home, history)
    return _exit_code(outcome, summary.get("advance"))


def _mention_best(home: Home, study: Study) -> None:
    """What an interrupted search knows already; `assay resume` goes on with it."""
    if study.job != "tune":
        return
    from assay.cli.tune_progress import best_so_far

    if told := best_so_far(find_study(home, study.id), home.store):
        click.echo(f"note: {told}", err=True)


def _exit_code(outcome: Outcome, advance: Mapping[str, Any] | None) -> int:
    """That of the word; a better recipe that may not advance is judged and not kept, whatever its word."""
    if advance is None or outcome is not Outcome.ACCEPT or advance["word"] == "ADVANCE":
        return EXIT_CODES[outcome]
    return EXIT_CODES[Outcome.NO_GAIN if advance["tier"] is not None else Outcome.INCONCLUSIVE]


def execute(home: Home, study: Study, topped_up: TopUp | None = None) -> tuple[Outcome, StudyHistory]:
    """Run or resume a study with live progress."""
    with hangup_stops(), observer() as watching:
        loop = StudyLoop(
            study,
            ledger=home.ledger,
            store=home.store,
            components=registry.Registry(),
            folder=home.study(study.id),
            observer=Concluding(watching, home.study(study.id)) if study.job == "train" else watching,
        )
        if topped_up is not None:
            loop.top_up(topped_up.steps, topped_up.trials)
        if study.job == "train":
            conclude(home.study(study.id), loop.journal.history)  # what a kill left open
        outcome = loop.run()
    return outcome, loop.journal.history


def _report(home: Home, history: StudyHistory) -> str | None:
    """Write the report; the Decision stands also where a page of it cannot be written."""
    from assay.report.pages import write_page

    try:
        return str(write_page(home, history))
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
