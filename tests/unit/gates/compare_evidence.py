"""Two evaluations with as many flips as a test says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.verdict import Verdict
from assay.gates.compare import CompareGate, ComparePolicy

Flips = tuple[int, int, int]
"""Items, items that only the baseline got right, items that only the candidate got right."""


def task(name: str, scores: list[float | None], first: int = 0, **more: Any) -> TaskResult:
    """A task with these row scores; None is a missing one."""
    n = len(scores)
    given = [s for s in scores if s is not None]
    rows = Samples(
        id=tuple(f"{first + i}" for i in range(n)),
        repeat=(0,) * n,
        prompt=("p",) * n,
        score=tuple(scores),
        state=tuple(SampleState.MISSING if s is None else SampleState.SCORED for s in scores),
        output=("o",) * n,
    )
    mean = sum(given) / len(given) if given else None
    return TaskResult(
        task=name, metric="acc", score=mean, expected=n, scored=len(given), samples=rows, **more
    )


def answers(flips: Flips, side: int) -> list[float | None]:
    """Row scores of the baseline (0) or the candidate (1): half of the rest is right on both."""
    n, lost, won = flips
    rest = n - lost - won
    changed = ([1.0] * lost + [0.0] * won, [0.0] * lost + [1.0] * won)[side]
    return [*changed, *[1.0] * (rest // 2), *[0.0] * (rest - rest // 2)]


def sides(tasks: Mapping[str, Flips]) -> tuple[Results, Results]:
    """Baseline and candidate."""
    both = [
        Results(subject=s, harness="h", tasks=tuple(task(t, answers(f, i)) for t, f in tasks.items()))
        for i, s in enumerate(("source", "w4"))
    ]
    return both[0], both[1]


def compared(policy: ComparePolicy, tasks: Mapping[str, Flips]) -> Verdict:
    """The verdict of the compare gate."""
    baseline, candidate = sides(tasks)
    return CompareGate(policy).judge({"baseline.results": baseline, "candidate.results": candidate})
