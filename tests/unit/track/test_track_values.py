"""Any value that a script logs becomes strict JSON, and nothing raises."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.track import files, values


class Hostile:
    """A value whose every conversion fails."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __float__(self) -> float:
        raise RuntimeError("no number")

    @property
    def shape(self) -> object:
        """Neither."""
        return self


SCALARS = st.one_of(
    st.floats(width=64),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.booleans(),
    st.none(),
    st.text(),
    st.binary(),
    st.complex_numbers(),
    st.just(Hostile()),
    st.builds(Decimal, st.sampled_from(["1.5", "NaN", "Infinity", "1e999"])),
    st.floats(width=32).map(np.float32),
    st.integers(0, 255).map(np.uint8),
    st.floats(width=32).map(torch.tensor),
    st.lists(st.floats(), max_size=3).map(np.array),
)
KEYS = st.one_of(st.text(), st.integers(), st.none(), st.just("\ud800"), st.binary())
METRICS = st.recursive(SCALARS, lambda inner: st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


def strict(line: bytes) -> Any:
    """Parse as a reader that knows no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(line.decode("ascii"), parse_constant=refuse)


@given(METRICS)
def test_any_value_is_one_line_of_strict_json(metrics: Any) -> None:
    """Whatever is logged: one line, strict JSON, numbers or null, and each null is named."""
    for given_values in (metrics, values.settle(metrics)):
        found = values.numbers(given_values)
        line = files.encode({"event": "step", **found.fields()})
        assert line.count(b"\n") == 1
        row = strict(line)
        for name, value in row["metrics"].items():
            assert value is not None or row["nonfinite"][name] in ("nan", "inf", "-inf")
            assert value is None or math.isfinite(value)


@given(METRICS.filter(lambda m: not isinstance(m, dict) or len({str(k) for k in m}) == len(m)))
def test_settling_first_changes_nothing(metrics: Any) -> None:
    """What the training thread hands over gives the same row as the metrics themselves; of names that are
    written alike, such as None and "None", either may win.
    """
    once, twice = values.numbers(metrics), values.numbers(values.settle(metrics))
    assert (once.bad, once.other) == (twice.bad, twice.other)
    assert once.finite == twice.finite


@given(METRICS)
def test_any_configuration_is_strict_json(config: Any) -> None:
    """A configuration of any kind can be frozen."""
    assert strict(files.encode({"config": values.plain(config)}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.tensor(2.5), 2.5),
        (torch.tensor([3]), 3),
        (torch.nn.Parameter(torch.tensor(1.5)), 1.5),
        (np.float64(0.5), 0.5),
        (np.array([4]), 4),
        (True, 1),
        (Decimal("0.25"), 0.25),
        ("0.5", None),
        (None, None),
        (1j, None),
        (torch.zeros(2), None),
        (2**60, float(2**60)),
        (10**400, math.inf),
    ],
)
def test_numbers(value: Any, expected: float | None) -> None:
    """One-element tensors and arrays are numbers; text is not parsed."""
    assert values.number(value) == expected


def test_nested_metrics_are_joined() -> None:
    """`{"val": {"loss": 1}}` is the metric `val/loss`."""
    assert values.numbers({"val": {"loss": 1.0}}).finite == {"val/loss": 1.0}


def test_what_is_no_number_is_named() -> None:
    """Text and arrays are kept as short texts beside the metrics."""
    found = values.numbers({"note": "warm", "w": np.zeros((3, 2)), "loss": float("inf")})
    assert found.other == {"note": "warm", "w": "ndarray of shape (3, 2)"}
    assert found.finite == {"loss": None}
    assert found.bad == {"loss": "inf"}


class OnDevice:
    """A tensor that says it lies on an accelerator and counts who waits for it."""

    waits = 0

    def __init__(self, value: float) -> None:
        self.value = value
        self.device = type("Device", (), {"type": "xpu", "__str__": lambda _: "xpu:0"})()
        self.dtype = "float32"

    def detach(self) -> OnDevice:
        """Without graph."""
        return self

    def clone(self) -> OnDevice:
        """As it is now."""
        return OnDevice(self.value)

    def numel(self) -> int:
        """One."""
        return 1

    def item(self) -> float:
        """Wait for the device."""
        OnDevice.waits += 1
        return self.value


def test_a_tensor_on_a_device_is_not_read_in_the_loop() -> None:
    """Settling keeps it as it is now; only fetching waits; later changes do not show."""
    OnDevice.waits = 0
    tensor = OnDevice(1.0)
    settled = values.settle({"loss": tensor, "lr": 0.1})
    tensor.value = 9.0
    assert OnDevice.waits == 0
    held = settled["loss"]
    assert values.fetch([held]) == {id(held): 1.0}


def test_kept_tensors_are_read_with_one_transfer() -> None:
    """Many kept tensors of a kind are stacked and read at once."""
    kept = [values.Kept(torch.tensor(float(i)), None) for i in range(5)]
    kept.append(values.Kept(torch.tensor([7], dtype=torch.int64), None))
    assert [values.fetch(kept)[id(k)] for k in kept] == [0.0, 1.0, 2.0, 3.0, 4.0, 7]
