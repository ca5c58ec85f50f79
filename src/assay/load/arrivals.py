"""When requests are to be sent: seconds from the beginning, in order."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.errors import UnreadableInput, UsageError
from assay.core.load import Arrivals

MOST_TRACE_BYTES = 256 << 20
_PROMPT_NAMES = ("prompt_tokens", "input_length", "input_tokens", "ContextTokens", "isl")
_OUTPUT_NAMES = ("output_tokens", "output_length", "GeneratedTokens", "osl")


class TraceRow(NamedTuple):
    """One request of a recorded trace."""

    at_s: float
    prompt_tokens: int | None
    output_tokens: int | None


def schedule(arrivals: Arrivals, seed: int, trace: tuple[TraceRow, ...] = ()) -> Iterator[float]:
    """Send times of an open loop, without end unless it is a trace.

    Raises:
        UsageError: if the load is a closed loop, or a trace without rows.
    """
    if arrivals.kind == "trace":
        if not trace:
            raise UsageError("arrivals `trace` need a trace file", next="name one with `trace`")
        return (row.at_s / arrivals.speed for row in trace)
    if arrivals.rate_rps is None:
        raise UsageError("a closed loop has no schedule")
    return _gaps(arrivals, arrivals.rate_rps, random.Random(f"{seed}/arrivals"))  # noqa: S311 - not for secrets


def _gaps(arrivals: Arrivals, rate: float, rng: random.Random) -> Iterator[float]:
    at, number = 0.0, 0
    while True:
        yield at
        number += 1
        if arrivals.kind == "constant":
            at = number / rate  # no sum of rounding errors
        elif arrivals.kind == "poisson":
            at += rng.expovariate(rate)
        else:
            at += rng.gammavariate(arrivals.burstiness, 1.0 / (arrivals.burstiness * rate))


def read_trace(path: Path) -> tuple[TraceRow, ...]:
    """Read a trace: JSON lines with `timestamp_s` (or `timestamp`, in ms) and, as far as known, token counts.

    The names of the Mooncake and Azure traces are understood. Times are moved so that the first is 0.

    Raises:
        UnreadableInput: if the file is missing, too large, or a line is no such row.
    """
    try:
        if path.stat().st_size > MOST_TRACE_BYTES:
            raise UnreadableInput("larger than 256 MiB", where=str(path))
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableInput(f"cannot read the trace: {error}", where=str(path)) from error
    rows = [_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UnreadableInput("the trace holds no request", where=str(path))
    rows.sort(key=lambda row: row.at_s)
    start = rows[0].at_s
    return tuple(row._replace(at_s=row.at_s - start) for row in rows)


def _row(line: str, where: str) -> TraceRow:
    try:
        value = dict(json.loads(line))
        at = float(value["timestamp_s"]) if "timestamp_s" in value else float(value["timestamp"]) / 1e3
        return TraceRow(_within(at), _tokens(value, _PROMPT_NAMES), _tokens(value, _OUTPUT_NAMES))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise UnreadableInput(
            f"no row of a trace: {error}",
            where=where,
            allowed='{"timestamp": 250, "input_length": 512, "output_length": 64} with ms',
        ) from error


def _within(at_s: float) -> float:
    if not 0 <= at_s < 1e12:
        raise ValueError(f"time {at_s} is out of range")
    return at_s


def _tokens(value: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        if name in value:
            tokens = int(value[name])
            if not 0 < tokens < 1 << 24:
                raise ValueError(f"{name} {tokens} is out of range")
            return tokens
    return None
