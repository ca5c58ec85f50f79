"""How a search for a text goes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assay.core.base import Noun
from assay.evolving.sections import By

TIE = 1e-12


class Rules(Noun):
    """How a search goes."""

    minibatch: int = Field(default=3, ge=1)
    """Train tasks on which a change is tried first, together with the text that it changes."""
    repeats: int = Field(default=1, ge=1)
    """Runs of each task and text there."""
    select_repeats: int = Field(default=1, ge=1)
    """Runs of each selecting task and kept text."""
    ties: int = Field(default=1, ge=0)
    """Further minibatches while both are equal: a change may not matter to the first few tasks."""
    fresh: bool = True
    """Draw parent and child anew for every try. False = a text's run of a task is done once and used again: right for
    an agent without chance, and half the runs."""
    accept: Literal["better", "not_worse", "better_or_shorter"] = "better"
    """What is kept after a minibatch; `better_or_shorter` keeps, and may pick, what is as good and shorter."""
    parent: Literal["pareto", "best", "epsilon-greedy"] = "pareto"
    """Which text is changed next."""
    epsilon: float = Field(default=0.1, ge=0, le=1)
    """Of `epsilon-greedy`."""
    patience: int | None = Field(default=None, ge=1)
    """Runs without a better mean on the selecting tasks; then the search ends. None = it goes on to its budget."""
    pick: Literal["smallest", "best"] = "smallest"
    """Which text is picked of those that are nearly as good as the best."""
    knee: float | None = Field(default=None, ge=0)
    """How near that is, as a difference of means; None = 1 / selecting tasks."""
    tolerance: float = Field(default=0.0, ge=0, le=1)
    """Of `minimize`: mean loss over all tasks that still counts as the same behaviour. Gains never make up for it."""
    by: By | None = None
    """Of `minimize`: parts that are left out first, before single lines; None = the coarsest there are."""
