"""Dead and saturated units, seen by forward hooks that hang on the modules for one step at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from assay.track.hooks import StayingHook

SAMPLED_ROWS = 64
"""Rows of a batch looked at."""
HOOKED_MODULES = 256
REFRESH_LOOKS = 50
"""Looks after which the list of modules is made anew: a model may change its head while it trains."""
SATURATED_TANH = 0.99990920426
"""tanh(5)."""
SATURATED_INPUT = 5.0


class Activations:
    """The largest shares of dead and of saturated units over the layers of a model.

    Args:
        torch: the module.
        model: a `torch.nn.Module`.
    """

    def __init__(self, torch: Any, model: Any) -> None:
        self.spent_s = 0.0
        """Processor time of the hooks since it was set to zero."""
        self._torch = torch
        self._model = model
        kinds = {type(m).__name__ for m in model.modules()}
        self._has_relu = bool(kinds & {"ReLU", "ReLU6"})
        self._has_tanh = bool(kinds & {"Tanh", "Sigmoid"})
        self._found: dict[str, float] = {}
        self._waiting: dict[str, list[Any]] = {"dead_frac": [], "saturated_frac": []}
        self._handles: list[Any] = []
        self._hooks: list[tuple[StayingHook, Any]] = []
        self._looks = 0

    @property
    def watching(self) -> bool:
        """Whether the hooks hang now."""
        return bool(self._handles)

    def watch(self) -> None:
        """Hang the hooks; a compiled model is left alone, since it would be compiled again."""
        if self._handles or _compiled(self._model):
            return
        if self._looks % REFRESH_LOOKS == 0:
            self._hooks = self._chosen()
        self._looks += 1
        self._handles = [module.register_forward_hook(hook) for hook, module in self._hooks]

    def unwatch(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            with contextlib.suppress(Exception):  # a module may be gone already
                handle.remove()
        self._handles = []

    def taken(self) -> dict[str, float]:
        """Shares measured on a CPU since the last call."""
        found, self._found = self._found, {}
        return found

    def waiting(self) -> dict[str, Any]:
        """Shares that still lie on an accelerator, one tensor of one element each."""
        found = {n: self._torch.stack(kept).max().reshape(1) for n, kept in self._waiting.items() if kept}
        for kept in self._waiting.values():
            kept.clear()
        return found

    def _chosen(self) -> list[tuple[StayingHook, Any]]:
        """Modules and the hook for each. The first layer reads data, whose columns may well be zero: it is left out."""
        nn = self._torch.nn
        chosen: list[tuple[Callable[..., None], Any]] = []
        told_by_modules = self._has_relu and self._has_tanh
        first = True
        for module in self._model.modules():
            if isinstance(module, nn.ReLU | nn.ReLU6):
                chosen.append((self._after_relu, module))
            elif isinstance(module, nn.Tanh | nn.Sigmoid):
                chosen.append((self._of_saturating, module))
            elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                if not first and not told_by_modules:
                    chosen.append((self._before_dense, module))
                first = False
        return [(StayingHook(look), module) for look, module in chosen[:HOOKED_MODULES]]

    def _keep(self, name: str, share: Any) -> None:
        if type(share) is float:
            self._found[name] = max(self._found.get(name, 0.0), share)
        else:
            self._waiting[name].append(share)

    def _after_relu(self, module: Any, args: Any, output: Any) -> None:
        self._timed(self._dead, module, output, True)

    def _before_dense(self, module: Any, args: Any, output: Any) -> None:
        """A layer that reads activations: functional relu and tanh show in its input."""
        if args:
            self._timed(self._input, module, args[0])

    def _of_saturating(self, module: Any, args: Any, output: Any) -> None:
        if args:
            self._timed(self._beyond, module, args[0])

    def _timed(self, look: Callable[..., None], module: Any, values: Any, *more: Any) -> None:
        if not module.training or not hasattr(values, "dim"):
            return
        begun = time.thread_time()
        with contextlib.suppress(Exception):  # measuring must never end a run
            look(module, values.detach(), *more)
        self.spent_s += time.thread_time() - begun

    def _beyond(self, _: Any, values: Any) -> None:
        share = (values[:SAMPLED_ROWS].abs() > SATURATED_INPUT).float().mean()
        self._keep("saturated_frac", float(share) if share.device.type == "cpu" else share)

    def _input(self, module: Any, values: Any) -> None:
        torch = self._torch
        if not values.is_floating_point():
            return
        positive = False
        if not self._has_tanh:
            seen = values[:SAMPLED_ROWS]
            low, high = torch.aminmax(seen)
            # -1 and 1 are tanh's; below zero is no relu's. Undecided inputs count as nothing.
            if seen.device.type == "cpu":
                least = float(low)
                positive = least >= 0
                inside = -1 <= least < 0 and float(high) <= 1
                flat = float((seen.abs() > SATURATED_TANH).float().mean()) if inside else 0.0
                self._keep("saturated_frac", flat)
            else:
                mask = ((low >= -1) & (low < 0) & (high <= 1)).float()
                self._keep("saturated_frac", ((seen.abs() > SATURATED_TANH).float().mean() * mask).float())
        if not self._has_relu:
            self._dead(module, values, positive)

    def _dead(self, module: Any, values: Any, positive: bool) -> None:
        """Share of units that are zero on the whole batch; `positive`: no element is below zero."""
        if values.dim() < 2 or values.shape[0] < 2 or not values.is_floating_point():
            return
        seen = values[:SAMPLED_ROWS]
        # Units are channels of images (batch, channel, ...) and the last axis of everything else.
        axes = (0, *range(2, seen.dim())) if _convolves(module, seen) else tuple(range(seen.dim() - 1))
        peak = (seen if positive else seen.abs()).amax(dim=axes)
        if not peak.numel():
            return
        if peak.device.type == "cpu":
            self._keep("dead_frac", 1.0 - int(self._torch.count_nonzero(peak)) / peak.numel())
        else:
            self._keep("dead_frac", (peak == 0).float().mean())


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
