"""The first screen: the word of the study, what it means, why, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.decision import fold_study
from assay.core.events import EventType
from assay.core.sizes import size
from assay.core.triage import TRIAGE
from assay.core.vocabulary import Action, Outcome
from assay.report._view.first_screen import Figure, Headline
from assay.report._view.gates import MACRO
from assay.report._view.marks import INTERRUPTED, UNFINISHED, Mark, study_mark
from assay.report._view.release.trial import Cast, Subject
from assay.report._view.text import (
    bound_above,
    bound_below,
    day,
    duration,
    one_line,
    percent,
    plural,
    points,
)

_NOTHING = {
    Outcome.REGRESSION.value: "Nothing may be {done}: what was tried is worse than its source",
    Outcome.INCONCLUSIVE.value: "Nothing may be {done} yet: the evidence does not settle it",
    Outcome.NO_GAIN.value: "Nothing is {done}: no candidate is a gain",
    Outcome.INFEASIBLE.value: "Nothing can be {done}: no candidate is what it must be",
    Outcome.ANOMALOUS.value: "No judgement: the evidence is missing or cannot be trusted",
}


def headline(cast: Cast, active_s: float) -> Headline:
    """The first screen of a study.

    Args:
        cast: the study.
        active_s: seconds that it took.
    """
    kept = [s for s in cast.subjects if s.decision is not None and s.decision.keeps]
    chosen = _chosen(cast, kept)
    mark = study_mark(cast.history)
    done = "published" if cast.history.study.job == "release" else "applied"
    command, why = _command(cast, kept, chosen)
    return Headline(
        mark=mark,
        text=_text(cast, kept, chosen, mark, done),
        lead=_lead(chosen, named=not kept),
        notes=tuple(_notes(cast, done)),
        command=command,
        command_why=why,
        figures=tuple(_figures(cast, chosen, active_s)),
    )


def _chosen(cast: Cast, kept: list[Subject]) -> Subject | None:
    """The trial that gave the study its word."""
    if kept:
        applied = [s for s in kept if s.trial.id in cast.history.applied]
        return (applied or kept)[-1]
    decided = [(s, s.decision.outcome) for s in cast.subjects if s.decision is not None]
    if not decided:
        return None
    word = fold_study([outcome for _, outcome in decided])
    return next(s for s, outcome in decided if outcome is word)


def _text(cast: Cast, kept: list[Subject], chosen: Subject | None, mark: Mark, done: str) -> str:
    if kept and chosen is not None:
        if cast.target(chosen):
            return f"{chosen.name} is {done}"
        if advance := _advance(cast):
            held = advance.get("word") == "ADVANCE"
            return (
                f"{chosen.name} may advance" if held else f"{chosen.name} is the best, and a person is needed"
            )
        if len(kept) > 1:
            return f"{len(kept)} of {plural(len(cast.subjects), 'candidate')} may be {done}"
        return f"{chosen.name} may be {done}"
    if mark in (INTERRUPTED, UNFINISHED):
        judged = len([s for s in cast.subjects if s.decision])
        return f"Nothing is decided yet: {plural(judged, 'candidate') if judged else 'no candidate'} judged so far"
    return _NOTHING.get(mark.word.replace(" ", "_"), "The study ended").format(done=done)


def _advance(cast: Cast) -> Mapping[str, Any]:
    """Whether the best candidate may advance, where the study asks that at its end."""
    found = (cast.history.closed or {}).get("advance")
    return found if isinstance(found, Mapping) else {}


def _lead(chosen: Subject | None, *, named: bool) -> str:
    if chosen is None or chosen.decision is None:
        return "No candidate has a Decision that stands."
    sentence = chosen.decision.sentence.removeprefix("compare: ")
    return f"{chosen.name}: {sentence}" if named else sentence


def _notes(cast: Cast, done: str) -> list[str]:
    history = cast.history
    targets = [(s.name, cast.target(s)) for s in cast.subjects if cast.target(s)]
    alone = len(targets) == 1
    notes = [f"It lies in {t}." if alone else f"{name} lies in {t}." for name, t in targets]
    if history.closed:
        notes.append(f"The study ended: {one_line(history.closed.get('why', '')).rstrip('.')}.")
    if advance := _advance(cast):
        notes.append(
            f"{one_line(advance.get('word', ''))}: {one_line(advance.get('reason', '')).rstrip('.')}."
        )
    if history.applied and not any(token.get("changes") for token in history.applied.values()):
        notes.append("Nothing was changed: the spec says `apply: none`.")
    notes += [f"{t}: its application was begun and not finished." for t in history.apply_pending]
    notes += [f"{t}: taking it back was begun and not finished." for t in history.undo_pending]
    undone = {str(e.data.get("trial")) for e in history.events if e.type is EventType.UNDO_DONE}
    notes += [f"{t} was {done} and taken back." for t in sorted(undone - set(history.applied))]
    return notes


def _command(cast: Cast, kept: list[Subject], chosen: Subject | None) -> tuple[str, str]:
    history = cast.history
    study = history.study.id
    if not history.closed or history.apply_pending:
        return f"assay resume {study}", "goes on where the ledger stops"
    if _advance(cast).get("word", "ADVANCE") != "ADVANCE" and chosen:
        return f"assay show {chosen.trial.id}", "lists every reason on the terminal"
    waiting = [s for s in kept if s.trial.id not in history.applied]
    if waiting and not history.applied:
        return f"assay apply {waiting[-1].trial.id}", "shows what would change"
    failure = chosen.decision.failure_class if chosen and chosen.decision else None
    action = TRIAGE[failure].action if failure else None
    if action is Action.ABORT_STUDY:
        return f"assay resume {study}", "goes on once the cause is mended"
    if action is Action.INVESTIGATE and chosen:
        return f"assay show {chosen.trial.id}", "lists every reason on the terminal"
    return f"assay verify {study}", "derives every verdict again from the evidence"


def _figures(cast: Cast, chosen: Subject | None, active_s: float) -> list[Figure]:
    found = _drop(chosen) if chosen is not None else []
    if cast.grows:
        found = _metric(cast)
    elif chosen is not None and chosen.decision is not None and chosen.decision.keeps:
        found = [*_size(chosen, cast.source_bytes), *found]
    planned = len(cast.planned)
    tried = plural(len(cast.subjects), "recipe" if cast.history.study.job == "release" else "candidate")
    found.append(Figure("Tried", tried, f"of {planned} in the ladder" if planned else ""))
    found.append(Figure("Took", duration(active_s), f"begun {day(cast.history.opened)}"))
    return found


def _metric(cast: Cast) -> list[Figure]:
    """The value of the best candidate, where candidates grow out of each other."""
    advance, rules = _advance(cast), cast.history.study.stopping
    value = advance.get("value")
    if rules is None or not isinstance(value, int | float):
        return []
    tier = f"tier {one_line(advance['tier'])}" if advance.get("tier") else "no threshold declared"
    return [Figure(rules.metric.name, f"{value:.6g}", tier)]


def _size(chosen: Subject, before: int) -> list[Figure]:
    if chosen.bytes is None or not before:
        return []
    saved = 1.0 - chosen.bytes / before
    word = "smaller" if saved >= 0 else "larger"
    return [Figure("Size", f"{percent(abs(saved), 0)} {word}", f"{size(before)} to {size(chosen.bytes)}")]


def _drop(chosen: Subject) -> list[Figure]:
    macro = chosen.macro
    if macro is None or chosen.compare is None:
        return []
    parts = []
    if macro.lower is not None and macro.upper is not None:
        parts.append(f"{bound_below(macro.lower)} to {bound_above(macro.upper)}")
    if macro.margin is not None:
        parts.append(f"margin {points(macro.margin, 1)}")
    found = [Figure("Drop of the mean", f"{points(macro.drop)} points", ", ".join(parts))]
    if macro.n is not None:
        tasks = plural(len([e for e in chosen.compare.estimates if e.task != MACRO]), "task")
        flips = "" if macro.lost is None else f", {macro.lost:,} lost, {macro.won or 0:,} won"
        found.append(Figure("Evidence", f"{macro.n:,} pairs", tasks + flips))
    return found
