"""Plain rows in JSONL or CSV: an id and a score a row, whatever wrote them.

Beside those two, `task`, `repeat`, `prompt`, `output`, `state`, `tokens`, `finish_reason`, `cluster` and `error`
are understood. Columns of a CSV stand between commas, semicolons or tabs, as its header shows; case, spaces and
hyphens in their names do not count (`Sample ID`). How many rows there should be is told by nobody: say it with
`--expect TASK=N`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.errors import UnreadableInput
from assay.core.results import Results, RunStatus, SampleState, TaskResult
from assay.readers.results.harness import (
    Asked,
    Damaged,
    Lines,
    Source,
    clip,
    count,
    measured,
    number,
    parse_line,
    row_digest,
    score_of,
    some,
    text,
)
from assay.readers.results.metrics import scale_of
from assay.readers.results.rows import Columns, cluster_of, identity

IDS = ("id", "sample_id", "doc_id", "item_id", "question_id", "problem_id", "problem_idx", "key")
SCORES = ("score", "reward", "correct", "is_correct", "accuracy", "acc", "exact_match", "passed", "value")
REPEATS = ("repeat", "epoch", "trial", "run")
PROMPTS = ("prompt", "input", "question", "problem")
OUTPUTS = ("output", "answer", "response", "prediction", "completion", "generation")
STATES = ("state", "status")
TOKENS = ("tokens", "output_tokens", "completion_tokens", "num_generated_tokens")
BOM = "\ufeff"
CSV = (".csv", ".tsv")
SUFFIXES = (".jsonl", ".ndjson", *CSV)
DELIMITERS = ",;\t"
MAX_CSV_COLUMNS = 1000
_DECIMAL = re.compile(r"[+-]?\d+,\d+")
_NAMES = {s.value: s for s in SampleState}
_TRUE = frozenset({"true", "yes", "pass", "passed", "correct"})
_FALSE = frozenset({"false", "no", "fail", "failed", "incorrect", "wrong"})


class _Task(NamedTuple):
    columns: Columns
    causes: dict[str, int]
    metrics: set[str]


class Table:
    """Reader of a file of rows, or of a folder of such files."""

    name = "rows"

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        files = _files(source)
        return bool(files) and all(_has_rows(Source(f).head, f) for f in files)

    def lacks(self, source: Source) -> str:
        """What a CSV file that is not claimed lacks; empty for other files."""
        if source.is_dir or source.path.suffix not in CSV:
            return ""
        ids, scores = (", ".join(names[:6]) for names in (IDS, SCORES))
        return f"its first line names no column of ids ({ids}, ...) or none of scores ({scores}, ...)"

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        tasks: dict[str, _Task] = {}
        errors: list[str] = []
        pins = []
        for file in _files(source):
            lines = Lines(file)
            for number_, row in _csv(lines) if file.suffix in CSV else _jsonl(lines):
                if isinstance(row, Damaged) or not isinstance(row, dict):
                    if len(errors) < 1000:
                        errors.append(f"line {number_} of {file.name} is no row: {clip(row)}")
                else:
                    _add(tasks, row, file)
            pins.append(lines.artifact)
        if not tasks:
            raise UnreadableInput("no rows with an id and a score", where=str(source.path))
        results = [_result(name, task, asked) for name, task in tasks.items()]
        if errors:
            results[0] = results[0].model_copy(update={"errors": (*results[0].errors, *some(errors))})
        return Results(
            subject=asked.subject,
            harness=self.name,
            tasks=tuple(results),
            protocol={"harness": "rows", **{f"task.{t.task}.metric": t.metric for t in results}},
            measurements=measured(results),
            artifacts=tuple(pins),
        )


def _files(source: Source) -> list[Path]:
    if not source.is_dir:
        return [source.path]
    return [f for f in source.files if f.suffix in SUFFIXES and f.parent == source.path]


def _has_rows(head: bytes, file: Path) -> bool:
    first = head.split(b"\n", 1)[0]
    if file.suffix in CSV:
        names = header(first)
        return any(n in IDS for n in names) and any(n in SCORES for n in names)
    row = parse_line(first.lstrip(b"\xef\xbb\xbf"))
    return isinstance(row, dict) and _first(row, IDS) is not None and any(n in row for n in SCORES)


def header(first: bytes) -> list[str]:
    """The columns of a CSV file by its first line, in the spelling that is understood."""
    line = first.decode("utf-8", "replace").lstrip(BOM)
    try:
        return [_spelled(n) for n in next(csv.reader([line], delimiter=_delimiter(line)), [])]
    except csv.Error:
        return []


def _delimiter(line: str) -> str:
    return max(DELIMITERS, key=line.count)


def _spelled(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def _jsonl(lines: Lines) -> Iterator[tuple[int, Any]]:
    for number_, line in lines:
        yield number_, line if isinstance(line, Damaged) else parse_line(line.lstrip(b"\xef\xbb\xbf"))


def _csv(lines: Lines) -> Iterator[tuple[int, Any]]:
    """Rows of a CSV file with a header; a row of another width is damaged."""
    source = iter(lines)
    decoded = (
        "" if isinstance(x, Damaged) else x.decode("utf-8", "replace").lstrip(BOM) + "\n" for _, x in source
    )
    first = next(decoded, "")
    mark = _delimiter(first)
    reader = csv.reader(chain([first], decoded), strict=True, delimiter=mark)
    try:
        names = [_spelled(name) for name in next(reader, [])]
        if len(names) > MAX_CSV_COLUMNS:
            raise UnreadableInput(f"more than {MAX_CSV_COLUMNS} columns", where=str(lines.path))
        cell = _cell if mark == "," else _cell_with_comma
        for cells in reader:
            if len(cells) != len(names):
                yield reader.line_num, Damaged(f"{len(cells)} cells under {len(names)} names")
            else:
                yield reader.line_num, dict(zip(names, map(cell, cells), strict=True))
    except csv.Error as error:
        yield reader.line_num, Damaged(clip(error))
        for _ in source:  # the pin is of the whole file
            pass


def _cell(cell: str) -> Any:
    stripped = cell.strip()
    if not stripped:
        return None
    word = stripped.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    try:
        return float(stripped)
    except ValueError:
        return cell


def _cell_with_comma(cell: str) -> Any:
    """Where semicolons or tabs part the cells, a comma may part the digits: 0,5."""
    return _cell(cell.strip().replace(",", ".")) if _DECIMAL.fullmatch(cell.strip()) else _cell(cell)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[n] for n in names if row.get(n) is not None), None)


def _add(tasks: dict[str, _Task], row: Mapping[str, Any], file: Path) -> None:
    name = text(row.get("task") or file.stem)
    task = tasks.setdefault(name, _Task(Columns(), {}, set()))
    metric = next((n for n in SCORES if n in row), "score")
    task.metrics.add(metric)
    score = row.get(metric)
    if isinstance(score, str):
        word = score.strip().lower()
        score = word in _TRUE if word in _TRUE | _FALSE else None
    if row.get("error"):
        task.causes[clip(row["error"])] = task.causes.get(clip(row["error"]), 0) + 1
    id_ = _first(row, IDS)
    output = _first(row, OUTPUTS)
    task.columns.add(
        identity(int(id_) if isinstance(id_, float) and id_.is_integer() and abs(id_) < 2**53 else id_),
        repeat=count(_first(row, REPEATS)) or 0,
        prompt=row_digest([_first(row, PROMPTS), row.get("target", row.get("expected"))]),
        score=score_of(score),
        state=_state(row),
        output="" if output is None else row_digest(output),
        tokens=count(_first(row, TOKENS)),
        finish_reason=text(row.get("finish_reason") or "", 60),
        cluster=cluster_of(row),
    )


def _state(row: Mapping[str, Any]) -> SampleState:
    word = _first(row, STATES)
    known = _NAMES.get(word.strip().lower().replace(" ", "_")) if isinstance(word, str) else None
    if known is not None:
        return known
    return SampleState.INFRA_FAILURE if row.get("error") else SampleState.SCORED


def _result(name: str, task: _Task, asked: Asked) -> TaskResult:
    samples = task.columns.samples()
    given = [s for s in samples.score if s is not None]
    score = number(sum(given) / len(given)) if given else None
    metric = next(iter(sorted(task.metrics)), "score")
    most = max(given, default=0.0, key=abs)
    scale = scale_of(metric, most, task=name, table=asked.table)
    errors = [f"{n} rows ended with an error: {why}" for why, n in task.causes.items()]
    if len(task.metrics) > 1:
        errors.append(f"its rows hold several scores: {', '.join(sorted(task.metrics))}")
    known = asked.table.find(metric, name)
    return TaskResult(
        task=name,
        metric=metric,
        status=RunStatus.SUCCESS,
        score=score,
        low=scale.low,
        high=scale.high,
        direction=scale.direction,
        scale_source=scale.source,
        expected=known.rows if known else None,
        errors=some(errors),
        samples=samples,
    )
