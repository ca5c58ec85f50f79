"""What an experiment achieved: its primary value, the tier that it reaches, and how that compares with others. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.core.base import Noun
from assay.core.evidence import Measurement
from assay.core.experiment import DONE, Experiment, ExperimentState, Tier
from assay.core.experiment_state import measurements, text_of
from assay.core.vocabulary import Direction, Provenance, State

RESULT_FILE = "result.md"
ROUNDING_FRAC = 1e-3
"""A written value this close to a recorded one is that one, rounded."""
_COUNTS = frozenset({*DONE, ExperimentState.EVALUATED, ExperimentState.TRAINED})


class Primary(Noun):
    """The value that an experiment is judged by."""

    metric: Measurement
    source: str
    """Where it stands: result.md, `result` event, training_ended, evaluated."""
    provenance: Provenance
    """Measured where the tracker recorded it, self-reported where somebody wrote it down."""


def primary_of(experiment: Experiment) -> Primary | None:
    """The primary value: of result.md if there is one, else as it was recorded. None if there is none.

    A result.md that is there counts even if it is wrong: recorded values do not paper over it.
    """
    declared = experiment.plan.primary
    if experiment.result is not None:
        found = experiment.result.primary
        return None if found is None else _primary(found, RESULT_FILE, Provenance.SELF_REPORTED, experiment)
    recorded = experiment.recorded_result.get("primary")
    if isinstance(recorded, Mapping) and isinstance(recorded.get("name"), str):
        found = measurements({recorded["name"]: recorded.get("value")})[0]
        return _primary(found, "result event", Provenance.SELF_REPORTED, experiment)
    if declared is None:
        return None
    last = experiment.last_attempt
    for found in last.final_metrics if last is not None else ():
        if found.name == declared.name:
            return _primary(found, "training_ended", Provenance.MEASURED, experiment)
    for evaluation in reversed(experiment.evaluations):
        for found in evaluation.metrics:
            if found.name == declared.name:
                return _primary(found, "evaluated", Provenance.MEASURED, experiment)
    return None


def _primary(found: Measurement, source: str, provenance: Provenance, experiment: Experiment) -> Primary:
    if found.value is not None and any(
        abs(v - found.value) <= ROUNDING_FRAC * max(abs(v), 1e-12)
        for v in recorded_values(experiment, found.name)
    ):
        provenance = Provenance.MEASURED
    if experiment.imported:
        provenance = Provenance.SELF_REPORTED
    direction = experiment.plan.direction(found.name)
    return Primary(
        metric=found.model_copy(update={"direction": direction}), source=source, provenance=provenance
    )


def tier_of(experiment: Experiment) -> Tier | None:
    """The tier, computed from value, direction and thresholds; None where one of them is missing."""
    primary, plan = primary_of(experiment), experiment.plan.primary
    if primary is None or plan is None or plan.direction is None or primary.metric.name != plan.name:
        return None
    if primary.metric.value is None or plan.thresholds.disorder(plan.direction):
        return None
    return plan.thresholds.tier(primary.metric.value, plan.direction)


def recorded_values(experiment: Experiment, metric: str) -> tuple[float, ...]:
    """Every finite value of a metric that the tracker's events hold."""
    found = [
        m.value for e in experiment.evaluations for m in e.metrics if m.name == metric and m.value is not None
    ]
    for attempt in experiment.attempts:
        found += [m.value for m in attempt.final_metrics if m.name == metric and m.value is not None]
    return tuple(found)


def gain(value: float, other: float, direction: Direction) -> float:
    """How much better a value is than another; negative = worse."""
    return value - other if direction is Direction.HIGHER else other - value


def best(values: Sequence[float], direction: Direction) -> float | None:
    """The best of finite values; None of none."""
    if not values:
        return None
    return max(values) if direction is Direction.HIGHER else min(values)


class Standing(Noun):
    """An experiment beside the others."""

    delta_parent: float | None = None
    """Value minus that of the nearest ancestor with a result of the same metric; signed as the metric is."""
    parent: str = ""
    """That ancestor; the direct parent may have ended without a result."""
    delta_best: float | None = None
    """Value minus the best one of all that were complete before it."""
    best: str = ""


def standing(experiment: Experiment, others: Mapping[str, Experiment]) -> Standing:
    """Where an experiment stands against its ancestors and against the best one before it."""
    primary = primary_of(experiment)
    if primary is None or primary.metric.value is None:
        return Standing()
    value, name = primary.metric.value, primary.metric.name
    found: dict[str, float | str | None] = {}
    for ancestor in reversed(lineage(experiment, others)[:-1]):
        theirs = _value(ancestor, name)
        if theirs is not None:
            found |= {"parent": ancestor.id, "delta_parent": value - theirs}
            break
    direction = experiment.plan.direction(name)
    earlier = [
        (theirs, e.id)
        for e in others.values()
        if e.id != experiment.id and _before(e, experiment) and e.state in DONE
        if (theirs := _value(e, name)) is not None
    ]
    if earlier and direction is not None:
        leader = max(earlier) if direction is Direction.HIGHER else min(earlier)
        found |= {"best": leader[1], "delta_best": value - leader[0]}
    return Standing.model_validate(found)


def _value(experiment: Experiment, metric: str) -> float | None:
    """Its value of that metric, if it ended with one that counts."""
    primary = primary_of(experiment) if experiment.state in _COUNTS else None
    return primary.metric.value if primary is not None and primary.metric.name == metric else None


def _before(one: Experiment, other: Experiment) -> bool:
    return (one.created, one.id) < (other.created, other.id)


def lineage(experiment: Experiment, others: Mapping[str, Experiment]) -> tuple[Experiment, ...]:
    """Ancestors from the root down to the experiment itself. A cycle ends where it closes."""
    chain, seen = [experiment], {experiment.id}
    while (parent := others.get(chain[-1].parent)) is not None and parent.id not in seen:
        chain.append(parent)
        seen.add(parent.id)
    return tuple(reversed(chain))


def shortfalls_of(experiment: Experiment) -> tuple[str, ...]:
    """What fell short, as result.md says, else as it was recorded."""
    if experiment.result is not None:
        return experiment.result.shortfalls
    listed = experiment.recorded_result.get("shortfalls")
    return tuple(text_of(s) for s in listed) if isinstance(listed, list) else ()


def metrics_of(experiment: Experiment) -> dict[str, float]:
    """Every finite metric that the experiment ended with: recorded ones, then those of its result."""
    found: dict[str, float] = {}
    for evaluation in experiment.evaluations:
        found |= {m.name: m.value for m in evaluation.metrics if m.value is not None}
    found |= {
        m.name: m.last.value
        for m in experiment.rows.metrics
        if m.last.value is not None and m.name not in found
    }
    last = experiment.last_attempt
    found |= {
        m.name: m.value for m in (last.final_metrics if last is not None else ()) if m.value is not None
    }
    recorded = experiment.recorded_result.get("metrics")
    found |= {m.name: m.value for m in measurements(recorded) if m.value is not None}
    primary = primary_of(experiment)
    secondary = experiment.result.secondary if experiment.result is not None else ()
    found |= {m.name: m.value for m in secondary if m.value is not None}
    if primary is not None and primary.metric.state is State.MEASURED and primary.metric.value is not None:
        found[primary.metric.name] = primary.metric.value
    return found
