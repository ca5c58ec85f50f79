"""Mirror to Trackio: a local SQLite file that `trackio show` displays."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from assay.track.sinks import ROWS, Origin, step_of, values, vendor


class Trackio:
    """One run for each attempt, in the project `assay`; `TRACKIO_DIR` says where.

    Args:
        origin: the experiment.
    """

    def __init__(self, origin: Origin) -> None:
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        trackio = vendor("trackio", "trackio")
        # It prints on stdout, which belongs to the training.
        with contextlib.redirect_stdout(sys.stderr):
            self._run = trackio.init(project=origin.project, name=origin.title, config=dict(origin.config))
        self._step = 0

    def row(self, row: Mapping[str, Any]) -> None:
        """One log line."""
        if row.get("event") not in ROWS:
            return
        self._step = step_of(row, self._step)
        self._run.log(values(row), step=self._step)

    def event(self, event: Mapping[str, Any]) -> None:
        """Events have no place there."""

    def close(self) -> None:
        """End the run."""
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()


def open_mirror(origin: Origin, **options: Any) -> Trackio:
    """See `Trackio`."""
    return Trackio(origin, **options)
