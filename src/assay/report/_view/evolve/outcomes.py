"""What became of the runs of each arm: one bar by class of outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay.core.agent import AgentOutcome, AgentRuns
from assay.report._view.text import one_line, plural

OUTCOMES: Mapping[AgentOutcome, tuple[str, str]] = {
    AgentOutcome.PASS: ("passed", "pass"),
    AgentOutcome.TASK_FAIL: ("task failed", "fail"),
    AgentOutcome.AGENT_ERROR: ("agent broke down", "error"),
    AgentOutcome.AGENT_TIMEOUT: ("ran out of time", "timeout"),
    AgentOutcome.INFRA_ERROR: ("nothing learned", "infra"),
}
"""Outcome → words, class."""


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
