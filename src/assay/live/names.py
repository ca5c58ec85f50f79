"""What a metric's name says: whose loss it is, whether it was measured on held-out data, which way is better."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Sense = Literal["min", "max"]

_FIRST = ("loss", "train_loss", "train/loss", "training_loss", "loss/train", "batch_loss", "objective")
_HELD_OUT = re.compile(
    r"^(val|valid|validation|eval|test|dev|holdout|heldout|oof)(?=[_/\-. 0-9]|$)"
    r"|[_/\-. ](val|valid|validation|eval|test|dev)$",
    re.IGNORECASE,
)
_TRAIN = re.compile(r"^(train|training|tr)[_/\-. ]|[_/\-. ](train|training)$", re.IGNORECASE)
_WORD = re.compile(r"[a-z0-9]+")
_MIN = frozenset(
    [
        "loss",
        "error",
        "err",
        "mae",
        "mse",
        "rmse",
        "mape",
        "ppl",
        "perplexity",
        "wer",
        "cer",
        "nll",
        "bpc",
        "logloss",
        "brier",
        "fid",
        "deviance",
        "ece",
    ]
)
_MAX = frozenset(
    [
        "acc",
        "accuracy",
        "f1",
        "auc",
        "auroc",
        "ap",
        "map",
        "precision",
        "recall",
        "r2",
        "score",
        "bleu",
        "rouge",
        "iou",
        "dice",
        "reward",
        "return",
        "top1",
        "top5",
        "kappa",
        "mcc",
        "ndcg",
        "spearman",
        "pearson",
        "psnr",
        "ssim",
    ]
)
_UNIT = frozenset(
    [
        "acc",
        "accuracy",
        "f1",
        "auc",
        "auroc",
        "ap",
        "precision",
        "recall",
        "r2",
        "iou",
        "dice",
        "top1",
        "top5",
        "kappa",
        "mcc",
    ]
)


def number(value: Any) -> float | None:
    """A finite number, or None for everything else (bool included)."""
    if type(value) is float:
        return value if math.isfinite(value) else None
    if type(value) is int:
        return float(value) if abs(value) < 1 << 1000 else None
    return None


def held_out(name: str) -> bool:
    """Whether the name says validation, evaluation or test."""
    return _HELD_OUT.search(name) is not None


def of_training(name: str) -> bool:
    """Whether the name says training."""
    return _TRAIN.search(name) is not None


def bare(name: str) -> str:
    """The name without its split: `val_loss` and `train/loss` are both `loss`."""
    return _TRAIN.sub("", _HELD_OUT.sub("", name)).strip("_/-. ").lower()


def words(name: str) -> frozenset[str]:
    """The lower-case words of a name."""
    return frozenset(_WORD.findall(name.lower().replace("_", " ")))


def is_loss(name: str) -> bool:
    """Whether it is a loss of any split."""
    return "loss" in name.lower()


def training_loss(names: Iterable[str]) -> str | None:
    """The name of the training loss among the metrics of a step row."""
    found = list(names)
    for name in _FIRST:
        if name in found:
            return name
    return next((n for n in found if is_loss(n) and not held_out(n)), None)


def sense(name: str, declared: Mapping[str, str] | None = None) -> Sense | None:
    """Which way the metric gets better; None where neither plan nor name tells."""
    for key in (name, bare(name)):
        told = (declared or {}).get(key)
        if told in ("min", "lower"):
            return "min"
        if told in ("max", "higher"):
            return "max"
    parts = words(name)
    if is_loss(name) or parts & _MIN:
        return "min"
    return "max" if parts & _MAX else None


def in_unit_range(name: str) -> bool:
    """Whether 1 is perfect and higher is better, by its name."""
    return bool(words(name) & _UNIT)
