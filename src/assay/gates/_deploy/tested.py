"""The tests of one look: is the candidate better, is it worse, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from assay import stats
from assay.core.agent import BASELINE, CANDIDATE, AgentRuns
from assay.core.verdict import Estimate
from assay.core.vocabulary import FailureClass
from assay.gates._deploy.policy import DeployPolicy
from assay.gates._deploy.runs import Arm, Cell, Flaw
from assay.stats import agent_suites

_TIE = 1 + 1e-9
"""A p value that is a fraction of whole numbers may equal a level exactly."""


class Look(NamedTuple):
    """Where in its plan a study stands."""

    number: int
    """Counted from 1."""
    of: int
    better: float
    """Level at which "better" is tested."""
    worse: float

    @property
    def last(self) -> bool:
        """Whether no other look is planned."""
        return self.number == self.of

    def only(self, policy: DeployPolicy) -> Look:
        """The one look of a deterministic agent: later ones see the same again, so none of the level is kept for them."""
        return Look(self.number, self.number, policy.alpha / policy.candidates, policy.alpha)


@dataclass(frozen=True)
class Tested:
    """What a look shows."""

    method: Literal["stratified_exact", "sign_flip", "score_permutation"]
    estimand: Literal["fixed_suite", "population"]
    """What it may be said about: a deterministic agent leaves only the population."""
    deterministic: bool
    p_better: float
    """With lost runs of the candidate as failures."""
    p_worse: float
    gain: float
    lower: float
    """One-sided bounds at the look's levels."""
    upper: float
    equivalent_lower: float
    """Lower bound for a claim of "no worse by a margin"."""
    tasks: int
    repeats: int
    task_sd: float | None
    """SD of the tasks' gains."""

    def is_better(self, look: Look, bar: float) -> bool:
        """Whether a gain above 0 is shown, and the bar reached."""
        return self.p_better <= look.better * _TIE and (bar <= 0.0 or self.lower >= bar)

    def is_futile(self, p: float) -> bool:
        """Whether it looks no better than that."""
        return self.p_better >= p / _TIE

    def is_worse(self, look: Look) -> bool:
        """Whether a loss is shown."""
        return self.p_worse <= look.worse * _TIE


def look_at(policy: DeployPolicy, runs: AgentRuns) -> Look | Flaw:
    """The look that is due after so many repeats, or why there is none."""
    levels, repeats = look_levels(policy), runs.repeats[CANDIDATE]
    if runs.repeats[BASELINE] != repeats:
        text = f"{runs.repeats[BASELINE]} repeats of the baseline and {repeats} of the candidate"
        return Flaw(text, FailureClass.SAMPLE_ACCOUNTING_FAILED)
    if len(levels) != max(1, len(policy.looks)):
        return Flaw("`alpha_spent` has no level for each look", FailureClass.USER_CONFIG_ERROR)
    if not policy.looks:
        return Look(1, 1, levels[0] / policy.candidates, levels[0])
    if repeats not in policy.looks:
        planned = ", ".join(map(str, policy.looks))
        text = f"{repeats} repeats are none of the planned looks ({planned})"
        return Flaw(text, FailureClass.SAMPLE_ACCOUNTING_FAILED)
    at = policy.looks.index(repeats)
    return Look(at + 1, len(policy.looks), levels[at] / policy.candidates, levels[at])


def look_levels(policy: DeployPolicy) -> tuple[float, ...]:
    """The level of each look, before candidates share it."""
    return policy.alpha_spent or agent_suites.spend(max(1, len(policy.looks)), policy.alpha)


def tasks_for_population(level: float, at_least: int = 5) -> int:
    """Tasks that must all gain before anything is shown about tasks like these at such a level."""
    return max(at_least, math.ceil(math.log2(1.0 / level) - 1e-9))


def test_look(baseline: Arm, candidate: Arm, policy: DeployPolicy, look: Look) -> tuple[Tested, Look]:
    """Test the candidate's runs against the baseline's, task by task; a deterministic agent has one look only."""
    rows = sorted(((b, candidate.cells[t]) for t, b in baseline.cells.items()), key=_rank)
    worst = [(b, c.worst()) for b, c in rows]
    deterministic = baseline.steady() and candidate.steady()
    if deterministic:
        look = look.only(policy)
    population = deterministic or policy.estimand == "population"
    one = _side(worst, 1 - 2 * look.better, policy, population=population)
    other = _side(rows, 1 - 2 * look.worse, policy, population=population)
    gains = [c.rate - b.rate for b, c in rows]
    mean = math.fsum(gains) / len(gains)
    spread = math.fsum((g - mean) ** 2 for g in gains) / (len(gains) - 1) if len(gains) > 1 else None
    on_these = one
    if population and policy.estimand == "fixed_suite":
        # what a deterministic agent does alike on these tasks, it does alike
        on_these = _side(worst, 1 - 2 * look.better, policy, population=False)
    return Tested(
        method=one.method,
        estimand="population" if population else "fixed_suite",
        deterministic=deterministic,
        p_better=one.p_better,
        p_worse=other.p_worse,
        gain=mean,
        lower=max(-1.0, one.lower),
        upper=min(1.0, other.upper),
        equivalent_lower=max(-1.0, on_these.lower),
        tasks=len(rows),
        repeats=max(c.runs + c.lost for c in candidate.cells.values()),
        task_sd=None if spread is None else math.sqrt(spread),
    ), look


class _Side(NamedTuple):
    method: Literal["stratified_exact", "sign_flip", "score_permutation"]
    p_better: float
    p_worse: float
    lower: float
    upper: float


def _side(
    rows: Sequence[tuple[Cell, Cell]], level: float, policy: DeployPolicy, *, population: bool
) -> _Side:
    """Both tests and the interval of one way to count lost runs."""
    if population:
        gains = [c.rate - b.rate for b, c in rows]
        drops = [-g for g in gains]
        found = agent_suites.population_gain_interval(gains, level, policy.seed)
        return _Side(
            "sign_flip",
            stats.sign_flip(drops, "better", seed=policy.seed),
            stats.sign_flip(drops, "worse", seed=policy.seed),
            found.lower,
            found.upper,
        )
    if all(s in (0.0, 1.0) for row in rows for cell in row for s in cell.scores):
        columns = _columns(rows)
        return _Side("stratified_exact", *_exact(columns), *_interval(columns, level))
    drawn = agent_suites.score_permutation(
        [b.scores for b, _ in rows], [c.scores for _, c in rows], level, seed=policy.seed
    )
    return _Side(
        "score_permutation", drawn.p_better, drawn.p_worse, drawn.interval.lower, drawn.interval.upper
    )


def _rank(row: tuple[Cell, Cell]) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """An order of tasks that does not depend on their names: not even the draws may."""
    return row[0].scores, row[1].scores, row[1].lost


def estimates(baseline: Arm, candidate: Arm, tested: Tested, look: Look, bar: float) -> tuple[Estimate, ...]:
    """The macro difference and one of each task, in drops."""
    level = 1 - 2 * look.better
    macro = Estimate(
        task="macro",
        baseline=baseline.rate,
        candidate=candidate.rate,
        drop=-tested.gain,
        lower=-tested.upper,
        upper=-tested.lower,
        level=level,
        margin=-bar,
        n=tested.tasks,
        p_accept=tested.p_better,
        p_regress=tested.p_worse,
        role="primary",
    )
    out = [macro]
    for task, before in baseline.cells.items():
        after = candidate.cells[task]
        low = high = None
        if baseline.binary and candidate.binary:
            low, high = _interval(_columns([(before, after)]), level)
        out.append(
            Estimate(
                task=task,
                baseline=before.rate,
                candidate=after.rate,
                drop=before.rate - after.rate,
                lower=None if high is None else -high,
                upper=None if low is None else -low,
                level=None if low is None else level,
                n=min(before.runs, after.runs),
                role="advisory",
            )
        )
    return tuple(out)


def worse_tasks(baseline: Arm, candidate: Arm, level: float) -> dict[str, float]:
    """Tasks that are shown to be worse, with Holm's adjusted p (Boschloo)."""
    if not (baseline.binary and candidate.binary):
        return {}
    p = {t: _boschloo(*_counts(b, candidate.cells[t])) for t, b in baseline.cells.items()}
    return {t: float(a) for t, a in zip(p, stats.holm(list(p.values())), strict=True) if a <= level}


def again_p(first: Arm, second: Arm, policy: DeployPolicy) -> float:
    """Two-sided p value of "two arms with the same text are alike"."""
    tested, _ = test_look(
        first, second, policy.model_copy(update={"estimand": "fixed_suite"}), Look(1, 1, 0.05, 0.05)
    )
    return min(1.0, 2 * min(tested.p_better, tested.p_worse))


def wilson(cell: Cell, level: float = 0.9) -> tuple[float, float]:
    """Wilson interval of a cell's mean; for partial scores it is wider than need be."""
    return wilson_mean(cell.total, cell.runs, level)


def wilson_mean(total: float, n: int, level: float = 0.9) -> tuple[float, float]:
    """Wilson interval of a mean of scores in [0, 1]: no such score varies more than one of 0 and 1."""
    z = -_quantile((1 - level) / 2)
    spread = z * math.sqrt(max(0.0, total * (n - total) / n) + z * z / 4)
    middle = total + z * z / 2
    return max(0.0, (middle - spread) / (n + z * z)), min(1.0, (middle + spread) / (n + z * z))


@lru_cache(maxsize=64)
def _quantile(p: float) -> float:
    from statistics import NormalDist  # noqa: PLC0415 - beside scipy, for one number

    return float(NormalDist().inv_cdf(p))


def _counts(before: Cell, after: Cell) -> tuple[int, int, int, int]:
    return round(before.total), before.runs, round(after.total), after.runs


@lru_cache(maxsize=4096)
def _boschloo(x1: int, n1: int, x2: int, n2: int) -> float:
    if x1 * n2 <= x2 * n1 or n1 + n2 > stats.two_sample.BOSCHLOO_UP_TO:
        return 1.0
    return stats.boschloo_test(x1, n1, x2, n2, "worse")


def _columns(pairs: Sequence[tuple[Cell, Cell]]) -> tuple[tuple[int, ...], ...]:
    rows = sorted(_counts(b, c) for b, c in pairs)  # the order of tasks must not matter, nor its rounding
    return tuple(zip(*rows, strict=True))


@lru_cache(maxsize=4096)
def _exact(columns: tuple[tuple[int, ...], ...]) -> tuple[float, float]:
    x1, n1, x2, n2 = columns
    found = agent_suites.fixed_gain_test(x1, n1, x2, n2)
    return found.p_better, found.p_worse


@lru_cache(maxsize=4096)
def _interval(columns: tuple[tuple[int, ...], ...], level: float) -> tuple[float, float]:
    x1, n1, x2, n2 = columns
    found = agent_suites.fixed_gain_interval(x1, n1, x2, n2, level)
    return found.lower, found.upper
