"""What a confirmation can show, before a run is paid for: power, smallest gain it can find, runs that are needed.

Power is simulated with the gate's own tests over whole plans of looks (vectorised; `tests/unit/gates` holds it against
the gate), so it has no normal approximation; numbers of runs to come are approximate and say "about".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from assay import stats
from assay.core.base import Noun
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates._deploy.policy import DeployPolicy
from assay.gates._deploy.tested import Tested, look_levels, tasks_for_population
from assay.stats import agent_suites

Counts = NDArray[np.int64]
Estimand = Literal["fixed_suite", "population"]

PLANNING_RATES = (0.2, 0.35, 0.5, 0.65)
"""Pass rates of the tasks where none are known: some hard, some easy, none hopeless."""
MIN_POWER = 0.5
"""A plan below that is refused: it is likelier to waste its runs than to find what it looks for."""
_TIE = 1 + 1e-9


class DeployPower(Noun):
    """What a plan of looks does at one true gain."""

    gain: float
    power: float
    """Share of studies that deploy."""
    no_gain: float
    """Share that ends as futile."""
    mean_runs: float
    """Of judged tasks, both arms together."""
    max_runs: int
    draws: int


class DeployPlan(Noun):
    """What is known of a confirmation before it begins."""

    estimand: Estimand
    tasks: int = Field(ge=0)
    """That count: canaries are none."""
    looks: tuple[int, ...]
    """Repeats per arm at each look."""
    levels: tuple[float, ...]
    """Level of each look."""
    at_gain: DeployPower | None = None
    """At the gain that is planned for."""
    at_no_gain: DeployPower | None = None
    minimum_detectable_gain: float | None = None
    """Smallest gain that is found with the policy's power; None = not even a gain of .95."""
    runs_needed: int | None = None
    """About how many runs of judged tasks find the planned gain with the policy's power, where this plan does not."""
    refused: str = ""
    """Why the plan should not be run; empty = it may."""


def deploy_plan(
    policy: DeployPolicy, tasks: int, repeats: int = 0, base_rates: Sequence[float] = (), draws: int = 2_000
) -> DeployPlan:
    """See `gates.deploy.plan_deploy`. Seeded: it always gives the same answer."""
    looks = policy.looks or (max(1, repeats),)
    levels = tuple(level / policy.candidates for level in look_levels(policy))
    known = {"estimand": policy.estimand, "tasks": tasks, "looks": looks, "levels": levels}
    if not tasks:
        return DeployPlan(**known, refused="there is no task beside canaries")
    least = tasks_for_population(max(levels))
    if policy.estimand == "population" and tasks < least:
        text = f"{tasks} tasks can show nothing about tasks like these, whatever their repeats: {least} are needed"
        return DeployPlan(**known, runs_needed=2 * least * looks[-1], refused=text)
    rates = planning_rates(base_rates, tasks)
    at_gain, at_none = (
        deploy_power(policy, rates, looks, gain, draws) for gain in (policy.planning_gain, 0.0)
    )
    detectable = minimum_detectable_gain(policy, rates, looks, draws // 2)
    needed = None
    if at_gain.power < policy.power:
        needed = runs_needed(policy, rates, policy.planning_gain)
    refused = ""
    if at_gain.power < MIN_POWER:
        more = "" if needed is None else f"; about {needed:,} runs would have a chance of {policy.power:.0%}"
        refused = f"a gain of {policy.planning_gain:.2f} would be found with a chance of {at_gain.power:.0%} only{more}"
    return DeployPlan(
        **known,
        at_gain=at_gain,
        at_no_gain=at_none,
        minimum_detectable_gain=detectable,
        runs_needed=needed,
        refused=refused,
    )


def planning_rates(base_rates: Sequence[float], tasks: int) -> list[float]:
    """Pass rates to plan with: measured ones pulled half-way to their mean, as few repeats read 0 and 1 too often.

    Args:
        base_rates: as measured; empty = assumed ones.
        tasks: how many are wanted; rates are used in turn.
    """
    middle = sum(base_rates) / len(base_rates) if base_rates else 0.0
    given = [0.5 * (rate + middle) for rate in base_rates] or PLANNING_RATES
    return [given[t % len(given)] for t in range(tasks)]


def deploy_power(
    policy: DeployPolicy,
    base_rates: Sequence[float],
    looks: Sequence[int],
    gain: float,
    draws: int = 2_000,
    seed: int = 2026,
) -> DeployPower:
    """Simulate whole studies of tasks that all gain alike (no rate leaves [0, 1]).

    Args:
        policy: estimand, levels, futility.
        base_rates: pass rate of each task with the baseline.
        looks: repeats per arm at each look.
        gain: true gain of each task; negative = harm.
        draws: studies.
        seed: their seed.
    """
    before = np.asarray(base_rates, dtype=float)
    after = np.clip(before + gain, 0.0, 1.0)
    generator = np.random.default_rng(seed)
    words, runs = simulate(policy, before, after, looks, draws, generator)
    return DeployPower(
        gain=gain,
        power=float(np.mean(words == 1)),
        no_gain=float(np.mean(words == 0)),
        mean_runs=float(runs.mean()),
        max_runs=2 * before.size * looks[-1],
        draws=draws,
    )


def simulate(
    policy: DeployPolicy,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    looks: Sequence[int],
    draws: int,
    generator: np.random.Generator,
) -> tuple[Counts, Counts]:
    """Run studies with known pass rates through the tests of each look, without a bar on the gain.

    Args:
        policy: estimand, levels, futility.
        before: pass rates of the baseline, shape (tasks,) or (draws, tasks).
        after: the same of the candidate.
        looks: repeats per arm at each look.
        draws: studies.
        generator: where the draws come from.

    Returns:
        Words (1 deploy, 0 no gain, -1 worse, -2 inconclusive) and runs used, each of shape (draws,).
    """
    tasks = before.shape[-1]
    words, used = np.full(draws, -2), np.full(draws, 2 * tasks * looks[-1])
    x1, x2 = np.zeros((draws, tasks), int), np.zeros((draws, tasks), int)
    alive, done = np.arange(draws), 0
    for repeats, level in zip(looks, look_levels(policy), strict=True):
        step = repeats - done
        x1[alive] += generator.binomial(step, _of(before, alive), size=(alive.size, tasks))
        x2[alive] += generator.binomial(step, _of(after, alive), size=(alive.size, tasks))
        done = repeats
        word, last = _words(policy, x1[alive], x2[alive], repeats, level)
        done_here = last | (repeats == looks[-1])
        ended = (word != -2) | done_here
        words[alive[ended]], used[alive[ended]] = word[ended], 2 * tasks * repeats
        alive = alive[~ended]
        if not alive.size:
            break
    return words, used


def minimum_detectable_gain(
    policy: DeployPolicy, base_rates: Sequence[float], looks: Sequence[int], draws: int = 1_000
) -> float | None:
    """The smallest gain, to .01, that a plan finds with the policy's power; None = not even .95."""
    low, high = 0, 95
    if deploy_power(policy, base_rates, looks, high / 100, draws).power < policy.power:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        found = deploy_power(policy, base_rates, looks, middle / 100, draws).power >= policy.power
        low, high = (low, middle) if found else (middle, high)
    return high / 100


def runs_needed(
    policy: DeployPolicy, base_rates: Sequence[float], gain: float, task_sd: float = 0.0, repeats: int = 0
) -> int | None:
    """About how many runs, both arms together, find a gain with the policy's power at one look.

    Fixed suite: the same tasks more often. Population: more tasks, as often as planned.

    Args:
        policy: level, power, looks, estimand.
        base_rates: pass rates of the tasks.
        gain: to be found.
        task_sd: SD of the tasks' true gains, where known.
        repeats: of each task and arm, for more tasks; 0 = as planned.
    """
    alpha = min(0.499, policy.alpha / policy.candidates)
    rates = [min(1.0, max(0.0, r)) for r in base_rates]
    if policy.estimand == "fixed_suite":
        of_each = _repeats_needed(rates, gain, alpha, policy.power)
        return None if of_each is None else 2 * len(rates) * of_each
    of_each = repeats or (policy.looks[-1] if policy.looks else 3)
    within = sum(r * (1 - r) + min(1.0, r + gain) * (1 - min(1.0, r + gain)) for r in rates) / len(rates)
    tasks = math.ceil(((_z(alpha) + _z(1 - policy.power)) / gain) ** 2 * (within / of_each + task_sd**2))
    least = tasks_for_population(max(look_levels(policy)) / policy.candidates)
    return 2 * of_each * max(least, tasks)


def _repeats_needed(rates: Sequence[float], gain: float, alpha: float, power: float) -> int | None:
    """Repeats per task and arm that show a gain over these tasks; None = none do."""
    found = stats.suites.runs_needed(list(rates), 0.0, drop=-gain, alpha=alpha, power=power)
    return int(found) if math.isfinite(found) else None


def needed_after(tested: Tested, rates: Sequence[float], policy: DeployPolicy, bar: float) -> int:
    """Runs in all that an inconclusive study would need: more than it has.

    For the gain that was planned for; where that many are there already, for the gain seen, or for half the planned.
    """
    have = 2 * tested.tasks * tested.repeats
    claim = policy.model_copy(update={"estimand": tested.estimand, "looks": ()})
    of_tasks = tested.estimand == "population"
    level = (policy.alpha if tested.deterministic else max(look_levels(policy))) / policy.candidates
    if of_tasks and tested.tasks < (least := tasks_for_population(level)):
        return 2 * least * tested.repeats
    spread = tested.task_sd or 0.0 if tested.deterministic else 0.0
    for gain in (policy.planning_gain, tested.gain, policy.planning_gain / 2):
        needed = runs_needed(claim, rates, gain - bar, spread, tested.repeats) if gain > bar else None
        if needed is not None and of_tasks and bar > 0.0:
            needed = max(needed, 2 * tested.repeats * _tasks_that_earn(gain, bar, level))
        if needed is not None and needed > have:
            return needed
    return 2 * have


def _tasks_that_earn(gain: float, bar: float, level: float) -> int:
    """Tasks that must all gain so much before what may just not have been drawn leaves the bar."""
    return math.ceil(math.log(level) / math.log((1.0 + bar) / (1.0 + gain)) - 1e-9)


def judge_probes(probes: Sequence[tuple[int, int]], policy: DeployPolicy | None = None) -> Verdict:
    """Judge single passes over a suite with one unchanged text: is one pass worth comparing with another?

    Args:
        probes: passed tasks and tasks of each pass, such as (4, 5), (1, 5), (3, 5).
        policy: level, power, and the gain that a comparison should find.

    Returns:
        INCONCLUSIVE with the runs that a comparison of two texts would need; ERROR where the passes differ by more
        than chance, or cannot be compared.
    """
    policy = policy or DeployPolicy()
    sizes = {n for _, n in probes}
    if len(probes) < 2 or len(sizes) > 1 or any(not 0 <= x <= n or n < 1 for x, n in probes):
        return _probe_error(
            "two or more passes over the same tasks are needed", FailureClass.USER_CONFIG_ERROR
        )
    tasks, passed = sizes.pop(), [x for x, _ in probes]
    total, runs = sum(passed), tasks * len(probes)
    p = agent_suites.equal_rates_test(passed, [tasks] * len(probes))
    interval = stats.wilson_interval(total, runs, 0.95)
    told = ", ".join(f"{x}/{tasks}" for x in passed)
    rate = f"{total}/{runs} = {total / runs:.2f}, 95 % {interval.lower:.2f} to {interval.upper:.2f}"
    if p <= policy.alpha:
        text = f"{told}: one text, and its passes differ by more than chance (p {p:.3g})"
        return _probe_error(text, FailureClass.NOT_COMPARABLE)
    claim = policy.model_copy(update={"estimand": "fixed_suite"})
    needed = runs_needed(claim, [total / runs] * tasks, policy.planning_gain)
    more = "" if needed is None else f"; it needs {max(1, needed - runs):,} more runs"
    gain = f"a gain of {policy.planning_gain:.2f} over {tasks} tasks"
    return Verdict(
        gate="deploy",
        status=Status.INCONCLUSIVE,
        outcome=Outcome.INCONCLUSIVE,
        detail=f"{told} are one rate, {rate} (p {p:.2f}): no pass can be told from another by {gain}{more}",
        reasons=(
            Reason(text=f"passes of one text, p {p:.3f}", ok=True, measured=p, limit=policy.alpha, unit="p"),
        ),
        needed=needed,
        extra={
            "p": p,
            "rate": total / runs,
            "interval": [interval.lower, interval.upper],
            "runs": runs,
            "seed_deploys_unchanged": agent_suites.unchanged_gain_chance([total / runs] * tasks),
        },
    )


def _probe_error(text: str, failure: FailureClass) -> Verdict:
    return Verdict(
        gate="deploy",
        status=Status.ERROR,
        outcome=Outcome.ANOMALOUS,
        failure_class=failure,
        detail=text,
        reasons=(Reason(text=text, ok=False),),
    )


def _words(
    policy: DeployPolicy, x1: Counts, x2: Counts, repeats: int, level: float
) -> tuple[Counts, NDArray[np.bool_]]:
    """The gate's words at one look, and which studies end with it: those of agents that look deterministic."""
    both = np.hstack([x1, x2])
    steady = np.asarray(np.isin(both, (0, repeats)).all(axis=1)) & np.full(both.shape[0], repeats > 1)
    over_tasks = steady | np.full(both.shape[0], policy.estimand == "population")
    words = np.full(x1.shape[0], -2)
    for rows, estimand in ((over_tasks, "population"), (~over_tasks, "fixed_suite")):
        if not rows.any():
            continue
        tests = (
            agent_suites.population_gain_tests if estimand == "population" else agent_suites.fixed_gain_tests
        )
        found = tests(x1[rows], x2[rows], repeats)
        levels = np.where(steady[rows], policy.alpha, level)
        most = np.where(steady[rows], policy.alpha, max(look_levels(policy))) / policy.candidates
        least = (
            np.maximum(5, np.ceil(-np.log2(most) - 1e-9)) if estimand == "population" else np.zeros(most.size)
        )
        few = x1.shape[1] < least
        mine = words[rows]
        if policy.looks and policy.futility_p is not None:
            mine[~few & (found.p_better >= policy.futility_p / _TIE)] = 0
        mine[~few & (found.p_better <= levels / policy.candidates * _TIE)] = 1
        mine[found.p_worse <= levels * _TIE] = -1
        words[rows] = mine
    return words, steady


def _of(rates: NDArray[np.float64], rows: Counts) -> NDArray[np.float64]:
    return rates if rates.ndim == 1 else rates[rows]


def _z(tail: float) -> float:
    from statistics import NormalDist  # noqa: PLC0415 - beside scipy, for one number

    return -float(NormalDist().inv_cdf(tail))
