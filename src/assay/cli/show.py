"""`assay ls`, `show` and `report`. Only what a command uses is imported, so that `ls` starts at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(as_json: bool) -> int:
    """List the studies of this project, newest last."""
    from assay.ledger.home import Home, find_home, has_ledger
    from assay.ledger.projections import overview

    folder = find_home()
    lines = overview(Home(folder, create=False).ledger.rows()) if has_ledger(folder) else []
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
@click.option("--diff", is_flag=True, help="The change of a text; piped, it is a patch.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, diff: bool, as_json: bool) -> int:
    """Show a study, or one trial with every reason."""
    from assay.ledger.home import Home, find_home
    from assay.ledger.projections import study_summary, trial_summary
    from assay.report.decision import print_summary, print_trial

    home = Home(find_home(), create=False)
    if (record := _imported(home, name)) is not None:
        _show_imported(record, as_json=as_json)
        return 0
    history, trial = _find(home, name)
    if history.study.job == "evolve":
        from assay.cli.evolve_study import delivered

        delivered(home, history)  # mends what a kill left unfinished
    if diff:
        return _show_diff(home, history, trial, as_json)
    if trial is None:
        summary, tuned = study_summary(history), _tuned(home, history)
        if as_json:
            click.echo(json.dumps({**summary, **_tuned_json(tuned)}, indent=2))
        else:
            print_summary(summary)
            _print_tuned(tuned)
        return 0
    verdicts = {line.gate: home.store.get(line.verdict) for line in trial.gates.values()}
    if as_json:
        more = _tasks(home, trial) if history.study.job == "evolve" else {}
        click.echo(json.dumps({**trial_summary(trial), "verdicts": verdicts, **more}, indent=2))
        return 0
    if history.study.job == "evolve":  # its tasks are told with their runs, not as drops of a score
        shown = {gate: {**verdict, "estimates": []} for gate, verdict in verdicts.items()}
        print_trial(trial_summary(trial), shown)
        _print_tasks(home, trial)
    else:
        print_trial(trial_summary(trial), verdicts)
    return 0


def _show_diff(home: Any, history: Any, trial: Any, as_json: bool) -> int:
    from assay.report.evolve_text import change_json, change_of, print_change

    found, made, texts = change_of(home, history, trial)
    if as_json:
        click.echo(json.dumps(change_json(found, made, texts), indent=2))
    elif sys.stdout.isatty():
        print_change(made)
    else:
        click.echo(made, nl=False)
    return 0


def _tasks(home: Any, trial: Any) -> dict[str, Any]:
    from assay.ledger.evolve_records import of_trial
    from assay.report.evolve_text import tasks_json

    return {"tasks": tasks_json(of_trial(trial, home.store))}


def _print_tasks(home: Any, trial: Any) -> None:
    from assay.ledger.evolve_records import of_trial
    from assay.report.evolve_text import print_tasks

    print_tasks(of_trial(trial, home.store))


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
    from assay.report.pages import render, write_page

    home = Home(find_home(), create=False)
    if bundle is None and (record := _imported(home, study)) is not None:
        from assay.report.tuning import write_report

        name = record.recommendation.content_digest.removeprefix("sha256:")[:16]
        click.echo(str(write_report(out or home.folder / "reports" / f"imported-{name}.html", record)))
        return 0
    history, _ = _find(home, study)
    if bundle is not None:
        page = render(home, history).encode()
        write_bundle(bundle, history.study.id, home.ledger.read(), home.store, page)
        click.echo(str(bundle))
        return 0
    if (tuned := _tuned(home, history)) is not None:
        from assay.report.tuning import write_report

        path = out or home.folder / "reports" / f"{history.study.id}.html"
        click.echo(str(write_report(path, *tuned, project=home.folder.parent)))
        return 0
    click.echo(str(write_page(home, history, out)))
    return 0


def _tuned(home: Any, history: Any) -> tuple[Any, Any] | None:
    """The record of a tuning study, as far as it is, and what changed since it measured; None for any other study."""
    if history.study.job != "tune":
        return None
    from assay.cli.staleness import stale
    from assay.cli.tune_progress import at_work, record_of

    alive = at_work(home, {history.study.id: history}) == history.study.id and history.closed is None
    record = record_of(home, history, alive=alive)
    return record, stale(history, record)


def _tuned_json(found: tuple[Any, Any] | None) -> dict[str, Any]:
    if found is None:
        return {}
    record, changed = found
    return {"recommendation": record.recommendation.to_json(), "stale": [c.to_json() for c in changed]}


def _print_tuned(found: tuple[Any, Any] | None) -> None:
    if found is None:
        return
    from assay.report.recommendation import print_recommendation

    record, changed = found
    print_recommendation(record.recommendation, changed, remarks=record.remarks)


def _imported(home: Any, name: str) -> Any:
    """A tuning run of another tool by its id; None if there is none."""
    from assay.ledger.tuning_records import FOLDER, imported

    if not (home.folder / FOLDER).is_dir():
        return None
    return next((r for r in imported(home.folder) if r.recommendation.run_id == name), None)


def _show_imported(record: Any, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(record.to_json(), indent=2))
        return
    from assay.report.recommendation import print_recommendation

    click.echo("imported: what another tool said of itself; nothing is decided on it")
    print_recommendation(record.recommendation)


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
        "verdict.recorded": lambda: _judged(data["line"]),
        "decision.recorded": lambda: _decided(data["decision"]),
        "study.closed": lambda: f"{data['outcome']}: {data['why']}",
    }
    text = texts.get(row["type"])
    try:
        click.echo(f"{row['at'][11:19]} {text() if text else row['type']}")
    except (KeyError, TypeError, ValueError) as error:
        from assay.ledger.projections import damaged

        raise damaged(row) from error


def _judged(line: Mapping[str, Any]) -> str:
    from assay.core.decision import GateLine
    from assay.report.decision import launched

    word, _ = launched([GateLine.from_json(line)]) or (line["status"], "")
    return f"  {word:<12} {line['gate']}: {line['detail']}"


def _decided(decision: Mapping[str, Any]) -> str:
    from assay.core.decision import GateLine
    from assay.report.decision import launched

    gates = () if decision["interrupted"] else map(GateLine.from_json, decision["gates"])
    word, sentence = launched(gates) or (decision["outcome"], decision["sentence"])
    return f"  {word}  {decision['candidate']}: {sentence}"
