"""XGBoost: `xgboost.train(..., callbacks=[AssayCallback(run)])`, `XGBClassifier(callbacks=[...])` and `xgboost.cv`.

One row a boosting round. XGBoost counts the rounds of a continued booster from 0 again; we add the rounds it came
with. It does not tell callbacks how many rounds are planned, nor about an exception: give `total_rounds`, and use
`with assay.experiment(...) as run`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import xgboost

from assay.track._checkpoint.classical import booster_from, booster_state
from assay.track.directions import infer
from assay.track.frameworks._host import Host, quiet

if TYPE_CHECKING:
    from assay.track import Run

_TRAIN = ("train", "training", "dtrain")
CURVE_EVERY = 50
"""Rounds between two looks at the whole held-out curve."""


class AssayCallback(xgboost.callback.TrainingCallback):
    """Records a boosting; returns True to XGBoost when the run is asked to stop.

    Args:
        run: the run to write to; None joins or opens one.
        total_rounds: rounds planned, those of a continued booster included.
        loss: the entry logged as `loss`, such as `train_logloss`; None takes the first metric of the training data
            if it is among `evals` under the name train, training or dtrain.
        evaluate_every: rounds between evaluation rows; each is an fsynced event, and step rows have every value.
        checkpoint_every: rounds between checkpoints of the booster; None saves only the last.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        total_rounds: int | None = None,
        loss: str | None = None,
        evaluate_every: int = 10,
        checkpoint_every: int | None = 100,
    ) -> None:
        super().__init__()
        self._host = Host(run, f"xgboost {xgboost.__version__}")
        self._total = total_rounds
        self._loss = loss
        self._evaluate_every = max(1, evaluate_every)
        self._checkpoint_every = checkpoint_every
        self._offset = 0
        self._step = 0
        self._evaluated = 0
        self._saved = 0
        self._newest: dict[str, Any] = {}
        self._log: Mapping[str, Any] = {}

    def before_training(self, model: Any) -> Any:
        """Opens or joins the run."""
        self._begin(model)
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """One row; True asks XGBoost to stop."""
        self._round(model, epoch, evals_log)
        stop = self._host.should_stop
        if xgboost.collective.get_world_size() > 1:  # one rank alone would leave the others waiting
            import numpy as np  # noqa: PLC0415 - xgboost has loaded it

            stop = bool(xgboost.collective.allreduce(np.array([int(stop)]), xgboost.collective.Op.MAX)[0])
        return stop

    def after_training(self, model: Any) -> Any:
        """The last evaluation and checkpoint."""
        self._finish(model)
        return model

    @quiet
    def _begin(self, model: Any) -> None:
        if xgboost.collective.get_rank() > 0:
            self._host.muted = True
            return
        booster = isinstance(model, xgboost.Booster)
        self._offset = model.num_boosted_rounds() if booster else 0
        self._step = self._evaluated = self._saved = self._offset
        self._host.begin(
            total_steps=self._total, config=lambda: {"rounds_before": self._offset, **_settings(model)}
        )

    @quiet
    def _round(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> None:
        run = self._host.run
        if run is None or not self._host.active:
            return
        self._step = self._offset + epoch + 1
        self._newest = row = newest(evals_log)
        loss = self._loss or _training_metric(evals_log)
        run.log(row | ({"loss": row[loss]} if loss in row else {}), self._step)
        if self._step % self._evaluate_every == 0:
            self._evaluate(run)
        if self._step % CURVE_EVERY == 0:
            self._curve(evals_log)
        if self._checkpoint_every and self._step % self._checkpoint_every == 0:
            self._checkpoint(run, model, "cadence")
        self._log = evals_log

    @quiet
    def _finish(self, model: Any) -> None:
        run = self._host.run
        if run is not None and self._host.active:
            self._evaluate(run)
            self._curve(self._log)
            self._checkpoint(run, model, "stop" if run.should_stop else "final")
        self._host.end(self._newest)

    def _evaluate(self, run: Run) -> None:
        if self._newest and self._evaluated < self._step:
            self._evaluated = self._step
            run.log_evaluation(self._newest, self._step)

    def _curve(self, evals_log: Mapping[str, Any]) -> None:
        """The metric that early stopping would watch: the last one of the last data set."""
        data = next(reversed(list(evals_log)), None)
        if data is not None and data not in _TRAIN and evals_log[data]:
            metric = list(evals_log[data])[-1]
            curve = [value[0] if isinstance(value, tuple) else value for value in evals_log[data][metric]]
            self._host.boosting(curve, infer(metric))

    def _checkpoint(self, run: Run, model: Any, reason: str) -> None:
        if isinstance(model, xgboost.Booster) and self._saved < self._step:
            self._saved = self._step
            run.checkpoint({"booster": booster_state(model)}, self._newest, step=self._step, reason=reason)


def restore(state: Mapping[str, Any]) -> tuple[xgboost.Booster, int]:
    """The booster of a checkpoint (`run.resume()`), for `xgb_model=`, and the rounds it has.

    What early stopping had counted is not in it: XGBoost gives it to nobody.

    Raises:
        CheckpointMismatch: the state is of something else.
    """
    return booster_from(state["booster"]), int(state["booster"]["rounds"])


def _settings(model: Any) -> dict[str, Any]:
    if not isinstance(model, xgboost.Booster):
        return {"folds": len(model.cvfolds)}
    return dict(json.loads(model.save_config()).get("learner", {}))


def newest(evals_log: Mapping[str, Any]) -> dict[str, Any]:
    """The last value of every metric; of `xgboost.cv` the mean over folds and its spread as `NAME_std`."""
    row: dict[str, Any] = {}
    for data, metrics in evals_log.items():
        for metric, history in metrics.items():
            value = history[-1]
            mean, spread = value if isinstance(value, tuple) else (value, None)
            row[f"{data}_{metric}"] = mean
            if spread is not None:
                row[f"{data}_{metric}_std"] = spread
    return row


def _training_metric(evals_log: Mapping[str, Any]) -> str | None:
    data = next((name for name in _TRAIN if name in evals_log), None)
    return f"{data}_{next(iter(evals_log[data]))}" if data and evals_log[data] else None
