"""Is there a record of a training that ran to its end, and do the files agree with each other?"""

from __future__ import annotations

from collections.abc import Iterator

from assay.core.experiment import LIVE, Attempt, Experiment, ExperimentState
from assay.core.experiment_state import hex_of
from assay.core.vocabulary import State
from assay.gates._training.item import Item, Lack, cause, some
from assay.gates._training.policy import TrainingPolicy

EVENTS, METRICS, STATUS = "events.jsonl", "metrics.jsonl", "training_status.json"
HYPOTHESIS, CONFIG, ALERTS = "hypothesis.md", "config.yaml", "alerts.jsonl"
UNCLEAN = frozenset({"crashed", "killed", "lost"})
NO_CALLS = "the script called neither run.log nor ZOTrainingCallback"


def check(experiment: Experiment, policy: TrainingPolicy) -> Iterator[Item]:
    """All items about the record."""
    yield from _chain(experiment)
    yield from _attempts(experiment)
    yield from _ending(experiment, policy)
    yield from _rows(experiment)
    yield from _finite(experiment, policy)
    yield _hypothesis(experiment, policy)
    yield _config(experiment)
    yield from _status(experiment)
    yield from _alerts(experiment, policy)


def _chain(experiment: Experiment) -> Iterator[Item]:
    if experiment.layout == "zo":
        text = cause(
            "events.jsonl is missing: no event of this training was recorded", "it did not run under Assay"
        )
        yield Item("record", text, Lack.MISSING, EVENTS)
        return
    problems = experiment.problems_of(EVENTS)
    if not experiment.events:
        wrong = some(problems) or "events.jsonl holds no event"
        yield Item(
            "record",
            cause(wrong, "it was not made by `assay train` or assay.experiment"),
            Lack.MISSING,
            EVENTS,
        )
    elif problems or not experiment.chain_intact:
        text = f"the record does not hold: {some(problems) or 'the chain of digests is broken'}"
        yield Item("record", text, Lack.TAMPERED, EVENTS)
    elif experiment.imported:
        text = "taken over from another tool: what it says was not recorded by Assay"
        yield Item("record", text, Lack.MISSING, EVENTS)
    else:
        count = len(experiment.events)
        yield Item(
            "record",
            f"{count} events, each following from the one before",
            where=EVENTS,
            measured=float(count),
        )


def _attempts(experiment: Experiment) -> Iterator[Item]:
    known = {a.number for a in experiment.attempts}
    if not known:
        if experiment.layout == "assay":
            text = cause("no attempt has started", "`assay train` was not run yet")
            yield Item("attempt", text, Lack.NOT_YET, EVENTS)
        return
    strange = sorted(set(experiment.rows.attempts) - known)
    last = max(known)
    if experiment.layout == "assay" and strange:
        text = f"rows of attempt {strange[0]}, which never started"
        yield Item("attempt", text, Lack.TAMPERED, METRICS)
    elif last not in experiment.rows.attempts:
        yield Item("attempt", cause(f"attempt {last} wrote no row", NO_CALLS), Lack.MISSING, METRICS)
    else:
        yield Item("attempt", f"attempt {last} of {len(known)} is the one that is judged", where=EVENTS)


def _ending(experiment: Experiment, policy: TrainingPolicy) -> Iterator[Item]:
    state, last = experiment.state, experiment.last_attempt
    if state in LIVE:
        yield Item("terminal", f"the training is {state}", Lack.NOT_YET, EVENTS, measured=state.value)
        return
    if state is ExperimentState.LOST:
        text = "the process is gone and recorded no end; resume it, or abort the experiment"
        yield Item("terminal", text, Lack.LOST, EVENTS, measured=state.value)
        return
    if state in {ExperimentState.CRASHED, ExperimentState.ABORTED, ExperimentState.FAILED}:
        yield Item(
            "terminal",
            f"the experiment {_how(experiment, last)}",
            Lack.UNHEALTHY,
            EVENTS,
            measured=state.value,
        )
        return
    if last is None:
        return
    if last.training_reason == "completed" and _just_ended(experiment, last) and last.exit_code is None:
        likely = "a run without `with` and without run.finish(); `assay train` would know the exit code"
        text = cause(
            "the script ended without finish(): whether it had trained to its end is not known", likely
        )
        yield Item("terminal", text, Lack.MISSING, EVENTS, measured="unknown")
    elif last.training_reason == "completed":
        yield Item("terminal", "the training loop ended by itself", where=EVENTS, measured="completed")
    elif last.training_reason == "stopped":
        yield _stopped(experiment, last, policy)
    elif last.training_reason:
        text = f"the training loop ended by {last.training_reason}: {last.exception}".rstrip(": ")
        yield Item("terminal", text, Lack.UNHEALTHY, EVENTS, measured=last.training_reason)
    else:
        text = cause(
            "no end of the training loop was recorded",
            "the script never called run.finish or on_training_end",
        )
        yield Item("terminal", text, Lack.MISSING, EVENTS)
    if last.outcome and (last.outcome in UNCLEAN or last.exit_code not in {0, None}):
        text = f"the process {last.outcome} with {_exit(last)}"
        yield Item("process", text, Lack.UNHEALTHY, EVENTS, measured=last.outcome)


def _just_ended(experiment: Experiment, last: Attempt) -> bool:
    """The interpreter ended and the script had not said that its training had."""
    said = [e for e in experiment.events if e.event == "training_ended" and e.attempt == last.number]
    return bool(said) and said[-1].fields.get("by") == "exit"


def _stopped(experiment: Experiment, last: Attempt, policy: TrainingPolicy) -> Item:
    total = experiment.plan.total_steps
    at = f" at step {last.last_step}" if last.last_step is not None else ""
    by = f" by {last.stop_requested_by}" if last.stop_requested_by else ""
    why = f": {last.stop_reason}" if last.stop_reason else ""
    text = f"the training was stopped{by}{at}{f' of {total}' if at and total else ''}{why}"
    if policy.accept_stopped:
        return Item("terminal", f"note: {text}", where=EVENTS, measured="stopped")
    return Item(
        "terminal", f"{text}; resume it, or accept it with accept_stopped", Lack.MISSING, EVENTS, "stopped"
    )


def _how(experiment: Experiment, last: Attempt | None) -> str:
    if experiment.state is not ExperimentState.CRASHED:
        return f"was {experiment.state}{f': {experiment.ended_by}' if experiment.ended_by else ''}"
    said = [last.exception or (_exit(last) if last.outcome else "")] if last is not None else []
    return "crashed" + (f": {said[0]}" if said and said[0] else "")


def _exit(last: Attempt) -> str:
    return f"signal {last.signal}" if last.signal else f"exit code {last.exit_code}"


def _rows(experiment: Experiment) -> Iterator[Item]:
    rows = experiment.rows
    problems = experiment.problems_of(METRICS)
    values = rows.steps + rows.epochs + rows.evaluations
    if not values:
        text = f"{METRICS} is missing" if problems else f"{METRICS} holds no row"
        yield Item("rows", cause(text, NO_CALLS), Lack.MISSING, METRICS)
    elif problems:
        yield Item("rows", f"rows are gone: {some(problems)}", Lack.TAMPERED, METRICS)
    elif rows.bad_lines > (
        cut := sum(a.outcome in UNCLEAN or not (a.outcome or a.training_reason) for a in experiment.attempts)
    ):
        text = f"{rows.bad_lines} lines are no rows, where killed writers explain {cut}"
        yield Item("rows", text, Lack.TAMPERED, METRICS, float(rows.bad_lines), float(cut))
    elif rows.backwards:
        text = f"time runs backwards in {rows.backwards} rows: they were not written by a running training"
        yield Item("rows", text, Lack.TAMPERED, METRICS, float(rows.backwards), 0.0)
    else:
        yield Item(
            "rows", f"{rows.steps} steps, {rows.epochs} epochs, {rows.evaluations} evaluations", where=METRICS
        )
    finite = [m for e in experiment.evaluations for m in e.metrics if m.state is State.MEASURED]
    by_rows = rows.epochs + rows.evaluations if any(m.count for m in rows.metrics) else 0
    if finite or by_rows:
        count = float(max(len(experiment.evaluations), by_rows))
        yield Item("evaluated", "evaluated metrics were recorded", where=EVENTS, measured=count)
    else:
        text = cause(
            "no evaluated metric", "run.log_evaluation or on_epoch_end was never called with a finite value"
        )
        yield Item("evaluated", text, Lack.MISSING, EVENTS, 0.0, 1.0)


def _finite(experiment: Experiment, policy: TrainingPolicy) -> Iterator[Item]:
    bad = [
        m
        for m in experiment.rows.metrics
        if m.last.state is State.NONFINITE and m.name not in policy.nonfinite_allowed
    ]
    for metric in bad[:3]:
        at = f" at step {metric.last_step}" if metric.last_step is not None else ""
        text = f"{metric.name} ended as {metric.last.detail or 'a non-finite value'}{at}"
        yield Item("finite", text, Lack.UNHEALTHY, METRICS, metric.last.detail or "nonfinite")
    if not bad:
        yield Item("finite", "every metric ended finite", where=METRICS)


def _hypothesis(experiment: Experiment, policy: TrainingPolicy) -> Item:
    if not policy.require_hypothesis:
        return Item("hypothesis", "note: no hypothesis is asked for", where=HYPOTHESIS)
    found, attempts = experiment.hypothesis, experiment.attempts
    if found is None:
        text = cause(f"{HYPOTHESIS} is missing", "nobody wrote what was expected: `--hypothesis TEXT`")
        return Item("hypothesis", text, Lack.MISSING, HYPOTHESIS)
    if found.problems:
        return Item("hypothesis", f"{HYPOTHESIS}: {found.problems[0]}", Lack.MISSING, HYPOTHESIS)
    if not attempts:
        return Item("hypothesis", "note: no attempt has started", where=HYPOTHESIS)
    if not attempts[0].hypothesis_digest and not _in_time(experiment, found.digest):
        text = cause("the first attempt began without a hypothesis", f"{HYPOTHESIS} was written afterwards")
        return Item("hypothesis", text, Lack.MISSING, HYPOTHESIS)
    if any(a.hypothesis_digest not in {found.digest, ""} for a in attempts):
        return Item("hypothesis", f"{HYPOTHESIS} was changed after the start", Lack.TAMPERED, HYPOTHESIS)
    return Item("hypothesis", "the hypothesis stood before the first step", where=HYPOTHESIS)


def _in_time(experiment: Experiment, digest: str) -> bool:
    """A script that joins `assay train` writes its hypothesis after the process began: before anything is known."""
    told = next((e.seq for e in experiment.events if e.event in {"evaluated", "checkpoint_committed"}), None)
    written = [e for e in experiment.events if e.event == "hypothesis"]
    first = next((e.seq for e in written if hex_of(e.fields.get("digest")) == digest), None)
    # Only the first version: an edited one shows that it was changed, whenever that was.
    return first is not None and first == written[0].seq and (told is None or first < told)


def _config(experiment: Experiment) -> Item:
    started = [a.config_digest for a in experiment.attempts]
    frozen = next((d for d in (experiment.frozen_digest, *started) if d), "")
    now = experiment.config_digest
    if not frozen and not now:
        return Item("config", "note: no configuration was frozen", where=CONFIG)
    if not frozen:
        recorded = [e.fields.get("config") for e in experiment.events if e.event == "training_started"]
        if experiment.config and experiment.config in recorded:
            return Item("config", "the configuration is the one that the training started with", where=CONFIG)
        return Item("config", f"{CONFIG} was written after the start", Lack.TAMPERED, CONFIG)
    if not now:
        return Item("config", f"{CONFIG} is missing", Lack.MISSING, CONFIG)
    if now != frozen or any(d not in {frozen, ""} for d in started):
        return Item("config", f"{CONFIG} was edited after it was frozen", Lack.TAMPERED, CONFIG)
    if any(e.event == "config_differs" for e in experiment.events):
        return Item(
            "config", "note: the script ran with values that differ from the frozen ones", where=CONFIG
        )
    return Item("config", "the configuration is the one that was frozen", where=CONFIG)


def _status(experiment: Experiment) -> Iterator[Item]:
    status = experiment.status
    if status is None:
        problems = experiment.problems_of(STATUS)
        text = some(problems) or cause(
            f"{STATUS} is missing", "ZOTrainingCallback or assay.experiment was not used"
        )
        yield Item("status", text, Lack.MISSING, STATUS)
        return
    wrong = _contradiction(experiment)
    if wrong:
        yield Item("status", f"{STATUS} contradicts the events: {wrong}", Lack.TAMPERED, STATUS)
    else:
        yield Item("status", f"{STATUS} agrees with the events", where=STATUS)


def _contradiction(experiment: Experiment) -> str:
    status, last = experiment.status, experiment.last_attempt
    if status is None or last is None:
        return ""
    if status.experiment not in {"", experiment.id}:
        return f"it is of experiment {status.experiment}"
    ended = bool(last.training_reason or last.outcome)
    if status.is_training and ended and last.outcome not in UNCLEAN:
        return "it says that the training runs"
    if not status.is_training and experiment.state in LIVE and not ended:
        return "it says that the training ended"
    steps = [s for s in (experiment.rows.last_step, last.last_step) if s is not None]
    steps += [e.step for e in experiment.evaluations if e.step is not None]
    if status.step is not None and status.step > max(steps, default=0):
        return f"it is at step {status.step}, the rows at {max(steps, default=0)}"
    epoch = experiment.rows.last_epoch
    if status.epoch is not None and epoch is not None and status.epoch > epoch + 1:
        return f"it is at epoch {status.epoch}, the rows at {epoch}"
    return ""


def _alerts(experiment: Experiment, policy: TrainingPolicy) -> Iterator[Item]:
    problems = experiment.problems_of(ALERTS)
    if problems:
        yield Item("alerts", f"alerts are not whole: {some(problems)}", Lack.TAMPERED, ALERTS)
    blocking = [a for a in experiment.alerts if a.blocking]
    for alert in blocking[:3]:
        at = f" at step {alert.first_seen_step if alert.first_seen_step is not None else alert.step}"
        said = f": {alert.text}" if alert.text else ""
        text = f"open critical alert {alert.id} {alert.name}{at if 'None' not in at else ''}{said}"
        yield Item("alerts", text, Lack.UNHEALTHY, ALERTS, alert.name)
    if problems or blocking:
        return
    watched = experiment.facts.get("watched")
    if watched != "to the end":
        text = cause("no checker watched this training", "neither `assay train` nor experiment(live=True)")
        if watched:
            text = cause(
                "the checker did not watch to the end", "it was killed; `--attach` takes a run up again"
            )
        lack = Lack.MISSING if policy.require_watched else None
        yield Item("alerts", text if lack else f"note: {text}", lack, EVENTS)
        return
    other = sum(a.state != "resolved" for a in experiment.alerts)
    text = f"watched to the end, no open critical alert; {len(experiment.alerts)} in all, {other} open"
    yield Item("alerts", text, where=ALERTS)
