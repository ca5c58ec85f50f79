"""The run that a training script holds: it takes what the loop says and never stands in its way."""

from __future__ import annotations

import contextlib
import os
import signal as signals_of_the_system
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar

from assay.track import _exit, _switch, experiments, loop, values
from assay.track.recorder import Recorder
from assay.track.writer import WAITING_LIMIT, Sink

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
Stop = Literal["flag", "raise", "off"]
TRIPWIRE_S = 0.05
"""Shortest time between two rows that are written at once because they are not finite."""
IGNORED_S = 20.0
"""A signal to end that the loop does not answer for so long has its usual effect."""

_open: list[Run] = []


class StopTraining(Exception):
    """Raised by `log`, `epoch_end` and `track` after a request to stop, where the script opted in by `stop="raise"`."""


class Run:
    """One attempt of an experiment, seen from inside the training script. Made by `assay.experiment`.

    Every method may be called at any time and from any thread; none raises into the loop. What fails inside is said
    once on stderr and in events.jsonl.

    Attributes:
        id: of the experiment, such as `exp-003`.
        name: for people.
        attempt: counted from 1.
        plan: primary metric, thresholds, totals, as recorded.
        disabled: whether calls do nothing: switched off, a forked worker, a rank above 0, or ended.
        why_disabled: the reason.
        step: of the newest row; counted from 1, so that it is the number of steps done.
        epoch: of the newest row; counted from 0.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        ident: str = "",
        name: str = "",
        attempt: int = 1,
        plan: Mapping[str, Any] | None = None,
        stop: Stop = "flag",
        off: str = "",
        only_old_keys: bool = False,
    ) -> None:
        self.id = ident or (folder.name if folder is not None else "")
        self.name = name
        self.attempt = attempt
        self.plan: dict[str, Any] = dict(plan or {})
        self.disabled = bool(off) or folder is None
        self.why_disabled = off
        self.step = 0
        self.epoch: int | None = None
        self._folder = folder
        self._raises = stop == "raise"
        self._next_epoch: int | None = None
        self._clock = loop.Clock()
        self._signals: dict[str, Any] = {}
        self._probes: Any = None
        self._checkpointer: Any = None
        self._sidecar: Any = None
        self._tripped_at = -TRIPWIRE_S
        self._asked_at: float | None = None
        self._record: Recorder | None = None
        if folder is not None and not off:
            self._record = Recorder(
                folder,
                ident=self.id,
                name=name,
                attempt=attempt,
                plan=self.plan,
                stop=stop,
                only_old_keys=only_old_keys,
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process this run does nothing."""
        return _elsewhere, (self._folder, self.id, self.name, self.attempt)

    def open(self, *, adopt: bool, own_attempt: dict[str, Any] | None = None) -> None:
        """Begin to record; `assay.experiment` does it.

        Args:
            adopt: take counters and best values over from earlier attempts.
            own_attempt: the `attempt_started` of this process, where no `assay train` stands above it.

        Raises:
            OSError: if the folder is not writable.
        """
        record = self._record
        if record is None:
            return
        record.own_attempt = own_attempt
        if not record.open(adopt=adopt):
            self._record = None
            self.disabled, self.why_disabled = True, "another process records this experiment"
            return
        self.step = self._clock.batches = record.standing.step
        self.epoch = record.standing.epoch
        self._next_epoch = record.standing.epochs_completed or None
        _switch.forget_in_children(self)
        _open.append(self)
        _exit.watch(self)
        record.show()

    def forget(self) -> None:
        """In a forked copy: do nothing from now on, with no lock and no thread."""
        self.disabled, self.why_disabled = True, "a forked worker"
        self._probes = None
        with contextlib.suppress(ValueError):
            _open.remove(self)
        if self._record is not None:
            self._record.abandon()

    # -- what can be asked

    @property
    def folder(self) -> Path:
        """The experiment's folder; of a disabled run without one, a scratch folder that is made when asked for."""
        if self._folder is None:
            import tempfile  # noqa: PLC0415 - only of a disabled run

            self._folder = Path(tempfile.mkdtemp(prefix="assay-off-"))
        return self._folder

    @property
    def best(self) -> Mapping[str, Mapping[str, Any]]:
        """Metric → `{"value", "step", "epoch"}` of its best finite value so far, as far as rows are written."""
        return {} if self._record is None else self._record.standing.best

    @property
    def phase_name(self) -> str:
        """What the process does now: `train`, or the innermost open `phase`."""
        return "train" if self._record is None else self._record.phase

    @property
    def config_digest(self) -> str | None:
        """Digest of config.yaml; None if there is none."""
        return (experiments.digest_of(self._folder / "config.yaml") or None) if self._folder else None

    @property
    def should_stop(self) -> bool:
        """Whether somebody asked to stop; the loop decides what it does about it."""
        if self.disabled or self._record is None:
            return False
        self._poll()
        return self._record.stop is not None

    @property
    def stop_reason(self) -> str:
        """Why the stop was asked for; empty if it was not."""
        stop = None if self._record is None else self._record.stop
        return "" if stop is None else values.text(stop.get("reason"))

    # -- the loop

    def log(self, metrics: Mapping[str, Any], step: int | None = None, *, epoch: int | None = None) -> None:
        """Queue a step row.

        Args:
            metrics: name → number, one-element tensor or array; a tensor on an accelerator is fetched later, with
                others. Nested mappings are joined by `/`. Anything else is kept as text.
            step: steps done, this one included; counts itself if absent.
            epoch: counted from 0.

        Raises:
            StopTraining: only with `stop="raise"`, after a request to stop.
        """
        record = self._record
        if self.disabled or record is None:
            return
        try:
            now = time.monotonic()
            if step is None:
                step = self._clock.batches if self._clock.inside else self.step + 1
            elif type(step) is not int:
                step = whole(step)
            settled = dict(metrics)
            total = 0.0
            for value in settled.values():
                if type(value) is not float:
                    settled = values.settle(metrics)
                    total = sum(v for v in settled.values() if type(v) is float)
                    break
                total += value
            signals = self._clock.row(now, step - self.step) if step != self.step else {}
            if self._probes is not None or self._signals:
                self._add_signals(signals)
            self.step = step
            if epoch is not None:
                self._next_epoch = epoch if type(epoch) is int else whole(epoch)
            self.epoch = self._next_epoch
            queue = record.writer.queue
            queue.append((now, step, self.epoch, settled, signals))
            if total - total != 0.0 and now - self._tripped_at > TRIPWIRE_S:
                # The checker must see a loss that is not finite before the next step, not at the next flush.
                self._tripped_at = now
                record.writer.wake()
            if len(queue) > WAITING_LIMIT:
                record.writer.relieve()
            if self._checkpointer is not None and self._checkpointer.waits_for_losses:
                self._checkpointer.logged(step, metrics)
        except Exception as error:  # noqa: BLE001 - the loop must not break on its record
            record.problem("log", error)
        if self._raises and record.stop is not None:
            raise StopTraining(self.stop_reason)

    def _add_signals(self, signals: dict[str, Any]) -> None:
        if self._probes is not None:
            signals.update(self._probes.signals())
        taken, self._signals = self._signals, {}
        signals.update(taken)

    def signal(self, **signals: Any) -> None:
        """Signals (`lr`, `grad_norm`, ...) that join the next step row."""
        self._safely("signal", lambda _: self._signals.update(values.settle(signals)))

    def track(self, loader: Iterable[T], total: int | None = None) -> Iterable[T]:
        """Time the waits for data of a loader; its batches count the steps.

        Args:
            loader: anything that can be iterated; iterated inside `phase("eval")` it counts nothing.
            total: batches of one pass, if `len(loader)` does not tell.
        """
        if self.disabled or self._record is None:
            return loader
        with contextlib.suppress(Exception):  # a loader without a length, or with one that fails
            length = total if total is not None else len(loader)  # type: ignore[arg-type]
            self._record.facts["steps_per_epoch"] = int(length)
        return loop.Tracked(loader, self._clock, self._boundary, self._look_at)

    def _look_at(self, batch: Any) -> None:
        """The entropy of a batch's labels joins the next row: sorted data shows, and data that changes mid-run."""
        try:
            from assay.track.data import batch_label_entropy  # noqa: PLC0415 - only a script with a loader pays for it

            entropy = batch_label_entropy(batch)
            if entropy is not None:
                self._signals["label_entropy"] = entropy
        except Exception as error:  # noqa: BLE001 - the loop must not break on its record
            if self._record is not None:
                self._record.problem("batch", error)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Say what the process does (`eval`, `checkpoint`, `compile`); its time belongs to no step.

        The watcher gives each phase a budget of its own before it speaks of a hang.
        """
        record = self._record
        if self.disabled or record is None:
            yield
            return
        outer = record.phase
        self._poll()
        self._safely("phase", lambda record: record.enter(values.text(name, 40)))
        with self._clock.phase(training=name == "train"):
            try:
                yield
            finally:
                self._safely("phase", lambda record: record.enter(outer))
                self._poll()

    def log_evaluation(
        self, metrics: Mapping[str, Any], step: int | None = None, epoch: int | None = None
    ) -> None:
        """Record an evaluation: a row, and an event that is on disk when this returns.

        Args:
            metrics: as in `log`.
            step: of the model that was evaluated; the newest if absent.
            epoch: counted from 0; the newest if absent.
        """

        def write(record: Recorder) -> None:
            found = values.numbers(metrics)
            at = self.step if step is None else whole(step)
            place = {"step": at, "epoch": self.epoch if epoch is None else whole(epoch)}
            record.begin()
            record.row({"event": "evaluation", **place, **record.when(), **found.fields()})
            record.evaluated(place, found)

        self._safely("log_evaluation", write)

    def epoch_end(
        self, epoch: int, metrics: Mapping[str, Any], learning_rate: float | None = None, **facts: Any
    ) -> None:
        """Record the end of an epoch.

        Args:
            epoch: counted from 0.
            metrics: as in `log`.
            learning_rate: at its end.
            facts: `total_epochs`, `gpu_memory_mb`.

        Raises:
            StopTraining: only with `stop="raise"`, after a request to stop.
        """

        def write(record: Recorder) -> None:
            found = values.numbers(metrics)
            self.epoch = at = whole(epoch)
            self._next_epoch = at + 1
            total = finite(facts.get("total_epochs"))
            record.old(
                "epoch_end",
                epoch=at,
                total_epochs=int(total) if total else self.plan.get("total_epochs"),
                learning_rate=finite(learning_rate),
                wall_time_seconds=round(record.wall_s(), 1),
                gpu_memory_mb=finite(facts.get("gpu_memory_mb")),
                **found.fields(),
            )
            record.evaluated({"step": self.step or None, "epoch": at}, found)

        self._safely("epoch_end", write)
        self._boundary()

    # -- begin, end, events

    def start(
        self, total_epochs: int | None = None, total_steps: int | None = None, config: Any = None
    ) -> None:
        """Training begins. Asked again it adds what it did not know; the event is written once an attempt."""

        def write(record: Recorder) -> None:
            for key, value in (("total_epochs", total_epochs), ("total_steps", total_steps)):
                known = finite(value)
                if known is not None and known >= 0:
                    self.plan[key] = int(known)
            if config is not None:
                record.freeze(config)
            record.begin()

        self._safely("start", write)

    def configure(self, config: Any) -> None:
        """Freeze the configuration; one that differs from the frozen one is recorded beside it."""
        self._safely("configure", lambda record: record.freeze(config))

    def read_hypothesis(self) -> None:
        """Record hypothesis.md now if it is new; by itself that happens within a second."""
        self._safely("hypothesis", lambda record: record.read_hypothesis())

    def finish(self, final_metrics: Mapping[str, Any] | None = None, reason: str = "completed") -> None:
        """Training has ended: write everything, record the end. Later calls do nothing.

        Args:
            final_metrics: as in `log`.
            reason: `completed` or `stopped`.
        """
        self._end(final_metrics, "stopped" if reason == "stopped" else "completed", None)

    def fail(self, error: BaseException) -> None:
        """Training has ended with an exception, which the caller raises on; Ctrl-C is a stop, not a fault."""
        if isinstance(error, KeyboardInterrupt):
            self.request_stop(*_exit.INTERRUPT)
            self._end(None, "stopped", None)
        else:
            self._end(None, "exception", error)

    def finish_unasked(self) -> None:
        """The interpreter ends and the script did not say that its training has ended; `assay.track` calls it."""
        self._end(None, "stopped" if self.should_stop else "completed", None, by="exit")

    def event(self, kind: str, **fields: Any) -> dict[str, Any] | None:
        """Append to events.jsonl; on disk when this returns.

        Returns:
            The line as written; None if the run is disabled or the disk did not take it.
        """
        return self._safely(f"event {kind}", lambda record: record.event(kind, fields))

    def note(self, text: str) -> None:
        """A remark of a person or of the script."""
        self.event("note", text=values.text(text, 4_000))

    def request_stop(self, by: str, reason: str) -> None:
        """Ask from inside this process: `should_stop` becomes true."""

        def take(record: Recorder) -> None:
            if record.stop is None and record.stop_mode != "off":
                record.take_stop({"by": by, "reason": reason})

        self._safely("request_stop", take)

    def add_sink(self, sink: Sink) -> None:
        """Mirror every row and event from now on; see `assay.track.sinks`."""
        self._safely("add_sink", lambda record: record.writer.mirrors.add(sink))

    def mirror(self, sinks: Sequence[str | Sink] | Mapping[str, Mapping[str, Any]]) -> None:
        """Mirror to other trackers by their names, or to objects of your own; what does not open is told and left out."""

        def attach(record: Recorder) -> None:
            from assay.track import sinks as known  # noqa: PLC0415 - only a script that mirrors pays for it

            for problem in known.attach(self, sinks):
                record.problem("sinks", RuntimeError(problem))

        self._safely("sinks", attach)

    def start_checker(self) -> None:
        """Start a checker beside this process; it ends with the run."""

        def start(_: Recorder) -> None:
            from assay.track.sidecar import Sidecar  # noqa: PLC0415 - only a script that asks pays for it

            if self._sidecar is None:
                self._sidecar = Sidecar(self.folder, self.attempt)

        self._safely("checker", start)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Put every row on disk now; False if that did not succeed in time."""
        return self._safely("flush", lambda record: record.writer.flush(timeout_s)) is not False

    def show(self) -> None:
        """Write the rows and the snapshot now; for who reads the files right after a call."""
        self._safely("show", lambda record: record.show())
        self.flush()

    def checkpoint_reported(
        self, path: str, *, step: int | None = None, epoch: int | None = None, metrics: Any = None
    ) -> None:
        """The script saved by itself: recorded and shown with whether the path exists, but not ours to verify."""

        def write(record: Recorder) -> None:
            found = values.numbers(metrics or {})
            record.old("checkpoint_saved", epoch=epoch, checkpoint_path=path, **found.fields())
            place = {"path": path, "exists": Path(path).exists(), "step": step, "epoch": epoch}
            record.event("checkpoint_reported", {**place, **found.fields()})

        self._safely("checkpoint_reported", write)

    # -- model, data, checkpoints

    def watch(self, model: Any, optimizer: Any = None, *, every: int = 10) -> None:
        """Take signals from a model and its optimizer, and look at their wiring before the first step.

        Args:
            model: a torch module.
            optimizer: of it.
            every: steps between two costly signals.
        """

        def attach(record: Recorder) -> None:
            from assay.track.probes import Probes  # noqa: PLC0415 - only a script with a model pays for it

            if self._probes is not None:
                self._probes.close()
            self._probes = Probes(model, optimizer, every=every)
            record.event("wiring_inspected", {"facts": values.plain(self._probes.wiring())})

        self._safely("watch", attach)

    def inspect_data(
        self, train: Any, validation: Any = None, *, labels: Any = None, **options: Any
    ) -> dict[str, Any] | None:
        """Look at the data before step 0: duplicates, leakage, skew. The facts go to an event.

        Returns:
            The facts; None if the run is disabled or the data could not be looked at.
        """

        def look(record: Recorder) -> dict[str, Any]:
            from assay.track import data  # noqa: PLC0415 - only a script that asks pays for it

            found = values.plain(data.facts(train, validation, labels=labels, **options))
            facts = found if isinstance(found, dict) else {"facts": found}
            record.event("data_inspected", {"facts": facts})
            return facts

        return self._safely("inspect_data", look)

    def checkpoints(self, **options: Any) -> Any:
        """The `Checkpointer` of this run, made with these options when first asked for; None if disabled.

        Unless told otherwise `best` is the primary metric, and SIGTERM and SIGUSR1 are answered by a save if nobody else
        listens to them.

        Raises:
            ValueError: for an option that cannot be.
        """
        if self.disabled:
            return None
        if self._checkpointer is None:
            from assay.track.checkpoint import Checkpointer  # noqa: PLC0415 - only a script that saves pays for it
            from assay.track.signals import Preemption  # noqa: PLC0415 - as above

            primary = self.plan.get("primary_metric") or {}
            if primary.get("name"):
                options.setdefault("best", (primary["name"], primary.get("direction") or "min"))
            if (
                signals_of_the_system.getsignal(signals_of_the_system.SIGTERM)
                == signals_of_the_system.SIG_DFL
            ):
                options.setdefault("preemption", Preemption())
            self._checkpointer = Checkpointer(self, self.folder / "checkpoints", **options)
            if self._checkpointer.listen() and self._record is not None:
                self._record.on_tick.append(self._unanswered)
        return self._checkpointer

    def checkpoint(
        self,
        state: Any,
        metrics: Mapping[str, Any] | None = None,
        *,
        step: int | None = None,
        epoch: int | None = None,
        wait: bool | None = None,
        reason: str = "cadence",
    ) -> str | None:
        """Save a state now; the name of the checkpoint, None if it could not be saved (training goes on).

        Args:
            state: what to save, or a function that gives it, which then also answers a signal.
            metrics: of this state.
            step: the newest if absent.
            epoch: the newest if absent.
            wait: whether to wait until it is on disk; None: as the checkpointer is set.
            reason: as in events.jsonl.
        """

        def save(_: Recorder) -> str | None:
            saver = self.checkpoints()
            at, at_epoch = self.step if step is None else step, self.epoch if epoch is None else epoch
            with self.phase("checkpoint"):
                name = saver.save(state, step=at, epoch=at_epoch, metrics=metrics, reason=reason, wait=wait)
            return None if name is None else str(name)

        return self._safely("checkpoint", save)

    def resume(self, name: str | None = None, *, force: bool = False) -> Any:
        """The state of the newest checkpoint that holds, or None if there is none; steps count on from it, or from 0.

        A rank above 0 may ask as well: it reads, and records nothing.

        Args:
            name: of a checkpoint, or `best` or `last`.
            force: go on although configuration, data or code differ.

        Raises:
            CheckpointError: if there are checkpoints and none of them holds, or if the one that does belongs to another
                configuration. Training from the beginning unasked would be worse.
        """
        if self._folder is None or not (self._folder / "checkpoints").is_dir():
            return self._from_the_beginning()
        from assay.track.checkpoint import Checkpointer  # noqa: PLC0415 - only a script that resumes pays for it

        saver = self.checkpoints() or Checkpointer(self, self._folder / "checkpoints")
        state = saver.load(name, force=force)
        found = saver.resumed
        if state is not None and found is not None:
            self.step = self._clock.batches = found.step
            self.epoch = found.epoch
        return state if state is not None else self._from_the_beginning()

    def _from_the_beginning(self) -> None:
        """Nothing was restored: what an earlier attempt counted is not what this model has seen."""
        self.step = self._clock.batches = 0
        self.epoch = self._next_epoch = None

    def state_dict(self) -> dict[str, Any]:
        """Counters, best values and history, so that a checkpoint resumes the monitor as well. Plain JSON."""
        self.flush()
        held = {} if self._record is None else self._record.standing.state_dict()
        counters = {"step": self.step, "epoch": self.epoch, "next_epoch": self._next_epoch}
        return {**held, **counters, "batches": self._clock.batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` gave."""

        def load(record: Recorder) -> None:
            record.writer.flush(1.0)
            record.standing.load_state_dict(state)
            self.step, self.epoch = record.standing.step, record.standing.epoch
            following, batches = state.get("next_epoch"), state.get("batches")
            self._next_epoch = following if isinstance(following, int) else self.epoch
            self._clock.batches = batches if isinstance(batches, int) else self.step

        self._safely("load_state_dict", load)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """End the run; `StopTraining` ends here, everything else goes on."""
        if error is None:
            self.finish(reason="stopped" if self.should_stop else "completed")
        elif isinstance(error, StopTraining):
            self.finish(reason="stopped")
            return True
        elif isinstance(error, SystemExit):
            _exit.leaving(error)
            self.finish() if error.code in (None, 0) else self.fail(error)
        else:
            self.fail(error)
        return False

    # -- inside

    def _safely(self, where: str, action: Callable[[Recorder], R]) -> R | None:
        """Do it if the run records; what fails is said, not raised."""
        record = self._record
        if self.disabled or record is None:
            return None
        try:
            return action(record)
        except Exception as error:  # noqa: BLE001 - the loop must not break on its record
            record.problem(where, error)
            return None

    def _boundary(self) -> None:
        """Between two steps: a signal is answered here, and a stop raised where the script opted in."""
        if self.disabled or self._record is None:
            return
        self._poll()
        if self._raises and self._record.stop is not None:
            raise StopTraining(self.stop_reason)

    def _poll(self) -> None:
        """Answer a signal to end by a save, once."""
        saver = self._checkpointer
        preemption = None if saver is None else saver.policy.preemption
        if preemption is None or preemption.requested is None:
            return

        def answer(record: Recorder) -> None:
            saver.poll(self.step, self.epoch)
            if record.stop is None:
                record.take_stop({"by": preemption.requested, "reason": "preemption"}, record=False)

        self._safely("signal to end", answer)

    def _unanswered(self) -> None:
        """In the writer thread: a loop that never looks at `should_stop` ends by the signal, as if we were not there."""
        preemption = self._checkpointer.policy.preemption
        if preemption is None or preemption.requested is None:
            return
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        elif now - self._asked_at > IGNORED_S and not self._raises:
            self._asked_at = now
            os.kill(os.getpid(), getattr(signals_of_the_system, preemption.requested))

    def _end(
        self, final: Mapping[str, Any] | None, reason: str, error: BaseException | None, *, by: str = ""
    ) -> None:
        record = self._record
        if self.disabled or record is None or record.ended:
            return
        if self._checkpointer is not None:
            completed = reason == "completed" and not by
            self._safely("checkpoint", lambda _: self._checkpointer.close(completed=completed))
        place = {"step": self.step or None, "epoch": self.epoch}
        told = {"by": by} if by else {}
        self._safely(
            "finish", lambda record: record.end(values.numbers(final or {}), reason, {**place, **told}, error)
        )
        if self._probes is not None:
            self._safely("watch", lambda _: self._probes.close())
        self.disabled, self.why_disabled = True, "ended"
        with contextlib.suppress(ValueError):
            _open.remove(self)
        record.leave()
        if self._sidecar is not None:
            with contextlib.suppress(OSError):
                self._sidecar.finish()

    def end_attempt(self, outcome: str, exit_code: int | None, signal: str | None = None) -> None:
        """The process ends; `assay.track` calls it by itself."""
        if self._record is not None:
            with contextlib.suppress(Exception):
                self._record.end_attempt(outcome, exit_code, signal)


def whole(value: Any) -> int:
    """A step or an epoch as a whole number.

    Raises:
        ValueError: if it is none; a row is then not written, rather than at a place that nobody named.
    """
    found = values.number(value)
    if found is None or values.nonfinite(found) is not None:
        raise ValueError(f"a step or an epoch is a whole number, not {values.text(value, 80)!r}")
    return int(found)


def finite(value: Any) -> float | int | None:
    """A finite number, or None."""
    found = values.number(value)
    return None if found is None or values.nonfinite(found) is not None else found


def current() -> Run | None:
    """The run of this process that was opened last and has not ended."""
    return _open[-1] if _open else None


def _elsewhere(folder: Path | None, ident: str, name: str, attempt: int) -> Run:
    return Run(folder, ident=ident, name=name, attempt=attempt, off="a copy in another process")
