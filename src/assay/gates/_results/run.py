"""What belongs to the run as a whole: limits, statistics of the responses, logs, who answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from assay.core.results import Results, TaskResult
from assay.core.vocabulary import Direction, FailureClass, Provenance
from assay.gates._line import one_line
from assay.gates._results.finding import Finding, accounting, classify_error
from assay.gates._results.policy import ResultsPolicy
from assay.gates._results.rows import truncation

_OF_STATUS = {
    "401": FailureClass.USER_CONFIG_ERROR,
    "403": FailureClass.USER_CONFIG_ERROR,
    "404": FailureClass.DEPLOYMENT_HEALTH_FAILED,
    "400": FailureClass.USER_CONFIG_ERROR,
    "422": FailureClass.USER_CONFIG_ERROR,
}


def judge_run(results: Results, policy: ResultsPolicy) -> Iterable[Finding]:
    """Findings that belong to no single task."""
    names = [t.task for t in results.tasks]
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield accounting(f"task {name} is reported more than once")
    limit = results.protocol.get("limit")
    if limit is not None and not _declared(names, policy):
        yield _limit(limit)
    scores = [s for t in results.tasks for s in t.samples.score]
    believed = set(names) <= set(policy.constant_allowed)
    if scores and all(t.samples.score for t in results.tasks) and not any(scores) and not believed:
        text = f"all {len(scores)} samples of all tasks score exactly 0: suspect the harness, not the model"
        yield Finding(FailureClass.UNKNOWN, text, 0.0)
    yield from _logs(results)
    answered = results.facts.get("answered_by")
    if isinstance(answered, list | tuple) and len(answered) > 1:
        text = f"{len(answered)} models answered in one run: {', '.join(map(one_line, answered[:4]))}"
        yield Finding(FailureClass.DEPLOYMENT_HEALTH_FAILED, text, len(answered), 1)
    cached = results.facts.get("cached_answers")
    if isinstance(cached, int) and cached:
        yield accounting(f"{cached} answers came from a cache and not from the model", cached)._replace(
            told=True
        )
    older = results.facts.get("older_runs")
    if isinstance(older, list | tuple) and older:
        yield accounting(f"{len(older)} older runs of the same tasks lie beside it", len(older))._replace(
            told=True
        )


def judge_task(task: TaskResult, results: Results, policy: ResultsPolicy) -> Iterable[Finding]:
    """Findings about one task that do not come from its rows."""
    limit = results.protocol.get(f"task.{task.task}.limit")
    if limit is not None and not _declared([task.task], policy):
        yield _limit(limit)
    yield from _responses(task, results, policy)
    share = results.measurement(f"{task.task}/truncated_frac")
    if share is not None and share.value is not None:
        yield from truncation(share.value, policy)
    judged = results.facts.get("judged")
    if isinstance(judged, list | tuple) and task.task in judged and not len(task.samples):
        text = "a judge decides here and there are no rows: answers that it failed on count as wrong"
        yield Finding(FailureClass.EVAL_JUDGE_FAILED, text, told=True)
    if _silent_zero(task, results) and task.task not in policy.constant_allowed:
        text = "it scores exactly 0 and no row shows why: suspect the harness, not the model"
        yield Finding(FailureClass.UNKNOWN, text, 0.0)
    if task.score is not None and task.scale_source != "inferred" and task.low < task.high:
        slack = 1e-9 * (task.high - task.low)
        if not task.low - slack <= task.score <= task.high + slack:
            text = f"its score {task.score:g} lies outside the range {task.low:g}..{task.high:g} of {task.metric}"
            yield accounting(text, task.score)


def _silent_zero(task: TaskResult, results: Results) -> bool:
    """A measured task at 0 without a row; what people write in a summary is taken as they write it."""
    measured = results.provenance is Provenance.MEASURED
    return measured and task.score == 0 and not len(task.samples) and task.direction is Direction.HIGHER


def _declared(tasks: list[str], policy: ResultsPolicy) -> bool:
    return policy.limit_declared or (bool(tasks) and all(t in policy.expected for t in tasks))


def _limit(limit: Any) -> Finding:
    text = (
        f"the run was limited to {one_line(limit)} samples per task, which nobody declared: if it is meant, say how "
        "many are expected (`--expect TASK=N`, or `expected_samples` in a spec)"
    )
    return accounting(text, limit)


def _responses(task: TaskResult, results: Results, policy: ResultsPolicy) -> Iterable[Finding]:
    """Status codes of the endpoint, where the harness counted them."""
    every = results.facts.get("http_status")
    codes = every.get(task.task) if isinstance(every, Mapping) else None
    if not isinstance(codes, Mapping):
        return
    counts = {str(k): v for k, v in codes.items() if isinstance(v, int) and not isinstance(v, bool) and v > 0}
    total = sum(counts.values())
    bad = {code: n for code, n in counts.items() if not code.startswith("2")}
    if not bad or not total:
        return
    share = sum(bad.values()) / total
    worst = max(bad, key=lambda code: bad[code])
    told = ", ".join(f"{n} times {one_line(code)}" for code, n in sorted(bad.items()))
    yield Finding(
        _OF_STATUS.get(worst, FailureClass.INFRA_TRANSIENT),
        f"{share:.1%} of {total} requests ended with an error status: {told}",
        share,
        policy.http_failed_max_frac,
        told=share <= policy.http_failed_max_frac,
    )


def _logs(results: Results) -> Iterable[Finding]:
    """Failures that the logs tell of. Rows that are all there outweigh them, but not what is said of a judge."""
    found = results.facts.get("log_failures")
    rows = bool(results.tasks) and all(len(t.samples) for t in results.tasks)
    for entry in found if isinstance(found, list | tuple) else []:
        if not isinstance(entry, Mapping):
            continue
        message = one_line(entry.get("text", ""))
        class_ = classify_error(message)
        fatal = class_ is FailureClass.EVAL_JUDGE_FAILED or not rows
        text = f"{one_line(entry.get('file', 'a log'))} tells of {one_line(entry.get('count', 1))} times: {message}"
        yield Finding(class_, text, told=not fatal)
