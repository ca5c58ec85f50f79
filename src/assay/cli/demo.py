"""`assay demo`: the whole release job, for real, on the small model that comes with Assay."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from assay.cli.demo_train import assets, train
from assay.core.errors import UsageError


@click.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), default=Path("assay-demo"), show_default=True
)
@click.option("--train", "retrain", is_flag=True, help="Train the model here first, about 5 CPU-minutes.")
@click.option("--seed", default=0, show_default=True, help="Seed of the training.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def demo(folder: Path, retrain: bool, seed: int, as_json: bool) -> int:
    """Quantize, serve, evaluate and judge the small demo model; ends with a Decision and an HTML report.

    Model, tasks, spec and the published checkpoint go to --dir, the ledger to `.assay` here. Running it again adds a
    study.
    """
    from assay.cli.study import run

    if retrain:
        train(folder / "model", seed=seed)  # before the layout, which would bring the shipped model
    try:
        _lay_out(folder)
    except OSError as error:
        raise UsageError(
            f"cannot write: {error.strerror}", where=str(folder), next="name another --dir"
        ) from error
    released = folder / "published"
    overrides = () if not released.exists() else (f"apply.path={_free(released)}",)
    outcome: int = run.callback(folder / "release.yaml", overrides, as_json, report=True)  # type: ignore[misc]
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
