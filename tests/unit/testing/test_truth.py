"""The simulated engine's truth, as functions."""

from __future__ import annotations

import statistics

import pytest

from assay.testing.truth import Truth


def test_throughput_grows_with_slots_and_less_than_in_proportion() -> None:
    """Weights are read once for the whole batch, prompts one after the other."""
    speeds = [Truth(slots=n).throughput_tps(128, 64, 16) for n in (1, 2, 4, 8)]
    assert speeds == sorted(speeds)
    assert speeds[3] < 8 * speeds[0]


def test_slots_beyond_the_concurrency_change_nothing() -> None:
    """An inert knob."""
    assert Truth(slots=4).throughput_tps(64, 32, 1) == Truth(slots=1).throughput_tps(64, 32, 1)


def test_memory_decides_what_fits() -> None:
    """Weights, KV cache of all slots, process."""
    truth = Truth(slots=4, context_tokens=1000, weights_bytes=1e6, kv_bytes_per_token=10, fixed_bytes=1e6)
    assert truth.needed_bytes == 2e6 + 40_000
    assert Truth(slots=4, memory_bytes=1e6).fits is False


def test_noise_has_its_sizes_and_is_repeatable() -> None:
    """10 % between launches, 3 % within one; the same launch and reading give the same figure."""
    truth = Truth(cv_between=0.1, cv_within=0.03, seed=5)
    between = [truth.factor(n) for n in range(3000)]
    within = [truth.factor(1, n) for n in range(3000)]
    assert statistics.stdev(between) / statistics.mean(between) == pytest.approx(
        (0.1**2 + 0.03**2) ** 0.5, rel=0.06
    )
    assert statistics.stdev(within) / statistics.mean(within) == pytest.approx(0.03, rel=0.06)
    assert truth.factor(7, 3) == truth.factor(7, 3)
    assert truth.reading_tps(64, 32, 4, launch=7, reading=3) == pytest.approx(
        truth.throughput_tps(64, 32, 4) * truth.factor(7, 3)
    )


def test_drift_takes_its_share_by_the_last_launch() -> None:
    """17 % over 40 launches, linear, and no further."""
    truth = Truth(drift_frac=0.17, drift_over=40)
    assert [round(truth.factor(n), 4) for n in (0, 20, 40, 80)] == [1.0, 0.915, 0.83, 0.83]
