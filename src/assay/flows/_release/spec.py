"""The spec of a release: the whole question, as one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from assay.core.base import Noun, SpecPath
from assay.core.study import AdapterRef, Budget, flat_ref
from assay.gates.checkpoint import CheckpointPolicy
from assay.gates.comparability import ComparabilityPolicy
from assay.gates.compare import ComparePolicy
from assay.gates.external import ExternalPolicy
from assay.gates.setup import SetupPolicy


class Recipe(Noun):
    """One rung of the ladder."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """What people call it; also the name of its folder."""
    build: AdapterRef
    """`{kind: ..., options...}`: which toolkit makes the artifact, and how."""
    serve: AdapterRef | None = None
    """Serving of this recipe and of its baseline, where it differs from the study's."""
    intent: Mapping[str, Any] = Field(default_factory=dict)
    """What the recipe promises, where its build kind cannot tell: `recipe`, `ignore`, `targets`."""

    _flat = field_validator("build", "serve", mode="before")(flat_ref)


class Sequential(Noun):
    """Evaluation in batches that stops when it knows."""

    rule: Literal["auto", "group", "anytime"] = "auto"
    """`group`: up to `looks` planned looks; `anytime`: the same looks, and `assay resume --more` may add pairs.
    `auto` takes `group` unless there are over 2.5 times the pairs that one look would need."""
    looks: int = Field(default=10, ge=1, le=100)
    """Batches up to `n_max`."""
    first: int = Field(default=200, ge=1)
    """Pairs before the first look."""
    n_max: int | None = Field(default=None, gt=0)
    """Pairs at most, over all tasks; null = all items."""
    topup_frac: float = Field(default=0.0, ge=0, le=0.5)
    """Share of the error rates that `group` keeps back for `assay resume --more`; 0.2 costs about 9 % more pairs."""
    futile_below: float = Field(default=0.1, ge=0, lt=1)
    """Stop when the rest of the pairs would decide with a smaller chance than this; 0 = never."""
    keep_serving: bool = True
    """Both servers stay up between looks; false = one at a time, started anew for each batch."""


class Selection(Noun):
    """One of several recipes is chosen on a part of the items, and judged on the rest."""

    search_frac: float = Field(default=0.3, gt=0, lt=1)
    """Share of the items of each task that the recipes are ranked by; the best one is judged on the others, alone and
    so at the full error rate."""


class ReleaseSpec(Noun):
    """The whole question, as one YAML file."""

    schema_: Literal["release/1"] = Field(alias="schema")
    """Version of this format."""
    name: str = Field(default="release", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Name of the study; ids are made from it."""
    source: SpecPath
    """Checkpoint folder that the recipes start from: the baseline."""
    recipes: tuple[Recipe, ...] = Field(min_length=1)
    """The ladder, tried in this order."""
    stop: Literal["first_accept", "never"] = "first_accept"
    """`first_accept` ends the ladder at the first recipe that may be published; `never` tries all."""
    serve: AdapterRef
    """How source and candidates are served while they are evaluated."""
    evaluate: AdapterRef
    """Which harness asks which questions."""
    expected_samples: Mapping[str, int] = Field(default_factory=dict)
    """Task → number of samples it must have scored. Also what `assay plan` computes the power from."""
    setup: SetupPolicy = SetupPolicy()
    """Limits of the setup gate."""
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    """Limits of the checkpoint gate."""
    comparability: ComparabilityPolicy = ComparabilityPolicy()
    """Which differences between the two evaluations are declared."""
    compare: ComparePolicy = ComparePolicy()
    """The rule that decides: margin, error rates, guards."""
    sequential: Sequential | None = None
    """Evaluate in batches and stop at the first that decides; null = evaluate everything, then decide."""
    select: Selection | None = None
    """Rank all recipes on some of the items and judge the best on the rest; null = judge each, sharing the error rate."""
    external: ExternalPolicy | None = None
    """Published scores of the source, to see that the baseline is sane."""
    apply: AdapterRef = AdapterRef(kind="none")
    """What happens to an accepted checkpoint."""
    apply_on_accept: bool = True
    """False leaves the application to `assay apply`."""
    budget: Budget = Budget()
    """What the study may use."""
    seed: int = 0
    """Seed of everything that draws random numbers."""

    _flat = field_validator("serve", "evaluate", "apply", mode="before")(flat_ref)

    @model_validator(mode="after")
    def _unique_recipes(self) -> ReleaseSpec:
        names = [r.name for r in self.recipes]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"recipe names must differ; twice: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _drawable(self) -> ReleaseSpec:
        if self.compare.looks is not None:
            raise ValueError("`compare.looks` is made from `sequential`: say there when to look")
        if self.sequential is None and self.select is None:
            return self
        asks = "sequential" if self.sequential is not None else "select"
        if not self.expected_samples:
            raise ValueError(f"`{asks}` draws items: give the number of each task in `expected_samples`")
        empty = sorted(task for task, n in self.expected_samples.items() if n < 1)
        if empty:
            raise ValueError(f"`{asks}` cannot draw from tasks without items: {', '.join(empty)}")
        tasks = len(self.expected_samples)
        if self.sequential is not None and (self.sequential.n_max or tasks) < tasks:
            raise ValueError(f"`sequential.n_max` must leave at least one item for each of the {tasks} tasks")
        if self.select is not None:
            self._splits(self.select.search_frac)
        if self.evaluate.options.get("limit") is not None:
            raise ValueError(
                f"`{asks}` and `evaluate.limit` exclude each other; `sequential.n_max` is the limit"
            )
        if self.compare.policy == "point":
            raise ValueError(
                f"`{asks}` needs `compare.policy: paired`: the point rule has no error rate to keep"
            )
        return self

    def _splits(self, share: float) -> None:
        if len(self.recipes) < 2:
            raise ValueError("`select` chooses among several recipes, and there is one")
        small = sorted(task for task, n in self.expected_samples.items() if not 0 < round(share * n) < n)
        if small:
            raise ValueError(f"`select.search_frac` leaves a part without items of {', '.join(small)}")
