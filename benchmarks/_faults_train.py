"""Small real training runs for `faults.py`: nets, and a loop that writes a tracker's rows."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from _faults_data import Data, load
from _faults_recipes import Recipe
from torch import Tensor, nn
from torch.nn import functional

from assay.track.data import batch_label_entropy, facts
from assay.track.probes import Probes
from assay.track.system import Contention

STEPS = 240
ONSET = 96
EVALUATE_EVERY = 12
MEMORY_BYTES = 12 * 2**20
"""What a run may use above its start: the limit that the leak rule projects against."""


class Residual(nn.Module):
    """Pre-norm residual blocks with functional relu."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, 48)
        self.norms = nn.ModuleList([nn.LayerNorm(48) for _ in range(2)])
        self.ups = nn.ModuleList([nn.Linear(48, 64) for _ in range(2)])
        self.downs = nn.ModuleList([nn.Linear(64, 48) for _ in range(2)])
        self.head = nn.Linear(48, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.stem(x)
        for norm, up, down in zip(self.norms, self.ups, self.downs, strict=True):
            x = x + down(functional.relu(up(norm(x))))
        return self.head(x)  # type: ignore[no-any-return]


class _Turn(nn.Module):
    """(batch, place, channel) to (batch, channel, place)."""

    def forward(self, x: Tensor) -> Tensor:
        """Transposed."""
        return x.transpose(1, 2)


_RECURRENT: dict[str, Callable[..., nn.Module]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class Sequence(nn.Module):
    """A recurrent net, two convolutions, or a transformer of one or two layers over tokens."""

    def __init__(self, tokens: int, outputs: int, kind: str) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, 24)
        self.place = nn.Parameter(torch.randn(8, 24) * 0.1)
        self.body: nn.Module
        if kind in _RECURRENT:
            self.body = _RECURRENT[kind](24, 32, batch_first=True)
        elif kind == "conv1d":
            self.body = nn.Sequential(
                _Turn(),
                nn.Conv1d(24, 32, 3, padding=1),
                nn.ReLU(),
                nn.Conv1d(32, 24, 3, padding=1),
                nn.ReLU(),
            )
        else:
            layer = nn.TransformerEncoderLayer(24, 2, 48, dropout=0.0, batch_first=True)
            self.body = layer if kind == "transformer" else nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32 if kind in _RECURRENT else 24 * 8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        h = self.body(self.embed(x) + self.place)
        if isinstance(h, tuple):
            return self.head(h[0][:, -1])  # type: ignore[no-any-return]
        return self.head(h.flatten(1))  # type: ignore[no-any-return]


def build(net: str, data: Data, dropout: float = 0.0) -> nn.Module:
    """A net for a task."""
    outputs = data.outputs
    if data.tokens:
        return Sequence(data.tokens, outputs, net)
    inputs = data.x.shape[1]
    if net == "linear":
        return nn.Linear(inputs, outputs)
    if net == "residual":
        return Residual(inputs, outputs)
    if net == "cnn":
        return nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, outputs),
        )  # fmt: skip
    if net == "cnn_gelu":
        return nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 12, 3, padding=1), nn.GELU(), nn.AvgPool2d(2),
            nn.Conv2d(12, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.GELU(), nn.Flatten(), nn.Linear(256, outputs),
        )  # fmt: skip
    if net == "cnn_wave":
        return nn.Sequential(
            nn.Unflatten(1, (1, 32)), nn.Conv1d(1, 12, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(12, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(4), nn.Flatten(), nn.Linear(64, outputs),
        )  # fmt: skip
    if net == "gated":
        return nn.Sequential(
            nn.Linear(inputs, 128), nn.GLU(), nn.Linear(64, 96), nn.GLU(), nn.Linear(48, outputs)
        )
    if net == "layernorm":
        return nn.Sequential(
            nn.Linear(inputs, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 48), nn.LayerNorm(48), nn.GELU(),
            nn.Linear(48, outputs),
        )  # fmt: skip
    widths, activation, norm = _SHAPES[net]
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(nn.Linear(inputs, width))
        layers += [nn.BatchNorm1d(width)] if norm else []
        layers.append(activation())
        layers += [nn.Dropout(dropout)] if dropout else []
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


_SHAPES: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module], bool]] = {
    "relu": ((64, 64), nn.ReLU, False),
    "tanh": ((64, 64), nn.Tanh, False),
    "gelu": ((64, 64), nn.GELU, False),
    "silu": ((96, 48), nn.SiLU, False),
    "relu_bn": ((64, 48), nn.ReLU, True),
    "relu3": ((80, 56, 40), nn.ReLU, False),
    "elu": ((72, 40), nn.ELU, False),
    "leaky": ((96, 64), nn.LeakyReLU, False),
    "tanh_wide": ((128, 48), nn.Tanh, False),
    "deep_tanh": ((40, 40, 40, 40), nn.Tanh, False),
    "wide_relu": ((160, 64), nn.ReLU, False),
    "relu4": ((96, 64, 48, 32), nn.ReLU, False),
    "mish": ((80, 48), nn.Mish, False),
    "softplus": ((64, 48), nn.Softplus, False),
    "tanh3": ((72, 56, 40), nn.Tanh, False),
    "sigmoid8": ((32,) * 8, nn.Sigmoid, False),
    "sigmoid10": ((32,) * 10, nn.Sigmoid, False),
    "sigmoid14": ((32,) * 14, nn.Sigmoid, False),
}


@dataclass
class Trace:
    """What a checker sees of a run, what its peers see, and what the oracle compares."""

    lines: list[Any] = field(default_factory=list)
    """Rows and events; `["at", now, facts]` is a look from outside; `["close"]` the end of the files."""
    peer: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float | None] = field(default_factory=list)
    norms: list[float | None] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    oracle: dict[str, float] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


Hook = Callable[["Bench"], None]


@dataclass
class Bench:
    """One run. Faults change its parts through the hooks."""

    recipe: Recipe
    seed: int
    data: Data = field(init=False)
    model: nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    scheduler: Any = None
    step: int = 0
    xb: Tensor = field(init=False)
    yb: Tensor = field(init=False)
    trace: Trace = field(default_factory=Trace)
    clock: float = 1_800_000_000.0
    """Virtual seconds: pauses are not slept."""
    phase: str = "train"
    loss_scale: float = 1.0
    shuffled: bool = True
    order: list[int] | None = None
    on_data: list[Hook] = field(default_factory=list)
    on_model: list[Hook] = field(default_factory=list)
    on_optimizer: list[Hook] = field(default_factory=list)
    on_fetch: list[Hook] = field(default_factory=list)
    on_batch: list[Hook] = field(default_factory=list)
    on_loss: list[Callable[[Bench, Tensor], Tensor]] = field(default_factory=list)
    on_stepped: list[Hook] = field(default_factory=list)
    on_metrics: list[Callable[[Bench, dict[str, float]], dict[str, float]]] = field(default_factory=list)
    on_end: list[Hook] = field(default_factory=list)
    rules: dict[str, Any] = field(default_factory=dict)
    steps: int = STEPS
    config: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False
    leaked: list[Any] = field(default_factory=list)
    evaluation_model: nn.Module | None = None

    def run(self) -> Trace:
        """Train and record."""
        started = time.perf_counter()
        torch.manual_seed(self.seed)
        give_memory_back()
        recipe = self.recipe
        self.data = load(recipe.task, self.seed, recipe.validation_rows, recipe.label_noise)
        self._apply(self.on_data)
        self.model = build(recipe.net, self.data, recipe.dropout)
        self._apply(self.on_model)
        if recipe.special == "finetune":
            self._pretrain()
        self.optimizer = _optimizer(recipe, self.model)
        self.scheduler = _schedule(recipe, self.optimizer, self.steps)
        self._apply(self.on_optimizer)
        self._begin()
        self._train()
        self._apply(self.on_end)
        seen = [
            x["signals"].get("label_entropy")
            for x in self.trace.lines
            if isinstance(x, dict) and "signals" in x
        ]
        known = [v for v in seen[:10] if v is not None]
        if known:
            self.trace.oracle["entropy"] = float(np.median(known))
        self.probes.close()
        self.trace.seconds = time.perf_counter() - started
        return self.trace

    def _apply(self, hooks: list[Hook]) -> None:
        for hook in hooks:
            hook(self)

    def event(self, kind: str, **fields: Any) -> None:
        """A line of events.jsonl."""
        self.trace.lines.append({"schema": "experiment-event/1", "event": kind, "attempt": 1, **fields})

    def look(self, **outside: Any) -> None:
        """A look from outside at the virtual time."""
        self.trace.lines.append(["at", self.clock, {"alive": True, "phase": self.phase, **outside}])

    def wait(self, seconds: float, phase: str) -> None:
        """Virtual seconds in a phase, looked at every 10 s."""
        before, self.phase = self.phase, phase
        since, end = self.clock, self.clock + seconds
        while self.clock < end:
            self.clock = min(end, self.clock + 10)
            self.look(phase_since=since)
        self.phase = before

    def _pretrain(self) -> None:
        optimizer = torch.optim.AdamW(self.model.parameters(), 3e-3)
        for _ in range(400):
            index = torch.randint(0, len(self.data.x), (64,))
            optimizer.zero_grad()
            self.criterion(self.model(self.data.x[index]), self.data.y[index]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def criterion(self, out: Tensor, y: Tensor) -> Tensor:
        """Cross entropy or mean squared error."""
        if self.data.classes:
            return functional.cross_entropy(out, y)
        return functional.mse_loss(out.squeeze(-1) if y.dim() == 1 else out, y)

    def _begin(self) -> None:
        classes = self.data.classes
        way = {"name": "val_acc", "direction": "max"} if classes else {"name": "val_loss", "direction": "min"}
        config = {"lr": self.recipe.lr, "batch_size": self.recipe.batch, **self.config}
        if self.recipe.special == "finder":
            config.pop("lr")
        rules = {"memory_limit_bytes": rss_bytes() + MEMORY_BYTES, **self.rules}
        self.trace.plan = {
            "primary_metric": way,
            "total_steps": self.steps,
            "seed": self.seed,
            "rules": rules,
        }
        self.event("created", plan=self.trace.plan, config_digest="c")
        self.event("attempt_started", config_digest="c")
        self.event("training_started", total_steps=self.steps, config=config)
        self.probes = Probes(self.model, self.optimizer)
        self.event("wiring_inspected", facts=self.probes.wiring())
        told = facts(
            (self.data.x.numpy(), self.data.y.numpy()), (self.data.vx.numpy(), self.data.vy.numpy()),
            batch_size=self.recipe.batch, shuffle=self.shuffled,
        )  # fmt: skip
        self.event("data_inspected", facts=told)

    def _train(self) -> None:  # noqa: PLR0912, PLR0915 - a training loop as people write it
        recipe, origin = self.recipe, time.perf_counter()
        self.contention = Contention(threading.get_native_id())
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127) if recipe.special == "amp" else None
        generator = torch.Generator().manual_seed(self.seed)
        self.order = self.order or torch.randperm(len(self.data.x), generator=generator).tolist()
        position, best = 0, math.inf
        while self.step < self.steps and not self.stopped:
            self.step += 1
            self.model.train()
            t0, c0 = time.perf_counter(), time.thread_time()
            total = 0.0
            self.optimizer.zero_grad()
            waited = 0.0
            for _ in range(recipe.accumulate):
                w0 = time.perf_counter()
                if position + recipe.batch > len(self.order):
                    position = 0
                    if self.shuffled:
                        self.order = torch.randperm(len(self.data.x), generator=generator).tolist()
                index = self.order[position : position + recipe.batch]
                position += recipe.batch
                self.xb, self.yb = self.data.x[index], self.data.y[index]
                self._apply(self.on_fetch)
                waited += time.perf_counter() - w0
                self._apply(self.on_batch)
                loss = self._loss(self.model(self.xb), self.yb, generator)
                for change in self.on_loss:
                    loss = change(self, loss)
                scaled = loss * self.loss_scale / recipe.accumulate
                (scaler.scale(scaled) if scaler else scaled).backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach()) / recipe.accumulate
            if recipe.clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
            peer = self._peer_before() if self.step % 10 == 0 else None
            if ONSET - 10 <= self.step < ONSET + 6:
                self._note_norm()
            if scaler:
                scaler.step(self.optimizer)
                scaler.update()
            else:
                self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            self._apply(self.on_stepped)
            spent = time.perf_counter() - t0
            self.clock += spent
            self._row(total, spent, time.thread_time() - c0, waited, time.perf_counter() - origin)
            if peer is not None:
                self._peer_after(peer)
            if recipe.special == "pauses" and self.step % 50 == 0:
                self.wait(200.0, "checkpoint")
            if self.step % EVALUATE_EVERY == 0:
                self._evaluate()
            if recipe.special == "finder":
                best = min(best, total)
                self.stopped = self.step > 20 and (not math.isfinite(total) or total > 4 * best)
        self.event("training_ended", reason="completed", step=self.step)

    def _loss(self, out: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        if self.recipe.special != "rl":
            return self.criterion(out, y)
        # A contextual bandit: one sampled action a row, a noisy reward, the batch mean as baseline.
        logs = functional.log_softmax(out, dim=-1)
        action = torch.multinomial(logs.detach().exp(), 1, generator=generator).squeeze(1)
        reward = (action == y).float() + 0.3 * torch.randn(len(y), generator=generator)
        return -(logs.gather(1, action[:, None]).squeeze(1) * (reward - reward.mean())).mean()

    def _row(self, loss: float, spent: float, cpu: float, waited: float, t: float) -> None:
        signals: dict[str, Any] = dict(self.probes.signals())
        if self.step % 20 == 0:
            taken = self.contention.share()
            if taken is not None:
                signals["contended"] = taken
        signals |= {"step_s": spent, "step_cpu_s": cpu, "data_wait_s": waited}
        if self.step % 4 == 0:
            signals["rss_bytes"] = float(rss_bytes())
        entropy = batch_label_entropy((self.xb, self.yb)) if self.data.classes else None
        if entropy is not None:
            signals["label_entropy"] = entropy
        row: dict[str, Any] = {
            "event": "step",
            "attempt": 1,
            "step": self.step,
            "t": t,
            "timestamp": self.clock,
        }
        broken: dict[str, str] = {}
        row["metrics"] = _finite({"loss": loss}, broken)
        row["signals"] = _finite(signals, broken)
        if broken:
            row["nonfinite"] = broken
        self.trace.lines.append(row)
        self.trace.losses.append(row["metrics"]["loss"])
        self.trace.norms.append(row["signals"].get("grad_norm"))

    def _evaluate(self) -> None:
        if self.recipe.special == "slow_eval" and self.step == 10 * EVALUATE_EVERY:
            self.wait(400.0, "eval")
        model = self.evaluation_model or self.model
        model.eval()
        with torch.no_grad():
            out = model(self.data.vx)
            metrics = {"val_loss": float(self.criterion(out, self.data.vy))}
            if self.data.classes:
                metrics |= _scores(out, self.data.vy, self.data.classes)
                part = slice(0, 300)
                metrics["train_acc"] = float(
                    (model(self.data.x[part]).argmax(-1) == self.data.y[part]).float().mean()
                )
        model.train()
        for change in self.on_metrics:
            metrics = change(self, metrics)
        broken: dict[str, str] = {}
        row: dict[str, Any] = {
            "event": "evaluation",
            "attempt": 1,
            "step": self.step,
            "timestamp": self.clock,
        }
        row["metrics"] = _finite(metrics, broken)
        if broken:
            row["nonfinite"] = broken
        self.trace.lines.append(row)
        self.trace.validation.append(
            {k: v for k, v in metrics.items() if math.isfinite(v)} | {"step": self.step}
        )
        self.trace.peer.append(
            {"step": self.step, "epoch": metrics, "loss": _mean(self.trace.losses[-EVALUATE_EVERY:])}
        )
        self.look()

    def _note_norm(self) -> None:
        """For the oracle: the probes need not read the gradients of every step."""
        grads = [p.grad.norm() for p in self.model.parameters() if p.grad is not None]
        norm = float(torch.stack(grads).norm()) if grads else 0.0
        self.trace.oracle[f"norm {self.step}"] = norm if math.isfinite(norm) else 1e38

    def _peer_before(self) -> dict[str, Any]:
        named = [(p, p.grad) for p in self.model.parameters() if p.grad is not None and p.dim() >= 2]
        return {
            "step": self.step,
            "grad_mean": [float(g.abs().mean()) for _, g in named],
            "grad_norm": [float(g.norm()) for _, g in named],
            "zero_grad": [float((g == 0).float().mean()) for _, g in named],
            "before": [p.detach().clone() for p, _ in named],
            "weights": [p for p, _ in named],
        }

    def _peer_after(self, peer: dict[str, Any]) -> None:
        before, weights = peer.pop("before"), peer.pop("weights")
        with torch.no_grad():
            peer["update"] = [
                float((w - b).std() / (b.std() + 1e-12)) for w, b in zip(weights, before, strict=True)
            ]
            peer["same"] = all(
                torch.allclose(w, b, rtol=1e-5, atol=0) for w, b in zip(weights, before, strict=True)
            )
            peer["nonfinite"] = not all(bool(torch.isfinite(w).all()) for w in weights) or not all(
                math.isfinite(v) for v in peer["grad_mean"]
            )
            seen = self.xb.float()
            peer["input"] = [float(seen.min()), float(seen.max()), float(seen.mean())]
        signals = self.trace.lines[-1]["signals"]
        peer |= {"dead": signals.get("dead_frac"), "saturated": signals.get("saturated_frac")}
        peer |= {"lr": signals.get("lr"), "loss": self.trace.losses[-1]}
        self.trace.peer.append(peer)


def _finite(values: dict[str, Any], broken: dict[str, str]) -> dict[str, Any]:
    """Non-finite values become null and are named."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if math.isfinite(value):
            found[key] = value
        else:
            found[key], broken[key] = None, "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return found


def _mean(values: list[float | None]) -> float | None:
    kept = [v for v in values if v is not None]
    return sum(kept) / len(kept) if kept else None


def _scores(out: Tensor, y: Tensor, classes: int) -> dict[str, float]:
    guess = out.argmax(-1)
    recalls = [float((guess[y == c] == c).float().mean()) for c in range(classes) if bool((y == c).any())]
    shares = torch.bincount(guess, minlength=classes).float() / len(guess)
    return {
        "val_acc": float((guess == y).float().mean()),
        "balanced_accuracy": sum(recalls) / max(1, len(recalls)),
        "top_predicted_share": float(shares.max()),
    }


def _optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, recipe.lr, momentum=0.9 if recipe.net == "cnn" else 0.5)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, recipe.lr)
    return torch.optim.Adam(parameters, recipe.lr)


def _schedule(recipe: Recipe, optimizer: torch.optim.Optimizer, steps: int) -> Any:
    kinds = torch.optim.lr_scheduler
    if recipe.special == "finder":
        return kinds.ExponentialLR(optimizer, 10 ** (6.5 / steps))
    if recipe.schedule == "cosine":
        return kinds.CosineAnnealingLR(optimizer, steps)
    if recipe.schedule == "warmup":
        return kinds.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 20) * max(0.0, 1 - s / steps))
    if recipe.schedule == "steps":
        return kinds.MultiStepLR(optimizer, [steps // 2, 3 * steps // 4])
    if recipe.schedule == "restarts":
        return kinds.CosineAnnealingWarmRestarts(optimizer, 60)
    if recipe.schedule == "onecycle":
        return kinds.OneCycleLR(optimizer, recipe.lr, total_steps=steps + 1)
    return None


def give_memory_back() -> None:
    """Return what earlier runs of the process freed: a leak must grow, not fill old holes."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc's own
        ctypes.CDLL("libc.so.6").malloc_trim(0)


_PAGE = 4096


def rss_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - read 60 times a run
        return int(file.read().split()[1]) * _PAGE
