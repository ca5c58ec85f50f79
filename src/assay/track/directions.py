"""Which way a metric gets better, and what its best value is.

A declared direction counts. Without one the name decides, by the table below, on its last part (`val/loss`,
`eval_mae`): first the words that lower is better for, then "higher". Names that fool it must be declared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LOWER = frozenset(
    {
        "loss", "losses", "error", "err", "errors", "mae", "mse", "rmse", "msle", "rmsle", "mape", "smape", "wape",
        "mase", "rse", "nrmse", "medae", "perplexity", "ppl", "bpc", "bpb", "bits", "nll", "xent", "crossentropy",
        "logloss", "mlogloss", "hinge", "brier", "ece", "mce", "wer", "cer", "ter", "der", "eer",
        "mer", "fid", "kid", "lpips", "kl", "kld", "divergence", "deviance", "distance", "dist", "emd", "chamfer",
        "hausdorff", "regret", "fpr", "fnr", "far", "frr", "fdr", "hamming", "poisson", "pinball",
        "crps", "rmsd", "epe", "mpjpe", "latency", "time", "seconds", "memory", "bytes", "toxicity", "cost",
        "residual", "merror", "l1", "l2", "mrr_error", "aic", "bic", "inertia",
    }
)  # fmt: skip
"""Words that lower is better for."""
HIGHER = frozenset(
    {
        "acc", "accuracy", "auc", "auroc", "auprc", "ap", "map", "precision", "recall", "score", "bleu", "rouge",
        "meteor", "chrf", "f", "f1", "fbeta", "reward", "return", "returns", "iou", "miou", "dice", "r2", "corr",
        "correlation", "pearson", "spearman", "kappa", "mcc", "likelihood", "psnr", "ssim", "top", "em", "exact",
        "match", "hit", "hits", "ndcg", "mrr", "success", "win", "wins", "winrate", "pass", "elo", "throughput", "gain",
        "coverage", "sensitivity", "specificity", "tpr", "tnr", "quality", "correct", "agreement", "purity",
        "silhouette", "elbo",
    }
)  # fmt: skip
"""Words that higher is better for, as for every name that no table knows: then it is a guess, and said."""
HIGHER_PHRASES = ("neg_", "negative_", "log_likelihood", "loglikelihood", "error_free", "inverse_")
"""Parts of a name that turn it round: scikit-learn's `neg_mean_squared_error` is better when higher."""
LOWER_PHRASES = (
    "cross_entropy", "false_positive", "false_negative", "word_error", "character_error", "log_loss",
    "mean_absolute", "mean_squared", "root_mean", "miss_rate", "failure_rate", "bits_per", "edit_distance",
)  # fmt: skip
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
TARGET = re.compile(
    r"\s*(?P<sign><=|>=|=<|=>|<|>|≤|≥|==?)?\s*(?P<value>[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?)\s*(?P<percent>%)?\s*"
)
"""A threshold as people write it: `> 0.9`, `<= 3e-2`, `95 %`, `0.9`."""


def infer(name: str) -> str:
    """`min` or `max` from a metric's name."""
    return _told(name) or "max"


def guessed(name: str) -> bool:
    """Whether nothing in a metric's name tells its direction."""
    return _told(name) is None


def _told(name: str) -> str | None:
    lowered = name.lower()
    if any(p in lowered for p in HIGHER_PHRASES):
        return "max"
    if any(p in lowered for p in LOWER_PHRASES):
        return "min"
    words = [w.lower() for w in _WORDS.findall(name.replace("/", "_"))]
    pairs = {"".join(words[i : i + 2]) for i in range(len(words))}  # CrossEntropy, l1, log-loss
    if LOWER & ({*words} | pairs) or any(w.endswith("loss") for w in words):
        return "min"
    return "max" if HIGHER & ({*words} | pairs) else None


def word(direction: object) -> str:
    """A declared direction as `min` or `max`.

    Raises:
        ValueError: if it is neither.
    """
    shown = str(getattr(direction, "value", direction)).strip().lower()
    for accepted, names in (
        ("min", ("min", "minimize", "minimise", "lower", "down")),
        ("max", ("max", "maximize", "maximise", "higher", "up")),
    ):
        if shown in names:
            return accepted
    raise ValueError(f"a direction is 'min' or 'max', not {shown!r}")


def direction_of(name: str, plan: Mapping[str, Any]) -> str:
    """The declared direction of a metric, else the inferred one."""
    primary = plan.get("primary_metric") or {}
    if primary.get("name") == name and primary.get("direction") in ("min", "max"):
        return str(primary["direction"])
    declared = (plan.get("metrics") or {}).get(name)
    return str(declared) if declared in ("min", "max") else infer(name)


def better(value: float, best: float, direction: str) -> bool:
    """Whether a finite value beats a finite best; a tie does not."""
    return value < best if direction == "min" else value > best


def threshold(value: float | str) -> tuple[float, str | None]:
    """A threshold as a number, and the direction that its sign tells (`> 0.9` → `max`).

    Raises:
        ValueError: if it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(  # noqa: TRY004 - one kind of error for every argument that cannot be understood
            f"a threshold is a number or a text such as '> 0.9', not {value!r}"
        )
    if not isinstance(value, str):
        if value - value != 0.0:
            raise ValueError(f"a threshold is finite, not {value!r}")
        return float(value), None
    found = TARGET.fullmatch(value)
    if found is None:
        raise ValueError(f"a threshold is a number or a text such as '> 0.9', not {value!r}")
    amount = float(found["value"]) / (100 if found["percent"] else 1)
    sign = found["sign"] or ""
    way = "max" if sign in (">", ">=", "=>", "≥") else "min" if sign in ("<", "<=", "=<", "≤") else None
    return amount, way
