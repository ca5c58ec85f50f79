"""The healthy configurations of `faults.py`, by split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """One healthy configuration."""

    name: str
    split: str
    task: str
    net: str
    optimizer: str = "adam"
    lr: float = 3e-3
    schedule: str = "constant"
    batch: int = 32
    clip: float | None = None
    dropout: float = 0.0
    label_noise: float = 0.0
    accumulate: int = 1
    validation_rows: int = 300
    special: str = ""
    """`rl`, `finder`, `finetune`, `slow_eval`, `pauses`, `amp`."""


def _r(split: str, name: str, task: str, net: str, **more: Any) -> Recipe:
    return Recipe(name=f"{split}/{name}", split=split, task=task, net=net, **more)


RECIPES: tuple[Recipe, ...] = (
    _r("tune", "digits relu", "digits", "relu"),
    _r("tune", "digits relu sgd", "digits", "relu", optimizer="sgd", lr=0.1),
    _r("tune", "digits tanh cosine", "digits", "tanh", schedule="cosine"),
    _r("tune", "digits gelu warmup", "digits", "gelu", optimizer="adamw", schedule="warmup"),
    _r("tune", "digits cnn", "digits", "cnn", optimizer="sgd", lr=0.05, schedule="steps"),
    _r("tune", "digits clip noise", "digits", "relu", clip=1.0, label_noise=0.15),
    _r("tune", "digits dropout", "digits", "relu", dropout=0.3, schedule="onecycle"),
    _r("tune", "friedman relu", "friedman1", "relu"),
    _r("tune", "friedman tanh", "friedman1", "tanh", optimizer="adamw", schedule="cosine"),
    _r("tune", "friedman sgd", "friedman1", "gelu", optimizer="sgd", lr=0.03),
    _r("tune", "digits restarts", "digits", "relu", optimizer="sgd", lr=0.15, schedule="restarts"),
    _r("tune", "digits tiny validation", "digits", "relu", validation_rows=20),
    _r("tune", "digits bandit", "digits", "relu", special="rl"),
    _r("tune", "digits accumulation", "digits", "gelu", accumulate=4),
    _r("tune", "digits finder", "digits", "relu", special="finder", lr=1e-5),
    _r("tune", "digits finetune", "digits", "relu", special="finetune", lr=3e-4),
    _r("tune", "digits slow evaluation", "digits", "tanh", special="slow_eval"),
    _r("tune", "digits pauses", "digits", "relu", special="pauses", optimizer="adamw"),
    _r("tune", "digits scaler", "digits", "relu", special="amp"),
    _r("tune", "friedman small batch", "friedman1", "relu", batch=8, lr=1e-3),
    _r("tune", "iris elu", "iris", "elu", batch=16, lr=2e-3),
    _r("tune", "iris logistic", "iris", "linear", optimizer="sgd", lr=0.1, batch=16),
    _r("tune", "moons relu", "moons", "relu", lr=2e-3),
    _r("tune", "moons gelu sgd", "moons", "gelu", optimizer="sgd", lr=0.2, schedule="steps"),
    _r("tune", "moons noise", "moons", "tanh", label_noise=0.2, lr=2e-3),
    _r("tune", "moons tiny validation", "moons", "silu", validation_rows=20, lr=1e-3),
    _r("tune", "moons bandit", "moons", "relu", special="rl", lr=2e-3),
    _r("held", "cancer residual", "cancer", "residual", optimizer="adamw", lr=1e-3),
    _r("held", "cancer silu sgd", "cancer", "silu", optimizer="sgd", lr=0.05, schedule="cosine"),
    _r("held", "cancer logistic", "cancer", "linear", optimizer="sgd", lr=0.1),
    _r("held", "synthetic residual", "synthetic", "residual", schedule="cosine", lr=2e-3),
    _r("held", "synthetic relu-bn", "synthetic", "relu_bn", optimizer="sgd", lr=0.05, schedule="steps"),
    _r("held", "synthetic deep tanh", "synthetic", "deep_tanh", optimizer="adamw", lr=1e-3),
    _r("held", "synthetic wide relu", "synthetic", "wide_relu", schedule="warmup", lr=1e-3),
    _r("held", "synthetic dropout", "synthetic", "wide_relu", dropout=0.4, schedule="onecycle", lr=2e-3),
    _r("held", "synthetic noise clip", "synthetic", "silu", label_noise=0.2, clip=0.5, lr=2e-3),
    _r(
        "held",
        "sequence transformer",
        "sequence",
        "transformer",
        optimizer="adamw",
        lr=2e-3,
        schedule="warmup",
    ),
    _r("held", "sequence gru", "sequence", "gru", lr=5e-3),
    _r("held", "sequence gru clip", "sequence", "gru", lr=5e-3, clip=1.0, schedule="cosine"),
    _r("held", "diabetes wide relu", "diabetes", "wide_relu", lr=5e-4),
    _r("held", "diabetes linear", "diabetes", "linear", optimizer="sgd", lr=0.02),
    _r("held", "friedman2 residual", "friedman2", "residual", lr=2e-3),
    _r("held", "friedman2 deep tanh", "friedman2", "deep_tanh", optimizer="sgd", lr=0.02, schedule="cosine"),
    _r("held", "autoencoder relu", "autoencoder", "wide_relu", lr=1e-3),
    _r("held", "autoencoder silu", "autoencoder", "silu", optimizer="adamw", lr=2e-3, schedule="onecycle"),
    _r("held", "synthetic restarts", "synthetic", "residual", optimizer="sgd", lr=0.1, schedule="restarts"),
    _r("held", "sequence restarts", "sequence", "gru", lr=8e-3, schedule="restarts"),
    _r("held", "cancer tiny validation", "cancer", "silu", validation_rows=16, lr=1e-3),
    _r("held", "synthetic tiny validation", "synthetic", "wide_relu", validation_rows=24, lr=1e-3),
    _r("held", "synthetic bandit", "synthetic", "residual", special="rl", lr=2e-3),
    _r("held", "cancer bandit", "cancer", "wide_relu", special="rl", lr=2e-3),
    _r("held", "synthetic accumulation", "synthetic", "silu", accumulate=8, lr=3e-3),
    _r("held", "synthetic finder", "synthetic", "residual", special="finder", lr=1e-6),
    _r("held", "synthetic finetune", "synthetic", "residual", special="finetune", lr=2e-4),
    _r(
        "held", "sequence finetune", "sequence", "transformer", special="finetune", lr=2e-4, optimizer="adamw"
    ),
    _r("held", "friedman2 slow evaluation", "friedman2", "silu", special="slow_eval", lr=2e-3),
    _r("held", "synthetic pauses", "synthetic", "wide_relu", special="pauses", lr=1e-3),
    _r("held", "synthetic scaler", "synthetic", "residual", special="amp", lr=2e-3),
    _r("score", "gauss relu3", "gauss", "relu3", lr=2e-3),
    _r("score", "gauss relu3 sgd", "gauss", "relu3", optimizer="sgd", lr=0.08),
    _r("score", "gauss elu", "gauss", "elu", optimizer="adamw", schedule="cosine"),
    _r("score", "gauss dropout", "gauss", "leaky", dropout=0.2, schedule="onecycle", lr=4e-3),
    _r("score", "mixture leaky", "mixture", "leaky", lr=2e-3),
    _r("score", "mixture layernorm", "mixture", "layernorm", optimizer="adamw", lr=2e-3),
    _r("score", "mixture tanh wide", "mixture", "tanh_wide", lr=1e-3),
    _r("score", "mixture noise", "mixture", "relu3", label_noise=0.1, clip=1.0, lr=2e-3),
    _r("score", "mixture momentum", "mixture", "relu3", optimizer="sgd", lr=0.15, schedule="steps"),
    _r("score", "hastie elu", "hastie", "elu", lr=3e-3),
    _r("score", "hastie relu3", "hastie", "relu3", optimizer="adamw", schedule="warmup"),
    _r("score", "wine leaky", "wine", "leaky", optimizer="sgd", lr=0.05, batch=16),
    _r("score", "faces cnn", "digits", "cnn_gelu", optimizer="adamw", lr=2e-3),
    _r("score", "friedman3 elu", "friedman3", "elu", lr=2e-3),
    _r("score", "friedman3 tanh", "friedman3", "tanh_wide", optimizer="sgd", lr=0.02, schedule="cosine"),
    _r("score", "sparse relu3", "sparse", "relu3", lr=1e-3),
    _r("score", "sparse layernorm", "sparse", "layernorm", optimizer="adamw", lr=1e-3, schedule="cosine"),
    _r("score", "roll leaky", "roll", "leaky", lr=3e-3),
    _r("score", "majority lstm", "majority", "lstm", lr=8e-3),
    _r("score", "majority conv", "majority", "conv1d", optimizer="adamw", lr=4e-3),
    _r("score", "majority conv clip", "majority", "conv1d", lr=4e-3, clip=0.5, schedule="warmup"),
    _r("score", "gauss restarts", "gauss", "elu", optimizer="sgd", lr=0.1, schedule="restarts"),
    _r("score", "majority restarts", "majority", "conv1d", lr=6e-3, schedule="restarts"),
    _r("score", "wine tiny validation", "wine", "relu3", validation_rows=18, batch=16, lr=1e-3),
    _r("score", "mixture tiny validation", "mixture", "elu", validation_rows=30, lr=1e-3),
    _r("score", "gauss bandit", "gauss", "relu3", special="rl", lr=2e-3),
    _r("score", "mixture accumulation", "mixture", "leaky", accumulate=4, lr=3e-3),
    _r("score", "gauss finder", "gauss", "layernorm", special="finder", lr=1e-6),
    _r("score", "mixture finetune", "mixture", "relu3", special="finetune", lr=2e-4),
    _r("score", "roll slow evaluation", "roll", "elu", special="slow_eval", lr=2e-3),
    _r("score", "hastie pauses", "hastie", "layernorm", special="pauses", lr=2e-3),
    _r("score", "gauss scaler", "gauss", "relu3", special="amp", lr=2e-3),
    _r("score", "friedman3 small batch", "friedman3", "leaky", batch=8, lr=1e-3),
    _r("fresh", "blobs relu4", "blobs", "relu4", lr=2e-3),
    _r("fresh", "blobs relu4 sgd", "blobs", "relu4", optimizer="sgd", lr=0.1),
    _r("fresh", "blobs mish", "blobs", "mish", optimizer="adamw", schedule="cosine"),
    _r("fresh", "blobs dropout", "blobs", "softplus", dropout=0.25, schedule="onecycle", lr=4e-3),
    _r("fresh", "blobs noise clip", "blobs", "mish", label_noise=0.12, clip=1.0, lr=2e-3),
    _r("fresh", "circles relu4", "circles", "relu4", optimizer="adamw", schedule="warmup"),
    _r("fresh", "circles tanh3", "circles", "tanh3", lr=2e-3),
    _r("fresh", "circles gated", "circles", "gated", lr=2e-3),
    _r("fresh", "waves relu4", "waves", "relu4", lr=1e-3),
    _r("fresh", "waves gated", "waves", "gated", optimizer="adamw", lr=1e-3, schedule="cosine"),
    _r("fresh", "waves filter", "waves", "cnn_wave", lr=3e-3),
    _r("fresh", "waves filter sgd", "waves", "cnn_wave", optimizer="sgd", lr=0.1, schedule="steps"),
    _r("fresh", "plane mish", "plane", "mish", lr=2e-3),
    _r("fresh", "plane ridge", "plane", "linear", optimizer="sgd", lr=0.02),
    _r("fresh", "plane tanh3", "plane", "tanh3", optimizer="sgd", lr=0.03, schedule="cosine"),
    _r("fresh", "products relu4", "products", "relu4", lr=1e-3),
    _r("fresh", "products gated", "products", "gated", optimizer="adamw", lr=2e-3, schedule="warmup"),
    _r("fresh", "products softplus", "products", "softplus", lr=2e-3),
    _r("fresh", "lowrank relu4", "lowrank", "relu4", lr=1e-3),
    _r("fresh", "compare rnn", "compare", "rnn", lr=4e-3),
    _r("fresh", "compare encoder", "compare", "encoder", optimizer="adamw", lr=2e-3),
    _r("fresh", "lookup encoder", "lookup", "encoder", lr=2e-3, schedule="warmup"),
    _r("fresh", "lookup rnn clip", "lookup", "rnn", lr=4e-3, clip=0.5, schedule="cosine"),
    _r("fresh", "blobs restarts", "blobs", "relu4", optimizer="sgd", lr=0.12, schedule="restarts"),
    _r("fresh", "compare restarts", "compare", "rnn", lr=6e-3, schedule="restarts"),
    _r("fresh", "circles tiny validation", "circles", "mish", validation_rows=20, lr=1e-3),
    _r("fresh", "blobs tiny validation", "blobs", "tanh3", validation_rows=30, lr=1e-3),
    _r("fresh", "blobs bandit", "blobs", "gated", special="rl", lr=2e-3),
    _r("fresh", "waves accumulation", "waves", "mish", accumulate=4, lr=2e-3),
    _r("fresh", "circles finder", "circles", "mish", special="finder", lr=1e-6),
    _r("fresh", "blobs finetune", "blobs", "relu4", special="finetune", lr=2e-4),
    _r("fresh", "plane slow evaluation", "plane", "softplus", special="slow_eval", lr=2e-3),
    _r("fresh", "products pauses", "products", "mish", special="pauses", lr=2e-3),
    _r("fresh", "blobs scaler", "blobs", "mish", special="amp", lr=2e-3),
    _r("fresh", "products small batch", "products", "relu4", batch=8, lr=2e-3),
)


def plain(split: str) -> list[Recipe]:
    """Recipes without a peculiarity: faults are injected into these."""
    return [r for r in RECIPES if r.split == split and not r.special and r.schedule != "restarts"
            and r.validation_rows >= 100]  # fmt: skip


def varied(recipe: Recipe, **changes: Any) -> Recipe:
    """A recipe with parts replaced."""
    return replace(recipe, **changes)
