"""Gate `training`: is there evidence that this experiment was trained to its end, soundly, and well enough?

A pure function of what the experiment's files say: asked twice it answers twice the same, and it changes nothing. Its
word for the loop stands beside the status: ADVANCE (may go on), ITERATE (try another), HOLD_INCOMPLETE (evidence is
missing or contradicts itself), NEEDS_HUMAN (a person must decide).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from assay.core.evidence import Evidence
from assay.core.experiment import Experiment, Tier
from assay.core.experiment_result import primary_of, tier_of
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status
from assay.gates._training import outcome, record
from assay.gates._training.item import Item, Lack
from assay.gates._training.policy import TrainingPolicy

__all__ = ["TrainingGate", "TrainingPolicy", "Word"]

ROLE = "experiment"


class Word(StrEnum):
    """What to do with the experiment next."""

    ADVANCE = "ADVANCE"
    ITERATE = "ITERATE"
    HOLD_INCOMPLETE = "HOLD_INCOMPLETE"
    NEEDS_HUMAN = "NEEDS_HUMAN"


_MEANING: Mapping[Lack, tuple[Status, Outcome, FailureClass | None, Word]] = {
    Lack.TAMPERED: (
        Status.ERROR,
        Outcome.ANOMALOUS,
        FailureClass.SAMPLE_ACCOUNTING_FAILED,
        Word.HOLD_INCOMPLETE,
    ),
    Lack.NOT_YET: (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE, None, Word.HOLD_INCOMPLETE),
    Lack.LOST: (Status.ERROR, Outcome.ANOMALOUS, FailureClass.INFRA_TRANSIENT, Word.HOLD_INCOMPLETE),
    Lack.UNHEALTHY: (Status.FAIL, Outcome.INFEASIBLE, FailureClass.POINT_INFEASIBLE, Word.ITERATE),
    Lack.MISSING: (
        Status.ERROR,
        Outcome.ANOMALOUS,
        FailureClass.SAMPLE_ACCOUNTING_FAILED,
        Word.HOLD_INCOMPLETE,
    ),
    Lack.BELOW: (Status.FAIL, Outcome.NO_GAIN, None, Word.ITERATE),
    Lack.UNDECIDED: (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE, None, Word.NEEDS_HUMAN),
}
"""What an unmet item makes of the verdict; the first kind in the order of `Lack` decides."""


class TrainingGate:
    """Judges one `Experiment`.

    Args:
        policy: what the training must show.
    """

    name = "training"
    reads: tuple[str, ...] = (ROLE,)

    def __init__(self, policy: TrainingPolicy | None = None) -> None:
        self.policy = policy or TrainingPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """See `Gate.judge`."""
        experiment = evidence.get(ROLE)
        if not isinstance(experiment, Experiment):
            why = "there is no experiment to judge"
            return Verdict(
                gate=self.name,
                status=Status.ERROR,
                failure_class=FailureClass.USER_CONFIG_ERROR,
                outcome=Outcome.ANOMALOUS,
                detail=why,
                reasons=(Reason(text=why, ok=False),),
                extra={"word": Word.HOLD_INCOMPLETE.value},
            )
        items = [*record.check(experiment, self.policy), *outcome.check(experiment, self.policy)]
        return self._verdict(experiment, items)

    def _verdict(self, experiment: Experiment, items: Sequence[Item]) -> Verdict:
        unmet = sorted((i for i in items if i.lack is not None), key=_rank)
        status, word = Status.PASS, Word.ADVANCE
        argued: Outcome | None = None
        failure: FailureClass | None = None
        if unmet and unmet[0].lack is not None:
            status, argued, failure, word = _MEANING[unmet[0].lack]
        if not unmet and self.policy.tier == "told":
            word = _told(experiment, self.policy)
        if word is Word.ITERATE and self.policy.iterations_left == 0:
            word = Word.NEEDS_HUMAN
        digest = experiment.content_digest
        ordered = [*unmet, *(i for i in items if i.lack is None)]
        return Verdict(
            gate=self.name,
            status=status,
            failure_class=failure,
            outcome=argued,
            detail=_detail(experiment, word, unmet),
            reasons=tuple(i.reason(digest) for i in ordered),
            provenance=_provenance(experiment),
            reads={ROLE: digest},
            extra=_figures(experiment, word, items),
        )


def _told(experiment: Experiment, policy: TrainingPolicy) -> Word:
    """The word for a sound training where its tier is only told."""
    tier = tier_of(experiment)
    if tier is None:
        return Word.NEEDS_HUMAN
    return Word.ADVANCE if tier.rank >= Tier(policy.advance_tier).rank else Word.ITERATE


def _rank(item: Item) -> int:
    return list(Lack).index(item.lack) if item.lack is not None else len(Lack)


def _detail(experiment: Experiment, word: Word, unmet: Sequence[Item]) -> str:
    if not unmet:
        tier = tier_of(experiment)
        return f"{word.value}: {experiment.id} reached tier {tier.value if tier else '?'}, and all evidence is there"
    more = f" (and {len(unmet) - 1} more)" if len(unmet) > 1 else ""
    prefix = "not yet: " if unmet[0].lack is Lack.NOT_YET else ""
    return f"{word.value}: {prefix}{unmet[0].text}{more}"


def _provenance(experiment: Experiment) -> Provenance:
    found = primary_of(experiment)
    return experiment.provenance if found is None else found.provenance


def _figures(experiment: Experiment, word: Word, items: Sequence[Item]) -> dict[str, Any]:
    found, tier = primary_of(experiment), tier_of(experiment)
    named: dict[str, str] = {}
    for item in items:
        if named.get(item.name) in {None, "met"}:
            named[item.name] = "met" if item.lack is None else item.lack.value
    return {
        "word": word.value,
        "experiment": experiment.id,
        "state": experiment.state.value,
        "attempt": experiment.attempts[-1].number if experiment.attempts else None,
        "tier": tier.value if tier is not None else None,
        "claimed_tier": experiment.result.claimed_tier if experiment.result is not None else None,
        "primary": None
        if found is None
        else {"name": found.metric.name, "value": found.metric.value, "source": found.source},
        "items": named,
        "unmet": [name for name, state in named.items() if state != "met"],
        "events_head": experiment.head,
        "overridden": list(experiment.unmet),
    }
