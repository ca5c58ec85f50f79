"""`assay run` and `assay resume`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from assay import registry
from assay.cli.calibrate import with_noise
from assay.cli.load import Spec, components, load_any
from assay.cli.progress import observer
from assay.cli.training_study import Concluding, conclude
from assay.core.candidate import Candidate
from assay.core.decision import EXIT_CODES
from assay.core.errors import AssayError, ComponentMissing, Interrupted, UsageError
from assay.core.evidence import Artifact
from assay.core.history import StudyHistory
from assay.core.study import Step, Study
from assay.core.trial import Trial
from assay.core.vocabulary import Outcome
from assay.engine.study import StudyLoop
from assay.flows import release
from assay.flows import train as training
from assay.flows import tune as tuning
from assay.flows.release import ReleaseSpec, plan
from assay.gates.compare import ComparePolicy
from assay.ledger.home import Home, find_home
from assay.ledger.projections import histories, study_summary
from assay.runtime.files import artifact


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a key of the spec.")
@click.option("--anyway", is_flag=True, help="Run a plan that cannot reach `min_power`.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--report/--no-report", default=True, help="Write the HTML report at the end.")
def run(spec: Path, overrides: tuple[str, ...], anyway: bool, as_json: bool, report: bool) -> int:
    """Run a study to its Decision."""
    resolved = load_any(spec, overrides)
    _require_components(resolved)
    source = artifact(Path(resolved.source))
    folder = find_home()
    _require_room(resolved, Path(resolved.source), folder)
    if isinstance(resolved, ReleaseSpec):
        resolved = with_noise(resolved, source)
    if not anyway and (reason := _infeasible(resolved, source)):
        click.echo(f"assay: {reason}", err=True)
        return EXIT_CODES[Outcome.INFEASIBLE]
    home = Home(folder, create=True)
    with home.writing():
        known = histories(home.ledger.read())
        name = new_id(resolved.name, known)
        study = _planned(resolved, source, name, known)
        _mention_unfinished(known, study)
        if study.exploratory:
            click.echo(f"note: exploratory, nothing can be accepted: {study.exploratory}", err=True)
        return run_study(home, study, as_json=as_json, report=report)


@click.command()
@click.argument("study")
@click.option(
    "--more", type=click.IntRange(min=1), metavar="N", help="Ask N more pairs of what is INCONCLUSIVE."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--report/--no-report", default=True, help="Write the HTML report at the end.")
def resume(study: str, more: int | None, as_json: bool, report: bool) -> int:
    """Go on with a study where the ledger says it stands."""
    home = Home(find_home(), create=False)
    with home.writing():
        history = find_study(home, study)
        found = artifact(Path(history.study.source.path))
        if found.digest != history.study.source.digest:
            what = "training code" if history.study.job == "train" else "source checkpoint"
            raise UsageError(
                f"the {what} changed since the study opened: its baseline no longer holds",
                where=found.path,
                next="start a new study with `assay run`",
            )
        topped_up = _topping_up(history, more) if more is not None else None
        return run_study(home, history.study, as_json=as_json, report=report, topped_up=topped_up)


class TopUp(NamedTuple):
    """How a study goes on beyond its plan."""

    steps: tuple[Step, ...]
    trials: tuple[str, ...]


def _topping_up(history: StudyHistory, pairs: int) -> TopUp:
    """What `--more` adds to a study.

    Raises:
        UsageError: if its contract forbids it, or there is nothing to ask.
    """
    study = history.study
    if study.job != "release":
        raise UsageError(
            f"only a release takes more pairs, not a study of job {study.job}",
            where=study.id,
            next="start a new study, of a train job with more `seeds`",
        )
    policy = ComparePolicy.model_validate(dict(next(g.policy for g in study.gates if g.gate == "compare")))
    undecided = tuple(
        t.id
        for t in history.trials.values()
        if t.decision is not None and t.decision.outcome is Outcome.INCONCLUSIVE and t.gates.get("compare")
    )
    if not undecided:
        raise UsageError(
            "no candidate of it is INCONCLUSIVE for want of pairs",
            where=study.id,
            next=f"`assay show {study.id}`",
        )
    if policy.looks is None:
        raise UsageError(
            "its contract tests once: more pairs after a look at the first would break its error rate",
            where=study.id,
            next="give a new study `sequential: {rule: anytime}`, which may be topped up",
        )
    spec = ReleaseSpec.from_json(study.spec)
    asked = min(_asked(history.trials[t], history) for t in undecided)
    planned = max(_asked_by(s) for s in history.steps)
    beyond = asked + pairs - planned
    steps = release.more(spec, history.steps, beyond) if beyond > 0 else ()
    if beyond > 0 and not steps and asked >= planned:
        raise UsageError(
            f"all {planned:,} items of the tasks were asked: there is none to add",
            where=study.id,
            next="add tasks or items, in a new study",
        )
    if steps and policy.looks.rule == "group" and not policy.looks.topup_frac:
        raise UsageError(
            f"its contract plans {planned:,} pairs and keeps no part of its error rates for more",
            where=study.id,
            next="give a new study `sequential: {rule: anytime}` or a `topup_frac`",
        )
    return TopUp(steps, undecided)


def _asked_by(step: Step) -> int:
    return sum(stop for _, stop in step.draw.parts.values()) if step.draw is not None else 0


def _asked(trial: Trial, history: StudyHistory) -> int:
    """Pairs that a trial has been asked so far."""
    return max((_asked_by(s) for s in history.steps if s.name in trial.steps), default=0)


def run_study(
    home: Home, study: Study, *, as_json: bool, report: bool, topped_up: TopUp | None = None
) -> int:
    """Run or resume a study with live progress, then print what came of it; returns the exit code."""
    try:
        outcome, history = execute(home, study, topped_up)
    except Interrupted:
        _mention_best(home, study)
        raise
    summary = study_summary(history)
    if report:
        summary["report"] = _report(home, history)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        from assay.report.decision import print_summary

        print_summary(summary)
        _print_recommendation(home, history)
    return _exit_code(outcome, summary.get("advance"))


def _print_recommendation(home: Home, history: StudyHistory) -> None:
    """What to serve, after a study that tuned."""
    if history.study.job != "tune":
        return
    from assay.ledger.tuning_records import of_study
    from assay.report.recommendation import print_recommendation

    record = of_study(history, home.store)
    if record is not None and record.recommendation is not None:
        print_recommendation(record.recommendation)


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
    with observer() as watching:
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


def _planned(spec: Spec, source: Artifact, name: str, known: Mapping[str, StudyHistory]) -> Study:
    """The study that a spec of any job describes."""
    if isinstance(spec, ReleaseSpec):
        return plan(spec, source, name, exploratory=_contract_changed(spec, source, known))
    if isinstance(spec, tuning.TuneSpec):
        return tuning.plan(spec, source, name)
    return training.plan(spec, source, name)


def _require_room(spec: Spec, source: Path, folder: Path) -> None:
    """What would stand in the way at the end is said before anything is paid for."""
    if source.resolve() in folder.resolve().parents:
        raise UsageError(
            "the ledger would lie inside the source checkpoint and change it",
            where=str(folder),
            next="move the spec out of that folder, or set ASSAY_HOME",
        )
    fresh = spec.apply_on_accept and spec.apply.kind == "directory"
    target = spec.apply.options.get("path") if fresh else None
    if target is not None and Path(target).exists():
        raise UsageError(
            "it exists already, and a release is never overwritten",
            where=f"apply.path: {target}",
            next="`assay undo` the earlier release, name another `apply.path`, or set `apply_on_accept: false`",
        )


def _infeasible(spec: Spec, source: Artifact) -> str | None:
    """Why a study is not worth its first sample, or None."""
    if not isinstance(spec, ReleaseSpec) or not spec.expected_samples:
        return None
    from assay.report.plan import describe, infeasible

    deciding = describe(spec, source, [])["deciding"]
    return None if deciding["feasible"] else infeasible(deciding)


def _contract_changed(spec: ReleaseSpec, source: Artifact, known: Mapping[str, StudyHistory]) -> str:
    """What differs from the contract of an earlier study of the same candidates, whose results were seen."""
    mine = plan(spec, source, "next")
    keys = {Candidate.from_json(c).key for c in mine.proposer.options["candidates"]}
    for history in known.values():
        other = history.study
        if other.job != mine.job or other.source.digest != source.digest:
            continue
        asked = ReleaseSpec.from_json(other.spec).evaluate
        seen = any(t.candidate.key in keys and "compare" in t.gates for t in history.trials.values())
        if not seen or asked != spec.evaluate:
            continue
        changes = _differences(_contract(other), _contract(mine))
        if changes:
            return f"{changes} after {other.id} had shown results of the same recipe on the same items"
    return ""


def _contract(study: Study) -> Mapping[str, Any]:
    """What decides: the rule, how many candidates share its error rate, the guards' planning, and the order of items."""
    policy = next(g.policy for g in study.gates if g.gate == "compare")
    return {**policy, "seed": study.seed}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    changed = [k for k in sorted({*before, *after}) if before.get(k) != after.get(k)]
    told = [k if k == "looks" else f"{k} {before.get(k)} → {after.get(k)}" for k in changed]
    return f"changed: {', '.join(told)}" if told else ""


def new_id(name: str, known: dict[str, StudyHistory]) -> str:
    """The first free id of a study of that name."""
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


def _require_components(spec: Spec) -> None:
    for where, component in components(spec):
        if component.state != "ready":
            raise ComponentMissing(
                f"{component.verb} kind {component.kind!r} is {component.state}: {component.detail}",
                where=where,
                next="`assay doctor` lists all kinds",
            )
