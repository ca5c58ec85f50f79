"""Non-inferiority over paired samples: the mean over tasks is the primary question, each task has a guard.

Right-or-wrong answers, one per item, are tested exactly (score test beyond
`EXACT_UP_TO` pairs); everything else by a cluster-robust t over items. A pair without a score on one side is
counted as lost for ACCEPT and as won for REGRESSION.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from assay import stats
from assay.core.verdict import Estimate
from assay.core.vocabulary import FailureClass, Status
from assay.gates._compare import looks
from assay.gates._compare.looks import Levels
from assay.gates._compare.pairs import Anomaly, TaskPairs
from assay.gates._compare.policy import ComparePolicy

Side: TypeAlias = Literal["worst", "best", "seen"]
MACRO = "macro"
EXACT_UP_TO = 5_000
"""Pairs of one task up to which the exact test is used; by design and never by what was observed."""
GAIN_ALPHA = 0.01
MISSING_ALPHA = 0.01


class Unit(NamedTuple):
    """What is tested of a task: one contrast per item, missing pairs counted in one direction."""

    lost: int
    """Items that only the baseline got right; 0 where scores are no right-or-wrong."""
    won: int
    n: int
    contrasts: tuple[float, ...]
    """Baseline minus candidate per item, -1..1; under a relative margin less that share of the baseline."""
    single: bool

    @property
    def mean(self) -> float:
        """Mean contrast."""
        return math.fsum(self.contrasts) / self.n

    @property
    def variance(self) -> float:
        """Variance of one item's contrast, never 0: as `stats.paired_variance`, half a change each way."""
        squares = math.fsum(d * d for d in self.contrasts)
        return max((squares + 1.0) / (self.n + 2.0) - self.mean**2, 1.0 / (self.n + 2.0))

    @property
    def se(self) -> float:
        """Standard error of the mean, never 0."""
        return math.sqrt(self.variance / self.n)

    def test(self, margin: float) -> stats.MarginTest:
        """Both one-sided tests against a margin."""
        if self.single:
            return _single_test(self.lost, self.won, self.n, margin)
        if self.n < 2:
            return stats.MarginTest(1.0, 1.0, 0.0)
        return stats.clustered_mean(self.contrasts).test(margin)

    def interval(self, level: float) -> stats.Interval:
        """Two-sided interval of the mean contrast."""
        if self.single:
            return stats.tango_interval(self.lost, self.won, self.n, level)
        if self.n < 2:
            return stats.Interval(-1.0, 1.0, level)
        return stats.clustered_mean(self.contrasts).interval(level)


@lru_cache(maxsize=1024)
def _single_test(lost: int, won: int, n: int, margin: float) -> stats.MarginTest:
    """One verdict asks the same of the same counts several times."""
    test = stats.exact_paired_test if n <= EXACT_UP_TO else stats.tango_test
    return test(lost, won, n, margin)


class Sides(NamedTuple):
    """A task with its missing pairs counted against, and for the candidate."""

    pairs: TaskPairs
    worst: Unit
    best: Unit
    seen: Unit
    """Scored pairs alone and always the plain drop, for the estimate."""
    guard: float | None
    weight: float

    def unit(self, which: Side) -> Unit:
        """One of the three ways to count what is missing."""
        chosen: Unit = getattr(self, which)
        return chosen

    @property
    def baseline(self) -> float:
        """Mean goodness of the baseline over scored pairs."""
        scored = self.pairs.scored
        return math.fsum(b for b, _ in scored) / len(scored)

    @property
    def candidate(self) -> float:
        """Mean goodness of the candidate over scored pairs."""
        scored = self.pairs.scored
        return math.fsum(c for _, c in scored) / len(scored)


class Outcome(NamedTuple):
    """What the tests say."""

    macro: Estimate
    tasks: tuple[Estimate, ...]
    needed: int
    needed_without_drop: int
    """The same, should the candidate be no worse at all."""
    lean: float
    """Share of belief that the drop is below the margin; a note, never a verdict."""
    levels: Levels


def units(task: TaskPairs, policy: ComparePolicy) -> Sides:
    """Prepare a task for the tests."""
    share = policy.margin if policy.relative else 0.0
    # planned over all pairs, whatever became of them: the guard may not depend on results
    return Sides(
        task,
        _unit(task, share, (1.0, 0.0)),
        _unit(task, share, (0.0, 1.0)),
        _unit(task, 0.0, None),
        _guard(task, policy),
        policy.weights.get(task.task, 1.0),
    )


def _unit(task: TaskPairs, share: float, missing: tuple[float, float] | None) -> Unit:
    per_item: dict[str, list[float]] = {}
    lost = won = 0
    for pair in task.pairs:
        before, after = pair.baseline, pair.candidate
        if before is None or after is None:
            if missing is None:
                continue
            before, after = missing
        lost += before == 1.0 and after == 0.0
        won += before == 0.0 and after == 1.0
        per_item.setdefault(pair.id, []).append((1.0 - share) * before - after)
    contrasts = tuple(math.fsum(d) / len(d) for d in per_item.values())
    single = task.single and share == 0.0
    counted = (lost, won) if task.single else (0, 0)
    return Unit(*counted, len(contrasts), contrasts, single)


def _guard(task: TaskPairs, policy: ComparePolicy) -> float | None:
    if task.task in policy.guards:
        return policy.guards[task.task]
    if policy.guard != "ladder":
        return policy.guard
    # a rung comes from the design, not from a look, and it is one that the planned looks can prove
    items = looks.planned_items(policy, task.task, len({p.id for p in task.pairs}))
    alpha = policy.alpha_accept / policy.comparisons
    rung = stats.guard_margin(items, policy.planning_flip_rate, alpha, policy.guard_power)
    # many samples reach rungs below the margin: a task is not held to more than the mean is
    return None if rung is None else max(rung, policy.margin)


def anomalies(tasks: Sequence[Sides], policy: ComparePolicy) -> list[Anomaly]:
    """What forbids to believe the numbers, by the numbers themselves (§3.8)."""
    found = []
    for side in tasks:
        name = side.pairs.task
        if all(b == c == 0.0 for b, c in side.pairs.scored):
            text = "both sides are wrong on every sample: suspect the harness"
            found.append(Anomaly(FailureClass.UNKNOWN, text, name))
        before, after = side.pairs.missing
        if before != after and stats.mcnemar_exact(after, before) < MISSING_ALPHA:
            text = f"{before} samples of the baseline and {after} of the candidate have no score"
            found.append(Anomaly(FailureClass.SAMPLE_ACCOUNTING_FAILED, text, name))
    if policy.implausible_gain is None:
        return found
    gain = policy.implausible_gain
    p_values = stats.holm([_mirrored(side.seen).test(gain).p_regress for side in tasks])
    for side, p in zip(tasks, p_values, strict=True):
        if p <= GAIN_ALPHA:
            text = f"it gains {-side.seen.mean:.1%}, surely more than {gain:.0%}: suspect the baseline"
            found.append(Anomaly(FailureClass.UNKNOWN, text, side.pairs.task))
    return found


def _mirrored(unit: Unit) -> Unit:
    return unit._replace(lost=unit.won, won=unit.lost, contrasts=tuple(-d for d in unit.contrasts))


def decide(tasks: Sequence[Sides], policy: ComparePolicy, levels: Levels | None = None) -> Outcome:
    """Test the mean over tasks, each task's guard, and each task for a regression.

    Args:
        tasks: what is tested.
        policy: the contract.
        levels: the levels of this look; None = of a comparison that looks once.
    """
    levels = levels or looks.fixed(policy, len(tasks))
    ask = _Betting(tasks, policy) if levels.betting else _Testing(tasks)
    margin = 0.0 if policy.relative else policy.margin
    worst, best = ask.macro(margin, "worst"), ask.macro(margin, "best")
    single = [ask.task(side, "best", margin).p_regress for side in tasks]
    adjusted = stats.holm(single) if levels.looks == 1 and not levels.betting else single
    estimates = tuple(
        _task_estimate(side, policy, ask, levels, (raw, bool(found <= levels.regress_task)))
        for side, raw, found in zip(tasks, single, adjusted, strict=True)
    )
    status = Status.INCONCLUSIVE
    if best.p_regress <= levels.regress:
        status = Status.FAIL
    elif worst.p_accept <= levels.accept:
        status = Status.PASS
    macro = _macro_estimate(tasks, policy, ask, levels, (worst.p_accept, best.p_regress, status))
    return Outcome(
        macro,
        estimates,
        _needed(tasks, policy, macro, estimates, betting=levels.betting),
        _needed(tasks, policy, macro, estimates, drop=0.0, betting=levels.betting),
        # the belief is that of all data seen, whatever rule decides
        _Testing(tasks).macro(margin, "worst").p_regress,
        levels,
    )


def score(tasks: Sequence[Sides], policy: ComparePolicy) -> float:
    """The z of the mean over tasks against the margin; positive speaks against the candidate."""
    return _Testing(tasks).macro(0.0 if policy.relative else policy.margin, "worst").z


class _Testing:
    """Exact and score tests of a fixed number of pairs."""

    def __init__(self, tasks: Sequence[Sides]) -> None:
        self.tasks = tasks

    def macro(self, margin: float, which: Side) -> stats.MarginTest:
        return (
            self.task(self.tasks[0], which, margin)
            if len(self.tasks) == 1
            else _macro(self.tasks, which).test(margin)
        )

    def macro_interval(self, level: float, which: Side) -> stats.Interval:
        if len(self.tasks) == 1:
            return self.interval(self.tasks[0], which, level)
        return _macro(self.tasks, which).interval(level)

    def task(self, side: Sides, which: Side, margin: float) -> stats.MarginTest:
        return side.unit(which).test(margin)

    def interval(self, side: Sides, which: Side, level: float) -> stats.Interval:
        return side.unit(which).interval(level)


class _Betting:
    """The same questions answered by bets, valid at whatever number of pairs they are asked."""

    def __init__(self, tasks: Sequence[Sides], policy: ComparePolicy) -> None:
        self.tasks = tasks
        sizes = policy.looks.sizes if policy.looks else {}
        # a mean over tasks weighs an item by the task's weight over its size, by design and not by what came
        shares = [s.weight / sizes.get(s.pairs.task, s.worst.n) for s in tasks]
        self._powers = [share / max(shares) for share in shares]

    def macro(self, margin: float, which: Side) -> stats.MarginTest:
        return _bet(self._process(margin, which))

    def macro_interval(self, level: float, which: Side) -> stats.Interval:
        return self._process(0.0, which).interval(level)

    def task(self, side: Sides, which: Side, margin: float) -> stats.MarginTest:
        return _bet(self._single(side, which, margin))

    def interval(self, side: Sides, which: Side, level: float) -> stats.Interval:
        return self._single(side, which, 0.0).interval(level)

    def _process(self, margin: float, which: Side) -> stats.BettingProcess:
        process = stats.BettingProcess(margin)
        for side, power in zip(self.tasks, self._powers, strict=True):
            process.update(_within(side.unit(which).contrasts), power)
        return process

    def _single(self, side: Sides, which: Side, margin: float) -> stats.BettingProcess:
        process = stats.BettingProcess(margin)
        process.update(_within(side.unit(which).contrasts))
        return process


def _within(contrasts: Sequence[float]) -> list[float]:
    """Differences as the bets take them: rounding may not carry one past the end of the range."""
    return [max(-1.0, min(1.0, d)) for d in contrasts]


def _bet(process: stats.BettingProcess) -> stats.MarginTest:
    """Evidence as p values: 1 / e, by Markov's inequality."""
    evidence = process.evidence
    p_accept = math.exp(-max(0.0, evidence.log_e_accept))
    p_regress = math.exp(-max(0.0, evidence.log_e_regress))
    return stats.MarginTest(p_accept, p_regress, math.nan)


def _macro(tasks: Sequence[Sides], which: Side) -> stats.MacroDrop:
    chosen = [side.unit(which) for side in tasks]
    return stats.macro_drop([u.mean for u in chosen], [u.se for u in chosen], [s.weight for s in tasks])


def _macro_estimate(
    tasks: Sequence[Sides],
    policy: ComparePolicy,
    ask: _Testing | _Betting,
    levels: Levels,
    tested: tuple[float, float, Status],
) -> Estimate:
    total = math.fsum(s.weight for s in tasks)
    before = math.fsum(s.weight * s.baseline for s in tasks) / total
    after = math.fsum(s.weight * s.candidate for s in tasks) / total
    level = 1.0 - 2.0 * levels.accept
    margin = policy.margin * before if policy.relative else policy.margin
    shift = margin if policy.relative else 0.0  # the tested contrast is the drop minus the margin
    counted = all(s.pairs.single for s in tasks)
    p_accept, p_regress, status = tested
    return Estimate(
        task=MACRO,
        baseline=before,
        candidate=after,
        drop=before - after,
        lower=ask.macro_interval(level, "best").lower + shift,
        upper=ask.macro_interval(level, "worst").upper + shift,
        level=level,
        margin=margin,
        n=sum(s.seen.n for s in tasks),
        lost=sum(s.seen.lost for s in tasks) if counted else None,
        won=sum(s.seen.won for s in tasks) if counted else None,
        p_accept=p_accept,
        p_regress=p_regress,
        status=status,
        role="primary",
    )


def _task_estimate(
    side: Sides,
    policy: ComparePolicy,
    ask: _Testing | _Betting,
    levels: Levels,
    regression: tuple[float, bool],
) -> Estimate:
    shift = policy.margin * side.baseline if policy.relative else 0.0
    level = 1.0 - 2.0 * levels.accept
    guard = side.guard
    # a guard is an absolute drop; under a relative margin the contrast reaches it that much earlier
    p_accept = None if guard is None else ask.task(side, "worst", max(0.0, guard - shift)).p_accept
    status = Status.PASS if p_accept is None or p_accept <= levels.accept else Status.INCONCLUSIVE
    p_regress, regressed = regression
    return Estimate(
        task=side.pairs.task,
        baseline=side.baseline,
        candidate=side.candidate,
        drop=side.baseline - side.candidate,
        lower=ask.interval(side, "best", level).lower + shift,
        upper=ask.interval(side, "worst", level).upper + shift,
        level=level,
        margin=guard,
        n=side.seen.n,
        lost=side.seen.lost if side.pairs.single else None,
        won=side.seen.won if side.pairs.single else None,
        p_accept=p_accept,
        p_regress=p_regress,
        status=Status.FAIL if regressed else status,
        role="advisory" if guard is None else "guard",
    )


def _needed(
    tasks: Sequence[Sides],
    policy: ComparePolicy,
    macro: Estimate,
    estimates: Sequence[Estimate],
    drop: float | None = None,
    *,
    betting: bool = False,
) -> int:
    """Pairs in all that are expected to settle what is still open; more than there are now.

    Args:
        tasks: what was tested.
        policy: the contract.
        macro: estimate of the mean over tasks.
        estimates: estimate of each task.
        drop: true drop to plan for; None = the observed one.
        betting: the tests are bets, which need more.
    """
    price = looks.BETTING_PRICE if betting else 1.0
    n = sum(len(s.pairs.pairs) for s in tasks)
    once = looks.fixed(policy, len(tasks))
    alphas = once.accept, once.regress
    power = policy.min_power
    wanted = [float(n + 1)]
    if macro.status is Status.INCONCLUSIVE:
        se = tasks[0].seen.se if len(tasks) == 1 else _macro(tasks, "seen").se
        wanted.append(price * _pairs(se * se * n, _distance(macro, policy, drop), alphas, power))
    for side, estimate in zip(tasks, estimates, strict=True):
        if estimate.status is Status.INCONCLUSIVE:
            of_task = _pairs(side.seen.variance, _distance(estimate, policy, drop), alphas, power)
            wanted.append(price * of_task * n / side.seen.n)
            if betting and estimate.p_accept is not None and 0.0 < estimate.p_accept < 1.0:
                # the capital grows by the same factor with every pair, if all goes on as it went
                wanted.append(n * math.log(alphas[0]) / math.log(estimate.p_accept))
    return int(min(max(wanted), 2.0**53))


def _distance(estimate: Estimate, policy: ComparePolicy, drop: float | None) -> float:
    """From the true drop to the margin; a drop on the margin itself is never settled, then as if none."""
    margin = estimate.margin or policy.margin
    distance = margin - max(estimate.drop if drop is None else drop, 0.0)
    return distance if abs(distance) > margin / 100 else margin


def _pairs(variance: float, distance: float, alphas: tuple[float, float], power: float) -> float:
    """N = v ((z_alpha + z_power) / distance)^2 toward whichever verdict the drop leans to."""
    alpha = alphas[0] if distance > 0 else alphas[1]
    factor = max(1.0, variance)  # with unequal weights a pair may count for more than one
    within = min(abs(distance), 0.999)
    return factor * stats.pairs_needed(within, variance / factor, alpha=alpha, power=power)
