"""promptfoo: the JSON that `promptfoo eval -o results.json` writes.

A row that failed on the provider or in the grader has `failureReason` 2 and a score of 0; one that a test
refused has 1. An `llm-rubric` that could not be graded is told in its reason alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from assay.core.results import Results, RunStatus, SampleState, TaskResult
from assay.readers.results.harness import (
    Asked,
    Source,
    artifact,
    clip,
    count,
    flat,
    listed,
    mapping,
    measured,
    number,
    parse_json,
    plain,
    read_bytes,
    row_digest,
    score_of,
    some,
    text,
)
from assay.readers.results.metrics import scale_of
from assay.readers.results.rows import Columns, cluster_of, identity

REFUSED_BY_A_TEST, FAILED = 1, 2
METRIC = "score"
_GRADED_BY_A_MODEL = frozenset(
    {"llm-rubric", "model-graded-closedqa", "factuality", "g-eval", "answer-relevance", "context-recall",
     "context-relevance", "context-faithfulness", "select-best", "model-graded-factuality", "search-rubric"}
)  # fmt: skip
_NO_GRADE = re.compile(
    r"could not extract json|no output|api (?:call )?error|no grading|grader? (?:error|failed)|timed? ?out"
    r"|(?<!\d)(?:401|403|429|5\d\d)(?!\d)|malformed|invalid json",
    re.IGNORECASE,
)


class Promptfoo:
    """Reader of one output file."""

    name = "promptfoo"

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        return source.holds_document() and _rows(source.document) is not None

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        data = read_bytes(source.path)
        document = parse_json(data, str(source.path))
        rows = _rows(document) or []
        by_task: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if isinstance(row, dict):
                by_task.setdefault(_task_of(row, document), []).append(row)
        damaged = sum(not isinstance(row, dict) for row in rows)
        tasks = [_task(name, found, asked) for name, found in by_task.items()]
        tasks = _with_totals(tasks, document, rows, damaged)
        return Results(
            subject=asked.subject,
            harness=self.name,
            harness_version=text(mapping(document, "metadata").get("promptfooVersion") or ""),
            tasks=tuple(tasks),
            protocol=_protocol(document, rows),
            measurements=measured(tasks),
            artifacts=(artifact(source.path, data),),
            facts=_facts(rows),
        )


def _rows(document: Any) -> list[Any] | None:
    """The rows, in the form of version 3 or of the older flat one."""
    found = mapping(document, "results").get("results")
    if not isinstance(found, list) and "stats" in mapping(document):
        found = mapping(document).get("results")
    if not isinstance(found, list):
        return None
    known = all(
        isinstance(r, dict) and ("gradingResult" in r or "failureReason" in r or "success" in r)
        for r in found
    )
    return (
        found if known and ("stats" in mapping(document, "results") or "stats" in mapping(document)) else None
    )


def _stats(document: Any) -> Mapping[str, Any]:
    return mapping(document, "results", "stats") or mapping(document, "stats")


def _task_of(row: Mapping[str, Any], document: Any) -> str:
    """One prompt is one task; the provider is what is compared and no part of the name."""
    base = text(mapping(document, "config").get("description") or "promptfoo")
    prompts = listed(document, "results", "prompts")
    several = len({mapping(p).get("raw") for p in prompts if isinstance(mapping(p).get("raw"), str)}) > 1
    return f"{base}/{count(row.get('promptIdx')) or 0}" if several else base


def _task(name: str, rows: list[Mapping[str, Any]], asked: Asked) -> TaskResult:
    columns = Columns()
    errors: dict[str, int] = {}
    for row in rows:
        state = _state(row)
        if state in (SampleState.INFRA_FAILURE, SampleState.JUDGE_FAILURE):
            why = clip(row.get("error") or mapping(row, "gradingResult").get("reason") or state.value)
            errors[why] = errors.get(why, 0) + 1
        _add(columns, row, state)
    given = [s for r in rows if (s := score_of(r.get("score"))) is not None]
    score = sum(given) / len(given) if given else None
    scale = scale_of(METRIC, score, task=name, table=asked.table)
    return TaskResult(
        task=name,
        metric=METRIC,
        status=RunStatus.SUCCESS,
        score=number(score),
        low=scale.low,
        high=scale.high,
        direction=scale.direction,
        scale_source=scale.source,
        expected=len(rows),
        errors=some([f"{n} rows ended with: {why}" for why, n in errors.items()]),
        samples=columns.samples(),
    )


def _with_totals(tasks: list[TaskResult], document: Any, rows: list[Any], damaged: int) -> list[TaskResult]:
    """What the file tells of itself must be what it holds."""
    stats = _stats(document)
    told = [count(stats.get(k)) for k in ("successes", "failures", "errors")]
    held = sum(len(t.samples) for t in tasks)
    wrong = []
    if damaged:
        wrong.append(f"{damaged} rows are no objects")
    if told[0] is None or told[1] is None:
        wrong.append("its statistics hold no counts")
    elif sum(n or 0 for n in told) != held:
        wrong.append(f"its statistics tell of {sum(n or 0 for n in told)} rows, it holds {held}")
    good = sum(mapping(r).get("success") is True for r in rows)
    if told[0] is not None and told[0] != good:
        wrong.append(f"its statistics tell of {told[0]} successes, {good} rows say so")
    contrary = sum(_contrary(mapping(r)) for r in rows)
    if contrary:
        wrong.append(f"{contrary} rows have another score than their grading")
    if not tasks and not wrong:
        wrong.append("it holds no row")
    if not wrong:
        return tasks
    first = tasks[0] if tasks else TaskResult(task="promptfoo", metric=METRIC, status=RunStatus.UNKNOWN)
    return [first.model_copy(update={"errors": (*first.errors, *wrong), "expected": None}), *tasks[1:]]


def _contrary(row: Mapping[str, Any]) -> bool:
    """The score of a row stands twice."""
    graded = score_of(mapping(row, "gradingResult").get("score"))
    return graded is not None and graded != score_of(row.get("score"))


def _state(row: Mapping[str, Any]) -> SampleState:
    for part in listed(row, "gradingResult", "componentResults"):
        kind = text(mapping(part, "assertion").get("type") or "", 60).removeprefix("not-")
        reason = mapping(part).get("reason")
        ungraded = not isinstance(reason, str) or not reason.strip() or _NO_GRADE.search(reason[:400])
        if kind in _GRADED_BY_A_MODEL and not mapping(part).get("pass") and ungraded:
            return SampleState.JUDGE_FAILURE
    if row.get("failureReason") == FAILED:
        return SampleState.INFRA_FAILURE
    if row.get("error") and row.get("failureReason") is None and not row.get("gradingResult"):
        return SampleState.INFRA_FAILURE
    response = mapping(row, "response")
    if response and "output" not in response:
        return SampleState.MISSING
    output = response.get("output")
    if score_of(row.get("score")) == 0 and (output is None or output == ""):
        return SampleState.MODEL_FAILURE
    return SampleState.SCORED


def _add(columns: Columns, row: Mapping[str, Any], state: SampleState) -> None:
    case = mapping(row, "testCase")
    response = mapping(row, "response")
    columns.add(
        identity(row.get("testIdx") if row.get("testIdx") is not None else row_digest(row.get("vars"))),
        prompt=row_digest([mapping(row, "prompt").get("raw"), row.get("vars"), _asserts(case)]),
        score=score_of(row.get("score")),
        state=state,
        output=row_digest(response.get("output")),
        tokens=count(mapping(response, "tokenUsage").get("completion")),
        finish_reason=text(response.get("finishReason") or "", 60),
        cluster=cluster_of(case.get("metadata"), row.get("metadata")),
    )


def _asserts(case: Mapping[str, Any]) -> list[Any]:
    return [[mapping(a).get("type"), mapping(a).get("value")] for a in listed(case, "assert")]


def _protocol(document: Any, rows: list[Any]) -> dict[str, Any]:
    config = mapping(document, "config")
    facts: dict[str, Any] = {"harness": "promptfoo"}
    providers = sorted({text(mapping(r, "provider").get("id") or "", 200) for r in rows})
    facts["model_name"] = ", ".join(p for p in providers if p)
    facts["prompts"] = row_digest([mapping(p).get("raw") for p in listed(document, "results", "prompts")])
    facts["tests"] = row_digest([mapping(r).get("vars") for r in rows if isinstance(r, dict)])
    for key, value in mapping(config, "defaultTest").items():
        facts |= {f"default_test.{text(key)}": row_digest(value)}
    options = mapping(config, "evaluateOptions")
    facts["repeat"] = plain(options.get("repeat"))
    facts["limit"] = plain(options.get("filterFirstN") or options.get("filterSample"))
    for provider in listed(config, "providers"):
        facts |= flat("sampling", mapping(provider, "config"))
    return {k: v for k, v in facts.items() if not re.search(r"key|token$|secret|url|host", k, re.IGNORECASE)}


def _facts(rows: list[Any]) -> dict[str, Any]:
    cached = sum(bool(mapping(r, "response").get("cached")) for r in rows)
    return {"cached_answers": cached} if cached else {}
