"""From a request to train to its record: which experiment, which attempt, watched to its end, concluded once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay import __version__
from assay.core.errors import AssayError, UsageError
from assay.live import attempt as attempts
from assay.live.attempt import Process, Start
from assay.live.classes import CLASSES, Severity, StopMode
from assay.live.supervisor import TICK_S, Supervisor
from assay.live.thresholds import resolve, stop_modes
from assay.runtime.files import explaining
from assay.track import experiments, files, registry, system

WATCHER_LOCK = ".watcher.lock"
DONE = frozenset({"exited"})
"""Outcomes of an attempt that went as it should."""


@dataclass(frozen=True)
class Wanted:
    """What a new experiment is to be."""

    name: str = ""
    parent: str | None = None
    hypothesis: str | Path | None = None
    config: Any = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    require_hypothesis: bool = False

    @property
    def asks_for_new(self) -> bool:
        """It says something that only a new experiment can take."""
        return bool(self.parent or self.config is not None or self.plan)


def plan_of(made: Mapping[str, Any], rules: Mapping[str, Any], stop: Mapping[str, str]) -> dict[str, Any]:
    """A plan with the checker's part, refused now if the checker could not use it.

    Raises:
        SpecError: if a threshold, a class of fault or a mode is unknown.
    """
    plan = dict(made)
    if rules:
        plan["rules"] = dict(rules)
    if stop:
        plan["stop"] = dict(stop)
    resolve(plan)
    stop_modes(plan)
    return plan


def stop_policy(text: str) -> dict[str, str]:
    """`default`, `off`, `critical`, or `CLASS=MODE,...` as a plan's `stop`.

    Raises:
        UsageError: if it is none of these.
    """
    if text == "default":
        return {}
    if text == "off":
        return {row.name: "warn" for row in CLASSES.values() if row.stop is StopMode.STOP}
    if text == "critical":
        return {row.name: "stop" for row in CLASSES.values() if row.severity is Severity.CRITICAL}
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and sign and mode for name, sign, mode in pairs):
        raise UsageError(
            f"{text!r} is no stop policy",
            where="--stop",
            allowed="default, off, critical, or CLASS=off|warn|stop separated by commas",
        )
    return {name.strip(): mode.strip() for name, _, mode in pairs}


def open_experiment(root: Path, wanted: Wanted) -> Path:
    """Mint an experiment, or join the planned one of that id or name.

    Raises:
        UsageError: if it does not exist, has ended, is being trained, or its plan is fixed already; without a
            hypothesis where one is required; if the root is not writable.
        ComponentFailed: if the disk is full.
    """
    found = _named(root, wanted.name)
    if found is not None:
        _require_open(found)
        if wanted.asks_for_new:
            raise UsageError(
                "its plan is fixed since it was created",
                where=found.name,
                next="leave out --parent, --config, --primary and the thresholds, or choose another name",
            )
        if wanted.hypothesis is not None:
            with explaining(found / "hypothesis.md", then=attempts.FREE_SPACE):
                experiments.write_hypothesis(found, experiments.hypothesis_text(wanted.hypothesis))
        _require_hypothesis(wanted, (found / "hypothesis.md").is_file())
        return found
    if experiments.ID.fullmatch(wanted.name):
        known = ", ".join(experiments.ids(root)[-8:]) or "none yet"
        raise UsageError(f"no experiment {wanted.name!r}", where=str(root), allowed=known)
    _require_hypothesis(wanted, wanted.hypothesis is not None)
    try:
        with explaining(root, then=attempts.FREE_SPACE):
            return experiments.create(
                root,
                name=wanted.name,
                parent=wanted.parent,
                plan=wanted.plan,
                config=wanted.config,
                hypothesis=wanted.hypothesis,
            )
    except ValueError as error:
        raise UsageError(str(error), where="assay train") from error


def resumed(root: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    """The experiment that is to go on, and the command of its last attempt.

    Raises:
        UsageError: if there is none of that id or name, it has ended for good, or it is being trained.
    """
    found = _named(root, name, planned_only=False)
    if found is None:
        known = ", ".join(experiments.ids(root)[-8:]) or "none yet"
        raise UsageError(
            f"no experiment {name!r}", where=str(root), allowed=known, next="`assay experiment list`"
        )
    _require_open(found)
    started = [e for e in files.read_events(found) if e["event"] == "attempt_started"]
    command = started[-1].get("command") if started else None
    return found, tuple(str(c) for c in command) if isinstance(command, list) else ()


def begin(
    folder: Path, command: Sequence[str], *, env: Mapping[str, str], grace_s: float, limit_s: float | None
) -> Process:
    """Start the next attempt of an experiment.

    Raises:
        UsageError: if another attempt runs; see also `live.attempt.launch`.
        ComponentMissing, ComponentFailed: see there.
    """
    with explaining(folder, then=attempts.FREE_SPACE), files.folder_lock(folder, ".attempts.lock"):
        _require_open(folder)
        events = files.read_events(folder)
        number = experiments.next_attempt(events)
        hypothesis = experiments.ingest_hypothesis(folder, number, experiments.known_hypothesis(events))
        own = {
            "ASSAY_EXPERIMENT_DIR": str(folder.absolute()),
            "ASSAY_ATTEMPT": str(number),
            "ASSAY_WATCHER": str(os.getpid()),
        }
        if attempts.python_of(command) and "PYTHONUNBUFFERED" not in os.environ:
            own["PYTHONUNBUFFERED"] = "1"
        start = Start(folder, number, tuple(command), Path.cwd(), {**own, **env}, grace_s, limit_s)
        fields = {
            "config_digest": experiments.digest_of(folder / "config.yaml"),
            "hypothesis_digest": hypothesis,
            "resumed_from": None,
            "resumed_step": None,
            "versions": {"assay": __version__},
            "git": system.git(),
            "by": "assay train",
        }
        return attempts.launch(start, fields)


def unwatched(root: Path, name: str) -> Process:
    """The attempt of an experiment that nobody watches any more.

    Raises:
        UsageError: if it has no attempt that is not concluded, or `assay train` did not start it.
    """
    found = _named(root, name, planned_only=False)
    if found is None:
        raise UsageError(f"no experiment {name!r}", where=str(root), next="`assay experiment list`")
    number = _open_attempt(found)
    if number is None:
        raise UsageError(
            "no attempt of it is open", where=found.name, next=f"`assay train --resume {found.name}`"
        )
    if not attempts.status_path(found, number).is_file():
        raise UsageError(
            f"attempt {number} was not started by `assay train`",
            where=found.name,
            next=f"`assay watch {found.name}` shows it, `python -m assay.live {found}` judges it",
        )
    return attempts.found(found, number)


def conclude_ended(root: Path) -> list[str]:
    """Write the end of attempts whose watcher was killed and whose process has ended since; their ids."""
    concluded = []
    for name in experiments.ids(root):
        folder = root / name
        number = _open_attempt(folder) if (folder / "log").is_dir() else None
        if number is None or not attempts.status_path(folder, number).is_file():
            continue
        process = attempts.found(folder, number)
        if process.running():
            continue
        try:
            with watching(folder):
                attempts.conclude(process, stopped=_was_asked(folder, number))
        except (AssayError, OSError):
            continue  # it is watched after all, or cannot be written: then the state stays `lost`
        concluded.append(name)
    if concluded:
        with explaining(root, then=attempts.FREE_SPACE):
            registry.refresh(root)
    return concluded


@contextmanager
def watching(folder: Path) -> Iterator[None]:
    """Be the one watcher of an experiment.

    Raises:
        UsageError: if another process watches it.
    """
    path = folder / WATCHER_LOCK
    with explaining(path, then=attempts.FREE_SPACE):
        held = files.claim(path)
    if held is None:
        raise UsageError("another process watches it", where=folder.name, next=f"`assay watch {folder.name}`")
    try:
        yield
    finally:
        os.close(held)


def supervise(supervisor: Supervisor, process: Process, each: Callable[[Supervisor], Any]) -> dict[str, Any]:
    """Watch until the process has ended, and write how it ended; the fields of `attempt_ended`.

    Args:
        supervisor: of the attempt.
        process: of the attempt.
        each: called after each round.

    Raises:
        UsageError, ComponentFailed: if the end cannot be written.
    """
    while not process.wait(TICK_S):
        supervisor.tick()
        each(supervisor)
    stopped = supervisor.stop is not None
    supervisor.finish(attempts.ending_of(process.status, stopped=stopped))
    process.let_go()
    fields = attempts.conclude(process, stopped=stopped)
    supervisor.story.event(
        {"event": "attempt_ended", "attempt": process.attempt, "time": files.utc(), **fields}
    )
    each(supervisor)
    with explaining(supervisor.folder.parent, then=attempts.FREE_SPACE):
        registry.refresh(supervisor.folder.parent)
    return fields


def follow(supervisor: Supervisor, *, every_s: float = TICK_S) -> None:
    """Watch a training that started us: until it says that it has ended, or its process is gone (then it is `lost`).

    Raises:
        UsageError, ComponentFailed: if the end cannot be written.
    """
    while not supervisor.ended and _open_attempt(supervisor.folder) == supervisor.attempt:
        supervisor.tick()
        if supervisor.gone():
            supervisor.finish({"outcome": "lost"})
            fields: dict[str, Any] = {"outcome": "lost", "exit_code": None, "signal": None, "resources": {}}
            with explaining(supervisor.folder / "events.jsonl", then=attempts.FREE_SPACE):
                files.append_event(supervisor.folder, "attempt_ended", supervisor.attempt, fields)
            return
        time.sleep(every_s)
    supervisor.finish()


def _named(root: Path, name: str, *, planned_only: bool = True) -> Path | None:
    """The experiment of that id, or the newest one of that name (that has no attempt yet, if asked)."""
    if not name:
        return None
    if experiments.ID.fullmatch(name):
        return root / name if (root / name).is_dir() else None
    for known in reversed(experiments.ids(root)):
        events = files.read_events(root / known)
        created = next((e for e in events if e["event"] == "created"), {})
        tried = any(e["event"] == "attempt_started" for e in events)
        if created.get("name") == name and not (planned_only and tried):
            return root / known
    return None


def _require_open(folder: Path) -> None:
    events = files.read_events(folder)
    ends = [e["event"] for e in events if e["event"] in experiments.FINAL]
    if ends:
        raise UsageError(
            f"it is {ends[-1]}: what has ended takes no further attempt",
            where=folder.name,
            next=f"`assay train --parent {folder.name} -- ...` makes a child of it",
        )
    number = _open_attempt(folder)
    if number is not None:
        started = next(e for e in events if e["event"] == "attempt_started" and e.get("attempt") == number)
        if experiments.alive(started) is not False:
            raise UsageError(
                f"attempt {number} runs (process {started.get('pid')} on {started.get('host') or 'an unknown host'})",
                where=folder.name,
                next=f"`assay watch {folder.name}`, or `assay train --attach {folder.name}` if nobody watches it",
            )


def _open_attempt(folder: Path) -> int | None:
    """The newest attempt, if its end is not recorded."""
    number = None
    for event in files.read_events(folder):
        at = event.get("attempt")
        if event["event"] == "attempt_started" and isinstance(at, int):
            number = at
        elif event["event"] == "attempt_ended" and at == number:
            number = None
    return number


def _was_asked(folder: Path, attempt: int) -> bool:
    events = files.read_events(folder)
    return any(e["event"] == "stop_requested" and e.get("attempt") == attempt for e in events)


def _require_hypothesis(wanted: Wanted, there: bool) -> None:
    if wanted.require_hypothesis and not there:
        raise UsageError(
            "there is no hypothesis, and one is required before the start",
            where="--require-hypothesis",
            next='`--hypothesis "what should get better, by how much, and why"`, or the name of a file',
        )
