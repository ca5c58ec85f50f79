"""NeMo Evaluator 0.3 and later: `eval-*.json` bundles with one row a problem and repeat in `results.jsonl`.

Rows that failed in infrastructure, judge or harness are scored 0.0 there; `scoring_details.error_category`
says so. Bundles of old containers hold percentages where this version holds shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact
from assay.core.results import Results, RunStatus, SampleState, TaskResult
from assay.readers.results.harness import (
    Asked,
    Damaged,
    Lines,
    Source,
    artifact,
    clip,
    count,
    flat,
    mapping,
    measured,
    number,
    parse_json,
    plain,
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

PREFERRED = ("mean_reward", "pass@1")
THE_MODEL = frozenset({"turn_budget_exhausted", "budget_exceeded", "context_window_exceeded"})
_NO_PROTOCOL = ("output_dir", "output", "model_url", "base_url", "api_key", "parallelism", "max_concurrent")


class NemoBundle:
    """Reader of a bundle, of the folder of one, or of a folder of several."""

    name = "nemo_bundle"

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        if not source.is_dir:
            return source.holds_document() and _is_bundle(source.document)
        return any(_is_bundle(quiet_json(f)) for f in _bundles(source))

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        files = _bundles(source) if source.is_dir else [source.path]
        pins: list[Artifact] = []
        tasks: list[TaskResult] = []
        protocol: dict[str, Any] = {"harness": "nemo_evaluator"}
        version = ""
        for file in files:
            data = read_bytes(file)
            document = parse_json(data, str(file))
            if not _is_bundle(document):
                continue
            if any(f.parent == file.parent for f in files if f != file):
                raise UnreadableInput(
                    "several bundles lie beside one results.jsonl: it cannot be told whose rows they are",
                    where=str(file.parent),
                    next="give each run a folder of its own",
                )
            pins.append(artifact(file, data))
            task = _task(document, file, asked, pins)
            tasks.append(task)
            version = text(document.get("sdk_version") or version)
            protocol |= _protocol(document, task)
        if not tasks:
            raise UnreadableInput("no bundle of NeMo Evaluator", where=str(source.path))
        return Results(
            subject=asked.subject,
            harness=self.name,
            harness_version=version,
            tasks=tuple(tasks),
            protocol=protocol,
            measurements=measured(tasks),
            artifacts=tuple(pins),
        )


def _bundles(source: Source) -> list[Path]:
    return [f for f in source.files if f.name.startswith("eval-") and f.suffix == ".json"]


def _is_bundle(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and "scores" in mapping(document, "benchmark")
        and any(key in document for key in ("run_id", "n_results", "config_hash"))
    )


def _task(document: Mapping[str, Any], file: Path, asked: Asked, pins: list[Artifact]) -> TaskResult:
    benchmark = mapping(document, "benchmark")
    name = text(benchmark.get("name") or file.stem)
    scores = mapping(benchmark, "scores")
    metric = _chosen(scores, name, asked)
    raw = scores.get(metric)
    raw = raw.get("value") if isinstance(raw, dict) else raw
    scale = scale_of(metric, raw, task=name, table=asked.table)
    rows_file = file.with_name("results.jsonl")
    errors: list[str] = []
    columns = Columns()
    if rows_file.is_file():
        lines = Lines(rows_file)
        errors += _rows(lines, columns)
        pins.append(lines.artifact)
    else:
        errors.append("its results.jsonl is missing: no row shows what the score is made of")
    errors += _row_count(document, columns)
    if number(raw) is None:
        errors.append(f"its score is {clip(repr(raw))}, not a finite number")
    samples, repeats = count(benchmark.get("samples")), count(benchmark.get("repeats")) or 1
    known = asked.table.find(metric, name)
    planned = known.samples if known and known.samples else samples
    limited = _limit(document) is not None
    return TaskResult(
        task=name,
        metric=text(metric),
        status=RunStatus.of(document.get("status", "success")),
        score=number(raw),
        low=scale.low,
        high=scale.high,
        direction=scale.direction,
        scale_source=scale.source,
        expected=times(samples if limited and samples else planned, repeats),
        errors=some(errors),
        samples=columns.samples(),
    )


def _chosen(scores: Mapping[str, Any], task: str, asked: Asked) -> str:
    wanted = asked.metrics.get(task)
    if wanted is not None:
        if wanted not in scores:
            raise UnreadableInput(
                f"task {clip(task)!r} has no metric {clip(wanted)!r}", allowed=", ".join(map(clip, scores))
            )
        return wanted
    return next((m for m in PREFERRED if m in scores), next(iter(scores), ""))


def _row_count(document: Mapping[str, Any], columns: Columns) -> list[str]:
    told = count(document.get("n_results"))
    if told is not None and len(columns) and told != len(columns):
        return [f"the bundle tells of {told} rows, its results.jsonl has {len(columns)}"]
    return []


def _rows(lines: Lines, columns: Columns) -> list[str]:
    errors: list[str] = []
    causes: dict[str, int] = {}
    for number_, line in lines:
        row = parse_row(line)
        if isinstance(row, Damaged):
            errors.append(f"line {number_} of its results.jsonl is no row: {row.why}")
            continue
        details = mapping(row.get("scoring_details"))
        cause = text(details.get("error_category") or "", 60)
        if cause:
            message = f"{cause}: {clip(details.get('error') or '')}".removesuffix(": ")
            causes[message] = causes.get(message, 0) + 1
        _add(columns, row, details, cause)
    return errors + [f"{n} rows ended with {message}" for message, n in causes.items() if _fatal(message)]


def _fatal(message: str) -> bool:
    return message.partition(":")[0] not in THE_MODEL


def _add(columns: Columns, row: Row, details: Mapping[str, Any], cause: str) -> None:
    metadata = row.get("metadata")
    answer = row.get("extracted_answer")
    response = row.get("model_response")
    columns.add(
        identity(row.get("problem_idx")),
        repeat=count(row.get("repeat")) or 0,
        prompt=row_digest([row.get("prompt") or mapping(metadata).get("prompt"), row.get("expected_answer")]),
        score=score_of(row.get("reward")),
        state=_state(row, details, cause),
        output=row_digest(answer if response is None else response),
        tokens=count(row.get("tokens") or mapping(metadata).get("completion_tokens")),
        finish_reason=text(
            cause or row.get("finish_reason") or mapping(metadata).get("finish_reason") or "", 60
        ),
        cluster=cluster_of(metadata),
    )


def _state(row: Row, details: Mapping[str, Any], cause: str) -> SampleState:
    judge = mapping(details, "judge")
    if judge.get("error") or (
        "judge" in details and not isinstance(details["judge"], dict) and not details["judge"]
    ):
        return SampleState.JUDGE_FAILURE
    if text(details.get("method") or "").startswith("judge") and "judge" not in details:
        return SampleState.JUDGE_FAILURE  # "no judge_client configured": a warning there, and a reward of 0
    if "judge" in cause:
        return SampleState.JUDGE_FAILURE
    if cause in THE_MODEL:
        return SampleState.MODEL_FAILURE
    if cause:
        return SampleState.INFRA_FAILURE
    scored = bool(details) or row.get("extracted_answer") is not None or row.get("model_response")
    if score_of(row.get("reward")) == 0 and not scored:
        return (
            SampleState.MISSING
        )  # restored after a crash without its scoring: nothing shows that it was scored
    return SampleState.SCORED


def _limit(document: Mapping[str, Any]) -> Any:
    config = mapping(document, "config")
    return config.get("max_problems", config.get("limit_samples"))


def _protocol(document: Mapping[str, Any], task: TaskResult) -> dict[str, Any]:
    name = f"task.{task.task}"
    benchmark = mapping(document, "benchmark")
    facts: dict[str, Any] = {
        f"{name}.metric": task.metric,
        f"{name}.repeats": plain(benchmark.get("repeats")),
    }
    for key, value in mapping(document, "config").items():
        if key in _NO_PROTOCOL:
            continue
        if key == "model":
            facts["model_name"] = plain(value)
        elif key in ("max_problems", "limit_samples"):
            facts[f"{name}.limit"] = plain(value)
        else:
            facts |= flat(f"{name}.{text(key)}", value)
    facts.setdefault(f"{name}.limit", None)
    return facts
