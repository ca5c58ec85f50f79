"""One candidate of a study of texts, with its pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace

from assay.core.history import StudyHistory
from assay.core.triage import TRIAGE
from assay.core.vocabulary import FailureClass
from assay.gates.deploy import DeployPolicy
from assay.ledger.evolve_records import DEPLOY, EvolveRecord
from assay.report._view.documents import Documents
from assay.report._view.evolve.costs import Meddling, meddlings
from assay.report._view.evolve.diff import Diff, diff
from assay.report._view.evolve.gain import Gain, change, gain_of
from assay.report._view.evolve.growth import Scatter, scatter
from assay.report._view.evolve.lineage import Lineage, lineage
from assay.report._view.evolve.looks import Looks, looks
from assay.report._view.evolve.nodes import promised
from assay.report._view.evolve.outcomes import ArmRow, outcomes
from assay.report._view.evolve.reasons import needed_text, said
from assay.report._view.evolve.rules import Ruling, rulings, rulings_text
from assay.report._view.evolve.tasks import Dumbbell, dumbbell
from assay.report._view.gates import GateView, gates
from assay.report._view.marks import Mark, decision_mark
from assay.report._view.text import one_line, plural
from assay.report.judged_texts import TrialTexts

_OF_RECIPES = FailureClass.POINT_INFEASIBLE


@dataclass(frozen=True)
class CandidateView:
    """Everything about one candidate."""

    anchor: str
    name: str
    trial: str
    mark: Mark
    sentence: str
    advice: str
    built: bool
    origin: str
    """How it was found."""
    needed: str
    """What would settle it."""
    rulings: tuple[Ruling, ...]
    rulings_text: str
    tasks: Dumbbell | None
    looks: Looks | None
    outcomes: tuple[ArmRow, ...]
    lineage: Lineage | None
    scatter: Scatter | None
    shrunk: str
    """What the search promised beside what fresh draws show."""
    diff: Diff | None
    diff_why: str
    """Why there is none."""
    meddlings: tuple[Meddling, ...]
    gates: tuple[GateView, ...]
    delivered: tuple[tuple[str, str], ...]
    """Command and what it does."""


def candidate(
    record: EvolveRecord, history: StudyHistory, documents: Documents, texts: TrialTexts | None
) -> CandidateView:
    """All that is shown of one candidate.

    Args:
        record: its trial.
        history: the study.
        documents: evidence and verdicts.
        texts: its two texts; None = they are not here.
    """
    trial, found = record.trial, record.evolution
    views = tuple(_worded(g) for g in gates(trial, history.study, documents))
    decision = trial.decision
    confirmed = gain_of(record.deploy)
    failure = decision.failure_class if decision else None
    policy = _policy(history)
    both = texts is not None and texts.baseline is not None and texts.candidate is not None
    return CandidateView(
        anchor=f"candidate-{trial.number}",
        name=trial.candidate.name,
        trial=trial.id,
        mark=decision_mark(decision),
        sentence=said(decision) if decision else "It has no Decision yet.",
        advice=TRIAGE[failure].advice if failure and failure is not _OF_RECIPES else "",
        built=record.found,
        origin=_origin(record),
        needed=needed_text(record),
        rulings=rulings(record),
        rulings_text=rulings_text(record),
        tasks=dumbbell(record.runs) if record.runs and record.runs.runs else None,
        looks=looks(record.looks),
        outcomes=outcomes(record.runs) if record.runs else (),
        lineage=lineage(found) if found else None,
        scatter=scatter(found, confirmed, *policy) if found else None,
        shrunk=_shrunk(record, confirmed),
        diff=diff(texts.baseline or "", texts.candidate or "") if both and texts else None,
        diff_why=(texts.problem if texts else "its texts are not here") or "nothing was built",
        meddlings=meddlings(record),
        gates=views,
        delivered=_delivered(record, history),
    )


def _worded(view: GateView) -> GateView:
    """What triage advises of recipes says nothing about a text."""
    return replace(view, advice="") if view.failure == _OF_RECIPES.value else view


def _origin(record: EvolveRecord) -> str:
    found = record.evolution
    if found is None:
        built = "It is built, and was not read back yet." if record.artifact else ""
        return built or ("Nothing was built." if record.trial.finished else "Nothing is built yet.")
    if found.engine == "given":
        return "It was handed in; nothing was searched for."
    if not found.picked:
        return f"The search found nothing better than the baseline. It ended: {one_line(found.ended)}."
    parts = [f"Text #{found.picked} of {len(found.nodes)}"]
    parts.append(f"picked by {one_line(found.pick_rule)}" if found.pick_rule else "")
    parts.append(f"after {plural(found.runs, 'agent run')}" if found.runs else "")
    ended = f" The search ended: {one_line(found.ended).rstrip('.')}." if found.ended else ""
    return ", ".join(p for p in parts if p) + "." + ended


def _shrunk(record: EvolveRecord, confirmed: Gain | None) -> str:
    """The gain where the search chose, beside the gain on fresh draws."""
    found = record.evolution
    if found is None or confirmed is None:
        return ""
    hoped = promised(found)
    if hoped is None:
        return ""
    text = f"Where it was chosen the candidate gained {change(hoped)} points, on fresh draws "
    text += f"{change(confirmed.value, 1)}."
    if hoped - confirmed.value > 0.05:
        text += " The best of many looks better than it is; only fresh draws count."
    return text


def _policy(history: StudyHistory) -> tuple[float | None, float | None]:
    """Free growth and what more must earn, as the deploy gate's policy says."""
    ref = next((g for g in history.study.gates if g.gate == DEPLOY), None)
    if ref is None:
        return None, None
    try:
        preset = DeployPolicy.model_validate(dict(ref.policy)).preset
    except ValueError:
        return None, None
    return preset.free, preset.slope


def _delivered(record: EvolveRecord, history: StudyHistory) -> tuple[tuple[str, str], ...]:
    decision = record.trial.decision
    if decision is None or decision.interrupted:
        return ()
    name = record.trial.id
    diff_ = (f"assay show {name} --diff", "prints the change; piped, it is a patch")
    if not record.found:
        return ()
    if not decision.keeps:
        return (diff_,)
    if name in history.applied:
        return (diff_, (f"assay undo {name}", "brings the old text back, byte by byte"))
    return (
        diff_,
        (f"assay apply {name}", "puts it in place, if the old text is still the one that was judged"),
    )
