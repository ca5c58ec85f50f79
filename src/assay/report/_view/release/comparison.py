"""The comparison of one candidate with its baseline: a forest plot's geometry, and the point rule beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.core.verdict import Estimate, Verdict
from assay.core.vocabulary import Outcome, Status
from assay.report._view.axis import Axis, Tick, axis_over
from assay.report._view.gates import MACRO, MEAN
from assay.report._view.marks import Mark, outcome_mark, status_mark
from assay.report._view.settled import finite, mapping
from assay.report._view.text import bound_above, bound_below, one_line, percent, plural, points

_MINI = (-2.0, 3.0)
"""The ladder's small plots reach from -2 to 3 margins; what lies beyond is an arrow."""


@dataclass(frozen=True)
class Row:
    """One line of the forest: a task, or the mean over tasks."""

    task: str
    primary: bool
    mark: Mark
    at: float
    """Percent of the plot's width, as all positions here."""
    low: float | None
    high: float | None
    limit: float | None
    """Where the margin or guard of this row lies; left of it is the region that is accepted."""
    limit_text: str
    drop: str
    interval: str
    baseline: str
    candidate: str
    lost: str
    won: str
    pairs: str
    point: Mark | None
    """What the point rule says of this task."""
    label: str
    """The row in one sentence, for those who do not see the plot."""


@dataclass(frozen=True)
class Point:
    """The naive rule's verdict, beside ours."""

    mark: Mark
    detail: str
    agrees: bool
    why: str
    """Why the two differ, or that they do not."""


@dataclass(frozen=True)
class Comparison:
    """Everything that is drawn of one comparison."""

    mark: Mark
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    zero: float
    margin: float | None
    margin_text: str
    level_text: str
    notes: tuple[str, ...]
    point: Point | None


@dataclass(frozen=True)
class Mini:
    """The mean's interval in a card of the ladder, scaled to the margin."""

    at: float
    low: float | None
    high: float | None
    beyond_low: bool
    beyond_high: bool
    zero: float
    margin: float
    drop: str
    interval: str
    label: str


def comparison(verdict: Verdict) -> Comparison | None:
    """The comparison that a verdict holds; None if it compared nothing."""
    beside = mapping(verdict.extra.get("point"))
    per_task = mapping(beside.get("per_task")) or mapping(verdict.extra.get("per_task"))
    estimates = [e for e in verdict.estimates if math.isfinite(e.drop)] or _from_numbers(verdict, per_task)
    if not estimates:
        return None
    axis = _axis(estimates)
    ordered = sorted(estimates, key=lambda e: e.task != MACRO)
    margin = next((e.margin for e in ordered if e.task == MACRO), None)
    level = next((e.level for e in ordered if e.level is not None), None)
    return Comparison(
        mark=outcome_mark(verdict.outcome) if verdict.outcome else status_mark(verdict.status),
        rows=tuple(_row(e, axis, per_task) for e in ordered),
        ticks=axis.ticks,
        zero=axis.at(0.0),
        margin=None if margin is None else axis.at(100.0 * margin),
        margin_text="" if margin is None else points(margin, 1),
        level_text="" if level is None else percent(level),
        notes=_notes(verdict),
        point=_point(verdict, ordered, beside),
    )


def mini(verdict: Verdict) -> Mini | None:
    """The mean over tasks alone; None if there is no such estimate."""
    macro = next((e for e in verdict.estimates if e.task == MACRO), None)
    if macro is None or not macro.margin or not math.isfinite(macro.drop):
        return None
    axis = Axis(_MINI[0] * macro.margin, _MINI[1] * macro.margin)
    return Mini(
        at=axis.at(macro.drop),
        low=None if macro.lower is None else axis.at(macro.lower),
        high=None if macro.upper is None else axis.at(macro.upper),
        beyond_low=macro.lower is not None and macro.lower < axis.low,
        beyond_high=max(macro.drop, macro.upper or macro.drop) > axis.high,
        zero=axis.at(0.0),
        margin=axis.at(macro.margin),
        drop=points(macro.drop),
        interval=_interval(macro),
        label=_sentence(macro),
    )


def _from_numbers(verdict: Verdict, per_task: Mapping[str, Any]) -> list[Estimate]:
    """The point rule's own rows: a drop without an interval."""
    found = []
    limit = next((r.limit for r in verdict.reasons if isinstance(r.limit, float | int)), None)
    for task, row in per_task.items():
        numbers = [finite(mapping(row).get(k)) for k in ("baseline", "candidate", "drop_fraction", "scale")]
        before, after, drop, scale = numbers
        if before is None or after is None or drop is None or not scale:
            continue
        within = mapping(row).get("within_threshold")
        status = {True: Status.PASS, False: Status.FAIL}.get(within) if isinstance(within, bool) else None
        values = {"baseline": before / scale, "candidate": after / scale, "drop": drop}
        found.append(Estimate(task=str(task), margin=limit, status=status, role="point", **values))
    return found


def _axis(estimates: Sequence[Estimate]) -> Axis:
    shown = [0.0]
    for e in estimates:
        shown += [v for v in (e.drop, e.lower, e.upper, e.margin) if v is not None]
        if e.margin is not None:
            shown.append(-0.5 * e.margin)
    return axis_over(100.0 * v for v in shown)


def _row(e: Estimate, axis: Axis, per_task: Mapping[str, Any]) -> Row:
    primary = e.task == MACRO
    within = mapping(per_task.get(e.task)).get("within_threshold")
    point = None
    if isinstance(within, bool):
        point = Mark("within", "good", "check") if within else Mark("over", "bad", "cross")
    kind = "margin" if primary else "threshold" if e.role == "point" else "guard"
    return Row(
        task=MEAN if primary else e.task,
        primary=primary,
        mark=status_mark(e.status) if e.status else Mark("advisory", "idle", "dash"),
        at=axis.at(100.0 * e.drop),
        low=None if e.lower is None else axis.at(100.0 * e.lower),
        high=None if e.upper is None else axis.at(100.0 * e.upper),
        limit=None if e.margin is None else axis.at(100.0 * e.margin),
        limit_text="advisory" if e.margin is None else f"{kind} {points(e.margin, 1)}",
        drop=points(e.drop),
        interval=_interval(e),
        baseline=points(e.baseline, 1),
        candidate=points(e.candidate, 1),
        lost=_count(e.lost),
        won=_count(e.won),
        pairs=_count(e.n),
        point=point,
        label=_sentence(e),
    )


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _interval(e: Estimate) -> str:
    return "" if e.lower is None or e.upper is None else f"{bound_below(e.lower)} to {bound_above(e.upper)}"


def _sentence(e: Estimate) -> str:
    name = MEAN if e.task == MACRO else e.task
    interval = f", interval {_interval(e)}" if _interval(e) else ""
    limit = "no limit" if e.margin is None else f"limit {points(e.margin, 1)}"
    word = f": {e.status.value}" if e.status else ""
    return f"{name}: drop of {points(e.drop)} points{interval}, {limit}{word}"


def _notes(verdict: Verdict) -> tuple[str, ...]:
    notes = []
    extra = verdict.extra
    if verdict.needed:
        text = f"About {verdict.needed:,} pairs in all would settle it"
        bare = extra.get("needed_without_drop")
        if isinstance(bare, int) and not isinstance(bare, bool) and bare != verdict.needed:
            text += f"; about {bare:,} if the candidate is no worse at all"
        notes.append(text + ".")
    smallest = finite(extra.get("smallest_certified_margin"))
    if smallest is not None:
        notes.append(f"The smallest margin that this evidence certifies is {bound_above(smallest)} points.")
    flips = finite(extra.get("flip_rate"))
    if flips is not None:
        changed = f"{percent(flips)} of the answers" if flips else "No answer"
        notes.append(f"{changed} changed between right and wrong.")
    inferred = extra.get("inferred_scales")
    if isinstance(inferred, list | tuple) and inferred:
        names = ", ".join(one_line(n, 60) for n in inferred[:5])
        notes.append(f"The scale of {names} was declared nowhere: it was inferred from the scores.")
    return tuple(notes)


def _point(verdict: Verdict, estimates: Sequence[Estimate], beside: Mapping[str, Any]) -> Point | None:
    word = beside.get("decision")
    if not isinstance(word, str):
        return None
    agrees = verdict.outcome is not None and verdict.outcome.value == word
    own = verdict.extra.get("policy") == "point"
    return Point(
        mark=outcome_mark(word),
        detail=one_line(beside.get("detail", "")),
        agrees=agrees,
        why="This study is judged by the point rule itself." if own else _why(verdict, estimates, word),
    )


def _why(verdict: Verdict, estimates: Sequence[Estimate], word: str) -> str:
    """One sentence on why two numbers against a threshold say what the pairs say, or do not."""
    ours = verdict.outcome
    macro = next((e for e in estimates if e.task == MACRO), None)
    if ours is None or macro is None or Outcome.ANOMALOUS.value in (ours.value, word):
        same = ours is not None and ours.value == word
        return "Both refuse to judge." if same else "One of the two refuses to judge: see its reason."
    if ours.value == word:
        far = (
            "and the interval leaves no doubt about it" if macro.lower is not None else "on the same numbers"
        )
        return f"Both rules come to the same word, {far}."
    worst = max((e for e in estimates if e.task != MACRO), key=lambda e: e.drop, default=macro)
    name = "the mean" if worst is macro else worst.task
    seen = f"{name} drops by {points(worst.drop)} points as a bare number"
    spread = f"over {plural(worst.n, 'pair')} " if worst.n else "on these samples "
    if word == Outcome.REGRESSION.value:
        tail = (
            f"{spread}that may as well be {_interval(worst)}, too little to call it a regression"
            if ours is Outcome.INCONCLUSIVE
            else f"{spread}the interval {_interval(worst)} stays within what was allowed"
        )
        return f"The point rule refuses because {seen}; {tail}."
    if ours is Outcome.INCONCLUSIVE:
        return (
            "The point rule is content with the bare numbers; the mean's interval "
            f"{_interval(macro)} reaches beyond what was allowed, so a real drop cannot be excluded."
        )
    return (
        f"The point rule sees no task over its threshold; the pairs show a drop of {_interval(macro)} points."
    )
