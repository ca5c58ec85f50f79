"""Gate `improvement`: is this recipe better than the best one before it?

The seeds are the units: a recipe is better if the gain over paired seeds is shown by Student's t, on five seeds or
more (facts/statistics.md §3.11). With fewer, or where the seed changes nothing, the claim is about this checkpoint
only, and the verdict says so. A first look at some of the seeds can only end what looks no better; it accepts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, Strict

from assay.core.evidence import Evidence
from assay.core.gate import Policy
from assay.core.training_runs import ABSENT, TrainingRuns
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import Direction, FailureClass, Outcome, Status

if TYPE_CHECKING:
    from assay.stats.paired_t import PairedT

CANDIDATE, PARENT = "candidate.runs", "parent.runs"
RECIPE_SEEDS = 5
"""Paired seeds from which on a claim about the recipe is made at all."""
EQUAL_FRAC = 1e-9
"""Differences that differ by no more than this share of the values are equal: rounding is no noise."""


class Claim(StrEnum):
    """What a verdict is about."""

    RECIPE = "recipe"
    """Trained again with another seed, it would be better too."""
    CHECKPOINT = "checkpoint"
    """The checkpoint that was measured, on the data that it was measured on, and nothing else."""


class ImprovementPolicy(Policy):
    """What a gain must be, and how surely."""

    min_gain: Annotated[float, Strict(), Field(ge=0)] = 0.0
    """The gain must be larger than this, in the unit of the metric."""
    alpha: Annotated[float, Strict(), Field(gt=0, lt=0.5)] = 0.05
    """Chance to keep something that is no better, over all comparisons together."""
    comparisons: Annotated[int, Strict(), Field(ge=1)] = 1
    """Comparisons that share `alpha`: each is another chance to be kept by luck."""
    power: Annotated[float, Strict(), Field(gt=0.5, lt=1)] = 0.8
    """Chance with which the number of seeds that an inconclusive verdict names would show the gain seen so far."""
    seeds: Annotated[int, Strict(), Field(ge=1)] = RECIPE_SEEDS
    """Seeds that are planned. A look at fewer of them can end the trial, not accept it."""


@dataclass(frozen=True)
class _Pair:
    seed: int
    parent: float
    candidate: float
    gain: float


class _Broken(Exception):
    def __init__(self, text: str, failure: FailureClass) -> None:
        super().__init__(text)
        self.text, self.failure = text, failure


class ImprovementGate:
    """Judges the runs of a recipe against those of the best recipe before it.

    Args:
        policy: what a gain must be.
    """

    name = "improvement"
    reads: tuple[str, ...] = (CANDIDATE, PARENT)

    def __init__(self, policy: ImprovementPolicy | None = None) -> None:
        self.policy = policy or ImprovementPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """See `Gate.judge`."""
        reads = {role: evidence[role].content_digest for role in self.reads if role in evidence}
        try:
            candidate = _runs(evidence.get(CANDIDATE), "the candidate")
            before = evidence.get(PARENT)
            if before is not None and before.kind == ABSENT:
                return self._first(candidate, reads)
            parent = _runs(before, "its parent")
            pairs = _paired(candidate, parent)
        except _Broken as broken:
            return Verdict(
                gate=self.name,
                status=Status.ERROR,
                outcome=Outcome.ANOMALOUS,
                failure_class=broken.failure,
                detail=broken.text,
                reasons=(Reason(text=broken.text, ok=False),),
                reads=reads,
            )
        look = _Look(self.policy, candidate, pairs)
        final = len(candidate.runs) >= self.policy.seeds
        return self._verdict(look, look.decided() if final else look.screened(), reads)

    def _first(self, candidate: TrainingRuns, reads: Mapping[str, str]) -> Verdict:
        """Nothing stands before it: it is what others must beat, once its seeds are measured."""
        values = candidate.values()
        mean, sd = sum(values.values()) / len(values), _sd(list(values.values()))
        spread = "" if sd is None else f", SD {sd:.3g}"
        text = f"{candidate.metric.name} = {mean:.6g} over {_count(len(values))}{spread}"
        waiting = len(candidate.runs) < self.policy.seeds
        detail = (
            f"nothing to beat yet: {text} of {self.policy.seeds}"
            if waiting
            else f"the first of its line, which others must beat: {text}"
        )
        return Verdict(
            gate=self.name,
            status=Status.INCONCLUSIVE if waiting else Status.PASS,
            outcome=Outcome.INCONCLUSIVE if waiting else Outcome.ACCEPT,
            open=waiting,
            detail=detail,
            reasons=tuple(
                Reason(text=f"seed {seed}: {value:.6g}", ok=True, measured=value)
                for seed, value in sorted(values.items())
            ),
            needed=self.policy.seeds if waiting else None,
            reads=reads,
            extra={"mean": mean, "seed_sd": sd, "seeds": len(values), "baseline": True},
        )

    def _verdict(self, look: _Look, answer: _Answer, reads: Mapping[str, str]) -> Verdict:
        reasons = [
            Reason(
                text=f"seed {p.seed}: {p.parent:.6g} → {p.candidate:.6g}",
                ok=p.gain > self.policy.min_gain,
                measured=p.gain,
                limit=self.policy.min_gain,
            )
            for p in look.pairs
        ]
        reasons += [Reason(text=text, ok=answer.status is Status.PASS) for text in answer.notes]
        return Verdict(
            gate=self.name,
            status=answer.status,
            outcome=answer.outcome,
            open=answer.open,
            detail=answer.detail,
            reasons=tuple(reasons),
            needed=answer.needed,
            reads=reads,
            extra={**look.figures(), "claim": answer.claim.value, "baseline": False},
        )


@dataclass(frozen=True)
class _Answer:
    status: Status
    outcome: Outcome
    claim: Claim
    detail: str
    notes: tuple[str, ...] = ()
    needed: int | None = None
    open: bool = False


class _Look:
    """The pairs that are there now, and what they say."""

    def __init__(self, policy: ImprovementPolicy, candidate: TrainingRuns, pairs: Sequence[_Pair]) -> None:
        self.policy = policy
        self.pairs = pairs
        self.metric = candidate.metric.name
        self.alpha = policy.alpha / policy.comparisons
        self.gains = [p.gain for p in pairs]
        self.mean = sum(self.gains) / len(self.gains)
        self.test = self._test()

    def _test(self) -> PairedT | None:
        """None where the seeds give no noise to test against."""
        if len(self.pairs) < 2:
            return None
        from assay.stats.paired_t import paired_t  # noqa: PLC0415 - scipy, only where it is needed

        found = paired_t(self.gains)
        size = max(abs(v) for p in self.pairs for v in (p.parent, p.candidate))
        return found if found.sd > EQUAL_FRAC * size else None

    @property
    def text(self) -> str:
        """The gain in words."""
        before = sum(p.parent for p in self.pairs) / len(self.pairs)
        after = sum(p.candidate for p in self.pairs) / len(self.pairs)
        how = "better" if self.mean > 0 else "worse" if self.mean < 0 else "different"
        size = f"{abs(self.mean):.3g} {how}" if self.mean else "no different"
        return f"{self.metric} {before:.6g} → {after:.6g}, {size} over {_count(len(self.pairs))}"

    def screened(self) -> _Answer:
        """A look before all seeds are in: what is no better is not repeated, what looks better must be confirmed."""
        left = self.policy.seeds - len(self.pairs)
        if self.mean <= self.policy.min_gain:
            return _Answer(
                Status.FAIL,
                Outcome.NO_GAIN,
                Claim.CHECKPOINT,
                f"{self.text}: no gain, so it is not repeated with other seeds",
            )
        return _Answer(
            Status.INCONCLUSIVE,
            Outcome.INCONCLUSIVE,
            Claim.CHECKPOINT,
            f"{self.text}: a new best counts once {left} more {'seeds confirm' if left != 1 else 'seed confirms'} it",
            needed=self.policy.seeds,
            open=True,
        )

    def decided(self) -> _Answer:
        """The last look."""
        if self.test is None or len(self.pairs) < RECIPE_SEEDS:
            return self._of_checkpoint()
        lower, upper = self.test.lower(self.alpha), self.test.upper(self.alpha)
        bounds = f"at least {lower:+.3g} and at most {upper:+.3g}, each at {self.alpha:.3g}"
        note = (f"mean gain {self.mean:+.4g}, SD of the paired differences {self.test.sd:.4g}: {bounds}",)
        if lower > self.policy.min_gain:
            return _Answer(Status.PASS, Outcome.ACCEPT, Claim.RECIPE, f"a better recipe: {self.text}", note)
        if upper < 0:
            return _Answer(
                Status.FAIL, Outcome.REGRESSION, Claim.RECIPE, f"a worse recipe: {self.text}", note
            )
        if self.mean <= self.policy.min_gain:
            return _Answer(Status.FAIL, Outcome.NO_GAIN, Claim.RECIPE, f"no gain: {self.text}", note)
        needed = self._needed(self.test)
        more = (
            "" if needed is None else f"; about {needed - len(self.pairs)} more seeds would show such a gain"
        )
        detail = f"{self.text}: the seeds differ too much to tell{more}"
        return _Answer(Status.INCONCLUSIVE, Outcome.INCONCLUSIVE, Claim.RECIPE, detail, note, needed=needed)

    def _of_checkpoint(self) -> _Answer:
        why = f"{RECIPE_SEEDS} paired seeds are needed for a claim about the recipe"
        if len(self.pairs) >= RECIPE_SEEDS:
            same = len({p.candidate for p in self.pairs}) == 1
            why = (
                "the seed changed nothing: is it passed to the script?"
                if same
                else "the gain is the same with every seed: there is no noise to test it against"
            )
        first = self.pairs[0]
        better = first.gain > self.policy.min_gain and self.mean > self.policy.min_gain
        text = f"this checkpoint only: {self.text} ({why})"
        if better:
            return _Answer(Status.PASS, Outcome.ACCEPT, Claim.CHECKPOINT, text, (why,))
        return _Answer(Status.FAIL, Outcome.NO_GAIN, Claim.CHECKPOINT, f"no gain of {text}", (why,))

    def _needed(self, test: PairedT) -> int | None:
        from assay.stats.paired_t import units_needed  # noqa: PLC0415 - scipy

        sds = (self.mean - self.policy.min_gain) / test.sd
        return units_needed(sds, self.alpha, self.policy.power, at_least=len(self.pairs) + 1)

    def figures(self) -> dict[str, Any]:
        """For reports and the loop."""
        return {
            "gain": self.mean,
            "sd": None if self.test is None else self.test.sd,
            "lower": None if self.test is None else self.test.lower(self.alpha),
            "upper": None if self.test is None else self.test.upper(self.alpha),
            "alpha": self.alpha,
            "pairs": len(self.pairs),
        }


def _runs(found: Evidence | None, whose: str) -> TrainingRuns:
    """The runs of one side, fit to be compared."""
    if not isinstance(found, TrainingRuns) or not found.runs:
        raise _Broken(f"there are no runs of {whose}", FailureClass.SAMPLE_ACCOUNTING_FAILED)
    name = found.metric.name
    seeds = [r.seed for r in found.runs]
    if len(set(seeds)) < len(seeds):
        raise _Broken(f"a seed of {whose} counts twice", FailureClass.SAMPLE_ACCOUNTING_FAILED)
    if len({r.recipe for r in found.runs}) > 1:
        raise _Broken(f"the runs of {whose} differ in more than the seed", FailureClass.NOT_COMPARABLE)
    empty = [r for r in found.runs if r.value.value is None]
    if empty:
        what = f"{empty[0].experiment} of {whose} has no value of {name}: {empty[0].value.state}"
        raise _Broken(what, FailureClass.SAMPLE_ACCOUNTING_FAILED)
    if any(r.value.name != name for r in found.runs):
        raise _Broken(f"the runs of {whose} do not all measure {name}", FailureClass.NOT_COMPARABLE)
    return found


def _paired(candidate: TrainingRuns, parent: TrainingRuns) -> list[_Pair]:
    """The seeds that both sides were trained with."""
    metric = candidate.metric
    if metric.direction is None:
        raise _Broken(f"nobody said which way {metric.name} gets better", FailureClass.USER_CONFIG_ERROR)
    if (metric.name, metric.direction) != (parent.metric.name, parent.metric.direction):
        raise _Broken("the two are measured by different metrics", FailureClass.NOT_COMPARABLE)
    differing = [
        k
        for k in sorted({*candidate.protocol, *parent.protocol})
        if candidate.protocol.get(k) != parent.protocol.get(k)
    ]
    if differing:
        raise _Broken(f"the two were not measured alike: {differing[0]}", FailureClass.NOT_COMPARABLE)
    after, before = candidate.values(), parent.values()
    lacking = sorted(set(after) - set(before))
    if lacking:
        raise _Broken(f"its parent was not trained with seed {lacking[0]}", FailureClass.NOT_COMPARABLE)
    sign = 1.0 if metric.direction is Direction.HIGHER else -1.0
    return [_Pair(s, before[s], after[s], sign * (after[s] - before[s])) for s in after]


def _sd(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return float((sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5)


def _count(seeds: int) -> str:
    return f"{seeds} seed" if seeds == 1 else f"{seeds} seeds"
