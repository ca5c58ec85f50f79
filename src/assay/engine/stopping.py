"""When a study that goes on from its best candidate has seen enough, and whether its best one may advance. Pure.

The two answers are apart: a study that stops at a plateau below its floor has nothing that may advance, and says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from assay.core.candidate import Candidate
from assay.core.events import Event, EventType
from assay.core.experiment import PrimaryMetric, Tier
from assay.core.proposal import Past, leaves
from assay.core.study import Budget, StopRules
from assay.core.training_runs import SEED_SD
from assay.core.vocabulary import Direction


class MayAdvance(StrEnum):
    """Whether the best candidate may be used."""

    ADVANCE = "ADVANCE"
    NEEDS_HUMAN = "NEEDS_HUMAN"


@dataclass(frozen=True)
class Advance:
    """The word, and what it rests on."""

    word: MayAdvance
    reason: str
    trial: str = ""
    candidate: str = ""
    value: float | None = None
    tier: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For the event that closes the study."""
        return {
            "word": self.word.value,
            "reason": self.reason,
            "trial": self.trial,
            "candidate": self.candidate,
            "value": self.value,
            "tier": self.tier,
        }


def enough(rules: StopRules, budget: Budget, tried: Sequence[Past], spent_s: float) -> str | None:
    """Why no further trial is begun, or None.

    Args:
        rules: of the study.
        budget: of the study.
        tried: the decided trials, in order.
        spent_s: seconds in which something ran for the study, over all its processes.
    """
    return (
        _goal(rules, tried)
        or _failures(budget, tried)
        or _spent(budget, spent_s)
        or _plateau(rules, tried)
        or None
    )


def advance(rules: StopRules, tried: Sequence[Past]) -> Advance:
    """Whether the best candidate may advance. Fails closed: without a floor, or without a candidate, a person decides."""
    metric = rules.metric
    best = _best(tried)
    value = None if best is None else best.value(metric.name)
    if best is None or value is None:
        return Advance(MayAdvance.NEEDS_HUMAN, "no candidate was sound enough to be kept")
    known: dict[str, Any] = {
        "trial": best.decision.trial,
        "candidate": best.candidate.name,
        "value": value,
    }
    tier = _tier(metric, value)
    if tier is None:
        reason = f"nobody said which {metric.name} is good enough: the best has {value:.6g}"
        return Advance(MayAdvance.NEEDS_HUMAN, reason, **known)
    reached = f"the best, {best.candidate.name}, has {metric.name} = {value:.6g}: tier {tier.value}"
    limit = next((v for t, v in metric.thresholds.declared if t.rank >= rules.advance_tier.rank), None)
    if limit is None:
        reason = f"{reached}; no {rules.advance_tier.value} was declared"
        return Advance(MayAdvance.NEEDS_HUMAN, reason, tier=tier.value, **known)
    if tier.rank < rules.advance_tier.rank:
        reason = f"{reached}, below the {rules.advance_tier.value} of {limit:g}"
        return Advance(MayAdvance.NEEDS_HUMAN, reason, tier=tier.value, **known)
    return Advance(MayAdvance.ADVANCE, reached, tier=tier.value, **known)


def dead_end(rules: StopRules, tried: Sequence[Past], proposed: Candidate) -> str | None:
    """Why it is of no use to try a proposal: it and those before it repeat what was tried. None = it is new enough."""
    if rules.dead_end_trials is None:
        return None
    line = [*(p.candidate for p in tried if not p.void), proposed]
    if len(line) <= rules.dead_end_trials:
        return None
    last = range(len(line) - rules.dead_end_trials, len(line))
    twins = [next((e for e in line[:i] if _same(rules, e, line[i])), None) for i in last]
    if any(twin is None for twin in twins) or twins[-1] is None:
        return None
    return (
        f"dead end: the last {rules.dead_end_trials} proposals repeat earlier ones in their hypothesis and their "
        f"configuration, {proposed.name!r} that of {twins[-1].name!r}"
    )


def spent_s(events: Iterable[Event]) -> float:
    """Seconds in which commands ran for a study, failed ones included."""
    total = 0.0
    for event in events:
        if event.type is EventType.RUN_FINISHED:
            wall_s = event.data["run"].get("wall_s")
            total += wall_s if isinstance(wall_s, int | float) else 0.0
    return total


def seed_noise(tried: Sequence[Past]) -> float | None:
    """Standard deviation of the metric over seeds, pooled over all trials that measured one; None if none did."""
    squares, degrees = 0.0, 0
    for past in tried:
        sd = past.measured.get(SEED_SD)
        if sd is not None and sd.value is not None and sd.n is not None and sd.n > 1:
            squares += (sd.n - 1) * sd.value**2
            degrees += sd.n - 1
    return math.sqrt(squares / degrees) if degrees else None


def similar(one: str, other: str) -> float:
    """Share of the words of two texts that both have (Jaccard), 0..1; two empty texts are one."""
    words, others = (set(re.findall(r"\w+", text.lower())) for text in (one, other))
    return len(words & others) / len(words | others) if words or others else 1.0


def differing(one: Mapping[str, Any], other: Mapping[str, Any], same_value_frac: float) -> list[str]:
    """Settings in which two configurations differ, numbers by more than a share of the larger one."""
    mine, theirs = leaves(one), leaves(other)
    return [
        place
        for place in sorted({*mine, *theirs})
        if place not in mine or place not in theirs or not _equal(mine[place], theirs[place], same_value_frac)
    ]


def _equal(one: Any, other: Any, share: float) -> bool:
    numbers = [v for v in (one, other) if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == 2:
        return math.isclose(*numbers, rel_tol=share, abs_tol=0.0)
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _same(rules: StopRules, earlier: Candidate, later: Candidate) -> bool:
    texts = [str(c.intent.get("hypothesis", "")) for c in (earlier, later)]
    if similar(*texts) < rules.same_text:
        return False
    before, after = (c.build.options.get("config") or {} for c in (earlier, later))
    return not differing(before, after, rules.same_value_frac)


def _best(tried: Sequence[Past]) -> Past | None:
    return next((p for p in reversed(tried) if p.decision.keeps), None)


def _goal(rules: StopRules, tried: Sequence[Past]) -> str | None:
    best = _best(tried)
    value = None if best is None else best.value(rules.metric.name)
    if best is None or value is None or rules.stop_tier is None:
        return None
    declared = any(t.rank >= rules.stop_tier.rank for t, _ in rules.metric.thresholds.declared)
    tier = _tier(rules.metric, value)
    if not declared or tier is None or tier.rank < rules.stop_tier.rank:
        return None
    return f"goal: {best.candidate.name} reached tier {tier.value} with {rules.metric.name} = {value:.6g}"


def _failures(budget: Budget, tried: Sequence[Past]) -> str | None:
    failed = sum(p.failed for p in tried)
    if budget.failures is None or failed < budget.failures:
        return None
    return f"the budget of {budget.failures} failed trials is used up"


def _spent(budget: Budget, spent: float) -> str | None:
    if budget.wall_time_s is not None and spent >= budget.wall_time_s:
        return f"the wall-time budget of {budget.wall_time_s:g} s is used up: {spent:.0f} s"
    if budget.cost is not None and budget.cost_per_hour is not None:
        cost = spent / 3600.0 * budget.cost_per_hour
        if cost >= budget.cost:
            return f"the cost budget of {budget.cost:g} is used up: {cost:.4g}"
    return None


def _plateau(rules: StopRules, tried: Sequence[Past]) -> str | None:
    """Trials since the last progress; a step counts against the last progress, so slow steady gains count too."""
    if rules.plateau_trials is None:
        return None
    name = rules.metric.name
    sign = -1.0 if rules.metric.direction is Direction.LOWER else 1.0
    noise = seed_noise(tried)
    needed = rules.plateau_sds * (noise or 0.0)
    held: float | None = None
    since = 0
    for past in tried:
        value = past.value(name)
        if past.decision.keeps and value is not None and (held is None or sign * (value - held) > needed):
            held, since = value, 0
        elif not past.void:
            since += 1
    if held is None or since < rules.plateau_trials:
        return None
    unit = (
        "the noise of the seeds was not measured"
        if noise is None
        else f"{rules.plateau_sds:g} SD of the seeds is {needed:.3g}"
    )
    return f"plateau: {since} trials in a row brought no progress beyond {name} = {held:.6g} ({unit})"


def _tier(metric: PrimaryMetric, value: float) -> Tier | None:
    if metric.direction is None or metric.thresholds.disorder(metric.direction):
        return None
    return metric.thresholds.tier(value, metric.direction)
