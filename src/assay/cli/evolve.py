"""`assay minimize` and `assay ablate`, and what `assay calibrate` does for a spec of this job."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from assay.cli.evolve_study import as_table, evolve_spec, minimizing
from assay.core.decision import EXIT_CODES
from assay.core.errors import UsageError
from assay.core.evidence import Artifact
from assay.core.study import Study
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome
from assay.flows import evolve
from assay.flows.evolve import EvolveSpec
from assay.ledger.home import Home, find_home
from assay.ledger.projections import histories
from assay.runtime.files import artifact

SECTIONS_AT_MOST = 40
_SPEC = click.argument("spec", type=click.Path(path_type=Path))
_SET = click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a key of the spec.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def _a_number(_: click.Context, option: click.Parameter, value: float) -> float:
    # NaN passes every comparison of a range
    if math.isnan(value):
        raise click.BadParameter("nan is no number.", param=option)
    return value


@click.command()
@_SPEC
@_SET
@click.option(
    "--margin", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.1, show_default=True,
    callback=_a_number, help="Loss in the pass rate that is tolerated of a shorter text.",
)  # fmt: skip
@click.option("--max-runs", type=click.IntRange(min=1), default=600, show_default=True, help="Of the search.")
@_JSON
@click.option("--report/--no-report", default=True, help="Write the HTML report at the end.")
def minimize(
    spec: Path, overrides: tuple[str, ...], margin: float, max_runs: int, as_json: bool, report: bool
) -> int:
    """Search for the shortest text with equivalent behaviour, and prove that it is.

    Lines are left out as long as the tasks that are learned from pass as before; then the shorter text is confirmed to be
    no worse by the margin on tasks that it never saw.
    """
    from assay.cli.opening import new_id
    from assay.cli.study import run_study

    resolved = minimizing(spec, overrides, margin, max_runs)
    source = artifact(Path(resolved.source))
    home = Home(find_home(), create=True)
    with home.writing():
        name = new_id(resolved.name, histories(home.ledger.read()))
        return run_study(home, evolve.plan(resolved, source, name), as_json=as_json, report=report)


@click.command()
@_SPEC
@_SET
@click.option(
    "--by",
    type=click.Choice(["headings", "paragraphs", "lines"]),
    help="By default the coarsest that divides.",
)
@_JSON
def ablate(spec: Path, overrides: tuple[str, ...], by: Any, as_json: bool) -> int:
    """Measure what each section of a text earns: the text without it against the whole, on the deciding tasks."""
    from assay.evolving.sections import sections
    from assay.readers.texts import read_text

    resolved = evolve_spec(spec, overrides)
    whole = read_text(Path(resolved.text.path), resolved.text.kind, resolved.text.name).text
    parts = [s for s in sections(whole, by) if not s.blank]
    if len(parts) < 2:
        raise UsageError("the text has one section only", where=resolved.text.path, next="`--by lines`")
    if len(parts) > SECTIONS_AT_MOST:
        raise UsageError(
            f"the text has {len(parts)} sections",
            where="--by",
            allowed=f"at most {SECTIONS_AT_MOST}",
            next="a coarser --by",
        )
    lines = whole.split("\n")
    without = [
        (p.title or f"line {p.first + 1}", "\n".join([*lines[: p.first], *lines[p.first + len(p.lines) :]]))
        for p in parts
    ]
    told = _measured(
        resolved, lambda source, name: evolve.ablation(resolved, source, name, without), "ablation"
    )
    rows = told["verdict"].get("extra", {}).get("sections", [])
    if as_json:
        click.echo(json.dumps({"schema": "ablation/1", **told}, indent=2))
    else:
        click.echo(f"{told['study']}: {told['verdict'].get('detail', told['sentence'])}")
        as_table([_shown(r) for r in rows], ("section", "earns", "between", "without it", "said"))
    return EXIT_CODES[Outcome(told["outcome"])]


def calibrate(spec: EvolveSpec, as_json: bool) -> int:
    """A/A of a suite: the text against itself."""
    told = _measured(spec, lambda source, name: evolve.calibration(spec, source, name), "preflight")
    if as_json:
        click.echo(json.dumps({"schema": "suite-noise/1", **told}, indent=2))
    else:
        click.echo(f"{told['study']}: {told['verdict'].get('detail', told['sentence'])}")
        for reason in told["verdict"].get("reasons", []):
            click.echo(f"  {'' if reason['ok'] else '! '}{reason['text']}")
        as_table(_tasks(told["verdict"].get("extra", {})), ("task", "rate", "differs from itself"))
    return EXIT_CODES[Outcome(told["outcome"])]


def _measured(spec: EvolveSpec, plan: Callable[[Artifact, str], Study], gate: str) -> dict[str, Any]:
    """Run a study that measures, and what its gate said."""
    from assay.cli.opening import new_id
    from assay.cli.study import execute

    source = artifact(Path(spec.source))
    home = Home(find_home(), create=True)
    with home.writing():
        known = histories(home.ledger.read())
        named = plan(source, "next").name
        study = plan(source, new_id(named, known))
        outcome, history = execute(home, study)
    trial = next(iter(history.trials.values()))
    line = trial.gates.get(gate)
    verdict = Verdict.from_json(home.store.get(line.verdict)).to_json() if line and line.verdict else {}
    decision = trial.decision
    return {
        "study": study.id,
        "outcome": outcome.value,
        "sentence": decision.sentence if decision else "",
        "verdict": verdict,
    }


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "section": str(row["title"])[:60],
        "earns": f"{row['earns']:+.2f}",
        "between": f"{row['lower']:+.2f} to {row['upper']:+.2f}",
        "without it": f"{row['without']:.2f}",
        "said": str(row["word"]),
    }


def _tasks(figures: Mapping[str, Any]) -> Sequence[dict[str, str]]:
    """Each task's rate, and how often two runs of it end differently though nothing changed."""
    flips = figures.get("noise", {}).get("per_task_flip", {})
    return [
        {
            "task": task,
            "rate": f"{rate:.2f}",
            "differs from itself": f"{flips[task]:.2f}" if task in flips else "-",
        }
        for task, rate in figures.get("rates", {}).items()
    ]
