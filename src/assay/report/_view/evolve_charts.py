"""Pictures of a study of texts: rates task by task, the difference look by look, and what became of the runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.core.agent import BASELINE, CANDIDATE, AgentOutcome, AgentRun, AgentRuns
from assay.core.verdict import Estimate, Verdict
from assay.ledger.evolve_records import Look
from assay.report._view.axis import Axis, Tick, axis_over, with_ticks
from assay.report._view.marks import Mark, status_mark
from assay.report._view.text import MINUS, one_line, percent, plural, signed
from assay.stats.intervals import wilson_interval

LEVEL = 0.95
"""Of the intervals of single tasks."""
TASKS_LIMIT = 300
MACRO = "macro"
OUTCOMES: Mapping[AgentOutcome, tuple[str, str]] = {
    AgentOutcome.PASS: ("passed", "pass"),
    AgentOutcome.TASK_FAIL: ("task failed", "fail"),
    AgentOutcome.AGENT_ERROR: ("agent broke down", "error"),
    AgentOutcome.AGENT_TIMEOUT: ("ran out of time", "timeout"),
    AgentOutcome.INFRA_ERROR: ("nothing learned", "infra"),
}
"""Outcome → words, class."""


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


_UNIT = with_ticks(0.0, 1.0, 5)
UNIT_TICKS = tuple(Tick(t.at, percent(float(t.label), 0)) for t in _UNIT.ticks)


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


def change(gain: float, digits: int = 0) -> str:
    """A difference of rates in points, with its sign."""
    text = signed(100.0 * gain, digits)
    return text if text.startswith(MINUS) or not text.strip("0.") else f"+{text}"


# -- looks --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gain:
    """A difference of the means with its interval; positive = the candidate is better."""

    value: float
    low: float | None
    high: float | None
    level: float | None
    bar: float
    """What must be shown."""
    n: int | None

    @property
    def told(self) -> str:
        """The interval in words; a bound that is not there is open."""
        if self.low is None and self.high is None:
            return ""
        if self.high is None:
            return f"at least {change(self.low or 0.0, 1)}"
        low = "any loss" if self.low is None else change(self.low, 1)
        return f"{low} to {change(self.high, 1)}"


def gain_of(verdict: Verdict | None) -> Gain | None:
    """The mean difference that a verdict of the deploy gate estimates; None if it holds none."""
    if verdict is None or not verdict.estimates:
        return None
    named = {e.task: e for e in verdict.estimates}
    found = named.get(MACRO) or next((e for e in verdict.estimates if e.role == "primary"), None)
    return None if found is None else _gain(found)


def _gain(found: Estimate) -> Gain:
    return Gain(
        value=-found.drop,
        low=None if found.upper is None else -found.upper,
        high=None if found.lower is None else -found.lower,
        level=found.level,
        bar=-found.margin if found.margin else 0.0,
        n=found.n,
    )


@dataclass(frozen=True)
class LookRow:
    """The difference at one look."""

    name: str
    mark: Mark
    at: float
    low: float
    high: float
    beyond: tuple[bool, bool]
    """Whether the interval is open to the left and right."""
    value: str
    interval: str
    detail: str
    label: str


@dataclass(frozen=True)
class Looks:
    """The difference of the means, look by look."""

    rows: tuple[LookRow, ...]
    zero: float
    bar: float | None
    """Percent from the left; None where any gain is enough."""
    bar_text: str
    ticks: tuple[Tick, ...]


def looks(given: Sequence[Look]) -> Looks | None:
    """All looks with an estimate; None if there is none."""
    held = [(look, found) for look in given if (found := gain_of(look.verdict)) is not None]
    if not held:
        return None
    bar = held[-1][1].bar
    values = [0.0, bar, *(v for _, g in held for v in (g.value, g.low, g.high) if v is not None)]
    axis = axis_over([max(-1.0, min(1.0, v)) for v in values], padding=0.1)
    ticks = tuple(Tick(t.at, points_label(t.label)) for t in axis.ticks)
    rows = [_look_row(look, found, axis, i) for i, (look, found) in enumerate(held, 1)]
    return Looks(
        tuple(rows),
        axis.at(0.0),
        axis.at(bar) if bar > 0 else None,
        f"needed: {change(bar, 1)} points",
        ticks,
    )


def _look_row(look: Look, found: Gain, axis: Axis, number: int) -> LookRow:
    mark = status_mark(look.verdict.status)
    if look.verdict.open:
        mark = Mark("GOES ON", "open", "question")
    return LookRow(
        name=f"look {number}",
        mark=mark,
        at=axis.at(found.value),
        low=axis.at(axis.low if found.low is None else found.low),
        high=axis.at(axis.high if found.high is None else found.high),
        beyond=(found.low is None, found.high is None),
        value=f"{change(found.value, 1)} points",
        interval=found.told,
        detail=one_line(look.verdict.detail),
        label=f"look {number}: {change(found.value, 1)} points, {found.told}; {mark.word}",
    )


def points_label(label: str) -> str:
    """The label of a tick in points, from one in shares."""
    value = float(label.replace(MINUS, "-").replace(",", ""))
    return change(value, 0) if value else "0"


# -- outcomes -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One class of outcomes in a bar."""

    style: str
    name: str
    count: int
    x: float
    width: float
    title: str


@dataclass(frozen=True)
class ArmRow:
    """What became of the runs of one arm."""

    arm: str
    n: str
    parts: tuple[Part, ...]
    label: str


def outcomes(runs: AgentRuns) -> tuple[ArmRow, ...]:
    """Outcome classes of each arm, canaries included."""
    made = []
    for arm in dict.fromkeys((*runs.arms, *(r.arm for r in runs.runs))):
        held = runs.of(arm)
        if not held:
            continue
        counts = {o: sum(r.outcome is o for r in held) for o in AgentOutcome}
        parts, x = [], 0.0
        for outcome, (name, style) in OUTCOMES.items():
            width = 100.0 * counts[outcome] / len(held)
            if counts[outcome]:
                title = f"{name}: {counts[outcome]} of {len(held)}"
                parts.append(Part(style, name, counts[outcome], round(x, 3), round(width, 3), title))
            x += width
        name = one_line(arm, 40).replace("_", " ")
        made.append(
            ArmRow(
                name, plural(len(held), "run"), tuple(parts), f"{name}: {'; '.join(p.title for p in parts)}"
            )
        )
    return tuple(made)
