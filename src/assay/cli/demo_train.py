"""The training of the demo's model, as an attempt of an experiment: short, whole, or with a planted fault."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import click

from assay.cli.train import INTERRUPTED, Ended, run_attempt
from assay.core.errors import ComponentFailed, ComponentMissing, Interrupted, UsageError

PACKAGES = ("torch", "transformers", "tokenizers")
SHORT_STEPS, FAULT_STEPS = 60, 80
SHORT_ITEMS = 2
"""Test items of each slice after a short training: its accuracy says nothing."""
SMALL_MACHINE = ("env", "OMP_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1")
Fault = Literal["nan", "lr", "hang"]
FAULTS: tuple[Fault, ...] = ("nan", "lr", "hang")


class Kind(NamedTuple):
    """A training that the demo shows."""

    name: str
    hypothesis: str
    steps: int | None
    """None: as many as the recipe says."""
    floor: float
    """Loss on held-out items [nats per token] that it must come below."""
    more: tuple[str, ...] = ()
    """Further options of `assay train`."""


SHORT = Kind("demo short", "Sixty steps bring the loss on held-out items below 2.5.", SHORT_STEPS, 2.5)
WHOLE = Kind("demo model", "A Llama of half a million parameters learns the six skills.", None, 0.5)
BROKEN = Kind(
    "demo fault", "Eighty steps bring the loss on held-out items below 2.5.", FAULT_STEPS, 2.5,
    # A hang of a model this small is plain after 8 s; for real trainings the rule waits longer.
    ("--stop", "critical", "--rule", "stall_s=8", "--stop-grace", "20"),
)  # fmt: skip


def assets() -> Path:
    """The folder of the release example: from the wheel, or else from the repository.

    Raises:
        ComponentMissing: if this installation came without it.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_examples" / "release", package.parents[1] / "examples" / "release"):
        if (folder / "train.py").is_file():
            return folder
    raise ComponentMissing(
        "the release example is not part of this installation",
        where=str(package),
        next="install assay from its wheel or from a clone of the repository",
    )


def train(out: Path, seed: int = 0, steps: int | None = None) -> Ended:
    """Train the example's model into `out`, recorded and watched.

    Args:
        out: folder to make; must not exist or be empty.
        seed: of the weights and of the training items.
        steps: None for as many as the recipe says.

    Raises:
        UsageError: if `out` is taken.
        ComponentMissing: if torch, transformers or tokenizers is not installed.
        ComponentFailed: if the trainer ended without a checkpoint.
        Interrupted: on Ctrl-C; the trainer is ended, and what it saved can be resumed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError("the folder is not empty", where=str(out), next="name another folder or remove it")
    ended = _attempt(WHOLE._replace(steps=steps), out, seed)
    name = ended.summary["experiment"]
    if ended.code == INTERRUPTED:
        raise Interrupted(
            "training was interrupted", where=name, next=f"`assay train --resume {name}` goes on with it"
        )
    if not (out / "model.safetensors").is_file():
        raise ComponentFailed(
            f"the trainer ended with exit code {ended.summary['exit_code']} and no model",
            where=name,
            next=f"`assay experiment show {name}`",
            log_tail=str(ended.fields.get("log_tail") or ""),
        )
    return ended


def train_briefly(seed: int = 0) -> Ended:
    """A training of a few seconds, to show what one sees of it; its model is thrown away.

    Raises:
        ComponentMissing: if torch, transformers or tokenizers is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _attempt(SHORT, Path(folder) / "model", seed)


def train_broken(fault: Fault, seed: int = 0) -> Ended:
    """The same with a fault planted half-way.

    Raises:
        ComponentMissing: if torch, transformers or tokenizers is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _attempt(BROKEN, Path(folder) / "model", seed, ("--fault", fault))


def _attempt(kind: Kind, out: Path, seed: int, more: Sequence[str] = ()) -> Ended:
    _require_packages()
    command = [*SMALL_MACHINE, sys.executable, str(assets() / "train.py"), "--out", str(out.absolute())]
    command += ["--seed", str(seed), *more]
    if kind.steps is not None:
        command += ["--steps", str(kind.steps), "--items", str(SHORT_ITEMS)]
    arguments = [
        "--experiment", kind.name, "--hypothesis", kind.hypothesis, "--primary", "val_loss:min",
        "--floor", str(kind.floor), "--quiet", *kind.more, "--", *command,
    ]  # fmt: skip
    click.echo(f"assay: training under `assay train --experiment '{kind.name}' ...`", err=True)
    return run_attempt(arguments, dashboard=True)


def _require_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ComponentMissing(
            f"training needs {', '.join(missing)}",
            where=sys.executable,
            next=f"{sys.executable} -m pip install {' '.join(missing)}",
        )
