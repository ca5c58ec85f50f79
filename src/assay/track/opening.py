"""How a script gets its run: a new experiment, the one that `assay train` opened, or one to go on with."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.track import _switch, experiments, files, system, values
from assay.track.tracker import Run, Stop
from assay.track.writer import Sink

FOLDER = "ASSAY_EXPERIMENT_DIR"
ATTEMPT = "ASSAY_ATTEMPT"
WATCHER = "ASSAY_WATCHER"
NO_PLACE = (
    "assay: the experiment cannot be recorded there. Make the folder writable, set ASSAY_HOME to one that is, or train "
    "without a record: ASSAY_TRACK=off"
)
STOPS = ("flag", "raise", "off")
SINKS = ("mlflow", "tensorboard", "trackio", "wandb")

_joined: set[str] = set()


def experiment(  # noqa: PLR0913 - the public door: every argument may be left out
    name: str | None = None,
    *,
    config: Any = None,
    hypothesis: str | Path | None = None,
    parent: str | None = None,
    primary_metric: str | None = None,
    direction: str | Mapping[str, str] | None = None,
    thresholds: Mapping[str, float | str] | None = None,
    total_steps: int | None = None,
    total_epochs: int | None = None,
    seed: int | None = None,
    root: str | Path | None = None,
    stop: Stop = "flag",
    watch: Any = None,
    resume: str | bool | None = None,
    phase: str = "train",
    sinks: Sequence[str | Sink] | Mapping[str, Mapping[str, Any]] = (),
    live: bool = False,
) -> Run:
    """Open an experiment, or join the one that `assay train` opened (`ASSAY_EXPERIMENT_DIR`).

    Args:
        name: for people.
        config: architecture, hyperparameters, hash of the split; frozen in config.yaml.
        hypothesis: what is expected and why: text, or the path of a file.
        parent: an id; `auto` (as None: the best complete experiment, else the last), `best`, `last`, `none`.
        primary_metric: the one metric that the experiment is judged by.
        direction: `min` or `max`; or metric → direction. Without it the metric's name decides.
        thresholds: of `floor`, `goal`, `stretch`: numbers, or text such as `> 0.9`.
        total_steps: planned.
        total_epochs: planned.
        seed: recorded; no generator is touched.
        root: folder of the experiments; `.assay/experiments` if absent.
        stop: after a request to stop: set `should_stop`, raise `StopTraining`, or ignore it.
        watch: a model, or a pair of model and optimizer; as `Run.watch`.
        resume: id of an experiment to go on with; True: the newest of this name that has not ended, else a new one.
        phase: of the project.
        sinks: trackers to mirror to: `mlflow`, `tensorboard`, `trackio`, `wandb` (offline), or objects of your own; or
            name → options. One that does not open is told on stderr and left out.
        live: start a checker beside this script (`assay train` brings its own): it writes alerts.jsonl, asks for a stop
            where the policy says so, and sees a hang. It ends with the run.

    Returns:
        The run; one that does nothing where tracking is off.

    Raises:
        ValueError: if an argument cannot be understood; nothing is written then.
        OSError: if the folder is not writable; `ASSAY_TRACK=off` trains without a record.
    """
    if stop not in STOPS:
        raise ValueError(f"stop is one of {', '.join(STOPS)}, not {stop!r}")
    unknown = [kind for kind in sinks if isinstance(kind, str) and kind not in SINKS]
    if unknown:
        raise ValueError(f"no sink {unknown[0]!r} (allowed: {', '.join(SINKS)}, or an object)")
    plan = experiments.make_plan(
        primary_metric=primary_metric,
        direction=direction,
        thresholds=thresholds,
        total_steps=total_steps,
        total_epochs=total_epochs,
        seed=seed,
    )
    joined = os.environ.get(FOLDER, "")
    why = _switch.why_off()
    if why:
        return Run(Path(joined) if joined else None, name=name or "", plan=plan, stop=stop, off=why)
    try:
        if joined and root is None and joined not in _joined:
            _joined.add(joined)
            run = _join(Path(joined), plan, name or "", stop)
        else:
            place = experiments.experiments_root(root)
            folder = _to_resume(place, resume, name) if resume else None
            again = folder is not None
            if folder is None:
                folder = experiments.create(
                    place,
                    name=name or "",
                    parent=parent,
                    phase=phase,
                    plan=plan,
                    config=config,
                    hypothesis=hypothesis,
                )
            run = _attempt(folder, plan, name or "", stop, adopt=again)
    except OSError as error:
        error.add_note(NO_PLACE)
        raise
    _complete(run, config, hypothesis)
    if sinks and not run.disabled:
        run.mirror(sinks)
    if live and not os.environ.get(WATCHER):
        run.start_checker()
    if watch is not None:
        run.watch(*(watch if isinstance(watch, tuple) else (watch,)))
    return run


def _attempt(folder: Path, plan: Mapping[str, Any], name: str, stop: Stop, *, adopt: bool) -> Run:
    """A new attempt of this process; a run that does nothing where another process trains there now."""
    other = files.claim(folder / ".tracker.lock")
    if other is None:
        why = "another process records this experiment"
        print(f"assay: {folder.name}: {why} now; this one is not recorded", file=sys.stderr)
        return Run(folder, name=name, plan=plan, stop=stop, off=why)
    os.close(other)
    started = experiments.start_attempt(folder, command=system.command_line())
    run = Run(folder, attempt=started["attempt"], name=name, plan=_plan_of(folder, plan), stop=stop)
    run.open(adopt=adopt, own_attempt=started)
    if adopt:
        _promise(run, plan)
    return run


def _join(folder: Path, plan: Mapping[str, Any], name: str, stop: Stop) -> Run:
    """The run of the attempt that `assay train` started; an attempt of our own where it named none."""
    folder.mkdir(parents=True, exist_ok=True)
    events = files.read_events(folder)
    created = next((e for e in events if e["event"] == "created"), None)
    if created is None:
        said = {"experiment": folder.name, "name": values.text(name), "parent": None, "phase": "train"}
        digest = experiments.digest_of(folder / "config.yaml")
        created = files.append_event(
            folder, "created", None, {**said, "plan": dict(plan), "config_digest": digest}
        )
    name = name or str(created.get("name") or "")
    told = os.environ.get(ATTEMPT, "").strip()
    if not (told.isdigit() and int(told) > 0):
        return _attempt(folder, plan, name, stop, adopt=True)
    run = Run(folder, attempt=int(told), name=name, plan=_plan_of(folder, plan), stop=stop)
    run.open(adopt=True)
    _promise(run, plan)
    return run


def _promise(run: Run, plan: Mapping[str, Any]) -> None:
    """Record what the script adds to the plan as it stands; what comes too late, or differs, is told and not taken."""
    if run.disabled:
        return
    events = files.read_events(run.folder)
    held = _recorded_plan(events)
    added = {key: value for key, value in plan.items() if key not in held}
    other = sorted(key for key, value in plan.items() if key in held and held[key] != value)
    late = sorted(added) if any(e["event"] == "evaluated" for e in events) else []
    if added and not late:
        run.event("planned", plan=added)
    for keys, why in ((other, "differs from the plan, which was recorded first"),
                      (late, "was named after the first evaluation")):  # fmt: skip
        if keys:
            run.note(f"{', '.join(keys)} of the script {why}: it does not count")
            print(f"assay: {', '.join(keys)} of the script {why}: it does not count", file=sys.stderr)


def _complete(run: Run, config: Any, hypothesis: str | Path | None) -> None:
    """Add what the script knows and the folder does not."""
    if run.disabled:
        return
    text = experiments.hypothesis_text(hypothesis)
    if text and not (run.folder / "hypothesis.md").exists():
        experiments.write_hypothesis(run.folder, text)
        run.read_hypothesis()
    if config is not None:
        run.configure(config)


def _plan_of(folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded plan; what was recorded first counts, the script adds what it does not say."""
    return {**given, **_recorded_plan(files.read_events(folder))}


def _recorded_plan(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The plan as it stands: of `created`, and what `planned` added to it."""
    recorded: dict[str, Any] = {}
    for event in events:
        if event["event"] in ("created", "planned") and isinstance(event.get("plan"), dict):
            recorded = {**event["plan"], **recorded}
    return recorded


def _to_resume(root: Path, resume: str | bool, name: str | None) -> Path | None:
    """The folder to go on in; None if `resume=True` finds none.

    Raises:
        ValueError: if an id is named that does not exist.
    """
    if isinstance(resume, str):
        folder = root / resume
        if not (folder / "events.jsonl").is_file():
            known = ", ".join(experiments.ids(root)) or "none"
            raise ValueError(f"no experiment {resume!r} in {root} (known: {known})")
        return folder
    for ident in reversed(experiments.ids(root)):
        events = files.read_events(root / ident)
        created = next((e for e in events if e["event"] == "created"), None)
        if created is None or any(e["event"] in experiments.FINAL for e in events):
            continue
        if name is None or created.get("name") == name:
            return root / ident
    return None
