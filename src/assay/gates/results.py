"""Results gate: may the numbers of an evaluation be trusted at all? It says nothing about the model.

Per task a finding has a class; over all tasks the class that comes first in `PRECEDENCE` names the verdict. A run that still goes on is no failure: the
verdict is then INCONCLUSIVE and its sentence starts with "not yet".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from assay.core.evidence import Evidence
from assay.core.gate import Policy
from assay.core.results import Results, RunStatus, Samples, SampleState, TaskResult
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status
from assay.gates._line import one_line, quoted

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

NOT_YET = frozenset({RunStatus.TIMEOUT, RunStatus.RESUMING, RunStatus.RUNNING, RunStatus.PENDING})
"""Not terminal: such a run goes on by itself or is taken up again."""

PRECEDENCE = (
    FailureClass.EVAL_JUDGE_FAILED,
    FailureClass.DEPLOYMENT_HEALTH_FAILED,
    FailureClass.INFRA_TRANSIENT,
    FailureClass.SAMPLE_ACCOUNTING_FAILED,
    FailureClass.UNKNOWN,
)
"""Which class names the verdict where several were found; "not yet" stands right behind the judge."""

_COUNTED = r"(?!\d|\.\d|\s*(?:samples?|rows?|items?|questions?|tokens?|tasks?|m?s\b|%))"
_JUDGE = re.compile(
    r"(?<![a-z])judg(?:e|es|ed|ing|e?ment)(?![a-z])|rate[ _-]?limit|(?<![a-z])auth(?![a-z])|authenticat"
    r"|authori[sz]ation|unauthori[sz]ed|forbidden|api[ _-]?key|insufficient[ _]quota"
    rf"|(?<![\d.])(?:401|403|429){_COUNTED}",
    re.IGNORECASE,
)
_HEALTH = re.compile(
    r"health[ _-]?check|/health\b|unhealthy|not healthy|server health|EngineDeadError"
    r"|(?:server|endpoint|deployment|engine) (?:is |was |has )?(?:down|dead|died|crashed|exited|unavailable"
    r"|not ready|never became ready|did not start|failed to start)"
    r"|failed to (?:deploy|serve|start the server)",
    re.IGNORECASE,
)
_INFRA = re.compile(
    r"connection (?:refused|reset|aborted|error|closed|timed out)|connect(?:ion)? ?error|broken pipe"
    r"|server disconnected|time[d]?[ -]?out|out of memory|(?<![a-z])oom(?![a-z])|oom[ _-]?kill"
    r"|no space left|node[ _]fail|preempt|temporary failure|network (?:is )?unreachable|econn[a-z]+"
    rf"|(?<![\d.])(?:502|503|504){_COUNTED}",
    re.IGNORECASE,
)
ERROR_WORDS = (
    (_JUDGE, FailureClass.EVAL_JUDGE_FAILED),
    (_HEALTH, FailureClass.DEPLOYMENT_HEALTH_FAILED),
    (_INFRA, FailureClass.INFRA_TRANSIENT),
)
"""What an error text speaks of; first match wins, whole words only: an author is no auth."""

_MEAN_METRICS = frozenset({"exact_match", "em", "acc", "acc_norm", "pass@1", "pass_at_1", "mean_reward"})
"""Metrics whose score is the mean of the rows, so that the two can be held against each other."""


class ResultsPolicy(Policy):
    """What a run must show before its numbers count."""

    expected: Mapping[str, int] = {}
    """Samples per task that were asked for; wins over what the run says of itself."""
    limit_declared: bool = False
    """The evaluation was meant to run on a part of each task. Otherwise a limit that was left on fails."""
    mean_tolerance_frac: float = 1e-6
    """Largest difference between the reported score and the mean of the rows, as a share of the range."""


class Finding(NamedTuple):
    """One thing that is wrong with a task."""

    failure_class: FailureClass
    text: str
    measured: float | str | None = None
    limit: float | str | None = None
    not_yet: bool = False


class _Task(NamedTuple):
    """A task as it was reported: raw JSON values, so that a boolean is still a boolean."""

    status: Any
    expected: Any
    scored: Any
    score: Any
    errors: Any
    samples: Samples = Samples()
    metric: str = ""
    range: float = 1.0


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
        per_task = {t.task: _judge_task(_from(t, results, self.policy), self.policy) for t in results.tasks}
        for task in sorted(set(self.policy.expected) - set(per_task)):
            per_task[task] = [_accounting("it was asked for and has no result")]
        return _verdict(
            per_task, list(self._whole(results)), results.content_digest, provenance=results.provenance
        )

    def _whole(self, results: Results) -> Iterable[Finding]:
        """Findings that belong to no single task."""
        names = [t.task for t in results.tasks]
        for name in sorted({n for n in names if names.count(n) > 1}):
            yield _accounting(f"task {name} is reported more than once")
        limit = results.protocol.get("limit")
        if limit is not None and not self.policy.limit_declared:
            yield _accounting(
                f"the run was limited to {limit} samples per task, and the spec declares no limit", limit
            )
        scores = [s for t in results.tasks for s in t.samples.score]
        if scores and all(t.samples.score for t in results.tasks) and not any(scores):
            yield Finding(
                FailureClass.UNKNOWN,
                f"all {len(scores)} samples of all tasks score exactly 0: suspect the harness, not the model",
                0.0,
            )


def judge_run_summary(obj: Any) -> Verdict:
    """Judge a run summary `{"tasks": {...}}` as people and agents write it: self-reported, any JSON shape."""
    tasks = obj.get("tasks") if isinstance(obj, Mapping) else None
    if not isinstance(tasks, Mapping):
        wrong = "the summary has no object 'tasks'"
        found = [Finding(FailureClass.USER_CONFIG_ERROR, wrong)]
        return _verdict({}, found, provenance=Provenance.SELF_REPORTED)
    per_task = {}
    for name, entry in tasks.items():
        if not isinstance(entry, Mapping):
            per_task[_text(name)] = [_accounting("its entry is no object", _text(entry))]
            continue
        task = _Task(
            status=entry.get("status"),
            expected=entry.get("expected_samples"),
            scored=entry.get("scored_samples"),
            score=entry.get("score"),
            errors=entry.get("errors"),
        )
        per_task[_text(name)] = _judge_task(task, ResultsPolicy())
    return _verdict(per_task, [], provenance=Provenance.SELF_REPORTED)


def run_status(word: Any) -> RunStatus:
    """What a status word means, whatever its case and spelling; UNKNOWN for anything else."""
    if not isinstance(word, str):
        return RunStatus.UNKNOWN
    return STATUS_WORDS.get(re.sub(r"[\s-]+", "_", word.strip().lower()), RunStatus.UNKNOWN)


def classify_error(message: str) -> FailureClass:
    """What an error text speaks of; UNKNOWN where no word is known."""
    return next((c for pattern, c in ERROR_WORDS if pattern.search(message)), FailureClass.UNKNOWN)


def _from(task: TaskResult, results: Results, policy: ResultsPolicy) -> _Task:
    words = results.facts.get("status_words")
    word = words.get(task.task) if isinstance(words, Mapping) else None
    return _Task(
        status=task.status.value if word is None else word,
        expected=policy.expected.get(task.task, task.expected),
        scored=task.scored,
        score=task.score,
        errors=list(task.errors),
        samples=task.samples,
        metric=task.metric.partition(",")[0],
        range=task.high - task.low,
    )


def _judge_task(task: _Task, policy: ResultsPolicy) -> list[Finding]:
    status = run_status(task.status)
    errors = _errors(task.errors)
    if status in NOT_YET:
        text = f"the run is {status.value}"
        judged = [e for e in errors if e.failure_class is FailureClass.EVAL_JUDGE_FAILED]
        return judged or [Finding(FailureClass.INFRA_TRANSIENT, text, _text(task.status), not_yet=True)]
    findings = [*errors, *_rows(task, policy), *_counts(task), *_score(task.score)]
    if status is RunStatus.SUCCESS:
        return _unless_accounted(findings)
    ended = {RunStatus.KILLED: FailureClass.INFRA_TRANSIENT}.get(status, FailureClass.UNKNOWN)
    return [
        *findings,
        Finding(ended, f"the run ended as {_text(task.status) or 'nothing'}", _text(task.status)),
    ]


def _unless_accounted(findings: list[Finding]) -> list[Finding]:
    """Of a run that claims success, wrong counts outrank all error texts but the judge's."""
    if not any(f.failure_class is FailureClass.SAMPLE_ACCOUNTING_FAILED for f in findings):
        return findings
    keep = (FailureClass.EVAL_JUDGE_FAILED, FailureClass.SAMPLE_ACCOUNTING_FAILED)
    return [
        f if f.failure_class in keep else f._replace(failure_class=FailureClass.UNKNOWN) for f in findings
    ]


def _errors(errors: Any) -> list[Finding]:
    listed = errors if isinstance(errors, list | tuple) else [] if errors is None else [errors]
    texts = [_text(e) for e in listed if e not in (None, "")]
    return [Finding(classify_error(t), f"an error was reported: {t}") for t in texts]


def _counts(task: _Task) -> Iterable[Finding]:
    unusable = False
    for what, raw in (("expected", task.expected), ("scored", task.scored)):
        if what == "scored" and raw is None and len(task.samples):
            continue  # the rows are counted instead
        if _count(raw) is None:
            unusable = True
            yield _accounting(
                f"the number of {what} samples is {_shown(raw)}, not a positive count", _text(raw)
            )
    expected, scored = _count(task.expected), _count(task.scored)
    if not unusable and scored is not None and expected != scored:
        yield _accounting(f"{scored} of {expected} samples were scored", scored, expected)


def _rows(task: _Task, policy: ResultsPolicy) -> Iterable[Finding]:
    samples = task.samples
    if not len(samples):
        return
    keys = list(zip(samples.id, samples.repeat, strict=True))
    if len(set(keys)) < len(keys):
        yield _accounting(f"{len(keys) - len(set(keys))} samples are there twice", len(keys), len(set(keys)))
    for state, class_ in (
        (SampleState.JUDGE_FAILURE, FailureClass.EVAL_JUDGE_FAILED),
        (SampleState.INFRA_FAILURE, FailureClass.INFRA_TRANSIENT),
        (SampleState.MISSING, FailureClass.SAMPLE_ACCOUNTING_FAILED),
    ):
        n = samples.state.count(state)
        if n:
            yield Finding(class_, f"{n} samples ended as {state.value.replace('_', ' ')}", n, 0)
    given = [s for s in samples.score if s is not None]
    counted = len({k for k, s in zip(keys, samples.score, strict=True) if s is not None})
    for what, reported in (("expected", _count(task.expected)), ("reported as scored", _count(task.scored))):
        if reported is not None and reported != counted:
            yield _accounting(
                f"{counted} samples are in the files, {reported} were {what}", counted, reported
            )
    yield from _mean(task, given, policy)


def _mean(task: _Task, given: list[float], policy: ResultsPolicy) -> Iterable[Finding]:
    score = _number(task.score)
    if task.metric not in _MEAN_METRICS or score is None or not given:
        return
    mean = math.fsum(given) / len(given)
    if abs(mean - score) > policy.mean_tolerance_frac * abs(task.range):
        yield _accounting(f"it reports {score:.6g}, the mean of its samples is {mean:.6g}", score, mean)


def _score(raw: Any) -> Iterable[Finding]:
    if _number(raw) is None:
        yield _accounting(f"the score is {_shown(raw)}, not a finite number", _text(raw))


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
    located.sort(key=lambda pair: _rank(pair[1]))
    found = [f for _, f in located]
    reasons = [_reason(f, task, digest) for task, f in located]
    status = _status(found)
    failure_class = found[0].failure_class if found else None
    return Verdict(
        gate="results",
        status=status,
        failure_class=failure_class,
        outcome=None if status is not Status.FAIL else Outcome.ANOMALOUS,
        detail=_detail(status, per_task, reasons),
        reasons=tuple(reasons) or (Reason(text=f"{_tasks(len(per_task))}: all counts agree", ok=True),),
        provenance=provenance,
        reads={"results": digest} if digest else {},
        extra={
            "per_task": {
                t: {"ok": not f, "reasons": [finding.text for finding in f]} for t, f in per_task.items()
            }
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
        ok=False,
        where=task,
        measured=finding.measured,
        limit=finding.limit,
        evidence=digest,
    )


def _accounting(text: str, measured: Any = None, limit: float | str | None = None) -> Finding:
    plain = measured if isinstance(measured, int | float | str) else None
    return Finding(FailureClass.SAMPLE_ACCOUNTING_FAILED, text, plain, limit)


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
