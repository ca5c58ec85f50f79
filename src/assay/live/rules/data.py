"""Classes 8, 15 and 16 before the first step: what the facts about wiring and data say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from assay.live.classes import Severity
from assay.live.names import number
from assay.live.rules.finding import CLEAR, Finding, Judged
from assay.live.thresholds import Thresholds
from assay.live.window import Window


def _names(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else []


def judge_wiring(facts: Mapping[str, Any], t: Thresholds) -> list[Finding]:
    """Class 8: parameters that will never be trained although they should be."""
    found: list[Finding] = []
    trainable = number(facts.get("trainable_elements"))
    owned = number(facts.get("owned_trainable_elements"))
    outside = _names(facts.get("trainable_not_in_optimizer"))
    if trainable and owned is not None and owned < trainable:
        share = 1 - owned / trainable
        foreign = number(facts.get("foreign_elements")) or 0.0
        # All of the model outside and as much of something else inside: built over other tensors, nothing else.
        certain = owned == 0 and foreign >= t.wiring_foreign_frac * trainable
        text = f"{share:.0%} of the trainable parameters are not in the optimizer: {', '.join(outside[:3])}"
        rule = "trainable elements outside the optimizer"
        found.append(
            Finding(8, share, trainable, rule, 0.0, text, key="owner", certain=certain,
                    severity=None if certain else Severity.WARNING)
        )  # fmt: skip
    frozen = _names(facts.get("frozen_in_optimizer"))
    if frozen:
        text = f"in the optimizer but requires_grad is off: {', '.join(frozen[:3])}"
        found.append(Finding(8, len(frozen), None, "frozen parameters in the optimizer", 0, text, key="frozen",
                             severity=Severity.WARNING))  # fmt: skip
    if trainable == 0 and (number(facts.get("elements")) or 0) > 0:
        text = "no parameter requires a gradient"
        found.append(Finding(8, 0, None, "trainable elements", 1, text, key="none", certain=True))
    return found


def judge_data(facts: Mapping[str, Any], t: Thresholds) -> list[Finding]:
    """Classes 15 and 16: order of labels, shared rows, telling columns, differing labels."""
    found = [_overlap(facts, t), _feature(facts, t), _order(facts, t), _skew(facts, t)]
    return [f for f in found if isinstance(f, Finding)]


def _overlap(facts: Mapping[str, Any], t: Thresholds) -> Judged:
    share = number(facts.get("overlap_frac"))
    if share is None:
        return None
    natural = number(facts.get("duplicate_frac")) or 0.0
    seen, rows = number(facts.get("rows_hashed")), number(facts.get("validation_rows"))
    # None that repeats among few rows does not say that none will: one more is reckoned with.
    chance = t.leak_over_duplicates * (natural + (1 / seen if seen else 0.0))
    # Rows that repeat by chance do so in validation as well, and a small set of them more or less often.
    limit = max(t.leak_overlap, chance + (t.leak_sds * math.sqrt(chance / rows) if rows else 0.0))
    if share <= limit:
        return CLEAR
    text = f"{share:.1%} of the validation rows are also in the training set ({natural:.1%} repeat within it)"
    return Finding(16, share, natural, "validation rows found in training", limit, text, key="overlap")


def _feature(facts: Mapping[str, Any], t: Thresholds) -> Judged:
    best, second = number(facts.get("feature_score")), number(facts.get("feature_score_second"))
    if best is None:
        return None
    rest = max(second or 0.0, number(facts.get("guess_score")) or 0.0)
    rows = number(facts.get("rows"))
    # Scored on half of the rows: on few of them a strong column may look like a telling one.
    error = math.sqrt(max(0.0, best * (1 - best)) / (0.5 * rows)) if rows else 0.0
    lift = (best - rest) / (1 - rest) if rest < 1 else 0.0
    limit = t.leak_feature_regression if facts.get("task") == "regression" else t.leak_feature
    if best - t.leak_errors * error < limit or lift < t.leak_lift:
        return CLEAR
    name = facts.get("feature")
    text = (
        f"feature {name} alone scores {best:.3g}; the next best {second if second is not None else rest:.3g}"
    )
    return Finding(16, best, rest, "score of one feature alone", limit, text, key="feature")


def _order(facts: Mapping[str, Any], t: Thresholds) -> Judged:
    if facts.get("shuffled") is True:
        return CLEAR
    entropies, expected = facts.get("batch_label_entropy"), number(facts.get("expected_batch_label_entropy"))
    if not isinstance(entropies, list | tuple) or not expected:
        return None
    if expected < t.unshuffled_least:
        return None
    values = [v for v in (number(e) for e in entropies) if v is not None][: t.unshuffled_batches]
    if len(values) < t.unshuffled_batches:
        return None
    if max(values) >= t.unshuffled_entropy * expected:
        return CLEAR
    text = f"the first {len(values)} batches hold {max(values) / expected:.0%} of the label entropy of shuffled ones"
    limit = t.unshuffled_entropy * expected
    return Finding(15, max(values), expected, "label entropy of a batch", limit, text, key="order")


def _skew(facts: Mapping[str, Any], t: Thresholds) -> Judged:
    distance, noise = number(facts.get("label_distance")), number(facts.get("label_distance_noise")) or 0.0
    if distance is None:
        return None
    limit = t.label_skew + 3 * noise
    if distance <= limit:
        return CLEAR
    text = f"labels of training and validation differ: total variation {distance:.2f}"
    return Finding(16, distance, None, "distance of the label shares", limit, text, key="skew")


def unshuffled(w: Window, t: Thresholds, expected: float | None) -> Judged:
    """Class 15 while training: batches hold few of the labels."""
    track = w.signal("label_entropy")
    if not track.fresh(w.row) or track.count < t.unshuffled_batches or not expected:
        return None
    if expected < t.unshuffled_least:
        return None
    values = track.tail(t.unshuffled_batches)
    limit = t.unshuffled_entropy * expected
    if max(values) >= limit:
        return CLEAR
    text = f"{t.unshuffled_batches} batches in a row hold at most {max(values) / expected:.0%} of the label entropy"
    return Finding(
        15, max(values), expected, "label entropy of a batch", limit, text, since=t.unshuffled_batches - 1
    )
