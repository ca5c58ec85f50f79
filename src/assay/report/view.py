"""What the HTML report shows, as plain typed data: a history and its documents in, frozen dataclasses out.

Nothing is computed in the template and nothing is read here but what the ledger and the store hold. Missing or
damaged documents become sentences in the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError

from assay.core.candidate import Candidate
from assay.core.checkpoint import Checkpoint
from assay.core.decision import Decision, fold_study
from assay.core.events import EventType
from assay.core.history import StudyHistory, replay
from assay.core.ports import Store
from assay.core.results import Results
from assay.core.trial import Trial
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome
from assay.report._view import comparison as compared
from assay.report._view import precision as weights
from assay.report._view.contract import Verification, verification
from assay.report._view.documents import Documents
from assay.report._view.gates import GateView, gates, lines
from assay.report._view.marks import (
    INTERRUPTED,
    NOT_TRIED,
    UNFINISHED,
    Mark,
    decision_mark,
    outcome_mark,
)
from assay.report._view.text import Digest, digest_of, moment, one_line, percent, plural, points, size
from assay.report._view.timeline import RunView, Timeline, runs, timeline


@dataclass(frozen=True)
class Figure:
    """One number of the first screen."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Rung:
    """One recipe of the ladder on the first screen."""

    anchor: str
    """Empty for a recipe that was not tried."""
    name: str
    mark: Mark
    made_by: str
    size: str
    saved: str
    segments: tuple[weights.Segment, ...]
    mini: compared.Mini | None
    why_no_drop: str
    published: str


@dataclass(frozen=True)
class SizeBar:
    """One checkpoint in the chart of sizes."""

    name: str
    mark: Mark | None
    size: str
    share: str
    bits: str
    segments: tuple[weights.Segment, ...]


@dataclass(frozen=True)
class PrecisionView:
    """The picture of one checkpoint's weights, or why there is none."""

    name: str
    mark: Mark | None
    picture: weights.Precision | None
    problem: str


@dataclass(frozen=True)
class CandidateView:
    """Everything about one candidate."""

    anchor: str
    number: int
    name: str
    trial: str
    mark: Mark
    sentence: str
    advice: str
    made_by: str
    options: tuple[tuple[str, str], ...]
    artifact: str
    artifact_digest: Digest | None
    notes: tuple[str, ...]
    applied: tuple[str, ...]
    comparison: compared.Comparison | None
    no_comparison: str
    gates: tuple[GateView, ...]
    runs: tuple[RunView, ...]


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    study: str
    job: str
    question: str
    when: str
    mark: Mark
    headline: str
    lead: str
    notes: tuple[str, ...]
    command: str
    """What to type next, if anything."""
    command_why: str
    figures: tuple[Figure, ...]
    ladder: tuple[Rung, ...]
    sizes: tuple[SizeBar, ...]
    precision: tuple[PrecisionView, ...]
    legend: tuple[weights.Swatch, ...]
    candidates: tuple[CandidateView, ...]
    timeline: Timeline
    verification: Verification
    problems: tuple[tuple[Digest, str], ...]


def build_page(store: Store, history: StudyHistory) -> Page:
    """The page of a study, in whatever state the study is.

    Args:
        store: the documents.
        history: the study; its events decide, so that a live and a replayed history give the same page.
    """
    history = _settled(history)
    documents = Documents(store)
    trials = [_Trial(t, history, documents) for t in history.trials.values()]
    source = next((t.source for t in trials if t.source is not None), None)
    all_runs = runs(history)
    verdict = _Headline(history, trials, source)
    checkpoints = [c for c in (source, *(t.checkpoint for t in trials)) if c is not None]
    candidates = tuple(_candidate(t, history, documents, all_runs) for t in trials)
    checked = verification(history, documents)
    return Page(
        title=f"{verdict.mark.word}: {history.study.id}",
        study=history.study.id,
        job=history.study.job,
        question=history.study.question,
        when=moment(history.opened),
        mark=verdict.mark,
        headline=verdict.headline,
        lead=verdict.lead,
        notes=tuple(verdict.notes()),
        command=verdict.command[0],
        command_why=verdict.command[1],
        figures=tuple(verdict.figures()),
        ladder=(_source_rung(history, source, trials), *_rungs(history, trials, source)),
        sizes=tuple(_sizes(history, trials, source)),
        precision=tuple(_pictures(history, trials, source)),
        legend=weights.merged_legend(checkpoints),
        candidates=candidates,
        timeline=timeline(history),
        verification=checked,
        problems=tuple((digest_of(d), why) for d, why in documents.problems.items()),
    )


def _settled(history: StudyHistory) -> StudyHistory:
    """The history as its events tell it; the engine's own copy also holds borrowed steps."""
    try:
        found = replay(history.events).get(history.study.id)
    except (KeyError, ValueError):  # hand-made events without their opening
        found = None
    return found or history


class _Trial:
    """A trial with the documents that the page needs of it."""

    def __init__(self, trial: Trial, history: StudyHistory, documents: Documents) -> None:
        self.trial = trial
        self.name = trial.candidate.name
        self.anchor = f"candidate-{trial.number}"
        self.mark = decision_mark(trial.decision)
        known = {line.gate: documents.verdict(line.verdict) for line in lines(trial, history.study)}
        self.verdicts: dict[str, Verdict] = {name: v for name, v in known.items() if v is not None}
        self.compare = self.verdicts.get("compare")
        digests = {r.evidence for r in trial.steps.values() if r.evidence}
        for verdict in self.verdicts.values():
            digests |= set(verdict.reads.values())
        held = [documents.evidence(d) for d in sorted(digests)]
        roles = {r.evidence: r.role for r in (*history.shared.values(), *trial.steps.values())}
        self.checkpoint: Checkpoint | None = None
        self.source: Checkpoint | None = None
        self.results: list[Results] = [e for e in held if isinstance(e, Results)]
        for digest, evidence in zip(sorted(digests), held, strict=True):
            if isinstance(evidence, Checkpoint):
                if roles.get(digest) == "source.checkpoint" or evidence.subject == "source":
                    self.source = evidence
                else:
                    self.checkpoint = evidence
        self.artifact = next((r.artifact for r in trial.steps.values() if r.artifact), None)

    @property
    def bytes(self) -> int | None:
        """Bytes of the weights; of all files where the weights were not looked at."""
        if self.checkpoint is not None:
            return self.checkpoint.weight_bytes
        return self.artifact.size_bytes if self.artifact else None

    @property
    def decision(self) -> Decision | None:
        """The Decision that stands."""
        decision = self.trial.decision
        return None if decision is None or decision.interrupted else decision


class _Headline:
    """The word of the study and why."""

    def __init__(self, history: StudyHistory, trials: Sequence[_Trial], source: Checkpoint | None) -> None:
        self.history = history
        self.trials = trials
        self.source = source
        self.kept = [t for t in trials if t.decision is not None and t.decision.keeps]
        word = history.closed.get("outcome") if history.closed else None
        self.mark = outcome_mark(word) if word else INTERRUPTED if history.interrupted else UNFINISHED
        self.published = "published" if history.study.job == "release" else "applied"
        self.subject = self._subject()

    def _subject(self) -> _Trial | None:
        """The trial that gave the study its word."""
        if self.kept:
            applied = [t for t in self.kept if t.trial.id in self.history.applied]
            return (applied or self.kept)[-1]
        decided = [t for t in self.trials if t.decision is not None]
        if not decided:
            return None
        word = fold_study([t.decision.outcome for t in decided if t.decision])
        return next((t for t in decided if t.decision and t.decision.outcome is word), decided[-1])

    @property
    def headline(self) -> str:
        """One sentence over the page."""
        if self.kept and self.subject is not None:
            return self._kept_headline(self.subject)
        if self.mark in (INTERRUPTED, UNFINISHED):
            done = plural(len([t for t in self.trials if t.decision]), "candidate")
            return f"Nothing is decided for good: {done} judged so far"
        texts = {
            Outcome.REGRESSION.value: f"Nothing may be {self.published}: what was tried is worse than its source",
            Outcome.INCONCLUSIVE.value: f"Nothing may be {self.published} yet: the evidence does not settle it",
            Outcome.NO_GAIN.value: f"Nothing is {self.published}: no candidate is a gain",
            Outcome.INFEASIBLE.value: f"Nothing to {self.published.removesuffix('ed')}: no candidate can be used",
            Outcome.ANOMALOUS.value: "No judgement: something is wrong with the measurement itself",
        }
        return texts.get(self.mark.word.replace(" ", "_"), "The study ended")

    def _kept_headline(self, subject: _Trial) -> str:
        where = _target(self.history, subject.trial.id)
        if where:
            return f"{subject.name} is {self.published} to {where}"
        if len(self.kept) > 1:
            return f"{len(self.kept)} of {plural(len(self.trials), 'candidate')} may be {self.published}"
        return f"{subject.name} may be {self.published}"

    @property
    def lead(self) -> str:
        """The reason, in the Decision's own words."""
        if self.subject is None or self.subject.decision is None:
            return "No candidate has a Decision that stands."
        sentence = self.subject.decision.sentence.removeprefix("compare: ")
        return sentence if self.kept else f"{self.subject.name}: {sentence}"

    def notes(self) -> list[str]:
        """What else belongs on the first screen."""
        notes = []
        closed = self.history.closed
        if closed:
            notes.append(f"The study ended because {one_line(closed.get('why', 'nobody said'))}.")
        for trial, token in self.history.applied.items():
            changes = token.get("changes") or ["changed nothing: the spec says `apply: none`"]
            notes += [f"{trial} {one_line(c)}." for c in changes]
        notes += [f"{t}: its application was begun and not finished." for t in self.history.apply_pending]
        notes += [f"{t}: taking it back was begun and not finished." for t in self.history.undo_pending]
        undone = {e.data.get("trial") for e in self.history.events if e.type is EventType.UNDO_DONE}
        notes += [
            f"{t} was {self.published} and taken back."
            for t in sorted(map(str, undone))
            if t not in self.history.applied
        ]
        return notes

    @property
    def command(self) -> tuple[str, str]:
        """The next command, and what it is for."""
        study = self.history.study.id
        unfinished = self.mark in (INTERRUPTED, UNFINISHED)
        if unfinished or self.history.apply_pending or self.history.undo_pending:
            return f"assay resume {study}", "goes on where the ledger stops"
        waiting = [t for t in self.kept if t.trial.id not in self.history.applied]
        if waiting and not self.history.applied:
            return f"assay apply {waiting[-1].trial.id}", "shows what would change"
        return f"assay verify {study}", "derives this verdict again from the evidence"

    def figures(self) -> list[Figure]:
        """The numbers of the first screen."""
        found = []
        subject = self.subject
        if subject is not None:
            found += _size_figure(subject, self._source_bytes)
            found += _drop_figure(subject)
        tried = plural(len(self.trials), "recipe" if self.history.study.job == "release" else "candidate")
        planned = len(_planned(self.history))
        of = f"of {planned} in the ladder" if planned else ""
        found.append(Figure("Tried", tried, of))
        found.append(Figure("Time", timeline(self.history).total, f"opened {moment(self.history.opened)}"))
        return found

    @property
    def _source_bytes(self) -> int:
        return self.source.weight_bytes if self.source else self.history.study.source.size_bytes


def _size_figure(subject: _Trial, before: int) -> list[Figure]:
    if subject.bytes is None or not before:
        return []
    saved = 1.0 - subject.bytes / before
    word = "smaller" if saved >= 0 else "larger"
    return [Figure("Size", f"{percent(abs(saved), 0)} {word}", f"{size(before)} to {size(subject.bytes)}")]


def _drop_figure(subject: _Trial) -> list[Figure]:
    macro = (
        next((e for e in subject.compare.estimates if e.task == compared.MACRO), None)
        if subject.compare
        else None
    )
    if macro is None:
        return []
    sure = ""
    if macro.lower is not None and macro.upper is not None:
        sure = f"{points(macro.lower)} to {points(macro.upper)}"
        sure += f"; margin {points(macro.margin, 1)}" if macro.margin is not None else ""
    found = [Figure("Drop of the mean", f"{points(macro.drop)} points", sure)]
    if macro.n is not None:
        tasks = (
            len([e for e in subject.compare.estimates if e.task != compared.MACRO]) if subject.compare else 0
        )
        flips = "" if macro.lost is None else f"{macro.lost:,} lost, {macro.won or 0:,} won"
        found.append(
            Figure("Evidence", f"{macro.n:,} pairs", f"{plural(tasks, 'task')}; {flips}".strip("; "))
        )
    return found


def _target(history: StudyHistory, trial: str) -> str:
    """Where an accepted candidate was put; empty if nothing was changed."""
    token = history.applied.get(trial)
    if not token or not token.get("changes"):
        return ""
    path = token.get("path")
    return one_line(path) if isinstance(path, str) else "its target"


def _planned(history: StudyHistory) -> list[Candidate]:
    """The candidates that the proposer holds, where it is a ladder."""
    listed = history.study.proposer.options.get("candidates")
    found = []
    for value in listed if isinstance(listed, list | tuple) else ():
        try:
            found.append(Candidate.from_json(value))
        except ValidationError:
            continue
    return found


_OPTIONS = ("scheme", "type", "recipe", "num_bits", "group_size", "strategy", "algorithm", "command")


def _made_by(candidate: Candidate) -> str:
    options = candidate.build.options
    shown = [
        f"{k.replace('_', ' ')} {one_line(options[k], 60)}" for k in _OPTIONS if options.get(k) is not None
    ]
    return " · ".join([candidate.build.kind.replace("_", "-"), *shown])


def _scalars(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(k), one_line(v, 200)) for k, v in sorted(options.items()) if v is not None)


def _source_rung(history: StudyHistory, source: Checkpoint | None, trials: Sequence[_Trial]) -> Rung:
    count = source.weight_bytes if source else history.study.source.size_bytes
    macro = next(
        (e for t in trials if t.compare for e in t.compare.estimates if e.task == compared.MACRO),
        None,
    )
    return Rung(
        anchor="",
        name=PurePath(history.study.source.path).name or "source",
        mark=Mark("SOURCE", "idle", "dash"),
        made_by="the baseline that candidates are held against",
        size=size(count),
        saved="",
        segments=weights.segments(source, count) if source else (weights.whole(count, count),),
        mini=None,
        why_no_drop=f"scores {points(macro.baseline, 1)} on the mean" if macro else "",
        published="",
    )


def _rungs(history: StudyHistory, trials: Sequence[_Trial], source: Checkpoint | None) -> list[Rung]:
    before = source.weight_bytes if source else history.study.source.size_bytes
    rungs = [_rung(t, history, before) for t in trials]
    tried = {t.trial.candidate.key for t in trials}
    for candidate in _planned(history):
        if candidate.key not in tried:
            rungs.append(_untried(candidate))
    return rungs


def _rung(trial: _Trial, history: StudyHistory, before: int) -> Rung:
    count = trial.bytes
    small = compared.mini(trial.compare) if trial.compare else None
    return Rung(
        anchor=trial.anchor,
        name=trial.name,
        mark=trial.mark,
        made_by=_made_by(trial.trial.candidate),
        size="" if count is None else size(count),
        saved="" if count is None or not before else f"{percent(count / before, 0)} of the source",
        segments=_segments(trial, before),
        mini=small,
        why_no_drop="" if small else _no_comparison(trial),
        published=_target(history, trial.trial.id),
    )


def _untried(candidate: Candidate) -> Rung:
    return Rung("", candidate.name, NOT_TRIED, _made_by(candidate), "", "", (), None, "", "")


def _segments(trial: _Trial, before: int) -> tuple[weights.Segment, ...]:
    whole = max(before, trial.bytes or 0)
    if trial.checkpoint is not None:
        return weights.segments(trial.checkpoint, whole)
    return () if trial.bytes is None else (weights.whole(trial.bytes, whole),)


def _sizes(history: StudyHistory, trials: Sequence[_Trial], source: Checkpoint | None) -> list[SizeBar]:
    before = source.weight_bytes if source else history.study.source.size_bytes
    whole = max([before, *(t.bytes or 0 for t in trials)])
    drawn = weights.segments(source, whole) if source else (weights.whole(before, whole),)
    bars = [SizeBar("source", None, size(before), "100 %", weights.average(source), drawn)]
    for trial in trials:
        count = trial.bytes
        if count is None:
            bars.append(SizeBar(trial.name, trial.mark, "no artifact", "", "", ()))
            continue
        share = percent(count / before) if before else ""
        bars.append(
            SizeBar(
                trial.name,
                trial.mark,
                size(count),
                share,
                weights.average(trial.checkpoint),
                _segments(trial, whole),
            )
        )
    return bars


def _pictures(
    history: StudyHistory, trials: Sequence[_Trial], source: Checkpoint | None
) -> list[PrecisionView]:
    views = []
    for trial in trials:
        if trial.checkpoint is not None:
            views.append(PrecisionView(trial.name, trial.mark, weights.precision(trial.checkpoint), ""))
        elif trial.artifact is not None:
            views.append(
                PrecisionView(trial.name, trial.mark, None, "its weights were not looked at, or not kept")
            )
        else:
            views.append(PrecisionView(trial.name, trial.mark, None, "nothing was built"))
    return views


def _no_comparison(trial: _Trial) -> str:
    decision = trial.trial.decision
    if trial.compare is not None:
        return trial.compare.detail
    if decision is None:
        return "not compared: the trial is unfinished"
    return f"not compared: {decision.sentence}"


def _candidate(
    trial: _Trial, history: StudyHistory, documents: Documents, all_runs: Sequence[RunView]
) -> CandidateView:
    decision = trial.trial.decision
    artifact = trial.artifact
    notes = [
        one_line(n)
        for step in trial.trial.steps.values()
        for n in (step.facts.get("notes") or () if isinstance(step.facts.get("notes"), list | tuple) else ())
    ]
    views = gates(trial.trial, history.study, documents)
    found = compared.comparison(trial.compare) if trial.compare else None
    token = history.applied.get(trial.trial.id, {})
    return CandidateView(
        anchor=trial.anchor,
        number=trial.trial.number,
        name=trial.name,
        trial=trial.trial.id,
        mark=trial.mark,
        sentence=decision.sentence if decision else "this trial has no Decision yet",
        advice=next((g.advice for g in views if g.advice and g.open), ""),
        made_by=_made_by(trial.trial.candidate),
        options=_scalars(trial.trial.candidate.build.options),
        artifact="" if artifact is None else f"{artifact.path}, {size(artifact.size_bytes)} with all files",
        artifact_digest=digest_of(artifact.digest) if artifact else None,
        notes=tuple(notes),
        applied=tuple(one_line(c) for c in token.get("changes") or ()),
        comparison=found,
        no_comparison="" if found else _no_comparison(trial),
        gates=views,
        runs=tuple(r for r in all_runs if r.trial == trial.trial.id),
    )
