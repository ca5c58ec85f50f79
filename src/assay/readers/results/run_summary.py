"""Run summary `{"tasks": {name: {status, expected_samples, scored_samples, score, errors}}}`: self-reported.

The words are kept as they stand in `facts["status_words"]`: it is the results gate that says what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.errors import UnreadableInput
from assay.core.evidence import Measurement
from assay.core.results import Results, RunStatus, TaskResult
from assay.core.vocabulary import Provenance
from assay.readers.results.harness import (
    Asked,
    Source,
    artifact,
    clip,
    count,
    number,
    plain,
    read_bytes,
    text,
)
from assay.readers.results.metrics import MetricTable, scale_of


class RunSummary:
    """Reader of the summary that agents write about an evaluation."""

    name = "run_summary"

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        return (
            source.holds_document()
            and isinstance(source.document, dict)
            and isinstance(source.document.get("tasks"), dict)
        )

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        entries = source.document.get("tasks") if isinstance(source.document, dict) else None
        if not isinstance(entries, dict):
            raise UnreadableInput("no {'tasks': {...}} object", where=clip(source.path))
        rows = {text(name): entry if isinstance(entry, dict) else None for name, entry in entries.items()}
        tasks = tuple(_task(name, row, asked.table) for name, row in rows.items())
        return Results(
            subject=asked.subject,
            harness=self.name,
            provenance=Provenance.SELF_REPORTED,
            tasks=tasks,
            measurements=tuple(
                Measurement.of(f"{t.task}/{t.metric}", (rows[t.task] or {}).get("score")) for t in tasks
            ),
            artifacts=(artifact(source.path, read_bytes(source.path)),),
            facts={"status_words": {name: plain((row or {}).get("status")) for name, row in rows.items()}},
        )


def _task(name: str, row: Mapping[str, Any] | None, table: MetricTable) -> TaskResult:
    if row is None:
        return TaskResult(
            task=name, metric="score", status=RunStatus.UNKNOWN, errors=("its entry is no object",)
        )
    word = row.get("status")
    status = RunStatus[word] if isinstance(word, str) and word in RunStatus.__members__ else RunStatus.UNKNOWN
    scale = scale_of(name, row.get("score"), task=name, table=table)
    errors = row.get("errors")
    listed = errors if isinstance(errors, list) else [] if errors is None else [errors]
    return TaskResult(
        task=name,
        metric="score",
        status=status,
        score=number(row.get("score")),
        low=scale.low,
        high=scale.high,
        direction=scale.direction,
        scale_source=scale.source,
        expected=count(row.get("expected_samples")),
        scored=count(row.get("scored_samples")),
        errors=tuple(clip(e) for e in listed if e),
    )
