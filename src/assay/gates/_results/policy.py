"""What a run must show before its numbers count."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from assay.core.gate import Policy


class ResultsPolicy(Policy):
    """What a run must show before its numbers count."""

    expected: Mapping[str, int] = {}
    """Samples per task that were asked for; wins over what the run says of itself."""
    limit_declared: bool = False
    """The evaluation was meant to run on a part of each task. Otherwise a limit that was left on fails, unless
    `expected` says how many samples the limited task must have."""
    mean_tolerance_frac: float = 1e-6
    """Largest difference between the reported score and the mean of the rows, as a share of the range."""
    truncated_max_frac: float = Field(default=0.05, ge=0, le=1)
    """Largest share of answers that may be cut off at a limit of tokens or time, or not fit the context."""
    http_failed_max_frac: float = Field(default=0.01, ge=0, le=1)
    """Largest share of requests that may end with an error status."""
    model_failures_max_frac: float = Field(default=0.5, ge=0, le=1)
    """Largest share of answers that may be empty or ended by a limit of turns, tokens or time."""
    constant_min: int = Field(default=20, ge=2)
    """From this number of rows on, one and the same score on all of them is suspicious."""
    constant_allowed: tuple[str, ...] = ()
    """Tasks of which a constant score is believed, such as one that nobody solves yet."""
