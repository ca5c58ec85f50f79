"""The data sets of `faults.py`: scikit-learn's own and made ones, split by the seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor


@dataclass
class Data:
    """Tensors of one task."""

    x: Tensor
    y: Tensor
    vx: Tensor
    vy: Tensor
    classes: int
    """0 for regression."""
    tokens: int = 0
    """Size of the vocabulary; 0 for real inputs."""

    @property
    def outputs(self) -> int:
        """Width of the last layer."""
        return self.classes or (1 if self.y.dim() == 1 else self.y.shape[1])


def load(task: str, seed: int, validation_rows: int = 300, label_noise: float = 0.0) -> Data:
    """A task, split by the seed."""
    random = np.random.default_rng(seed)
    x, y, classes, tokens = _arrays(task, random)
    order = random.permutation(len(x))
    x, y = x[order], y[order]
    held = min(validation_rows, len(x) // 3)
    vx, vy, x, y = x[:held], y[:held], x[held:], y[held:]
    if not tokens:
        mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-3
        x, vx = (x - mean) / spread, (vx - mean) / spread
    if label_noise and classes:
        flipped = random.random(len(y)) < label_noise
        y = np.where(flipped, random.integers(0, classes, len(y)), y)
    if task in RECONSTRUCTIONS:
        y, vy = x, vx
    kind = torch.long if classes else torch.float32
    inputs = torch.long if tokens else torch.float32
    return Data(
        torch.tensor(x, dtype=inputs), torch.tensor(y, dtype=kind),
        torch.tensor(vx, dtype=inputs), torch.tensor(vy, dtype=kind), classes, tokens,
    )  # fmt: skip


def _arrays(task: str, random: np.random.Generator) -> tuple[Any, Any, int, int]:
    state = int(random.integers(1 << 30))
    if task in TOKENS:
        kinds, classes, answer = TOKENS[task]
        tokens = random.integers(0, kinds, (2400, 8))
        return tokens, answer(tokens, state), classes, kinds
    if task in CLASSES:
        x, y = CLASSES[task](state)
        return x, (y - y.min()).clip(0, 1).astype(int) if task == "hastie" else y, len(np.unique(y)), 0
    if task in RECONSTRUCTIONS:
        x = RECONSTRUCTIONS[task](state)
        return x, np.zeros(len(x)), 0, 0
    x, y = _TARGETS[task](state)
    return x, (y - y.mean()) / y.std(), 0, 0


def _most_frequent(tokens: Any) -> Any:
    return np.stack([(tokens == k).sum(axis=1) for k in range(4)], axis=1).argmax(axis=1)


def _looked_up(tokens: Any, state: int) -> Any:
    table = np.random.default_rng(state).permutation(np.arange(40) % 6)
    return table[tokens[:, -1]]


def _waves(state: int) -> tuple[Any, Any]:
    """Noisy sines of four frequencies, each at a phase of its own."""
    random = np.random.default_rng(state)
    y = random.integers(0, 4, 2000)
    turns = np.arange(32)[None, :] * (1 + y[:, None]) / 32 + random.random((2000, 1))
    return np.sin(2 * np.pi * turns) + 0.6 * random.normal(size=(2000, 32)), y


def _products(state: int) -> tuple[Any, Any]:
    random = np.random.default_rng(state)
    x = random.normal(size=(2000, 8))
    return x, x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + 0.5 * x[:, 3] + 0.2 * random.normal(size=2000)


TOKENS: dict[str, tuple[int, int, Callable[[Any, int], Any]]] = {
    "sequence": (7, 7, lambda t, _: (t[:, -1] + t[:, -2]) // 2),
    "majority": (4, 4, lambda t, _: _most_frequent(t)),
    "compare": (9, 3, lambda t, _: np.sign(t[:, 0] - t[:, -1]) + 1),
    "lookup": (40, 6, _looked_up),
}
"""Tokens, classes, and the answer for rows of eight tokens."""
RECONSTRUCTIONS: dict[str, Callable[[int], Any]] = {
    "autoencoder": lambda _: datasets.load_digits().data / 16.0,
    "lowrank": lambda s: datasets.make_low_rank_matrix(2000, 24, effective_rank=6, random_state=s),
}
CLASSES: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "digits": lambda _: (datasets.load_digits().data / 16.0, datasets.load_digits().target),
    "cancer": lambda _: datasets.load_breast_cancer(return_X_y=True),
    "wine": lambda _: datasets.load_wine(return_X_y=True),
    "synthetic": lambda s: datasets.make_classification(
        2400, 20, n_informative=8, n_classes=5, n_clusters_per_class=1, class_sep=1.6, random_state=s
    ),
    "mixture": lambda s: datasets.make_classification(
        2000, 30, n_informative=6, n_redundant=4, n_classes=3, class_sep=1.4, random_state=s
    ),
    "gauss": lambda s: datasets.make_gaussian_quantiles(
        n_samples=2400, n_features=6, n_classes=4, random_state=s
    ),
    "hastie": lambda s: datasets.make_hastie_10_2(3000, random_state=s),
    "iris": lambda _: datasets.load_iris(return_X_y=True),
    "moons": lambda s: datasets.make_moons(2000, noise=0.25, random_state=s),
    "blobs": lambda s: datasets.make_blobs(2400, 12, centers=6, cluster_std=7.0, random_state=s),
    "circles": lambda s: datasets.make_circles(2000, noise=0.12, factor=0.5, random_state=s),
    "waves": _waves,
}
_TARGETS: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "diabetes": lambda _: datasets.load_diabetes(return_X_y=True),
    "friedman1": lambda s: datasets.make_friedman1(2000, noise=1.0, random_state=s),
    "friedman2": lambda s: datasets.make_friedman2(2000, noise=60.0, random_state=s),
    "friedman3": lambda s: datasets.make_friedman3(2000, noise=0.1, random_state=s),
    "sparse": lambda s: datasets.make_sparse_uncorrelated(2000, 10, random_state=s),
    "roll": lambda s: datasets.make_swiss_roll(2000, noise=0.3, random_state=s),
    "plane": lambda s: datasets.make_regression(2000, 15, n_informative=8, noise=40.0, random_state=s),
    "products": _products,
}
