"""The ladder of recipes at a glance, the sizes beside each other, and the picture of every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay.core import hub
from assay.core.candidate import Candidate
from assay.core.sizes import size
from assay.report._view.marks import NOT_TRIED, Mark
from assay.report._view.release.comparison import Mini, mini
from assay.report._view.release.precision import Precision, Segment, average, precision, segments, whole
from assay.report._view.release.trial import Cast, Subject
from assay.report._view.text import one_line, percent, points

_OPTIONS = ("scheme", "type", "recipe", "num_bits", "group_size", "strategy", "algorithm", "command")
"""Options of a build that say most, where they are set."""


@dataclass(frozen=True)
class Rung:
    """One recipe of the ladder on the first screen."""

    anchor: str
    """Empty for a recipe that was not tried."""
    name: str
    mark: Mark
    made_by: str
    size: str
    share: str
    segments: tuple[Segment, ...]
    mini: Mini | None
    instead: str
    """What is said where there is no drop to draw."""
    target: str


@dataclass(frozen=True)
class SizeBar:
    """One checkpoint in the chart of sizes."""

    name: str
    mark: Mark | None
    size: str
    share: str
    bits: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Picture:
    """The picture of one checkpoint's weights, or why there is none."""

    name: str
    mark: Mark
    precision: Precision | None
    problem: str


def made_by(candidate: Candidate) -> str:
    """The build of a candidate in a few words."""
    options = candidate.build.options
    shown = [
        f"{k.replace('_', ' ')} {one_line(options[k], 60)}" for k in _OPTIONS if options.get(k) is not None
    ]
    return " · ".join([candidate.build.kind.replace("_", "-"), *shown])


def ladder(cast: Cast) -> tuple[Rung, ...]:
    """The source, every candidate that was tried, and those that were not."""
    if cast.grows:
        return tuple(_grown(s, cast) for s in cast.subjects)
    tried = {s.trial.candidate.key for s in cast.subjects}
    untried = [c for c in cast.planned if c.key not in tried]
    return (_source(cast), *(_rung(s, cast) for s in cast.subjects), *(_untried(c) for c in untried))


def _source(cast: Cast) -> Rung:
    macro = next((s.macro for s in cast.subjects if s.macro), None)
    count = cast.source_bytes
    return Rung(
        anchor="",
        name=hub.title(cast.history.study.source.path),
        mark=Mark("SOURCE", "idle", "dash"),
        made_by="what candidates are held against",
        size=size(count),
        share="",
        segments=_source_segments(cast, count),
        mini=None,
        instead=f"mean score {points(macro.baseline, 1)}" if macro else "",
        target="",
    )


def _rung(subject: Subject, cast: Cast) -> Rung:
    count, before = subject.bytes, cast.source_bytes
    drawn = mini(subject.compare) if subject.compare else None
    return Rung(
        anchor=subject.anchor,
        name=subject.name,
        mark=subject.mark,
        made_by=made_by(subject.trial.candidate),
        size="" if count is None else size(count),
        share="" if count is None or not before else f"{percent(count / before, 0)} of the source",
        segments=_segments(subject, cast, max(before, count or 0)),
        mini=drawn,
        instead="" if drawn else subject.reason,
        target=cast.target(subject),
    )


def _grown(subject: Subject, cast: Cast) -> Rung:
    """A candidate that changes the best one before it: what it changes, and what came of that."""
    intent = subject.trial.candidate.intent
    patch = intent.get("patch")
    changes = patch.items() if isinstance(patch, Mapping) else ()
    changed = ", ".join(f"{one_line(key)} = {one_line(value, 60)}" for key, value in changes)
    claim = one_line(intent.get("hypothesis") or "")
    return Rung(
        anchor=subject.anchor,
        name=subject.name,
        mark=subject.mark,
        made_by=" · ".join(part for part in (changed, claim) if part),
        size="",
        share="",
        segments=(),
        mini=None,
        instead=subject.reason,
        target=cast.target(subject),
    )


def _untried(candidate: Candidate) -> Rung:
    return Rung("", candidate.name, NOT_TRIED, made_by(candidate), "", "", (), None, "", "")


def sizes(cast: Cast) -> tuple[SizeBar, ...]:
    """The source and every candidate on one scale; none where candidates are no versions of one checkpoint."""
    if cast.grows:
        return ()
    before = cast.source_bytes
    longest = max([before, *(s.bytes or 0 for s in cast.subjects)])
    drawn = _source_segments(cast, longest)
    bars = [SizeBar("source", None, size(before), percent(1.0), average(cast.source), drawn)]
    for subject in cast.subjects:
        count = subject.bytes
        bars.append(
            SizeBar(
                name=subject.name,
                mark=subject.mark,
                size="no artifact" if count is None else size(count),
                share="" if count is None or not before else percent(count / before),
                bits=average(subject.checkpoint),
                segments=_segments(subject, cast, longest),
            )
        )
    return tuple(bars)


def pictures(cast: Cast) -> tuple[Picture, ...]:
    """Every candidate's weights."""
    if cast.grows:
        return ()
    return tuple(_picture(s, cast) for s in cast.subjects)


def _picture(subject: Subject, cast: Cast) -> Picture:
    if subject.checkpoint is not None:
        return Picture(subject.name, subject.mark, precision(subject.checkpoint, cast.styles), "")
    why = "its weights were not looked at" if subject.artifact else "nothing was built"
    return Picture(subject.name, subject.mark, None, why)


def _source_segments(cast: Cast, longest: int) -> tuple[Segment, ...]:
    if cast.source is None:
        return (whole(cast.source_bytes, longest),)
    return segments(cast.source, longest, cast.styles)


def _segments(subject: Subject, cast: Cast, longest: int) -> tuple[Segment, ...]:
    if subject.checkpoint is not None:
        return segments(subject.checkpoint, longest, cast.styles)
    return () if subject.bytes is None else (whole(subject.bytes, longest),)
