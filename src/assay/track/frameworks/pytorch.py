"""Plain PyTorch: a run in a loop of your own needs no adapter; this is the loop, written out.

    with assay.experiment("wider", primary_metric="val_loss") as run:
        fit(run, {"model": model, "optimizer": optimizer}, loader, loss, epochs=10, evaluate=evaluate)

`fit` stops when asked, checkpoints, and goes on in a later attempt with the same batches, as if it had never stopped:
it keeps the random states of the epoch's start, which made the order of the batches, beside those of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from assay.track.checkpoint import Parts, capture, restore, rng_state, set_rng_state

if TYPE_CHECKING:
    from assay.track import Run


@dataclass
class Position:
    """How far the training is, and the random states that made the order of this epoch."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    epoch_start: dict[str, Any] = field(default_factory=dict)


def fit(
    run: Run,
    parts: Parts,
    loader: Any,
    loss: Callable[[Any, Any], torch.Tensor],
    *,
    epochs: int,
    evaluate: Callable[[Any], Mapping[str, Any]] | None = None,
    clip_norm: float | None = None,
    checkpoint_every: int | None = None,
) -> None:
    """Train, recorded; on a CPU an attempt that resumes ends in the very weights of one that was not interrupted.

    Args:
        run: the open run.
        parts: `model` and `optimizer`; if there are any, `scheduler` (stepped after every update), `scaler`, `ema`.
        loader: a `DataLoader`, or any iterable that starts anew.
        loss: (model, batch) → the mean loss of the batch.
        epochs: planned, those of earlier attempts included.
        evaluate: model → metrics, called after every epoch in evaluation mode without gradients.
        clip_norm: greatest gradient norm.
        checkpoint_every: steps between checkpoints; one is made at every epoch's end and before a stop anyway.

    Raises:
        CheckpointMismatch: there is a checkpoint, and it is of other parts.
    """
    at = _resume(run, parts, loader)
    total = len(loader) * epochs if hasattr(loader, "__len__") else None
    run.start(total_epochs=epochs, total_steps=total, config={"framework": f"torch {torch.__version__}"})
    run.watch(parts["model"], parts["optimizer"])
    while at.epoch < epochs and not run.should_stop:
        parts["model"].train()
        for batch in run.track(_batches(loader, at)):
            value = _update(run, parts, loss(parts["model"], batch), clip_norm)
            at.step, at.batch = at.step + 1, at.batch + 1
            run.log({"loss": value}, at.step, epoch=at.epoch)
            if run.should_stop:
                break
            if checkpoint_every and at.step % checkpoint_every == 0:
                run.checkpoint(_state(run, parts, at, loader), step=at.step, epoch=at.epoch)
        if run.should_stop:
            break
        _epoch_end(run, parts, at, evaluate, loader)
    if run.should_stop:
        run.checkpoint(_state(run, parts, at, loader), step=at.step, epoch=at.epoch, reason="stop")


def _update(run: Run, parts: Parts, value: torch.Tensor, clip_norm: float | None) -> torch.Tensor:
    """One optimizer step. Nothing is read back to the host: the run fetches its numbers later, many at once."""
    optimizer, scaler = parts["optimizer"], parts.get("scaler")
    optimizer.zero_grad(set_to_none=True)
    (value if scaler is None else scaler.scale(value)).backward()
    if clip_norm is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parts["model"].parameters(), clip_norm)
        run.signal(grad_norm=norm.detach())
    run.signal(lr=optimizer.param_groups[0]["lr"])
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    if parts.get("scheduler") is not None:
        parts["scheduler"].step()
    optimizer.zero_grad(set_to_none=True)  # a checkpoint after this step holds no gradients
    return value.detach()


def _epoch_end(run: Run, parts: Parts, at: Position, evaluate: Any, loader: Any) -> None:
    metrics: dict[str, Any] = {}
    if evaluate is not None:
        parts["model"].eval()
        with run.phase("eval"), torch.no_grad():
            metrics = dict(evaluate(parts["model"]))
        run.log_evaluation(metrics, at.step, at.epoch)
    run.epoch_end(at.epoch, metrics, learning_rate=parts["optimizer"].param_groups[0]["lr"])
    at.epoch, at.batch = at.epoch + 1, 0
    run.checkpoint(_state(run, parts, at, loader), metrics, step=at.step, epoch=at.epoch - 1)


def _batches(loader: Any, at: Position) -> Iterator[Any]:
    """The batches of an epoch that are not yet done, in the order that the epoch's start decided."""
    if at.batch == 0:
        at.epoch_start = _random(loader)
        yield from loader
        return
    now = _random(loader)
    _set_random(at.epoch_start, loader)
    rest = iter(loader)
    for _ in range(at.batch):
        next(rest)
    _set_random(now, loader)
    yield from rest


def _state(run: Run, parts: Parts, at: Position, loader: Any) -> dict[str, Any]:
    position = {"step": at.step, "epoch": at.epoch, "batch": at.batch}
    extra = {
        "epoch_start": at.epoch_start if at.batch else {},
        "loader_random": _random(loader).get("loader"),
    }
    return capture(extra, **{**parts, "position": position, "run": run})


def _resume(run: Run, parts: Parts, loader: Any) -> Position:
    state = run.resume()
    if state is None:
        return Position()
    everything: Parts = {**parts, "run": run}
    rest = restore(state, **everything)
    own = getattr(loader, "generator", None)
    if own is not None and rest["loader_random"] is not None:
        own.set_state(rest["loader_random"])
    return Position(**rest["position"], epoch_start=dict(rest["epoch_start"]))


def _random(loader: Any) -> dict[str, Any]:
    """The generators that decide the order of batches and what a data set draws: the global ones, the loader's own."""
    own = getattr(loader, "generator", None)
    return {"global": rng_state(), "loader": None if own is None else own.get_state()}


def _set_random(state: Mapping[str, Any], loader: Any) -> None:
    set_rng_state(state["global"])
    own = getattr(loader, "generator", None)
    if own is not None and state["loader"] is not None:
        own.set_state(state["loader"])
