"""Signals of a torch model while it trains: gradients, updates, dead and saturated units. Hooks only.

Torch is touched only if the script has loaded it. On an accelerator results stay there and are fetched once per `every`
optimizer steps. Nothing here draws a random number or keeps a graph. What is measured how often follows from what it
costs: see `BUDGET_FRAC`.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from assay.track.activations import Activations
from assay.track.movement import Movement
from assay.track.tensors import checksum, local, norms

BUDGET_FRAC = 0.01
"""Share of a step's time that probes may take; what would cost more is measured less often."""
BUDGET_S = 50e-6
"""Seconds a step that are always allowed."""
HOOKS_S = 16e-6
"""First guess at the hooks of a step that measures nothing; asking the clock of the processor each time costs more."""
TIMED_STEPS = 16
"""One step in so many times its hooks."""
HOOKS_OVER_EARNING = 5.0
"""All hooks of a step and `signals` together over the part of them that is timed."""
SHARES = {"update": 0.15, "activations": 0.2, "finiteness": 0.05}
"""Share of the budget from which a kind of probe gives up its cadence; gradients take what is left."""
RAREST = {"update": 2, "activations": 4, "finiteness": 10}
"""The longest such cadence, in units of `every`."""
STEP_GROWTH = 1.02
"""How fast a step time may be taken for longer than the shortest of late."""
ROSE = 0.2
"""A share of dead or saturated units that rose by so much is looked at again `AGAIN` times at the usual cadence."""
AGAIN = 3
CREDIT_STEPS = 10
SMALL_ELEMENTS = 1 << 15
"""Models up to this size are looked through in each step for a weight that is not finite."""
JUMP = 10.0
"""A gradient norm over this multiple of the one before is read again in the next step, whatever that costs."""
UPDATE_STEPS_AT_START = 3
"""The first optimizer steps are measured one by one: a wrong optimizer shows at once."""
ACCUMULATION_AT_START = 64
"""Backward passes without a step that are taken for accumulation before any step was seen."""
COUNTED_TENSORS = 8
"""Tensors whose writes are counted in each step; all of them once these stand still."""
MOVED = 1e-7


class Probes:
    """Watches a model and its optimizer.

    Args:
        model: a `torch.nn.Module`; for anything else every method answers with nothing.
        optimizer: one optimizer or several; None = gradients are read when `signals` is called.
        every: optimizer steps between the dearer probes (updates, dead and saturated units, finiteness of weights).
        budget_s: time a step that probes may always take; above it and above 1 % of the step, gradients are read less
            often, then activations and finiteness.
    """

    def __init__(
        self, model: Any, optimizer: Any = None, *, every: int = 10, budget_s: float = BUDGET_S
    ) -> None:
        self.every = max(1, int(every))
        self.budget_s = budget_s
        self._torch = sys.modules.get("torch")
        self._lock = threading.Lock()
        self._handles: list[Any] = []
        self._pending: list[tuple[tuple[str, ...], Any]] = []
        self._newest: dict[str, float] = {}
        self._steps = 0
        self._since_drain = 0
        self._backwards = 0
        self._accumulation = 0
        self._counting: Any = None
        self._before_hooks: list[Any] = []
        self._reads_before = False
        self._signalled = -1
        self._versions: list[int] | None = None
        self._movement: Movement | None = None
        self._counts_writes = True
        self._activations: Activations | None = None
        self._idle = False
        self._allowed_s = budget_s
        self._credit = 0.0
        self._read_at = 0
        self._last_step = 0.0
        self._step_s = math.inf
        self._last_norm = math.inf
        self._jumped = False
        self._costs: dict[str, float] = {}
        # Half a cadence apart, so that no step carries all of the probes.
        self._next = {"update": 0, "activations": self.every, "finiteness": self.every // 2 + 1}
        self._next_look = 1
        self._shares: dict[str, float] = {}
        self._again = 0
        self._busy_at = 0
        self._update_s = 0.0
        self._hooks_s = HOOKS_S
        self._closed = False
        self._model = model if self._torch is not None and isinstance(model, self._torch.nn.Module) else None
        self._optimizers = _optimizers(optimizer)
        self._parameters: list[Any] = []
        self._trained: list[Any] = []
        self._counted: list[Any] = []
        self._ends: tuple[int, int] | None = None
        self._on_cpu = True
        self._small = False
        if self._model is not None:
            with contextlib.suppress(
                Exception
            ):  # a foreign model may refuse anything; training must not notice
                self._attach()

    def signals(self) -> dict[str, float]:
        """The newest values that have been fetched; a value is handed out once. Non-finite values are kept."""
        if self._model is None or self._closed:
            return {}
        with self._lock:
            try:
                if self._steps == self._signalled:
                    self._unstepped()
                self._signalled = self._steps
                if not self._optimizers:
                    self._measure_gradients(self._trained)
                if self._pending and self._since_drain >= self.every:
                    self._drain()
            except Exception:  # noqa: BLE001, S110 - measuring must never end a run
                pass
            found, self._newest = self._newest, {}
        rate = self._rate()
        if rate is not None:
            found["lr"] = rate
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
        for handle in (*self._handles, self._counting, *self._before_hooks):
            with contextlib.suppress(Exception):  # a module may be gone already, or nothing hangs
                handle.remove()
        self._counting, self._before_hooks = None, []
        if self._activations is not None:
            self._activations.unwatch()
        self._handles, self._activations = [], None
        self._pending, self._movement = [], None

    # Attaching.

    def _attach(self) -> None:
        assert self._model is not None
        self._parameters = list(self._model.parameters())
        self._trained = [p for p in self._parameters if p.requires_grad]
        self._counted = self._trained[:: max(1, len(self._trained) // COUNTED_TENSORS)]
        self._on_cpu = all(p.device.type == "cpu" for p in self._trained)
        self._small = self._on_cpu and sum(p.numel() for p in self._trained) <= SMALL_ELEMENTS
        weights = [i for i, p in enumerate(self._trained) if p.dim() >= 2]
        if len(weights) >= 2:
            self._ends = (weights[0], weights[-1])
        self._reads_before = not self._on_cpu
        for optimizer in self._optimizers:
            if hasattr(optimizer, "register_step_post_hook"):
                self._handles.append(optimizer.register_step_post_hook(self._after_step))
        self._stand_before()
        self._count_backwards()
        self._movement = Movement(self._torch, self._trained)
        self._movement.exact = not self._on_cpu
        self._versions = [p._version for p in self._counted]  # noqa: SLF001 - as in `_after_step`
        self._activations = Activations(self._torch, self._model)
        self._activations.watch()

    # Around a step of the optimizer.

    def _count_backwards(self) -> None:
        """A hook in the backward pass costs as much as all others: it hangs only where its count is in question."""
        if (
            self._counting is None
            and self._trained
            and hasattr(self._trained[-1], "register_post_accumulate_grad_hook")
        ):
            self._counting = self._trained[-1].register_post_accumulate_grad_hook(self._on_backward)

    def _on_backward(self, _: Any) -> None:
        self._backwards += 1

    def _stand_before(self) -> None:
        """Hang the hook before the step of the optimizer: on a CPU only for the steps that are compared with it."""
        if not self._before_hooks:
            self._before_hooks = [
                o.register_step_pre_hook(self._before_step)
                for o in self._optimizers[:1]
                if hasattr(o, "register_step_pre_hook")
            ]

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._closed:
            return
        try:
            begun = time.thread_time()
            if self._reads_before and (self._credit >= 0.0 or self._steps >= self._read_at):
                self._measure_gradients(self._trained, getattr(optimizer, "grad_scale", None))
            if self._compares(self._steps) and self._movement is not None:
                self._movement.begin()
            if self._movement is not None and self._movement.begun and not self._idle:
                self._costs["update"] = self._update_s + time.thread_time() - begun
            self._due("update")
            self._credit -= time.thread_time() - begun
        except Exception:  # noqa: BLE001, S110 - measuring must never end a run
            pass

    def _compares(self, steps: int) -> bool:
        """Whether the step after so many is one whose update is measured."""
        return steps >= self._next["update"] or steps < UPDATE_STEPS_AT_START or self._idle

    def _read_after(self, optimizer: Any) -> None:
        """Gradients still lie there after the step, and reading them then needs no hook before it."""
        if getattr(optimizer, "grad_scale", None) is not None:
            self._reads_before = True  # the kernel of a fused optimizer takes the scale out itself
            return
        begun = time.thread_time()
        self._measure_gradients(self._trained)
        self._credit -= time.thread_time() - begun

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if optimizer is not self._optimizers[-1] or self._closed:
            return
        try:
            steps = self._steps = self._steps + 1
            self._since_drain += 1
            self._accumulation = max(self._accumulation, self._backwards)
            self._backwards = 0
            versions = [p._version for p in self._counted]  # noqa: SLF001 - counts writes, free of cost
            still = versions == self._versions and self._counts_writes
            self._versions = versions
            if not self._reads_before and (self._credit >= 0.0 or steps > self._read_at):
                self._read_after(optimizer)
            if self._small and not math.isfinite(checksum(self._torch, self._trained)):
                self._newest["params_finite"] = 0.0
            movement = self._movement
            if movement is not None and movement.begun:
                begun = time.thread_time()
                self._measure_update(movement, still)
                self._update_s = time.thread_time() - begun
                self._credit -= self._update_s
            elif still:
                self._stands_still()
            elif (
                steps < self._busy_at
                and self._credit < 0.0
                and not (self._idle or self._jumped or self._before_hooks or self._small)
            ):
                self._earn()
                return
            if steps >= self._next_look:
                self._look()
            at_once = self._idle or self._jumped or steps < 2 * self.every
            self._read_at = steps if at_once else steps - steps % -self.every
            if self._reads_before or self._compares(steps):
                self._stand_before()
            elif self._before_hooks:
                self._before_hooks.pop().remove()
            self._busy_at = min(self._read_at + 1, int(self._next["update"]), self._next_look)
            if steps == self.every and self._counting is not None:
                self._counting.remove()
                self._counting = None
            self._earn()
        except Exception:  # noqa: BLE001, S110 - measuring must never end a run
            pass

    def _earn(self) -> None:
        """Every step earns the probes some time; what they took is paid from it."""
        timed = self._steps % TIMED_STEPS == 0
        begun = time.thread_time() if timed else 0.0
        now = time.perf_counter()
        if self._last_step:
            # The shortest of late: a machine that others load as well makes a step longer, not our share of it larger.
            self._step_s = min(now - self._last_step, self._step_s * STEP_GROWTH)
            self._allowed_s = max(self.budget_s, BUDGET_FRAC * self._step_s)
        self._last_step = now
        self._credit = min(self._credit + self._allowed_s - self._hooks_s, CREDIT_STEPS * self._allowed_s)
        if self._steps == 2 * self.every:
            self._credit = 0.0  # what the first steps took beyond their share is not made good by blindness
        if timed:
            taken = HOOKS_OVER_EARNING * (time.thread_time() - begun)
            self._hooks_s += 0.2 * (taken - self._hooks_s)

    def _look(self) -> None:
        """Begin and end looks at activations and weights when their time has come."""
        watched = self._activations
        if watched is not None and watched.watching:
            begun = time.thread_time()
            watched.unwatch()
            for name, share in watched.taken().items():
                self._put(name, share)
                self._again = AGAIN if share > self._shares.get(name, 0.0) + ROSE else self._again
                self._shares[name] = share
            if self._again:
                self._again -= 1
                self._next["activations"] = min(self._next["activations"], self._steps - 1 + self.every)
            for name, tensor in watched.waiting().items():
                self._pending.append(((name,), tensor))
            self._pay("activations", time.thread_time() - begun + watched.spent_s)
            watched.spent_s = 0.0
        if watched is not None and self._due("activations"):
            begun = time.thread_time()
            watched.watch()
            watched.spent_s += time.thread_time() - begun
        if not self._small and self._due("finiteness"):
            begun = time.thread_time()
            self._measure_finiteness()
            self._pay("finiteness", time.thread_time() - begun)
        following = self._next["activations"]
        if not self._small:
            following = min(following, self._next["finiteness"])
        self._next_look = self._steps + 1 if watched is not None and watched.watching else following

    def _due(self, kind: str) -> bool:
        if self._steps < self._next[kind]:
            return False
        usual = self._costs.get(kind, 0.0) / (SHARES[kind] * self._allowed_s)
        self._next[kind] = self._steps + int(min(max(self.every, usual), RAREST[kind] * self.every))
        return True

    def _pay(self, kind: str, cost_s: float) -> None:
        self._credit -= cost_s
        known = self._costs.get(kind)
        self._costs[kind] = cost_s if known is None else 0.5 * (known + cost_s)

    def _unstepped(self) -> None:
        """Backward passes without a step: the gradient scaler skipped one, or nobody steps at all."""
        usual = self._accumulation or ACCUMULATION_AT_START
        if not self._optimizers:
            return
        if self._counting is None:
            self._count_backwards()
            self._backwards = int(any(p.grad is not None for p in self._trained[-1:]))
        if not self._backwards:
            return
        # Gradients that are not finite and no step: a scaler holds it back. On an accelerator asking would wait for it;
        # there a skipped step has no gradient norm at all.
        if self._backwards >= (self._accumulation or 1) and self._on_cpu:
            norm = self._total_norm(self._gradients(self._trained))
            if norm is not None and not math.isfinite(float(norm)):
                self._newest["amp_skipped"] = 1.0
                self._backwards = 0
                return
        if self._backwards > 2 * usual:
            self._newest["update_ratio"] = 0.0

    # Measuring; on an accelerator all results stay there.

    def _gradients(self, parameters: Sequence[Any]) -> list[Any]:
        return [local(p.grad) for p in parameters if p.grad is not None]

    def _total_norm(self, grads: list[Any]) -> Any:
        torch = self._torch
        if torch is None or not grads:
            return None
        with torch.no_grad():
            return torch.linalg.vector_norm(torch.stack(norms(torch, grads)))

    def _measure_gradients(self, parameters: Sequence[Any], scale: Any = None) -> None:
        torch = self._torch
        if torch is None:
            return
        grads: list[Any] = []
        at: dict[int, int] = {}
        for index, parameter in enumerate(parameters):
            gradient = parameter.grad
            if gradient is not None:
                at[index] = len(grads)
                grads.append(local(gradient))
        if not grads:
            return
        if scale is None and self._on_cpu:
            self._put_gradients(torch.stack(norms(torch, grads)).tolist(), at, parameters)
            if self._small:
                self._newest.setdefault("params_finite", 1.0)
            return
        with torch.no_grad():
            each = torch.stack(norms(torch, grads)).float()
            if scale is not None:
                each = each / scale
            parts = [torch.linalg.vector_norm(each)]
            keys = ["grad_norm"]
            if self._ends is not None and self._ends[0] in at and self._ends[1] in at:
                for name, end in zip(("grad_rms_first", "grad_rms_last"), self._ends, strict=True):
                    parts.append(each[at[end]] * (1.0 / math.sqrt(max(1, parameters[end].numel()))))
                    keys.append(name)
            self._keep(tuple(keys), torch.stack(parts))

    def _put_gradients(self, each: list[float], at: dict[int, int], parameters: Sequence[Any]) -> None:
        """The same in plain Python: on a CPU small tensor operations cost more than the norms."""
        total = self._newest["grad_norm"] = math.sqrt(sum(n * n for n in each))
        self._jumped = not self._jumped and total > JUMP * self._last_norm
        self._last_norm = total
        if self._ends is not None and self._ends[0] in at and self._ends[1] in at:
            for name, end in zip(("grad_rms_first", "grad_rms_last"), self._ends, strict=True):
                self._newest[name] = each[at[end]] / math.sqrt(max(1, parameters[end].numel()))

    def _stands_still(self) -> None:
        if len(self._counted) < len(self._trained):
            # Some tensors may rest while others move (experts of a mixture): from now on all of them are counted.
            self._counted, self._versions = self._trained, None
        elif self._trained:
            self._newest["update_ratio"] = 0.0
            self._idle = True

    def _measure_update(self, movement: Movement, still: bool) -> None:
        if still:
            if movement.unchanged():
                movement.forget()
                movement.exact = True
                self._stands_still()
                return
            # Fused kernels (AdamW(fused=True), bitsandbytes) write without counting.
            self._counts_writes = len(self._counted) < len(self._trained)
            self._counted, self._versions = self._trained, None
        ratio = movement.ratio()
        if not self._on_cpu:
            self._keep(("update_ratio",), ratio)
            return
        moved = float(ratio)
        self._idle = moved <= MOVED
        if self._idle and not movement.exact:
            movement.exact = True  # told in the next step, if the tensors left out rest as well
            return
        if not self._idle:
            movement.exact = False
        self._put("update_ratio", moved)

    def _measure_finiteness(self) -> None:
        torch = self._torch
        if torch is None or not self._trained:
            return
        with torch.no_grad():
            total = torch.stack(norms(torch, [local(p) for p in self._trained])).sum()
            self._keep(("params_finite",), torch.isfinite(total).float().reshape(1))

    def _keep(self, keys: tuple[str, ...], values: Any) -> None:
        """Results on a CPU are told at once, others with the next transfer."""
        if values.device.type == "cpu":
            for key, value in zip(keys, values.tolist(), strict=True):
                self._put(key, value)
        else:
            self._pending.append((keys, values.detach()))

    def _drain(self) -> None:
        """One transfer for all that was measured since the last."""
        torch = self._torch
        self._since_drain = 0
        pending, self._pending = self._pending, []
        if torch is None or not pending:
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

    # Facts.

    def _rate(self) -> float | None:
        rates = []
        for optimizer in self._optimizers:
            for group in getattr(optimizer, "param_groups", ()):
                rate = group.get("lr")
                if type(rate) is float:
                    rates.append(rate)
                elif isinstance(rate, int) or getattr(getattr(rate, "device", None), "type", "") == "cpu":
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
