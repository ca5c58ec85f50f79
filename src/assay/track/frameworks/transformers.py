"""Hugging Face Trainer 5: `Trainer(..., callbacks=[AssayCallback(run)])`, or `register()` and `report_to="assay"`.

The Trainer logs a mean loss every `logging_steps`, and with `logging_nan_inf_filter` (its default) a NaN never shows
in it. So the loss of every step is taken from the model's own output, on the device, without waiting for it. The
Trainer tells callbacks nothing about an exception: use `with assay.experiment(...) as run`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from transformers import TrainerCallback

from assay.track.frameworks._host import AGREE_EVERY, Host, laid_out, quiet
from assay.track.hooks import StayingHook

if TYPE_CHECKING:
    from assay.track import Run

_TIMES = (
    "_runtime", "_samples_per_second", "_steps_per_second", "_jit_compilation_time", "_model_preparation_time",
)  # fmt: skip


class AssayCallback(TrainerCallback):
    """Records a training; sets `control.should_training_stop` when the run is asked to stop.

    Args:
        run: the run to write to; None joins or opens one.
        watch: whether the run's probes look at gradients, updates and parameters.
        save: whether every checkpoint that the Trainer writes is also committed to the experiment, verified and kept
            by its rules (`resume_folder` gives it back to `train`).
    """

    def __init__(self, run: Run | None = None, *, watch: bool = True, save: bool = False) -> None:
        self._host = Host(run, f"transformers {transformers.__version__}")
        self._watch = watch
        self._save = save
        self._tap: LossTap | None = None
        self._handle: Any = None
        self._row: dict[str, Any] | None = None
        self._summary: dict[str, Any] = {}
        self._epoch_losses: list[Any] = [0.0, 0]
        self._phase: Any = None

    @quiet
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Opens or joins the run and listens to the model's loss."""
        self._host.muted = not state.is_world_process_zero
        self._host.begin(
            total_steps=state.max_steps if state.max_steps > 0 else None,
            total_epochs=math.ceil(state.num_train_epochs) or None,
            config=args.to_sanitized_dict,
        )
        run, model = self._host.run, kwargs.get("model")
        if run is None or model is None or not self._host.active:
            return
        self._listen(args, model)
        if self._watch:
            optimizer = kwargs.get("optimizer")
            run.watch(model, getattr(optimizer, "optimizer", optimizer))

    @quiet
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The batches of an update are there; forwards outside of a step are nobody's loss."""
        self._host.work()
        if self._tap is not None:
            self._tap.take()

    @quiet
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The learning rate of this step: after it the schedule has moved on."""
        optimizer = kwargs.get("optimizer")
        if optimizer is not None and self._host.run is not None and self._host.active:
            self._host.run.signal(lr=optimizer.param_groups[0]["lr"])

    @quiet
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One row for every update; if the Trainer is about to log, its values join the row first."""
        self._step_row(state, control)
        self._pass_on_stop(args, state, control)
        self._host.rest()

    @quiet  # by itself: what fails here must not keep this rank from the agreement that follows
    def _step_row(self, state: Any, control: Any) -> None:
        loss = self._tap.take() if self._tap is not None else None
        if loss is not None:
            self._epoch_losses = [self._epoch_losses[0] + loss, self._epoch_losses[1] + 1]
        self._row = {} if loss is None else {"loss": loss}
        if not control.should_log:
            self._write(state)

    @quiet
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """What the Trainer or its subclass logs; evaluations come by `on_evaluate`, the summary with the end."""
        values = dict(logs or {})
        if "train_runtime" in values:
            self._summary = values
            return
        values = {name: value for name, value in values.items() if not name.startswith(("eval_", "test_"))}
        values.pop("epoch", None)
        run = self._host.run
        if run is None or not self._host.active or not values:
            return
        values.pop("learning_rate", None)  # ours is of every step
        if "grad_norm" in values and not self._watch:
            # Before clipping, and of some steps only: among the probes' norms, after it, it would look like a jump.
            run.signal(grad_norm=values.pop("grad_norm"))
        mean = values.pop("loss", None)
        self._row = {**({"loss": mean} if mean is not None else {}), **(self._row or {}), **values}
        self._write(state)
        if args.world_size == 1:
            self._pass_on_stop(args, state, control)
        self._host.rest()

    @quiet
    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An evaluation runs: a phase with its own time budget, in which a stop is seen too."""
        if self._phase is None and self._host.run is not None and self._host.active:
            self._phase = self._host.run.phase("eval")
            self._phase.__enter__()
        if args.world_size == 1 and self._host.should_stop:
            control.should_training_stop = True

    @quiet
    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """The metrics of an evaluation, under the Trainer's names."""
        self._evaluated(state, metrics)

    @quiet
    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """As an evaluation; the names begin with `test_`."""
        self._evaluated(state, metrics)

    @quiet
    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The Trainer has written `checkpoint-STEP`."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        place = {"step": state.global_step, "epoch": _epoch(state)}
        metrics = _newest_evaluation(state)
        self._host.saved(str(folder), **place, metrics=metrics)
        if self._save and self._host.active and folder.is_dir():
            files = {
                path.relative_to(folder).as_posix(): path
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
            # After the last planned step the Trainer asks itself to stop.
            last = state.global_step >= state.max_steps > 0
            reason = "final" if last else "stop" if control.should_training_stop else "cadence"
            self._host.keep(files, metrics, **place, reason=reason)
        self._host.rest()

    @quiet
    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An epoch; an evaluation of it comes after this."""
        run = self._host.run
        total, count = self._epoch_losses
        self._epoch_losses = [0.0, 0]
        if run is not None and self._host.active:
            scheduler = kwargs.get("lr_scheduler")
            rate = scheduler.get_last_lr()[0] if scheduler is not None else None
            metrics = {"loss": total / count} if count else {}
            run.epoch_end(_epoch(state) or 0, metrics, learning_rate=rate)

    @quiet
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """`train` returns."""
        self._unlisten()
        wanted = {name: value for name, value in self._summary.items() if name not in ("epoch", "total_flos")}
        self._host.end({**wanted, **_newest_evaluation(state)})

    def _listen(self, args: Any, model: Any) -> None:
        self._unlisten()
        # A compiled or replicated forward is not ours to hook; the Trainer's logged mean remains.
        if getattr(args, "torch_compile", False) or args.n_gpu > 1:
            return
        self._tap = LossTap()
        self._handle = model.register_forward_hook(self._tap, with_kwargs=True)

    def _unlisten(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._tap = None

    def _write(self, state: Any) -> None:
        row, self._row = self._row, None
        if row is not None and self._host.run is not None and self._host.active:
            self._host.run.log(row, state.global_step, epoch=_epoch(state))

    def _evaluated(self, state: Any, metrics: Any) -> None:
        phase, self._phase = self._phase, None
        if phase is not None:
            phase.__exit__(None, None, None)
        if metrics and self._host.run is not None and self._host.active:
            self._host.run.log_evaluation(_qualities(metrics), state.global_step or None, _epoch(state))
        self._host.rest()

    def _pass_on_stop(self, args: Any, state: Any, control: Any) -> None:
        """Stop after this step, with a checkpoint; one rank alone would leave the others waiting, so they agree."""
        asked = self._host.should_stop
        if args.world_size > 1:
            asked = _agreed(args, asked=asked) if state.global_step % AGREE_EVERY == 0 else False
        if asked:
            control.should_training_stop = True
            control.should_save = control.should_save or str(args.save_strategy) not in (
                "no",
                "SaveStrategy.NO",
            )


class LossTap(StayingHook):
    """A forward hook that keeps the losses of the micro-batches of a step, where they lie."""

    def __init__(self) -> None:
        super().__init__(self._look)
        self._losses: list[Any] = []
        self._summed = False

    def _look(self, module: Any, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        """After a forward: evaluations and outputs without a loss are passed over."""
        if not module.training:
            return
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if loss is not None and getattr(loss, "shape", None) == ():
            self._losses.append(loss.detach())
            # The Trainer gave the number of tokens in all micro-batches: each loss is a share of the step's.
            self._summed = kwargs.get("num_items_in_batch") is not None

    def take(self) -> Any:
        """The loss of the step as a 0-d tensor; None if the model told none."""
        losses, self._losses = self._losses, []
        if not losses:
            return None
        total = sum(losses[1:], losses[0])
        return total if self._summed else total / len(losses)


def register() -> None:
    """Make `TrainingArguments(report_to="assay")` work in this process."""
    from transformers.integrations import integration_utils  # noqa: PLC0415 - only this needs it

    integration_utils.INTEGRATION_TO_CALLBACK["assay"] = AssayCallback


def _epoch(state: Any) -> int | None:
    """The epoch of the newest step, from 0; the Trainer counts the part of it that is done."""
    return None if state.epoch is None else max(0, math.ceil(state.epoch - 1e-9) - 1)


def _newest_evaluation(state: Any) -> dict[str, Any]:
    """The metrics of the last evaluation in the Trainer's history."""
    for entry in reversed(state.log_history or []):
        found = {name: value for name, value in entry.items() if name.startswith("eval_")}
        if found:
            return _qualities(found)
    return {}


def _qualities(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Without the times that the Trainer mixes in."""
    return {name: value for name, value in metrics.items() if name != "epoch" and not name.endswith(_TIMES)}


def _agreed(args: Any, *, asked: bool) -> bool:
    """Whether any rank was asked; all ranks must call this at the same step."""
    import torch  # noqa: PLC0415 - the Trainer has loaded it

    if not torch.distributed.is_initialized():
        return asked
    flag = torch.tensor([int(asked)], device=args.device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def resume_folder(run: Run) -> str | None:
    """The newest verified checkpoint of the experiment for `train(resume_from_checkpoint=...)`; None without one.

    Needs `AssayCallback(save=True)` in the attempt before.

    Raises:
        ValueError: the newest checkpoint was not made by this adapter.
    """
    state = run.resume()
    return None if state is None else str(laid_out(state, run.folder / "resume"))
