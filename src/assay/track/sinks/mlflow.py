"""Mirror to MLflow: `MLFLOW_TRACKING_URI` if it is set, else a SQLite file beside the experiments."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from assay.track.sinks import ENDINGS, ROWS, Origin, flat, step_of, values, vendor

BATCH = 500
"""MLflow takes at most 1,000 metrics in one call."""
EVERY_S = 1.0
PARAM_CHARS = 6000


class Mlflow:
    """One MLflow run for each attempt. Rows are sent in batches: a call of MLflow takes many milliseconds.

    Args:
        origin: the experiment.
        tracking_uri: where MLflow stores; None takes the environment's, else `<experiments>/mlflow.db`.
    """

    def __init__(self, origin: Origin, *, tracking_uri: str | None = None) -> None:
        entities = vendor("mlflow.entities", "mlflow")
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or _beside(origin)
        self._metric = entities.Metric
        self._client = vendor("mlflow.tracking", "mlflow").MlflowClient(tracking_uri=uri, registry_uri=uri)
        known = self._client.get_experiment_by_name(origin.project)
        place = known.experiment_id if known else self._client.create_experiment(origin.project)
        tags = {"assay.experiment": origin.experiment, "assay.attempt": str(origin.attempt)}
        self.run_id: str = self._client.create_run(place, run_name=origin.title, tags=tags).info.run_id
        params = [entities.Param(k[:250], str(v)[:PARAM_CHARS]) for k, v in flat(origin.config).items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(self.run_id, params=params[start : start + 100])
        self._waiting: list[Any] = []
        self._sent = time.monotonic()
        self._step = 0
        self._ending = "FINISHED"

    def row(self, row: Mapping[str, Any]) -> None:
        """Keep the numbers; send them once there are enough, or after a second."""
        if row.get("event") not in ROWS:
            return
        self._step = step_of(row, self._step)
        now = int(time.time() * 1000)
        self._waiting += [self._metric(k, v, now, self._step) for k, v in values(row).items()]
        if len(self._waiting) >= BATCH or time.monotonic() - self._sent > EVERY_S:
            self._send()

    def event(self, event: Mapping[str, Any]) -> None:
        """The result becomes tags, the end the run's status."""
        if event.get("event") == "training_ended":
            self._ending = ENDINGS.get(str(event.get("reason")), "FAILED")

    def close(self) -> None:
        """Send what waits, and end the run."""
        self._send()
        self._client.set_terminated(self.run_id, self._ending)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._sent = time.monotonic()
        for start in range(0, len(waiting), BATCH):
            self._client.log_batch(self.run_id, metrics=waiting[start : start + BATCH])


def _beside(origin: Origin) -> str:
    return f"sqlite:///{(origin.folder.parent / 'mlflow.db').absolute()}"


def open_mirror(origin: Origin, **options: Any) -> Mlflow:
    """See `Mlflow`."""
    return Mlflow(origin, **options)
