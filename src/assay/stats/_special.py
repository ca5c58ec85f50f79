"""The few functions of scipy.special in use, with types; scipy itself carries none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._validate import FloatArray


def normal_cdf(z: ArrayLike) -> FloatArray:
    """Standard normal distribution function."""
    return np.asarray(special.ndtr(z), dtype=np.float64)


def normal_quantile(p: float) -> float:
    """Standard normal quantile of the probability `p`."""
    return float(special.ndtri(p))


def t_cdf(t: float, df: float) -> float:
    """Distribution function of Student's t with `df` degrees of freedom."""
    return float(special.stdtr(df, t))


def t_quantile(p: float, df: float) -> float:
    """Quantile of Student's t with `df` degrees of freedom."""
    return float(special.stdtrit(df, p))


def beta_cdf(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Distribution function of Beta(a, b), a > 0 and b > 0."""
    return np.asarray(special.betainc(a, b, x), dtype=np.float64)


def beta_quantile(p: ArrayLike, a: float, b: float) -> FloatArray:
    """Quantile of Beta(a, b)."""
    return np.asarray(special.betaincinv(a, b, p), dtype=np.float64)


def binomial_cdf(k: ArrayLike, n: ArrayLike, p: float) -> FloatArray:
    """P(X <= k) for X ~ Binomial(n, p); 0 below zero, 1 from n on."""
    at, of = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64))
    inside = (at >= 0) & (at < of)
    low = np.where(inside, at, 0.0)
    left = np.where(inside, of - low, 1.0)
    return np.where(inside, beta_cdf(1.0 - p, left, low + 1.0), np.where(at < 0, 0.0, 1.0))


def log_choose(n: int, k: FloatArray) -> FloatArray:
    """Natural logarithms of the binomial coefficients C(n, k)."""
    return np.asarray(
        special.gammaln(n + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0), dtype=np.float64
    )


def binomial_pmf(log_coefficients: FloatArray, k: FloatArray, n: int, p: float) -> FloatArray:
    """P(X = k) for X ~ Binomial(n, p), given ln C(n, k) for the same `k`."""
    log_mass = log_coefficients + special.xlogy(k, p) + special.xlog1py(n - k, -p)
    return np.asarray(np.exp(log_mass), dtype=np.float64)
