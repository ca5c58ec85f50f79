"""What the report of a training experiment shows, as plain typed data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.core.experiment import FINAL, LIVE, Experiment, ExperimentState
from assay.core.experiment_result import primary_of, tier_of
from assay.core.verdict import Verdict
from assay.core.vocabulary import Direction
from assay.live.watch import Story
from assay.report._view import marks
from assay.report._view.curves import TONES, Chart, charts, figure, signal_charts
from assay.report._view.marks import Mark, Sign, Tone
from assay.report._view.text import MINUS, duration, measured, moment, number, one_line, plain, plural, size

ALERTS_LIMIT = 200
CHECKPOINTS_LIMIT = 100
CONFIG_CHARS = 20_000
TEXT_CHARS = 20_000


@dataclass(frozen=True)
class Figure:
    """A number at the top."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class AlertView:
    """One incident with its evidence."""

    mark: Mark
    name: str
    state: str
    where: str
    text: str
    evidence: tuple[tuple[str, str], ...]
    action: str
    joined: str


@dataclass(frozen=True)
class CheckpointView:
    """One checkpoint."""

    name: str
    step: str
    epoch: str
    reason: str
    metrics: str
    mark: Mark
    detail: str


@dataclass(frozen=True)
class AttemptView:
    """One attempt."""

    number: int
    mark: Mark
    when: str
    how: str
    used: str
    resumed: str
    command: str
    process: str
    tail: str


@dataclass(frozen=True)
class Relative:
    """An experiment of the family."""

    id: str
    name: str
    state: str
    value: str
    delta: str
    hypothesis: str
    own: bool
    child: bool


@dataclass(frozen=True)
class Item:
    """One thing that the gate looked at."""

    mark: Mark
    text: str
    detail: str


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    id: str
    name: str
    when: str
    mark: Mark
    headline: str
    hypothesis: str
    rationale: str
    notes: tuple[str, ...]
    command: str
    command_why: str
    figures: tuple[Figure, ...]
    charts: tuple[Chart, ...]
    signals: tuple[Chart, ...]
    alerts: tuple[AlertView, ...]
    checkpoints: tuple[CheckpointView, ...]
    attempts: tuple[AttemptView, ...]
    family: tuple[Relative, ...]
    gate: Mark
    gate_detail: str
    items: tuple[Item, ...]
    config: str
    plan: tuple[tuple[str, str], ...]
    diagnosis: str
    chain: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]


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


def build_page(
    experiment: Experiment, story: Story, verdict: Verdict, family: Sequence[Experiment] = ()
) -> Page:
    """The page of an experiment in whatever state it is.

    Args:
        experiment: as the reader found it.
        story: the fold of the same files, for the curves.
        verdict: of gate `training`.
        family: all experiments of the root, for the lineage.
    """
    alerts = sorted(
        experiment.alerts, key=lambda a: (a.state == "resolved", _SEVERITIES.get(a.severity, 0), a.id)
    )
    mark = _mark(experiment, any(a.blocking for a in alerts))
    return Page(
        title=f"{mark.word}: {experiment.id} {one_line(experiment.name, 60)}".strip(),
        id=experiment.id,
        name=one_line(experiment.name, 80),
        when=moment(experiment.created) if experiment.created else "",
        mark=mark,
        headline=_headline(experiment, story) + _blocking(experiment),
        hypothesis=experiment.hypothesis.text if experiment.hypothesis else story.hypothesis,
        rationale=experiment.hypothesis.rationale[:TEXT_CHARS] if experiment.hypothesis else "",
        notes=tuple(one_line(n, 600) for n in experiment.notes[-20:]),
        command=_next(experiment)[0],
        command_why=_next(experiment)[1],
        figures=_figures(experiment, story),
        charts=charts(story),
        signals=signal_charts(story),
        alerts=tuple(_alert(a) for a in alerts[:ALERTS_LIMIT]),
        checkpoints=_checkpoints(experiment),
        attempts=tuple(_attempt(a, story) for a in experiment.attempts),
        family=lineage(experiment, family),
        gate=marks.status_mark(verdict.status),
        gate_detail=verdict.detail,
        items=tuple(_item(r) for r in verdict.reasons),
        config=_json(experiment.config),
        plan=_plan(experiment),
        diagnosis=plain(experiment.diagnosis)[:TEXT_CHARS],
        chain=_chain(experiment),
        problems=tuple(one_line(str(p), 300) for p in experiment.problems[:40]),
    )


_SEVERITIES = {"critical": 0, "warning": 1, "info": 2}


def lineage(experiment: Experiment, family: Sequence[Experiment]) -> tuple[Relative, ...]:
    """Ancestors from the root on, the experiment itself, and its children. A circle is walked once."""
    known = {e.id: e for e in family} | {experiment.id: experiment}
    chain = [experiment]
    seen = {experiment.id}
    while (parent := known.get(chain[0].parent)) is not None and parent.id not in seen:
        seen.add(parent.id)
        chain.insert(0, parent)
    children = [e for e in family if e.parent == experiment.id and e.id not in seen]
    return tuple(_relative(e, known, experiment, e in children) for e in [*chain, *children])


def _relative(one: Experiment, known: Mapping[str, Experiment], own: Experiment, child: bool) -> Relative:
    found, delta = primary_of(one), ""
    parent = known.get(one.parent)
    before = primary_of(parent) if parent is not None else None
    value = found.metric.value if found is not None else None
    if found is not None and before is not None and found.metric.name == before.metric.name:
        then = before.metric.value
        if value is not None and then is not None:
            delta = f"{value - then:+.4g}".replace("-", MINUS)
    return Relative(
        id=one.id,
        name=one_line(one.name, 60),
        state=one.state.value,
        value=f"{found.metric.name} {figure(value)}" if found is not None and value is not None else "",
        delta=delta,
        hypothesis=one_line(one.hypothesis.text if one.hypothesis else "", 160),
        own=one.id == own.id,
        child=child,
    )


def _mark(experiment: Experiment, critical: bool) -> Mark:
    word, tone, sign = _STATES[experiment.state]
    stopped = experiment.last_attempt is not None and experiment.last_attempt.training_reason == "stopped"
    if experiment.state is ExperimentState.TRAINED and (critical or stopped):
        return Mark(
            "STOPPED" if stopped else word, "bad" if critical else "open", "cross" if critical else "bang"
        )
    return Mark(word, tone, sign)


def _headline(experiment: Experiment, story: Story) -> str:
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
    wall = sum(_real(a.resources.get("wall_s")) or 0.0 for a in experiment.attempts)
    found.append(
        Figure("time", duration(wall) if wall else "unknown", plural(len(experiment.attempts), "attempt"))
    )
    memory = max((_real(a.resources.get("max_rss_bytes")) or 0.0 for a in experiment.attempts), default=0.0)
    if memory:
        cpu = sum(
            (_real(a.resources.get("user_s")) or 0.0) + (_real(a.resources.get("system_s")) or 0.0)
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


def _alert(alert: Any) -> AlertView:
    tone = TONES.get(alert.severity, "odd")
    sign: Sign = {"critical": "cross", "warning": "bang"}.get(alert.severity, "question")  # type: ignore[assignment]
    resolved = alert.state == "resolved"
    first = alert.first_seen_step if alert.first_seen_step is not None else alert.step
    where = f"step {first}" if first is not None else "before the first step"
    if alert.attempt not in (None, 1):
        where += f", attempt {alert.attempt}"
    pairs = (
        ("observed", _said(alert.observed)),
        ("against", _said(alert.reference)),
        ("rule", one_line(alert.rule, 160)),
        ("limit", _said(alert.threshold)),
        ("found", plural(alert.count or 1, "time")),
    )
    return AlertView(
        mark=Mark(alert.severity or "unknown", "idle" if resolved else tone, "check" if resolved else sign),
        name=one_line(alert.name, 60),
        state="resolved" if resolved else "open",
        where=where,
        text=one_line(alert.text, 400),
        evidence=tuple((k, v) for k, v in pairs if v),
        action=one_line(alert.action, 300),
        joined=", ".join(one_line(j, 40) for j in alert.joined),
    )


def _said(value: Any) -> str:
    if value is None:
        return ""
    return figure(value) if isinstance(value, float) else one_line(value, 120)


def _checkpoints(experiment: Experiment) -> tuple[CheckpointView, ...]:
    found = []
    for one in reversed(experiment.checkpoints[-CHECKPOINTS_LIMIT:]):
        if one.failed or one.on_disk in ("changed", "missing"):
            mark = Mark(
                "damaged"
                if one.on_disk == "changed"
                else "missing"
                if one.on_disk == "missing"
                else "failed",
                "bad",
                "cross",
            )
        elif one.on_disk == "rotated":
            mark = Mark("rotated away", "idle", "dash")
        elif one.verified:
            mark = Mark(f"verified by {one.verified[-1]}", "good", "check")
        else:
            mark = Mark("not verified", "open", "question")
        values = ", ".join(
            f"{one_line(m.name, 40)} {figure(m.value)}" for m in one.metrics[:4] if m.value is not None
        )
        found.append(
            CheckpointView(
                name=one_line(one.name, 80),
                step="" if one.step is None else f"{one.step:,}",
                epoch="" if one.epoch is None else str(one.epoch),
                reason=one_line(one.reason, 40),
                metrics=values,
                mark=mark,
                detail=one_line(one.failed or one.detail, 200),
            )
        )
    return tuple(found)


def _attempt(attempt: Any, story: Story) -> AttemptView:
    outcome = attempt.outcome or "no end recorded"
    fine = outcome == "exited" and attempt.exit_code in (0, None)
    tone: Tone = (
        "good" if fine else "open" if outcome == "stopped" else "idle" if not attempt.outcome else "bad"
    )
    sign: Sign = (
        "check" if fine else "bang" if outcome == "stopped" else "dash" if not attempt.outcome else "cross"
    )
    how = attempt.signal or (f"exit {attempt.exit_code}" if attempt.exit_code is not None else "")
    used = attempt.resources
    parts = []
    if (wall := _real(used.get("wall_s"))) is not None:
        parts.append(duration(wall))
    if (user := _real(used.get("user_s"))) is not None:
        parts.append(f"{duration(user + (_real(used.get('system_s')) or 0.0))} of processor time")
    if (memory := _real(used.get("max_rss_bytes"))) is not None:
        parts.append(f"{size(memory)} at most")
    told = story.attempts.get(attempt.number)
    place = f"process {attempt.pid} on {one_line(attempt.host, 60)}" if attempt.pid is not None else ""
    return AttemptView(
        number=attempt.number,
        mark=Mark(outcome, tone, sign),
        when=moment(attempt.started) if attempt.started else "",
        how=how,
        used=", ".join(parts),
        resumed=f"from {one_line(attempt.resumed_from, 80)} at step {attempt.resumed_step}"
        if attempt.resumed_from
        else "",
        command=one_line(" ".join(attempt.command), 2000),
        process=", ".join(
            p for p in (place, f"git {told.git}" if told is not None and told.git else "") if p
        ),
        tail=plain(attempt.log_tail)[-8000:],
    )


def _item(reason: Any) -> Item:
    mark = Mark("met", "good", "check") if reason.ok else Mark("unmet", "bad", "cross")
    shown = measured(reason.measured, reason.unit)
    limit = measured(reason.limit, reason.unit)
    detail = ", ".join(
        p
        for p in (
            f"is {shown}" if shown else "",
            f"limit {limit}" if limit else "",
            one_line(reason.where, 120),
        )
        if p
    )
    return Item(mark, one_line(reason.text, 400), detail)


def _plan(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    plan = experiment.plan
    found: list[tuple[str, str]] = []
    if plan.primary is not None:
        way = (
            {Direction.LOWER: "lower is better", Direction.HIGHER: "higher is better"}.get(
                plan.primary.direction
            )
            if plan.primary.direction
            else None
        )
        found.append(("primary metric", f"{plan.primary.name}, {way or 'no direction declared'}"))
        found += [(t.value, figure(v)) for t, v in plan.primary.thresholds.declared]
    for label, value in (("steps", plan.total_steps), ("epochs", plan.total_epochs), ("seed", plan.seed)):
        if value is not None:
            found.append((label, f"{value:,}" if label != "seed" else str(value)))
    found += [(f"rule {one_line(k, 40)}", one_line(v, 60)) for k, v in plan.rules.items()]
    found += [(f"on {one_line(k, 40)}", one_line(v, 20)) for k, v in plan.stop.items()]
    return tuple(found)


def _chain(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    word = "intact" if experiment.chain_intact else "broken" if experiment.events else "no events"
    pairs = (
        ("events", f"{len(experiment.events):,}, chain {word}"),
        ("head", experiment.head),
        ("rows", f"{experiment.rows.steps:,} steps, {experiment.rows.evaluations:,} evaluations"),
        ("configuration now", experiment.config_digest),
        ("configuration when created", experiment.frozen_digest),
        ("hypothesis", experiment.hypothesis.digest if experiment.hypothesis else "none"),
    )
    return tuple((k, v) for k, v in pairs if v)


def _json(value: Mapping[str, Any]) -> str:
    if not value:
        return ""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return plain(text if len(text) <= CONFIG_CHARS else text[:CONFIG_CHARS] + "\n…")


def _real(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
