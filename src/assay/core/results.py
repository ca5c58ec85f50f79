"""Evidence of an evaluation: per task the rows that were scored, and the protocol they were scored under."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field, model_serializer, model_validator

from assay.core.base import Noun
from assay.core.evidence import Evidence
from assay.core.vocabulary import Direction


class RunStatus(StrEnum):
    """Where an evaluation stands. Harness spellings are mapped to these, case-blind."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    RUNNING = "RUNNING"
    PENDING = "PENDING"
    TIMEOUT = "TIMEOUT"
    RESUMING = "RESUMING"
    KILLED = "KILLED"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def of(cls, word: Any) -> RunStatus:
        """What a status word means, whatever its case and spelling; UNKNOWN for anything else."""
        if not isinstance(word, str):
            return cls.UNKNOWN
        return STATUS_WORDS.get(re.sub(r"[\s-]+", "_", word.strip().lower()), cls.UNKNOWN)


STATUS_WORDS: Mapping[str, RunStatus] = MappingProxyType(
    {
        **{s.value.lower(): s for s in RunStatus},
        **dict.fromkeys(
            ("succeeded", "successful", "ok", "passed", "completed", "complete"), RunStatus.SUCCESS
        ),
        **dict.fromkeys(("done", "finished"), RunStatus.SUCCESS),
        **dict.fromkeys(("failure", "fail", "error", "errored", "crashed"), RunStatus.FAILED),
        **dict.fromkeys(("in_progress", "started", "executing", "completing"), RunStatus.RUNNING),
        **dict.fromkeys(("queued", "submitted", "waiting", "created", "preempted"), RunStatus.PENDING),
        **dict.fromkeys(("timed_out", "timedout", "time_limit"), RunStatus.TIMEOUT),
        **dict.fromkeys(("resumed", "requeued", "restarting"), RunStatus.RESUMING),
        **dict.fromkeys(("canceled", "cancelled", "aborted", "terminated", "oom_killed"), RunStatus.KILLED),
        "out_of_memory": RunStatus.KILLED,
        "node_fail": RunStatus.KILLED,
        "not_found": RunStatus.UNKNOWN,
    }
)
"""Spellings of launchers and schedulers, in lower case with underscores."""


class SampleState(StrEnum):
    """What became of one sample. A model's own failure is scored wrong; the others are not the model's fault."""

    SCORED = "scored"
    MODEL_FAILURE = "model_failure"
    JUDGE_FAILURE = "judge_failure"
    INFRA_FAILURE = "infra_failure"
    MISSING = "missing"


OPTIONAL_COLUMNS = ("tokens", "finish_reason", "cluster")
"""Columns of `Samples` that not every harness fills. An empty one is absent, also in the stored document."""


class Samples(Noun):
    """The rows of one task, by column; all columns have the same length, an optional one may be empty."""

    id: tuple[str, ...] = ()
    """Stable id of the item: the harness's document hash where it has one, else its id."""
    repeat: tuple[int, ...] = ()
    prompt: tuple[str, ...] = ()
    """Digest of the rendered prompt and reference."""
    score: tuple[float | None, ...] = ()
    """On the metric's own scale; None exactly where `state` carries no score."""
    state: tuple[SampleState, ...] = ()
    output: tuple[str, ...] = ()
    """Digest of what the model answered, to find identical outputs and flips in wording."""
    tokens: tuple[int | None, ...] = ()
    """Tokens that the model generated."""
    finish_reason: tuple[str, ...] = ()
    """Why the generation ended, in the harness's own word; empty where a row does not say."""
    cluster: tuple[str, ...] = ()
    """Rows of one cluster (a subject, a passage) are not independent of each other."""

    @model_validator(mode="after")
    def _equal_columns(self) -> Self:
        lengths = {len(c) for c in (self.id, self.repeat, self.prompt, self.score, self.state, self.output)}
        lengths |= {len(getattr(self, c)) for c in OPTIONAL_COLUMNS} - {0}
        if len(lengths) > 1:
            raise ValueError(f"columns of different length: {sorted(lengths)}")
        return self

    @model_serializer(mode="wrap")
    def _without_absent_columns(self, serialize: Callable[[Samples], dict[str, Any]]) -> dict[str, Any]:
        """What was stored before a column existed keeps its digest."""
        value = serialize(self)
        for column in OPTIONAL_COLUMNS:
            if not value.get(column):
                value.pop(column, None)
        return value

    def __len__(self) -> int:
        return len(self.id)


class TaskResult(Noun):
    """One task and metric of an evaluation."""

    task: str
    metric: str
    status: RunStatus = RunStatus.SUCCESS
    score: float | None = None
    """The task's score as the harness reports it."""
    low: float = 0.0
    high: float = 1.0
    direction: Direction = Direction.HIGHER
    scale_source: Literal["declared", "table", "inferred"] = "declared"
    """`inferred` is the marked fallback: the report says so."""
    expected: int | None = None
    """Samples that the task has, or that were asked for."""
    scored: int | None = None
    errors: tuple[str, ...] = ()
    samples: Samples = Field(default_factory=Samples)

    def goodness(self, score: float) -> float:
        """A score as 0..1 where 1 is best, by declared range and direction."""
        share = (score - self.low) / (self.high - self.low)
        return share if self.direction is Direction.HIGHER else 1.0 - share


class Results(Evidence):
    """What one evaluation of one model measured."""

    kind: Literal["results"] = "results"
    harness: str
    harness_version: str = ""
    tasks: tuple[TaskResult, ...] = ()
    protocol: Mapping[str, Any] = Field(default_factory=dict)
    """How it was measured, as flat JSON: task versions, dataset and prompt digests, sampling, engine, ..."""

    def task(self, name: str) -> TaskResult | None:
        """The task of that name, or None."""
        return next((t for t in self.tasks if t.task == name), None)

    def extended(self, more: Results) -> Results:
        """These results and those of further items of the same tasks, as if they had been asked at once.

        Where the two were measured in different ways, the protocol names both, so that no other side agrees with it.
        """
        tasks = {t.task: t for t in self.tasks}
        for task in more.tasks:
            tasks[task.task] = _joined(tasks[task.task], task) if task.task in tasks else task
        protocol = dict(self.protocol)
        for key in sorted({*self.protocol, *more.protocol}):
            one, other = self.protocol.get(key), more.protocol.get(key)
            protocol[key] = one if one == other else f"{one} then {other}"
        changes = {
            "tasks": tuple(tasks.values()),
            "protocol": protocol,
            "artifacts": (*self.artifacts, *(a for a in more.artifacts if a not in self.artifacts)),
            "measurements": (*self.measurements, *more.measurements),
            "facts": {**more.facts, **self.facts},
        }
        return self.model_copy(update=changes)


def _joined(task: TaskResult, more: TaskResult) -> TaskResult:
    """A task of both batches: all rows, the worse status, counts added, the mean of the scores by rows."""
    counts: list[int] = [len(t.samples) if t.scored is None else t.scored for t in (task, more)]
    scores = [t.score for t in (task, more)]
    total = sum(counts)
    mean = None
    if scores[0] is not None and scores[1] is not None and total:
        mean = (scores[0] * counts[0] + scores[1] * counts[1]) / total
    status = task.status if more.status is RunStatus.SUCCESS else more.status
    expected = None if task.expected is None or more.expected is None else task.expected + more.expected
    return task.model_copy(
        update={
            "metric": task.metric if task.metric == more.metric else f"{task.metric} then {more.metric}",
            "status": status,
            "score": mean,
            "low": min(task.low, more.low),
            "high": max(task.high, more.high),
            "expected": expected,
            "scored": total,
            "errors": (*task.errors, *(e for e in more.errors if e not in task.errors)),
            "samples": _stacked(task.samples, more.samples),
        }
    )


def _stacked(samples: Samples, more: Samples) -> Samples:
    columns: dict[str, Any] = {}
    for name in Samples.model_fields:
        one, other = getattr(samples, name), getattr(more, name)
        if name in OPTIONAL_COLUMNS and (not one or not other):
            filler: tuple[Any, ...] = (None,) if name == "tokens" else ("",)
            if not one and not other:
                continue
            one, other = one or filler * len(samples), other or filler * len(more)
        columns[name] = one + other
    return Samples(**columns)
