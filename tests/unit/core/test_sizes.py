"""Sizes as a person is told them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.sizes import size


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (449_024, "449 kB"),
        (1_083_136, "1.08 MB"),
        (7e12, "7.00 TB"),
        (None, "-"),
    ],
)
def test_size(count: float | None, shown: str) -> None:
    """Three digits and a decimal unit; what is not known is no number."""
    assert size(count) == shown


@given(st.integers(0, 10**15))
def test_a_size_says_what_is_meant(count: int) -> None:
    """Read back, it is within half a percent."""
    value, unit = size(count).split()
    step = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}[unit]
    assert float(value) * step == pytest.approx(count, rel=0.006)
