"""Checks of arguments, shared by all families; each raises StatsError with the argument's name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import StatsError

FloatArray: TypeAlias = NDArray[np.float64]
"""Array of float64."""

NumericArray: TypeAlias = NDArray[Any] | Sequence[float]
"""What the vectorised functions take: a numeric array or a plain sequence of numbers."""

LARGEST_COUNT = 2**53
"""Largest count that a float64 holds exactly."""


def number(argument: str, value: object) -> float:
    """Return a finite real number as float.

    Raises:
        StatsError: If it is a bool, text, None, NaN, infinite, or not a number.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real) or not math.isfinite(float(value)):
        raise StatsError(argument, "a finite number", value)
    return float(value)


def count(argument: str, value: object, minimum: int = 0) -> int:
    """Return a whole number of at least `minimum`.

    Raises:
        StatsError: If it is not a whole number, or below `minimum`.
    """
    whole = number(argument, value)
    if whole != math.floor(whole) or not minimum <= whole <= LARGEST_COUNT:
        raise StatsError(argument, f"a whole number >= {minimum}", value)
    return int(value) if isinstance(value, Integral) else int(whole)


def open_fraction(argument: str, value: object) -> float:
    """Return a number strictly between 0 and 1 (a level, alpha or power)."""
    fraction = number(argument, value)
    if not 0.0 < fraction < 1.0:
        raise StatsError(argument, "in (0, 1)", value)
    return fraction


def alpha_fraction(argument: str, value: object) -> float:
    """Return a one-sided error rate, strictly between 0 and 0.5."""
    rate = number(argument, value)
    if not 0.0 < rate < 0.5:
        raise StatsError(argument, "in (0, 0.5)", value)
    return rate


def signed_margin(argument: str, value: object) -> float:
    """Return a number in (-1, 1): a margin that may also demand a gain."""
    fraction = number(argument, value)
    if not -1.0 < fraction < 1.0:
        raise StatsError(argument, "in (-1, 1)", value)
    return fraction


def margin_fraction(argument: str, value: object) -> float:
    """Return a number in [0, 1), the range of a margin."""
    fraction = number(argument, value)
    if not 0.0 <= fraction < 1.0:
        raise StatsError(argument, "in [0, 1)", value)
    return fraction


def pair_counts(b: object, c: object, n: object) -> tuple[int, int, int]:
    """Return the two discordant counts and the number of pairs.

    Raises:
        StatsError: If one is no count, `n` is 0, or b + c > n.
    """
    flips_b, flips_c, pairs = count("b", b), count("c", c), count("n", n, minimum=1)
    if flips_b + flips_c > pairs:
        raise StatsError("n", f"at least b + c = {flips_b + flips_c}", n)
    return flips_b, flips_c, pairs


def numbers(argument: str, values: object) -> FloatArray:
    """Return a non-empty array of finite float64, of any shape.

    Raises:
        StatsError: If it is empty, ragged, not numeric, or holds a bool, NaN or infinity.
    """
    if isinstance(values, str | bytes) or (isinstance(values, Iterable) and _holds_bool(values)):
        raise StatsError(argument, "numbers", values)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise StatsError(argument, "a rectangular array of numbers", values) from error
    if array.dtype.kind not in "iuf":
        raise StatsError(argument, "numbers", values)
    if array.size == 0:
        raise StatsError(argument, "non-empty", values)
    result = array.astype(np.float64)
    if not np.isfinite(result).all():
        raise StatsError(argument, "finite numbers", values)
    return result


def vector(argument: str, values: object) -> FloatArray:
    """Return a non-empty one-dimensional array of finite float64."""
    array = numbers(argument, values)
    if array.ndim != 1:
        raise StatsError(argument, "one-dimensional", values)
    return array


def count_array(argument: str, values: object, minimum: int = 0) -> FloatArray:
    """Return an array of whole numbers of at least `minimum`, held as float64."""
    array = numbers(argument, values)
    if (array < minimum).any() or (array > LARGEST_COUNT).any() or (array != np.floor(array)).any():
        raise StatsError(argument, f"whole numbers >= {minimum}", values)
    return array


def count_vector(argument: str, values: object, minimum: int = 0) -> FloatArray:
    """Return a non-empty one-dimensional array of whole numbers of at least `minimum`, as float64."""
    array = count_array(argument, values, minimum)
    if array.ndim != 1:
        raise StatsError(argument, "one-dimensional", values)
    return array


def same_length(argument: str, values: FloatArray, other: str, like: FloatArray) -> None:
    """Check that two vectors are of one length.

    Raises:
        StatsError: If they are not.
    """
    if values.shape != like.shape:
        raise StatsError(argument, f"of shape {like.shape} as {other}", f"shape {values.shape}")


def broadcast(arguments: str, *arrays: FloatArray) -> tuple[FloatArray, ...]:
    """Return the arrays stretched to one shape.

    Raises:
        StatsError: If their shapes do not go together.
    """
    try:
        return tuple(np.broadcast_arrays(*arrays))
    except ValueError as error:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise StatsError(arguments, "of shapes that broadcast", shapes) from error


def paired_count_arrays(b: object, c: object, n: object) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the two discordant counts and the pairs as arrays of one shape.

    Raises:
        StatsError: If one is no array of counts, an `n` is 0, or b + c > n anywhere.
    """
    flips_b, flips_c, pairs = broadcast(
        "b, c, n", count_array("b", b), count_array("c", c), count_array("n", n, minimum=1)
    )
    if (flips_b + flips_c > pairs).any():
        raise StatsError("n", "at least b + c in every place", n)
    return flips_b, flips_c, pairs


def alternative_name(alternative: object) -> str:
    """Return "two-sided", "worse" or "better" (of the candidate).

    Raises:
        StatsError: If it is anything else.
    """
    if alternative not in ("two-sided", "worse", "better"):
        raise StatsError("alternative", "'two-sided', 'worse' or 'better'", alternative)
    return str(alternative)


def seeded(seed: object) -> np.random.Generator:
    """Return a generator of its own for a whole-number seed.

    Raises:
        StatsError: If the seed is no whole number >= 0.
    """
    return np.random.default_rng(count("seed", seed))


def cluster_index(clusters: Iterable[object] | None, size: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the number of each unit's cluster, counted from 0; None makes each unit its own.

    Raises:
        StatsError: If the labels are no text or whole numbers, or not `size` of them.
    """
    if clusters is None:
        return np.arange(size, dtype=np.intp)
    allowed = "text or whole numbers, one label per unit"
    if isinstance(clusters, str | bytes) or not isinstance(clusters, Iterable):
        raise StatsError("clusters", allowed, clusters)
    labels = list(clusters)
    index: dict[object, int] = {}
    for label in labels:
        if isinstance(label, bool | np.bool_) or not isinstance(label, str | int | np.integer):
            raise StatsError("clusters", allowed, label)
        index.setdefault(label, len(index))
    if len(labels) != size:
        raise StatsError("clusters", f"of length {size} as d", f"length {len(labels)}")
    return np.array([index[label] for label in labels], dtype=np.intp)


def _holds_bool(values: Iterable[object]) -> bool:
    # numpy would turn [True, 2] into the integers [1, 2] without a word
    if isinstance(values, np.ndarray):
        return bool(values.dtype.kind == "b")
    return isinstance(values, list | tuple) and any(
        isinstance(v, bool | np.bool_) or (isinstance(v, list | tuple) and _holds_bool(v)) for v in values
    )
