"""Facts about the data before step 0: shared rows, telling columns, order and shares of labels. The rules judge them.

numpy does the arithmetic, and only if the script has loaded it. Rows and seconds are bounded; rows are taken at an even
stride, so no random number is drawn; a dataset is never indexed (that would run its augmentations), only its stored
arrays are read.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_ROWS = 20_000
MAX_FEATURES = 512
MAX_S = 2.0
CLASSES_LIMIT = 1_000
FIRST_BATCHES = 5
BINS = 16


def facts(  # noqa: PLR0913 - a public door: all but the data may be left out
    train: Any,
    validation: Any = None,
    *,
    labels: Any = None,
    validation_labels: Any = None,
    batch_size: int | None = None,
    shuffle: bool | None = None,
    task: str | None = None,
    max_rows: int = MAX_ROWS,
    max_s: float = MAX_S,
) -> dict[str, Any]:
    """What can be said about the data. Never raises; what could not be computed is absent, `problem` says why.

    Args:
        train: array, tensor, data frame, `(inputs, labels)`, a dataset with `tensors` or `data`/`targets`, or a loader
            of one.
        validation: the same, held out.
        labels: of `train`, if not part of it.
        validation_labels: of `validation`.
        batch_size: rows a step; read from a loader.
        shuffle: whether batches are drawn at random; read from a loader.
        task: `classification` or `regression`; guessed from the labels.
        max_rows: of each set, taken at an even stride.
        max_s: seconds after which the rest is left out.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return {"problem": "numpy is not loaded by the script: the data was not inspected"}
    started = time.monotonic()
    found: dict[str, Any] = {}
    try:
        size, order = _loader(train)
        batch_size, shuffle = batch_size or size, order if shuffle is None else shuffle
        x, y = _arrays(numpy, train, labels)
        vx, vy = _arrays(numpy, validation, validation_labels) if validation is not None else (None, None)
        found |= {"batch_size": batch_size, "shuffled": shuffle}
        found |= {"rows": _length(x if x is not None else y)}
        if validation is not None:
            found["validation_rows"] = _length(vx if vx is not None else vy)
        stages: list[Callable[[], dict[str, Any]]] = [
            lambda: _label_facts(numpy, y, vy, batch_size, shuffle, task),
            lambda: _overlap_facts(numpy, x, vx, max_rows),
            lambda: _feature_facts(numpy, x, y, task, min(max_rows, 5_000), started + max_s),
        ]
        for stage in stages:
            if time.monotonic() - started > max_s:
                found["problem"] = f"stopped after {max_s:g} s"
                break
            found |= stage()
    except Exception as error:  # noqa: BLE001 - foreign containers may raise anything; a check must not end a run
        found["problem"] = f"{type(error).__name__}: {error}"[:200]
    found["inspected_s"] = round(time.monotonic() - started, 4)
    return {k: v for k, v in found.items() if v is not None}


def batch_label_entropy(batch: Any) -> float | None:
    """Entropy in nats of the labels of a batch `(inputs, labels)`; None if they are no whole numbers on the CPU."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(batch, list | tuple) or len(batch) < 2:
        return None
    try:
        if getattr(getattr(batch[-1], "device", None), "type", "cpu") != "cpu":
            return None
        labels = _array(numpy, batch[-1])
        if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iub" or len(labels) < 2:
            return None
        return _entropy(numpy, numpy.unique(labels, return_counts=True)[1])
    except Exception:  # noqa: BLE001 - foreign containers may raise anything; a check must not end a run
        return None


# Getting at stored arrays.


def _loader(train: Any) -> tuple[int | None, bool | None]:
    """Batch size and whether a torch-like loader shuffles."""
    size = getattr(train, "batch_size", None)
    sampler = getattr(train, "sampler", None)
    if sampler is None:
        return (size if isinstance(size, int) else None), None
    name = type(sampler).__name__
    known = {"RandomSampler": True, "WeightedRandomSampler": True, "SequentialSampler": False}
    return (size if isinstance(size, int) else None), known.get(name)


def _arrays(numpy: Any, source: Any, labels: Any) -> tuple[Any, Any]:
    """Inputs and labels as arrays; None for what is not stored as an array."""
    source = getattr(source, "dataset", source)
    given = _array(numpy, labels) if labels is not None else None
    if isinstance(source, Mapping):
        values = list(source.values())
        source = (values[0], values[-1]) if len(values) >= 2 else values[0] if values else None
    tensors = getattr(source, "tensors", None)
    if isinstance(tensors, list | tuple) and tensors:
        source = (tensors[0], tensors[-1]) if len(tensors) > 1 else tensors[0]
    elif not hasattr(source, "dtype") and hasattr(source, "targets") and hasattr(source, "data"):
        source = (source.data, source.targets)
    if isinstance(source, tuple) and len(source) == 2:
        return _array(numpy, source[0]), given if given is not None else _array(numpy, source[1])
    return _array(numpy, source), given


def _array(numpy: Any, value: Any) -> Any:
    if value is None or isinstance(value, str | bytes):
        return None
    if hasattr(value, "detach"):
        if getattr(value.device, "type", "cpu") != "cpu":
            return None
        value = value.detach()
        return (
            value.float().numpy()
            if str(value.dtype) in ("torch.bfloat16", "torch.float16")
            else value.numpy()
        )
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, numpy.ndarray):
        return value if value.ndim >= 1 else None
    if isinstance(value, Sequence) and value and isinstance(value[0], int | float | list | tuple):
        made = numpy.asarray(value)
        return made if made.dtype.kind in "biuf" else None
    return None


def _length(array: Any) -> int | None:
    return len(array) if array is not None else None


def _rows(array: Any, limit: int) -> Any:
    """An even selection of rows, as a matrix."""
    stride = -(-len(array) // limit)
    chosen = array[::stride] if stride > 1 else array
    return chosen.reshape(len(chosen), -1)


# Labels.


def _classes(numpy: Any, y: Any, task: str | None) -> tuple[Any, Any] | None:
    """Distinct labels and the code of each row; None for regression."""
    if y is None or task == "regression" or not len(y):
        return None
    flat = y.reshape(-1) if y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1) else None
    if flat is None or (
        flat.dtype.kind == "f" and (task is None and not numpy.all(flat == numpy.floor(flat)))
    ):
        return None
    kinds, codes = numpy.unique(flat, return_inverse=True)
    if len(kinds) > CLASSES_LIMIT or (task is None and len(kinds) > max(2, 0.2 * len(flat))):
        return None
    return kinds, codes.reshape(-1)


def _entropy(numpy: Any, counts: Any) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * numpy.log(shares)).sum()) + 0.0


def _label_facts(
    numpy: Any, y: Any, vy: Any, batch_size: int | None, shuffle: bool | None, task: str | None
) -> dict[str, Any]:
    grouped = _classes(numpy, y, task)
    if grouped is None:
        if y is None or y.dtype.kind not in "fiu" or not len(y):
            return {}
        return {"task": "regression", "target_variance": float(numpy.nanvar(y.astype(float)))}
    kinds, codes = grouped
    counts = numpy.bincount(codes, minlength=len(kinds))
    found: dict[str, Any] = {
        "task": "classification",
        "classes": len(kinds),
        "label_entropy": _entropy(numpy, counts),
        "majority_share": float(counts.max() / counts.sum()),
        "minority_share": float(counts.min() / counts.sum()),
    }
    if vy is not None and len(vy):
        found |= _label_distance(numpy, kinds, counts, vy.reshape(-1))
    if batch_size and batch_size >= 2 and len(codes) >= batch_size:
        found["expected_batch_label_entropy"] = _expected_entropy(numpy, counts, batch_size)
        if shuffle is not True:
            starts = range(0, min(len(codes), FIRST_BATCHES * batch_size) - batch_size + 1, batch_size)
            found["batch_label_entropy"] = [
                _entropy(numpy, numpy.bincount(codes[s : s + batch_size], minlength=len(kinds)))
                for s in starts
            ]
    return found


def _label_distance(numpy: Any, kinds: Any, counts: Any, vy: Any) -> dict[str, Any]:
    """Total variation distance between the label shares, and what chance alone gives at these sizes."""
    p = counts / counts.sum()
    q = numpy.array([(vy == k).mean() for k in kinds])
    n, m = counts.sum(), len(vy)
    distance = 0.5 * (float(numpy.abs(p - q).sum()) + max(0.0, 1.0 - float(q.sum())))
    noise = 0.5 * float(numpy.sqrt(p * (1 - p) * (1 / n + 1 / m)).sum()) * 0.8
    return {"label_distance": distance, "label_distance_noise": noise}


def _expected_entropy(numpy: Any, counts: Any, size: int) -> float:
    """Mean entropy of a random batch: exact from binomial counts for each class."""
    size = min(size, 4096)
    n = numpy.arange(size + 1)
    logs = numpy.concatenate([[0.0], numpy.cumsum(numpy.log(numpy.arange(1, size + 1)))])
    choose = logs[size] - logs - logs[::-1]
    share = n / size
    terms = numpy.where(share > 0, -share * numpy.log(numpy.where(share > 0, share, 1.0)), 0.0)
    total = 0.0
    for p in counts / counts.sum():
        if 0 < p < 1:
            total += float(
                (numpy.exp(choose + n * numpy.log(p) + (size - n) * numpy.log1p(-p)) * terms).sum()
            )
    return total


# Rows.


def _hashes(numpy: Any, rows: Any) -> list[bytes]:
    rows = numpy.ascontiguousarray(rows)
    if rows.dtype.kind == "O":
        return []
    return [hashlib.blake2b(r.tobytes(), digest_size=8).digest() for r in rows]


def _overlap_facts(numpy: Any, x: Any, vx: Any, max_rows: int) -> dict[str, Any]:
    if x is None or not len(x):
        return {}
    # Two different selections would hide shared rows: the training set is hashed whole up to ten times the limit.
    seen = _hashes(numpy, _rows(x, 10 * max_rows))
    if not seen:
        return {}
    distinct = set(seen)
    found: dict[str, Any] = {"duplicate_frac": 1 - len(distinct) / len(seen), "rows_hashed": len(seen)}
    if vx is not None and len(vx) and vx.dtype == x.dtype and vx.shape[1:] == x.shape[1:]:
        held = _hashes(numpy, _rows(vx, max_rows))
        found["overlap_frac"] = sum(h in distinct for h in held) / len(held)
    return found


# Columns.


def _feature_facts(numpy: Any, x: Any, y: Any, task: str | None, limit: int, until: float) -> dict[str, Any]:
    """Constant columns, and how well one column alone tells the label (binned on one half, scored on the other)."""
    if x is None or x.dtype.kind not in "biuf" or len(x) < 40:
        return {}
    rows = _rows(x, limit).astype(float)
    finite = numpy.isfinite(rows)
    found: dict[str, Any] = {"features": rows.shape[1], "nonfinite_cells": int((~finite).sum())}
    rows = numpy.where(finite, rows, 0.0)
    found["constant_features"] = int((rows == rows[0]).all(axis=0).sum())
    if y is None or len(y) != len(x) or rows.shape[1] > MAX_FEATURES:
        return found
    stride = -(-len(y) // limit)
    grouped = _classes(numpy, y, task)
    if grouped is None and y.reshape(len(y), -1).shape[1] > 1:
        return found  # one column of many outputs: an autoencoder's is a column of its input
    target = (grouped[1] if grouped is not None else y.reshape(len(y), -1)[:, 0].astype(float))[::stride]
    return found | _single_features(numpy, rows, target, grouped is not None, until)


def _single_features(numpy: Any, rows: Any, target: Any, classes: bool, until: float) -> dict[str, Any]:
    even = numpy.arange(len(rows)) % 2 == 0
    scores: list[float] = []
    for column in rows.T:
        if time.monotonic() > until:
            break
        scores.append(_score(numpy, column, target, even, classes))
    if not scores:
        return {}
    order = numpy.argsort(scores)[::-1]
    guess = 0.0
    if classes:
        guess = float(numpy.bincount(target[~even].astype(int)).max() / max(1, (~even).sum()))
    found = {"feature": int(order[0]), "feature_score": float(scores[order[0]]), "guess_score": guess}
    if len(scores) > 1:
        # A copy of the telling column is no reason to trust it.
        rest = [i for i in order[1:] if not _same(rows[:, i], rows[:, order[0]])]
        if rest:
            found["feature_score_second"] = float(scores[rest[0]])
    return found


def _same(a: Any, b: Any) -> bool:
    spread = float(a.std() * b.std())
    return spread > 0 and abs(float(((a - a.mean()) * (b - b.mean())).mean())) / spread > 0.999


def _score(numpy: Any, column: Any, target: Any, even: Any, classes: bool) -> float:
    kinds = numpy.unique(column[even])
    if len(kinds) > BINS:
        kinds = numpy.quantile(column[even], numpy.linspace(0, 1, BINS + 1)[1:-1])
    bins = numpy.searchsorted(kinds, column, side="right")
    size = int(bins.max()) + 1
    own, other = target[even], target[~even]
    if classes:
        width = int(target.max()) + 1
        table = numpy.bincount(bins[even] * width + own, minlength=size * width).reshape(size, width)
        return float((table.argmax(axis=1)[bins[~even]] == other).mean())
    counts = numpy.bincount(bins[even], minlength=size)
    means = numpy.bincount(bins[even], weights=own, minlength=size) / numpy.maximum(counts, 1)
    means[counts == 0] = own.mean()
    spread = float(((other - own.mean()) ** 2).mean())
    return float(1 - ((other - means[bins[~even]]) ** 2).mean() / spread) if spread > 0 else 0.0
