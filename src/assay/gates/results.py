"""Results gate: may the numbers of an evaluation be trusted at all? It says nothing about the model.

Rows are judged, not claims (`_results/rows.py`), and what belongs to the run as a whole (`_results/run.py`).
Per task a finding has a class; over all tasks the class that comes first in `PRECEDENCE` names the verdict. A
run that still goes on is no failure: the verdict is then INCONCLUSIVE and its sentence starts with "not yet".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from assay.core.evidence import Evidence
from assay.core.results import Results, RunStatus, TaskResult
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status
from assay.gates._line import one_line, quoted
from assay.gates._results.finding import PRECEDENCE, Finding, accounting, classify_error
from assay.gates._results.policy import ResultsPolicy
from assay.gates._results.rows import judge_rows
from assay.gates._results.run import judge_run, judge_task

__all__ = ["Finding", "ResultsGate", "ResultsPolicy", "classify_error", "judge_run_summary", "run_status"]

NOT_YET = frozenset({RunStatus.TIMEOUT, RunStatus.RESUMING, RunStatus.RUNNING, RunStatus.PENDING})
"""Not terminal: such a run goes on by itself or is taken up again."""


class _Task(NamedTuple):
    """A task as it was reported: raw JSON values, so that a boolean is still a boolean."""

    status: Any
    expected: Any
    scored: Any
    score: Any
    errors: Any
    result: TaskResult | None = None
    """What a reader made of it, with rows; None for a summary."""


class ResultsGate:
    """Judges one `Results`.

    Args:
        policy: what the run must show.
    """

    name = "results"
    reads: tuple[str, ...] = ("results",)

    def __init__(self, policy: ResultsPolicy | None = None) -> None:
        self.policy = policy or ResultsPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """See `Gate.judge`."""
        results = evidence.get("results")
        if not isinstance(results, Results):
            return _verdict({}, [Finding(FailureClass.USER_CONFIG_ERROR, "there are no results to judge")])
        per_task: dict[str, list[Finding]] = {}
        for task in results.tasks:
            found = _judge_task(_from(task, results, self.policy), self.policy)
            found += judge_task(task, results, self.policy)
            per_task.setdefault(task.task, []).extend(found)
        for name in sorted(set(self.policy.expected) - set(per_task)):
            per_task[name] = [accounting("it was asked for and has no result")]
        whole = list(judge_run(results, self.policy))
        return _verdict(per_task, whole, results.content_digest, provenance=results.provenance)


def judge_run_summary(obj: Any) -> Verdict:
    """Judge a run summary `{"tasks": {...}}` as people and agents write it: self-reported, any JSON shape."""
    tasks = obj.get("tasks") if isinstance(obj, Mapping) else None
    if not isinstance(tasks, Mapping):
        wrong = "the summary has no object 'tasks'"
        found = [Finding(FailureClass.USER_CONFIG_ERROR, wrong)]
        return _verdict({}, found, provenance=Provenance.SELF_REPORTED)
    per_task: dict[str, list[Finding]] = {}
    for name, entry in tasks.items():
        shown = _text(name)
        if shown in per_task:
            per_task[shown].append(accounting("two tasks have names that cannot be told apart", shown))
        per_task.setdefault(shown, []).extend(_judge_entry(entry))
    return _verdict(per_task, [], provenance=Provenance.SELF_REPORTED)


def _judge_entry(entry: Any) -> list[Finding]:
    if not isinstance(entry, Mapping):
        return [accounting("its entry is no object", _text(entry))]
    task = _Task(
        status=entry.get("status"),
        expected=entry.get("expected_samples"),
        scored=entry.get("scored_samples"),
        score=entry.get("score"),
        errors=entry.get("errors"),
    )
    return _judge_task(task, ResultsPolicy())


def run_status(word: Any) -> RunStatus:
    """What a status word means; see `RunStatus.of`."""
    return RunStatus.of(word)


def _from(task: TaskResult, results: Results, policy: ResultsPolicy) -> _Task:
    words = results.facts.get("status_words")
    word = words.get(task.task) if isinstance(words, Mapping) else None
    return _Task(
        status=task.status.value if word is None else word,
        expected=policy.expected.get(task.task, task.expected),
        scored=task.scored,
        score=task.score,
        errors=list(task.errors),
        result=task,
    )


def _judge_task(task: _Task, policy: ResultsPolicy) -> list[Finding]:
    status = run_status(task.status)
    errors = _errors(task.errors)
    if status in NOT_YET:
        text = f"the run is {status.value}"
        judged = [e for e in errors if e.failure_class is FailureClass.EVAL_JUDGE_FAILED]
        return judged or [Finding(FailureClass.INFRA_TRANSIENT, text, _text(task.status), not_yet=True)]
    rows = judge_rows(task.result, _count(task.expected), policy) if task.result else ()
    findings = [*errors, *rows, *_counts(task), *_score(task.score)]
    if status is RunStatus.SUCCESS:
        return _unless_accounted(findings)
    ended = {RunStatus.KILLED: FailureClass.INFRA_TRANSIENT}.get(status, FailureClass.UNKNOWN)
    return [
        *findings,
        Finding(ended, f"the run ended as {_text(task.status) or 'nothing'}", _text(task.status)),
    ]


def _unless_accounted(findings: list[Finding]) -> list[Finding]:
    """Of a run that claims success, wrong counts outrank all error texts but the judge's."""
    if not any(f.failure_class is FailureClass.SAMPLE_ACCOUNTING_FAILED and not f.told for f in findings):
        return findings
    keep = (FailureClass.EVAL_JUDGE_FAILED, FailureClass.SAMPLE_ACCOUNTING_FAILED)
    return [
        f if f.failure_class in keep or f.told else f._replace(failure_class=FailureClass.UNKNOWN)
        for f in findings
    ]


def _errors(errors: Any) -> list[Finding]:
    listed = errors if isinstance(errors, list | tuple) else [] if errors is None else [errors]
    texts = [_text(e) for e in listed if e not in (None, "")]
    return [Finding(classify_error(t), f"an error was reported: {t}") for t in texts]


def _counts(task: _Task) -> Iterable[Finding]:
    unusable = False
    for what, raw in (("expected", task.expected), ("scored", task.scored)):
        if what == "scored" and raw is None and task.result is not None and len(task.result.samples):
            continue  # the rows are counted instead
        if _count(raw) is None:
            unusable = True
            yield accounting(
                f"the number of {what} samples is {_shown(raw)}, not a positive count", _text(raw)
            )
    expected, scored = _count(task.expected), _count(task.scored)
    if not unusable and scored is not None and expected != scored:
        yield accounting(f"{scored} of {expected} samples were scored", scored, expected)


def _score(raw: Any) -> Iterable[Finding]:
    if _number(raw) is None:
        yield accounting(f"the score is {_shown(raw)}, not a finite number", _text(raw))


def _verdict(
    per_task: Mapping[str, list[Finding]],
    whole: list[Finding],
    digest: str = "",
    *,
    provenance: Provenance = Provenance.MEASURED,
) -> Verdict:
    if not per_task and not whole:
        whole = [Finding(FailureClass.USER_CONFIG_ERROR, "there are no tasks")]
    located = [(task, f) for task, findings in per_task.items() for f in findings] + [("", f) for f in whole]
    located.sort(key=lambda pair: (pair[1].told, _rank(pair[1])))
    found = [f for _, f in located if not f.told]
    reasons = [_reason(f, task, digest) for task, f in located]
    status = _status(found)
    failure_class = found[0].failure_class if found else None
    return Verdict(
        gate="results",
        status=status,
        failure_class=failure_class,
        outcome=None if status is not Status.FAIL else Outcome.ANOMALOUS,
        detail=_detail(status, per_task, [r for r in reasons if not r.ok]),
        reasons=tuple(reasons) or (Reason(text=f"{_tasks(len(per_task))}: all counts agree", ok=True),),
        provenance=provenance,
        reads={"results": digest} if digest else {},
        extra={
            "per_task": {
                t: {"ok": all(x.told for x in f), "reasons": [x.text for x in f if not x.told]}
                for t, f in per_task.items()
            },
            **({"warnings": [r.text for r in reasons if r.ok]} if any(r.ok for r in reasons) else {}),
        },
    )


def _status(found: list[Finding]) -> Status:
    if not found:
        return Status.PASS
    return Status.INCONCLUSIVE if all(f.not_yet for f in found) else Status.FAIL


def _rank(finding: Finding) -> float:
    if finding.not_yet:
        return 0.5
    known = finding.failure_class in PRECEDENCE
    return PRECEDENCE.index(finding.failure_class) if known else len(PRECEDENCE)


def _detail(status: Status, per_task: Mapping[str, list[Finding]], reasons: list[Reason]) -> str:
    if status is Status.PASS:
        return f"{_tasks(len(per_task))} complete and valid"
    first = reasons[0]
    where = f"{first.where}: " if first.where else ""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    prefix = "not yet: " if status is Status.INCONCLUSIVE else ""
    return f"{prefix}{where}{first.text}{more}"


def _tasks(n: int) -> str:
    return "1 task" if n == 1 else f"{n} tasks"


def _reason(finding: Finding, task: str, digest: str) -> Reason:
    return Reason(
        text=finding.text,
        ok=finding.told,
        where=task,
        measured=finding.measured,
        limit=finding.limit,
        evidence=digest,
    )


def _number(raw: Any) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    try:
        value = float(raw)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _count(raw: Any) -> int | None:
    """A positive whole number; None for everything else, booleans included."""
    value = _number(raw)
    return int(value) if value is not None and value.is_integer() and 0 < value < 2**53 else None


def _shown(raw: Any) -> str:
    return "missing" if raw is None else quoted(raw)


def _text(raw: Any) -> str:
    return "" if raw is None else one_line(raw)
