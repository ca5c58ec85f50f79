"""The contract of a comparison, fixed before the first sample."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, Strict, field_validator

from assay.core.gate import Policy
from assay.core.vocabulary import Direction

Number = Annotated[float, Strict()]
"""A number and nothing that Python would turn into one: `true` and `"1"` are refused."""
Fraction = Annotated[float, Strict(), Field(gt=0, lt=1)]


class LookPlan(Policy):
    """At how many pairs a comparison looks, fixed before the first."""

    rule: Literal["group", "anytime"]
    """`group` spends the error rates over the planned looks (Lan & DeMets, Pocock type); `anytime` bets, may be
    looked at whenever one likes and topped up."""
    ends: tuple[Annotated[int, Strict(), Field(gt=0)], ...] = Field(min_length=1)
    """Pairs over all tasks at each planned look, rising."""
    sizes: Mapping[str, Annotated[int, Strict(), Field(gt=0)]]
    """Task → items that it has; each look asks the same share of every task."""
    topup_frac: Annotated[float, Strict(), Field(ge=0, le=0.5)] = 0.0
    """Share of each error rate that `group` keeps back, to judge pairs added after its last look by betting."""
    futile_below: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.1
    """Chance of a verdict with the rest of the pairs below which going on is given up; never binding."""

    @field_validator("ends")
    @classmethod
    def _rises(cls, ends: tuple[int, ...]) -> tuple[int, ...]:
        if any(b <= a for a, b in pairwise(ends)):
            raise ValueError(f"looks must rise, not {', '.join(map(str, ends))}")
        return ends


class ComparePolicy(Policy):
    """When a candidate counts as no worse than its baseline."""

    policy: Literal["paired", "point"] = "paired"
    """`paired` tests the pairs of samples; `point` holds two numbers against a threshold."""
    margin: Fraction = 0.01
    """Largest tolerated drop of the mean over tasks, as a share of the range: 0.01 = 1 point of 100."""
    relative: bool = False
    """The margin (or threshold) is a share of the baseline's score instead: 0.01 = 99 % of it is kept."""
    threshold: Annotated[float, Strict(), Field(ge=0, le=1)] | None = 0.01
    """For `point`: largest tolerated drop per task; null = none was given, and no verdict is invented."""
    scales: Mapping[str, Annotated[float, Strict(), Field(gt=0)]] = {}
    """Task → best score, the worst being 0."""
    ranges: Mapping[str, tuple[Number, Number]] = {}
    """Task → worst and best possible number, in rising order. Wins over `scales`."""
    directions: Mapping[str, Direction] = {}
    """Task → `higher` or `lower` is better."""
    alpha_accept: Fraction = 0.05
    """Chance to accept a candidate that is worse by the margin."""
    alpha_regress: Fraction = 0.05
    """Chance to call a candidate a regression that is worse by no more than the margin."""
    comparisons: int = Field(default=1, ge=1)
    """Candidates that are compared with this baseline; `alpha_accept` is shared among them (Bonferroni)."""
    weights: Mapping[str, Annotated[float, Strict(), Field(gt=0)]] = {}
    """Task → weight in the mean over tasks; 1 for the others."""
    guard: Literal["ladder"] | Fraction | None = "ladder"
    """Largest tolerated drop of a single task: a number for all; `ladder` = the smallest of 2, 3, 4, 5 and
    8 points that the number of pairs can prove; null = tasks are advisory."""
    guards: Mapping[str, Fraction | None] = {}
    """Task → its own guard, where it differs; null makes the task advisory."""
    guard_power: Fraction = 0.95
    """Planned chance that a task without any drop passes its guard; chooses the rung of the ladder."""
    planning_flip_rate: Annotated[float, Strict(), Field(gt=0, le=1)] = 0.06
    """Share of pairs expected to change between right and wrong; for planning only, never for the verdict."""
    min_power: Fraction = 0.8
    """Wanted chance that the stated number of further pairs settles the question."""
    implausible_gain: Fraction | None = 0.02
    """A task shown (99 %) to gain more is ANOMALOUS: quantization does not teach. null = no limit."""
    implausible_gain_point: Fraction | None = 0.05
    """The same for `point`, on the bare numbers; a share of the range."""

    looks: LookPlan | None = None
    """Looks before the last pair; null = one test when all pairs are in. A study makes it from `sequential`."""

    @field_validator("ranges")
    @classmethod
    def _rising(cls, ranges: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
        for task, (low, high) in ranges.items():
            if low >= high:
                raise ValueError(f"the range of {task!r} must rise, not {low:g} to {high:g}")
        return ranges
