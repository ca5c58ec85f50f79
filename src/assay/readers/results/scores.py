"""Bare score file `{task: score}`: what somebody says a model scored, with no sample behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.errors import UnreadableInput
from assay.core.evidence import Measurement
from assay.core.results import Results, RunStatus, TaskResult
from assay.core.vocabulary import Provenance
from assay.readers.results.harness import Asked, Source, artifact, clip, number, read_bytes, text
from assay.readers.results.metrics import MetricTable, scale_of


class Scores:
    """Reader of a JSON object whose values are scores."""

    name = "scores"

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        if not source.holds_document() or not isinstance(source.document, dict):
            return False
        return not any(isinstance(value, dict) for value in source.document.values())

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        scores: Mapping[str, Any] = source.document
        if not isinstance(scores, dict):
            raise UnreadableInput("no {task: score} object", where=clip(source.path))
        tasks = tuple(_task(text(name), value, asked.table) for name, value in scores.items())
        return Results(
            subject=asked.subject,
            harness=self.name,
            provenance=Provenance.SELF_REPORTED,
            tasks=tasks,
            measurements=tuple(
                Measurement.of(f"{t.task}/{t.metric}", raw, low=t.low, high=t.high, direction=t.direction)
                for t, raw in zip(tasks, scores.values(), strict=True)
            ),
            artifacts=(artifact(source.path, read_bytes(source.path)),),
        )


def _task(name: str, value: Any, table: MetricTable) -> TaskResult:
    score = number(value)
    scale = scale_of(name, value, task=name, table=table)
    return TaskResult(
        task=name,
        metric="score",
        status=RunStatus.SUCCESS,
        score=score,
        low=scale.low,
        high=scale.high,
        direction=scale.direction,
        scale_source=scale.source,
        errors=() if score is not None else (f"its score is {clip(repr(value))}, not a finite number",),
    )
