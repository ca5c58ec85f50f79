"""Accelerate: `Accelerator(log_with=AssayTracker(run))`, then `init_trackers`, `accelerator.log`, `end_training`.

`accelerator.register_for_checkpointing(tracker)` keeps the record's own state in Accelerate's checkpoints. A stop is
the loop's business: `if tracker.should_stop: break`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import accelerate
from accelerate.tracking import GeneralTracker, on_main_process

from assay.track.frameworks._host import Host, held_out, quiet

if TYPE_CHECKING:
    from assay.track import Run


class AssayTracker(GeneralTracker):
    """Takes what `accelerator.log` is given, on the main process.

    Args:
        run: the run to write to; None joins or opens one.
    """

    name = "assay"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, run: Run | None = None) -> None:
        super().__init__()
        self._host = Host(run, f"accelerate {accelerate.__version__}")

    @property
    def tracker(self) -> Run | None:
        """The run, for direct use."""
        return self._host.run

    @property
    def should_stop(self) -> bool:
        """Whether the run is asked to stop."""
        return self._host.should_stop

    @on_main_process
    @quiet
    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """`init_trackers(config=...)`: the training begins."""
        self._host.begin(config=lambda: values)

    @on_main_process
    @quiet
    def log(self, values: Mapping[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """A step row; entries named as held out (`val_...`, `eval_...`, `test_...`) are an evaluation."""
        self._host.open()
        run = self._host.run
        if run is None or not self._host.active:
            return
        row = dict(values)
        evaluation = {name: row.pop(name) for name in values if held_out(name)}
        if row:
            run.log(row, step)
        if evaluation:
            run.log_evaluation(evaluation, step)

    @on_main_process
    @quiet
    def finish(self) -> None:
        """`end_training`."""
        self._host.end()

    def state_dict(self) -> dict[str, Any]:
        """For `register_for_checkpointing`."""
        return self._host.run.state_dict() if self._host.run is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """For `register_for_checkpointing`."""
        if self._host.run is not None and state:
            self._host.run.load_state_dict(state)
