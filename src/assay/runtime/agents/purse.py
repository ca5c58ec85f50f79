"""Money of a study: what is spent, over all its steps and however often it was resumed, and what may be.

What was spent is read from the journals, in which every run and every proposal stands once: a run that a kill cut off
counts when it is done again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from assay.core.agent import AgentRun
from assay.runtime.agents.journal import recorded_lines, recorded_runs
from assay.runtime.agents.told import amount

RUNS, PROPOSALS = "runs.jsonl", "search.jsonl"
"""Journals of a step: of agents, and of what a search was answered."""
WARN_AT = (0.5, 0.8)
"""Shares of a cap that are told when they are passed."""
_TRIAL = re.compile(r"trial-\d+")


@dataclass
class Spent:
    """A sum, told apart by how it is known."""

    told: float = 0.0
    assumed: float = 0.0
    tellers: int = 0
    """Runs and calls that told a cost."""
    runs: int = 0
    for_runs: float = 0.0
    """What of it runs cost."""

    @property
    def cost(self) -> float:
        """Told and assumed."""
        return self.told + self.assumed

    def run(self, run: AgentRun, price: float | None) -> bool:
        """Count a run; False where it told no cost and no price is known."""
        assumed = run.assumed(price)
        self.runs += 1
        self.for_runs += (run.cost or 0.0) + (assumed or 0.0)
        self._add(run.cost, assumed or 0.0)
        return assumed is not None

    def call(self, cost: float | None, price: float | None) -> bool:
        """Count a proposal, as `run`."""
        self._add(cost, (price or 0.0) if cost is None else 0.0)
        return cost is not None or price is not None

    def _add(self, cost: float | None, assumed: float) -> None:
        self.told += cost or 0.0
        self.tellers += cost is not None
        self.assumed += assumed


@dataclass
class Purse:
    """What a study may spend, and what it has spent so far.

    Args:
        cap: most that the study may cost; None = no cap.
        price: assumed of an attempt that tells no cost; None = unknown, which is not 0.
        before: what the other steps of the study have spent.
    """

    cap: float | None = None
    price: float | None = None
    before: Spent = field(default_factory=Spent)
    mine: Spent = field(default_factory=Spent)
    _warned: float = 0.0

    def __post_init__(self) -> None:
        self._warned = max((s for s in WARN_AT if self.cap and self.before.cost >= s * self.cap), default=0.0)

    @property
    def cost(self) -> float:
        """All that is spent."""
        return self.before.cost + self.mine.cost

    @property
    def left(self) -> float | None:
        """What may still be spent; None without a cap."""
        return None if self.cap is None else round(self.cap - self.cost, 9)

    @property
    def per_run(self) -> float:
        """What a further run is expected to cost: as those so far, else as the price says."""
        runs = self.before.runs + self.mine.runs
        return (self.before.for_runs + self.mine.for_runs) / runs if runs else self.price or 0.0

    def warn(self, tell: Callable[[str], None]) -> None:
        """Tell each share of the cap once that was passed since."""
        for share in WARN_AT:
            if self.cap and self._warned < share <= round(self.cost / self.cap, 9):
                self._warned = share
                assumed = self.before.assumed + self.mine.assumed
                part = f", {assumed:.4g} of it assumed" if assumed else ""
                tell(
                    f"warning: {share:.0%} of the money of this study is used: {self.cost:.4g} of {self.cap:g}{part}"
                )


def spent_before(workdir: Path, price: float | None) -> Spent:
    """What the other steps of a study have spent; nothing where the folder belongs to none.

    Args:
        workdir: folder of a step, below that of its trial and its study.
        price: assumed of an attempt that told no cost.

    Raises:
        UnreadableInput: if a journal of another step cannot be read.
    """
    found = Spent()
    if not _TRIAL.fullmatch(workdir.parent.name):
        return found
    for step in sorted(workdir.parent.parent.glob("trial-*/*")):
        if step == workdir:
            continue
        for run in recorded_runs(step / RUNS):
            found.run(run, price)
        for line in recorded_lines(step / PROPOSALS):
            if line.get("line") == "answer":
                found.call(amount(line.get("charged")), None)
    return found
