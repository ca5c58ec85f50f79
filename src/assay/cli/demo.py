"""`assay demo`: a short training and the whole release job, for real, on the small model that comes with Assay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

from assay.cli.demo_train import FAULTS, Fault, assets, train, train_briefly, train_broken
from assay.core.errors import ComponentMissing, UsageError

STOPPED = 1


@click.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), default=Path("assay-demo"), show_default=True
)
@click.option(
    "--train/--no-train",
    "retrain",
    default=None,
    help="Train the model here first, about 5 CPU-minutes; or leave the short training out that is shown by default.",
)
@click.option(
    "--fault",
    type=click.Choice(FAULTS),
    help="Only a short training with this fault planted: it is caught, stopped and diagnosed.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the training.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def demo(folder: Path, retrain: bool | None, fault: Fault | None, seed: int, as_json: bool) -> int:
    """Train for a few seconds; then quantize, serve, evaluate and judge the small demo model.

    Ends with a Decision and an HTML report. Model, tasks, spec and the published checkpoint go to --dir, ledger and
    experiments to `.assay` here. Running it again adds a study. With --fault it ends with the diagnosis, exit code 1.
    """
    if fault is not None:
        return _broken(fault, seed, as_json=as_json)
    if retrain:
        train(folder / "model", seed=seed).print(
            err=True
        )  # before the layout, which brings the shipped model
    elif retrain is None:
        _brief(seed)
    return _release(folder, as_json=as_json)


def _broken(fault: Fault, seed: int, *, as_json: bool) -> int:
    ended = train_broken(fault, seed)
    if as_json:
        click.echo(json.dumps(ended.summary, indent=2))
    else:
        ended.print()
        name = ended.summary["experiment"]
        click.echo(f"  all of it: `assay experiment show {name}`, `assay report {name}`")
        click.echo(
            f"  the fault was planted: the command ends with `--fault {fault}`, and a resume would meet it again"
        )
    return ended.code


def _brief(seed: int) -> None:
    """The short training; the demo of the release goes on without it where it cannot run."""
    try:
        ended = train_briefly(seed)
    except ComponentMissing as error:
        click.echo(f"assay: the training is left out: {error}", err=True)
        return
    ended.print(err=True)


def _release(folder: Path, *, as_json: bool) -> int:
    from assay.cli.study import run

    try:
        _lay_out(folder)
    except OSError as error:
        raise UsageError(
            f"cannot write: {error.strerror}", where=str(folder), next="name another --dir"
        ) from error
    released = folder / "published"
    overrides = () if not released.exists() else (f"apply.path={_free(released)}",)
    outcome: int = run.callback(  # type: ignore[misc]
        spec=folder / "release.yaml",
        overrides=overrides,
        anyway=False,
        drains=(),
        as_json=as_json,
        report=True,
    )
    return outcome


def _lay_out(folder: Path) -> None:
    """A copy of the example that the user may change; what is there already is kept."""
    for name in ("model", "tasks", "release.yaml"):
        source, target = assets() / name, folder / name
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)


def _free(path: Path) -> str:
    """The first name beside `path` that is not taken: a release is never overwritten."""
    number = 2
    while (candidate := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return candidate.name
