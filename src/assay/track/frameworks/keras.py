"""Keras 3, any backend: `model.fit(..., callbacks=[AssayCallback(run)])`.

The logs of a batch are running means over the epoch: a spike at batch 500 would be divided by 500. The loss of the
batch itself is taken from what the loss's mean has gathered; other metrics are logged as `NAME_running`. Keras tells
callbacks nothing about an exception: use `with assay.experiment(...) as run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from assay.track.checkpoint import rng_state, set_rng_state
from assay.track.frameworks._host import Host, quiet

if TYPE_CHECKING:
    from assay.track import Run


class AssayCallback(keras.callbacks.Callback):
    """Records a fit: every batch, epoch and evaluation; stops by `model.stop_training`; saves every few epochs.

    Args:
        run: the run to write to; None joins or opens one.
        checkpoint_every: epochs between checkpoints of weights, optimizer and seed states; None saves none.
        running: whether the running means of the other metrics join the step rows.
    """

    def __init__(
        self, run: Run | None = None, *, checkpoint_every: int | None = 1, running: bool = True
    ) -> None:
        super().__init__()
        self._host = Host(run, f"keras {keras.__version__} ({keras.backend.backend()})")
        self._every = checkpoint_every
        self._running = running
        self._fitting = False
        self._base = 0  # steps done before this fit or epoch
        self._batches = 0
        self._seen = (0.0, 0.0)
        self._epoch: int | None = None
        self._phase: Any = None
        self._rng: dict[str, Any] | None = None

    def restore(self, model: Any) -> int:
        """Go on from the newest verified checkpoint of the experiment, with the random numbers that came next.

        Args:
            model: compiled, of the same shape.

        Returns:
            The `initial_epoch` for `fit`; 0 if there is no checkpoint.

        Raises:
            ValueError: the checkpoint is of another model.
        """
        self._host.open()
        state = self._host.run.resume() if self._host.run is not None else None
        if state is None:
            return 0
        self._rng = dict(state["rng"])
        return restore(model, state)

    @property
    def step(self) -> int:
        """Updates of the model so far, those before a resume included."""
        return self._base + self._batches

    @quiet
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Opens or joins the run; a resumed optimizer knows how many steps came before."""
        if self._rng is not None:  # only now: the first `fit` of a model draws a batch to see its shape
            rng, self._rng = self._rng, None
            set_rng_state(rng)
        params = self.params or {}
        epochs, steps = params.get("epochs"), params.get("steps")
        self._fitting = True
        self._base, self._batches = int(_value(self.model.optimizer.iterations)), 0
        total = epochs * steps if epochs and steps else None
        self._host.begin(total_epochs=epochs, total_steps=total, config=self._config)

    def _config(self) -> dict[str, Any]:
        model = self.model
        settings = {"optimizer": model.optimizer.get_config(), "loss": model.loss, **(self.params or {})}
        return {"model": model.name, "parameters": model.count_params(), **settings}

    @quiet
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Keras starts its running means anew."""
        self._epoch, self._seen = epoch, (0.0, 0.0)
        self._base, self._batches = self.step, 0

    @quiet
    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """The batch is there: what passed since the last one was the wait for it."""
        self._host.work()

    @quiet
    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """One row a batch, or one for every `steps_per_execution` batches."""
        self._batches = batch + 1
        run = self._host.run
        if run is None or not self._host.active:
            return
        values = dict(logs or {})
        row = {f"{name}_running": value for name, value in values.items() if self._running and name != "loss"}
        loss = self._batch_loss()
        row["loss"] = values.get("loss") if loss is None else loss
        run.signal(lr=_value(self.model.optimizer.learning_rate))
        run.log(
            {name: value for name, value in row.items() if value is not None}, self.step, epoch=self._epoch
        )
        if run.should_stop:
            self.model.stop_training = True
        self._host.rest()

    @quiet
    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """The validation of an epoch, or an evaluation of its own: a phase with its own time budget."""
        if self._host.run is not None:
            self._phase = self._host.run.phase("eval")
            self._phase.__enter__()

    @quiet
    def on_test_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """A request to stop is seen in evaluations too; `fit` ends after this one."""
        if self._fitting and self._host.should_stop:
            self.model.stop_training = True

    @quiet
    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """`model.evaluate` outside of `fit` has no epoch to report it."""
        phase, self._phase = self._phase, None
        if phase is not None:
            phase.__exit__(None, None, None)
        if not self._fitting and self._host.run is not None and logs:
            named = {f"test_{name}": value for name, value in logs.items()}
            self._host.run.log_evaluation(named, self.step or None, self._epoch)

    @quiet
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """The evaluation if there was one, the epoch, and a checkpoint when it is due."""
        run = self._host.run
        if run is None or not self._host.active:
            return
        values = dict(logs or {})
        evaluated = {name: value for name, value in values.items() if name.startswith("val_")}
        if evaluated:
            run.log_evaluation(evaluated, self.step, epoch)
        run.epoch_end(epoch, values, learning_rate=_value(self.model.optimizer.learning_rate))
        due = self._every is not None and (epoch + 1) % self._every == 0
        if self._every is not None and (due or run.should_stop):
            # Keras begins with whole epochs only: one that was cut short is done again, from its last weights.
            planned = self.params.get("steps")
            done = epoch + 1 if planned is None or self._batches >= planned else epoch
            reason = "stop" if run.should_stop else "cadence"
            run.checkpoint(model_state(self.model, done), values, step=self.step, epoch=epoch, reason=reason)
        if run.should_stop:
            self.model.stop_training = True

    @quiet
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """`fit` returns."""
        self._fitting = False
        self._host.end(logs)

    def _batch_loss(self) -> float | None:
        """The mean loss since the last row, from the sums behind the running mean."""
        mean = next((metric for metric in self.model.metrics if metric.name == "loss"), None)
        if mean is None or not hasattr(mean, "total") or not hasattr(mean, "count"):
            return None  # a train_step of the user's: its logs are what it says they are
        total, count = _value(mean.total), _value(mean.count)
        before, self._seen = self._seen, (total, count)
        return (total - before[0]) / (count - before[1]) if count > before[1] else None


def model_state(model: Any, epochs_done: int) -> dict[str, Any]:
    """What a resume needs: weights, seeds and optimizer slots by position, global generators, and the epochs done."""
    return {
        "variables": _arrays(model.variables),
        "optimizer": _arrays(model.optimizer.variables) if model.optimizer is not None else {},
        "epochs_done": epochs_done,
        "rng": rng_state(),
    }


def restore(model: Any, state: Mapping[str, Any]) -> int:
    """Put a checkpoint's state (`run.resume()`) into a compiled model of the same shape.

    Returns:
        The `initial_epoch` for `fit`.

    Raises:
        ValueError: the state is of another model.
    """
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    for what, variables in (("variables", model.variables), ("optimizer", _slots(model))):
        saved = state[what]
        if list(saved) != [_key(index, variable) for index, variable in enumerate(variables)]:
            raise ValueError(
                f"the checkpoint's {what} are not those of model {model.name!r}: {list(saved)[:3]} ..."
            )
        for variable, value in zip(variables, saved.values(), strict=True):
            variable.assign(value)
    return int(state["epochs_done"])


def _slots(model: Any) -> list[Any]:
    return list(model.optimizer.variables) if model.optimizer is not None else []


def _arrays(variables: Any) -> dict[str, Any]:
    return {_key(index, variable): _copied(variable.value) for index, variable in enumerate(variables)}


def _copied(value: Any) -> Any:
    """A torch tensor as such, for numpy knows no bfloat16; what other backends have as an array."""
    return value.detach().clone() if hasattr(value, "detach") else keras.ops.convert_to_numpy(value).copy()


def _key(index: int, variable: Any) -> str:
    """Paths carry counters of the process (`dense_3`), so the position and the shape identify a variable."""
    return f"{index:04d}.{'x'.join(str(size) for size in variable.shape) or 'scalar'}"


def _value(variable: Any) -> float:
    """A variable, a schedule's value or a number, as a float."""
    value = getattr(variable, "value", variable)
    return float(value.detach() if hasattr(value, "detach") else value)
