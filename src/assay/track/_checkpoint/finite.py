"""Whether the weights of a state are numbers. A resume from NaN trains NaN, however well its bytes are verified."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from assay.track._checkpoint import arrays
from assay.track._checkpoint.tree import Encoded

SHOWN = 1
_LEARNED = re.compile(r"(?i)model|module|net|weight|bias|param|kernel|embed|ema\b|encoder|decoder|head\b")
"""A path with one of these words holds what was learned."""
_MOMENTS = re.compile(r"(?i)\boptim|\bopt\b")
_NOT_LEARNED = re.compile(
    r"(?i)^(gradients|rng|monitor|counters|position|loader|metrics|history)\b|\bfitted\b"
)
"""Pending gradients may overflow (a scaler skips them); a fitted estimator may hold NaN for what it never saw."""


def not_finite(encoded: Encoded) -> str:
    """Which weights of a frozen state are NaN or infinite, as a sentence; empty if none is.

    Of the optimizer only NaN counts. An infinite mask (0 and -inf, nothing else) is no weight.
    """
    found = [*_blobs(encoded), *_floats(encoded.tree, ())]
    if not found:
        return ""
    more = f"; {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"the weights are not finite: {'; '.join(found[:SHOWN])}{more}"


def _blobs(encoded: Encoded) -> Iterator[str]:
    for part, blobs in encoded.blobs.items():
        for key, (value, _) in blobs.items():
            path = f"{part}.{key}"
            if not _concerns(path):
                continue
            bad, word = _count(value, nan_only=_MOMENTS.search(path) is not None)
            if bad:
                yield f"{path} holds {bad} {word} of {_size(value)} values"


def _concerns(path: str) -> bool:
    looked_at = _LEARNED.search(path) or _MOMENTS.search(path)
    return looked_at is not None and _NOT_LEARNED.search(path) is None


def _count(value: Any, *, nan_only: bool) -> tuple[int, str]:
    """How many values are not finite, and what they are."""
    module = arrays.loaded("torch") if arrays.is_tensor(value) else arrays.loaded("numpy")
    if not (arrays.is_tensor(value) or arrays.is_array(value)) or not _floating(value):
        return 0, ""
    if arrays.is_tensor(value) and value.element_size() == 1:
        value = value.float()  # no kernel of torch asks float8
    nan = int(module.isnan(value).sum())
    if nan or nan_only:
        return nan, "NaN"
    infinite = module.isinf(value)
    count = int(infinite.sum())
    if not count or (not value[~infinite].any() and not (value[infinite] > 0).any()):
        return 0, ""
    return count, "infinities"


def _floating(value: Any) -> bool:
    if arrays.is_tensor(value):
        return bool(value.is_floating_point())
    return bool(value.dtype.kind == "f")


def _size(value: Any) -> int:
    return int(value.numel() if arrays.is_tensor(value) else value.size)


def _floats(tree: Any, path: tuple[str, ...]) -> Iterator[str]:
    """NaN among plain numbers: weights of a model that needs no library."""
    if isinstance(tree, list):
        bad = sum(
            isinstance(item, dict) and item.get("$") == "float" and item.get("value") == "nan"
            for item in tree
        )
        if bad and _concerns(".".join(path)):
            yield f"{'.'.join(path)} holds {bad} NaN of {len(tree)} values"
        for item in tree:
            if isinstance(item, list | dict) and "value" not in item:
                yield from _floats(item, path)
    elif isinstance(tree, dict) and "$" not in tree:
        for key, item in tree.items():
            yield from _floats(item, (*path, str(key)))
