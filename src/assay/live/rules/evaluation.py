"""Classes 11 to 14: what the evaluations show."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from assay.live import names
from assay.live.classes import Severity
from assay.live.rules.dynamics import evaluation_noise, learned, sweeping
from assay.live.rules.finding import CLEAR, Finding, Judged
from assay.live.thresholds import Thresholds
from assay.live.window import Evaluation, Window, median

Series = list[tuple[Evaluation, float]]


def _of_validation(w: Window) -> list[str]:
    """Metrics of held-out data in the newest evaluation; names of the training split are left out."""
    newest = w.evaluations[-1].metrics
    marked = [n for n in newest if names.held_out(n)]
    return marked or [n for n in newest if not names.of_training(n)]


def validation_loss(w: Window) -> str | None:
    """The name of the validation loss."""
    return next((n for n in _of_validation(w) if names.is_loss(n)), None)


def _worse_run(values: list[float], best_at: int, limit: float, sign: float) -> int:
    """How many of the newest values in a row lie beyond the limit, after the best."""
    held = 0
    for value in reversed(values[best_at + 1 :]):
        if sign * value <= sign * limit:
            break
        held += 1
    return held


def _sampling_error(w: Window, name: str, value: float) -> float:
    """Standard error of a metric for being measured on so few rows; 0.0 if their number is not known.

    A share's is binomial. A loss of single rows spreads about as far as it is large.
    """
    if not w.validation_rows:
        return 0.0
    share = names.in_unit_range(name) and 0.0 <= value <= 1.0
    return (math.sqrt(value * (1 - value)) if share else abs(value)) / math.sqrt(w.validation_rows)


def overfit(w: Window, t: Thresholds) -> Judged:
    """Class 11: validation loss climbs while the training loss falls."""
    name = validation_loss(w)
    if name is None:
        return None
    series = w.series(name)
    if len(series) < t.overfit_evaluations + 1:
        return None
    values = [v for _, v in series]
    best_at = min(range(len(values)), key=values.__getitem__)
    best = values[best_at]
    chance = t.overfit_errors * _sampling_error(w, name, best)
    limit = best + max(t.overfit_rise * abs(best), t.evaluation_noise * evaluation_noise(values), chance)
    held = _worse_run(values, best_at, limit, 1.0)
    since = series[best_at][0]
    text = f"{name} is {values[-1]:.4g}, its best {best:.4g} at step {since.step}; training falls on"
    if held >= t.overfit_evaluations:
        rule = f"worse than its best by {t.overfit_rise:.0%} in {t.overfit_evaluations} evaluations"
        fell = _training_fell(w, since, t.overfit_train_drop)
    else:
        end, limit = _climbs_to(w, values, best_at, t), best + max(t.overfit_projected * abs(best), chance)
        if end is None or end < limit:
            return CLEAR if held == 0 else None
        rule = f"climbs steadily, at this rate to {end:.4g}"
        fell = _training_fell(w, since, t.overfit_steep_drop)
    if not fell or _data_changed(w, series, t):
        return None
    return Finding(11, values[-1], best, rule, limit, text)


def _climbs_to(w: Window, values: list[float], best_at: int, t: Thresholds) -> float | None:
    """Where a steady climb since the best leads in as many evaluations again, or by the end of the plan.

    None if there is no such climb, or no plan.
    """
    climb = values[best_at + 1 :][-t.overfit_trend_window :]
    low = values[best_at] + max(
        t.overfit_least * abs(values[best_at]), t.evaluation_noise * evaluation_noise(values)
    )
    since = len(values) - 1 - best_at
    if not w.progress or since < t.overfit_trend or min(climb[-3:]) <= low:
        return None
    middle, mean = (len(climb) - 1) / 2, sum(climb) / len(climb)
    spread = sum((i - middle) ** 2 for i in range(len(climb)))
    slope = sum((i - middle) * v for i, v in enumerate(climb)) / spread
    rest = sum((v - mean - slope * (i - middle)) ** 2 for i, v in enumerate(climb))
    if slope <= t.overfit_trend_errors * math.sqrt(rest / (len(climb) - 2) / spread):
        return None
    left = w.evaluations_count * max(0.0, 1 / w.progress - 1)
    return mean + slope * (middle + min(since, left))


def _training_fell(w: Window, since: Evaluation, drop: float) -> bool:
    now = w.smooth.last
    if now is None or since.loss is None:
        trained = [n for n in w.evaluations[-1].metrics if names.of_training(n) and names.is_loss(n)]
        pairs = [(since.metrics.get(n), w.evaluations[-1].metrics[n]) for n in trained]
        return any(a is not None and b < a - drop * abs(a) for a, b in pairs)
    # A loss around zero (a policy's) goes up and down by its noise alone.
    return now < since.loss - max(drop * abs(since.loss), 0.5 * w.noise(100))


def _data_changed(w: Window, series: Series, t: Thresholds) -> bool:
    """Whether the training loss jumped after the best evaluation, or the metric fell at once: new data."""
    values = [v for _, v in series]
    best_at = min(range(len(values)), key=values.__getitem__)
    return _training_jumped(w, series[best_at][0], t) or _fell_at_once(series, best_at, 1.0, t)


def _fell_at_once(series: Series, best_at: int, sign: float, t: Thresholds) -> bool:
    """Whether a metric got worse within two evaluations as it never moved before; overfitting creeps.

    `sign`: 1 if lower is better. Where the training loss fell faster than before in those evaluations, as it does on
    fewer and easier data, a smaller jump is enough.
    """
    values = [sign * v for _, v in series]
    worst, best = max(values[best_at:]), values[best_at]
    first = next(
        (i for i in range(best_at + 1, len(values)) if values[i] > best + 0.25 * (worst - best)), None
    )
    if first is None or first < t.regression_history:
        return False
    steps = [abs(b - a) for a, b in pairwise(values[max(0, first - 6) : first])]
    usual = max(median(steps), 0.01 * abs(best))
    jump = max(values[i] - values[i - 1] for i in range(first, min(first + 2, len(values))))
    if jump <= t.regression_hasty * usual or jump < t.regression_share * (worst - best):
        return False
    return jump > t.regression_sudden * usual or _eased(series, first, t)


def _eased(series: Series, first: int, t: Thresholds) -> bool:
    """Whether the training loss fell faster around an evaluation than before it."""
    means = [e.mean for e, _ in series]
    falls = [a / b if a and b and a > 0 and b > 0 else None for a, b in pairwise(means)]
    before = [f for f in falls[max(0, first - 5) : first - 1] if f is not None]
    around = [f for f in falls[first - 1 : first + 1] if f is not None]
    return bool(before and around) and max(around) > t.regression_eased * max(1.0, median(before))


def _training_jumped(w: Window, since: Evaluation, t: Thresholds) -> bool:
    highs = [e.loss_high for e in w.evaluations if e.row > since.row and e.loss_high is not None]
    if since.loss is None or not highs:
        return False
    rise = max((t.regression_jump - 1) * abs(since.loss), w.noise(200))
    return max(highs) > since.loss + rise or _training_dropped(w, since, t)


def _training_dropped(w: Window, since: Evaluation, t: Thresholds) -> bool:
    """Whether the training loss fell at once after the best evaluation, unlike before; or its batches changed.

    What is learned by heart falls faster and faster; other data is one step.
    """
    means = [(e.row, e.mean) for e in w.evaluations if e.mean is not None and e.mean > 0]
    falls = [(row, a / b) for (_, a), (row, b) in pairwise(means) if a is not None and b]
    after = [f for row, f in falls if row > since.row]
    before = [f for row, f in falls if row <= since.row][-4:]
    if after and before and max(after[:2]) > t.regression_drop * max(1.0, median(before), *after[2:3]):
        return True
    entropy = w.signal("label_entropy")
    now, then = entropy.since(since.row + 1), entropy.since(max(1, since.row - 40))
    then = then[: max(0, len(then) - len(now))]
    return len(now) >= 10 and len(then) >= 10 and abs(median(now[-40:]) - median(then)) > 0.3 * median(then)


def metric_regression(w: Window, t: Thresholds) -> Judged:
    """Class 13: the primary metric fell from its best and stays down, without the mark of overfitting."""
    name = _primary(w)
    if name is None:
        return None
    way = names.sense(name, w.senses)
    series = w.series(name)
    if way is None or len(series) < t.regression_evaluations + 2 or not learned(w, t):
        return None
    sign = 1.0 if way == "min" else -1.0
    values = [v for _, v in series]
    best_at = min(range(len(values)), key=lambda i: sign * values[i])
    best = values[best_at]
    worst = max(values[: best_at + 1], key=lambda v: sign * v)
    noise = max(evaluation_noise(values), _sampling_error(w, name, best))
    spread = t.seed_sd if t.seed_sd is not None else noise
    scale = max(abs(best), abs(worst - best))
    drop = max(t.regression_sd * spread, t.regression_frac * scale)
    held = _worse_run(values, best_at, best + sign * drop, sign)
    if held == 0:
        return CLEAR
    newest = w.evaluations[-1]
    if held < t.regression_evaluations:
        return None
    since = series[best_at][0]
    if _training_fell(w, since, t.overfit_train_drop) and not (
        _training_jumped(w, since, t) or _fell_at_once(series, best_at, sign, t)
    ):
        return None
    text = f"{name} is {newest.metrics[name]:.4g}, its best was {best:.4g} at step {series[best_at][0].step}"
    rule = f"worse than its best in {t.regression_evaluations} evaluations"
    return Finding(13, newest.metrics[name], best, rule, best + sign * drop, text)


def _primary(w: Window) -> str | None:
    newest = w.evaluations[-1].metrics
    if w.primary is not None:
        return next((n for n in newest if w.primary in (n, names.bare(n))), None)
    candidates = _of_validation(w)
    found = [n for n in candidates if names.sense(n, w.senses) == "max"]
    return next(iter(found), None) or next((n for n in candidates if names.sense(n, w.senses) == "min"), None)


def frozen_metric(w: Window, t: Thresholds) -> Judged:
    """Class 12: evaluations repeat themselves to the last bit while the weights move."""
    tracked = [n for n in _of_validation(w) if names.sense(n, w.senses) is not None]
    fine = [n for n in tracked if _fine(w, n)]
    needed = t.frozen_evaluations if fine else t.frozen_coarse_evaluations
    watched = fine or tracked
    recent = list(w.evaluations)[-needed:]
    if not watched or len(recent) < needed or any(n not in e.metrics for n in watched for e in recent):
        return None
    if any(recent[0].metrics[n] != e.metrics[n] for n in watched for e in recent):
        return CLEAR
    if all(recent[0].metrics[n] in (0.0, 1.0, 100.0) for n in watched):
        return None
    if not all(e.moved for e in recent[1:]):
        return None
    text = f"{', '.join(watched)}: the same to the last bit in {needed} evaluations while the weights move"
    value = recent[-1].metrics[watched[0]]
    return Finding(12, value, value, "bit-equal evaluations", needed, text)


def _fine(w: Window, name: str) -> bool:
    """Whether the metric has a continuum of values: losses do, accuracies on few rows do not."""
    if names.is_loss(name) or names.words(name) & {
        "mse",
        "mae",
        "rmse",
        "nll",
        "ppl",
        "perplexity",
        "logloss",
    }:
        return True
    return not names.in_unit_range(name) and names.sense(name, w.senses) == "min"


def class_collapse(w: Window, t: Thresholds, classes: int | None = None) -> Judged:
    """Class 14: every example gets the same answer."""
    # A loss below zero is no likelihood: that it fell does not say that a policy has left its first answers.
    patience = 2 if w.loss.lowest < 0 else 1
    if (w.progress is not None and w.progress < patience * t.collapse_plan_frac) or sweeping(w, t):
        return None
    recent = list(w.evaluations)[-t.collapse_evaluations :]
    if len(recent) < t.collapse_evaluations:
        return None
    judged = False
    for name in recent[-1].metrics:
        if names.of_training(name) or any(name not in e.metrics for e in recent):
            continue
        values = [e.metrics[name] for e in recent]
        flat = name.lower().replace("-", "_")
        if classes and ("balanced" in flat or "bal_acc" in flat or "macro_recall" in flat):
            judged = True
            limit = 1 / classes + t.collapse_slack
            if max(values) <= limit and learned(w, t):
                text = f"{name} is {values[-1]:.3g}: no better than one answer for all of {classes} classes"
                return Finding(
                    14, values[-1], 1 / classes, "balanced accuracy after 30 % of the plan", limit, text
                )
        if "share" in flat and ("pred" in flat or "class" in flat):
            judged = True
            if min(values) > t.collapse_share and learned(w, t):
                text = f"{values[-1]:.1%} of the predictions are one class"
                return Finding(
                    14, values[-1], None, "share of the most predicted class", t.collapse_share, text
                )
    return CLEAR if judged else None


EVALUATION_RULES: tuple[Callable[[Window, Thresholds], Judged], ...] = (
    overfit,
    frozen_metric,
    metric_regression,
)


def validation_better(w: Window, t: Thresholds, dropout: bool | None) -> Judged:
    """Class 16: validation beats training from the first evaluation on, measured the same way."""
    if dropout is not False or not 3 <= len(w.evaluations) <= 6 or w.evaluations_count != len(w.evaluations):
        return None
    for name in _of_validation(w):
        if not names.in_unit_range(name):
            continue
        twin = next(
            (
                n
                for n in w.evaluations[-1].metrics
                if names.of_training(n) and names.bare(n) == names.bare(name)
            ),
            None,
        )
        if twin is None:
            continue
        gaps = [
            e.metrics[name] - e.metrics[twin]
            for e in w.evaluations
            if name in e.metrics and twin in e.metrics
        ]
        if len(gaps) >= 3 and min(gaps) > t.leak_val_better and median(gaps) > 1.5 * t.leak_val_better:
            text = f"{name} was above {twin} by {gaps[-1]:.1%} in each evaluation"
            rule = "validation above training score"
            # Noise in the training labels alone does the same: worth a look, not a warning.
            return Finding(
                16, gaps[-1], twin, rule, t.leak_val_better, text, severity=Severity.INFO, key=name
            )
    return None


def first_too_good(w: Window, t: Thresholds) -> Judged:
    """Class 16: nearly perfect at the first evaluation although the training loss has hardly fallen."""
    if w.evaluations_count != 1 or w.init is None or w.smooth.last is None or w.resumed:
        return None
    if w.validation_rows is not None and w.validation_rows < t.leak_first_rows:
        return None
    if w.smooth.last < 0.5 * w.init or (w.chance is not None and w.init < t.plateau_good_start * w.chance):
        return None  # a fine-tuned model may well be nearly perfect from the start
    for name in _of_validation(w):
        value = w.evaluations[-1].metrics[name]
        if names.in_unit_range(name) and t.leak_first <= value <= 1.0:
            text = f"{name} is {value:.4g} at the first evaluation while the training loss kept most of its value"
            return Finding(16, value, None, "first validation score", t.leak_first, text, key=f"first {name}")
    return None
