"""diagnosis.md: what happened, by which mechanism, and what to try next, each with the number that it rests on.

Written from the files alone when an attempt has ended. What a person wrote is never replaced; what an external command
says (an agent, a language model) stands in a file of its own and is marked.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.core.errors import AssayError
from assay.core.experiment import Alert, Attempt, CheckpointRecord, Experiment
from assay.core.experiment_result import best, primary_of, recorded_values, tier_of
from assay.core.vocabulary import Direction
from assay.live import mechanisms
from assay.live.classes import CLASSES, Family
from assay.live.mechanisms import Surroundings, shown
from assay.readers.training import iter_rows, read_any
from assay.track import files

FILE, BY_COMMAND = "diagnosis.md", "diagnosis-by-command.md"
MARK = "by: assay"
"""In the front matter of what we wrote ourselves: only that is replaced."""
BEFORE, AFTER = 60, 20
"""Rows around the first sign of an incident that are looked at."""
COMMAND_LIMIT_S = 300.0
RUINOUS = frozenset({1, 2, 4})
"""Classes after whose begin the weights are worth nothing."""
OUTPUT_LIMIT = 64_000


@dataclass(frozen=True)
class Diagnosis:
    """What can be said about an attempt."""

    experiment: str
    attempt: int | None
    events_head: str
    happened: tuple[str, ...] = ()
    mechanism: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    healthy: bool = True

    def text(self) -> str:
        """The file."""
        front = f"---\nexp_id: {self.experiment}\nattempt: {self.attempt}\n{MARK}\nevents_head: {self.events_head}\n---\n"
        parts = (
            ("What happened", self.happened, "- "),
            ("Mechanism", self.mechanism or ("Nothing that was recorded speaks of a fault.",), "- "),
            ("Recommended next experiments", self.next or ("Nothing follows from this run alone.",), ""),
        )
        lines = [front, f"# Diagnosis of {self.experiment}\n"]
        for title, items, mark in parts:
            numbered = [f"{mark or f'{i}. '}{item}" for i, item in enumerate(items, 1)]
            lines += [f"## {title}\n", "\n".join(numbered) + "\n"]
        return "\n".join(lines)


def diagnose(experiment: Experiment, around: Mapping[str, Surroundings]) -> Diagnosis:
    """Put together what the record of the newest attempt says. Pure.

    Args:
        experiment: as read.
        around: id of an alert → the rows around its first sign.
    """
    last = experiment.last_attempt
    incidents = incidents_of(experiment)
    good = last_good(experiment)
    causes = [mechanisms.of(alert, around.get(alert.id, Surroundings())) for alert in incidents]
    told = [
        *_course(experiment, last),
        *(_sign(a) for a in incidents),
        *_stop(experiment, last),
        *_kept(experiment),
    ]
    mechanism = [c.why for c in causes]
    ideas = [idea for c in causes for idea in c.next]
    if last is not None and last.exception:
        mechanism.append(f"The script itself failed: {last.exception}.")
        ideas.append(
            "Mend the line that raised (the end of the log has its traceback); nothing speaks of the training."
        )
    elif last is not None and last.outcome in ("killed", "crashed", "lost") and not incidents:
        mechanism.append(_death(last))
    ruined = any(a.number in RUINOUS for a in incidents)
    if ruined or (last is not None and not _completed(last)):
        ideas.append(_resume(experiment, good, incidents))
    elif all(a.severity == "info" for a in incidents):
        ideas += _healthy(experiment)
    return Diagnosis(
        experiment=experiment.id,
        attempt=last.number if last is not None else None,
        events_head=experiment.head,
        happened=tuple(told),
        mechanism=tuple(mechanism),
        next=tuple(dict.fromkeys(ideas)),
        healthy=not (incidents or mechanism),
    )


def incidents_of(experiment: Experiment, limit: int = 4) -> tuple[Alert, ...]:
    """Alerts of the newest attempt that mattered, the cause first."""
    last = experiment.last_attempt
    number = last.number if last is not None else None
    own = [a for a in experiment.alerts if a.attempt in (number, None) and a.number in CLASSES]
    own = [a for a in own if a.state != "resolved" or a.severity == "critical"]
    order = {"critical": 0, "warning": 1}

    def rank(alert: Alert) -> tuple[object, ...]:
        row = CLASSES[alert.number or 0]
        record = row.family is Family.RECORD
        return (alert.state == "resolved", order.get(alert.severity, 2), record, row.rank, alert.line)

    return tuple(sorted(own, key=rank)[:limit])


def last_good(experiment: Experiment) -> CheckpointRecord | None:
    """The checkpoint that a resume would take: the newest that is verified and there."""
    sound = [c for c in experiment.checkpoints if c.verified and not c.failed and c.on_disk == "intact"]
    return max(sound, key=lambda c: c.committed_seq, default=None)


def write(folder: Path, command: Sequence[str] = ()) -> Diagnosis | None:
    """Write diagnosis.md, and ask a command for another view if one is named; None where it cannot be.

    Args:
        folder: of the experiment.
        command: gets the evidence as JSON on its standard input and answers in Markdown; the answer is kept apart.
    """
    try:
        experiment = read_any(folder)
        wanted = {a.id: a for a in incidents_of(experiment)}
        around = {name: surroundings(folder, alert, experiment) for name, alert in wanted.items()}
    except AssayError:
        return None
    found = diagnose(experiment, around)
    try:
        if _is_ours(folder / FILE):
            _keep_earlier(folder, found.attempt)
            files.write_atomic(folder / FILE, found.text().encode("utf-8", "replace"))
        if command:
            _ask(folder, experiment, found, command)
    except OSError:
        return None
    return found


def surroundings(folder: Path, alert: Alert, experiment: Experiment) -> Surroundings:
    """The rows before and after the first sign of an alert."""
    step = alert.first_seen_step if alert.first_seen_step is not None else alert.step
    before: deque[tuple[int, Mapping[str, float]]] = deque(maxlen=BEFORE)
    after: list[tuple[int, Mapping[str, float]]] = []
    last: int | None = None
    for row in iter_rows(folder, view="all"):
        if row.kind != "step" or row.step is None or row.attempt != (alert.attempt or row.attempt):
            continue
        last = row.step
        values = {**row.metrics, **row.signals}
        if step is None or row.step < step:
            before.append((row.step, values))
        elif len(after) < AFTER:
            after.append((row.step, values))
    return Surroundings(
        step=step,
        before=tuple(before),
        after=tuple(after),
        last_step=last,
        total_steps=experiment.plan.total_steps,
    )


def _course(experiment: Experiment, last: Attempt | None) -> list[str]:
    if last is None:
        return ["No attempt has started."]
    rows = experiment.rows
    of = f" of {experiment.plan.total_steps}" if experiment.plan.total_steps else ""
    how = last.training_reason or last.outcome or "no end recorded"
    told = [f"Attempt {last.number} ended as {how} at step {rows.last_step or 0}{of}."]
    found, plan = primary_of(experiment), experiment.plan.primary
    if found is not None and found.metric.value is not None:
        tier = tier_of(experiment)
        reached = f", tier {tier.value}" if tier is not None else ""
        top = (
            best(recorded_values(experiment, found.metric.name), plan.direction)
            if plan and plan.direction
            else None
        )
        shown_best = f" (best {top:.6g})" if top is not None and top != found.metric.value else ""
        told.append(f"{found.metric.name} is {found.metric.value:.6g}{shown_best}{reached}.")
    return told


def _sign(alert: Alert) -> str:
    where = f" at step {alert.first_seen_step}" if alert.first_seen_step is not None else ""
    proven = f", proven at step {alert.step}" if alert.step not in (None, alert.first_seen_step) else ""
    limit = f"; rule: {alert.rule}" + (
        f", limit {shown(alert.threshold)}" if alert.threshold is not None else ""
    )
    joined = f" (with {', '.join(alert.joined)})" if alert.joined else ""
    text = alert.text.partition(" (resolved: ")[0]
    return f"{alert.severity} {alert.name}{where}{proven}: {text}{joined}. Observed {shown(alert.observed)}{limit}."


def _stop(experiment: Experiment, last: Attempt | None) -> list[str]:
    if last is None or not last.stop_requested_by:
        return []
    told = f"{last.stop_requested_by} asked for a stop: {last.stop_reason}."
    total, at = experiment.plan.total_steps, experiment.rows.last_step
    if total and at is not None and total > at and last.stop_requested_by == "checker":
        share = 100.0 * (total - at) / total
        told += f" That spared {total - at} of {total} steps ({share:.0f} %)."
    return [told]


def _kept(experiment: Experiment) -> list[str]:
    told = []
    good = last_good(experiment)
    if good is not None:
        values = ", ".join(f"{m.name} {m.value:.6g}" for m in good.metrics if m.value is not None)
        level = "restore" if "restore" in good.verified else "digest"
        told.append(
            f"Last good checkpoint: {good.name}, step {good.step}, verified by {level}{f' ({values})' if values else ''}."
        )
    elif experiment.checkpoints:
        told.append("No checkpoint holds.")
    else:
        told.append("No checkpoint was saved.")
    aside = [
        c
        for c in experiment.checkpoints
        if c.failed and c.attempt == getattr(experiment.last_attempt, "number", 0)
    ]
    told += [f"{c.name} was kept aside: {c.failed}." for c in aside[-2:]]
    return told


def _resume(experiment: Experiment, good: CheckpointRecord | None, incidents: Sequence[Alert] = ()) -> str:
    if good is None:
        return (
            f"`assay train --resume {experiment.id}` begins anew, for no checkpoint is left to go on from: "
            "save sooner (`run.checkpoint(...)`)."
        )
    began = [a.first_seen_step for a in incidents if a.number in RUINOUS and a.first_seen_step is not None]
    if began and good.step is not None and good.step >= min(began):
        return _before(experiment, good, min(began))
    step = f"step {good.step}" if good.step is not None else "there"
    return f"`assay train --resume {experiment.id}` goes on from {good.name} ({step})."


def _before(experiment: Experiment, newest: CheckpointRecord, began: int) -> str:
    """The newest checkpoint was saved when the fault was at work already: go back behind it."""
    sound = [c for c in experiment.checkpoints if c.verified and not c.failed and c.on_disk == "intact"]
    clean = [c for c in sound if c.step is not None and c.step < began]
    if not clean:
        return f"Start anew: every checkpoint that is left was saved after the fault began at step {began}."
    chosen = max(clean, key=lambda c: c.committed_seq).name
    return (
        f"{newest.name} was saved after the fault began (step {began}): `assay checkpoint restore {experiment.id} "
        f"--name {chosen}`, then `assay train --resume {experiment.id}` goes on from there."
    )


def _completed(last: Attempt) -> bool:
    """Whether it went to its end, so that nothing is left to resume."""
    return last.outcome in ("", "exited") and (last.training_reason or last.outcome) in (
        "completed",
        "exited",
    )


def _death(last: Attempt) -> str:
    if last.outcome == "lost":
        return "The process is gone and left no word; the log's end and the kernel's log may tell."
    memory = last.resources.get("max_rss_bytes")
    used = f"; it had used at most {memory / 1e9:.2f} GB of memory" if isinstance(memory, int | float) else ""
    if last.signal == "SIGKILL":
        return f"Somebody sent SIGKILL{used}. Often that is the kernel when memory runs out: `dmesg` tells."
    how = f"signal {last.signal}" if last.signal else f"exit code {last.exit_code}"
    return f"The process ended with {how}{used}; no alert came before."


def _healthy(experiment: Experiment) -> list[str]:
    """What a run without a fault suggests by where its best value lies."""
    plan = experiment.plan.primary
    if plan is None or plan.direction is None:
        return ["Declare the primary metric (`primary_metric=`, `direction=`), so that runs can be compared."]
    points = [(e.step, m.value) for e in experiment.evaluations for m in e.metrics
              if m.name == plan.name and m.value is not None and e.step is not None]  # fmt: skip
    if len(points) < 3:
        return [f"Evaluate more often: {plan.name} was recorded {len(points)} times."]
    better = max if plan.direction is Direction.HIGHER else min
    at, top = better(points, key=lambda p: p[1])
    end, value = points[-1]
    half = points[len(points) // 2][1]
    if at == end and value != half:
        return [
            f"Train longer: {plan.name} was still improving, from {half:.6g} half-way to {value:.6g} at step {end}."
        ]
    if at < end and top != value:
        return [
            f"Stop earlier or regularise: {plan.name} was best at step {at} ({top:.6g}) and ended at {value:.6g}."
        ]
    return [f"Change something else than its length: {plan.name} stands at {value:.6g} since step {at}."]


def _is_ours(path: Path) -> bool:
    """Whether the file may be replaced: it is not there, or we wrote it."""
    try:
        return MARK in path.read_text(encoding="utf-8", errors="replace")[:400].splitlines()
    except OSError:
        return not path.exists()


def _keep_earlier(folder: Path, attempt: int | None) -> None:
    """The diagnosis of an earlier attempt goes to the logs."""
    path = folder / FILE
    front = path.read_text(encoding="utf-8", errors="replace")[:400].splitlines() if path.exists() else []
    said = next((line.removeprefix("attempt: ") for line in front if line.startswith("attempt: ")), "")
    if said.isdecimal() and said != str(attempt):
        (folder / "log").mkdir(exist_ok=True)
        path.replace(folder / "log" / f"diagnosis-attempt-{said}.md")


def _ask(folder: Path, experiment: Experiment, own: Diagnosis, command: Sequence[str]) -> None:
    """Let a command write its view; what it says is kept apart, with who said it and how it ended."""
    rows = [a.model_dump(mode="json") for a in experiment.alerts][-50:]
    evidence = {
        "schema": "diagnosis-request/1",
        "folder": str(folder),
        "experiment": experiment.id,
        "state": experiment.state.value,
        "plan": experiment.plan.model_dump(mode="json"),
        "config": dict(experiment.config),
        "alerts": rows,
        "rows": experiment.rows.model_dump(mode="json"),
        "log_tail": experiment.last_attempt.log_tail if experiment.last_attempt else "",
        "own_diagnosis": own.text(),
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ASSAY_EXPERIMENT")}
    try:
        done = subprocess.run(
            list(command), input=json.dumps(evidence, default=str), capture_output=True, text=True, cwd=folder,
            timeout=COMMAND_LIMIT_S, check=False, env=environment, errors="replace",
        )  # fmt: skip
        code: object = done.returncode
        said = done.stdout[:OUTPUT_LIMIT]
    except subprocess.TimeoutExpired:
        code, said = f"no answer within {COMMAND_LIMIT_S:g} s", ""
    front = (
        f"---\nexp_id: {experiment.id}\nby: command {json.dumps(list(command))}\nexit: {code}\ntime: {files.utc()}\n"
        f"events_head: {experiment.head}\n---\n\n<!-- Not measured by Assay: the words of the command above. -->\n\n"
    )
    files.write_atomic(folder / BY_COMMAND, (front + said).encode("utf-8", "replace"))
