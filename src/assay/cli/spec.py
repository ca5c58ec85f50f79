"""`assay init`, `assay plan` and `assay schema`."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import click

from assay.core.decision import EXIT_CODES
from assay.core.vocabulary import Outcome

KINDS = ("release", "train", "tune", "evolve")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
def init(kind: str) -> int:
    """Print a commented starter spec: `assay init release > release.yaml`, `assay init train > train.yaml`."""
    click.echo(resources.files("assay.flows").joinpath(f"{kind}.yaml").read_text(encoding="utf-8"), nl=False)
    return 0


@click.command()
@click.argument("kind", type=click.Choice([*KINDS, "verdict", "decision", "study"]))
def schema(kind: str) -> int:
    """Print the JSON Schema of a spec or of an output."""
    from assay.report.reference import json_schema

    click.echo(json.dumps(json_schema(kind), indent=2, sort_keys=True))
    return 0


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a key of the spec.")
@click.option("--anyway", is_flag=True, help="Take a plan that cannot reach `min_power`.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(spec: Path, overrides: tuple[str, ...], anyway: bool, as_json: bool) -> int:
    """Show what `assay run` would do, what it needs and what it can prove; runs nothing.

    Exit code 3 where the plan could not accept even a perfect candidate with the wanted chance.
    """
    from assay.cli.calibrate import with_noise
    from assay.cli.load import components, load_any
    from assay.flows.evolve import EvolveSpec
    from assay.flows.release import ReleaseSpec
    from assay.flows.tune import TuneSpec
    from assay.report import plan_evolve, plan_train, plan_tune
    from assay.report.plan import describe, print_plan
    from assay.runtime.files import artifact

    source_spec = load_any(spec, overrides)
    source = artifact(Path(source_spec.source))
    if isinstance(source_spec, TuneSpec):
        shown = plan_tune.describe(source_spec, source, components(source_spec))
        click.echo(json.dumps(shown, indent=2)) if as_json else plan_tune.print_plan(shown)
        return 0
    if isinstance(source_spec, EvolveSpec):
        planned = plan_evolve.describe(source_spec, source, components(source_spec))
        click.echo(json.dumps(planned, indent=2)) if as_json else plan_evolve.print_plan(planned)
        refused = planned["deciding"]["refused"] and not anyway
        return EXIT_CODES[Outcome.INFEASIBLE] if refused else 0
    if not isinstance(source_spec, ReleaseSpec):
        told = plan_train.describe(source_spec, source, components(source_spec))
        click.echo(json.dumps(told, indent=2)) if as_json else plan_train.print_plan(told)
        return 0
    resolved = with_noise(source_spec, source)
    described = describe(resolved, source, components(resolved))
    if as_json:
        click.echo(json.dumps(described, indent=2))
    else:
        print_plan(described)
    return 0 if anyway or described["deciding"]["feasible"] else EXIT_CODES[Outcome.INFEASIBLE]
