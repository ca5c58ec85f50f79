"""Class 27: cross-validation, boosting and searches of classical models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from assay.live.names import number
from assay.live.rules.finding import Finding
from assay.live.thresholds import Thresholds


def _numbers(value: Any) -> list[float]:
    if not isinstance(value, list | tuple):
        return []
    return [v for v in (number(e) for e in value) if v is not None]


def judge_classical(facts: Mapping[str, Any], t: Thresholds) -> list[Finding]:
    """All rules that the facts at hand allow; a missing fact is not judged.

    Facts: `fold_scores`, `baseline_score`, `train_score`, `cv_score`, `boosting` (metric of the held-out set a round),
    `boosting_direction`, `search_scores` (a trial each), `search_budget`, `search_direction`, `distinct_predictions`,
    `fold_classes` (distinct labels in each fold).
    """
    found = [
        _folds(facts, t),
        _gap(facts, t),
        _boosting(facts, t),
        _search(facts, t),
        _constant(facts),
        _single(facts),
    ]
    return [f for f in found if f is not None]


def _folds(facts: Mapping[str, Any], t: Thresholds) -> Finding | None:
    folds, baseline = _numbers(facts.get("fold_scores")), number(facts.get("baseline_score"))
    if len(folds) < 3 or baseline is None:
        return None
    mean = sum(folds) / len(folds)
    spread = math.sqrt(sum((f - mean) * (f - mean) for f in folds) / (len(folds) - 1))
    gain = abs(mean - baseline)
    if spread <= t.fold_sd_over_gain * gain:
        return None
    text = f"folds differ by {spread:.3g} (SD) while the gain over guessing is {gain:.3g}"
    return Finding(27, spread, gain, "SD over folds over mean gain", t.fold_sd_over_gain, text, key="folds")


def _gap(facts: Mapping[str, Any], t: Thresholds) -> Finding | None:
    train, cv = number(facts.get("train_score")), number(facts.get("cv_score"))
    folds = _numbers(facts.get("fold_scores"))
    if cv is None and folds:
        cv = sum(folds) / len(folds)
    if train is None or cv is None or not (train <= 1.0 and cv <= 1.0):
        return None
    noise = 0.0
    if len(folds) >= 3:
        mean = sum(folds) / len(folds)
        noise = math.sqrt(sum((f - mean) * (f - mean) for f in folds) / (len(folds) - 1) / len(folds))
    limit = t.train_cv_gap + 2 * noise
    if train - cv <= limit:
        return None
    text = f"training score {train:.3g} against {cv:.3g} cross-validated"
    return Finding(27, train - cv, cv, "training minus cross-validated score", limit, text, key="gap")


def _boosting(facts: Mapping[str, Any], t: Thresholds) -> Finding | None:
    curve = _numbers(facts.get("boosting"))
    if len(curve) <= t.boosting_rounds:
        return None
    sign = -1.0 if facts.get("boosting_direction") == "max" else 1.0
    best_at = min(range(len(curve)), key=lambda i: sign * curve[i])
    rounds, best = len(curve) - 1 - best_at, curve[best_at]
    worse = sign * (curve[-1] - best)
    if rounds < t.boosting_rounds or worse <= t.boosting_rise * max(abs(best), 1e-12):
        return None
    text = f"the held-out metric got worse for {rounds} rounds: best {best:.4g} at round {best_at + 1}"
    return Finding(27, rounds, best, "rounds since the best", t.boosting_rounds, text, key="boosting")


def _search(facts: Mapping[str, Any], t: Thresholds) -> Finding | None:
    scores = _numbers(facts.get("search_scores"))
    budget = number(facts.get("search_budget")) or float(len(scores))
    if len(scores) < t.search_least or budget <= 0:
        return None
    sign = -1.0 if facts.get("search_direction") == "min" else 1.0
    best_at = max(range(len(scores)), key=lambda i: sign * scores[i])
    idle = len(scores) - 1 - best_at
    if idle < t.search_idle_frac * budget:
        return None
    text = f"no new best in {idle} trials of {budget:.0f}"
    return Finding(
        27,
        idle,
        scores[best_at],
        "trials without a new best",
        t.search_idle_frac * budget,
        text,
        key="search",
    )


def _constant(facts: Mapping[str, Any]) -> Finding | None:
    distinct = number(facts.get("distinct_predictions"))
    if distinct is None or distinct > 1:
        return None
    text = "every prediction is the same"
    return Finding(27, distinct, None, "distinct predictions", 2, text, key="constant")


def _single(facts: Mapping[str, Any]) -> Finding | None:
    classes = _numbers(facts.get("fold_classes"))
    if not classes or min(classes) >= 2:
        return None
    text = f"{sum(c < 2 for c in classes)} of {len(classes)} folds hold a single class"
    return Finding(27, min(classes), None, "classes in a fold", 2, text, key="single class")
