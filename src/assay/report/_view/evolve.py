"""What the report of a study of texts shows, as plain typed data: records and texts in, frozen dataclasses out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from assay.core.decision import Decision, fold_study
from assay.core.evidence import Artifact
from assay.core.history import StudyHistory
from assay.core.ports import Store
from assay.core.triage import TRIAGE
from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates.deploy import DeployPolicy
from assay.ledger.evolve_records import DEPLOY, PREFLIGHT, EvolveRecord, of_trial
from assay.report._view import evolve_charts as charts
from assay.report._view import evolve_search as search
from assay.report._view.contract import Verification, verification
from assay.report._view.documents import Documents
from assay.report._view.evolve_costs import Cost, Meddling, costs, meddlings
from assay.report._view.evolve_diff import Diff, diff
from assay.report._view.evolve_preflight import Preflight, preflight
from assay.report._view.evolve_rules import Ruling, rulings, rulings_text
from assay.report._view.gates import GateView, gates
from assay.report._view.headline import Figure
from assay.report._view.marks import INTERRUPTED, UNFINISHED, Mark, decision_mark, outcome_mark
from assay.report._view.settled import finite, mapping, settled
from assay.report._view.text import (
    Digest,
    digest_of,
    duration,
    moment,
    one_line,
    percent,
    plural,
)
from assay.report._view.timeline import Timeline, timeline
from assay.report.judged_texts import TrialTexts

_OF_RECIPES = FailureClass.POINT_INFEASIBLE
_SAID: Mapping[Outcome, str] = {
    Outcome.ACCEPT: "The new text does better",
    Outcome.NO_GAIN: "The new text is not shown to do better",
    Outcome.REGRESSION: "The new text does worse",
    Outcome.INFEASIBLE: "The new text may not be tried",
    Outcome.INCONCLUSIVE: "It is not settled whether the new text does better",
    Outcome.ANOMALOUS: "No judgement: the evidence is missing or cannot be trusted",
}


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
    tasks: charts.Dumbbell | None
    looks: charts.Looks | None
    outcomes: tuple[charts.ArmRow, ...]
    lineage: search.Lineage | None
    scatter: search.Scatter | None
    shrunk: str
    """What the search promised beside what fresh draws show."""
    diff: Diff | None
    diff_why: str
    """Why there is none."""
    meddlings: tuple[Meddling, ...]
    gates: tuple[GateView, ...]
    delivered: tuple[tuple[str, str], ...]
    """Command and what it does."""


@dataclass(frozen=True)
class EvolvePage:
    """The whole report."""

    title: str
    study: str
    question: str
    when: str
    mark: Mark
    headline: str
    lead: str
    notes: tuple[str, ...]
    command: str
    command_why: str
    figures: tuple[Figure, ...]
    preflight: Preflight | None
    candidates: tuple[CandidateView, ...]
    costs: tuple[Cost, ...]
    costs_text: str
    setting: tuple[tuple[str, str], ...]
    plan: tuple[tuple[str, str], ...]
    digests: tuple[tuple[str, Digest], ...]
    timeline: Timeline
    verification: Verification
    problems: tuple[tuple[Digest, str], ...]
    """Documents that cannot be shown, and why."""


def build_page(store: Store, history: StudyHistory, texts: Mapping[str, TrialTexts]) -> EvolvePage:
    """The page of a study of texts, in whatever state it is.

    Args:
        store: the documents.
        history: the study.
        texts: trial → its two texts; what is not there is told as missing.
    """
    history = settled(history)
    documents = Documents(store)
    records = tuple(of_trial(trial, store) for trial in history.trials.values())
    chosen = _chosen(records)
    times = timeline(history)
    mark = _mark(history)
    command, why = _command(history, records, chosen)
    problems = {d: w for r in records for d, w in r.problems.items()}
    candidates = tuple(_candidate(r, history, documents, texts.get(r.trial.id)) for r in records)
    checked = verification(history, documents)
    spent, spent_text = costs(history, records)
    return EvolvePage(
        title=f"{mark.word}: {history.study.id}",
        study=history.study.id,
        question=history.study.question,
        when=moment(history.opened),
        mark=mark,
        headline=_headline(history, records, chosen),
        lead=_lead(records, chosen),
        notes=tuple(_notes(history)),
        command=command,
        command_why=why,
        figures=tuple(_figures(chosen, records, times.active_s, spent_text)),
        preflight=preflight(records),
        candidates=candidates,
        costs=spent,
        costs_text=spent_text,
        setting=_setting(history, records),
        plan=_plan(history),
        digests=_digests(history, records),
        timeline=times,
        verification=checked,
        problems=tuple((digest_of(d), w) for d, w in {**problems, **documents.problems}.items()),
    )


# -- the first screen ---------------------------------------------------------------------------------


def _mark(history: StudyHistory) -> Mark:
    word = history.closed.get("outcome") if history.closed else None
    if word:
        return outcome_mark(str(word))
    return INTERRUPTED if history.interrupted else UNFINISHED


def _chosen(records: Sequence[EvolveRecord]) -> EvolveRecord | None:
    """The trial that gives the study its word; else the last one that was begun."""
    decided = [(r, d) for r in records if (d := r.trial.decision) is not None and not d.interrupted]
    if not decided:
        return records[-1] if records else None
    word = fold_study([d.outcome for _, d in decided])
    return next(r for r, d in decided if d.outcome is word)


def _headline(history: StudyHistory, records: Sequence[EvolveRecord], chosen: EvolveRecord | None) -> str:
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


def said(decision: Decision) -> str:
    """The sentence of a Decision without the name of its gate, which stands below."""
    name, colon, rest = decision.sentence.partition(": ")
    return rest if colon and name in {g.gate for g in decision.gates} else decision.sentence


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
    gain = charts.gain_of(verdict)
    if gain is not None:
        level = f" ({percent(gain.level, 0)})" if gain.level else ""
        made.append(Figure("Gain of the mean", f"{charts.change(gain.value, 1)} points", gain.told + level))
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
    return f"{charts.change(share)} %", f"{before:,} to {after:,} characters"


# -- one candidate ------------------------------------------------------------------------------------


def _candidate(
    record: EvolveRecord, history: StudyHistory, documents: Documents, texts: TrialTexts | None
) -> CandidateView:
    trial, found = record.trial, record.evolution
    views = tuple(_worded(g) for g in gates(trial, history.study, documents))
    decision = trial.decision
    confirmed = charts.gain_of(record.deploy)
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
        tasks=charts.dumbbell(record.runs) if record.runs and record.runs.runs else None,
        looks=charts.looks(record.looks),
        outcomes=charts.outcomes(record.runs) if record.runs else (),
        lineage=search.lineage(found) if found else None,
        scatter=search.scatter(found, confirmed, *policy) if found else None,
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


def needed_text(record: EvolveRecord) -> str:
    """What would settle an open question; empty where nothing is open."""
    verdict = record.deploy
    if verdict is None or verdict.status is not Status.INCONCLUSIVE:
        return ""
    if verdict.needed is None:
        return "It is not known how many more runs would settle it."
    runs = record.runs
    here = sum(r.task not in runs.canaries for r in runs.runs) if runs else 0
    if verdict.needed > here:
        return f"About {verdict.needed - here:,} more agent runs would settle it ({verdict.needed:,} in all)."
    return f"{plural(verdict.needed, 'agent run')} in all would settle it."


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


def _shrunk(record: EvolveRecord, confirmed: charts.Gain | None) -> str:
    """The gain where the search chose, beside the gain on fresh draws."""
    found = record.evolution
    if found is None or confirmed is None:
        return ""
    promised = search.promised(found)
    if promised is None:
        return ""
    text = f"Where it was chosen the candidate gained {charts.change(promised)} points, on fresh draws "
    text += f"{charts.change(confirmed.value, 1)}."
    if promised - confirmed.value > 0.05:
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


# -- what it rests on ---------------------------------------------------------------------------------


def _setting(history: StudyHistory, records: Sequence[EvolveRecord]) -> tuple[tuple[str, str], ...]:
    spec = history.study.spec
    agent, suite = mapping(spec.get("agent")), mapping(spec.get("suite"))
    runs = next((r.runs or r.preflight for r in records if r.runs or r.preflight), None)
    command = agent.get("command")
    words = " ".join(str(w) for w in command) if isinstance(command, list | tuple) else ""
    rows = [
        ("text", history.study.source.path),
        ("suite", suite.get("path")),
        ("agent", f"{agent.get('preset', '')} {agent.get('model', '')}".strip()),
        ("its command", words),
        ("time limit of a run", duration(t) if (t := finite(agent.get("timeout_s"))) else ""),
        ("isolation in force", runs.isolation if runs else ""),
        ("tasks that decide", str(len([t for t in runs.tasks if t not in runs.canaries])) if runs else ""),
        ("canaries", ", ".join(runs.canaries) if runs else ""),
    ]
    return tuple((k, one_line(v, 240)) for k, v in rows if v)


def _plan(history: StudyHistory) -> tuple[tuple[str, str], ...]:
    """The deploy gate's policy as it was frozen."""
    ref = next((g for g in history.study.gates if g.gate == DEPLOY), None)
    policy = ref.policy if ref else {}
    shown = {k: v for k, v in policy.items() if v not in (None, "", [], ())}
    return tuple((str(k).replace("_", " "), _value(v)) for k, v in shown.items())


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(one_line(v, 40) for v in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else one_line(value, 120)


def _digests(history: StudyHistory, records: Sequence[EvolveRecord]) -> tuple[tuple[str, Digest], ...]:
    runs = next((r.runs or r.preflight for r in records if r.runs or r.preflight), None)
    source: Artifact = history.study.source
    rows = [("text", source.digest)]
    if runs is not None:
        rows += [("suite", runs.suite), ("agent", runs.runner)]
        rows += [(f"text of {arm}", digest) for arm, digest in runs.texts.items()]
    return tuple((name, digest_of(digest)) for name, digest in rows if digest)
