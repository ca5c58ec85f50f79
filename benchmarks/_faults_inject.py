"""The faults of `faults.py`: how each is put into a run, from which step, and how its effect is proven.

An injection counts only if the run differs from its healthy twin (same recipe, same seed) in the way that makes it a
fault. What the oracle looks at is measured on the run itself, not by the rules under test.
"""

# ruff: noqa: ARG001 - injections, hooks and oracles share their signatures

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _faults_data import CLASSES, RECONSTRUCTIONS, TOKENS
from _faults_recipes import Recipe, plain, varied
from _faults_train import EVALUATE_EVERY, ONSET, STEPS, Bench, Trace
from _faults_train import build as network
from torch import Tensor, nn

LEVELS = ("mild", "moderate", "severe")
LAST = STEPS


@dataclass(frozen=True)
class Fault:
    """One class of fault as it is injected here.

    Attributes:
        inject: puts a level (0 to 2) into a run that has not begun.
        confirm: whether the trace shows the fault, given its twin's.
        onset: first step of the fault; 0 = before step 0.
        budget: steps after the onset within which it must be found.
        fits: whether a recipe can have it.
        alter: changes the recipe (a net, a size) for the faulty run alone.
    """

    number: int
    inject: Callable[[Bench, int], None]
    confirm: Callable[[Trace, Trace, int], bool]
    onset: int
    budget: int
    fits: Callable[[Recipe], bool] = lambda recipe: True
    alter: Callable[[Recipe, int], Recipe] = lambda recipe, level: recipe
    note: str = ""
    onsets: tuple[int, int, int] | None = None
    """Where the levels begin at different steps."""

    def begins(self, level: int, trace: Trace) -> int:
        """First step of the fault in a run."""
        if "onset" in trace.oracle:
            return int(trace.oracle["onset"])
        return self.onsets[level] if self.onsets else self.onset


def _at(step: int, action: Callable[[Bench], None]) -> Callable[[Bench], None]:
    def hook(bench: Bench) -> None:
        if bench.step == step:
            action(bench)

    return hook


def _from(step: int, action: Callable[[Bench], None], until: int = LAST) -> Callable[[Bench], None]:
    def hook(bench: Bench) -> None:
        if step <= bench.step < until:
            action(bench)

    return hook


def _level(trace: Trace, a: int, b: int) -> float:
    values = [v for v in trace.losses[a:b] if v is not None]
    return float(np.mean(values)) if values else math.inf


def _gain(twin: Trace) -> float:
    return max(_level(twin, 0, 5) - _level(twin, STEPS - 20, STEPS), 1e-9)


def _last(trace: Trace, name: str) -> float:
    values = [v[name] for v in trace.validation[-3:] if name in v]
    return float(np.median(values)) if values else math.nan


# 1 to 4: numbers that explode.


def _nonfinite(bench: Bench, level: int) -> None:
    if level == 0:

        def poison(b: Bench) -> None:
            b.xb = b.xb.clone()
            b.xb[0, 0] = math.nan

        bench.on_batch.append(_at(ONSET, poison))
    elif level == 1:

        def log_of_zero(b: Bench, loss: Tensor) -> Tensor:
            return loss - torch.log(torch.zeros(())) if b.step == ONSET else loss

        bench.on_loss.append(log_of_zero)
    else:

        def overflow(b: Bench) -> None:
            with torch.no_grad():
                next(b.model.parameters()).view(-1)[0] = math.inf

        bench.on_batch.append(_at(ONSET, overflow))


def _is_nonfinite(trace: Trace, twin: Trace, level: int) -> bool:
    # A weight set to infinity needs no proof; a gradient that was not read is none.
    broken = level == 2 or trace.oracle.get("nonfinite", 0.0) > 0
    return broken and all(v is not None for v in twin.losses)


def _blow_up(bench: Bench, level: int) -> None:
    factor = (15.0, 60.0, 400.0)[level]
    start = 1 if level == 1 else ONSET

    def raise_rate(b: Bench) -> None:
        for group in b.optimizer.param_groups:
            group["lr"] = group["lr"] * factor if b.scheduler is None else b.recipe.lr * factor

    if level == 1:
        bench.on_optimizer.append(lambda b: (_unschedule(b), raise_rate(b))[0])  # type: ignore[func-returns-value]
        bench.config["lr"] = bench.recipe.lr * factor
    else:
        bench.on_batch.append(_at(start, lambda b: (_unschedule(b), raise_rate(b))[0]))  # type: ignore[func-returns-value]


def _unschedule(bench: Bench) -> None:
    bench.scheduler = None


def _diverged(trace: Trace, twin: Trace, level: int) -> bool:
    onset = 1 if level == 1 else ONSET
    window = range(onset + 5, min(onset + 60, STEPS) - 10)
    lost = 0.6 * _gain(twin) if level != 1 else 0.6 * _level(twin, 0, 5)
    reference = _level(twin, onset + 5, onset + 60) if level != 1 else _level(twin, 0, 5)
    return sum(_level(trace, s, s + 10) > reference + lost for s in window) >= 20


def _bad_batch(bench: Bench, level: int) -> None:
    factor = (3.0, 10.0, 30.0)[level]

    def spoil(b: Bench) -> None:
        b.xb = b.xb * factor
        b.yb = b.yb[torch.randperm(len(b.yb), generator=torch.Generator().manual_seed(b.seed))]

    bench.on_batch.append(_at(ONSET, spoil))


def _spiked(trace: Trace, twin: Trace, level: int) -> bool:
    value, other = trace.losses[ONSET - 1], twin.losses[ONSET - 1]
    if value is None or other is None:
        return False
    return value > 3 * max(other, _level(twin, ONSET - 11, ONSET)) and value > 0.25 * _level(twin, 0, 5)


def _scaled_loss(bench: Bench, level: int) -> None:
    def scale(b: Bench) -> None:
        b.loss_scale = (60.0, 600.0, 1e4)[level] if ONSET <= b.step < ONSET + 20 else 1.0

    bench.on_batch.append(scale)


def _exploded(trace: Trace, twin: Trace, level: int) -> bool:
    def norms(of: Trace, a: int, b: int) -> list[float]:
        return [of.oracle[f"norm {step}"] for step in range(a, b) if f"norm {step}" in of.oracle]

    now, healthy = norms(trace, ONSET, ONSET + 6), norms(twin, ONSET, ONSET + 6)
    usual = float(np.median(norms(twin, ONSET - 10, ONSET) or [math.inf]))
    high = [a > 10 * max(b, usual) for a, b in zip(now, healthy, strict=False)]
    return sum(high) >= 3


# 5 to 7: units that do not learn.


def _vanish(recipe: Recipe, level: int) -> Recipe:
    return varied(recipe, net=("sigmoid8", "sigmoid10", "sigmoid14")[level])


def _nothing(bench: Bench, level: int) -> None:
    """The recipe itself is the fault."""


def _stuck(trace: Trace, twin: Trace, level: int) -> bool:
    return _level(trace, 90, 110) > 0.85 * _level(trace, 0, 5) and _level(twin, 90, 110) < 0.7 * _level(
        twin, 0, 5
    )


def _hidden(bench: Bench) -> list[nn.Linear]:
    layers = [m for m in bench.model.modules() if isinstance(m, nn.Linear)]
    return layers[:-1]


def _kill_units(bench: Bench, level: int) -> None:
    bias = (-6.0, -12.0, -30.0)[level]

    def kill(b: Bench) -> None:
        norms = [m for m in b.model.modules() if isinstance(m, nn.BatchNorm1d)]
        target: Any = norms[-1] if norms else _hidden(b)[-1]
        if b.recipe.net == "residual":
            target = b.model.ups[-1]  # type: ignore[index]
        with torch.no_grad():
            target.bias.fill_(bias)

    bench.on_batch.append(_at(ONSET, kill))
    bench.on_stepped.append(_at(ONSET + 25, _dead_share))


def _dead_share(bench: Bench) -> None:
    """The largest share of units that are zero on the whole validation set."""
    shares: list[float] = []

    def watch(_: Any, args: Any, output: Tensor) -> None:
        axes = (0, *range(2, output.dim()))
        shares.append(float(((output > 0).float().amax(dim=axes) == 0).float().mean()))

    def watch_input(_: Any, args: Any, output: Tensor) -> None:
        shares.append(float((args[0].abs().amax(dim=0) == 0).float().mean()))

    relus = [m for m in bench.model.modules() if isinstance(m, nn.ReLU)]
    readers = list(bench.model.downs) if bench.recipe.net == "residual" else []  # type: ignore[arg-type]
    handles = [m.register_forward_hook(watch) for m in relus]
    handles += [m.register_forward_hook(watch_input) for m in readers]
    with torch.no_grad():
        bench.model(bench.data.x[:256])
    for handle in handles:
        handle.remove()
    bench.trace.oracle["dead"] = max(shares, default=0.0)


def _saturate(bench: Bench, level: int) -> None:
    factor = (20.0, 50.0, 200.0)[level]

    def blow(b: Bench) -> None:
        b.data.x, b.data.vx = b.data.x * factor, b.data.vx * factor

    bench.on_data.append(blow)
    bench.on_stepped.append(_at(40, _saturated_share))


def _saturated_share(bench: Bench) -> None:
    shares: list[float] = []

    def watch(_: Any, args: Any, output: Tensor) -> None:
        shares.append(float((args[0].abs() > 5).float().mean()))

    handles = [m.register_forward_hook(watch) for m in bench.model.modules() if isinstance(m, nn.Tanh)]
    with torch.no_grad():
        bench.model(bench.data.x[:256])
    for handle in handles:
        handle.remove()
    bench.trace.oracle["saturated"] = max(shares, default=0.0)


# 8 and 9: an optimizer or a rate that does nothing.


def _no_update(bench: Bench, level: int) -> None:
    if level == 0:

        def freeze(b: Bench) -> None:
            weights = [p for p in b.model.parameters() if p.dim() >= 2]
            weights[len(weights) // 2].requires_grad_(False)

        bench.on_optimizer.append(freeze)
    elif level == 1:
        bench.on_optimizer.append(_clone_optimizer)
    else:

        def later(b: Bench) -> None:
            moved = [p.detach().clone().requires_grad_(True) for p in b.model.parameters()]
            for group in b.optimizer.param_groups:
                group["params"] = moved

        bench.on_batch.append(_at(ONSET, later))
    _watch_movement(bench)


def _clone_optimizer(bench: Bench) -> None:
    clones = [p.detach().clone().requires_grad_(True) for p in bench.model.parameters()]
    rate = bench.optimizer.param_groups[0]["lr"]
    bench.optimizer = type(bench.optimizer)(clones, rate)
    bench.scheduler = None


def _watch_movement(bench: Bench) -> None:
    kept: dict[str, list[Tensor]] = {}

    def keep(b: Bench) -> None:
        kept["before"] = [p.detach().clone() for p in b.model.parameters()]

    def compare(b: Bench) -> None:
        pairs = list(zip((p.detach() for p in b.model.parameters()), kept["before"], strict=True))
        moved = [float((p - q).norm() / (q.norm() + 1e-9)) for p, q in pairs]
        b.trace.oracle["moved"], b.trace.oracle["least_moved"] = max(moved), min(moved)

    bench.on_stepped.append(_at(ONSET + 1, keep))
    bench.on_end.append(compare)


def _unmoved(trace: Trace, twin: Trace, level: int) -> bool:
    return trace.oracle["least_moved" if level == 0 else "moved"] == 0.0 and _level(trace, 200, 240) > _level(
        twin, 200, 240
    ) * (1.0 if level else 0.0)


def _kill_rate(bench: Bench, level: int) -> None:
    factor = (3e-4, 1e-5, 0.0)[level]

    def shrink(b: Bench) -> None:
        _unschedule(b)
        for group in b.optimizer.param_groups:
            group["lr"] *= factor

    bench.on_batch.append(_at(ONSET, shrink))


def _rate_died(trace: Trace, twin: Trace, level: int) -> bool:
    return _level(trace, ONSET + 4, ONSET + 8) > 0 and abs(trace.oracle.get("after", 1.0)) < 0.05


def _rate_oracle(bench: Bench, level: int) -> None:
    _kill_rate(bench, level)
    _movement_after(bench, ONSET)


def _movement_after(bench: Bench, step: int) -> None:
    kept: dict[str, Any] = {}

    def keep(name: str) -> Callable[[Bench], None]:
        def hook(b: Bench) -> None:
            kept[name] = [p.detach().clone() for p in b.model.parameters()]

        return hook

    def compare(b: Bench) -> None:
        def far(a: str, c: str) -> float:
            return math.sqrt(
                sum(float((p - q).detach().pow(2).sum()) for p, q in zip(kept[a], kept[c], strict=True))
            )

        b.trace.oracle["after"] = far("onset", "end") / max(far("early", "onset"), 1e-12)

    bench.on_batch.append(_at(max(2, step - 40), keep("early")))
    bench.on_batch.append(_at(step, keep("onset")))
    bench.on_stepped.append(_at(min(step + 40, STEPS), keep("end")))
    bench.on_end.append(compare)


def _short_schedule(bench: Bench, level: int) -> None:
    share = (0.25, 0.15, 0.1)[level]
    length = int(share * STEPS)

    def shorten(b: Bench) -> None:
        for group in b.optimizer.param_groups:
            group["lr"] = b.recipe.lr
            group.pop("initial_lr", None)
        b.scheduler = torch.optim.lr_scheduler.LambdaLR(b.optimizer, lambda s: max(0.0, 1 - s / length))

    bench.on_optimizer.append(shorten)
    bench.trace.oracle["onset"] = float(length)


def _stopped_early(trace: Trace, twin: Trace, level: int) -> bool:
    onset = int(trace.oracle["onset"])
    early = _level(trace, onset + 2, onset + 12)
    return (
        abs(_level(trace, STEPS - 12, STEPS) - early) < 0.35 * abs(early) and _level(twin, 200, 240) < early
    )


def _forgotten(bench: Bench, level: int) -> None:
    class Never:
        def step(self) -> None:
            pass

    def forget(b: Bench) -> None:
        if b.scheduler is None:
            torch.optim.lr_scheduler.CosineAnnealingLR(b.optimizer, STEPS)
        b.scheduler = Never()

    bench.on_optimizer.append(forget)


def _always(trace: Trace, twin: Trace, level: int) -> bool:
    return True


# 10 to 14: learning that goes nowhere, or the wrong way.


def _no_signal(bench: Bench, level: int) -> None:
    if level == 2:

        def tiny(b: Bench) -> None:
            _unschedule(b)
            for group in b.optimizer.param_groups:
                group["lr"] = b.recipe.lr * 1e-4

        bench.on_optimizer.append(tiny)
        bench.config["lr"] = bench.recipe.lr * 1e-4
        return
    generator = torch.Generator().manual_seed(bench.seed + 1)
    if level == 0:
        # Mixed once: what is left can be learned by heart, slowly.
        bench.on_data.append(
            lambda b: setattr(b.data, "y", b.data.y[torch.randperm(len(b.data.y), generator=generator)])
        )
        return

    def mix(b: Bench) -> None:
        b.yb = b.yb[torch.randperm(len(b.yb), generator=generator)]

    bench.on_batch.append(mix)


def _flat(trace: Trace, twin: Trace, level: int) -> bool:
    end = int(0.5 * STEPS)
    return _level(trace, end - 20, end) > 0.96 * _level(trace, 0, 20) and _level(
        twin, end - 20, end
    ) < 0.8 * _level(twin, 0, 5)


def _few_rows(bench: Bench, level: int) -> None:
    rows, noise = ((120, 0.25), (80, 0.35), (50, 0.45))[level]

    def cut(b: Bench) -> None:
        random = np.random.default_rng(b.seed)
        b.data.x, b.data.y = b.data.x[:rows].clone(), b.data.y[:rows].clone()
        flip = torch.tensor(random.random(len(b.data.y)) < noise)
        if b.data.classes:
            b.data.y[flip] = torch.tensor(random.integers(0, b.data.classes, int(flip.sum())))
        else:
            b.data.y[flip] += torch.tensor(random.normal(0, 1.5, int(flip.sum())), dtype=b.data.y.dtype)

    bench.on_data.append(cut)


def _overfits(trace: Trace, twin: Trace, level: int) -> bool:
    values = [v["val_loss"] for v in trace.validation if "val_loss" in v]
    if len(values) < 10:
        return False
    best = int(np.argmin(values))
    trace.oracle["onset"] = float((best + 1) * EVALUATE_EVERY)
    later = values[best + 1 :]
    fell = _level(trace, STEPS - 20, STEPS) < 0.8 * _level(trace, best * 12, best * 12 + 20)
    enough = len(later) >= 5 and float(np.median(later[-3:])) > 1.2 * values[best] and fell
    return enough and _last(twin, "val_loss") < 1.1 * min(v["val_loss"] for v in twin.validation)


def _stale(bench: Bench, level: int) -> None:
    if level == 0:
        kept: dict[str, dict[str, float]] = {}

        def cached(b: Bench, metrics: dict[str, float]) -> dict[str, float]:
            if b.step <= ONSET:
                kept["metrics"] = metrics
            return kept["metrics"]

        bench.on_metrics.append(cached)
        return
    at = 1 if level == 2 else ONSET

    def copied(b: Bench) -> None:
        # Built anew: hooks of the probes would be copied with it.
        with torch.random.fork_rng():
            b.evaluation_model = network(b.recipe.net, b.data, b.recipe.dropout)
        b.evaluation_model.load_state_dict(b.model.state_dict())

    bench.on_stepped.append(_at(at, copied))


def _repeats(trace: Trace, twin: Trace, level: int) -> bool:
    values = [v.get("val_loss") for v in trace.validation[-4:]]
    others = [v.get("val_loss") for v in twin.validation[-4:]]
    return len(set(values)) == 1 and len(set(others)) > 1


def _other_data(bench: Bench, level: int) -> None:
    def swap(b: Bench) -> None:
        y = b.data.y
        if b.data.classes:
            kept = max(1, int(b.data.classes * (0.4, 0.2, 0.01)[level]))
            chosen = torch.nonzero(y < kept).flatten()
        else:
            goal = y if y.dim() == 1 else y.mean(dim=1)
            chosen = torch.nonzero(goal <= goal.quantile((0.25, 0.15, 0.08)[level])).flatten()
        b.data.x, b.data.y = b.data.x[chosen], b.data.y[chosen]
        b.order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(b.seed)).tolist()

    bench.on_stepped.append(_at(ONSET - 1, swap))


def _forgot(trace: Trace, twin: Trace, level: int) -> bool:
    now, healthy = _last(trace, "val_loss"), _last(twin, "val_loss")
    accuracy, other = _last(trace, "val_acc"), _last(twin, "val_acc")
    if math.isfinite(other):
        return accuracy < other - 0.15
    return now > 1.6 * healthy


def _imbalance(bench: Bench, level: int) -> None:
    share = (40, 80, 160)[level]

    def skew(b: Bench) -> None:
        random = np.random.default_rng(b.seed)
        noise = torch.tensor(random.normal(0, 1.0, b.data.x.shape), dtype=b.data.x.dtype)
        b.data.y, b.data.vy = (b.data.y == 0).long(), (b.data.vy == 0).long()
        rare, common = torch.nonzero(b.data.y == 1).flatten(), torch.nonzero(b.data.y == 0).flatten()
        common = common[: max(400, len(common))]
        rare = rare[: max(2, len(common) // share)]
        index = torch.cat([rare, common])
        index = index[torch.tensor(random.permutation(len(index)))]
        b.data.x, b.data.y = (b.data.x + 3.0 * noise)[index], b.data.y[index]
        b.data.classes = 2

    bench.on_data.append(skew)


def _collapsed(trace: Trace, twin: Trace, level: int) -> bool:
    return _last(trace, "balanced_accuracy") <= 0.52 and _last(trace, "top_predicted_share") > 0.95


# 15 and 16: data.


def _sorted(bench: Bench, level: int) -> None:
    def order(b: Bench) -> None:
        by_label = torch.argsort(b.data.y, stable=True)
        if level == 0:
            # Sorted within shards of 600 rows, as concatenated files are.
            parts = [
                p[torch.argsort(b.data.y[p], stable=True)]
                for p in torch.split(torch.arange(len(by_label)), 600)
            ]
            by_label = torch.cat(parts)
        elif level == 1:
            by_label = by_label.flip(0)
        b.order = list(range(len(by_label)))
        b.data.x, b.data.y = b.data.x[by_label], b.data.y[by_label]

    bench.shuffled = False
    bench.on_data.append(order)


def _entropy_low(trace: Trace, twin: Trace, level: int) -> bool:
    return trace.oracle.get("entropy", 1.0) < 0.5 * twin.oracle.get("entropy", 0.0)


def _leak_rows(bench: Bench, level: int) -> None:
    count = (12, 60, 250)[level]

    def copy_rows(b: Bench) -> None:
        rows = min(count, len(b.data.vx))
        b.data.x, b.data.y = torch.cat([b.data.x, b.data.vx[:rows]]), torch.cat([b.data.y, b.data.vy[:rows]])
        b.trace.oracle["leaked"] = rows / len(b.data.vx)

    bench.on_data.append(copy_rows)


def _leak_column(bench: Bench, level: int) -> None:
    wrong = (0.08, 0.03, 0.0)[level]

    def append(b: Bench) -> None:
        random = np.random.default_rng(b.seed)

        def column(y: Tensor) -> Tensor:
            told = y.float().clone()
            flip = torch.tensor(random.random(len(y)) < wrong)
            told[flip] = told[torch.tensor(random.permutation(len(y)))][flip]
            return told[:, None]

        b.data.x = torch.cat([b.data.x, column(b.data.y)], dim=1)
        b.data.vx = torch.cat([b.data.vx, column(b.data.vy)], dim=1)

    bench.on_data.append(append)


def _leaked(trace: Trace, twin: Trace, level: int) -> bool:
    return trace.oracle.get("leaked", 1.0) > 0.01


# 17 to 21: the process.


def _hang(bench: Bench, level: int) -> None:
    seconds = (90.0, 600.0, 7200.0)[level]
    bench.on_stepped.append(_at(ONSET, lambda b: b.wait(seconds, "train")))


def _lost(bench: Bench, level: int) -> None:
    facts = ({"alive": False, "exit": "SIGKILL"}, {"alive": False, "boot_changed": True}, {"alive": False})[
        level
    ]

    def die(b: Bench) -> None:
        b.stopped = True

    def looked(b: Bench) -> None:
        b.trace.lines = [
            x for x in b.trace.lines if not (isinstance(x, dict) and x.get("event") == "training_ended")
        ]
        b.clock += 5
        b.look(**facts)

    bench.on_stepped.append(_at(ONSET, die))
    bench.on_end.append(looked)


def _busy(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _starve(bench: Bench, level: int) -> None:
    seconds = (0.006, 0.012, 0.02)[level]
    bench.on_fetch.append(_from(ONSET, lambda b: _sleep(seconds), ONSET + 50))


def _slow(bench: Bench, level: int) -> None:
    seconds = (0.006, 0.012, 0.02)[level]
    bench.on_batch.append(_from(ONSET, lambda b: _busy(seconds), ONSET + 40))


def _sleepy(bench: Bench, level: int) -> None:
    seconds = (0.02, 0.03, 0.05)[level]
    bench.on_batch.append(_from(ONSET, lambda b: _sleep(seconds), ONSET + 32))


def _leak_memory(bench: Bench, level: int) -> None:
    each = (150_000, 400_000, 1_000_000)[level]

    def keep(b: Bench) -> None:
        if b.step % 4 == 0:
            b.leaked.append(np.ones(each * 4, dtype=np.uint8))

    bench.on_stepped.append(keep)


def _calm(trace: Trace, twin: Trace, level: int) -> bool:
    """On a busy machine the fault and the machine look alike."""
    return trace.oracle.get("contended", 0.0) < 0.5


def _grew(trace: Trace, twin: Trace, level: int) -> bool:
    """Memory freed by an earlier run of the process may be used again: then nothing grows."""
    samples = [x["signals"].get("rss_bytes") for x in trace.lines if isinstance(x, dict) and "signals" in x]
    known = [v for v in samples if v is not None]
    return trace.oracle.get("grown", known[-1] - known[5] if len(known) > 5 else 0.0) > 8 * 2**20


# 22 to 26: the record. These are written into the events as the tracker would write them.


def _broken_checkpoint(bench: Bench, level: int) -> None:
    detail = (
        "sha256 of state.pt differs",
        "optimizer state is missing",
        "replayed loss differs: 0.31 against 0.45",
    )

    def save(b: Bench) -> None:
        name = f"ckpt-{b.step:08d}"
        b.event("checkpoint_committed", name=name, step=b.step, reason="cadence", metrics={})
        b.event(
            "checkpoint_failed", name=name, level="digest" if level == 0 else "restore", detail=detail[level]
        )

    bench.on_stepped.append(_at(ONSET, save))


def _wrong_best(bench: Bench, level: int) -> None:
    def save(b: Bench) -> None:
        name = "val_acc" if b.data.classes else "val_loss"
        values = [v[name] for v in b.trace.validation]
        worse, times = (0.02, 0.1, 0.5)[level], (1.05, 1.5, 4.0)[level]
        told = max(values) - worse if name == "val_acc" else min(values) * times
        b.event(
            "checkpoint_committed",
            name=f"ckpt-{b.step:08d}",
            step=b.step,
            reason="best",
            metrics={name: told},
        )

    bench.on_stepped.append(_at(ONSET + 1, save))


def _unseeded(bench: Bench, level: int) -> None:
    """The second attempt's first losses: what a twin with the same seed should have repeated."""

    def restart(b: Bench) -> None:
        first = [x for x in b.trace.losses[:5] if x is not None]
        noise = (1e-4, 1e-2, 0.3)[level]
        random = np.random.default_rng(b.seed)
        b.trace.lines.append({"event": "attempt_started", "attempt": 2, "config_digest": "c"})
        for index, loss in enumerate(first, 1):
            value = loss * (1 + noise * float(random.normal()))
            b.trace.lines.append({"event": "step", "attempt": 2, "step": index, "metrics": {"loss": value}})

    bench.on_end.append(restart)


def _drift(bench: Bench, level: int) -> None:
    def change(b: Bench) -> None:
        if level == 0:
            b.config["lr"] = b.recipe.lr / 2
        elif level == 1:
            b.config["batch_size"] = b.recipe.batch * 2
        else:
            b.config["parameters"] = 2 * sum(p.numel() for p in b.model.parameters())

    bench.on_optimizer.append(change)


def _forged(bench: Bench, level: int) -> None:
    def forge(b: Bench) -> None:
        lines = b.trace.lines
        if level == 0:
            for line in lines:
                if isinstance(line, dict) and line.get("event") == "step":
                    line["t"] = line["step"] * 1e-9
        elif level == 1:
            b.trace.lines = [
                x for x in lines if not (isinstance(x, dict) and x.get("event") in ("step", "evaluation"))
            ]
        else:
            for line in lines:
                if isinstance(line, dict) and line.get("event") in ("step", "evaluation"):
                    line["attempt"] = 3
        b.trace.lines.append(["close"])

    bench.on_end.append(forge)


def _relu(recipe: Recipe) -> bool:
    return recipe.net in ("relu", "wide_relu", "relu_bn", "residual", "relu3", "relu4")


def _classes(recipe: Recipe) -> bool:
    return recipe.task in TOKENS or recipe.task in CLASSES


def _real(recipe: Recipe) -> bool:
    return recipe.task not in TOKENS


def _steady(recipe: Recipe) -> bool:
    return recipe.schedule == "constant" and recipe.net != "linear"


FAULTS: dict[str, Fault] = {
    "1 nonfinite": Fault(1, _nonfinite, _is_nonfinite, ONSET, 1, _real),
    "2 divergence": Fault(2, _blow_up, _diverged, ONSET, 60, lambda r: r.net != "linear",
                          onsets=(ONSET, 1, ONSET)),
    "3 loss spike": Fault(3, _bad_batch, _spiked, ONSET, 1, _real),
    "4 gradient explosion": Fault(4, _scaled_loss, _exploded, ONSET, 10, lambda r: r.clip is None),
    "5 vanishing gradient": Fault(5, _nothing, _stuck, 1, 60, lambda r: _real(r) and _steady(r), _vanish),
    "6 dead units": Fault(6, _kill_units, lambda t, w, k: t.oracle.get("dead", 0) > 0.9, ONSET, 60, _relu),
    "7 saturation": Fault(7, _saturate, lambda t, w, k: t.oracle.get("saturated", 0) > 0.5, 1, 60,
                          lambda r: "tanh" in r.net),
    "8 no update": Fault(8, _no_update, _unmoved, ONSET, 10, lambda r: r.net != "linear",
                         onsets=(0, 0, ONSET)),
    "9 dead learning rate": Fault(9, _rate_oracle, _rate_died, ONSET, 10, lambda r: r.schedule == "constant"),
    "9 short schedule": Fault(9, _short_schedule, _stopped_early, 0, 15, lambda r: r.net != "linear",
                              note="onset = the rate reaches zero"),
    "9 forgotten scheduler": Fault(9, _forgotten, _always, 1, int(0.7 * STEPS), lambda r: r.schedule == "constant"),
    "10 plateau": Fault(10, _no_signal, _flat, 1, int(0.45 * STEPS), _steady),
    "11 overfit": Fault(11, _few_rows, _overfits, 0, 9 * EVALUATE_EVERY,
                        lambda r: r.net != "linear" and r.task not in (*RECONSTRUCTIONS, *TOKENS) and _steady(r),
                        note="onset = best validation loss"),
    "12 frozen metric": Fault(12, _stale, _repeats, ONSET, 4 * EVALUATE_EVERY,
                              onsets=(ONSET, ONSET, 1)),
    "13 metric regression": Fault(13, _other_data, _forgot, ONSET, 8 * EVALUATE_EVERY,
                                  lambda r: _real(r) and r.net != "linear"),
    "14 class collapse": Fault(14, _imbalance, _collapsed, 1, int(0.6 * STEPS),
                               lambda r: _classes(r) and _real(r) and r.label_noise == 0),
    "15 unshuffled": Fault(15, _sorted, _entropy_low, 0, 10, _classes),
    "16 leaked rows": Fault(16, _leak_rows, _leaked, 0, 0, _real),
    "16 leaked label": Fault(16, _leak_column, _leaked, 0, 0,
                             lambda r: r.task not in (*TOKENS, *RECONSTRUCTIONS, "friedman2") and
                             not r.net.startswith("cnn")),
    "17 stall": Fault(17, _hang, _always, ONSET, 1, note="virtual clock"),
    "18 process lost": Fault(18, _lost, _always, ONSET, 1, note="told by the watcher"),
    "19 starvation": Fault(19, _starve, _always, ONSET, 45),
    "20 slower computation": Fault(20, _slow, _always, ONSET, 40),
    "20 slower by waiting": Fault(20, _sleepy, _calm, ONSET, 40, note="info: the log cannot tell it from a busy machine"),
    "21 memory leak": Fault(21, _leak_memory, _grew, 1, 100),
    "22 checkpoint not resumable": Fault(22, _broken_checkpoint, _always, ONSET, 1, note="told by the verifier"),
    "23 best mismatch": Fault(23, _wrong_best, _always, ONSET, 1),
    "24 non-reproducible start": Fault(24, _unseeded, _always, 0, STEPS + 10),
    "25 configuration drift": Fault(25, _drift, _always, 0, 60),
    "26 forged record": Fault(26, _forged, _always, 0, STEPS),
}  # fmt: skip


def build(name: str, level: int, recipe: Recipe, seed: int) -> Bench:
    """A run with a fault in it."""
    fault = FAULTS[name]
    bench = Bench(fault.alter(recipe, level), seed)
    fault.inject(bench, level)
    return bench


def recipes(name: str, split: str) -> list[Recipe]:
    """Recipes of a split that can have a fault."""
    return [r for r in plain(split) if FAULTS[name].fits(r)]
