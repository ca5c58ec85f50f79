"""What a training experiment rests on: its plan, its configuration, and its chain of events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from assay.core.experiment import Experiment
from assay.core.vocabulary import Direction
from assay.report._view.text import one_line, plain
from assay.report._view.training.curves import figure

CONFIG_CHARS = 20_000


def plan(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    """What was planned before it began."""
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


def chain(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    """Digests of what it consists of, and whether its events hold together."""
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


def config_text(value: Mapping[str, Any]) -> str:
    """A configuration as JSON, cut where it is too long."""
    if not value:
        return ""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return plain(text if len(text) <= CONFIG_CHARS else text[:CONFIG_CHARS] + "\n…")
