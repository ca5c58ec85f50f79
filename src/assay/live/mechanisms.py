"""From an alert and the rows around its first sign to the likely cause in plain words, and what to try. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from assay.core.experiment import Alert
from assay.live.classes import CLASSES

LOSSES = ("loss", "train_loss", "train/loss")
CALM = 3.0
"""Up to so many times its median a value before the fault counts as ordinary."""
JUMP = 3.0
"""A learning rate that grew by more than this factor was changed, not scheduled."""
USUAL_CUT = 3.0
"""By how much a learning rate is lowered after a divergence: about half a decade."""

Row = tuple[int, Mapping[str, float]]


@dataclass(frozen=True)
class Surroundings:
    """Step rows around the first sign of an alert."""

    step: int | None = None
    before: tuple[Row, ...] = ()
    after: tuple[Row, ...] = ()
    last_step: int | None = None
    total_steps: int | None = None

    def values(self, *names: str, after: bool = False) -> list[tuple[int, float]]:
        """The values of the first of these names that the rows have, with their steps."""
        rows: Sequence[Row] = self.after if after else self.before
        for name in names:
            found = [(step, values[name]) for step, values in rows if name in values]
            if found:
                return found
        return []

    def usual(self, *names: str) -> float | None:
        """The median before."""
        found = [value for _, value in self.values(*names)]
        return statistics.median(found) if found else None


@dataclass(frozen=True)
class Cause:
    """A likely cause, and what to try."""

    why: str
    next: tuple[str, ...]


def of(alert: Alert, around: Surroundings) -> Cause:
    """The likely cause of an alert."""
    known = _KNOWN.get(alert.number or 0)
    found = known(alert, around) if known is not None else None
    return found or _general(alert)


def shown(value: Any) -> str:
    """A value of an alert for people."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "nothing" if value is None else str(value)[:120]


def _general(alert: Alert) -> Cause:
    row = CLASSES.get(alert.number or 0)
    action = alert.action or (row.action if row is not None else "Look at the alert's text.")
    text = alert.text.partition(" (resolved: ")[0]
    return Cause(f"{alert.name}: {text}.", (action,))


def _nonfinite(alert: Alert, around: Surroundings) -> Cause | None:
    at = around.step
    loss, norm = around.values(*LOSSES), around.values("grad_norm")
    if at is None or not loss:
        return None
    jumped = _rate_jump(around)
    grown = [_growth(name, pairs) for name, pairs in (("loss", loss), ("gradient norm", norm))]
    if jumped is None and not any(grown):
        usual = f"the median loss was {around.usual(*LOSSES):.4g}"
        if norm:
            usual += f", the median gradient norm {around.usual('grad_norm'):.4g}"
        return Cause(
            f"Up to step {loss[-1][0]} all was ordinary ({usual} over the {len(loss)} steps before), and at step {at} "
            f"{_named(alert)} no number any more. That points to what entered at this very step: a value in its batch "
            "that is NaN or infinite, or a logarithm of or a division by 0. It does not look like a training that "
            "diverged.",
            (
                f"Look at the batch of step {at}: assert that inputs and targets are finite before the forward pass.",
                "If they are, add an epsilon to logarithms and divisions of the loss.",
            ),
        )
    told = "; ".join(g for g in grown if g) or "they were ordinary"
    rate = around.values("lr", "learning_rate")
    lr = rate[-1][1] if rate else None
    return Cause(
        f"Before the first value that is no number, at step {at}, the training grew out of control: {told}"
        f"{f'; {jumped}' if jumped else ''}. The steps became too large until a number overflowed.",
        _smaller_steps(lr, around, jumped is not None),
    )


def _divergence(_: Alert, around: Surroundings) -> Cause | None:
    at = around.step
    before, after = around.values(*LOSSES), around.values(*LOSSES, after=True)
    if at is None or not before or not after:
        return None
    low_step, low = min(before, key=lambda pair: pair[1])
    high_step, high = max(after, key=lambda pair: pair[1])
    jumped = _rate_jump(around)
    rate = around.values("lr", "learning_rate", after=True)
    norm, norms = around.usual("grad_norm"), around.values("grad_norm", after=True)
    why = f"The loss had come down to {low:.4g} (step {low_step}) and rose to {high:.4g} by step {high_step}"
    if norm is not None and norms and (top := max(v for _, v in norms)) > CALM * norm:
        why += f"; the gradient norm went from {norm:.4g} to {top:.4g}"
    why += (
        f". {jumped[0].upper()}{jumped[1:]}: that is the likely cause."
        if jumped
        else ". The steps are too large."
    )
    return Cause(why, _smaller_steps(rate[-1][1] if rate else None, around, jumped is not None))


def _stall(alert: Alert, around: Surroundings) -> Cause | None:
    if around.last_step is None:
        return None
    of_ = f" of {around.total_steps}" if around.total_steps else ""
    usual = f" (usually {shown(alert.reference)} s)" if alert.reference is not None else ""
    return Cause(
        f"After step {around.last_step}{of_} no step came for {shown(alert.observed)} s{usual}, while the process lived: "
        "the loop waits for something that does not come - a loader's worker, a lock, a collective, a file system.",
        (
            "Let it hang again and look at the stack: `py-spy dump --pid PID`, or `faulthandler.dump_traceback_later`.",
            "Give what it waits for a timeout (loader: `timeout=`; process group: `timeout=`).",
        ),
    )


def _lost(alert: Alert, around: Surroundings) -> Cause | None:
    text = alert.text.partition(" (resolved: ")[0]
    return Cause(
        f"The process vanished after step {around.last_step}: {text}. No exception was raised in it.",
        ("Look at the log's end and at the kernel's (`dmesg`): out of memory is the usual reason.",),
    )


def _not_saved(alert: Alert, around: Surroundings) -> Cause | None:
    text = alert.text.partition(" (resolved: ")[0]
    if "no space" not in text.lower():
        return None
    return Cause(
        f"From step {around.step} on checkpoints could not be written: {text.partition(': ')[2]}. The training itself is "
        "not at fault.",
        ("Free space on that disk, or set ASSAY_HOME to a folder on a larger one, before the next attempt.",),
    )


def _no_update(alert: Alert, around: Surroundings) -> Cause | None:
    ratio = around.usual("update_ratio")
    seen = f" (ratio of update to weight {ratio:.3g})" if ratio is not None else ""
    text = alert.text.partition(" (resolved: ")[0]
    return Cause(
        f"The weights do not move{seen}: {text}. Either the optimizer holds other tensors than the model, or nothing "
        "asks it to step.",
        (
            "Build the optimizer from model.parameters() after the model is on its device, and call optimizer.step().",
        ),
    )


def _rate_jump(around: Surroundings) -> str | None:
    """How the learning rate jumped around the first sign; None if it did not."""
    rates = [*around.values("lr", "learning_rate"), *around.values("lr", "learning_rate", after=True)]
    for (_, low), (step, high) in pairwise(rates):
        if low > 0 and high > JUMP * low:
            return f"the learning rate jumped from {low:.3g} to {high:.3g} at step {step}"
    return None


def _growth(name: str, pairs: Sequence[tuple[int, float]]) -> str:
    """How a value grew in the last fifth of the rows before; empty if it did not."""
    if len(pairs) < 5:
        return ""
    usual = statistics.median(value for _, value in pairs)
    step, high = max(pairs[-max(3, len(pairs) // 5) :], key=lambda pair: pair[1])
    return f"the {name} rose from {usual:.4g} to {high:.4g} at step {step}" if high > CALM * usual > 0 else ""


def _smaller_steps(rate: float | None, around: Surroundings, jumped: bool) -> tuple[str, ...]:
    rates = [value for _, value in around.values("lr", "learning_rate")]
    usual = statistics.median(rates) if rates else None
    norms = sorted(value for _, value in around.values("grad_norm"))
    ideas = []
    if jumped and usual is not None:
        ideas.append(
            f"Keep the learning rate at {usual:.3g}, which trained well, and look at what changed it."
        )
    elif rate is not None:
        ideas.append(f"Lower the learning rate from {rate:.3g} to {rate / USUAL_CUT:.2g}.")
    else:
        ideas.append(
            "Lower the learning rate by half a decade (log it as `lr`, so that the next diagnosis can tell)."
        )
    if norms and norms[-1] > 1.01 * norms[0]:  # else it is clipped already
        ideas.append(
            f"Clip the gradient norm at {norms[int(0.95 * (len(norms) - 1))]:.3g}, its 95th percentile before."
        )
    return tuple(ideas)


def _named(alert: Alert) -> str:
    names = alert.text.partition(" (resolved: ")[0].partition(": ")[2]
    return f"{names} {'were' if ',' in names else 'was'}" if names else "something was"


_KNOWN: Mapping[int, Callable[[Alert, Surroundings], Cause | None]] = {
    1: _nonfinite,
    2: _divergence,
    4: _divergence,
    8: _no_update,
    17: _stall,
    18: _lost,
    22: _not_saved,
}
