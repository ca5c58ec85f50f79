"""Evaluate kind `experiment`: what the record of a training holds, as evidence; a test evaluation may come first.

The experiment is that of the step's seed, found by what the build steps of the trial left. With `all_seeds` it is
the runs of all seeds so far.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from assay.core.base import Noun, SpecPath
from assay.core.errors import ComponentFailed, UnreadableInput
from assay.core.evidence import Artifact, Evidence, Measurement
from assay.core.experiment import Experiment, PrimaryMetric
from assay.core.experiment_result import primary_of
from assay.core.experiment_state import hex_of, measurements, number_of
from assay.core.ports import Component, Session, Target
from assay.core.run import Run, Work
from assay.core.training_runs import SEED_SD, TrainedRun, TrainingRuns
from assay.core.vocabulary import FailureClass
from assay.readers.training import read_experiment
from assay.runtime import asking
from assay.runtime.files import artifact, digest_file, explaining, read_json, write_atomic
from assay.runtime.work import run_to_end
from assay.track.files import append_event

RECORD = "experiment.json"
SCHEMA = "trained/1"


class Options(Noun):
    """Options of `evaluate: {kind: experiment}`."""

    command: tuple[str, ...] = ()
    """Test evaluation of the best verified checkpoint: program and arguments, no shell. `{checkpoint}`, `{config}`,
    `{experiment}`, `{source}`, `{seed}`, `{python}` and `{out}` are replaced; it writes `{"metrics": {...}}` to `{out}`.
    Empty = the training's own last evaluation counts. Give the test metric a name of its own."""
    cwd: SpecPath = "."
    """Folder that it runs in."""
    env: Mapping[str, str] = Field(default_factory=dict)
    """Added to the environment."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Ended after this long; null = only by the study's budget."""
    all_seeds: bool = False
    """The runs of all seeds so far instead of one experiment; the job sets it."""


class Adapter:
    """Reads what was trained."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether the program of the test evaluation, if there is one, is on this machine."""
        program = (
            asking.filled(self.options.command[0], {"python": sys.executable}) if self.options.command else ""
        )
        detail = asking.missing(program) if program else ""
        return Component(
            verb="evaluate", kind="experiment", state="missing" if detail else "ready", detail=detail
        )

    def protocol(self) -> Mapping[str, Any]:
        """The test evaluation before anything is filled in."""
        return {"command": "\0".join(self.options.command)}

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """Read the experiment of this seed, or all of them.

        Raises:
            ComponentMissing: if the program of the test evaluation is not there.
            ComponentFailed: if nothing was trained, it cannot be read, or the test evaluation fails.
        """
        trained = _trained(session.workdir.parent)
        if self.options.all_seeds:
            return self._runs(target, trained)
        if session.seed not in trained:
            raise ComponentFailed(
                f"nothing was trained with seed {session.seed}", where=str(session.workdir.parent)
            )
        record = trained[session.seed]
        folder = Path(record["folder"])
        try:
            found = read_experiment(folder, digests=True)
            if self.options.command and record["checkpoint"]:
                self._test(found, record, target, session)
                found = read_experiment(folder, digests=True)
        except UnreadableInput as error:
            raise ComponentFailed(error.what, where=error.where or str(folder)) from error
        return found.model_copy(update={"artifacts": _kept(found, folder, session.workdir / "record")})

    # -- all seeds --------------------------------------------------------------------------------------

    def _runs(self, target: Target, trained: Mapping[int, Mapping[str, Any]]) -> TrainingRuns:
        metric: PrimaryMetric | None = None
        runs = []
        for seed, record in trained.items():
            found = read_experiment(Path(record["folder"]))
            metric = metric or found.plan.primary
            runs.append(_run(found, record, seed))
        name = metric.name if metric is not None else str(target.intent.get("metric") or "")
        values = [r.value.value for r in runs if r.value.value is not None]
        mean = statistics.fmean(values) if values and len(values) == len(runs) else None
        sd = statistics.stdev(values) if mean is not None and len(values) > 1 else None
        direction = metric.direction if metric is not None else None
        return TrainingRuns(
            subject=target.name,
            metric=metric or PrimaryMetric(name=name),
            runs=tuple(runs),
            protocol={"metric": name, **self.protocol()},
            measurements=(
                Measurement.of(name, mean, n=len(values), direction=direction),
                Measurement.of(SEED_SD, sd, n=len(values)),
            ),
        )

    # -- test evaluation --------------------------------------------------------------------------------

    def _test(self, found: Experiment, record: Mapping[str, Any], target: Target, session: Session) -> None:
        """Evaluate the best checkpoint, once, and record the result as result.md and in the experiment's events."""
        folder = Path(record["folder"])
        if hex_of(found.recorded_result.get("digest")):
            return  # done before a crash
        out = session.workdir / "test.json"
        values = {
            "python": sys.executable,
            "checkpoint": str(folder / "checkpoints" / str(record["checkpoint"])),
            "config": str(folder / "config.yaml"),
            "experiment": str(folder),
            "source": target.source,
            "seed": str(session.seed),
            "out": str(out),
        }
        limits = [t for t in (self.options.timeout_s, session.remaining_s()) if t is not None]
        work = Work(
            label=f"test {found.id}",
            command=tuple(asking.filled(part, values) for part in self.options.command),
            env=self.options.env,
            cwd=self.options.cwd,
            log=str(session.workdir / "test.log"),
            timeout_s=max(0.1, min(limits)) if limits else None,
        )
        session.note(f"testing the best checkpoint of {found.id}")
        run = run_to_end(session, work)
        if run.exit_code != 0:
            raise _failed(f"it ended with exit code {run.exit_code}", run)
        metrics = _metrics(out, run)
        name = str(target.intent.get("metric") or "")
        if number_of(metrics.get(name)) is None:
            raise _failed(f"it gave no finite {name!r}", run)
        self._recorded(found, folder, name, metrics)

    def _recorded(self, found: Experiment, folder: Path, name: str, metrics: Mapping[str, Any]) -> None:
        value = float(metrics[name])
        others = {m.name: m.value for m in measurements(metrics) if m.name != name and m.value is not None}
        secondary = "".join(f"\n  {_quoted(key)}: {other!r}" for key, other in others.items()) or " {}"
        plan = found.plan.primary
        tier = plan.thresholds.tier(value, plan.direction) if plan is not None and plan.direction else None
        text = (
            f"---\noracle_tier: {tier.value if tier is not None else 'none'}\n"
            f"primary_metric:\n  name: {_quoted(name)}\n  value: {value!r}\n  delta_vs_parent: null\n"
            f"secondary_metrics:{secondary}\n---\n\n# Result\n\n"
            "Test evaluation of the best verified checkpoint, run by Assay.\n\n## Shortfalls\n"
        )
        path = folder / "result.md"
        write_atomic(path, text.encode())
        fields = {
            "digest": digest_file(path),
            "primary": {"name": name, "value": value},
            "metrics": others,
            "tier": tier.value if tier is not None else None,
            "source": "test evaluation",
        }
        with explaining(folder):
            append_event(folder, "result", None, fields)


def _trained(trial: Path) -> dict[int, dict[str, Any]]:
    """Seed → what the build steps of a trial left, in the order in which they were done."""
    found: dict[int, dict[str, Any]] = {}
    for path in sorted(trial.glob(f"*/artifact/{RECORD}"), key=lambda p: p.stat().st_mtime_ns):
        record = read_json(path)
        if isinstance(record, dict) and record.get("schema") == SCHEMA:
            found[int(record["seed"])] = record
    return found


def _run(found: Experiment, record: Mapping[str, Any], seed: int) -> TrainedRun:
    primary = primary_of(found)
    name = str(record["metric"])
    walls = [number_of(a.resources.get("wall_s")) for a in found.attempts]
    known = [w for w in walls if w is not None]
    return TrainedRun(
        seed=seed,
        experiment=found.id,
        state=found.state.value,
        value=primary.metric if primary is not None else Measurement.of(name, None),
        recipe=str(record["recipe"]),
        checkpoint=str(record["checkpoint"]),
        head=found.head,
        wall_s=sum(known) if known else None,
    )


def _kept(found: Experiment, folder: Path, place: Path) -> tuple[Artifact, ...]:
    """Copies of the files that the evidence was read from: the experiment itself goes on to be written."""
    kept = []
    with explaining(place):
        place.mkdir(parents=True, exist_ok=True)
        for named in found.artifacts:
            shutil.copyfile(folder / named.path, place / named.path)
    for named in found.artifacts:
        copy = artifact(place / named.path)
        if copy.digest != named.digest:
            raise ComponentFailed(
                f"{named.path} changed while it was read",
                failure_class=FailureClass.INFRA_TRANSIENT,
                where=found.id,
            )
        kept.append(copy)
    return tuple(kept)


def _metrics(out: Path, run: Run) -> Mapping[str, Any]:
    try:
        value = read_json(out)
    except UnreadableInput as error:
        raise _failed(error.what, run) from error
    inside = value.get("metrics", value) if isinstance(value, dict) else None
    if not isinstance(inside, dict):
        raise _failed("what it wrote is no object of metrics", run)
    return inside


def _failed(what: str, run: Run) -> ComponentFailed:
    return ComponentFailed(
        f"the test evaluation failed: {what}",
        failure_class=FailureClass.BUDGET_EXHAUSTED if run.timed_out else FailureClass.UNKNOWN,
        where="evaluate.command",
        next=f"read {run.log}",
        log_tail=run.log_tail,
    )


def _quoted(text: str) -> str:
    """A JSON string is a YAML string."""
    import json  # noqa: PLC0415 - only here

    return json.dumps(text)
