"""`assay resume --more`: how a study goes on beyond its plan."""

from __future__ import annotations

from typing import NamedTuple

from assay.core.errors import UsageError
from assay.core.history import StudyHistory
from assay.core.study import Step
from assay.core.trial import Trial
from assay.core.vocabulary import Outcome
from assay.flows import release
from assay.flows.release import ReleaseSpec
from assay.gates.compare import ComparePolicy


class TopUp(NamedTuple):
    """How a study goes on beyond its plan."""

    steps: tuple[Step, ...]
    trials: tuple[str, ...]


def topping_up(history: StudyHistory, pairs: int) -> TopUp:
    """What `--more` adds to a study.

    Raises:
        UsageError: if its contract forbids it, or there is nothing to ask.
    """
    study = history.study
    if study.job != "release":
        raise UsageError(
            f"only a release takes more pairs, not a study of job {study.job}",
            where=study.id,
            next="start a new study, of a train job with more `seeds`",
        )
    policy = ComparePolicy.model_validate(dict(next(g.policy for g in study.gates if g.gate == "compare")))
    undecided = tuple(
        t.id
        for t in history.trials.values()
        if t.decision is not None and t.decision.outcome is Outcome.INCONCLUSIVE and t.gates.get("compare")
    )
    if not undecided:
        raise UsageError(
            "no candidate of it is INCONCLUSIVE for want of pairs",
            where=study.id,
            next=f"`assay show {study.id}`",
        )
    if policy.looks is None:
        raise UsageError(
            "its contract tests once: more pairs after a look at the first would break its error rate",
            where=study.id,
            next="give a new study `sequential: {rule: anytime}`, which may be topped up",
        )
    spec = ReleaseSpec.from_json(study.spec)
    asked = min(_asked(history.trials[t], history) for t in undecided)
    planned = max(_asked_by(s) for s in history.steps)
    beyond = asked + pairs - planned
    steps = release.more(spec, history.steps, beyond) if beyond > 0 else ()
    if beyond > 0 and not steps and asked >= planned:
        raise UsageError(
            f"all {planned:,} items of the tasks were asked: there is none to add",
            where=study.id,
            next="add tasks or items, in a new study",
        )
    if steps and policy.looks.rule == "group" and not policy.looks.topup_frac:
        raise UsageError(
            f"its contract plans {planned:,} pairs and keeps no part of its error rates for more",
            where=study.id,
            next="give a new study `sequential: {rule: anytime}` or a `topup_frac`",
        )
    return TopUp(steps, undecided)


def _asked_by(step: Step) -> int:
    return sum(stop for _, stop in step.draw.parts.values()) if step.draw is not None else 0


def _asked(trial: Trial, history: StudyHistory) -> int:
    """Pairs that a trial has been asked so far."""
    return max((_asked_by(s) for s in history.steps if s.name in trial.steps), default=0)
