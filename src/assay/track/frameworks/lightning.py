"""Lightning 2: `Trainer(callbacks=[AssayCallback(run)], logger=AssayLogger(run))`; Fabric takes the logger.

The callback records steps, epochs, validations, checkpoints, exceptions and asks the trainer to stop. The logger
adds what the module logs by `self.log`, at the trainer's own cadence. Each works without the other. Only rank zero
records, and the sanity check of the validation is not an evaluation.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from assay.track.frameworks._host import AGREE_EVERY, Host, held_out, laid_out, quiet

if TYPE_CHECKING:
    from assay.track import Run

_FRAMEWORK = f"lightning {lightning.__version__}"
_with_callback: weakref.WeakSet[Run] = weakref.WeakSet()
"""Runs that a callback serves: it reports their evaluations and checkpoints, not the logger too."""
_evaluating: weakref.WeakSet[Run] = weakref.WeakSet()
_NAME = "lightning.ckpt"


class AssayCallback(Callback):
    """Records a fit; sets `trainer.should_stop` when the run is asked to stop.

    Args:
        run: the run to write to; None joins or opens one.
        watch: whether the run's probes look at gradients, updates and parameters.
        save: whether every checkpoint that Lightning writes, and one more before a stop, is also committed to the
            experiment, verified and kept by its rules (`resume_file` gives it back to `fit`).
    """

    def __init__(self, run: Run | None = None, *, watch: bool = True, save: bool = False) -> None:
        self._host = Host(run, _FRAMEWORK)
        self._watch = watch
        self._save = save
        self._losses: list[Any] = []
        self._logged_step = 0
        self._epoch: int | None = None
        self._before: dict[str, Any] = {}
        self._phase: Any = None
        self._dumped: tuple[int, int, dict[str, Any]] | None = None
        self._saved_step = -1
        self._known: dict[str, int] = {}
        self._loaded: dict[str, Any] = {}

    # the fit

    @quiet
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Opens or joins the run, before the sanity check can fail."""
        self._host.muted = not trainer.is_global_zero
        self._host.open()
        if self._host.run is not None:
            _with_callback.add(self._host.run)
            if self._loaded:
                self._host.run.load_state_dict(self._loaded)
        self._set_generators()

    @quiet
    def on_sanity_check_end(self, trainer: Any, pl_module: Any) -> None:
        """Its batches were drawn too."""
        self._set_generators()

    def _set_generators(self) -> None:
        """A resumed fit draws its first batches as the one before would have: Lightning itself keeps no generators."""
        rng = self._loaded.get("rng")
        if rng is not None:
            from assay.track.checkpoint import set_rng_state  # noqa: PLC0415 - only who resumes pays for it

            set_rng_state(rng)

    @quiet
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """The loops know their lengths now, and a resumed one its step."""
        self._loaded.pop("rng", None)  # another fit of this callback is no resume
        self._logged_step = trainer.global_step
        self._losses.clear()
        self._known = dict(_checkpoint_files(trainer))
        steps, epochs = trainer.estimated_stepping_batches, trainer.max_epochs
        self._host.begin(
            total_steps=int(steps) if 0 < steps < float("inf") else None,
            total_epochs=epochs if epochs is not None and epochs > 0 else None,
            config=lambda: {"hyperparameters": dict(pl_module.hparams), **_settings(trainer)},
        )
        if self._watch and self._host.run is not None and self._host.active:
            self._host.run.watch(pl_module, trainer.optimizers[0] if trainer.optimizers else None)

    @quiet
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """What was saved since the last batch, when Lightning has named it."""
        self._host.work()
        self._report(trainer)

    @quiet
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """The learning rate of this step: after it the schedule has moved on."""
        if self._host.run is not None and self._host.active:
            self._host.run.signal(lr=optimizer.param_groups[0]["lr"])

    @quiet
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One row for every optimizer step: the mean loss of the batches that were accumulated."""
        self._row(trainer, outputs)
        self._pass_on_stop(trainer, batch_idx)
        self._host.rest()

    @quiet  # by itself: what fails here must not keep this rank from the agreement that follows
    def _row(self, trainer: Any, outputs: Any) -> None:
        run = self._host.run
        if run is None or not self._host.active:
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is None:  # manual optimization returns nothing; what it logs under this name will do
            loss = trainer.callback_metrics.get("loss", trainer.callback_metrics.get("train_loss"))
        if loss is not None:
            self._losses.append(loss.detach() if hasattr(loss, "detach") else loss)
        if trainer.global_step > self._logged_step:
            self._logged_step, self._epoch = trainer.global_step, trainer.current_epoch
            row = {"loss": sum(self._losses) / len(self._losses)} if self._losses else {}
            self._losses.clear()
            run.log(row, trainer.global_step, epoch=trainer.current_epoch)

    @quiet
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """What the module logged for the epoch; validations stand in it too."""
        self._pass_on_stop(trainer)
        self._report(trainer)
        run = self._host.run
        if run is not None and self._host.active:
            rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else None
            run.epoch_end(trainer.current_epoch, _of_epoch(trainer.callback_metrics), learning_rate=rate)

    @quiet
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The last chance to save before a stop; every rank takes part in it."""
        self._report(trainer)
        saved = self._saved_step == trainer.global_step
        if self._save and not saved and _agreed(trainer, asked=self._host.should_stop):
            self._save_stopped(trainer)

    @quiet
    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """`fit` returns."""
        self._report(trainer)
        self._host.end(dict(trainer.callback_metrics))

    @quiet
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Lightning raises it on; Ctrl-C is one too."""
        self._leave_phase()
        self._report(trainer)
        self._host.fail(exception)

    # evaluations

    @quiet
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """A phase with its own time budget."""
        self._enter_phase(trainer)

    @quiet
    def on_validation_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """A request to stop is seen in evaluations too; the fit ends after this one."""
        if trainer.world_size == 1:
            self._pass_on_stop(trainer)

    @quiet
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """The metrics that this validation has made."""
        self._evaluated(trainer)

    @quiet
    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """As a validation."""
        self._host.muted = not trainer.is_global_zero
        self._enter_phase(trainer)

    @quiet
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """As a validation."""
        self._evaluated(trainer)

    # checkpoints

    def state_dict(self) -> dict[str, Any]:
        """What the record needs after a resume, kept in Lightning's checkpoint; with `save` the generators too."""
        run = self._host.run
        if run is None or not self._host.active:
            return {}
        from assay.track.checkpoint import rng_state  # noqa: PLC0415 - only who saves pays for it

        rng = {"rng": rng_state()} if self._save else {}
        return {"experiment": run.id, **run.state_dict(), **rng}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning restores before the fit starts."""
        self._loaded = dict(state_dict)

    @quiet
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Lightning is writing a checkpoint; it does not say where."""
        self._saved_step = trainer.global_step
        self._dumped = trainer.global_step, trainer.current_epoch, _of_epoch(trainer.callback_metrics)

    @quiet
    def _report(self, trainer: Any) -> None:
        """Tell of the files that Lightning's checkpoint callbacks have written since the last look."""
        dumped, self._dumped = self._dumped, None
        if dumped is None or not self._host.active:
            return
        step, epoch, metrics = dumped
        new = [path for path, written in _checkpoint_files(trainer) if self._known.get(path) != written]
        self._known |= dict(_checkpoint_files(trainer))
        for path in new:
            self._host.saved(path, step=step, epoch=epoch, metrics=metrics)
        if new and self._save:
            reason = "stop" if self._host.should_stop else "cadence"
            self._host.keep({_NAME: Path(new[0])}, metrics, step=step, epoch=epoch, reason=reason)

    def _save_stopped(self, trainer: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="assay-") as folder:
            path = trainer.strategy.broadcast(str(Path(folder) / _NAME))
            trainer.save_checkpoint(path, weights_only=False)
            self._dumped = None
            metrics, epoch = _of_epoch(trainer.callback_metrics), self._epoch
            self._host.keep(
                {_NAME: Path(path)}, metrics, step=trainer.global_step, epoch=epoch, reason="stop"
            )

    def _pass_on_stop(self, trainer: Any, batch_idx: int = 0) -> None:
        """One rank alone would leave the others waiting for it: they agree, every few steps."""
        if trainer.world_size == 1 or batch_idx % AGREE_EVERY == 0:
            asked = _agreed(trainer, asked=self._host.should_stop)
            trainer.should_stop = trainer.should_stop or asked

    def _enter_phase(self, trainer: Any) -> None:
        # Evaluations make new values; those that training left are still the same objects afterwards.
        self._before = dict(trainer.callback_metrics)
        if self._host.run is not None and self._phase is None:
            _evaluating.add(self._host.run)
            self._phase = self._host.run.phase("eval")
            self._phase.__enter__()

    def _leave_phase(self) -> None:
        phase, self._phase = self._phase, None
        if self._host.run is not None:
            _evaluating.discard(self._host.run)
        if phase is not None:
            phase.__exit__(None, None, None)

    def _evaluated(self, trainer: Any) -> None:
        self._leave_phase()
        run = self._host.run
        if run is None or not self._host.active or trainer.sanity_checking:
            return
        after = dict(trainer.callback_metrics)
        made = {name: value for name, value in after.items() if self._before.get(name) is not value}
        if made:
            run.log_evaluation(made, trainer.global_step or None, self._epoch)


class AssayLogger(Logger):
    """Takes what a module logs by `self.log`, or Fabric by `fabric.log_dict`.

    Args:
        run: the run to write to; None joins or opens one.
        shift: added to the logged step. The trainer counts the first step as 0, a run as 1; Fabric's steps are the
            caller's: give 0 if they already count steps done.
    """

    def __init__(self, run: Run | None = None, *, shift: int = 1) -> None:
        super().__init__()
        self._host = Host(run, _FRAMEWORK)
        self._shift = shift

    @property
    def name(self) -> str:
        """The experiment; default checkpoint folders of Lightning are named after it."""
        return self.experiment.id if self.experiment is not None else "assay"

    @property
    def version(self) -> str:
        """The attempt."""
        return f"attempt-{self.experiment.attempt}" if self.experiment is not None else "off"

    @property
    def experiment(self) -> Run | None:
        """The run, for direct use; None on other ranks."""
        with contextlib.suppress(Exception):  # a property that the trainer reads; without a run it says None
            if getattr(rank_zero_only, "rank", 0) == 0:
                self._host.open()
        return self._host.run

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Values at a step; validations come this way too, with their own names."""
        self._log(metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Hyperparameters of the module and its data, as an event."""
        self._hyperparameters(params)

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """A checkpoint that Lightning wrote, unless our callback reports it."""
        self._saved(checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """The trainer is done with its loggers; `failed` comes while the exception is handled."""
        self._finalize(status)

    @quiet
    def _log(self, metrics: dict[str, Any], step: int | None) -> None:
        run = self.experiment
        if run is None or not self._host.active or run in _evaluating:
            return
        epoch, at = metrics.get("epoch"), None if step is None else step + self._shift
        whole = None if epoch is None else int(epoch)
        row = {name: value for name, value in metrics.items() if name != "epoch"}
        evaluation = {name: row.pop(name) for name in list(row) if held_out(name)}
        if row:
            run.log(row, at, epoch=whole)
        if evaluation:
            run.log_evaluation(evaluation, at, whole)

    @quiet
    def _hyperparameters(self, params: Any) -> None:
        run = self.experiment
        if run is not None and self._host.active and params:
            values = params if isinstance(params, Mapping) else vars(params)
            run.event("hyperparameters", framework=_FRAMEWORK, values=dict(values))

    @quiet
    def _saved(self, checkpoint: Any) -> None:
        run = self.experiment
        if run is None or run in _with_callback:
            return
        path = checkpoint.last_model_path or checkpoint.best_model_path
        score = checkpoint.current_score
        metrics = {checkpoint.monitor: score} if checkpoint.monitor and score is not None else {}
        self._host.saved(path, step=run.step or None, metrics=metrics)

    @quiet
    def _finalize(self, status: str) -> None:
        error = sys.exception()
        if status == "failed" and error is not None:
            if self._host.run is not None and self._host.run not in _with_callback:
                self._host.fail(error)
        else:
            self._host.end()


def resume_file(run: Run) -> str | None:
    """The newest verified checkpoint of the experiment as a file for `trainer.fit(ckpt_path=...)`; None without one.

    Needs `AssayCallback(save=True)` in the attempt before.

    Raises:
        ValueError: the newest checkpoint was not made by this adapter.
    """
    state = run.resume()
    return None if state is None else str(laid_out(state, run.folder / "resume") / _NAME)


def _settings(trainer: Any) -> dict[str, Any]:
    return {
        "accelerator": type(trainer.accelerator).__name__,
        "strategy": type(trainer.strategy).__name__,
        "precision": str(trainer.precision),
        "devices": trainer.num_devices,
        "world_size": trainer.world_size,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "gradient_clip_val": trainer.gradient_clip_val,
        "optimizers": [type(optimizer).__name__ for optimizer in trainer.optimizers],
    }


def _checkpoint_files(trainer: Any) -> Iterator[tuple[str, int]]:
    """The files that the trainer's checkpoint callbacks name now, and when each was written (ns)."""
    seen: set[str] = set()
    for callback in trainer.callbacks:
        if not isinstance(callback, Checkpoint):
            continue
        named = [getattr(callback, "best_model_path", ""), getattr(callback, "last_model_path", "")]
        for path in (*getattr(callback, "best_k_models", {}), *named):
            if path and path not in seen:
                seen.add(path)
                with contextlib.suppress(
                    OSError
                ):  # removed since, or in a remote store: then it has no local time
                    yield path, Path(path).stat().st_mtime_ns


def _of_epoch(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Without the twins `NAME_step` and `NAME_epoch` that Lightning keeps beside `NAME`."""
    twins = [f"{name}_{kind}" for name in metrics for kind in ("step", "epoch")]
    return {name: value for name, value in metrics.items() if name not in twins}


def _agreed(trainer: Any, *, asked: bool) -> bool:
    """Whether any rank was asked; all ranks must call this."""
    if trainer.world_size == 1:
        return asked
    return bool(trainer.strategy.reduce_boolean_decision(asked, all=False))
