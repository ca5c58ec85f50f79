"""Experiments beside each other, as plain documents: one line each, one whole, and the difference of two. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assay.core.evidence import Measurement
from assay.core.experiment import Attempt, Experiment
from assay.core.experiment_result import (
    gain,
    lineage,
    metrics_of,
    primary_of,
    shortfalls_of,
    standing,
    tier_of,
)
from assay.core.vocabulary import Direction


def line(experiment: Experiment, others: Mapping[str, Experiment]) -> dict[str, Any]:
    """One experiment as a line of the list."""
    found, tier = primary_of(experiment), tier_of(experiment)
    stands = standing(experiment, others)
    claimed = experiment.result.claimed_tier if experiment.result else ""
    claimed = claimed or str(experiment.recorded_result.get("claimed_tier") or "")
    return {
        "id": experiment.id,
        "name": experiment.name,
        "phase": experiment.phase,
        "parent": experiment.parent or None,
        "state": experiment.state.value,
        "created": experiment.created,
        "hypothesis": experiment.hypothesis.text if experiment.hypothesis else "",
        "metric": found.metric.name if found else None,
        "value": found.metric.value if found else None,
        "value_state": found.metric.state.value if found else None,
        "source": found.source if found else None,
        "direction": found.metric.direction.value if found and found.metric.direction else None,
        "tier": tier.value if tier is not None else None,
        "claimed_tier": claimed or None,
        "delta_vs_parent": stands.delta_parent,
        "compared_with": stands.parent or None,
        "delta_vs_best": stands.delta_best,
        "best_before": stands.best or None,
        "top_shortfall": next(iter(shortfalls_of(experiment)), None),
        "attempts": len(experiment.attempts),
        "provenance": experiment.provenance.value,
        "layout": experiment.layout,
    }


def whole(experiment: Experiment, others: Mapping[str, Experiment]) -> dict[str, Any]:
    """One experiment with all that is known of it."""
    ended = experiment.attempts[-1] if experiment.attempts else None
    return {
        **line(experiment, others),
        "ended_by": experiment.ended_by,
        "lineage": [_ancestor(e) for e in lineage(experiment, others)],
        "children": [e.id for e in others.values() if e.parent == experiment.id],
        "rationale": experiment.hypothesis.rationale if experiment.hypothesis else "",
        "plan": experiment.plan.to_json(),
        "attempts": [_attempt(a) for a in experiment.attempts],
        "progress": {
            "last_step": experiment.rows.last_step,
            "total_steps": experiment.plan.total_steps,
            "last_epoch": experiment.rows.last_epoch,
            "total_epochs": experiment.plan.total_epochs,
        },
        "metrics": [_metric(m) for m in experiment.rows.metrics],
        "final_metrics": {m.name: _value(m) for m in (ended.final_metrics if ended else ())},
        "alerts": [a.to_json() for a in experiment.alerts],
        "checkpoints": [c.to_json() for c in experiment.checkpoints],
        "shortfalls": list(shortfalls_of(experiment)),
        "diagnosis": experiment.diagnosis,
        "next_ideas": list(experiment.next_ideas),
        "notes": list(experiment.notes),
        "overridden": list(experiment.unmet),
        "config": dict(experiment.config),
        "events": len(experiment.events),
        "chain_intact": experiment.chain_intact,
        "problems": [str(p) for p in experiment.problems],
    }


def difference(a: Experiment, b: Experiment) -> dict[str, Any]:
    """What B has that A has not: primary metric, shared metrics, configuration, shortfalls."""
    ours, theirs = metrics_of(a), metrics_of(b)
    shared = [m for m in ours if m in theirs]
    before, after = shortfalls_of(a), shortfalls_of(b)
    return {
        "a": a.id,
        "b": b.id,
        "primary": _primaries(a, b),
        "tiers": {e.id: t.value if (t := tier_of(e)) else None for e in (a, b)},
        "metrics": [
            _change(n, ours[n], theirs[n], b.plan.direction(n) or a.plan.direction(n)) for n in shared
        ],
        "only_in_a": sorted(set(ours) - set(theirs)),
        "only_in_b": sorted(set(theirs) - set(ours)),
        "config": list(config_changes(a.config, b.config)),
        "shortfalls": [
            *({"mark": "=", "text": s} for s in before if s in after),
            *({"mark": "-", "text": s} for s in before if s not in after),
            *({"mark": "+", "text": s} for s in after if s not in before),
        ],
    }


def _primaries(a: Experiment, b: Experiment) -> dict[str, Any]:
    """The change of the primary metric, or why there is none."""
    ours, theirs = primary_of(a), primary_of(b)
    if ours is None or theirs is None or ours.metric.value is None or theirs.metric.value is None:
        lacking = [e.id for e, p in ((a, ours), (b, theirs)) if p is None or p.metric.value is None]
        return {"why_not": f"no finite primary value: {', '.join(lacking)}"}
    if ours.metric.name != theirs.metric.name:
        return {"why_not": f"different metrics: {ours.metric.name} and {theirs.metric.name}"}
    name = ours.metric.name
    ways = {e.plan.direction(name) for e in (a, b)} - {None}
    if len(ways) > 1:
        return {"why_not": f"{name} is better when higher in one and when lower in the other"}
    return _change(name, ours.metric.value, theirs.metric.value, next(iter(ways), None))


def _change(name: str, a: float, b: float, direction: Direction | None) -> dict[str, Any]:
    word = None
    if direction is not None:
        won = gain(b, a, direction)
        word = "better" if won > 0 else "worse" if won < 0 else "equal"
    return {
        "name": name,
        "a": a,
        "b": b,
        "delta": b - a,
        "direction": direction and direction.value,
        "b_is": word,
    }


def config_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Keys, joined with dots, that differ."""
    ours, theirs = dict(_flat(a)), dict(_flat(b))
    for key in sorted({*ours, *theirs}):
        if key not in theirs:
            yield {"mark": "-", "key": key, "a": ours[key], "b": None}
        elif key not in ours:
            yield {"mark": "+", "key": key, "a": None, "b": theirs[key]}
        elif ours[key] != theirs[key]:
            yield {"mark": "~", "key": key, "a": ours[key], "b": theirs[key]}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _ancestor(experiment: Experiment) -> dict[str, Any]:
    found = primary_of(experiment)
    value = found.metric.value if found else None
    return {"id": experiment.id, "state": experiment.state.value, "value": value}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    keep = attempt.to_json()
    keep["final_metrics"] = {m.name: _value(m) for m in attempt.final_metrics}
    return keep


def _metric(metric: Any) -> dict[str, Any]:
    value: dict[str, Any] = metric.to_json()
    value["last"] = _value(metric.last)
    return value


def _value(measurement: Measurement) -> float | str:
    """The value, or the word for why there is none."""
    return (
        measurement.value if measurement.value is not None else measurement.detail or measurement.state.value
    )


def ideas(experiments: Sequence[Experiment]) -> tuple[str, ...]:
    """Next ideas of the newest experiment that has any."""
    return next((e.next_ideas for e in reversed(experiments) if e.next_ideas), ())
