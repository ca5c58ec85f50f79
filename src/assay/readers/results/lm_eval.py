"""lm-evaluation-harness 0.4: `results_<time>.json` and `samples_<task>_<time>.jsonl`.

A sample row is one document under one filter. Pairs are found by `doc_hash`, which is stable across runs;
`prompt_hash` and `target_hash` prove that both sides were asked the same. A run that crashed leaves no
results file; an appended one leaves rows twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact, Measurement
from assay.core.results import Results, RunStatus, Samples, SampleState, TaskResult
from assay.readers.results.harness import (
    Asked,
    Damaged,
    Lines,
    Source,
    artifact,
    clip,
    count,
    flat,
    number,
    parse_json,
    plain,
    quiet_json,
    read_bytes,
    row_digest,
    score_of,
    some,
    text,
)
from assay.readers.results.metrics import MetricTable, Scale, scale_of
from assay.readers.results.rows import Columns, identity, parse_row

NULL_CONTENT = "<<assay: the server returned null content>>"
"""What our adapter makes lm-eval write for an answer without content, to tell it from an empty one."""

_RESULTS_FILE = re.compile(r"results_(?P<stamp>.+)\.json")
_SAMPLES_FILE = re.compile(r"samples_.+_\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d.*\.jsonl")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NO_PART_OF_THE_TASK = ("metadata", "dataset_kwargs", "task", "task_alias", "tag", "group")
_RUN_FACTS = (
    "lm_eval_version",
    "transformers_version",
    "chat_template_sha",
    "system_instruction_sha",
    "fewshot_as_multiturn",
    "max_length",
    "tokenizer_eos_token",
    "git_hash",
)
_MAX_ERRORS = 1000


class _Choice(NamedTuple):
    """The metric and filter that a task is judged by."""

    metric: str
    filter: str
    others: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.metric},{self.filter}"

    @property
    def name(self) -> str:
        return self.metric if self.filter == "none" else self.key


class _Rows(NamedTuple):
    samples: Samples
    errors: tuple[str, ...]
    lost: bool = False
    """Rows were logged, but not of this task."""
    corpus: bool = False
    """No row has a number of its own: the metric exists for the whole task alone, as f1 or a perplexity."""


class LmEval:
    """Reader of lm-eval's output folder, or of one of its results files."""

    name = "lm_eval"

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        if not source.is_dir:
            return source.holds_document() and _is_results(source.document)
        return any(
            _SAMPLES_FILE.fullmatch(f.name)
            or (_RESULTS_FILE.fullmatch(f.name) and _is_results(quiet_json(f)))
            for f in source.files
        )

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        file = source.path if not source.is_dir else _newest(source)
        data = read_bytes(file)
        document = parse_json(data, str(file))
        if not _is_results(document):
            raise UnreadableInput("no results of lm-eval", where=str(file))
        pins = [artifact(file, data)]
        stamp = _RESULTS_FILE.fullmatch(file.name)
        tasks = []
        choices: dict[str, _Choice] = {}
        for name, row in _leaf_tasks(document):
            choice = _choose(document, name, row, asked.metrics.get(name))
            choices[name] = choice
            rows = _read_rows(file.parent, name, stamp["stamp"] if stamp else "", choice, pins)
            tasks.append(_task(document, name, row, choice, rows, asked.table))
        return Results(
            subject=asked.subject,
            harness=self.name,
            harness_version=text(document.get("lm_eval_version") or ""),
            tasks=tuple(tasks),
            protocol=_protocol(document, choices),
            measurements=tuple(_measurement(t, document) for t in tasks),
            artifacts=tuple(pins),
            facts=_facts(document, choices),
        )


def _is_results(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and isinstance(document.get("results"), dict)
        and any(key in document for key in ("lm_eval_version", "n-samples", "configs", "higher_is_better"))
    )


def _newest(source: Source) -> Path:
    """The results file of the newest run; between runs of several models the user must choose."""
    found = [f for f in source.files if _RESULTS_FILE.fullmatch(f.name)]
    if not found:
        raise UnreadableInput(
            "no results_*.json: lm-eval writes it at the end, so the run crashed or still goes on",
            where=str(source.path),
        )
    folders = sorted({str(f.parent) for f in found})
    if len(folders) > 1:
        raise UnreadableInput(
            f"results of several models: {', '.join(Path(f).name for f in folders[:5])}",
            where=str(source.path),
            next="name the folder of one of them",
        )
    return max(found, key=lambda f: f.name)


def _leaf_tasks(document: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Tasks in the order of the file, without the rows that sum up a group."""
    groups = {name for name, members in _mapping(document, "group_subtasks").items() if members}
    groups |= set(_mapping(document, "groups"))
    return [(name, row) for name, row in document["results"].items() if name not in groups]


def _choose(document: Mapping[str, Any], task: str, row: Any, wanted: str | None) -> _Choice:
    """The metric that was asked for; else the first of the task's own list, under its first filter."""
    fields = row if isinstance(row, dict) else {}
    keys = [k for k in fields if "," in k and not k.split(",", 1)[0].endswith("_stderr")]
    if wanted is not None:
        full = wanted if "," in wanted else next((k for k in keys if k.split(",", 1)[0] == wanted), "")
        if full not in keys:
            raise UnreadableInput(
                f"task {clip(task)!r} has no metric {wanted!r}", allowed=", ".join(map(clip, keys))
            )
        keys.sort(key=lambda k: k != full)
    else:
        keys.sort(key=_declared_order(document, task))
    metric, _, filter_ = keys[0].partition(",") if keys else ("", "", "none")
    return _Choice(text(metric), text(filter_), tuple(text(k) for k in keys[1:]))


def _declared_order(document: Mapping[str, Any], task: str) -> Any:
    config = _mapping(_mapping(document, "configs"), task)
    metrics = [m.get("metric") for m in _list(config, "metric_list") if isinstance(m, dict)]
    filters = [f.get("name") for f in _list(config, "filter_list") if isinstance(f, dict)]

    def rank(key: str) -> tuple[int, int]:
        metric, _, filter_ = key.partition(",")
        return (
            metrics.index(metric) if metric in metrics else len(metrics),
            filters.index(filter_) if filter_ in filters else len(filters),
        )

    return rank


def _read_rows(folder: Path, task: str, stamp: str, choice: _Choice, pins: list[Artifact]) -> _Rows | None:
    """The task's samples of this run; None where lm-eval was not asked to log any."""
    file = folder / f"samples_{task}_{stamp}.jsonl"
    try:
        present = bool(stamp) and file.is_file()
    except (OSError, ValueError):  # a task name that no file can have
        present = False
    if not present:
        logged = bool(stamp) and any(folder.glob(f"samples_*_{_glob_literal(stamp)}.jsonl"))
        return _Rows(Samples(), ("its samples file is missing",), lost=True) if logged else None
    lines = Lines(file)
    rows = _rows(lines, choice)
    pins.append(lines.artifact)
    return rows


def _glob_literal(stamp: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", stamp)


def _rows(lines: Lines, choice: _Choice) -> _Rows:
    columns = Columns()
    errors: list[str] = []
    ids = _Ids()
    listed = 0
    for place, line in lines:
        row = parse_row(line)
        if isinstance(row, Damaged):
            if len(errors) < _MAX_ERRORS:
                errors.append(f"line {place} of its samples file is no row: {row.why}")
            continue
        filter_, answer, value = row.get("filter"), row.get("filtered_resps"), row.get(choice.metric)
        if filter_ != choice.filter and text("none" if filter_ is None else filter_) != choice.filter:
            continue
        id_, again = ids.of(identity(row.get("doc_id")), identity(row.get("doc_hash") or ""))
        if again and len(errors) < _MAX_ERRORS:
            errors.append(
                f"document {identity(row.get('doc_id'))} was scored twice: the file of another run was appended to"
            )
        listed += isinstance(value, list | dict)
        score = score_of(value) if answer is not None else None  # a row without its answer is none
        failed = score == 0 and _is_empty(answer)
        state = SampleState.MODEL_FAILURE if failed else SampleState.SCORED
        prompt = row_digest([row.get("prompt_hash"), row.get("target_hash")])
        columns.add_plain(id_, prompt, score, state, row_digest(answer))
    corpus = 0 < listed == len(columns)
    return _Rows(Samples() if corpus else columns.samples(), some(errors), corpus=corpus)


class _Ids:
    """Ids of rows: a data set may hold one document twice; a run may not score one of them twice."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._copies: dict[str, list[str]] = {}

    def of(self, doc_id: str, doc_hash: str) -> tuple[str, bool]:
        """The id of a row, and whether the same document was there before."""
        id_ = doc_hash or f"doc-{doc_id}"
        first = self._first.get(id_)
        if first is None:
            self._first[id_] = doc_id
            return id_, False
        docs = self._copies.setdefault(id_, [first])
        again = doc_id in docs
        if not again:
            docs.append(doc_id)
        place = docs.index(doc_id)
        return (id_ if place == 0 else f"{id_}#{place + 1}"), again


def _is_empty(answer: Any) -> bool:
    """No text at all came back, for any request of the sample."""
    if isinstance(answer, list):
        return all(_is_empty(part) for part in answer)
    return answer is None or answer == NULL_CONTENT or (isinstance(answer, str) and not answer.strip())


def _task(
    document: Mapping[str, Any],
    name: str,
    row: Any,
    choice: _Choice,
    rows: _Rows | None,
    table: MetricTable,
) -> TaskResult:
    raw = row.get(choice.key) if isinstance(row, dict) else None
    score = number(raw)
    errors = list(rows.errors) if rows else []
    if not choice.metric:
        errors.append("it has no metric")
    elif score is None:
        errors.append(f"its score is {clip(repr(raw))}, not a finite number")
    scale = _scale(document, name, choice, raw, table)
    counts = _mapping(_mapping(document, "n-samples"), name)
    limited = _mapping(document, "config").get("limit") is not None
    return TaskResult(
        task=text(name),
        metric=choice.name,
        status=RunStatus.SUCCESS,
        score=score,
        low=scale.low,
        high=scale.high,
        direction=scale.direction,
        scale_source=scale.source,
        expected=count(counts.get("effective" if limited else "original")),
        scored=None if rows and rows.lost else count(counts.get("effective")),
        errors=tuple(errors),
        samples=rows.samples if rows and not rows.corpus else Samples(),
    )


def _scale(document: Mapping[str, Any], task: str, choice: _Choice, raw: Any, table: MetricTable) -> Scale:
    declared = _mapping(_mapping(document, "higher_is_better"), task).get(choice.metric)
    return scale_of(choice.metric, raw, task=task, higher_is_better=declared, table=table)


def _measurement(task: TaskResult, document: Mapping[str, Any]) -> Measurement:
    row = document["results"].get(task.task)
    filter_ = task.metric.partition(",")[2] or "none"
    metric = task.metric.partition(",")[0]
    raw = row.get(f"{metric},{filter_}") if isinstance(row, dict) else None
    return Measurement.of(
        f"{task.task}/{task.metric}", raw, low=task.low, high=task.high, direction=task.direction
    )


def _protocol(document: Mapping[str, Any], choices: Mapping[str, _Choice]) -> dict[str, Any]:
    """How it was measured, as dotted keys over plain values; paths and times are no part of it."""
    config = dict(_mapping(document, "config"))
    arguments = _mapping({"model_args": config.pop("model_args", None)}, "model_args")
    facts: dict[str, Any] = {"harness": "lm_eval"}
    facts |= {key: plain(document.get(key)) for key in _RUN_FACTS if key in document}
    facts["model_name"] = plain(document.get("model_name"))
    for key, value in config.items():
        facts |= flat(text(key), value)
    for key, value in arguments.items():
        if key == "base_url":  # a new port each time; the model's name says who answered
            continue
        facts |= flat(f"model_args.{text(key)}", value)
    for task, choice in choices.items():
        name = f"task.{text(task)}"
        facts[f"{name}.metric"] = choice.key
        facts[f"{name}.version"] = plain(_mapping(document, "versions").get(task))
        facts[f"{name}.num_fewshot"] = plain(_mapping(document, "n-shot").get(task))
        facts[f"{name}.samples"] = plain(_mapping(document, "task_hashes").get(task))
        facts[f"{name}.config"] = _config_digest(_mapping(_mapping(document, "configs"), task))
    return facts


def _config_digest(config: Mapping[str, Any]) -> str:
    """Digest of what the task does; where its files lie and when it ran is left out."""
    kept = {k: v for k, v in config.items() if k not in _NO_PART_OF_THE_TASK}
    path = kept.get("dataset_path")
    if isinstance(path, str) and path.startswith(("/", ".")):
        kept["dataset_path"] = Path(path).name
    return row_digest(_ADDRESS.sub("", json.dumps(kept, sort_keys=True)))


def _facts(document: Mapping[str, Any], choices: Mapping[str, _Choice]) -> dict[str, Any]:
    facts = {key: plain(document.get(key)) for key in ("date", "total_evaluation_time_seconds")}
    facts["other_metrics"] = {text(t): list(c.others) for t, c in choices.items() if c.others}
    return facts


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []
