"""What every adapter shares: the run it writes to, hooks that cannot raise, and facts that several hosts have."""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from assay.track import Run

_log = logging.getLogger("assay.track")
_HELD_OUT = re.compile(r"^(val|valid|validation|eval|test|dev|holdout)(?=[_/\-. 0-9]|$)", re.IGNORECASE)
CURVE_LIMIT = 1_000
"""Newest rounds of a boosting curve that one event holds."""
AGREE_EVERY = 10
"""Steps between two questions to the other ranks whether one of them was asked to stop."""

F = TypeVar("F", bound=Callable[..., None])


class Host:
    """The run as one adapter sees it: found late, ended only by who opened it, never copied with a model.

    Args:
        run: the caller's run; None means the open run of this process, else a new one when training begins.
        framework: name and version of the host, written with the configuration.
    """

    def __init__(self, run: Run | None, framework: str) -> None:
        self.run = run
        self.framework = framework
        self.muted = False
        self._given = run
        self._owned = False
        self._complaints: set[str] = set()
        self._rested_at: float | None = None
        self._kept: int | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Host:
        """Frameworks clone estimators with their callbacks; the copies write to the same run."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process, or in a saved model, there is no run: the copy does nothing."""
        return _muted, (self.framework,)

    @property
    def active(self) -> bool:
        """Whether there is a run that records."""
        return self.run is not None and not self.run.disabled and not self.muted

    @property
    def should_stop(self) -> bool:
        """Whether the run is asked to stop; False without a run."""
        return self.active and self.run is not None and self.run.should_stop

    def open(self, *, total_steps: int | None = None, total_epochs: int | None = None) -> None:
        """Find the run, or open one."""
        if self.run is not None or self.muted:
            return
        from assay.track import current, experiment  # noqa: PLC0415 - a muted copy needs no tracker

        self.run = current()
        if self.run is None:
            self.run = experiment(total_steps=total_steps, total_epochs=total_epochs)
            self._owned = True

    def begin(
        self,
        *,
        total_steps: int | None = None,
        total_epochs: int | None = None,
        config: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """Training begins: find or open the run and say what is planned.

        Args:
            total_steps: planned.
            total_epochs: planned.
            config: gives the host's settings; if it fails, the training is recorded without them.
        """
        self.open(total_steps=total_steps, total_epochs=total_epochs)
        self._rested_at = self._kept = None
        if self.run is None or not self.active:
            return
        named: dict[str, Any] = {"framework": self.framework}
        try:
            named |= config()
        except Exception as error:  # noqa: BLE001 - a host that cannot tell its settings can still be recorded
            self.complain("config", error)
        self.run.start(total_epochs=total_epochs, total_steps=total_steps, config=named)

    def end(self, final_metrics: Mapping[str, Any] | None = None) -> None:
        """Training returned. A run of the caller stays open: what follows (a test, another fit) belongs to it."""
        if self.run is not None and self._owned:
            self.run.finish(final_metrics, reason="stopped" if self.should_stop else "completed")
        self._let_go()

    def fail(self, error: BaseException) -> None:
        """The host's training raised; the host raises it on."""
        if self.run is not None and self.active:
            self.run.fail(error)
        self._let_go()

    def _let_go(self) -> None:
        """The next training finds its run anew, unless the caller gave one for good."""
        self.run, self._owned = self._given, False

    def rest(self) -> None:
        """A hook of the host is done; what comes until `work` is the wait for the next batch."""
        self._rested_at = time.monotonic()

    def work(self) -> None:
        """The host has its batch: the wait since `rest` joins the next row."""
        rested, self._rested_at = self._rested_at, None
        if rested is not None and self.run is not None and self.active:
            self.run.signal(data_wait_s=time.monotonic() - rested)

    def saved(
        self,
        path: str,
        *,
        step: int | None = None,
        epoch: int | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """The host wrote a checkpoint of its own: reported, for it is not ours to verify."""
        if self.run is not None and self.active:
            self.run.checkpoint_reported(str(path), step=step, epoch=epoch, metrics=metrics)

    def keep(
        self,
        files: Mapping[str, Path],
        metrics: Mapping[str, Any],
        *,
        step: int,
        epoch: int | None,
        reason: str,
    ) -> None:
        """Copy the host's files into a checkpoint of the experiment, once a step: digested, verified, rotated."""
        if self.run is not None and self.active and self._kept != step:
            self._kept = step
            from assay.track.checkpoint import Attachment  # noqa: PLC0415 - only who saves pays for it

            state = {name: Attachment(path, note=self.framework) for name, path in files.items()}
            self.run.checkpoint({"files": state}, metrics, step=step, epoch=epoch, reason=reason)

    def boosting(self, curve: Sequence[float], direction: str) -> None:
        """The held-out metric of every round so far, for the rule about boosting that got worse."""
        if self.run is not None and self.active and curve:
            newest = [float(value) for value in curve[-CURVE_LIMIT:]]
            facts = {"boosting": newest, "boosting_direction": direction, "rounds": len(curve)}
            self.run.event("classical_inspected", facts={"classical": facts})

    def complain(self, where: str, error: BaseException) -> None:
        """Say once a place that recording failed; training goes on."""
        if where not in self._complaints:
            self._complaints.add(where)
            _log.warning(
                "recording failed in %s of %s: %s: %s", where, self.framework, type(error).__name__, error
            )


def _muted(framework: str) -> Host:
    host = Host(None, framework)
    host.muted = True
    return host


def quiet(hook: F) -> F:
    """A hook whose failure is reported and never raised: a record is not worth a training.

    `StopTraining` is swallowed too: every host has a channel of its own for a stop. The hook is a method of an object
    whose `_host` is a `Host`, and returns nothing.
    """

    @functools.wraps(hook)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever breaks in recording must not end a training
            self._host.complain(hook.__name__, error)

    return cast("F", call)


def held_out(name: str) -> bool:
    """Whether a metric's name says that it was measured on other data than those of the training."""
    return _HELD_OUT.search(name) is not None


def laid_out(state: Mapping[str, Any], folder: Path) -> Path:
    """The files of a checkpoint that `Host.keep` made, under their own names in a folder.

    Raises:
        ValueError: the state is none of those.
        OSError: if the files cannot be copied.
    """
    import shutil  # noqa: PLC0415 - only a resume copies

    files = state.get("files")
    if not isinstance(files, Mapping) or not files:
        raise ValueError(f"the checkpoint holds {sorted(state)}, not the files of a framework")
    shutil.rmtree(folder, ignore_errors=True)
    for name, attachment in files.items():
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"the checkpoint names a file outside of its folder: {name!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(attachment.path, target)
    return folder
