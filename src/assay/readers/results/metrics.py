"""The metric table: task and metric → unit, range, direction, samples, repeats, judge, planning flip rate.

The table that is shipped is `metrics.yaml`; a user's own of the same form is laid over it. What no table knows
is inferred from the one score that is there, and marked as such.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator

from assay.core.base import Noun
from assay.core.errors import UnreadableInput
from assay.core.vocabulary import Direction

SHIPPED_FILE = Path(__file__).with_name("metrics.yaml")
MAX_TABLE_BYTES = 4 * 2**20


class Metric(Noun):
    """One row of the table."""

    metric: str
    """Shell pattern over the metric's own name, or over NeMo Evaluator's flat `task_metric_score` name;
    case-blind."""
    task: str = "*"
    """Shell pattern over the task's name, case-blind."""
    unit: str = "share"
    """`share` (0..1), `points` (0..100), `index`, `bits`, or another word for people."""
    low: float | None = None
    """Smallest value; null for a metric without a finite range."""
    high: float | None = None
    """Largest value; null for a metric without a finite range."""
    direction: Direction = Direction.HIGHER
    """Which way it gets better."""
    samples: int | None = Field(default=None, gt=0)
    """Items of the task, where they are fixed."""
    repeats: int | None = Field(default=None, gt=0)
    """Answers that are agreed per item."""
    judge: bool = False
    """A model decides whether the answer is right: its failures must be looked for."""
    planning_flip_rate: float | None = Field(default=None, gt=0, lt=1)
    """Share of items whose answer an equally good candidate changes; for planning samples."""

    @model_validator(mode="after")
    def _range(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high stand together, or neither")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must be under high, not {self.low:g} and {self.high:g}")
        return self

    @property
    def rows(self) -> int | None:
        """Rows that a complete run has: items times repeats."""
        return None if self.samples is None else self.samples * (self.repeats or 1)


class MetricTable(Noun):
    """All rows; the first that fits is taken."""

    metrics: tuple[Metric, ...] = ()

    @cached_property
    def _by_name(self) -> Mapping[str, tuple[int, Metric]]:
        """Rows without a pattern, by the metric's name: most look-ups end here."""
        found: dict[str, tuple[int, Metric]] = {}
        for place, row in enumerate(self.metrics):
            if row.task == "*" and not any(c in row.metric for c in "*?["):
                found.setdefault(row.metric.lower(), (place, row))
        return found

    @cached_property
    def _patterns(self) -> tuple[tuple[int, Metric], ...]:
        plain = {place for place, _ in self._by_name.values()}
        return tuple((place, row) for place, row in enumerate(self.metrics) if place not in plain)

    def find(self, metric: str, task: str = "") -> Metric | None:
        """The first row that fits; the flat name `task_metric` of NeMo Evaluator counts as a metric, too."""
        name, task_ = metric.lower(), task.lower()
        names = {name, f"{task_}_{name}"} if task_ else {name}
        hits = [hit for n in names if (hit := self._by_name.get(n)) is not None]
        for place, row in self._patterns:
            if any(fnmatchcase(n, row.metric.lower()) for n in names) and fnmatchcase(
                task_, row.task.lower()
            ):
                hits.append((place, row))
                break
        return min(hits, key=lambda hit: hit[0])[1] if hits else None

    def over(self, other: MetricTable) -> MetricTable:
        """This table, and the other one where this one knows nothing."""
        return MetricTable(metrics=(*self.metrics, *other.metrics))


class Scale(NamedTuple):
    """The range of a metric, and which end of it is good."""

    low: float
    high: float
    direction: Direction
    source: Literal["declared", "table", "inferred"] = "table"

    @property
    def bounded(self) -> bool:
        """False for perplexities and the like: `low == high` says that no range is known."""
        return self.high > self.low


class _Shipped(MetricTable):
    """The shipped table, read when it is first asked: a command that reads no results does not pay for YAML."""

    def find(self, metric: str, task: str = "") -> Metric | None:
        return shipped_table().find(metric, task)

    def over(self, other: MetricTable) -> MetricTable:
        return shipped_table().over(other)


SHIPPED: MetricTable = _Shipped()


@cache
def shipped_table() -> MetricTable:
    """The table that comes with Assay."""
    return read_table(SHIPPED_FILE)


def read_table(path: Path) -> MetricTable:
    """A table from a YAML file `{schema: metrics/1, metrics: [...]}`.

    Raises:
        UnreadableInput: if it is no such file; names the row and the key.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415 - only where a table is read
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise UnreadableInput(f"larger than {MAX_TABLE_BYTES} bytes: no metric table", where=str(path))
        value = YAML(typ="safe", pure=True).load(path.read_bytes())
    except (OSError, YAMLError, ValueError, RecursionError) as error:
        raise UnreadableInput(f"no metric table: {str(error).splitlines()[0]}", where=str(path)) from error
    rows = value.get("metrics") if isinstance(value, dict) and value.get("schema") == "metrics/1" else None
    if not isinstance(rows, list):
        raise UnreadableInput(
            "no metric table", where=str(path), allowed="{schema: metrics/1, metrics: [...]}"
        )
    found = []
    for place, row in enumerate(rows, start=1):
        try:
            found.append(Metric.model_validate(row))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise UnreadableInput(f"row {place}: {key}: {first['msg']}", where=str(path)) from error
    return MetricTable(metrics=tuple(found))


def table_with(path: Path | str | None) -> MetricTable:
    """The shipped table, under the user's own if one is named.

    Raises:
        UnreadableInput: if the user's file is no metric table.
    """
    return SHIPPED if path is None else read_table(Path(path)).over(shipped_table())


def scale_of(
    metric: str, score: Any, *, task: str = "", higher_is_better: Any = None, table: MetricTable = SHIPPED
) -> Scale:
    """The scale of a metric: by the table, else inferred from the one score that is known.

    Args:
        metric: metric name, or a flat `task_metric` name.
        score: the reported score, for the inference: 0..1 if it lies there, else 0..100.
        task: name of the task, for metrics that mean another thing on it.
        higher_is_better: what the harness declares; a boolean wins over the table's direction.
        table: which table.
    """
    row = table.find(metric, task)
    if row is None:
        known = Scale(0.0, 1.0 if _within_one(score) else 100.0, Direction.HIGHER, "inferred")
    else:
        known = Scale(row.low or 0.0, row.high or 0.0, row.direction)
    if isinstance(higher_is_better, bool):
        return known._replace(direction=Direction.HIGHER if higher_is_better else Direction.LOWER)
    return known


def _within_one(score: Any) -> bool:
    if isinstance(score, bool) or not isinstance(score, int | float):
        return False
    return not (isinstance(score, float) and math.isnan(score)) and 0 <= score <= 1
