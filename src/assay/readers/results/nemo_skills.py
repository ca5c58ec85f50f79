"""NeMo-Skills: `metrics.json` and `output*.jsonl` of each benchmark; values are percentages.

`output-rs<k>.jsonl` is the k-th answer to every item. A judge that gave no verdict counts there as a plain
"false"; its text is looked at here. `output*.jsonl-async` is what a run leaves that has not ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact
from assay.core.results import Results, RunStatus, Samples, SampleState, TaskResult
from assay.readers.results.harness import (
    Asked,
    Damaged,
    Lines,
    Source,
    artifact,
    clip,
    count,
    mapping,
    measured,
    number,
    parse_json,
    quiet_json,
    read_bytes,
    row_digest,
    score_of,
    some,
    text,
    times,
)
from assay.readers.results.metrics import scale_of
from assay.readers.results.rows import Columns, Row, cluster_of, identity, parse_row

METRICS_FILE = "metrics.json"
OUTPUT = re.compile(r"output(?:-rs(\d+))?\.jsonl")
CORRECT = ("symbolic_correct", "judge_correct", "both_correct", "any_correct", "accuracy")
_AGGREGATE = re.compile(r"(pass|majority|rm_best|rm_majority)@(\d+)(?:\[(?:avg-of-)?(\d+)\])?")
_VERDICT = re.compile(r"judg(?:e)?ment:\s*\**\s*(yes|no|correct|incorrect|true|false)", re.IGNORECASE)


class _Aggregate(NamedTuple):
    """What is judged: `pass@1[avg-of-8]` and `judge_correct`."""

    mode: str
    metric: str

    @property
    def name(self) -> str:
        return f"{self.mode}/{self.metric}"


class NemoSkills:
    """Reader of a benchmark's folder, of a folder of several, or of one `metrics.json`."""

    name = "nemo_skills"

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        return any(is_metrics(quiet_json(f)) for f in source.named(METRICS_FILE))

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        pins: list[Artifact] = []
        tasks: list[TaskResult] = []
        protocol: dict[str, Any] = {"harness": "nemo_skills"}
        for file in source.named(METRICS_FILE):
            data = read_bytes(file)
            document = parse_json(data, str(file))
            if not is_metrics(document):
                continue
            pins.append(artifact(file, data))
            for name, modes in document.items():
                if isinstance(modes, dict):
                    task = _task(text(name), modes, file, asked, pins)
                    tasks.append(task)
                    protocol[f"task.{task.task}.metric"] = task.metric
        if not tasks:
            raise UnreadableInput("no metrics of NeMo-Skills", where=str(source.path))
        return Results(
            subject=asked.subject,
            harness=self.name,
            tasks=tuple(tasks),
            protocol=protocol,
            measurements=measured(tasks),
            artifacts=tuple(pins),
        )


def is_metrics(document: Any) -> bool:
    """Whether a document is `{benchmark: {"pass@1": {"num_entries": ...}}}`."""
    return isinstance(document, dict) and any(
        _AGGREGATE.fullmatch(mode) and "num_entries" in mapping(values)
        for modes in document.values()
        if isinstance(modes, dict)
        for mode, values in modes.items()
    )


def _task(name: str, modes: Mapping[str, Any], file: Path, asked: Asked, pins: list[Artifact]) -> TaskResult:
    chosen = _chosen(name, modes, asked.metrics.get(name))
    raw = mapping(modes, chosen.mode).get(chosen.metric)
    scale = scale_of(chosen.metric, raw, task=name, table=asked.table)
    folder = file.parent / name if (file.parent / name).is_dir() else file.parent
    samples, errors, going_on = output_rows(folder, chosen.metric, pins)
    entries = count(mapping(modes, chosen.mode).get("num_entries"))
    repeats = _repeats(chosen.mode)
    known = asked.table.find(chosen.metric, name)
    items = known.samples if known and known.samples else entries
    if number(raw) is None:
        errors.append(f"its score is {clip(repr(raw))}, not a finite number")
    return TaskResult(
        task=name,
        metric=chosen.name,
        status=RunStatus.RUNNING if going_on else RunStatus.SUCCESS,
        score=number(raw),
        low=scale.low,
        high=scale.high,
        direction=scale.direction,
        scale_source=scale.source,
        expected=times(items, repeats),
        scored=None if len(samples) else times(entries, repeats),
        errors=some(errors),
        samples=samples,
    )


def _repeats(mode: str) -> int:
    match = _AGGREGATE.fullmatch(mode)
    return int(match[3]) if match and match[3] and len(match[3]) < 6 else 1


def _chosen(task: str, modes: Mapping[str, Any], wanted: str | None) -> _Aggregate:
    """What was asked for; else the mean over all repeats that were run, never the best of them."""
    found = [
        _Aggregate(mode, text(metric))
        for mode, values in modes.items()
        if _AGGREGATE.fullmatch(mode)
        for metric in mapping(values)
        if score_of(mapping(values)[metric]) is not None or metric in CORRECT
    ]
    if wanted is not None:
        for hit in found:
            if wanted in (hit.name, hit.metric, hit.mode):
                return hit
        raise UnreadableInput(
            f"task {clip(task)!r} has no metric {clip(wanted)!r}",
            allowed=", ".join(clip(f.name) for f in found),
        )
    means = [a for a in found if a.mode.startswith("pass@1") and a.metric in CORRECT]
    if not means:
        return _Aggregate(*(found[0] if found else ("pass@1", "symbolic_correct")))
    judged = {a.metric for a in means} & {"judge_correct"}
    metric = "judge_correct" if judged else next(c for c in CORRECT if any(a.metric == c for a in means))
    return max((a for a in means if a.metric == metric), key=lambda a: _repeats(a.mode))


def output_rows(folder: Path, metric: str, pins: list[Artifact]) -> tuple[Samples, list[str], bool]:
    """The rows of a benchmark's folder, what is wrong with them, and whether the run still goes on."""
    columns = Columns()
    errors: list[str] = []
    for repeat, file in _outputs(folder):
        lines = Lines(file)
        for number_, line in lines:
            row = parse_row(line)
            if isinstance(row, Damaged):
                errors.append(f"line {number_} of {file.name} is no row: {row.why}")
            else:
                _add(columns, row, repeat, metric)
        pins.append(lines.artifact)
    try:
        going_on = any(f.name.endswith(".jsonl-async") for f in folder.iterdir())
    except OSError:
        going_on = False
    return columns.samples(), errors, going_on


def _outputs(folder: Path) -> Iterator[tuple[int, Path]]:
    try:
        files = sorted(f for f in folder.iterdir() if f.is_file())
    except OSError:
        return
    for file in files:
        match = OUTPUT.fullmatch(file.name)
        if match:
            yield int(match[1] or 0) if len(match[1] or "") < 6 else 0, file


def _add(columns: Columns, row: Row, repeat: int, metric: str) -> None:
    symbolic = row.get("symbolic_correct")
    symbolic = row.get("is_correct") if symbolic is None else symbolic
    judge, lost = _judgement(row)
    values = {
        "symbolic_correct": score_of(symbolic),
        "judge_correct": judge,
        "both_correct": None if judge is None else min(judge, score_of(symbolic) or 0.0),
        "any_correct": None if judge is None else max(judge, score_of(symbolic) or 0.0),
        "accuracy": score_of(row.get("accuracy")),
    }
    score = values.get(metric, score_of(row.get(metric)))
    state = SampleState.SCORED
    needs_judge = metric in ("judge_correct", "both_correct", "any_correct")
    answered = bool(row.get("generation")) or row.get("predicted_answer") is not None
    if needs_judge and (lost or judge is None):
        state = SampleState.JUDGE_FAILURE
    elif row.get("error"):
        state = SampleState.INFRA_FAILURE
    elif score == 0 and not answered:
        state = SampleState.MODEL_FAILURE
    question = row.get("problem") or row.get("question")
    columns.add(
        identity(row.get("id") if row.get("id") is not None else row_digest(question)),
        repeat=repeat,
        prompt=row_digest([question, row.get("expected_answer")]),
        score=None if score is None else 100.0 * score,
        state=state,
        output=row_digest(row.get("generation") or row.get("predicted_answer")),
        tokens=count(row.get("num_generated_tokens")),
        finish_reason=text(row.get("finish_reason") or "", 60),
        cluster=cluster_of(row, {"category": row.get("subset")}),
    )


def _judgement(row: Row) -> tuple[float | None, bool]:
    """The judge's verdict, and whether there should have been one and none can be made out."""
    given = score_of(row.get("judge_correct"))
    told = row.get("judgement")
    if told is None:
        return given, False
    match = _VERDICT.search(told) if isinstance(told, str) else None
    if match is None:
        return None, True
    return (1.0 if match[1].lower() in ("yes", "correct", "true") else 0.0), False
