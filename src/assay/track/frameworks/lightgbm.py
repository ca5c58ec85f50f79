"""LightGBM: `lightgbm.train(..., callbacks=[AssayCallback(run)])`, the scikit-learn interface and `lightgbm.cv`.

One row a boosting round. LightGBM calls a callback after a round and tells it nothing else: no beginning, no end, no
exception. The first round seen opens the training; the last one planned, or our own stop, closes it. Early stopping
by another callback ends it silently: use `with assay.experiment(...) as run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lightgbm
from lightgbm.callback import EarlyStopException

from assay.track._checkpoint.classical import booster_from, booster_state
from assay.track.frameworks._host import Host, quiet

if TYPE_CHECKING:
    from assay.track import Run

CURVE_EVERY = 50
"""Rounds between two looks at the whole held-out curve."""


class AssayCallback:
    """Records a boosting; raises LightGBM's `EarlyStopException` when the run is asked to stop, keeping all rounds.

    Args:
        run: the run to write to; None joins or opens one.
        loss: the entry logged as `loss`, such as `training_l2`; None takes the first metric of the training data if
            it is among `valid_sets`.
        evaluate_every: rounds between evaluation rows; each is an fsynced event, and step rows have every value.
        checkpoint_every: rounds between checkpoints of the booster; None saves only the last.
    """

    order = 25  # after log (10) and record_evaluation (20), before early_stopping (30) can end the round
    before_iteration = False

    def __init__(
        self,
        run: Run | None = None,
        *,
        loss: str | None = None,
        evaluate_every: int = 10,
        checkpoint_every: int | None = 100,
    ) -> None:
        self._host = Host(run, f"lightgbm {lightgbm.__version__}")
        self._loss = loss
        self._evaluate_every = max(1, evaluate_every)
        self._checkpoint_every = checkpoint_every
        self._curve: list[float] = []
        self._curve_of: tuple[str, str, bool] | None = None

    def __call__(self, env: Any) -> None:
        """After a round.

        Raises:
            EarlyStopException: the run is asked to stop; LightGBM catches it.
        """
        self._round(env)
        # Machines that train together must end together, and LightGBM gives callbacks no way to agree.
        if self._host.should_stop and int(env.params.get("num_machines", 1)) == 1:
            self._end(env)
            raise EarlyStopException(env.iteration, env.evaluation_result_list or [])

    @quiet
    def _round(self, env: Any) -> None:
        if env.iteration == env.begin_iteration:
            self._begin(env)
        run = self._host.run
        if run is None or not self._host.active:
            return
        step, row = env.iteration + 1, results(env.evaluation_result_list or [])
        loss = self._loss or _training_metric(env)
        if "learning_rate" in env.params:
            run.signal(lr=env.params["learning_rate"])
        run.log(row | ({"loss": row[loss]} if loss in row else {}), step)
        last = step >= env.end_iteration
        self._held_out(env, look=last or step % CURVE_EVERY == 0)
        if row and (last or step % self._evaluate_every == 0):
            run.log_evaluation(row, step)
        if last or (self._checkpoint_every and step % self._checkpoint_every == 0):
            self._checkpoint(run, env, reason="final" if last else "cadence")
        if last:
            self._host.end(row)

    def _begin(self, env: Any) -> None:
        self._curve, self._curve_of = [], None
        total = env.end_iteration
        self._host.begin(
            total_steps=total, config=lambda: {"rounds_before": env.begin_iteration, **env.params}
        )

    @quiet
    def _end(self, env: Any) -> None:
        run = self._host.run
        if run is not None and self._host.active and env.iteration + 1 < env.end_iteration:
            self._checkpoint(run, env, reason="stop")
        self._host.end(results(env.evaluation_result_list or []))

    def _held_out(self, env: Any, *, look: bool) -> None:
        """The first metric of the first data set that is not the training data."""
        entries = [tuple(entry) for entry in env.evaluation_result_list or []]
        if self._curve_of is None:
            found = next((entry for entry in entries if entry[0] not in _training_names(env)), None)
            self._curve_of = None if found is None else (found[0], found[1], found[3])
        if self._curve_of is None:
            return
        self._curve += [entry[2] for entry in entries if entry[:2] == self._curve_of[:2]][:1]
        if look:
            self._host.boosting(self._curve, "max" if self._curve_of[2] else "min")

    def _checkpoint(self, run: Run, env: Any, *, reason: str) -> None:
        if isinstance(env.model, lightgbm.Booster):
            metrics = results(env.evaluation_result_list or [])
            run.checkpoint(
                {"booster": booster_state(env.model)}, metrics, step=env.iteration + 1, reason=reason
            )


def restore(state: Mapping[str, Any]) -> tuple[lightgbm.Booster, int]:
    """The booster of a checkpoint (`run.resume()`), for `init_model=`, and the rounds it has.

    Raises:
        CheckpointMismatch: the state is of something else.
    """
    return booster_from(state["booster"]), int(state["booster"]["rounds"])


def results(entries: Any) -> dict[str, float]:
    """`dataset_metric` and its value; of `lightgbm.cv` the mean over folds and its spread as `NAME_std`."""
    row: dict[str, float] = {}
    for data, metric, value, _, *spread in (tuple(entry) for entry in entries):
        row[f"{data}_{metric}"] = value
        if spread and spread[0] is not None:
            row[f"{data}_{metric}_std"] = spread[0]
    return row


def _training_names(env: Any) -> tuple[str, ...]:
    return (getattr(env.model, "_train_data_name", "training"), "training", "train")


def _training_metric(env: Any) -> str | None:
    entries = [tuple(entry) for entry in env.evaluation_result_list or []]
    return next((f"{entry[0]}_{entry[1]}" for entry in entries if entry[0] in _training_names(env)), None)
