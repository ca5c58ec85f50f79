"""Optional mirrors of an experiment: MLflow, TensorBoard, Weights & Biases (offline), Trackio.

The files of the experiment stay the record (docs/decisions/0011). A mirror is called in the writer thread, so that
it costs the training loop nothing; it may raise, and the tracker then goes on without it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from assay.track import files

KINDS = ("mlflow", "tensorboard", "trackio", "wandb")
ROWS = frozenset({"step", "evaluation", "epoch_end"})
PROJECT = "assay"
_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Mirror(Protocol):
    """What a sink must do; `assay.track.Sink` is the same."""

    def row(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl, as written."""

    def event(self, event: Mapping[str, Any]) -> None:
        """A line of events.jsonl, as written."""

    def close(self) -> None:
        """The run has ended."""


@dataclass(frozen=True)
class Origin:
    """Whose rows are mirrored."""

    experiment: str
    """`exp-001`."""
    folder: Path
    """The experiment's folder; mirrors that need a place of their own take `<folder>/sinks/<kind>`."""
    attempt: int = 1
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    project: str = PROJECT

    @classmethod
    def of(cls, run: Any) -> Origin:
        """The origin of an open `assay.track.Run`."""
        config = files.read_object(run.folder / "config.yaml") or {}
        return cls(run.id, run.folder, run.attempt, run.name, config)

    @property
    def title(self) -> str:
        """What the run is called in the other tool."""
        label = f"{self.experiment} {self.name}".strip()
        return label if self.attempt == 1 else f"{label} attempt {self.attempt}"

    def place(self, kind: str) -> Path:
        """A folder for the files of a mirror; made if it is not there."""
        folder = self.folder / "sinks" / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def open_sink(kind: str, origin: Origin, **options: Any) -> Mirror:
    """Open a mirror by its name.

    Args:
        kind: one of `KINDS`.
        origin: the experiment.
        options: of that mirror; see its class.

    Raises:
        ValueError: if there is no such kind.
        ImportError: if its library is not installed; the message names the package.
    """
    if kind not in KINDS:
        raise ValueError(f"no sink {kind!r} (allowed: {', '.join(KINDS)})")
    mirror: Mirror = importlib.import_module(f"assay.track.sinks.{kind}").open_mirror(origin, **options)
    return mirror


def attach(run: Any, sinks: Iterable[str | Mirror] | Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Mirror a run from now on; what cannot be opened is told and left out, for a mirror must not stop a training.

    Args:
        run: an open `assay.track.Run`; one that is disabled is left alone.
        sinks: of `KINDS`, or mirrors of your own; or kind → options.

    Returns:
        A sentence for each mirror that could not be opened.
    """
    problems = []
    options = sinks if isinstance(sinks, Mapping) else {}
    for kind in sinks if not run.disabled else ():
        try:
            opened = (
                open_sink(kind, Origin.of(run), **options.get(kind, {})) if isinstance(kind, str) else kind
            )
            run.add_sink(opened)
        except Exception as error:  # noqa: BLE001 - a foreign library may raise anything while it starts
            problems.append(f"sink {kind}: {error}")
    return problems


def vendor(module: str, package: str) -> Any:
    """A module of a vendor, loaded when it is used.

    Raises:
        ImportError: if it is not installed; the message names the package.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"the sink needs the package {package}: pip install {package} ({error})") from error


def values(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row; what was not finite has its value again, signals stand under `signals/`."""
    words = row.get("nonfinite") or {}
    found: dict[str, float] = {}
    for group, prefix in (("metrics", ""), ("signals", "signals/")):
        for name, value in (row.get(group) or {}).items():
            if value is None:
                value = _WORDS.get(words.get(name, ""))  # noqa: PLW2901 - the decoded value of the same name
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[prefix + name] = float(value)
    return found


def step_of(row: Mapping[str, Any], last: int) -> int:
    """The step of a row; a row without one lies at its epoch, or beside the row before."""
    for key in ("step", "epoch"):
        if isinstance(value := row.get(key), (int, float)) and not isinstance(value, bool):
            return int(value)
    return last


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration with dotted names."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


ENDINGS = {"completed": "FINISHED", "stopped": "KILLED", "exception": "FAILED"}
"""Reason of `training_ended` → how MLflow calls it."""
