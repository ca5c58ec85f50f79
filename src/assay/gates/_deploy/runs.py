"""From runs to counts: what is missing, doubled, contradictory or meddled with is found here, and never dropped.

A run that taught nothing (infra error) is no failure in an estimate. Where the question is whether the candidate is
better it counts as failed, so that a text under which runs vanish cannot win by that. An agent that broke down, ran
out of time, or touched a deciding file has failed, on either side.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from assay.core.agent import BASELINE, CANDIDATE, EMPTY, AgentOutcome, AgentRun, AgentRuns
from assay.core.vocabulary import FailureClass

JUDGED = (BASELINE, CANDIDATE)
BROKEN_DOWN = (AgentOutcome.AGENT_ERROR, AgentOutcome.AGENT_TIMEOUT)
_PLACES_TELL = 5
"""Runs per arm from which on "all of one arm before all of the other" is no chance."""


class Flaw(NamedTuple):
    """Why runs cannot be judged."""

    text: str
    failure: FailureClass
    where: str = ""


@dataclass(frozen=True)
class Cell:
    """The runs of one task with one text."""

    scores: tuple[float, ...]
    """Of the runs that taught something, sorted."""
    lost: int
    """Runs that taught nothing."""

    @property
    def runs(self) -> int:
        """Runs that taught something."""
        return len(self.scores)

    @property
    def total(self) -> float:
        """Sum of the scores: the passes, where scores are 0 and 1."""
        return math.fsum(self.scores)

    @property
    def rate(self) -> float:
        """Mean score."""
        return self.total / self.runs

    def worst(self) -> Cell:
        """The same with lost runs as failures."""
        return Cell(tuple(sorted((*self.scores, *[0.0] * self.lost))), 0)


@dataclass(frozen=True)
class Arm:
    """One text over the judged tasks."""

    name: str
    cells: Mapping[str, Cell]
    runs: int
    lost: int
    broken: int
    """Runs in which the agent broke down or ran out of time."""
    tampered: int

    @property
    def binary(self) -> bool:
        """Whether every score is 0 or 1."""
        return all(s in (0.0, 1.0) for c in self.cells.values() for s in c.scores)

    @property
    def rate(self) -> float:
        """Mean over tasks."""
        return math.fsum(c.rate for c in self.cells.values()) / len(self.cells)  # in any order the same

    def only(self, tasks: Collection[str]) -> Arm:
        """The arm over some of its tasks."""
        return replace(self, cells={t: c for t, c in self.cells.items() if t in tasks})

    def steady(self) -> bool:
        """Whether every task ended alike in all of two repeats or more."""
        return all(c.runs > 1 and len(set(c.scores)) == 1 for c in self.cells.values())


def score_of(run: AgentRun) -> float:
    """What a run that taught something counts: meddling and breaking down are failures."""
    if run.tampered or run.outcome in BROKEN_DOWN or run.score is None:
        return 0.0
    return run.score


def judged_tasks(evidence: AgentRuns) -> tuple[str, ...]:
    """The tasks that count: canaries prove delivery and nothing else."""
    return tuple(t for t in evidence.tasks if t not in evidence.canaries)


def gather(evidence: AgentRuns, name: str) -> Arm:
    """The runs of an arm, counted."""
    cells, runs = {}, []
    for task in judged_tasks(evidence):
        mine = [r for r in evidence.runs if r.arm == name and r.task == task]
        learned = sorted(score_of(r) for r in mine if r.learned)
        cells[task] = Cell(tuple(learned), len(mine) - len(learned))
        runs += mine
    return Arm(
        name=name,
        cells=cells,
        runs=len(runs),
        lost=sum(not r.learned for r in runs),
        broken=sum(r.outcome in BROKEN_DOWN for r in runs),
        tampered=sum(bool(r.tampered) for r in evidence.runs if r.arm == name),
    )


def accounting(evidence: AgentRuns, needed: Sequence[str]) -> list[Flaw]:
    """What is wrong with the books: arms, runs that are missing, twice, foreign or contradict themselves.

    Args:
        evidence: the runs.
        needed: arms that must be whole.
    """
    out: list[Flaw] = []
    lacking = [a for a in needed if not evidence.repeats.get(a)]
    if lacking:
        return [_books(f"there are no runs of the arm {lacking[0]!r}")]
    if len(set(evidence.tasks)) < len(evidence.tasks):
        out.append(_books("a task stands twice in the plan"))
    if strange := sorted(set(evidence.canaries) - set(evidence.tasks)):
        out.append(_books(f"the canary {strange[0]!r} is none of the tasks"))
    if not judged_tasks(evidence):
        out.append(_books("there is no task beside canaries"))
    if twice := [k for k, n in Counter(r.key for r in evidence.runs).items() if n > 1]:
        out.append(_books(f"repeat {min(twice)[2]} of {min(twice)[1]} is there twice", min(twice)[0]))
    seen = Counter((r.task, r.arm) for r in evidence.runs)
    for (task, arm), n in sorted(seen.items()):
        if task not in evidence.tasks or not evidence.planned(arm, task):
            out.append(_books(f"a run of {arm!r} that nobody planned", task))
        elif n > evidence.planned(arm, task):
            out.append(_books(f"{n} runs of {arm} where {evidence.planned(arm, task)} were planned", task))
    for arm in needed:
        for task in evidence.tasks:
            planned = evidence.planned(arm, task)
            if evidence.canary_repeats is None and task in evidence.canaries:
                # a canary proves delivery by a run or two; what decides must be whole
                planned = min(1, planned)
            if seen[task, arm] < planned:
                text = f"{seen[task, arm]} runs of {arm} where {planned} were planned"
                out.append(_books(text, task))
    return out + [f for r in evidence.runs if (f := _contradiction(r, evidence)) is not None]


def interleaved(evidence: AgentRuns, arms: Sequence[str] = JUDGED) -> list[Flaw]:
    """Whether two arms were run at the same time, as far as the runs tell."""
    first, second = arms
    counted = [r for r in evidence.runs if r.task not in evidence.canaries]
    blocks = {a: Counter((r.block, r.task) for r in counted if r.arm == a) for a in arms}
    if blocks[first] != blocks[second]:
        text = f"{first} and {second} were not run in the same blocks: what changed meanwhile counts as the text's"
        return [Flaw(text, FailureClass.NOT_COMPARABLE)]
    places = {a: [r.place for r in counted if r.arm == a] for a in arms}
    apart = max(places[first]) < min(places[second]) or max(places[second]) < min(places[first])
    if apart and min(map(len, places.values())) >= _PLACES_TELL:
        text = f"all runs of one arm lie before those of the other: {first} and {second} must be interleaved"
        return [Flaw(text, FailureClass.NOT_COMPARABLE)]
    return []


def has_arm(evidence: AgentRuns, arm: str) -> bool:
    """Whether any run with that text was planned, be it of canaries only."""
    return any(evidence.planned(arm, task) for task in evidence.tasks)


def canary_passes(evidence: AgentRuns, arm: str) -> tuple[int, int]:
    """Passes and runs of an arm's canaries that taught something."""
    runs = [r for r in evidence.of(arm) if r.task in evidence.canaries and r.learned]
    return sum(score_of(r) == 1.0 for r in runs), len(runs)


def commonest(runs: Iterable[AgentRun]) -> str:
    """How most of these runs ended, to be added to a sentence; empty where nothing was told."""
    told = Counter(r.reason for r in runs if r.reason)
    return f": {told.most_common(1)[0][0][:300]}" if told else ""


def delivery(evidence: AgentRuns, arms: Sequence[str], rate: float, *, required: bool) -> list[Flaw]:
    """Whether the text reaches the agent: canaries pass with each of the texts, and not without one.

    Args:
        evidence: the runs.
        arms: arms whose canaries must pass.
        rate: least share that passes with a text; without one fewer must pass.
        required: whether having no canary at all is a flaw.
    """
    if not evidence.canaries:
        text = "no task is marked `canary`: nothing proves that the text reaches the agent"
        return [Flaw(text, FailureClass.USER_CONFIG_ERROR)] if required else []
    out = []
    counted = {a: canary_passes(evidence, a) for a in (*arms, BASELINE)}
    arrived = {a: runs > 0 and passes >= rate * runs for a, (passes, runs) in counted.items()}
    told = {a: f"{passes} of {runs} times" for a, (passes, runs) in counted.items()}
    for arm in (a for a in arms if not arrived[a]):
        if arm == CANDIDATE and arrived[BASELINE]:
            text = (
                f"canaries pass {told[BASELINE]} with the baseline and {told[arm]} with the candidate: it broke what "
                "they ask for; `search.limits.anchors` keeps a line"
            )
            out.append(Flaw(text, FailureClass.NOT_COMPARABLE))
            continue
        how = commonest(r for r in evidence.of(arm) if r.task in evidence.canaries and not r.passed)
        text = f"the text does not reach the agent: canaries of {arm} pass {told[arm]}{how}"
        out.append(Flaw(text, FailureClass.SYSTEMIC))
    if has_arm(evidence, EMPTY):
        passes, runs = canary_passes(evidence, EMPTY)
        if not runs:
            out.append(Flaw("no canary was run without the text", FailureClass.SAMPLE_ACCOUNTING_FAILED))
        elif passes >= rate * runs:
            text = f"canaries pass without the text, {passes} of {runs} times: they prove nothing"
            out.append(Flaw(text, FailureClass.USER_CONFIG_ERROR))
    return out


def _contradiction(run: AgentRun, evidence: AgentRuns) -> Flaw | None:
    """A run that says two things at once."""
    where = f"{run.task}, {run.arm}, repeat {run.rep}"
    if run.text and evidence.texts.get(run.arm, run.text) != run.text:
        return _books("it was run with another text than its arm's", where)
    if not run.learned:
        return None if run.score is None else _books("an infra error has a score", where)
    if run.passed and not run.score:
        return _books(f"it passed and its score is {run.score}", where)
    if run.outcome is AgentOutcome.TASK_FAIL and run.score == 1.0:
        return _books("it failed and its score is 1", where)
    return None


def _books(text: str, where: str = "") -> Flaw:
    return Flaw(text, FailureClass.SAMPLE_ACCOUNTING_FAILED, where)
