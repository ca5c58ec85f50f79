"""What the rules look at: the newest stretch of a run and the few numbers kept from its start. No rule, no I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice, pairwise
from typing import Any

from assay.live import names
from assay.live.names import number

KEPT_ROWS = 256
KEPT_EVALUATIONS = 256
SIGNALS = (
    "lr",
    "grad_norm",
    "grad_rms_first",
    "grad_rms_last",
    "update_ratio",
    "dead_frac",
    "saturated_frac",
    "params_finite",
    "data_wait_s",
    "step_s",
    "step_cpu_s",
    "rss_bytes",
    "device_bytes",
    "amp_skipped",
    "label_entropy",
    "contended",
)


def median(values: Iterable[float]) -> float:
    """The middle value; 0.0 of none."""
    ordered = sorted(values)
    size = len(ordered)
    if not size:
        return 0.0
    half = size // 2
    return ordered[half] if size % 2 else 0.5 * (ordered[half - 1] + ordered[half])


def mad(values: Iterable[float], centre: float) -> float:
    """Median absolute deviation from a centre."""
    return median([abs(v - centre) for v in values])


class Track:
    """The newest values of one quantity, the rows they stand in, and what is kept from the start."""

    __slots__ = ("count", "first", "highest", "lowest", "opening", "rows", "values")

    def __init__(self, kept: int = KEPT_ROWS) -> None:
        self.values: deque[float] = deque(maxlen=kept)
        self.rows: deque[int] = deque(maxlen=kept)
        self.opening: list[float] = []
        self.count = 0
        self.first: float | None = None
        self.highest = -math.inf
        self.lowest = math.inf

    def push(self, row: int, value: float) -> None:
        """Append a finite value."""
        if self.first is None:
            self.first = value
        if len(self.opening) < 64:
            self.opening.append(value)
        self.values.append(value)
        self.rows.append(row)
        self.count += 1
        self.highest = max(self.highest, value)
        self.lowest = min(self.lowest, value)

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.values[-1] if self.values else None

    def tail(self, n: int, skip: int = 0) -> list[float]:
        """The newest `n` values before the newest `skip`."""
        end = len(self.values) - skip
        return list(islice(self.values, max(0, end - n), max(0, end)))

    def since(self, row: int) -> list[float]:
        """Values of rows `row` and later."""
        found: list[float] = []
        for at, value in zip(reversed(self.rows), reversed(self.values), strict=True):
            if at < row:
                break
            found.append(value)
        return found[::-1]

    def fresh(self, row: int) -> bool:
        """Whether this row brought a value."""
        return bool(self.rows) and self.rows[-1] == row


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, with where the training stood at that moment."""

    row: int
    step: int | None
    metrics: Mapping[str, float]
    nonfinite: Mapping[str, str]
    loss: float | None
    """Smoothed training loss."""
    loss_high: float | None
    """Highest smoothed training loss since the evaluation before."""
    mean: float | None
    """Of the training losses since the evaluation before."""
    moved: bool
    """Whether weights (or, unknown, the loss) moved since the evaluation before."""


@dataclass
class Window:
    """A run so far, in bounded memory. Only `push_row` and `push_evaluation` change it."""

    attempt: int = 1
    total_steps: int | None = None
    total_epochs: int | None = None
    senses: Mapping[str, str] = field(default_factory=dict)
    primary: str | None = None
    smoothing: float = 0.9
    warmup: int = 20
    resumed: bool = False

    row: int = 0
    """Step rows seen in this attempt."""
    step: int | None = None
    first_step: int | None = None
    epoch: int | None = None
    seconds: float | None = None
    """`t` of the newest row."""
    wall: float | None = None
    """Unix time of the newest line, whatever it says: a sign of life."""
    gaps: Track = field(default_factory=Track)
    backwards: int = 0
    """Rows whose `t` lay before the row before."""
    timed: int = 0
    """Rows that carried `t`."""
    nonfinite: Mapping[str, str] = field(default_factory=dict)
    """Of the newest row: loss, gradient or parameter that is not finite."""
    nonfinite_streak: int = 0
    amp: bool = False
    amp_streak: int = 0
    fp_loss_streak: int = 0
    """Rows in a row whose loss itself is not finite."""
    loss_name: str | None = None
    loss: Track = field(default_factory=Track)
    heights: Track = field(default_factory=Track)
    """Of each loss above the median before it."""
    smooth: Track = field(default_factory=Track)
    best: Track = field(default_factory=Track)
    """Lowest smoothed loss up to each row."""
    init: float | None = None
    chance: float | None = None
    """Cross entropy of guessing by the shares of the labels, from the facts about the data."""
    majority: float | None = None
    """Share of the commonest label, from the facts about the data."""
    validation_rows: int | None = None
    """Rows that an evaluation looks at, from the facts about the data."""
    signals: dict[str, Track] = field(default_factory=lambda: {n: Track() for n in SIGNALS})
    lr_changed: bool = False
    lr_abrupt_row: int | None = None
    """Row at which the learning rate fell by a large factor within two rows."""
    lr_jump_row: int | None = None
    lr_drop: float = 1.0
    evaluations: deque[Evaluation] = field(default_factory=lambda: deque(maxlen=KEPT_EVALUATIONS))
    evaluations_count: int = 0
    ceilings: dict[str, float] = field(default_factory=dict)
    """Best value of each metric of which a direction is known."""
    firsts: dict[str, float] = field(default_factory=dict)
    loss_high: float | None = None
    moved: bool = False
    held_out_rows: int = 0
    epochs_only: bool = False
    """The log has a row an epoch and no steps."""
    _level: float = 0.0
    _weight: float = 0.0

    def signal(self, name: str) -> Track:
        """The track of a signal."""
        return self.signals[name]

    @property
    def progress(self) -> float | None:
        """Share of the plan that is done; None without a plan."""
        if self.total_steps and self.step is not None:
            return self.step / self.total_steps
        if self.total_epochs and self.epoch is not None:
            return self.epoch / self.total_epochs
        return None

    def level(self, rows: int = 50) -> float | None:
        """Mean of the newest losses."""
        recent = self.loss.tail(rows)
        return sum(recent) / len(recent) if recent else None

    def start(self) -> float:
        """Where the loss began: its first values, or guessing by the shares of the labels where that is less."""
        first = self.began()
        return min(first, self.chance) if self.chance else first

    def began(self) -> float:
        """The first losses: their mean, or the median of the first five where that is higher."""
        opening = self.loss.opening[: self.warmup]
        return max(self.init, sum(opening) / max(1, len(opening))) if self.init is not None else 0.0

    def noise(self, rows: int = 50, skip: int = 0) -> float:
        """Robust standard deviation of one loss value around its trend, from successive differences."""
        values = self.loss.tail(rows, skip)
        if len(values) < 4:
            return 0.0
        return 1.4826 * median([abs(b - a) for a, b in pairwise(values)]) / math.sqrt(2)

    def push_row(self, raw: Mapping[str, Any]) -> None:
        """Take in a step row. Whatever is not a number is passed over."""
        self.row += 1
        metrics = raw.get("metrics")
        signals = raw.get("signals")
        metrics = metrics if isinstance(metrics, Mapping) else {}
        signals = signals if isinstance(signals, Mapping) else {}
        step = number(raw.get("step"))
        self.step = int(step) if step is not None else (self.step or 0) + 1
        if self.first_step is None:
            self.first_step = self.step
        epoch = number(raw.get("epoch"))
        self.epoch = int(epoch) if epoch is not None else self.epoch
        self._push_time(raw)
        for name in SIGNALS:
            value = number(signals.get(name))
            if name == "lr" and value is None:
                value = _first(metrics, ("lr", "learning_rate"))
            if value is not None:
                self._push_lr(value) if name == "lr" else self.signals[name].push(self.row, value)
        ratio = self.signals["update_ratio"]
        if not ratio.count or (ratio.fresh(self.row) and (ratio.last or 0.0) > 1e-7):
            self.moved = True
        self._push_nonfinite(raw, metrics, signals)
        if self.loss_name is None or self.loss_name not in metrics:
            self.loss_name = names.training_loss(str(n) for n in metrics) or self.loss_name
        value = number(metrics.get(self.loss_name)) if self.loss_name else None
        if value is not None:
            self._push_loss(value)

    def push_evaluation(self, raw: Mapping[str, Any]) -> Evaluation | None:
        """Take in an evaluation; None if it is one that was seen already or holds no number."""
        metrics = raw.get("metrics")
        if not isinstance(metrics, Mapping):
            return None
        values = {str(k): v for k, v in ((k, number(v)) for k, v in metrics.items()) if v is not None}
        step = number(raw.get("step"))
        broken = raw.get("nonfinite")
        broken = {str(k): str(v) for k, v in broken.items()} if isinstance(broken, Mapping) else {}
        at = int(step) if step is not None else self.step
        newest = self.evaluations[-1] if self.evaluations else None
        if not values and not broken:
            return None
        if newest is not None and at is not None and newest.step == at and set(values) <= set(newest.metrics):
            return None
        since = self.loss.since((newest.row if newest is not None else 0) + 1)
        mean = sum(since) / len(since) if since else None
        found = Evaluation(self.row, at, values, broken, self.smooth.last, self.loss_high, mean, self.moved)
        self.evaluations.append(found)
        self.evaluations_count += 1
        self.loss_high, self.moved = self.smooth.last, False
        for name, value in values.items():
            self.firsts.setdefault(name, value)
            way = names.sense(name, self.senses)
            if way is not None:
                before = self.ceilings.get(name, value)
                self.ceilings[name] = min(before, value) if way == "min" else max(before, value)
        return found

    def series(self, name: str) -> list[tuple[Evaluation, float]]:
        """The kept evaluations that measured a metric."""
        return [(e, e.metrics[name]) for e in self.evaluations if name in e.metrics]

    def _push_time(self, raw: Mapping[str, Any]) -> None:
        seconds = number(raw.get("t"))
        if seconds is None:
            return
        self.timed += 1
        if self.seconds is not None:
            if seconds < self.seconds:
                self.backwards += 1
            else:
                self.gaps.push(self.row, seconds - self.seconds)
        self.seconds = seconds

    def _push_lr(self, value: float) -> None:
        track = self.signals["lr"]
        recent = track.tail(2)
        if track.count and value != track.last:
            self.lr_changed = True
        if recent and value < max(recent):
            fall = max(recent) / value if value > 0 else math.inf
            if fall > 2.0:
                self.lr_drop, self.lr_abrupt_row = fall, self.row
        usual = median(track.tail(50)) if track.count >= 5 else None
        if usual is not None and value > 0 and value > 3.0 * usual and value > 1.5 * (track.last or 0.0):
            self.lr_jump_row = self.row
        track.push(self.row, value)

    def _push_nonfinite(
        self, raw: Mapping[str, Any], metrics: Mapping[str, Any], signals: Mapping[str, Any]
    ) -> None:
        named = raw.get("nonfinite")
        found: dict[str, str] = {}
        for source in (named if isinstance(named, Mapping) else {}, metrics, signals):
            for key, value in source.items():
                name = str(key)
                text = value if isinstance(value, str) else _nonfinite_text(value)
                if text in ("nan", "inf", "-inf") and self._watched(name):
                    found[name] = text
        if number(signals.get("params_finite")) == 0.0:
            found["params"] = "nonfinite"
        self.nonfinite = found
        self.nonfinite_streak = self.nonfinite_streak + 1 if found else 0
        broken_loss = any(names.is_loss(n) for n in found)
        self.fp_loss_streak = self.fp_loss_streak + 1 if broken_loss else 0
        skipped = number(signals.get("amp_skipped"))
        if skipped is not None:
            self.amp = True
        self.amp_streak = self.amp_streak + 1 if skipped else 0

    def _watched(self, name: str) -> bool:
        if name == self.loss_name or name in ("grad_norm", "grad_rms_first", "grad_rms_last", "update_ratio"):
            return True
        return names.is_loss(name) and not names.held_out(name)

    def _push_loss(self, value: float) -> None:
        before = self.loss.tail(50)
        if before:
            self.heights.push(self.row, value - median(before))
        self.loss.push(self.row, value)
        if self.loss.count <= 5 and not self.resumed:
            self.init = median(self.loss.opening)
        # The level is bias-corrected, so that the first losses are not pulled towards zero.
        self._level = self.smoothing * self._level + (1 - self.smoothing) * value
        self._weight = self.smoothing * self._weight + (1 - self.smoothing)
        level = self._level / self._weight
        self.smooth.push(self.row, level)
        lowest = self.best.last
        self.best.push(self.row, level if lowest is None or level < lowest else lowest)
        self.loss_high = level if self.loss_high is None else max(self.loss_high, level)


def _nonfinite_text(value: Any) -> str | None:
    if type(value) is float and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return None


def _first(source: Mapping[str, Any], keys: tuple[str, ...]) -> float | None:
    for key in keys:
        found = number(source.get(key))
        if found is not None:
            return found
    return None


def unix_time(stamp: Any) -> float | None:
    """Seconds since 1970 of an ISO 8601 text or a number; None for anything else."""
    if isinstance(stamp, str):
        try:
            return datetime.fromisoformat(stamp).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    return number(stamp)
