"""Runs of a suite with known outcomes, for tests of the gates that judge them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.agent import BASELINE, CANDIDATE, AgentOutcome, AgentRun, AgentRuns
from assay.core.evidence import Evidence
from assay.core.verdict import Verdict
from assay.gates.deploy import DeployGate, DeployPolicy

CANARY = "canary"
Outcomes = Mapping[str, Mapping[str, Sequence[AgentOutcome | float]]]
"""Arm → task → what became of each repeat; a number is a score."""


def run(task: str, arm: str, rep: int, ended: AgentOutcome | float, **more: Any) -> AgentRun:
    """One run."""
    if isinstance(ended, AgentOutcome):
        learned = ended is not AgentOutcome.INFRA_ERROR
        score: float | None = float(ended is AgentOutcome.PASS) if learned else None
        outcome = ended
    else:
        score, outcome = float(ended), AgentOutcome.PASS if ended == 1 else AgentOutcome.TASK_FAIL
    return AgentRun(task=task, arm=arm, rep=rep, block=rep, outcome=outcome, score=score, **more)


def runs_of(
    outcomes: Outcomes, *, canary: bool = True, chars: tuple[int, int] = (1000, 1000), **more: Any
) -> AgentRuns:
    """Evidence of arms, each with a canary that passes with a text and fails without one."""
    tasks = tuple(next(iter(outcomes.values())))
    repeats = {arm: max(len(v) for v in cells.values()) for arm, cells in outcomes.items()}
    runs = [
        run(task, arm, rep, ended)
        for arm, cells in outcomes.items()
        for task, repeated in cells.items()
        for rep, ended in enumerate(repeated, 1)
    ]
    if canary:
        ended = {arm: AgentOutcome.TASK_FAIL if arm == "empty" else AgentOutcome.PASS for arm in outcomes}
        runs += [run(CANARY, arm, rep, ended[arm]) for arm, n in repeats.items() for rep in range(1, n + 1)]
    return AgentRuns(
        subject="candidate",
        suite="sha256:suite",
        runner="agent",
        texts={arm: f"sha256:{arm}" for arm in outcomes},
        text_chars={BASELINE: chars[0], CANDIDATE: chars[1]},
        tasks=(*tasks, CANARY) if canary else tasks,
        canaries=(CANARY,) if canary else (),
        repeats=repeats,
        runs=tuple(runs),
        **more,
    )


def passes(counts: Sequence[int], repeats: int) -> dict[str, list[AgentOutcome | float]]:
    """Task → that many passes, then failures."""
    return {f"t{i}": [1.0] * n + [0.0] * (repeats - n) for i, n in enumerate(counts)}


def counted(before: Sequence[int], after: Sequence[int], repeats: int, **more: Any) -> AgentRuns:
    """Both arms by their passes per task."""
    return runs_of({BASELINE: passes(before, repeats), CANDIDATE: passes(after, repeats)}, **more)


def drawn(
    generator: np.random.Generator, before: Sequence[float], after: Sequence[float], repeats: int, **more: Any
) -> AgentRuns:
    """Both arms drawn from true pass rates."""
    sides = [
        {f"t{i}": [float(x) for x in generator.random(repeats) < rate] for i, rate in enumerate(rates)}
        for rates in (before, after)
    ]
    return runs_of(dict(zip((BASELINE, CANDIDATE), sides, strict=True)), **more)


def judged(evidence: Evidence, **policy: Any) -> Verdict:
    """What the gate says."""
    return DeployGate(DeployPolicy(**policy)).judge({"candidate.runs": evidence})
