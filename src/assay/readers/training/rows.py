"""metrics.jsonl, streamed: step rows, evaluations and the older epoch events, as one kind of row."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from assay.core.evidence import Measurement
from assay.core.experiment import MetricSummary, PlanOfExperiment, Problem, Rows
from assay.core.experiment_state import count_of, number_of
from assay.core.vocabulary import Direction, State
from assay.readers.training.lines import clean, parse_object, read_lines

METRICS_FILE = "metrics.jsonl"
METRICS_LIMIT = 5_000
"""Names that are summed up; more are not."""
PROBLEMS_KEPT = 10
CLOCK_TOLERANCE_S = 1e-3
_VALUES = frozenset({"step", "evaluation", "epoch_end"})
_ATTEMPT = re.compile(rb'"attempt"\s*:\s*(\d+)')
_WRAPPED = re.compile(r"[A-Za-z_.0-9]+\(\s*([^,()\s]+)[^()]*\)")
_WORDS = {"nan": "nan", "inf": "inf", "-inf": "-inf", "+inf": "inf", "infinity": "inf", "-infinity": "-inf"}

View = Literal["current", "all"]


@dataclass(slots=True)
class Row:
    """One line of metrics.jsonl."""

    kind: str
    """step, evaluation, epoch_end, checkpoint_saved, training_start, training_end, or another word."""
    line: int
    attempt: int
    """As the row says; else that of the rows before it, counting older `training_start` events."""
    step: int | None = None
    epoch: int | None = None
    t: float | None = None
    """Seconds since the attempt started."""
    timestamp: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    """Finite values alone."""
    nonfinite: dict[str, str] = field(default_factory=dict)
    """Name → nan, inf or -inf, of metrics and signals."""
    signals: dict[str, float] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The whole line as parsed."""


@dataclass(slots=True)
class Count:
    """What a stream of rows left out; filled while it is read."""

    bad: list[int] = field(default_factory=list)
    """Numbers of lines that hold no row."""
    torn: int = 0
    """Line number of a half-written last line; 0 if there is none."""
    replaced: int = 0


def iter_rows(folder: Path, view: View = "current", count: Count | None = None) -> Iterator[Row]:
    """Stream the rows of an experiment.

    Args:
        folder: of the experiment.
        view: `current` leaves out what a resumed attempt wrote again: rows of an earlier attempt from the later
            attempt's first step (or epoch) on. `all` has every row.
        count: filled with what was left out.

    Raises:
        UnreadableInput: if the operating system refuses to read the file.
    """
    count = count or Count()
    starts = _Starts()
    if view == "current" and _several_attempts(folder / METRICS_FILE):
        for row in _rows(folder / METRICS_FILE, Count()):
            starts.see(row)
    for row in _rows(folder / METRICS_FILE, count):
        if view == "current" and starts.replaced(row):
            count.replaced += 1
        else:
            yield row


def _several_attempts(path: Path) -> bool:
    """Whether rows of more than one attempt may stand there: a look at the bytes, much faster than parsing."""
    seen: set[bytes] = set()
    begun = 0
    for line in read_lines(path):
        if (found := _ATTEMPT.search(line.data)) is not None:
            seen.add(found[1])
        begun += b"training_start" in line.data
        if len(seen) > 1 or begun > 1:
            return True
    return False


class _Starts:
    """The first step and epoch of each attempt."""

    def __init__(self) -> None:
        self.steps: dict[int, int] = {}
        self.epochs: dict[int, int] = {}

    def see(self, row: Row) -> None:
        if row.step is not None and row.kind == "step":
            self.steps[row.attempt] = min(row.step, self.steps.get(row.attempt, row.step))
        if row.epoch is not None and row.kind == "epoch_end":
            self.epochs[row.attempt] = min(row.epoch, self.epochs.get(row.attempt, row.epoch))

    def replaced(self, row: Row) -> bool:
        if row.step is not None:
            return any(a > row.attempt and row.step >= first for a, first in self.steps.items())
        if row.epoch is not None:
            return any(a > row.attempt and row.epoch >= first for a, first in self.epochs.items())
        return False


def _rows(path: Path, count: Count) -> Iterator[Row]:
    current, numbered = 1, False
    starts = 0
    for line in read_lines(path):
        record = None if line.too_long else parse_object(line.data)
        kind = record.get("event") if record is not None else None
        if record is None or not isinstance(kind, str):
            if line.sealed:
                count.bad.append(line.number)
            else:
                count.torn = line.number
            continue
        own = count_of(record.get("attempt"))
        if own is not None:
            current, numbered = own, True
        elif kind == "training_start" and not numbered:
            starts += 1
            current = starts
        yield _row(record, kind, line.number, current)


def _row(record: dict[str, Any], kind: str, line: int, attempt: int) -> Row:
    get = record.get
    row = Row(
        kind=clean(kind[:80]),
        line=line,
        attempt=attempt,
        step=count_of(get("step")),
        epoch=count_of(get("epoch")),
        t=number_of(get("t")),
        timestamp=clean(str(get("timestamp") or "")[:80]),
        fields=record,
    )
    named = get("nonfinite")
    named = named if isinstance(named, dict) else {}
    _take(get("metrics"), named, row.metrics, row.nonfinite)
    _take(get("signals"), named, row.signals, row.nonfinite)
    return row


def _take(values: Any, named: Mapping[str, Any], finite: dict[str, float], bad: dict[str, str]) -> None:
    for key, raw in values.items() if isinstance(values, dict) else ():
        name = key if key.isascii() else clean(key)
        if type(raw) is float and math.isfinite(raw):
            finite[name] = raw
            continue
        value = scalar(raw)
        if value is not None and math.isfinite(value):
            finite[name] = value
        elif value is not None:
            bad[name] = str(value)
        elif raw is None and isinstance(named.get(key), str):
            bad[name] = clean(named[key][:20])


def scalar(raw: Any) -> float | None:
    """A number, or the number in text such as `0.5` and `tensor(0.5)`; NaN and infinities pass, others are None."""
    if isinstance(raw, bool) or raw is None:
        return None
    if isinstance(raw, int | float):
        try:
            return float(raw)
        except OverflowError:
            return math.inf if raw > 0 else -math.inf
    if not isinstance(raw, str) or len(raw) > 80:
        return None
    text = raw.strip()
    wrapped = _WRAPPED.fullmatch(text)
    try:
        return float(wrapped[1] if wrapped else text)
    except ValueError:
        return None


def summarize(folder: Path, plan: PlanOfExperiment) -> tuple[Rows, Count, tuple[Problem, ...]]:
    """Read all rows once more and keep the figures.

    Raises:
        UnreadableInput: if the operating system refuses to read the file.
    """
    count, sums = Count(), _Sums(plan)
    for row in iter_rows(folder, "current", count):
        sums.add(row)
    problems = [
        Problem(file=METRICS_FILE, line=number, text="no row: not a JSON object with an event", grave=False)
        for number in count.bad[:PROBLEMS_KEPT]
    ]
    if len(count.bad) > PROBLEMS_KEPT:
        text = f"{len(count.bad)} lines in all are no rows"
        problems.append(Problem(file=METRICS_FILE, text=text, grave=False))
    return sums.rows(count), count, tuple(problems)


class _Sums:
    def __init__(self, plan: PlanOfExperiment) -> None:
        self.plan = plan
        self.metrics: dict[str, _Metric] = {}
        self.kinds: dict[str, int] = {}
        self.last_step: int | None = None
        self.last_epoch: int | None = None
        self.attempts: set[int] = set()
        self.times: dict[int, float] = {}
        self.backwards = 0

    def add(self, row: Row) -> None:
        self.kinds[row.kind] = self.kinds.get(row.kind, 0) + 1
        if row.kind not in _VALUES:
            return
        self.attempts.add(row.attempt)
        if row.step is not None and row.kind == "step":
            self.last_step = max(row.step, self.last_step if self.last_step is not None else row.step)
        if row.epoch is not None:
            self.last_epoch = max(row.epoch, self.last_epoch if self.last_epoch is not None else row.epoch)
        if row.t is not None and row.kind == "step":
            before = self.times.get(row.attempt, 0.0)
            self.backwards += row.t < before - CLOCK_TOLERANCE_S
            self.times[row.attempt] = max(before, row.t)
        for name, value in row.metrics.items():
            self._metric(name).add(row, value)
        told = row.fields.get("signals")
        signals = told if isinstance(told, Mapping) else {}
        for name, word in row.nonfinite.items():
            if name not in signals:
                self._metric(name).add(row, None, word)

    def _metric(self, name: str) -> _Metric:
        if name not in self.metrics and len(self.metrics) >= METRICS_LIMIT:
            name = "(other metrics)"
        if name not in self.metrics:
            self.metrics[name] = _Metric(name, self.plan.direction(name))
        return self.metrics[name]

    def rows(self, count: Count) -> Rows:
        return Rows(
            steps=self.kinds.get("step", 0),
            evaluations=self.kinds.get("evaluation", 0),
            epochs=self.kinds.get("epoch_end", 0),
            replaced=count.replaced,
            last_step=self.last_step,
            last_epoch=self.last_epoch,
            attempts=tuple(sorted(self.attempts)),
            metrics=tuple(m.summary() for m in self.metrics.values()),
            bad_lines=len(count.bad),
            backwards=self.backwards,
            wall_s=max(self.times.values(), default=None),
        )


@dataclass(slots=True)
class _Metric:
    name: str
    direction: Direction | None
    count: int = 0
    nonfinite: int = 0
    first: float | None = None
    last: float | None = None
    word: str = ""
    at: tuple[int | None, int | None] = (None, None)
    best: float | None = None
    best_at: tuple[int | None, int | None] = (None, None)

    def add(self, row: Row, value: float | None, word: str = "") -> None:
        self.last, self.word, self.at = value, word, (row.step, row.epoch)
        if value is None:
            self.nonfinite += 1
            return
        self.count += 1
        self.first = value if self.first is None else self.first
        if self.direction is not None and (self.best is None or better(value, self.best, self.direction)):
            self.best, self.best_at = value, self.at

    def summary(self) -> MetricSummary:
        last = (
            Measurement(name=self.name, value=self.last, direction=self.direction)
            if self.last is not None
            else (
                Measurement(name=self.name, state=State.NONFINITE, direction=self.direction, detail=self.word)
            )
        )
        return MetricSummary(
            name=self.name,
            count=self.count,
            nonfinite=self.nonfinite,
            direction=self.direction,
            last=last,
            last_step=self.at[0],
            last_epoch=self.at[1],
            best=self.best,
            best_step=self.best_at[0],
            best_epoch=self.best_at[1],
            first=self.first,
        )


def better(value: float, other: float, direction: Direction) -> bool:
    """Whether a value is strictly better than another."""
    return value > other if direction is Direction.HIGHER else value < other
