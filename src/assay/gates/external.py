"""External gate: is the baseline what was published of this model? Before any difference is believed.

A published score within 5 points is `verified`; further off, either way, is `failed` and blocks; a task of
which nothing was published is `unverified`, which is told and is no failure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import Field, Strict, model_validator

from assay.core.base import Noun
from assay.core.evidence import Evidence
from assay.core.gate import Policy
from assay.core.results import Results, TaskResult
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status

ROLE = "baseline.results"
Z_99 = 2.5758


class Published(Noun):
    """A score that somebody published of exactly this model, task version, metric and setting."""

    score: Annotated[float, Strict()]
    low: Annotated[float, Strict()] = 0.0
    """Smallest value of the published metric."""
    high: Annotated[float, Strict()] = 100.0
    """Largest value of the published metric."""
    source: str = ""
    """Where it stands: a model card, a leaderboard, with its date."""

    @model_validator(mode="after")
    def _inside(self) -> Published:
        if not self.low < self.high or not self.low <= self.score <= self.high:
            raise ValueError(
                f"the score {self.score:g} must lie in low..high, not {self.low:g}..{self.high:g}"
            )
        return self


class ExternalPolicy(Policy):
    """Published scores of the baseline."""

    published: Mapping[str, Published] = {}
    """Task → its published score."""
    tolerance_points: Annotated[float, Strict(), Field(gt=0, le=100)] = 5.0
    """Largest difference, in points of 0 to 100."""
    sizes: Mapping[str, Annotated[int, Strict(), Field(gt=0)]] = {}
    """Task → items that it has. Fewer rows are a draw of them, and 99 % of its sampling error is allowed on top."""


class _Line(NamedTuple):
    task: str
    word: str
    text: str
    measured: float | None = None
    limit: float | None = None


class ExternalGate:
    """Judges the baseline's scores against published ones.

    Args:
        policy: what was published.
    """

    name = "external"
    reads: tuple[str, ...] = (ROLE,)

    def __init__(self, policy: ExternalPolicy | None = None) -> None:
        self.policy = policy or ExternalPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """See `Gate.judge`."""
        results = evidence.get(ROLE)
        if not isinstance(results, Results):
            return _verdict(None, [_Line("", "invalid", "there is no baseline to check")])
        tasks = {t.task: t for t in results.tasks}
        lines = [self._line(t) for t in tasks.values()]
        lines += [
            _Line(task, "invalid", "a score was published, and the baseline did not run it")
            for task in sorted(set(self.policy.published) - set(tasks))
        ]
        return _verdict(results, lines)

    def _line(self, task: TaskResult) -> _Line:
        published = self.policy.published.get(task.task)
        if published is None:
            return _Line(task.task, "unverified", "externally unverified: no published score is known")
        if task.score is None:
            return _Line(task.task, "invalid", "the baseline has no score")
        if not task.low < task.high or not task.low <= task.score <= task.high:
            text = f"the baseline's score {task.score:g} has no place in {task.low:g}..{task.high:g}"
            return _Line(task.task, "invalid", text)
        ours = 100.0 * (task.score - task.low) / (task.high - task.low)
        theirs = 100.0 * (published.score - published.low) / (published.high - published.low)
        limit = self.policy.tolerance_points + self._sampling_points(task, theirs / 100.0)
        word = "verified" if abs(ours - theirs) <= limit + 1e-9 else "failed"
        source = f" ({published.source})" if published.source else ""
        text = f"{word}: {ours:.1f} of 100 measured, {theirs:.1f} published{source}; {limit:.3g} points are allowed"
        return _Line(task.task, word, text, ours - theirs, limit)

    def _sampling_points(self, task: TaskResult, share: float) -> float:
        """How far a draw of the items may lie from all of them, for an answer that is right or wrong."""
        size, n = self.policy.sizes.get(task.task, 0), len(task.samples)
        if not 0 < n < size:
            return 0.0
        spread = max(share * (1.0 - share), 1.0 / n)
        return 100.0 * Z_99 * math.sqrt(spread / n * (1.0 - n / size))


def _verdict(results: Results | None, lines: list[_Line]) -> Verdict:
    digest = results.content_digest if results else ""
    invalid = [x for x in lines if x.word == "invalid"]
    failed = [x for x in lines if x.word == "failed"]
    bad = (invalid + failed)[:1]
    verified = sum(x.word == "verified" for x in lines)
    status, failure_class = Status.PASS, None
    if bad:
        status = Status.ERROR if invalid else Status.FAIL
        failure_class = FailureClass.EXTERNAL_BASELINE_MISMATCH
        if invalid:
            failure_class = FailureClass.USER_CONFIG_ERROR
    detail = f"{verified} of {len(lines)} tasks agree with what was published"
    if bad:
        detail = f"{bad[0].task}: {bad[0].text}" if bad[0].task else bad[0].text
    elif verified < len(lines):
        detail += f"; {len(lines) - verified} externally unverified"
    return Verdict(
        gate="external",
        status=status,
        failure_class=failure_class,
        outcome=Outcome.ANOMALOUS if bad else None,
        detail=detail,
        reasons=tuple(
            Reason(
                text=x.text,
                ok=x.word in ("verified", "unverified"),
                where=x.task,
                measured=x.measured,
                limit=x.limit,
                unit="points" if x.measured is not None else "",
                evidence=digest,
            )
            for x in lines
        ),
        reads={ROLE: digest} if digest else {},
        extra={"per_task": {x.task: x.word for x in lines if x.task}},
        **({"provenance": results.provenance} if results else {}),
    )
