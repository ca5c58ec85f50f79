"""`assay calibrate`: the noise of an evaluation, measured on the baseline against itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from assay.cli.load import load_any, load_spec
from assay.core.decision import EXIT_CODES
from assay.core.evidence import Artifact
from assay.core.history import StudyHistory
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome, Status
from assay.flows import calibrate as flow
from assay.flows.evolve import EvolveSpec
from assay.flows.release import ReleaseSpec
from assay.ledger.home import Home, find_home, has_ledger
from assay.ledger.projections import histories
from assay.runtime.files import artifact

FACTOR = 2.0
"""A candidate flips at least twice as many answers as the baseline against itself; see facts on A/A runs."""


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a key of the spec.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def calibrate(spec: Path, overrides: tuple[str, ...], as_json: bool) -> int:
    """Evaluate the baseline twice and store how much it differs from itself.

    A release: later plans use its flip rate. An evolve study: the noise of its suite, task by task.
    """
    from assay.cli.opening import new_id
    from assay.cli.study import execute

    given = load_any(spec, overrides)
    if isinstance(given, EvolveSpec):
        from assay.cli import evolve

        return evolve.calibrate(given, as_json)
    resolved = given if isinstance(given, ReleaseSpec) else load_spec(spec, overrides)
    home = Home(find_home(), create=True)
    with home.writing():
        known = histories(home.ledger.read())
        name = new_id(f"{resolved.name}-noise", known)
        outcome, history = execute(home, flow.plan(resolved, artifact(Path(resolved.source)), name))
    verdict = _verdict(home, history)
    told = _told(resolved, history, verdict)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _print(told)
    return EXIT_CODES[outcome]


def with_noise(spec: ReleaseSpec, source: Artifact) -> ReleaseSpec:
    """The spec with a planning flip rate that the noise measured on this machine does not contradict."""
    found = find_home()
    if not has_ledger(found):
        return spec
    home = Home(found, create=False)
    measured = [
        verdict.extra["flip_rate"]
        for history in histories(home.ledger.read()).values()
        if history.study.job == "calibrate" and history.study.source.digest == source.digest
        if history.study.spec.get("schema") == spec.schema_
        if ReleaseSpec.from_json(history.study.spec).evaluate == spec.evaluate
        if (verdict := _verdict(home, history)) is not None and verdict.status is Status.PASS
    ]
    if not measured or FACTOR * measured[-1] <= spec.compare.planning_flip_rate:
        return spec
    rate = min(1.0, FACTOR * measured[-1])
    click.echo(f"note: planning with a flip rate of {rate:.2%}: twice the noise that was measured", err=True)
    compare = spec.compare.model_copy(update={"planning_flip_rate": rate})
    return spec.model_copy(update={"compare": compare})


def _verdict(home: Home, history: StudyHistory) -> Verdict | None:
    lines = [t.gates["noise"] for t in history.trials.values() if "noise" in t.gates]
    return Verdict.from_json(home.store.get(lines[-1].verdict)) if lines else None


def _told(spec: ReleaseSpec, history: StudyHistory, verdict: Verdict | None) -> dict[str, Any]:
    decisions = history.decisions
    return {
        "schema": "noise/1",
        "study": history.study.id,
        "source": history.study.source.to_json(),
        "outcome": decisions[-1].outcome.value if decisions else Outcome.ANOMALOUS.value,
        "sentence": decisions[-1].sentence if decisions else "",
        "flip_rate": verdict.extra.get("flip_rate") if verdict else None,
        "tasks": verdict.extra.get("tasks", {}) if verdict else {},
        "planning_flip_rate": spec.compare.planning_flip_rate,
    }


def _print(told: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from assay.report.console import result_console

    console = result_console()
    console.print(Text(f"{told['outcome']}  {told['study']}: {told['sentence']}"), soft_wrap=True)
    if not told["tasks"]:
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2))
    for name in ("task", "pairs", "flips", "flip rate", "mean", "SD within", "SD between"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task, noise in told["tasks"].items():
        table.add_row(
            task,
            f"{noise['pairs']:,}",
            str(noise["lost"] + noise["won"]),
            f"{noise['flip_rate']:.2%}",
            f"{noise['mean']:.3f}",
            f"{noise['variance_within'] ** 0.5:.3f}",
            f"{noise['variance_between'] ** 0.5:.3f}",
        )
    console.print(table)
    console.print(
        Text(
            f"Plans take at least {FACTOR:g} times this as flip rate; the spec says {told['planning_flip_rate']:.1%}."
        )
    )
