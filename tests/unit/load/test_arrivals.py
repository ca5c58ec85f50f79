"""Schedules of open loops, and traces."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assay.core.errors import UnreadableInput, UsageError
from assay.core.load import Arrivals
from assay.load.arrivals import TraceRow, read_trace, schedule


def gaps(arrivals: Arrivals, number: int = 4000) -> np.ndarray:
    """The first gaps of a schedule."""
    return np.diff(list(itertools.islice(schedule(arrivals, 3), number)))


def test_constant_arrivals_do_not_drift() -> None:
    """The millionth is where it belongs."""
    times = schedule(Arrivals(kind="constant", rate_rps=300), 0)
    assert next(itertools.islice(times, 999_999, None)) == pytest.approx(999_999 / 300, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "burstiness", "cv"), [("poisson", 1.0, 1.0), ("gamma", 0.25, 2.0), ("gamma", 4.0, 0.5)]
)
def test_gaps_have_the_rate_and_the_burstiness(kind: str, burstiness: float, cv: float) -> None:
    """Mean 1 / rate; coefficient of variation 1 / sqrt(shape)."""
    found = gaps(Arrivals.model_validate({"kind": kind, "rate_rps": 20, "burstiness": burstiness}))
    assert found.mean() == pytest.approx(0.05, rel=0.12)
    assert found.std() / found.mean() == pytest.approx(cv, rel=0.12)


def test_the_same_seed_gives_the_same_schedule() -> None:
    """And another seed another one."""
    arrivals = Arrivals(kind="poisson", rate_rps=5)
    first, again, other = (list(itertools.islice(schedule(arrivals, s), 50)) for s in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "closed"},
        {"kind": "closed", "concurrency": 4, "rate_rps": 2},
        {"kind": "poisson", "concurrency": 4, "rate_rps": 2},
        {"kind": "poisson"},
        {"kind": "trace", "rate_rps": 2},
    ],
)
def test_a_rate_under_a_cap_is_refused(values: dict[str, object]) -> None:
    """It would silently become a closed loop."""
    with pytest.raises(ValidationError, match="silently become a closed loop"):
        Arrivals.model_validate(values)


def test_traces_of_both_spellings(tmp_path: Path) -> None:
    """Mooncake's milliseconds, seconds, other names; sorted and moved to 0; speed divides."""
    file = tmp_path / "trace.jsonl"
    rows = [
        {"timestamp": 3000, "input_length": 100, "output_length": 10},
        {"timestamp_s": 1.0, "prompt_tokens": 5},
        {"timestamp": 2000, "ContextTokens": 7, "GeneratedTokens": 8},
    ]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    trace = read_trace(file)
    assert trace == (TraceRow(0.0, 5, None), TraceRow(1.0, 7, 8), TraceRow(2.0, 100, 10))
    assert list(schedule(Arrivals(kind="trace", speed=4.0), 0, trace)) == [0.0, 0.25, 0.5]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "[1]",
        "3",
        '{"timestamp": -1}',
        '{"timestamp": NaN}',
        '{"timestamp": 1, "input_length": 0}',
        '{"timestamp": "x"}',
        "[" * 100_000,
    ],
)
def test_bad_traces_are_refused_with_their_line(tmp_path: Path, line: str) -> None:
    """Never another exception."""
    file = tmp_path / "trace.jsonl"
    file.write_text(line)
    with pytest.raises(UnreadableInput):
        read_trace(file)


@given(st.binary(max_size=100))
def test_any_bytes_as_a_trace(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """A trace or UnreadableInput."""
    file = tmp_path_factory.mktemp("t") / "x"
    file.write_bytes(data)
    with contextlib.suppress(UnreadableInput):
        assert read_trace(file)


def test_a_trace_without_rows_cannot_be_played() -> None:
    """The message says what is missing."""
    with pytest.raises(UsageError, match="need a trace file"):
        schedule(Arrivals(kind="trace"), 0)
