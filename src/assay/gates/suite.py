"""Checks of a suite that need no run: leaks, what nobody can pass or fail, duplicates, missing controls, size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field

from assay.core.artifact_text import Finding, Severity
from assay.core.canon import digest
from assay.core.gate import Policy
from assay.core.suite import SolutionRuns, Suite, Task
from assay.gates._suite.expected import expected_values, given_away, ngrams, own_answers, solution_lines
from assay.gates._suite.task import check_task, collected
from assay.gates._text.policy import Findings

__all__ = ["SuitePolicy", "check_solutions", "check_suite", "collected", "copied_from_suite"]


class SuitePolicy(Policy):
    """What a suite is held to."""

    min_tasks: int = Field(default=5, ge=1)
    """Fewer cannot show anything about tasks like these: with 4 the smallest p of a sign test is .0625."""
    advised_tasks: int = Field(default=12, ge=1)
    """Fewer find only large differences: 12 tasks, 5 times each, find a gain of .2 in two of three cases."""
    needs_canary: bool = True
    """False where the study brings its own proof that the text reaches the agent."""
    severities: Mapping[str, Severity] = Field(default_factory=dict)
    """Rule → severity, laid over the defaults."""


def check_suite(suite: Suite, policy: SuitePolicy | None = None) -> tuple[Finding, ...]:
    """Everything that can be said about a suite without running it.

    Args:
        suite: as read.
        policy: limits and severities.
    """
    policy = policy or SuitePolicy()
    out = Findings(policy.severities, suite.name)
    _size(suite, policy, out)
    if policy.needs_canary and not suite.canaries:
        out.add(
            "no-canary",
            Severity.BLOCK,
            "no task is marked `canary`: nothing proves that the text reaches the agent at all",
        )
    _twice(suite.tasks, out)
    for task in suite.tasks:
        check_task(task, out)
    return tuple(out.found)


def check_solutions(
    runs: Iterable[SolutionRuns], severities: Mapping[str, Severity] | None = None
) -> tuple[Finding, ...]:
    """What running verifiers shows: tasks that nothing done passes, that the reference fails, or that chance decides."""
    out = Findings(severities or {})
    for run in runs:
        out.where = run.task_id
        passes, of = sum(run.passed), len(run.passed)
        what = "the reference" if run.solution == "reference" else "nothing done"
        if run.missing:
            out.add(
                "verifier-missing", Severity.BLOCK, f"the verifier's program does not exist: {run.told[:200]}"
            )
        elif 0 < passes < of:
            text = f"{what} passes {passes} of {of} times: the verifier decides by chance"
            out.add("flaky-verifier", Severity.BLOCK, text, measured=passes, limit=of)
        elif run.solution == "reference" and not passes and of:
            why = "runs into the time limit" if run.timed_out else "fails"
            out.add(
                "unfillable", Severity.BLOCK, f"the reference {why} {of} of {of} times: {run.told[-200:]}"
            )
        elif run.solution == "empty" and passes:
            out.add("too-easy", Severity.BLOCK, f"nothing done passes {of} of {of} times")
        elif run.timed_out:
            out.add("slow-verifier", Severity.WARN, f"{what} runs into the time limit {run.timed_out} times")
    return tuple(out.found)


def copied_from_suite(baseline: str, candidate: str, suite: Suite) -> tuple[Finding, ...]:
    """What a candidate has that its baseline has not, and that it can only have from the suite's answers.

    A text that carries expected values passes those tasks and no others: it is refused, however many it passes.
    """
    out = Findings({}, suite.name)
    new = ngrams(candidate) - ngrams(baseline)
    answers = own_answers(suite)
    for task in suite.tasks:
        if task.canary:
            continue  # its answer belongs into the text
        out.where = task.task_id
        expected = expected_values(task) | answers.get(task.task_id, frozenset())
        values = set(given_away(expected, candidate)) - set(given_away(expected, baseline))
        if values:
            text = f"the text holds {len(values)} expected values, such as {min(values)[:60]!r}"
            out.add("copied-value", Severity.BLOCK, text, measured=len(values))
        hidden = "\n".join(f.text for f in (*task.verifier.files, *task.verifier.equals, *task.reference))
        visible = ngrams("\n".join((task.prompt, *(f.text for f in task.fixtures))))
        if shared := new & (ngrams(hidden) - visible):
            text = f"the text shares {len(shared)} runs of words with hidden files: {' '.join(min(shared))[:80]!r}"
            out.add("copied-content", Severity.BLOCK, text, measured=len(shared))
        lines = [s for s in solution_lines(task) if s in candidate and s not in baseline]
        if lines:
            out.add(
                "copied-solution", Severity.BLOCK, f"the text holds a reference's line: {min(lines)[:80]!r}"
            )
        if task.task_id in candidate and task.task_id not in baseline and len(task.task_id) > 5:
            out.add("names-task", Severity.WARN, "the text names the task")
    return tuple(out.found)


def _size(suite: Suite, policy: SuitePolicy, out: Findings) -> None:
    judged = [t for t in suite.tasks if not t.canary]
    splits = {t.split for t in judged}
    confirm = [t for t in judged if t.split == "confirm"] if splits - {None} else judged
    what = "tasks for confirmation" if splits - {None} else "tasks beside canaries"
    if len(confirm) < policy.min_tasks:
        out.add("few-tasks", Severity.BLOCK, f"too few {what}", measured=len(confirm), limit=policy.min_tasks)
    elif len(confirm) < policy.advised_tasks:
        out.add("few-tasks", Severity.WARN, f"few {what}", measured=len(confirm), limit=policy.advised_tasks)
    if splits - {None} and None in splits:
        out.add("split-partial", Severity.WARN, "some tasks name a split and some do not")


def _twice(tasks: tuple[Task, ...], out: Findings) -> None:
    whole: dict[str, str] = {}
    given: dict[str, str] = {}
    for task in tasks:
        out.where = task.task_id
        fixtures = [f.to_json() for f in task.fixtures]
        key = digest([task.prompt, fixtures, task.verifier.to_json()])
        if key in whole:
            out.add(
                "duplicate-task", Severity.BLOCK, f"the same task as {whole[key]!r}: it would count twice"
            )
            continue
        whole[key] = task.task_id
        seen = digest([task.prompt, fixtures])
        if fixtures and seen in given:
            text = f"the agent is given the same as in {given[seen]!r}; only the verifier differs"
            out.add("duplicate-input", Severity.WARN, text)
        given[seen] = task.task_id
