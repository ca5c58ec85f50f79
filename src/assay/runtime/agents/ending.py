"""How an attempt ended, and the record that is made of it."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field

from assay.core.agent import AgentOutcome, AgentRun
from assay.core.canon import digest_bytes
from assay.core.run import Run
from assay.core.suite import PYTHON, Task
from assay.runtime.agents.told import Told
from assay.runtime.verifier import Judged

SAID_CHARS = 4_096
"""Most that is kept of what an agent or a verifier said; the end of it."""


@dataclass(frozen=True)
class Asked:
    """What one run is."""

    task: Task
    text: str
    arm: str
    rep: int
    seed: int
    block: int
    place: int


@dataclass(frozen=True)
class Ending:
    """What became of one attempt."""

    outcome: AgentOutcome
    reason: str
    told: Told = field(default_factory=Told)
    wall_s: float | None = None
    tampered: tuple[str, ...] = ()
    feedback: str = ""
    again: bool = False
    """Whether another attempt may find out more."""
    judge: tuple[float | None, ...] = ()
    """What the judge told that it cost; empty where it told nothing of a cost."""

    @property
    def costs(self) -> tuple[float | None, ...]:
        """Of agent and judge; None = unknown."""
        return self.told.cost, *self.judge


def recorded(asked: Asked, endings: Sequence[Ending], started: str) -> AgentRun:
    """The run, from its last attempt; its cost is that of all."""
    ending = endings[-1]
    told = ending.told
    known = [c for e in endings for c in e.costs if c is not None]
    scores = {AgentOutcome.PASS: 1.0, AgentOutcome.INFRA_ERROR: None}
    return AgentRun(
        task=asked.task.task_id,
        arm=asked.arm,
        rep=asked.rep,
        block=asked.block,
        place=asked.place,
        outcome=ending.outcome,
        score=scores.get(ending.outcome, 0.0),
        reason=plain(ending.reason)[:400],
        text=digest_bytes(asked.text.encode("utf-8", "surrogateescape")),
        attempts=len(endings),
        cost=math.fsum(known) if known else None,
        untold=sum(None in e.costs for e in endings),
        input_tokens=told.input_tokens,
        output_tokens=told.output_tokens,
        wall_s=ending.wall_s,
        tools=tuple(plain(t)[:200] for t in told.tools or ()),
        tampered=tuple(plain(t) for t in ending.tampered),
        said=tail(told.final_text, SAID_CHARS),
        feedback=ending.feedback,
        started=started,
    )


def by_told(told: Told, ran: Run) -> Ending | None:
    """How it ended, where what it told settles that; None where its work is to be judged."""
    if told.status == "infra_error":
        return Ending(AgentOutcome.INFRA_ERROR, told.error or "the agent says so", told, again=True)
    if told.status == "timeout":
        return Ending(AgentOutcome.AGENT_TIMEOUT, told.error or "the agent says so", told)
    if told.status == "agent_error":
        return Ending(AgentOutcome.AGENT_ERROR, told.error or f"exit code {ran.exit_code}", told)
    if told.status == "" and ran.exit_code != 0:
        return Ending(AgentOutcome.AGENT_ERROR, told.error or f"exit code {ran.exit_code}", told)
    return None


def never_there(judged: Judged, task: Task) -> bool:
    """Whether the verifier's program is missing on this machine; a relative one may be the agent's doing."""
    name = task.verifier.command[0] if task.verifier.command else ""
    return judged.missing and os.sep not in name and name != PYTHON and shutil.which(name) is None


def reason_of(judged: Judged) -> str:
    """Why a verifier said no."""
    if judged.flooded:
        return "the verifier printed without end and was stopped"
    if judged.timed_out:
        return "the verifier ran into its time limit"
    if judged.exit_code is None:
        return (
            "an expected file is not as it should be" if not judged.missing else "the verifier is not there"
        )
    return f"the verifier ended with exit code {judged.exit_code}"


def tail(text: str, limit: int) -> str:
    """The end of a text."""
    return plain(text[-limit:])


def plain(text: str) -> str:
    """Text that every file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
