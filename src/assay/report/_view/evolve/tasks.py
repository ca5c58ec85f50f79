"""The picture of the tasks: how often each arm passed, task by task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from assay.core.agent import BASELINE, CANDIDATE, AgentOutcome, AgentRun, AgentRuns
from assay.report._view.axis import Tick, with_ticks
from assay.report._view.evolve.gain import change
from assay.report._view.text import one_line, percent, plural
from assay.stats.intervals import wilson_interval

LEVEL = 0.95
"""Of the intervals of single tasks."""
TASKS_LIMIT = 300
_UNIT = with_ticks(0.0, 1.0, 5)
UNIT_TICKS = tuple(Tick(t.at, percent(float(t.label), 0)) for t in _UNIT.ticks)


@dataclass(frozen=True)
class Rate:
    """How often one arm passed."""

    passed: int
    n: int
    """Runs that say something."""
    lost: int
    """Runs that say nothing: infra errors."""
    value: float | None
    """Mean score; None without a run."""
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """`7/9`, or the mean where scores lie between."""
        if self.value is None:
            return "no run"
        whole = abs(self.value * self.n - self.passed) < 1e-9
        return f"{self.passed}/{self.n}" if whole else f"{self.value:.2f} of {self.n}"

    @property
    def told(self) -> str:
        """The rate with its interval."""
        if self.value is None:
            return "no run says anything"
        text = percent(self.value, 0)
        if self.low is not None and self.high is not None:
            text += f" ({percent(self.low, 0)} to {percent(self.high, 0)})"
        return text


def score_of(run: AgentRun) -> float:
    """What a run that says something counts, as the gate counts it: meddling and breaking down are failures."""
    broken = run.outcome in {AgentOutcome.AGENT_ERROR, AgentOutcome.AGENT_TIMEOUT}
    return 0.0 if run.tampered or broken or run.score is None else run.score


def rate(runs: Sequence[AgentRun]) -> Rate:
    """Passes of some runs, with the Wilson interval where all scores are 0 or 1."""
    held = [r for r in runs if r.learned]
    lost, n = len(runs) - len(held), len(held)
    scores = [score_of(r) for r in held]
    passed = sum(s == 1.0 for s in scores)
    if not n:
        return Rate(0, 0, lost, None)
    value = math.fsum(scores) / n
    if any(s not in (0.0, 1.0) for s in scores):
        return Rate(passed, n, lost, value)
    found = wilson_interval(passed, n, LEVEL)
    return Rate(passed, n, lost, value, found.lower, found.upper)


@dataclass(frozen=True)
class TaskRow:
    """One task with both arms."""

    task: str
    tone: str
    """Which way it moved."""
    baseline: Rate
    candidate: Rate
    difference: str
    canary: bool
    at: tuple[float | None, float | None]
    """Percent of the width: baseline, candidate."""
    whiskers: tuple[tuple[float, float] | None, tuple[float, float] | None]
    label: str
    lost: str


@dataclass(frozen=True)
class Dumbbell:
    """Rates task by task."""

    rows: tuple[TaskRow, ...]
    canaries: tuple[TaskRow, ...]
    ticks: tuple[Tick, ...]
    summary: str
    more: str


def dumbbell(runs: AgentRuns) -> Dumbbell:
    """Rates of baseline and candidate, the tasks that moved most first."""
    by_task: dict[tuple[str, str], list[AgentRun]] = {}
    for run in runs.runs:
        by_task.setdefault((run.task, run.arm), []).append(run)
    canaries = set(runs.canaries)
    rows = [
        _task_row(t, by_task.get((t, BASELINE), []), by_task.get((t, CANDIDATE), []), canary=t in canaries)
        for t in dict.fromkeys(runs.tasks)
    ]
    deciding = [r for r in rows if not r.canary]
    deciding.sort(key=lambda r: -((r.candidate.value or 0.0) - (r.baseline.value or 0.0)))
    better = sum(r.tone == "good" for r in deciding)
    worse = sum(r.tone == "bad" for r in deciding)
    summary = (
        f"{plural(len(deciding), 'task')}: {better} passed more often with the candidate, {worse} less often, "
        f"{len(deciding) - better - worse} as often."
    )
    more = f"and {len(deciding) - TASKS_LIMIT:,} more tasks" if len(deciding) > TASKS_LIMIT else ""
    return Dumbbell(
        tuple(deciding[:TASKS_LIMIT]), tuple(r for r in rows if r.canary), UNIT_TICKS, summary, more
    )


def _task_row(task: str, before: Sequence[AgentRun], after: Sequence[AgentRun], *, canary: bool) -> TaskRow:
    left, right = rate(before), rate(after)
    gain = None if left.value is None or right.value is None else right.value - left.value
    tone = "idle" if gain is None or abs(gain) < 1e-9 else "good" if gain > 0 else "bad"
    lost = [f"{r.lost} with the {arm}" for arm, r in (("baseline", left), ("candidate", right)) if r.lost]
    return TaskRow(
        task=one_line(task, 100),
        tone=tone,
        baseline=left,
        candidate=right,
        difference="" if gain is None else change(gain),
        canary=canary,
        at=(_at(left.value), _at(right.value)),
        whiskers=(_ends(left), _ends(right)),
        label=f"{one_line(task, 100)}: baseline {left.text}, {left.told}; candidate {right.text}, {right.told}",
        lost=f"nothing learned: {', '.join(lost)}" if lost else "",
    )


def _at(value: float | None) -> float | None:
    return None if value is None else _UNIT.at(value)


def _ends(found: Rate) -> tuple[float, float] | None:
    return None if found.low is None or found.high is None else (_UNIT.at(found.low), _UNIT.at(found.high))
