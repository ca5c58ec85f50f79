"""What a text must show to be deployed; declared and digested before the first run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, Strict, model_validator

from assay.core.gate import Policy

Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Rate = Annotated[float, Strict(), Field(gt=0, lt=0.5)]

CEILING_RATIO = 1.5
"""A text may have this many times the characters of its baseline, whatever the absolute ceiling says."""


class Preset(NamedTuple):
    """What a longer text must earn."""

    free: float
    """Growth, as a share of the baseline's length, that costs nothing."""
    slope: float
    """Gain in the pass rate that each further doubling must earn."""
    ceiling_chars: int


class Growth(StrEnum):
    """Names of the presets."""

    STRICT = "strict"
    DEFAULT = "default"
    LENIENT = "lenient"
    OFF = "off"
    NON_INFERIORITY = "non-inferiority"


PRESETS: Mapping[Growth, Preset] = {
    Growth.STRICT: Preset(0.10, 0.50, 3_000),
    Growth.DEFAULT: Preset(0.20, 0.30, 5_000),
    Growth.LENIENT: Preset(0.30, 0.20, 8_000),
    Growth.OFF: Preset(100.0, 0.0, 100_000),
    Growth.NON_INFERIORITY: Preset(100.0, 0.0, 100_000),
}


class DeployPolicy(Policy):
    """The contract between whoever wants a text deployed and whoever would have to live with it."""

    rules: Literal["sound", "seed"] = "sound"
    """`seed` decides as the system we replace did: one pass, one comparison of whole numbers. Both are always shown."""
    estimand: Literal["fixed_suite", "population"] = "fixed_suite"
    """`fixed_suite`: better on these tasks. `population`: better on tasks like these, which needs many tasks."""
    alpha: Rate = 0.05
    """Chance to deploy a text that is no better, over all looks and candidates together."""
    looks: tuple[Annotated[int, Strict(), Field(ge=1)], ...] = ()
    """Repeats per arm after which it is looked; rising. Empty = one look at what there is."""
    alpha_spent: tuple[Rate, ...] = ()
    """Level of each look; together at most `alpha`. Empty = shares that grow with the looks."""
    futility_p: Share | None = 0.5
    """At a planned look, p of "better" from here on ends the trial as NO_GAIN. None = never."""
    candidates: Annotated[int, Strict(), Field(ge=1)] = 1
    """Candidates that are confirmed in this study and share `alpha`."""
    min_gain: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.0
    """Gain in the pass rate that must be shown, whatever the length."""
    planning_gain: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.2
    """Gain that is planned for, and that `needed` speaks of."""
    power: Annotated[float, Strict(), Field(gt=0.5, lt=1)] = 0.8
    """Chance to find it."""
    growth: Growth = Growth.DEFAULT
    """What a longer text must earn: the lower bound of the gain must reach slope * (growth - free)."""
    growth_free: Annotated[float, Strict(), Field(ge=0)] | None = None
    """None = the preset's."""
    growth_slope: Annotated[float, Strict(), Field(ge=0)] | None = None
    """None = the preset's."""
    equivalent_margin: Annotated[float, Strict(), Field(gt=0, lt=1)] | None = None
    """Loss in the pass rate that is tolerated of a shorter text. None = only better texts are deployed."""
    shorter_frac: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.1
    """How much shorter that text must be."""
    max_infra_frac: Share = 0.1
    """Share of an arm's runs that may have taught nothing."""
    infra_differs_p: Share = 0.01
    """p below which the arms are said to fail at different rates."""
    max_agent_error_frac: Share = 0.5
    """Share of the baseline's runs in which the agent may break down or run out of time: beyond, it is the agent."""
    max_tampered_excess: Annotated[int, Strict(), Field(ge=0)] = 0
    """Runs with the candidate that touched deciding files, beyond those with the baseline."""
    require_canary: bool = True
    """Without a task that needs the text, nothing proves that the text reaches the agent."""
    canary_rate: Annotated[float, Strict(), Field(gt=0, le=1)] = 0.5
    """Canaries must pass at least so often with a text, and less often without one."""
    require_interleaved: bool = True
    """Both arms in the same blocks of time, so that drift meets both."""
    again_differs_p: Share = 0.01
    """p below which two arms with the same text are said to differ."""
    task_guard: bool = False
    """A task that is shown to be worse refuses the text, whatever the mean."""
    seed: Annotated[int, Strict(), Field(ge=0)] = 0
    """Of drawn permutations, where they are too many to enumerate."""
    closed_loop: Literal["weak_signal", "always"] = "weak_signal"
    """`rules: seed`: when tasks decide and not the judge. Without judge's scores, tasks always do."""
    synthetic_tolerance: Annotated[float, Strict(), Field(ge=0)] = 0.05
    """`rules: seed`: loss of the judge's mean that is tolerated where tasks decide."""
    inferiority_tolerance: Annotated[float, Strict(), Field(ge=0)] = 0.05
    """`rules: seed`, preset `non-inferiority`."""
    ceiling_chars: Annotated[int, Strict(), Field(ge=1)] | None = None
    """`rules: seed`: absolute ceiling; None = the preset's. Under `sound` the gate `text` holds it."""
    bootstrap_resamples: Annotated[int, Strict(), Field(ge=100, le=100_000)] = 2_000
    """`rules: seed`."""
    bootstrap_confidence: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.90
    """`rules: seed`, two-sided."""

    @model_validator(mode="after")
    def _plan_holds_together(self) -> Self:
        if any(b <= a for a, b in pairwise(self.looks)):
            raise ValueError("`looks` must rise")
        if self.alpha_spent and len(self.alpha_spent) != len(self.looks or (1,)):
            raise ValueError("`alpha_spent` needs a level for each look")
        if sum(self.alpha_spent) > self.alpha * (1 + 1e-9):
            raise ValueError("`alpha_spent` sums to more than `alpha`")
        return self

    @property
    def preset(self) -> Preset:
        """What growth costs, with what the policy lays over its preset."""
        named = PRESETS[self.growth]
        return Preset(
            named.free if self.growth_free is None else self.growth_free,
            named.slope if self.growth_slope is None else self.growth_slope,
            named.ceiling_chars if self.ceiling_chars is None else self.ceiling_chars,
        )


def growth_of(baseline_chars: int, candidate_chars: int) -> float:
    """Growth as a share of the baseline's length."""
    return (candidate_chars - baseline_chars) / max(1, baseline_chars)
