"""Which experiments a training experiment grew out of, and what grew out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.core.experiment import Experiment
from assay.core.experiment_result import primary_of
from assay.report._view.text import MINUS, one_line
from assay.report._view.training.curves import figure


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
