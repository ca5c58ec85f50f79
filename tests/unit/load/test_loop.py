"""The measuring loop: timers finer than a millisecond, stamps, and its own lateness."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from assay.load.loop import MeasuringLoop, StampedSelector


@given(st.lists(st.integers(50_000_000, 5_000_000_000), min_size=1, max_size=20), st.floats(0.5, 0.999))
def test_lag_is_the_quantile_of_waits_at_random_moments(spans: list[int], q: float) -> None:
    """Against brute force: events at a fine grid of moments over the busy spans and the idle rest."""
    selector = StampedSelector()
    watched = 2 * sum(spans)
    selector._spans.extend(spans)
    selector._since_ns = time.perf_counter_ns() - watched
    found = selector.lag_ms(q)
    waits = np.concatenate(
        [np.zeros(20_000), *[np.linspace(0, s, max(2, 20_000 * s // sum(spans))) for s in spans]]
    )
    expected = float(np.quantile(waits, q)) / 1e6
    selector.close()
    assert abs(found - expected) <= 0.03 * max(spans) / 1e6 + 0.01


def test_a_blocked_loop_is_seen() -> None:
    """50 ms of work show as 50 ms of lateness; an idle loop shows none."""
    loop = MeasuringLoop()

    async def work(block: bool) -> None:
        loop.stamps.watch()
        for _ in range(4):
            await asyncio.sleep(0.01)
            if block:
                time.sleep(0.05)  # noqa: ASYNC251 - that is the point
        await asyncio.sleep(0)

    try:
        loop.run_until_complete(work(block=True))
        assert loop.stamps.longest_ms() >= 50
        assert loop.stamps.lag_ms(0.99) > 40
        loop.run_until_complete(work(block=False))
        assert loop.stamps.lag_ms(0.5) < 10
    finally:
        loop.close()


def test_timers_are_finer_than_a_millisecond() -> None:
    """The median of 40 sleeps of 300 microseconds is below a millisecond, which epoll alone cannot do."""
    loop = MeasuringLoop()

    async def sleeps() -> list[float]:
        taken = []
        for _ in range(40):
            begin = time.perf_counter()
            await asyncio.sleep(0.0003)
            taken.append(time.perf_counter() - begin)
        return taken

    try:
        taken = sorted(loop.run_until_complete(sleeps()))
    finally:
        loop.close()
    assert 0.0002 < taken[20] < 0.001


def test_longer_sleeps_end_when_they_should() -> None:
    """A sleep of 25 ms is not ended early by the coarse part of the wait."""
    loop = MeasuringLoop()
    try:
        begin = time.perf_counter()
        loop.run_until_complete(asyncio.sleep(0.025))
        assert time.perf_counter() - begin >= 0.0249
    finally:
        loop.close()
