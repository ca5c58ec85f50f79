"""The first screen of a training experiment: its state, how it ended, what to do next, and a few numbers."""

from __future__ import annotations

from collections.abc import Mapping

from assay.core.experiment import FINAL, LIVE, Experiment, ExperimentState
from assay.core.experiment_result import primary_of, tier_of
from assay.core.sizes import size
from assay.live.watch import Story
from assay.report._view.first_screen import Figure, Headline
from assay.report._view.marks import Mark, Sign, Tone
from assay.report._view.text import duration, number, one_line, plural
from assay.report._view.training.attempts import real
from assay.report._view.training.curves import figure

_STATES: Mapping[ExperimentState, tuple[str, Tone, Sign]] = {
    ExperimentState.PLANNED: ("PLANNED", "idle", "dash"),
    ExperimentState.RUNNING: ("RUNNING", "open", "question"),
    ExperimentState.STOPPING: ("STOPPING", "open", "question"),
    ExperimentState.TRAINED: ("TRAINED", "good", "check"),
    ExperimentState.EVALUATED: ("EVALUATED", "good", "check"),
    ExperimentState.COMPLETE: ("COMPLETE", "good", "check"),
    ExperimentState.OVERRIDDEN: ("OVERRIDDEN", "odd", "bang"),
    ExperimentState.FAILED: ("FAILED", "bad", "cross"),
    ExperimentState.ABORTED: ("ABORTED", "idle", "dash"),
    ExperimentState.CRASHED: ("CRASHED", "bad", "cross"),
    ExperimentState.LOST: ("LOST", "odd", "bang"),
}


def headline(experiment: Experiment, story: Story) -> Headline:
    """The first screen, in whatever state the experiment is.

    Args:
        experiment: as the reader found it.
        story: the fold of the same files.
    """
    command, why = _next(experiment)
    return Headline(
        mark=_mark(experiment),
        text=_text(experiment, story) + _blocking(experiment),
        lead=experiment.hypothesis.text if experiment.hypothesis else story.hypothesis,
        notes=(),
        command=command,
        command_why=why,
        figures=_figures(experiment, story),
    )


def _mark(experiment: Experiment) -> Mark:
    critical = any(a.blocking for a in experiment.alerts)
    word, tone, sign = _STATES[experiment.state]
    stopped = experiment.last_attempt is not None and experiment.last_attempt.training_reason == "stopped"
    if experiment.state is ExperimentState.TRAINED and (critical or stopped):
        return Mark(
            "STOPPED" if stopped else word, "bad" if critical else "open", "cross" if critical else "bang"
        )
    return Mark(word, tone, sign)


def _text(experiment: Experiment, story: Story) -> str:
    last = experiment.last_attempt
    if last is None:
        return "No attempt has been started."
    steps = f"{number(story.step)} steps" if story.step is not None else f"{story.epochs_done} epochs"
    if last.stop_requested_by and last.training_reason != "completed":
        return f"Stopped after {steps} by {one_line(last.stop_requested_by, 60)}: {one_line(last.stop_reason, 200)}"
    if last.training_reason == "completed":
        return f"Trained to its end in {steps}."
    if last.exception:
        return f"Ended after {steps} by an exception: {one_line(last.exception, 200)}"
    if experiment.state is ExperimentState.LOST:
        return f"The process is gone after {steps}, and nothing tells how it ended."
    if last.outcome in ("killed", "crashed"):
        how = last.signal or (f"exit {last.exit_code}" if last.exit_code is not None else "an unknown end")
        return f"The process ended after {steps} with {how}."
    if experiment.state in LIVE:
        return f"Training: {steps} so far."
    return f"{steps} were recorded."


def _blocking(experiment: Experiment) -> str:
    count = sum(a.blocking for a in experiment.alerts)
    stopped = experiment.last_attempt is not None and experiment.last_attempt.stop_requested_by
    return (
        f" {plural(count, 'critical alert is', 'critical alerts are')} open." if count and not stopped else ""
    )


def _next(experiment: Experiment) -> tuple[str, str]:
    name = experiment.id
    if experiment.state in LIVE:
        return f"assay watch {name}", "follows it in a terminal"
    if experiment.state in (ExperimentState.CRASHED, ExperimentState.LOST):
        return f"assay train --resume {name}", "starts another attempt from the last verified checkpoint"
    if experiment.state in FINAL:
        return f"assay train --parent {name} -- COMMAND", "tries what grows out of it"
    return f"assay gate training {name}", "judges these files again"


def _figures(experiment: Experiment, story: Story) -> tuple[Figure, ...]:
    found = []
    primary = primary_of(experiment)
    plan = experiment.plan.primary
    if primary is not None and primary.metric.value is not None:
        tier = tier_of(experiment)
        reached = f"tier {tier.value}" if tier else "no thresholds are declared"
        found.append(
            Figure(primary.metric.name, figure(primary.metric.value), f"{reached}, from {primary.source}")
        )
    elif plan is not None:
        summary = experiment.rows.metric(plan.name)
        best = summary.best if summary is not None else None
        found.append(
            Figure(
                plan.name,
                figure(best) if best is not None else "none",
                "best so far" if best is not None else "no finite value was recorded",
            )
        )
    rows = experiment.rows
    planned = experiment.plan.total_steps or story.total_steps
    step = number(story.step) if story.step is not None else number(float(story.epochs_done))
    unit = "steps" if story.step is not None else "epochs"
    found.append(
        Figure(
            unit,
            step,
            f"of {number(float(planned))} planned"
            if planned and unit == "steps"
            else f"{rows.evaluations} evaluations",
        )
    )
    wall = sum(real(a.resources.get("wall_s")) or 0.0 for a in experiment.attempts)
    found.append(
        Figure("time", duration(wall) if wall else "unknown", plural(len(experiment.attempts), "attempt"))
    )
    memory = max((real(a.resources.get("max_rss_bytes")) or 0.0 for a in experiment.attempts), default=0.0)
    if memory:
        cpu = sum(
            (real(a.resources.get("user_s")) or 0.0) + (real(a.resources.get("system_s")) or 0.0)
            for a in experiment.attempts
        )
        found.append(Figure("peak memory", size(memory), f"{duration(cpu)} of processor time"))
    proven = [c for c in experiment.checkpoints if c.verified and not c.failed]
    found.append(Figure("checkpoints", str(len(experiment.checkpoints)), f"{len(proven)} verified"))
    still = [a for a in experiment.alerts if a.state != "resolved"]
    found.append(
        Figure(
            "open alerts",
            str(len(still)),
            f"{sum(a.blocking for a in still)} critical, {len(experiment.alerts)} in all",
        )
    )
    return tuple(found)
