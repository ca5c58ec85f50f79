"""Incidents of a training run, with their evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.core.experiment import Experiment
from assay.report._view.marks import Mark, Sign
from assay.report._view.text import one_line, plural
from assay.report._view.training.curves import TONES, figure

ALERTS_LIMIT = 200
_SEVERITIES = {"critical": 0, "warning": 1, "info": 2}


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


def alerts_of(experiment: Experiment) -> tuple[AlertView, ...]:
    """The incidents, open and grave ones first."""
    ordered = sorted(
        experiment.alerts, key=lambda a: (a.state == "resolved", _SEVERITIES.get(a.severity, 0), a.id)
    )
    return tuple(_alert(a) for a in ordered[:ALERTS_LIMIT])


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
