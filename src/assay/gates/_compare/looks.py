"""The level at which a comparison tests at one of its looks.

`group`: each error rate is spent over the planned looks (Lan & DeMets 1983, Pocock type); the boundary of a look
as a p value is the level of that look, for the mean and for each guard alike: ACCEPT takes all of them at one look,
so no wrong one has a better chance than its own boundary. A task's regression spends its own equal share. `anytime`:
evidence by betting, whose level is the same whenever it is looked at.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from assay import stats
from assay.core.vocabulary import FailureClass
from assay.gates._compare.pairs import Anomaly
from assay.gates._compare.policy import ComparePolicy, LookPlan

BETTING_PRICE = 2.0
"""Items that betting needs for one that a single test needs (facts of `benchmarks/decision_quality.py`, Q7)."""
LOOKS_PRICE = (1.0, 1.25)
"""The same for one look, and for several with Pocock-type spending (Jennison & Turnbull 2000, table 2.2: 1.2 to 1.3)."""


class Levels(NamedTuple):
    """One-sided levels of the tests of one look."""

    accept: float
    regress: float
    """Of the mean over tasks."""
    regress_task: float
    """Of one task; of Holm's adjusted p where there is a single look."""
    betting: bool = False
    look: int = 1
    """Counted from 1; 0 = between or after the planned ones."""
    looks: int = 1
    n_max: int | None = None
    """Pairs of the last planned look."""


def fixed(policy: ComparePolicy, tasks: int) -> Levels:
    """One test when all pairs are in: half of the regression rate for the mean and half for the tasks."""
    regress = policy.alpha_regress / (1 if tasks == 1 else 2)  # with one task they are the same question
    return Levels(policy.alpha_accept / policy.comparisons, regress, regress)


def at(policy: ComparePolicy, tasks: int, n: int) -> Levels | Anomaly:
    """The levels when `n` items are in; what forbids to test at that number, as an anomaly."""
    plan = policy.looks
    whole = fixed(policy, tasks)
    if plan is None:
        return whole
    look = plan.ends.index(n) + 1 if n in plan.ends else 0
    looks, n_max = len(plan.ends), plan.ends[-1]
    if plan.rule == "anytime":
        return Levels(
            whole.accept,
            whole.regress,
            whole.regress / tasks,
            betting=True,
            look=look,
            looks=looks,
            n_max=n_max,
        )
    if look:
        return _spent(plan, whole, look, tasks)
    if n < plan.ends[-1]:
        text = f"{n:,} pairs are none of the planned looks ({', '.join(f'{end:,}' for end in plan.ends)})"
        return Anomaly(FailureClass.SAMPLE_ACCOUNTING_FAILED, text)
    if not plan.topup_frac:
        text = "the plan ended before: its error rates are spent, and none was kept back for more pairs"
        return Anomaly(FailureClass.USER_CONFIG_ERROR, text)
    accept, regress = whole.accept * plan.topup_frac, whole.regress * plan.topup_frac
    return Levels(accept, regress, regress / tasks, betting=True, look=0, looks=looks, n_max=n_max)


def planned_items(policy: ComparePolicy, task: str, n: int) -> int:
    """How many items of a task a single look at the end would need to be worth as much as the plan.

    Args:
        policy: the contract.
        task: the task.
        n: items that there are, where nothing is planned.
    """
    plan = policy.looks
    if plan is None or task not in plan.sizes:
        return n
    planned = plan.sizes[task] * plan.ends[-1] / sum(plan.sizes.values())
    return max(
        1, int(planned / (BETTING_PRICE if plan.rule == "anytime" else LOOKS_PRICE[len(plan.ends) > 1]))
    )


def resolution(policy: ComparePolicy, levels: Levels, n: int, z: float) -> float | None:
    """Chance that a later planned look decides, given the score of this one; None where none is planned."""
    if policy.looks is None or n >= policy.looks.ends[-1] or not math.isfinite(z):
        return None
    whole = fixed(policy, 1)
    ends = policy.looks.ends if levels.look else tuple(sorted({*policy.looks.ends, n}))
    plan = stats.sequential_plan([end / ends[-1] for end in ends], whole.accept, policy.alpha_regress)
    return plan.resolution_probability(ends.index(n) + 1, z)


def _spent(plan: LookPlan, whole: Levels, look: int, tasks: int) -> Levels:
    kept = 1.0 - plan.topup_frac
    rates = (whole.accept, whole.regress, whole.regress / tasks)
    accept, regress, task = (_nominal(plan.ends, rate * kept, look) for rate in rates)
    return Levels(accept, regress, task, look=look, looks=len(plan.ends), n_max=plan.ends[-1])


@lru_cache(maxsize=256)
def _nominal(ends: tuple[int, ...], alpha: float, look: int) -> float:
    """The boundary of a look as a one-sided p value."""
    if len(ends) == 1:
        return alpha
    z = float(stats.spending_boundaries([end / ends[-1] for end in ends], alpha, "pocock")[look - 1])
    return 0.5 * math.erfc(z / math.sqrt(2.0))
