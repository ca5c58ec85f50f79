"""What the report of a training experiment shows, as plain typed data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assay.core.experiment import Experiment
from assay.core.verdict import Verdict
from assay.live.watch import Story
from assay.report._view.first_screen import Headline
from assay.report._view.marks import Mark, status_mark
from assay.report._view.text import measured, moment, one_line, plain
from assay.report._view.training.alerts import AlertView, alerts_of
from assay.report._view.training.attempts import AttemptView, attempt_of
from assay.report._view.training.checkpoints import CheckpointView, checkpoints
from assay.report._view.training.curves import Chart, charts, signal_charts
from assay.report._view.training.headline import headline
from assay.report._view.training.lineage import Relative, lineage
from assay.report._view.training.setting import chain, config_text, plan

TEXT_CHARS = 20_000


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
    headline: Headline
    rationale: str
    notes: tuple[str, ...]
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
    first = headline(experiment, story)
    return Page(
        title=f"{first.mark.word}: {experiment.id} {one_line(experiment.name, 60)}".strip(),
        id=experiment.id,
        name=one_line(experiment.name, 80),
        when=moment(experiment.created) if experiment.created else "",
        headline=first,
        rationale=experiment.hypothesis.rationale[:TEXT_CHARS] if experiment.hypothesis else "",
        notes=tuple(one_line(n, 600) for n in experiment.notes[-20:]),
        charts=charts(story),
        signals=signal_charts(story),
        alerts=alerts_of(experiment),
        checkpoints=checkpoints(experiment),
        attempts=tuple(attempt_of(a, story) for a in experiment.attempts),
        family=lineage(experiment, family),
        gate=status_mark(verdict.status),
        gate_detail=verdict.detail,
        items=tuple(_item(r) for r in verdict.reasons),
        config=config_text(experiment.config),
        plan=plan(experiment),
        diagnosis=plain(experiment.diagnosis)[:TEXT_CHARS],
        chain=chain(experiment),
        problems=tuple(one_line(str(p), 300) for p in experiment.problems[:40]),
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
