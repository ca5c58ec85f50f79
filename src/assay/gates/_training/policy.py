"""What a training must show before it may advance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from assay.core.experiment import Tier
from assay.core.gate import Policy


class TrainingPolicy(Policy):
    """What a training must show before it may advance."""

    advance_tier: Literal[Tier.FLOOR, Tier.GOAL, Tier.STRETCH] = Tier.FLOOR
    """Lowest tier that may advance. Which tier ends the iterations is another question, and the loop's."""
    tier: Literal["required", "told"] = "required"
    """`told`: which tier is reached is only told; a loop of experiments asks that of its best one, at its end."""
    checkpoint: Literal["restore", "digest", "none"] = "digest"
    """How the newest and the best checkpoint must have been verified; `none` = no checkpoint is asked for."""
    require_hypothesis: Annotated[bool, Strict()] = True
    """hypothesis.md must have been there, as it is now, when the first attempt began."""
    accept_stopped: Annotated[bool, Strict()] = False
    """A training that was asked to stop counts as ended."""
    iterations_left: Annotated[int, Strict(), Field(ge=0)] | None = None
    """Experiments that the budget still has. 0 turns ITERATE into NEEDS_HUMAN; None = not known."""
    nonfinite_allowed: tuple[str, ...] = ()
    """Metrics whose last value may be NaN or infinite."""
    require_watched: Annotated[bool, Strict()] = False
    """A checker must have watched the newest attempt to its end; otherwise that it did not is only told."""
    claim_tolerance_frac: Annotated[float, Strict(), Field(ge=0, le=0.1)] = 1e-3
    """How much better, relative, result.md may say the primary metric is than the best value recorded of it: rounding."""
