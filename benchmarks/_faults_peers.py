"""Four published rule sets with their default thresholds, on the same runs.

Sources: SageMaker Debugger's built-in rules (developer guide, archived 2023), AutoTrainer's `monitor.py`,
DeepDiagnosis' and DeepLocalize's callbacks, UMLAUT's `heuristics.py`. Tensors are looked at every 10 steps (SageMaker
saves every 500), an evaluation stands for an epoch. Each answers `(class, step)` for what it says first of a class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from _faults_train import STEPS, Trace

Alarm = tuple[int, int]


def _tensors(trace: Trace) -> list[dict[str, Any]]:
    return [p for p in trace.peer if "grad_mean" in p]


def _epochs(trace: Trace) -> list[dict[str, Any]]:
    return [p for p in trace.peer if "epoch" in p]


def _saved(trace: Trace) -> list[tuple[int, float]]:
    return [(s, v) for s, v in enumerate(trace.losses, 1) if s % 10 == 0 and v is not None]


def sagemaker(trace: Trace) -> Iterator[Alarm]:
    """ExplodingTensor, VanishingGradient, WeightUpdateRatio, DeadRelu, saturation, LossNotDecreasing, Overfit, ..."""
    same = 0
    for p in _tensors(trace):
        step = p["step"]
        if p["nonfinite"] or p["loss"] is None:
            yield 1, step
        if any(g < 1e-7 for g in p["grad_mean"]):
            yield 5, step
        if any(u > 10 for u in p["update"]):
            yield 2, step
        if any(u < 1e-8 for u in p["update"]):
            yield 8, step
        if (p["dead"] or 0) > 0.5:
            yield 6, step
        if (p["saturated"] or 0) > 0.5:
            yield 7, step
        same = same + 1 if p["same"] else 0
        if same >= 3:
            yield 8, step
    saved = _saved(trace)
    for (_, a), (step, b) in zip(saved, saved[10:], strict=False):
        if b > a * 0.999:
            yield 10, step
    yield from _sagemaker_epochs(trace)


def _sagemaker_epochs(trace: Trace) -> Iterator[Alarm]:
    best_train = best_val = math.inf
    idle_train = idle_val = 0
    for p in _epochs(trace):
        train, val, step = p["loss"], p["epoch"].get("val_loss"), p["step"]
        if train is None or val is None:
            continue
        if train > 0 and (val - train) / train > 0.1:
            yield 11, step
        idle_train = 0 if train < best_train - 0.01 else idle_train + 1
        idle_val = 0 if val < best_val - 0.01 else idle_val + 1
        best_train, best_val = min(train, best_train), min(val, best_val)
        if idle_train >= 5 or idle_val >= 10:
            yield 11, step


def autotrainer(trace: Trace) -> Iterator[Alarm]:
    """Explode, vanish, dying relu, oscillating and not converging; needs an accuracy."""
    epochs = _epochs(trace)
    accuracies = [p["epoch"].get("val_acc") for p in epochs]
    for step, loss in enumerate(trace.losses, 1):
        if loss is None or loss > 1000:
            yield 1, step
    if not epochs or any(a is None for a in accuracies):
        return
    by_step = dict(zip((p["step"] for p in epochs), accuracies, strict=True))
    for p in _tensors(trace):
        first, last = p["grad_norm"][0], p["grad_norm"][-1]
        if last > 0 and first / last > 70:
            yield 4, p["step"]
        if last > 0 and first / last < 1e-3 and first < 1e-4:
            yield 5, p["step"]
        seen = [a for s, a in by_step.items() if s <= p["step"]]
        if max(p["zero_grad"]) >= 0.7 and (not seen or max(seen) < 0.6) and p["step"] > 0.3 * STEPS:
            yield 6, p["step"]
    for index, step in enumerate(by_step, 1):
        if index <= 0.3 * len(by_step) or index < 4:
            continue
        seen = accuracies[:index]
        swings = sum(abs(b - a) >= 0.03 and b < a for a, b in pairwise(seen))
        if swings >= 0.2 * index:
            yield 2, step
        if max(seen) < 0.6 and max(seen) - seen[0] < 0.01:
            yield 10, step


def deepdiagnosis(trace: Trace) -> Iterator[Alarm]:
    """Numerical errors, vanishing gradients, dead nodes, saturated activations, unchanged weights and metrics."""
    same = 0
    tensors = _tensors(trace)
    for p in tensors:
        if p["nonfinite"]:
            yield 1, p["step"]
        if any(g < 1e-7 for g in p["grad_mean"]):
            yield 5, p["step"]
        if (p["saturated"] or 0) > 0.5:
            yield 7, p["step"]
        same = same + 1 if p["same"] else 0
        if same >= 5:
            yield 8, p["step"]
    for step, loss in enumerate(trace.losses, 1):
        if loss is None:
            yield 1, step
    if tensors and max(tensors[-1]["zero_grad"], default=0) >= 0.7:
        yield 6, tensors[-1]["step"]
    epochs = _epochs(trace)
    for index in range(5, len(epochs) + 1):
        recent = [p["epoch"].get("val_loss") for p in epochs[index - 5 : index]]
        if None not in recent and max(recent) - min(recent) < 1e-9:
            yield 12, epochs[index - 1]["step"]
    for index in range(20, len(epochs) + 1):
        recent = [p["epoch"].get("val_acc") for p in epochs[index - 20 : index]]
        if None not in recent and max(recent) == min(recent):
            yield 10, epochs[index - 1]["step"]


def umlaut(trace: Trace) -> Iterator[Alarm]:
    """NaN loss, input limits, learning rate range, overfitting, suspiciously good validation."""
    for step, loss in enumerate(trace.losses, 1):
        if loss is None:
            yield 1, step
    for p in _tensors(trace):
        if p["input"][0] < -1 or p["input"][1] > 1:
            yield 7, p["step"]
        if p["lr"] is not None and (p["lr"] > 0.01 or p["lr"] < 1e-7):
            yield 9, p["step"]
    epochs = _epochs(trace)
    for index, (a, b) in enumerate(pairwise(epochs), 2):
        va, vb, ta, tb = a["epoch"].get("val_loss"), b["epoch"].get("val_loss"), a["loss"], b["loss"]
        if None not in (va, vb, ta, tb) and vb > va and tb <= ta:
            yield 11, b["step"]
        if index > 3 and (b["epoch"].get("val_acc") or 0) > 0.95:
            yield 16, b["step"]


PEERS: dict[str, Callable[[Trace], Iterator[Alarm]]] = {
    "SageMaker Debugger": sagemaker,
    "AutoTrainer": autotrainer,
    "DeepDiagnosis": deepdiagnosis,
    "UMLAUT": umlaut,
}


def first_alarms(trace: Trace) -> dict[str, list[list[int]]]:
    """Of each rule set the first step of each class, and every step of an alarm after it is left out."""
    found: dict[str, list[list[int]]] = {}
    for name, rules in PEERS.items():
        steps: dict[int, set[int]] = {}
        for number, step in rules(trace):
            steps.setdefault(number, set()).add(step)
        found[name] = [[n, *sorted(s)] for n, s in sorted(steps.items())]
    return found
