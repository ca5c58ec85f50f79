"""Mirror to TensorBoard's event files, with the `tensorboard` package alone: neither torch nor TensorFlow is needed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.track.sinks import ROWS, Origin, step_of, values, vendor


class TensorBoard:
    """One folder of event files for each attempt.

    Args:
        origin: the experiment.
        folder: log directory; None takes `<experiment>/sinks/tensorboard/attempt-K`.
    """

    def __init__(self, origin: Origin, *, folder: str | Path | None = None) -> None:
        proto = "tensorboard.compat.proto"
        self._event_type = vendor(f"{proto}.event_pb2", "tensorboard").Event
        self._summary = vendor(f"{proto}.summary_pb2", "tensorboard").Summary
        writers = vendor("tensorboard.summary.writer.event_file_writer", "tensorboard")
        self.folder = Path(folder) if folder else origin.place("tensorboard") / f"attempt-{origin.attempt}"
        self._writer = writers.EventFileWriter(str(self.folder), flush_secs=2)
        self._step = 0

    def row(self, row: Mapping[str, Any]) -> None:
        """A scalar for each number."""
        if row.get("event") not in ROWS:
            return
        self._step = step_of(row, self._step)
        numbers = [self._summary.Value(tag=k, simple_value=v) for k, v in values(row).items()]
        if numbers:
            summary = self._summary(value=numbers)
            self._writer.add_event(self._event_type(wall_time=time.time(), step=self._step, summary=summary))

    def event(self, event: Mapping[str, Any]) -> None:
        """Events have no place in a picture of scalars."""

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


def open_mirror(origin: Origin, **options: Any) -> TensorBoard:
    """See `TensorBoard`."""
    return TensorBoard(origin, **options)
