"""Signals of a torch model while it trains: gradients, updates, dead and saturated units. Hooks only.

Torch is touched only if the script has loaded it. Results stay on the device and are fetched once per `every` optimizer
steps (at once where the device is the CPU). Nothing here draws a random number or keeps a graph.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

SAMPLED_ELEMENTS = 1 << 17
"""Elements copied to measure an update; larger models are measured on the head of each tensor."""
SAMPLED_ROWS = 64
"""Rows of a batch looked at for dead and saturated units."""
HOOKED_MODULES = 256
"""Modules watched for dead and saturated units."""
BUDGET_FRAC = 0.014
"""Share of a step's time that probes may take; gradients are read less often where they would cost more."""
BUDGET_S = 80e-6
"""Seconds a step that are always allowed."""
CREDIT_STEPS = 20
UPDATE_STEPS_AT_START = 3
"""The first optimizer steps are measured one by one: a wrong optimizer shows at once."""
ACCUMULATION_AT_START = 64
"""Backward passes without a step that are taken for accumulation before any step was seen."""
MOVED = 1e-7
SATURATED_TANH = 0.99990920426
"""tanh(5)."""
SATURATED_INPUT = 5.0


class Probes:
    """Watches a model and its optimizer.

    Args:
        model: a `torch.nn.Module`; for anything else every method answers with nothing.
        optimizer: one optimizer or several; None = gradients are read when `signals` is called.
        every: optimizer steps between the dearer probes (updates, dead and saturated units, finiteness of weights).
        budget_s: time a step that probes may always take; above it and above 1.4 % of the step, gradients are read less
            often.
    """

    def __init__(
        self, model: Any, optimizer: Any = None, *, every: int = 10, budget_s: float = BUDGET_S
    ) -> None:
        self.every = max(1, int(every))
        self.budget_s = budget_s
        self._torch = sys.modules.get("torch")
        self._lock = threading.Lock()
        self._handles: list[Any] = []
        self._passing: list[Any] = []
        self._pending: list[tuple[tuple[str, ...], Any]] = []
        self._newest: dict[str, float] = {}
        self._steps = 0
        self._since_drain = 0
        self._backwards = 0
        self._accumulation = 0
        self._versions: tuple[int, ...] | None = None
        self._before: list[tuple[Any, Any]] | None = None
        self._counts_writes = True
        self._shares: dict[str, list[Any]] = {"dead_frac": [], "saturated_frac": []}
        self._idle = False
        self._credit = 0.0
        self._last_step = 0.0
        self._has_relu = self._has_tanh = False
        self._closed = False
        self._model = model if self._torch is not None and isinstance(model, self._torch.nn.Module) else None
        self._optimizers = _optimizers(optimizer)
        self._parameters: list[Any] = []
        self._trained: list[Any] = []
        self._ends: tuple[int, int] | None = None
        if self._model is not None:
            with contextlib.suppress(
                Exception
            ):  # a foreign model may refuse anything; training must not notice
                self._attach()

    def signals(self) -> dict[str, float]:
        """The newest values that have been fetched; a value is handed out once. Non-finite values are kept."""
        if self._model is None or self._closed:
            return {}
        started = time.thread_time()
        with self._lock, contextlib.suppress(Exception):  # measuring must never end a run
            self._unstepped()
            if not self._optimizers:
                self._measure_gradients(self._trained)
            if self._since_drain >= self.every or self._on_cpu():
                self._drain()
        found, self._newest = self._newest, {}
        rate = self._rate()
        if rate is not None:
            found["lr"] = rate
        self._credit -= time.thread_time() - started
        return found

    def wiring(self) -> dict[str, Any]:
        """Facts for the check before step 0: who owns what, what is frozen, whether a scheduler is attached."""
        if self._model is None:
            return {}
        try:
            return self._wiring()
        except Exception as error:  # noqa: BLE001 - a foreign module or optimizer may raise anything
            return {"problem": f"{type(error).__name__}: {error}"[:200]}

    def close(self) -> None:
        """Remove every hook."""
        self._closed = True
        for handle in (*self._handles, *self._passing):
            with contextlib.suppress(Exception):  # a module may be gone already
                handle.remove()
        self._handles, self._passing = [], []
        self._pending, self._before = [], None
        for kept in self._shares.values():
            kept.clear()

    # Attaching.

    def _attach(self) -> None:
        self._parameters = list(self._model.parameters()) if self._model is not None else []
        self._trained = [p for p in self._parameters if p.requires_grad]
        weights = [i for i, p in enumerate(self._trained) if p.dim() >= 2]
        if len(weights) >= 2:
            self._ends = (weights[0], weights[-1])
        kinds = {type(m).__name__ for m in self._model.modules()} if self._model is not None else set()
        self._has_relu = bool(kinds & {"ReLU", "ReLU6"})
        self._has_tanh = bool(kinds & {"Tanh", "Sigmoid"})
        for optimizer in self._optimizers:
            if hasattr(optimizer, "register_step_pre_hook"):
                self._handles.append(optimizer.register_step_pre_hook(self._before_step))
                self._handles.append(optimizer.register_step_post_hook(self._after_step))
        if self._trained and hasattr(self._trained[-1], "register_post_accumulate_grad_hook"):
            self._handles.append(self._trained[-1].register_post_accumulate_grad_hook(self._on_backward))
        self._watch_activations()

    def _on_cpu(self) -> bool:
        return not self._trained or self._trained[0].device.type == "cpu"

    # Around a step of the optimizer.

    def _on_backward(self, _: Any) -> None:
        self._backwards += 1

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._closed or optimizer is not self._optimizers[0]:
            return
        with contextlib.suppress(Exception):  # measuring must never end a run
            started = time.thread_time()
            if self._credit >= 0.0 or self._steps < 2 * self.every:
                self._measure_gradients(self._trained, getattr(optimizer, "grad_scale", None))
            self._versions = tuple(p._version for p in self._trained)  # noqa: SLF001 - counts writes, free of cost
            due = self._steps % self.every == 0 or self._steps < UPDATE_STEPS_AT_START or self._idle
            self._before = self._sample() if due else None
            self._credit -= time.thread_time() - started

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._closed or optimizer is not self._optimizers[-1]:
            return
        with contextlib.suppress(Exception):  # measuring must never end a run
            started = time.thread_time()
            self._accumulation = max(self._accumulation, self._backwards)
            self._backwards = 0
            self._measure_update()
            self._steps += 1
            self._since_drain += 1
            due = self._steps % self.every
            if due == 0:
                self._watch_activations()
            elif self._passing:
                self._unwatch_activations()
            if due == 1 or self.every == 1:
                self._measure_finiteness()
            self._earn(started)

    def _earn(self, started: float) -> None:
        """Every step earns the probes some time; what they took is paid from it."""
        now = time.perf_counter()
        allowed = (
            max(self.budget_s, BUDGET_FRAC * (now - self._last_step)) if self._last_step else self.budget_s
        )
        self._last_step = now
        credit = self._credit + allowed - (time.thread_time() - started)
        self._credit = min(credit, CREDIT_STEPS * allowed)

    def _unstepped(self) -> None:
        """Backward passes without a step: the gradient scaler skipped one, or nobody steps at all."""
        usual = self._accumulation or ACCUMULATION_AT_START
        if not self._backwards or not self._optimizers:
            return
        # Gradients that are not finite and no step: a scaler holds it back. On an accelerator asking would wait for it;
        # there a skipped step has no gradient norm at all.
        if self._backwards >= (self._accumulation or 1) and self._on_cpu():
            norm = self._total_norm(self._gradients(self._trained))
            if norm is not None and not math.isfinite(float(norm)):
                self._newest["amp_skipped"] = 1.0
                self._backwards = 0
                return
        if self._backwards > 2 * usual:
            self._newest["update_ratio"] = 0.0

    # Measuring; all results stay on the device.

    def _gradients(self, parameters: Sequence[Any]) -> list[Any]:
        return [_local(p.grad) for p in parameters if p.grad is not None]

    def _total_norm(self, grads: list[Any]) -> Any:
        torch = self._torch
        if torch is None or not grads:
            return None
        with torch.no_grad():
            return torch.linalg.vector_norm(torch.stack(_norms(torch, grads)))

    def _measure_gradients(self, parameters: Sequence[Any], scale: Any = None) -> None:
        torch = self._torch
        if torch is None:
            return
        grads: list[Any] = []
        at: dict[int, int] = {}
        for index, parameter in enumerate(parameters):
            if parameter.grad is not None:
                at[index] = len(grads)
                grads.append(_local(parameter.grad))
        if not grads:
            return
        if scale is None and self._on_cpu():
            self._put_gradients(torch.stack(_norms(torch, grads)).tolist(), at, parameters)
            return
        with torch.no_grad():
            norms = torch.stack(_norms(torch, grads)).float()
            if scale is not None:
                norms = norms / scale
            parts = [torch.linalg.vector_norm(norms)]
            keys = ["grad_norm"]
            if self._ends is not None and self._ends[0] in at and self._ends[1] in at:
                for name, end in zip(("grad_rms_first", "grad_rms_last"), self._ends, strict=True):
                    parts.append(norms[at[end]] * (1.0 / math.sqrt(max(1, parameters[end].numel()))))
                    keys.append(name)
            self._keep(tuple(keys), torch.stack(parts))

    def _put_gradients(self, norms: list[float], at: dict[int, int], parameters: Sequence[Any]) -> None:
        """The same in plain Python: on a CPU small tensor operations cost more than the norms."""
        self._newest["grad_norm"] = math.sqrt(sum(n * n for n in norms))
        if self._ends is not None and self._ends[0] in at and self._ends[1] in at:
            for name, end in zip(("grad_rms_first", "grad_rms_last"), self._ends, strict=True):
                self._newest[name] = norms[at[end]] / math.sqrt(max(1, parameters[end].numel()))

    def _sample(self) -> list[tuple[Any, Any]]:
        """Copies of (the head of) every trained tensor."""
        torch = self._torch
        if torch is None or not self._trained:
            return []
        each = max(16, SAMPLED_ELEMENTS // len(self._trained))
        with torch.no_grad():
            heads = [_head(_local(p.detach()), each) for p in self._trained]
            return [(head, head.clone()) for head in heads]

    def _measure_update(self) -> None:
        torch = self._torch
        if torch is None or self._versions is None:
            return
        still = self._counts_writes and self._versions == tuple(p._version for p in self._trained)  # noqa: SLF001 - see above
        if still and self._before is not None and any(not torch.equal(a, b) for a, b in self._before):
            # Fused kernels (AdamW(fused=True), bitsandbytes) write without counting.
            self._counts_writes = still = False
        if still and self._trained:
            self._newest["update_ratio"] = 0.0
            self._before, self._idle = None, True
            return
        if self._before is None:
            return
        with torch.no_grad():
            after, before = [a for a, _ in self._before], [b for _, b in self._before]
            moved = torch.stack(_norms(torch, torch._foreach_sub(after, before)))  # noqa: SLF001 - one kernel
            size = torch.stack(_norms(torch, before)) + 1e-12
            ratio = (moved / size).max().float().reshape(1)
        self._before = None
        self._keep(("update_ratio",), ratio)
        self._idle = self._on_cpu() and float(ratio) <= MOVED

    def _measure_finiteness(self) -> None:
        torch = self._torch
        if torch is None or not self._trained:
            return
        with torch.no_grad():
            total = torch.stack(_norms(torch, [_local(p.detach()) for p in self._trained])).sum()
            self._keep(("params_finite",), torch.isfinite(total).float().reshape(1))

    def _keep(self, keys: tuple[str, ...], values: Any) -> None:
        self._pending.append((keys, values.detach()))

    def _drain(self) -> None:
        """One transfer for all that was measured since the last."""
        torch = self._torch
        self._since_drain = 0
        if torch is None:
            return
        for name, kept in self._shares.items():
            if kept:
                self._keep((name,), torch.stack(kept).max().reshape(1))
                kept.clear()
        pending, self._pending = self._pending, []
        if not pending:
            return
        flat = torch.cat([v for _, v in pending]).tolist()
        position = 0
        for keys, values in pending:
            for offset, key in enumerate(keys):
                self._put(key, float(flat[position + offset]))
            position += values.numel()

    def _put(self, key: str, value: float) -> None:
        """Of several values in one transfer the newest counts; one that is not finite is not covered up."""
        before = self._newest.get(key)
        if before is not None and (not math.isfinite(before) or (key == "params_finite" and before == 0.0)):
            return
        self._newest[key] = value

    # Activations, watched during one step out of `every`.

    def _watch_activations(self) -> None:
        if self._passing or self._model is None or self._torch is None or _compiled(self._model):
            return
        for hook, module in _watched(self._torch, self._model, self):
            self._passing.append(module.register_forward_hook(hook))

    def _unwatch_activations(self) -> None:
        for handle in self._passing:
            handle.remove()
        self._passing = []

    def after_relu(self, module: Any, args: Any, output: Any) -> None:
        """Forward hook: share of units that are zero on the whole batch."""
        self._dead(module, output)

    def before_dense(self, module: Any, args: Any, output: Any) -> None:
        """Forward hook of a layer that reads activations: functional relu and tanh show in its input."""
        source = args[0] if args else None
        if source is None or not hasattr(source, "dim") or not module.training:
            return
        with contextlib.suppress(Exception):  # measuring must never end a run
            torch = self._torch
            if torch is None or self._has_tanh or not source.is_floating_point():
                return
            with torch.no_grad():
                seen = source.detach()[:SAMPLED_ROWS]
                low, high = torch.aminmax(seen)
                # -1 and 1 are tanh's; below zero is no relu's. Undecided inputs count as nothing.
                inside = ((low >= -1) & (low < 0) & (high <= 1)).float()
                flat = (seen.abs() > SATURATED_TANH).float().mean()
                self._shares["saturated_frac"].append((flat * inside).float())
        if not self._has_relu:
            self._dead(module, source)

    def of_saturating(self, module: Any, args: Any, output: Any) -> None:
        """Forward hook of tanh and sigmoid: share of units far in the flat part."""
        if not args or not module.training:
            return
        with contextlib.suppress(Exception):  # measuring must never end a run
            torch = self._torch
            if torch is not None:
                with torch.no_grad():
                    beyond = (args[0].detach()[:SAMPLED_ROWS].abs() > SATURATED_INPUT).float().mean()
                    self._shares["saturated_frac"].append(beyond)

    @property
    def told_by_modules(self) -> bool:
        """Whether activations are modules of their own, so that inputs of dense layers need no look."""
        return self._has_relu and self._has_tanh

    def _dead(self, module: Any, values: Any) -> None:
        with contextlib.suppress(Exception):  # measuring must never end a run
            torch = self._torch
            if torch is None or not module.training or values.dim() < 2 or values.shape[0] < 2:
                return
            if not values.is_floating_point():
                return
            with torch.no_grad():
                seen = values.detach()[:SAMPLED_ROWS]
                # Units are channels of images (batch, channel, ...) and the last axis of everything else.
                axes = (
                    (0, *range(2, seen.dim())) if _convolves(module, seen) else tuple(range(seen.dim() - 1))
                )
                peak = seen.abs().amax(dim=axes)
                self._shares["dead_frac"].append((peak == 0).float().mean())

    # Facts.

    def _rate(self) -> float | None:
        rates = []
        for optimizer in self._optimizers:
            for group in getattr(optimizer, "param_groups", ()):
                rate = group.get("lr")
                if (
                    isinstance(rate, int | float)
                    or getattr(getattr(rate, "device", None), "type", "") == "cpu"
                ):
                    rates.append(float(rate))
        return max(rates) if rates else None

    def _wiring(self) -> dict[str, Any]:
        torch = self._torch
        assert torch is not None
        assert self._model is not None
        named = list(self._model.named_parameters())
        own = {id(p) for _, p in named}
        held = [p for o in self._optimizers for g in getattr(o, "param_groups", ()) for p in g["params"]]
        inside = {id(p) for p in held}
        trainable = [(n, p) for n, p in named if p.requires_grad]
        facts: dict[str, Any] = {
            "elements": sum(p.numel() for _, p in named),
            "trainable_elements": sum(p.numel() for _, p in trainable),
            "dropout": any(
                ("Dropout" in type(m).__name__ and getattr(m, "p", 0)) or (isinstance(getattr(m, "dropout", None), float)
                and m.dropout > 0) for m in self._model.modules()
            ),
            "modules": sum(1 for _ in self._model.modules()),
        }  # fmt: skip
        if self._optimizers:
            facts |= {
                "optimizer": ", ".join(type(o).__name__ for o in self._optimizers),
                "owned_trainable_elements": sum(p.numel() for _, p in trainable if id(p) in inside),
                "trainable_not_in_optimizer": [n for n, p in trainable if id(p) not in inside][:20],
                "foreign_elements": sum(p.numel() for p in held if id(p) not in own),
                "frozen_in_optimizer": [n for n, p in named if not p.requires_grad and id(p) in inside][:20],
                # A scheduler writes `initial_lr` into the groups when it is built.
                "scheduler": any(
                    "initial_lr" in g for o in self._optimizers for g in getattr(o, "param_groups", ())
                ),
                "learning_rates": [_plain(g.get("lr")) for o in self._optimizers for g in o.param_groups][
                    :20
                ],
            }
        return facts


def _plain(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _optimizers(given: Any) -> list[Any]:
    if given is None:
        return []
    found = list(given) if isinstance(given, list | tuple) else [given]
    return [getattr(o, "optimizer", o) if not hasattr(o, "param_groups") else o for o in found]


def _local(tensor: Any) -> Any:
    """The part of a distributed tensor that lies here; a dense view of a sparse gradient's values."""
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if getattr(tensor, "is_sparse", False):
        tensor = tensor.coalesce().values()
    return tensor.detach()


def _head(tensor: Any, count: int) -> Any:
    if tensor.numel() <= count or not tensor.is_contiguous():
        return tensor
    return tensor.view(-1)[:count]


def _norms(torch: Any, tensors: Iterable[Any]) -> list[Any]:
    """One norm a tensor, in one call where they share a device and a type."""
    tensors = list(tensors)
    if len({(t.device, t.dtype) for t in tensors}) == 1:
        return list(torch._foreach_norm(tensors))  # noqa: SLF001 - what torch's own clipping calls
    device = tensors[0].device
    return [torch.linalg.vector_norm(t).float().to(device) for t in tensors]


def _compiled(model: Any) -> bool:
    """A hook put on a compiled model makes it compile again."""
    return hasattr(model, "_orig_mod") or type(model).__name__ in ("ScriptModule", "RecursiveScriptModule")


def _convolves(module: Any, values: Any) -> bool:
    if values.dim() < 3:
        return False
    name = type(module).__name__
    if name.startswith(("Conv", "BatchNorm", "MaxPool", "AvgPool")):
        return True
    # relu itself: images are (batch, channel, height, width), sequences (batch, time, features).
    return bool(values.dim() == 4) and not name.startswith("Linear")


def _watched(torch: Any, model: Any, probes: Probes) -> Iterator[tuple[Callable[[Any, Any, Any], None], Any]]:
    """Modules and the hook for each. The first layer reads data, whose columns may well be zero: it is left out."""
    nn = torch.nn
    count, first = 0, True
    for module in model.modules():
        hook: Callable[[Any, Any, Any], None] | None = None
        if isinstance(module, nn.ReLU | nn.ReLU6):
            hook = probes.after_relu
        elif isinstance(module, nn.Tanh | nn.Sigmoid):
            hook = probes.of_saturating
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            if not first and not probes.told_by_modules:
                hook = probes.before_dense
            first = False
        if hook is not None:
            count += 1
            if count > HOOKED_MODULES:
                return
            yield hook, module
