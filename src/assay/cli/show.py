"""`assay ls`, `show` and `report`. Only what a command uses is imported, so that `ls` starts at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(as_json: bool) -> int:
    """List the studies of this project, newest last."""
    from assay.ledger.home import Home, find_home
    from assay.ledger.projections import overview

    folder = find_home()
    lines = overview(Home(folder, create=False).ledger.rows()) if (folder / "ledger.db").exists() else []
    if as_json:
        click.echo(json.dumps({"schema": "studies/1", "studies": lines}, indent=2))
        return 0
    if not lines:
        click.echo(f"no studies in {folder}; start one with `assay run SPEC`, or try `assay demo`", err=True)
        return 0
    width = max(len(line["id"]) for line in lines)
    for line in lines:
        word = line["outcome"] or line["state"]
        trials = f"{line['decided']}/{line['trials']} decided"
        click.echo(f"{line['id']:<{width}}  {word:<13} {trials:<13} {line['opened'][:16]}  {line['source']}")
    return 0


@click.command()
@click.argument("name", metavar="STUDY|TRIAL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> int:
    """Show a study, or one trial with every reason."""
    from assay.ledger.home import Home, find_home
    from assay.ledger.projections import study_summary, trial_summary
    from assay.report.decision import print_summary, print_trial

    home = Home(find_home(), create=False)
    history, trial = _find(home, name)
    if trial is None:
        summary = study_summary(history)
        click.echo(json.dumps(summary, indent=2)) if as_json else print_summary(summary)
        return 0
    verdicts = {line.gate: home.store.get(line.verdict) for line in trial.gates.values()}
    if as_json:
        click.echo(json.dumps({**trial_summary(trial), "verdicts": verdicts}, indent=2))
    else:
        print_trial(trial_summary(trial), verdicts)
    return 0


@click.command()
@click.argument("study", metavar="STUDY|EXPERIMENT")
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="Write a zip that `assay verify` accepts anywhere."
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the HTML file goes.")
def report(study: str, bundle: Path | None, out: Path | None) -> int:
    """Write the HTML report of a study or a training experiment, or a bundle with a study's evidence."""
    from assay.cli import experiment_report

    folder = experiment_report.find(study) if bundle is None else None
    if folder is not None:
        click.echo(str(experiment_report.write(folder, out)))
        return 0
    from assay.ledger.bundle import write_bundle
    from assay.ledger.home import Home, find_home
    from assay.report.html import render
    from assay.report.pages import write_page

    home = Home(find_home(), create=False)
    history, _ = _find(home, study)
    if bundle is not None:
        page = render(home.store, history, home.folder.parent).encode()
        write_bundle(bundle, history.study.id, home.ledger.read(), home.store, page)
        click.echo(str(bundle))
        return 0
    click.echo(str(write_page(home, history, out)))
    return 0


def _find(home: Any, name: str) -> tuple[Any, Any]:
    """A study, or a trial with its study."""
    from assay.core.errors import UsageError
    from assay.ledger.projections import histories

    known = histories(home.ledger.read())
    if name in known:
        return known[name], None
    for history in known.values():
        if name in history.trials:
            return history, history.trials[name]
    ids = ", ".join(list(known)[-5:]) or "none"
    raise UsageError(f"no study or trial {name!r}", where=str(home.folder), allowed=ids, next="`assay ls`")


def _echo_event(row: Mapping[str, Any]) -> None:
    data = row["data"]
    texts = {
        "trial.started": lambda: f"▸ {data['candidate']['name']}",
        "step.started": lambda: f"  {data['step']} ...",
        "step.finished": lambda: f"  {data['step']} {data['wall_s']:.1f} s",
        "step.retried": lambda: f"  {data['step']}: again after {data['after']['failure_class']}",
        "verdict.recorded": lambda: "  {status:<12} {gate}: {detail}".format(**data["line"]),
        "decision.recorded": lambda: "  {outcome}  {candidate}: {sentence}".format(**data["decision"]),
        "study.closed": lambda: f"{data['outcome']}: {data['why']}",
    }
    text = texts.get(row["type"])
    try:
        click.echo(f"{row['at'][11:19]} {text() if text else row['type']}")
    except (KeyError, TypeError) as error:
        from assay.ledger.projections import damaged

        raise damaged(row) from error
