"""When a checkpoint is due: by steps, epochs, seconds, or by what a save costs and how often machines fail."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

OVERHEAD_CAP_FRAC = 0.035
"""CheckFreq (Mohan et al., FAST'21): recovery within seconds for 3.5 % of the run time."""
MTBF_S = 6 * 3600.0
"""Mean time between failures where none is declared: between a spot machine's and a workstation's."""
ASSUMED_COST_S = 1.0
"""Of the first save, before one was measured."""


def young_interval_s(cost_s: float, mtbf_s: float, cap_frac: float = OVERHEAD_CAP_FRAC) -> float:
    """Seconds between saves that lose least: sqrt(2 cost MTBF), but never so often that saves take more than the cap.

    Young, "A first order approximation to the optimum checkpoint interval", CACM 17(9), 1974.
    """
    return max(math.sqrt(2.0 * cost_s * mtbf_s), cost_s / cap_frac)


class Cadence:
    """Remembers the last save and what saves cost the training loop.

    Args:
        every_steps: due when a multiple of it was passed since the last save.
        every_epochs: due at the end of every n-th epoch; epochs count from 0, so 10 is due after 9, 19, 29.
        every_s: due when so many seconds passed.
        mtbf_s: due by Young's interval; the default when nothing else is asked for.
        cap_frac: the share of the run time that saves by Young's interval may take.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        every_steps: int | None = None,
        every_epochs: int | None = None,
        every_s: float | None = None,
        mtbf_s: float | None = None,
        cap_frac: float = OVERHEAD_CAP_FRAC,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.every_steps = every_steps
        self.every_epochs = every_epochs
        self.every_s = every_s
        nothing = every_steps is None and every_epochs is None and every_s is None
        self.mtbf_s = MTBF_S if nothing and mtbf_s is None else mtbf_s
        self.cap_frac = cap_frac
        self._clock = clock
        self._costs: deque[float] = deque(maxlen=5)
        self._started = self._saved_at = clock()
        self._last_step: int | None = None
        self._last_epoch: int | None = None
        self.blocked_s = 0.0

    @property
    def cost_s(self) -> float:
        """What a save costs the loop: the mean of the last five."""
        return sum(self._costs) / len(self._costs) if self._costs else ASSUMED_COST_S

    @property
    def overhead_frac(self) -> float:
        """Share of the time since the start that saves took from the loop."""
        return self.blocked_s / max(self._clock() - self._started, 1e-9)

    def interval_s(self) -> float | None:
        """Seconds between saves by time; None if no such rule is set."""
        rules = [self.every_s] if self.every_s is not None else []
        if self.mtbf_s is not None:
            rules.append(young_interval_s(self.cost_s, self.mtbf_s, self.cap_frac))
        return min(rules) if rules else None

    def due(self, step: int, epoch: int | None, *, last: bool = False) -> bool:
        """Whether a save is due now; at the last planned step or epoch it is, once."""
        if last and (step, epoch) != (self._last_step, self._last_epoch):
            return True
        if self.every_steps and step // self.every_steps > (self._last_step or 0) // self.every_steps:
            return True
        ends = self.every_epochs and epoch is not None and (epoch + 1) % self.every_epochs == 0
        if ends and epoch != self._last_epoch:
            return True
        interval = self.interval_s()
        return interval is not None and self._clock() - self._saved_at >= interval

    def saved(self, step: int, epoch: int | None, cost_s: float | None = None) -> None:
        """A save was made (or resumed from) at this step."""
        self._last_step, self._last_epoch = step, epoch
        self._saved_at = self._clock()
        if cost_s is not None:
            self._costs.append(cost_s)
            self.blocked_s += cost_s
