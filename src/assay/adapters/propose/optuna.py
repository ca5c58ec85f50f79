"""Propose kind `optuna`: an Optuna sampler chooses the next settings; its study is made anew from the ledger."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from assay.core.base import Noun
from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.errors import ComponentMissing
from assay.core.ports import Component
from assay.core.proposal import Idea, Past, Template, baseline, candidate, leaves, pasts
from assay.core.vocabulary import Direction

PACKAGE = "optuna"
TRIES = 20
"""How often a sampler is asked again when it names settings that were tried."""


class Range(Noun):
    """What one setting may be."""

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    """Sampled evenly in its logarithm."""
    step: float | int | None = Field(default=None, gt=0)
    integer: bool = False
    choices: tuple[bool | int | float | str, ...] = ()
    """One of these, instead of a range."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        bounds = (self.low is not None) + (self.high is not None)
        if bounds != (0 if self.choices else 2):
            raise ValueError("a setting has `low` and `high`, or `choices`")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        if self.log and (self.step is not None or (self.low is not None and self.low <= 0)):
            raise ValueError("`log` needs a range above 0 and no `step`")
        return self


class Options(Noun):
    """Options of `propose: {kind: optuna}`."""

    space: Mapping[str, Range] = Field(min_length=1)
    """Setting → what it may be; `a.b` leads into a mapping of the configuration."""
    sampler: Literal["tpe", "random", "gp"] = "tpe"
    """Those of Optuna's samplers that need no memory beside the trials; `gp` needs packages of its own."""
    startup: int = Field(default=5, ge=0)
    """Candidates drawn at random before `tpe` and `gp` make use of what came out."""
    seed: int = Field(default=0, ge=0)
    template: Template | None = None
    """What all candidates share; the job fills it in."""


class Adapter:
    """Proposes the configuration as it stands, then what the sampler says."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether Optuna is installed."""
        try:
            version = importlib.metadata.version(PACKAGE)
        except importlib.metadata.PackageNotFoundError:
            return Component(verb="propose", kind="optuna", state="missing", detail=f"pip install {PACKAGE}")
        return Component(verb="propose", kind="optuna", state="ready", vendor={PACKAGE: version})

    def propose(self, history: Sequence[Decision]) -> Candidate | None:
        """The next settings; None when the sampler finds none that were not tried.

        Raises:
            ComponentMissing: if Optuna, or what its sampler needs, is not installed.
        """
        template = self.options.template
        if template is None:
            raise ValueError("a proposer needs its template")
        known = pasts(history)
        first = baseline(template, known)
        if first is not None:
            return first
        patch = self._asked(template, known)
        return None if patch is None else candidate(template, known, _idea(patch, known, template))

    def _asked(self, template: Template, known: Sequence[Past]) -> dict[str, Any] | None:
        try:
            import optuna  # noqa: PLC0415 - heavy, and needed only here

            optuna.logging.set_verbosity(optuna.logging.WARNING)
            study = optuna.create_study(
                direction="maximize" if template.metric.direction is Direction.HIGHER else "minimize",
                sampler=self._sampler(optuna, len(known)),
            )
            distributions = {name: _distribution(optuna, r) for name, r in self.options.space.items()}
            for past in known:
                _tell(optuna, study, past, distributions, template.metric.name)
            tried = [self._settings(past) for past in known if not past.void]
            for _ in range(TRIES):
                asked = dict(study.ask(distributions).params)
                if asked not in tried:
                    return asked
        except ImportError as error:
            raise ComponentMissing(
                f"the sampler {self.options.sampler!r} needs {error.name}",
                where="propose",
                next=f"pip install {error.name}",
            ) from error
        return None

    def _sampler(self, optuna: Any, told: int) -> Any:
        """A sampler that answers the same to the same history, and otherwise anew."""
        seed = self.options.seed + told
        startup = self.options.startup
        samplers = optuna.samplers
        match self.options.sampler:
            case "random":
                return samplers.RandomSampler(seed=seed)
            case "gp":
                return samplers.GPSampler(seed=seed, n_startup_trials=startup)
            case _:
                return samplers.TPESampler(seed=seed, n_startup_trials=startup)

    def _settings(self, past: Past) -> dict[str, Any]:
        found = leaves(past.config)
        return {name: found.get(name) for name in self.options.space}


def _distribution(optuna: Any, r: Range) -> Any:
    if r.choices:
        return optuna.distributions.CategoricalDistribution(r.choices)
    if r.integer:
        return optuna.distributions.IntDistribution(
            int(r.low or 0), int(r.high or 0), r.log, int(r.step or 1)
        )
    return optuna.distributions.FloatDistribution(r.low, r.high, r.log, r.step)


def _tell(optuna: Any, study: Any, past: Past, distributions: Mapping[str, Any], metric: str) -> None:
    """A decided trial as Optuna knows trials; one whose settings lie outside the space is left out."""
    if past.void:
        return
    settings = leaves(past.config)
    value = past.value(metric)
    good = value is not None and math.isfinite(value) and not past.failed
    state = optuna.trial.TrialState.COMPLETE if good else optuna.trial.TrialState.FAIL
    with contextlib.suppress(ValueError, TypeError, KeyError):
        params = {name: settings[name] for name in distributions}
        made = optuna.trial.create_trial(
            params=params, distributions=dict(distributions), value=value if good else None, state=state
        )
        study.add_trial(made)


def _idea(patch: Mapping[str, Any], known: Sequence[Past], template: Template) -> Idea:
    listed = ", ".join(f"{name} = {_short(value)}" for name, value in patch.items())
    metric = template.metric
    values = [v for p in known if (v := p.value(metric.name)) is not None]
    seen = f"{len(values)} of {len(known)} decided trials had a value of {metric.name}"
    return Idea(
        name=f"optuna-{len(known)}",
        patch=patch,
        hypothesis=f"{listed} gives a better {metric.name}.",
        rationale=f"Chosen by Optuna's sampler: {seen}.",
    )


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
