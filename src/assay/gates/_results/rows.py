"""What the rows of one task show, whatever is claimed of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

from assay.core.results import Samples, SampleState, TaskResult
from assay.core.vocabulary import Direction, FailureClass
from assay.gates._results.finding import Finding, accounting
from assay.gates._results.policy import ResultsPolicy

TRUNCATED = frozenset({"length", "max_tokens", "max_output_tokens", "max_length"})
"""Finish reasons of an answer that was cut off; inspect_ai's own limits (`limit:token`, `limit:time`) count, too."""

OVERFULL = frozenset({"context_window_exceeded", "model_length", "limit:context"})
"""Finish reasons of an answer that the context had no room for."""

_MEANS = frozenset(
    {
        "exact_match", "em", "acc", "acc_norm", "pass@1", "pass_at_1", "mean_reward", "accuracy", "mean", "score",
        "reward", "correct", "is_correct", "pass_rate", "passed", "quasi_exact_match", "prefix_exact_match",
        "quasi_prefix_exact_match", "f1_score", "final_number_exact_match", "chain_of_thought_correctness",
    }
)  # fmt: skip
_AVERAGE = re.compile(r"avg[-_]of[-_]\d+")
_FAILURES = (
    (SampleState.JUDGE_FAILURE, FailureClass.EVAL_JUDGE_FAILED),
    (SampleState.INFRA_FAILURE, FailureClass.INFRA_TRANSIENT),
    (SampleState.MISSING, FailureClass.SAMPLE_ACCOUNTING_FAILED),
)


def judge_rows(task: TaskResult, expected: int | None, policy: ResultsPolicy) -> Iterable[Finding]:
    """Counts, states, repeats, range, truncation and constancy of the rows.

    Args:
        task: what was reported, with its rows.
        expected: how many rows there should be; None where nobody says.
        policy: what is tolerated.
    """
    samples = task.samples
    if not len(samples):
        return
    yield from _counted(task, expected)
    yield from _states(samples, policy)
    yield from _mean(task, policy)
    yield from _range(task)
    yield from _truncated(samples, policy)
    if task.task not in policy.constant_allowed:
        yield from _constant(task, policy)


def _counted(task: TaskResult, expected: int | None) -> Iterable[Finding]:
    samples = task.samples
    keys = list(zip(samples.id, samples.repeat, strict=True))
    distinct = len(set(keys))
    if distinct < len(keys):
        yield accounting(f"{len(keys) - distinct} samples are there twice", len(keys), distinct)
    scored = {
        key
        for key, score, state in zip(keys, samples.score, samples.state, strict=True)
        if score is not None or state is SampleState.MODEL_FAILURE
    }
    for what, reported in (("expected", expected), ("reported as scored", task.scored)):
        if reported is not None and reported > 0 and reported != len(scored):
            yield accounting(
                f"{len(scored)} samples are in the files, {reported} were {what}", len(scored), reported
            )
    repeats = Counter(samples.id)
    most = max(repeats.values())
    short = sum(n < most for n in repeats.values())
    if short and most > 1 and distinct == len(keys):
        yield accounting(f"{short} items have fewer than {most} repeats", short, 0)


def _states(samples: Samples, policy: ResultsPolicy) -> Iterable[Finding]:
    seen = Counter(samples.state)
    for state, class_ in _FAILURES:
        if seen[state]:
            yield Finding(
                class_, f"{seen[state]} samples ended as {state.value.replace('_', ' ')}", seen[state], 0
            )
    share = seen[SampleState.MODEL_FAILURE] / len(samples)
    if share > policy.model_failures_max_frac and len(samples) >= policy.constant_min:
        yield Finding(
            FailureClass.UNKNOWN,
            f"{share:.0%} of the answers are empty or ended by a limit: suspect the template, parser or budget",
            share,
            policy.model_failures_max_frac,
        )


def _mean(task: TaskResult, policy: ResultsPolicy) -> Iterable[Finding]:
    given = [s for s in task.samples.score if s is not None]
    if not _is_mean(task) or task.score is None or not given:
        return
    mean = math.fsum(given) / len(given)
    span = abs(task.high - task.low)
    if abs(mean - task.score) > max(policy.mean_tolerance_frac * span, _rounding(task.score, span)):
        yield accounting(
            f"it reports {task.score:.6g}, the mean of its samples is {mean:.6g}", task.score, mean
        )


def _is_mean(task: TaskResult) -> bool:
    """Whether the score is the mean of the rows, so that the two can be held against each other."""
    metric = task.metric.partition(",")[0]
    if _AVERAGE.search(metric):
        return True
    single = not any(task.samples.repeat)
    return metric.rpartition("/")[2] in _MEANS or (single and metric.startswith(("pass@1/", "pass_at_1_")))


def _rounding(score: float, span: float) -> float:
    """Half of the last digit that was written, where that is too little to hide an answer."""
    digits = len(repr(score).partition(".")[2])
    half = 0.5 * 10.0**-digits
    return half * (1 + 1e-9) if half <= 1e-4 * span else 0.0


def _range(task: TaskResult) -> Iterable[Finding]:
    if task.scale_source == "inferred" or not task.low < task.high:
        return
    slack = 1e-9 * (task.high - task.low)
    low, high = task.low - slack, task.high + slack
    outside = sum(s is not None and not low <= s <= high for s in task.samples.score)
    if outside:
        yield accounting(f"{outside} samples lie outside {task.low:g}..{task.high:g}", outside, 0)


def truncated_share(samples: Samples) -> float | None:
    """Share of answers that were cut off, among those that say how they ended; None where none does."""
    told = [r.lower() for r in samples.finish_reason if r]
    cut = sum(r in TRUNCATED or (r.startswith("limit:") and r not in OVERFULL) for r in told)
    return cut / len(told) if told else None


def overfull_share(samples: Samples) -> float | None:
    """Share of answers that did not fit the context, among those that say how they ended."""
    told = [r.lower() for r in samples.finish_reason if r]
    return sum(r in OVERFULL for r in told) / len(told) if told else None


def _truncated(samples: Samples, policy: ResultsPolicy) -> Iterable[Finding]:
    share = truncated_share(samples)
    if share is not None:
        yield from truncation(share, policy)
    full = overfull_share(samples)
    if full:
        yield Finding(
            FailureClass.USER_CONFIG_ERROR,
            f"{full:.1%} of the answers did not fit the context that was served",
            full,
            policy.truncated_max_frac,
            told=full <= policy.truncated_max_frac,
        )


def truncation(share: float, policy: ResultsPolicy) -> Iterable[Finding]:
    """What a share of answers that were cut off means."""
    if share > policy.truncated_max_frac:
        yield accounting(
            f"{share:.1%} of the answers were cut off at a limit", share, policy.truncated_max_frac
        )
    elif share > 0:
        text = f"{share:.1%} of the answers were cut off at a limit"
        yield accounting(text, share, policy.truncated_max_frac)._replace(told=True)


def _constant(task: TaskResult, policy: ResultsPolicy) -> Iterable[Finding]:
    values = {s for s in task.samples.score if s is not None}
    n = sum(s is not None for s in task.samples.score)
    if len(values) != 1 or n < policy.constant_min:
        return
    value = next(iter(values))
    best = task.high if task.direction is Direction.HIGHER else task.low
    finding = Finding(FailureClass.UNKNOWN, f"all {n} samples score exactly {value:g}", value)
    if value == best:
        yield finding._replace(told=True)
    else:
        yield finding._replace(text=f"{finding.text}: suspect the harness, not the model")
