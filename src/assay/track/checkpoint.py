"""Checkpoints that are proven: written aside, hashed while written, sealed, renamed, read back, restored, then rotated.

    checkpointer = Checkpointer(run, run.folder / "checkpoints", every_steps=200, best=("val_loss", "min"))
    state = checkpointer.load()
    if state is not None:
        restore(state, model=model, optimizer=optimizer)
    ...
    if checkpointer.due(step, epoch):
        checkpointer.save(capture(model=model, optimizer=optimizer), step=step, epoch=epoch)

Saving never raises into the loop: a full or broken disk leaves the old checkpoints, is recorded, and training goes on.
Nothing is unpickled, neither here nor by a reader of these files.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from assay.track._checkpoint.cadence import Cadence, young_interval_s
from assay.track._checkpoint.classical import (
    booster_from,
    booster_state,
    fitted_state,
    restore_fitted,
    restore_study,
    study_state,
)  # fmt: skip
from assay.track._checkpoint.disk import Disk
from assay.track._checkpoint.errors import CheckpointDamaged, CheckpointError, CheckpointMismatch, StateError
from assay.track._checkpoint.finite import not_finite
from assay.track._checkpoint.legacy import FILE as LEGACY_FILE
from assay.track._checkpoint.legacy import legacy_writer, read_legacy
from assay.track._checkpoint.manifest import (
    DIGESTS,
    Manifest,
    components_of,
    host,
    now,
    plain_metrics,
    verify_folder,
    versions,
)  # fmt: skip
from assay.track._checkpoint.policy import Options, Policy, RunLike
from assay.track._checkpoint.proof import Answer
from assay.track._checkpoint.proofs import Proofs
from assay.track._checkpoint.reading import read_state
from assay.track._checkpoint.restored import replay_of
from assay.track._checkpoint.state import (
    Parts,
    ShuffledIndices,
    capture,
    pending_gradients,
    restore,
    rng_state,
    set_gradients,
    set_rng_state,
)  # fmt: skip
from assay.track._checkpoint.store import Folder, Stored
from assay.track._checkpoint.tree import Attachment, Encoded, encode

__all__ = [
    "Attachment", "CheckpointDamaged", "CheckpointError", "CheckpointMismatch", "Checkpointer", "Disk", "Folder",
    "Manifest", "Options", "Parts", "Policy", "Resumed", "ShuffledIndices", "StateError", "Stored", "booster_from",
    "booster_state", "capture", "fitted_state", "pending_gradients", "read_legacy", "read_state", "restore",
    "restore_fitted",
    "restore_study", "rng_state", "set_gradients", "set_rng_state", "study_state", "verify_folder", "young_interval_s",
]  # fmt: skip

LOSSES = ("loss", "train_loss", "train/loss")
"""Metrics of `run.log` that a replay is compared with; the first that is there."""
URGENT = frozenset({"final", "signal", "exception", "stop"})
"""Reasons for which a save waits for the one in flight and for its own end."""
_AT_REST = frozenset(
    {"eval", "evaluation", "validation", "test", "warm-up", "warmup", "compile", "data", "init"}
)
"""Phases in which the state does not change, so that the watchdog may save it from its own thread."""


@dataclass(frozen=True)
class Resumed:
    """What a resume found."""

    name: str
    step: int
    epoch: int | None
    skipped: tuple[tuple[str, str], ...] = ()
    """Newer checkpoints that did not hold, with the reason."""
    forced: tuple[str, ...] = ()
    """Digests that differ and were let pass."""


@dataclass
class _Job:
    """A save on its way."""

    manifest: Manifest
    encoded: Encoded
    is_best: bool
    value: float | None
    restore: bool


class Checkpointer:
    """Makes, proves, keeps and finds the checkpoints of one experiment.

    Args:
        run: the attempt that saves; only `id`, `attempt` and `event` are needed.
        folder: `checkpoints` of the experiment.
        options: see `Policy`.

    Raises:
        ValueError: for an option that cannot be.
    """

    def __init__(self, run: RunLike, folder: Path, **options: Unpack[Options]) -> None:
        self.run = run
        self.policy = Policy(**options)
        self.folder = Folder(Path(folder), self.policy.disk)
        self.provider: Callable[[], Mapping[str, Any]] | None = None
        """Takes the state when a signal asks for it; set it, or pass a function to `save`."""
        self.resumed: Resumed | None = None
        self.failures: list[str] = []
        """Why saves or verifications of this process failed."""
        self.cadence = Cadence(
            every_steps=self.policy.every_steps,
            every_epochs=self.policy.epochs,
            every_s=self.policy.every_s,
            mtbf_s=self.policy.mtbf_s,
            cap_frac=self.policy.overhead_cap_frac,
        )
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._saves = 0
        self._at: tuple[int, int | None] = (0, None)
        self._replay = replay_of(self.policy.replay) if self.policy.replay is not None else None
        self._code = _script_digest()
        self._proofs = Proofs(self.folder.path, self.policy, self._replay, self._concluded)
        self._reads_only = bool(getattr(run, "disabled", False))
        if not self._reads_only:
            self.folder.clean(run.attempt)
        self._best = self._best_on_disk()

    # --- saving -----------------------------------------------------------------------------------------------------

    def due(self, step: int, epoch: int | None = None) -> bool:
        """Whether a checkpoint is due: by the cadence, at the planned end, or because a signal asks for it."""
        if not self._ours():
            return False
        self._at = (step, epoch)
        self._proofs.reap()
        plan = getattr(self.run, "plan", None) or {}
        last = step == plan.get("total_steps")
        if self.policy.epochs is not None and epoch is not None:
            last = last or epoch + 1 == plan.get("total_epochs")
        return self._asked() is not None or self.cadence.due(step, epoch, last=last)

    def save(
        self,
        state: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        *,
        step: int,
        epoch: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        reason: str = "cadence",
        samples: int | None = None,
        wait: bool | None = None,
    ) -> str | None:
        """Save a state; never raises.

        Args:
            state: what `capture` returns, or any mapping of plain data and tensors; or a function that gives it, which
                is then also asked when a signal arrives.
            step: steps done.
            epoch: counted from 0.
            metrics: of this moment; decide about `best`.
            reason: `cadence`, `best`, `final`, `signal`, `exception` or `stop`.
            samples: seen so far.
            wait: whether to return only when it is committed and verified; by default as the policy says, and for the
                last word of a run (final, signal, exception, stop) always.

        Returns:
            The name, or None if nothing was (or, in the background, will be) saved.
        """
        if not self._ours():
            return None
        begun = time.monotonic()
        self._at = (step, epoch)
        if self._take_signal():
            reason = "signal" if reason in ("cadence", "best") else reason
        wait = (reason in URGENT or not self.policy.asynchronous) if wait is None else wait
        if callable(state):
            self.provider = state
        decides = self.policy.best is not None and self.policy.best[0] in (metrics or {})
        if not self._free(wait=wait or decides):  # what is best is known when the save before has ended
            return None
        value, is_best = self._judge(metrics)
        if reason == "cadence" and is_best:
            reason = "best"
        with self._lock:
            self.cadence.saved(step, epoch)
            try:
                taken = state() if callable(state) else state
                job = self._prepare(taken, step, epoch, reason, samples, metrics, copy=not wait)
            except Exception as error:  # noqa: BLE001 - the state is the user's: his loop must not end here
                self._failed(f"ckpt-{step:08d}", "write", error)
                return None
            job = replace(job, is_best=is_best, value=value, restore=job.restore or is_best)
            self._queue(job)
        name = self._start(job, wait=wait)
        self.cadence.saved(step, epoch, time.monotonic() - begun)
        return name

    def observe(self, step: int, *losses: float) -> None:
        """Tell the loss of a step: a replay of the checkpoint before it must give the same.

        Args:
            step: the steps done, this one included.
            losses: of this step; more than one where one does not show everything (that of the averaged model).
        """
        if self._ours():
            self._proofs.observe(tuple(float(loss) for loss in losses))

    @property
    def waits_for_losses(self) -> bool:
        """Whether a replay is to be compared with steps that are still to come."""
        return self._proofs.waits

    def logged(self, step: int, metrics: Mapping[str, Any]) -> None:
        """What `run.log` was told: its loss is that of the step, for scripts that never call `observe`."""
        value = next((metrics[name] for name in LOSSES if name in metrics), None)
        if value is not None and self._ours():
            self._proofs.logged(step, float(value))

    def poll(self, step: int | None = None, epoch: int | None = None) -> bool:
        """Answer a signal: save if a provider is known; True if the training should stop. Cheap when none arrived.

        Call it at step boundaries, and in loops that evaluate or warm up.
        """
        preemption = self.policy.preemption
        if preemption is None or preemption.requested is None:
            return False
        if self._ours() and self._take_signal():
            self._save_at(step, epoch)
        return True

    def join(self) -> None:
        """Wait for the save in flight and for the restores that are due. Never raises."""
        if not self._ours():
            return
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._proofs.finish()
        self._rotate()

    def close(self, *, completed: bool = False) -> None:
        """`join`, and give the signals back.

        Args:
            completed: training ended by itself, so that the newest checkpoint is its result: proven by a restore too.
        """
        if completed and self._ours():
            self._free(wait=True)
            last = self.latest()
            if last is not None and last.verified != "restore" and last.name not in self._proofs.names:
                self._proofs.add(last.name, self._at[0], last=True)
                self._proofs.committed(last.name)
        self.join()
        if self.policy.preemption is not None:
            self.policy.preemption.close()

    # --- finding ----------------------------------------------------------------------------------------------------

    def all(self) -> tuple[Stored, ...]:
        """All checkpoints, in the order of their saves."""
        return self.folder.all()

    def latest(self) -> Stored | None:
        """The newest verified checkpoint."""
        return next((item for item in reversed(self.all()) if item.sound), None)

    def load(self, name: str | None = None, *, force: bool = False) -> dict[str, Any] | None:
        """The state to go on from: the newest checkpoint whose every byte holds. Falls back one by one.

        Args:
            name: of a checkpoint, or `best` or `last`: then this one or none.
            force: go on although configuration, data or code differ (`ASSAY_RESUME=force` does the same).

        Returns:
            The state; None if this experiment has no checkpoint yet. `resumed` tells which, and what was skipped.

        Raises:
            CheckpointDamaged: if there are checkpoints and none of them holds.
            CheckpointMismatch: if the one that holds belongs to another configuration, data or code.
        """
        force = force or os.environ.get("ASSAY_RESUME", "").strip().lower() == "force"
        skipped: list[tuple[str, str]] = []
        for item in self._candidates(name):
            if item.failed and name is None:
                skipped.append((item.name, item.failed))
                continue
            try:
                manifest = verify_folder(item.folder)
                forced = self._require_same(manifest, force=force)
                state = read_state(item.folder, verify=False)
            except CheckpointDamaged as error:
                skipped.append((item.name, error.what))
                self._failed(item.name, "digest", error)
                continue
            if name in _CHOSEN and (odd := not_finite(encode(state, copy=False))):
                skipped.append((item.name, odd))
                self._set_aside(item.name, odd)
                continue
            self._adopt(manifest, tuple(skipped), forced)
            return state
        if skipped or name is not None:
            raise CheckpointDamaged(_nothing_holds(name, skipped), where=str(self.folder.path), next=_VERIFY)
        return None

    def _candidates(self, name: str | None) -> tuple[Stored, ...]:
        if name is not None:
            found = self.folder.pointed(name) if name in ("best", "last", "resume") else name
            return tuple(item for item in self.all() if item.name == found)
        everything = tuple(reversed(self.all()))
        first = self.folder.pointed("resume")
        return tuple(sorted(everything, key=lambda item: item.name != first)) if first else everything

    def _require_same(self, manifest: Manifest, *, force: bool) -> tuple[str, ...]:
        here = self._digests()
        pairs = {key: (getattr(manifest, key), here[key]) for key in DIGESTS}
        other = tuple(key for key, (then, now_) in pairs.items() if then and now_ and then != now_)
        if other and not force:
            shown = "; ".join(f"{key} {pairs[key][0]}, now {pairs[key][1]}" for key in other)
            raise CheckpointMismatch(
                f"saved under another {', '.join(key.removesuffix('_digest') for key in other)}: {shown}",
                where=manifest.name,
                next="start another experiment, or go on in spite of it: load(force=True) or ASSAY_RESUME=force",
            )
        return other

    def _adopt(
        self, manifest: Manifest, skipped: tuple[tuple[str, str], ...], forced: tuple[str, ...]
    ) -> None:
        self.resumed = Resumed(manifest.name, manifest.step, manifest.epoch, skipped, forced)
        self.cadence.saved(manifest.step, manifest.epoch)
        self._at = (manifest.step, manifest.epoch)
        if not self._ours():
            return
        with contextlib.suppress(OSError):
            self.folder.set_mark(manifest.name, "verified", level=self._level(manifest.name), detail="resume")
        tell = getattr(self.run, "resumed", None)
        if callable(tell):
            tell(manifest.name, manifest.step, manifest.epoch)
        else:
            self._event("resumed", name=manifest.name, step=manifest.step, epoch=manifest.epoch)
        if skipped or forced:
            told = [f"skipped {name}: {why}" for name, why in skipped]
            told += [f"forced in spite of another {key}" for key in forced]
            text = f"resumed from {manifest.name} (step {manifest.step}); {'; '.join(told)}"
            self._event("note", text=text)
            _say(text)

    def _level(self, name: str) -> str:
        found = self.folder.stored(name)
        return "restore" if found.verified == "restore" else "digest"

    # --- one save ---------------------------------------------------------------------------------------------------

    def _prepare(
        self,
        state: Mapping[str, Any],
        step: int,
        epoch: int | None,
        reason: str,
        samples: int | None,
        metrics: Mapping[str, Any] | None,
        *,
        copy: bool,
    ) -> _Job:
        encoded = encode(state, copy=copy)
        values, odd = plain_metrics(metrics)
        counters = state.get("counters")
        if samples is None and isinstance(counters, Mapping) and isinstance(counters.get("samples"), int):
            samples = counters["samples"]
        manifest = Manifest(
            name=self.folder.fresh_name(step, self.run.attempt),
            experiment=self.run.id,
            attempt=self.run.attempt,
            sequence=self.folder.next_sequence(),
            step=step,
            epoch=epoch,
            samples_seen=samples,
            time=now(),
            reason=reason,
            files=(),
            components=components_of(state),
            metrics=values,
            nonfinite=odd,
            versions=versions(),
            host=host(),
            replay=self._replay,
            **self._digests(),
        )
        self._saves += 1
        nth = self.policy.verify_every > 0 and self._saves % self.policy.verify_every == 0
        wanted = self.policy.verify == "restore" or nth or reason == "final"
        return _Job(manifest, encoded, is_best=False, value=None, restore=wanted)

    def _start(self, job: _Job, *, wait: bool) -> str | None:
        if wait:
            return job.manifest.name if self._write(job) else None
        # Not a daemon: the interpreter waits for it before it ends.
        self._thread = threading.Thread(
            target=self._write, args=(job,), name="assay-checkpoint", daemon=False
        )
        self._thread.start()
        return job.manifest.name

    def _write(self, job: _Job) -> bool:
        """Commit, point, verify, rotate; runs in the thread of an asynchronous save. Never raises."""
        name = job.manifest.name
        try:
            odd = not_finite(job.encoded)
            manifest = self.folder.commit(job.manifest, job.encoded, () if odd else self._extra(job))
        except Exception as error:  # noqa: BLE001 - a disk, or a source that vanished: the loop must go on
            self._proofs.drop(name)
            self._failed(name, "write", error)
            return False
        self._told_committed(manifest)
        if odd:
            self._proofs.drop(name)
            self._set_aside(name, odd)
            return False
        self._lead_to(manifest, job)
        try:
            verify_folder(self.folder.path / name)
        except CheckpointDamaged as error:
            self._proofs.drop(name)
            self._reject(name, "digest", error)
            return False
        with contextlib.suppress(OSError):  # no room for the mark: a resume reads every byte anyway
            self.folder.set_mark(name, "verified", level="digest")
        self._event(
            "checkpoint_verified", name=name, level="digest", detail=f"{manifest.size_bytes} bytes read back"
        )
        self._proofs.committed(name)
        self._rotate()
        self._proofs.reap()
        return True

    def _extra(self, job: _Job) -> list[tuple[str, Any]]:
        if not self.policy.legacy_names:
            return []
        metric = self.policy.best[0] if self.policy.best else "val_loss"
        value = job.value if job.is_best else self._best
        return [(LEGACY_FILE, legacy_writer(job.encoded, job.manifest, (metric, value)))]

    def _told_committed(self, manifest: Manifest) -> None:
        self._event(
            "checkpoint_committed",
            name=manifest.name,
            path=f"{self.folder.path.name}/{manifest.name}",
            step=manifest.step,
            epoch=manifest.epoch,
            metrics=dict(manifest.metrics),
            manifest_digest=manifest.digest,
            reason=manifest.reason,
        )

    def _set_aside(self, name: str, why: str) -> None:
        """Weights that are not finite are kept to be looked at; nothing leads to them and no resume takes them."""
        with contextlib.suppress(OSError):
            self.folder.set_mark(name, "failed", level="finite", detail=why)
        self.failures.append(f"{name}: finite: {why}")
        self._event("checkpoint_failed", name=name, level="finite", detail=why)
        good = self.latest()
        instead = (
            f"the last good one is {good.name}" if good is not None else "there is no good one before it"
        )
        _say(f"checkpoint {name}: {why}; kept aside, a resume does not take it; {instead}")

    def _lead_to(self, manifest: Manifest, job: _Job) -> None:
        """Let the pointers lead to a new checkpoint."""
        if job.is_best:
            self._best = job.value
        self.folder.remove_pointer("resume")  # from here on this attempt has a checkpoint of its own
        try:
            for pointer in ("last", "best") if job.is_best else ("last",):
                self._point(pointer, manifest.name)
        except OSError as error:  # the checkpoint itself is whole: a resume finds it without its pointer
            self._failed(manifest.name, "pointer", error)

    def _point(self, pointer: str, name: str) -> None:
        self.folder.point(pointer, name)
        if self.policy.legacy_names and (self.folder.path / name / LEGACY_FILE).exists():
            self.folder.point_file(f"{pointer}.pt", name, LEGACY_FILE)

    def _rotate(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            self.folder.rotate(
                self.run.id, self.run.attempt, self.policy.keep, self._proofs.names, tell=self._rotated
            )

    def _rotated(self, name: str) -> None:
        """Said before it goes: a checkpoint that is gone without this line was taken by somebody else."""
        self._event("checkpoint_rotated", name=name)

    def _free(self, *, wait: bool) -> bool:
        """Whether no save is in flight (any more)."""
        if self._thread is not None and (wait or not self._thread.is_alive()):
            self._thread.join()
            self._thread = None
        return self._thread is None

    # --- what is best -----------------------------------------------------------------------------------------------

    def _judge(self, metrics: Mapping[str, Any] | None) -> tuple[float | None, bool]:
        """The value that decides, and whether it is the best so far."""
        if self.policy.best is None or not metrics or self.policy.best[0] not in metrics:
            return None, False
        name, direction = self.policy.best
        value = plain_metrics({name: metrics[name]})[0].get(name)
        if value is None:
            return None, False
        return value, self._best is None or _better(value, self._best, direction)

    def _best_on_disk(self) -> float | None:
        """The best value of earlier attempts, from checkpoints that still read."""
        if self.policy.best is None:
            return None
        metric, direction = self.policy.best
        found = [
            item.manifest.metrics.get(metric) for item in self.all() if item.manifest and not item.failed
        ]
        finite = [value for value in found if isinstance(value, int | float) and math.isfinite(value)]
        return (min(finite) if direction == "min" else max(finite)) if finite else None

    # --- proofs -----------------------------------------------------------------------------------------------------

    def _queue(self, job: _Job) -> None:
        """Queue a restore; of the best ones that still wait, only the newest is worth one."""
        if job.restore:
            better = job.is_best and self.policy.verify != "restore"
            before = self.folder.pointed("best") if better else None
            last = job.manifest.reason == "final"
            self._proofs.add(job.manifest.name, job.manifest.step, last=last, instead_of=before)

    def _concluded(self, name: str, answer: Answer) -> None:
        if answer.ok is False:
            self._reject(name, "restore", CheckpointDamaged(answer.detail))
        elif answer.ok is None:
            self.failures.append(f"{name}: restore: {answer.detail}")
            self._event("note", text=f"{name} could not be restored to verify it: {answer.detail}")
        else:
            with contextlib.suppress(OSError):
                self.folder.set_mark(name, "verified", level="restore", detail=answer.detail)
            self._event("checkpoint_verified", name=name, level="restore", detail=answer.detail)

    def _reject(self, name: str, level: str, error: Exception) -> None:
        """A committed checkpoint does not hold: mark it, and lead the pointers away from it."""
        self._failed(name, level, error)
        with contextlib.suppress(OSError):
            self.folder.set_mark(name, "failed", level=level, detail=_text(error))
            if self.folder.pointed("last") == name and (latest := self.latest()) is not None:
                self._point("last", latest.name)
            if self.folder.pointed("best") == name:
                self._point_best()

    def _point_best(self) -> None:
        """Lead `best` to the best of those that hold; away if none does."""
        self._best = None
        if self.policy.best is None:
            return
        metric, direction = self.policy.best
        chosen: Stored | None = None
        for item in self.all():
            value = item.manifest.metrics.get(metric) if item.manifest and item.sound else None
            if value is not None and (self._best is None or _better(value, self._best, direction)):
                chosen, self._best = item, value
        if chosen is not None:
            self._point("best", chosen.name)
        else:
            self.folder.remove_pointer("best")
            self.folder.remove_pointer("best.pt")

    # --- signals ----------------------------------------------------------------------------------------------------

    def listen(self) -> bool:
        """Take over the signals of the policy's `preemption` and start its watchdog; False outside the main thread."""
        preemption = self.policy.preemption
        if preemption is None or not preemption.install():
            return False
        preemption.watch(self._late)
        return True

    def _asked(self) -> str | None:
        """The signal that waits for an answer."""
        preemption = self.policy.preemption
        return preemption.requested if preemption is not None and not preemption.answered else None

    def _take_signal(self) -> bool:
        """Take the signal that waits for an answer; True for the one caller that has to answer it."""
        with self._lock:
            name = self._asked()
            if name is None or self.policy.preemption is None:
                return False
            self.policy.preemption.answered = True
        request = getattr(self.run, "request_stop", None)
        if callable(request):
            request(name, "preemption")
        else:
            self._event("stop_requested", by=name, reason="preemption")
        return True

    def _save_at(self, step: int | None = None, epoch: int | None = None) -> None:
        """Save what the provider gives, as the answer to a signal."""
        if self.provider is not None:
            at, at_epoch = self._at
            here = (at if step is None else step, at_epoch if epoch is None else epoch)
            self.save(self.provider, step=here[0], epoch=here[1], reason="signal")

    def _late(self, name: str) -> None:
        """No loop answered. Where the state is at rest it is saved from here; elsewhere it is said."""
        phase = getattr(self.run, "phase_name", None) or getattr(self.run, "_phase", None)
        if phase in _AT_REST and self.provider is not None:
            if self._take_signal():
                self._save_at()
        elif self._asked() is not None:
            text = f"{name} is not answered: the loop uses neither run.track, run.phase nor run.should_stop"
            self._event("note", text=text)
            _say(text)

    # --- telling ----------------------------------------------------------------------------------------------------

    def _digests(self) -> dict[str, str | None]:
        given = self.policy.digests
        own = {
            "config": getattr(self.run, "config_digest", None),
            "data": getattr(self.run, "data_digest", None),
        }
        own["code"] = getattr(self.run, "code_digest", None) or self._code
        return {f"{name}_digest": given.get(name) or own[name] for name in ("config", "data", "code")}

    def _failed(self, name: str, level: str, error: Exception) -> None:
        text = _text(error)
        self.failures.append(f"{name}: {level}: {text}")
        self._event("checkpoint_failed", name=name, level=level, detail=text)
        _say(f"checkpoint {name}: {level}: {text}; training goes on, the older ones stay")

    def _event(self, kind: str, **fields: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.run.event(kind, **fields)

    def _ours(self) -> bool:
        """False in a forked worker and in a rank above 0: they must leave the files alone."""
        return os.getpid() == self._owner and not self._reads_only


_CHOSEN = (None, "last", "best", "resume")
"""How a resume asks for a checkpoint without naming one; named by its own name it is taken as it is."""
_VERIFY = "look with `assay checkpoint verify`; start another experiment to train from the beginning"


def _nothing_holds(name: str | None, skipped: list[tuple[str, str]]) -> str:
    if not skipped:
        return f"no checkpoint {name!r}"
    return "no checkpoint holds: " + "; ".join(f"{one}: {why}" for one, why in skipped)


def _better(value: float, than: float, direction: str) -> bool:
    return value < than if direction == "min" else value > than


def _script_digest() -> str | None:
    """Of the script that runs; None in a console, a notebook or a test runner's process."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not file or not str(file).endswith(".py"):
        return None
    try:
        return "sha256:" + hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return None


def _text(error: Exception) -> str:
    if isinstance(error, OSError):
        return " ".join(filter(None, [error.strerror or str(error)]))
    return str(error) or type(error).__name__


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"assay: {text}", file=sys.stderr, flush=True)
