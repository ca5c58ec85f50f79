"""`assay resume --more`: how a study goes on beyond its plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from assay.core.errors import UsageError
from assay.core.history import StudyHistory
from assay.core.study import Step
from assay.core.trial import Trial
from assay.core.vocabulary import Status
from assay.flows import release
from assay.flows.release import ReleaseSpec
from assay.gates.compare import ComparePolicy


class TopUp(NamedTuple):
    """How a study goes on beyond its plan."""

    steps: tuple[Step, ...]
    """What is added to the plan."""
    trials: Mapping[str, str]
    """Trial → the step that it goes to."""
    pairs: Mapping[str, int]
    """Trial → pairs that it is asked beyond those it has seen."""


_INSTEAD: Mapping[str, tuple[str, str]] = {
    "train": (
        "a recipe is tested once with all its seeds, and more of them after a look would break the error rate",
        "start a new study with more: `assay run SPEC --set seeds=N`",
    ),
    "tune": (
        "a search asks no pairs",
        "start a new study with more time: `assay run SPEC --set budget.max_duration_s=S`",
    ),
    "evolve": (
        "its text is confirmed once on tasks that nothing else saw, and more after a look would break the error rate",
        "start a new study on a suite with more tasks",
    ),
    "calibrate": (
        "it measures noise and decides nothing",
        "measure again with `assay calibrate SPEC`",
    ),
}
"""Job → why it takes no more pairs, and what to do."""


def topping_up(history: StudyHistory, pairs: int) -> TopUp:
    """What `--more` adds to a study.

    Raises:
        UsageError: if its contract forbids it, or there is nothing to ask.
    """
    study = history.study
    policy = next((g.policy for g in study.gates if g.gate == "compare"), None)
    if study.job != "release" or policy is None:
        why, instead = _INSTEAD.get(study.job, _INSTEAD["calibrate"])
        raise UsageError(
            f"only a release takes more pairs, not a study of job {study.job}: {why}",
            where=study.id,
            next=instead,
        )
    if history.closed is None:
        raise UsageError(
            "it is not finished yet: more is asked of what its plan left open",
            where=study.id,
            next=f"`assay resume {study.id}` first",
        )
    undecided = [t for t in history.trials.values() if t.finished and _open(t)]
    if not undecided:
        raise UsageError(
            "no candidate of it is INCONCLUSIVE for want of pairs",
            where=study.id,
            next=f"`assay show {study.id}`",
        )
    return _further(history, undecided, ComparePolicy.model_validate(dict(policy)), pairs)


def _open(trial: Trial) -> bool:
    line = trial.gates.get("compare")
    return line is not None and line.status is Status.INCONCLUSIVE


def _further(history: StudyHistory, trials: list[Trial], policy: ComparePolicy, pairs: int) -> TopUp:
    """The looks that are left in the plan first, whole ones as they were planned; then looks of their own.

    Raises:
        UsageError: if the contract forbids it, or no item is left.
    """
    study = history.study
    if policy.looks is None:
        raise UsageError(
            "its contract tests once: more pairs after a look at the first would break its error rate",
            where=study.id,
            next="give a new study `sequential: {rule: anytime}`, which may be topped up",
        )
    spec = ReleaseSpec.from_json(study.spec)
    asked = {t.id: _asked(t, history) for t in trials}
    plan = list(history.steps)
    planned = _asked_by(plan[-1])
    for target in sorted({n + pairs for n in asked.values()}):
        beyond = target - _asked_by(plan[-1])
        plan += release.more(spec, tuple(plan), beyond) if beyond > 0 else ()
    steps = tuple(plan[len(history.steps) :])
    if steps and policy.looks.rule == "group" and not policy.looks.topup_frac:
        left = planned - min(asked.values())
        raise UsageError(
            f"its contract plans {planned:,} pairs and keeps no part of its error rates for more",
            where=study.id,
            next=f"`--more {left}` asks what is left of the plan"
            if left
            else "give a new study `sequential: {rule: anytime}` or a `topup_frac`",
        )
    upto = {t: _reaching(plan, n + pairs) for t, n in asked.items()}
    more = {t: n for t, step in upto.items() if (n := _asked_by(step) - asked[t])}
    if not more:
        raise UsageError(
            f"all {planned:,} items of the tasks were asked: there is none to add",
            where=study.id,
            next="add tasks or items, in a new study",
        )
    return TopUp(steps, {t: upto[t].name for t in more}, more)


def _reaching(plan: list[Step], target: int) -> Step:
    """The last step of the first look that has as many pairs, or of the last look."""
    ends = [_asked_by(s) for s in plan]
    end = min((n for n in ends if n >= target), default=max(ends))
    return plan[len(ends) - 1 - ends[::-1].index(end)]


def _asked_by(step: Step) -> int:
    return sum(stop for _, stop in step.draw.parts.values()) if step.draw is not None else 0


def _asked(trial: Trial, history: StudyHistory) -> int:
    """Pairs that a trial has been asked so far."""
    return max((_asked_by(s) for s in history.steps if s.name in trial.steps), default=0)
