"""The first screen of a study of texts: its word, why, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.core.decision import fold_study
from assay.core.history import StudyHistory
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome
from assay.ledger.evolve_records import PREFLIGHT, EvolveRecord
from assay.report._view.evolve.gain import change, gain_of
from assay.report._view.evolve.reasons import said
from assay.report._view.first_screen import Figure, Headline
from assay.report._view.marks import study_mark
from assay.report._view.settled import finite
from assay.report._view.text import duration, one_line, percent, plural

_SAID: Mapping[Outcome, str] = {
    Outcome.ACCEPT: "The new text does better",
    Outcome.NO_GAIN: "The new text is not shown to do better",
    Outcome.REGRESSION: "The new text does worse",
    Outcome.INFEASIBLE: "The new text may not be tried",
    Outcome.INCONCLUSIVE: "It is not settled whether the new text does better",
    Outcome.ANOMALOUS: "No judgement: the evidence is missing or cannot be trusted",
}


def headline(history: StudyHistory, records: Sequence[EvolveRecord], active_s: float, cost: str) -> Headline:
    """The first screen, in whatever state the study is.

    Args:
        history: the study.
        records: its trials.
        active_s: seconds that it took.
        cost: what its runs cost, in words.
    """
    chosen = _chosen(records)
    command, why = _command(history, records, chosen)
    return Headline(
        mark=study_mark(history),
        text=_text(history, records, chosen),
        lead=_lead(records, chosen),
        notes=tuple(_notes(history)),
        command=command,
        command_why=why,
        figures=tuple(_figures(chosen, records, active_s, cost)),
    )


def _chosen(records: Sequence[EvolveRecord]) -> EvolveRecord | None:
    """The trial that gives the study its word; else the last one that was begun."""
    decided = [(r, d) for r in records if (d := r.trial.decision) is not None and not d.interrupted]
    if not decided:
        return records[-1] if records else None
    word = fold_study([d.outcome for _, d in decided])
    return next(r for r, d in decided if d.outcome is word)


def _text(history: StudyHistory, records: Sequence[EvolveRecord], chosen: EvolveRecord | None) -> str:
    decision = chosen.trial.decision if chosen else None
    if chosen is None or decision is None or decision.interrupted:
        return _so_far(chosen)
    if decision.keeps and chosen.trial.id in history.applied:
        return "The new text does better, and is in force"
    verdict = chosen.deploy
    if decision.keeps and verdict is not None and _equivalent(verdict):
        return "The new text does as well, and is shorter"
    if chosen.artifact and not chosen.found:
        return "Nothing better was found"
    if decision.outcome is Outcome.INFEASIBLE and not chosen.artifact:
        return "No candidate could be judged"
    if decision.outcome is Outcome.INCONCLUSIVE and verdict is not None and _too_long(verdict):
        return "The new text does better, and it is not settled whether it earns its length"
    kept = sum(r.trial.decision is not None and r.trial.decision.keeps for r in records)
    if kept > 1:
        return f"{kept} of {len(records)} new texts do better"
    return _SAID[decision.outcome]


def _so_far(chosen: EvolveRecord | None) -> str:
    if chosen is None:
        return "Nothing was begun yet"
    steps = chosen.trial.steps
    if any(name.startswith("confirm") for name in steps):
        return "Nothing is decided yet: the confirmation goes on"
    if "build" in steps:
        return "Nothing is decided yet: a candidate is there and is not confirmed"
    if PREFLIGHT in steps:
        return "Nothing is decided yet: a candidate is being looked for"
    return "Nothing is decided yet"


def _equivalent(verdict: Verdict) -> bool:
    """Accepted for being shorter: no gain was shown, only that nothing is lost."""
    p, level = finite(verdict.extra.get("p_better")), finite(verdict.extra.get("alpha_better"))
    return p is not None and level is not None and p > level * (1 + 1e-9)


def _too_long(verdict: Verdict) -> bool:
    """A gain is shown, and not the one that the length costs."""
    p, level = finite(verdict.extra.get("p_better")), finite(verdict.extra.get("alpha_better"))
    bar = finite(verdict.extra.get("bar"))
    return None not in (p, level, bar) and (p or 0.0) <= (level or 0.0) * (1 + 1e-9) and (bar or 0.0) > 0


def _lead(records: Sequence[EvolveRecord], chosen: EvolveRecord | None) -> str:
    if chosen is None:
        return "No candidate was begun."
    decision = chosen.trial.decision
    if decision is None:
        verdict = chosen.deploy
        return f"So far: {verdict.detail}" if verdict is not None else "No gate has judged a candidate yet."
    sentence = said(decision)
    return f"{chosen.trial.candidate.name}: {sentence}" if len(records) > 1 else sentence


def _notes(history: StudyHistory) -> list[str]:
    notes = []
    if history.closed:
        notes.append(f"The study ended: {one_line(history.closed.get('why', '')).rstrip('.')}.")
    for token in history.applied.values():
        notes += [f"Applied: {one_line(c)}." for c in token.get("changes", []) if isinstance(c, str)]
    notes += [f"{t}: its application was begun and not finished." for t in history.apply_pending]
    notes += [f"{t}: taking it back was begun and not finished." for t in history.undo_pending]
    return notes


def _command(
    history: StudyHistory, records: Sequence[EvolveRecord], chosen: EvolveRecord | None
) -> tuple[str, str]:
    study = history.study.id
    if not history.closed or history.apply_pending:
        return f"assay resume {study}", "goes on where the ledger stops and repeats no run"
    if history.applied:
        return f"assay undo {next(iter(history.applied))}", "brings the old text back, byte by byte"
    decision = chosen.trial.decision if chosen else None
    if chosen is not None and decision is not None and decision.keeps:
        kept = [r for r in records if r.trial.decision is not None and r.trial.decision.keeps]
        return f"assay apply {kept[-1].trial.id}", "puts the new text in the place of the old one"
    return f"assay show {chosen.trial.id if chosen else study}", "lists every reason on the terminal"


def _figures(
    chosen: EvolveRecord | None, records: Sequence[EvolveRecord], active_s: float, cost: str
) -> list[Figure]:
    made: list[Figure] = []
    verdict = chosen.deploy if chosen else None
    gain = gain_of(verdict)
    if gain is not None:
        level = f" ({percent(gain.level, 0)})" if gain.level else ""
        made.append(Figure("Gain of the mean", f"{change(gain.value, 1)} points", gain.told + level))
        macro = next(e for e in verdict.estimates if e.drop == -gain.value) if verdict else None
        if macro is not None:
            made.append(
                Figure(
                    "Pass rate",
                    f"{percent(macro.baseline, 0)} → {percent(macro.candidate, 0)}",
                    plural(gain.n, "task") if gain.n else "",
                )
            )
    if chosen is not None and chosen.found and (growth := _growth(chosen)) is not None:
        made.append(Figure("Length", growth[0], growth[1]))
    runs = sum(_runs_of(r) for r in records)
    shared = {id(r.preflight): len(r.preflight.runs) for r in records[:1] if r.preflight}
    made.append(
        Figure("Agent runs", f"{runs + sum(shared.values()):,}", cost)
        if runs or shared
        else Figure("Agent runs", "none yet", "")
    )
    made.append(Figure("Took", duration(active_s), plural(len(records), "candidate")))
    return made


def _runs_of(record: EvolveRecord) -> int:
    return (len(record.runs.runs) if record.runs else 0) + (record.evolution.runs if record.evolution else 0)


def _growth(record: EvolveRecord) -> tuple[str, str] | None:
    chars = record.runs.text_chars if record.runs else {}
    before, after = chars.get("baseline"), chars.get("candidate")
    found = record.evolution
    if (before is None or after is None) and found is not None:
        held = {n.number: n.chars for n in found.nodes}
        before, after = held.get(0), held.get(found.picked)
    if before is None or after is None:
        return None
    share = (after - before) / max(1, before)
    return f"{change(share)} %", f"{before:,} to {after:,} characters"
