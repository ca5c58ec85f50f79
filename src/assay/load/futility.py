"""Is a load point lost already? Only a clear case ends it: what is measured on would be paid for and decide nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from assay.core.load import Metric, RequestError, ServiceLevel, ServiceLevels
from assay.load.connection import Exchange
from assay.stats.percentiles import limit_test

INFEASIBLE = "infeasible"
"""Why such a point stopped."""
CONFIDENCE = 0.999
"""One-sided; it is asked after every late request, and no point may be lost to that."""


@dataclass
class Futility:
    """Counts what is late and what failed.

    Args:
        levels: what good service means.
        planned: measured requests of the point; None = time ends it, and only confidence decides.
        failed_frac: share of them that may fail.
    """

    levels: ServiceLevels
    planned: int | None
    failed_frac: float = 0.0
    _late: Counter[str] = field(default_factory=Counter, init=False)
    _n: int = field(default=0, init=False)
    _failed: int = field(default=0, init=False)

    def lost(self, intended_ns: int, exchange: Exchange | None) -> bool:
        """Take note of a measured request that ended; whether the point cannot be saved any more."""
        error = RequestError.CONNECT if exchange is None else exchange.reply.error
        if error is RequestError.CANCELLED:
            return False
        self._n += 1
        if error is not None or exchange is None:
            self._failed += 1
            return self.planned is not None and self._failed > self.failed_frac * self.planned
        missed = [self._missed(x, intended_ns, exchange) for x in self.levels.levels]  # each one counts
        return any(missed)

    def _missed(self, level: ServiceLevel, intended_ns: int, exchange: Exchange) -> bool:
        value = _latency_ms(level.metric, intended_ns, exchange)
        if value is None or value <= level.limit_ms:
            return False
        self._late[level.text] += 1
        late = self._late[level.text]
        # both: more than all planned requests may be late, and more than chance explains
        certain = self.planned is None or late > (1.0 - level.q) * self.planned
        return certain and limit_test(late, self._n, level.q, CONFIDENCE).missed


def _latency_ms(metric: Metric, intended_ns: int, exchange: Exchange) -> float | None:
    """As `RequestRecord.latency_ms`, without a record: this is asked while others are under way."""
    stamps, tokens = exchange.reply.stamps, exchange.reply.output_tokens or 0
    if not stamps or exchange.end_ns is None:
        return None
    if metric is Metric.TTFT:
        return (stamps[0] - intended_ns) / 1e6
    if metric is Metric.E2E:
        return (exchange.end_ns - intended_ns) / 1e6
    if metric is Metric.ITL:
        return (stamps[-1] - stamps[0]) / 1e6 / (len(stamps) - 1) if len(stamps) > 1 else None
    return (stamps[-1] - stamps[0]) / 1e6 / (tokens - 1) if tokens > 1 else None
