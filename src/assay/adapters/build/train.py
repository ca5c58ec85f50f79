"""Build kind `train`: the user's training command, as an experiment that is recorded, watched and resumed.

It runs under `assay train`, in a process of its own, with one seed. What it makes is a folder that names the
experiment and holds its best verified checkpoint. A training that was cut short goes on from its newest verified
checkpoint; one that has ended is not repeated.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assay.core.base import Noun, SpecPath
from assay.core.candidate import Candidate
from assay.core.canon import digest
from assay.core.errors import ComponentFailed, ComponentMissing, UsageError
from assay.core.experiment import Experiment, ExperimentState
from assay.core.experiment_result import primary_of
from assay.core.experiment_state import number_of
from assay.core.ports import Component, Session
from assay.core.run import Run, Work
from assay.core.vocabulary import FailureClass
from assay.readers.training import read_experiment, read_state
from assay.runtime import asking
from assay.runtime.files import explaining, write_json
from assay.track import experiments

POLL_S = 0.2
NOTE_EVERY_S = 1.0
SCHEMA = "trained/1"
RECORD = "experiment.json"
"""File of the artifact that names the experiment."""
CUT_SHORT = frozenset({"killed", "lost"})
"""Outcomes of an attempt that say nothing about the training."""
REFUSED = frozenset({2, 5, 7})
"""Exit codes of `assay train` that speak of itself, not of the training."""
OWN_LIMIT = "watcher"
"""Who asks a training to stop when its time is over."""


class Options(Noun):
    """Options of `train: {kind: train}`."""

    command: tuple[str, ...] = Field(default=(), max_length=1000)
    """Program and arguments; no shell. `{config}` (a JSON file, which is YAML too), `{seed}`, `{source}`, `{python}`
    (that of Assay) and `{experiment}` (its folder) are replaced."""
    cwd: SpecPath = "."
    """Folder that it runs in."""
    env: Mapping[str, str] = Field(default_factory=dict)
    """Added to the environment."""
    steps: int | None = Field(default=None, ge=1)
    """Planned steps, for progress and rules."""
    epochs: int | None = Field(default=None, ge=1)
    """Planned epochs."""
    max_duration_s: float | None = Field(default=None, gt=0)
    """A training is asked to stop after so many seconds of one attempt; null = only by the study's budget."""
    rules: Mapping[str, float] = Field(default_factory=dict)
    """Limits of the checker that differ from its table."""
    on_alert: Mapping[str, Literal["off", "warn", "stop"]] = Field(default_factory=dict)
    """Class of fault → what an alert of it does to the training."""
    attempts: int = Field(default=3, ge=1, le=100)
    """How often in a row a training is taken up again that something outside of it has killed."""
    stop_grace_s: float = Field(default=30.0, gt=0)
    """A training that must end gets so long for a last checkpoint."""
    config: Mapping[str, Any] = Field(default_factory=dict)
    """What candidates change; the job fills it in."""
    metric: str = ""
    """The metric that counts; the job fills it in, and what follows."""
    direction: Literal["min", "max"] | None = None
    thresholds: Mapping[str, float] = Field(default_factory=dict)
    directions: Mapping[str, Literal["min", "max"]] = Field(default_factory=dict)
    """Of further metrics."""


class Adapter:
    """Trains one candidate with the seed of the step."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether the program is on this machine."""
        program = (
            asking.filled(self.options.command[0], {"python": sys.executable}) if self.options.command else ""
        )
        found = bool(program) and shutil.which(program, path=self._path()) is not None
        beside = Path(self.options.cwd, program)
        found = found or (os.sep in program and os.access(beside, os.X_OK))
        detail = "" if found else f"program {program!r} is not on PATH" if program else "no command is given"
        return Component(verb="build", kind="train", state="ready" if found else "missing", detail=detail)

    def intent(self) -> Mapping[str, Any]:
        """What evaluation must know: which metric counts."""
        return {"metric": self.options.metric}

    def build(self, candidate: Candidate, source: Path, out: Path, session: Session) -> Mapping[str, Any]:
        """Train, or go on with a training that was begun; the artifact appears at `out`.

        A training that fails is no error here: its record says so, and the gates judge that.

        Raises:
            ComponentMissing: if the program is not there.
            ComponentFailed: BUDGET_EXHAUSTED if the study's time is over; INFRA_TRANSIENT if it is killed time and again.
            UsageError: if the experiment cannot be written.
        """
        folder = self._experiment(candidate, session)
        killed = 0
        while (state := read_state(folder)) and not self._over(state):
            if killed >= self.options.attempts:
                raise ComponentFailed(
                    f"{folder.name} was killed {killed} times in a row",
                    failure_class=FailureClass.INFRA_TRANSIENT,
                    where=f"candidate {candidate.name}",
                    next=f"`assay experiment show {folder.name}`",
                    log_tail=state.last_attempt.log_tail if state.last_attempt is not None else "",
                )
            self._attempt(folder, source, session, fresh=not state.attempts)
            killed += 1
        found = read_experiment(folder, digests=True)
        return self._artifact(found, folder, candidate, out, session.seed)

    def _experiment(self, candidate: Candidate, session: Session) -> Path:
        """The experiment of this trial and seed: the one that was begun, or a new one."""
        root = experiments.experiments_root()
        trial = session.workdir.parent
        name = f"{trial.parent.name}-{trial.name.removeprefix('trial-')} {candidate.name} seed {session.seed}"
        found = _named(root, name)
        if found is not None:
            return found
        intent, options = candidate.intent, self.options
        parents = intent.get("parent_experiments")
        parent = parents.get(str(session.seed)) if isinstance(parents, Mapping) else None
        try:
            plan = experiments.make_plan(
                primary_metric=options.metric or None,
                direction={**options.directions, options.metric: options.direction}
                if options.direction
                else dict(options.directions) or None,
                thresholds=options.thresholds,
                total_steps=options.steps,
                total_epochs=options.epochs,
                seed=session.seed,
            )
            plan |= {k: dict(v) for k, v in (("rules", options.rules), ("stop", options.on_alert)) if v}
            with explaining(root):
                return experiments.create(
                    root,
                    name=name,
                    parent=str(parent or "none"),
                    plan=plan,
                    config={**options.config, "seed": session.seed},
                    hypothesis=_hypothesis(intent),
                )
        except ValueError as error:
            raise UsageError(str(error), where=f"candidate {candidate.name}") from error

    def _over(self, state: Experiment) -> bool:
        """Whether the training has come to its own end, good or bad, and nobody only cut it short."""
        last = state.last_attempt
        if last is None:
            return False
        if state.state in {ExperimentState.LOST, ExperimentState.RUNNING, ExperimentState.STOPPING}:
            return False
        if last.outcome in CUT_SHORT:
            return False
        # A script that heeds a request at once has exited before its watcher saw the request.
        if last.training_reason == "completed" or "stopped" not in {last.outcome, last.training_reason}:
            return True
        own = last.stop_requested_by == OWN_LIMIT and self.options.max_duration_s is not None
        return own or last.stop_requested_by == "checker"

    def _completed(self, state: Experiment) -> bool:
        return state.last_attempt is not None and state.last_attempt.training_reason == "completed"

    def _attempt(self, folder: Path, source: Path, session: Session, *, fresh: bool) -> None:
        """One process that trains, to its end."""
        left = session.remaining_s()
        limits = [t for t in (self.options.max_duration_s, left) if t is not None]
        values = {
            "python": sys.executable,
            "config": str(folder / "config.yaml"),
            "seed": str(session.seed),
            "source": str(source.absolute()),
            "experiment": str(folder),
        }
        command = [asking.filled(part, values) for part in self.options.command]
        wrapped = [sys.executable, "-m", "assay", "train", "--quiet", "--no-live"]
        wrapped += ["--experiment" if fresh else "--resume", folder.name]
        wrapped += ["--stop-grace", f"{self.options.stop_grace_s:g}"]
        wrapped += ["--max-duration", f"{max(0.1, min(limits)):g}"] if limits else []
        work = Work(
            label=f"train {folder.name}",
            command=(*wrapped, "--", *command),
            env={**self.options.env, "ASSAY_HOME": str(folder.parent.parent)},
            cwd=self.options.cwd,
            log=str(session.workdir / "train.log"),
        )
        run = self._wait(work, folder, session)
        after = read_state(folder)
        self._require_begun(run, after)
        last = after.last_attempt
        by_limit = last is not None and last.stop_requested_by == OWN_LIMIT and not self._completed(after)
        if by_limit and left is not None and left <= min(limits):
            raise ComponentFailed(
                "the wall-time budget was used up while it trained; what it has is kept",
                failure_class=FailureClass.BUDGET_EXHAUSTED,
                where=folder.name,
            )

    def _require_begun(self, run: Run, after: Experiment) -> None:
        """`assay train` may refuse before anything is trained, or fail itself: neither is the recipe's fault."""
        if run.exit_code in REFUSED or (not after.attempts and run.exit_code != 0):
            what = next((x for x in reversed(run.log_tail.splitlines()) if x.startswith("assay:")), "")
            raise (ComponentMissing if "does not exist" in what else ComponentFailed)(
                what.removeprefix("assay: ") or f"`assay train` ended with exit code {run.exit_code}",
                where=f"train.command: {self.options.command[0]}",
                next=f"read {run.log}",
            )

    def _wait(self, work: Work, folder: Path, session: Session) -> Run:
        """Run it; whatever interrupts us asks the training for a last checkpoint first."""
        handle = session.execute.submit(work)
        noted = 0.0
        try:
            while (run := session.execute.poll(handle, POLL_S)).wall_s is None:
                if time.monotonic() - noted > NOTE_EVERY_S:
                    noted = time.monotonic()
                    session.note(*_progress(folder))
        except BaseException:
            with contextlib.suppress(OSError):
                experiments.request_stop(folder, "study", "the study was interrupted")
            deadline = time.monotonic() + self.options.stop_grace_s
            while time.monotonic() < deadline:
                if session.execute.poll(handle, POLL_S).wall_s is not None:
                    break
            session.execute.cancel(handle)
            raise
        return run

    def _artifact(
        self, found: Experiment, folder: Path, candidate: Candidate, out: Path, seed: int
    ) -> Mapping[str, Any]:
        checkpoint = _verified(found)
        primary = primary_of(found)
        recipe = digest(
            {"config": dict(candidate.build.options.get("config") or {}), "command": self.options.command}
        )
        record = {
            "schema": SCHEMA,
            "experiment": found.id,
            "folder": str(folder),
            "seed": seed,
            "recipe": recipe,
            "checkpoint": checkpoint,
            "metric": self.options.metric,
            "value": primary.metric.value if primary is not None else None,
            "state": found.state.value,
        }
        with explaining(out):
            out.mkdir()
            write_json(out / RECORD, record)
            for name in ("config.yaml", "hypothesis.md"):
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, out / name)
            if checkpoint:
                _link_tree(folder / "checkpoints" / checkpoint, out / "checkpoint")
        return {**record, "attempts": len(found.attempts)}

    def _path(self) -> str | None:
        return self.options.env.get("PATH") or os.environ.get("PATH")


def _named(root: Path, name: str) -> Path | None:
    """The experiment that was created under a name; its own first event says so."""
    for known in reversed(experiments.ids(root)):
        try:
            with (root / known / "events.jsonl").open("rb") as file:
                created = json.loads(file.readline(1 << 20))
        except (OSError, ValueError):
            continue
        if isinstance(created, dict) and created.get("name") == name:
            return root / known
    return None


def _hypothesis(intent: Mapping[str, Any]) -> str:
    claim = str(intent.get("hypothesis") or "").strip()
    return f"# Hypothesis\n\n{claim}\n\n## Rationale\n\n{str(intent.get('rationale') or '').strip()}\n"


def _verified(found: Experiment) -> str:
    """The best checkpoint that was proven and lies intact on disk, else the newest such one; empty if none does."""
    sound = [c for c in found.checkpoints if c.verified and not c.failed and c.on_disk == "intact"]
    pointers = found.facts.get("pointers")
    best = pointers.get("best") if isinstance(pointers, Mapping) else None
    names = [c.name for c in sorted(sound, key=lambda c: c.committed_seq)]
    return str(best) if best in names else names[-1] if names else ""


def _link_tree(source: Path, target: Path) -> None:
    """The same files a second time: linked, so that rotation in the experiment takes nothing away; else copied."""
    target.mkdir()
    for path in sorted(source.rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir()
            continue
        try:
            os.link(path, to)
        except OSError:
            shutil.copyfile(path, to)


def _progress(folder: Path) -> tuple[str, float | None]:
    """What the snapshot of the tracker says, for whoever watches the study."""
    try:
        status = json.loads((folder / "training_status.json").read_bytes())
    except (OSError, ValueError):
        return f"{folder.name} is starting", None
    if not isinstance(status, dict):
        return f"{folder.name} trains", None
    places = (("epoch", "total_epochs"), ("step", "total_steps"))
    pairs = [(number_of(status.get(at)), number_of(status.get(of))) for at, of in places]
    done = next((min(1.0, at / of) for at, of in pairs if at is not None and of), None)
    metrics = status.get("metrics")
    shown = metrics.items() if isinstance(metrics, dict) else ()
    text = ", ".join(f"{name} {value:.4g}" for name, value in list(shown)[:3] if number_of(value) is not None)
    return f"{folder.name} {text}".strip(), done
